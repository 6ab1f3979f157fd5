package actors

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/messages"
)

// fakeNode is the worker of a node that does what a test wants.
type fakeNode struct {
	mu      sync.Mutex
	step    func(ctx context.Context) (cascade.Pass, error)
	steps   int
	attends int
	changed bool
	closed  bool
}

func (n *fakeNode) with(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *fakeNode) Step(ctx context.Context) (cascade.Pass, error) {
	var step func(ctx context.Context) (cascade.Pass, error)
	n.with(func() { n.steps++; step = n.step })
	return step(ctx)
}

func (n *fakeNode) Attend(ctx context.Context) (s cascade.WorkerState, changed bool, err error) {
	n.with(func() { n.attends++; changed, n.changed = n.changed, false })
	if !changed {
		moment(ctx)
	}
	return branchState, changed, ctx.Err()
}

func (n *fakeNode) Classify(err error) Trouble { return (&fakeDB{}).Classify(err) }
func (n *fakeNode) Close()                     { n.with(func() { n.closed = true }) }

// moment is how long a step or a look waits when there is nothing.
func moment(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(250 * time.Millisecond):
	}
}

var branchState = cascade.WorkerState{Type: cascade.Branch, Node: "b", Provider: "r", Worker: "b_w", Uptodate: true, Completed: 5, Top: 5}

func playNode(t *testing.T, n *fakeNode) *stage {
	t.Helper()
	return play(t, "node", func(env Env) *actor.Props {
		return nodeProps(env, "main", NodeParams{
			Queue: "q", Name: "b", Open: func(string, int64) (NodeSource, error) { return n, nil },
		})
	})
}

func TestNode_StepsAndTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNode{}
		batches := 3
		n.step = func(ctx context.Context) (cascade.Pass, error) {
			if batches--; batches >= 0 {
				return cascade.Pass{Did: cascade.DidBatch, State: branchState, Tick: 6, TickTime: time.Now(), Events: 10, Skipped: 1, Took: time.Second}, nil
			}
			moment(ctx)
			return cascade.Pass{Did: cascade.DidNothing, State: branchState}, nil
		}
		s := playNode(t, n)
		time.Sleep(5 * time.Second)
		got := s.snapshot().Nodes
		if len(got) != 1 || got[0].Batches != 3 || got[0].Events != 30 || got[0].Skipped != 3 || got[0].Type != "branch" ||
			got[0].Provider != "r" || got[0].LagSeconds != 0 || got[0].Duration.Count != 3 {
			t.Errorf("got %+v", got)
		}
		if a := s.actor("/worker"); a.State != messages.Running || a.Note != "branch, reads from r" {
			t.Errorf("got %+v", a)
		}
		s.system.Root.Stop(s.child)
		synctest.Wait()
		if !n.closed {
			t.Error("the worker was not closed")
		}
	})
}

// While it waits after failures, the worker goes on answering; a change of flags ends the waiting.
func TestNode_AttendsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNode{step: func(context.Context) (cascade.Pass, error) { return cascade.Pass{}, errors.New("broken") }}
		s := playNode(t, n)
		time.Sleep(10 * time.Minute) // the pauses are long by now
		if a := s.actor("/worker"); a.State != messages.Backoff || a.LastError != "broken" {
			t.Errorf("got %+v", a)
		}
		attends := 0
		n.with(func() { attends = n.attends })
		if attends < 1000 {
			t.Errorf("%d looks at the flags in 10 minutes", attends)
		}
		if got := s.snapshot().Nodes[0]; got.Fails < 5 || got.LastError != "broken" || got.LagSeconds <= 0 {
			t.Errorf("got %+v", got)
		}
		n.with(func() {
			n.changed = true
			n.step = func(ctx context.Context) (cascade.Pass, error) {
				moment(ctx)
				return cascade.Pass{Did: cascade.DidPause, State: branchState}, nil
			}
		})
		time.Sleep(time.Second)
		if a := s.actor("/worker"); a.State != messages.Running || a.Note != "paused" {
			t.Errorf("a second after a change of flags: %+v", a)
		}
	})
}

func TestNode_WaitsForAHuman(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNode{step: func(context.Context) (cascade.Pass, error) { return cascade.Pass{}, errAuth }}
		s := playNode(t, n)
		time.Sleep(30 * time.Second)
		if a := s.actor("/worker"); a.State != messages.Failed {
			t.Errorf("got %+v", a)
		}
		if n.steps < 5 || n.steps > 15 {
			t.Errorf("%d tries in 30 s", n.steps)
		}
	})
}

// A step that hangs is stopped with the actor; one that panics is followed by a new worker.
func TestNode_HangsAndPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNode{}
		n.step = func(ctx context.Context) (cascade.Pass, error) {
			if n.steps == 1 {
				panic("what now")
			}
			<-ctx.Done()
			return cascade.Pass{}, ctx.Err()
		}
		s := playNode(t, n)
		time.Sleep(10 * time.Second)
		if a := s.actor("/worker"); a.Restarts != 1 || n.steps != 2 {
			t.Errorf("%d steps, %+v", n.steps, a)
		}
		began := time.Now()
		s.system.Root.Stop(s.child)
		synctest.Wait()
		if !n.closed || time.Since(began) > time.Second {
			t.Errorf("closed: %v after %v", n.closed, time.Since(began))
		}
	})
}
