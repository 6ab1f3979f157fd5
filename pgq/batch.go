package pgq

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
)

// defaultFetchSize is how many events are in memory at once.
const defaultFetchSize = 1000

// Batch is an open batch of one consumer: the events between two ticks. The
// events are the same however often they are read, until the batch is finished.
// A Batch is bound to the Querier it came from; see With. Not safe for
// concurrent use.
type Batch struct {
	// ID identifies the batch while it is open.
	ID       int64
	Queue    string
	Consumer string
	// TickID and TickTime are the tick that ends the batch, PrevTickID and
	// PrevTickTime the one it starts after. Times are UTC.
	TickID       int64
	PrevTickID   int64
	TickTime     time.Time
	PrevTickTime time.Time
	// SeqStart and SeqEnd are the event counter at the two ticks. The
	// difference hints at the size and proves nothing, not even emptiness.
	SeqStart int64
	SeqEnd   int64

	q Querier
	s *batchState
}

// batchState is what the copies of a Batch made by With have in common.
type batchState struct {
	fetchSize int
	ahead     *eventReader // opened by Run before the handler asks
	finished  bool         // Finish answered 1
	events    int          // read so far
	tally     tally
	tel       *telemetry                               // nil: whatever ctx brings
	received  operation                                // the call that opened it, when Run did
	span      trace.SpanContext                        // under which it is handled, when Run does
	calls     batchCalls                               // how it is read and closed
	slots     []Slot                                   // of an ordered group
	onRead    func(ctx context.Context, chunk []Event) // sees every chunk that is read; may be nil
}

// batchCalls are the statements of batches that are no plain consumer's. Nil
// fields: as a plain consumer does.
type batchCalls struct {
	// finish answers 1, or 0 when the batch is not ours any more.
	finish func(b *Batch) nextCall
	// cursor declares a cursor of that name over the events and reads the
	// first ones.
	cursor func(b *Batch, name string, size int) nextCall
	// retry is the error of all attempts to send events to the retry queue.
	retry error
	// gone is what the loss of the batch means, beside ErrBatchGone.
	gone error
	// finished hears of the finish, before any commit.
	finished func()
}

// finishCall is the statement that closes the batch.
func (b *Batch) finishCall() nextCall {
	if b.s.calls.finish != nil {
		return b.s.calls.finish(b)
	}
	const finishBatch = `select pgq.finish_batch($1)`
	return nextCall{sql: finishBatch, args: []any{b.ID}}
}

// cursorCall is the statement that begins to read the batch.
func (b *Batch) cursorCall(name string, size int) nextCall {
	if b.s.calls.cursor != nil {
		return b.s.calls.cursor(b, name, size)
	}
	const getBatchCursor = `select ` + eventColumns + ` from pgq.get_batch_cursor($1, $2, $3::int)`
	return nextCall{sql: getBatchCursor, args: []any{b.ID, name, size}}
}

// BatchLimits asks for batches of several ticks, or for old ones only. Zero
// fields are no wish.
type BatchLimits struct {
	// MinLag is how old the end of the batch must be.
	MinLag time.Duration
	// MinCount is about how many events the batch should span.
	MinCount int
	// MinInterval is how much time the batch should span.
	MinInterval time.Duration
}

// NextBatch opens the next batch of a consumer, or returns its open one. It
// returns nil, without an error, when there is no tick after the last batch
// yet. Errors: ErrNotSubscribed, ErrPositionLost.
func NextBatch(ctx context.Context, q Querier, queue, consumer string) (*Batch, error) {
	return nextBatch(ctx, q, queue, consumer, nextInfo(queue, consumer))
}

// NextBatchCustom is NextBatch with limits: when count or interval is reached
// by the newest tick, the batch reaches up to it, or to the first tick that
// satisfies a wish if the newest is more than twice beyond it. Nil when the
// limits are not reached. An open batch is returned whatever the limits.
func NextBatchCustom(ctx context.Context, q Querier, queue, consumer string, l BatchLimits) (*Batch, error) {
	return nextBatch(ctx, q, queue, consumer, nextCustom(queue, consumer, l))
}

// nextCall is a statement that opens the next batch.
type nextCall struct {
	sql  string
	args []any
	scan func(row pgx.Row, q Querier) (*Batch, error) // nil: the row is nextColumns
}

// read reads the row of the call; nil when there is no batch.
func (n nextCall) read(row pgx.Row, q Querier, queue, consumer string) (*Batch, error) {
	if n.scan != nil {
		return n.scan(row, q)
	}
	return scanNext(row, q, queue, consumer)
}

const nextColumns = `batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time, cur_tick_event_seq, prev_tick_event_seq`

func nextInfo(queue, consumer string) nextCall {
	return nextCall{
		sql:  `select ` + nextColumns + ` from pgq.next_batch_info($1, $2)`,
		args: []any{queue, consumer},
	}
}

func nextCustom(queue, consumer string, l BatchLimits) nextCall {
	const nextBatchCustom = `select ` + nextColumns + ` from pgq.next_batch_custom($1, $2,
  $3::bigint * interval '1 microsecond', $4::int, $5::bigint * interval '1 microsecond')`
	return nextCall{sql: nextBatchCustom, args: []any{
		queue, consumer, wish(l.MinLag.Microseconds()), wish(int64(l.MinCount)), wish(l.MinInterval.Microseconds()),
	}}
}

func wish(n int64) *int64 {
	if n <= 0 {
		return nil
	}
	return &n
}

// nextMerged takes all waiting ticks as one batch, of about count events at
// most: asking for exactly as many events as wait lets the newest tick qualify
// at once. Without a subscription it has no row.
func nextMerged(queue, consumer string, count int) nextCall {
	const nextBatchCustom = `select ` + nextColumns + `
  from pgq.get_consumer_info($1, $2) c
 cross join lateral pgq.next_batch_custom($1, $2, null,
            greatest(0, least(coalesce(c.pending_events, 0), $3))::int, null)`
	return nextCall{sql: nextBatchCustom, args: []any{queue, consumer, int64(min(count, math.MaxInt32))}}
}

func nextBatch(ctx context.Context, q Querier, queue, consumer string, call nextCall) (*Batch, error) {
	b, err := call.read(q.QueryRow(ctx, call.sql, call.args...), q, queue, consumer)
	if err != nil {
		return nil, fmt.Errorf("next batch of consumer %s on queue %s: %w", consumer, queue, err)
	}
	return b, nil
}

// scanNext reads a row of nextColumns; nil when there is no batch.
func scanNext(row pgx.Row, q Querier, queue, consumer string) (*Batch, error) {
	var (
		id, tick, prev, seqEnd, seqStart *int64
		tickTime, prevTime               *time.Time
	)
	err := row.Scan(&id, &tick, &prev, &tickTime, &prevTime, &seqEnd, &seqStart)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNotSubscribed
	}
	if err != nil {
		return nil, classify(err)
	}
	if id == nil {
		return nil, nil
	}
	if tick == nil || prev == nil || tickTime == nil || prevTime == nil {
		return nil, ErrPositionLost // an open batch one of whose ticks is gone
	}
	b := &Batch{
		ID: *id, Queue: queue, Consumer: consumer,
		TickID: *tick, PrevTickID: *prev, TickTime: tickTime.UTC(), PrevTickTime: prevTime.UTC(),
		q: q, s: &batchState{fetchSize: defaultFetchSize},
	}
	if seqStart != nil && seqEnd != nil {
		b.SeqStart, b.SeqEnd = *seqStart, *seqEnd
	}
	return b, nil
}

// With returns the same batch bound to another Querier, for example to the
// transaction that is to finish it. Both see the other's Finish.
func (b *Batch) With(q Querier) *Batch {
	c := *b
	c.q = q
	return &c
}

// SetFetchSize changes how many events are read at once, and so are in memory;
// values below 1 are ignored. Defaults to 1000.
func (b *Batch) SetFetchSize(n int) {
	if n > 0 {
		b.s.fetchSize = n
	}
}

// Events reads the events of the batch in the order of their ids, with a cursor
// when they are more than the fetch size: memory stays bounded however big the
// batch is. Bound to a transaction it reads there; bound to a pool or a
// connection it holds a read-only transaction open between fetches. An error
// ends the sequence; ErrBatchGone when the batch is not open any more.
func (b *Batch) Events(ctx context.Context) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		r := b.s.ahead
		b.s.ahead = nil
		if r == nil {
			var err error
			if r, err = b.open(ctx); err != nil {
				yield(nil, err)
				return
			}
		}
		defer r.close(ctx)
		for {
			for i := range r.chunk {
				if !yield(&r.chunk[i], nil) {
					return
				}
			}
			if !r.more {
				return
			}
			if err := r.fetch(ctx); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// eventReader reads one batch chunk by chunk.
type eventReader struct {
	b      *Batch
	chunk  []Event
	more   bool
	cursor string // quoted name; "" when there is none to fetch from
	q      Querier
	tx     pgx.Tx // the reader's own transaction, if it needed one
}

// beginner is a Querier that is no transaction itself.
type beginner interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

// open reads the first chunk.
func (b *Batch) open(ctx context.Context) (*eventReader, error) {
	if r := b.s.ahead; r != nil { // came with the batch
		b.s.ahead = nil
		r.seen(ctx)
		return r, nil
	}
	r := &eventReader{b: b, q: b.q}
	err := r.open(ctx)
	if err != nil {
		r.close(ctx)
		return nil, fmt.Errorf("read batch %d of queue %s: %w", b.ID, b.Queue, classify(err))
	}
	return r, nil
}

func (r *eventReader) open(ctx context.Context) error {
	size := r.b.s.fetchSize
	db, ok := r.q.(beginner)
	if !ok || inTransaction(r.q) {
		return r.declare(ctx, size)
	}
	// The counter says whether one fetch is likely to do. Then one statement
	// is all it takes; asking for one event more tells whether it was right.
	if r.b.SeqEnd-r.b.SeqStart <= int64(size) {
		if err := r.declare(ctx, size+1); err != nil {
			return err
		}
		r.cursor, r.more = "", false // went with the statement's transaction
		if len(r.chunk) <= size {
			return nil
		}
		r.chunk = nil
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return err
	}
	r.tx, r.q = tx, tx
	return r.declare(ctx, size)
}

// inTransaction tells whether a connection was put into a transaction by hand.
func inTransaction(q Querier) bool {
	const idle = 'I'
	switch c := q.(type) {
	case *pgx.Conn:
		return c.PgConn().TxStatus() != idle
	case *pgxpool.Conn:
		return c.Conn().PgConn().TxStatus() != idle
	default:
		return false
	}
}

// declare opens a cursor and reads its first chunk of up to size events.
func (r *eventReader) declare(ctx context.Context, size int) error {
	// One transaction may read several batches, and one batch several times.
	name := fmt.Sprintf("skyd_%d_%x", r.b.ID, rand.Uint64())
	call := r.b.cursorCall(name, size)
	rows, err := r.q.Query(ctx, call.sql, call.args...)
	if err != nil {
		return err
	}
	expect := min(max(int(r.b.SeqEnd-r.b.SeqStart), 0), size)
	if r.chunk, err = scanEvents(rows, expect); err != nil {
		return err
	}
	r.cursor = pgx.Identifier{name}.Sanitize()
	r.more = len(r.chunk) == size
	if r.tx != nil || len(r.chunk) <= r.b.s.fetchSize {
		r.seen(ctx)
	}
	return nil
}

// fetch reads the next chunk.
func (r *eventReader) fetch(ctx context.Context) error {
	size := r.b.s.fetchSize
	// The statement is new every time: nothing of it is worth remembering.
	rows, err := r.q.Query(ctx, "fetch "+strconv.Itoa(size)+" from "+r.cursor, pgx.QueryExecModeDescribeExec)
	if err == nil {
		r.chunk, err = scanEvents(rows, size)
	}
	if err != nil {
		return fmt.Errorf("read batch %d of queue %s: %w", r.b.ID, r.b.Queue, classify(err))
	}
	r.more = len(r.chunk) == size
	r.seen(ctx)
	return nil
}

func (r *eventReader) seen(ctx context.Context) {
	if r.b.s.onRead != nil && len(r.chunk) > 0 {
		r.b.s.onRead(ctx, r.chunk)
	}
}

// close gives back what the reader holds. In somebody else's transaction that
// is the cursor, whose leftover rows cost nothing until the transaction ends.
func (r *eventReader) close(ctx context.Context) {
	if r.tx == nil {
		return
	}
	ctx, cancel := settleContext(ctx)
	defer cancel()
	_ = r.tx.Rollback(ctx) // it only read; a broken connection is the pool's to notice
	r.tx = nil
}

// settleTimeout bounds the statements that clean up or settle after the
// caller's context has ended.
const settleTimeout = 5 * time.Second

// settleContext is a context for ending what was begun under ctx, also when
// ctx was cancelled meanwhile.
func settleContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}

// RetryEvent puts one event of the batch into the retry queue, to be delivered
// again to this consumer after about the given time. An event that waits there
// already is left alone. It does not finish the batch. Errors: ErrEventNotFound,
// ErrBatchGone.
func (b *Batch) RetryEvent(ctx context.Context, id int64, after time.Duration) error {
	return b.retry(ctx, []int64{id}, []time.Duration{after})
}

// retry puts events into the retry queue, all or none.
func (b *Batch) retry(ctx context.Context, ids []int64, after []time.Duration) (err error) {
	if b.s.calls.retry != nil {
		return fmt.Errorf("retry %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, b.s.calls.retry)
	}
	ctx, op := b.settle(ctx, OpRetry)
	if op.recording() {
		if len(ids) == 1 {
			op.span.SetAttributes(messageID(ids[0]))
		} else {
			op.span.SetAttributes(KeyMessagingBatchCount.Int(len(ids)))
		}
	}
	defer func() { b.telemetry(ctx).end(ctx, op, err) }()
	micros := make([]int64, len(after))
	for i, d := range after {
		micros[i] = d.Microseconds()
	}
	const eventRetry = `
select count(pgq.event_retry($1, e.id, now() + e.after * interval '1 microsecond'))
  from unnest($2::bigint[], $3::bigint[]) as e (id, after)`
	if _, err := b.q.Exec(ctx, eventRetry, b.ID, ids, micros); err != nil {
		return fmt.Errorf("retry %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, classify(err))
	}
	b.s.tally.retried += len(ids)
	return nil
}

// RetryAll puts all events of the batch into the retry queue, with the time
// rounded up to seconds, and returns how many were not waiting there already.
// It does not finish the batch. Errors: ErrBatchGone.
func (b *Batch) RetryAll(ctx context.Context, after time.Duration) (n int, err error) {
	if b.s.calls.retry != nil {
		return 0, fmt.Errorf("retry batch %d of queue %s: %w", b.ID, b.Queue, b.s.calls.retry)
	}
	ctx, op := b.settle(ctx, OpRetry)
	defer func() { b.telemetry(ctx).end(ctx, op, err) }()
	secs := int64(math.Ceil(after.Seconds()))
	count, err := callInt(ctx, b.q, `select pgq.batch_retry($1, $2::int)`, b.ID, secs)
	if err != nil {
		return 0, fmt.Errorf("retry batch %d of queue %s: %w", b.ID, b.Queue, err)
	}
	b.s.tally.retried += int(count)
	return int(count), nil
}

// Finish closes the batch and moves the consumer behind it. ErrBatchGone means
// that the batch was not open any more: somebody else finished it, or the
// consumer was moved, and what was done for it must be undone or will be done
// again. Given a transaction, it takes effect with the commit.
func (b *Batch) Finish(ctx context.Context) (err error) {
	ctx, op := b.settle(ctx, OpFinish)
	defer func() { b.telemetry(ctx).end(ctx, op, err) }()
	call := b.finishCall()
	n, err := callInt(ctx, b.q, call.sql, call.args...)
	return b.finished(n, err)
}

// finished turns the answer of finish_batch into an error.
func (b *Batch) finished(n int64, err error) error {
	if err == nil && n == 0 {
		if err = ErrBatchGone; b.s.calls.gone != nil {
			err = fmt.Errorf("%w: %w", b.s.calls.gone, ErrBatchGone)
		}
	}
	if err != nil {
		return fmt.Errorf("finish batch %d of queue %s: %w", b.ID, b.Queue, err)
	}
	b.s.finished = true
	if b.s.calls.finished != nil {
		b.s.calls.finished()
	}
	return nil
}

// settle begins an operation that settles the batch or an event of it.
func (b *Batch) settle(ctx context.Context, name string) (context.Context, operation) {
	ctx, op := b.telemetry(ctx).start(ctx, trace.SpanKindClient, name, OpTypeSettle, b.Queue, b.Consumer)
	if op.recording() {
		op.span.SetAttributes(KeyPgqBatchID.Int64(b.ID))
	}
	return ctx, op
}

func (b *Batch) telemetry(ctx context.Context) *telemetry {
	if b.s.tel != nil {
		return b.s.tel
	}
	return contextTelemetry(ctx)
}
