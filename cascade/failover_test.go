package cascade_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// mortal makes databases that can be cut off from everybody: the first of them, which is the root of a grove.
type mortal struct {
	proxy  *pgtest.Proxy
	direct string
}

// die cuts the database off.
func (m *mortal) die() {
	m.proxy.Refuse()
	m.proxy.Reset()
}

func (m *mortal) host(h host) host {
	return func(t testing.TB) string {
		dsn := h(t)
		if m.proxy == nil {
			m.direct = dsn
			m.proxy = pgtest.NewProxy(t, dsn)
			return m.proxy.DSN(dsn)
		}
		return dsn
	}
}

// The root dies while the wanted branch is behind its sibling; it goes on taking events that nobody else sees, comes
// back, is fenced, and returns as a branch without them.
func TestFailover_BehindSiblingAndReturn(t *testing.T) {
	t.Parallel()
	m := &mortal{}
	g := newGrove(t, m.host(skydHost), "o", "n", "b")
	w := g.write()
	w.more(20)
	g.halts["n"]()
	at := g.top("n")
	g.await("b is ahead of n", func() bool { return g.top("b") > at+2 })
	w.end()
	m.die()
	direct := open(t, m.direct)
	for _, data := range []string{"lost 1", "lost 2"} { // somebody still reaches it
		ok[int64](t)(pgq.Insert(t.Context(), direct, g.queue, pgq.NewEvent{Type: pgq.Str("data"), Data: pgq.Str(data)}))
	}
	g.failover(w)
	g.returns(w, m, direct)
}

// failover goes on with n in place of the dead o.
func (g *grove) failover(w *writers) {
	t := g.t.(*testing.T)
	t.Helper()
	g.startWorker(g.ctx, "n")
	a := g.admin("n")
	if advice := g.advice("n"); !strings.Contains(advice, "takeover o --target b --dead-root") {
		t.Errorf("advice before the failover: %s", advice)
	}
	plan := ok[*cascade.Takeover](t)(a.PlanTakeover(t.Context(), "o", "n", cascade.TakeoverOptions{Dead: true}))
	if err := plan.Refused(); !errors.Is(err, cascade.ErrRefused) || !strings.Contains(err.Error(), "--allow-data-loss") {
		t.Fatalf("without leave to lose events: %v", err)
	}
	if plan.Loss.LastTick > g.top("b") || plan.Loss.LastTick < g.top("n") || plan.Loss.Node != "b" {
		t.Errorf("loss window %+v, the last tick is %d of b", plan.Loss, g.top("b"))
	}
	if _, err := g.takeover("o", "n", cascade.TakeoverOptions{Dead: true, AllowDataLoss: true}); err != nil {
		t.Fatal(err)
	}
	if got := g.texts("b", `select provider_node from pgq_node.local_state`)[0]; got != "n" {
		t.Errorf("b reads from %s, want n", got)
	}
	if got := g.texts("b", `select node_name from pgq_node.node_location where dead`); !slices.Equal(got, []string{"o"}) {
		t.Errorf("dead on b: %v", got)
	}
	for data := range w.acked { // what b had is there; what only o had is lost, and was announced
		if !slices.Contains(g.texts("n", dataSQL), data) {
			delete(w.acked, data)
		}
	}
}

// returns brings o back as a branch.
func (g *grove) returns(w *writers, m *mortal, direct *pgq.DB) {
	t := g.t.(*testing.T)
	t.Helper()
	m.proxy.Heal()
	a := g.admin("o")
	f := ok[*cascade.Fenced](t)(a.FenceIfStale(t.Context()))
	if f == nil || !f.Now || f.NewRoot != "n" {
		t.Fatalf("returned root: %+v, want it fenced", f)
	}
	if _, err := pgq.Insert(t.Context(), direct, g.queue, pgq.NewEvent{Type: pgq.Str("data")}); err == nil {
		t.Error("a fenced root takes events")
	}
	if f, err := g.admin("n").FenceIfStale(t.Context()); f != nil || err != nil {
		t.Errorf("the new root is fenced: %+v, %v", f, err)
	}
	if advice := g.advice("n"); !strings.Contains(advice, "resurrect") {
		t.Errorf("advice after the return: %s", advice)
	}
	r := ok[*cascade.Return](t)(a.PlanResurrect(t.Context()))
	if r.Root != "n" || r.Lost < 2 {
		t.Errorf("plan %+v", r)
	}
	if err := a.Resurrect(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	again := ok[*cascade.Return](t)(a.PlanResurrect(t.Context()))
	if err := a.Resurrect(t.Context(), again); err != nil || !again.Paused || again.Lost < 2 {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	var file bytes.Buffer
	ok[int](t)(a.WriteLostEvents(t.Context(), &file))
	if !strings.Contains(file.String(), `"ev_data":"lost 2"`) {
		t.Errorf("dump: %s", file.String())
	}
	resume := ok[*cascade.Change](t)(a.PlanPause(ok[*cascade.Topology](t)(a.Topology(t.Context())), "o", "", false, false))
	if err := resume.Run(t.Context(), nil); !errors.Is(err, cascade.ErrRefused) || !strings.Contains(err.Error(), "--accept-loss") {
		t.Errorf("resume while lost events are unhandled: %v", err)
	}
	if n := ok[int64](t)(a.AcceptLoss(t.Context())); n < 2 {
		t.Errorf("accepted the loss of %d events", n)
	}
	g.verify(w)
	if advice := g.advice("n"); advice != "" {
		t.Errorf("advice at the end: %s", advice)
	}
}

func (g *grove) advice(node string) string {
	g.t.Helper()
	a := g.admin(node)
	top := ok[*cascade.Topology](g.t)(a.Topology(g.t.Context()))
	text := ""
	for _, advice := range top.Advise() {
		text += advice.Why + ": " + strings.Join(advice.Run, " ") + "\n"
	}
	return text
}

// A dead branch is left out, and holds nothing back.
func TestTakeover_DeadBranch(t *testing.T) {
	t.Parallel()
	m := &mortal{}
	g := newGrove(t, skydHost, "o", "n")
	g.add(m.host(skydHost), "x", cascade.Branch, "o")
	g.add(skydHost, "b", cascade.Branch, "x")
	for _, name := range []string{"x", "b"} {
		g.startWorker(g.ctx, name)
	}
	w := g.write()
	w.more(20)
	g.await("x has a batch", func() bool { return len(g.texts("x", dataSQL)) > 0 })
	g.halts["x"]()
	m.die()
	if _, err := g.takeover("x", "n", cascade.TakeoverOptions{Dead: true}); err != nil {
		t.Fatal(err)
	}
	g.order = []string{"o", "n", "b"}
	g.verify(w)
	if got := g.texts("o", `select co_name from pgq.consumer join pgq.subscription on sub_consumer = co_id where co_name like '%x%'`); len(got) > 0 {
		t.Errorf("the dead branch holds %v", got)
	}
}

// The driver of a failover is killed after every step: the next one goes back where nothing has changed yet, and on from
// any step to the same end. The wanted node is behind its sibling, which feeds it.
func TestFailover_KilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range []cascade.ActionKind{cascade.ActPrepareNew, "feed", "claim", cascade.ActPromote, "children", "settle"} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			m := &mortal{}
			g := newGrove(t, m.host(skydHost), "o", "n", "b")
			g.add(skydHost, "l", cascade.Leaf, "o")
			g.startWorker(g.ctx, "l")
			w := g.write()
			w.more(10)
			g.halts["n"]()
			at := g.top("n")
			g.await("b is ahead of n", func() bool { return g.top("b") > at+2 })
			w.end()
			g.await("b has all ticks: the leaf must not be ahead of it", func() bool {
				last := g.top("o")
				return g.top("b") == last && g.top("o") == last
			})
			m.die()
			g.startWorker(g.ctx, "n")
			early := step == cascade.ActPrepareNew || step == "feed" || step == "claim"
			for _, back := range []bool{true, false} {
				died, err := g.killFailover(step)
				if step == "feed" && !back && !died && err == nil {
					break // it was fed by the first try
				}
				if !died {
					t.Fatalf("the driver lives: %v", err)
				}
				if _, err := g.takeover("o", "b", cascade.TakeoverOptions{Dead: true, AllowDataLoss: true, Force: true}); err == nil {
					t.Error("a second operation while one is open went well")
				}
				_, err = g.admin("b").Resume(t.Context(), "", "", back, cascade.TakeoverOptions{Driver: "mortal"})
				if back && early {
					if !errors.Is(err, cascade.ErrRolledBack) {
						t.Fatalf("back: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("on: %v\n%s", err, g.state())
				}
				break
			}
			for data := range w.acked { // only o had it: lost, as announced
				if !slices.Contains(g.texts("n", dataSQL), data) {
					delete(w.acked, data)
				}
			}
			g.order = []string{"n", "b"}
			w.nodes = nil
			g.verify(w)
			if got := g.texts("l", `select provider_node || paused from pgq_node.local_state`); !slices.Equal(got, []string{"nfalse"}) {
				t.Errorf("the leaf: %v", got)
			}
			for _, name := range []string{"n", "b", "l"} {
				if dead := g.texts(name, `select node_name from pgq_node.node_location where dead`); !slices.Equal(dead, []string{"o"}) {
					t.Errorf("dead on %s: %v", name, dead)
				}
			}
		})
	}
}

// killFailover is a driver that dies right after a step.
func (g *grove) killFailover(step cascade.ActionKind) (died bool, err error) {
	defer func() {
		if recover() != nil {
			died, err = true, nil
		}
	}()
	_, err = g.takeover("o", "n", cascade.TakeoverOptions{Driver: "mortal", Dead: true, AllowDataLoss: true, Force: true, Told: func(s cascade.OpStep) {
		if s.Step == step {
			panic("killed")
		}
	}})
	return false, err
}

// A driver that stood still while another one took the failover over ends, and ends nothing for the other.
func TestFailover_OvertakenDriverEndsNothing(t *testing.T) {
	t.Parallel()
	m := &mortal{}
	g := newGrove(t, m.host(skydHost), "o", "n")
	w := g.write()
	w.more(5)
	w.end()
	m.die()
	_, err := g.takeover("o", "n", cascade.TakeoverOptions{Driver: "frozen", Dead: true, AllowDataLoss: true, Force: true, Told: func(s cascade.OpStep) {
		if s.Step == "claim" {
			g.exec("n", `update skyd_node.operation set driver = 'other', epoch = epoch + 1, driver_seen = clock_timestamp() where finished is null`)
		}
	}})
	if !errors.Is(err, cascade.ErrDriverLost) || errors.Is(err, cascade.ErrRolledBack) {
		t.Errorf("the frozen driver: %v", err)
	}
	if got := g.texts("n", `select state || ' ' || driver from skyd_node.operation where finished is null`); !slices.Equal(got, []string{"prepared other"}) {
		t.Fatalf("the journal of the other driver: %v", got)
	}
	if _, err := g.admin("n").Resume(t.Context(), "", "", false, cascade.TakeoverOptions{Driver: "third"}); !errors.Is(err, cascade.ErrDriven) {
		t.Errorf("a third driver: %v", err)
	}
	if _, err := g.admin("n").Resume(t.Context(), "", "", false, cascade.TakeoverOptions{Driver: "other"}); err != nil {
		t.Fatal(err)
	}
	if got := g.texts("n", `select node_type from pgq_node.node_info`)[0]; got != "root" {
		t.Errorf("n is a %s", got)
	}
}
