package cascade_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
)

// killAt is a driver that dies right after a step, as kill -9 would have it.
func (g *grove) killAt(old, node string, step cascade.ActionKind) (died bool, err error) {
	defer func() {
		if recover() != nil {
			died, err = true, nil
		}
	}()
	_, err = g.takeover(old, node, cascade.TakeoverOptions{Driver: "mortal", Force: true, Told: func(s cascade.OpStep) {
		if s.Step == step {
			panic("killed")
		}
	}})
	return false, err
}

// The driver is killed after every step, and the next one goes on, or back: nothing is lost and nobody is left paused.
func TestSwitchover_KilledAtEveryStep(t *testing.T) {
	t.Parallel()
	g := newGrove(t, skydHost, "o", "n")
	w := g.write()
	old, node := "o", "n"
	for i, step := range []cascade.ActionKind{
		cascade.ActPrepareNew, cascade.ActClose, cascade.ActFinal, cascade.ActGrant, cascade.ActPromote, cascade.ActDemote, cascade.ActResumeOld,
	} {
		for _, back := range []bool{true, false} {
			w.more(5)
			died, err := g.killAt(old, node, step)
			if !died || err != nil {
				t.Fatalf("%s: the driver lives: %v", step, err)
			}
			if _, err := g.takeover(old, node, cascade.TakeoverOptions{Force: true}); !errors.Is(err, cascade.ErrRefused) && i < 6 {
				t.Errorf("%s: a second operation while one is open: %v", step, err)
			}
			if i < 6 { // the journal of the old root is open
				g.notPaused(old, i%2 == 0)
			}
			_, err = g.admin(old).Resume(t.Context(), "", "", back, cascade.TakeoverOptions{Driver: "mortal"})
			wantBack := back && i < 4
			switch {
			case wantBack && !errors.Is(err, cascade.ErrRolledBack):
				t.Fatalf("%s, back: %v", step, err)
			case !wantBack && err != nil:
				t.Fatalf("%s, on: %v", step, err)
			case !wantBack:
				old, node = node, old
			}
			if root := g.root(); root != old {
				t.Fatalf("%s: root is %s, want %s", step, root, old)
			}
		}
	}
	g.verify(w)
}

// Both servers cut the driver's connections at every step, after the commit and before its answer: it cannot know.
func TestSwitchover_ConnectionsCutAtEveryStep(t *testing.T) {
	t.Parallel()
	var o, n mortal
	g := newGrove(t, o.host(skydHost), "o")
	g.add(n.host(skydHost), "n", cascade.Branch, "o")
	g.startWorker(g.ctx, "n")
	g.all.Go(func() {
		for pause(g.ctx, 50*time.Millisecond) {
			_, _, _ = pgq.Tick(g.ctx, g.db("n"), g.queue)
		}
	})
	w := g.write()
	old, node := "o", "n"
	for _, step := range []cascade.ActionKind{cascade.ActPrepareNew, cascade.ActClose, cascade.ActFinal, cascade.ActGrant, cascade.ActPromote, cascade.ActDemote} {
		w.more(5)
		_, err := g.takeover(old, node, cascade.TakeoverOptions{Driver: "mortal", Force: true, WriteOutage: time.Minute, Told: func(s cascade.OpStep) {
			if s.Step == step {
				o.proxy.CutAfter(0)
				n.proxy.CutAfter(0)
			}
		}})
		o.proxy.Heal()
		n.proxy.Heal()
		if errors.Is(err, cascade.ErrRolledBack) {
			continue
		}
		if err != nil {
			if _, err = g.admin(node).Resume(t.Context(), "", "", false, cascade.TakeoverOptions{Driver: "mortal"}); err != nil && !strings.Contains(err.Error(), "not found") {
				t.Fatalf("%s: %v", step, err)
			}
		}
		old, node = g.root(), map[string]string{"o": "n", "n": "o"}[g.root()]
	}
	w.unsure()
	g.verify(w)
}

// unsure stops the writers and takes events whose commit took effect without an answer as acknowledged.
func (w *writers) unsure() {
	w.end()
	root := w.g.root()
	for _, data := range w.g.texts(root, dataSQL) {
		w.acked[data] = true
	}
}

// What does not hold is refused, or undone: writes go on and nobody is paused.
func TestSwitchover_Refusals(t *testing.T) {
	t.Parallel()
	g := newGrove(t, skydHost, "o", "n")
	w := g.write()
	w.more(5)

	tx := ok[pgx.Tx](t)(g.db("o").Begin(t.Context())) // a writer that does not end
	ok[int64](t)(pgq.Insert(t.Context(), tx, g.queue, pgq.NewEvent{Type: pgq.Str("open")}))
	_, err := g.takeover("o", "n", cascade.TakeoverOptions{WriteOutage: 300 * time.Millisecond, Force: true})
	if !errors.Is(err, cascade.ErrRolledBack) && !errors.Is(err, cascade.ErrRefused) {
		t.Errorf("a writer that does not end: %v, want it rolled back", err)
	}
	if root := g.root(); root != "o" {
		t.Errorf("root is %s", root)
	}
	if _, err := tx.Exec(t.Context(), `select 1`); err != nil {
		t.Errorf("the writer was harmed: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancelCause(t.Context()) // somebody presses ^C while writes are held
	a := g.admin("n")
	plan := ok[*cascade.Takeover](t)(a.PlanTakeover(t.Context(), "o", "n", cascade.TakeoverOptions{Force: true, Told: func(s cascade.OpStep) {
		if s.Step == cascade.ActClose {
			cancel(fmt.Errorf("interrupted"))
		}
	}}))
	if _, err := a.Run(ctx, plan); !errors.Is(err, cascade.ErrRolledBack) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}

	g.halts["n"]()
	plan = ok[*cascade.Takeover](t)(a.PlanTakeover(t.Context(), "o", "n", cascade.TakeoverOptions{MaxLag: time.Nanosecond}))
	if err := plan.Refused(); err == nil || !strings.Contains(err.Error(), "P2") {
		t.Errorf("dead worker: %v", err)
	}
	g.startWorker(g.ctx, "n")
	g.verify(w)
}

// What a dead driver has left is ended by the daemon of a node, when the driver was silent for long enough.
func TestKeeper_EndsWhatNobodyDrives(t *testing.T) {
	t.Parallel()
	g := newGrove(t, skydHost, "o", "n")
	w := g.write()
	w.more(5)
	if died, err := g.killAt("o", "n", cascade.ActGrant); !died || err != nil {
		t.Fatalf("the driver lives: %v", err)
	}
	if tally := ok[cascade.Tally](t)(cascade.ReadTally(t.Context(), g.db("n"), g.queue)); tally.UnderWay == "" || len(tally.Done) != 0 {
		t.Errorf("under way: %+v", tally)
	}
	k := cascade.NewKeeper(g.db("n"), g.queue, "keeper")
	t.Cleanup(k.Close)
	did := ok[string](t)(k.Pass(t.Context()))
	if did != "" {
		t.Errorf("a driver that was alive just now is taken over: %s", did)
	}
	g.await("the keeper ends it", func() bool { did = ok[string](t)(k.Pass(t.Context())); return did != "" })
	if g.root() != "n" {
		t.Errorf("%s: root is %s", did, g.root())
	}
	g.verify(w)
	if tally := ok[cascade.Tally](t)(cascade.ReadTally(t.Context(), g.db("n"), g.queue)); len(tally.Done) != 1 || tally.Done[0] <= 0 ||
		tally.Aborted != 0 || tally.UnderWay != "" {
		t.Errorf("the new root counts %+v", tally)
	}
	if tally := ok[cascade.Tally](t)(cascade.ReadTally(t.Context(), g.db("o"), g.queue)); len(tally.Done) != 0 || tally.UnderWay != "" {
		t.Errorf("the old root counts it, too: %+v", tally)
	}
}

func isRolledBack(err error) bool { return errors.Is(err, cascade.ErrRolledBack) }

// notPaused checks that a node is neither paused nor resumed by hand while an operation is open on it.
func (g *grove) notPaused(node string, paused bool) {
	g.t.Helper()
	a := g.admin(node)
	plan := ok[*cascade.Change](g.t)(a.PlanPause(ok[*cascade.Topology](g.t)(a.Topology(g.t.Context())), node, "", paused, false))
	if err := plan.Run(g.t.Context(), nil); len(plan.Steps) > 0 && !errors.Is(err, cascade.ErrRefused) {
		g.t.Errorf("paused=%t while an operation is open: %v", paused, err)
	}
}
