package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skytools/skyd/pgq"
)

// pollPeriod is the time between two looks while an operation waits for a node.
const pollPeriod = 20 * time.Millisecond

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// idle refuses while an operation on who is root is open: its steps and ours would mix.
func (t *Topology) idle() error {
	if o := t.Operation; o != nil && o.ID != t.own {
		return refuse("%s of %s by %s is under way (%s, begun %s)", o.Kind, o.Old, o.New, o.State, o.Started.Format(time.RFC3339))
	}
	return nil
}

// member finds a node of the topology.
func (t *Topology) member(name string) (*Node, error) {
	if n := t.Node(name); n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("node %s: %w in the cascade of queue %s; its members are: %v", name, ErrNotFound, t.Queue, t.Names())
}

// consumer finds a cascaded consumer of a node; "" is its worker.
func (n *Node) consumer(name string) (*NodeConsumer, error) {
	if name == "" {
		name = n.Worker
	}
	for i := range n.Consumers {
		if n.Consumers[i].Consumer == name {
			return &n.Consumers[i], nil
		}
	}
	return nil, fmt.Errorf("consumer %s: %w on node %s", name, ErrNotFound, n.Name)
}

// PlanPause plans to pause a consumer of a node, or to let it go on; "" is the worker. The last step waits until the
// consumer has confirmed: after that no batch is in flight. Without wait the flag alone is set.
func (a *Admin) PlanPause(t *Topology, node, consumer string, paused, wait bool) (*Change, error) {
	n, err := t.member(node)
	if err == nil {
		err = n.reachable()
	}
	if err != nil {
		return nil, err
	}
	c, err := n.consumer(consumer)
	if err != nil {
		return nil, err
	}
	plan, text := &Change{}, "let "+c.Consumer+" go on"
	if paused {
		text = "pause " + c.Consumer
	}
	if c.Paused != paused {
		plan.add(n.Name, text, a.within(n, func(ctx context.Context, q pgq.Querier) error {
			if err := a.mayPause(ctx, q, c.Consumer == n.Worker && !paused); err != nil {
				return err
			}
			if _, err := SetPaused(ctx, q, a.queue, c.Consumer, paused); err != nil {
				return err
			}
			return Nudge(ctx, q, a.queue)
		}))
	}
	if wait && (c.Paused != paused || !c.Uptodate) {
		plan.add(n.Name, "wait until "+c.Consumer+" confirms", func(ctx context.Context) error {
			db, err := a.node(ctx, n)
			if err != nil {
				return err
			}
			return awaitUptodate(ctx, db, a.queue, c.Consumer, paused)
		})
	}
	return plan, nil
}

// mayPause refuses while an operation on who is root is open in a node's database, which pauses and resumes by itself; and
// to resume a returned root whose lost events nobody has looked at.
func (a *Admin) mayPause(ctx context.Context, q pgq.Querier, resume bool) error {
	open, err := OpenOperations(ctx, q, a.queue)
	if err != nil || len(open) > 0 {
		if err == nil {
			o := open[0]
			err = refuse("%s of %s by %s is under way (%s), which pauses and resumes by itself; skyd node takeover --resume or --rollback ends it", o.Kind, o.Old, o.New, o.State)
		}
		return err
	}
	if !resume {
		return nil
	}
	if ok, err := hasOperations(ctx, q); err != nil || !ok {
		return err
	}
	r := &Return{}
	const lost = `select count(*) from skyd_node.lost_event where queue_name = $1 and handled_at is null`
	err = q.QueryRow(ctx, lost, a.queue).Scan(&r.Lost)
	switch {
	case pgq.SQLState(err) == "42501":
		return nil // not ours to read: it is for the one who resurrected the node
	case err != nil:
		return fmt.Errorf("count lost events: %w", pgq.Classify(err))
	case r.Lost > 0:
		return refuse("%d events never left this node while it was dead, and nobody has dealt with them; see them with skyd node resurrect --dump FILE, and go on with skyd node resurrect --accept-loss", r.Lost)
	}
	return nil
}

// awaitUptodate waits until a consumer has seen its row, with the given pause flag.
func awaitUptodate(ctx context.Context, db *pgq.DB, queue, consumer string, paused bool) error {
	var last ConsumerState
	for {
		s, err := GetConsumerState(ctx, db, queue, consumer)
		switch {
		case err == nil && s.Paused != paused:
			return refuse("somebody else has set paused of %s to %t meanwhile", consumer, s.Paused)
		case err == nil && s.Uptodate:
			return nil
		case err == nil:
			last = s
		case ctx.Err() == nil:
			return err
		}
		if err := rest(ctx, pollPeriod); err != nil {
			return notConfirmed(consumer, last, err)
		}
	}
}

// notConfirmed explains why a consumer may not have confirmed in time.
func notConfirmed(consumer string, last ConsumerState, err error) error {
	why := "is it running?"
	if last.Error != "" {
		why = "its last error: " + oneLine(last.Error)
	}
	return fmt.Errorf("%w: %s has not seen the change, which stays: %s: %w", ErrNotConfirmed, consumer, why, err)
}

// topNow is how far everything has to come that is in the queue at this moment.
type topNow struct {
	tick int64
	// sealed: the tick has all events that are committed; else the next one is to be waited for.
	sealed bool
}

// readTop finds the tick to wait for.
func readTop(ctx context.Context, q pgq.Querier, queue string) (top topNow, err error) {
	const read = `
select t.tick_id, t.tick_snapshot::text, pgq.quote_fqname(q.queue_data_pfx)
  from pgq.queue q
  join pgq.tick t on t.tick_queue = q.queue_id
 where q.queue_name = $1
 order by t.tick_id desc
 limit 1`
	const later = `
select not exists (
    select from %s e
     where e.ev_txid >= txid_snapshot_xmin($1::text::txid_snapshot)
       and not txid_visible_in_snapshot(e.ev_txid, $1::text::txid_snapshot))`
	var snapshot, table string
	if err = q.QueryRow(ctx, read, queue).Scan(&top.tick, &snapshot, &table); err == nil {
		err = q.QueryRow(ctx, fmt.Sprintf(later, table), snapshot).Scan(&top.sealed)
	}
	if err != nil {
		err = fmt.Errorf("read the newest tick of queue %s: %w", queue, pgq.Classify(err))
	}
	return top, err
}

// Upstream is the node that Wait waits for.
type Upstream string

// The nodes to wait for.
const (
	UpstreamRoot     Upstream = "root"
	UpstreamProvider Upstream = "provider"
)

// Wait waits until a node has all that root or provider had when it was called, and returns the tick at which the node
// stands then. On the root it returns at once.
func (a *Admin) Wait(ctx context.Context, t *Topology, node string, up Upstream) (tick int64, err error) {
	n, err := t.member(node)
	if err == nil {
		err = n.reachable()
	}
	if err != nil || n.Type == Root {
		return 0, err
	}
	from := t.Node(n.Provider)
	if up == UpstreamRoot {
		if from, err = t.root(); err != nil {
			return 0, err
		}
	}
	if from == nil {
		return 0, refuse("%s reads from %s, which is no member", n.Name, n.Provider)
	}
	source, err := a.node(ctx, from)
	if err != nil {
		return 0, err
	}
	db, err := a.node(ctx, n)
	if err != nil {
		return 0, err
	}
	top, err := readTop(ctx, source, a.queue)
	if err != nil {
		return 0, err
	}
	for {
		s, err := GetWorkerState(ctx, db, a.queue)
		switch {
		case err == nil && (s.Completed > top.tick || s.Completed == top.tick && top.sealed):
			return s.Completed, nil
		case err != nil && !errors.Is(err, ErrNotFound) && ctx.Err() == nil:
			return 0, err
		}
		if tick = max(tick, s.Completed); rest(ctx, pollPeriod) != nil {
			return tick, fmt.Errorf("%s stands at tick %d, %s had tick %d: %w", n.Name, tick, from.Name, top.tick, context.Cause(ctx))
		}
	}
}
