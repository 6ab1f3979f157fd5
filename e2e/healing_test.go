package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
)

var (
	healingReport = flag.Bool("healing", false, "measure how the daemon gets over outages, and print the figures")
	healingCheck  = flag.Bool("healing.check", false, "with -healing: fail when a figure is worse than promised; for quiet machines")
)

// healingConfig has a consumer in each database, and one from each into the other.
const healingConfig = `
ticker: {period: 100ms}
maintenance: {period: 1s, retry_period: 1s}
databases:
  - {name: well, dsn: "%[1]s"}
  - {name: sick, dsn: "%[2]s"}
consumers:
  - {name: own, queue: q, database: well, handler: {kind: sql, statement: "insert into public.done (consumer, ev_id) values ('well', :ev_id)"}}
  - {name: own, queue: q, database: sick, handler: {kind: sql, statement: "insert into public.done (consumer, ev_id) values ('sick', :ev_id)"}}
  - {name: out, queue: q, database: sick, handler: {kind: sql, database: well, statement: "insert into public.done (consumer, ev_id) values ('sick.out', :ev_id)"}}
`

// ward is one daemon with two databases, of which one gets faults; it reaches that one through a proxy.
type ward struct {
	t          *testing.T
	server     *pgtest.Cluster // of the sick database
	proxy      *pgtest.Proxy
	daemon     *process
	socket     string // of a daemon behind a wire
	well, sick string // for the test itself
	made       atomic.Int64
	halt       context.CancelFunc
	done       chan struct{}
}

// newWard sets the scene; small: the sick database lies on a small disk, which does not outlive its server.
func newWard(t *testing.T, small bool) *ward {
	t.Helper()
	w := &ward{t: t, done: make(chan struct{})}
	w.server = pgtest.NewSmallContainer(t, imageFor(t, majors[0]), nil, map[string]string{"/small": "size=40m,mode=777"})
	admin := connect(t, w.server.DSN("postgres"))
	exec1(t, admin, "create database app")
	if small {
		exec1(t, admin, "copy (select 1) to program 'mkdir /small/space'") // as the server's user
		exec1(t, admin, "create tablespace small location '/small/space'")
		exec1(t, admin, "alter database app set tablespace small")
	}
	w.sick, w.well = w.server.DSN("app"), pgtest.NewCluster(t, nil).DSN("postgres")
	w.proxy = pgtest.NewProxy(t, w.sick)
	w.admit(w.proxy.DSN(w.sick), w.well, func(args ...string) *process { return daemon(t, args...) })
	return w
}

// newWiredWard is a ward whose daemon lives behind a wire, and reaches only the well database without it.
func newWiredWard(t *testing.T) (*ward, *wire) {
	t.Helper()
	w := &ward{t: t, done: make(chan struct{})}
	wire := newWire(t)
	w.server = pgtest.NewCluster(t, map[string]string{"listen_addresses": "*"})
	w.sick, w.well = w.server.DSN("postgres"), pgtest.NewCluster(t, nil).DSN("postgres")
	openToWires(t, w.sick)
	w.admit(wire.dsn(w.sick), socketDSN(t, w.well), func(args ...string) *process {
		name, all := wire.command(binary, args...)
		dir := shortDir(t)
		w.socket = filepath.Join(dir, "skyd.sock")
		return background(t, []string{"RUNTIME_DIRECTORY=" + dir, "SKYD_HTTP__LISTEN=127.0.0.1:0"}, name, all...)
	})
	return w, wire
}

// admit fills both databases and starts the daemon, which reaches them in its own ways, and a producer.
func (w *ward) admit(sickWay, wellWay string, start func(args ...string) *process) {
	t := w.t
	t.Helper()
	for _, dsn := range []string{w.well, w.sick} {
		skyd(t, "schema", "install", "--db", dsn)
		c := connect(t, dsn)
		exec1(t, c, "create table public.done (consumer text, ev_id bigint)")
		exec1(t, c, "select pgq.create_queue('q'), pgq.set_queue_config('q', 'ticker_max_lag', '100 ms')")
		exec1(t, c, "select pgq.register_consumer('q', name) from unnest(array['own', 'out']) name")
	}
	file := filepath.Join(t.TempDir(), "skyd.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, healingConfig, wellWay, sickWay), 0o600); err != nil {
		t.Fatal(err)
	}
	w.daemon = start("run", "--config", file)
	ctx, halt := context.WithCancel(t.Context())
	w.halt = halt
	c := connect(t, w.well)
	go func() {
		defer close(w.done)
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			if _, err := c.Exec(context.WithoutCancel(ctx), "select pgq.insert_event('q', 't', '')"); err != nil {
				t.Errorf("insert into the well database: %v", err)
				return
			}
			w.made.Add(1)
		}
	}()
	t.Cleanup(func() { halt(); <-w.done })
	w.resumed("the start")
}

// count counts what a consumer has done, where it is asked; -1 while the server does not answer.
func (w *ward) count(dsn, consumer string, after int64) int64 {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return -1
	}
	defer func() { _ = c.Close(ctx) }()
	var n int64
	if c.QueryRow(ctx, "select count(*) from public.done where consumer = $1 and ev_id >= $2", consumer, after).Scan(&n) != nil {
		return -1
	}
	return n
}

// resumed waits until an event that is made now in the sick database has gone through, and tells how long that took.
func (w *ward) resumed(after string) time.Duration {
	w.t.Helper()
	start := time.Now()
	c := connect(w.t, w.sick)
	id := scan[int64](w.t, c, "select pgq.insert_event('q', 't', '')")
	pgtest.Eventually(w.t, patience, "the sick database is served after "+after, func() bool {
		return w.count(w.sick, "sick", id) > 0
	})
	took := time.Since(start)
	pgtest.Eventually(w.t, patience, "the way out of the sick database works after "+after, func() bool {
		return w.count(w.well, "sick.out", id) > 0
	})
	w.daemon.alive()
	return took
}

// goesOn waits until the well database has worked off what is made from now on.
func (w *ward) goesOn() {
	w.t.Helper()
	for range 3 {
		mark := scan[int64](w.t, connect(w.t, w.well), "select max(ev_id) from pgq.event_1")
		pgtest.Eventually(w.t, patience, "the well database goes on", func() bool { return w.count(w.well, "well", mark+1) > 0 })
	}
}

// share is which part of what is made in the well database is done there in the same time.
func (w *ward) share(d time.Duration) (rate, share float64) {
	done, made := w.count(w.well, "well", 0), w.made.Load()
	<-time.After(d) // the figure is what happens in that time
	done2, made2 := w.count(w.well, "well", 0), w.made.Load()
	return float64(done2-done) / d.Seconds(), float64(done2-done) / float64(max(made2-made, 1))
}

// discharged lets everything arrive and checks that nothing was lost or doubled, and that the process is the first one.
func (w *ward) discharged() {
	w.t.Helper()
	w.halt()
	<-w.done
	for dsn, consumer := range map[string]string{w.well: "well", w.sick: "sick"} {
		c := connect(w.t, dsn)
		// All tables of the queue together hold what was ever made, as nothing has been rotated away yet.
		missing := `select count(*) from pgq.event_1 e where not exists (select from public.done d where d.ev_id = e.ev_id and d.consumer = $1)`
		pgtest.Eventually(w.t, patience, "all events of "+consumer, func() bool { return scan[int64](w.t, c, missing, consumer) == 0 })
		doubled := `select count(*) - count(distinct (consumer, ev_id)) from public.done`
		if n := scan[int64](w.t, c, doubled); n != 0 {
			w.t.Errorf("%d effects are doubled in %s", n, consumer)
		}
	}
	if err := w.daemon.stop(); err != nil {
		w.t.Error(err)
	}
	if n := strings.Count(w.daemon.out.String(), "skyd is running"); n != 1 {
		w.t.Errorf("the daemon began %d times", n)
	}
}

// fill leaves no room on the disk of the sick database.
func (w *ward) fill() {
	w.t.Helper()
	c := connect(w.t, w.sick)
	exec1(w.t, c, "create table public.filler (t text)")
	exec1(w.t, c, "alter table public.filler alter t set storage plain")
	full := func(err error) bool {
		var pe *pgconn.PgError
		if err != nil && (!errors.As(err, &pe) || pe.Code != "53100") {
			w.t.Fatal(err)
		}
		return err != nil
	}
	for _, rows := range []int{1000, 100, 10, 1} {
		for {
			if _, err := c.Exec(w.t.Context(), "insert into public.filler select repeat('x', 7000) from generate_series(1, $1)", rows); full(err) {
				break
			}
		}
	}
	// What is half empty takes some more.
	refused := 0
	for refused < 10 {
		if _, err := c.Exec(w.t.Context(), "select pgq.insert_event('q', 't', repeat('x', 3000))"); full(err) {
			refused++
		}
	}
}

// empty makes room again.
func (w *ward) empty() {
	c := connect(w.t, w.sick)
	exec1(w.t, c, "drop table public.filler")
	exec1(w.t, c, "checkpoint")
}

// A full disk stops what has to be written there and nothing else, and when there is room, all of it arrives once.
func TestHealing_DiskFull(t *testing.T) {
	t.Parallel()
	w := newWard(t, true)
	w.fill()
	w.goesOn()
	w.empty()
	w.resumed("the disk was full")
	w.discharged()
}

// Packets that are dropped on the way are neither an error nor an end: the daemon notices by itself, its other database
// goes on, and when packets pass again all of it arrives, once.
func TestHealing_PacketsDropped(t *testing.T) {
	t.Parallel()
	w, wire := newWiredWard(t)
	wire.drop()
	start := time.Now()
	w.goesOn()
	pgtest.Eventually(t, patience, "the daemon notices that nobody answers", func() bool {
		return strings.Contains(skyd(t, "status", "--socket", w.socket, "-o", "json"), `"up": false`)
	})
	t.Logf("noticed after %v", time.Since(start).Round(10*time.Millisecond))
	w.goesOn()
	wire.heal()
	took := w.resumed("packets were dropped")
	t.Logf("resumed %v after the cure", took.Round(10*time.Millisecond))
	w.discharged()
}

// TestHealing_Figures measures: the rate of the other database during an outage, and the time from the cure to the first
// event that went through.
func TestHealing_Figures(t *testing.T) {
	if !*healingReport {
		t.Skip("a measurement: ./task healing")
	}
	t.Logf("%-28s %14s %14s %9s %14s", "outage of one database", "other before/s", "other during/s", "kept", "resumed after")
	w := newWard(t, false)
	readOnly := func(value string) func() {
		return func() {
			c := connect(t, w.sick)
			exec1(t, c, "set default_transaction_read_only = off")
			exec1(t, c, "alter system set default_transaction_read_only = "+value)
			exec1(t, c, "select pg_reload_conf()")
		}
	}
	w.measured("connections refused, reset", func() { w.proxy.Refuse(); w.proxy.Reset() }, w.proxy.Heal)
	w.measured("network silent", w.proxy.Freeze, w.proxy.Thaw)
	w.measured("network silent, then reset", w.proxy.Freeze, func() { w.proxy.Reset(); w.proxy.Thaw() })
	w.measured("server stopped", w.server.Stop, w.server.Start)
	w.measured("server killed", w.server.Kill, w.server.Start)
	w.measured("server frozen", w.server.Freeze, w.server.Thaw)
	w.measured("server read-only", readOnly("on"), readOnly("off"))
	w.discharged()
	wired, wire := newWiredWard(t)
	wired.measured("packets dropped", wire.drop, wire.heal)
	wired.discharged()
	w = newWard(t, true)
	w.measured("disk full", w.fill, w.empty)
	w.discharged()
}

// measured prints a row of the report.
func (w *ward) measured(name string, harm, cure func()) {
	w.t.Helper()
	rate, before := w.share(5 * time.Second)
	harm()
	during, share := w.share(10 * time.Second)
	cure()
	took := w.resumed(name)
	kept := share / before
	w.t.Logf("%-28s %14.0f %14.0f %8.1f%% %14v", name, rate, during, 100*kept, took.Round(10*time.Millisecond))
	if *healingCheck && (kept < 0.95 || took > 5*time.Second) {
		w.t.Errorf("%s: worse than promised (95%%, 5 s)", name)
	}
}
