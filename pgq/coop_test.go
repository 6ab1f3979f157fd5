package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// onAll runs a test on skyd's SQL and beside the C extension.
func onAll(t *testing.T, test func(t *testing.T, db *pgq.DB)) {
	t.Parallel()
	t.Run("skyd", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, pgtest.DB(t).DSN, pgq.WithMaxConns(12)))
	})
	t.Run("extension", func(t *testing.T) {
		t.Parallel()
		db := pgtest.Extension(t)
		_, err := pgqsql.Install(t.Context(), db.Conn(t), pgqsql.Options{})
		must(t)(nil, err)
		test(t, open(t, db.DSN, pgq.WithMaxConns(12)))
	})
}

// quickCoop is CoopOptions with short times.
func quickCoop(dead time.Duration) pgq.CoopOptions {
	return pgq.CoopOptions{ConsumerOptions: quick(pgq.ConsumerOptions{}), DeadInterval: dead}
}

// runner is any consumer.
type runner interface {
	Run(ctx context.Context) error
}

// runIn runs a consumer until the returned stop function is called, which
// waits for it.
func runIn(t testing.TB, c runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run did not end within %v", patience)
		}
	})
	t.Cleanup(stop)
	return stop
}

func members(t testing.TB, db *pgq.DB) (names []string) {
	t.Helper()
	rows, err := db.Query(t.Context(), `select co_name from pgq.subscription join pgq.consumer on co_id = sub_consumer order by 1`)
	must(t)(nil, err)
	names, err = pgx.CollectRows(rows, pgx.RowTo[string])
	must(t)(nil, err)
	return names
}

// Four members share the work: every event takes effect once, every member
// leaves when it is stopped, and rotation is not held.
func TestCoop_MembersShareTheBatches(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newQueue(t, db, "q")
		must(t)(db.Exec(t.Context(), `create table public.ledger (ev_id bigint, data text)`))
		must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
		var (
			stops   []func()
			batches [4]atomic.Int64
		)
		for i := range batches {
			h := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
				batches[i].Add(1)
				return book(ctx, tx, b)
			})
			stops = append(stops, runIn(t, pgq.NewCoopConsumer(db, "q", "c", fmt.Sprint("m", i), h, quickCoop(time.Minute))))
		}
		const events = 300
		for i := range events {
			insert(t, db, "q", fmt.Sprint(i))
			if i%3 == 2 {
				tick(t, db, "q")
			}
		}
		checkLedger(t, db, events)
		for _, stop := range stops {
			stop()
		}
		if got := members(t, db); !slices.Equal(got, []string{"c"}) {
			t.Errorf("after all have stopped: got %v, want only the main consumer", got)
		}
		t.Logf("batches: %d %d %d %d", batches[0].Load(), batches[1].Load(), batches[2].Load(), batches[3].Load())
	})
}

// A handler that takes many times the dead interval keeps its batch, because
// its member shows signs of life (T14).
func TestCoop_LongBatchIsNotStolen(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
		insert(t, db, "q", "slow")
		tick(t, db, "q")
		var calls atomic.Int64
		started, finish := make(chan struct{}, 10), make(chan struct{})
		h := pgq.EventHandler(func(ctx context.Context, _ *pgq.Event) error {
			calls.Add(1)
			started <- struct{}{}
			select {
			case <-finish:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		o := quickCoop(time.Second)
		o.Heartbeat = 50 * time.Millisecond
		stop := runIn(t, pgq.NewCoopConsumer(db, "q", "c", "slow", h, o))
		<-started
		// another member asks all the time, for three dead intervals
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
			var id *int64
			must(t)(nil, db.QueryRow(t.Context(), `select pgq_coop.next_batch('q', 'c', 'thief', '1 second')`).Scan(&id))
			if id != nil {
				t.Fatal("the batch of a living member was taken over")
			}
		}
		close(finish)
		pgtest.Eventually(t, patience, "batch is finished", func() bool {
			var open int
			err := db.QueryRow(t.Context(), `select count(sub_batch) from pgq.subscription`).Scan(&open)
			return err == nil && open == 0
		})
		stop()
		if calls.Load() != 1 {
			t.Errorf("handler was called %d times, want once", calls.Load())
		}
	})
}

// A member loses its batch while it works: its context ends, what it wrote is
// rolled back, and the effect of its successor is the only one.
func TestCoop_TakenOverInTheMiddle(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		t.Run("touch", func(t *testing.T) { takenOver(t, db, "q1") })
		// as on the original pgq_coop
		must(t)(db.Exec(t.Context(), `drop function pgq_coop.touch(bigint)`))
		t.Run("no touch", func(t *testing.T) { takenOver(t, db, "q2") })
	})
}

func takenOver(t *testing.T, db *pgq.DB, queue string) {
	ctx := t.Context()
	newQueue(t, db, queue)
	must(t)(db.Exec(ctx, `create table if not exists public.ledger (ev_id bigint, data text)`))
	must(t)(db.Exec(ctx, `truncate public.ledger`))
	must(t)(pgq.RegisterConsumer(ctx, db, queue, "c"))
	insert(t, db, queue, "a", "b")
	tick(t, db, queue)
	started, cause := make(chan struct{}), make(chan error, 1)
	first := true
	h := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
		if err := book(ctx, tx, b); err != nil {
			return err
		}
		if first {
			first = false
			close(started)
			<-ctx.Done()
			cause <- context.Cause(ctx)
		}
		return nil // as if nothing had happened
	})
	o := quickCoop(time.Minute)
	o.Heartbeat = 20 * time.Millisecond
	stop := runIn(t, pgq.NewCoopConsumer(db, queue, "c", "first", h, o))
	<-started
	// Nobody waits a minute: for the others the first one is dead now.
	var id int64
	must(t)(nil, db.QueryRow(ctx, `select pgq_coop.next_batch($1, 'c', 'second', '-1 minute')`, queue).Scan(&id))
	if err := <-cause; !errors.Is(err, pgq.ErrBatchGone) {
		t.Errorf("context of the handler ended with %v, want ErrBatchGone", err)
	}
	must(t)(nil, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `insert into public.ledger select ev_id, ev_data from pgq.get_batch_events($1)`, id); err != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, `select pgq_coop.finish_batch($1)`, id).Scan(&n); err != nil || n != 1 {
			return fmt.Errorf("finish of the successor: got %d, %w", n, err)
		}
		return nil
	}))
	insert(t, db, queue, "c")
	tick(t, db, queue)
	checkLedger(t, db, 3)
	stop()
}

func TestCoop_HandlersAndRetries(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		var seen journal
		h := pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(fmt.Sprint(ev.Data.String, ev.Retry))
			if ev.Data.String == "later" && ev.Retry == 0 {
				return pgq.RetryAfter(time.Nanosecond, errors.New("not yet"))
			}
			return nil
		})
		o := quickCoop(time.Minute)
		o.MaxMerge = 100
		stop := runIn(t, pgq.NewCoopConsumer(db, "q", "c", "one", h, o))
		insert(t, db, "q", "a", "later", "b")
		tick(t, db, "q")
		seen.waitFor(t, "a0", "later0", "b0")
		pgtest.Eventually(t, patience, "retry event moved", func() bool {
			n, err := pgq.RetryEvents(ctx, db)
			must(t)(nil, err)
			return n == 1
		})
		stop()
		// whoever of the group asks gets the retry
		runIn(t, pgq.NewCoopConsumer(db, "q", "c", "two", h, o))
		tick(t, db, "q")
		seen.waitFor(t, "a0", "later0", "b0", "later1")
	})
}

func TestCoop_RefusesAndLeaves(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		h := pgq.BatchHandler(func(context.Context, *pgq.Batch) error { return errors.New("no") })
		if err := pgq.NewCoopConsumer(db, "nq", "c", "m", h, quickCoop(0)).Run(ctx); !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("no queue: got %v, want ErrQueueNotFound", err)
		}
		must(t)(pgq.RegisterSubconsumer(ctx, db, "q", "c", "m"))
		if again, err := pgq.RegisterSubconsumer(ctx, db, "q", "c", "m"); again || err != nil {
			t.Errorf("registered twice: got %v, %v, want false", again, err)
		}
		insert(t, db, "q", "x")
		tick(t, db, "q")
		stop := runIn(t, pgq.NewCoopConsumer(db, "q", "c", "m", h, quickCoop(0)))
		pgtest.Eventually(t, patience, "member has a batch", func() bool {
			ci, err := pgq.GetConsumerInfo(ctx, db, "q", "c.m")
			return err == nil && ci.CurrentBatch != 0
		})
		stop()
		if got := members(t, db); !slices.Equal(got, []string{"c", "c.m"}) {
			t.Errorf("stopped with an open batch: got %v, want it to stay registered", got)
		}
		if _, err := pgq.UnregisterSubconsumer(ctx, db, "q", "c", "m", false); !errors.Is(err, pgq.ErrBatchOpen) {
			t.Errorf("unregister with open batch: got %v, want ErrBatchOpen", err)
		}
		if gone, err := pgq.UnregisterSubconsumer(ctx, db, "q", "c", "m", true); !gone || err != nil {
			t.Errorf("unregister and drop: got %v, %v", gone, err)
		}
		if gone, err := pgq.UnregisterSubconsumer(ctx, db, "q", "c", "m", true); gone || err != nil {
			t.Errorf("unregister nobody: got %v, %v", gone, err)
		}
	})
}

// The connection of one of two members is cut over and over: every event takes
// effect once.
func TestCoop_ExactlyOnceUnderCutConnections(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newQueue(t, db, "q")
		must(t)(db.Exec(t.Context(), `create table public.ledger (ev_id bigint, data text)`))
		must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
		dsn := db.Config().ConnString()
		proxy := pgtest.NewProxy(t, dsn)
		through := open(t, proxy.DSN(dsn))
		o := quickCoop(time.Second)
		o.Heartbeat = 10 * time.Millisecond
		runIn(t, pgq.NewCoopConsumer(through, "q", "c", "cut", pgq.BatchTxHandler(book), o))
		runIn(t, pgq.NewCoopConsumer(db, "q", "c", "whole", pgq.BatchTxHandler(book), o))
		total, step := 0, int64(97)
		if testing.Short() {
			step = 500
		}
		for n := int64(0); n < 3000; n += step {
			proxy.CutAfter(n)
			for range 4 {
				insert(t, db, "q", fmt.Sprint(n, "/", total))
				tick(t, db, "q")
				total++
			}
			checkLedger(t, db, total)
			proxy.Heal()
		}
	})
}
