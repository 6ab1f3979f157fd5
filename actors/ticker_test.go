package actors

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// tickerParams are the defaults of the product.
var tickerParams = TickerParams{
	Period: 300 * time.Millisecond, MinPeriod: 10 * time.Millisecond, QuietPeriod: 5 * time.Minute, Parallel: 4,
	LookTimeout: 10 * time.Second, TickTimeout: 30 * time.Second,
}

func playTicker(t *testing.T, db *fakeDB) *stage {
	t.Helper()
	return play(t, "ticker", func(env Env) *actor.Props { return tickerProps(env, "main", tickerParams, db) })
}

func TestTicker_TicksWhenTheContractSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("lag", "count", "quiet", "paused")
		db.queues["paused"].Paused = true
		s := playTicker(t, db)
		time.Sleep(10 * time.Second)
		db.with(func() { clear(db.ticks) })
		db.insert("lag", 1)
		db.insert("count", 500)
		db.insert("paused", 500)
		time.Sleep(time.Second)
		if db.count("lag") != 1 || db.count("count") != 1 || db.count("quiet") != 0 || db.count("paused") != 0 {
			t.Errorf("got %v", db.ticks)
		}
		if st := s.actor("/ticker"); st.State != messages.Running {
			t.Errorf("got %+v", st)
		}
		db.insert("lag", 1)
		time.Sleep(1500 * time.Millisecond)
		if db.count("lag") != 1 {
			t.Error("ticked before max_lag")
		}
		time.Sleep(time.Second)
		if db.count("lag") != 2 {
			t.Error("not ticked after max_lag")
		}
	})
}

func TestTicker_LagStaysNearMaxLagWhileEventsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		db.queues["q"].MaxLag = 20 * time.Millisecond
		playTicker(t, db)
		time.Sleep(time.Minute)
		worst := time.Duration(0)
		for i := range 100 {
			if i%10 == 0 {
				time.Sleep(time.Minute) // the first one after a quiet time does not wait longer than the others
			}
			begin := time.Now()
			before := db.count("q")
			db.insert("q", 1)
			for db.count("q") == before {
				time.Sleep(time.Millisecond)
			}
			worst = max(worst, time.Since(begin))
			time.Sleep(20 * time.Millisecond)
		}
		if worst > 40*time.Millisecond {
			t.Errorf("an event waited %s for its tick", worst)
		}
	})
}

func TestTicker_TickPeriodOfAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("slow", "free", "early")
		for _, q := range db.queues {
			q.MaxLag = 0
		}
		db.queues["early"].MaxLag = time.Minute
		db.queues["early"].MaxCount = 1
		db.periods = map[string]time.Duration{"slow": 200 * time.Millisecond, "early": 10 * time.Millisecond}
		playTicker(t, db)
		time.Sleep(time.Minute)
		db.with(func() { clear(db.ticks) })
		for range 400 {
			db.insert("slow", 1)
			db.insert("free", 1)
			time.Sleep(5 * time.Millisecond)
		}
		if n := db.count("slow"); n < 8 || n > 11 {
			t.Errorf("%d ticks in two seconds of a queue with tick_period 200 ms", n)
		}
		if n := db.count("free"); n < 50 {
			t.Errorf("%d ticks in two seconds of a queue without tick_period", n)
		}
		// a short one is how soon the first event is looked for, whatever max_lag is
		db.with(func() { delete(db.queues, "slow"); delete(db.queues, "free"); clear(db.ticks) })
		time.Sleep(time.Minute)
		before := db.count("early")
		db.insert("early", 1)
		time.Sleep(25 * time.Millisecond)
		if db.count("early") == before {
			t.Error("the first event after a quiet minute waits longer than tick_period for max_count")
		}
	})
}

func TestTicker_QuietDatabaseIsOnlyLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("a", "b")
		playTicker(t, db)
		time.Sleep(10 * time.Minute) // settling
		var xid, looks, loads int
		db.with(func() { xid, looks, loads = db.xid, db.looks, db.loads })
		time.Sleep(4 * time.Minute)
		db.with(func() {
			if db.xid != xid && db.xid != xid+2 {
				t.Errorf("%d transactions in four quiet minutes", db.xid-xid)
			}
			if n := db.looks - looks; n > 4*60*1000/300+10 {
				t.Errorf("%d looks", n)
			}
			if n := db.loads - loads; n > 40 {
				t.Errorf("%d full looks", n)
			}
		})
		time.Sleep(6 * time.Minute) // the safety net
		db.with(func() {
			if db.xid == xid {
				t.Error("no tick in ten minutes")
			}
		})
	})
}

// A producer that took its event id before the tick and commits after it: the counter shows nothing new, the event waits
// for the next idle tick. It must not wait for the rare ticks of a quiet database.
func TestTicker_BusyDatabaseKeepsIdleTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("a")
		playTicker(t, db)
		time.Sleep(20 * time.Minute)
		db.with(func() { clear(db.ticks); db.busyXids = true; db.xid++ })
		time.Sleep(3 * time.Minute)
		if n := db.count("a"); n < 3 {
			t.Errorf("%d idle ticks in three minutes beside an open transaction", n)
		}
		db.with(func() { clear(db.ticks); db.busyXids = false; db.xid++ })
		time.Sleep(61 * time.Second)
		if n := db.count("a"); n == 0 {
			t.Error("no tick within the idle period after a commit")
		}
	})
}

func TestTicker_BrokenQueueStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed atomic.Int64 // the ticks run beside the test
		db := newFakeDB("broken", "fine")
		db.hook = func(_ context.Context, call, arg string) error {
			if call == "tick" && arg == "broken" {
				failed.Add(1)
				return errors.New("no sequence")
			}
			return nil
		}
		s := playTicker(t, db)
		for range 100 {
			db.insert("broken", 500)
			db.insert("fine", 500)
			time.Sleep(time.Second)
		}
		if n := db.count("fine"); n < 100 {
			t.Errorf("the fine queue ticked %d times", n)
		}
		tried := failed.Load()
		if tried < 3 || tried > 30 {
			t.Errorf("the broken queue was tried %d times", tried)
		}
		time.Sleep(2 * figuresPeriod) // what was counted is told
		synctest.Wait()
		for _, q := range s.snapshot().Queues {
			if q.Queue == "broken" && (q.TickErrors < tried || q.TickErrors > failed.Load() || q.LastError != "no sequence") {
				t.Errorf("got %+v after %d failures, %d before", q, failed.Load(), tried)
			}
		}
		db.with(func() { db.hook = nil })
		time.Sleep(2 * time.Minute)
		if db.count("broken") == 0 {
			t.Error("the repaired queue does not tick")
		}
		for _, q := range s.snapshot().Queues {
			if q.Queue == "broken" && q.LastError != "" {
				t.Errorf("got %+v", q)
			}
		}
	})
}

func TestTicker_HangingTickStopsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("hangs", "fine")
		db.hook = func(ctx context.Context, call, arg string) error {
			if call == "tick" && arg == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		playTicker(t, db)
		for range 60 {
			db.insert("hangs", 500)
			db.insert("fine", 500)
			time.Sleep(time.Second)
		}
		if n := db.count("fine"); n < 50 {
			t.Errorf("the fine queue ticked %d times", n)
		}
	})
}

func TestTicker_NeverMoreTicksAtOnceThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}
		db, running, most := newFakeDB(names...), 0, 0
		db.hook = func(_ context.Context, call, _ string) error {
			if call != "tick" {
				return nil
			}
			db.with(func() { running++; most = max(most, running) })
			time.Sleep(10 * time.Millisecond)
			db.with(func() { running-- })
			return nil
		}
		playTicker(t, db)
		for _, n := range names {
			db.insert(n, 500)
		}
		time.Sleep(2 * time.Second)
		for _, n := range names {
			if db.count(n) == 0 {
				t.Errorf("%s was not ticked", n)
			}
		}
		if most != tickerParams.Parallel {
			t.Errorf("%d ticks at once, want %d", most, tickerParams.Parallel)
		}
	})
}

func TestTicker_LostDatabaseIsToldToTheParentAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playTicker(t, db)
		db.with(func() { db.down = errLost })
		time.Sleep(20 * time.Second)
		if st := s.actor("/ticker"); st.State != messages.Backoff || st.LastError != errLost.Error() || st.NextRetry.IsZero() {
			t.Errorf("got %+v", st)
		}
		if !slices.Contains(s.heard.all(), "DatabaseTroubled") {
			t.Errorf("the parent heard %q", s.heard.all())
		}
		db.with(func() { db.down = nil })
		db.insert("q", 500)
		time.Sleep(20 * time.Second)
		if st := s.actor("/ticker"); st.State != messages.Running || st.Restarts != 0 || db.count("q") == 0 {
			t.Errorf("got %+v and %d ticks", st, db.count("q"))
		}
	})
}

func TestTicker_PanicOfTheWorkStopsItForItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playTicker(t, db)
		db.with(func() { db.hook = func(context.Context, string, string) error { panic("broken") } })
		time.Sleep(time.Second)
		if got := s.heard.all(); len(got) != 1 || got[0] != "*actor.Terminated" {
			t.Errorf("the parent heard %q", got)
		}
	})
}

func TestTicker_StopDuringHangingWork(t *testing.T) {
	for _, at := range []string{"mark", "load", "tick"} {
		synctest.Test(t, func(t *testing.T) {
			db, hangs := newFakeDB("q"), make(chan struct{}, 10)
			db.hook = func(ctx context.Context, call, _ string) error {
				if call == at {
					hangs <- struct{}{}
					<-ctx.Done()
				}
				return ctx.Err()
			}
			db.queues["q"].EventSeq = 500
			s := playTicker(t, db)
			<-hangs
			begin := time.Now()
			s.system.Root.Stop(s.child)
			synctest.Wait()
			if got := s.heard.all(); len(got) == 0 || got[len(got)-1] != "*actor.Terminated" || time.Since(begin) > 0 {
				t.Errorf("%s: the parent heard %q after %s", at, got, time.Since(begin))
			}
		})
	}
}

func TestTicker_ResultsOfAPredecessorAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playTicker(t, db)
		for gen := range uint64(5) {
			s.system.Root.Send(s.child, done[looked]{owner: &worker{}, gen: gen, val: looked{
				mark: "1:1:", full: true,
				states: []pgq.TickState{{Queue: "ghost"}},
			}})
			s.system.Root.Send(s.child, done[ticked]{owner: &worker{}, gen: gen, val: ticked{queue: "q", made: true}})
			s.system.Root.Send(s.child, wake{owner: &timers{}, name: "look", gen: gen})
		}
		time.Sleep(5 * time.Second)
		if qs := s.snapshot().Queues; len(qs) != 1 || qs[0].Queue != "q" || qs[0].Ticks != int64(db.count("q")) || db.count("ghost") != 0 {
			t.Errorf("got %+v", qs)
		}
	})
}

func TestTicker_DroppedQueueLeavesTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("a", "b")
		s := playTicker(t, db)
		time.Sleep(5 * time.Second)
		if n := len(s.snapshot().Queues); n != 2 {
			t.Fatalf("%d queues", n)
		}
		db.with(func() { delete(db.queues, "a"); db.xid++ })
		time.Sleep(5 * time.Second)
		if qs := s.snapshot().Queues; len(qs) != 1 || qs[0].Queue != "b" {
			t.Errorf("got %+v", qs)
		}
	})
}

func TestTicker_RefusedTickIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &refusing{fakeDB: newFakeDB("q")}
		db.queues["q"].EventSeq = 500
		play(t, "ticker", func(env Env) *actor.Props { return tickerProps(env, "main", tickerParams, db) })
		time.Sleep(time.Minute)
		if tries := db.tries.Load(); tries < 10 || tries > 60*4 {
			t.Errorf("%d tries in a minute", tries)
		}
	})
}

// refusing is a database whose server sees no need to tick.
type refusing struct {
	*fakeDB
	tries atomic.Int64
}

func (r *refusing) Tick(context.Context, string) (int64, bool, error) {
	r.tries.Add(1)
	return 0, false, nil
}
