package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// OpenBatch is a batch that was opened and has to be handled.
type OpenBatch interface {
	// Info tells which one it is.
	Info() messages.Batch
	// Process handles and finishes it in one go; next, when not nil, was opened on the way. Lost: somebody else closed
	// it or took it over. After an error it is open.
	Process(ctx context.Context) (Processed, error)
}

// Processed is the result of a batch.
type Processed struct {
	Next           OpenBatch // nil: not known
	Events         int
	Retried        int // of them sent to the retry queue
	Dead           int // of them given up
	Lost           bool
	Latency        messages.Histogram // of the events, by LatencyBounds
	messages.Trace                    // the span of the handler
}

// batchEnded tells the consumer how its batch ended. The batch actor is about to stop.
type batchEnded struct {
	id   int64
	p    Processed
	took time.Duration
	err  error
}

// batchHung tells the consumer that the handler did not return after its time was over; idle is closed when it does.
type batchHung struct {
	id   int64
	idle <-chan struct{}
}

// Batch handles one open batch: its own failure touches nothing else. It lives as long as the batch is open here.
type Batch struct {
	env   Env
	b     OpenBatch
	limit time.Duration
	work  worker
	clock timers
	began time.Time
}

// batchProps builds the actor of one batch; limit 0: none.
func batchProps(env Env, b OpenBatch, limit time.Duration) *actor.Props {
	return newProps(env, kindBatch, func() actor.Actor { return &Batch{env: env, b: b, limit: limit} })
}

// Receive implements actor.Actor.
func (a *Batch) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		a.begin(c)
	case *actor.Stopping, *actor.Restarting:
		a.clock.stop()
		if !a.work.halt(haltGrace) {
			a.env.Log.Warn("handler did not stop in time")
		}
	case done[Processed]:
		if finish(&a.work, m) {
			a.clock.stop()
			c.Send(c.Parent(), batchEnded{id: a.b.Info().ID, p: m.val, took: time.Since(a.began), err: m.err})
		}
	case wake:
		if a.clock.fired(m) && a.work.busy() {
			c.Send(c.Parent(), batchHung{id: a.b.Info().ID, idle: a.work.abandon()})
		}
	}
}

// begin starts the handler. Its context ends with the limit; one that does not return then is given up a grace later.
func (a *Batch) begin(c actor.Context) {
	a.began = time.Now()
	b, limit := a.b, a.limit
	_ = start(&a.work, c, a.env.Context, func(ctx context.Context) (Processed, error) {
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, limit, errBatchTimeout)
			defer cancel()
		}
		return b.Process(ctx)
	})
	if limit > 0 {
		a.clock.arm(c, "hung", limit+haltGrace)
	}
}
