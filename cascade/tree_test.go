package cascade_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
)

// member is one node of a test's cascade, in a database of its own.
type member struct {
	name string
	dsn  string
	db   *pgq.DB
}

// tree is a cascade of one queue.
type tree struct {
	t     testing.TB
	queue string
	nodes map[string]*member
	order []string
}

// newTree makes a root of queue q.
func newTree(t testing.TB, h host, root string) *tree {
	t.Helper()
	return newTreeOf(t, "q", h, root)
}

// newTreeOf makes a root.
func newTreeOf(t testing.TB, queue string, h host, root string) *tree {
	t.Helper()
	tr := &tree{t: t, queue: queue, nodes: map[string]*member{}}
	n := tr.join(h, root)
	ctx := t.Context()
	ok[cascade.Status](t)(cascade.RegisterLocation(ctx, n.db, tr.queue, cascade.Location{Node: root, Location: n.dsn}))
	ok[cascade.Status](t)(cascade.CreateNode(ctx, n.db, cascade.NewNode{Queue: tr.queue, Type: cascade.Root, Name: root, Worker: root + "_w"}))
	for _, name := range []string{"ticker_max_lag", "ticker_idle_period"} {
		if err := pgq.SetQueueConfig(ctx, n.db, tr.queue, name, "0"); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func (tr *tree) join(h host, name string) *member {
	dsn := h(tr.t)
	n := &member{name: name, dsn: dsn, db: open(tr.t, dsn)}
	tr.nodes[name] = n
	tr.order = append(tr.order, name)
	return n
}

func (tr *tree) db(name string) *pgq.DB { return tr.nodes[name].db }

// add makes a node below another.
func (tr *tree) add(h host, name string, typ cascade.NodeType, provider string) *member {
	tr.t.Helper()
	return tr.addTo(tr.join(h, name), typ, provider, "")
}

// addTo makes a node in a database that is there.
func (tr *tree) addTo(n *member, typ cascade.NodeType, provider, combined string) *member {
	tr.t.Helper()
	t, ctx := tr.t, tr.t.Context()
	tr.nodes[n.name] = n
	for _, other := range tr.order {
		ok[cascade.Status](t)(cascade.RegisterLocation(ctx, tr.db(other), tr.queue, cascade.Location{Node: n.name, Location: n.dsn}))
		ok[cascade.Status](t)(cascade.RegisterLocation(ctx, n.db, tr.queue, cascade.Location{Node: other, Location: tr.nodes[other].dsn}))
	}
	wm, _, err := cascade.RegisterSubscriber(ctx, tr.db(provider), tr.queue, n.name, n.name+"_w", 0)
	if err != nil {
		t.Fatal(err)
	}
	ok[cascade.Status](t)(cascade.CreateNode(ctx, n.db, cascade.NewNode{
		Queue: tr.queue, Type: typ, Name: n.name, Worker: n.name + "_w", Provider: provider, Watermark: wm, Combined: combined,
	}))
	return n
}

// insert writes events into the root, each as a transaction of its own when apart.
func (tr *tree) insert(root string, from, n int) {
	tr.t.Helper()
	events := make([]pgq.NewEvent, n)
	for i := range events {
		events[i] = pgq.NewEvent{Type: pgq.Str("t"), Data: pgq.Str(fmt.Sprintf("data %d", from+i)), Extra3: pgq.Str("")}
	}
	if _, err := pgq.InsertBatch(tr.t.Context(), tr.db(root), tr.queue, events); err != nil {
		tr.t.Fatal(err)
	}
}

// tick makes a tick on the root.
func (tr *tree) tick(root string) int64 {
	tr.t.Helper()
	ok[int64](tr.t)(forceTick(tr.t.Context(), tr.db(root), tr.queue))
	return tr.top(root)
}

func forceTick(ctx context.Context, db *pgq.DB, queue string) (id int64, err error) {
	id, _, err = pgq.Tick(ctx, db, queue)
	return id, err
}

// top is the newest tick of a node's queue.
func (tr *tree) top(name string) (id int64) {
	tr.t.Helper()
	tr.row(name, []any{&id}, `
select max(t.tick_id) from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue where q.queue_name = $1`, tr.queue)
	return id
}

func (tr *tree) row(name string, dest []any, sql string, args ...any) {
	tr.t.Helper()
	if err := tr.db(name).QueryRow(tr.t.Context(), sql, args...).Scan(dest...); err != nil {
		tr.t.Fatal(err)
	}
}

func (tr *tree) exec(name, sql string, args ...any) {
	tr.t.Helper()
	if _, err := tr.db(name).Exec(tr.t.Context(), sql, args...); err != nil {
		tr.t.Fatal(err)
	}
}

// completed is the position of a node's worker.
func (tr *tree) completed(name string) int64 {
	tr.t.Helper()
	return ok[cascade.WorkerState](tr.t)(cascade.GetWorkerState(tr.t.Context(), tr.db(name), tr.queue)).Completed
}

// worker makes a worker with connections of its own.
func (tr *tree) worker(name string, o cascade.WorkerOptions) *cascade.Worker {
	if o.MarkPeriod == 0 {
		o.MarkPeriod = time.Nanosecond
	}
	w := cascade.NewWorker(tr.db(name), tr.queue, o)
	tr.t.Cleanup(w.Close)
	return w
}

// follow steps a worker until the node has completed a tick.
func (tr *tree) follow(w *cascade.Worker, name string, upTo int64) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.t.Context(), patience)
	defer cancel()
	for {
		p, err := w.Step(ctx)
		if err != nil {
			tr.t.Fatalf("worker of %s: %v", name, err)
		}
		if p.State.Completed >= upTo && p.Did != cascade.DidBatch && p.Top >= upTo {
			return
		}
	}
}

// sameTicks is invariant I3: the ticks of a queue in the window both nodes have are equal in every field.
func (tr *tree) sameTicks(a, b string) {
	tr.t.Helper()
	type tick struct {
		ID   int64
		Time time.Time
		Seq  *int64
	}
	read := func(name string, from int64) []tick {
		rows, _ := tr.db(name).Query(tr.t.Context(), `
select t.tick_id, t.tick_time, t.tick_event_seq from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue
 where q.queue_name = $1 and t.tick_id > $2 order by 1`, tr.queue, from)
		return ok[[]tick](tr.t)(pgx.CollectRows(rows, pgx.RowToStructByPos[tick]))
	}
	var first int64 // a new branch has a tick of its own making before its first one
	tr.row(b, []any{&first}, `select max(t) from (select tick_id as t from pgq.tick join pgq.queue on queue_id = tick_queue
		where queue_name = $1 order by 1 limit 2) x`, tr.queue)
	first = min(first, 1)
	if x, y := read(a, first), read(b, first); !reflect.DeepEqual(x, y) {
		tr.t.Errorf("ticks of %s and %s differ:\n%v\n%v", a, b, x, y)
	}
}

// batches reads all batches of a node's queue after a tick, with a consumer of its own: end tick and events.
func (tr *tree) batches(name string, after int64) map[int64][]pgq.Event {
	tr.t.Helper()
	ctx, db := tr.t.Context(), tr.db(name)
	consumer := "audit_" + name
	ok[bool](tr.t)(pgq.RegisterConsumerAt(ctx, db, tr.queue, consumer, after))
	out := map[int64][]pgq.Event{}
	for {
		b := ok[*pgq.Batch](tr.t)(pgq.NextBatch(ctx, db, tr.queue, consumer))
		if b == nil {
			break
		}
		out[b.TickID] = nil
		for ev, err := range b.Events(ctx) {
			if err != nil {
				tr.t.Fatal(err)
			}
			ev.Txid = 0
			out[b.TickID] = append(out[b.TickID], *ev)
		}
		if err := b.Finish(ctx); err != nil {
			tr.t.Fatal(err)
		}
	}
	return out
}

// batchesTicked is batches after a tick of the node's own.
func (tr *tree) batchesTicked(name string, after int64) map[int64][]pgq.Event {
	tr.t.Helper()
	tr.exec(name, `select pgq.force_tick($1)`, tr.queue)
	tr.tick(name)
	return tr.batches(name, after)
}

// sameBatches is invariant I4: the same events in every batch.
func (tr *tree) sameBatches(a, b string, after int64) {
	tr.t.Helper()
	x, y := tr.batches(a, after), tr.batches(b, after)
	if len(x) != len(y) {
		tr.t.Errorf("%s has %d batches, %s %d", a, len(x), b, len(y))
	}
	for id, events := range x {
		if !reflect.DeepEqual(events, y[id]) {
			tr.t.Errorf("batch %d: %s has %d events, %s %d, or other ones", id, a, len(events), b, len(y[id]))
		}
	}
}

// tableApplier writes events into table applied, whose key refuses doubles.
type tableApplier struct{}

const makeApplied = `create table public.applied (ev_id bigint primary key, ev_data text)`

func (tableApplier) Apply(ctx context.Context, tx pgx.Tx, _ cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
	for ev, err := range events {
		if err != nil {
			return err
		}
		if ev.Type.String != "t" {
			continue
		}
		if _, err := tx.Exec(ctx, `insert into public.applied (ev_id, ev_data) values ($1, $2)`, ev.ID, ev.Data); err != nil {
			return err
		}
	}
	return nil
}

// applied is the content of a node's table.
func (tr *tree) applied(name string) []string {
	tr.t.Helper()
	rows, _ := tr.db(name).Query(tr.t.Context(), `select ev_data from public.applied order by ev_id`)
	return ok[[]string](tr.t)(pgx.CollectRows(rows, pgx.RowTo[string]))
}

// inserted are the data of the events from a batch map, in order.
func inserted(batches map[int64][]pgq.Event) (data []string) {
	var events []pgq.Event
	for _, b := range batches {
		events = append(events, b...)
	}
	slices.SortFunc(events, func(a, b pgq.Event) int { return int(a.ID - b.ID) })
	for _, ev := range events {
		if ev.Type.String == "t" {
			data = append(data, ev.Data.String)
		}
	}
	return data
}

// errKilled is how tests end a worker.
var errKilled = errors.New("killed")

// appliedIDs are the ids of a node's table in the order of insertion.
func (tr *tree) appliedIDs(name string) []int64 {
	tr.t.Helper()
	rows, _ := tr.db(name).Query(tr.t.Context(), `select ev_id from public.applied order by ctid`)
	return ok[[]int64](tr.t)(pgx.CollectRows(rows, pgx.RowTo[int64]))
}
