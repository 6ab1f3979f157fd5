package cascade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/skytools/skyd/pgq"
)

// PlanRename plans to give a node another name at all members. The worker keeps its name and position, and nothing is
// paused. What an earlier try has done is left out.
func (a *Admin) PlanRename(t *Topology, old, name string) (*Change, error) {
	return a.alone(t, func(t *Topology) (*Change, error) { return a.planRename(t, old, name) })
}

func (a *Admin) planRename(t *Topology, old, name string) (*Change, error) {
	n, err := t.renamed(old, name)
	if err = errors.Join(err, t.idle()); err != nil {
		return nil, err
	}
	plan := &Change{}
	live := t.rootFirst()
	for _, m := range live {
		if l := m.known(name); l == nil || l.Location != n.location {
			plan.add(m.Name, "learn the location of "+name, a.locate(m, Location{Node: name, Location: n.location}))
		}
	}
	heard := func(ctx context.Context) error {
		for _, m := range live {
			if slices.ContainsFunc(m.site.subscribers, func(s Subscriber) bool { return s.Node == old }) {
				if err := a.heard(ctx, t, m, name); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if n.Name != name {
		plan.add(n.Name, "call itself "+name, a.within(n, func(ctx context.Context, q pgq.Querier) error {
			if err := heard(ctx); err != nil {
				return err
			}
			return renameSelf(ctx, q, a.queue, old, name)
		}))
	}
	for _, m := range live {
		if slices.ContainsFunc(m.site.subscribers, func(s Subscriber) bool { return s.Node == old }) {
			plan.add(m.Name, "call its subscriber "+name, a.within(m, func(ctx context.Context, q pgq.Querier) error {
				if err := heard(ctx); err != nil {
					return err
				}
				return renameSubscriber(ctx, q, a.queue, old, name)
			}))
		}
		for _, c := range m.Consumers {
			if m != n && c.Provider == old {
				plan.add(m.Name, fmt.Sprintf("call the provider of %s %s", c.Consumer, name), a.within(m, func(ctx context.Context, q pgq.Querier) error {
					_, err := ChangeProvider(ctx, q, a.queue, c.Consumer, name)
					return err
				}))
			}
		}
		if nodes := strings.Split(m.Attrs[AttrSyncWatermark], ","); slices.Contains(nodes, old) {
			attrs := maps.Clone(m.Attrs)
			nodes[slices.Index(nodes, old)] = name
			attrs[AttrSyncWatermark] = strings.Join(nodes, ",")
			plan.add(m.Name, "wait for "+name+" in "+AttrSyncWatermark, a.within(m, func(ctx context.Context, q pgq.Querier) error {
				_, err := SetNodeAttrs(ctx, q, a.queue, FormatAttrs(attrs))
				return err
			}))
		}
	}
	for _, m := range live {
		if m.Term != nil && m.Term.Root == old {
			plan.add(m.Name, "call the root of term "+strconv.FormatInt(m.Term.Term, 10)+" "+name, a.within(m, func(ctx context.Context, q pgq.Querier) error {
				const term = `update skyd_node.term set root_node = $3 where queue_name = $1 and root_node = $2`
				_, err := q.Exec(ctx, term, a.queue, old, name)
				return pgq.Classify(err)
			}))
		}
		if m.known(old) != nil {
			plan.add(m.Name, "forget the name "+old, a.within(m, func(ctx context.Context, q pgq.Querier) error {
				_, err := UnregisterLocation(ctx, q, a.queue, old)
				return err
			}))
		}
	}
	return plan, nil
}

// renamed finds the node to rename, under its old name or, when an earlier try came that far, its new one.
func (t *Topology) renamed(old, name string) (*Node, error) {
	n, taken := t.Node(old), t.Node(name)
	switch {
	case name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, ", \t\n"):
		return nil, refuse("node name %q: it must not be empty, begin with a dot, nor hold commas and blanks", name)
	case old == name:
		return nil, refuse("%s is its name already", name)
	case taken != nil && taken.State == Alive && (n == nil || n.State == Missing):
		n = taken // begun before
	case n == nil:
		return nil, fmt.Errorf("node %s: %w in the cascade of queue %s", old, ErrNotFound, t.Queue)
	case taken != nil && taken.State != Missing:
		return nil, refuse("the cascade has a node %s already", name)
	}
	if err := n.reachable(); err != nil {
		return nil, err
	}
	for _, m := range t.Nodes {
		if m.State == Unreachable {
			return nil, refuse("%s does not answer and would keep the old name (%s); if it is gone for good: skyd node tag-dead --node %s",
				m.Name, m.Error, m.Name)
		}
	}
	return n, nil
}

// known is what a node knows about a member, nil for nothing.
func (n *Node) known(member string) *Location {
	i := slices.IndexFunc(n.site.locations, func(l Location) bool { return l.Node == member })
	if i < 0 {
		return nil
	}
	return &n.site.locations[i]
}

// within is a step that is one transaction at a node.
func (a *Admin) within(n *Node, work func(ctx context.Context, q pgq.Querier) error) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := a.node(ctx, n)
		if err != nil {
			return err
		}
		return pgq.Transact(ctx, db, func(q pgq.Querier) error { return work(ctx, q) })
	}
}

// renameSelf changes the name in the node's own database.
func renameSelf(ctx context.Context, q pgq.Querier, queue, old, name string) error {
	const node = `update pgq_node.node_info set node_name = $3 where queue_name = $1 and node_name = $2`
	const provider = `update pgq_node.local_state set provider_node = $3 where queue_name = $1 and provider_node = $2`
	for _, sql := range []string{node, provider} {
		if _, err := q.Exec(ctx, sql, queue, old, name); err != nil {
			return fmt.Errorf("rename node %s: %w", old, pgq.Classify(err))
		}
	}
	return nil
}

// renameSubscriber changes the name of a subscriber at its provider. The position of its worker is not touched.
func renameSubscriber(ctx context.Context, q pgq.Querier, queue, old, name string) error {
	const watermark = `
select coalesce((select s.sub_last_tick from pgq.queue q
                   join pgq.subscription s on s.sub_queue = q.queue_id
                   join pgq.consumer c on c.co_id = s.sub_consumer
                  where q.queue_name = $1 and c.co_name = $2), 0)`
	const subscriber = `
update pgq_node.subscriber_info set subscriber_node = $3, watermark_name = $4 where queue_name = $1 and subscriber_node = $2`
	was, is := "."+old+".watermark", "."+name+".watermark"
	var tick int64
	err := q.QueryRow(ctx, watermark, queue, was).Scan(&tick)
	if err == nil {
		_, err = pgq.RegisterConsumerAt(ctx, q, queue, is, tick)
	}
	if err == nil {
		_, err = q.Exec(ctx, subscriber, queue, old, name, is)
	}
	if err == nil {
		_, err = pgq.UnregisterConsumer(ctx, q, queue, was)
	}
	if err != nil {
		return fmt.Errorf("rename subscriber %s: %w", old, pgq.Classify(err))
	}
	return nil
}
