package cascade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// holdLimit is how long a consumer's row may stay locked while the new provider comes up with the consumer's tick.
const holdLimit = 5 * time.Second

// PlanChangeProvider plans to let a consumer of a node, its worker when consumer is "", read from another node.
//
// Nobody is paused: the new provider keeps events for the consumer first; then, while the row with the consumer's
// position is locked in its own database, the position is set at the new provider and the row points there. A batch that
// is in flight meanwhile waits for the lock, commits after it, and is then known to be done. Whatever fails before that
// commit leaves the consumer as it was, reading from its old provider; the locks go with the connection.
func (a *Admin) PlanChangeProvider(t *Topology, node, consumer, provider string) (*Change, error) {
	return a.alone(t, func(t *Topology) (*Change, error) { return a.planChangeProvider(t, node, consumer, provider) })
}

func (a *Admin) planChangeProvider(t *Topology, node, consumer, provider string) (*Change, error) {
	n, err := t.member(node)
	if err != nil {
		return nil, err
	}
	p, err := t.member(provider)
	if err != nil {
		return nil, err
	}
	if err = errors.Join(n.reachable(), p.reachable()); err != nil {
		return nil, err
	}
	c, err := n.consumer(consumer)
	if err != nil {
		return nil, err
	}
	worker := c.Consumer == n.Worker
	if err := errors.Join(t.idle(), checkProvider(t, n, p, c, worker)); err != nil {
		return nil, err
	}
	plan := &Change{}
	if c.Provider != p.Name {
		m := &move{a: a, t: t, n: n, p: p, consumer: c.Consumer, worker: worker}
		plan.add(p.Name, fmt.Sprintf("keep events for %s of %s", c.Consumer, n.Name), m.reserve)
		plan.add(n.Name, fmt.Sprintf("let %s read from %s instead of %s", c.Consumer, p.Name, c.Provider), m.turn)
	}
	for _, old := range t.live() {
		switch {
		case old == p || old.Type == Leaf:
		case worker && slices.ContainsFunc(old.site.subscribers, func(s Subscriber) bool { return s.Node == n.Name }):
			plan.add(old.Name, "forget the subscription of "+n.Name, a.release(n, old, c.Consumer, p.Name, a.unsubscribe(old, n.Name)))
		case !worker && old.Name == c.Provider:
			plan.add(old.Name, "unregister "+c.Consumer, a.release(n, old, c.Consumer, p.Name, a.unregister(old, c.Consumer)))
		}
	}
	if old := t.Node(c.Provider); old != nil && old.State != Alive && old != p {
		plan.note("%s does not answer and keeps its subscription of %s", old.Name, n.Name)
	}
	return plan, nil
}

// checkProvider checks what must hold for a new provider.
func checkProvider(t *Topology, n, p *Node, c *NodeConsumer, worker bool) error {
	switch {
	case worker && n.Type == Root:
		return refuse("%s is the root, it reads from nobody", n.Name)
	case p.Type == Leaf:
		return refuse("%s is a leaf: it has no queue to read from", p.Name)
	case worker && n == p:
		return refuse("%s cannot read from itself", n.Name)
	case worker && t.Below(p.Name, n.Name):
		return refuse("%s reads from %s, directly or through others: that would be a circle", p.Name, n.Name)
	case c.Provider == p.Name:
		return nil
	case p.Queue.FirstTick > c.LastTick:
		return refuse("%s of %s stands at tick %d, and %s begins at tick %d", c.Consumer, n.Name, c.LastTick, p.Name, p.Queue.FirstTick)
	case p.Queue.TopTick < c.LastTick && p.Type == Branch && p.Paused:
		return refuse("%s of %s stands at tick %d, and %s stands at tick %d and is paused", c.Consumer, n.Name, c.LastTick, p.Name, p.Queue.TopTick)
	}
	if !worker {
		return nil
	}
	if _, taken := p.site.position(n.Worker); taken && subscriberOf(p.site, n.Worker) != n.Name {
		return refuse("%s has a consumer %s that is not the worker of %s", p.Name, n.Worker, n.Name)
	}
	return nil
}

// move is a change of provider under way.
type move struct {
	a        *Admin
	t        *Topology
	n, p     *Node
	consumer string
	worker   bool
}

// reserve registers the consumer at the new provider, at the tick where it stands or at the lowest after it.
func (m *move) reserve(ctx context.Context) error {
	if m.worker {
		if err := m.a.heard(ctx, m.t, m.p, m.n.Name); err != nil {
			return err
		}
	}
	var behind error
	for {
		err := m.tryReserve(ctx)
		switch {
		case errors.Is(err, pgq.ErrTickNotFound):
			behind = err
		case err == nil || behind == nil || ctx.Err() == nil:
			return err
		}
		if rest(ctx, pollPeriod) != nil {
			return fmt.Errorf("%w: %s does not come to the tick where %s of %s stands: %w: %w", ErrRefused, m.p.Name, m.consumer, m.n.Name, behind, context.Cause(ctx))
		}
	}
}

// tryReserve registers the consumer at the tick where it stands now.
func (m *move) tryReserve(ctx context.Context) error {
	own, err := m.a.node(ctx, m.n)
	if err != nil {
		return err
	}
	db, err := m.a.node(ctx, m.p)
	if err != nil {
		return err
	}
	at, err := GetConsumerState(ctx, own, m.a.queue, m.consumer)
	if err != nil {
		return err
	}
	return pgq.Transact(ctx, db, func(q pgq.Querier) error {
		if !m.worker {
			_, err := pgq.RegisterConsumerAt(ctx, q, m.a.queue, m.consumer, at.Completed)
			return err
		}
		if err := ensureLocation(ctx, q, m.a.queue, Location{Node: m.n.Name, Location: m.n.location}); err != nil {
			return err
		}
		subscribers, err := Subscribers(ctx, q, m.a.queue)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(subscribers, func(s Subscriber) bool { return s.Node == m.n.Name }) {
			if _, err := UnregisterSubscriber(ctx, q, m.a.queue, m.n.Name); err != nil {
				return err
			}
		}
		_, _, err = RegisterSubscriber(ctx, q, m.a.queue, m.n.Name, m.consumer, at.Completed)
		return err
	})
}

// turn points the consumer to the new provider. When it cannot, it takes the reservation back.
func (m *move) turn(ctx context.Context) error {
	for {
		err := m.tryTurn(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, pgq.ErrTickNotFound) || rest(ctx, pollPeriod) != nil {
			return m.giveUp(ctx, err)
		}
	}
}

// tryTurn does it while the consumer's row is locked, so that its position stays what it is.
func (m *move) tryTurn(ctx context.Context) error {
	const hold = `
select s.last_tick_id from pgq_node.local_state s where s.queue_name = $1 and s.consumer_name = $2 for update`
	own, err := m.a.node(ctx, m.n)
	if err != nil {
		return err
	}
	db, err := m.a.node(ctx, m.p)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, own, func(tx pgx.Tx) error {
		var tick int64
		_, err := tx.Exec(ctx, `set local idle_in_transaction_session_timeout = '15s'`)
		if err == nil {
			err = tx.QueryRow(ctx, hold, m.a.queue, m.consumer).Scan(&tick)
		}
		if err != nil {
			return fmt.Errorf("lock the state of %s: %w", m.consumer, pgq.Classify(err))
		}
		if err := ensureLocation(ctx, tx, m.a.queue, Location{Node: m.p.Name, Location: m.p.location}); err != nil {
			return err
		}
		if err := m.place(ctx, db, tick); err != nil {
			return err
		}
		if _, err = ChangeProvider(ctx, tx, m.a.queue, m.consumer, m.p.Name); err != nil {
			return err
		}
		return Nudge(ctx, tx, m.a.queue)
	})
}

// place sets the position at the new provider; it waits a while for a tick that is not there yet.
func (m *move) place(ctx context.Context, db *pgq.DB, tick int64) error {
	ctx, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	for {
		_, err := pgq.RegisterConsumerAt(ctx, db, m.a.queue, m.consumer, tick)
		if !errors.Is(err, pgq.ErrTickNotFound) {
			return err
		}
		if rest(ctx, pollPeriod) != nil {
			return fmt.Errorf("%s does not come to tick %d, where %s stands: %w", m.p.Name, tick, m.consumer, err)
		}
	}
}

// giveUp takes the reservation at the new provider back, with some time of its own when the operation has none left.
func (m *move) giveUp(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.a.patience)
	defer cancel()
	db, err := m.a.node(ctx, m.p)
	if err == nil && m.worker {
		_, err = UnregisterSubscriber(ctx, db, m.a.queue, m.n.Name)
	} else if err == nil {
		_, err = pgq.UnregisterConsumer(ctx, db, m.a.queue, m.consumer)
	}
	if err != nil {
		return fmt.Errorf("%s reads from its provider as before, but %s keeps events for it (run it again): %w: %w", m.consumer, m.p.Name, why, err)
	}
	return fmt.Errorf("%w: %s reads from its provider as before: %w", ErrRefused, m.consumer, why)
}

// release ends the subscription at an old provider, when the consumer has seen the change or does not run, and only if
// it still reads from elsewhere.
func (a *Admin) release(n, old *Node, consumer, provider string, end func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := a.node(ctx, n)
		if err != nil {
			return err
		}
		patient, cancel := context.WithTimeout(ctx, holdLimit)
		defer cancel()
		for {
			s, err := GetConsumerState(patient, db, a.queue, consumer)
			switch {
			case err == nil && s.Provider != provider:
				return refuse("%s of %s reads from %s again: somebody else has moved it", consumer, n.Name, s.Provider)
			case err == nil && s.Uptodate:
				return end(ctx)
			case err != nil && patient.Err() == nil:
				return err
			}
			if rest(patient, pollPeriod) != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return end(ctx) // it does not run, or waits after an error: it has no batch to finish there
			}
		}
	}
}

// unregister is a step that unregisters a plain consumer at a node.
func (a *Admin) unregister(n *Node, consumer string) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := a.node(ctx, n)
		if err == nil {
			_, err = pgq.UnregisterConsumer(ctx, db, a.queue, consumer)
		}
		return err
	}
}
