package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// runConsumer runs a consumer until the test ends and gives its events.
func runConsumer(t *testing.T, db *pgq.DB, queue, name string, o pgq.ConsumerOptions) <-chan string {
	t.Helper()
	got := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	c := pgq.NewConsumer(db, queue, name, pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
		got <- ev.Data.String
		return nil
	}), o)
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return got
}

func wantEvent(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case data := <-got:
		if data != want {
			t.Fatalf("got event %s, want %s", data, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("event %s did not come", want)
	}
}

// Nobody else ticks here, and polling alone would take 10 s.
func TestConsumer_AsksForItsTicks(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]pgq.ConsumerOptions{
		"listening": {},
		"polling":   {NoListen: true},
		"chunks":    {FetchSize: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, queue := queueHere(t)
			o.Register, o.TickWait = true, 2*time.Millisecond
			one := runConsumer(t, db, queue, "one", o)
			two := runConsumer(t, db, queue, "two", o)
			waitSubscribed(t, db, queue, 2)
			for i := range 5 {
				begin := time.Now()
				for j := range 3 {
					must(t)(pgq.Insert(t.Context(), db, queue, pgq.NewEvent{Data: pgq.Str(fmt.Sprintf("%d.%d", i, j))}))
				}
				for j := range 3 {
					wantEvent(t, one, fmt.Sprintf("%d.%d", i, j))
					wantEvent(t, two, fmt.Sprintf("%d.%d", i, j))
				}
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("round %d took %v: nobody asked for a tick", i, took)
				}
			}
			// a commit that moves no counter
			tx, err := db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			must(t)(pgq.Insert(t.Context(), tx, queue, pgq.NewEvent{Data: pgq.Str("late")}))
			must(t)(pgq.Insert(t.Context(), db, queue, pgq.NewEvent{Data: pgq.Str("early")}))
			wantEvent(t, one, "early")
			begin := time.Now()
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantEvent(t, one, "late")
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("the late commit took %v", took)
			}
		})
	}
}

func queueHere(t *testing.T) (*pgq.DB, string) {
	t.Helper()
	db := open(t, newSkyd(t))
	newQueue(t, db, "q")
	return db, "q"
}

func waitSubscribed(t *testing.T, db *pgq.DB, queue string, n int) {
	t.Helper()
	pgtest.Eventually(t, 30*time.Second, "consumers registered", func() bool {
		infos, err := pgq.QueueConsumerInfos(t.Context(), db, queue)
		return err == nil && len(infos) == n
	})
}

// Without pgq.receive_batch the calls of the contract do.
func TestConsumer_FallsBackToPlainCalls(t *testing.T) {
	t.Parallel()
	db, queue := queueHere(t)
	if _, err := db.Exec(t.Context(), "drop function pgq.receive_batch"); err != nil {
		t.Fatal(err)
	}
	got := runConsumer(t, db, queue, "c", pgq.ConsumerOptions{Register: true, TickWait: 2 * time.Millisecond, PollInterval: 5 * time.Millisecond})
	waitSubscribed(t, db, queue, 1)
	must(t)(pgq.Insert(t.Context(), db, queue, pgq.NewEvent{Data: pgq.Str("x")}))
	tick(t, db, queue)
	wantEvent(t, got, "x")
}

// What the handler wrote and the next batch that was opened with it must come
// to nothing together, and the batch must be delivered again.
func TestConsumer_FusedTransactionIsExactlyOnce(t *testing.T) {
	t.Parallel()
	db, queue := queueHere(t)
	if _, err := db.Exec(t.Context(), "create table public.done (data text primary key)"); err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := pgq.NewConsumer(db, queue, "c", pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "insert into public.done values ($1)", ev.Data); err != nil {
				return err
			}
			if !failed[ev.Data.String] {
				failed[ev.Data.String] = true
				return errors.New("once")
			}
		}
		return nil
	}), pgq.ConsumerOptions{Register: true, TickWait: 2 * time.Millisecond, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	waitSubscribed(t, db, queue, 1)
	const n = 20
	for i := range n {
		must(t)(pgq.Insert(t.Context(), db, queue, pgq.NewEvent{Data: pgq.Str(fmt.Sprint(i))}))
	}
	pgtest.Eventually(t, 30*time.Second, "all events done", func() bool {
		var count int
		err := db.QueryRow(ctx, "select count(*) from public.done").Scan(&count)
		return err == nil && count == n
	})
	cancel()
	wg.Wait()
}

// A server that takes a call and never answers must not hold a consumer for ever.
func TestConsumer_NoticesAFrozenServer(t *testing.T) {
	t.Parallel()
	dsn := newSkyd(t)
	direct := open(t, dsn)
	newQueue(t, direct, "q")
	proxy := pgtest.NewProxy(t, dsn)
	noticed := make(chan struct{}, 100)
	got := runConsumer(t, open(t, proxy.DSN(dsn)), "q", "c", pgq.ConsumerOptions{
		Register: true, NoListen: true, PollInterval: 20 * time.Millisecond, CallTimeout: 300 * time.Millisecond,
		Logger: slog.New(failures{noticed}),
	})
	waitSubscribed(t, direct, "q", 1)
	proxy.Freeze()
	select {
	case <-noticed:
	case <-time.After(time.Minute):
		t.Error("the consumer waits for its answer")
	}
	proxy.Thaw()
	insert(t, direct, "q", "after")
	tick(t, direct, "q")
	wantEvent(t, got, "after")
}

// failures tells of every warning.
type failures struct{ c chan<- struct{} }

func (f failures) Enabled(context.Context, slog.Level) bool { return true }
func (f failures) WithAttrs([]slog.Attr) slog.Handler       { return f }
func (f failures) WithGroup(string) slog.Handler            { return f }
func (f failures) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		select {
		case f.c <- struct{}{}:
		default:
		}
	}
	return nil
}
