package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

var (
	errLost = errors.New("connection lost")
	errAuth = errors.New("password refused")
)

// fakeDB is a database with queues, by a clock of the bubble.
type fakeDB struct {
	diary
	mu sync.Mutex

	health   Health
	down     error // every call fails with it
	xid      int   // next transaction id
	busyXids bool  // somebody has a transaction open
	queues   map[string]*pgq.TickState
	ticks    map[string]int
	looks    int // at the mark
	loads    int // of the states
	resets   int
	closed   bool
	hook     func(ctx context.Context, call, arg string) error // before the call takes effect; may block
	ops      []pgq.MaintOp
	retries  []int
	periods  map[string]time.Duration
}

func newFakeDB(queues ...string) *fakeDB {
	db := &fakeDB{health: Health{Installed: true, Version: "3.5"}, queues: map[string]*pgq.TickState{}, ticks: map[string]int{}, xid: 100}
	for _, q := range queues {
		db.queues[q] = &pgq.TickState{
			Queue: q, Ticks: 2, TickTime: time.Now(), MaxCount: 500, MaxLag: 3 * time.Second, IdlePeriod: time.Minute, Gap: time.Minute,
		}
	}
	return db
}

// with changes the database under its lock.
func (db *fakeDB) with(f func()) {
	db.mu.Lock()
	defer db.mu.Unlock()
	f()
}

// insert adds events to a queue, as somebody else's transaction.
func (db *fakeDB) insert(queue string, n int64) {
	db.with(func() { db.queues[queue].EventSeq += n; db.xid++ })
}

func (db *fakeDB) count(queue string) (n int) {
	db.with(func() { n = db.ticks[queue] })
	return n
}

func (db *fakeDB) call(ctx context.Context, name, arg string) error {
	db.mu.Lock()
	hook, down := db.hook, db.down
	db.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, name, arg); err != nil {
			return err
		}
	}
	return errors.Join(down, ctx.Err())
}

func (db *fakeDB) Check(ctx context.Context) (Health, error) {
	if err := db.call(ctx, "check", ""); err != nil {
		return Health{}, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.health, nil
}

func (db *fakeDB) Classify(err error) Trouble {
	switch {
	case errors.Is(err, errLost):
		return Trouble{Reason: "closed", Lost: true, Outage: true}
	case errors.Is(err, errAuth):
		return Trouble{Reason: "auth", Permanent: true}
	}
	return Trouble{Reason: "other"}
}

func (db *fakeDB) SnapshotMark(ctx context.Context) (string, error) {
	err := db.call(ctx, "mark", "")
	db.mu.Lock()
	defer db.mu.Unlock()
	db.looks++
	if db.busyXids {
		return fmt.Sprintf("%d:%d:%d", db.xid-1, db.xid, db.xid-1), err
	}
	return fmt.Sprintf("%d:%d:", db.xid, db.xid), err
}

func (db *fakeDB) LoadTickStates(ctx context.Context) ([]pgq.TickState, error) {
	if err := db.call(ctx, "load", ""); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.loads++
	var states []pgq.TickState
	for _, name := range slices.Sorted(maps.Keys(db.queues)) {
		s := *db.queues[name]
		s.ServerNow = time.Now()
		states = append(states, s)
	}
	return states, nil
}

func (db *fakeDB) TickPeriods(ctx context.Context) (map[string]time.Duration, error) {
	if err := db.call(ctx, "periods", ""); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	periods := maps.Clone(db.periods)
	if periods == nil {
		periods = map[string]time.Duration{}
	}
	return periods, nil
}

func (db *fakeDB) Tick(ctx context.Context, queue string) (int64, bool, error) {
	if err := db.call(ctx, "tick", queue); err != nil {
		return 0, false, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	s := db.queues[queue]
	now := time.Now()
	s.Gap, s.TickTime, s.TickSeq = now.Sub(s.TickTime), now, s.EventSeq
	s.LastTick++
	db.ticks[queue]++
	db.xid++
	return s.LastTick, true, nil
}

func (db *fakeDB) MaintOperations(ctx context.Context) ([]pgq.MaintOp, error) {
	if err := db.call(ctx, "ops", ""); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.ops, nil
}

func (db *fakeDB) RunMaintOp(ctx context.Context, op pgq.MaintOp) (bool, error) {
	db.add(op.Func)
	if err := db.call(ctx, "op", op.Func); err != nil {
		return false, err
	}
	return strings.HasPrefix(op.Func, "again") && len(db.all())%3 != 0, nil
}

func (db *fakeDB) RetryEvents(ctx context.Context) (int, error) {
	if err := db.call(ctx, "retry", ""); err != nil {
		return 0, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	n := 0
	if len(db.retries) > 0 {
		n, db.retries = db.retries[0], db.retries[1:]
	}
	return n, nil
}

func (db *fakeDB) Health(ctx context.Context) (pgq.Health, error) {
	return pgq.Health{
		Queues: []pgq.QueueHealth{{
			Queue: "a", RotationAge: time.Hour, RotationBlocked: true, Holder: pgq.HolderConsumer, HolderName: "slow", DeadEvents: 3,
		}},
		Consumers: []pgq.ConsumerHealth{{Queue: "a", Consumer: "slow", Registered: true, Lag: time.Hour, MembersIdle: 2, MembersStale: 1}},
	}, db.call(ctx, "health", "")
}

func (db *fakeDB) Databases(ctx context.Context) ([]string, error) {
	if err := db.call(ctx, "databases", ""); err != nil {
		return nil, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Collect(maps.Keys(db.queues)), nil
}

func (db *fakeDB) Reset() { db.with(func() { db.resets++ }) }
func (db *fakeDB) Close() { db.with(func() { db.closed = true }) }

// stage is one actor under test below a parent that writes down what it hears, with a status of its own.
type stage struct {
	t      *testing.T
	system *actor.ActorSystem
	status *actor.PID
	parent *actor.PID
	child  *actor.PID
	heard  diary // by the parent: message types
	mu     sync.Mutex
	facts  []any // of the status actor, in order
}

// play spawns a status actor and, below a parent, the actor under test.
func play(t *testing.T, name string, props func(env Env) *actor.Props) *stage {
	t.Helper()
	s := &stage{t: t, system: newSystem(t)}
	s.status = s.system.Root.Spawn(statusProps(testEnv(t, nil), buildInfo{version: "v"}).Configure(
		actor.WithReceiverMiddleware(func(next actor.ReceiverFunc) actor.ReceiverFunc {
			return func(c actor.ReceiverContext, e *actor.MessageEnvelope) {
				s.mu.Lock()
				s.facts = append(s.facts, e.Message)
				s.mu.Unlock()
				next(c, e)
			}
		})))
	s.parent = s.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch m := c.Message().(type) {
		case *actor.Started:
			var err error
			if s.child, err = c.SpawnNamed(props(testEnv(t, s.status)), name); err != nil {
				t.Error(err)
			}
		case *actor.Stopping, *actor.Stopped:
		default:
			s.heard.add(strings.TrimPrefix(fmt.Sprintf("%T", m), "messages."))
		}
	}, actor.WithSupervisor(stopChild)))
	t.Cleanup(func() {
		s.system.Root.Stop(s.parent)
		s.system.Root.Stop(s.status)
		synctest.Wait()
	})
	synctest.Wait()
	return s
}

// snapshot asks for the status.
func (s *stage) snapshot() messages.Snapshot {
	s.t.Helper()
	synctest.Wait()
	reply := make(chan messages.Snapshot, 1)
	s.system.Root.Send(s.status, messages.GetStatus{Reply: reply})
	return <-reply
}

// actor finds the status of an actor by the end of its path.
func (s *stage) actor(name string) messages.ActorStatus {
	for _, a := range s.snapshot().Actors {
		if strings.HasSuffix(a.Path, name) {
			return a
		}
	}
	return messages.ActorStatus{}
}
