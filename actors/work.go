package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// errBusy is returned by start while the last work of the worker runs.
var errBusy = errors.New("worker is busy")

// haltGrace is how long an actor that stops waits for its cancelled work to notice.
const haltGrace = 5 * time.Second

// done is the result of a work, as it comes back to the actor that started it. The owner is part of it because a
// respawned actor has the address of its predecessor, and counts its generations from the start.
type done[T any] struct {
	owner *worker
	gen   uint64
	val   T
	err   error
}

// workPanic is the error of a work that panicked.
type workPanic struct {
	value any
	stack []byte
}

// Error implements error.
func (p *workPanic) Error() string { return fmt.Sprintf("worker panic: %v", p.value) }

// worker runs at most one piece of blocking work for an actor, outside of its Receive. Only this file starts
// goroutines. The zero value is ready. A worker belongs to one actor and is used only from its Receive.
type worker struct {
	gen    uint64
	cancel context.CancelFunc
	idle   chan struct{}
}

// start runs work in its own goroutine and sends done[T] to the actor when it ends. The values of span (trace, logger)
// reach the work, its cancellation does not: only halt cancels. A panic of work comes back as an error.
func start[T any](w *worker, c actor.Context, span context.Context, work func(context.Context) (T, error)) error {
	if w.cancel != nil {
		return errBusy
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(span))
	w.gen++
	w.cancel, w.idle = cancel, make(chan struct{})
	gen, self, root, idle := w.gen, c.Self(), c.ActorSystem().Root, w.idle
	go func() {
		d := done[T]{owner: w, gen: gen}
		func() {
			defer func() {
				if r := recover(); r != nil {
					d.err = &workPanic{value: r, stack: debug.Stack()}
				}
			}()
			d.val, d.err = work(ctx)
		}()
		close(idle)
		if ctx.Err() == nil {
			root.Send(self, d)
		}
	}()
	return nil
}

// finish takes the result of the current work; false means that it is stale and must be ignored. When the work
// panicked, finish panics in the actor: our own code is broken, and the parent decides.
func finish[T any](w *worker, d done[T]) bool {
	if w.cancel == nil || d.owner != w || d.gen != w.gen {
		return false
	}
	w.cancel()
	w.cancel = nil
	if p := (*workPanic)(nil); errors.As(d.err, &p) {
		panic(p)
	}
	return true
}

// abandon gives up on the work: it is cancelled, its result is stale, and nobody waits for it. The channel is closed when
// it has ended after all.
func (w *worker) abandon() <-chan struct{} {
	w.cancel()
	w.cancel = nil
	w.gen++
	return w.idle
}

// busy reports whether work is under way.
func (w *worker) busy() bool { return w.cancel != nil }

// halt cancels the work, makes its result stale and waits up to grace for it to end; false: it still runs. For
// Stopping and Restarting.
func (w *worker) halt(grace time.Duration) bool {
	if w.cancel == nil {
		return true
	}
	w.cancel()
	w.cancel = nil
	w.gen++
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-w.idle:
		return true
	case <-t.C:
		return false
	}
}

// haltAll halts several workers side by side: their graces do not add up.
func haltAll(grace time.Duration, workers ...*worker) bool {
	for _, w := range workers {
		if w.cancel != nil {
			w.cancel()
		}
	}
	deadline := time.Now().Add(grace)
	clean := true
	for _, w := range workers {
		clean = w.halt(max(time.Until(deadline), time.Millisecond)) && clean
	}
	return clean
}

// closeWithin runs a blocking release (a pool that waits for its connections) and gives up waiting after grace.
func closeWithin(grace time.Duration, release func()) bool {
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		release()
	}()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-idle:
		return true
	case <-t.C:
		return false
	}
}

// wake is the message of a timer. The generation makes a wake that was already on its way when its timer was replaced
// recognisable.
type wake struct {
	owner *timers
	name  string
	gen   uint64
}

// timers are the named one-shot timers of an actor. The zero value is ready; used only from Receive.
type timers struct {
	gen   uint64
	armed map[string]timer
}

// timer is one armed timer.
type timer struct {
	gen uint64
	t   *time.Timer
}

// arm sends wake{name} to the actor after d; an armed timer of that name is replaced.
func (ts *timers) arm(c actor.Context, name string, d time.Duration) {
	ts.disarm(name)
	if ts.armed == nil {
		ts.armed = map[string]timer{}
	}
	ts.gen++
	msg := wake{owner: ts, name: name, gen: ts.gen}
	self, root := c.Self(), c.ActorSystem().Root
	ts.armed[name] = timer{gen: ts.gen, t: time.AfterFunc(d, func() { root.Send(self, msg) })}
}

// disarm stops the named timer.
func (ts *timers) disarm(name string) {
	if t, ok := ts.armed[name]; ok {
		t.t.Stop()
		delete(ts.armed, name)
	}
}

// fired reports whether w belongs to the timer that is armed under its name, and forgets the timer.
func (ts *timers) fired(w wake) bool {
	t, ok := ts.armed[w.name]
	if !ok || w.owner != ts || t.gen != w.gen {
		return false
	}
	delete(ts.armed, w.name)
	return true
}

// isArmed reports whether the named timer is armed.
func (ts *timers) isArmed(name string) bool {
	_, ok := ts.armed[name]
	return ok
}

// stop stops all timers. For Stopping and Restarting.
func (ts *timers) stop() {
	for name := range maps.Clone(ts.armed) {
		ts.disarm(name)
	}
}
