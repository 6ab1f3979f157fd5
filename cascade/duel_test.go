package cascade_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
)

// TestWorkerRivals lets two workers of each node work at the same time, without a lease, while their connections break:
// every batch takes effect once.
func TestWorkerRivals(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*seeds) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			rivals(t, seed)
		})
	}
}

func rivals(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "b", cascade.Branch, "r")
	tr.add(skydHost, "l", cascade.Leaf, "b")
	tr.exec("l", makeApplied)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var proxies []*pgtest.Proxy
	for _, name := range []string{"b", "b", "l", "l"} {
		proxy := pgtest.NewProxy(t, tr.nodes[name].dsn)
		proxies = append(proxies, proxy)
		o := cascade.WorkerOptions{MarkPeriod: time.Nanosecond}
		if name == "l" {
			o.Applier = tableApplier{}
		}
		w := cascade.NewWorker(open(t, proxy.DSN(tr.nodes[name].dsn)), "q", o)
		wg.Go(func() {
			defer w.Close()
			for ctx.Err() == nil {
				_, _ = w.Step(ctx) // whatever it meets: what counts is what is there in the end
			}
		})
	}
	var last int64
	for i := range 40 {
		tr.insert("r", i*100, 1+rnd.IntN(30))
		last = tr.tick("r")
		if i%4 == 3 {
			proxies[rnd.IntN(len(proxies))].Reset()
		}
	}
	pgtest.Eventually(t, patience, "the leaf has completed the last tick", func() bool {
		return tr.completed("l") >= last && tr.top("b") >= last
	})
	cancel()
	wg.Wait()
	tr.sameTicks("r", "b")
	tr.sameBatches("r", "b", 1)
	if got, want := tr.applied("l"), inserted(tr.batches("r", 1)); !slices.Equal(got, want) {
		t.Errorf("seed %d: leaf has %d events, root %d", seed, len(got), len(want))
	}
}
