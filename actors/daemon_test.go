package actors

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// tree is a whole daemon under test.
type tree struct {
	t      *testing.T
	system *actor.ActorSystem
	root   *actor.PID
	gone   chan struct{}
}

func playDaemon(t *testing.T, p DaemonParams) *tree {
	t.Helper()
	tr := &tree{t: t, system: newSystem(t), gone: make(chan struct{})}
	p.Env, p.Version, p.Stopped = testEnv(t, nil), "v", tr.gone
	var err error
	if tr.root, err = tr.system.Root.SpawnNamed(DaemonProps(p), RootName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.system.Root.Stop(tr.root)
		<-tr.gone
		synctest.Wait()
	})
	synctest.Wait()
	return tr
}

func (tr *tree) snapshot() messages.Snapshot {
	tr.t.Helper()
	synctest.Wait()
	reply := make(chan messages.Snapshot, 1)
	tr.system.Root.Send(StatusPID(tr.root), messages.GetStatus{Reply: reply})
	return <-reply
}

// running lists the running actors.
func (tr *tree) running() string {
	var paths []string
	for _, a := range tr.snapshot().Actors {
		if a.State == messages.Running {
			paths = append(paths, a.Path)
		}
	}
	return strings.Join(paths, " ")
}

func TestDaemon_GrowsTheTreeAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := playDaemon(t, DaemonParams{Instance: "i", Databases: []DatabaseParams{databaseParams(newFakeDB("q"))}})
		if got := tr.running(); got != "daemon database/main database/main/maintainer database/main/ticker status" {
			t.Errorf("got %s", got)
		}
		if s := tr.snapshot(); s.Version != "v" || s.Instance != "i" || s.Started.IsZero() {
			t.Errorf("got %+v", s)
		}
		reply := make(chan time.Time, 1)
		tr.system.Root.Send(tr.root, messages.GetHealth{Reply: reply})
		<-reply
	})
}

func TestDaemon_NewStatusLearnsEverythingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := newFakeDB()
		down.down = errLost
		other := databaseParams(down)
		other.Name = "down"
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{databaseParams(newFakeDB("q")), other}})
		before := tr.running()
		tr.system.Root.Stop(StatusPID(tr.root))
		time.Sleep(5 * time.Second)
		if after := tr.running(); after != before {
			t.Errorf("got %s, want %s", after, before)
		}
		for _, d := range tr.snapshot().Databases {
			if d.Name == "" || d.Up != (d.Name == "main") {
				t.Errorf("got %+v", d)
			}
		}
	})
}

func TestDaemon_StopIsOrderlyAlsoDuringHangingWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		db.hook = func(ctx context.Context, call, _ string) error {
			if call != "check" {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		tr := playDaemon(t, DaemonParams{Databases: []DatabaseParams{databaseParams(db)}})
		begin := time.Now()
		tr.system.Root.Stop(tr.root)
		<-tr.gone
		if !db.closed || time.Since(begin) > 0 {
			t.Errorf("closed %v after %s", db.closed, time.Since(begin))
		}
	})
}

func TestDaemon_ItsOwnFailureEndsTheTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		tr := playDaemon(t, DaemonParams{
			Databases:   []DatabaseParams{databaseParams(db)},
			Discoveries: []DiscoveryParams{{Name: "srv", Open: func() (Server, error) { return newFakeDB(), nil }, Period: time.Hour}},
		})
		// A broken function in the parameters makes the daemon itself panic.
		tr.system.Root.Send(tr.root, messages.DatabasesDiscovered{Source: "srv", Names: []string{"x"}})
		<-tr.gone
		if !db.closed {
			t.Error("a database lives on")
		}
	})
}

func TestDiscovery_ServesWhatComesAndRemovesWhatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, dbs := newFakeDB("one", "two"), map[string]*fakeDB{}
		tr := playDaemon(t, DaemonParams{Discoveries: []DiscoveryParams{{
			Name: "srv", Period: time.Minute, Timeout: time.Second,
			Open: func() (Server, error) { return server, nil },
			Database: func(name string) DatabaseParams {
				db := dbs[name]
				if db == nil {
					db = newFakeDB("q")
					dbs[name] = db
				}
				p := databaseParams(db)
				p.Name, p.Optional = "srv."+name, true
				return p
			},
		}}})
		want := func(names ...string) {
			t.Helper()
			var got []string
			for _, d := range tr.snapshot().Databases {
				got = append(got, d.Name)
			}
			if !slices.Equal(got, names) {
				t.Errorf("got %q, want %q", got, names)
			}
		}
		want("srv.one", "srv.two")
		server.with(func() { delete(server.queues, "one"); server.queues["three"] = nil })
		time.Sleep(time.Minute + time.Second)
		want("srv.three", "srv.two")
		if strings.Contains(tr.running(), "srv.one") || !dbs["one"].closed {
			t.Errorf("the dropped database is still served: %s", tr.running())
		}
		server.with(func() { server.down = errLost; server.resets = 0 })
		time.Sleep(5 * time.Minute) // what is known goes on
		want("srv.three", "srv.two")
		for _, a := range tr.snapshot().Actors {
			if a.Path == "discovery/srv" && (a.State != messages.Backoff || server.resets == 0) {
				t.Errorf("got %+v", a)
			}
		}
		server.with(func() { server.down = nil; server.queues["one"] = nil })
		time.Sleep(time.Minute)
		want("srv.one", "srv.three", "srv.two")
	})
}

func TestDiscovery_LeavesConfiguredDatabasesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, server := newFakeDB("q"), newFakeDB("x")
		configured := databaseParams(own)
		configured.Name = "srv.x"
		tr := playDaemon(t, DaemonParams{
			Databases: []DatabaseParams{configured},
			Discoveries: []DiscoveryParams{{
				Name: "srv", Period: time.Minute, Timeout: time.Second, Open: func() (Server, error) { return server, nil },
				Database: func(name string) DatabaseParams { p := databaseParams(nil); p.Name = "srv." + name; return p },
			}},
		})
		server.with(func() { delete(server.queues, "x") })
		time.Sleep(5 * time.Minute)
		if own.closed || !strings.Contains(tr.running(), "database/srv.x/ticker") {
			t.Errorf("got %s", tr.running())
		}
	})
}

func TestDiscovery_StopDuringHangingLookAndStaleResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeDB()
		server.hook = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }
		s := play(t, "srv", func(env Env) *actor.Props {
			return discoveryProps(env, DiscoveryParams{
				Name: "srv", Period: time.Minute, Timeout: time.Hour,
				Open: func() (Server, error) { return server, nil },
			})
		})
		s.system.Root.Send(s.child, done[[]string]{owner: &worker{}, gen: 1, val: []string{"ghost"}})
		synctest.Wait()
		if got := s.heard.all(); len(got) != 0 {
			t.Errorf("the parent heard %q", got)
		}
		begin := time.Now()
		s.system.Root.Stop(s.child)
		synctest.Wait()
		if !server.closed || time.Since(begin) > 0 {
			t.Errorf("closed %v after %s", server.closed, time.Since(begin))
		}
	})
}

func TestFullJitter_StaysInItsBounds(t *testing.T) {
	t.Parallel()
	for n, limit := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 100: time.Minute} {
		high := time.Duration(0)
		for range 1000 {
			d := fullJitter(time.Second, time.Minute, n)
			if d < time.Millisecond || d > limit+time.Millisecond {
				t.Fatalf("n=%d: got %s", n, d)
			}
			high = max(high, d)
		}
		if high < limit*9/10 {
			t.Errorf("n=%d: at most %s of %s", n, high, limit)
		}
	}
	for n, want := range map[int]bool{0: false, 1: true, 2: true, 3: false, 4: true, 6: false, 1024: true} {
		if loud(n) != want {
			t.Errorf("loud(%d)", n)
		}
	}
}
