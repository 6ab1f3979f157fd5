package cascade

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/pgq"
)

// ErrOtherNode says: the database holds another node of the queue than the worker was made for.
var ErrOtherNode = errors.New("the database holds another node")

// Batch tells an Applier what it applies: the events from one tick to another. On a leaf there may be more ticks of the
// provider between the two, when several were waiting.
type Batch struct {
	Queue    string
	Node     string
	Provider string
	PrevTick int64
	Tick     int64
	TickTime time.Time
}

// Applier does with the events of a batch what a node is for, beside copying them: for example changes tables. It works
// in the transaction of the target that also moves the node's position, so its effect there is exactly once; what it
// does elsewhere is at least once. It must neither commit nor roll back, and must have read the rows of its own queries
// before it asks for the next event, because the copying goes on in the same transaction.
//
// Events come in order, those of the cascade itself (pgq.*) among them; they have been acted upon already. What is not
// read is copied all the same. An error rolls the batch back; it comes again.
type Applier interface {
	Apply(ctx context.Context, tx pgx.Tx, b Batch, events iter.Seq2[*pgq.Event, error]) error
}

// WorkerOptions change how a Worker runs. The zero value is usable.
type WorkerOptions struct {
	// Node is the name the node must have, or the worker refuses to work with ErrOtherNode. Defaults to any.
	Node string
	// Applier gets the events. Defaults to none: a branch copies, a leaf follows.
	Applier Applier
	// QueueFence puts a fence in front of every transaction that writes to the node's database, for workers under a
	// lease: see pgq.QueueFence. Defaults to none.
	QueueFence func(b *pgx.Batch) bool
	// Open makes the pool of a provider. Defaults to OpenLocation with three connections.
	Open Opener
	// PollPeriod is the time between two looks for a batch that no notification announced. Defaults to 1 s.
	PollPeriod time.Duration
	// MarkPeriod is how often watermarks are published. Defaults to 5 min.
	MarkPeriod time.Duration
	// StepTimeout limits each statement and each silence inside a transaction, so that a worker that froze gives way.
	// Defaults to 1 min.
	StepTimeout time.Duration
	// Logger gets what is worth telling. Defaults to none.
	Logger *slog.Logger
	// Tracer makes the spans. Defaults to none.
	Tracer trace.Tracer

	hook func(point string) error // tests: called at every point of a batch
}

func (o WorkerOptions) withDefaults() WorkerOptions {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.PollPeriod, time.Second)
	set(&o.MarkPeriod, 5*time.Minute)
	set(&o.StepTimeout, time.Minute)
	if o.Open == nil {
		o.Open = func(ctx context.Context, location string) (*pgq.DB, error) {
			return OpenLocation(ctx, location, pgq.WithMaxConns(3))
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.hook == nil {
		o.hook = func(string) error { return nil }
	}
	return o
}

// Worker is the worker of the node of one queue in one database: it brings batches from the provider, as the node's
// role wants. Every step reads role, position and flags from the database anew, so nothing has to be told to it, and it
// can be lost at any line. Not safe for concurrent use. Two workers of one node do no harm: each batch takes effect
// once.
type Worker struct {
	db    *pgq.DB
	queue string
	o     WorkerOptions
	log   *slog.Logger

	row      positionRow
	link     *link
	seenMark int64 // the root's global watermark, as its last event said; for sync_watermark
	marked   time.Time
	reported time.Time
	report   int64  // what was reported last
	traced   int64  // newest tick of the root that has its span
	table    string // where events went last; "" for not known
	noTrain  bool   // the next batch goes by itself, after one that found the ground moved
}

// NewWorker makes a worker. It does no I/O. The DB, of at least three connections, stays the caller's.
func NewWorker(db *pgq.DB, queue string, o WorkerOptions) *Worker {
	o = o.withDefaults()
	w := &Worker{db: db, queue: queue, o: o, log: o.Logger.With("queue", queue)}
	w.row = positionRow{db: db, queue: queue, fence: o.QueueFence, timeout: o.StepTimeout}
	return w
}

// Close gives back what the worker holds.
func (w *Worker) Close() {
	w.link.close()
	w.link = nil
	w.row.close()
}

// Did says what a step did.
type Did string

// What a step can have done.
const (
	DidNothing Did = "idle"     // waited, and nothing came
	DidPause   Did = "paused"   // waited, as it was told
	DidChores  Did = "standing" // a root: nothing to read
	DidWait    Did = "waiting"  // for the combined queue to bring the batch
	DidBatch   Did = "batch"    // took a batch
	DidFinish  Did = "repaired" // finished a batch that was in already
	DidYield   Did = "yielded"  // gave a batch up, because somebody wants the node paused
	DidRecheck Did = "recheck"  // the ground moved; look again
)

// Pass is what one step did and saw.
type Pass struct {
	Did   Did
	State WorkerState
	// Of the batch, when there was one.
	PrevTick int64
	Tick     int64
	TickTime time.Time
	Events   int
	Skipped  int // special events that could not be acted upon
	Took     time.Duration
	// Top is the newest tick of the node's queue, or the position of a leaf.
	Top int64
}

// Step does one thing: a batch, a chore, or waiting for a moment. After an error nothing is half done; call it again
// after a pause, and Attend meanwhile. The error is also noted in the database, for whoever looks at the node.
func (w *Worker) Step(ctx context.Context) (Pass, error) {
	w.row.listen(ctx)
	p, err := w.step(ctx)
	switch {
	case err == nil && p.State.Error != "" && !p.State.Paused:
		w.note(ctx, "")
	case err != nil && ctx.Err() == nil:
		if pgq.ConnectionLost(err) || w.link != nil && w.link.ahead != nil {
			w.link.close()
			w.link = nil
		}
		if text := err.Error(); text != p.State.Error {
			w.note(ctx, text)
		}
	}
	return p, err
}

// Attend answers those who changed flags or provider of the node and wait for it to be seen; it waits a moment for
// them. changed: there was something to see, so trying again may be worth while.
func (w *Worker) Attend(ctx context.Context) (s WorkerState, changed bool, err error) {
	w.row.listen(ctx)
	if s, changed, err = w.attend(ctx); err != nil || changed {
		return s, changed, err
	}
	w.row.wait(ctx, nil, attendPeriod)
	return w.attend(ctx)
}

func (w *Worker) attend(ctx context.Context) (s WorkerState, changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.StepTimeout)
	defer cancel()
	for {
		s, err = GetWorkerState(ctx, w.db, w.queue)
		if err == nil && w.o.Node != "" && s.Node != w.o.Node {
			err = fmt.Errorf("%w: node of queue %s is %s, not %s", ErrOtherNode, w.queue, s.Node, w.o.Node)
		}
		if err != nil {
			return s, changed, err
		}
		w.row.consumer = s.Worker
		if s.Uptodate {
			return s, changed, nil
		}
		changed = true
		if s.Uptodate, err = w.row.confirm(ctx, s.Paused, s.Provider); err != nil || s.Uptodate {
			return s, changed, err
		}
	}
}

// note writes the last error into the node's row; empty: none. It is a courtesy: its own failure changes nothing.
func (w *Worker) note(ctx context.Context, text string) {
	if err := w.row.note(ctx, text); err != nil {
		w.log.Debug("error of the node is not noted", "err", err)
	}
}

func (w *Worker) step(ctx context.Context) (Pass, error) {
	s, _, err := w.attend(ctx) // commit a
	p := Pass{State: s, Top: max(s.Top, s.Completed)}
	if err == nil {
		err = w.o.hook("a")
	}
	if err != nil {
		return p, err
	}
	if s.Paused {
		w.dropAhead()
		w.row.wait(ctx, nil, attendPeriod)
		p.Did = DidPause
		return p, nil
	}
	plan, err := WorkerPlan(w.queue, s)
	if err != nil {
		return p, err
	}
	if !plan.Read {
		w.link.close()
		w.link = nil
		p.Did = DidChores
		err := w.chores(ctx, s)
		if err == nil {
			err = w.traceTicks(ctx, s.Top)
		}
		if err == nil {
			w.row.wait(ctx, nil, attendPeriod)
		}
		return p, err
	}
	if err := w.connect(ctx, s); err != nil {
		return p, err
	}
	w.link.merge = w.merges(plan)
	o, err := w.offered(ctx)
	if err == nil {
		err = w.o.hook("b")
	}
	if err != nil {
		return p, err
	}
	if o == nil {
		return w.idle(ctx, plan, p)
	}
	return w.serve(ctx, plan, p, o)
}

// dropAhead forgets a batch that was opened on the way; it is open at the provider and comes again.
func (w *Worker) dropAhead() {
	if w.link != nil {
		w.link.ahead = nil
	}
}

// connect makes the link to the provider that the state names.
func (w *Worker) connect(ctx context.Context, s WorkerState) (err error) {
	if l := w.link; l != nil && (l.node != s.Provider || l.location != s.ProviderLocation || l.consumer != s.Worker) {
		w.log.Info("provider changed", "from", l.node, "to", s.Provider)
		l.close()
		w.link = nil
	}
	if w.link == nil {
		w.link, err = openLink(ctx, w.o.Open, w.queue, s.Worker, s.Provider, s.ProviderLocation, w.log)
		w.reported = time.Time{}
	}
	return err
}

// offered asks for a batch when there is reason to.
func (w *Worker) offered(ctx context.Context) (*offer, error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.StepTimeout)
	defer cancel()
	if w.link.ahead == nil && time.Since(w.link.asked) < w.o.PollPeriod {
		return nil, nil
	}
	return w.link.next(ctx)
}

// idle is a step without a batch.
func (w *Worker) idle(ctx context.Context, plan Plan, p Pass) (Pass, error) {
	p.Did = DidNothing
	s := p.State
	if plan.Tick && s.Top < s.Completed {
		p.Did = DidFinish
		return p, w.fetchTick(ctx, s.Top, s.Completed)
	}
	if err := w.publish(ctx, plan, s, s.Completed, s.Completed); err != nil {
		return p, err
	}
	if w.row.wait(ctx, w.link.wake, attendPeriod) {
		w.link.asked = time.Time{}
	}
	return p, nil
}

// serve does what the offered batch needs, or the part of it that comes next.
func (w *Worker) serve(ctx context.Context, plan Plan, p Pass, whole *offer) (Pass, error) {
	s, o := p.State, whole
	if plan.Tick {
		o = whole.car(s.Completed)
	}
	verdict, err := plan.Judge(o.prev, o.tick, s.Completed, s.Top)
	if err != nil {
		return p, fmt.Errorf("queue %s at provider %s: %w", w.queue, w.link.node, err)
	}
	p.PrevTick, p.Tick, p.TickTime = o.prev, o.tick, o.time
	switch verdict {
	case WaitForTarget:
		w.link.ahead = whole
		p.Did = DidWait
		err := w.publish(ctx, plan, s, min(s.Completed, o.prev), o.prev)
		if err == nil {
			w.row.wait(ctx, nil, attendPeriod)
		}
		return p, err
	case FetchTick:
		w.link.ahead = whole
		p.Did = DidFinish
		return p, w.fetchTick(ctx, s.Top, s.Completed)
	case WriteTick:
		p.Did = DidFinish
		if err := w.writeTick(ctx, tick{ID: o.tick, Time: o.time, Seq: o.seq}); err != nil {
			return p, err
		}
		p.Top = o.tick
	case FinishBatch:
		p.Did = DidFinish
	default:
		began := time.Now()
		all := false
		if p, all, err = w.take(ctx, plan, p, o); err != nil || p.Did != DidBatch {
			return p, err
		}
		p.Took = time.Since(began)
		p.Top = max(p.Top, o.tick)
		if !all {
			w.link.ahead = whole
			return p, nil
		}
	}
	return p, w.conclude(ctx, plan, p, whole)
}

// conclude is what follows the commit of a batch at the provider: e and f. It also runs when the worker is told to stop.
func (w *Worker) conclude(ctx context.Context, plan Plan, p Pass, o *offer) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	s := p.State
	if !plan.WaitBehind {
		s.Completed = o.tick
	}
	if err := w.publish(ctx, plan, s, o.prev, o.tick); err != nil {
		return err
	}
	if err := w.o.hook("e"); err != nil {
		return err
	}
	if err := w.link.finish(ctx, o); err != nil {
		return err
	}
	return w.o.hook("f")
}

// settleTimeout bounds what is done after the work itself, also when the worker was told to stop.
const settleTimeout = 10 * time.Second

// settle is a context for ending what was begun under ctx.
func settle(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}

const writeTickSQL = `
select pgq.ticker($1, $2, $3, $4)
  from (select coalesce((
            select t.tick_id
              from pgq.tick t
              join pgq.queue q on q.queue_id = t.tick_queue
             where q.queue_name = $1
             order by t.tick_queue desc, t.tick_id desc
             limit 1), 0) as id) top
 where top.id < $2`

// writeTick makes a tick of the provider the newest one of the own queue. (commit d)
func (w *Worker) writeTick(ctx context.Context, t tick) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	err := w.row.inOne(ctx, func(b *pgx.Batch) {
		b.Queue(writeTickSQL, w.queue, t.ID, t.Time, t.Seq)
		// The original says nothing of ticks from outside; twice the same in one transaction is once.
		b.Queue(`select pg_catalog.pg_notify($1, $2)`, pgq.WakeupChannel(w.queue), fmt.Sprint(t.ID))
	})
	if err != nil {
		return fmt.Errorf("write tick %d of queue %s: %w", t.ID, w.queue, err)
	}
	return w.o.hook("d")
}

// fetchTick writes the tick that is missing at the end of the own queue, as the provider has it.
func (w *Worker) fetchTick(ctx context.Context, top, completed int64) error {
	ticks, err := w.link.ticksBetween(ctx, top, completed)
	if err != nil {
		return err
	}
	if len(ticks) != 1 || ticks[0].ID != completed {
		return fmt.Errorf("queue %s: %w: the node has completed tick %d, its queue ends with tick %d, and provider %s has not that one tick between them",
			w.queue, ErrPositionLost, completed, top, w.link.node)
	}
	return w.writeTick(ctx, ticks[0])
}
