package pgq_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// patience is how long a test waits for a fact before it fails.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	skipExamples()
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// onBoth runs a test on skyd's SQL and on the original C extension.
func onBoth(t *testing.T, test func(t *testing.T, db *pgq.DB)) {
	t.Parallel()
	t.Run("skyd", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, pgtest.DB(t).DSN))
	})
	t.Run("extension", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, pgtest.Extension(t).DSN))
	})
}

// newSkyd is the DSN of a new database with skyd's SQL.
func newSkyd(t testing.TB) string {
	t.Helper()
	return pgtest.DB(t).DSN
}

func open(t testing.TB, dsn string, opts ...pgq.Option) *pgq.DB {
	t.Helper()
	db, err := pgq.Open(t.Context(), dsn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// newQueue makes a queue in which every Tick makes a tick.
func newQueue(t testing.TB, db *pgq.DB, queue string) {
	t.Helper()
	must(t)(pgq.CreateQueue(t.Context(), db, queue))
	for _, name := range []string{"ticker_max_lag", "ticker_idle_period"} {
		if err := pgq.SetQueueConfig(t.Context(), db, queue, name, "0"); err != nil {
			t.Fatal(err)
		}
	}
}

// must fails the test when a call with a result fails.
func must(t testing.TB) func(_ any, err error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tick makes one tick.
func tick(t testing.TB, db *pgq.DB, queue string) int64 {
	t.Helper()
	id, made, err := pgq.Tick(t.Context(), db, queue)
	if err != nil || !made {
		t.Fatalf("tick %s: got made = %v, error %v, want a tick", queue, made, err)
	}
	return id
}

// insert inserts events with the given data.
func insert(t testing.TB, db *pgq.DB, queue string, data ...string) []int64 {
	t.Helper()
	events := make([]pgq.NewEvent, len(data))
	for i, d := range data {
		events[i] = pgq.NewEvent{Type: pgq.Str("test"), Data: pgq.Str(d)}
	}
	ids, err := pgq.InsertBatch(t.Context(), db, queue, events)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// dataOf reads the data of all events of a batch.
func dataOf(ctx context.Context, b *pgq.Batch) ([]string, error) {
	var data []string
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return nil, err
		}
		data = append(data, ev.Data.String)
	}
	return data, nil
}

// next opens the next batch, which must be there.
func next(t testing.TB, q pgq.Querier, queue, consumer string) *pgq.Batch {
	t.Helper()
	b, err := pgq.NextBatch(t.Context(), q, queue, consumer)
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		t.Fatalf("next batch of %s on %s: got none, want one", consumer, queue)
	}
	return b
}

// background runs a consumer until the returned stop function is called, which
// returns what Run returned.
func background(t testing.TB, c *pgq.Consumer) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return fmt.Errorf("consumer did not stop within %v", patience)
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop consumer: %v", err)
		}
	})
	return stop
}
