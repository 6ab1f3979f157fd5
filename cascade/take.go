package cascade

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/pgq"
)

type commandTag = pgconn.CommandTag

// take brings a batch into the node, and for a branch its tick: commits c and d.
//
// o is a part of a batch, and more may be taken with it; all tells whether that was the whole rest.
func (w *Worker) take(ctx context.Context, plan Plan, p Pass, o *offer) (_ Pass, all bool, err error) {
	began := time.Now()
	ctx, done := w.trace(ctx, p, o)
	defer func() { done(p, err) }()
	work, release := w.row.yielding(ctx)
	n := 0
	if w.trains(plan) {
		n, err = w.train(work, &p, o)
	}
	if err == nil && n == 0 {
		err = w.bring(work, plan, &p, o)
	}
	release()
	if n > 0 && err == nil {
		p.Did = DidBatch
		if o.whole != nil {
			w.traceOthers(ctx, p, o, o.whole.ticks[o.at+1:o.at+n], began)
		}
		return p, o.lastOf(n), nil
	}
	switch {
	case errors.Is(err, errMoved):
		w.dropAhead()
		p.Did = DidRecheck
		return p, false, nil
	case err != nil && errors.Is(context.Cause(work), errYield):
		w.log.Info("batch is given up for a pause", "tick", o.tick)
		p.Did = DidYield
		return p, false, nil
	case err != nil:
		return p, false, fmt.Errorf("batch of queue %s up to tick %d: %w", w.queue, o.tick, err)
	}
	p.Did = DidBatch
	if !plan.Tick && len(o.ticks) > 1 {
		w.traceOthers(ctx, p, o, o.ticks[:len(o.ticks)-1], began)
	}
	if err := w.o.hook("c"); err != nil {
		return p, false, err
	}
	if plan.Tick {
		err = w.writeTick(ctx, tick{ID: o.tick, Time: o.time, Seq: o.seq})
	}
	return p, o.lastOf(1), err
}

// bring is transaction c: all events, what they ask for, and the position.
func (w *Worker) bring(ctx context.Context, plan Plan, p *Pass, o *offer) error {
	st := openStream(ctx, w.link.db, o.sql, w.shape(plan, p.State))
	defer st.close()
	tx, err := w.db.BeginTx(ctx, w.txOptions())
	if err != nil {
		return pgq.Classify(err)
	}
	defer func() {
		ctx, cancel := settle(ctx)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit, or on a dead connection, there is nothing to do
	}()
	in := &intake{w: w, tx: tx, plan: plan, stream: st}
	if in.table, err = w.prepare(ctx, tx, plan); err != nil {
		return err
	}
	if err := w.apply(ctx, in, p, o); err != nil {
		return err
	}
	p.Events, p.Skipped = in.events, in.skipped
	if err := w.o.hook("copied"); err != nil {
		return err
	}
	if err := w.move(ctx, tx, plan, p.State, o, in.maxID); err != nil {
		return err
	}
	cctx, cancel := settle(ctx)
	defer cancel()
	return pgq.Classify(tx.Commit(cctx))
}

// shape is what the plan makes of rows.
func (w *Worker) shape(plan Plan, s WorkerState) shape {
	sh := shape{copy: plan.Copy, keepAll: w.o.Applier != nil}
	if plan.Mark == RememberMark {
		sh.mark = []byte(strconv.FormatInt(s.GlobalWatermark, 10))
	}
	return sh
}

// txOptions let the server end a transaction in which it hears nothing of us, in a statement or between two.
func (w *Worker) txOptions() pgx.TxOptions {
	ms := strconv.FormatInt(w.o.StepTimeout.Milliseconds(), 10)
	begin := "begin isolation level read committed; set local idle_in_transaction_session_timeout = " + ms
	if w.o.Applier == nil {
		begin += "; set local statement_timeout = " + ms
	}
	return pgx.TxOptions{BeginQuery: begin}
}

// prepare passes the fence and finds the table to copy into; "" for none. The transaction has its id before the table is
// read: a rotation in between is harmless then.
func (w *Worker) prepare(ctx context.Context, tx pgx.Tx, plan Plan) (table string, err error) {
	var b pgx.Batch
	if w.o.QueueFence != nil {
		w.o.QueueFence(&b)
	}
	scan := func(row pgx.Row) error { return row.Scan(&table) }
	switch plan.Copy {
	case SameIDs:
		// The queue is closed for everybody else: the setting is the key.
		b.Queue(`select pg_catalog.txid_current(), pg_catalog.set_config('skyd.copies_batch', $1, true)`, plan.Target)
		b.Queue(`
select pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table) from pgq.queue q where q.queue_name = $1`, plan.Target).QueryRow(scan)
	case NewIDs:
		b.Queue(`select pg_catalog.txid_current()`)
		b.Queue(`select pgq.quote_fqname(pgq.current_event_table($1))`, plan.Target).QueryRow(scan)
	}
	if b.Len() == 0 {
		return "", nil
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return "", fmt.Errorf("find the event table of queue %s: %w", plan.Target, pgq.Classify(err))
	}
	return table, nil
}

// intake copies chunk after chunk and gives the events out that have to be looked at.
type intake struct {
	w       *Worker
	tx      pgx.Tx
	plan    Plan
	stream  *stream
	table   string
	chunk   *chunk
	at      int
	events  int
	skipped int
	maxID   int64
}

// next is the next event to look at; nil at the end of the batch. Events of the cascade have been acted upon.
func (in *intake) next(ctx context.Context) (*pgq.Event, error) {
	for {
		for in.chunk != nil && in.at < len(in.chunk.kept) {
			ev := in.chunk.kept[in.at].event()
			in.at++
			if isSystem(ev.Type.String) {
				if err := in.act(ctx, ev); err != nil {
					return nil, err
				}
			} else if !in.plan.Apply && !strings.HasPrefix(ev.Type.String, "londiste.") {
				continue // comes through the combined queue
			}
			return ev, nil
		}
		var err error
		if in.chunk, err = in.stream.next(ctx, in.chunk); err != nil || in.chunk == nil {
			return nil, err
		}
		if err := in.copy(ctx); err != nil {
			return nil, err
		}
		if err := in.w.o.hook("chunk"); err != nil {
			return nil, err
		}
		in.at, in.events, in.maxID = 0, in.events+in.chunk.rows, max(in.maxID, in.chunk.maxID)
		if n := in.chunk.retry; n > 0 {
			in.skipped += n
			in.w.log.Warn("events of the worker's retry queue are left out: everybody below has them already", "events", n)
		}
	}
}

// copy writes a chunk. The server does not wait longer for us than for any other statement: whoever froze in the middle
// of the COPY would keep the lease of the node.
func (in *intake) copy(ctx context.Context) error {
	limited := in.w.o.Applier == nil || in.plan.Copy == NoCopy // the transaction has the limit, or there is no COPY
	if !limited {
		limit := "set local statement_timeout = " + strconv.FormatInt(in.w.o.StepTimeout.Milliseconds(), 10)
		if _, err := in.tx.Exec(ctx, limit); err != nil {
			return pgq.Classify(err)
		}
	}
	if err := copyIn(ctx, in.tx, in.table, in.plan.Copy, in.chunk); err != nil || limited {
		return err
	}
	_, err := in.tx.Exec(ctx, "set local statement_timeout to default")
	return pgq.Classify(err)
}

// isSystem tells the events of the cascade itself.
func isSystem(typ string) bool { return strings.HasPrefix(typ, "pgq.") }

// act acts upon an event of the cascade.
func (in *intake) act(ctx context.Context, ev *pgq.Event) error {
	reason, err := in.w.act(ctx, in.tx, in.plan, ev)
	if err != nil || reason == "" {
		return err
	}
	in.skipped++
	in.w.log.Warn("special event has no effect here", "event", ev.ID, "type", ev.Type.String, "reason", reason)
	return nil
}

// apply gives the events to the applier, where there is one, and sees the batch to its end.
func (w *Worker) apply(ctx context.Context, in *intake, p *Pass, o *offer) error {
	ended := false
	if w.o.Applier != nil {
		var failed error
		events := func(yield func(*pgq.Event, error) bool) {
			for !ended {
				ev, err := in.next(ctx)
				if err != nil {
					failed = err
					yield(nil, err)
					return
				}
				if ended = ev == nil; ended || !yield(ev, nil) {
					return
				}
			}
		}
		b := Batch{
			Queue: w.queue, Node: p.State.Node, Provider: p.State.Provider, PrevTick: o.prev, Tick: o.tick, TickTime: o.time,
		}
		err := guarded(func() error { return w.o.Applier.Apply(ctx, in.tx, b, iter.Seq2[*pgq.Event, error](events)) })
		if err == nil {
			err = failed // an applier may have missed it, the batch must not
		}
		if err != nil {
			return err
		}
	}
	for !ended {
		ev, err := in.next(ctx)
		if err != nil {
			return err
		}
		ended = ev == nil
	}
	return nil
}

// guarded turns a panic of the applier into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", pgq.ErrHandlerPanic, v)
		}
	}()
	return f()
}

// moveSQL moves the position if it is where the batch begins, and nobody holds the node for paused or has changed its
// role or provider since the state was read.
const moveSQL = `
update pgq_node.local_state s
   set last_tick_id = $4, cur_error = null
 where s.queue_name = $1 and s.consumer_name = $2 and s.last_tick_id = $3 and s.provider_node = $5
   and not (s.paused and s.uptodate)
   and (select count(*)
          from (select n.queue_name
                  from pgq_node.node_info n
                 where n.queue_name = $1 and n.node_name = $6 and n.node_type = $7
                    or n.queue_name = $8 and n.node_type = $9
                   for share) n) = case when $8 = '' then 1 else 2 end`

// move is the end of transaction c: nothing of it stays if the node is not where it was.
func (w *Worker) move(ctx context.Context, tx pgx.Tx, plan Plan, s WorkerState, o *offer, maxID int64) error {
	if plan.WaitBehind {
		return nil
	}
	moved := false
	var b pgx.Batch
	if plan.SendTickID {
		b.Queue(`select pgq.insert_event($1, $2, $3, $4, null, null, null)`, plan.Target, typeTickID, strconv.FormatInt(o.tick, 10), w.queue)
	}
	if plan.Copy == SameIDs && maxID > 0 {
		// The tick does it too; but the next root must not give ids anew, should we die before the tick.
		b.Queue(`
select case when pg_catalog.has_sequence_privilege(q.queue_event_seq, 'update') then pgq.seq_setval(q.queue_event_seq, $2) end
  from pgq.queue q where q.queue_name = $1`, w.queue, max(maxID, value(o.seq)))
	}
	b.Queue(moveSQL, w.queue, s.Worker, s.Completed, o.tick, s.Provider, s.Node, string(s.Type), s.CombinedQueue,
		string(s.CombinedType)).Exec(func(tag commandTag) error {
		moved = tag.RowsAffected() == 1
		return nil
	})
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("move node %s of queue %s to tick %d: %w", s.Node, w.queue, o.tick, pgq.Classify(err))
	}
	if !moved {
		return errMoved
	}
	return nil
}

// trace is the span of a batch; the function ends it.
func (w *Worker) trace(ctx context.Context, p Pass, o *offer) (context.Context, func(Pass, error)) {
	if w.o.Tracer == nil {
		return ctx, func(Pass, error) {}
	}
	return startBatchSpan(ctx, w.o.Tracer, w.queue, p, o, time.Now())
}

// traceOthers makes the spans of the ticks that came together with the one that has its span.
func (w *Worker) traceOthers(ctx context.Context, p Pass, o *offer, ticks []tick, began time.Time) {
	if w.o.Tracer == nil {
		return
	}
	for _, t := range ticks {
		_, done := startBatchSpan(ctx, w.o.Tracer, w.queue, p, &offer{id: o.id, prev: o.prev, tick: t.ID, time: t.Time}, began)
		done(p, nil)
	}
}
