package pgq_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

func TestInsert_NullAndEmptyAreDifferent(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		want := []pgq.NewEvent{
			{},
			{Type: pgq.Str(""), Data: pgq.Str(""), Extra1: pgq.Str(""), Extra2: pgq.Str(""), Extra3: pgq.Str(""), Extra4: pgq.Str("")},
			{Type: pgq.Str("t"), Data: pgq.Str(`{"a":"b\\c 'd' \" ü"}`), Extra1: pgq.Str("1"), Extra3: pgq.Str("3")},
			{Type: pgq.Str("NULL"), Data: pgq.Str("{a,NULL}"), Extra2: pgq.Str("2"), Extra4: pgq.Str("4")},
		}
		var ids []int64
		for _, ev := range want {
			id, err := pgq.Insert(ctx, db, "q", ev)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		more, err := pgq.InsertBatch(ctx, db, "q", want)
		if err != nil {
			t.Fatal(err)
		}
		ids, want = append(ids, more...), append(want, want...)
		tick(t, db, "q")
		i := 0
		for ev, err := range next(t, db, "q", "c").Events(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			got := pgq.NewEvent{Type: ev.Type, Data: ev.Data, Extra1: ev.Extra1, Extra2: ev.Extra2, Extra3: ev.Extra3, Extra4: ev.Extra4}
			if got != want[i] || ev.ID != ids[i] || ev.Retry != 0 || ev.Txid == 0 || ev.Time.IsZero() {
				t.Errorf("event %d: got %+v, want id %d and %+v", i, ev, ids[i], want[i])
			}
			i++
		}
		if i != len(want) {
			t.Errorf("got %d events, want %d", i, len(want))
		}
	})
}

func TestInsertBatch_AllOrNoneInInputOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		if ids, err := pgq.InsertBatch(ctx, db, "q", nil); len(ids) != 0 || err != nil {
			t.Errorf("no events: got %v, %v", ids, err)
		}
		must(t)(db.Exec(ctx, `update pgq.queue set queue_per_tx_limit = 3`))
		if _, err := pgq.InsertBatch(ctx, db, "q", make([]pgq.NewEvent, 4)); !errors.Is(err, pgq.ErrTxLimit) {
			t.Fatalf("4 events at a limit of 3: got %v, want ErrTxLimit", err)
		}
		must(t)(db.Exec(ctx, `update pgq.queue set queue_per_tx_limit = null`))
		data := make([]string, 500)
		for i := range data {
			data[i] = fmt.Sprint(i)
		}
		ids := insert(t, db, "q", data...)
		if !slices.IsSorted(ids) || len(ids) != len(data) {
			t.Errorf("got ids %v, want %d ascending", ids, len(data))
		}
		tick(t, db, "q")
		if got, err := dataOf(ctx, next(t, db, "q", "c")); err != nil || !slices.Equal(got, data) {
			t.Errorf("got %v, %v, want the batch in input order and nothing of the refused one", got, err)
		}
	})
}

func TestInsert_LivesAndDiesWithTheTransaction(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		for _, c := range []struct {
			data   string
			finish func(pgx.Tx) error
		}{
			{"kept", func(tx pgx.Tx) error { return tx.Commit(ctx) }},
			{"dropped", func(tx pgx.Tx) error { return tx.Rollback(ctx) }},
		} {
			tx, err := db.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			must(t)(pgq.Insert(ctx, tx, "q", pgq.NewEvent{Data: pgq.Str(c.data)}))
			must(t)(pgq.InsertBatch(ctx, tx, "q", []pgq.NewEvent{{Data: pgq.Str(c.data)}}))
			must(t)(nil, c.finish(tx))
		}
		tick(t, db, "q")
		if got, err := dataOf(ctx, next(t, db, "q", "c")); err != nil || !slices.Equal(got, []string{"kept", "kept"}) {
			t.Errorf("got %v, %v, want what was committed", got, err)
		}
	})
}

// Everything works in every way pgx knows to send a statement.
func TestQuerier_AllExecModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			dsn, sep := pgtest.DB(t).DSN, "?"
			if strings.Contains(dsn, "?") {
				sep = "&"
			}
			db := open(t, dsn+sep+"default_query_exec_mode="+mode)
			newQueue(t, db, "q")
			must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
			insert(t, db, "q", "a", "b", "c")
			tick(t, db, "q")
			must(t)(pgq.QueueInfos(ctx, db))
			must(t)(pgq.ConsumerInfos(ctx, db))
			must(t)(pgq.MaintOperations(ctx, db))
			b := next(t, db, "q", "c")
			if data, err := dataOf(ctx, b); err != nil || len(data) != 3 {
				t.Errorf("one chunk: got %v, %v", data, err)
			}
			b.SetFetchSize(1)
			if data, err := dataOf(ctx, b); err != nil || !slices.Equal(data, []string{"a", "b", "c"}) {
				t.Errorf("chunks of one: got %v, %v", data, err)
			}
			for ev, err := range b.Events(ctx) {
				must(t)(nil, err)
				must(t)(nil, b.RetryEvent(ctx, ev.ID, 0))
			}
			if n, err := b.RetryAll(ctx, 0); err != nil || n != 0 {
				t.Errorf("retry all: got %d, %v, want none left to retry", n, err)
			}
			must(t)(nil, b.Finish(ctx))
			if b, err := pgq.NextBatchCustom(ctx, db, "q", "c", pgq.BatchLimits{MinCount: 5}); b != nil || err != nil {
				t.Errorf("limits not reached: got %v, %v, want none", b, err)
			}
		})
	}
}
