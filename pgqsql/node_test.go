package pgqsql_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
)

// Writers that are open while a root is demoted either get their events in before the final tick or are refused, at
// every isolation level: the original lets a transaction with an older snapshot write behind the final tick.
func TestNode_NobodyWritesBehindTheFinalTick(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			admin, writer := db.Conn(t), db.Conn(t)
			mustExec(t, admin, `select pgq_node.register_location('q', 'o', 'dbname=o', false)`)
			mustExec(t, admin, `select pgq_node.register_location('q', 'n', 'dbname=n', false)`)
			mustExec(t, admin, `select pgq_node.create_node('q', 'root', 'o', 'wo', null, null, null)`)
			tx, err := writer.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback(t.Context()) }()
			if _, err := tx.Exec(t.Context(), `select from pgq.queue`); err != nil { // takes the snapshot
				t.Fatal(err)
			}
			mustExec(t, admin, `select pgq_node.demote_root('q', 1, null)`)
			mustExec(t, admin, `select pgq_node.demote_root('q', 2, null)`)
			// Whoever read the flag before it was set comes this far.
			_, err = tx.Exec(t.Context(), `insert into pgq.event_1_0 (ev_time, ev_type) values (now(), 'late')`)
			if err == nil {
				err = tx.Commit(t.Context())
			}
			if n := query[int](t, admin, `select count(*) from pgq.event_template`); n != 0 || err == nil {
				t.Errorf("%d events behind the final tick, %v; want the writer refused", n, err)
			}
		})
	}
}

// A branch whose worker died between its copy and its tick hands out no number twice after a promotion.
func TestNode_PromotedBranchCountsOn(t *testing.T) {
	t.Parallel()
	conn := pgtest.DB(t).Conn(t)
	mustExec(t, conn, `select pgq_node.register_location('q', 'o', 'dbname=o', false)`)
	mustExec(t, conn, `select pgq_node.register_location('q', 'n', 'dbname=n', false)`)
	mustExec(t, conn, `select pgq_node.create_node('q', 'branch', 'n', 'wn', 'o', 1, null)`)
	mustExec(t, conn, `set session_replication_role = replica`)
	mustExec(t, conn, `insert into pgq.event_1_0 (ev_id, ev_time, ev_type) values (700, now(), 'copied')`)
	mustExec(t, conn, `set session_replication_role = origin`)
	mustExec(t, conn, `select pgq_node.promote_branch('q')`)
	if id := query[int64](t, conn, `select pgq.insert_event('q', 'new', '')`); id != 701 {
		t.Errorf("the first new event has number %d, want 701", id)
	}
}

// Closing waits for nobody who reads, and opening neither.
func TestNode_CloseAndOpenPassReaders(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	conn, reader := db.Conn(t), db.Conn(t)
	mustExec(t, conn, `select pgq.create_queue('q')`)
	mustExec(t, conn, `set lock_timeout = '5s'`)
	tx, err := reader.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `select from pgq.event_template`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		mustExec(t, conn, `select pgq.close_queue('q')`)
		if _, err := conn.Exec(t.Context(), `select pgq.insert_event('q', 'a', '')`); err == nil {
			t.Error("a closed queue took an event")
		}
		if _, err := conn.Exec(t.Context(), `insert into pgq.event_1_0 (ev_time) values (now())`); err == nil {
			t.Error("a closed table took an event")
		}
		mustExec(t, conn, `select pgq.open_queue('q')`)
		mustExec(t, conn, `select pgq.insert_event('q', 'a', '')`)
	}
}

// A queue that was closed for everybody, and opened by a tool that knows the flag only, takes events of those who see that,
// and of nobody who may not have seen it closed; the next closing counts for everybody again.
func TestNode_ClosedQueueOpenedByTheFlagAlone(t *testing.T) {
	t.Parallel()
	for name, db := range map[string]*pgtest.Database{"skyd": pgtest.DB(t), "beside": pgtest.Beside(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := db.Conn(t)
			mustExec(t, conn, `select pgq.create_queue('q')`)
			at := func() pgx.Tx {
				t.Helper()
				tx, err := db.Conn(t).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
				if err == nil {
					_, err = tx.Exec(t.Context(), `select from pgq.queue`)
				}
				if err != nil {
					t.Fatal(err)
				}
				return tx
			}
			write := func(what string, tx pgx.Tx, want bool) {
				t.Helper()
				_, err := tx.Exec(t.Context(), `insert into pgq.event_1_0 (ev_time, ev_type) values (now(), 'e')`)
				if (err == nil) != want {
					t.Errorf("%s writes: %v, want %t", what, err, want)
				}
				if err := tx.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			const openFlag = `update pgq.queue set queue_disable_insert = false`
			before := at()
			mustExec(t, conn, `select pgq.close_queue('q')`)
			during := at()
			write("who begins while it is closed", at(), false)
			mustExec(t, conn, openFlag)
			write("who began before", before, false)
			write("who began while it was closed", during, false)
			write("who begins after the opening", at(), true)
			mustExec(t, conn, `select pgq.insert_event('q', 'e', '')`)
			between, other := at(), at()
			mustExec(t, conn, `select pgq.close_queue('q')`)
			write("who saw it open, after the second closing", between, false)
			mustExec(t, conn, `select pgq.open_queue('q')`)
			write("the same, after pgq.open_queue", other, true)
			mustExec(t, conn, `select pgq.close_queue('q')`)
			write("after the third closing", at(), false)
		})
	}
}

// The global watermark of a root goes back when somebody asks for it, as in the original, but not silently.
func TestNode_WatermarkGoesBackWithAWarning(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	cfg, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	warned := ""
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { warned = n.Severity + ": " + n.Message }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	mustExec(t, conn, `select pgq_node.register_location('q', 'o', 'dbname=o', false)`)
	mustExec(t, conn, `select pgq_node.create_node('q', 'root', 'o', 'wo', null, null, null)`)
	mustExec(t, conn, `select pgq.force_tick('q')`)
	mustExec(t, conn, `select pgq.ticker('q')`)
	mustExec(t, conn, `select pgq_node.set_global_watermark('q', 2)`)
	if warned != "" {
		t.Errorf("forwards: %q", warned)
	}
	mustExec(t, conn, `select pgq_node.set_global_watermark('q', 1)`)
	if warned != "WARNING: global watermark of queue q goes back to tick 1" {
		t.Errorf("backwards: %q", warned)
	}
}
