package cascade_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/skytools/skyd/cascade"
)

// TestWorkerCopies follows events through a branch to a leaf, and the watermarks back and forth.
func TestWorkerCopies(t *testing.T) {
	onAll(t, func(t *testing.T, h host) {
		tr := newTree(t, h, "r")
		tr.add(h, "b", cascade.Branch, "r")
		tr.add(h, "l", cascade.Leaf, "b")
		tr.exec("l", makeApplied)
		root := tr.worker("r", cascade.WorkerOptions{})
		branch := tr.worker("b", cascade.WorkerOptions{Node: "b"})
		leaf := tr.worker("l", cascade.WorkerOptions{Applier: tableApplier{}})
		for i := range 4 {
			tr.insert("r", i*10, 10)
			last := tr.tick("r")
			tr.follow(branch, "b", last)
			tr.follow(leaf, "l", last)
			if _, err := root.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		last := tr.tick("r")
		tr.follow(branch, "b", last)
		tr.follow(leaf, "l", last)
		tr.sameTicks("r", "b")
		tr.sameBatches("r", "b", 1)
		want := inserted(tr.batches("r", 1))
		if got := tr.applied("l"); len(got) != 40 || !slices.Equal(got, want) {
			t.Errorf("leaf has %d events: %q", len(got), got)
		}
		info := ok[cascade.NodeInfo](t)(cascade.GetNodeInfo(t.Context(), tr.db("r"), "q"))
		below := ok[cascade.NodeInfo](t)(cascade.GetNodeInfo(t.Context(), tr.db("b"), "q"))
		if info.GlobalWatermark <= 1 || below.GlobalWatermark <= 1 || below.GlobalWatermark > info.GlobalWatermark {
			t.Errorf("global watermark: root %d, branch %d", info.GlobalWatermark, below.GlobalWatermark)
		}
		if st := ok[cascade.WorkerState](t)(cascade.GetWorkerState(t.Context(), tr.db("b"), "q")); !st.Uptodate || st.Error != "" {
			t.Errorf("state of the branch %+v", st)
		}
	})
}

var seeds = flag.Int("cascade.seeds", 2, "how many orders of kills TestWorkerKilled and TestWorkerRivals try")

// TestWorkerKilled ends workers at every point of a batch, in every order that the seeds bring, and looks for gaps and
// doubles.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*seeds) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			killedRun(t, seed, 6)
		})
	}
}

// killedRun makes one cascade and kills in it.
func killedRun(t *testing.T, seed uint64, rounds int) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "b1", cascade.Branch, "r")
	tr.add(skydHost, "b2", cascade.Branch, "b1")
	tr.add(skydHost, "l", cascade.Leaf, "b1")
	tr.exec("l", makeApplied)
	points := []string{"a", "b", "chunk", "copied", "c", "d", "e", "f"}
	killed := map[string]int{}
	var last int64
	for round := range rounds {
		for range 1 + rnd.IntN(4) {
			if n := rnd.IntN(20); n > 0 {
				tr.insert("r", round*1000, n)
			}
			last = tr.tick("r")
		}
		for _, name := range []string{"b1", "b2", "l"} {
			o := cascade.WorkerOptions{}
			if name == "l" {
				o.Applier = tableApplier{}
			}
			for range 4 {
				point, skip := points[rnd.IntN(len(points))], rnd.IntN(3)
				w := tr.worker(name, o.WithHook(func(p string) error {
					if p != point {
						return nil
					}
					if skip--; skip >= 0 {
						return nil
					}
					killed[point]++
					return errKilled
				}))
				for range 12 {
					p, err := w.Step(t.Context())
					if errors.Is(err, errKilled) || err == nil && p.Did == cascade.DidNothing {
						break
					}
					if err != nil {
						t.Fatalf("seed %d, %s killed at %s: %v", seed, name, point, err)
					}
				}
				w.Close()
			}
		}
	}
	for _, name := range []string{"b1", "b2", "l"} {
		o := cascade.WorkerOptions{}
		if name == "l" {
			o.Applier = tableApplier{}
		}
		tr.follow(tr.worker(name, o), name, last)
	}
	for _, name := range []string{"b1", "b2"} {
		tr.sameTicks("r", name)
		tr.sameBatches("r", name, 1)
	}
	if got, want := tr.applied("l"), inserted(tr.batches("r", 1)); !slices.Equal(got, want) {
		t.Errorf("seed %d: leaf has %d events, root %d", seed, len(got), len(want))
	}
	if len(killed) < len(points)-2 {
		t.Errorf("seed %d: killed at %v only", seed, killed)
	}
}
