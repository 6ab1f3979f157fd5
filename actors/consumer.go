package actors

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// ConsumerSource is one worker of a consumer: the consumer itself, or a member of its group.
type ConsumerSource interface {
	classifier
	// Next opens the next batch, or returns the open one; nil: none.
	Next(ctx context.Context) (OpenBatch, error)
	// Close gives back what it holds, and leaves the group; no call is under way.
	Close(ctx context.Context)
}

// ConsumerParams describes one consumer.
type ConsumerParams struct {
	// Key stands for everything that the consumer depends on: with another key it starts anew.
	Key string
	// Queue and Name are the queue and the consumer.
	Queue string
	Name  string
	// Workers is how many batches are handled at the same time, as members of a cooperative group; 0 or 1: one, and no
	// group.
	Workers int
	// PollPeriod is the time between two looks for a batch that no tick announced.
	PollPeriod time.Duration
	// BatchTimeout limits the handling of one batch; 0: no limit.
	BatchTimeout time.Duration
	// Open makes the worker of that number without I/O: 0 for a consumer without a group, else 1 and on. The lease is the
	// unit and the epoch under which it works; the epoch is 0 without leases.
	Open func(member int, unit string, epoch int64) (ConsumerSource, error)

	epoch int64
}

// actorName is the place of the consumer below its database; queue names may hold anything.
func (p ConsumerParams) actorName() string {
	return kindConsumer + "/" + url.PathEscape(p.Queue) + "/" + url.PathEscape(p.Name)
}

var (
	errBatchTimeout = errors.New("the handler took longer than batch_timeout")
	errHung         = errors.New("the handler does not return though its time is over")
)

const (
	// pauseBase and pauseLimit bound the pause after a failed batch, reconnectLimit that after an outage.
	pauseBase  = 200 * time.Millisecond
	pauseLimit = time.Minute
	// permanentPause is the pause after an error that only a human can cure.
	permanentPause = 30 * time.Second
	// closeLimit bounds leaving a group.
	closeLimit = 4 * time.Second
	// maxLeaked is how many handlers that never returned a worker gives up on before it waits for one to return.
	maxLeaked = 3
)

// consumerProps builds the actor of one consumer: a worker, or the parent of the members of its group.
func consumerProps(env Env, db string, p ConsumerParams) *actor.Props {
	if p.Workers > 1 {
		return newProps(env, kindConsumer, func() actor.Actor {
			return &Group{
				children: children{env: env}, db: db, p: p, state: reporter{env: env, kind: kindConsumer, database: db},
			}
		})
	}
	return subconsumerProps(env, db, p, 0)
}

// Group is a consumer whose batches are shared by several members.
type Group struct {
	children
	db    string
	p     ConsumerParams
	state reporter
}

// Receive implements actor.Actor.
func (g *Group) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		for i := 1; i <= g.p.Workers; i++ {
			g.ensure(c, g.member(i))
		}
		g.state.set(c, messages.Running, fmt.Sprintf("%d members", g.p.Workers), nil, time.Time{})
	case *actor.Stopping, *actor.Restarting:
		g.halt()
	case messages.ReportStatus:
		g.state.repeat(c)
		g.repeat(c)
	case messages.TickMade:
		for _, k := range g.kids {
			if k.pid != nil {
				c.Send(k.pid, m)
			}
		}
	case messages.DatabaseTroubled:
		c.Send(c.Parent(), m)
	default:
		g.receive(c)
	}
}

// member describes one member.
func (g *Group) member(i int) childSpec {
	db, p := g.db, g.p
	return childSpec{
		name: fmt.Sprintf("sub/%d", i), kind: kindSubconsumer, database: db,
		props: func(env Env) *actor.Props { return subconsumerProps(env, db, p, i) },
	}
}

// Consumer is one worker of a consumer. It opens batch after batch and has each handled by an actor of its own; a
// failed one is delivered again, whole, after a growing pause.
type Consumer struct {
	env     Env
	p       ConsumerParams
	member  int
	state   reporter
	src     ConsumerSource
	look    worker
	clock   timers
	batch   *actor.PID // nil: none is being handled
	broken  error      // why the batch actor failed
	again   bool       // a tick came during a look
	fails   int
	leaked  []<-chan struct{}
	seen    messages.ConsumerSeen
	stopped bool
}

// subconsumerProps builds one worker.
func subconsumerProps(env Env, db string, p ConsumerParams, member int) *actor.Props {
	kind := kindConsumer
	if member > 0 {
		kind = kindSubconsumer
	}
	return newProps(env, kind, func() actor.Actor {
		return &Consumer{
			env: env, p: p, member: member, state: reporter{env: env, kind: kind, database: db},
			seen: messages.ConsumerSeen{Database: db, Queue: p.Queue, Consumer: p.Name, Member: member},
		}
	})
}

// HandleFailure implements actor.SupervisorStrategy: a batch actor failed.
func (w *Consumer) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, pid *actor.PID,
	rs *actor.RestartStatistics, reason, message any,
) {
	w.broken = asError(reason)
	stopChild.HandleFailure(system, supervisor, pid, rs, reason, message)
}

// Receive implements actor.Actor.
func (w *Consumer) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		src, err := w.p.Open(w.member, w.p.actorName(), w.p.epoch)
		if err != nil {
			panic(fmt.Errorf("open consumer %s on queue %s: %w", w.p.Name, w.p.Queue, err))
		}
		w.src = src
		w.ask(c)
	case *actor.Stopping, *actor.Restarting:
		w.stopped = true
		w.clock.stop()
		w.look.halt(haltGrace)
	case *actor.Stopped:
		w.close()
	case messages.ReportStatus:
		w.state.repeat(c)
		w.tell(c)
	case messages.TickMade:
		w.again = true
		if w.batch == nil && w.fails == 0 && !w.look.busy() {
			w.ask(c)
		}
	case wake:
		if w.clock.fired(m) {
			w.ask(c)
		}
	case done[OpenBatch]:
		if finish(&w.look, m) {
			w.opened(c, m.val, m.err)
		}
	case batchEnded:
		w.ended(c, m)
	case batchHung:
		w.hung(c, m)
	case *actor.Terminated:
		w.terminated(c, m.Who)
	}
}

// close leaves the group in the time that stopping has.
func (w *Consumer) close() {
	if w.src == nil {
		return
	}
	src, base := w.src, w.env.Context
	closed := closeWithin(haltGrace, func() {
		ctx, cancel := context.WithTimeout(base, closeLimit)
		defer cancel()
		src.Close(ctx)
	})
	if !closed {
		w.env.Log.Warn("consumer did not close in time", "db", w.seen.Database, "queue", w.p.Queue, "consumer", w.p.Name)
	}
}

// ask looks for a batch.
func (w *Consumer) ask(c actor.Context) {
	if w.stopped || w.batch != nil {
		return
	}
	if w.stuck() {
		w.state.set(c, messages.Failed, fmt.Sprintf("%d handlers do not return", len(w.leaked)), errHung, time.Time{})
		w.clock.arm(c, "ask", pauseLimit/4)
		return
	}
	w.clock.disarm("ask")
	w.again = false
	src := w.src
	_ = start(&w.look, c, w.env.Context, src.Next)
}

// stuck forgets the handlers that have returned, and tells whether too many have not.
func (w *Consumer) stuck() bool {
	alive := w.leaked[:0]
	for _, idle := range w.leaked {
		select {
		case <-idle:
		default:
			alive = append(alive, idle)
		}
	}
	w.leaked = alive
	return len(alive) >= maxLeaked
}

// opened handles the outcome of a look.
func (w *Consumer) opened(c actor.Context, b OpenBatch, err error) {
	switch {
	case err != nil:
		w.failed(c, err, 0, messages.Trace{})
	case b != nil:
		w.handle(c, b)
	default:
		w.fails = 0
		w.state.set(c, messages.Running, "", nil, time.Time{})
		w.tell(c)
		if w.again {
			w.ask(c)
		} else {
			w.clock.arm(c, "ask", w.p.PollPeriod)
		}
	}
}

// handle gives a batch to an actor of its own.
func (w *Consumer) handle(c actor.Context, b OpenBatch) {
	info := b.Info()
	name := fmt.Sprintf("batch/%d", info.ID)
	pid, err := c.SpawnNamed(batchProps(w.env.of(kindBatch, treePath(c.Self())+"/"+name, 0), b, w.p.BatchTimeout), name)
	if err != nil {
		// The last actor of this batch is still stopping: it comes again.
		w.failed(c, err, 0, messages.Trace{})
		return
	}
	w.batch, w.broken = pid, nil
	w.seen.Open, w.seen.OpenedAt = &info, time.Now()
	w.state.set(c, messages.Running, "", nil, time.Time{})
}

// release lets go of the batch actor.
func (w *Consumer) release(c actor.Context) {
	if w.batch != nil {
		c.Stop(w.batch)
	}
	w.batch = nil
	w.seen.Open = nil
}

// ended handles the end of a batch.
func (w *Consumer) ended(c actor.Context, m batchEnded) {
	if w.batch == nil || w.stopped {
		return
	}
	info := *w.seen.Open
	w.release(c)
	if m.err != nil {
		w.failed(c, m.err, info.ID, m.p.Trace)
		return
	}
	switch {
	case m.p.Lost:
		w.seen.Lost++
		w.env.Log.WarnContext(m.p.Context(w.env.Context), "batch was closed or taken over by somebody else", w.about("batch_id", info.ID)...)
	case m.p.Events == 0:
		w.seen.Empty++
	default:
		w.seen.Finished++
		w.seen.Events += int64(m.p.Events)
		w.seen.Retried += int64(m.p.Retried)
		w.seen.Dead += int64(m.p.Dead)
		addDuration(&w.seen.Duration, m.took)
		addValue(&w.seen.Sizes, messages.SizeBounds[:], float64(m.p.Events))
		addHistogram(&w.seen.Latency, m.p.Latency)
	}
	w.seen.LastTickAge = time.Since(info.TickTime).Seconds()
	if w.fails > 0 {
		w.env.Log.InfoContext(m.p.Context(w.env.Context), "consumer works again", w.about("batch_id", info.ID, "fails", w.fails)...)
	}
	w.fails = 0
	w.tell(c)
	if m.p.Next != nil {
		w.handle(c, m.p.Next)
		return
	}
	w.ask(c)
}

// hung gives up on a handler that ignores the end of its time.
func (w *Consumer) hung(c actor.Context, m batchHung) {
	if w.batch == nil || w.stopped {
		return
	}
	w.leaked = append(w.leaked, m.idle)
	w.release(c)
	w.failed(c, errHung, m.id, messages.Trace{})
}

// terminated notices a batch actor that failed: a panic outside of the handler's protection.
func (w *Consumer) terminated(c actor.Context, who *actor.PID) {
	if w.stopped || w.batch == nil || who.GetId() != w.batch.GetId() {
		return
	}
	id := w.seen.Open.ID
	w.batch, w.seen.Open = nil, nil
	if w.broken == nil {
		w.broken = errors.New("the actor of the batch stopped unasked")
	}
	w.env.report(c, messages.ActorRestarted{Path: treePath(c.Self()), Reason: w.broken.Error(), At: time.Now()})
	w.failed(c, w.broken, id, messages.Trace{})
}

// failed waits a growing while after a failure; batch 0: none was open.
func (w *Consumer) failed(c actor.Context, err error, batch int64, span messages.Trace) {
	now, t := time.Now(), w.src.Classify(err)
	limit := pauseLimit
	if t.Outage {
		limit = reconnectLimit
	}
	state, delay := messages.Backoff, fullJitter(pauseBase, limit, w.fails)
	if t.Permanent {
		state, delay = messages.Failed, permanentPause/2+fullJitter(permanentPause/2, permanentPause/2, 0)
	}
	w.fails++
	w.seen.Failed++
	if loud(w.fails) {
		w.env.Log.WarnContext(span.Context(w.env.Context), "consumer failed, trying again", w.about("batch_id", batch, "err", err, "fails", w.fails,
			"delay", delay.Round(time.Millisecond))...)
	}
	if t.Outage {
		c.Send(c.Parent(), messages.DatabaseTroubled{Actor: treePath(c.Self()), Err: err})
	}
	w.state.set(c, state, "", err, now.Add(delay))
	w.tell(c)
	w.clock.arm(c, "ask", delay)
}

// about is what every log line says.
func (w *Consumer) about(more ...any) []any {
	return append([]any{
		"db", w.seen.Database, "queue", w.p.Queue, "consumer", w.p.Name, "member", w.member,
	}, more...)
}

// tell sends the figures.
func (w *Consumer) tell(c actor.Context) {
	w.seen.At, w.seen.Fails, w.seen.Leaked = time.Now(), w.fails, len(w.leaked)
	w.env.report(c, w.seen)
	w.seen = messages.ConsumerSeen{
		Database: w.seen.Database, Queue: w.seen.Queue, Consumer: w.seen.Consumer, Member: w.seen.Member,
		Open: w.seen.Open, OpenedAt: w.seen.OpenedAt, LastTickAge: w.seen.LastTickAge,
	}
}
