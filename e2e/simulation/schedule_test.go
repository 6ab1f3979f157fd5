package simulation

import (
	"fmt"
	"iter"
	"math/rand/v2"
)

// schedule runs tasks one step at a time, in an order that the seed decides, in virtual milliseconds.
type schedule struct {
	rng      *rand.Rand
	now      int64
	machines []*machine
}

// machine is what crashes and freezes as a whole: a daemon, a producer.
type machine struct {
	name   string
	boot   func(m *machine) // starts its tasks
	life   int              // counts boots
	tasks  []*task
	open   []*session
	epochs map[string]int64 // what its lease keeper believes to hold
	frozen int64            // since when; 0: it runs
	thaw   int64
	down   int64 // until when it stays down
}

// task is a thread of a machine. It runs from one step to the next without anybody else in between.
type task struct {
	w     *world
	m     *machine
	name  string
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	wake  int64
}

// killed unwinds a task whose machine has crashed; lost is a broken connection.
type (
	killed struct{}
	lost   struct{}
)

// spawn adds a task to a machine. Its body runs again and again until the machine crashes.
func (w *world) spawn(m *machine, body func(t *task)) {
	t := &task{w: w, m: m, name: fmt.Sprintf("%s life %d task %d", m.name, m.life, len(m.tasks)), wake: w.now}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		defer func() {
			if r := recover(); r != nil && r != (killed{}) {
				panic(r)
			}
		}()
		for {
			t.step()
			t.try(func() { body(t) })
		}
	})
	m.tasks = append(m.tasks, t)
}

// try runs f and tells whether its connections lasted.
func (t *task) try(f func()) (ok bool) {
	defer func() {
		if r := recover(); r != nil && r != (lost{}) {
			panic(r)
		}
	}()
	f()
	return true
}

// step lets everybody else act, and every fault happen.
func (t *task) step() {
	if !t.yield(struct{}{}) {
		panic(killed{})
	}
}

// sleep lets virtual time pass.
func (t *task) sleep(ms int64) {
	t.wake = t.w.now + ms
	t.step()
}

// chance is true once in n.
func (s *schedule) chance(n int) bool { return s.rng.IntN(n) == 0 }

// upTo is a random duration.
func (s *schedule) upTo(ms int) int64 { return int64(s.rng.IntN(ms)) + 1 }

// turn lets one task make one step, or time pass when none can.
func (s *schedule) turn() {
	var (
		chosen *task
		n      int
		wake   int64 = 1 << 62
	)
	for _, m := range s.machines {
		if m.frozen != 0 {
			wake = min(wake, m.thaw)
			continue
		}
		for _, t := range m.tasks {
			if t.wake > s.now {
				wake = min(wake, t.wake)
				continue
			}
			if n++; s.rng.IntN(n) == 0 {
				chosen = t
			}
		}
		if len(m.tasks) == 0 {
			wake = min(wake, m.down)
		}
	}
	if chosen == nil {
		s.now = wake
		return
	}
	if s.chance(4) {
		s.now++
	}
	chosen.next()
}

// crash ends a machine as kill -9 does: its connections close with it.
func (m *machine) crash(until int64) {
	for _, t := range m.tasks {
		t.stop()
	}
	m.tasks = nil
	for len(m.open) > 0 {
		m.open[0].kill()
	}
	m.frozen, m.down = 0, until
}
