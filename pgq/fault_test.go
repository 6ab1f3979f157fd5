package pgq_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// The connection is cut after every possible part of the conversation, also
// between a commit and its answer: each event is in the ledger exactly once.
func TestFault_ExactlyOnceUnderCutConnections(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		must(t)(db.Exec(ctx, `create table public.ledger (ev_id bigint, data text)`))
		dsn := db.Config().ConnString()
		proxy := pgtest.NewProxy(t, dsn)
		through := open(t, proxy.DSN(dsn))
		calls := 0
		stop := background(t, pgq.NewConsumer(through, "q", "c", pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
			calls++
			return book(ctx, tx, b)
		}), quick(pgq.ConsumerOptions{FetchSize: 2})))
		total, step := 0, int64(29)
		if testing.Short() {
			step = 290
		}
		for n := int64(0); n < 2000; n += step {
			proxy.CutAfter(n)
			insert(t, db, "q", fmt.Sprint(n, "a"), fmt.Sprint(n, "b"), fmt.Sprint(n, "c"))
			tick(t, db, "q")
			total += 3
			checkLedger(t, db, total)
			proxy.Heal()
		}
		// Everything is broken at once, while there is work.
		for i := range 10 {
			insert(t, db, "q", fmt.Sprint("reset", i))
			tick(t, db, "q")
			proxy.Reset()
			total++
		}
		checkLedger(t, db, total)
		must(t)(nil, stop())
		if calls*3 <= total {
			t.Errorf("handler ran %d times for %d events in threes: nothing was repeated, so nothing was proved", calls, total)
		}
		t.Logf("%d events, handler ran %d times", total, calls)
	})
}

func TestFault_DatabaseDownAtTheStart(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		dsn := db.Config().ConnString()
		proxy := pgtest.NewProxy(t, dsn)
		proxy.Refuse()
		var seen journal
		stop := background(t, pgq.NewConsumer(open(t, proxy.DSN(dsn)), "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			seen.add(ev.Data.String)
			return nil
		}), quick(pgq.ConsumerOptions{Register: true, PollInterval: time.Hour})))
		proxy.Heal()
		pgtest.Eventually(t, patience, "consumer is registered", func() bool {
			_, err := pgq.GetConsumerInfo(ctx, db, "q", "c")
			return err == nil
		})
		insert(t, db, "q", "x")
		tick(t, db, "q")
		seen.waitFor(t, "x")
		must(t)(nil, stop())
	})
}

// The server is killed with SIGKILL under load, several times. Every event
// whose insert was committed is in the ledger once, and no other.
func TestFault_ExactlyOnceOverServerCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers of its own")
	}
	t.Parallel()
	for name, install := range map[string]func(context.Context, *pgx.Conn) error{
		"skyd": func(ctx context.Context, conn *pgx.Conn) error {
			_, err := pgqsql.Install(ctx, conn, pgqsql.Options{Schemas: []string{"pgq"}})
			return err
		},
		"extension": func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "create extension pgq")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pgtest.Extension(t) // skips, or fails, where the extension is missing
			cluster := pgtest.NewCluster(t, map[string]string{"synchronous_commit": "on"})
			conn, err := pgx.Connect(t.Context(), cluster.DSN("postgres"))
			must(t)(nil, err)
			must(t)(nil, install(t.Context(), conn))
			must(t)(nil, conn.Close(t.Context()))
			crash(t, cluster)
		})
	}
}

func crash(t *testing.T, cluster *pgtest.Cluster) {
	ctx := t.Context()
	db := open(t, cluster.DSN("postgres"))
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
	must(t)(db.Exec(ctx, `create table public.produced (data text)`))
	must(t)(db.Exec(ctx, `create table public.ledger (ev_id bigint, data text)`))
	consumerDB := open(t, cluster.DSN("postgres"))
	stop := background(t, pgq.NewConsumer(consumerDB, "q", "c", pgq.BatchTxHandler(book), quick(pgq.ConsumerOptions{})))

	// produce says what happened to an event in the transaction that inserts it.
	produce := func(data string) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `insert into public.produced values ($1)`, data); err != nil {
				return err
			}
			_, err := pgq.Insert(ctx, tx, "q", pgq.NewEvent{Data: pgq.Str(data)})
			return err
		})
	}
	quit, done := make(chan struct{}), make(chan int)
	go func() { // writes on, whatever happens to the server
		failed := 0
		for n := 0; ; n++ {
			select {
			case <-quit:
				done <- failed
				return
			default:
			}
			if produce(fmt.Sprint(n)) != nil {
				failed++
				continue
			}
			_, _, _ = pgq.Tick(ctx, db, "q") // the next one makes good for it
		}
	}()
	booked := func() (n int) {
		_ = db.QueryRow(ctx, `select count(*) from public.ledger`).Scan(&n)
		return n
	}
	for round := range 3 {
		before := 0
		pgtest.Eventually(t, patience, "database answers", func() bool {
			before = booked()
			return before > 0
		})
		pgtest.Eventually(t, patience, "consumer is at work", func() bool { return booked() >= before+10 })
		cluster.Kill()
		cluster.Start()
		t.Logf("round %d: server killed after %d events", round, before+10)
	}
	close(quit)
	t.Logf("%d inserts failed", <-done)
	pgtest.Eventually(t, patience, "database is back", func() bool {
		_, _, err := pgq.Tick(ctx, db, "q")
		return err == nil
	})
	var produced int
	must(t)(nil, db.QueryRow(ctx, `select count(*) from public.produced`).Scan(&produced))
	checkLedger(t, db, produced)
	var odd []string
	rows, err := db.Query(ctx, `select coalesce(p.data, l.data) from public.produced p full join public.ledger l using (data)
		where p.data is null or l.data is null`)
	must(t)(nil, err)
	odd, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(odd) != 0 {
		t.Errorf("lost or invented events: %s, %v", strings.Join(odd, " "), err)
	}
	must(t)(nil, stop())
}
