package cascade

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A model of databases, workers, writers of all isolation levels, consumers and drivers of switchovers, with crashes,
// freezes and rivals at every step. The decisions are the ones of the real driver: Decide and Guard. A failing seed
// replays with: go test ./cascade -run TestSimulation -sim.seed=N -v
var (
	simSeed   = flag.Uint64("sim.seed", 0, "replay one round of the simulation of switchovers")
	simRounds = flag.Int("sim.rounds", 2000, "rounds of the simulation of switchovers")
)

// simFault breaks one rule, to prove that the checks notice.
type simFault string

const (
	faultNone        simFault = ""
	faultNoGate      simFault = "the flag alone closes a queue"
	faultNoGuard     simFault = "no guards, and no fence against other drivers"
	faultEarly       simFault = "promoted before it has the final tick"
	faultNoMark      simFault = "reopened after the grant without asking the new root"
	faultTwoFinals   simFault = "demoted with a tick behind the final one"
	faultDoubleCopy  simFault = "worker forgets its position between copy and commit"
	faultForgetPause simFault = "paused worker is left behind"
	faultWatermark   simFault = "old root is subscribed with its watermark at the final tick"
)

type simTick struct {
	id     int64
	events []int
	wm     int64 // global watermark that the root published in this batch
}

type simRow struct {
	state OpState
	epoch int64
	final int64
	since int // step at which writes were refused
}

type simNode struct {
	name     string
	up       bool
	boot     int // incarnation of the server
	typ      NodeType
	open     bool
	gate     bool
	provider string
	done     int64 // completed tick of the worker
	paused   bool
	uptodate bool
	term     int64
	ticks    []simTick
	loose    []int // committed, in no batch yet; on a branch: copied, its tick still missing
	looseWM  int64
	subs     map[string]int64 // read positions of subscribers
	wms      map[string]int64 // what they have told of their watermarks
	wm       int64            // global watermark as known here
	journal  map[string]simRow
	op       string
}

func (n *simNode) top() int64 { return n.ticks[len(n.ticks)-1].id }

// simWriter is one transaction of an application.
type simWriter struct {
	node     *simNode
	boot     int
	fixed    bool // repeatable read or serializable: the flag is read with the snapshot of the beginning
	seesOpen bool
	step     int
	event    int
}

// simWorker is the process that copies to a node; what it holds in memory is lost with it.
type simWorker struct {
	node      *simNode
	step      int
	provider  string
	prev, cur simTick
}

type simDriver struct {
	op       string
	old, new *simNode
	rollback bool
	started  bool
	leased   bool
	epochs   map[string]int64
	facts    Facts
	step     int
	action   Action
	dead     bool
	ended    bool
}

type world struct {
	t       testing.TB
	rng     *rand.Rand
	fault   simFault
	leases  bool
	step    int
	nodes   []*simNode
	workers []*simWorker
	writers []*simWriter
	drivers []*simDriver
	acked   []int
	nextEv  int
	ops     int
	pos     int64        // a consumer that moves between nodes
	seen    map[int]bool // by it
	log     []string
	bad     []string
	ends    map[OpState]int
}

func newWorld(t testing.TB, seed uint64, fault simFault) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), fault: fault, seen: map[int]bool{}, pos: 1, ends: map[OpState]int{}}
	w.leases = w.chance(70)
	for _, name := range []string{"O", "N", "B"} {
		n := &simNode{
			name: name, up: true, typ: Branch, provider: "O", done: 1, term: 1, ticks: []simTick{{id: 1, wm: 1}},
			subs: map[string]int64{}, wms: map[string]int64{}, wm: 1, journal: map[string]simRow{}, gate: true, uptodate: true,
		}
		w.nodes = append(w.nodes, n)
		w.workers = append(w.workers, &simWorker{node: n})
	}
	o := w.nodes[0]
	o.typ, o.open, o.gate = Root, true, false
	o.subs, o.wms = map[string]int64{"N": 1, "B": 1}, map[string]int64{"N": 1, "B": 1}
	return w
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%4d ", w.step)+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) { w.bad = append(w.bad, fmt.Sprintf(format, args...)) }

func (w *world) node(name string) *simNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// run is one round: a storm, then everything comes back and one driver for each open operation finishes.
func (w *world) run() {
	for w.step = 0; w.step < 1500 && len(w.bad) == 0; w.step++ {
		w.stir(true)
	}
	for _, n := range w.nodes {
		n.up = true
	}
	w.drivers = nil
	for range 4000 {
		if len(w.bad) > 0 || w.settled() {
			break
		}
		w.step++
		w.stir(false)
	}
	w.checkEnd()
}

// stir lets one thing happen.
func (w *world) stir(storm bool) {
	switch k := w.rng.IntN(100); {
	case k < 25:
		w.write(storm)
	case k < 31:
		w.tick(storm)
	case k < 65:
		w.work(w.workers[w.rng.IntN(len(w.workers))], storm)
	case k < 90:
		w.drive(storm)
	case k < 94:
		w.consume()
	case k < 95 && storm:
		w.disturb()
	case k < 97 && storm && len(w.drivers) < 4:
		w.operator()
	case !storm:
		w.rescue()
	}
	w.checkAlways()
}

// disturb kills and revives servers, and kills drivers.
func (w *world) disturb() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch {
	case !n.up:
		n.up = true
		w.note("%s is back", n.name)
	case w.chance(35):
		n.up = false
		n.boot++
		w.note("%s crashes", n.name)
	case len(w.drivers) > 0:
		d := w.drivers[w.rng.IntN(len(w.drivers))]
		d.dead = true
		w.note("driver of %s dies before %q", d.op, d.action.Kind)
	}
	w.drivers = slices.DeleteFunc(w.drivers, func(d *simDriver) bool { return d.dead || d.ended })
}

// operator starts an operation, or takes part in one that is open: going on or back.
func (w *world) operator() {
	for _, n := range w.nodes {
		if n.op != "" && n.up && w.chance(60) {
			w.drivers = append(w.drivers, w.driverOf(n, w.chance(15)))
			return
		}
	}
	i := w.rng.IntN(len(w.nodes))
	old := w.nodes[i]
	if w.chance(70) {
		for _, n := range w.nodes {
			if n.typ == Root {
				old = n
			}
		}
	}
	fresh := w.nodes[w.rng.IntN(len(w.nodes))]
	if fresh == old || fresh.provider != old.name {
		return // refused by the checks before the start
	}
	w.ops++
	w.drivers = append(w.drivers, &simDriver{
		op: fmt.Sprintf("%d:%s>%s", w.ops, old.name, fresh.name), old: old, new: fresh, epochs: map[string]int64{},
	})
}

func (w *world) driverOf(n *simNode, rollback bool) *simDriver {
	_, names, _ := strings.Cut(n.op, ":")
	old, fresh, _ := strings.Cut(names, ">")
	return &simDriver{op: n.op, old: w.node(old), new: w.node(fresh), rollback: rollback, started: true, epochs: map[string]int64{}}
}

// rescue is the supervision: an open operation gets a driver.
func (w *world) rescue() {
	w.drivers = slices.DeleteFunc(w.drivers, func(d *simDriver) bool { return d.ended })
	for _, n := range w.nodes {
		if n.op == "" || slices.ContainsFunc(w.drivers, func(d *simDriver) bool { return d.op == n.op }) {
			continue
		}
		w.drivers = append(w.drivers, w.driverOf(n, w.chance(20)))
	}
}

func (w *world) write(storm bool) {
	if storm && len(w.writers) < 4 && w.chance(40) {
		n := w.nodes[w.rng.IntN(2)]
		if n.up {
			w.writers = append(w.writers, &simWriter{node: n, boot: n.boot, fixed: w.chance(50), seesOpen: n.open})
		}
		return
	}
	if len(w.writers) == 0 {
		return
	}
	i := w.rng.IntN(len(w.writers))
	if tx := w.writers[i]; !tx.node.up || tx.boot != tx.node.boot || w.writeStep(tx) {
		w.writers = slices.Delete(w.writers, i, i+1)
	}
}

// writeStep tells whether the transaction has ended.
func (w *world) writeStep(tx *simWriter) bool {
	tx.step++
	switch tx.step {
	case 1: // reads the flag
		if !tx.fixed {
			tx.seesOpen = tx.node.open
		}
		return !tx.seesOpen
	case 2: // locks the table and inserts: the gate is in the catalog, which no snapshot hides
		return tx.node.gate && w.fault != faultNoGate
	}
	w.nextEv++
	tx.node.loose = append(tx.node.loose, w.nextEv)
	w.acked = append(w.acked, w.nextEv)
	if tx.node.typ != Root {
		w.note("event %d commits on %s %s", w.nextEv, tx.node.typ, tx.node.name)
	}
	return true
}

func (w *world) tick(storm bool) {
	for _, n := range w.nodes {
		if n.up && n.typ == Root && n.open && (len(n.loose) > 0 || storm && w.chance(10)) {
			w.makeTick(n)
		}
	}
}

func (w *world) makeTick(n *simNode) {
	low := n.top()
	for _, wm := range n.wms {
		low = min(low, wm)
	}
	n.wm = max(n.wm, low)
	n.ticks = append(n.ticks, simTick{id: n.top() + 1, events: n.loose, wm: n.wm})
	n.loose = nil
}

// work is one step of the loop of a branch; the commits are those of the contract, a crash is possible before each.
func (w *world) work(k *simWorker, storm bool) {
	n := k.node
	if !n.up || storm && w.chance(4) {
		k.step = 0 // the process dies
		return
	}
	p := w.node(k.provider)
	if k.step > 0 && !p.up {
		k.step = 0
		return
	}
	switch k.step {
	case 0:
		n.uptodate = true
		if n.paused || n.typ != Branch {
			return
		}
		k.provider, k.step = n.provider, 1
	case 1:
		w.nextBatch(k, p)
	case 2:
		w.copyBatch(k)
	case 3:
		if n.top() == k.prev.id {
			n.ticks = append(n.ticks, simTick{id: k.cur.id, events: n.loose, wm: n.looseWM})
			n.loose = nil
		}
		k.step = 4
	case 4:
		if w.chance(30) {
			low := n.done
			for _, wm := range n.wms {
				low = min(low, wm)
			}
			p.wms[n.name] = max(p.wms[n.name], low)
		}
		if _, ok := p.subs[n.name]; ok {
			p.subs[n.name] = k.cur.id
		}
		k.step = 0
	}
}

func (w *world) nextBatch(k *simWorker, p *simNode) {
	at, ok := p.subs[k.node.name]
	i := slices.IndexFunc(p.ticks, func(t simTick) bool { return t.id == at })
	if !ok || i < 0 || i+1 == len(p.ticks) {
		k.step = 0
		return
	}
	k.prev, k.cur, k.step = p.ticks[i], p.ticks[i+1], 2
}

func (w *world) copyBatch(k *simWorker) {
	n := k.node
	switch {
	case n.done == k.prev.id || w.fault == faultDoubleCopy && n.done == k.cur.id && n.top() == k.prev.id:
		n.loose = append(n.loose, k.cur.events...)
		n.looseWM = k.cur.wm
		n.done, n.wm = k.cur.id, max(n.wm, k.cur.wm)
		k.step = 3
	case n.done == k.cur.id && n.top() == k.prev.id:
		k.step = 3
	case n.done == k.cur.id:
		k.step = 4
	default:
		w.fail("worker of %s lost its position: batch %d..%d, completed %d", n.name, k.prev.id, k.cur.id, n.done)
	}
}

// consume moves a consumer one batch on, on any node that has it.
func (w *world) consume() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	i := slices.IndexFunc(n.ticks, func(t simTick) bool { return t.id == w.pos })
	if !n.up || i < 0 || i+1 == len(n.ticks) {
		return
	}
	for _, e := range n.ticks[i+1].events {
		if w.seen[e] {
			w.fail("I7: the consumer sees event %d twice", e)
		}
		w.seen[e] = true
	}
	w.pos = n.ticks[i+1].id
}

// drive is one step of one driver; between two steps anything may happen, for as long as it likes.
func (w *world) drive(storm bool) {
	if len(w.drivers) == 0 {
		return
	}
	d := w.drivers[w.rng.IntN(len(w.drivers))]
	if d.ended {
		return
	}
	switch {
	case !d.started:
		d.started, d.action = true, Action{Kind: ActPrepareOld}
		d.epochs[d.old.name] = w.newEpoch(d.old, d.op)
		d.ended = !w.do(d)
	case !d.leased:
		w.lease(d)
	case d.step == 0:
		d.facts = Facts{Rollback: d.rollback, Old: w.look(d, d.old)}
		if row := d.old.journal[d.op]; row.since > 0 {
			d.facts.Overdue = w.step-row.since > 700
		}
		d.step = 1
	case d.step == 1:
		d.facts.New = w.look(d, d.new)
		d.action, d.step = w.decide(d.facts), 2
	default:
		d.step = 0
		if storm && w.chance(10) {
			d.dead = true // killed between decision and transaction
			w.drivers = slices.DeleteFunc(w.drivers, func(d *simDriver) bool { return d.dead })
			return
		}
		w.do(d)
	}
}

// decide is Decide, or what a fault makes of it.
func (w *world) decide(f Facts) Action {
	a := Decide(f)
	switch {
	case w.fault == faultNoMark && a.Kind == ActMarkAbort:
		a.Kind = ActUngrant
	case w.fault == faultEarly && a.Kind == ActWait && f.Old.State == OpFinal && f.New.Reached:
		a.Kind = ActPromote
	}
	return a
}

func (w *world) newEpoch(n *simNode, op string) int64 {
	if !w.leases {
		return 0
	}
	return n.journal[op].epoch + 1
}

// lease takes an operation over: the driver before may be dead, or frozen.
func (w *world) lease(d *simDriver) {
	for _, n := range []*simNode{d.old, d.new} {
		if row, ok := n.journal[d.op]; ok && n.up {
			d.epochs[n.name] = w.newEpoch(n, d.op)
			row.epoch = d.epochs[n.name]
			n.journal[d.op] = row
		}
	}
	d.leased = true
}

func (w *world) look(d *simDriver, n *simNode) Side {
	if !n.up {
		return Side{}
	}
	row := n.journal[d.op]
	peer := d.old.name
	if n == d.old {
		peer = d.new.name
	}
	_, subscribed := n.subs[peer]
	return Side{
		Reached: true, Type: n.typ, Name: n.name, Open: n.open, Gated: n.gate, Provider: n.provider, Completed: n.done,
		Top: n.top(), Paused: n.paused, Uptodate: n.uptodate, Term: n.term, Peer: subscribed,
		State: row.state, Op: n.op, Final: row.final, Epoch: row.epoch,
	}
}

// do runs the action of a driver as one transaction, which a crash may undo; it tells whether it was done.
func (w *world) do(d *simDriver) bool {
	n := d.old
	if d.action.Kind.OnNew() {
		n = d.new
	}
	switch {
	case d.action.Kind == ActFinished:
		d.ended = true
		return true
	case d.action.Kind == ActStop:
		w.fail("I9: %s stops: %s", d.op, d.action.Why)
		return false
	case !d.action.Kind.OnOld() && !d.action.Kind.OnNew() || !n.up:
		return false
	case w.fault != faultNoGuard:
		by := Fence{Op: d.op, Epoch: d.epochs[n.name], Final: d.facts.Old.Final}
		if n.journal[d.op].state == OpNone {
			d.epochs[n.name] = w.newEpoch(n, d.op)
		}
		if w.fault == faultEarly {
			by.Final = n.top()
		}
		if err := Guard(d.action.Kind, by, w.look(d, n)); err != nil {
			if errors.Is(err, ErrDriverLost) {
				d.leased = w.chance(50) // gives up, or takes it back when its rival is silent
				d.ended = !d.leased
				d.leased = false
			}
			return false
		}
	}
	return w.apply(d, n)
}

// apply has the effects that the transactions of the real driver have.
func (w *world) apply(d *simDriver, n *simNode) bool {
	row := n.journal[d.op]
	row.epoch = d.epochs[n.name]
	switch d.action.Kind {
	case ActPrepareOld, ActPrepareNew:
		row.state, n.op = OpPrepared, d.op
	case ActClose:
		row.state, row.since, n.open, n.paused, n.uptodate = OpClosed, w.step, false, true, false
	case ActFinal:
		if slices.ContainsFunc(w.writers, func(tx *simWriter) bool {
			return tx.node == n && tx.boot == n.boot && tx.step == 2
		}) {
			return false // waits for the lock in vain
		}
		w.makeTick(n)
		row.state, row.final, n.gate = OpFinal, n.top(), true
	case ActGrant:
		row.state = OpGranted
	case ActPromote:
		w.promote(d, n)
		row.state = OpPromoted
	case ActDemote:
		if w.fault == faultTwoFinals {
			w.makeTick(n)
		}
		n.typ, n.provider, n.done, n.uptodate = Branch, d.new.name, n.top(), false
		delete(n.subs, d.new.name)
		delete(n.wms, d.new.name)
		row.state = OpDemoted
	case ActResumeOld:
		n.paused, n.uptodate = w.fault == faultForgetPause, false
		row.state, n.op = OpDone, ""
	case ActResumeNew:
		row.state, n.op = OpDone, ""
	case ActMarkAbort:
		row.state = OpAborting
	case ActReopen, ActUngrant:
		n.open, n.gate, n.paused, n.uptodate = true, false, false, false
		row.state, n.op = OpAborted, ""
	case ActEndNew:
		row.state, n.op = OpAborted, ""
	default:
		w.fail("the simulation does not know %s", d.action.Kind)
	}
	if !row.state.Open() && n == d.old {
		w.ends[row.state]++
	}
	n.journal[d.op] = row
	w.note("%s %s: %s (%s)", d.op, d.action.Kind, row.state, d.action.Why)
	return true
}

func (w *world) promote(d *simDriver, n *simNode) {
	n.typ, n.open, n.gate, n.provider, n.done, n.uptodate = Root, true, false, n.name, n.top(), false
	n.term++
	n.subs[d.old.name], n.wms[d.old.name] = n.top(), n.wm
	if w.fault == faultWatermark {
		n.wms[d.old.name] = n.top()
	}
}

func TestSimulation_SwitchoversLoseNothing(t *testing.T) {
	t.Parallel()
	seeds := make([]uint64, 0, *simRounds)
	for i := range *simRounds {
		seeds = append(seeds, uint64(i+1))
	}
	if *simSeed != 0 {
		seeds = []uint64{*simSeed}
	}
	ends, events, ops := map[OpState]int{}, 0, 0
	for _, seed := range seeds {
		w := newWorld(t, seed, faultNone)
		w.run()
		events, ops = events+len(w.acked), ops+w.ops
		for state, n := range w.ends {
			ends[state] += n
		}
		if len(w.bad) > 0 {
			t.Fatalf("seed %d (-sim.seed=%d replays it):\n%s\n%s", seed, seed, strings.Join(w.bad, "\n"), strings.Join(w.log, "\n"))
		}
		if *simSeed != 0 {
			t.Logf("%s", strings.Join(w.log, "\n"))
		}
	}
	t.Logf("%d rounds, %d operations asked for, %v, %d events", len(seeds), ops, ends, events)
	if *simSeed == 0 && (ends[OpDone] < len(seeds)/2 || ends[OpAborted] < len(seeds)/4) {
		t.Errorf("the rounds end in %v: too few of a kind to mean anything", maps.Clone(ends))
	}
}

// Each fault is found: the checks can fail.
func TestSimulation_FindsFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []simFault{
		faultNoGate, faultNoGuard, faultEarly, faultNoMark, faultTwoFinals, faultDoubleCopy, faultForgetPause, faultWatermark,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 400; seed++ {
				w := newWorld(t, seed, fault)
				w.run()
				if len(w.bad) > 0 {
					t.Logf("seed %d: %s", seed, w.bad[0])
					return
				}
			}
			t.Error("400 rounds found nothing")
		})
	}
}
