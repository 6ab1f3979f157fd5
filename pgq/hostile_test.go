package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// What careless programs do to the client must end in a clear error, not in a panic, a silent loop or a lost event.

type runnerOf interface {
	Run(ctx context.Context) error
}

func TestHostile_NilHandlersAreRefused(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	for name, h := range map[string]pgq.Handler{
		"none": nil, "event": pgq.EventHandler(nil), "batch": pgq.BatchHandler(nil), "tx": pgq.BatchTxHandler(nil), "event tx": pgq.EventTxHandler(nil),
	} {
		for kind, r := range map[string]runnerOf{
			"plain":       pgq.NewConsumer(db, "q", "c", h, pgq.ConsumerOptions{}),
			"coop":        pgq.NewCoopConsumer(db, "q", "c", "m", h, pgq.CoopOptions{}),
			"partitioned": pgq.NewPartitionedConsumer(db, "q", "g", "w", h, pgq.PartitionedOptions{}),
			"remote":      pgq.NewRemoteConsumer(db, "q", "c", db, h, pgq.RemoteOptions{}),
		} {
			if err := r.Run(t.Context()); !errors.Is(err, pgq.ErrBadParameter) {
				t.Errorf("%s consumer with handler %s: got %v, want ErrBadParameter", kind, name, err)
			}
		}
	}
	if err := new(pgq.Consumer).Run(t.Context()); !errors.Is(err, pgq.ErrBadParameter) {
		t.Errorf("zero consumer: got %v, want ErrBadParameter", err)
	}
}

// A second Run of the same value is refused while the first one works, and fine after it.
func TestHostile_DoubleRun(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t), pgq.WithMaxConns(8))
	newQueue(t, db, "q")
	must(t)(pgq.CreateGroup(t.Context(), db, "q", "g", "ev_key", 2))
	entered := make(chan struct{}, 8)
	h := pgq.BatchHandler(func(ctx context.Context, _ *pgq.Batch) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	for name, r := range map[string]runnerOf{
		"plain":       pgq.NewConsumer(db, "q", "c", h, pgq.ConsumerOptions{Register: true}),
		"coop":        pgq.NewCoopConsumer(db, "q", "team", "m", h, pgq.CoopOptions{}),
		"partitioned": pgq.NewPartitionedConsumer(db, "q", "g", "w", h, pgq.PartitionedOptions{}),
	} {
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			feed := time.NewTicker(20 * time.Millisecond)
			for working := false; !working; {
				select {
				case <-entered:
					working = true
				case <-feed.C:
					insert(t, db, "q", "x")
					tick(t, db, "q")
				case err := <-done:
					t.Fatalf("%s: %v", name, err)
				}
			}
			feed.Stop()
			if err := r.Run(ctx); !errors.Is(err, pgq.ErrBadParameter) || !strings.Contains(err.Error(), "under way") {
				t.Errorf("%s: second Run: got %v, want a refusal", name, err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A pool that is closed under a running consumer ends it.
func TestHostile_ClosedPool(t *testing.T) {
	t.Parallel()
	dsn := newSkyd(t)
	db := open(t, dsn)
	newQueue(t, db, "q")
	for name, o := range map[string]pgq.ConsumerOptions{
		"polling": {Register: true, NoListen: true, PollInterval: time.Millisecond},
		"asking":  {Register: true, TickWait: time.Millisecond},
	} {
		victim := open(t, dsn)
		done := make(chan error, 1)
		go func() {
			o.BackoffMax = 10 * time.Millisecond
			done <- pgq.NewConsumer(victim, "q", "c", pgq.EventHandler(func(context.Context, *pgq.Event) error { return nil }), o).Run(t.Context())
		}()
		pgtest.Eventually(t, patience, "consumer is registered", func() bool {
			infos, err := pgq.ConsumerInfos(t.Context(), db)
			return err == nil && len(infos) == 1
		})
		victim.Close()
		select {
		case err := <-done:
			if !errors.Is(err, pgq.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", name, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the consumer of a closed pool goes on", name)
		}
		must(t)(pgq.UnregisterConsumer(t.Context(), db, "q", "c"))
	}
}

// One connection is enough for a consumer, whatever its handler; a worker that has to renew leases says that it is not.
func TestHostile_PoolOfOne(t *testing.T) {
	t.Parallel()
	dsn := newSkyd(t)
	setup := open(t, dsn)
	newQueue(t, setup, "q")
	one := open(t, dsn, pgq.WithMaxConns(1))
	var mu sync.Mutex
	got := map[string]int{}
	seen := func(name, data string) { mu.Lock(); defer mu.Unlock(); got[name+data]++ }
	each := func(ctx context.Context, name string, b *pgq.Batch) error {
		data, err := dataOf(ctx, b)
		for _, d := range data {
			seen(name, d)
		}
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for name, h := range map[string]pgq.Handler{
		"event": pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error { seen("event", ev.Data.String); return nil }),
		"batch": pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error { return each(ctx, "batch", b) }),
		"tx":    pgq.BatchTxHandler(func(ctx context.Context, _ pgx.Tx, b *pgq.Batch) error { return each(ctx, "tx", b) }),
	} {
		must(t)(pgq.RegisterConsumer(ctx, setup, "q", name))
		c := pgq.NewConsumer(one, "q", name, h, pgq.ConsumerOptions{PollInterval: 5 * time.Millisecond, FetchSize: 2})
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 10 {
		insert(t, setup, "q", fmt.Sprint(i))
		tick(t, setup, "q")
	}
	pgtest.Eventually(t, patience, "all events", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 30 })
	cancel()
	wg.Wait()
	err := pgq.NewPartitionedConsumer(one, "q", "g", "w", pgq.BatchHandler(func(context.Context, *pgq.Batch) error { return nil }),
		pgq.PartitionedOptions{Create: 1}).Run(t.Context())
	if !errors.Is(err, pgq.ErrBadParameter) || !strings.Contains(err.Error(), "two connections") {
		t.Errorf("worker of a group on one connection: got %v, want a refusal", err)
	}
}

// A handler that ends its goroutine, as FailNow of a test does, must not finish its batch.
func TestHostile_HandlerEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
	insert(t, db, "q", "precious")
	tick(t, db, "q")
	for name, h := range map[string]pgq.Handler{
		"event": pgq.EventHandler(func(context.Context, *pgq.Event) error { runtime.Goexit(); return nil }),
		"batch": pgq.BatchHandler(func(context.Context, *pgq.Batch) error { runtime.Goexit(); return nil }),
		"tx":    pgq.BatchTxHandler(func(context.Context, pgx.Tx, *pgq.Batch) error { runtime.Goexit(); return nil }),
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = pgq.NewConsumer(db, "q", "c", h, pgq.ConsumerOptions{}).Run(t.Context())
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("%s: Run hangs", name)
		}
		b := next(t, db, "q", "c")
		if data, err := dataOf(t.Context(), b); err != nil || len(data) != 1 {
			t.Errorf("%s: the batch has %v, %v afterwards, want its event", name, data, err)
		}
	}
}

// A context that has ended before the call has no effect in the database.
func TestHostile_EndedContext(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
	tick(t, db, "q")
	must(t)(nil, next(t, db, "q", "c").Finish(t.Context()))
	insert(t, db, "q", "1")
	tick(t, db, "q")
	b := next(t, db, "q", "c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"insert":     func() error { _, err := pgq.Insert(ctx, db, "q", pgq.NewEvent{}); return err },
		"batch":      func() error { _, err := pgq.InsertBatch(ctx, db, "q", make([]pgq.NewEvent, 3)); return err },
		"once":       func() error { _, _, err := pgq.InsertOnce(ctx, db, "q", "k", time.Hour, pgq.NewEvent{}); return err },
		"tick":       func() error { _, _, err := pgq.Tick(ctx, db, "q"); return err },
		"next":       func() error { _, err := pgq.NextBatch(ctx, db, "q", "c"); return err },
		"finish":     func() error { return b.Finish(ctx) },
		"retry":      func() error { return b.RetryEvent(ctx, 1, 0) },
		"unregister": func() error { _, err := pgq.UnregisterConsumer(ctx, db, "q", "c"); return err },
		"drop":       func() error { return pgq.DropQueue(ctx, db, "q", true) },
		"seek":       func() error { return pgq.SeekTick(ctx, db, "q", "c", 1) },
		"states":     func() error { _, err := pgq.LoadTickStates(ctx, db); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", name, err)
		}
	}
	if again := next(t, db, "q", "c"); again.ID != b.ID {
		t.Errorf("batch %d is open, want %d untouched", again.ID, b.ID)
	}
	if s := state(t, db, "q"); s.NewEvents() != 0 {
		t.Errorf("%d new events, want none", s.NewEvents())
	}
	must(t)(nil, b.Finish(t.Context()))
}
