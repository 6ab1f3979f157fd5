package pgq_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

func TestAdmin_LifeOfAQueue(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		const queue = `Qu'e "1".x`
		for _, want := range []bool{true, false} {
			if got, err := pgq.CreateQueue(ctx, db, queue); err != nil || got != want {
				t.Fatalf("create: got %v, %v, want %v", got, err, want)
			}
		}
		for _, want := range []bool{true, false} {
			if got, err := pgq.RegisterConsumer(ctx, db, queue, "c"); err != nil || got != want {
				t.Fatalf("register: got %v, %v, want %v", got, err, want)
			}
		}
		if err := pgq.SetQueueConfig(ctx, db, queue, "ticker_max_lag", "1 min 2.5 s"); err != nil {
			t.Fatal(err)
		}
		qi, err := pgq.GetQueueInfo(ctx, db, queue)
		if err != nil || qi.Name != queue || qi.Tables != 3 || qi.TickerMaxLag != 62500*time.Millisecond ||
			qi.RotationPeriod != 2*time.Hour || qi.LastTick != 1 || qi.TickerMaxCount != 500 {
			t.Errorf("queue info: got %+v, %v", qi, err)
		}
		ci, err := pgq.GetConsumerInfo(ctx, db, queue, "c")
		if err != nil || ci.Queue != queue || ci.Consumer != "c" || ci.LastTick != 1 || ci.CurrentBatch != 0 {
			t.Errorf("consumer info: got %+v, %v", ci, err)
		}
		if infos, err := pgq.ConsumerInfos(ctx, db); err != nil || len(infos) != 1 {
			t.Errorf("consumer infos: got %+v, %v, want 1", infos, err)
		}
		if infos, err := pgq.QueueConsumerInfos(ctx, db, "other"); err != nil || len(infos) != 0 {
			t.Errorf("consumer infos of another queue: got %+v, %v, want none", infos, err)
		}
		if created, err := pgq.RegisterConsumerAt(ctx, db, queue, "c2", 1); err != nil || !created {
			t.Errorf("register at tick 1: got %v, %v", created, err)
		}
		if n, err := pgq.UnregisterConsumer(ctx, db, queue, "c2"); err != nil || n != 1 {
			t.Errorf("unregister: got %d, %v, want 1", n, err)
		}
		if n, err := pgq.UnregisterConsumer(ctx, db, queue, "c2"); err != nil || n != 0 {
			t.Errorf("unregister again: got %d, %v, want 0", n, err)
		}
		if err := pgq.DropQueue(ctx, db, queue, false); !errors.Is(err, pgq.ErrQueueInUse) {
			t.Errorf("drop with a consumer: got %v, want ErrQueueInUse", err)
		}
		if err := pgq.DropQueue(ctx, db, queue, true); err != nil {
			t.Error(err)
		}
		if infos, err := pgq.QueueInfos(ctx, db); err != nil || len(infos) != 0 {
			t.Errorf("queue infos after drop: got %+v, %v, want none", infos, err)
		}
	})
}

// Every sentinel comes out of both SQL installs, and keeps the server's error.
func TestErrors_SameOnBothInstalls(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		for _, q := range []string{"q", "closed", "limited", "paused", "external", "lost", "future"} {
			must(t)(pgq.CreateQueue(ctx, db, q))
		}
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		must(t)(pgq.RegisterConsumer(ctx, db, "lost", "c"))
		for _, sql := range []string{
			`update pgq.queue set queue_disable_insert = true where queue_name = 'closed'`,
			`update pgq.queue set queue_per_tx_limit = 1 where queue_name = 'limited'`,
			`update pgq.queue set queue_ticker_paused = true where queue_name = 'paused'`,
			`update pgq.queue set queue_external_ticker = true where queue_name = 'external'`,
			`delete from pgq.tick t using pgq.queue q where q.queue_id = t.tick_queue and q.queue_name = 'lost'`,
			`update pgq.tick t set tick_snapshot = '9000000000:9000000000:' from pgq.queue q
			  where q.queue_id = t.tick_queue and q.queue_name = 'future'`,
		} {
			must(t)(db.Exec(ctx, sql))
		}
		gone := &pgq.Batch{}
		open := func() *pgq.Batch {
			insert(t, db, "q", "x")
			must(t)(pgq.ForceTick(ctx, db, "q"))
			must(t)(db.Exec(ctx, `select pgq.ticker('q')`))
			return next(t, db, "q", "c")
		}()
		*gone = *open
		gone.ID = 987654
		event := pgq.NewEvent{}
		insertTo := func(q string, n int) error {
			_, err := pgq.InsertBatch(ctx, db, q, make([]pgq.NewEvent, n))
			return err
		}
		tickOf := func(q string) error { _, _, err := pgq.Tick(ctx, db, q); return err }
		nextOf := func(q, c string) error { _, err := pgq.NextBatch(ctx, db, q, c); return err }
		readOf := func(b *pgq.Batch) error { _, err := dataOf(ctx, b); return err }
		sqlErr := func(sql string) error {
			_, err := db.Exec(ctx, sql)
			return pgq.Classify(err)
		}
		for _, c := range []struct {
			name string
			err  error
			want error
		}{
			{"insert, no queue", func() error { _, err := pgq.Insert(ctx, db, "nq", event); return err }(), pgq.ErrQueueNotFound},
			{"insert, closed", insertTo("closed", 1), pgq.ErrQueueDisabled},
			{"insert, over limit", insertTo("limited", 2), pgq.ErrTxLimit},
			{"current_event_table, closed", sqlErr(`select pgq.current_event_table('closed')`), pgq.ErrQueueDisabled},
			{"current_event_table, no queue", sqlErr(`select pgq.current_event_table('nq')`), pgq.ErrQueueNotFound},
			{"tick, no queue", tickOf("nq"), pgq.ErrQueueNotFound},
			{"tick, paused", tickOf("paused"), pgq.ErrTickerPaused},
			{"tick, external", tickOf("external"), pgq.ErrTickerExternal},
			{"tick, future", tickOf("future"), pgq.ErrFutureTick},
			{"external tick, own ticker", sqlErr(`select pgq.ticker('q', 5, now(), 1)`), pgq.ErrTickerRefused},
			{"force tick, no queue", func() error { _, err := pgq.ForceTick(ctx, db, "nq"); return err }(), pgq.ErrQueueNotFound},
			{"next, not subscribed", nextOf("q", "nc"), pgq.ErrNotSubscribed},
			{"next, no queue", nextOf("nq", "c"), pgq.ErrNotSubscribed},
			{"next, tick gone", nextOf("lost", "c"), pgq.ErrPositionLost},
			{"read, gone", readOf(gone), pgq.ErrBatchGone},
			{"finish, gone", gone.Finish(ctx), pgq.ErrBatchGone},
			{"retry all, gone", func() error { _, err := gone.RetryAll(ctx, 0); return err }(), pgq.ErrBatchGone},
			{"retry, no event", open.RetryEvent(ctx, 99, 0), pgq.ErrEventNotFound},
			{"register, no queue", func() error { _, err := pgq.RegisterConsumer(ctx, db, "nq", "c"); return err }(), pgq.ErrQueueNotFound},
			{"register at, no tick", func() error { _, err := pgq.RegisterConsumerAt(ctx, db, "q", "x", 99); return err }(), pgq.ErrTickNotFound},
			{"drop, no queue", pgq.DropQueue(ctx, db, "nq", true), pgq.ErrQueueNotFound},
			{"config, no queue", pgq.SetQueueConfig(ctx, db, "nq", "ticker_max_lag", "1"), pgq.ErrQueueNotFound},
			{"config, bad name", pgq.SetQueueConfig(ctx, db, "q", "ntables", "1"), pgq.ErrBadParameter},
			{"create, null", sqlErr(`select pgq.create_queue(null)`), pgq.ErrBadParameter},
			{"info, no queue", func() error { _, err := pgq.GetQueueInfo(ctx, db, "nq"); return err }(), pgq.ErrQueueNotFound},
			{"info, no consumer", func() error { _, err := pgq.GetConsumerInfo(ctx, db, "q", "nc"); return err }(), pgq.ErrNotSubscribed},
			{"event_retry_raw, no consumer", sqlErr(`select pgq.event_retry_raw('q','nc',now(),1,now(),1,'a','b',null,null,null,null)`), pgq.ErrNotSubscribed},
		} {
			if !errors.Is(c.err, c.want) {
				t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
			}
		}
	})
}

func TestInstalled_WithAndWithoutSchema(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	empty := open(t, pgtest.Empty(t).DSN)
	if v, ok, err := pgq.Installed(ctx, empty); ok || v != "" || err != nil {
		t.Errorf("empty database: got %q, %v, %v, want not installed", v, ok, err)
	}
	if _, err := pgq.CreateQueue(ctx, empty, "q"); !errors.Is(err, pgq.ErrNotInstalled) || !pgq.Permanent(err) {
		t.Errorf("create queue without schema: got %v, want a permanent ErrNotInstalled", err)
	}
	must(t)(empty.Exec(ctx, `create schema pgq; create function pgq.version() returns text language sql as 'select null::text'`,
		pgx.QueryExecModeSimpleProtocol))
	if v, ok, err := pgq.Installed(ctx, empty); ok || v != "" || err != nil {
		t.Errorf("version() is null: got %q, %v, %v, want not installed", v, ok, err)
	}
	must(t)(empty.Exec(ctx, `create or replace function pgq.version() returns text language sql as $$ select '10.1' $$`))
	if v, ok, err := pgq.Installed(ctx, empty); ok || v != "10.1" || err != nil {
		t.Errorf("version 10.1: got %q, %v, %v, want refused", v, ok, err)
	}
	for name, dsn := range map[string]string{"skyd": pgtest.DB(t).DSN, "extension": pgtest.Extension(t).DSN} {
		if v, ok, err := pgq.Installed(ctx, open(t, dsn)); !ok || !strings.HasPrefix(v, "3.") || err != nil {
			t.Errorf("%s: got %q, %v, %v, want 3.x", name, v, ok, err)
		}
	}
}

func TestMaintenance_RotationRetryVacuum(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		const queue = `we"ird.q'`
		newQueue(t, db, queue)
		must(t)(db.Exec(ctx, `update pgq.queue set queue_rotation_period = '0', queue_extra_maint = array['Pgq."Own maint"']`))
		must(t)(db.Exec(ctx, `create function pgq."Own maint"(q text) returns int language sql as 'select 1'`))
		ops, err := pgq.MaintOperations(ctx, db)
		if err != nil || len(ops) != 3 {
			t.Fatalf("got %v, %v, want rotation steps 1, 2 and the extra one", ops, err)
		}
		if ops[0] != (pgq.MaintOp{Func: "pgq.maint_rotate_tables_step1", Arg: queue, HasArg: true}) || ops[1].HasArg {
			t.Errorf("got %v", ops)
		}
		for i, wantAgain := range []bool{false, false, true} {
			if again, err := pgq.RunMaintOp(ctx, db, ops[i]); err != nil || again != wantAgain {
				t.Errorf("%v: got %v, %v, want %v", ops[i], again, err, wantAgain)
			}
		}
		if qi, err := pgq.GetQueueInfo(ctx, db, queue); err != nil || qi.CurrentTable != 1 {
			t.Errorf("after rotation: got %+v, %v, want table 1", qi, err)
		}
		for _, f := range []string{"vacuum", "vacuum analyze"} {
			if again, err := pgq.RunMaintOp(ctx, db, pgq.MaintOp{Func: f, Arg: "pgq.tick", HasArg: true}); again || err != nil {
				t.Errorf("%s: got %v, %v", f, again, err)
			}
		}
		for _, bad := range []pgq.MaintOp{
			{Func: "vacuum", Arg: "pgq.tick; drop table x", HasArg: true},
			{Func: "vacuum"},
			{Func: `pgq.version(), pg_sleep`},
			{Func: `"`},
			{Func: `""`},
			{Func: "pgq."},
			{Func: "1a"},
			{Func: `"a"b`},
		} {
			if _, err := pgq.RunMaintOp(ctx, db, bad); !errors.Is(err, pgq.ErrBadParameter) {
				t.Errorf("%v: got %v, want ErrBadParameter", bad, err)
			}
		}
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		must(t)(tx.Exec(ctx, `select txid_current()`))
		if _, err := pgq.RunMaintOp(ctx, tx, ops[1]); !errors.Is(err, pgq.ErrNotOwnTransaction) {
			t.Errorf("in a transaction that wrote: got %v, want ErrNotOwnTransaction", err)
		}
	})
}
