package cascade_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// grove is a tree that lives: each node has a worker and a ticker.
type grove struct {
	*tree
	ctx   context.Context // of the workers and tickers
	stop  context.CancelFunc
	all   sync.WaitGroup
	halts map[string]context.CancelFunc // of the workers
}

// newGrove makes a cascade: the first node is the root, the others are branches below it.
func newGrove(t *testing.T, h host, names ...string) *grove {
	t.Helper()
	g := &grove{tree: newTree(t, h, names[0]), halts: map[string]context.CancelFunc{}}
	for _, name := range names[1:] {
		g.add(h, name, cascade.Branch, names[0])
	}
	for _, name := range names { // a root without events makes no ticks
		g.exec(name, `select pgq.set_queue_config($1, 'ticker_max_lag', '50 ms'), pgq.set_queue_config($1, 'ticker_idle_period', '1 day')`, g.queue)
	}
	ctx, stop := context.WithCancel(t.Context())
	g.ctx, g.stop = ctx, stop
	t.Cleanup(func() {
		g.stop()
		g.all.Wait()
	})
	for _, name := range names {
		g.startWorker(ctx, name)
		db := g.db(name)
		g.all.Go(func() {
			for pause(ctx, 50*time.Millisecond) {
				_, _, _ = pgq.Tick(ctx, db, g.queue)
			}
		})
	}
	return g
}

// startWorker runs the worker of a node until it is halted.
func (g *grove) startWorker(ctx context.Context, name string) {
	ctx, g.halts[name] = context.WithCancel(ctx)
	w := cascade.NewWorker(g.db(name), g.queue, cascade.WorkerOptions{MarkPeriod: 200 * time.Millisecond})
	g.all.Go(func() {
		defer w.Close()
		for ctx.Err() == nil {
			if _, err := w.Step(ctx); err != nil {
				_, _, _ = w.Attend(ctx)
				pause(ctx, 5*time.Millisecond)
			}
		}
	})
}

// pause waits a little where there is nothing to wait for; false when the context has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (g *grove) admin(node string) *cascade.Admin {
	a := cascade.NewAdmin(g.db(node), g.queue, cascade.AdminOptions{Patience: 3 * time.Second})
	g.t.Cleanup(a.Close)
	return a
}

// writers insert at all isolation levels, wherever the queue is open, until they are stopped.
type writers struct {
	g     *grove
	nodes []*pgq.DB // their own list: a test may change the tree's beside them
	stop  context.CancelFunc
	all   sync.WaitGroup
	mu    sync.Mutex
	acked map[string]bool
	tried atomic.Int64
}

func (g *grove) write() *writers {
	ctx, stop := context.WithCancel(g.t.Context())
	w := &writers{g: g, stop: stop, acked: map[string]bool{}}
	for _, name := range g.order {
		w.nodes = append(w.nodes, g.db(name))
	}
	for i, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable, pgx.ReadCommitted} {
		w.all.Go(func() { w.run(ctx, i, level) })
	}
	g.t.Cleanup(w.end)
	return w
}

func (w *writers) run(ctx context.Context, id int, level pgx.TxIsoLevel) {
	at := 0
	for n := 0; ctx.Err() == nil; n++ {
		data := fmt.Sprintf("%d.%d", id, n)
		if err := w.insert(ctx, w.nodes[at%len(w.nodes)], level, data); err != nil {
			at++
			pause(ctx, 2*time.Millisecond)
			continue
		}
		w.tried.Add(1)
		w.mu.Lock()
		w.acked[data] = true
		w.mu.Unlock()
	}
}

// insert writes in a transaction whose snapshot is a little older than its insert.
func (w *writers) insert(ctx context.Context, node *pgq.DB, level pgx.TxIsoLevel, data string) error {
	return pgx.BeginTxFunc(ctx, node, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select count(*) from pgq.queue`); err != nil {
			return err
		}
		pause(ctx, time.Duration(5*len(data))*time.Millisecond)
		_, err := tx.Exec(ctx, `select pgq.insert_event($1, 'data', $2)`, w.g.queue, data)
		return err
	})
}

// end stops the writers, in no transaction.
func (w *writers) end() {
	w.stop()
	w.all.Wait()
}

// more waits until the writers have committed some more.
func (w *writers) more(n int64) {
	w.g.t.Helper()
	from := w.tried.Load()
	w.g.await("more writes", func() bool { return w.tried.Load() >= from+n })
}

func (g *grove) await(what string, fact func() bool) {
	g.t.Helper()
	pgtest.Eventually(g.t, patience, what, fact)
}

// texts reads one text column.
func (g *grove) texts(node, sql string, args ...any) []string {
	g.t.Helper()
	rows, err := g.db(node).Query(g.t.Context(), sql, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return ok[[]string](g.t)(pgx.CollectRows(rows, pgx.RowTo[string]))
}

// root is the one node that takes events: I1.
func (g *grove) root() string {
	g.t.Helper()
	var open []string
	for _, name := range g.order {
		if g.texts(name, `select (node_type = 'root' and not queue_disable_insert)::text from pgq_node.node_info join pgq.queue using (queue_name)`)[0] == "true" {
			open = append(open, name)
		}
	}
	if len(open) != 1 {
		g.t.Fatalf("I1: %v take events, want one node", open)
	}
	return open[0]
}

const dataSQL = `select ev_data from pgq.event_template where ev_type = 'data' order by 1`

// verify stops the writers, waits until all nodes have everything and compares them: invariants I1 to I6 and I9.
func (g *grove) verify(w *writers) {
	g.t.Helper()
	w.end()
	root := g.root()
	ok[int64](g.t)(forceTick(g.t.Context(), g.db(root), g.queue))
	want := g.top(root)
	for _, name := range g.order {
		g.t.Cleanup(func() {
			if g.t.Failed() && name == root {
				g.t.Log(g.state())
			}
		})
		g.await(name+" has everything, and is neither paused nor behind", func() bool {
			return g.top(name) >= want && len(g.texts(name, dataSQL)) == len(w.acked) &&
				g.texts(name, `select (paused or not uptodate)::text from pgq_node.local_state where queue_name = $1 and consumer_name like '%\_w'`, g.queue)[0] == "false"
		})
		g.verifyEvents(name, w)
		if open := g.texts(name, `select op_id || ' ' || state from skyd_node.operation where finished is null`); len(open) > 0 {
			g.t.Errorf("I9: %s has open operations %v", name, open)
		}
		readers := g.texts(name, `select subscriber_node from pgq_node.subscriber_info where queue_name = $1 order by 1`, g.queue)
		for _, other := range g.order {
			reads := other != root && g.texts(other, `select provider_node from pgq_node.local_state where queue_name = $1 and consumer_name like '%\_w'`, g.queue)[0] == name
			if reads != slices.Contains(readers, other) {
				g.t.Errorf("I6: %s reads from %s: %t, subscribers there: %v", other, name, reads, readers)
			}
		}
	}
	g.stop() // no ticks while ticks are compared
	g.all.Wait()
	for _, name := range g.order {
		if name != root {
			g.sameHistory(root, name)
		}
	}
}

// state describes all nodes, for a test that fails.
func (g *grove) state() string {
	text := ""
	for _, name := range g.order {
		var line string
		err := g.db(name).QueryRow(context.WithoutCancel(g.t.Context()), `
select format('%s: %s, closed %s, top %s, events %s, worker %s, operations %s, subscriptions %s', n.node_name, n.node_type, q.queue_disable_insert,
       (select max(tick_id) from pgq.tick), (select count(*) from pgq.event_template where ev_type = 'data'), to_json(s),
       (select json_agg(json_build_array(old_node, new_node, state, finished is null) order by started) from skyd_node.operation),
       (select json_agg(json_build_array(co_name, sub_last_tick)) from pgq.subscription join pgq.consumer on co_id = sub_consumer))
  from pgq_node.node_info n join pgq_node.local_state s using (queue_name) join pgq.queue q using (queue_name)`).Scan(&line)
		text += fmt.Sprintln(line, err)
	}
	return text
}

// sameHistory compares all ticks and batches that both nodes have.
func (g *grove) sameHistory(a, b string) {
	g.t.Helper()
	const ticks = `select tick_id || ' ' || tick_event_seq || ' ' || extract(epoch from tick_time) from pgq.tick order by tick_id`
	const digests = `
select a.tick_id || ' ' || d.events || ' ' || d.hash
  from (select tick_id, lag(tick_id) over (order by tick_id) as prev from pgq.tick) a
 cross join lateral skyd_node.digest($1, a.prev, a.tick_id) d where a.prev is not null order by a.tick_id`
	for what, pair := range map[string][2][]string{
		"I3: tick":  {g.texts(a, ticks), g.texts(b, ticks)},
		"I4: batch": {g.texts(a, digests, g.queue), g.texts(b, digests, g.queue)},
	} {
		rest := map[string]string{}
		for i, line := range pair[0] {
			if id, text, _ := strings.Cut(line, " "); i > 1 { // the first two were made by each node itself
				rest[id] = text
			}
		}
		common := 0
		for i, line := range pair[1] {
			id, text, _ := strings.Cut(line, " ")
			if _, found := rest[id]; found && i > 1 {
				if common++; rest[id] != text {
					g.t.Errorf("%s %s of %s: %s, of %s: %s", what, id, a, rest[id], b, text)
					break
				}
			}
		}
		if common < min(len(pair[0]), len(pair[1]))-4 || common == 0 {
			g.t.Errorf("%s: %s and %s have only %d of %d in common", what, a, b, common, len(pair[1]))
		}
	}
}

// verifyEvents is I2.
func (g *grove) verifyEvents(name string, w *writers) {
	g.t.Helper()
	seen := map[string]int{}
	for _, data := range g.texts(name, dataSQL) {
		seen[data]++
	}
	lost, doubled, foreign := 0, 0, 0
	for data := range w.acked {
		if seen[data] == 0 {
			lost++
		}
	}
	for data, n := range seen {
		if n > 1 {
			doubled++
		}
		if !w.acked[data] {
			foreign++
		}
	}
	if lost+doubled+foreign > 0 {
		g.t.Errorf("I2: of %d acknowledged events %s lacks %d, has %d twice and %d that nobody acknowledged", len(w.acked), name, lost, doubled, foreign)
	}
}

// takeover plans and runs.
func (g *grove) takeover(old, node string, o cascade.TakeoverOptions) (*cascade.Result, error) {
	g.t.Helper()
	a := g.admin(node)
	plan, err := a.PlanTakeover(g.t.Context(), old, node, o)
	if err != nil {
		return nil, err
	}
	return a.Run(g.t.Context(), plan)
}

// onHosts runs a test on skyd's SQL and beside the original extensions.
func onHosts(t *testing.T, test func(t *testing.T, h host)) {
	t.Parallel()
	for name, h := range map[string]host{"skyd": skydHost, "beside": besideHost} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

func TestSwitchover_ThereAndBackUnderLoad(t *testing.T) {
	onHosts(t, func(t *testing.T, h host) {
		g := newGrove(t, h, "o", "n", "b")
		w := g.write()
		var held []time.Duration
		old, node := "o", "n"
		for range 4 {
			w.more(30)
			r, err := g.takeover(old, node, cascade.TakeoverOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Proof.Equal() || r.Proof.NewEvents == 0 {
				t.Errorf("proof: %+v", r.Proof)
			}
			held = append(held, r.Proof.WritesHeld)
			old, node = node, old
		}
		g.verify(w)
		slices.Sort(held)
		t.Logf("%d events, writes held: median %s, most %s", len(w.acked), held[len(held)/2], held[len(held)-1])
	})
}

// With --all everybody who read from the old node reads from the new one: branches, leafs and plain consumers, also those
// that are ahead of the new node at that moment; a bystander that is dead is told, and holds nobody up.
func TestTakeover_All(t *testing.T) {
	t.Parallel()
	var m mortal
	g := newGrove(t, skydHost, "o", "n", "b")
	g.add(skydHost, "l", cascade.Leaf, "o")
	g.add(m.host(skydHost), "gone", cascade.Leaf, "o")
	g.startWorker(g.ctx, "l")
	g.order = []string{"o", "n", "b"}
	w := g.write()
	w.more(5)
	position := g.top("o")
	ok[bool](t)(pgq.RegisterConsumerAt(t.Context(), g.db("o"), g.queue, "plain", position))
	g.await("b knows that tick", func() bool { return g.completed("b") >= position })
	ok[cascade.Status](t)(cascade.RegisterConsumer(t.Context(), g.db("b"), g.queue, "plain", "o", position))
	m.die()
	r, err := g.takeover("o", "n", cascade.TakeoverOptions{All: true, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.Moved)
	if !slices.Equal(r.Moved, []string{"b", "b/plain", "l"}) || len(r.Left) > 0 {
		t.Errorf("moved %v, left %v", r.Moved, r.Left)
	}
	for _, name := range []string{"o", "b", "l"} {
		if got := g.texts(name, `select distinct provider_node from pgq_node.local_state where queue_name = $1`, g.queue); !slices.Equal(got, []string{"n"}) {
			t.Errorf("%s reads from %v", name, got)
		}
	}
	if got := g.texts("o", `select co_name from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name in ('plain', 'b_w', 'l_w')`); len(got) > 0 {
		t.Errorf("the old root holds %v", got)
	}
	g.verify(w)
}

// The same for a branch, below which are a branch and a leaf.
func TestTakeover_BranchAll(t *testing.T) {
	t.Parallel()
	g := newGrove(t, skydHost, "r", "o", "n")
	g.add(skydHost, "b", cascade.Branch, "o")
	g.add(skydHost, "l", cascade.Leaf, "o")
	g.startWorker(g.ctx, "b")
	g.startWorker(g.ctx, "l")
	g.order = []string{"r", "o", "n", "b"}
	w := g.write()
	w.more(20)
	if _, err := g.takeover("o", "n", cascade.TakeoverOptions{All: true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"n": "r", "o": "n", "b": "n", "l": "n"} {
		if got := g.texts(name, `select provider_node from pgq_node.local_state`)[0]; got != want {
			t.Errorf("%s reads from %s, want %s", name, got, want)
		}
	}
	g.verify(w)
}
