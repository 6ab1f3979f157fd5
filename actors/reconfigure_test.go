package actors

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skytools/skyd/messages"
)

// opened is a fake database that counts how often it was opened.
type opened struct {
	*fakeDB
	n int
}

// params are parameters of a database by this name.
func (o *opened) params(name string) DatabaseParams {
	p := databaseParams(o.fakeDB)
	p.Name = name
	p.Open = func() (Handle, error) { o.with(func() { o.n++; o.closed = false }); return o.fakeDB, nil }
	return p
}

func newOpened() *opened { return &opened{fakeDB: newFakeDB("q")} }

// reconfigure asks for another tree and waits for the answer and its effects.
func (tr *tree) reconfigure(m Reconfigure) Reconfigured {
	tr.t.Helper()
	reply := make(chan Reconfigured, 1)
	m.Reply = reply
	tr.system.Root.Send(tr.root, m)
	r := <-reply
	synctest.Wait()
	return r
}

// since tells when each actor came into its state.
func (tr *tree) since() map[string]time.Time {
	all := map[string]time.Time{}
	for _, a := range tr.snapshot().Actors {
		all[a.Path] = a.Since
	}
	return all
}

// restarted lists the actors below a path that are not those of before.
func (tr *tree) restarted(before map[string]time.Time) string {
	var changed []string
	for path, at := range tr.since() {
		if !at.Equal(before[path]) {
			changed = append(changed, path)
		}
	}
	slices.Sort(changed)
	return strings.Join(changed, " ")
}

func TestReconfigure_TouchesOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keep, change, drop, add := newOpened(), newOpened(), newOpened(), newOpened()
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{keep.params("keep"), change.params("change"), drop.params("drop")}})
		before := tr.since()
		time.Sleep(time.Minute)

		changed := change.params("change")
		changed.Connection = "elsewhere"
		r := tr.reconfigure(Reconfigure{Databases: []DatabaseParams{keep.params("keep"), changed, add.params("add")}})
		want := Reconfigured{Added: []string{"add"}, Removed: []string{"drop"}, Replaced: []string{"change"}, Untouched: []string{"keep"}}
		if !reflect.DeepEqual(r, want) {
			t.Errorf("got %+v, want %+v", r, want)
		}
		if got := tr.restarted(before); got != "database/add database/add/maintainer database/add/ticker "+
			"database/change database/change/maintainer database/change/ticker" {
			t.Errorf("touched: %s", got)
		}
		if got := fmt.Sprint(keep.n, change.n, drop.n, add.n, keep.closed, drop.closed); got != "1 2 1 1 false true" {
			t.Errorf("opened and closed: %s", got)
		}
		for _, d := range tr.snapshot().Databases {
			if d.Name == "drop" || !d.Up {
				t.Errorf("got %+v", d)
			}
		}
		before = tr.since()
		time.Sleep(time.Minute)
		r = tr.reconfigure(Reconfigure{Databases: []DatabaseParams{keep.params("keep"), changed, add.params("add")}})
		if len(r.Untouched) != 3 || tr.restarted(before) != "" {
			t.Errorf("the same again: got %+v, %s", r, tr.restarted(before))
		}
	})
}

func TestReconfigure_SettingsOfTheTickerRestartTheTickerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newOpened()
		p := db.params("main")
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{p}})
		time.Sleep(time.Minute)
		for _, step := range []struct {
			what      string
			do        func()
			restarted string
			running   string
		}{
			{"period", func() { p.Ticker.Period *= 2 }, "database/main/ticker", "daemon database/main database/main/maintainer database/main/ticker status"},
			{"off", func() { p.Ticker = TickerParams{} }, "", "daemon database/main database/main/maintainer status"},
			{"on", func() { p.Ticker = db.params("main").Ticker }, "database/main/ticker", "daemon database/main database/main/maintainer database/main/ticker status"},
			{"maintainer", func() { p.Maintainer.RetryPeriod *= 2 }, "database/main/maintainer", "daemon database/main database/main/maintainer database/main/ticker status"},
			{"check", func() { p.CheckPeriod *= 2 }, "", "daemon database/main database/main/maintainer database/main/ticker status"},
		} {
			before := tr.since()
			time.Sleep(time.Second)
			step.do()
			if r := tr.reconfigure(Reconfigure{Databases: []DatabaseParams{p}}); len(r.Adjusted) != 1 {
				t.Errorf("%s: got %+v", step.what, r)
			}
			if got := tr.restarted(before); got != step.restarted {
				t.Errorf("%s: restarted %s", step.what, got)
			}
			if got := tr.running(); got != step.running {
				t.Errorf("%s: running %s", step.what, got)
			}
			if n := len(tr.snapshot().Queues); (n == 0) != (step.what == "off") {
				t.Errorf("%s: figures of %d queues", step.what, n)
			}
		}
		if db.n != 1 {
			t.Errorf("opened %d times", db.n)
		}
	})
}

func TestReconfigure_WhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newOpened()
		db.down = errLost
		p := db.params("main")
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{p}})
		time.Sleep(time.Minute)
		p.Ticker = TickerParams{}
		p.CheckPeriod = time.Second
		tr.reconfigure(Reconfigure{Databases: []DatabaseParams{p}})
		db.with(func() { db.down = nil })
		time.Sleep(reconnectLimit + time.Second)
		if got := tr.running(); got != "daemon database/main database/main/maintainer status" {
			t.Errorf("got %s", got)
		}
	})
}

func TestReconfigure_RemovedAndBackBeforeItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newOpened()
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{db.params("main")}})
		replies := make(chan Reconfigured, 2)
		for _, list := range [][]DatabaseParams{nil, {db.params("main")}} {
			tr.system.Root.Send(tr.root, Reconfigure{Databases: list, Reply: replies})
		}
		if r := <-replies; len(r.Removed) != 1 {
			t.Errorf("got %+v", r)
		}
		if r := <-replies; len(r.Added) != 1 {
			t.Errorf("got %+v", r)
		}
		time.Sleep(time.Second)
		if got := tr.running(); got != "daemon database/main database/main/maintainer database/main/ticker status" {
			t.Errorf("got %s", got)
		}
	})
}

func TestReconfigure_CuresAnActorThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newOpened()
		bad := db.params("main")
		bad.Open = func() (Handle, error) { return nil, errors.New("bad") }
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{bad}})
		time.Sleep(3 * time.Minute) // the delay between two attempts has grown
		if a := tr.snapshot().Actors[1]; a.RecentFailures < 3 || a.Restarts < 3 {
			t.Errorf("got %+v", a)
		}
		good := db.params("main")
		good.Connection = "good"
		tr.reconfigure(Reconfigure{Databases: []DatabaseParams{good}})
		if got := tr.running(); got != "daemon database/main database/main/maintainer database/main/ticker status" {
			t.Errorf("got %s", got)
		}
		time.Sleep(messages.FlapWindow)
		if a := tr.snapshot().Actors[1]; a.RecentFailures != 0 || a.Restarts < 3 {
			t.Errorf("after a quiet time: got %+v", a)
		}
	})
}

func TestReconfigure_Discoveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		found := map[string]*opened{"a": newOpened(), "b": newOpened()}
		srv := newFakeDB("a", "b")
		p := DiscoveryParams{
			Name: "srv", Period: time.Minute, Timeout: time.Second, Open: func() (Server, error) { return srv, nil },
			Database: func(name string) DatabaseParams {
				d := found[name].params("srv." + name)
				d.Optional = true
				return d
			},
		}
		tr := playDaemon(t, DaemonParams{Discoveries: []DiscoveryParams{p}})
		before := tr.since()
		time.Sleep(time.Second)
		if r := tr.reconfigure(Reconfigure{Discoveries: []DiscoveryParams{p}}); len(r.Untouched) != 1 || tr.restarted(before) != "" {
			t.Errorf("the same: got %+v, %s", r, tr.restarted(before))
		}
		slower, inner := p, p.Database
		slower.Database = func(name string) DatabaseParams {
			d := inner(name)
			d.Ticker.Period *= 2
			return d
		}
		if r := tr.reconfigure(Reconfigure{Discoveries: []DiscoveryParams{slower}}); len(r.Adjusted) != 1 ||
			tr.restarted(before) != "database/srv.a/ticker database/srv.b/ticker" {
			t.Errorf("slower: got %+v, %s", r, tr.restarted(before))
		}
		before = tr.since()
		other := slower
		other.Connection = "other"
		time.Sleep(time.Second)
		if r := tr.reconfigure(Reconfigure{Discoveries: []DiscoveryParams{other}}); len(r.Replaced) != 1 || tr.restarted(before) != "discovery/srv" {
			t.Errorf("other server: got %+v, %s", r, tr.restarted(before))
		}
		configured := newOpened().params("srv.a") // by itself from now on
		tr.reconfigure(Reconfigure{Discoveries: []DiscoveryParams{other}, Databases: []DatabaseParams{configured}})
		tr.reconfigure(Reconfigure{Discoveries: []DiscoveryParams{other}, Databases: []DatabaseParams{configured}})
		r := tr.reconfigure(Reconfigure{Databases: []DatabaseParams{configured}})
		if !slices.Equal(r.Removed, []string{"srv"}) || !slices.Equal(r.Untouched, []string{"srv.a"}) {
			t.Errorf("without the server: got %+v", r)
		}
		if got := tr.running(); got != "daemon database/srv.a database/srv.a/maintainer database/srv.a/ticker status" {
			t.Errorf("got %s", got)
		}
	})
}

func TestReconfigure_ConfigIsToldToANewStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := playDaemon(t, DaemonParams{})
		if c := tr.snapshot().Config; !c.OK || c.Loaded.IsZero() {
			t.Errorf("at the start: got %+v", c)
		}
		good := time.Now()
		tr.system.Root.Send(tr.root, messages.ConfigLoaded{At: good, Good: good, RestartNeeded: []string{"instance"}})
		time.Sleep(time.Second)
		tr.system.Root.Send(tr.root, messages.ConfigLoaded{At: time.Now(), Err: "broken"})
		for range 2 {
			if c := tr.snapshot().Config; c.OK || !c.Loaded.Equal(good) || c.LastError != "broken" || len(c.RestartNeeded) != 1 {
				t.Errorf("got %+v", c)
			}
			tr.system.Root.Stop(StatusPID(tr.root))
			time.Sleep(5 * time.Second)
		}
	})
}

func TestDaemon_BeatsWhileItsLoopRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var beats atomic.Int64
		tr := playDaemon(t, DaemonParams{
			Beat: func() { beats.Add(1) }, BeatPeriod: time.Second,
			Discoveries: []DiscoveryParams{{
				Name: "srv", Open: func() (Server, error) { return newFakeDB(), nil }, Period: time.Hour,
				Database: func(string) DatabaseParams { <-hang; return newOpened().params("x") },
			}},
		})
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if n := beats.Load(); n != 11 {
			t.Errorf("got %d beats, want 11", n)
		}
		tr.system.Root.Send(tr.root, messages.DatabasesDiscovered{Source: "srv", Names: []string{"x"}})
		time.Sleep(time.Minute)
		if n := beats.Load(); n != 11 {
			t.Errorf("a daemon that hangs gave %d beats", n-11)
		}
		close(hang)
		time.Sleep(10 * time.Second)
		if n := beats.Load(); n < 20 {
			t.Errorf("got %d beats after the hang", n)
		}
	})
}

func TestMeter_CountsByKindAndForgetsTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meter, hang := &Meter{}, make(chan struct{})
		env := testEnv(t, nil)
		env.Meter = meter
		gone := make(chan struct{})
		system := newSystem(t)
		root, err := system.Root.SpawnNamed(DaemonProps(DaemonParams{
			Stopped: gone, Env: env, Databases: []DatabaseParams{newOpened().params("main")},
			Beat: func() { <-hang }, BeatPeriod: time.Second,
		}), RootName)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			system.Root.Send(root, messages.GetHealth{Reply: make(chan time.Time, 1)})
		}
		synctest.Wait()
		if d := meter.Depths(); d[kindDaemon] < 3 {
			t.Errorf("while the daemon hangs: got %v", d)
		}
		close(hang)
		synctest.Wait()
		if d := meter.Depths(); d[kindDaemon] != 0 || len(d) != 5 {
			t.Errorf("got %v", d)
		}
		system.Root.Stop(root)
		<-gone
		synctest.Wait()
		if d := meter.Depths(); len(d) != 0 {
			t.Errorf("after the end: got %v", d)
		}
		names := map[string]uint64{}
		for _, s := range meter.Spent() {
			names[s.Kind+" "+s.Message] = s.Count
		}
		for name, n := range map[string]uint64{"daemon GetHealth": 3, "daemon Started": 1, "database done": 1, "ticker Stopped": 1} {
			if names[name] < n {
				t.Errorf("%s: got %d, want %d; all: %v", name, names[name], n, names)
			}
		}
		(*Meter)(nil).props("x") // measures nothing
	})
}
