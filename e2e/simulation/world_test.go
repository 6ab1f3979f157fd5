package simulation

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/skytools/skyd/e2e/audit"
)

// Virtual milliseconds. The time to live is long against a step and short against a freeze.
const (
	chaosFor   = 400
	drainFor   = 6000
	leaseTTL   = 25
	txIdle     = 60 // the server ends a transaction whose client is silent
	deadMember = 40
	rotation   = 15
)

// members are those of the group, two for each daemon.
var members = []string{"coop.d1a", "coop.d1b", "coop.d2a", "coop.d2b"}

// world is a queue's database, a target, two daemons, an old ticker beside them, and producers.
type world struct {
	schedule
	q       *queueDB
	target  *database
	applied map[string]int64 // pgq_ext.completed_batch of the target
	auditor *audit.Auditor
	// accounts by consumer
	accounts map[string]*audit.Consumer
	seqs     map[string]int64
	txs      int64
	calm     bool // no more faults, nothing more is produced
}

func newWorld(seed uint64, m mutant) *world {
	w := &world{
		schedule: schedule{rng: rand.New(rand.NewPCG(seed, 1)), now: 1},
		applied:  map[string]int64{}, auditor: audit.New(), accounts: map[string]*audit.Consumer{}, seqs: map[string]int64{},
	}
	w.q = &queueDB{
		database: newDatabase(w), broken: m, step1: 1, step2: 2, tickID: 1,
		subs: map[string]*sub{}, epochs: map[string]int64{},
	}
	w.target = newDatabase(w)
	w.q.ticks = []tick{{id: 1, at: 1, snap: w.q.snapshot()}}
	for _, name := range []string{"tx", "remote", "plain", "coop"} {
		w.q.subs[name] = &sub{last: 1}
		group := name == "coop"
		w.accounts[name] = w.auditor.Consumer(name, audit.Promises{
			InOrder: !group, Once: true, Fenced: group || name == "tx", WholeTx: true,
		})
	}
	w.machine("d1", w.daemon)
	w.machine("d2", w.daemon)
	w.machine("pgqd", func(m *machine) { w.spawn(m, w.oldTicker) })
	w.machine("app1", w.app)
	w.machine("app2", w.app)
	return w
}

func (w *world) machine(name string, boot func(m *machine)) {
	m := &machine{name: name, boot: boot}
	w.machines = append(w.machines, m)
}

// daemon is skyd.
func (w *world) daemon(m *machine) {
	m.epochs = map[string]int64{}
	w.spawn(m, w.leaseKeeper)
	w.spawn(m, w.ticker)
	w.spawn(m, w.maintainer)
	w.spawn(m, w.txConsumer)
	w.spawn(m, w.plainConsumer)
	w.spawn(m, w.remoteConsumer)
	for _, part := range []string{"a", "b"} {
		w.spawn(m, func(t *task) { w.member(t, "coop."+m.name+part) })
	}
}

// leaseKeeper takes what is free and keeps the session alive.
func (w *world) leaseKeeper(t *task) {
	clear(t.m.epochs)
	s := w.q.connect(t)
	s.lease = true
	defer clear(t.m.epochs)
	for {
		for _, unit := range []string{"ticker", "tx", "plain"} {
			if t.m.epochs[unit] == 0 {
				if epoch := w.q.takeLease(s, unit); epoch != 0 {
					t.m.epochs[unit] = epoch
				}
			}
		}
		t.sleep(leaseTTL / 3)
		s.do(func() {})
	}
}

func (w *world) ticker(t *task) {
	s := w.q.connect(t)
	for {
		if t.m.epochs["ticker"] != 0 {
			w.q.ticker(s)
		}
		t.sleep(w.upTo(4))
	}
}

// oldTicker is a pgqd that nobody switched off.
func (w *world) oldTicker(t *task) {
	s := w.q.connect(t)
	for {
		w.q.ticker(s)
		t.sleep(w.upTo(6))
	}
}

func (w *world) maintainer(t *task) {
	s := w.q.connect(t)
	for {
		if t.m.epochs["ticker"] != 0 {
			w.q.rotate1(s, rotation)
			t.sleep(w.upTo(3))
			w.q.rotate2(s)
		}
		t.sleep(w.upTo(5))
	}
}

// txConsumer commits its effects with the finish of the batch, under the fence.
func (w *world) txConsumer(t *task) {
	s := w.q.connect(t)
	for {
		epoch := t.m.epochs["tx"]
		if epoch == 0 {
			t.sleep(w.upTo(8))
			continue
		}
		batch := w.q.nextBatch(s, "tx")
		if batch == 0 {
			t.sleep(w.upTo(5))
			continue
		}
		x := s.begin()
		if !w.q.fence(x, "tx", epoch) {
			s.rollback()
			t.sleep(w.upTo(8))
			continue
		}
		w.handle(s, "tx", batch)
	}
}

// handle works through a batch in the session's transaction, which settles it.
func (w *world) handle(s *session, consumer string, batch int64) {
	x, t := s.tx, s.t
	d, ok := w.q.read(s, consumer, batch)
	if !ok {
		s.rollback()
		return
	}
	t.sleep(w.upTo(3))
	if w.chance(20) { // the handler fails
		s.rollback()
		return
	}
	x.write(func() { w.accounts[consumer].Committed(d) })
	if w.q.broken == finishApart {
		s.commit()
		x = s.begin()
	}
	if !w.q.finish(x, batch) && w.q.broken != finishIgnored {
		s.rollback()
		return
	}
	s.commit()
}

// plainConsumer does things elsewhere, at least once, and finishes then.
func (w *world) plainConsumer(t *task) {
	s := w.q.connect(t)
	for {
		if t.m.epochs["plain"] == 0 {
			t.sleep(w.upTo(8))
			continue
		}
		batch := w.q.nextBatch(s, "plain")
		if batch == 0 {
			t.sleep(w.upTo(5))
			continue
		}
		d, ok := w.q.read(s, "plain", batch)
		if !ok {
			continue
		}
		t.sleep(w.upTo(3))
		x := s.begin()
		if w.q.finish(x, batch) {
			x.write(func() { w.accounts["plain"].Committed(d) })
		}
		s.commit()
	}
}

// member is a worker of the group.
func (w *world) member(t *task, name string) {
	s := w.q.connect(t)
	for {
		batch := w.q.nextCoop(s, "coop", name, deadMember)
		if batch == 0 {
			t.sleep(w.upTo(5))
			continue
		}
		if w.chance(8) { // a slow one
			t.sleep(w.upTo(2 * deadMember))
		}
		s.begin()
		w.handle(s, "coop", batch)
	}
}

// remoteConsumer commits in the target what it has done there, and finishes then. It takes no lease, both daemons run
// it: that may cost work but no effect.
func (w *world) remoteConsumer(t *task) {
	s := w.q.connect(t)
	r := w.target.connect(t)
	defer s.kill()
	defer r.kill()
	for {
		batch := w.q.nextBatch(s, "remote")
		if batch == 0 {
			t.sleep(w.upTo(5))
			continue
		}
		d, ok := w.q.read(s, "remote", batch)
		if !ok {
			continue
		}
		t.sleep(w.upTo(3))
		if !w.apply(s, r, d) {
			continue
		}
		x := s.begin()
		w.q.finish(x, batch)
		s.commit()
	}
}

// apply writes a batch to the target, unless it has it; false when the batch is not ours any more.
func (w *world) apply(s, r *session, d audit.Delivery) bool {
	x := r.begin()
	fresh, isOpen := false, true
	r.do(func() {
		x.lock("completed", false)
		fresh = w.applied["remote"] != d.Batch || w.q.broken == remoteNoTag
		x.write(func() { w.applied["remote"] = d.Batch })
	})
	if !fresh {
		r.rollback()
		return true
	}
	if w.q.broken != remoteNotOpen {
		s.do(func() {
			_, c := w.q.open(d.Batch)
			isOpen = c != nil
		})
	}
	if !isOpen {
		r.rollback()
		return false
	}
	r.t.sleep(w.upTo(3))
	x.write(func() { w.accounts["remote"].Committed(d) })
	r.commit()
	return true
}

// app is a producer with some keys of its own.
func (w *world) app(m *machine) {
	for i := range 3 {
		w.spawn(m, func(t *task) { w.producer(t, fmt.Sprint(m.name, " key ", i)) })
	}
}

func (w *world) producer(t *task, key string) {
	s := w.q.connect(t)
	for !w.calm {
		w.produce(s, key)
		t.sleep(w.upTo(12))
	}
	t.sleep(drainFor)
}

// produce is one transaction: short or long, of one or some events, some repeatable read, some rolled back.
func (w *world) produce(s *session, key string) {
	x := s.begin()
	var seen *queueRow
	if w.chance(4) {
		s.do(func() { seen = &queueRow{w.q.cur, w.q.version} })
		s.t.sleep(w.upTo(20))
	}
	w.txs++
	tx := w.txs
	var events []audit.Event
	for range 1 + w.rng.IntN(3) {
		w.seqs[key]++
		ev := audit.Event{Key: key, Seq: w.seqs[key], Tx: tx, Hash: audit.Hash(fmt.Sprint(key, w.seqs[key]))}
		ev, ok := w.q.insert(x, ev, seen)
		if !ok {
			s.rollback()
			return
		}
		events = append(events, ev)
		if w.chance(6) {
			s.t.sleep(w.upTo(50))
		}
	}
	if w.chance(8) {
		s.rollback()
		return
	}
	// that it is committed binds, whether or not the producer hears of it
	x.write(func() { w.auditor.Acknowledged(events...) })
	s.commit()
}

// disturb lets one of all faults happen, now and then, and the server notice who is silent.
func (w *world) disturb() {
	for _, m := range w.machines {
		switch {
		case m.frozen == 0:
			if len(m.tasks) == 0 && m.down <= w.now {
				m.life++
				m.boot(m)
			}
			continue
		case m.thaw <= w.now:
			m.frozen = 0
			continue
		}
		for i := len(m.open) - 1; i >= 0; i-- {
			s := m.open[i]
			if s.lease && w.now > m.frozen+leaseTTL || s.tx != nil && w.now > m.frozen+txIdle {
				s.kill()
			}
		}
	}
	if w.calm || !w.chance(150) {
		return
	}
	m := w.machines[w.rng.IntN(len(w.machines))]
	switch w.rng.IntN(10) {
	case 0, 1:
		m.crash(w.now + w.upTo(30))
	case 2, 3, 4:
		if len(m.tasks) > 0 && m.frozen == 0 {
			m.frozen, m.thaw = w.now, w.now+w.upTo(3*txIdle)
		}
	case 5:
		w.q.crash()
	case 6:
		w.target.crash()
	default:
		if len(m.open) > 0 {
			m.open[w.rng.IntN(len(m.open))].kill()
		}
	}
}

// drained tells whether every consumer is behind a tick that sees all there is.
func (w *world) drained() bool {
	if len(w.q.active) > 0 {
		return false
	}
	var all int64
	for _, t := range w.q.ticks {
		if t.snap.xmin > w.lastXid() {
			all = t.id
			break
		}
	}
	for _, s := range w.q.subs {
		if all == 0 || s.last < all && (s.group == "" || s.batch != 0) {
			return false
		}
	}
	return true
}

// lastXid is the last transaction that wrote an event.
func (w *world) lastXid() (xid int64) {
	for _, rows := range w.q.tables {
		for _, r := range rows {
			xid = max(xid, r.xid)
		}
	}
	return xid
}

var errStuck = errors.New("consumers did not reach the end after the faults were over")

// simulate runs one seed and returns what was violated.
func simulate(seed uint64, m mutant) (w *world, err error) {
	w = newWorld(seed, m)
	defer func() {
		for _, m := range w.machines {
			m.crash(0)
		}
		if r := recover(); r != nil {
			err = fmt.Errorf("model broke: %v", r)
		}
	}()
	for i := 0; ; i++ {
		w.disturb()
		w.turn()
		if !w.calm && w.now > chaosFor {
			w.calm = true
			for _, m := range w.machines {
				m.frozen = 0
			}
		}
		if w.calm && i%64 == 0 && w.drained() {
			return w, w.auditor.Check()
		}
		if w.now > drainFor {
			if err := w.auditor.Check(); err != nil {
				return w, err
			}
			return w, errStuck
		}
	}
}
