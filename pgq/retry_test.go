package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// openBatch makes a queue with consumer c and a batch of so many events.
func openBatch(t *testing.T, db *pgq.DB, events int) (b *pgq.Batch, ids []int64) {
	t.Helper()
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
	must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "other"))
	ids = insert(t, db, "q", numbers(events)...)
	tick(t, db, "q")
	return next(t, db, "q", "c"), ids
}

// again moves what is due and opens the next batch of c.
func again(t *testing.T, db *pgq.DB) *pgq.Batch {
	t.Helper()
	must(t)(pgq.RetryEvents(t.Context(), db))
	tick(t, db, "q")
	return next(t, db, "q", "c")
}

func TestBatch_RetrySendsASetRound(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		b, ids := openBatch(t, db, 2000)
		if n, err := b.Retry(ctx, -time.Second, ids[10:]...); err != nil || n != 1990 {
			t.Fatalf("retry: got %d, %v, want 1990", n, err)
		}
		if n, err := b.Retry(ctx, 0, ids[9:11]...); err != nil || n != 1 {
			t.Errorf("retry once more: got %d, %v, want 1", n, err)
		}
		if n, err := b.Retry(ctx, 0); err != nil || n != 0 {
			t.Errorf("retry nothing: got %d, %v", n, err)
		}
		if _, err := b.Retry(ctx, 0, ids[0], 1<<40); !errors.Is(err, pgq.ErrEventNotFound) {
			t.Errorf("retry a foreign event: got %v, want ErrEventNotFound", err)
		}
		if err := b.Finish(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Retry(ctx, 0, ids[0]); !errors.Is(err, pgq.ErrBatchGone) {
			t.Errorf("retry in a finished batch: got %v, want ErrBatchGone", err)
		}
		got, err := dataOf(ctx, again(t, db))
		if want := numbers(2000)[9:]; err != nil || !slices.Equal(got, want) {
			t.Errorf("redelivered: got %d events, %v, want %d", len(got), err, len(want))
		}
	})
}

func TestBatch_NackFollowsThePolicyUntilDeath(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		b, ids := openBatch(t, db, 3)
		_, err := db.Exec(ctx, `select pgq.set_queue_options('q', '{"max_retries": 2, "retry_base": "0"}')`)
		if err != nil {
			t.Fatal(err)
		}
		poison := ids[1]
		for round := range 3 {
			fate, err := b.Nack(ctx, poison, "bad \x00\xff "+strings.Repeat("ü", 3000))
			want := pgq.Requeued
			if round == 2 {
				want = pgq.Dead
			}
			if err != nil || fate != want {
				t.Fatalf("round %d: got %v, %v, want %v", round, fate, err, want)
			}
			if fate, err := b.Nack(ctx, poison, "bad"); err != nil || (fate != pgq.Waiting && round < 2) {
				t.Fatalf("round %d, twice: got %v, %v, want waiting", round, fate, err)
			}
			if err := b.Finish(ctx); err != nil {
				t.Fatal(err)
			}
			if round < 2 {
				b = again(t, db)
			}
		}
		letters, err := pgq.DeadLetters(ctx, db, pgq.DeadLetterFilter{Queue: "q"})
		if err != nil || len(letters) != 1 {
			t.Fatalf("dead letters: got %+v, %v, want one", letters, err)
		}
		d := letters[0]
		if d.Queue != "q" || d.Consumer != "c" || d.Event.ID != poison || d.Event.Retry != 2 || d.Event.Data.String != "1" ||
			d.Reason != "bad" || time.Since(d.Time) > time.Hour {
			t.Errorf("dead letter: got %+v", d)
		}
		if _, err := b.Nack(ctx, poison, ""); !errors.Is(err, pgq.ErrBatchGone) {
			t.Errorf("nack in a finished batch: got %v, want ErrBatchGone", err)
		}
	})
}

func TestDeadLetter_IsShownRedrivenAndPurged(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		b, ids := openBatch(t, db, 6)
		reasons := []string{"a", strings.Repeat("ü", 3000), "\xffz\x00"}
		if n, err := b.Bury(ctx, ids[:3], reasons); err != nil || n != 3 {
			t.Fatalf("bury: got %d, %v, want 3", n, err)
		}
		if n, err := b.Bury(ctx, ids[3:5], []string{"same"}); err != nil || n != 2 {
			t.Fatalf("bury: got %d, %v, want 2", n, err)
		}
		if err := b.Finish(ctx); err != nil {
			t.Fatal(err)
		}
		counts, err := pgq.CountDeadLetters(ctx, db, "", "")
		if err != nil || len(counts) != 1 || counts[0].Events != 5 || counts[0].Consumer != "c" || counts[0].Oldest.After(counts[0].Newest) {
			t.Errorf("count: got %+v, %v", counts, err)
		}
		page, err := pgq.DeadLetters(ctx, db, pgq.DeadLetterFilter{Consumer: "c", Limit: 2})
		if err != nil || len(page) != 2 || len(page[1].Reason) != 2000 {
			t.Fatalf("first page: got %+v, %v, want two with the reason cut", page, err)
		}
		page, err = pgq.DeadLetters(ctx, db, pgq.DeadLetterFilter{After: page[1].ID})
		if err != nil || len(page) != 3 || page[0].Reason != "\uFFFDz" {
			t.Fatalf("second page: got %+v, %v, want three", page, err)
		}
		one, err := pgq.GetDeadLetter(ctx, db, page[0].ID)
		if err != nil || one != page[0] {
			t.Errorf("get: got %+v, %v, want %+v", one, err, page[0])
		}
		if _, err := pgq.GetDeadLetter(ctx, db, 1<<40); !errors.Is(err, pgq.ErrDeadLetterNotFound) {
			t.Errorf("get one that is not there: got %v, want ErrDeadLetterNotFound", err)
		}

		for _, want := range []bool{true, false} {
			if done, err := pgq.RedriveDeadLetter(ctx, db, one.ID); err != nil || done != want {
				t.Errorf("redrive one: got %v, %v, want %v", done, err, want)
			}
		}
		if n, err := pgq.RedriveDeadLetters(ctx, db, pgq.RedriveFilter{Queue: "q", Consumer: "c", Limit: 2, Type: pgq.Str("test"), Before: time.Now().Add(time.Hour)}); err != nil || n != 2 {
			t.Errorf("redrive some: got %d, %v, want 2", n, err)
		}
		if _, err := pgq.RedriveDeadLetters(ctx, db, pgq.RedriveFilter{Queue: "q", Consumer: "nobody"}); !errors.Is(err, pgq.ErrNotSubscribed) {
			t.Errorf("redrive for nobody: got %v, want ErrNotSubscribed", err)
		}
		got, err := dataOf(ctx, again(t, db))
		if want := []string{"0", "1", "2"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("redelivered: got %v, %v, want %v", got, err, want)
		}

		if n, err := pgq.PurgeDeadLetters(ctx, db, "q", "", time.Hour); err != nil || n != 0 {
			t.Errorf("purge old ones: got %d, %v, want 0", n, err)
		}
		if done, err := pgq.PurgeDeadLetter(ctx, db, page[1].ID); err != nil || !done {
			t.Errorf("purge one: got %v, %v", done, err)
		}
		if n, err := pgq.PurgeDeadLetters(ctx, db, "q", "c", 0); err != nil || n != 1 {
			t.Errorf("purge the rest: got %d, %v, want 1", n, err)
		}
		if _, err := pgq.PurgeDeadLetters(ctx, db, "nothing", "", 0); !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("purge of a missing queue: got %v, want ErrQueueNotFound", err)
		}
	})
}

func TestConsumer_HandlerDecidesOverSingleEvents(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		must(t)(db.Exec(ctx, `select pgq.set_queue_options('q', '{"max_retries": 1, "retry_base": "0"}')`))
		insert(t, db, "q", "good", "poison", "never", "later", "failing")
		var (
			mu    sync.Mutex
			seen  []string
			count = func(data string) int {
				mu.Lock()
				defer mu.Unlock()
				n := 0
				for _, s := range seen {
					if s == data {
						n++
					}
				}
				return n
			}
		)
		handler := pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			mu.Lock()
			seen = append(seen, ev.Data.String)
			mu.Unlock()
			switch {
			case ev.Data.String == "poison":
				return pgq.RetryByPolicy(errors.New("cannot digest"))
			case ev.Data.String == "never":
				return fmt.Errorf("wrapped: %w", pgq.GiveUp(errors.New("not for us")))
			case ev.Data.String == "later" && ev.Retry == 0:
				return pgq.RetryAfter(time.Nanosecond, errors.New("not yet"))
			case ev.Data.String == "failing":
				return errors.New("by the option")
			}
			return nil
		})
		stop := background(t, pgq.NewConsumer(db, "q", "c", handler, quick(pgq.ConsumerOptions{NackEvents: true, EventRetry: time.Hour})))
		pgtest.Eventually(t, patience, "three dead letters", func() bool {
			must(t)(pgq.RetryEvents(ctx, db))
			tick(t, db, "q")
			counts, err := pgq.CountDeadLetters(ctx, db, "q", "c")
			return err == nil && len(counts) == 1 && counts[0].Events == 3 && count("later") == 2
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for data, want := range map[string]int{"good": 1, "poison": 2, "never": 1, "later": 2, "failing": 2} {
			if got := count(data); got != want {
				t.Errorf("%s was handled %d times, want %d", data, got, want)
			}
		}
		letters, err := pgq.DeadLetters(ctx, db, pgq.DeadLetterFilter{})
		if err != nil {
			t.Fatal(err)
		}
		reasons := map[string]string{}
		for _, d := range letters {
			reasons[d.Event.Data.String] = d.Reason
		}
		if reasons["poison"] != "cannot digest" || reasons["never"] != "not for us" || reasons["failing"] != "by the option" {
			t.Errorf("reasons: got %v", reasons)
		}
	})
}

func TestConsumer_RestsWhilePaused(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		b, _ := openBatch(t, db, 2)
		must(t)(nil, pgq.SetConsumerLimit(ctx, db, "q", "c", pgq.ConsumerLimit{Action: pgq.LimitPause, Lag: time.Microsecond}))
		must(t)(pgq.RunMaintOp(ctx, db, pgq.MaintOp{Func: "pgq.maint_consumer_limits"}))
		handled := make(chan string, 10)
		background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			handled <- ev.Data.String
			return nil
		}), quick(pgq.ConsumerOptions{})))
		background(t, pgq.NewConsumer(db, "q", "other", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			handled <- "other " + ev.Data.String
			return nil
		}), quick(pgq.ConsumerOptions{})))
		for range 2 {
			if got := <-handled; !strings.HasPrefix(got, "other ") {
				t.Errorf("a paused consumer handled %s", got)
			}
		}
		must(t)(pgq.ResumeConsumer(ctx, db, "q", "c"))
		for _, want := range []string{"0", "1"} {
			select {
			case got := <-handled:
				if got != want {
					t.Errorf("resumed: got %s, want %s", got, want)
				}
			case <-time.After(patience):
				t.Fatalf("batch %d was not handled after the pause", b.ID)
			}
		}
	})
}

// Many failed events go to the retry queue as sets, on the plain extension one by one.
func TestConsumer_SendsManyEventsRound(t *testing.T) {
	test := func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		insert(t, db, "q", numbers(60)...)
		tick(t, db, "q")
		background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			switch ev.ID % 3 {
			case 0:
				return nil
			case 1:
				return errors.New("again")
			default:
				return pgq.RetryAfter(1500*time.Millisecond, errors.New("again"))
			}
		}), quick(pgq.ConsumerOptions{EventRetry: time.Hour})))
		waiting := func(condition string) (n int) {
			must(t)(nil, db.QueryRow(ctx, "select count(*) from pgq.retry_queue where "+condition).Scan(&n))
			return n
		}
		pgtest.Eventually(t, patience, "40 events wait", func() bool { return waiting("true") == 40 })
		if n := waiting("ev_retry_after > now() + interval '50 minutes' and ev_id % 3 = 1"); n != 20 {
			t.Errorf("%d events wait for an hour, want 20", n)
		}
	}
	onAll(t, test)
	t.Run("plain extension", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, pgtest.Extension(t).DSN))
	})
}
