package cascade_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/skytools/skyd/cascade"
)

// byHand are the calls of the original's takeover of a root o by a branch n, in its order: what is left of it when it
// dies is a beginning of this list. FINAL is the final tick.
var byHand = []struct{ node, sql string }{
	{"o", `select pgq_node.set_consumer_paused($1, 'o_w', true)`},
	{"o", `select pgq_node.demote_root($1, 1, 'n')`},
	{"o", `select pgq_node.demote_root($1, 2, 'n')`},
	{"n", `select pgq_node.set_consumer_paused($1, 'n_w', true)`},
	{"n", `select pgq_node.promote_branch($1)`},
	{"n", `select pgq_node.register_subscriber($1, 'o', 'o_w', FINAL)`},
	{"o", `select pgq_node.unregister_subscriber($1, 'n')`},
	{"n", `select pgq_node.set_consumer_paused($1, 'n_w', false)`},
	{"o", `select pgq_node.demote_root($1, 3, 'n')`},
}

// What a takeover by the original's tool leaves when it is killed after any of its calls is ended by ours, forward or
// back: one root, everything that was acknowledged on both nodes, nobody paused or closed.
func TestAdopt_TakeoverOfTheOriginalKilledAfterEveryCall(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{true, false} {
		for calls := 1; calls <= len(byHand); calls++ {
			if *serverKills > 0 && rand.IntN(4) > 0 {
				continue // the task runs all
			}
			t.Run(fmt.Sprintf("back=%t calls=%d", back, calls), func(t *testing.T) {
				t.Parallel()
				g := newGrove(t, besideHost, "o", "n")
				w := g.write()
				w.more(5)
				g.await("some ticks to compare", func() bool { return g.top("n") > 6 })
				if calls == len(byHand) {
					w.end() // the original lets writers of older snapshots pass, and does not know it
				}
				g.takeOverByHand(calls)
				_, err := g.admin("n").Resume(t.Context(), "o", "n", back, cascade.TakeoverOptions{})
				if errors.Is(err, cascade.ErrUnfinished) && strings.Contains(err.Error(), "--accept-loss") {
					err = g.acceptLoss(w) // the same, but we know it
				}
				// Before the promotion there is a way back; before the close there is only that.
				wantBack := back && calls < 5 || calls == 1
				if wantBack && !errors.Is(err, cascade.ErrRolledBack) || !wantBack && err != nil {
					t.Fatalf("%v\n%s", err, g.state())
				}
				if root := g.root(); (root == "o") != wantBack {
					t.Errorf("root is %s", root)
				}
				w.unsure() // a writer may be hit by the end of the test in its commit
				g.verify(w)
			})
		}
	}
}

// acceptLoss looks at what came behind the final tick of the old root, and lets it go on as a branch.
func (g *grove) acceptLoss(w *writers) error {
	w.end()
	for _, data := range g.texts("o", `select coalesce(ev_data, '') from skyd_node.lost_event`) {
		g.t.Logf("behind the final tick, and saved: %s", data)
		delete(w.acked, data)
	}
	_, err := g.admin("o").AcceptLoss(g.t.Context())
	return err
}

// takeOverByHand does so many calls of the original's takeover.
func (g *grove) takeOverByHand(calls int) {
	g.t.Helper()
	var final int64
	for _, c := range byHand[:calls] {
		if strings.Contains(c.sql, "n_w', true") { // the original waits here
			final = g.top("o")
			g.await("n has the final tick", func() bool { return g.completed("n") >= final })
		}
		g.exec(c.node, strings.ReplaceAll(c.sql, "FINAL", fmt.Sprint(final)), g.queue)
		if strings.Contains(c.sql, "n_w', true") { // and for this
			g.await("n is paused", func() bool {
				return g.texts("n", `select uptodate::text from pgq_node.local_state where consumer_name = 'n_w'`)[0] == "true"
			})
		}
	}
}
