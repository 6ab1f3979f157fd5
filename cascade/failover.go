package cascade

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// LossWindow bounds what a failover may lose: everything that the dead root took after a tick.
type LossWindow struct {
	// LastTick is the last tick of the dead root that any node has, Node one that has it, Time when the root made it.
	LastTick int64     `json:"last_tick"`
	Node     string    `json:"node"`
	Time     time.Time `json:"tick_time"`
	// Since is how long ago that was, by the clock of Node, and Rate how many events a second there were before it.
	Since time.Duration `json:"since"`
	Rate  float64       `json:"events_per_second"`
}

// String says it for people.
func (l *LossWindow) String() string {
	return fmt.Sprintf("events that the dead root took after tick %d (%s, %s ago; the last that any node has, %s) may be lost, about %.1f for each second that it lived on",
		l.LastTick, l.Time.UTC().Format(time.RFC3339Nano), l.Since.Round(time.Millisecond), l.Node, l.Rate)
}

// candidate is a member that may take the place of a dead root.
type candidate struct {
	name string
	typ  NodeType
	top  int64
}

// mostAdvanced picks the branch with the highest tick; of equals the wanted one, then the first by name. ahead names the
// leafs that are further than it: nobody can give them what they lack, or take back what they have.
func mostAdvanced(all []candidate, wanted string) (best candidate, ahead []string) {
	for _, c := range slices.SortedFunc(slices.Values(all), func(a, b candidate) int { return cmp.Compare(a.name, b.name) }) {
		if c.typ == Branch && (best.name == "" || c.top > best.top || c.top == best.top && c.name == wanted) {
			best = c
		}
	}
	for _, c := range all {
		if c.typ == Leaf && c.top > best.top {
			ahead = append(ahead, c.name)
		}
	}
	slices.Sort(ahead)
	return best, ahead
}

// candidates are the members that answer.
func (t *Topology) candidates() []candidate {
	var all []candidate
	for _, n := range t.live() {
		c := candidate{name: n.Name, typ: n.Type, top: n.LastTick}
		if n.Queue != nil {
			c.top = n.Queue.TopTick
		}
		all = append(all, c)
	}
	return all
}

// planFailover plans to go on without a dead root.
func (a *Admin) planFailover(ctx context.Context, t *Takeover) error {
	top := t.topology
	n := top.Node(t.New)
	c := &checker{}
	c.add("P1", "a branch takes the place of the dead root", redIf(n.Type != Branch), "branch", "%s is a %s", n.Name, n.Type)
	c.add("P1", "no member that answers is root", redIf(len(top.Roots) > 0), "none", "%d", len(top.Roots))
	c.add("P1", "a branch takes the place of the dead root", redIf(n.Paused), "not paused", "worker of %s: %s", n.Name, pausedText(n.Paused))
	best, ahead := mostAdvanced(top.candidates(), t.New)
	if best.name != t.New && best.name != "" {
		t.feed = best.name
		t.Steps = append(t.Steps, fmt.Sprintf("%s: read what it lacks from %s, up to tick %d", t.New, best.name, best.top))
		c.add("P8", "the new root has all that is left", Green, "", "%s is at tick %d, %s at %d: it is fed first", t.New, n.LastTick, best.name, best.top)
	}
	for _, leaf := range ahead {
		c.add("P8", "no leaf is ahead of all branches", Yellow, "none ahead", "%s has more than any branch; it has to be built anew", leaf)
	}
	if a.checkSchemas(ctx, c, n) {
		a.checkJournals(ctx, c, t.Old, top.live()...)
		if t.feed != "" {
			_, err := a.alive(ctx, n)
			found := "answered"
			if err != nil {
				found = oneLine(err.Error())
			}
			c.add("P2", "the worker of the new root is alive", redIf(err != nil), "an answer", "worker of %s: %s", n.Name, found)
		}
	}
	t.Checks = c.checks
	t.Steps = append(t.Steps, "everywhere: agree to the new term", t.New+": become root, take writes, keep events for the return of "+t.Old)
	for _, m := range top.live() {
		if m.Provider == t.Old && m.Name != t.New {
			t.Steps = append(t.Steps, fmt.Sprintf("%s: let the worker read from %s", m.Name, t.New))
		}
	}
	t.Steps = append(t.Steps, "everywhere: tag "+t.Old+" dead")
	var err error
	t.Loss, err = a.lossWindow(ctx, top)
	return err
}

// lossWindow finds the last tick of the dead root that anybody has.
func (a *Admin) lossWindow(ctx context.Context, top *Topology) (*LossWindow, error) {
	const read = `
select t.tick_time, extract(epoch from clock_timestamp() - t.tick_time)::float8,
       coalesce((t.tick_event_seq - p.tick_event_seq) / nullif(extract(epoch from t.tick_time - p.tick_time), 0), 0)::float8
  from pgq.queue q
  join pgq.tick t on t.tick_queue = q.queue_id
  left join lateral (select * from pgq.tick p where p.tick_queue = q.queue_id and p.tick_id < t.tick_id and p.tick_id >= t.tick_id - 20
                      order by p.tick_id limit 1) p on true
 where q.queue_name = $1 order by t.tick_id desc limit 1`
	best, _ := mostAdvanced(top.candidates(), "")
	if best.name == "" {
		return nil, refuse("no branch answers: a leaf cannot become root")
	}
	l := &LossWindow{LastTick: best.top, Node: best.name}
	for _, c := range top.candidates() { // a leaf may know of a later one
		if c.top > l.LastTick {
			l.LastTick, l.Node = c.top, c.name
		}
	}
	db, err := a.node(ctx, top.Node(best.name))
	var seconds float64
	if err == nil {
		err = db.QueryRow(ctx, read, a.queue).Scan(&l.Time, &seconds, &l.Rate)
	}
	if err != nil {
		return nil, fmt.Errorf("read the last tick of %s: %w", best.name, pgq.Classify(err))
	}
	l.Since = time.Duration(seconds * float64(time.Second))
	return l, nil
}

// failover is a failover under way. Its journal is in the new root's database.
type failover struct {
	a *Admin
	t *Takeover
	j Journal
	// epoch is the driver's.
	epoch int64
}

func (a *Admin) runFailover(ctx context.Context, t *Takeover) (*Result, error) {
	f := &failover{a: a, t: t, epoch: 1, j: Journal{
		ID: rand.Text(), Queue: a.queue, Kind: KindFailover, Side: "new", Old: t.Old, New: t.New, State: OpPrepared,
		StartTick: t.Loss.LastTick, Limits: Limits{WriteOutage: t.options.WriteOutage}, Driver: t.options.Driver,
	}}
	if err := a.begins(ctx, t.topology, f.begin); err != nil {
		return nil, err
	}
	return f.run(ctx)
}

func (a *Admin) resumeFailover(ctx context.Context, j *Journal, back bool, o TakeoverOptions) (*Result, error) {
	top, err := a.Topology(ctx)
	if err != nil {
		return nil, err
	}
	o.Dead, o.AllowDataLoss = true, true // it was begun with both
	f := &failover{a: a, j: *j, t: &Takeover{Queue: a.queue, Kind: KindFailover, Old: j.Old, New: j.New, topology: top, options: o}}
	f.j.Driver = o.Driver
	db, err := a.database(ctx, j.New)
	if err == nil {
		f.epoch, err = takeDriver(ctx, db, j.ID, o.Driver)
	}
	switch {
	case err != nil:
		return nil, err
	case back && j.State == OpPrepared:
		return nil, joinOver(ErrRolledBack, setState(ctx, db, j.ID, OpAborted), "")
	}
	if best, _ := mostAdvanced(top.candidates(), j.New); best.name != j.New {
		f.t.feed = best.name
	}
	return f.run(ctx)
}

// giveUpSQL ends a switchover whose old root died in the middle: this node has not opened, and will not by it.
const giveUpSQL = `
update skyd_node.operation set state = 'aborted', finished = clock_timestamp(), last_error = 'the old root is dead'
 where queue_name = $1 and old_node = $2 and side = 'new' and kind = 'switchover' and state in ('prepared', 'aborting') and finished is null`

// begin opens the journal and asks all members that answer for their agreement.
func (f *failover) begin(ctx context.Context) error {
	terms, err := f.a.terms(ctx, f.t.topology)
	if err != nil {
		return err
	}
	for _, k := range terms {
		f.j.Term = max(f.j.Term, k.Term+1, k.Claim+1)
	}
	db, err := f.a.database(ctx, f.t.New)
	if err != nil {
		return err
	}
	err = pgq.Transact(ctx, db, func(q pgq.Querier) error {
		if _, err := q.Exec(ctx, giveUpSQL, f.a.queue, f.t.Old); err != nil {
			return fmt.Errorf("give the switchover up: %w", pgq.Classify(err))
		}
		return openJournal(ctx, q, f.j)
	})
	if err != nil {
		return err
	}
	f.told(f.t.New, ActPrepareNew, "the journal is open")
	return nil
}

func (f *failover) told(node string, step ActionKind, why string) {
	if f.t.options.Told != nil {
		f.t.options.Told(OpStep{Node: node, Step: step, Why: why})
	}
}

// run goes through the steps; each finds out by itself whether it is done.
func (f *failover) run(ctx context.Context) (_ *Result, err error) {
	ctx, span := tracer(ctx).Start(ctx, pgq.SpanName(pgq.OpFailover, f.a.queue))
	defer func() {
		pgq.RecordError(span, err)
		span.End()
	}()
	f.t.journal = f.j.ID
	db, err := f.a.database(ctx, f.t.New)
	if err != nil {
		return nil, err
	}
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	defer background(ctx, func(beating context.Context) { f.beat(beating, db, lost) })()
	if f.j.State == OpPrepared {
		err := f.feed(ctx)
		if err == nil {
			err = f.claim(ctx)
		}
		if err == nil {
			f.told(f.t.New, "claim", "all members that answer agree to its term")
			err = f.promote(ctx, db)
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return nil, f.undo(ctx, db, err)
		}
	}
	r := &Result{Takeover: f.t}
	f.a.moveOthers(ctx, f.t, r)
	f.told(f.t.New, "children", "all that could be moved read from it")
	if err := f.settle(ctx); err != nil {
		return r, fmt.Errorf("%w: %s is root and takes events: %w", ErrUnfinished, f.t.New, err)
	}
	f.told(f.t.New, "settle", "everybody knows the new root")
	if err := setState(ctx, db, f.j.ID, OpDone); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnfinished, err)
	}
	return r, leftError(r)
}

// beat says that this driver lives, until it hears that another one has taken over.
func (f *failover) beat(ctx context.Context, db *pgq.DB, lost context.CancelCauseFunc) {
	for rest(ctx, driverBeat) == nil {
		quick, cancel := context.WithTimeout(ctx, lookLimit)
		mine, err := beat(quick, db, f.j.ID, f.epoch)
		cancel()
		if err == nil && !mine {
			lost(fmt.Errorf("%w: operation %s", ErrDriverLost, f.j.ID))
			return
		}
	}
}

// undo ends a failover that did not come to the promotion.
func (f *failover) undo(ctx context.Context, db *pgq.DB, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
	defer cancel()
	const abort = `
update skyd_node.operation set state = 'aborted', finished = clock_timestamp(), last_error = $2
 where op_id = $1 and state = 'prepared' and epoch = $3`
	tag, err := db.Exec(ctx, abort, f.j.ID, cause.Error(), f.epoch)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w: %w", ErrUnfinished, cause, err)
	case tag.RowsAffected() == 0: // another driver has it, or it is over
		return fmt.Errorf("%w: %w", ErrDriverLost, cause)
	}
	return fmt.Errorf("%w: %w", ErrRolledBack, cause)
}

// feed lets the new root read from the most advanced branch what it lacks, before anybody else is moved.
func (f *failover) feed(ctx context.Context) error {
	if f.t.feed == "" {
		return nil
	}
	f.t.topology.own = f.j.ID
	if err := f.a.change(ctx, f.t.topology, f.t.New, f.t.feed); err != nil {
		return err
	}
	for {
		top, err := f.a.Topology(ctx)
		if err != nil {
			return err
		}
		best, _ := mostAdvanced(top.candidates(), f.t.New)
		if best.name == f.t.New {
			f.told(f.t.New, "feed", fmt.Sprintf("it has all ticks up to %d", best.top))
			return nil
		}
		if err := rest(ctx, pollPeriod); err != nil {
			return fmt.Errorf("%s does not come to tick %d, which %s has: %w", f.t.New, best.top, best.name, err)
		}
	}
}

// claim gets the agreement of all members that answer: two nodes never become root with one term.
func (f *failover) claim(ctx context.Context) error {
	for _, n := range f.t.topology.live() {
		db, err := f.a.node(ctx, n)
		if err != nil {
			return err
		}
		if ok, err := hasOperations(ctx, db); err != nil || !ok {
			if err != nil {
				return err
			}
			continue // an original node has no terms
		}
		var agreed bool
		if err := db.QueryRow(ctx, `select skyd_node.claim_term($1, $2, $3)`, f.a.queue, f.j.Term, f.t.New).Scan(&agreed); err != nil {
			return fmt.Errorf("ask %s for term %d: %w", n.Name, f.j.Term, pgq.Classify(err))
		}
		if !agreed {
			return fmt.Errorf("%w: %s has agreed to another root", ErrBusy, n.Name)
		}
	}
	return nil
}

// promote makes the node the root and keeps, as gravestone, the tick where the cascade went on without the old one.
func (f *failover) promote(ctx context.Context, db *pgq.DB) error {
	top, err := f.a.Topology(ctx)
	if err != nil {
		return err
	}
	above := int64(0)
	for _, c := range top.candidates() {
		above = max(above, c.top)
	}
	best, _ := mostAdvanced(top.candidates(), f.t.New)
	if len(top.Roots) > 0 || best.name != f.t.New {
		return fmt.Errorf("%w: roots %v, most advanced %s", ErrOvertaken, top.Roots, best.name)
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := guardTx(ctx, tx, stepLimit); err != nil {
			return err
		}
		if err := lockSide(ctx, tx, f.a.queue, f.j.ID); err != nil {
			return err
		}
		s, err := readSide(ctx, tx, f.a.queue, f.j.ID, f.t.Old)
		switch {
		case err != nil:
			return err
		case s.Epoch != f.epoch:
			return fmt.Errorf("%w: operation %s", ErrDriverLost, f.j.ID)
		case s.Type != Branch || s.State != OpPrepared || s.Top != best.top || s.Completed != s.Top:
			return fmt.Errorf("%w: %s is a %s at tick %d, wanted %d", ErrOvertaken, s.Name, s.Type, s.Top, best.top)
		}
		if _, err := promoteHere(ctx, tx, f.a.queue, f.j.Term, above); err != nil {
			return err
		}
		if err := subscribeAt(ctx, tx, f.a.queue, f.t.Old, f.t.Old+".gravestone", s.Top); err != nil {
			return err
		}
		if err := setState(ctx, tx, f.j.ID, OpPromoted); err != nil {
			return err
		}
		return Nudge(ctx, tx, f.a.queue)
	})
	if err == nil {
		f.told(f.t.New, ActPromote, "it has all that is left")
	}
	return err
}

// settle tells everybody of the new root, and ends the subscription at the node that fed it.
func (f *failover) settle(ctx context.Context) error {
	if err := f.a.tagDead(ctx, f.t); err != nil {
		return err
	}
	top, err := f.a.Topology(ctx)
	if err != nil {
		return err
	}
	var all []error
	for _, n := range top.live() {
		db, err := f.a.node(ctx, n)
		if err == nil && n.Type != Leaf && n.Name != f.t.New {
			_, err = UnregisterSubscriber(ctx, db, f.a.queue, f.t.New)
		}
		var ok bool
		if err == nil {
			ok, err = hasOperations(ctx, db)
		}
		if err == nil && ok {
			err = learnTerm(ctx, db, f.a.queue, f.j.Term, f.t.New)
		}
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", n.Name, err))
		}
	}
	return errors.Join(all...)
}
