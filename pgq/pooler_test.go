package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// All that runs on a direct connection runs through a transaction pooler, in
// every mode of sending statements that leaves nothing in the session.
func TestPooler_AllKindsOfConsumers(t *testing.T) {
	onAll(t, func(t *testing.T, direct *pgq.DB) {
		through := pgtest.NewPooler(t, direct.Config().ConnString()).DSN()
		for i, mode := range []string{"", "exec", "simple_protocol"} {
			t.Run("mode "+mode, func(t *testing.T) {
				dsn := through
				if mode != "" {
					dsn += "?default_query_exec_mode=" + mode
				}
				viaPooler(t, open(t, dsn, pgq.WithTransactionPooler()), fmt.Sprint("q", i))
			})
		}
	})
}

func viaPooler(t *testing.T, db *pgq.DB, queue string) {
	ctx := t.Context()
	newQueue(t, db, queue)
	o := quick(pgq.ConsumerOptions{NoListen: true, FetchSize: 3, Register: true})
	kinds := map[string]func(h pgq.Handler) runner{
		"plain": func(h pgq.Handler) runner { return pgq.NewConsumer(db, queue, "plain", h, o) },
		"merged": func(h pgq.Handler) runner {
			m := o
			m.MaxMerge = 100
			return pgq.NewConsumer(db, queue, "merged", h, m)
		},
		"coop": func(h pgq.Handler) runner {
			return pgq.NewCoopConsumer(db, queue, "coop", "one", h, pgq.CoopOptions{ConsumerOptions: o, DeadInterval: time.Minute, Heartbeat: 5 * time.Millisecond})
		},
		"coop2": func(h pgq.Handler) runner {
			return pgq.NewCoopConsumer(db, queue, "coop", "two", h, pgq.CoopOptions{ConsumerOptions: o, DeadInterval: time.Minute})
		},
		"group": func(h pgq.Handler) runner {
			return pgq.NewPartitionedConsumer(db, queue, "group", "one", h, pgq.PartitionedOptions{ConsumerOptions: o, TTL: time.Second, Create: 5})
		},
		"group2": func(h pgq.Handler) runner {
			return pgq.NewPartitionedConsumer(db, queue, "group", "two", h, pgq.PartitionedOptions{ConsumerOptions: o, TTL: time.Second, Create: 5})
		},
	}
	must(t)(db.Exec(ctx, `create table if not exists public.seen (queue text, consumer text, data text)`))
	must(t)(pgq.RegisterConsumer(ctx, db, queue, "plain"))
	must(t)(pgq.RegisterConsumer(ctx, db, queue, "merged"))
	must(t)(pgq.RegisterConsumer(ctx, db, queue, "coop"))
	must(t)(pgq.CreateGroup(ctx, db, queue, "group", "ev_key", 5))
	failed := false
	for _, kind := range kinds {
		runIn(t, kind(pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
			for ev, err := range b.Events(ctx) {
				if err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, `insert into public.seen values ($1, $2, $3)`, b.Queue, b.Consumer, ev.Data.String); err != nil {
					return err
				}
			}
			return nil
		})))
	}
	must(t)(pgq.RegisterConsumer(ctx, db, queue, "retrying"))
	var again journal
	runIn(t, pgq.NewConsumer(db, queue, "retrying", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
		if ev.Data.String == "7" && !failed {
			failed = true
			return pgq.RetryAfter(time.Nanosecond, errors.New("once"))
		}
		again.add(ev.Data.String)
		return nil
	}), o))
	const events = 40
	for i := range events {
		must(t)(pgq.Insert(ctx, db, queue, pgq.NewEvent{Data: pgq.Str(fmt.Sprint(i))}.WithKey(fmt.Sprint(i%7))))
		if i%8 == 7 {
			tick(t, db, queue)
		}
	}
	for _, consumer := range []string{"plain", "merged", "coop", "group"} {
		var rows, distinct int
		pgtest.Eventually(t, patience, consumer+" saw all", func() bool {
			err := db.QueryRow(ctx, `select count(*), count(distinct data) from public.seen where queue = $1 and consumer = $2`, queue, consumer).Scan(&rows, &distinct)
			return err == nil && distinct == events
		})
		if rows != events {
			t.Errorf("%s: %d rows of %d events", consumer, rows, events)
		}
	}
	pgtest.Eventually(t, patience, "retry event moved", func() bool {
		n, err := pgq.RetryEvents(ctx, db)
		must(t)(nil, err)
		return n == 1
	})
	tick(t, db, queue)
	pgtest.Eventually(t, patience, "retry came back", func() bool { return len(again.all()) == events })
}
