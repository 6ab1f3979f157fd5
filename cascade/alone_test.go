package cascade_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
)

var aloneSeed = flag.Uint64("alone.seed", 0, "seed of TestAlone_CommandsAtTheSameTime; 0: a random one")

// Administrative commands that run at the same time, on random nodes: each is done or refused, and what they leave is one
// tree without rings, ghosts and forgotten subscriptions, in which events flow and nobody is paused.
func TestAlone_CommandsAtTheSameTime(t *testing.T) {
	t.Parallel()
	seed := *aloneSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("replay: go test ./cascade -run AtTheSameTime -alone.seed=%d", seed)
	f := newFamily(t, "n1", "n2", "n3", "n4", "n5")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	for _, n := range []string{"n2", "n3", "n4"} {
		f.create(cascade.Creation{Type: cascade.Branch, Name: n, Provider: "n1"})
	}
	f.work("n1", "n2", "n3", "n4", "n5")
	f.ticks("n1", 100*time.Millisecond)
	var all sync.WaitGroup
	for i := range 3 { // more would take all connections of the server
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for range 12 {
				err := f.command(r)
				if t.Logf("%v", err); !refusedOrGone(err) {
					t.Error("which is no end for a command")
				}
			}
		})
	}
	all.Wait()
	f.whole()
}

// refusedOrGone tells the ends that a command may have beside others.
func refusedOrGone(err error) bool {
	return err == nil || errors.Is(err, cascade.ErrRefused) || errors.Is(err, cascade.ErrNotFound) ||
		errors.Is(err, cascade.ErrUnreachable) || errors.Is(err, context.DeadlineExceeded)
}

// command runs one random command from a random node.
func (f *family) command(r *rand.Rand) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second) // some wait for a node that another one pauses
	defer cancel()
	at := f.pick(r)
	a := f.admin(at)
	defer a.Close()
	top, err := a.Topology(ctx)
	if err != nil {
		return err
	}
	var plan *cascade.Change
	node, other := f.pick(r), f.pick(r)
	what := r.IntN(6)
	switch what {
	case 0, 1:
		plan, err = a.PlanChangeProvider(top, node, "", other)
	case 2:
		plan, err = a.PlanPause(top, node, "", r.IntN(2) == 0, false)
	case 3:
		plan, err = a.PlanRename(top, "n2", "n2b")
		if err != nil {
			plan, err = a.PlanRename(top, "n2b", "n2")
		}
	case 4:
		plan, err = a.PlanDrop(top, "n5")
	case 5:
		c := cascade.Creation{Type: cascade.Branch, Name: "n5", Location: f.dsn["n5"], Provider: f.dsn[node]}
		a := f.admin("n5")
		defer a.Close()
		plan, err = a.PlanCreate(ctx, c)
	}
	if err == nil {
		err = plan.Run(ctx, func(s cascade.Step) { f.t.Logf("%s: %s", s.Node, s.Text) })
	}
	if err != nil {
		err = fmt.Errorf("%d of %s, %s from %s: %w", what, node, other, at, err)
	}
	return err
}

func (f *family) pick(r *rand.Rand) string {
	return []string{"n1", "n2", "n3", "n4", "n5"}[r.IntN(5)]
}

// whole checks that all members are one tree in which events flow.
func (f *family) whole() {
	f.t.Helper()
	top := f.topology("n1")
	for _, n := range top.Nodes {
		if n.State != cascade.Alive {
			continue // a late event may bring a former member back for a moment; for good it is a problem
		}
		if n.Paused {
			f.carry(f.admin("n1").PlanPause(f.topology("n1"), n.Name, "", false, true))
		}
		for at, steps := n, 0; at.Type != cascade.Root; at, steps = top.Node(at.Provider), steps+1 {
			if at.Provider == at.Name || top.Node(at.Provider) == nil || steps > len(top.Nodes) {
				f.t.Fatalf("%s does not lead to the root: %s reads from %s", n.Name, at.Name, at.Provider)
			}
		}
	}
	for _, n := range top.Nodes {
		f.tick("n1")
		if n.State != cascade.Alive {
			continue
		}
		ctx, cancel := context.WithTimeout(f.t.Context(), patience)
		if _, err := f.admin("n1").Wait(ctx, f.topology("n1"), n.Name, cascade.UpstreamRoot); err != nil {
			f.t.Errorf("%s: %v", n.Name, err)
		}
		cancel()
	}
	var problems []string
	defer func() {
		if len(problems) > 0 {
			f.t.Logf("problems: %q", problems)
		}
	}()
	pgtest.Eventually(f.t, patience, "no problem is left", func() bool {
		problems = f.topology("n1").Problems
		return len(problems) == 0
	})
}

// ticks makes the root put what was written into a batch now and then, until the test ends.
func (f *family) ticks(root string, period time.Duration) {
	ctx, stop := context.WithCancel(f.t.Context())
	var all sync.WaitGroup
	f.t.Cleanup(func() { stop(); all.Wait() })
	all.Go(func() {
		for pause(ctx, period) {
			_, _ = forceTick(ctx, f.dbs[root], "q")
		}
	})
}

// A node that comes again under the name of one that was dropped keeps its subscription, though its provider reads of
// the drop only afterwards.
func TestAlone_DroppedAndMadeAgain(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n1"})
	f.carry(f.admin("n1").PlanDrop(f.topology("n1"), "n3"))
	f.tick("n1")
	f.carry(f.admin("n1").PlanPause(f.topology("n1"), "n2", "", true, false))
	if _, err := f.tryCreate(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n2"}); !errors.Is(err, cascade.ErrRefused) || !strings.Contains(err.Error(), "paused") {
		t.Errorf("below a paused node that has not heard of the drop: %v", err)
	}
	f.carry(f.admin("n1").PlanPause(f.topology("n1"), "n2", "", false, false))
	f.ticks("n1", 100*time.Millisecond)
	f.work("n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n2"})
	f.whole()
	f.carry(f.admin("n1").PlanRename(f.topology("n1"), "n3", "n4"))
	f.carry(f.admin("n1").PlanRename(f.topology("n1"), "n4", "n3")) // whose old name n2 has not forgotten yet
	f.whole()
}

// Two moves that are right one by one would make a ring together.
func TestAlone_NoRing(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n1"})
	f.work("n1", "n2", "n3")
	one := ok[*cascade.Change](t)(f.admin("n2").PlanChangeProvider(f.topology("n2"), "n2", "", "n3"))
	two := ok[*cascade.Change](t)(f.admin("n3").PlanChangeProvider(f.topology("n3"), "n3", "", "n2"))
	if err := one.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := two.Run(t.Context(), nil); !errors.Is(err, cascade.ErrRefused) || !strings.Contains(err.Error(), "circle") {
		t.Errorf("the second half of a ring: %v, want it refused", err)
	}
	f.whole()
}

// A command waits for another one to end, and says who it is when that does not; one that dies holds nothing.
func TestAlone_NamesTheHolder(t *testing.T) {
	t.Parallel()
	f := three(t)
	db, err := pgx.Connect(t.Context(), f.dsn["n2"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(t.Context())) }()
	const hold = `
select set_config('application_name', 'skyd node (elsewhere/4711)', false), pg_advisory_lock(1936423268, hashtext('q'))`
	if _, err := db.Exec(t.Context(), hold); err != nil {
		t.Fatal(err)
	}
	plan := ok[*cascade.Change](t)(f.admin("n1").PlanChangeProvider(f.topology("n1"), "n3", "", "n1"))
	if err := plan.Run(t.Context(), nil); !errors.Is(err, cascade.ErrRefused) || !strings.Contains(err.Error(), "elsewhere/4711") || strings.Contains(err.Error(), "\n") {
		t.Errorf("beside another command: %v, want it refused with the other's name", err)
	}
	if got := f.topology("n1").Node("n3").Provider; got != "n2" {
		t.Errorf("n3 reads from %s after the refusal", got)
	}
	if err := db.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := plan.Run(t.Context(), nil); err != nil {
		t.Errorf("after the other has died: %v", err)
	}
	if len(f.topology("n1").Problems) > 0 {
		t.Errorf("problems: %q", f.topology("n1").Problems)
	}
}
