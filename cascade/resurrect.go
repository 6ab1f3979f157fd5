package cascade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// knownTerm is what a member knows of the term.
type knownTerm struct {
	Node      string
	Term      int64
	Root      string
	Claim     int64
	ClaimNode string
}

// terms asks all members that answer for the term they know.
func (a *Admin) terms(ctx context.Context, top *Topology) ([]knownTerm, error) {
	const read = `
select coalesce(t.term, 0), coalesce(t.root_node, ''), coalesce(t.claim, 0), coalesce(t.claim_node, '')
  from (select 1) one left join skyd_node.term t on t.queue_name = $1`
	var all []knownTerm
	for _, n := range top.live() {
		db, err := a.node(ctx, n)
		if err != nil {
			return nil, err
		}
		if ok, err := hasOperations(ctx, db); err != nil || !ok {
			if err != nil {
				return nil, err
			}
			continue
		}
		k := knownTerm{Node: n.Name}
		if err := db.QueryRow(ctx, read, a.queue).Scan(&k.Term, &k.Root, &k.Claim, &k.ClaimNode); err != nil {
			return nil, fmt.Errorf("read the term on %s: %w", n.Name, pgq.Classify(err))
		}
		all = append(all, k)
	}
	return all, nil
}

// Fenced says that the node here was root with a term that is over.
type Fenced struct {
	// Node is the node here, Term the term it had; NewTerm and NewRoot are what the cascade went on with.
	Node    string `json:"node"`
	Term    int64  `json:"term"`
	NewTerm int64  `json:"new_term"`
	NewRoot string `json:"new_root"`
	// Now: this call closed the queue; else it was closed already.
	Now bool `json:"closed_now"`
}

// FenceIfStale closes the queue of a root here that the cascade has gone on without: some member knows a newer term, or
// another root holds its gravestone. A daemon calls it before it opens the node, and from time to time. It returns nil
// for a node that is what it takes itself for. A root whose members do not answer stays as it is.
//
// Between the start of the server and this call the server takes what writers send; those events never leave it, and
// resurrect finds them.
func (a *Admin) FenceIfStale(ctx context.Context) (*Fenced, error) {
	if ok, err := hasOperations(ctx, a.self); err != nil || !ok {
		return nil, err
	}
	s, err := readSide(ctx, a.self, a.queue, "", "")
	if err != nil || s.Type != Root {
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	top, err := a.Topology(ctx)
	if err != nil {
		return nil, err
	}
	terms, err := a.terms(ctx, top)
	if err != nil {
		return nil, err
	}
	f := &Fenced{Node: s.Name, Term: s.Term}
	for _, k := range terms {
		if k.Term > max(s.Term, f.NewTerm) && k.Root != s.Name {
			f.NewTerm, f.NewRoot = k.Term, k.Root
		}
		// A claim that came to nothing closes nobody; one whose node does not answer may have come to something.
		if m := top.Node(k.ClaimNode); k.Claim > max(s.Term, f.NewTerm) && k.ClaimNode != s.Name && m != nil && m.State != Alive {
			f.NewTerm, f.NewRoot = k.Claim, k.ClaimNode
		}
	}
	if f.NewTerm == 0 {
		root, _, err := top.gravestone(s.Name)
		if err != nil || root == nil {
			return nil, err
		}
		f.NewRoot = root.Name
	}
	if !s.Open && s.Gated {
		return f, nil
	}
	f.Now = true
	return f, pgx.BeginFunc(ctx, a.self, func(tx pgx.Tx) error {
		if err := guardTx(ctx, tx, stepLimit); err != nil {
			return err
		}
		return closeRoot(ctx, tx, a.queue)
	})
}

// gravestone finds the root that keeps the place where the cascade went on without a node, and the tick.
func (t *Topology) gravestone(node string) (root *Node, tick int64, err error) {
	for _, n := range t.live() {
		p, ok := n.site.position(node + ".gravestone")
		if !ok || n.Name == node {
			continue
		}
		if root != nil {
			return nil, 0, refuse("both %s and %s hold a gravestone of %s", root.Name, n.Name, node)
		}
		root, tick = n, p.tick
	}
	return root, tick, nil
}

// Return is a plan to bring a dead root back as a branch, and what came of it.
type Return struct {
	Queue string `json:"queue"`
	Node  string `json:"node"`
	// Root is the node that the cascade went on with, Tick the last tick that both have, Term the new root's.
	Root string `json:"root"`
	Tick int64  `json:"tick"`
	Term int64  `json:"term"`
	// Lost are the events that only this node has; they go to table skyd_node.lost_event.
	Lost   int64    `json:"lost_events"`
	Ticks  int64    `json:"lost_ticks"`
	Steps  []string `json:"steps"`
	Done   bool     `json:"done"`
	Paused bool     `json:"paused"`

	root    *Node
	members []*Node // that answer
}

// PlanResurrect plans to bring the node of this database back, which was root when the cascade went on without it.
// Errors: ErrRefused when it is not one, or cannot return.
func (a *Admin) PlanResurrect(ctx context.Context) (*Return, error) {
	const lost = `
select coalesce((select count(*) from pgq.tick t where t.tick_queue = q.queue_id and t.tick_id > $2), 0),
       coalesce(pgq.seq_getval(q.queue_event_seq) - (select t.tick_event_seq from pgq.tick t
                                                      where t.tick_queue = q.queue_id and t.tick_id = $2), -1)
  from pgq.queue q where q.queue_name = $1`
	if ok, err := hasOperations(ctx, a.self); err != nil || !ok {
		return nil, errors.Join(err, refuse("this database has no schema skyd_node: run skyd schema install"))
	}
	s, err := readSide(ctx, a.self, a.queue, "", "")
	if err != nil {
		return nil, err
	}
	top, err := a.Topology(ctx)
	if err != nil {
		return nil, err
	}
	r := &Return{Queue: a.queue, Node: s.Name, Term: s.Term, members: top.live()}
	if r.root, r.Tick, err = top.gravestone(s.Name); err != nil {
		return nil, err
	}
	if r.root == nil {
		if s.Type == Branch {
			r.Done = true
			return r, a.countLost(ctx, r)
		}
		return nil, refuse("no member that answers holds a gravestone of %s: the cascade did not go on without it", s.Name)
	}
	r.Root = r.root.Name
	terms, err := a.terms(ctx, top)
	if err != nil {
		return nil, err
	}
	for _, k := range terms {
		r.Term = max(r.Term, k.Term)
	}
	if err := a.self.QueryRow(ctx, lost, a.queue, r.Tick).Scan(&r.Ticks, &r.Lost); err != nil {
		return nil, fmt.Errorf("count what only %s has: %w", s.Name, pgq.Classify(err))
	}
	if r.Lost < 0 && s.Type == Root {
		return nil, refuse("%s has no tick %d any more: build the node anew", s.Name, r.Tick)
	}
	r.Steps = []string{
		fmt.Sprintf("%s: close the queue, move what came after tick %d to skyd_node.lost_event, become a branch of %s", r.Node, r.Tick, r.Root),
		fmt.Sprintf("%s: keep events for %s from tick %d on", r.Root, r.Node, r.Tick), "everywhere: note " + r.Node + " as alive",
	}
	return r, nil
}

// Resurrect carries the return out; it may be repeated after any failure. When events were lost the worker stays paused
// until AcceptLoss.
func (a *Admin) Resurrect(ctx context.Context, r *Return) (err error) {
	if r.Done {
		return nil
	}
	ctx, span := tracer(ctx).Start(ctx, pgq.SpanName(pgq.OpResurrect, a.queue))
	defer func() {
		pgq.RecordError(span, err)
		span.End()
	}()
	ctx, end, err := a.hold(ctx, r.members)
	if err != nil {
		return err
	}
	defer end()
	s, err := readSide(ctx, a.self, a.queue, "", "")
	if err != nil {
		return err
	}
	if s.Type == Root {
		err := pgx.BeginFunc(ctx, a.self, func(tx pgx.Tx) error { return a.cut(ctx, tx, r, s) })
		if err != nil {
			return fmt.Errorf("%w: nothing was changed: %w", ErrRolledBack, err)
		}
	}
	if err := a.rejoin(ctx, r, s.worker); err != nil {
		return fmt.Errorf("%w: %s is closed, and no subscriber of %s yet; run it again: %w", ErrUnfinished, r.Node, r.Root, err)
	}
	r.Done = true
	return a.countLost(ctx, r)
}

// cut is one transaction: what came after the tick goes away, and the node is a branch.
func (a *Admin) cut(ctx context.Context, tx pgx.Tx, r *Return, s sideFacts) error {
	if err := guardTx(ctx, tx, time.Minute); err != nil {
		return err
	}
	if err := lockSide(ctx, tx, a.queue, ""); err != nil {
		return err
	}
	if err := closeRoot(ctx, tx, a.queue); err != nil {
		return err
	}
	const leftover = `
update skyd_node.operation set state = 'aborted', finished = clock_timestamp(), last_error = 'the cascade went on without this node'
 where queue_name = $1 and finished is null`
	if _, err := tx.Exec(ctx, leftover, a.queue); err != nil {
		return fmt.Errorf("close the journal: %w", pgq.Classify(err))
	}
	if err := tx.QueryRow(ctx, `select skyd_node.cut_events($1, $2, $3)`, a.queue, r.Tick, r.Term).Scan(&r.Lost); err != nil {
		return fmt.Errorf("move lost events: %w", pgq.Classify(err))
	}
	readers, err := Subscribers(ctx, tx, a.queue)
	if err != nil {
		return err
	}
	for _, reader := range readers { // they read elsewhere, or have to be moved there
		if _, err := UnregisterSubscriber(ctx, tx, a.queue, reader.Node); err != nil {
			return err
		}
	}
	return firstError(
		func() error { return demote(ctx, tx, a.queue, 3, r.Root) },
		func() error { return pause(ctx, tx, a.queue, s.worker, r.Lost > 0) },
		func() error { return learnTerm(ctx, tx, a.queue, r.Term, r.Root) })
}

// rejoin makes the node a subscriber of the root in place of its gravestone.
func (a *Admin) rejoin(ctx context.Context, r *Return, worker string) error {
	db, err := a.node(ctx, r.root)
	if err != nil {
		return err
	}
	err = pgq.Transact(ctx, db, func(q pgq.Querier) error {
		if _, err := UnregisterSubscriber(ctx, q, a.queue, r.Node); err != nil {
			return err
		}
		_, _, err := RegisterSubscriber(ctx, q, a.queue, r.Node, worker, r.Tick)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := SetGlobalWatermark(ctx, a.self, a.queue, r.root.GlobalWatermark); err != nil {
		return err
	}
	top, err := a.Topology(ctx)
	if err != nil {
		return err
	}
	plan, err := a.planTag(top, r.Node, false) // we have the lock
	if err != nil {
		return err
	}
	if err := plan.Run(ctx, nil); err != nil {
		return err
	}
	return Nudge(ctx, a.self, a.queue)
}

// countLost counts the lost events that nobody has accepted.
func (a *Admin) countLost(ctx context.Context, r *Return) error {
	const count = `select count(*) from skyd_node.lost_event where queue_name = $1 and handled_at is null`
	if err := a.self.QueryRow(ctx, count, a.queue).Scan(&r.Lost); err != nil {
		return fmt.Errorf("count lost events: %w", pgq.Classify(err))
	}
	s, err := GetWorkerState(ctx, a.self, a.queue)
	r.Paused = s.Paused
	return err
}

// AcceptLoss notes that somebody has dealt with the lost events of the node here, and lets its worker go on. It returns
// how many there were.
func (a *Admin) AcceptLoss(ctx context.Context) (n int64, err error) {
	const accept = `update skyd_node.lost_event set handled_at = clock_timestamp() where queue_name = $1 and handled_at is null`
	err = pgx.BeginFunc(ctx, a.self, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, accept, a.queue)
		if err != nil {
			return fmt.Errorf("accept the loss: %w", pgq.Classify(err))
		}
		n = tag.RowsAffected()
		s, err := readSide(ctx, tx, a.queue, "", "")
		if err != nil {
			return err
		}
		if s.Type == Root {
			return refuse("%s is root still: resurrect comes first", s.Name)
		}
		if err := pause(ctx, tx, a.queue, s.worker, false); err != nil {
			return err
		}
		return Nudge(ctx, tx, a.queue)
	})
	return n, err
}

// LostEvent is an event that a root took when the cascade went on without it.
type LostEvent struct {
	Queue  string    `json:"queue"`
	Term   int64     `json:"term"`
	ID     int64     `json:"ev_id"`
	Time   time.Time `json:"ev_time"`
	Type   *string   `json:"ev_type"`
	Data   *string   `json:"ev_data"`
	Extra1 *string   `json:"ev_extra1"`
	Extra2 *string   `json:"ev_extra2"`
	Extra3 *string   `json:"ev_extra3"`
	Extra4 *string   `json:"ev_extra4"`
	Tick   *int64    `json:"tick_id"`
}

// WriteLostEvents writes the lost events that are not accepted yet as JSON lines, in order, and returns their number.
func (a *Admin) WriteLostEvents(ctx context.Context, w io.Writer) (n int, err error) {
	const list = `
select queue_name, term, ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4, tick_id
  from skyd_node.lost_event where queue_name = $1 and handled_at is null order by term, ev_id`
	rows, err := a.self.Query(ctx, list, a.queue)
	if err != nil {
		return 0, fmt.Errorf("read lost events: %w", pgq.Classify(err))
	}
	defer rows.Close()
	out := json.NewEncoder(w)
	for rows.Next() {
		e, err := pgx.RowToStructByPos[LostEvent](rows)
		if err == nil {
			e.Time = e.Time.UTC()
			err = out.Encode(e)
		}
		if err != nil {
			return n, fmt.Errorf("write lost events: %w", err)
		}
		n++
	}
	return n, pgq.Classify(rows.Err())
}

// Advice is what somebody ought to run, and why.
type Advice struct {
	Why string   `json:"why"`
	Run []string `json:"run"`
}

// Advise says what an operator should run about the cascade as it is: an operation that nobody drives, a dead root, a root
// that was dead and may return. Nothing to say is nil.
func (t *Topology) Advise() []Advice {
	var list []Advice
	command := func(args ...string) []string {
		return append([]string{"skyd", "node"}, append(args, "--queue", t.Queue, "--db", "DSN")...)
	}
	if o := t.Operation; o != nil && o.Silent {
		list = append(list, Advice{
			Why: fmt.Sprintf("%s of %s by %s stands at %s since %s, and nobody drives it", o.Kind, o.Old, o.New, o.State, o.Seen.UTC().Format(time.RFC3339)),
			Run: command("takeover", "--resume"),
		})
	}
	if len(t.Roots) == 0 && t.Operation == nil {
		best, _ := mostAdvanced(t.candidates(), "")
		for _, n := range t.Nodes {
			if best.name != "" && n.State != Alive && t.wasRoot(n) {
				list = append(list, Advice{
					Why: fmt.Sprintf("root %s does not answer; if it is gone for good, %s has the most of what is left: tick %d", n.Name, best.name, best.top),
					Run: command("takeover", n.Name, "--target", best.name, "--dead-root", "--allow-data-loss"),
				})
			}
		}
	}
	for _, n := range t.Nodes {
		if root, _, err := t.gravestone(n.Name); err == nil && root != nil {
			list = append(list, Advice{
				Why: fmt.Sprintf("the cascade went on with %s while %s was dead; when %s is back it can return as a branch, and until then %s keeps all events for it", root.Name, n.Name, n.Name, root.Name),
				Run: []string{"skyd", "node", "resurrect", "--queue", t.Queue, "--db", "DSN-of-" + n.Name},
			})
		}
	}
	return list
}
