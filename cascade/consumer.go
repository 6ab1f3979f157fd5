package cascade

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/pgq"
)

// ConsumerOptions change how a Consumer runs. The zero value is usable.
type ConsumerOptions struct {
	// Register registers the consumer when it is not yet: at the provider of the node's worker, at its newest tick, and in
	// the node. On a root, which has no provider, it is registered when the node has become something else. Defaults to
	// false: a missing registration ends Run with ErrNotFound.
	Register bool
	// EmptyBatches calls the handler for batches without events, too. Defaults to false.
	EmptyBatches bool
	// Open makes the pool of a provider. Defaults to OpenLocation with three connections.
	Open Opener
	// PollPeriod is the time between two looks for a batch that no notification announced. Defaults to 1 s.
	PollPeriod time.Duration
	// StepTimeout limits each statement that is not the handler's, and each silence in a transaction. Defaults to 1 min.
	StepTimeout time.Duration
	// BackoffMin and BackoffMax bound the jittered, doubling pause after a failure. They default to 100 ms and 10 s. A
	// change of flags or provider ends it.
	BackoffMin time.Duration
	BackoffMax time.Duration
	// Logger gets failures and recoveries. Defaults to none.
	Logger *slog.Logger
	// Tracer makes the spans. Defaults to none.
	Tracer trace.Tracer
}

func (o ConsumerOptions) worker() WorkerOptions {
	return WorkerOptions{
		Open: o.Open, PollPeriod: o.PollPeriod, StepTimeout: o.StepTimeout, Logger: o.Logger, Tracer: o.Tracer,
	}.withDefaults()
}

// Consumer is a plain consumer of a cascaded queue that belongs to a node: it reads from the node's provider, or another
// one that the node's row for it names, and writes to the node's database. When somebody changes its provider it follows,
// without a gap or a double, because ticks and batches are the same everywhere; when somebody pauses it, it says so and
// waits. On a root it stands by.
//
// The handler gets the events of a batch in a transaction of the node's database that also moves the consumer, so its
// effect there is exactly once. Events of the cascade itself (pgq.*) are left out.
type Consumer struct {
	db      *pgq.DB
	queue   string
	name    string
	handler Applier
	o       ConsumerOptions
	log     *slog.Logger
	row     positionRow
	link    *link
	tracer  trace.Tracer
	wo      WorkerOptions
}

// NewConsumer makes a consumer of that name of the node of a queue in db. It does no I/O; the DB, of at least three
// connections, stays the caller's.
func NewConsumer(db *pgq.DB, queue, name string, handler Applier, o ConsumerOptions) *Consumer {
	wo := o.worker()
	if o.BackoffMin <= 0 {
		o.BackoffMin = 100 * time.Millisecond
	}
	if o.BackoffMax <= 0 {
		o.BackoffMax = 10 * time.Second
	}
	return &Consumer{
		db: db, queue: queue, name: name, handler: handler, o: o, wo: wo, tracer: o.Tracer,
		log: wo.Logger.With("queue", queue, "consumer", name),
		row: positionRow{db: db, queue: queue, consumer: name, timeout: wo.StepTimeout},
	}
}

// Run handles batch after batch until the context ends, and then returns nil. Lost connections and errors of the handler
// are logged, noted in the consumer's row and tried again after a pause; what cannot be cured that way (see Permanent)
// ends Run with the error. Several Run of one name do no harm: each batch takes effect once.
func (c *Consumer) Run(ctx context.Context) error {
	c.row.listen(ctx)
	defer func() {
		c.link.close()
		c.link = nil
		c.row.close()
	}()
	failures := 0
	for ctx.Err() == nil {
		s, err := c.step(ctx)
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			if failures > 0 {
				c.log.Info("consumer works again", "failures", failures)
			}
			failures = 0
			continue
		}
		var he *handlerError
		if Permanent(err) && !errors.As(err, &he) {
			return err
		}
		failures++
		c.log.Warn("consumer failed, trying again", "err", err, "failures", failures)
		c.failed(ctx, s, err)
		c.pause(ctx, failures)
	}
	return nil
}

// handlerError marks an error of a handler: it fails the batch, and is no reason to end Run.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }
func (e *handlerError) Unwrap() error { return e.err }

// failed drops what may be broken and notes the error.
func (c *Consumer) failed(ctx context.Context, s ConsumerState, err error) {
	c.link.close()
	c.link = nil
	if text := err.Error(); text != s.Error {
		if err := c.row.note(ctx, text); err != nil {
			c.log.Debug("error of the consumer is not noted", "err", err)
		}
	}
}

// pause waits after the nth failure in a row, and goes on answering those who change the row.
func (c *Consumer) pause(ctx context.Context, n int) {
	d := c.o.BackoffMin << min(max(n-1, 0), 20)
	if d <= 0 || d > c.o.BackoffMax {
		d = c.o.BackoffMax
	}
	for until := time.Now().Add(d/2 + rand.N(d/2+1)); ctx.Err() == nil; {
		left := time.Until(until)
		if left <= 0 {
			return
		}
		c.row.wait(ctx, nil, min(left, attendPeriod))
		if _, changed, err := c.attend(ctx); err == nil && changed {
			return
		}
	}
}

// attend reads the row and confirms that it was seen.
func (c *Consumer) attend(ctx context.Context) (s ConsumerState, changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.wo.StepTimeout)
	defer cancel()
	for {
		s, err = GetConsumerState(ctx, c.db, c.queue, c.name)
		if err != nil || s.Uptodate {
			return s, changed, err
		}
		changed = true
		if s.Uptodate, err = c.row.confirm(ctx, s.Paused, s.Provider); err != nil || s.Uptodate {
			return s, changed, err
		}
	}
}

// step does one batch, or waits a moment.
func (c *Consumer) step(ctx context.Context) (ConsumerState, error) {
	s, _, err := c.attend(ctx)
	if errors.Is(err, ErrNotFound) && s.Node != "" && c.o.Register {
		if s.Type == Root {
			c.row.wait(ctx, nil, attendPeriod)
			return s, nil
		}
		return s, c.register(ctx)
	}
	if err != nil {
		return s, err
	}
	if s.Paused || s.Type == Root {
		c.link.close()
		c.link = nil
		c.row.wait(ctx, nil, attendPeriod)
		return s, nil
	}
	if l := c.link; l != nil && (l.node != s.Provider || l.location != s.ProviderLocation) {
		c.log.Info("provider changed", "from", l.node, "to", s.Provider)
		l.close()
		c.link = nil
	}
	if c.link == nil {
		c.link, err = openLink(ctx, c.wo.Open, c.queue, c.name, s.Provider, s.ProviderLocation, c.log)
		if err != nil {
			return s, err
		}
	}
	return s, c.batch(ctx, s)
}

// batch takes the next batch, if there is one.
func (c *Consumer) batch(ctx context.Context, s ConsumerState) error {
	call, cancel := context.WithTimeout(ctx, c.wo.StepTimeout)
	o, err := c.link.next(call)
	cancel()
	if err != nil {
		return err
	}
	if o == nil {
		c.row.wait(ctx, c.link.wake, min(c.wo.PollPeriod, attendPeriod))
		return nil
	}
	verdict, err := Plan{Read: true}.Judge(o.prev, o.tick, s.Completed, 0)
	if err != nil {
		return fmt.Errorf("consumer %s on queue %s at provider %s: %w", c.name, c.queue, c.link.node, err)
	}
	if verdict == TakeBatch {
		work, release := c.row.yielding(ctx)
		err = c.take(work, s, o)
		release()
		switch {
		case errors.Is(err, errMoved), err != nil && errors.Is(context.Cause(work), errYield):
			c.link.ahead = nil
			return nil
		case err != nil:
			return fmt.Errorf("batch of queue %s up to tick %d: %w", c.queue, o.tick, err)
		}
	}
	ctx, cancel = settle(ctx)
	defer cancel()
	return c.link.finish(ctx, o)
}

// take has the handler work in the transaction that moves the consumer.
func (c *Consumer) take(ctx context.Context, s ConsumerState, o *offer) (err error) {
	if c.tracer != nil {
		var done func(Pass, error)
		p := Pass{State: WorkerState{Worker: c.name, Node: s.Node, Type: s.Type, Provider: s.Provider}}
		ctx, done = startBatchSpan(ctx, c.tracer, c.queue, p, o, time.Now())
		defer func() { done(p, err) }()
	}
	st := openStream(ctx, c.link.db, o.sql, shape{keepAll: true})
	defer st.close()
	idle := fmt.Sprintf("begin isolation level read committed; set local idle_in_transaction_session_timeout = %d",
		c.wo.StepTimeout.Milliseconds())
	tx, err := c.db.BeginTx(ctx, pgx.TxOptions{BeginQuery: idle})
	if err != nil {
		return pgq.Classify(err)
	}
	defer func() {
		ctx, cancel := settle(ctx)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit, or on a dead connection, there is nothing to do
	}()
	if err := c.handle(ctx, tx, s, o, st); err != nil {
		return err
	}
	const move = `
update pgq_node.local_state s
   set last_tick_id = $4, cur_error = null
 where s.queue_name = $1 and s.consumer_name = $2 and s.last_tick_id = $3 and s.provider_node = $5
   and not (s.paused and s.uptodate)`
	tag, err := tx.Exec(ctx, move, c.queue, c.name, s.Completed, o.tick, s.Provider)
	if err != nil {
		return fmt.Errorf("move consumer %s to tick %d: %w", c.name, o.tick, pgq.Classify(err))
	}
	if tag.RowsAffected() == 0 {
		return errMoved
	}
	cctx, cancel := settle(ctx)
	defer cancel()
	return pgq.Classify(tx.Commit(cctx))
}

// handle calls the handler with the events that are not the cascade's own.
func (c *Consumer) handle(ctx context.Context, tx pgx.Tx, s ConsumerState, o *offer, st *stream) error {
	events := &eventReader{ctx: ctx, st: st}
	first, err := events.next()
	if err != nil {
		return err
	}
	if first == nil && !c.o.EmptyBatches {
		return nil
	}
	var seq iter.Seq2[*pgq.Event, error] = func(yield func(*pgq.Event, error) bool) {
		for ev := first; ev != nil; {
			first = nil
			if !yield(ev, nil) {
				return
			}
			if ev, err = events.next(); err != nil {
				yield(nil, err)
				return
			}
		}
	}
	b := Batch{Queue: c.queue, Node: s.Node, Provider: s.Provider, PrevTick: o.prev, Tick: o.tick, TickTime: o.time}
	if herr := guarded(func() error { return c.handler.Apply(ctx, tx, b, seq) }); herr != nil {
		return &handlerError{herr}
	}
	return err // a handler may have missed it, the batch must not
}

// eventReader reads the events of a stream that are not the cascade's own.
type eventReader struct {
	ctx   context.Context
	st    *stream
	chunk *chunk
	at    int
}

// next is the next event; nil at the end.
func (r *eventReader) next() (*pgq.Event, error) {
	for {
		for r.chunk != nil && r.at < len(r.chunk.kept) {
			ev := r.chunk.kept[r.at].event()
			r.at++
			if !isSystem(ev.Type.String) {
				return ev, nil
			}
		}
		var err error
		r.at = 0
		if r.chunk, err = r.st.next(r.ctx, r.chunk); err != nil || r.chunk == nil {
			return nil, err
		}
	}
}

// register registers the consumer where the node's worker reads, at the newest tick, and then in the node. A
// registration at the provider that a cut left behind is moved there, too.
func (c *Consumer) register(ctx context.Context) error {
	s, err := GetWorkerState(ctx, c.db, c.queue)
	if err != nil {
		return err
	}
	db, err := c.wo.Open(ctx, s.ProviderLocation)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := pgq.RegisterConsumer(ctx, db, c.queue, c.name); err != nil {
		return err
	}
	info, err := pgq.GetConsumerInfo(ctx, db, c.queue, c.name)
	if err != nil {
		return err
	}
	_, err = RegisterConsumer(ctx, c.db, c.queue, c.name, s.Provider, info.LastTick)
	return err
}
