package actors

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The facts about the actor library that this package relies on. A new version of the library has to pass them, or the
// package has to change.

// newSystem makes an actor system for one test, inside its bubble.
func newSystem(t *testing.T) *actor.ActorSystem {
	t.Helper()
	system := actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }),
		actor.WithDeadLetterThrottleInterval(time.Millisecond), actor.WithDeadLetterThrottleCount(1))
	t.Cleanup(func() {
		system.Shutdown()
		time.Sleep(time.Second) // of the bubble: the library's timer of dead letters
	})
	return system
}

// diary collects what happens, from any goroutine.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// is checks the whole diary, after everything has come to rest.
func (d *diary) is(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := d.all(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// lifecycle names the lifecycle messages.
func lifecycle(message any) string {
	switch m := message.(type) {
	case *actor.Started:
		return "started"
	case *actor.Stopping:
		return "stopping"
	case *actor.Stopped:
		return "stopped"
	case *actor.Restarting:
		return "restarting"
	case *actor.Terminated:
		return "terminated " + m.Who.GetId()
	case string:
		return m
	}
	return "other"
}

// writer is a receive function that writes its diary and panics on "panic".
func writer(d *diary, prefix string) func(c actor.Context) {
	return func(c actor.Context) {
		d.add(prefix + lifecycle(c.Message()))
		if c.Message() == "panic" {
			panic("panic")
		}
	}
}

func TestLibrary_StopDirectiveTellsTheParentWithoutWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		var child *actor.PID
		parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(*actor.Started); ok {
				child, _ = c.SpawnNamed(actor.PropsFromFunc(writer(d, "child ")), "database/x")
				return
			}
			d.add(lifecycle(c.Message()))
		}, actor.WithSupervisor(stopChild)))
		synctest.Wait()
		system.Root.Send(child, "panic")
		system.Root.Send(child, "never handled")
		d.is(t, "child started", "child panic", "child stopping", "child stopped", "terminated "+parent.GetId()+"/database/x")
		system.Root.Stop(parent)
	})
}

// failureTaker is a parent that takes the failures of its children itself.
type failureTaker struct {
	d    *diary
	made func(c actor.Context)
}

func (f *failureTaker) Receive(c actor.Context) {
	if _, ok := c.Message().(*actor.Started); ok {
		f.made(c)
		return
	}
	f.d.add(lifecycle(c.Message()))
}

func (f *failureTaker) HandleFailure(system *actor.ActorSystem, s actor.Supervisor, child *actor.PID, rs *actor.RestartStatistics,
	reason, message any,
) {
	f.d.add("failure: " + reason.(error).Error())
	stopChild.HandleFailure(system, s, child, rs, reason, message)
}

func TestLibrary_ParentThatIsAStrategyGetsTheReasonBeforeTerminated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		parent := system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor {
			return &failureTaker{d: d, made: func(c actor.Context) {
				c.Spawn(actor.PropsFromFunc(func(c actor.Context) {
					if _, ok := c.Message().(*actor.Started); ok {
						panic(errors.New("why"))
					}
				}))
			}}
		}, actor.WithSupervisor(stopChild)))
		synctest.Wait()
		got := d.all()
		if len(got) != 2 || got[0] != "failure: why" || got[1][:10] != "terminated" {
			t.Errorf("got %q", got)
		}
		system.Root.Stop(parent)
	})
}

func TestLibrary_ProducerRunsBeforeTheNameIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, made := newSystem(t), 0
		props := actor.PropsFromProducer(func() actor.Actor { made++; return actor.ReceiveFunc(func(actor.Context) {}) })
		pid, err := system.Root.SpawnNamed(props, "x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := system.Root.SpawnNamed(props, "x"); !errors.Is(err, actor.ErrNameExists) {
			t.Errorf("got %v", err)
		}
		if made != 2 {
			t.Errorf("the producer ran %d times, want 2", made)
		}
		system.Root.Stop(pid)
	})
}

func TestLibrary_StopOvertakesAndDropsQueuedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d, gate := newSystem(t), &diary{}, make(chan struct{})
		pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			d.add(lifecycle(c.Message()))
			if c.Message() == "wait" {
				<-gate
			}
		}))
		system.Root.Send(pid, "wait")
		synctest.Wait()
		system.Root.Send(pid, "queued")
		system.Root.Stop(pid)
		close(gate)
		d.is(t, "started", "wait", "stopping", "stopped")
	})
}

func TestLibrary_StoppedNameCanBeTakenAgainAndKeepsItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		first, err := system.Root.SpawnNamed(actor.PropsFromFunc(writer(d, "1 ")), "x")
		if err != nil {
			t.Fatal(err)
		}
		system.Root.Send(first, "a")
		synctest.Wait()
		system.Root.Stop(first)
		synctest.Wait()
		second, err := system.Root.SpawnNamed(actor.PropsFromFunc(writer(d, "2 ")), "x")
		if err != nil {
			t.Fatal(err)
		}
		system.Root.Send(first, "b")
		d.is(t, "1 started", "1 a", "1 stopping", "1 stopped", "2 started", "2 b")
		system.Root.Stop(second)
	})
}

func TestLibrary_GuardianThatStopsGivesStoppedToTheRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		pid := system.Root.Spawn(actor.PropsFromFunc(writer(d, ""), actor.WithGuardian(stopChild)))
		system.Root.Send(pid, "panic")
		d.is(t, "started", "panic", "stopping", "stopped")
	})
}

func TestLibrary_ParentWaitsForItsChildrenBetweenStoppingAndStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		pid := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			if _, ok := c.Message().(*actor.Started); ok {
				c.Spawn(actor.PropsFromFunc(writer(d, "child ")))
				return
			}
			d.add(lifecycle(c.Message())[:7])
		}))
		synctest.Wait()
		system.Root.Stop(pid)
		d.is(t, "child started", "stoppin", "child stopping", "child stopped", "termina", "stopped")
	})
}

// Without recovery the library forgets the stop when Stopping panics; with it the actor ends and the parent hears of it.
func TestRecovery_PanicInStoppingDoesNotKeepTheActorAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, d := newSystem(t), &diary{}
		var child *actor.PID
		parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			switch c.Message().(type) {
			case *actor.Started:
				child = c.Spawn(newProps(testEnv(t, nil), "test", func() actor.Actor {
					return actor.ReceiveFunc(func(c actor.Context) {
						d.add(lifecycle(c.Message()))
						switch c.Message().(type) {
						case *actor.Stopping, *actor.Stopped:
							panic("no")
						}
					})
				}))
			case *actor.Terminated:
				d.add("terminated")
			}
		}, actor.WithSupervisor(stopChild)))
		synctest.Wait()
		system.Root.Stop(child)
		d.is(t, "started", "stopping", "stopped", "terminated")
		system.Root.Stop(parent)
	})
}
