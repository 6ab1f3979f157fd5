package cascade

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/skytools/skyd/pgq"
)

// TakeoverOptions are the settings of a takeover; the zero value is fine.
type TakeoverOptions struct {
	// MaxLag is how far the node may be behind the one that it takes over. Defaults to 1 minute.
	MaxLag time.Duration
	// WriteOutage is how long writes may be refused before the old root opens again. Defaults to 10 s.
	WriteOutage time.Duration
	// All moves the other nodes that read from the old node below the new one, and consumers too.
	All bool
	// Force goes on in spite of yellow checks.
	Force bool
	// Dead: the old node does not answer any more, the cascade goes on without it.
	Dead bool
	// AllowDataLoss: events that never left the dead root may be lost.
	AllowDataLoss bool
	// Driver names this process in the journal, unique among all. Defaults to host, process and a random part.
	Driver string
	// cautious goes back when nothing has changed yet: for whoever ends what others began.
	cautious bool
	// Told hears of each step that took effect. Defaults to nobody.
	Told func(OpStep)
}

func (o *TakeoverOptions) defaults() {
	if o.MaxLag <= 0 {
		o.MaxLag = time.Minute
	}
	if o.WriteOutage <= 0 {
		o.WriteOutage = 10 * time.Second
	}
	if o.Driver == "" {
		host, _ := os.Hostname()
		o.Driver = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6])
	}
}

// Takeover is a plan to let a node take the place of another one, with all that was found when it was made.
type Takeover struct {
	Queue string `json:"queue"`
	// Kind is switchover, failover or branch: a branch is taken over by changes of providers alone.
	Kind string `json:"kind"`
	Old  string `json:"old_node"`
	New  string `json:"new_node"`
	// Checks are the conditions, each with what was found.
	Checks []Check  `json:"checks"`
	Steps  []string `json:"steps"`
	// Estimate is how long writes will be refused.
	Estimate time.Duration `json:"estimated_write_outage"`
	// Loss is what a failover may lose; nil for nothing.
	Loss *LossWindow `json:"loss_window,omitempty"`

	topology *Topology
	options  TakeoverOptions
	feed     string
	journal  string // id of the operation while it is open
}

// kindBranch is the takeover of a branch.
const kindBranch = "branch"

// Refused is nil when the takeover may run; else it names the conditions that do not hold.
func (t *Takeover) Refused() error {
	var all []error
	for _, c := range t.Checks {
		switch {
		case c.Level == Red:
			all = append(all, refuse("%s %s: %s; needed: %s", c.ID, c.Text, c.Found, c.Needed))
		case c.Level == Yellow && !t.options.Force:
			all = append(all, refuse("%s %s: %s; needed: %s, or --force", c.ID, c.Text, c.Found, c.Needed))
		}
	}
	if t.Loss != nil && !t.options.AllowDataLoss {
		all = append(all, refuse("%s; --allow-data-loss accepts that", t.Loss))
	}
	return errors.Join(all...)
}

// PlanTakeover plans to let node take the place of old, and checks all conditions. It changes nothing but the flag by
// which workers are asked whether they live. The plan is good for this moment.
func (a *Admin) PlanTakeover(ctx context.Context, old, node string, o TakeoverOptions) (*Takeover, error) {
	o.defaults()
	top, err := a.Topology(ctx)
	if err != nil {
		return nil, err
	}
	n, err := top.member(node)
	if err != nil {
		return nil, err
	}
	was, err := top.member(old)
	if err != nil {
		return nil, err
	}
	if n == was {
		return nil, refuse("%s cannot take itself over", node)
	}
	if err := n.reachable(); err != nil {
		return nil, err
	}
	t := &Takeover{Queue: a.queue, Old: old, New: node, topology: top, options: o}
	root, _, err := top.gravestone(old)
	switch {
	case err != nil:
		return nil, err
	case root != nil:
		return nil, refuse("the cascade has gone on without %s already, with %s as root, which keeps events for its return; there is nothing to take over", old, root.Name)
	case o.Dead && was.State == Alive:
		return nil, refuse("%s answers: it is not dead; a takeover without --dead loses nothing", old)
	case o.Dead && top.wasRoot(was):
		t.Kind = KindFailover
		return t, a.planFailover(ctx, t)
	case o.Dead:
		t.Kind = kindBranch
		return t, a.planBranch(t)
	}
	if err := was.reachable(); err != nil {
		return nil, fmt.Errorf("%w; if it is gone for good, take it over as dead", err)
	}
	switch was.Type {
	case Root:
		t.Kind = KindSwitchover
		return t, a.planSwitchover(ctx, t)
	case Branch:
		t.Kind = kindBranch
		return t, a.planBranch(t)
	}
	return nil, refuse("%s is a leaf: nobody reads from it, there is nothing to take over", old)
}

// Run carries the takeover out. A switchover and a failover give a proof or a report; the takeover of a branch neither.
// Errors: ErrRefused when nothing was done, ErrRolledBack, ErrUnfinished when a later Resume has to end it.
func (a *Admin) Run(ctx context.Context, t *Takeover) (*Result, error) {
	if err := t.Refused(); err != nil {
		return nil, err
	}
	switch t.Kind {
	case KindSwitchover:
		return a.runSwitchover(ctx, t)
	case KindFailover:
		return a.runFailover(ctx, t)
	}
	return &Result{Takeover: t}, a.runBranch(ctx, t)
}

// Result is what a takeover tells at its end.
type Result struct {
	Takeover *Takeover `json:"takeover,omitempty"`
	Proof    *Proof    `json:"proof,omitempty"`
	// Moved are the nodes and consumers that read from the new node now, Left what could not be moved, with the reason.
	Moved []string          `json:"moved,omitempty"`
	Left  map[string]string `json:"left,omitempty"`
}

func (r *Result) left(what string, err error) {
	if r.Left == nil {
		r.Left = map[string]string{}
	}
	r.Left[what] = oneLine(err.Error())
}

func (a *Admin) runSwitchover(ctx context.Context, t *Takeover) (*Result, error) {
	begun := time.Now()
	op := a.operation(rand.Text(), t.Old, t.New, t.options)
	if err := a.begins(ctx, t.topology, op.start); err != nil {
		return nil, err
	}
	if err := op.run(ctx, false, false, t.options.Told); err != nil {
		return nil, err
	}
	r := &Result{Takeover: t}
	var err error
	if r.Proof, err = op.prove(ctx); err != nil {
		return r, fmt.Errorf("%s is root; the proof: %w", t.New, err)
	}
	r.Proof.Took = time.Since(begun)
	if !r.Proof.Equal() {
		return r, fmt.Errorf("%w: ticks %d to %d are not the same on %s and %s", ErrNeedsPerson, r.Proof.FromTick, r.Proof.FinalTick, t.Old, t.New)
	}
	a.unsubscribeRoot(ctx, t.New, r)
	a.moveOthers(ctx, t, r)
	return r, nil
}

func (a *Admin) operation(id, old, node string, o TakeoverOptions) *operation {
	return &operation{
		a: a, id: id, old: old, new: node, driver: o.Driver, limits: Limits{WriteOutage: o.WriteOutage},
		dbs: map[string]*pgq.DB{}, epochs: map[string]int64{}, beaten: map[string]time.Time{},
	}
}

// start opens the journal on the old root: the lock against any other operation.
func (o *operation) start(ctx context.Context) error {
	var f Facts
	if err := o.lookBoth(ctx, &f); err != nil {
		return err
	}
	if !f.Old.Reached || !f.New.Reached {
		return fmt.Errorf("%w: %s or %s", ErrUnreachable, o.old, o.new)
	}
	for _, s := range []Side{f.Old, f.New} {
		if s.Op != "" {
			return fmt.Errorf("%w on %s: operation %s; skyd node takeover --resume or --rollback ends it", ErrBusy, s.Name, s.Op)
		}
	}
	o.term = max(f.Old.Term, f.New.Term) + 1
	return o.do(ctx, ActPrepareOld)
}

// Resume ends the operation that is open on the queue: forward, or back when that is asked for and still possible. It also
// takes on what a tool without a journal has left half-finished between old and node, when both are named. Errors:
// ErrNotFound when nothing is open, ErrDriven while another process is at work, and those of Run.
func (a *Admin) Resume(ctx context.Context, old, node string, back bool, o TakeoverOptions) (*Result, error) {
	o.defaults()
	j, err := a.findOpen(ctx)
	if err != nil {
		return nil, err
	}
	op := a.operation("adopted-"+rand.Text(), old, node, o)
	adopt := j == nil
	switch {
	case j != nil && j.Kind == KindFailover:
		return a.resumeFailover(ctx, j, back || o.cautious && j.State == OpPrepared, o)
	case j != nil:
		op = a.operation(j.ID, j.Old, j.New, o)
		op.limits, op.term = j.Limits, j.Term
		if o.cautious {
			var f Facts
			if err := op.lookBoth(ctx, &f); err != nil {
				return nil, err
			}
			back = f.Old.State == OpPrepared && f.Old.Open
		}
	case old == "" || node == "":
		return nil, fmt.Errorf("queue %s: open operation %w; name both nodes to end what a tool without journal began", a.queue, ErrNotFound)
	default:
		var f Facts
		if err := op.lookBoth(ctx, &f); err != nil {
			return nil, err
		}
		op.term, op.adopt = max(f.Old.Term, f.New.Term)+1, true
	}
	if err := op.run(ctx, back, adopt, o.Told); err != nil {
		return nil, err
	}
	r := &Result{}
	if j != nil {
		r.Proof, err = op.prove(ctx)
	}
	a.unsubscribeRoot(ctx, op.new, r)
	return r, err
}

// unsubscribeRoot ends what a node that has become root still has at a branch from which it read. Nobody waits for that
// branch: what cannot be ended is told, and status shows it.
func (a *Admin) unsubscribeRoot(ctx context.Context, root string, r *Result) {
	top, err := a.Topology(ctx)
	if err != nil {
		r.left("subscriptions of "+root, err)
		return
	}
	if n := top.Node(root); n == nil || n.Type != Root {
		return
	}
	for _, p := range top.live() {
		if p.Name == root || !slices.ContainsFunc(p.site.subscribers, func(s Subscriber) bool { return s.Node == root }) {
			continue
		}
		db, err := a.node(ctx, p)
		if err == nil {
			_, err = UnregisterSubscriber(ctx, db, a.queue, root)
		}
		if err != nil {
			r.left("subscription of "+root+" at "+p.Name, err)
		}
	}
}

// findOpen looks for the open operation of the queue: here, then on the other members.
func (a *Admin) findOpen(ctx context.Context) (*Journal, error) {
	list, err := OpenOperations(ctx, a.self, a.queue)
	if err != nil || len(list) > 0 {
		return firstJournal(list), err
	}
	top, err := a.Topology(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range top.live() {
		db, err := a.node(ctx, n)
		if err == nil {
			list, err = OpenOperations(ctx, db, a.queue)
		}
		if err != nil || len(list) > 0 {
			return firstJournal(list), err
		}
	}
	return nil, nil
}

func firstJournal(list []Journal) *Journal {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

// OpenOperation is the operation that is open on the queue, on any member that answers; nil for none.
func (a *Admin) OpenOperation(ctx context.Context) (*Journal, error) { return a.findOpen(ctx) }

// moveOthers lets the other children and consumers of the old node read from the new one, each as soon as that has its
// tick. Bystanders never block: what cannot move is told, and stays where it reads.
func (a *Admin) moveOthers(ctx context.Context, t *Takeover, r *Result) {
	if !t.options.All && !t.options.Dead {
		return
	}
	top, err := a.Topology(ctx)
	if err != nil {
		r.left("others", err)
		return
	}
	top.own = t.journal
	for _, n := range top.live() {
		for i := range n.Consumers {
			c := &n.Consumers[i]
			name := n.Name
			if c.Consumer != n.Worker {
				name += "/" + c.Consumer
			}
			if c.Provider != t.Old || n.Name == t.New && c.Consumer == n.Worker {
				continue
			}
			move, err := a.PlanChangeProvider(top, n.Name, c.Consumer, t.New)
			if err == nil {
				patient, cancel := context.WithTimeout(ctx, stepLimit)
				err = move.Run(patient, nil)
				cancel()
			}
			if err != nil {
				r.left(name, err)
				continue
			}
			r.Moved = append(r.Moved, name)
		}
	}
}

// planBranch plans the takeover of a branch: the new node reads where the old one did, and the old one, when it lives,
// from the new node.
func (a *Admin) planBranch(t *Takeover) error {
	top := t.topology
	n, was := top.Node(t.New), top.Node(t.Old)
	if n.Type != Branch {
		return refuse("%s is a %s: only a branch can take the place of a branch", n.Name, n.Type)
	}
	if was.Provider == "" {
		return refuse("nobody knows where %s read from", was.Name)
	}
	if top.Below(n.Name, was.Name) {
		t.Steps = append(t.Steps, fmt.Sprintf("%s: let the worker read from %s", n.Name, was.Provider))
	}
	if !t.options.Dead {
		t.Steps = append(t.Steps, fmt.Sprintf("%s: let the worker read from %s", was.Name, n.Name))
	} else {
		t.Steps = append(t.Steps, "everywhere: tag "+was.Name+" dead", was.Provider+": end the subscription of "+was.Name)
	}
	for _, child := range was.Children {
		if child != n.Name && (t.options.All || t.options.Dead) {
			t.Steps = append(t.Steps, fmt.Sprintf("%s: let the worker read from %s", child, n.Name))
		}
	}
	return nil
}

func (a *Admin) runBranch(ctx context.Context, t *Takeover) error {
	top := t.topology
	if err := top.idle(); err != nil {
		return err
	}
	was := top.Node(t.Old)
	if top.Below(t.New, t.Old) {
		if err := a.change(ctx, top, t.New, was.Provider); err != nil {
			return err
		}
	}
	r := &Result{Takeover: t}
	a.moveOthers(ctx, t, r)
	if !t.options.Dead {
		again, err := a.Topology(ctx)
		if err != nil {
			return err
		}
		if err := a.change(ctx, again, t.Old, t.New); err != nil {
			return err
		}
		return leftError(r)
	}
	if err := a.tagDead(ctx, t); err != nil {
		return err
	}
	if p := top.Node(was.Provider); p != nil && p.State == Alive {
		db, err := a.node(ctx, p)
		if err == nil {
			_, err = UnregisterSubscriber(ctx, db, a.queue, t.Old)
		}
		if err != nil {
			return fmt.Errorf("end the subscription of %s at %s: %w", t.Old, p.Name, err)
		}
	}
	return leftError(r)
}

// leftError says what could not be moved; the rest was done.
func leftError(r *Result) error {
	var all []error
	for what, why := range r.Left {
		all = append(all, fmt.Errorf("%w: %s was not moved: %s", ErrUnfinished, what, why))
	}
	return errors.Join(all...)
}

// change lets the worker of a node read from another provider.
func (a *Admin) change(ctx context.Context, top *Topology, node, provider string) error {
	plan, err := a.PlanChangeProvider(top, node, "", provider)
	if err != nil {
		return err
	}
	return plan.Run(ctx, nil)
}

// tagDead tells all members that answer that a node is dead.
func (a *Admin) tagDead(ctx context.Context, t *Takeover) error {
	top, err := a.Topology(ctx)
	if err != nil {
		return err
	}
	top.own = t.journal
	plan, err := a.PlanTag(top, t.Old, true)
	if err != nil {
		return err
	}
	return plan.Run(ctx, nil)
}

// wasRoot tells whether a node that does not answer was the root: nobody that answers is, and it reads from nobody.
func (t *Topology) wasRoot(was *Node) bool {
	return len(t.Roots) == 0 && (was.Provider == "" || was.Provider == was.Name)
}
