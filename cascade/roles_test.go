package cascade_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// TestSpecialEventsStopNobody: what cannot be understood is copied, counted and left alone; what can, is done.
func TestSpecialEventsStopNobody(t *testing.T) {
	onAll(t, func(t *testing.T, h host) {
		ctx := t.Context()
		tr := newTree(t, h, "r")
		tr.add(h, "b", cascade.Branch, "r")
		tr.exec("b", `select pgq_node.register_location('q', 'gone', 'dbname=gone', false)`)
		tr.exec("b", `select pgq_node.register_consumer('q', 'c', 'gone', 1)`)
		for _, ev := range []pgq.NewEvent{
			{Data: pgq.Str("no type")},
			{Type: pgq.Str("pgq.unheard-of"), Extra1: pgq.Str("q")},
			{Type: pgq.Str("pgq.global-watermark"), Data: pgq.Str("1"), Extra1: pgq.Str("another")},
			{Type: pgq.Str("pgq.global-watermark"), Data: pgq.Str("one"), Extra1: pgq.Str("q")},
			{Type: pgq.Str("pgq.global-watermark"), Extra1: pgq.Str("q")},
			{Type: pgq.Str("pgq.tick-id"), Data: pgq.Str("1"), Extra1: pgq.Str("q")},
			{Type: pgq.Str("pgq.location-info"), Extra1: pgq.Str("q")},
			{Type: pgq.Str("pgq.location-info"), Data: pgq.Str("x"), Extra1: pgq.Str("q"), Extra3: pgq.Str("maybe")},
			// the branch has a consumer that reads from there: a foreign key stands in the way
			{Type: pgq.Str("pgq.unregister-location"), Data: pgq.Str("gone"), Extra1: pgq.Str("q")},
			{Type: pgq.Str("pgq.unregister-location"), Data: pgq.Str("b"), Extra1: pgq.Str("q")}, // itself: 403
			{Type: pgq.Str("pgq.location-info"), Data: pgq.Str("new"), Extra1: pgq.Str("q"), Extra2: pgq.Str("dbname=new"), Extra3: pgq.Str("true")},
			{Type: pgq.Str("t"), Data: pgq.Str("after all of them")},
		} {
			ok[int64](t)(pgq.Insert(ctx, tr.db("r"), "q", ev))
		}
		last := tr.tick("r")
		w := tr.worker("b", cascade.WorkerOptions{})
		skipped := 0
		for tr.completed("b") < last {
			p, err := w.Step(ctx)
			if err != nil {
				t.Fatal(err)
			}
			skipped += p.Skipped
		}
		tr.follow(w, "b", last)
		tr.sameBatches("r", "b", 1)
		if skipped != 9 {
			t.Errorf("%d special events were skipped, want 9", skipped)
		}
		locs := ok[[]cascade.Location](t)(cascade.Locations(ctx, tr.db("b"), "q"))
		if !slices.Contains(locs, cascade.Location{Node: "new", Location: "dbname=new", Dead: true}) {
			t.Errorf("locations %+v", locs)
		}
	})
}

// blocker is an applier that does not return before its context ends.
type blocker struct{ begun chan struct{} }

func (b blocker) Apply(ctx context.Context, _ pgx.Tx, _ cascade.Batch, _ iter.Seq2[*pgq.Event, error]) error {
	b.begun <- struct{}{}
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestPauseIsSeen: a pause is confirmed while the worker idles, while a batch takes for ever, and between failures; and
// never by a look that is older than the pause.
func TestPauseIsSeen(t *testing.T) {
	t.Parallel()
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "l", cascade.Leaf, "r")
	begun := make(chan struct{}, 100)
	w := tr.worker("l", cascade.WorkerOptions{Applier: blocker{begun}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = w.Step(ctx)
		}
	}()
	defer func() { cancel(); <-ended }()
	pause := func(paused bool) {
		t.Helper()
		ok[cascade.Status](t)(cascade.SetPaused(t.Context(), tr.db("l"), "q", "l_w", paused))
		pgtest.Eventually(t, patience, "the worker has seen it", func() bool {
			st := ok[cascade.WorkerState](t)(cascade.GetWorkerState(t.Context(), tr.db("l"), "q"))
			return st.Uptodate && st.Paused == paused
		})
	}
	pause(true)
	pause(false)
	tr.insert("r", 1, 1)
	tr.tick("r")
	<-begun
	pause(true) // the batch gives way
	if n := tr.completed("l"); n != 1 {
		t.Errorf("position %d although the batch was given up", n)
	}
	pause(false)
	<-begun
}

// TestErrorsAreNoted: an error stands in the node's row, and goes when a batch succeeds.
func TestErrorsAreNoted(t *testing.T) {
	t.Parallel()
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "l", cascade.Leaf, "r")
	tr.insert("r", 1, 1)
	last := tr.tick("r")
	fail := true
	w := tr.worker("l", cascade.WorkerOptions{}.WithHook(func(point string) error {
		if point == "copied" && fail {
			return errors.New("the disk is on fire")
		}
		return nil
	}))
	if _, err := w.Step(t.Context()); err == nil {
		t.Fatal("the step went well")
	}
	state := func() cascade.WorkerState {
		return ok[cascade.WorkerState](t)(cascade.GetWorkerState(t.Context(), tr.db("l"), "q"))
	}
	if got := state().Error; !strings.Contains(got, "the disk is on fire") {
		t.Errorf("noted %q", got)
	}
	ok[cascade.Status](t)(cascade.SetPaused(t.Context(), tr.db("l"), "q", "l_w", true))
	if s, changed, err := w.Attend(t.Context()); err != nil || !changed || !s.Paused || !s.Uptodate {
		t.Errorf("attend: %+v %v %v", s, changed, err)
	}
	ok[cascade.Status](t)(cascade.SetPaused(t.Context(), tr.db("l"), "q", "l_w", false))
	fail = false
	tr.follow(w, "l", last)
	if got := state().Error; got != "" {
		t.Errorf("still noted: %q", got)
	}
}

// TestTickIsFetched: a worker dies between commit and tick, and its node gets another provider.
func TestTickIsFetched(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "b", cascade.Branch, "r")
	tr.insert("r", 1, 5)
	last := tr.tick("r")
	w := tr.worker("b", cascade.WorkerOptions{}.WithHook(func(point string) error {
		if point == "c" {
			return errKilled
		}
		return nil
	}))
	for tr.completed("b") < last {
		_, _ = w.Step(ctx)
	}
	w.Close()
	// The provider has finished the batch, or another one stands where the node has completed.
	tr.exec("r", `select pgq.register_consumer_at('q', 'b_w', $1)`, last)
	tr.insert("r", 6, 5)
	next := tr.tick("r")
	tr.follow(tr.worker("b", cascade.WorkerOptions{}), "b", next)
	tr.sameTicks("r", "b")
	tr.sameBatches("r", "b", 1)
}

// TestUnprivilegedWorker: membership in pgq_admin, and pgq_reader at the provider, is enough, also on a queue that the
// catalog closes.
func TestUnprivilegedWorker(t *testing.T) {
	t.Parallel()
	far := pgtest.DB(t)
	tr := newTree(t, func(testing.TB) string { return far.DSN }, "r")
	own := pgtest.DB(t)
	tr.add(func(testing.TB) string { return own.DSN }, "b", cascade.Branch, "r")
	tr.exec("b", `select pgq.close_queue('q')`)
	tr.exec("b", `select pgq_node.register_location('q', 'r', $1, false)`, far.DSNAs(far.Role(t, "pgq_reader")))
	w := cascade.NewWorker(open(t, own.DSNAs(own.Role(t, "pgq_admin"))), "q", cascade.WorkerOptions{MarkPeriod: time.Nanosecond})
	t.Cleanup(w.Close)
	tr.insert("r", 1, 100)
	last := tr.tick("r")
	tr.follow(w, "b", last)
	tr.sameTicks("r", "b")
	tr.sameBatches("r", "b", 1)
	pgtest.Eventually(t, patience, "the provider knows the watermark", func() bool {
		if _, err := w.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		subs := ok[[]cascade.Subscriber](t)(cascade.Subscribers(t.Context(), tr.db("r"), "q"))
		return len(subs) == 1 && subs[0].Watermark > 1
	})
}

// TestMergeLeaf: two part queues flow into one; the copy of the combined queue moves the leafs beside it, and goes on
// with their work when it becomes root.
func TestMergeLeaf(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c1, c2 := newTreeOf(t, "c", skydHost, "c1"), (*member)(nil)
	c2 = c1.add(skydHost, "c2", cascade.Branch, "c1")
	parts := map[string]*tree{}
	for _, name := range []string{"p1", "p2"} {
		p := newTreeOf(t, name, skydHost, name+"_root")
		for _, at := range []*member{c1.nodes["c1"], c2} {
			n := *at
			n.name = name + "_" + at.name
			p.order = append(p.order, n.name)
			p.addTo(&n, cascade.Leaf, name+"_root", "c")
		}
		parts[name] = p
	}
	round := func(combined string, at int) {
		for name, p := range parts {
			p.insert(name+"_root", at, 7)
			p.follow(p.worker(name+"_"+combined, cascade.WorkerOptions{}), name+"_"+combined, p.tick(name+"_root"))
		}
	}
	round("c1", 0)
	last := c1.tick("c1")
	c1.follow(c1.worker("c2", cascade.WorkerOptions{}), "c2", last)
	c1.sameTicks("c1", "c2")
	c1.sameBatches("c1", "c2", 1)
	data := inserted(c1.batches("c1", 1))
	if len(data) != 14 {
		t.Errorf("the combined queue has %d events, want 14: %q", len(data), data)
	}
	for name, p := range parts {
		if a, b := p.completed(name+"_c1"), p.completed(name+"_c2"); a != b || a <= 1 {
			t.Errorf("%s: positions %d and %d", name, a, b)
		}
		// The leaf behind the branch finishes what the combined queue has brought.
		w := p.worker(name+"_c2", cascade.WorkerOptions{})
		for range 3 {
			if pass, err := w.Step(ctx); err != nil || pass.Events > 0 && pass.Did != cascade.DidBatch {
				t.Errorf("%s: %+v %v", name, pass, err)
			}
		}
	}
	c1.exec("c2", `select pgq_node.promote_branch('c')`)
	round("c2", 100)
	if data := inserted(c1.batchesTicked("c2", 1)); len(data) != 28 {
		t.Errorf("after the promotion the combined queue has %d events, want 28", len(data))
	}
}

// TestSyncWatermark: a branch that waits for named nodes does not hold its provider, and keeps what they need.
func TestSyncWatermark(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "b", cascade.Branch, "r")
	tr.add(skydHost, "s", cascade.Branch, "b")
	ok[cascade.Status](t)(cascade.SetNodeAttrs(ctx, tr.db("b"), "q", cascade.FormatAttrs(map[string]string{cascade.AttrSyncWatermark: "b,s"})))
	root, b, s := tr.worker("r", cascade.WorkerOptions{}), tr.worker("b", cascade.WorkerOptions{}), tr.worker("s", cascade.WorkerOptions{})
	marks := func(name string) int64 {
		return ok[cascade.NodeInfo](t)(cascade.GetNodeInfo(ctx, tr.db(name), "q")).GlobalWatermark
	}
	var last int64
	for i := range 3 {
		tr.insert("r", i, 1)
		last = tr.tick("r")
		tr.follow(b, "b", last) // s stays behind
		if _, err := root.Step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if up := marks("r"); up <= 1 {
		t.Errorf("s holds the root at %d", up)
	}
	if here := marks("b"); here != 1 {
		t.Errorf("b does not keep what s needs: %d", here)
	}
	tr.follow(s, "s", last)
	last = tr.tick("r")
	tr.follow(b, "b", last)
	tr.follow(s, "s", last)
	pgtest.Eventually(t, patience, "the watermark of b follows s", func() bool {
		if _, err := b.Step(ctx); err != nil {
			t.Fatal(err)
		}
		return marks("b") > 1
	})
	if marks("b") > marks("r") {
		t.Errorf("watermarks: root %d, b %d", marks("r"), marks("b"))
	}
}

// TestBigBatch: a batch is copied chunk by chunk, and one event may be bigger than a chunk.
func TestBigBatch(t *testing.T) {
	t.Parallel()
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "b", cascade.Branch, "r")
	tr.exec("r", `select pgq.insert_event('q', 't', repeat(md5(i::text), 3000)) from generate_series(1, 100) i`)
	tr.exec("r", `select pgq.insert_event('q', 't', repeat('x', 5000000))`)
	tr.exec("r", `select pgq.insert_event('q', 't', null), pgq.insert_event('q', null, '')`)
	last := tr.tick("r")
	chunks := 0
	w := tr.worker("b", cascade.WorkerOptions{}.WithHook(func(point string) error {
		if point == "chunk" {
			chunks++
		}
		return nil
	}))
	began := time.Now()
	tr.follow(w, "b", last)
	t.Log("copied in", time.Since(began))
	if chunks < 10 {
		t.Errorf("%d chunks for 15 MB", chunks)
	}
	tr.sameBatches("r", "b", 1)
}

// TestBranchApplies: a branch copies and applies in one transaction; an applier that reads nothing or half costs the copy
// nothing, one that fails or panics rolls everything back.
func TestBranchApplies(t *testing.T) {
	t.Parallel()
	tr := newTree(t, skydHost, "r")
	tr.add(skydHost, "b", cascade.Branch, "r")
	tr.exec("b", makeApplied)
	for i, applier := range []applierFunc{
		tableApplier{}.Apply,
		func(context.Context, pgx.Tx, cascade.Batch, iter.Seq2[*pgq.Event, error]) error { return nil },
		func(_ context.Context, _ pgx.Tx, _ cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
			for _, err := range events {
				return err // after the first one
			}
			return nil
		},
	} {
		tr.insert("r", i*10, 10)
		tr.follow(tr.worker("b", cascade.WorkerOptions{Applier: applier}), "b", tr.tick("r"))
	}
	tr.insert("r", 100, 10)
	last := tr.tick("r")
	for _, applier := range []applierFunc{
		func(ctx context.Context, tx pgx.Tx, b cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
			return errors.Join(tableApplier{}.Apply(ctx, tx, b, events), errors.New("no"))
		},
		func(context.Context, pgx.Tx, cascade.Batch, iter.Seq2[*pgq.Event, error]) error { panic("no") },
	} {
		w := tr.worker("b", cascade.WorkerOptions{Applier: applier})
		if _, err := w.Step(t.Context()); err == nil || tr.completed("b") == last {
			t.Errorf("%v, position %d", err, tr.completed("b"))
		}
	}
	if got := len(tr.applied("b")); got != 10 {
		t.Errorf("%d rows, want 10", got)
	}
	tr.follow(tr.worker("b", cascade.WorkerOptions{Applier: tableApplier{}}), "b", last)
	if got := len(tr.applied("b")); got != 20 {
		t.Errorf("%d rows, want 20", got)
	}
	tr.sameTicks("r", "b")
	tr.sameBatches("r", "b", 1)
}

type applierFunc func(context.Context, pgx.Tx, cascade.Batch, iter.Seq2[*pgq.Event, error]) error

func (f applierFunc) Apply(ctx context.Context, tx pgx.Tx, b cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
	return f(ctx, tx, b, events)
}
