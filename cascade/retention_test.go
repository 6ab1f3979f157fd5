package cascade_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/cascade"
)

// Events are kept for a dead node until its retention is over, where there is one, and for a silent one that nobody tagged
// dead for ever.
func TestKeeper_DropsTheDeadAfterTheirRetention(t *testing.T) {
	t.Parallel()
	g := newGrove(t, skydHost, "o", "n", "gone", "silent")
	for _, name := range []string{"gone", "silent"} {
		g.halts[name]()
	}
	g.exec("o", `select pgq_node.register_location($1, 'gone', null, true)`, g.queue)
	pass := func(retention time.Duration) string {
		t.Helper()
		k := cascade.NewKeeper(g.db("o"), g.queue, "keeper")
		defer k.Close()
		k.DeadRetention = retention
		return ok[string](t)(k.Pass(t.Context()))
	}
	subscribers := func() []string {
		t.Helper()
		return g.texts("o", `select subscriber_node from pgq_node.subscriber_info order by 1`)
	}
	top := ok[*cascade.Topology](t)(g.admin("o").Topology(t.Context()))
	if !slices.ContainsFunc(top.Problems, func(p string) bool { return strings.Contains(p, "keeps events for gone, which is tagged dead") }) {
		t.Errorf("nobody is warned: %q", top.Problems)
	}
	if did := pass(time.Hour); did != "" || len(subscribers()) != 3 {
		t.Errorf("before it is over: %q, subscribers %v", did, subscribers())
	}
	silence := func() { // a worker that still ended its last pass has signed it as of now
		g.exec("o", `
update pgq.subscription set sub_active = now() - interval '2 hours'
 where sub_consumer in (select co_id from pgq.consumer where co_name in ('gone_w', 'silent_w'))`)
	}
	silence()
	if did := pass(0); did != "" || len(subscribers()) != 3 {
		t.Errorf("without a retention: %q, subscribers %v", did, subscribers())
	}
	var did string
	g.await("the dead one is dropped", func() bool { silence(); did = pass(time.Hour); return did != "" })
	if !strings.Contains(did, "gone") || !slices.Equal(subscribers(), []string{"n", "silent"}) {
		t.Errorf("%q, subscribers %v", did, subscribers())
	}
	if left := g.texts("o", `select co_name from pgq.consumer join pgq.subscription on sub_consumer = co_id where co_name like '%gone%'`); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
