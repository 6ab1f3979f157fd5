package actors

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skytools/skyd/messages"
)

// fakeLeases is one daemon's view of the leases of a database.
type fakeLeases struct {
	mu     sync.Mutex
	others map[string]bool // held by somebody else
	held   map[string]int64
	epoch  int64
	down   error
	closed int
	opened int
}

func (l *fakeLeases) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *fakeLeases) Take(_ context.Context, unit string) (int64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil || l.others[unit] {
		return 0, false, l.down
	}
	if e, ok := l.held[unit]; ok {
		return e, true, nil
	}
	l.epoch++
	l.held[unit] = l.epoch
	return l.epoch, true, nil
}

func (l *fakeLeases) Renew(context.Context) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != nil {
		clear(l.held)
	}
	return nil, l.down
}

func (l *fakeLeases) Release(_ context.Context, unit string) error {
	l.with(func() { delete(l.held, unit) })
	return nil
}

func (l *fakeLeases) Close(context.Context) {
	l.with(func() { l.closed++; clear(l.held) })
}

func (l *fakeLeases) Classify(error) Trouble {
	return Trouble{Reason: "closed", Lost: true, Outage: true}
}

// leasedDatabase is a database with a ticker and a consumer under leases.
func leasedDatabase(t *testing.T) (*stage, *fakeDB, *fakeLeases, *fakeConsumer) {
	t.Helper()
	db, l, f := newFakeDB("q"), &fakeLeases{others: map[string]bool{}, held: map[string]int64{}}, &fakeConsumer{waiting: 1_000_000}
	f.process = func(ctx context.Context, _ int64) (Processed, error) {
		select {
		case <-time.After(50 * time.Millisecond):
			return Processed{Events: 1}, nil
		case <-ctx.Done():
			return Processed{}, ctx.Err()
		}
	}
	p := databaseParams(db)
	p.Lease = LeaseParams{TTL: 3 * time.Second, Open: func() (LeaseSource, error) {
		l.with(func() { l.opened++ })
		return l, nil
	}}
	p.Consumers = []ConsumerParams{{
		Queue: "q", Name: "c", Workers: 1, PollPeriod: time.Second, BatchTimeout: 10 * time.Second,
		Open: func(_ int, unit string, epoch int64) (ConsumerSource, error) {
			if !strings.HasPrefix(unit, "consumer/") {
				t.Errorf("unit %s", unit)
			}
			f.with(func() { f.opened = append(f.opened, epoch) })
			return f, nil
		},
	}}
	return playDatabase(t, p), db, l, f
}

// work is how many batches were begun.
func (f *fakeConsumer) work() int { return len(f.all()) }

func TestLease_LostMeansNoMoreWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, db, l, f := leasedDatabase(t)
		time.Sleep(5 * time.Second)
		s.states(messages.Running, messages.Running)
		if f.work() == 0 || len(f.opened) != 1 || f.opened[0] == 0 {
			t.Fatalf("%d batches, epochs %v", f.work(), f.opened)
		}
		// The session of the leases breaks, and another daemon is faster.
		l.with(func() { l.down = errLost })
		time.Sleep(2 * time.Second)
		l.with(func() { l.down = nil; l.others[tickerUnit] = true; l.others["consumer/q/c"] = true })
		time.Sleep(2 * time.Second)
		s.states(messages.Running, messages.Parked)
		if a := s.actor("/consumer/q/c"); a.State != messages.Parked || a.Note != waitsForLease {
			t.Errorf("got %+v", a)
		}
		batches, ticks := f.work(), db.count("q")
		db.insert("q", 1000)
		time.Sleep(time.Minute)
		if f.work() != batches || db.count("q") != ticks {
			t.Errorf("it works without a lease: %d batches and %d ticks more", f.work()-batches, db.count("q")-ticks)
		}
		// The other one gives way.
		l.with(func() { clear(l.others) })
		time.Sleep(3 * time.Second)
		s.states(messages.Running, messages.Running)
		if f.work() == batches || len(f.opened) != 2 || f.opened[1] <= f.opened[0] {
			t.Errorf("%d batches more, epochs %v: want a new, higher one", f.work()-batches, f.opened)
		}
	})
}

// The keeper goes down with its database, gives back what it holds, and another one starts with it.
func TestLease_GoesDownWithTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, db, l, f := leasedDatabase(t)
		time.Sleep(2 * time.Second)
		db.with(func() { db.down = errLost })
		time.Sleep(time.Minute)
		s.states(messages.Backoff, messages.Parked)
		before := f.work()
		l.with(func() {
			if l.closed != 1 || len(l.held) != 0 {
				t.Errorf("closed %d times, holds %v", l.closed, l.held)
			}
		})
		time.Sleep(time.Minute)
		if f.work() != before {
			t.Error("it works while its database is away")
		}
		db.with(func() { db.down = nil })
		time.Sleep(reconnectLimit + 2*time.Second)
		s.states(messages.Running, messages.Running)
		if f.work() == before || l.opened != 2 {
			t.Errorf("%d batches after the cure, %d keepers", f.work()-before, l.opened)
		}
	})
}

// A database that stopped taking writes is away, though every question is answered.
func TestDatabase_ReadOnlyIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		s := playDatabase(t, databaseParams(db))
		db.with(func() { db.health.ReadOnly = true })
		s.system.Root.Send(s.child, messages.DatabaseTroubled{Err: errLost})
		time.Sleep(time.Second)
		s.states(messages.Backoff, messages.Parked)
		if d := s.snapshot().Databases[0]; d.Reason != "read_only" || d.InRecovery || db.resets == 0 {
			t.Errorf("got %+v, %d resets", d, db.resets)
		}
		db.with(func() { db.health.ReadOnly = false })
		time.Sleep(reconnectLimit + time.Second)
		s.states(messages.Running, messages.Running)
	})
}

// An attempt that hung has waited already: attempts begin at most the longer of limit and timeout apart.
func TestDatabase_SilentNetworkIsAskedOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newFakeDB("q")
		var begun []time.Time
		db.hook = func(ctx context.Context, call, _ string) error {
			if call != "check" {
				return nil
			}
			db.with(func() { begun = append(begun, time.Now()) })
			<-ctx.Done()
			return ctx.Err()
		}
		p := databaseParams(db)
		p.CheckTimeout = 5 * time.Second
		s := playDatabase(t, p)
		time.Sleep(10 * time.Minute)
		s.system.Root.Stop(s.child)
		synctest.Wait()
		for i := 1; i < len(begun); i++ {
			if d := begun[i].Sub(begun[i-1]); d > p.CheckTimeout+time.Second {
				t.Errorf("%v between two attempts", d)
			}
		}
		if len(begun) < 100 {
			t.Errorf("%d attempts", len(begun))
		}
	})
}
