package actors

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

func databaseParams(db *fakeDB) DatabaseParams {
	return DatabaseParams{
		Name: "main", Open: func() (Handle, error) { return db, nil }, CheckPeriod: time.Minute, CheckTimeout: 10 * time.Second,
		Ticker: tickerParams, Maintainer: maintainerParams,
	}
}

func playDatabase(t *testing.T, p DatabaseParams) *stage {
	t.Helper()
	return play(t, "main", func(env Env) *actor.Props { return databaseProps(env, p) })
}

// states checks the state of the database and of its children.
func (s *stage) states(database, children messages.State) {
	s.t.Helper()
	for name, want := range map[string]messages.State{"/main": database, "/ticker": children, "/maintainer": children} {
		if got := s.actor(name); got.State != want {
			s.t.Errorf("%s: got %s, want %s (%+v)", name, got.State, want, got)
		}
	}
}

func TestDatabase_ServesAndCleansUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playDatabase(t, databaseParams(db))
		s.states(messages.Running, messages.Running)
		db.insert("q", 500)
		time.Sleep(time.Second)
		if db.count("q") == 0 {
			t.Error("no tick")
		}
		if d := s.snapshot().Databases; len(d) != 1 || !d[0].Up || d[0].Version != "3.5" {
			t.Errorf("got %+v", d)
		}
		s.system.Root.Stop(s.child)
		synctest.Wait()
		if !db.closed {
			t.Error("the handle was not closed")
		}
	})
}

func TestDatabase_ThatIsDownAtStartIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		db.down = errLost
		s := playDatabase(t, databaseParams(db))
		time.Sleep(time.Hour)
		s.states(messages.Backoff, "")
		if st := s.actor("/main"); time.Until(st.NextRetry) > reconnectLimit+time.Second || st.Restarts != 0 {
			t.Errorf("got %+v", st)
		}
		db.with(func() { db.down = nil })
		time.Sleep(reconnectLimit + time.Second)
		s.states(messages.Running, messages.Running)
		if d := s.snapshot().Databases[0]; d.Reconnects["closed"] != 1 {
			t.Errorf("got %+v", d)
		}
	})
}

func TestDatabase_LosesItsChildrenAndGetsThemBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playDatabase(t, databaseParams(db))
		for range 3 {
			db.with(func() { db.down = errLost; db.resets = 0 })
			time.Sleep(30 * time.Second)
			s.states(messages.Backoff, messages.Parked)
			if db.resets == 0 {
				t.Error("the connections were kept")
			}
			db.with(func() { db.down = nil })
			time.Sleep(reconnectLimit + time.Second)
			s.states(messages.Running, messages.Running)
		}
		if st := s.actor("/ticker"); st.Restarts != 0 {
			t.Errorf("a lost connection was counted as a failure: %+v", st)
		}
	})
}

func TestDatabase_RoleFlipParksUntilThePrimaryIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playDatabase(t, databaseParams(db))
		readOnly := errors.New("read only")
		db.with(func() {
			db.health.InRecovery = true
			db.hook = func(_ context.Context, call, _ string) error {
				if call == "tick" {
					return errors.Join(readOnly, errLost)
				}
				return nil
			}
		})
		db.insert("q", 500)
		time.Sleep(5 * time.Second)
		s.states(messages.Backoff, messages.Parked)
		if d := s.snapshot().Databases[0]; d.Up || !d.InRecovery || d.Reason != "read_only" {
			t.Errorf("got %+v", d)
		}
		db.with(func() { db.health.InRecovery, db.hook = false, nil })
		time.Sleep(reconnectLimit + time.Second)
		s.states(messages.Running, messages.Running)
		if d := s.snapshot().Databases[0]; !d.Up || d.InRecovery || d.Reconnects["read_only"] != 1 {
			t.Errorf("got %+v", d)
		}
	})
}

func TestDatabase_PermanentErrorIsLookedAtSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, checks := newFakeDB("q"), 0
		db.hook = func(context.Context, string, string) error { checks++; return errAuth }
		s := playDatabase(t, databaseParams(db))
		time.Sleep(time.Hour)
		s.states(messages.Failed, "")
		if checks < 50 || checks > 130 {
			t.Errorf("%d looks in an hour", checks)
		}
		db.with(func() { db.hook = nil })
		time.Sleep(time.Minute + time.Second)
		s.states(messages.Running, messages.Running)
	})
}

func TestDatabase_WithoutPgQ(t *testing.T) {
	for _, optional := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			db := newFakeDB("q")
			db.health = Health{}
			p := databaseParams(db)
			p.Optional = optional
			s := playDatabase(t, p)
			want, wait := messages.Failed, missingLimit
			if optional {
				want, wait = messages.Parked, p.CheckPeriod
			}
			if st := s.actor("/main"); st.State != want || st.Optional != optional || st.Note == "" {
				t.Errorf("got %+v", st)
			}
			db.with(func() { db.health = Health{Version: "2.0"} })
			time.Sleep(wait)
			if st := s.actor("/main"); st.State != want || st.Note != "the schema pgq has version 2.0, which skyd does not support" {
				t.Errorf("got %+v", st)
			}
			db.with(func() { db.health = Health{Installed: true, Version: "3.5"} })
			time.Sleep(wait)
			s.states(messages.Running, messages.Running)
			db.with(func() { db.health = Health{} }) // dropped while we serve
			time.Sleep(p.CheckPeriod)
			s.states(want, messages.Parked)
		})
	}
}

func TestDatabase_BringsBackAChildThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, panics := newFakeDB("q"), 0
		db.hook = func(_ context.Context, call, _ string) error {
			if call == "mark" && panics < 4 {
				panics++
				panic("broken")
			}
			return nil
		}
		s := playDatabase(t, databaseParams(db))
		if st := s.actor("/ticker"); st.State != messages.Backoff || st.LastError != "worker panic: broken" || st.Restarts != 1 ||
			st.NextRetry.IsZero() {
			t.Errorf("got %+v", st)
		}
		if st := s.actor("/maintainer"); st.State != messages.Running || st.Restarts != 0 {
			t.Errorf("the sibling: got %+v", st)
		}
		time.Sleep(time.Minute)
		if st := s.actor("/ticker"); st.State != messages.Running || st.Restarts != 4 || panics != 4 {
			t.Errorf("got %+v", st)
		}
	})
}

func TestDatabase_NothingComesBackWhileItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		db.hook = func(_ context.Context, call, _ string) error {
			if call == "mark" {
				panic("broken")
			}
			return nil
		}
		s := playDatabase(t, databaseParams(db))
		s.system.Root.Stop(s.child) // the respawn of the ticker is armed
		synctest.Wait()
		looks := db.looks
		time.Sleep(time.Hour)
		if db.looks != looks || !db.closed {
			t.Error("something lives on")
		}
	})
}

func TestDatabase_StopDuringHangingCheckAndStaleResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		db.hook = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return ctx.Err() }
		s := playDatabase(t, databaseParams(db))
		s.system.Root.Send(s.child, done[Health]{owner: &worker{}, gen: 1, val: Health{Installed: true, Version: "3"}})
		s.states("", "")
		begin := time.Now()
		s.system.Root.Stop(s.child)
		synctest.Wait()
		if !db.closed || time.Since(begin) > 0 {
			t.Errorf("closed %v after %s", db.closed, time.Since(begin))
		}
	})
}

func TestDatabase_OffMeansOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := databaseParams(newFakeDB("q"))
		p.Ticker, p.Maintainer = TickerParams{}, MaintainerParams{}
		s := playDatabase(t, p)
		s.states(messages.Running, "")
	})
}
