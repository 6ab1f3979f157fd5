package simulation

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/skytools/skyd/e2e/audit"
)

// mutant is a fault that the simulation has to find.
type mutant string

// The mutants, each a line that is missing or in the wrong place.
const (
	none               mutant = ""
	insertLateXid      mutant = "insert reads the current table before it takes its txid"
	insertNoPin        mutant = "repeatable read writer does not compare the queue row"
	tickSnapshotEarly  mutant = "tick takes its snapshot before the lock"
	tickNoLock         mutant = "ticks without lock"
	rotateOneStep      mutant = "rotation without step 2"
	rotateOverConsumer mutant = "rotation does not look at consumers"
	rotateOverMembers  mutant = "rotation does not look at members' batches"
	readCurrentTable   mutant = "batches read the current table only"
	tickByXmax         mutant = "batch by txid range instead of visibility"
	finishIgnored      mutant = "answer of finish_batch is ignored"
	finishApart        mutant = "effects and finish in two transactions"
	openBlind          mutant = "next_batch does not look again under the lock"
	noFence            mutant = "no fence"
	fenceUnlocked      mutant = "fence looks without a lock"
	leaseSameEpoch     mutant = "epoch does not change with the holder"
	coopSameID         mutant = "batch id stays at takeover"
	coopLosesBatch     mutant = "takeover drops the open batch"
	remoteNoTag        mutant = "target does not note the batch"
	remoteNotOpen      mutant = "target does not ask whether the batch is open"
)

// queueDB is a database with one queue.
type queueDB struct {
	*database
	broken mutant

	cur          int
	version      int64 // of the queue's row
	step1, step2 int64 // 0: null
	switched     int64
	tables       [3][]row

	events, tickID, batchID int64 // sequences
	ticks                   []tick
	subs                    map[string]*sub
	epochs                  map[string]int64
}

type row struct {
	ev  audit.Event
	xid int64
}

type tick struct {
	id     int64
	at     int64
	events int64
	snap   snapshot
}

// sub is a subscription: of a consumer, a group's main one, or a member.
type sub struct {
	group             string // of a member
	last, next, batch int64  // 0: null
	active            int64
}

func (q *queueDB) tick(id int64) *tick {
	i, ok := slices.BinarySearchFunc(q.ticks, id, func(t tick, id int64) int { return cmp.Compare(t.id, id) })
	if !ok {
		panic(fmt.Sprintf("tick %d is gone", id))
	}
	return &q.ticks[i]
}

// after is the next tick, 0 for none.
func (q *queueDB) after(id int64) int64 {
	for _, t := range q.ticks {
		if t.id > id {
			return t.id
		}
	}
	return 0
}

// insert is pgq.insert_event. A repeatable read writer brings what it saw of the queue's row; false is SQLSTATE 40001.
func (q *queueDB) insert(x *tx, ev audit.Event, seen *queueRow) (audit.Event, bool) {
	var cur int
	if q.broken != insertLateXid {
		x.s.do(func() { x.id() })
	}
	fits := true
	x.s.do(func() {
		cur = q.cur
		if seen != nil {
			cur = seen.cur
			fits = seen.version == q.version || q.broken == insertNoPin
		}
	})
	if !fits {
		return ev, false
	}
	x.s.do(func() {
		q.events++
		ev.ID = q.events
	})
	x.s.do(func() {
		x.lock(table(cur), true)
		q.tables[cur] = append(q.tables[cur], row{ev, x.id()})
	})
	return ev, true
}

type queueRow struct {
	cur     int
	version int64
}

func table(n int) string { return fmt.Sprint("table ", n) }

// ticker is pgq.ticker(queue) in a transaction of its own.
func (q *queueDB) ticker(s *session) {
	x := s.begin()
	due, locked := false, true
	look := func() {
		newest := q.ticks[len(q.ticks)-1]
		due = q.events > newest.events || q.w.now > newest.at+30
	}
	var snap snapshot
	s.do(func() {
		look()
		snap = q.snapshot()
	})
	if due && q.broken != tickNoLock {
		s.do(func() { locked = q.tryLock(x, "tick", false) })
		s.do(look)
	}
	if !due || !locked {
		s.rollback()
		return
	}
	if q.broken != tickSnapshotEarly {
		s.do(func() { snap = q.snapshot() })
	}
	s.do(func() {
		q.tickID++
		t := tick{q.tickID, q.w.now, q.events, snap}
		x.write(func() {
			q.ticks = append(q.ticks, t)
			slices.SortFunc(q.ticks, func(a, b tick) int { return cmp.Compare(a.id, b.id) })
		})
	})
	s.commit()
}

// rotate1 is pgq.maint_rotate_tables_step1.
func (q *queueDB) rotate1(s *session, period int64) {
	x := s.begin()
	ok := false
	s.do(func() {
		ok = q.step2 != 0 && q.w.now > q.switched+period && q.tryLock(x, "queue", false)
	})
	if ok {
		s.do(func() { ok = q.step2 != 0 && !q.behind() })
	}
	next := (q.cur + 1) % len(q.tables)
	if ok {
		s.do(func() { ok = q.tryLock(x, table(next), false) })
	}
	if !ok {
		s.rollback()
		return
	}
	s.do(func() {
		id, old := x.id(), q.step2
		x.write(func() {
			q.tables[next] = nil
			q.cur, q.step1, q.step2, q.switched = next, id, 0, q.w.now
			q.version++
			if q.broken == rotateOneStep {
				q.step2 = id
			}
			q.ticks = slices.DeleteFunc(q.ticks, func(t tick) bool {
				return t.snap.xmin < old && q.broken != rotateOverConsumer && q.broken != rotateOverMembers
			})
		})
	})
	s.commit()
}

// behind tells whether a consumer may need what the next rotation truncates.
func (q *queueDB) behind() bool {
	for _, s := range q.subs {
		if s.last == 0 || s.group != "" && q.broken == rotateOverMembers {
			continue
		}
		if q.tick(s.last).snap.xmin <= q.step2 && q.broken != rotateOverConsumer {
			return true
		}
	}
	return false
}

// rotate2 is pgq.maint_rotate_tables_step2.
func (q *queueDB) rotate2(s *session) {
	x := s.begin()
	s.do(func() {
		if q.step2 == 0 && q.tryLock(x, "queue", false) {
			id := x.id()
			x.write(func() {
				q.step2 = id
				q.version++
			})
		}
	})
	s.commit()
}

// nextBatch is pgq.next_batch in a transaction of its own; 0 for none.
func (q *queueDB) nextBatch(s *session, consumer string) (batch int64) {
	x := s.begin()
	c := q.subs[consumer]
	var last, next int64
	s.do(func() { batch, last, next = c.batch, c.last, q.after(c.last) })
	if batch == 0 && next != 0 {
		s.do(func() {
			x.lock(consumer, false)
			if (c.batch != 0 || c.last != last) && q.broken != openBlind {
				batch = c.batch
				return
			}
			q.batchID++
			batch = q.batchID
			id := batch
			x.write(func() { c.batch, c.next, c.active = id, next, q.w.now })
		})
	}
	s.commit()
	return batch
}

// nextCoop is pgq_coop.next_batch with a dead interval, in a transaction of its own; 0 for none.
func (q *queueDB) nextCoop(s *session, group, member string, dead int64) (batch int64) {
	x := s.begin()
	s.do(func() { x.lock(group, false) })
	s.do(func() {
		x.lock(member, false)
		main, mine := q.subs[group], q.subs[member]
		if mine != nil && mine.batch != 0 {
			batch = mine.batch
			x.write(func() { mine.active = q.w.now })
			return
		}
		if o, other := q.deadMember(x, group, member, dead); other != nil {
			x.write(func() { delete(q.subs, o) })
			if batch = other.batch; batch != 0 && q.broken != coopLosesBatch {
				if q.broken != coopSameID {
					q.batchID++
					batch = q.batchID
				}
				taken := sub{group, other.last, other.next, batch, q.w.now}
				x.write(func() { q.subs[member] = &taken })
				return
			}
		}
		batch = 0
		if next := q.after(main.last); next != 0 {
			q.batchID++
			batch = q.batchID
			given := sub{group, main.last, next, batch, q.w.now}
			x.write(func() {
				q.subs[member] = &given
				main.last = next
			})
		}
	})
	s.commit()
	return batch
}

// deadMember finds a member that shows no sign of life, and locks it.
func (q *queueDB) deadMember(x *tx, group, member string, dead int64) (string, *sub) {
	for _, name := range members {
		o := q.subs[name]
		if name != member && o != nil && o.group == group && o.active < q.w.now-dead && q.tryLock(x, name, false) {
			return name, o
		}
	}
	return "", nil
}

// open finds the subscription with that batch.
func (q *queueDB) open(batch int64) (string, *sub) {
	for name, s := range q.subs {
		if s.batch == batch {
			return name, s
		}
	}
	return "", nil
}

// read is pgq.get_batch_events; false when the batch is not open. It notes what it gives, unless the batch was lost
// while it was being read: then the worker believes that it has it, and only the fence or the finish tells.
func (q *queueDB) read(s *session, consumer string, batch int64) (d audit.Delivery, ok bool) {
	var (
		first, last *snapshot
		tables      []int
	)
	d = audit.Delivery{Batch: batch, Worker: s.t.name}
	s.do(func() {
		_, c := q.open(batch)
		if ok = c != nil; !ok {
			return
		}
		a, b := q.tick(c.last).snap, q.tick(c.next).snap
		first, last = &a, &b
		tables = []int{q.cur}
		if (q.step2 == 0 || first.xmin <= q.step2) && q.broken != readCurrentTable {
			tables = []int{(q.cur + 2) % 3}
			if last.xmax > q.step1 {
				tables = append(tables, q.cur)
			}
		}
	})
	if !ok {
		return d, false
	}
	s.do(func() {
		for _, n := range tables {
			for _, r := range q.tables[n] {
				in := !q.sees(first, r.xid) && q.sees(last, r.xid)
				if q.broken == tickByXmax {
					in = q.done[r.xid] && r.xid >= first.xmax && r.xid < last.xmax
				}
				if in {
					d.Events = append(d.Events, audit.Event{ID: r.ev.ID, Key: r.ev.Key, Hash: r.ev.Hash})
				}
			}
		}
		slices.SortFunc(d.Events, func(a, b audit.Event) int { return cmp.Compare(a.ID, b.ID) })
		if _, c := q.open(batch); c != nil {
			q.w.accounts[consumer].Saw(d)
		}
	})
	return d, true
}

// finish is pgq.finish_batch and pgq_coop.finish_batch within a transaction; false when the batch is not open.
func (q *queueDB) finish(x *tx, batch int64) (ok bool) {
	for range 2 { // again after the lock was waited for
		x.s.do(func() {
			name, c := q.open(batch)
			if ok = c != nil; !ok {
				return
			}
			x.lock(name, false)
			if ok = q.subs[name] == c && c.batch == batch; !ok {
				return
			}
			x.write(func() {
				c.last, c.next, c.batch, c.active = c.next, 0, 0, q.w.now
				if c.group != "" {
					c.last = 0
				}
			})
		})
		if ok {
			return true
		}
	}
	return false
}

// takeLease is what a lease keeper does for one unit: the lock of its session first, then the epoch; 0 for not now.
func (q *queueDB) takeLease(s *session, unit string) (epoch int64) {
	ok := false
	s.do(func() { ok = q.tryLock(s, "lock "+unit, false) })
	if !ok {
		return 0
	}
	x := s.begin()
	s.do(func() {
		if ok = q.tryLock(x, "lease "+unit, false); !ok {
			q.unlock("lock "+unit, s)
			return
		}
		epoch = q.epochs[unit] + 1
		if q.broken == leaseSameEpoch {
			epoch = 1
		}
		x.write(func() { q.epochs[unit] = epoch })
	})
	s.commit()
	return epoch
}

// fence is pgq.lease_fence.
func (q *queueDB) fence(x *tx, unit string, epoch int64) (ok bool) {
	x.s.do(func() {
		if q.broken != fenceUnlocked && q.broken != noFence {
			x.lock("lease "+unit, true)
		}
		ok = q.epochs[unit] == epoch || q.broken == noFence
	})
	return ok
}
