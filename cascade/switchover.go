package cascade

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// ErrDriven says: another process drives the operation and shows signs of life.
var ErrDriven = fmt.Errorf("%w by a process that is alive", ErrBusy)

// stepLimit bounds a step that waits for nobody.
const stepLimit = 10 * time.Second

// lookLimit is how long a database may take to tell its facts in the middle of an operation.
const lookLimit = 2 * time.Second

// operation drives a planned switchover: it looks at both databases, decides, and does one step.
type operation struct {
	a        *Admin
	id       string
	old, new string // node names
	driver   string
	limits   Limits
	term     int64
	adopt    bool // it takes on what a tool without journal has left

	dbs    map[string]*pgq.DB
	epochs map[string]int64
	beaten map[string]time.Time
	facts  struct{ old, new sideFacts }
	// closedAt and openedAt are when this process began to close and ended to promote.
	closedAt, openedAt time.Time
	// attendedSince is when this process began to wait for the worker of the old root.
	attendedSince time.Time
}

// database opens the database of a node by name, from what the local node knows.
func (a *Admin) database(ctx context.Context, node string) (*pgq.DB, error) {
	const own = `select coalesce((select n.node_name from pgq_node.node_info n where n.queue_name = $1), '')`
	var self string
	if err := a.self.QueryRow(ctx, own, a.queue).Scan(&self); err != nil {
		return nil, fmt.Errorf("read the node of queue %s: %w", a.queue, pgq.Classify(err))
	}
	if self == node {
		return a.self, nil
	}
	if moved, ok := a.moved[node]; ok {
		return a.at(ctx, moved)
	}
	known, err := Locations(ctx, a.self, a.queue)
	if err != nil {
		return nil, err
	}
	for _, l := range known {
		if l.Node == node {
			return a.at(ctx, l.Location)
		}
	}
	return nil, fmt.Errorf("node %s: %w in the cascade of queue %s", node, ErrNotFound, a.queue)
}

// db is the database of one of the two nodes, looked up once.
func (o *operation) db(ctx context.Context, node string) (*pgq.DB, error) {
	if db := o.dbs[node]; db != nil {
		return db, nil
	}
	db, err := o.a.database(ctx, node)
	if err == nil {
		o.dbs[node] = db
	}
	return db, err
}

// look reads one side; a database that does not answer is not an error.
func (o *operation) look(ctx context.Context, node, peer string) (sideFacts, error) {
	quick, cancel := context.WithTimeout(ctx, min(o.a.patience, lookLimit))
	defer cancel()
	db, err := o.db(quick, node)
	if err == nil && o.epochs[node] > 0 && time.Since(o.beaten[node]) > driverBeat {
		var mine bool
		if mine, err = beat(quick, db, o.id, o.epochs[node]); err == nil && !mine {
			return sideFacts{}, fmt.Errorf("%w: operation %s on %s", ErrDriverLost, o.id, node)
		}
		o.beaten[node] = time.Now()
	}
	var f sideFacts
	if err == nil {
		f, err = readSide(quick, db, o.a.queue, o.id, peer)
	}
	switch {
	case ctx.Err() != nil:
		return f, context.Cause(ctx)
	case err != nil && !silent(err):
		return f, err
	case err != nil:
		return sideFacts{Side: Side{Name: node}}, nil
	}
	if f.Name != node {
		return f, fmt.Errorf("the database at the location of %s calls itself %s: %w", node, f.Name, ErrRefused)
	}
	if f.State != OpNone && o.epochs[node] == 0 {
		if o.epochs[node], err = takeDriver(ctx, db, o.id, o.driver); err != nil {
			return f, err
		}
		f.Epoch = o.epochs[node]
	}
	return f, nil
}

// lookBoth reads the facts for a decision, the old root first.
func (o *operation) lookBoth(ctx context.Context, f *Facts) (err error) {
	if o.facts.old, err = o.look(ctx, o.old, o.new); err != nil {
		return err
	}
	if o.facts.new, err = o.look(ctx, o.new, o.old); err != nil {
		return err
	}
	f.Old, f.New = o.facts.old.Side, o.facts.new.Side
	refused := time.Duration(o.facts.old.refusedMS * float64(time.Millisecond))
	f.Overdue = !f.Old.Open && refused > o.limits.WriteOutage
	if f.New.Reached && (f.Old.State == OpPrepared || f.Old.State == OpFinal && f.New.Completed >= f.Old.Final) {
		f.Unmerged, err = o.unmerged(ctx, f.Old.State == OpFinal)
	}
	return err
}

// silent tells whether an error means that a server does not answer now; another time it may.
func silent(err error) bool {
	if code := pgq.SQLState(err); len(code) == 5 {
		return pgq.ConnectionLost(err) || code[:2] == "53" || code[:2] == "57"
	}
	return pgq.ConnectionLost(err) || errors.Is(err, context.DeadlineExceeded)
}

// do runs one step: a transaction in one database that checks once more, has the effects, and tells of them in the
// journal.
func (o *operation) do(ctx context.Context, kind ActionKind) error {
	node, peer := o.old, o.new
	if kind.OnNew() {
		node, peer = o.new, o.old
	}
	db, err := o.db(ctx, node)
	if err != nil {
		return err
	}
	by := Fence{Op: o.id, Epoch: o.epochs[node], Final: o.facts.old.Final, Term: max(o.facts.old.Term, o.facts.new.Term)}
	if by.Final == 0 {
		by.Final = o.facts.old.Top
	}
	limit := stepLimit
	if kind == ActFinal { // waits for writers that are open
		limit = max(50*time.Millisecond, o.limits.WriteOutage-time.Duration(o.facts.old.refusedMS*float64(time.Millisecond)))
	}
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := guardTx(ctx, tx, limit); err != nil {
			return err
		}
		if err := lockSide(ctx, tx, o.a.queue, o.id); err != nil {
			return err
		}
		side, err := readSide(ctx, tx, o.a.queue, o.id, peer)
		if err != nil {
			return err
		}
		if err := Guard(kind, by, side.Side); err != nil {
			return err
		}
		if err := o.apply(ctx, tx, kind, by, side); err != nil {
			return err
		}
		return Nudge(ctx, tx, o.a.queue)
	})
	if err == nil && (kind == ActPrepareOld || kind == ActPrepareNew) {
		o.epochs[node] = 1 // the journal was opened with it
	}
	return err
}

// guardTx bounds all waits of a transaction, also those of a driver that stands still in the middle.
func guardTx(ctx context.Context, tx pgx.Tx, limit time.Duration) error {
	ms := int64(math.Ceil(float64(limit) / float64(time.Millisecond)))
	_, err := tx.Exec(ctx, fmt.Sprintf(
		`set local lock_timeout = %d; set local statement_timeout = %d; set local idle_in_transaction_session_timeout = %d`,
		ms, ms+1000, 10000), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("set limits: %w", pgq.Classify(err))
	}
	return nil
}

// lockSide keeps the node and the journal as they are until the transaction ends.
func lockSide(ctx context.Context, tx pgx.Tx, queue, op string) error {
	const lock = `
with o as (select o.op_id from skyd_node.operation o where o.op_id = $2 for update)
select n.queue_name, (select count(*) from o) from pgq_node.node_info n where n.queue_name = $1 for update of n`
	if _, err := tx.Exec(ctx, lock, queue, op); err != nil {
		return fmt.Errorf("lock the node of queue %s: %w", queue, pgq.Classify(err))
	}
	return nil
}

// apply has the effects of a step.
func (o *operation) apply(ctx context.Context, tx pgx.Tx, kind ActionKind, by Fence, s sideFacts) error {
	queue := o.a.queue
	switch kind {
	case ActPrepareOld, ActPrepareNew:
		return o.prepare(ctx, tx, kind, s)
	case ActClose:
		return firstError(
			func() error { return demote(ctx, tx, queue, 1, "") },
			func() error { return pause(ctx, tx, queue, s.worker, true) },
			func() error { return setState(ctx, tx, o.id, OpClosed) })
	case ActFinal:
		return o.final(ctx, tx)
	case ActGrant:
		return setState(ctx, tx, o.id, OpGranted)
	case ActPromote:
		return o.promote(ctx, tx, by.Final)
	case ActDemote:
		return o.demoteRoot(ctx, tx, by.Final, s)
	case ActResumeOld:
		return firstError(
			func() error { return o.release(ctx, tx, s) },
			func() error { return endJournal(ctx, tx, o.id, s, OpDone) })
	case ActResumeNew:
		return o.resumeNew(ctx, tx, by.Final, s)
	case ActMarkAbort:
		return setState(ctx, tx, o.id, OpAborting)
	case ActReopen, ActUngrant:
		return firstError(
			func() error { return reopen(ctx, tx, queue) },
			func() error { return o.release(ctx, tx, s) },
			func() error { return endJournal(ctx, tx, o.id, s, OpAborted) })
	case ActEndNew:
		return setState(ctx, tx, o.id, OpAborted)
	case ActFenceOld, ActFenceNew:
		return closeRoot(ctx, tx, queue)
	case ActFreeOld, ActFreeNew:
		return firstError(
			func() error { return o.a.mayPause(ctx, tx, true) },
			func() error { return pause(ctx, tx, queue, s.worker, false) })
	}
	return fmt.Errorf("step %s: %w", kind, ErrOvertaken)
}

// firstError runs steps until one fails.
func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// prepare opens the journal, and on the old root pauses the merge workers that write into the queue.
func (o *operation) prepare(ctx context.Context, tx pgx.Tx, kind ActionKind, s sideFacts) error {
	j := Journal{
		ID: o.id, Queue: o.a.queue, Kind: KindSwitchover, Side: "new", Old: o.old, New: o.new, Term: o.term, State: OpPrepared,
		StartTick: o.facts.old.startTick, Limits: o.limits, Driver: o.driver,
	}
	if kind == ActPrepareOld {
		j.StartTick = o.facts.new.Completed
		j.Side = "old"
		merging, err := mergers(ctx, tx, o.a.queue)
		if err != nil {
			return err
		}
		for _, m := range merging {
			if m.paused {
				continue
			}
			if err := pause(ctx, tx, m.queue, m.worker, true); err != nil {
				return err
			}
			j.Held = append(j.Held, m.queue)
		}
	}
	if kind == ActPrepareNew && o.adopt && s.Paused { // the tool that began it pauses the new root when it has caught up
		if err := pause(ctx, tx, o.a.queue, s.worker, false); err != nil {
			return err
		}
	}
	return openJournal(ctx, tx, j)
}

// final closes the event tables for all and makes the last tick.
func (o *operation) final(ctx context.Context, tx pgx.Tx) error {
	tick, s, err := DemoteRoot(ctx, tx, o.a.queue, 2, "")
	if err != nil {
		return err
	}
	if s.Code != CodeDone {
		return fmt.Errorf("%w: %s", ErrOvertaken, s.Note)
	}
	if _, err := tx.Exec(ctx, `select pgq.close_queue($1)`, o.a.queue); err != nil {
		return fmt.Errorf("close the event tables of queue %s: %w", o.a.queue, pgq.Classify(err))
	}
	if _, err := tx.Exec(ctx, `select pg_catalog.pg_notify($1, $2::bigint::text)`, pgq.WakeupChannel(o.a.queue), tick); err != nil {
		return fmt.Errorf("wake the readers of queue %s: %w", o.a.queue, pgq.Classify(err)) // the original's ticks wake nobody
	}
	if _, err := tx.Exec(ctx, `update skyd_node.operation set final_tick = $2 where op_id = $1`, o.id, tick); err != nil {
		return fmt.Errorf("write the journal of operation %s: %w", o.id, pgq.Classify(err))
	}
	return setState(ctx, tx, o.id, OpFinal)
}

// promote opens the new root, with the old one as its subscriber.
func (o *operation) promote(ctx context.Context, tx pgx.Tx, final int64) error {
	term, err := promoteHere(ctx, tx, o.a.queue, o.term, 0)
	if err != nil {
		return err
	}
	if err := subscribeAt(ctx, tx, o.a.queue, o.old, o.facts.old.worker, final); err != nil {
		return err
	}
	const update = `update skyd_node.operation set final_tick = $2, term = $3 where op_id = $1`
	if _, err := tx.Exec(ctx, update, o.id, final, term); err != nil {
		return fmt.Errorf("write the journal of operation %s: %w", o.id, pgq.Classify(err))
	}
	return setState(ctx, tx, o.id, OpPromoted)
}

// promoteHere makes the node here the root, with a term that is at least the given one.
func promoteHere(ctx context.Context, tx pgx.Tx, queue string, term, aboveTick int64) (int64, error) {
	const promote = `
select t.term, skyd_node.promote($1, t.term, $3)
  from (select greatest($2::bigint, (select g.term + 1 from skyd_node.get_term($1) g)) as term) t`
	var tick int64
	if err := tx.QueryRow(ctx, promote, queue, term, orNull(aboveTick)).Scan(&term, &tick); err != nil {
		return 0, fmt.Errorf("make the node of queue %s the root: %w", queue, pgq.Classify(err))
	}
	return term, nil
}

// subscribeAt makes a node a subscriber here that stands at a tick; a subscription that it has goes away.
func subscribeAt(ctx context.Context, tx pgx.Tx, queue, node, worker string, tick int64) error {
	if _, err := UnregisterSubscriber(ctx, tx, queue, node); err != nil {
		return err
	}
	_, _, err := RegisterSubscriber(ctx, tx, queue, node, worker, tick)
	return err
}

// demoteRoot makes the old root a branch of the new one.
func (o *operation) demoteRoot(ctx context.Context, tx pgx.Tx, final int64, s sideFacts) error {
	queue := o.a.queue
	var lost int64
	return firstError(
		func() error { return closeRoot(ctx, tx, queue) }, // a tool without gate may have closed it
		func() error {
			if s.State == OpNone { // writers of older snapshots may have passed that tool, behind its final tick
				return pgq.Classify(tx.QueryRow(ctx, `select skyd_node.cut_events($1, $2, $3)`, queue, final, o.term).Scan(&lost))
			}
			_, err := tx.Exec(ctx, `select skyd_node.drop_empty_ticks($1, $2)`, queue, final)
			return pgq.Classify(err)
		},
		func() error { return demote(ctx, tx, queue, 3, o.new) },
		func() error {
			_, err := UnregisterSubscriber(ctx, tx, queue, o.new)
			return err
		},
		func() error { return learnTerm(ctx, tx, queue, o.facts.new.Term, o.facts.new.TermRoot) },
		func() error {
			if s.State == OpNone { // a tool without journal began it, and this is its end
				return pause(ctx, tx, queue, s.worker, lost > 0)
			}
			return setState(ctx, tx, o.id, OpDemoted)
		})
}

// resumeNew ends the operation on the new root, or before that subscribes the old one where another tool forgot it.
func (o *operation) resumeNew(ctx context.Context, tx pgx.Tx, final int64, s sideFacts) error {
	if o.facts.old.Type == Root && !s.Peer {
		return subscribeAt(ctx, tx, o.a.queue, o.old, o.facts.old.worker, final)
	}
	return endJournal(ctx, tx, o.id, s, OpDone)
}

// release lets go what the operation has paused, with what another tool had: the worker is paused from the close on.
func (o *operation) release(ctx context.Context, tx pgx.Tx, s sideFacts) error {
	if s.State != OpPrepared {
		if err := pause(ctx, tx, o.a.queue, s.worker, false); err != nil {
			return err
		}
	}
	merging, err := mergers(ctx, tx, o.a.queue)
	if err != nil {
		return err
	}
	for _, m := range merging {
		for _, held := range s.held {
			if held == m.queue {
				err = pause(ctx, tx, m.queue, m.worker, false)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endJournal closes the journal, where there is one.
func endJournal(ctx context.Context, tx pgx.Tx, op string, s sideFacts, state OpState) error {
	if s.State == OpNone {
		return nil
	}
	return setState(ctx, tx, op, state)
}

// demote runs a step of demote_root that must take effect.
func demote(ctx context.Context, q pgq.Querier, queue string, step int, provider string) error {
	_, s, err := DemoteRoot(ctx, q, queue, step, provider)
	if err == nil && s.Code != CodeDone {
		err = fmt.Errorf("%w: %s", ErrOvertaken, s.Note)
	}
	return err
}

// pause sets the flag of a worker.
func pause(ctx context.Context, q pgq.Querier, queue, worker string, paused bool) error {
	_, err := SetPaused(ctx, q, queue, worker, paused)
	return err
}

// reopen lets a root take events and make ticks again.
func reopen(ctx context.Context, q pgq.Querier, queue string) error {
	if _, err := q.Exec(ctx, `select pgq.open_queue($1), pgq.set_queue_config($1, 'external_ticker', 'false')`, queue); err != nil {
		return fmt.Errorf("open queue %s: %w", queue, pgq.Classify(err))
	}
	return nil
}

// closeRoot refuses events and ticks of this server, for every isolation level.
func closeRoot(ctx context.Context, q pgq.Querier, queue string) error {
	if _, err := q.Exec(ctx, `select pgq.close_queue($1), pgq.set_queue_config($1, 'external_ticker', 'true')`, queue); err != nil {
		return fmt.Errorf("close queue %s: %w", queue, pgq.Classify(err))
	}
	return nil
}

// merger is a worker that writes another queue into this one.
type merger struct {
	queue, worker string
	tick          int64
	paused, seen  bool
}

// mergers lists the workers whose combined queue is this one.
func mergers(ctx context.Context, q pgq.Querier, queue string) ([]merger, error) {
	const list = `
select n.queue_name, n.worker_name, s.last_tick_id, s.paused, s.uptodate
  from pgq_node.node_info n
  join pgq_node.local_state s on s.queue_name = n.queue_name and s.consumer_name = n.worker_name
 where n.combined_queue = $1 order by 1`
	rows, err := q.Query(ctx, list, queue)
	if err == nil {
		var all []merger
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m merger, err error) {
			return m, row.Scan(&m.queue, &m.worker, &m.tick, &m.paused, &m.seen)
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("list the merge workers of queue %s: %w", queue, pgq.Classify(err))
}

// unmerged tells whether merge workers of the old root still hold a batch, or, when compare is set, those of the new one
// stand elsewhere.
func (o *operation) unmerged(ctx context.Context, compare bool) (bool, error) {
	var both [2][]merger
	for i, node := range []string{o.old, o.new} {
		db, err := o.db(ctx, node)
		if err != nil {
			return true, err
		}
		if both[i], err = mergers(ctx, db, o.a.queue); err != nil {
			return true, err
		}
	}
	for _, m := range both[0] {
		if m.paused && !m.seen {
			return true, nil
		}
		for _, n := range both[1] {
			if compare && n.queue == m.queue && n.tick != m.tick {
				return true, nil
			}
		}
	}
	return false, nil
}

// learnTerm notes a term here.
func learnTerm(ctx context.Context, q pgq.Querier, queue string, term int64, root string) error {
	if term == 0 {
		return nil
	}
	if _, err := q.Exec(ctx, `select skyd_node.learn_term($1, $2, $3)`, queue, term, root); err != nil {
		return fmt.Errorf("note term %d of queue %s: %w", term, queue, pgq.Classify(err))
	}
	return nil
}

// termOf reads the term out of ev_extra4 of a location event; false: it carries none.
func termOf(extra string) (term int64, root string, ok bool) {
	attrs := ParseAttrs(extra)
	if _, err := fmt.Sscan(attrs["term"], &term); err != nil || attrs["root"] == "" || !strings.Contains(extra, "=") {
		return 0, "", false
	}
	return term, attrs["root"], true
}

// LearnTerm notes the term that a location event of the cascade carries in ev_extra4, in the transaction of the batch
// that brings it. An event without one, and a database without the schema of operations, change nothing.
func LearnTerm(ctx context.Context, q pgq.Querier, queue, extra4 string) error {
	term, root, ok := termOf(extra4)
	if !ok {
		return nil
	}
	if ok, err := hasOperations(ctx, q); err != nil || !ok {
		return err
	}
	return learnTerm(ctx, q, queue, term, root)
}
