package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// quick makes failures repeat soon.
func quick(o pgq.ConsumerOptions) pgq.ConsumerOptions {
	o.BackoffMin, o.BackoffMax = time.Millisecond, 50*time.Millisecond
	if o.PollInterval == 0 {
		o.PollInterval = 10 * time.Millisecond
	}
	return o
}

// journal collects what handlers saw.
type journal struct {
	mu   sync.Mutex
	data []string
}

func (l *journal) add(s ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.data = append(l.data, s...)
}

func (l *journal) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.data)
}

func (l *journal) waitFor(t testing.TB, want ...string) {
	t.Helper()
	pgtest.Eventually(t, patience, fmt.Sprintf("handler saw %v", want), func() bool {
		return slices.Equal(l.all(), want)
	})
}

func TestConsumer_EventHandlerInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		var seen journal
		c := pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(ev.Data.String)
			return nil
		}), quick(pgq.ConsumerOptions{FetchSize: 2}))
		stop := background(t, c)
		insert(t, db, "q", "a", "b", "c")
		tick(t, db, "q")
		tick(t, db, "q") // an empty batch on the way
		insert(t, db, "q", "d")
		tick(t, db, "q")
		seen.waitFor(t, "a", "b", "c", "d")
		must(t)(nil, stop())
	})
}

func TestConsumer_RegistersAndRefuses(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		h := pgq.BatchHandler(func(context.Context, *pgq.Batch) error { return nil })
		if err := pgq.NewConsumer(db, "q", "c", h, quick(pgq.ConsumerOptions{})).Run(ctx); !errors.Is(err, pgq.ErrNotSubscribed) {
			t.Errorf("not registered: got %v, want ErrNotSubscribed", err)
		}
		if err := pgq.NewConsumer(db, "nq", "c", h, quick(pgq.ConsumerOptions{Register: true})).Run(ctx); !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("no queue: got %v, want ErrQueueNotFound", err)
		}
		if err := pgq.NewConsumer(db, "q", "c", nil, quick(pgq.ConsumerOptions{})).Run(ctx); !errors.Is(err, pgq.ErrBadParameter) {
			t.Errorf("no handler: got %v, want ErrBadParameter", err)
		}
		stop := background(t, pgq.NewConsumer(db, "q", "c", h, quick(pgq.ConsumerOptions{Register: true})))
		pgtest.Eventually(t, patience, "consumer is registered", func() bool {
			_, err := pgq.GetConsumerInfo(ctx, db, "q", "c")
			return err == nil
		})
		must(t)(nil, stop())
		merged := quick(pgq.ConsumerOptions{MaxMerge: 10})
		if err := pgq.NewConsumer(db, "q", "nc", h, merged).Run(ctx); !errors.Is(err, pgq.ErrNotSubscribed) {
			t.Errorf("not registered, merging: got %v, want ErrNotSubscribed", err)
		}
	})
}

// At least once: a batch that failed comes back whole.
func TestConsumer_FailureDeliversTheWholeBatchAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		insert(t, db, "q", "a", "b", "c")
		tick(t, db, "q")
		var seen journal
		failures := []func() error{
			func() error { return errors.New("no") },
			func() error { panic("ouch") },
			func() error { return fmt.Errorf("theirs: %w", pgq.ErrQueueNotFound) }, // of another queue: not ours to end for
		}
		stop := background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(ev.Data.String)
			if ev.Data.String == "b" && len(failures) > 0 {
				fail := failures[0]
				failures = failures[1:]
				return fail()
			}
			return nil
		}), quick(pgq.ConsumerOptions{})))
		seen.waitFor(t, "a", "b", "a", "b", "a", "b", "a", "b", "c")
		must(t)(nil, stop())
	})
}

func TestConsumer_EventsToRetry(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		insert(t, db, "q", "a", "later", "b", "broken", "c")
		tick(t, db, "q")
		var seen journal
		stop := background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(fmt.Sprint(ev.Data.String, ev.Retry))
			switch {
			case ev.Data.String == "later" && ev.Retry == 0:
				return pgq.RetryAfter(time.Nanosecond, errors.New("not yet"))
			case ev.Data.String == "broken" && ev.Retry == 0:
				return errors.New("broken")
			}
			return nil
		}), quick(pgq.ConsumerOptions{EventRetry: time.Hour})))
		seen.waitFor(t, "a0", "later0", "b0", "broken0", "c0")
		var moved int
		pgtest.Eventually(t, patience, "retry event moved", func() bool {
			n, err := pgq.RetryEvents(ctx, db)
			must(t)(nil, err)
			moved += n
			return moved == 1
		})
		tick(t, db, "q")
		seen.waitFor(t, "a0", "later0", "b0", "broken0", "c0", "later1")
		must(t)(nil, stop())
		var left string
		if err := db.QueryRow(ctx, `select string_agg(ev_data, ',') from pgq.retry_queue`).Scan(&left); err != nil || left != "broken" {
			t.Errorf("retry queue: got %q, %v, want broken", left, err)
		}
	})
}

// With an hour between polls only a notification can bring the event; ticks
// before the consumer listens are found by its first look after that.
func TestConsumer_WokenByNotification(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		insert(t, db, "q", "before")
		tick(t, db, "q")
		var seen journal
		stop := background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(ev.Data.String)
			return nil
		}), quick(pgq.ConsumerOptions{PollInterval: time.Hour})))
		want := []string{"before"}
		seen.waitFor(t, want...)
		for i := range 20 {
			want = append(want, fmt.Sprint(i))
			insert(t, db, "q", fmt.Sprint(i))
			tick(t, db, "q")
			seen.waitFor(t, want...)
		}
		// The listening connection is cut: what comes meanwhile and later arrives.
		must(t)(db.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
			where datname = current_database() and query like 'listen%'`))
		for i := range 5 {
			want = append(want, fmt.Sprint("after", i))
			insert(t, db, "q", fmt.Sprint("after", i))
			tick(t, db, "q")
			seen.waitFor(t, want...)
		}
		must(t)(nil, stop())
	})
}

func TestConsumer_PollsWithoutNotifications(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		var seen journal
		stop := background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(ev.Data.String)
			return nil
		}), quick(pgq.ConsumerOptions{NoListen: true})))
		insert(t, db, "q", "a")
		tick(t, db, "q")
		seen.waitFor(t, "a")
		must(t)(nil, stop())
	})
}

func TestConsumer_MergesWaitingTicks(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		for i := range 20 {
			insert(t, db, "q", fmt.Sprint(i))
			tick(t, db, "q")
		}
		var (
			seen    journal
			batches journal
		)
		stop := background(t, pgq.NewConsumer(db, "q", "c", pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
			data, err := dataOf(ctx, b)
			seen.add(data...)
			batches.add(fmt.Sprint(b.PrevTickID, "-", b.TickID))
			return err
		}), quick(pgq.ConsumerOptions{MaxMerge: 1000})))
		seen.waitFor(t, numbers(20)...)
		tick(t, db, "q") // idle ticks only
		insert(t, db, "q", "last")
		tick(t, db, "q")
		seen.waitFor(t, append(numbers(20), "last")...)
		must(t)(nil, stop())
		if n := len(batches.all()); n != 2 {
			t.Errorf("got batches %v, want 20 ticks in one batch and one more", batches.all())
		}
	})
}

// A cancelled consumer leaves the batch its handler could not do, and finishes
// the one it could.
func TestConsumer_CancelInTheMiddleOfABatch(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(db.Exec(ctx, `create table public.seen (data text)`))
		for _, tx := range []bool{false, true} {
			for _, finish := range []bool{false, true} {
				name := fmt.Sprintf("tx=%v finish=%v", tx, finish)
				must(t)(pgq.RegisterConsumer(ctx, db, "q", name))
				insert(t, db, "q", "a")
				tick(t, db, "q")
				started := make(chan struct{})
				work := func(ctx context.Context) error {
					close(started)
					<-ctx.Done()
					if finish {
						return nil
					}
					return ctx.Err()
				}
				var h pgq.Handler = pgq.BatchHandler(func(ctx context.Context, _ *pgq.Batch) error { return work(ctx) })
				if tx {
					h = pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, _ *pgq.Batch) error {
						if _, err := tx.Exec(ctx, `insert into public.seen values ($1)`, name); err != nil {
							return err
						}
						return work(ctx)
					})
				}
				stop := background(t, pgq.NewConsumer(db, "q", name, h, quick(pgq.ConsumerOptions{})))
				<-started
				if err := stop(); err != nil {
					t.Errorf("%s: Run returned %v, want nil", name, err)
				}
				ci, err := pgq.GetConsumerInfo(ctx, db, "q", name)
				must(t)(nil, err)
				if isOpen := ci.CurrentBatch != 0; isOpen == finish {
					t.Errorf("%s: got open batch %d, want open %v", name, ci.CurrentBatch, !finish)
				}
				if !finish {
					if data, err := dataOf(ctx, next(t, db, "q", name)); err != nil || !slices.Equal(data, []string{"a"}) {
						t.Errorf("%s: redelivery: got %v, %v, want the whole batch", name, data, err)
					}
				}
				var rows int
				must(t)(nil, db.QueryRow(ctx, `select count(*) from public.seen where data = $1`, name).Scan(&rows))
				if want := map[bool]int{true: 1}[tx && finish]; rows != want {
					t.Errorf("%s: got %d rows, want %d", name, rows, want)
				}
			}
		}
	})
}

// Two Run of one consumer at once: the transactional handler takes effect once
// for each event, whoever wins.
func TestConsumer_TwoAtOnceTakeEffectOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		const events = 200
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		must(t)(db.Exec(ctx, `create table public.ledger (ev_id bigint, data text)`))
		for range 2 {
			background(t, pgq.NewConsumer(db, "q", "c", pgq.BatchTxHandler(book), quick(pgq.ConsumerOptions{})))
		}
		for i := range events {
			insert(t, db, "q", fmt.Sprint(i))
			tick(t, db, "q")
		}
		checkLedger(t, db, events)
	})
}

// book writes every event into the ledger.
func book(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into public.ledger values ($1, $2)`, ev.ID, ev.Data.String); err != nil {
			return err
		}
	}
	return nil
}

// checkLedger waits until the ledger has as many rows as wanted and makes sure
// that no event is there twice.
func checkLedger(t testing.TB, db *pgq.DB, want int) {
	t.Helper()
	var rows, distinct int
	pgtest.Eventually(t, patience, fmt.Sprintf("%d events in the ledger", want), func() bool {
		err := db.QueryRow(t.Context(), `select count(*), count(distinct data) from public.ledger`).Scan(&rows, &distinct)
		return err == nil && distinct >= want
	})
	if rows != want || distinct != want {
		t.Errorf("got %d rows of %d events, want %d", rows, distinct, want)
	}
}

func TestConsumer_EmptyBatchesOnRequest(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		for _, name := range []string{"plain", "tx"} {
			must(t)(pgq.RegisterConsumer(ctx, db, "q", name))
		}
		var seen journal
		background(t, pgq.NewConsumer(db, "q", "plain", pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
			data, err := dataOf(ctx, b)
			seen.add(fmt.Sprint("plain", len(data)))
			return err
		}), quick(pgq.ConsumerOptions{EmptyBatches: true})))
		tick(t, db, "q")
		seen.waitFor(t, "plain0")
		background(t, pgq.NewConsumer(db, "q", "tx", pgq.BatchTxHandler(func(ctx context.Context, _ pgx.Tx, b *pgq.Batch) error {
			seen.add("tx")
			return b.Finish(ctx) // in the same transaction: allowed
		}), quick(pgq.ConsumerOptions{EmptyBatches: true})))
		seen.waitFor(t, "plain0", "tx")
		pgtest.Eventually(t, patience, "batch finished", func() bool {
			ci, err := pgq.GetConsumerInfo(ctx, db, "q", "tx")
			return err == nil && ci.CurrentBatch == 0 && ci.LastTick == 2
		})
	})
}
