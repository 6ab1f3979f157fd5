package pgq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// EventTxHandler is called for each event with a transaction of its own in the
// target database of a RemoteConsumer. An error rolls that back and delivers the
// batch again, without the events that were committed before; an error made by
// RetryAfter, RetryByPolicy or GiveUp sends this one event away. It must neither
// commit nor roll back.
type EventTxHandler func(ctx context.Context, tx pgx.Tx, ev *Event) error

func (EventTxHandler) isHandler() {}

// RemoteOptions change how a RemoteConsumer runs. The zero value is usable.
type RemoteOptions struct {
	ConsumerOptions
	// Ticks keeps the position in the target as the last tick done instead of
	// the last batch done. Then it is noticed when queue and target no longer
	// fit, because one of them was restored or moved, and it can be cured with
	// Rewind; the price is one commit in the target for a batch without events,
	// too. It needs a BatchTxHandler. Defaults to false.
	Ticks bool
	// Rewind moves the consumer to the tick that the target has, whenever they
	// do not fit; what the target lacks is applied, what it has is skipped.
	// Only with Ticks. Defaults to false: Run ends with ErrOutOfStep.
	Rewind bool
	// TargetName is the name under which the target keeps the position.
	// Defaults to the consumer's name.
	TargetName string
}

// RemoteConsumer works through the batches of a consumer and writes to another
// database, the target, exactly once: the target keeps in the same transaction
// what was done. It needs schema pgq_ext in the target.
type RemoteConsumer struct {
	c      *Consumer
	target *DB
	o      RemoteOptions
}

// NewRemoteConsumer makes a consumer of a queue in db that writes to target. The
// handler is a BatchTxHandler, which gets a transaction in the target for each
// batch, or an EventTxHandler. It does no I/O; both DB stay the caller's.
func NewRemoteConsumer(db *DB, queue, name string, target *DB, h Handler, o RemoteOptions) *RemoteConsumer {
	if o.TargetName == "" {
		o.TargetName = name
	}
	r := &RemoteConsumer{c: NewConsumer(db, queue, name, h, o.ConsumerOptions), target: target, o: o}
	r.c.kind.process, r.c.kind.elsewhere = r.process, true
	return r
}

// Run handles batch after batch until the context ends, as Consumer.Run does.
// Wherever it is cut, also between the commit in the target and the finish in
// the queue, and however many Run of the same name there are: what a handler
// wrote in its transaction is there once. What it did elsewhere, and events that
// a BatchTxHandler sends to the retry queue with Batch.RetryEvent, are at least
// once.
func (r *RemoteConsumer) Run(ctx context.Context) error {
	if err := r.check(); err != nil {
		return err
	}
	return r.c.run(ctx)
}

// check refuses a handler that does not fit.
func (r *RemoteConsumer) check() error {
	event, perEvent := r.c.handler.(EventTxHandler)
	batch, perBatch := r.c.handler.(BatchTxHandler)
	perEvent, perBatch = perEvent && event != nil, perBatch && batch != nil
	if !perBatch && (!perEvent || r.o.Ticks) {
		return fmt.Errorf("remote consumer %s on queue %s: %w: handler %T", r.c.name, r.c.queue, ErrBadParameter, r.c.handler)
	}
	return nil
}

// process handles one batch and finishes it.
func (r *RemoteConsumer) process(ctx context.Context, b *Batch) (next *Batch, err error) {
	bt := r.c.newBatchTrace(b)
	reader, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	empty := len(reader.chunk) == 0 && !r.c.o.EmptyBatches
	if empty && !r.o.Ticks {
		reader.close(ctx)
		return r.c.finishNext(ctx, r.c.db, b)
	}
	b.s.ahead = reader
	if !empty {
		ctx = bt.start(ctx)
		defer func() { bt.end(err) }()
	}
	var retries retryList
	if h, ok := r.c.handler.(EventTxHandler); ok {
		err = r.eachEvent(ctx, b, h, &retries)
	} else {
		err = r.whole(ctx, b, empty)
	}
	bt.handled(ctx, err)
	if b.s.ahead != nil {
		b.s.ahead.close(ctx) // nobody did read
	}
	switch {
	case errors.Is(err, errMoved):
		return nil, nil
	case err != nil:
		return nil, err
	case retries.any():
		return nil, r.c.finishWithRetries(ctx, b, retries)
	default:
		return r.c.finishNext(ctx, r.c.db, b)
	}
}

// targetTx begins a transaction in which the server waits for us no longer than the batch may take, or than TxSilence.
// Whoever freezes in it holds the row of the position, and everybody else out.
func (r *RemoteConsumer) targetTx(ctx context.Context) pgx.TxOptions {
	idle := r.c.o.TxSilence
	if deadline, ok := ctx.Deadline(); ok && idle == 0 {
		idle = max(time.Until(deadline), time.Second)
	}
	return silentTx(idle)
}

// inTarget runs f in a transaction of the target and commits it when f says so.
func (r *RemoteConsumer) inTarget(ctx context.Context, b *Batch, f func(tx pgx.Tx) (commit bool, err error)) error {
	tx, err := r.target.BeginTx(ctx, r.targetTx(ctx))
	if err != nil {
		return &handlerError{"begin target transaction of", b, err}
	}
	defer func() {
		ctx, cancel := settleContext(ctx)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit there is nothing to do
	}()
	commit, err := f(tx)
	if err != nil || !commit {
		return err
	}
	ctx, cancel := settleContext(ctx)
	defer cancel()
	if err := tx.Commit(ctx); err != nil {
		return &handlerError{"commit target transaction of", b, err}
	}
	return nil
}

// whole has a batch handled in one transaction of the target, unless the target
// has it.
func (r *RemoteConsumer) whole(ctx context.Context, b *Batch, empty bool) error {
	return r.inTarget(ctx, b, func(tx pgx.Tx) (bool, error) {
		todo, err := r.tag(ctx, tx, b)
		if err != nil || !todo {
			return false, err
		}
		if err := r.stillOpen(ctx, b); err != nil || empty {
			return err == nil, err
		}
		h := r.c.handler.(BatchTxHandler)
		if err := call(func() error { return h(ctx, tx, b) }); err != nil {
			return false, &handlerError{"handle", b, err}
		}
		return true, nil
	})
}

// tag notes in the target that the batch is done, and tells whether it has to be.
func (r *RemoteConsumer) tag(ctx context.Context, tx pgx.Tx, b *Batch) (todo bool, err error) {
	// This waits for other sessions of the same name.
	fresh, err := SetBatchDone(ctx, tx, r.o.TargetName, "", b.ID)
	if err != nil {
		return false, &handlerError{"note", b, err}
	}
	if !r.o.Ticks {
		return fresh, nil
	}
	last, known, err := LastTick(ctx, tx, r.o.TargetName, "")
	switch {
	case err != nil:
		return false, &handlerError{"note", b, err}
	case known && last == b.TickID:
		return false, nil
	case known && last != b.PrevTickID:
		return false, r.outOfStep(ctx, b, last)
	}
	if err := SetLastTick(ctx, tx, r.o.TargetName, "", b.TickID); err != nil {
		return false, &handlerError{"note", b, err}
	}
	return true, nil
}

// errMoved says that the consumer was moved, and with it the batch is gone.
var errMoved = errors.New("consumer was moved")

// outOfStep deals with a target whose last tick is not where the batch starts.
func (r *RemoteConsumer) outOfStep(ctx context.Context, b *Batch, last int64) error {
	if err := r.stillOpen(ctx, b); err != nil {
		return err // the target went on with somebody else
	}
	if !r.o.Rewind {
		return fmt.Errorf("batch %d of queue %s goes from tick %d to %d, target has done tick %d: %w",
			b.ID, b.Queue, b.PrevTickID, b.TickID, last, ErrOutOfStep)
	}
	if _, err := RegisterConsumerAt(ctx, r.c.db, b.Queue, b.Consumer, last); err != nil {
		return err
	}
	r.c.log.Warn("moved to the tick that the target has", "from", b.PrevTickID, "to", last)
	return errMoved
}

// stillOpen makes sure, after the target has let us in, that nobody finished the
// batch while we waited, or slept: the target remembers the last batch only, and
// would take an older one for new.
func (r *RemoteConsumer) stillOpen(ctx context.Context, b *Batch) error {
	const batchInfo = `select tick_id is not null from pgq.get_batch_info($1)`
	var isOpen bool
	if err := r.c.db.QueryRow(ctx, batchInfo, b.ID).Scan(&isOpen); err != nil {
		return fmt.Errorf("look at batch %d of queue %s: %w", b.ID, b.Queue, classify(err))
	}
	if !isOpen {
		return fmt.Errorf("batch %d of queue %s: %w", b.ID, b.Queue, ErrBatchGone)
	}
	return nil
}

// eachEvent has the events handled one by one, those the target has left out.
func (r *RemoteConsumer) eachEvent(ctx context.Context, b *Batch, h EventTxHandler, retries *retryList) error {
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		var retry *retryError
		err := r.inTarget(ctx, b, func(tx pgx.Tx) (bool, error) {
			fresh, err := SetEventDone(ctx, tx, r.o.TargetName, "", b.ID, ev.ID)
			if err != nil {
				return false, &handlerError{"note event of", b, err}
			}
			if !fresh {
				return false, nil
			}
			if err := r.stillOpen(ctx, b); err != nil {
				return false, err
			}
			err = call(func() error { return h(ctx, tx, ev) })
			if errors.As(err, &retry) {
				return false, nil
			}
			if err != nil {
				return false, &handlerError{fmt.Sprintf("handle event %d of", ev.ID), b, err}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		if retry != nil {
			r.c.log.Warn("event is left for later", "batch_id", b.ID, "event", ev.ID, "to", retry.where(), "after", retry.after, "err", retry.err)
			retries.add(ev.ID, retry)
		}
	}
	return nil
}

// IsBatchDone tells whether a batch is the last one that a consumer has done in
// this database. member is the name of a subconsumer, "" for none; so it is in
// all calls of pgq_ext.
func IsBatchDone(ctx context.Context, target Querier, consumer, member string, batch int64) (bool, error) {
	const isBatchDone = `select pgq_ext.is_batch_done($1, $2, $3)`
	return callBool(ctx, target, isBatchDone, consumer, member, batch)
}

// SetBatchDone notes, in the transaction that applies it, that a batch is done.
// fresh is false when it was the last one already: then apply nothing. It waits
// for other transactions of the same consumer.
func SetBatchDone(ctx context.Context, target Querier, consumer, member string, batch int64) (fresh bool, err error) {
	const setBatchDone = `select pgq_ext.set_batch_done($1, $2, $3)`
	return callBool(ctx, target, setBatchDone, consumer, member, batch)
}

// IsEventDone tells whether an event of the batch at hand is done.
func IsEventDone(ctx context.Context, target Querier, consumer, member string, batch, event int64) (bool, error) {
	const isEventDone = `select pgq_ext.is_event_done($1, $2, $3, $4)`
	return callBool(ctx, target, isEventDone, consumer, member, batch, event)
}

// SetEventDone notes, in the transaction that applies it, that an event is done.
// fresh is false when it was. The first event of another batch forgets those of
// the batch before.
func SetEventDone(ctx context.Context, target Querier, consumer, member string, batch, event int64) (fresh bool, err error) {
	const setEventDone = `select pgq_ext.set_event_done($1, $2, $3, $4)`
	return callBool(ctx, target, setEventDone, consumer, member, batch, event)
}

// LastTick is the last tick that a consumer has done in this database; known is
// false when there is none.
func LastTick(ctx context.Context, target Querier, consumer, member string) (tick int64, known bool, err error) {
	const getLastTick = `select pgq_ext.get_last_tick($1, $2)`
	var last *int64
	if err := target.QueryRow(ctx, getLastTick, consumer, member).Scan(&last); err != nil {
		return 0, false, fmt.Errorf("last tick of consumer %s in the target: %w", consumer, classify(err))
	}
	if last == nil {
		return 0, false, nil
	}
	return *last, true, nil
}

// SetLastTick notes, in the transaction that applies it, the last tick done.
func SetLastTick(ctx context.Context, target Querier, consumer, member string, tick int64) error {
	const setLastTick = `select pgq_ext.set_last_tick($1, $2, $3)`
	_, err := target.Exec(ctx, setLastTick, consumer, member, tick)
	return targetError(consumer, err)
}

// ForgetLastTick makes the target forget the position of a consumer: the next
// batch is taken as it comes.
func ForgetLastTick(ctx context.Context, target Querier, consumer, member string) error {
	const setLastTick = `select pgq_ext.set_last_tick($1, $2, null)`
	_, err := target.Exec(ctx, setLastTick, consumer, member)
	return targetError(consumer, err)
}

func callBool(ctx context.Context, target Querier, sql, consumer string, args ...any) (done bool, err error) {
	err = target.QueryRow(ctx, sql, append([]any{consumer}, args...)...).Scan(&done)
	return done, targetError(consumer, err)
}

func targetError(consumer string, err error) error {
	if err != nil {
		return fmt.Errorf("position of consumer %s in the target: %w", consumer, classify(err))
	}
	return nil
}
