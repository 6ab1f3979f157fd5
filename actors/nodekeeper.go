package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// NodeKeeper looks after the operations of one cascade node.
type NodeKeeper interface {
	// Pass looks once, and says what it did; "" for nothing.
	Pass(ctx context.Context) (did string, err error)
	// Switchovers counts those that the journal of the node's database knows. State is that of the open one.
	Switchovers(ctx context.Context) (took []time.Duration, aborted int, state string, err error)
	// Close gives back what it holds; no call is under way.
	Close()
}

// kept is the result of one pass.
type kept struct {
	did         string
	switchovers messages.Switchovers
}

// kindKeeper is the actor that looks after the operations of a node.
const kindKeeper = "keeper"

const (
	// keepPeriod is the time between two looks for an operation without driver.
	keepPeriod = 3 * time.Second
	// keepTrouble is the same after a failure.
	keepTrouble = 10 * time.Second
)

// Keeper takes over the operations of a node whose driver died, and fences a stale root. Its state is in the
// databases; it can be lost at any line.
type Keeper struct {
	env   Env
	p     NodeParams
	db    string
	state reporter
	keep  NodeKeeper
	work  worker
	clock timers
	fails int
}

func keeperProps(env Env, db string, p NodeParams) *actor.Props {
	return newProps(env, kindKeeper, func() actor.Actor {
		return &Keeper{env: env, p: p, db: db, state: reporter{env: env, kind: kindKeeper, database: db}}
	})
}

// Receive implements actor.Actor.
func (o *Keeper) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		keep, err := o.p.Keep()
		if err != nil {
			panic(err)
		}
		o.keep = keep
		o.pass(c)
	case *actor.Stopping, *actor.Restarting:
		o.clock.stop()
		if !o.work.halt(haltGrace) {
			o.env.Log.Warn("operations did not stop in time", o.about()...)
		}
	case *actor.Stopped:
		if o.keep != nil && !closeWithin(haltGrace, o.keep.Close) {
			o.env.Log.Warn("connections did not close in time", o.about()...)
		}
	case messages.ReportStatus:
		o.state.repeat(c)
	case wake:
		if o.clock.fired(m) {
			o.pass(c)
		}
	case done[kept]:
		if finish(&o.work, m) {
			o.passed(c, m.val, m.err)
		}
	}
}

func (o *Keeper) pass(c actor.Context) {
	keep := o.keep
	_ = start(&o.work, c, o.env.Context, func(ctx context.Context) (kept, error) {
		did, err := keep.Pass(ctx)
		if err != nil {
			return kept{did: did}, err
		}
		took, aborted, state, err := keep.Switchovers(ctx)
		k := kept{did: did, switchovers: messages.Switchovers{Done: int64(len(took)), Aborted: int64(aborted), State: state}}
		for _, d := range took {
			addValue(&k.switchovers.Duration, messages.SwitchoverBounds[:], d.Seconds())
		}
		return k, err
	})
}

func (o *Keeper) passed(c actor.Context, k kept, err error) {
	did := k.did
	if did != "" {
		o.env.Log.Warn("operation", o.about("did", did)...)
	}
	if err == nil {
		o.fails = 0
		c.Send(o.env.Status, messages.SwitchoversSeen{Database: o.db, Queue: o.p.Queue, Switchovers: k.switchovers})
		o.state.set(c, messages.Running, did, nil, time.Time{})
		o.clock.arm(c, "pass", keepPeriod)
		return
	}
	if o.fails++; loud(o.fails) {
		o.env.Log.Warn("operations of the node failed, trying again", o.about("err", err, "fails", o.fails)...)
	}
	o.state.set(c, messages.Backoff, "", err, time.Now().Add(keepTrouble))
	o.clock.arm(c, "pass", keepTrouble)
}

func (o *Keeper) about(more ...any) []any {
	return append([]any{"db", o.db, "queue", o.p.Queue, "node", o.p.Name}, more...)
}
