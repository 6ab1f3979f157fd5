package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// cascadeNodes is the tree of TestCascadeKill: two branches in a row, a leaf beside, on two servers.
var cascadeNodes = []struct {
	name, typ, provider string
	server              int
}{
	{"r", "root", "", 0},
	{"b1", "branch", "r", 0},
	{"b2", "branch", "b1", 1},
	{"l", "leaf", "b1", 1},
}

// TestCascadeKill_SameEverywhere kills and freezes daemons and servers in turn, in the order of a seed, while events are
// produced on the root of a cascade. In the end every queue has the same ticks, and the same events in the same batches.
func TestCascadeKill_SameEverywhere(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("replay the order: go test ./e2e -run TestCascadeKill -kill.seed=%d", seed)
	k := newCascadeKill(t)
	faults := []struct {
		name string
		do   func()
	}{
		{"kill -9 of daemon 0", func() { k.killDaemon(0) }},
		{"kill -9 of daemon 1", func() { k.killDaemon(1) }},
		{"kill -9 of both daemons", func() {
			for i, d := range k.daemons {
				_ = d.cmd.Process.Kill()
				<-d.done
				k.startDaemon(i)
			}
		}},
		{"kill -9 of the root's server", func() { k.servers[0].Kill(); k.servers[0].Start() }},
		{"kill -9 of the other server", func() { k.servers[1].Kill(); k.servers[1].Start() }},
		{"freeze of daemon 0", func() { k.freezeDaemon(0) }},
		{"freeze of daemon 1", func() { k.freezeDaemon(1) }},
		{"freeze of the other server", func() {
			k.servers[1].Freeze()
			<-time.After(1500 * time.Millisecond) // the fault is that time passes
			k.servers[1].Thaw()
		}},
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	k.progress("the start")
	for _, fault := range faults {
		start := time.Now()
		fault.do()
		k.progress(fault.name)
		t.Logf("%s: over after %v", fault.name, time.Since(start).Round(10*time.Millisecond))
	}
	k.halt()
	k.running.Wait()
	k.compare()
	for _, d := range k.daemons {
		if err := d.stop(); err != nil {
			t.Errorf("daemon after SIGTERM: %v", err)
		}
	}
	t.Logf("%d events acknowledged", k.acknowledged.Load())
}

// cascadeKill is the scene.
type cascadeKill struct {
	t            *testing.T
	servers      [2]*pgtest.Cluster
	config       string
	daemons      [2]*process
	acknowledged atomic.Int64
	halt         context.CancelFunc
	running      sync.WaitGroup
}

func newCascadeKill(t *testing.T) *cascadeKill {
	t.Helper()
	k := &cascadeKill{t: t, config: filepath.Join(t.TempDir(), "skyd.yaml")}
	for i := range k.servers {
		k.servers[i] = pgtest.NewCluster(t, nil)
	}
	text := "ha: {lease_ttl: 2s}\nticker: {period: 100ms}\nmaintenance: {period: 500ms}\ndatabases:\n"
	nodes := "nodes:\n"
	for _, n := range cascadeNodes {
		exec1(t, connect(t, k.servers[n.server].DSN("postgres")), "create database "+n.name)
		skyd(t, "schema", "install", "--db", k.dsn(n.name))
		text += fmt.Sprintf("  - {name: %s, dsn: %q}\n", n.name, k.dsn(n.name))
		nodes += fmt.Sprintf("  - {queue: orders, name: %[1]s, database: %[1]s, poll_period: 200ms, watermark_period: 1s, step_timeout: 3s}\n", n.name)
	}
	k.build()
	if err := os.WriteFile(k.config, []byte(text+nodes), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, halt := context.WithCancel(t.Context())
	k.halt = halt
	t.Cleanup(func() { halt(); k.running.Wait() })
	for i := range k.daemons {
		k.startDaemon(i)
	}
	for i := range 2 {
		k.running.Go(func() { k.produce(ctx, i) })
	}
	return k
}

// build makes the nodes by the SQL contract.
func (k *cascadeKill) build() {
	k.t.Helper()
	for _, n := range cascadeNodes {
		conn := connect(k.t, k.dsn(n.name))
		for _, other := range cascadeNodes {
			exec1(k.t, conn, `select pgq_node.register_location('orders', $1, $2, false)`, other.name, k.dsn(other.name))
		}
		if n.typ == "root" {
			exec1(k.t, conn, `select pgq_node.create_node('orders', 'root', $1, $1 || '_w', null, null, null)`, n.name)
			exec1(k.t, conn, `select pgq.set_queue_config('orders', 'ticker_max_lag', '50 ms')`)
			continue
		}
		exec1(k.t, connect(k.t, k.dsn(n.provider)), `select pgq_node.register_subscriber('orders', $1, $1 || '_w', null)`, n.name)
		exec1(k.t, conn, `select pgq_node.create_node('orders', $1, $2, $2 || '_w', $3, 1, null)`, n.typ, n.name, n.provider)
	}
}

func (k *cascadeKill) dsn(node string) string {
	for _, n := range cascadeNodes {
		if n.name == node {
			return k.servers[n.server].DSN(node)
		}
	}
	return ""
}

func (k *cascadeKill) startDaemon(i int) {
	k.t.Helper()
	dir, err := os.MkdirTemp("", "skyd-e2e-run-")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	env := []string{"RUNTIME_DIRECTORY=" + dir, "SKYD_HTTP__LISTEN=127.0.0.1:0", fmt.Sprint("SKYD_INSTANCE=d", i)}
	k.daemons[i] = background(k.t, env, binary, "run", "--config", k.config)
}

func (k *cascadeKill) killDaemon(i int) {
	d := k.daemons[i]
	_ = d.cmd.Process.Kill()
	<-d.done
	k.progress("while a daemon is dead")
	k.startDaemon(i)
}

// freezeDaemon stops a daemon for longer than its leases live, and wakes it up when the other one is at work.
func (k *cascadeKill) freezeDaemon(i int) {
	p := k.daemons[i].cmd.Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		k.t.Fatal(err)
	}
	k.progress("while a daemon is frozen")
	if err := p.Signal(syscall.SIGCONT); err != nil {
		k.t.Fatal(err)
	}
}

// produce writes small transactions until the context ends, whatever the server does.
func (k *cascadeKill) produce(ctx context.Context, number int) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, k.dsn("r"))
		for i := 0; err == nil && ctx.Err() == nil; i++ {
			_, err = conn.Exec(ctx, `select pgq.insert_event('orders', 'e', $1) from generate_series(1, 5)`, fmt.Sprint(number, " ", i))
			if err == nil {
				k.acknowledged.Add(5)
				pause(ctx, 20*time.Millisecond)
			}
		}
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx)) // it may be broken
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// pause waits a moment of the load.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// position is the newest tick of a node's queue, or the position of a leaf; 0 when it cannot be asked.
func (k *cascadeKill) position(node string) (tick int64) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, k.dsn(node))
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close(ctx) }()
	const top = `
select least(coalesce((select max(tick_id) from pgq.tick), max(last_tick_id)), max(last_tick_id)) from pgq_node.local_state where $1 <> 'r'
 union all select max(tick_id) from pgq.tick where $1 = 'r'`
	rows, err := conn.Query(ctx, top, node)
	if err != nil {
		return 0
	}
	defer rows.Close()
	for rows.Next() {
		var id *int64
		if rows.Scan(&id) == nil && id != nil {
			tick = *id
		}
	}
	return tick
}

// progress waits until every node has a tick that is newer than now.
func (k *cascadeKill) progress(after string) {
	k.t.Helper()
	var mark int64
	pgtest.Eventually(k.t, time.Minute, "the root answers after "+after, func() bool {
		mark = k.position("r")
		return mark > 0
	})
	for _, n := range cascadeNodes[1:] {
		pgtest.Eventually(k.t, 2*time.Minute, fmt.Sprintf("node %s has tick %d after %s", n.name, mark, after), func() bool {
			return k.position(n.name) > mark
		})
	}
}

// compare waits until everything has arrived and compares the queues: ticks in all fields, and each event with the tick
// by which it came.
func (k *cascadeKill) compare() {
	k.t.Helper()
	root := connect(k.t, k.dsn("r"))
	exec1(k.t, root, `select pgq.force_tick('orders')`)
	k.progress("the end of the load")
	const ticks = `
select string_agg(format('%s %s %s', t.tick_id, extract(epoch from t.tick_time), t.tick_event_seq), e'\n' order by t.tick_id)
  from pgq.tick t where t.tick_id between $1 and $2`
	const events = `
with x as materialized (
    select d.ev_txid, (select t.tick_id from pgq.tick t where t.tick_id >= $1
                          and pg_catalog.txid_visible_in_snapshot(d.ev_txid, t.tick_snapshot)
                        order by t.tick_id limit 1) as tick
      from (select distinct ev_txid from pgq.event_1) d)
select coalesce(string_agg(format('%s %s %s %s', x.tick, e.ev_id, e.ev_type, e.ev_data), e'\n' order by e.ev_id), '')
  from pgq.event_1 e
  join x using (ev_txid)
 where x.tick > $1 and x.tick <= $2`
	for _, name := range []string{"b1", "b2"} {
		conn := connect(k.t, k.dsn(name))
		last := min(scan[int64](k.t, root, `select max(tick_id) from pgq.tick`), scan[int64](k.t, conn, `select max(tick_id) from pgq.tick`))
		// what rotation has thrown away on either side is not there to compare
		first := max(scan[int64](k.t, root, `select min(tick_id) from pgq.tick where tick_id > 1`),
			scan[int64](k.t, conn, `select min(tick_id) from pgq.tick where tick_id > 1`))
		if a, b := scan[string](k.t, root, ticks, first, last), scan[string](k.t, conn, ticks, first, last); a != b {
			k.t.Errorf("ticks %d to %d of the root and %s differ:\n%.2000s\n\n%.2000s", first, last, name, a, b)
		}
		a, b := scan[string](k.t, root, events, first, last), scan[string](k.t, conn, events, first, last)
		if a != b || a == "" {
			k.t.Errorf("events of ticks %d to %d of the root and %s differ: %d and %d bytes", first, last, name, len(a), len(b))
		}
	}
}
