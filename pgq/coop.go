package pgq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// CoopOptions change how a CoopConsumer runs. The zero value is usable.
type CoopOptions struct {
	ConsumerOptions
	// DeadInterval is after how long without a sign of life another member
	// loses its batch to this one. It must be longer than the heartbeats of all
	// members are apart. Below a second it is a second. Defaults to 1 min.
	DeadInterval time.Duration
	// Heartbeat is how often a member that works on a batch says so. Defaults
	// to a quarter of DeadInterval.
	Heartbeat time.Duration
	// StayRegistered leaves the member registered when Run ends. Defaults to
	// false: it leaves the group, unless it has an open batch, which another
	// member then takes over after its DeadInterval.
	StayRegistered bool
}

// CoopConsumer is one member of a cooperative group: the members share the
// batches of one consumer, each batch has one owner, and there is no order
// between batches. It needs schema pgq_coop.
type CoopConsumer struct {
	c      *Consumer
	member string
	o      CoopOptions
	calls  coopCalls // known after registration
}

// NewCoopConsumer makes a member of the group of that consumer. Members are
// told apart by their names, so each Run in each process needs its own. It does
// no I/O; the DB stays the caller's to close, after Run has returned. Run needs
// a second connection of it for heartbeats while the handler works.
func NewCoopConsumer(db *DB, queue, consumer, member string, h Handler, o CoopOptions) *CoopConsumer {
	if o.DeadInterval <= 0 {
		o.DeadInterval = time.Minute
	}
	o.DeadInterval = max(o.DeadInterval, time.Second)
	if o.Heartbeat <= 0 || o.Heartbeat > o.DeadInterval/2 {
		o.Heartbeat = o.DeadInterval / 4
	}
	m := &CoopConsumer{c: NewConsumer(db, queue, consumer, h, o.ConsumerOptions), member: member, o: o}
	m.c.member = member
	m.c.log = m.c.log.With("subconsumer", member)
	m.c.kind = kind{register: m.register, next: m.next, hold: m.hold}
	return m
}

// Run handles batch after batch of the group until the context ends, as
// Consumer.Run does. The group and the member are registered when they are not,
// the group at the newest tick.
//
// A batch whose owner shows no sign of life is given to another member. The old
// owner's context then ends with cause ErrBatchGone, whatever its handler did
// in the transaction of a BatchTxHandler is rolled back, and Run goes on with
// the next batch. Other handlers may have had their effect: then it happens
// twice, as always when delivery is at least once.
func (m *CoopConsumer) Run(ctx context.Context) error {
	err := m.c.Run(ctx)
	if !m.o.StayRegistered && err == nil {
		m.leave(ctx)
	}
	return err
}

// coopCalls are the statements of a member on one install of pgq_coop.
type coopCalls struct {
	finish func(b *Batch) nextCall
	touch  func(b *Batch) nextCall
}

// register joins the group, and finds out what the install can do.
func (m *CoopConsumer) register(ctx context.Context) error {
	const canTouch = `select to_regprocedure('pgq_coop.touch(bigint)') is not null`
	var touch bool
	if err := m.c.db.QueryRow(ctx, canTouch).Scan(&touch); err != nil {
		return fmt.Errorf("look for pgq_coop.touch: %w", classify(err))
	}
	m.calls = m.original()
	if touch {
		m.calls = ours
	}
	_, err := RegisterSubconsumer(ctx, m.c.db, m.c.queue, m.c.name, m.member)
	return err
}

// ours are the calls of the pgq_coop that package pgqsql installs: an id is
// worth nothing after the batch was taken over.
var ours = coopCalls{
	finish: func(b *Batch) nextCall {
		const finishBatch = `select pgq_coop.finish_batch($1)`
		return nextCall{sql: finishBatch, args: []any{b.ID}}
	},
	touch: func(b *Batch) nextCall {
		const touch = `select pgq_coop.touch($1)`
		return nextCall{sql: touch, args: []any{b.ID}}
	},
}

// original are the calls of the original pgq_coop. A batch keeps its id there
// when it is taken over, so its owner is looked at before it is closed; that
// leaves a window of the length of one statement. The sign of life is asking
// for a batch again: the answer is another one when ours was lost, and the next
// round will get that.
func (m *CoopConsumer) original() coopCalls {
	owner := m.c.name + "." + m.member
	return coopCalls{
		finish: func(b *Batch) nextCall {
			const finishBatch = `select coalesce((select pgq_coop.finish_batch($1)
  from pgq.get_batch_info($1) i where i.consumer_name = $2), 0)`
			return nextCall{sql: finishBatch, args: []any{b.ID, owner}}
		},
		touch: func(b *Batch) nextCall {
			const touch = `select coalesce((pgq_coop.next_batch($2, $3, $4) = $1)::int, 0)`
			return nextCall{sql: touch, args: []any{b.ID, m.c.queue, m.c.name, m.member}}
		},
	}
}

// next is the statement that opens our next batch, or one of a dead member.
func (m *CoopConsumer) next() nextCall {
	const nextBatchCustom = `
select n.id, i.tick_id, i.prev_tick_id, i.batch_end, i.batch_start, i.seq_end, i.seq_start
  from (select case when $5::int is null then $6::int
                    else greatest(0, least(coalesce(max(c.pending_events), 0), $5))::int end as min_count
          from pgq.get_consumer_info($1, $2) c) w
 cross join lateral pgq_coop.next_batch_custom($1, $2, $3, $4::bigint * interval '1 microsecond',
            w.min_count, $7::bigint * interval '1 microsecond', $8::bigint * interval '1 microsecond') n (id)
  left join lateral pgq.get_batch_info(n.id) i on true`
	o, merge := m.c.o, (*int64)(nil)
	if (o.Limits == BatchLimits{}) {
		merge = wish(int64(o.MaxMerge))
	}
	return nextCall{
		sql: nextBatchCustom,
		args: []any{
			m.c.queue, m.c.name, m.member, wish(o.Limits.MinLag.Microseconds()), merge,
			wish(int64(o.Limits.MinCount)), wish(o.Limits.MinInterval.Microseconds()), m.o.DeadInterval.Microseconds(),
		},
		scan: func(row pgx.Row, q Querier) (*Batch, error) {
			b, err := scanNext(row, q, m.c.queue, m.c.name)
			if b != nil {
				b.s.calls.finish = m.calls.finish
			}
			return b, err
		},
	}
}

// hold shows signs of life until release is called or the batch is lost.
func (m *CoopConsumer) hold(ctx context.Context, b *Batch) (context.Context, func() error) {
	return m.c.beat(ctx, b, m.o.Heartbeat, ErrBatchGone, func(ctx context.Context) (bool, error) {
		call := m.calls.touch(b)
		n, err := callInt(ctx, m.c.db, call.sql, call.args...)
		return n == 1, err
	})
}

// beat calls touch over and over until release is called, or touch says that
// what it touches is not ours any more: then the returned context ends with
// cause gone, and release returns errLost. A touch that fails is repeated with
// the next beat: that the finish is refused is what protects, the touch only
// keeps it from being.
func (c *Consumer) beat(ctx context.Context, b *Batch, every time.Duration, gone error, touch func(context.Context) (bool, error)) (context.Context, func() error) {
	held, lose := context.WithCancelCause(ctx)
	touching, abandon := context.WithCancel(ctx)
	var (
		quit, done = make(chan struct{}), make(chan struct{})
		lost       atomic.Bool
	)
	go func() {
		defer close(done)
		timer := time.NewTimer(every)
		defer timer.Stop()
		for {
			select {
			case <-quit:
				return
			case <-touching.Done():
				return
			case <-timer.C:
			}
			switch mine, err := touch(touching); {
			case touching.Err() != nil:
				return
			case err != nil:
				c.log.Warn("heartbeat failed", "err", err)
			case !mine:
				lost.Store(true)
				lose(gone)
				return
			}
			timer.Reset(every)
		}
	}()
	return held, func() error {
		close(quit)
		if !b.s.finished { // else it may wait for our own transaction
			patience := time.NewTimer(touchGrace)
			defer patience.Stop()
			select {
			case <-done:
			case <-patience.C:
			}
		}
		abandon()
		<-done
		lose(context.Canceled)
		if lost.Load() {
			return errLost
		}
		return nil
	}
}

// touchGrace is how long a heartbeat that is under way when the handler is done
// may take, before it is cancelled.
const touchGrace = time.Second

// leave takes the member out of its group, if it has no open batch.
func (m *CoopConsumer) leave(ctx context.Context) {
	ctx, cancel := settleContext(ctx)
	defer cancel()
	_, err := UnregisterSubconsumer(ctx, m.c.db, m.c.queue, m.c.name, m.member, false)
	switch {
	case errors.Is(err, ErrBatchOpen):
		m.c.log.Info("left an open batch for the other members", "after", m.o.DeadInterval)
	case err != nil:
		m.c.log.Warn("member stays registered", "err", err)
	}
}

// RegisterSubconsumer adds a member to the cooperative group of a consumer, and
// registers the consumer at the newest tick when it is missing. created is false
// when it was a member already. Errors: ErrQueueNotFound.
func RegisterSubconsumer(ctx context.Context, q Querier, queue, consumer, member string) (created bool, err error) {
	const register = `select pgq_coop.register_subconsumer($1, $2, $3)`
	n, err := callInt(ctx, q, register, queue, consumer, member)
	if err != nil {
		return false, fmt.Errorf("register subconsumer %s of consumer %s on queue %s: %w", member, consumer, queue, err)
	}
	return n == 1, nil
}

// UnregisterSubconsumer removes a member from its group; removed is false when
// there was none of that name. With an open batch it is refused with
// ErrBatchOpen, unless dropBatch is true: then the group never sees the events
// of that batch again.
func UnregisterSubconsumer(ctx context.Context, q Querier, queue, consumer, member string, dropBatch bool) (removed bool, err error) {
	const unregister = `select pgq_coop.unregister_subconsumer($1, $2, $3, $4::int)`
	handling := 0
	if dropBatch {
		handling = 1
	}
	n, err := callInt(ctx, q, unregister, queue, consumer, member, handling)
	if err != nil {
		return false, fmt.Errorf("unregister subconsumer %s of consumer %s from queue %s: %w", member, consumer, queue, err)
	}
	return n == 1, nil
}
