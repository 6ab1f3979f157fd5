package runtime

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// nodeOf is one node of a test's cascade of queue q.
type nodeOf struct {
	*pgtest.Database
	name string
	typ  cascade.NodeType
	c    *pgx.Conn
}

// newCascade makes a root r, a branch b below it, and a leaf l below that, each in a database of its own.
func newCascade(t testing.TB) (r, b, l *nodeOf) {
	t.Helper()
	make := func(name string, typ cascade.NodeType) *nodeOf {
		db := pgtest.DB(t)
		return &nodeOf{Database: db, name: name, typ: typ, c: db.Conn(t)}
	}
	r, b, l = make("r", cascade.Root), make("b", cascade.Branch), make("l", cascade.Leaf)
	for _, at := range []*nodeOf{r, b, l} {
		for _, n := range []*nodeOf{r, b, l} {
			exec(t, at.c, `select pgq_node.register_location('q', $1, $2, false)`, n.name, n.DSN)
		}
	}
	exec(t, r.c, `select pgq_node.create_node('q', 'root', 'r', 'r_w', null, null, null)`)
	for _, down := range []struct{ from, to *nodeOf }{{r, b}, {b, l}} {
		exec(t, down.from.c, `select pgq_node.register_subscriber('q', $1, $1 || '_w', null)`, down.to.name)
		exec(t, down.to.c, `select pgq_node.create_node('q', $1, $2, $2 || '_w', $3, 1, null)`, string(down.to.typ), down.to.name, down.from.name)
	}
	exec(t, r.c, `select pgq.set_queue_config('q', 'ticker_max_lag', '0')`)
	exec(t, l.c, `create table public.applied (ev_id int8 primary key, ev_data text)`)
	return r, b, l
}

// leafApplier writes events of type t into a table.
type leafApplier struct{}

func (leafApplier) Apply(ctx context.Context, tx pgx.Tx, _ cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
	for ev, err := range events {
		if err != nil {
			return err
		}
		if ev.Type.String == "t" {
			if _, err := tx.Exec(ctx, `insert into public.applied values ($1, $2)`, ev.ID, ev.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

// nodesConfig is a configuration that runs nodes r and b.
func nodesConfig(t *testing.T, instance string, ttl time.Duration, dbs ...configs.Database) configs.Config {
	c := consumersConfig(t, dbs)
	c.Instance, c.HA.LeaseTTL = instance, ttl
	for _, name := range []string{"r", "b"} {
		c.Nodes = append(c.Nodes, nodeConfig(name))
	}
	return c
}

func nodeConfig(name string) configs.Node {
	n := configs.DefaultNode()
	n.Queue, n.Name, n.Database = "q", name, name
	n.WatermarkPeriod, n.StepTimeout = time.Second, 2*time.Second
	return n
}

// nodeStatus finds a node in the status.
func (r *running) nodeStatus(name string) messages.NodeStatus {
	for _, n := range r.status().Nodes {
		if n.Node == name {
			return n
		}
	}
	return messages.NodeStatus{}
}

// sameQueues compares ticks, and events with the tick they came by, of two nodes.
func sameQueues(t *testing.T, x, y *nodeOf) {
	t.Helper()
	const ticks = `
select string_agg(format('%s %s %s', t.tick_id, extract(epoch from t.tick_time), t.tick_event_seq), e'\n' order by t.tick_id)
  from pgq.tick t where t.tick_id > 1`
	if a, b := value[string](t, x.c, ticks), value[string](t, y.c, ticks); a != b {
		t.Errorf("ticks of %s and %s differ:\n%s\n\n%s", x.name, y.name, a, b)
	}
	const events = `
select string_agg(format('%s %s %s %s', (
           select min(t.tick_id) from pgq.tick t where pg_catalog.txid_visible_in_snapshot(e.ev_txid, t.tick_snapshot)),
       e.ev_id, e.ev_type, e.ev_data), e'\n' order by e.ev_id) from pgq.event_1 e`
	if a, b := value[string](t, x.c, events), value[string](t, y.c, events); a != b {
		t.Errorf("events of %s and %s differ: %d and %d bytes", x.name, y.name, len(a), len(b))
	}
}

// Two daemons with the same configuration run a cascade; the one at work is cut off and frozen in the middle of the
// load, and comes back.
func TestNodes_TwoDaemons(t *testing.T) {
	t.Parallel()
	r, b, l := newCascade(t)
	proxy := pgtest.NewProxy(t, b.DSN)
	start := func(instance, branch string) *running {
		c := nodesConfig(t, instance, time.Second, database("r", r.DSN), database("b", branch), database("l", l.DSN))
		return runOptions(t, c, Options{Nodes: []Node{{Config: nodeConfig("l"), Applier: leafApplier{}}}})
	}
	one := start("one", proxy.DSN(b.DSN))
	pgtest.Eventually(t, slow, "the first daemon works", func() bool {
		return one.nodeStatus("b").Type == "branch" && one.nodeStatus("l").Type == "leaf"
	})
	two := start("two", b.DSN)
	pgtest.Eventually(t, slow, "the second daemon stands by", func() bool {
		return two.actor("database/b/node/q").State == messages.Parked
	})
	inserted := 0
	load := func() {
		for range 30 {
			inserted++
			exec(t, r.c, `select pgq.insert_event('q', 't', $1)`, fmt.Sprint(inserted))
		}
	}
	arrived := func() bool {
		return value[int](t, l.c, `select count(*) from public.applied`) == inserted
	}
	load()
	pgtest.Eventually(t, slow, "events reach the leaf", arrived)
	for range 2 {
		load()
		proxy.Freeze()
		load()
		pgtest.Eventually(t, slow, "events reach the leaf through the other daemon", arrived)
		proxy.Thaw()
		load()
		pgtest.Eventually(t, slow, "the frozen daemon stands by", func() bool {
			return one.actor("database/b/node/q").State == messages.Parked
		})
		proxy.Reset()
		load()
	}
	pgtest.Eventually(t, slow, "all events reach the leaf", arrived)
	last := value[int64](t, r.c, `select max(tick_id) from pgq.tick`)
	pgtest.Eventually(t, slow, "the branch has the last tick", func() bool {
		return value[int64](t, b.c, `select max(tick_id) from pgq.tick`) >= last
	})
	if err := one.stop(); err != nil {
		t.Error(err)
	}
	if err := two.stop(); err != nil {
		t.Error(err)
	}
	exec(t, r.c, `delete from pgq.tick where tick_id > (select max(tick_id) from pgq.tick where tick_id <= $1)`,
		value[int64](t, b.c, `select max(tick_id) from pgq.tick`))
	sameQueues(t, r, b)
	if n := value[int](t, l.c, `select count(distinct ev_data) from public.applied`); n != inserted {
		t.Errorf("leaf has %d of %d events", n, inserted)
	}
}

// A node is seen in status, readiness, metrics and traces; a missing node is waited for, and the wrong one refused.
func TestNodes_AreSeen(t *testing.T) {
	t.Parallel()
	r, b, l := newCascade(t)
	spans := tracetest.NewInMemoryExporter()
	tracing := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithIDGenerator(traceIDs{}))
	c := nodesConfig(t, "one", time.Second, database("r", r.DSN), database("b", b.DSN), database("l", l.DSN))
	wrong := nodeConfig("other")
	wrong.Database = "l"
	c.Nodes = append(c.Nodes, wrong)
	d := runOptions(t, c, Options{Tracing: tracing})
	pgtest.Eventually(t, slow, "the wrong node is refused", func() bool {
		a := d.actor("database/l/node/q/worker")
		return a.State == messages.Failed && strings.Contains(a.LastError, "node of queue q is l, not other")
	})
	if code, body := d.get("/readyz"); code != 503 || !strings.Contains(body, "worker/l") {
		t.Errorf("readiness %d: %s", code, body)
	}
	exec(t, r.c, `select pgq.insert_event('q', 't', 'x')`)
	pgtest.Eventually(t, slow, "the branch has the event", func() bool {
		return value[int](t, b.c, `select count(*) from pgq.event_1 where ev_type = 't'`) == 1 && d.nodeStatus("b").Events > 0
	})
	exec(t, b.c, `select pgq_node.set_consumer_paused('q', 'b_w', true)`)
	pgtest.Eventually(t, slow, "the branch is paused", func() bool {
		n := d.nodeStatus("b")
		return n.Paused && n.Uptodate && n.Did == "paused"
	})
	_, metrics := d.get("/metrics")
	for _, want := range []string{
		`skyd_node_info{node="b",provider="r",queue="q",type="branch"} 1`, `skyd_node_info{node="r",provider="r",queue="q",type="root"} 1`,
		`skyd_node_paused{node="b",queue="q"} 1`, `skyd_node_uptodate{node="b",queue="q"} 1`,
		`skyd_node_lag_seconds{node="r",queue="q"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for path, want := range map[string]int{
		"/primary/q": 200, "/replica/q": 200, "/replica/q?lag=0s": 503, "/primary/none": 503, "/replica/q?lag=x": 400,
		"/readyz/node/b/q": 200, "/readyz/worker/r/q?lag=1h": 200, "/readyz/worker/b/q?lag=1ns": 503, "/readyz/worker/l": 503,
	} {
		if code, body := d.get(path); code != want {
			t.Errorf("%s: %d, want %d: %s", path, code, want, body)
		}
	}
	if err := d.stop(); err != nil {
		t.Error(err)
	}
	ticks, batches := map[string]bool{}, 0
	for _, s := range spans.GetSpans() {
		if s.Name == "tick q" && s.InstrumentationScope.Name == cascade.ScopeName {
			ticks[s.SpanContext.TraceID().String()] = true
		}
	}
	for _, s := range spans.GetSpans() {
		if s.Name == "process q" && ticks[s.SpanContext.TraceID().String()] {
			batches++
		}
	}
	if batches == 0 {
		t.Errorf("no batch of the branch shares a trace with a tick of the root: %d ticks", len(ticks))
	}
}
