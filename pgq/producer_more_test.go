package pgq_test

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// randomText is null, empty, or made of what escapes and encodings are about.
func randomText(rnd *rand.Rand) pgq.Text {
	pieces := []string{
		"", " ", "NULL", "null", "{", "}", ",", `"`, `\`, `\\`, `\N`, `\.`, "'", "\n", "\r", "\t", "\x01", "\x7f", "%", "=&+",
		"ü", "日本", "\U0001F600", "\u0301", "\u202e", "\ufeff", "\u00a0", "\ufffd", "a", strings.Repeat("x", 3000),
	}
	if rnd.IntN(4) == 0 {
		return pgq.Text{}
	}
	var b strings.Builder
	for range rnd.IntN(6) {
		b.WriteString(pieces[rnd.IntN(len(pieces))])
	}
	return pgq.Str(b.String())
}

func randomEvents(rnd *rand.Rand, n int) []pgq.NewEvent {
	events := make([]pgq.NewEvent, n)
	for i := range events {
		t := func() pgq.Text { return randomText(rnd) }
		events[i] = pgq.NewEvent{Type: t(), Data: t(), Extra1: t(), Extra2: t(), Extra3: t(), Extra4: t()}
	}
	return events
}

func sequence(events []pgq.NewEvent) iter.Seq2[pgq.NewEvent, error] {
	return func(yield func(pgq.NewEvent, error) bool) {
		for _, ev := range events {
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// What goes in by any way comes out the same, in the same order.
func TestProducer_WhatWentInComesOut(t *testing.T) {
	ways := map[string]func(t *testing.T, db *pgq.DB, events []pgq.NewEvent){
		"one by one": func(t *testing.T, db *pgq.DB, events []pgq.NewEvent) {
			for _, ev := range events {
				must(t)(pgq.Insert(t.Context(), db, "q", ev))
			}
		},
		"batch": func(t *testing.T, db *pgq.DB, events []pgq.NewEvent) {
			ids, err := pgq.InsertBatch(t.Context(), db, "q", events)
			if err != nil || len(ids) != len(events) || !slices.IsSorted(ids) {
				t.Errorf("ids %v, %v", ids, err)
			}
		},
		"copy": func(t *testing.T, db *pgq.DB, events []pgq.NewEvent) {
			if n, err := pgq.InsertCopy(t.Context(), db, "q", sequence(events)); err != nil || n != int64(len(events)) {
				t.Errorf("copied %d, %v", n, err)
			}
		},
		"once": func(t *testing.T, db *pgq.DB, events []pgq.NewEvent) {
			for i, ev := range events {
				for range 2 {
					_, _, err := pgq.InsertOnce(t.Context(), db, "q", fmt.Sprint(i), time.Hour, ev)
					must(t)(nil, err)
				}
			}
		},
		"at": func(t *testing.T, db *pgq.DB, events []pgq.NewEvent) {
			at := time.Now().Add(time.Hour)
			for _, ev := range events {
				must(t)(pgq.InsertAt(t.Context(), db, "q", at, ev))
			}
			must(t)(db.Exec(t.Context(), "update pgq.delayed_event set ev_deliver_at = now() - interval '1 second'"))
			if n, err := pgq.RetryEvents(t.Context(), db); err != nil || n != len(events) {
				t.Errorf("moved %d events, %v", n, err)
			}
		},
	}
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
		rnd := rand.New(rand.NewPCG(1, 2))
		for _, way := range []string{"one by one", "batch", "copy", "once", "at"} {
			want := randomEvents(rnd, 60)
			ways[way](t, db, want)
			tick(t, db, "q")
			var got []pgq.NewEvent
			batch := next(t, db, "q", "c")
			for ev, err := range batch.Events(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, pgq.NewEvent{Type: ev.Type, Data: ev.Data, Extra1: ev.Extra1, Extra2: ev.Extra2, Extra3: ev.Extra3, Extra4: ev.Extra4})
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %d events, want %d, the same in the same order\n%+v\n%+v", way, len(got), len(want), got, want)
			}
			must(t)(nil, batch.Finish(t.Context()))
		}
	})
}

func TestInsertOnce_AnswersTheFirstId(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		first, dup, err := pgq.InsertOnce(ctx, db, "q", "k", time.Hour, pgq.NewEvent{})
		if err != nil || dup {
			t.Fatalf("first: %v, %v", dup, err)
		}
		if id, dup, err := pgq.InsertOnce(ctx, db, "q", "k", time.Hour, pgq.NewEvent{}); err != nil || !dup || id != first {
			t.Errorf("second: %d %v %v, want the id %d", id, dup, err, first)
		}

		// two at once: the second waits, and has its turn when the first is undone
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = pgq.InsertOnce(ctx, tx, "q", "other", time.Hour, pgq.NewEvent{})
		must(t)(nil, err)
		answered := make(chan bool, 1)
		go func() {
			_, dup, err := pgq.InsertOnce(ctx, db, "q", "other", time.Hour, pgq.NewEvent{})
			answered <- err == nil && !dup
		}()
		pgtest.Eventually(t, 30*time.Second, "the second waits", func() bool {
			var n int
			must(t)(nil, db.QueryRow(ctx, "select count(*) from pg_locks where not granted and locktype = 'transactionid'").Scan(&n))
			return n > 0
		})
		must(t)(nil, tx.Rollback(ctx))
		if !<-answered {
			t.Error("the second was taken for a duplicate of what was rolled back")
		}
		if _, _, err := pgq.InsertOnce(ctx, db, "missing", "k", time.Hour, pgq.NewEvent{}); !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("missing queue: %v", err)
		}
	})
}

func TestInsertCopy_AllOrNone(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		bad := errors.New("no more")
		_, err := pgq.InsertCopy(ctx, db, "q", func(yield func(pgq.NewEvent, error) bool) {
			_ = yield(pgq.NewEvent{}, nil) && yield(pgq.NewEvent{}, bad)
		})
		if err == nil || !strings.Contains(err.Error(), bad.Error()) {
			t.Errorf("got %v, want the producer's error", err)
		}
		if _, err := pgq.InsertCopy(ctx, db, "missing", sequence(nil)); !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("missing queue: %v", err)
		}
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			must(t)(pgq.InsertCopy(ctx, tx, "q", sequence(make([]pgq.NewEvent, 3))))
			return tx.Rollback(ctx)
		})
		var n int
		must(t)(nil, db.QueryRow(ctx, "select count(*) from pgq.event_1").Scan(&n))
		if n != 0 {
			t.Errorf("%d events stayed, %v", n, err)
		}
	})
}

// Without skyd's additions what can be done is done, the rest says why not.
func TestProducer_WithoutAdditions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := open(t, pgtest.Extension(t).DSN)
	newQueue(t, db, "q")
	if ids, err := pgq.InsertBatch(ctx, db, "q", make([]pgq.NewEvent, 3)); err != nil || len(ids) != 3 {
		t.Errorf("batch: %v, %v", ids, err)
	}
	if _, _, err := pgq.InsertOnce(ctx, db, "q", "k", time.Hour, pgq.NewEvent{}); !errors.Is(err, pgq.ErrNotInstalled) {
		t.Errorf("once: %v", err)
	}
	if _, err := pgq.InsertAt(ctx, db, "q", time.Now(), pgq.NewEvent{}); !errors.Is(err, pgq.ErrNotInstalled) {
		t.Errorf("at: %v", err)
	}
	if n, err := pgq.RetryEvents(ctx, db); err != nil || n != 0 {
		t.Errorf("retry: %d, %v", n, err)
	}
}

// A transaction's trace context reaches the events of its capture triggers by the argument of the conventions, with
// both installs, and an event with a context of its own keeps it.
func TestTraceparent_ThroughTriggersAndBatches(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newQueue(t, db, "q")
		must(t)(db.Exec(t.Context(), `create table public.traced (id int primary key);
			create trigger t after insert on public.traced for each row
			execute function pgq.logutriga('q', 'ev_extra4=current_setting(''skyd.traceparent'', true)')`, pgx.QueryExecModeSimpleProtocol))
		tp, _ := newTracing(t, sdktrace.AlwaysSample())
		ctx, span := tp.Tracer("test").Start(t.Context(), "work")
		defer span.End()
		must(t)(nil, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			must(t)(nil, pgq.SetTraceparent(ctx, tx))
			must(t)(tx.Exec(ctx, "insert into public.traced values (1)"))
			return nil
		}))
		must(t)(db.Exec(t.Context(), "insert into public.traced values (2)"))
		own := pgq.NewEvent{Extra4: pgq.Str("mine")}
		must(t)(pgq.InsertBatch(ctx, db, "q", []pgq.NewEvent{{}, own}))
		must(t)(pgq.InsertCopy(ctx, db, "q", sequence([]pgq.NewEvent{{}, own})))
		var carried []string
		must(t)(nil, db.QueryRow(ctx, "select array_agg(coalesce(ev_extra4, '') order by ev_id) from pgq.event_1").Scan(&carried))
		if len(carried) != 6 || carried[0] != pgq.FormatTraceparent(span.SpanContext()) || carried[1] != "" || carried[3] != "mine" || carried[5] != "mine" {
			t.Fatalf("carried: %q", carried)
		}
		for _, i := range []int{2, 4} {
			if sc, ok := pgq.ParseTraceparent(carried[i]); !ok || sc.TraceID() != span.SpanContext().TraceID() {
				t.Errorf("event %d carries %q, want a context of the same trace", i, carried[i])
			}
		}
	})
}
