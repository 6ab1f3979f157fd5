package audit

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Rules of a cascade, as the package comment explains them.
const (
	TwoRoots   Rule = "two roots"
	Different  Rule = "different"
	Unwarned   Rule = "unwarned"
	Unseen     Rule = "lost unseen"
	Unrecorded Rule = "unrecorded"
)

// Accept is an event that a node took: its commit was answered.
type Accept struct {
	Key  string // the payload, unlike any other
	Node string
	// Term is that of the root, as the transaction that wrote the event saw it.
	Term int64
	// Sent is when the commit was sent, Answered when the answer came.
	Sent, Answered time.Time
}

// Change is a node that became the root.
type Change struct {
	Term int64
	Node string
	// Planned changes lose nothing, and two nodes never take events at one time around them.
	Planned bool
	// WarnedFrom is, for the others, the time of the tick after which the failover said that events may be lost.
	WarnedFrom time.Time
}

// TickRow is a tick as a node has it.
type TickRow struct {
	ID   int64
	Text string // its other fields
}

// CopiedEvent is an event with the tick by which it came.
type CopiedEvent struct {
	Tick, ID   int64
	Type, Data string
}

// Copy is what a node holds of the queue, in order. A leaf has no ticks, but the events that it applied.
type Copy struct {
	Node   string
	Ticks  []TickRow
	Events []CopiedEvent
}

// Cascade collects what happened to a queue with several nodes. Safe for concurrent use.
type Cascade struct {
	mu       sync.Mutex
	accepted []Accept
	tried    map[string]bool
	rescued  map[string]bool
	changes  []Change
}

// NewCascade makes an auditor that knows nothing yet.
func NewCascade() *Cascade { return &Cascade{tried: map[string]bool{}, rescued: map[string]bool{}} }

// Tried tells of an event before it is sent: it may arrive.
func (a *Cascade) Tried(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tried[key] = true
}

// Accepted tells that the commit of an event was answered: it must arrive.
func (a *Cascade) Accepted(e Accept) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted = append(a.accepted, e)
}

// Changed tells of a new root; what was said first of a term holds.
func (a *Cascade) Changed(c Change) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.ContainsFunc(a.changes, func(known Change) bool { return known.Term == c.Term }) {
		a.changes = append(a.changes, c)
	}
}

// Rescued tells that an event which was not in the queue any more was handed out when an old root came back.
func (a *Cascade) Rescued(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rescued[key] = true
}

// Count is how many events were accepted, and how many were rescued.
func (a *Cascade) Count() (accepted, rescued int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.accepted), len(a.rescued)
}

// Check returns the first *Violation: of what the roots accepted, of what the root holds now, of what the other nodes
// hold. All must have had the time to arrive.
func (a *Cascade) Check(root Copy, others ...Copy) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.changes, func(x, y Change) int { return cmp.Compare(x.Term, y.Term) })
	if v := a.oneRoot(); v != nil {
		return v
	}
	if v := a.arrived(root); v != nil {
		return v
	}
	for _, c := range others {
		if v := same(root, c); v != nil {
			return v
		}
	}
	return nil
}

func broken(r Rule, node string, event int64, format string, args ...any) *Violation {
	return &Violation{Rule: r, Consumer: node, Event: event, Text: fmt.Sprintf(format, args...)}
}

// oneRoot checks that one node takes events at a time.
func (a *Cascade) oneRoot() *Violation {
	owner := map[int64]Accept{}
	for _, e := range a.accepted {
		if first, ok := owner[e.Term]; ok && first.Node != e.Node {
			return broken(TwoRoots, e.Node, 0, "took %q in term %d, in which %s took %q", e.Key, e.Term, first.Node, first.Key)
		} else if !ok || e.Answered.Before(first.Answered) {
			owner[e.Term] = e
		}
	}
	for _, c := range a.changes {
		first, ok := owner[c.Term]
		if ok && first.Node != c.Node {
			return broken(TwoRoots, first.Node, 0, "took %q in term %d, in which %s is root", first.Key, c.Term, c.Node)
		}
		if !ok || !c.Planned {
			continue
		}
		for _, e := range a.accepted {
			if e.Term < c.Term && e.Node != c.Node && e.Sent.After(first.Answered) {
				return broken(TwoRoots, e.Node, 0, "took %q in term %d, %v after %s had taken %q in term %d", e.Key, e.Term,
					e.Sent.Sub(first.Answered), c.Node, first.Key, c.Term)
			}
		}
	}
	return nil
}

// arrived checks that the root has all that was accepted, but what a failover has warned of and a resurrection has shown.
func (a *Cascade) arrived(root Copy) *Violation {
	has := map[string]CopiedEvent{}
	for _, ev := range root.Events {
		if isOwn(ev) {
			continue
		}
		if _, twice := has[ev.Data]; twice {
			return broken(Doubled, root.Node, ev.ID, "%q is there twice", ev.Data)
		}
		if !a.tried[ev.Data] {
			return broken(Invented, root.Node, ev.ID, "nobody sent %q", ev.Data)
		}
		has[ev.Data] = ev
	}
	for _, e := range a.accepted {
		if _, ok := has[e.Key]; ok {
			continue
		}
		at, _ := slices.BinarySearchFunc(a.changes, e.Term+1, func(c Change, term int64) int { return cmp.Compare(c.Term, term) })
		switch {
		case at == len(a.changes):
			return broken(Lost, e.Node, 0, "took %q in term %d, the newest one, and root %s has it not", e.Key, e.Term, root.Node)
		case a.changes[at].Planned:
			return broken(Lost, e.Node, 0, "took %q in term %d, and the planned change to %s in term %d lost it", e.Key, e.Term,
				a.changes[at].Node, a.changes[at].Term)
		case e.Answered.Before(a.changes[at].WarnedFrom):
			return broken(Unwarned, e.Node, 0, "took %q, which is lost; the failover to %s spoke of events %v later", e.Key,
				a.changes[at].Node, a.changes[at].WarnedFrom.Sub(e.Answered))
		case !a.rescued[e.Key]:
			return broken(Unseen, e.Node, 0, "took %q, which is lost, and its resurrection did not show it", e.Key)
		}
	}
	return nil
}

// isOwn tells the cascade's own events.
func isOwn(ev CopiedEvent) bool { return len(ev.Type) > 4 && ev.Type[:4] == "pgq." }

// same compares what two nodes hold in the ticks that both have.
func same(root, c Copy) *Violation {
	var first, last int64
	if c.Ticks != nil {
		if len(c.Ticks) < 2 || len(root.Ticks) < 2 {
			return broken(Unrecorded, c.Node, 0, "has %d ticks, and root %s %d", len(c.Ticks), root.Node, len(root.Ticks))
		}
		// The very first tick of a queue is of its own making.
		first = max(c.Ticks[1].ID, root.Ticks[1].ID)
		last = min(c.Ticks[len(c.Ticks)-1].ID, root.Ticks[len(root.Ticks)-1].ID)
		x, y := between(root.Ticks, first, last), between(c.Ticks, first, last)
		if i := differs(x, y); i >= 0 {
			return broken(Different, c.Node, 0, "tick number %d of %d to %d is %+v, at root %s %+v", i, first, last, at(y, i), root.Node, at(x, i))
		}
	} else {
		return applied(root, c)
	}
	window := func(all []CopiedEvent) (in []CopiedEvent) {
		for _, ev := range all {
			if ev.Tick > first && ev.Tick <= last {
				in = append(in, ev)
			}
		}
		slices.SortStableFunc(in, func(x, y CopiedEvent) int { return cmp.Or(cmp.Compare(x.Tick, y.Tick), cmp.Compare(x.ID, y.ID)) })
		return in
	}
	x, y := window(root.Events), window(c.Events)
	if i := differs(x, y); i >= 0 {
		return broken(Different, c.Node, 0, "event number %d of ticks %d to %d is %+v, at root %s %+v", i, first, last, at(y, i), root.Node, at(x, i))
	}
	return nil
}

// applied compares what a leaf has applied with what the root has. A leaf may take several ticks at once: an event may have
// a later tick there, but no event is missing, doubled or new.
func applied(root, leaf Copy) *Violation {
	if len(leaf.Events) == 0 || len(root.Ticks) == 0 {
		return broken(Unrecorded, leaf.Node, 0, "has no events")
	}
	first, last := leaf.Events[0].Tick, root.Ticks[len(root.Ticks)-1].ID
	type body struct {
		id         int64
		kind, data string
	}
	wanted := map[body]int64{}
	for _, ev := range root.Events {
		if ev.Tick > first {
			wanted[body{ev.ID, ev.Type, ev.Data}] = ev.Tick
		}
	}
	for _, ev := range leaf.Events {
		key := body{ev.ID, ev.Type, ev.Data}
		tick, ok := wanted[key]
		switch {
		case ev.Tick == first, !ok && ev.Tick > last:
			continue
		case !ok:
			return broken(Different, leaf.Node, ev.ID, "has %+v once more than root %s", ev, root.Node)
		case tick > ev.Tick:
			return broken(Different, leaf.Node, ev.ID, "has %+v before tick %d, by which it came to root %s", ev, tick, root.Node)
		}
		delete(wanted, key)
	}
	for key, tick := range wanted {
		return broken(Different, leaf.Node, key.id, "%d events are missing, one of them %+v of tick %d of root %s", len(wanted), key, tick, root.Node)
	}
	return nil
}

func between(ticks []TickRow, first, last int64) (in []TickRow) {
	for _, t := range ticks {
		if t.ID >= first && t.ID <= last {
			in = append(in, t)
		}
	}
	return in
}

// differs is where two lists part; -1: nowhere.
func differs[T comparable](x, y []T) int {
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			return i
		}
	}
	return -1
}

// at is an element, or nil behind the end.
func at[T any](list []T, i int) any {
	if i >= len(list) {
		return "missing"
	}
	return list[i]
}
