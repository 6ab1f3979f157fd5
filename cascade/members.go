package cascade

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/skytools/skyd/pgq"
)

// PlanTag plans to tag a member dead or alive at every node that answers. Dead members are left out by administration
// and by branches that wait for named nodes; workers do not care.
func (a *Admin) PlanTag(t *Topology, node string, dead bool) (*Change, error) {
	return a.alone(t, func(t *Topology) (*Change, error) { return a.planTag(t, node, dead) })
}

func (a *Admin) planTag(t *Topology, node string, dead bool) (*Change, error) {
	n, err := t.member(node)
	if err != nil {
		return nil, err
	}
	if n.self && dead {
		return nil, refuse("%s is the node of this database, which is alive", n.Name)
	}
	plan := &Change{}
	if n.State == Alive && dead {
		plan.note("%s answers: it goes on, and is left out of administration", n.Name)
	}
	a.spread(plan, t, fmt.Sprintf("note %s as %s", n.Name, map[bool]string{true: "dead", false: "alive"}[dead]),
		Location{Node: n.Name, Dead: dead}, func(l Location) bool { return l.Dead == dead })
	return plan, nil
}

// PlanRelocate plans to tell a new location of a node to every node that answers, those included that cannot reach it
// any more at the old one. The topology is to be read with the new location, see AdminOptions.Locations.
func (a *Admin) PlanRelocate(ctx context.Context, t *Topology, node, location string, check bool) (*Change, error) {
	return a.alone(t, func(t *Topology) (*Change, error) { return a.planRelocate(ctx, t, node, location, check) })
}

func (a *Admin) planRelocate(ctx context.Context, t *Topology, node, location string, check bool) (*Change, error) {
	n, err := t.member(node)
	if err != nil {
		return nil, err
	}
	if err := CheckLocation(location); err != nil {
		return nil, err
	}
	if location, err = Portable(location); err != nil {
		return nil, err
	}
	plan := &Change{}
	if check && n.self {
		err = a.sameDatabase(ctx, location)
	} else if check {
		err = n.reachable()
	}
	if err != nil {
		return nil, err
	}
	if HasPassword(location) {
		plan.note("the location carries a password, which everybody who may read the cascade can see: use a service or a password file")
	}
	for _, m := range t.Nodes {
		if m.State != Alive {
			plan.note("%s does not answer; it learns the location as an event of the root, when it can read one", m.Name)
		}
	}
	a.spread(plan, t, "note the new location of "+n.Name, Location{Node: n.Name, Location: location, Dead: n.site.dead},
		func(l Location) bool { return l.Location == location })
	return plan, nil
}

// spread adds a step for every node that answers and does not know a member as wanted, the root first.
func (a *Admin) spread(plan *Change, t *Topology, text string, l Location, same func(Location) bool) {
	plan.AllSteps = true
	for _, m := range t.rootFirst() {
		if !slices.ContainsFunc(m.site.locations, func(known Location) bool { return known.Node == l.Node && same(known) }) {
			here := l
			if here.Location == "" && m.known(l.Node) == nil {
				here.Location = t.Node(l.Node).location
			}
			plan.add(m.Name, text, a.locate(m, here))
		}
	}
}

// rootFirst are the members that answered, the roots first.
func (t *Topology) rootFirst() []*Node {
	live := t.live()
	slices.SortStableFunc(live, func(a, b *Node) int {
		return map[bool]int{true: -1}[a.Type == Root] - map[bool]int{true: -1}[b.Type == Root]
	})
	return live
}

// readers are the nodes and plain consumers that read from a node, as far as nodes answer.
func (t *Topology) readers(node string) []string {
	var readers []string
	for _, n := range t.Nodes {
		if n.Name == node {
			continue
		}
		if n.Provider == node && n.State != Missing {
			readers = append(readers, "node "+n.Name)
		}
		for _, c := range n.Consumers {
			if c.Consumer != n.Worker && c.Provider == node {
				readers = append(readers, "consumer "+c.Consumer+" of node "+n.Name)
			}
		}
	}
	return readers
}

// PlanDrop plans to remove a node from the cascade: from every member that answers, and from its own database, where the
// queue goes with its events and consumers. A node from which others read is refused, and so is a root that is not alone.
func (a *Admin) PlanDrop(t *Topology, node string) (*Change, error) {
	return a.alone(t, func(t *Topology) (*Change, error) { return a.planDrop(t, node) })
}

func (a *Admin) planDrop(t *Topology, node string) (*Change, error) {
	n, err := t.member(node)
	if err != nil {
		return nil, err
	}
	if err := t.idle(); err != nil {
		return nil, err
	}
	if readers := t.readers(n.Name); len(readers) > 0 {
		return nil, refuse("from %s read %s; move them before with: skyd node change-provider", n.Name, strings.Join(readers, ", "))
	}
	var others []string
	for _, m := range t.Nodes {
		if m != n && m.State != Missing {
			others = append(others, m.Name)
		}
	}
	if n.Type == Root && len(t.Roots) == 1 && len(others) > 0 {
		return nil, refuse("%s is the root, and the cascade has other members: %s; drop them before, or make another node root with: skyd node takeover %s",
			n.Name, strings.Join(others, ", "), n.Name)
	}
	if n.State == Unreachable {
		return nil, refuse("%s does not answer (%s); if it is gone for good: skyd node tag-dead --node %s", n.Name, n.Error, n.Name)
	}
	for _, m := range t.Nodes {
		if m != n && m.State == Unreachable {
			return nil, refuse("%s does not answer and would keep %s as a member (%s); if it is gone for good: skyd node tag-dead --node %s",
				m.Name, n.Name, m.Error, m.Name)
		}
	}
	plan := &Change{}
	for _, m := range t.rootFirst() {
		known := slices.ContainsFunc(m.site.locations, func(l Location) bool { return l.Node == n.Name })
		if m != n && (known || slices.ContainsFunc(m.site.subscribers, func(s Subscriber) bool { return s.Node == n.Name })) {
			plan.add(m.Name, "forget member "+n.Name+" and its subscription", a.drop(m, n.Name))
		}
	}
	if n.State != Alive {
		plan.note("%s is not asked: what its database holds of the queue stays there", n.Name)
		return plan, nil
	}
	plan.loses("node %s stops to be a member of queue %s", n.Name, a.queue)
	if n.Type != Leaf {
		plan.loses("queue %s in the database of %s goes, with %d bytes of events", a.queue, n.Name, n.Queue.KeptBytes)
		for _, p := range n.site.positions {
			if !strings.HasPrefix(p.consumer, ".") {
				plan.loses("consumer %s on it loses its position", p.consumer)
			}
		}
	}
	plan.add(n.Name, "drop the node, with its queue", a.drop(n, n.Name))
	return plan, nil
}

// drop is a step that runs drop_node at a member.
func (a *Admin) drop(at *Node, node string) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := a.node(ctx, at)
		if err != nil {
			return err
		}
		return pgq.Transact(ctx, db, func(q pgq.Querier) error {
			readers, err := Subscribers(ctx, q, a.queue)
			if err != nil {
				return err
			}
			for _, r := range readers { // by another tool, which takes no lock; one that reads elsewhere by now was seen by the plan
				if at.Name == node && !slices.ContainsFunc(at.site.subscribers, func(s Subscriber) bool { return s.Node == r.Node }) {
					return refuse("%s has got a subscriber, %s, meanwhile", node, r.Node)
				}
			}
			_, err = DropNode(ctx, q, a.queue, node)
			return err
		})
	}
}
