package actors

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace/noop"
)

// testEnv is the environment of an actor under test.
func testEnv(t *testing.T, status *actor.PID) Env {
	t.Helper()
	return Env{
		Log: slog.New(slog.DiscardHandler), Tracer: noop.NewTracerProvider().Tracer(""),
		Context: context.WithoutCancel(t.Context()), Status: status,
	}
}

// workActor runs the work it is sent.
type workActor struct {
	d  *diary
	w  worker
	ts timers
}

func (a *workActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case func(context.Context) (string, error):
		if err := start(&a.w, c, context.Background(), m); err != nil {
			a.d.add(err.Error())
		}
	case done[string]:
		if !finish(&a.w, m) {
			a.d.add("stale " + m.val)
			return
		}
		if m.err != nil {
			m.val = "error " + m.err.Error()
		}
		a.d.add(m.val)
	case func(actor.Context):
		m(c)
	case wake:
		if a.ts.fired(m) {
			a.d.add("wake " + m.name)
		}
	case *actor.Stopping:
		a.ts.stop()
		if a.w.halt(time.Second) {
			a.d.add("halted")
		} else {
			a.d.add("gave up")
		}
	case *actor.Stopped:
		a.d.add("stopped")
	}
}

func TestWorker_ReturnsResultsAndErrorsOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		pid := system.Root.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor { return &workActor{d: d} }))
		send := func(f func(context.Context) (string, error)) { system.Root.Send(pid, f) }
		send(func(context.Context) (string, error) { time.Sleep(time.Minute); return "one", nil })
		synctest.Wait()
		send(func(context.Context) (string, error) { return "never", nil })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		send(func(context.Context) (string, error) { return "", errors.New("two") })
		d.is(t, errBusy.Error(), "one", "error two")
		system.Root.Stop(pid)
		d.is(t, errBusy.Error(), "one", "error two", "halted", "stopped")
	})
}

func TestWorker_PanicFailsTheActorAndNotTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		pid := system.Root.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor { return &workActor{d: d} }).
			Configure(actor.WithGuardian(stopChild)))
		system.Root.Send(pid, func(context.Context) (string, error) { panic("broken") })
		d.is(t, "halted", "stopped")
	})
}

func TestWorkPanic_NamesTheValueAndKeepsTheStack(t *testing.T) {
	t.Parallel()
	p := &workPanic{value: "broken", stack: []byte("stack")}
	if p.Error() != "worker panic: broken" || strings.Contains(p.Error(), "stack") {
		t.Errorf("got %s", p)
	}
}

func TestWorker_StopDuringHangingWorkIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		pid := system.Root.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor { return &workActor{d: d} }))
		system.Root.Send(pid, func(ctx context.Context) (string, error) { <-ctx.Done(); return "late", ctx.Err() })
		synctest.Wait()
		begin := time.Now()
		system.Root.Stop(pid)
		d.is(t, "halted", "stopped")
		if took := time.Since(begin); took != 0 {
			t.Errorf("stop took %s", took)
		}
	})
}

func TestWorker_StopDoesNotWaitForEverForWorkThatIgnoresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d, gate := newSystem(t), &diary{}, make(chan struct{})
		pid := system.Root.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor { return &workActor{d: d} }))
		system.Root.Send(pid, func(context.Context) (string, error) { <-gate; return "late", nil })
		synctest.Wait()
		system.Root.Stop(pid)
		time.Sleep(2 * time.Second)
		d.is(t, "gave up", "stopped")
		close(gate)
		d.is(t, "gave up", "stopped") // the late result went nowhere
	})
}

func TestWorker_StaleResultIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		pid := system.Root.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor { return &workActor{d: d} }))
		system.Root.Send(pid, func(context.Context) (string, error) { time.Sleep(time.Minute); return "true", nil })
		// Results of a predecessor at the same address, with any generation.
		for gen := range uint64(3) {
			system.Root.Send(pid, done[string]{owner: &worker{}, gen: gen, val: "old"})
		}
		d.is(t, "stale old", "stale old", "stale old")
		time.Sleep(2 * time.Minute)
		d.is(t, "stale old", "stale old", "stale old", "true")
		system.Root.Stop(pid)
		synctest.Wait()
	})
}

func TestTimers_ReplacedAndDisarmedTimersStaySilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d, a := newSystem(t), &diary{}, (*workActor)(nil)
		pid := system.Root.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor { a = &workActor{d: d}; return a }))
		system.Root.Send(pid, func(c actor.Context) {
			a.ts.arm(c, "x", time.Second)
			a.ts.arm(c, "x", 3*time.Second)
			a.ts.arm(c, "y", time.Second)
			a.ts.arm(c, "z", time.Second)
			a.ts.disarm("z")
			c.Send(c.Self(), wake{owner: &timers{}, name: "x", gen: 2}) // of a predecessor
		})
		time.Sleep(2 * time.Second)
		d.is(t, "wake y")
		time.Sleep(2 * time.Second)
		d.is(t, "wake y", "wake x")
		system.Root.Send(pid, func(c actor.Context) { a.ts.arm(c, "x", time.Second) })
		synctest.Wait()
		system.Root.Stop(pid)
		time.Sleep(2 * time.Second)
		d.is(t, "wake y", "wake x", "halted", "stopped")
	})
}

func TestHaltAll_GracesDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var hung []*worker
		for range 5 {
			hung = append(hung, &worker{cancel: func() {}, idle: gate})
		}
		begin := time.Now()
		if haltAll(time.Second, hung...) {
			t.Error("work that hangs was reported as ended")
		}
		if took := time.Since(begin); took > 1100*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if closeWithin(time.Second, func() { <-gate }) {
			t.Error("a release that hangs was reported as done")
		}
		close(gate)
	})
}
