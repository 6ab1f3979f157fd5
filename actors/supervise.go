package actors

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// quietReset is how long a child must run until its earlier failures are forgotten.
const quietReset = 5 * time.Minute

// stopChild is the strategy of every actor: a failed child is stopped at once, so that its connections, timers and
// children are gone. Bringing it back is the parent's work, see children. The library keeps a guardian per strategy
// value for ever, so there is exactly one.
var stopChild = actor.NewOneForOneStrategy(0, 0, func(any) actor.Directive { return actor.StopDirective })

// fullJitter is a delay uniformly below min(limit, base*2^n), plus one millisecond.
func fullJitter(base, limit time.Duration, n int) time.Duration {
	d := limit
	if n < 30 && base<<n > 0 && base<<n < limit {
		d = base << n
	}
	return rand.N(d) + time.Millisecond
}

// newProps is the only way to build Props in this package: recovery middleware, measurement and our strategy on every
// actor. The props are for one incarnation.
func newProps(env Env, kind string, produce func() actor.Actor) *actor.Props {
	opts := []actor.PropsOption{actor.WithSupervisor(stopChild), actor.WithReceiverMiddleware(recovery(env.Log))}
	return actor.PropsFromProducer(produce, append(opts, env.Meter.props(kind)...)...)
}

// recovery logs a panic with its stack. It swallows panics of Stopping and Stopped: a panic there would bring the
// stopping actor back to life, or leave its parent without the news of its end.
func recovery(log *slog.Logger) actor.ReceiverMiddleware {
	return func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(c actor.ReceiverContext, envelope *actor.MessageEnvelope) {
			defer func() {
				r := recover()
				if r == nil {
					return
				}
				stack := debug.Stack()
				if p, ok := r.(*workPanic); ok {
					stack = p.stack
				}
				log.Error("actor panicked", "message", fmt.Sprintf("%T", envelope.Message),
					"err", fmt.Sprint(r), "stack", string(stack))
				switch envelope.Message.(type) {
				case *actor.Stopping, *actor.Stopped:
				default:
					panic(r)
				}
			}()
			next(c, envelope)
		}
	}
}

// treePath is the place of an actor in the tree, as it appears in logs, metrics and status: without the root's name.
func treePath(pid *actor.PID) string {
	if pid == nil {
		return ""
	}
	return strings.TrimPrefix(pid.GetId(), rootName+"/")
}

// childSpec describes a child that its parent wants alive.
type childSpec struct {
	name     string // relative to the parent: ticker, database/main
	kind     string
	database string
	optional bool
	props    func(env Env) *actor.Props // of one incarnation
}

// child is one child, alive or not.
type child struct {
	spec     childSpec
	pid      *actor.PID // nil while not alive
	want     bool
	stopping bool  // a stop was asked for and is not confirmed yet
	reason   error // of the failure that is stopping it
	forget   bool  // remove when dead
	attempts int   // failures without a quiet time in between
	restarts int64
	started  time.Time
	last     messages.ActorChanged // what we said last while it was dead
}

// children is the supervising half of a parent: it keeps the wanted children alive, brings a failed one back after
// a delay, and tells status. It is used only from the parent's Receive. Parents embed it, which makes the library hand
// it the failures: see HandleFailure.
type children struct {
	env  Env
	kids map[string]*child
	ts   timers
	// halted is set when the parent stops: nothing is spawned any more.
	halted bool
}

// respawn delays of a failed child.
const (
	respawnBase  = time.Second
	respawnLimit = time.Minute
)

// HandleFailure implements actor.SupervisorStrategy. The library calls it in the parent's own turn, before the child
// has stopped: the one place where the reason of a failure can be had.
func (ch *children) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, pid *actor.PID,
	rs *actor.RestartStatistics, reason, message any,
) {
	if k := ch.byPID(pid); k != nil {
		k.reason = asError(reason)
	}
	stopChild.HandleFailure(system, supervisor, pid, rs, reason, message)
}

// asError turns a panic value into an error.
func asError(reason any) error {
	if err, ok := reason.(error); ok {
		return err
	}
	return fmt.Errorf("%v", reason)
}

// byPID finds the child with this address.
func (ch *children) byPID(pid *actor.PID) *child {
	for _, k := range ch.kids {
		if k.pid != nil && k.pid.GetId() == pid.GetId() {
			return k
		}
	}
	return nil
}

// ensure makes the child wanted and spawns it, now or as soon as its predecessor is gone.
func (ch *children) ensure(c actor.Context, spec childSpec) {
	if ch.kids == nil {
		ch.kids = map[string]*child{}
	}
	k := ch.kids[spec.name]
	if k == nil {
		k = &child{}
		ch.kids[spec.name] = k
	}
	k.spec, k.want, k.forget = spec, true, false
	if k.pid == nil && !ch.ts.isArmed(spec.name) {
		ch.spawn(c, k)
	}
}

// adopt gives the child another spec: the next incarnation is made from it, the living one is not touched.
func (ch *children) adopt(spec childSpec) {
	if k := ch.kids[spec.name]; k != nil {
		k.spec = spec
	}
}

// replace makes the child wanted with another spec: a living incarnation is stopped and followed by one from the new
// spec, and one that waits after a failure starts at once, because what made it fail may be cured.
func (ch *children) replace(c actor.Context, spec childSpec) {
	ch.ts.disarm(spec.name)
	if k := ch.kids[spec.name]; k != nil {
		k.attempts = 0
		if k.pid != nil && !k.stopping {
			k.stopping = true
			c.Stop(k.pid)
		}
	}
	ch.ensure(c, spec)
}

// spawn starts one incarnation of k.
func (ch *children) spawn(c actor.Context, k *child) {
	if ch.halted || !k.want {
		return
	}
	k.started, k.reason, k.stopping = time.Now(), nil, false
	ch.tell(c, k, messages.Starting, "", "", time.Time{})
	pid, err := c.SpawnNamed(k.spec.props(ch.env.of(k.spec.kind, ch.path(c, k), k.restarts)), k.spec.name)
	if err != nil {
		// The name is taken only by an incarnation that we already count as dead: a broken invariant of ours.
		panic(fmt.Errorf("spawn %s: %w", k.spec.name, err))
	}
	k.pid = pid
}

// park stops the child until ensure is called again; note says what it waits for.
func (ch *children) park(c actor.Context, name, note string) {
	k := ch.kids[name]
	if k == nil {
		return
	}
	k.want = false
	ch.ts.disarm(name)
	if k.pid != nil && !k.stopping {
		k.stopping = true
		c.Stop(k.pid)
	}
	if !ch.halted {
		ch.tell(c, k, messages.Parked, note, "", time.Time{})
	}
}

// await makes a child known that is not to run yet; note says what it waits for.
func (ch *children) await(c actor.Context, spec childSpec, note string) {
	if ch.kids == nil {
		ch.kids = map[string]*child{}
	}
	k := ch.kids[spec.name]
	if k == nil {
		k = &child{}
		ch.kids[spec.name] = k
	}
	k.spec, k.forget = spec, false
	ch.park(c, spec.name, note)
}

// remove stops the child for good and takes it out of the status.
func (ch *children) remove(c actor.Context, name string) {
	k := ch.kids[name]
	if k == nil {
		return
	}
	k.want, k.forget = false, true
	ch.ts.disarm(name)
	if k.pid == nil {
		ch.drop(c, k)
	} else if !k.stopping {
		k.stopping = true
		c.Stop(k.pid)
	}
}

// drop forgets a dead child.
func (ch *children) drop(c actor.Context, k *child) {
	delete(ch.kids, k.spec.name)
	gone := messages.ActorGone{Path: ch.path(c, k)}
	if k.spec.kind == kindDatabase {
		gone.Database = k.spec.database
	}
	ch.env.report(c, gone)
}

// receive handles the messages of supervision; true: it was one of them.
func (ch *children) receive(c actor.Context) bool {
	switch m := c.Message().(type) {
	case *actor.Terminated:
		ch.terminated(c, m.Who)
	case wake:
		if m.owner != &ch.ts {
			return false
		}
		if ch.ts.fired(m) {
			if k := ch.kids[m.name]; k != nil && k.pid == nil {
				ch.spawn(c, k)
			}
		}
	default:
		return false
	}
	return true
}

// terminated notes that a child is gone and arranges what follows: nothing when that was the wish, otherwise a respawn
// after the backoff.
func (ch *children) terminated(c actor.Context, who *actor.PID) {
	k := ch.byPID(who)
	if k == nil {
		return
	}
	planned, now := k.stopping && k.reason == nil, time.Now()
	k.pid, k.stopping = nil, false
	switch {
	case ch.halted:
	case k.forget:
		ch.drop(c, k)
	case !k.want:
		ch.tell(c, k, messages.Parked, k.last.Note, "", time.Time{})
	case planned:
		ch.spawn(c, k) // parked and wanted again before it was gone
	default:
		ch.failed(c, k, now)
	}
}

// failed arms the respawn of a child that died unasked.
func (ch *children) failed(c actor.Context, k *child, now time.Time) {
	if now.Sub(k.started) >= quietReset {
		k.attempts = 0
	}
	text := "stopped unasked"
	if k.reason != nil {
		text = k.reason.Error()
	}
	delay := fullJitter(respawnBase, respawnLimit, k.attempts)
	k.attempts++
	k.restarts++
	path := ch.path(c, k)
	ch.env.of(k.spec.kind, path, k.restarts).Log.Warn("actor failed, comes back", "db", k.spec.database, "err", text,
		"restarts", k.restarts, "delay", delay.Round(time.Millisecond))
	ch.env.report(c, messages.ActorRestarted{Path: path, Reason: text, At: now})
	ch.tell(c, k, messages.Backoff, "", text, now.Add(delay))
	ch.ts.arm(c, k.spec.name, delay)
}

// path is the tree path of a child.
func (ch *children) path(c actor.Context, k *child) string {
	if c.Self().GetId() == rootName {
		return k.spec.name
	}
	return treePath(c.Self()) + "/" + k.spec.name
}

// tell reports the state of a child that cannot speak for itself.
func (ch *children) tell(c actor.Context, k *child, state messages.State, note, err string, retry time.Time) {
	k.last = messages.ActorChanged{
		Path: ch.path(c, k), Kind: k.spec.kind, Database: k.spec.database, State: state, Note: note, Err: err,
		Retry: retry, At: time.Now(), Optional: k.spec.optional,
	}
	if k.spec.kind != kindStatus { // which cannot hear that it is not there
		ch.env.report(c, k.last)
	}
}

// repeat tells status again about the dead children and asks the living to do it themselves.
func (ch *children) repeat(c actor.Context) {
	for _, name := range slices.Sorted(maps.Keys(ch.kids)) {
		k := ch.kids[name]
		if k.pid != nil {
			c.Send(k.pid, messages.ReportStatus{})
		} else {
			ch.env.report(c, k.last)
		}
	}
}

// halt ends the respawning. For Stopping and Restarting; the library stops the children.
func (ch *children) halt() {
	ch.halted = true
	ch.ts.stop()
}
