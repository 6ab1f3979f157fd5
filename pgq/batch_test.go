package pgq_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

func numbers(n int) []string {
	data := make([]string, n)
	for i := range data {
		data[i] = fmt.Sprint(i)
	}
	return data
}

func TestBatch_ReadsTheSameWhateverTheFetchSize(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		want := numbers(25)
		insert(t, db, "q", want...)
		tick(t, db, "q")
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		conn, err := db.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		for _, size := range []int{1, 2, 5, 24, 25, 26, 1000} {
			b := next(t, db, "q", "c")
			b.SetFetchSize(size)
			wrong := *b
			wrong.SeqStart, wrong.SeqEnd = 7, 7 // the counter may say anything
			huge := *b
			huge.SeqEnd += 1 << 40
			for name, b := range map[string]*pgq.Batch{
				"pool": b, "tx": b.With(tx), "conn": b.With(conn.Conn()), "counter too low": &wrong, "counter too high": &huge,
			} {
				if got, err := dataOf(ctx, b); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s, fetch size %d: got %v, %v, want %v", name, size, got, err, want)
				}
			}
		}
		// Two readers at once in one transaction, and one that stops early.
		b := next(t, db, "q", "c").With(tx)
		b.SetFetchSize(2)
		n := 0
		for _, err := range b.Events(ctx) {
			must(t)(nil, err)
			if got, err := dataOf(ctx, b); err != nil || len(got) != 25 {
				t.Fatalf("inner: got %v, %v", got, err)
			}
			if n++; n == 3 {
				break
			}
		}
		if used := db.Stat().AcquiredConns(); used != 2 {
			t.Errorf("got %d connections in use, want the 2 of this test", used)
		}
	})
}

// A connection that is in a transaction begun by hand stays in it.
func TestBatch_ReadsInATransactionBegunByHand(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		insert(t, db, "q", numbers(5)...)
		tick(t, db, "q")
		conn, err := pgx.ConnectConfig(ctx, db.Config().ConnConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		must(t)(conn.Exec(ctx, "begin"))
		must(t)(conn.Exec(ctx, "create table public.mine (n int)"))
		b := next(t, db, "q", "c").With(conn)
		b.SetFetchSize(2)
		if got, err := dataOf(ctx, b); err != nil || len(got) != 5 {
			t.Errorf("got %v, %v", got, err)
		}
		must(t)(conn.Exec(ctx, "commit"))
		must(t)(conn.Exec(ctx, "select from public.mine"))
	})
}

func TestBatch_FinishTellsWhenItIsGone(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		if b, err := pgq.NextBatch(ctx, db, "q", "c"); b != nil || err != nil {
			t.Fatalf("no tick yet: got %v, %v, want none", b, err)
		}
		insert(t, db, "q", "x")
		id := tick(t, db, "q")
		b := next(t, db, "q", "c")
		if again := next(t, db, "q", "c"); again.ID != b.ID {
			t.Errorf("got batch %d, then %d, want the open one again", b.ID, again.ID)
		}
		if b.TickID != id || b.PrevTickID != id-1 || !b.TickTime.After(b.PrevTickTime) || b.SeqEnd <= b.SeqStart {
			t.Errorf("got %+v, want it to end at tick %d", b, id)
		}
		must(t)(nil, b.Finish(ctx))
		if err := b.Finish(ctx); !errors.Is(err, pgq.ErrBatchGone) {
			t.Errorf("second finish: got %v, want ErrBatchGone", err)
		}
		if _, err := dataOf(ctx, b); !errors.Is(err, pgq.ErrBatchGone) {
			t.Errorf("read after finish: got %v, want ErrBatchGone", err)
		}
	})
}

func TestBatch_RetryRoundTrip(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		for _, c := range []string{"c", "other"} {
			must(t)(pgq.RegisterConsumer(ctx, db, "q", c))
		}
		ids := insert(t, db, "q", "a", "b", "c")
		tick(t, db, "q")
		b := next(t, db, "q", "c")
		must(t)(nil, b.RetryEvent(ctx, ids[1], 0))
		must(t)(nil, b.RetryEvent(ctx, ids[1], time.Hour)) // waits already: left alone
		must(t)(nil, b.RetryEvent(ctx, ids[2], time.Hour))
		if n, err := b.RetryAll(ctx, time.Hour); err != nil || n != 1 {
			t.Errorf("retry all: got %d, %v, want the one that was left", n, err)
		}
		must(t)(nil, b.Finish(ctx))
		if n, err := pgq.RetryEvents(ctx, db); err != nil || n != 1 {
			t.Fatalf("move retry events: got %d, %v, want 1", n, err)
		}
		tick(t, db, "q")
		for ev, err := range next(t, db, "q", "c").Events(ctx) {
			if err != nil || ev.ID != ids[1] || ev.Retry != 1 || ev.Data.String != "b" {
				t.Errorf("got %+v, %v, want event %d for the first retry", ev, err, ids[1])
			}
		}
		must(t)(nil, next(t, db, "q", "other").Finish(ctx))
		if data, err := dataOf(ctx, next(t, db, "q", "other")); err != nil || len(data) != 0 {
			t.Errorf("other consumer: got %v, %v, want nothing", data, err)
		}
	})
}

func TestNextBatchCustom_MergesTicks(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		for range 4 {
			insert(t, db, "q", "x", "y")
			tick(t, db, "q")
		}
		b, err := pgq.NextBatchCustom(ctx, db, "q", "c", pgq.BatchLimits{MinCount: 5})
		if err != nil || b == nil {
			t.Fatalf("got %v, %v, want a batch", b, err)
		}
		if data, err := dataOf(ctx, b); err != nil || len(data) != 8 {
			t.Errorf("got %v, %v, want all 8 events", data, err)
		}
		must(t)(nil, b.Finish(ctx))
		b, err = pgq.NextBatchCustom(ctx, db, "q", "c", pgq.BatchLimits{MinLag: time.Hour})
		if b != nil || err != nil {
			t.Errorf("min lag: got %v, %v, want none", b, err)
		}
	})
}

// 100,000 events of 1 kB are read with a few MB of memory.
func TestBatch_MemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("inserts 100,000 events")
	}
	// Not parallel: it measures the heap of the process.
	const (
		events = 100_000
		size   = 1000
		limit  = 20 << 20
	)
	db := open(t, newSkyd(t))
	ctx := t.Context()
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
	must(t)(db.Exec(ctx, `select pgq.insert_event('q', 't', repeat('x', $2)) from generate_series(1, $1)`, events, size))
	tick(t, db, "q")
	b := next(t, db, "q", "c")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most, n := heap(), uint64(0), 0
	for ev, err := range b.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if len(ev.Data.String) != size || strings.Trim(ev.Data.String, "x") != "" {
			t.Fatalf("event %d is not what was inserted", ev.ID)
		}
		if n++; n%5000 == 0 {
			most = max(most, heap())
		}
	}
	if n != events {
		t.Errorf("got %d events, want %d", n, events)
	}
	t.Logf("heap %.1f MB before, at most %.1f MB while reading %d MB", float64(before)/(1<<20), float64(most)/(1<<20), events*size>>20)
	if most > before+limit {
		t.Errorf("heap grew from %d to %d bytes, want at most %d more", before, most, limit)
	}
}
