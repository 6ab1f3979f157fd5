package pgq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Handler is what a Consumer does with its batches: an EventHandler, a
// BatchHandler or a BatchTxHandler.
type Handler interface {
	isHandler()
}

// EventHandler is called for each event, in order. When it returns an error the
// whole batch fails and is delivered again, with the events before it: one
// poisoned event holds up the queue for ever, and loses nothing. Other ways are
// for the handler to say, by RetryAfter, RetryByPolicy or GiveUp, or for all
// errors ConsumerOptions.EventRetry or ConsumerOptions.NackEvents.
type EventHandler func(ctx context.Context, ev *Event) error

// BatchHandler is called with each batch. An error delivers the whole batch
// again. Run finishes the batch when it returns nil.
type BatchHandler func(ctx context.Context, b *Batch) error

// BatchTxHandler is called with each batch and a transaction in the queue's
// database. What it writes there commits together with the finish of the batch,
// so it takes effect exactly once; on an error all of it is rolled back and the
// batch delivered again. It must neither commit nor roll back. The batch is
// bound to the transaction.
type BatchTxHandler func(ctx context.Context, tx pgx.Tx, b *Batch) error

func (EventHandler) isHandler()   {}
func (BatchHandler) isHandler()   {}
func (BatchTxHandler) isHandler() {}

// ConsumerOptions change how a Consumer runs. The zero value is usable.
type ConsumerOptions struct {
	// Register registers the consumer at the newest tick when Run starts, if
	// it is not registered yet. Defaults to false: a missing registration ends
	// Run with ErrNotSubscribed.
	Register bool
	// PollInterval is how often the queue is asked without being woken.
	// Defaults to 1 s. While no notifications can be had it is at most 1 s.
	PollInterval time.Duration
	// NoListen turns off waiting for notifications of new ticks, which take a
	// connection of their own. Turn it off behind a transaction pooler.
	// Defaults to false.
	NoListen bool
	// FetchSize is how many events are in memory at once. Defaults to 1000.
	FetchSize int
	// MaxMerge lets a consumer that lags take all waiting ticks as one batch of
	// about so many events at most. It saves commits when ticks are frequent; a
	// failure then repeats more. Defaults to 0: one tick, one batch. Limits win.
	MaxMerge int
	// Limits ask for bigger or older batches; see BatchLimits. Defaults to none.
	Limits BatchLimits
	// TickWait lets the consumer ask for the tick itself: committed events wait
	// for it about so long, whatever the settings of the queue's ticker. 2 ms
	// is a useful minimum. One snapshot check per period serves all consumers
	// of the DB; while nothing is committed it is all that happens. Beside the
	// C extension the ticker settings of the queue still decide. Needs
	// pgq.receive_batch and no Limits. Defaults to 0: ticks come from outside.
	TickWait time.Duration
	// CallTimeout limits each call that opens or finishes a batch, so that a
	// server that does not answer is noticed. Defaults to 1 min.
	CallTimeout time.Duration
	// EventRetry is for an EventHandler: an event whose handling failed goes to
	// the retry queue for so long instead of failing its batch. Defaults to 0:
	// the batch fails.
	EventRetry time.Duration
	// NackEvents is for an EventHandler and comes before EventRetry: an event
	// whose handling failed is sent round again by the backoff policy of the
	// queue and becomes a dead letter when max_retries is reached, as with
	// RetryByPolicy. Defaults to false.
	NackEvents bool
	// EmptyBatches calls batch handlers for batches without events, too.
	// Defaults to false: they are finished without a call.
	EmptyBatches bool
	// BackoffMin and BackoffMax bound the jittered, doubling pause after a
	// failure of the database or of the handler. They default to 100 ms and
	// 10 s.
	BackoffMin time.Duration
	BackoffMax time.Duration
	// Fence is called first in the transaction of a BatchTxHandler; its error
	// rolls the transaction back. It is for workers under a lease: see Fence.
	// Defaults to none.
	Fence func(ctx context.Context, tx Querier) error
	// TxSilence is for handlers that get a transaction: its server ends it when
	// it hears nothing of us in it for so long, so that whoever froze there
	// keeps nobody out any longer, neither the next owner of the position nor
	// the other members of a group. Defaults to none, in the target of a
	// RemoteConsumer to what is left of the deadline of the context.
	TxSilence time.Duration
	// Logger gets failures and recoveries. Defaults to none.
	Logger *slog.Logger
	// TracerProvider and MeterProvider get spans and metrics. They default to
	// the global ones.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
}

// fallbackPoll bounds the poll interval while there are no notifications.
const fallbackPoll = time.Second

func (o ConsumerOptions) withDefaults() ConsumerOptions {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.PollInterval, time.Second)
	set(&o.CallTimeout, time.Minute)
	set(&o.BackoffMin, 100*time.Millisecond)
	set(&o.BackoffMax, 10*time.Second)
	if o.FetchSize <= 0 {
		o.FetchSize = defaultFetchSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Consumer works through the batches of one consumer on one queue.
type Consumer struct {
	db      *DB
	queue   string
	name    string
	handler Handler
	o       ConsumerOptions
	log     *slog.Logger
	tel     *telemetry
	server  []attribute.KeyValue
	member  string // of a cooperative group
	kind    kind

	noReceive atomic.Bool // the database has no pgq.receive_batch
	running   atomic.Bool
	timed     bool // batches remember the times of their events
}

// kind is what other consumers do differently from a plain one. Nil fields: as
// a plain consumer does.
type kind struct {
	// register is called until it succeeds, before the first batch.
	register func(ctx context.Context) error
	// before is called before every batch; stale says that a batch that was
	// opened before it is not to be handled.
	before func(ctx context.Context) (stale bool, err error)
	// next is the statement that opens the next batch.
	next func() nextCall
	// hold keeps a batch ours while its handler works. The handler gets the
	// context, which ends when the batch is lost; release says whether it was.
	hold func(ctx context.Context, b *Batch) (held context.Context, release func() error)
	// elsewhere tells that the numbers of batches are kept in another database:
	// a crash of this one must not give them out again, so they are committed
	// synchronously where the server is told not to.
	elsewhere bool
	// process handles and finishes a batch.
	process func(ctx context.Context, b *Batch) (next *Batch, err error)
	// failed hears of a batch whose handler failed, in place of a pause.
	failed func(b *Batch, err error)
}

// NewConsumer makes a consumer of that name on a queue. It does no I/O; the DB
// stays the caller's to close, after Run has returned.
func NewConsumer(db *DB, queue, name string, h Handler, o ConsumerOptions) *Consumer {
	o = o.withDefaults()
	return &Consumer{
		db: db, queue: queue, name: name, handler: h, o: o,
		log:    o.Logger.With("queue", queue, "consumer", name),
		tel:    newTelemetry(o.TracerProvider, o.MeterProvider),
		server: ServerAttributes(db.Config().ConnConfig),
	}
}

// Run handles batch after batch until the context ends, and then returns nil;
// the batch at hand is finished if its handler succeeds, else left open to be
// delivered again. Lost connections, also a restart of the database, and errors
// and panics of the handler are logged and tried again after a pause. What
// cannot be cured that way (see Permanent) ends Run with the error.
//
// Several consumers of one name, in one or many processes, get the same
// batches: with a BatchTxHandler only one of them takes effect, with the other
// handlers both do. Use one. A second Run of the same Consumer while the first
// one is under way is refused with ErrBadParameter.
func (c *Consumer) Run(ctx context.Context) error {
	fits := false
	switch h := c.handler.(type) {
	case EventHandler:
		fits = h != nil
	case BatchHandler:
		fits = h != nil
	case BatchTxHandler:
		fits = h != nil
	}
	if !fits {
		return fmt.Errorf("consumer %s on queue %s: %w: handler %T is nil or does not fit", c.name, c.queue, ErrBadParameter, c.handler)
	}
	return c.run(ctx)
}

// underWay refuses a second Run at the same time.
func (c *Consumer) underWay() error {
	return fmt.Errorf("consumer %s on queue %s: %w: Run is under way already", c.name, c.queue, ErrBadParameter)
}

// run is Run with a handler that is known to fit.
func (c *Consumer) run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return c.underWay()
	}
	defer c.running.Store(false)
	var (
		wg   sync.WaitGroup
		wake *listener
	)
	if !c.o.NoListen {
		wake = newListener(c.db, WakeupChannel(c.queue), c.log, c.backoff)
		lctx, cancel := context.WithCancel(ctx)
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { wake.run(lctx) })
	}
	var watch *watch
	if c.o.TickWait > 0 && c.fused() {
		watch = c.db.watcher.join(ctx, c.db, c.queue, c.o.TickWait)
		defer watch.leave()
	}
	err := c.loop(ctx, wake, watch)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// loop returns when the context ends or with a permanent error.
func (c *Consumer) loop(ctx context.Context, wake *listener, watch *watch) error {
	var (
		next       *Batch
		failures   int
		registered = !c.o.Register && c.kind.register == nil
		rest       = pauseWatch{c: c}
	)
	for ctx.Err() == nil {
		var err error
		if registered && c.kind.before != nil {
			var stale bool
			if stale, err = c.kind.before(ctx); stale {
				next = nil
			}
		}
		switch {
		case err != nil:
		case !registered:
			err = c.register(ctx)
			registered = err == nil
		case rest.paused(ctx):
			sleep(ctx, c.o.PollInterval)
		case next == nil:
			if next, err = c.next(ctx); err == nil && next == nil {
				failures = 0
				c.wait(ctx, wake, watch)
			}
		default:
			b := next
			next, err = c.process(ctx, b)
			if errors.Is(err, ErrBatchGone) {
				// Somebody else closed it. The database knows where we stand.
				c.log.Warn("batch was closed or taken over by somebody else", "batch_id", b.ID, "err", err)
				err = nil
			}
			if err == nil && failures > 0 {
				c.log.Info("batch succeeded again", "batch_id", b.ID, "failures", failures)
			}
			if err == nil {
				failures = 0
			}
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if c.db.closed.Load() {
			return fmt.Errorf("consumer %s on queue %s: %w", c.name, c.queue, ErrClosed)
		}
		var he *handlerError
		isHandlers := errors.As(err, &he)
		if Permanent(err) && !isHandlers {
			return err
		}
		failures++
		c.log.Warn("consumer failed, trying again", "err", err, "failures", failures)
		if isHandlers && c.kind.failed != nil {
			c.kind.failed(he.b, he.err)
			continue
		}
		sleep(ctx, c.backoff(failures))
	}
	return nil
}

func (c *Consumer) register(ctx context.Context) error {
	if c.kind.register != nil {
		return c.kind.register(ctx)
	}
	ctx, cancel := c.limited(ctx)
	defer cancel()
	_, err := RegisterConsumer(ctx, c.db, c.queue, c.name)
	return err
}

// backoff is the pause after the nth failure in a row: doubling, with jitter
// over its upper half.
func (c *Consumer) backoff(n int) time.Duration {
	d := c.o.BackoffMin << min(max(n-1, 0), 20)
	if d <= 0 || d > c.o.BackoffMax {
		d = c.o.BackoffMax
	}
	return d/2 + rand.N(d/2+1)
}

// sleep waits, at most until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// wait returns when it is time to ask for a batch again.
func (c *Consumer) wait(ctx context.Context, wake *listener, watch *watch) {
	d := c.o.PollInterval
	var woken, watched <-chan struct{}
	if wake != nil {
		woken = wake.c
		if !wake.listening.Load() {
			d = min(d, fallbackPoll)
		}
	}
	if watch != nil && c.fused() {
		watched = watch.c
		d = max(d, watchedPoll)
		watch.begin()
		defer watch.end()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-woken:
	case <-watched:
	case <-t.C:
	}
}

// nextCall is the statement that opens our next batch.
func (c *Consumer) nextCall() nextCall {
	switch {
	case c.kind.next != nil:
		return c.kind.next()
	case c.o.Limits != BatchLimits{}:
		return nextCustom(c.queue, c.name, c.o.Limits)
	case c.o.MaxMerge > 0:
		return nextMerged(c.queue, c.name, c.o.MaxMerge)
	default:
		return nextInfo(c.queue, c.name)
	}
}

// next opens the next batch; nil when there is none.
func (c *Consumer) next(ctx context.Context) (*Batch, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	op := c.tel.begin(OpNextBatch, OpTypeReceive, c.queue, c.name)
	if c.fused() {
		if b, ok, err := c.receiveNext(ctx); ok {
			c.tel.measure(ctx, c.tel.opDuration, op, err)
			return c.adopt(b, op), err
		}
	}
	b, err := nextBatch(ctx, c.db, c.queue, c.name, c.nextCall())
	c.tel.measure(ctx, c.tel.opDuration, op, err)
	return c.adopt(b, op), err
}

// adopt makes a batch ours.
func (c *Consumer) adopt(b *Batch, received operation) *Batch {
	if b != nil {
		b.s.tel = c.tel
		b.s.fetchSize = c.o.FetchSize
		b.s.tally.timed = c.timed
		b.s.received = received
	}
	return b
}

// handlerError marks an error as caused by what a handler did: it fails the
// batch, and is never a reason to end Run.
type handlerError struct {
	doing string
	b     *Batch
	err   error
}

func (e *handlerError) Error() string {
	return fmt.Sprintf("%s batch %d of queue %s: %v", e.doing, e.b.ID, e.b.Queue, e.err)
}
func (e *handlerError) Unwrap() error { return e.err }

// call runs a handler and turns its panic into an error.
func call(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrHandlerPanic, p, debug.Stack())
		}
	}()
	return f()
}

// errLost marks the loss of a batch that was seen while its handler worked.
var errLost = fmt.Errorf("lost while it was worked on: %w", ErrBatchGone)

// handle calls a handler and keeps its batch ours meanwhile. When the batch was
// lost the error is errLost, whatever the handler returned.
func (c *Consumer) handle(ctx context.Context, b *Batch, f func(ctx context.Context) error) error {
	if c.kind.hold == nil {
		return call(func() error { return f(ctx) })
	}
	held, release := c.kind.hold(ctx, b)
	err := call(func() error { return f(held) })
	if lost := release(); lost != nil && !b.s.finished {
		return fmt.Errorf("batch %d of queue %s: %w", b.ID, b.Queue, errors.Join(lost, err))
	}
	return err
}

// process handles and finishes one batch, and opens the next one on the way
// when it can.
func (c *Consumer) process(ctx context.Context, b *Batch) (next *Batch, err error) {
	if c.kind.process != nil {
		return c.kind.process(ctx, b)
	}
	if h, ok := c.handler.(BatchTxHandler); ok {
		return c.processTx(ctx, b, h)
	}
	return c.processPlain(ctx, b)
}

// processPlain runs a handler first and finishes the batch then: at least once.
func (c *Consumer) processPlain(ctx context.Context, b *Batch) (next *Batch, err error) {
	bt := c.newBatchTrace(b)
	reader, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	if len(reader.chunk) == 0 && !c.o.EmptyBatches {
		reader.close(ctx)
		return c.finishNext(ctx, c.db, b)
	}
	b.s.ahead = reader
	ctx = bt.start(ctx)
	defer func() { bt.end(err) }()
	var retries retryList
	err = c.handle(ctx, b, func(ctx context.Context) error {
		switch h := c.handler.(type) {
		case BatchHandler:
			return h(ctx, b)
		case EventHandler:
			return c.eachEvent(ctx, b, h, &retries)
		default:
			return fmt.Errorf("%w: unknown handler %T", ErrBadParameter, h)
		}
	})
	bt.handled(ctx, err)
	if b.s.ahead != nil {
		b.s.ahead.close(ctx) // the handler did not read
	}
	switch {
	case errors.Is(err, errLost):
		return nil, err
	case err != nil:
		return nil, &handlerError{"handle", b, err}
	case b.s.finished: // by the handler
		return nil, nil
	case retries.any():
		return nil, c.finishWithRetries(ctx, b, retries)
	default:
		return c.finishNext(ctx, c.db, b)
	}
}

func (c *Consumer) eachEvent(ctx context.Context, b *Batch, h EventHandler, retries *retryList) error {
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		err := h(ctx, ev)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return err
		}
		if b.s.calls.retry != nil { // order is promised
			return fmt.Errorf("event %d: %w", ev.ID, err)
		}
		re := c.o.verdict(err)
		if re == nil {
			return fmt.Errorf("event %d: %w", ev.ID, err)
		}
		c.log.Warn("event is left for later", "batch_id", b.ID, "event", ev.ID, "to", re.where(), "after", re.after, "err", err)
		retries.add(ev.ID, re)
	}
	return nil
}

// finishWithRetries finishes a batch and sends events to the retry queue or
// among the dead letters in one transaction, so that a failure in between does
// not deliver them twice.
func (c *Consumer) finishWithRetries(ctx context.Context, b *Batch, r retryList) error {
	ctx, cancel := settleContext(ctx)
	defer cancel()
	return pgx.BeginTxFunc(ctx, c.db, readCommitted, func(tx pgx.Tx) error {
		tb := b.With(tx)
		if err := r.settle(ctx, tb); err != nil {
			return err
		}
		return tb.Finish(ctx)
	})
}

// silentTx begins a transaction that the server ends after so long a silence;
// 0: never.
func silentTx(silence time.Duration) pgx.TxOptions {
	if silence == 0 {
		return readCommitted
	}
	return pgx.TxOptions{BeginQuery: "begin isolation level read committed; set local idle_in_transaction_session_timeout = " +
		strconv.FormatInt(silence.Milliseconds(), 10)}
}

// readCommitted lets the statement that opens the next batch see ticks that
// are younger than its transaction.
var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

// processTx runs a handler in the transaction that finishes the batch: exactly
// once. Whatever goes wrong before the commit, the batch stays open; when the
// answer to the commit is lost, the next batch the database offers tells.
func (c *Consumer) processTx(ctx context.Context, b *Batch, h BatchTxHandler) (next *Batch, err error) {
	tx, err := c.db.BeginTx(ctx, silentTx(c.o.TxSilence))
	if err != nil {
		return nil, fmt.Errorf("begin transaction of batch %d of queue %s: %w", b.ID, b.Queue, err)
	}
	rollback := func() {
		ctx, cancel := settleContext(ctx)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit, or on a dead connection, there is nothing to do
	}
	defer rollback()
	if c.o.Fence != nil {
		if err := c.o.Fence(ctx, tx); err != nil {
			return nil, err
		}
	}

	b = b.With(tx)
	bt := c.newBatchTrace(b)
	reader, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	if len(reader.chunk) == 0 && !c.o.EmptyBatches {
		rollback()
		return c.finishNext(ctx, c.db, b.With(c.db))
	}
	b.s.ahead = reader
	ctx = bt.start(ctx)
	defer func() { bt.end(err) }()
	err = c.handle(ctx, b, func(ctx context.Context) error { return h(ctx, tx, b) })
	bt.handled(ctx, err)
	if errors.Is(err, errLost) {
		return nil, err
	}
	if err != nil {
		return nil, &handlerError{"handle", b, err}
	}
	if b.s.finished {
		// by the handler, in the same transaction
	} else if next, err = c.finishNext(ctx, tx, b); err != nil {
		return nil, err
	}
	cctx, cancel := settleContext(ctx)
	defer cancel()
	if err := tx.Commit(cctx); err != nil {
		return nil, &handlerError{"commit", b, classify(err)}
	}
	return next, nil
}

// finishNext finishes a batch and opens the next one in one round trip and one
// commit. When the context has ended it only finishes: the work is done.
func (c *Consumer) finishNext(ctx context.Context, q Querier, b *Batch) (*Batch, error) {
	if ctx.Err() != nil {
		ctx, cancel := settleContext(ctx)
		defer cancel()
		return nil, b.With(q).Finish(ctx)
	}
	next, err := c.sendFinishNext(ctx, q, b)
	if _, inTx := q.(pgx.Tx); err == nil || inTx || errors.Is(err, ErrBatchGone) || ConnectionLost(err) {
		return next, err
	}
	// Opening the next batch may have failed, and taken the finish with it.
	// This batch is done whatever is wrong with the next.
	ctx, cancel := settleContext(ctx)
	defer cancel()
	return nil, b.With(q).Finish(ctx)
}

func (c *Consumer) sendFinishNext(ctx context.Context, q Querier, b *Batch) (next *Batch, err error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	ctx, op := b.settle(ctx, OpFinish)
	defer func() { c.tel.end(ctx, op, err) }()
	received := c.tel.begin(OpNextBatch, OpTypeReceive, c.queue, c.name)
	if c.fused() {
		next, err = c.receive(ctx, q, b)
		return c.adopt(next, received), err
	}
	var pipeline pgx.Batch
	finish := b.finishCall()
	pipeline.Queue(finish.sql, finish.args...)
	call := c.nextCall()
	pipeline.Queue(call.sql, call.args...)
	results := q.SendBatch(ctx, &pipeline)
	defer func() {
		// Nothing of it has happened before the pipeline is closed.
		if cerr := results.Close(); cerr != nil && err == nil {
			next, err = nil, classify(cerr)
		}
	}()
	var n int64
	err = classify(results.QueryRow().Scan(&n))
	if err := b.finished(n, err); err != nil {
		return nil, err
	}
	next, err = call.read(results.QueryRow(), c.db, c.queue, c.name)
	return c.adopt(next, received), err
}
