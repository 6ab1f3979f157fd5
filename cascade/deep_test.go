package cascade_test

import (
	"testing"

	"github.com/skytools/skyd/cascade"
)

// A node that reads from a branch takes the place of the root: the branch does not keep events for it any more. Then it
// dies, and is known as the root that it was.
func TestTakeover_FromBelowABranch(t *testing.T) {
	t.Parallel()
	m := &mortal{}
	g := newGrove(t, skydHost, "o", "b")
	g.add(m.host(skydHost), "n", cascade.Branch, "b")
	g.startWorker(g.ctx, "n")
	w := g.write()
	w.more(5)
	if _, err := g.takeover("o", "n", cascade.TakeoverOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if got := g.texts("b", `select subscriber_node from pgq_node.subscriber_info`); len(got) > 0 {
		t.Errorf("b keeps events for %v", got)
	}
	top := ok[*cascade.Topology](t)(g.admin("o").Topology(t.Context()))
	if len(top.Problems) > 0 {
		t.Errorf("problems: %q", top.Problems)
	}
	w.end()
	m.die()
	plan := ok[*cascade.Takeover](t)(g.admin("o").PlanTakeover(t.Context(), "n", "o", cascade.TakeoverOptions{Dead: true}))
	if plan.Kind != cascade.KindFailover {
		t.Errorf("takeover of the dead root is a %s", plan.Kind)
	}
}

// The subscription that is left at the branch, by a version that did not end it or by a crash, does not hide who was root.
func TestFailover_StaleSubscriptionOfTheRoot(t *testing.T) {
	t.Parallel()
	m := &mortal{}
	g := newGrove(t, skydHost, "o", "b")
	g.add(m.host(skydHost), "n", cascade.Branch, "b")
	g.startWorker(g.ctx, "n")
	w := g.write()
	w.more(5)
	if _, err := g.takeover("o", "n", cascade.TakeoverOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.end()
	g.texts("b", `select ret_code::text from pgq_node.register_subscriber($1, 'n', 'n_worker', null)`, g.queue)
	m.die()
	plan := ok[*cascade.Takeover](t)(g.admin("o").PlanTakeover(t.Context(), "n", "o", cascade.TakeoverOptions{Dead: true}))
	if plan.Kind != cascade.KindFailover {
		t.Errorf("takeover of the dead root is a %s", plan.Kind)
	}
}
