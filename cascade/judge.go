package cascade

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// judge notes what is not as it should be.
func (t *Topology) judge() {
	switch {
	case len(t.Nodes) == 0:
		return
	case len(t.Roots) == 0:
		t.problem("no member that answers is the root")
	case len(t.Roots) > 1:
		t.problem("several nodes are root: %s", strings.Join(t.Roots, ", "))
	}
	for _, n := range t.Nodes {
		switch n.State {
		case Alive:
			t.judgeNode(n)
			t.judgeSubscribers(n)
			t.judgeLocations(n)
		case Missing:
			t.problem("%s is a member, but the database at its location has no such node: %s", n.Name, orText(n.Error, "nothing of the queue is there"))
		case Unreachable:
			t.problem("%s does not answer: %s", n.Name, n.Error)
		}
	}
	if o := t.Operation; o != nil {
		t.problem("%s of %s by %s is %s, begun %s; skyd node takeover --resume or --rollback ends it when nobody drives it",
			o.Kind, o.Old, o.New, o.State, o.Started.Format(time.RFC3339))
	}
	t.judgeTerms()
	if h := t.Holder; h != nil && h.Seconds > 2*holdPatience.Seconds() {
		root := t.Node(t.Roots[0])
		if root.Queue != nil && h.Seconds > 2*root.Queue.RotationPeriod {
			t.problem("no node forgets events: %s of %s holds the watermark at tick %d since %s", h.Consumer, h.Node, h.Tick,
				(time.Duration(h.Seconds) * time.Second).String())
		}
	}
}

// judgeTerms looks for roots that do not know that another has become root.
func (t *Topology) judgeTerms() {
	var newest *Term
	for _, n := range t.Nodes {
		if n.Term != nil && (newest == nil || n.Term.Term > newest.Term) {
			newest = n.Term
		}
	}
	for _, name := range t.Roots {
		if n := t.Node(name); newest != nil && (n.Term == nil || n.Term.Term < newest.Term) {
			t.problem("%s is root of an older term: %s became root with term %d", name, newest.Root, newest.Term)
		}
	}
}

// holdPatience is half the age from which on a held watermark is worth a word: publishing it alone takes minutes.
const holdPatience = 10 * time.Minute

// problem notes a problem.
func (t *Topology) problem(format string, args ...any) {
	t.Problems = append(t.Problems, fmt.Sprintf(format, args...))
}

// judgeNode looks at one node alone and at its edge to the provider.
func (t *Topology) judgeNode(n *Node) {
	q := n.Queue
	switch {
	case n.Type == Root && q != nil && q.Closed:
		t.problem("%s is root and closed: no events are taken; an operation is under way or was left unfinished", n.Name)
	case n.Type == Branch && q != nil && !q.Closed:
		t.problem("%s is a branch and open: sessions can insert events that no other node gets", n.Name)
	case n.Type == Branch && q != nil && !q.ExternalTicker:
		t.problem("%s is a branch and makes ticks of its own", n.Name)
	}
	for _, c := range n.Consumers {
		if c.Error != "" {
			first, _, _ := strings.Cut(c.Error, "\n")
			t.problem("%s: %s: %s", n.Name, c.Consumer, first)
		}
	}
	if n.Type == Root {
		return
	}
	p := t.Node(n.Provider)
	switch {
	case p == nil:
		t.problem("%s reads from %s, which is no member", n.Name, n.Provider)
	case p.State == Dead:
		t.problem("%s reads from %s, which is tagged dead", n.Name, p.Name)
	case p.State != Alive:
	case p.Type == Leaf:
		t.problem("%s reads from %s, which is a leaf and has no queue", n.Name, p.Name)
	case subscriberOf(p.site, n.Worker) != n.Name:
		t.problem("%s reads from %s, which has no subscription of it", n.Name, p.Name)
	}
	if t.Below(n.Name, n.Name) {
		t.problem("%s reads from itself through other nodes", n.Name)
	}
}

// judgeSubscribers looks for subscriptions at a node that nobody uses; they hold its events.
func (t *Topology) judgeSubscribers(n *Node) {
	for _, s := range n.site.subscribers {
		sub := t.Node(s.Node)
		switch {
		case sub == nil:
			t.problem("%s keeps events for subscriber %s, which is no member", n.Name, s.Node)
		case sub.State == Dead:
			t.problem("%s keeps events for %s, which is tagged dead, from tick %d on", n.Name, s.Node, s.Watermark)
		case sub.State == Alive && sub.Provider != n.Name:
			t.problem("%s keeps events for %s, which reads from %s", n.Name, s.Node, sub.Provider)
		}
	}
}

// judgeLocations compares what a node knows about the members with what the others know. A node that is behind learns it
// from the events that are before it.
func (t *Topology) judgeLocations(n *Node) {
	if n.Type != Root && (n.Lag == nil || n.Lag.Ticks > 0) {
		return
	}
	for _, m := range t.Nodes {
		i := slices.IndexFunc(n.site.locations, func(l Location) bool { return l.Node == m.Name })
		switch {
		case i < 0:
			t.problem("%s does not know member %s", n.Name, m.Name)
		case n.site.locations[i].Location != m.location:
			t.problem("%s has another location of %s", n.Name, m.Name)
		}
	}
}

// orText is s, or other when s is empty.
func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
