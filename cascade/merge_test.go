package cascade_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
)

// merged is a living cascade of a combined queue with two part queues that flow into it: a root each, and a merge leaf
// beside every node of the combined queue.
type merged struct {
	*grove
	parts []*tree
}

// newMerged makes the combined queue on nodes c1, the root, and c2.
func newMerged(t *testing.T) *merged {
	t.Helper()
	m := &merged{grove: newGrove(t, skydHost, "c1", "c2")}
	for _, part := range []string{"p1", "p2"} {
		p := newTreeOf(t, part, skydHost, part)
		p.exec(part, `select pgq.set_queue_config($1, 'ticker_max_lag', '50 ms'), pgq.set_queue_config($1, 'ticker_idle_period', '1 day')`, part)
		for _, at := range m.order {
			n := *m.nodes[at]
			n.name = part + "_" + at
			p.order = append(p.order, n.name)
			p.addTo(&n, cascade.Leaf, part, m.queue)
			m.live(p, n.name)
		}
		m.live(p, part)
		m.all.Go(func() {
			for pause(m.ctx, 50*time.Millisecond) {
				_, _, _ = pgq.Tick(m.ctx, p.db(part), part)
			}
		})
		m.parts = append(m.parts, p)
	}
	return m
}

// live runs the worker of a node of a part queue.
func (m *merged) live(p *tree, name string) {
	w := cascade.NewWorker(p.db(name), p.queue, cascade.WorkerOptions{MarkPeriod: 200 * time.Millisecond})
	m.all.Go(func() {
		defer w.Close()
		for m.ctx.Err() == nil {
			if _, err := w.Step(m.ctx); err != nil {
				_, _, _ = w.Attend(m.ctx)
				pause(m.ctx, 5*time.Millisecond)
			}
		}
	})
}

// writeParts inserts into the part queues until the writers are stopped.
func (m *merged) writeParts() *writers {
	ctx, stop := context.WithCancel(m.t.Context())
	w := &writers{g: m.grove, stop: stop, acked: map[string]bool{}}
	m.t.Cleanup(w.end)
	for _, p := range m.parts {
		w.all.Go(func() {
			for n := 0; pause(ctx, 10*time.Millisecond); n++ {
				data := fmt.Sprintf("%s.%d", p.queue, n)
				w.mu.Lock()
				w.acked[data] = true // an insert whose context ends in the middle may take effect: it is not tried then
				w.mu.Unlock()
				if _, err := p.db(p.queue).Exec(context.WithoutCancel(ctx), `select pgq.insert_event($1, 'data', $2)`, p.queue, data); err != nil {
					m.t.Errorf("write into %s: %v", p.queue, err)
					return
				}
				w.tried.Add(1)
			}
		})
	}
	return w
}

// verifyMerged is verify, and that no merge leaf is left paused, and that both stand at the same tick in the end.
func (m *merged) verifyMerged(w *writers) {
	m.t.Helper()
	w.end()
	for _, p := range m.parts {
		last := ok[int64](m.t)(forceTick(m.t.Context(), p.db(p.queue), p.queue))
		for _, name := range p.order[1:] {
			m.await(name+" comes to the last tick", func() bool { return p.completed(name) >= last })
			if got := m.texts(name[len(p.queue)+1:], `select consumer_name from pgq_node.local_state where paused`); len(got) > 0 {
				m.t.Errorf("I6: paused beside %s: %v", name, got)
			}
		}
	}
	m.verify(w)
}

// The combined root changes its place under load, with its driver killed after each step: every event of the part queues
// is in the combined queue once, on both nodes, and the merge leafs of the other side go on where the first ones stood.
func TestMerge_TakeoverOfTheCombinedRootKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	m := newMerged(t)
	w := m.writeParts()
	old, node := "c1", "c2"
	for i, step := range []cascade.ActionKind{
		"", cascade.ActPrepareNew, cascade.ActClose, cascade.ActFinal, cascade.ActGrant, cascade.ActPromote, cascade.ActDemote, cascade.ActResumeOld,
	} {
		w.more(20)
		died, err := m.killAt(old, node, step)
		if died != (step != "") || err != nil {
			t.Fatalf("%s: died %t: %v", step, died, err)
		}
		back := i%2 == 0 // half of the steps that can go back do, the others go on
		if died {
			_, err = m.admin(old).Resume(t.Context(), "", "", back, cascade.TakeoverOptions{Driver: "mortal"})
		}
		if wantBack := died && back && i < 5; wantBack {
			if !isRolledBack(err) {
				t.Fatalf("%s, back: %v", step, err)
			}
		} else if err != nil {
			t.Fatalf("%s, on: %v\n%s", step, err, m.state())
		} else {
			old, node = node, old
		}
		if root := m.root(); root != old {
			t.Fatalf("%s: root is %s, want %s", step, root, old)
		}
	}
	m.verifyMerged(w)
}
