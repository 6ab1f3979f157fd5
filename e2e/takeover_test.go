package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

var (
	takeoverRounds = flag.Int("takeover.rounds", 1, "how often TestTakeover does each harm")
	takeoverTTL    = flag.Duration("takeover.ttl", 2*time.Second, "ha.lease_ttl of TestTakeover")
)

// takeoverConfig is one consumer that notes who works, and who holds the lease by then.
const takeoverConfig = `
ha: {lease_ttl: %[1]s}
ticker: {period: 100ms}
databases: [{name: main, dsn: "%[2]s", pooler: %[3]s}]
consumers:
  - name: c
    queue: q
    poll_period: 200ms
    handler:
      kind: sql
      statement: >-
        insert into public.done (ev_id, daemon, holder, epoch)
        select :ev_id, split_part(current_setting('application_name'), '/', 2), l.lease_holder, l.lease_epoch
        from pgq.lease l, pg_sleep(case when :ev_id %% 4 = 0 then 0.05 else 0 end)
        where l.lease_unit = 'consumer/q/c'
`

// duel is two daemons that want the same work, each behind a wire of its own.
type duel struct {
	t       *testing.T
	server  *pgtest.Cluster
	pooler  string // none or transaction
	dsn     [2]string
	wires   [2]*wire
	daemons [2]*process
}

// newDuel sets the scene.
func newDuel(t *testing.T, pooler string) *duel {
	t.Helper()
	d := &duel{t: t, pooler: pooler, server: pgtest.NewCluster(t, map[string]string{"listen_addresses": "*"})}
	for i := range d.wires {
		d.wires[i] = newWire(t)
	}
	here := d.server.DSN("postgres")
	openToWires(t, here)
	skyd(t, "schema", "install", "--db", here)
	c := connect(t, here)
	exec1(t, c, `create table public.done (n bigserial, ev_id bigint, daemon text, holder text, epoch bigint, at timestamptz default clock_timestamp())`)
	exec1(t, c, `select pgq.create_queue('q'), pgq.set_queue_config('q', 'ticker_max_lag', '100 ms')`)
	exec1(t, c, `select pgq.register_consumer('q', 'c')`)
	to := here
	if pooler == "transaction" {
		to = pgtest.NewPoolerAt(t, here, d.wires[0].host, d.wires[1].host).DSN()
	}
	for i, w := range d.wires {
		d.dsn[i] = w.dsn(to)
		d.start(i)
	}
	return d
}

// start runs a daemon.
func (d *duel) start(i int) {
	d.t.Helper()
	dir := shortDir(d.t)
	file := filepath.Join(dir, "skyd.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, takeoverConfig, *takeoverTTL, d.dsn[i], d.pooler), 0o600); err != nil {
		d.t.Fatal(err)
	}
	name, args := d.wires[i].command(binary, "run", "--config", file)
	env := []string{"RUNTIME_DIRECTORY=" + dir, "SKYD_HTTP__LISTEN=127.0.0.1:0", fmt.Sprint("SKYD_INSTANCE=d", i)}
	d.daemons[i] = background(d.t, env, name, args...)
}

// holder is the daemon that has the consumer's lease, as its last row tells.
func (d *duel) holder() int {
	d.t.Helper()
	c := connect(d.t, d.server.DSN("postgres"))
	if scan[string](d.t, c, `select daemon from public.done order by n desc limit 1`) == "d1" {
		return 1
	}
	return 0
}

// row waits for a row that was written after a moment, by anybody or by one daemon, and tells when it was written.
func (d *duel) row(after time.Time, by, what string) (at time.Time) {
	d.t.Helper()
	pgtest.Eventually(d.t, patience, what, func() bool {
		ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
		defer cancel()
		c, err := pgx.Connect(ctx, d.server.DSN("postgres"))
		if err != nil {
			return false
		}
		defer func() { _ = c.Close(ctx) }()
		return c.QueryRow(ctx, `select at from public.done where at > $1 and ($2 = '' or daemon = $2) order by at limit 1`, after, by).Scan(&at) == nil
	})
	return at
}

// produce inserts events until the context ends, whatever the server does.
func (d *duel) produce(ctx context.Context) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	var c *pgx.Conn
	for ctx.Err() == nil {
		<-pace.C
		if c == nil || c.IsClosed() {
			c, _ = pgx.Connect(ctx, d.server.DSN("postgres")) // while it is away, in vain
			continue
		}
		if _, err := c.Exec(ctx, `select pgq.insert_event('q', 't', '')`); err != nil {
			_ = c.Close(context.Background())
		}
	}
	if c != nil {
		_ = c.Close(context.Background())
	}
}

// harms are the ways in which the daemon that works, or the server, goes away; each returns what cures it.
func (d *duel) harms() []struct {
	name string
	do   func(i int) (cure func())
} {
	return []struct {
		name string
		do   func(i int) (cure func())
	}{
		{"kill -9 of the daemon", func(i int) func() {
			_ = d.daemons[i].cmd.Process.Kill()
			<-d.daemons[i].done
			return func() { d.start(i) }
		}},
		{"SIGSTOP beyond the ttl", func(i int) func() {
			p := d.daemons[i].cmd.Process
			if err := p.Signal(syscall.SIGSTOP); err != nil {
				d.t.Fatal(err)
			}
			return func() { _ = p.Signal(syscall.SIGCONT) }
		}},
		{"its packets are dropped", func(i int) func() {
			d.wires[i].drop()
			return d.wires[i].heal
		}},
		{"SIGTERM of the daemon", func(i int) func() {
			if err := d.daemons[i].stop(); err != nil {
				d.t.Error(err)
			}
			return func() { d.start(i) }
		}},
	}
}

// TestTakeover lets the daemon that works die, freeze and fall silent, and the server crash, while events come: the other
// daemon goes on, no row was written by one that did not hold the lease, none under an epoch of somebody else, and every
// event is there once. How long it took is printed, and judges nothing.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, pooler := range []string{"none", "transaction"} {
		t.Run(map[string]string{"none": "direct", "transaction": "behind pgbouncer"}[pooler], func(t *testing.T) {
			t.Parallel()
			d := newDuel(t, pooler)
			ctx, halt := context.WithCancel(t.Context())
			var producer sync.WaitGroup
			producer.Go(func() { d.produce(ctx) })
			t.Cleanup(func() { halt(); producer.Wait() })
			d.row(time.Time{}, "", "the first event is handled")
			for _, h := range d.harms() {
				var took []time.Duration
				for range *takeoverRounds {
					i := d.holder()
					begun := time.Now()
					cure := h.do(i)
					took = append(took, d.row(begun, fmt.Sprint("d", 1-i), "the other daemon goes on after "+h.name).Sub(begun))
					cure()
					d.row(time.Now(), "", "work goes on after the cure of "+h.name)
				}
				d.report(h.name, took)
			}
			var took []time.Duration
			for range *takeoverRounds {
				d.server.Kill()
				d.server.Start()
				begun := time.Now()
				took = append(took, d.row(begun, "", "work goes on after the crash of the server").Sub(begun))
			}
			d.report("crash of PostgreSQL, from its return", took)
			halt()
			producer.Wait()
			d.judge()
		})
	}
}

// report prints a row of the table.
func (d *duel) report(name string, took []time.Duration) {
	slices.Sort(took)
	text := make([]string, len(took))
	for i, t := range took {
		text[i] = fmt.Sprintf("%.1f", t.Seconds())
	}
	d.t.Logf("%-36s pooler %-11s ttl %v: work goes on after %s s", name, d.pooler, *takeoverTTL, strings.Join(text, ", "))
}

// judge counts what must not be.
func (d *duel) judge() {
	d.t.Helper()
	c := connect(d.t, d.server.DSN("postgres"))
	pgtest.Eventually(d.t, patience, "all events are handled", func() bool {
		return scan[int](d.t, c, `select count(*) from pgq.event_1 e where not exists (select from public.done d where d.ev_id = e.ev_id)`) == 0
	})
	for what, sql := range map[string]string{
		"rows of a daemon without the lease": `select count(*) from public.done where daemon <> holder`,
		"epochs of two daemons":              `select count(*) from (select from public.done group by epoch having count(distinct daemon) > 1) e`,
		"rows under an older epoch":          `select count(*) from (select epoch < max(epoch) over (order by n) as old from public.done) e where old`,
		"events handled twice":               `select count(*) - count(distinct ev_id) from public.done`,
	} {
		n := scan[int](d.t, c, sql)
		d.t.Logf("%s: %d", what, n)
		if n != 0 {
			d.t.Errorf("%d %s", n, what)
		}
	}
	hands := scan[int](d.t, c, `select count(distinct epoch) from public.done`)
	if want := len(d.harms()) * *takeoverRounds; hands <= want {
		d.t.Errorf("the lease changed hands %d times, want %d at least", hands-1, want)
	}
}
