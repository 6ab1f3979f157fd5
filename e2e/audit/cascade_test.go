package audit_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/e2e/audit"
)

// story is a queue that went from node a to b as planned (term 1), and from b to c because b was dead (term 2): event
// "3" never left b, the failover warned of it, and b had it when it came back.
type story struct {
	accepts []audit.Accept
	changes []audit.Change
	rescued []string
	root    audit.Copy
	branch  audit.Copy
	leaf    audit.Copy
}

func second(n int) time.Time { return time.Unix(int64(n), 0) }

func goodStory() *story {
	accept := func(key, node string, term int64, at int) audit.Accept {
		return audit.Accept{Key: key, Node: node, Term: term, Sent: second(at), Answered: second(at + 1)}
	}
	ticks := []audit.TickRow{{1, "own"}, {2, "x"}, {3, "y"}, {4, "z"}}
	events := []audit.CopiedEvent{{2, 1, "t", "1"}, {3, 2, "t", "2"}, {4, 3, "pgq.location-info", "c"}, {4, 4, "t", "4"}}
	return &story{
		accepts: []audit.Accept{accept("1", "a", 0, 10), accept("2", "b", 1, 20), accept("3", "b", 1, 30), accept("4", "c", 2, 40)},
		changes: []audit.Change{{Term: 1, Node: "b", Planned: true}, {Term: 2, Node: "c", WarnedFrom: second(25)}},
		rescued: []string{"3"},
		root:    audit.Copy{Node: "c", Ticks: ticks, Events: events},
		branch:  audit.Copy{Node: "a", Ticks: slices.Clone(ticks), Events: slices.Clone(events)},
		leaf:    audit.Copy{Node: "l", Events: slices.Clone(events)},
	}
}

func (s *story) check() error {
	a := audit.NewCascade()
	for _, e := range s.accepts {
		a.Tried(e.Key)
		a.Accepted(e)
	}
	for _, c := range s.changes {
		a.Changed(c)
	}
	for _, key := range s.rescued {
		a.Rescued(key)
	}
	return a.Check(s.root, s.branch, s.leaf)
}

func TestCascade_GoodStory(t *testing.T) {
	t.Parallel()
	s := goodStory()
	if err := s.check(); err != nil {
		t.Error(err)
	}
	s.leaf.Events[1].Tick = 4 // with the next ones
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

// TestCascade_EveryRule breaks one thing at a time.
func TestCascade_EveryRule(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		rule  audit.Rule
		where string
		spoil func(s *story)
	}{
		{"two nodes in one term", audit.TwoRoots, "b", func(s *story) { s.accepts[0].Term = 1 }},
		{"the old root after the new one", audit.TwoRoots, "a", func(s *story) { s.accepts[0].Sent = second(22) }},
		{"another root than the one that was told", audit.TwoRoots, "c", func(s *story) { s.changes[1].Node = "x" }},
		{"lost by a planned change", audit.Lost, "a", func(s *story) { s.root.Events[0].Type = "pgq." + "x" }},
		{"lost by the root", audit.Lost, "c", func(s *story) { s.root.Events = s.root.Events[:3] }},
		{"lost before the window", audit.Unwarned, "b", func(s *story) { s.changes[1].WarnedFrom = second(35) }},
		{"lost unseen", audit.Unseen, "b", func(s *story) { s.rescued = nil }},
		{"doubled", audit.Doubled, "c", func(s *story) { s.root.Events[2] = s.root.Events[1] }},
		{"invented", audit.Invented, "c", func(s *story) { s.root.Events[1].Data = "9" }},
		{"another tick", audit.Different, "a", func(s *story) { s.branch.Ticks[2].Text = "other" }},
		{"a tick too few", audit.Different, "a", func(s *story) { s.branch.Ticks = slices.Delete(s.branch.Ticks, 2, 3) }},
		{"a tick too many", audit.Different, "a", func(s *story) { s.root.Ticks = slices.Delete(s.root.Ticks, 2, 3) }},
		{"an event in another batch", audit.Different, "a", func(s *story) { s.branch.Events[1].Tick = 4 }},
		{"an event too few", audit.Different, "a", func(s *story) { s.branch.Events = s.branch.Events[:3] }},
		{"an event of another kind", audit.Different, "a", func(s *story) { s.branch.Events[3].Type = "u" }},
		{"an event twice on a leaf", audit.Different, "l", func(s *story) { s.leaf.Events = append(s.leaf.Events, s.leaf.Events[3]) }},
		{"an event too few on a leaf", audit.Different, "l", func(s *story) { s.leaf.Events = slices.Delete(s.leaf.Events, 1, 2) }},
		{"an event too early on a leaf", audit.Different, "l", func(s *story) { s.leaf.Events[3].Tick = 3 }},
		{"nothing on a leaf", audit.Unrecorded, "l", func(s *story) { s.leaf.Events = nil }},
		{"nothing on a branch", audit.Unrecorded, "a", func(s *story) { s.branch.Ticks = s.branch.Ticks[:1] }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := goodStory()
			c.spoil(s)
			var v *audit.Violation
			if err := s.check(); !errors.As(err, &v) || v.Rule != c.rule || v.Consumer != c.where {
				t.Errorf("got %v, want rule %q at %s", err, c.rule, c.where)
			}
		})
	}
}
