package actors

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

var maintainerParams = MaintainerParams{Period: 2 * time.Minute, RetryPeriod: 30 * time.Second, OperationTimeout: 10 * time.Minute}

func playMaintainer(t *testing.T, db *fakeDB) *stage {
	t.Helper()
	return play(t, "maintainer", func(env Env) *actor.Props { return maintainerProps(env, "main", maintainerParams, db) })
}

func ops(names ...string) (list []pgq.MaintOp) {
	for _, n := range names {
		list = append(list, pgq.MaintOp{Func: n})
	}
	return list
}

func TestMaintainer_FailingOperationStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB()
		db.ops = ops("fails", "step1", "step2", "vacuum")
		db.hook = func(_ context.Context, call, arg string) error {
			if call == "op" && arg == "fails" {
				return errors.New("no")
			}
			return nil
		}
		s := playMaintainer(t, db)
		db.is(t, "fails", "step1", "step2", "vacuum")
		st := s.actor("/maintainer")
		if st.State != messages.Running || st.LastError != "no" {
			t.Errorf("got %+v", st)
		}
		d := s.snapshot().Databases[0]
		if d.Operations != 4 || d.OpsFailed != 1 || d.Maintenance.IsZero() {
			t.Errorf("got %+v", d)
		}
		time.Sleep(119 * time.Second)
		if n := len(db.all()); n != 4 {
			t.Errorf("%d operations before the period was over", n)
		}
		db.with(func() { db.hook = nil })
		time.Sleep(2 * time.Second)
		if n := len(db.all()); n != 8 {
			t.Errorf("%d operations after two rounds", n)
		}
	})
}

func TestMaintainer_CallsAgainWhatWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB()
		db.ops = ops("again", "after")
		playMaintainer(t, db)
		db.is(t, "again", "again", "again", "after")
	})
}

func TestMaintainer_HangingOperationDoesNotHoldUpRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB()
		db.ops, db.retries = ops("hangs", "after"), []int{10, 5}
		db.hook = func(ctx context.Context, call, arg string) error {
			if call == "op" && arg == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		s := playMaintainer(t, db)
		if d := s.snapshot().Databases[0]; d.Retried != 15 {
			t.Errorf("got %+v", d)
		}
		db.with(func() { db.retries = []int{7} })
		time.Sleep(31 * time.Second)
		if d := s.snapshot().Databases[0]; d.Retried != 22 {
			t.Errorf("got %+v", d)
		}
		time.Sleep(10 * time.Minute)
		if got := db.all(); !slices.Contains(got, "after") {
			t.Errorf("a hanging operation was never given up: %q", got)
		}
	})
}

func TestMaintainer_VacuumHasNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, ended := newFakeDB(), false
		db.ops = ops("vacuum analyze")
		db.hook = func(ctx context.Context, call, _ string) error {
			if call == "op" {
				select {
				case <-time.After(5 * time.Hour):
					ended = true
				case <-ctx.Done():
				}
			}
			return ctx.Err()
		}
		playMaintainer(t, db)
		time.Sleep(6 * time.Hour)
		if !ended {
			t.Error("vacuum was cut short")
		}
	})
}

func TestMaintainer_LostConnectionEndsTheRoundAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB()
		db.ops = ops("first", "lost", "after")
		db.hook = func(_ context.Context, call, arg string) error {
			if call == "op" && arg == "lost" {
				return errLost
			}
			return nil
		}
		s := playMaintainer(t, db)
		db.is(t, "first", "lost")
		if st := s.actor("/maintainer"); st.State != messages.Backoff || st.NextRetry.IsZero() {
			t.Errorf("got %+v", st)
		}
		if got := s.heard.all(); !slices.Contains(got, "DatabaseTroubled") {
			t.Errorf("the parent heard %q", got)
		}
		db.with(func() { db.hook = nil })
		time.Sleep(2 * time.Second)
		db.is(t, "first", "lost", "first", "lost", "after")
		if st := s.actor("/maintainer"); st.State != messages.Running {
			t.Errorf("got %+v", st)
		}
	})
}

func TestMaintainer_PanicStopsItForItsParentAndStopDuringWorkIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB()
		db.ops = ops("x")
		db.hook = func(_ context.Context, call, _ string) error {
			if call == "op" {
				panic("broken")
			}
			return nil
		}
		s := playMaintainer(t, db)
		if got := s.heard.all(); len(got) != 1 || got[0] != "*actor.Terminated" {
			t.Errorf("the parent heard %q", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB()
		db.ops = ops("x")
		db.hook = func(ctx context.Context, call, _ string) error {
			if call == "op" || call == "retry" {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		s := playMaintainer(t, db)
		s.system.Root.Send(s.child, done[roundDone]{owner: &worker{}, gen: 1, val: roundDone{ran: 99}})
		s.system.Root.Send(s.child, done[retryDone]{owner: &worker{}, gen: 1, val: 99})
		synctest.Wait()
		if ds := s.snapshot().Databases; len(ds) != 0 {
			t.Errorf("a stale result was counted: %+v", ds)
		}
		begin := time.Now()
		s.system.Root.Stop(s.child)
		synctest.Wait()
		if got := s.heard.all(); strings.Join(got, " ") != "*actor.Terminated" || time.Since(begin) > 0 {
			t.Errorf("the parent heard %q after %s", got, time.Since(begin))
		}
	})
}
