package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// ArchiveChore is something that is done for an archive again and again.
type ArchiveChore struct {
	// Name is the name of its actor: survey, drill or periodic.
	Name string
	// Key stands for everything that it depends on.
	Key string
	// Period is the time between two turns.
	Period time.Duration
	// Do is one turn. What it reports, if not nil, goes to status, also beside an error.
	Do func(ctx context.Context, h ArchiveHandle) (report any, err error)
}

// Delays between two turns of a chore that failed.
const (
	choreBase  = 10 * time.Second
	choreLimit = 10 * time.Minute
)

// Chore does one chore of an archive. What it needs to know it reads at each turn.
type Chore struct {
	env    Env
	chore  ArchiveChore
	handle ArchiveHandle
	state  reporter
	work   worker
	clock  timers
	fails  int
}

// chored is the result of a turn.
type chored struct {
	report any
	err    error
}

// choreProps builds the actor of a chore.
func choreProps(env Env, chore ArchiveChore, handle ArchiveHandle) *actor.Props {
	return newProps(env, chore.Name, func() actor.Actor {
		return &Chore{env: env, chore: chore, handle: handle, state: reporter{env: env, kind: chore.Name}}
	})
}

// Receive implements actor.Actor.
func (w *Chore) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		w.state.set(c, messages.Running, "", nil, time.Time{})
		w.turn(c)
	case *actor.Stopping, *actor.Restarting:
		w.clock.stop()
		w.work.halt(haltGrace)
	case messages.ReportStatus:
		w.state.repeat(c)
	case done[chored]:
		w.turned(c, m)
	case wake:
		if w.clock.fired(m) {
			w.turn(c)
		}
	}
}

// turn does it once.
func (w *Chore) turn(c actor.Context) {
	do, handle := w.chore.Do, w.handle
	err := start(&w.work, c, w.env.Context, func(ctx context.Context) (chored, error) {
		report, err := do(ctx, handle)
		return chored{report, err}, nil
	})
	if err != nil {
		panic(err) // one turn at a time
	}
}

// turned waits for the next turn.
func (w *Chore) turned(c actor.Context, d done[chored]) {
	if !finish(&w.work, d) {
		return
	}
	if d.val.report != nil {
		w.env.report(c, d.val.report)
	}
	err := d.val.err
	if d.err != nil {
		err = d.err
	}
	if err != nil {
		delay := min(w.chore.Period, fullJitter(choreBase, choreLimit, w.fails))
		w.fails++
		w.state.set(c, messages.Backoff, "", err, time.Now().Add(delay))
		w.clock.arm(c, "turn", delay)
		return
	}
	w.fails = 0
	w.state.set(c, messages.Running, "", nil, time.Time{})
	w.clock.arm(c, "turn", w.chore.Period)
}
