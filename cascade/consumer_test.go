package cascade_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// TestConsumerFollows: a consumer of a node registers, is moved between providers in the middle of the load, paused and
// resumed, and misses and doubles nothing. What the administration does by hand here is what its commands do.
func TestConsumerFollows(t *testing.T) {
	onAll(t, func(t *testing.T, h host) {
		ctx := t.Context()
		tr := newTree(t, h, "r")
		for _, name := range []string{"b1", "b2"} {
			tr.add(h, name, cascade.Branch, "r")
		}
		tr.exec("b1", makeApplied)
		stop := run(t, func(ctx context.Context) error {
			c := cascade.NewConsumer(tr.db("b1"), "q", "c", tableApplier{}, cascade.ConsumerOptions{
				Register: true, PollPeriod: 20 * time.Millisecond,
			})
			return c.Run(ctx)
		})
		defer stop()
		seen := func(want func(s cascade.ConsumerState) bool) {
			t.Helper()
			pgtest.Eventually(t, patience, "the consumer has seen its row", func() bool {
				s, err := cascade.GetConsumerState(ctx, tr.db("b1"), "q", "c")
				return err == nil && s.Uptodate && want(s)
			})
		}
		seen(func(s cascade.ConsumerState) bool { return s.Provider == "r" })
		other := tr.worker("b2", cascade.WorkerOptions{})
		inserted := 0
		load := func() (last int64) {
			for range 3 {
				inserted += 5
				tr.insert("r", inserted, 5)
				last = tr.tick("r")
			}
			return last
		}
		load()
		for _, move := range []struct{ from, to string }{{"r", "b2"}, {"b2", "r"}} {
			ok[cascade.Status](t)(cascade.SetPaused(ctx, tr.db("b1"), "q", "c", true))
			seen(func(s cascade.ConsumerState) bool { return s.Paused })
			tr.follow(other, "b2", load())
			s := ok[cascade.ConsumerState](t)(cascade.GetConsumerState(ctx, tr.db("b1"), "q", "c"))
			ok[bool](t)(pgq.RegisterConsumerAt(ctx, tr.db(move.to), "q", "c", s.Completed))
			ok[cascade.Status](t)(cascade.ChangeProvider(ctx, tr.db("b1"), "q", "c", move.to))
			ok[cascade.Status](t)(cascade.SetPaused(ctx, tr.db("b1"), "q", "c", false))
			seen(func(s cascade.ConsumerState) bool { return !s.Paused && s.Provider == move.to })
			ok[int](t)(pgq.UnregisterConsumer(ctx, tr.db(move.from), "q", "c"))
			tr.follow(other, "b2", load())
		}
		last := load()
		pgtest.Eventually(t, patience, "the consumer has completed the last tick", func() bool {
			return ok[cascade.ConsumerState](t)(cascade.GetConsumerState(ctx, tr.db("b1"), "q", "c")).Completed >= last
		})
		if got := tr.applied("b1"); len(got) != inserted {
			t.Errorf("%d events, want %d", len(got), inserted)
		}
		if !slices.IsSorted(tr.appliedIDs("b1")) {
			t.Error("events are out of order")
		}
	})
}

// TestConsumerStandsByOnRoot: on a root there is nothing to read; a missing registration is told.
func TestConsumerStandsByOnRoot(t *testing.T) {
	t.Parallel()
	tr := newTree(t, skydHost, "r")
	tr.exec("r", makeApplied)
	c := cascade.NewConsumer(tr.db("r"), "q", "c", tableApplier{}, cascade.ConsumerOptions{})
	if err := c.Run(t.Context()); cascade.Code(err) != cascade.CodeNotFound {
		t.Errorf("without a registration: %v", err)
	}
	ok[cascade.Status](t)(cascade.RegisterConsumer(t.Context(), tr.db("r"), "q", "c", "r", 1))
	stop := run(t, c.Run)
	defer stop()
	tr.insert("r", 1, 1)
	tr.tick("r")
	for _, paused := range []bool{true, false} {
		ok[cascade.Status](t)(cascade.SetPaused(t.Context(), tr.db("r"), "q", "c", paused))
		pgtest.Eventually(t, patience, "the standby answers", func() bool {
			s := ok[cascade.ConsumerState](t)(cascade.GetConsumerState(t.Context(), tr.db("r"), "q", "c"))
			return s.Uptodate && s.Paused == paused
		})
	}
	if got := tr.applied("r"); len(got) != 0 {
		t.Errorf("the standby applied %q", got)
	}
}

// run runs f until the returned function is called, which fails the test when f did.
func run(t *testing.T, f func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}
