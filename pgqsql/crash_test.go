package pgqsql_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// Batch and tick numbers are remembered in other databases (pgq_ext). A server that commits asynchronously may forget
// what it has just committed, but not a batch that it gave out: the same number would come with other events, and the
// target would skip them.
func TestCrash_BatchThatWasGivenOutIsNotForgotten(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"})
	connect := func() *session {
		conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return &session{t: t, conn: conn, pid: conn.PgConn().PID()}
	}
	s := connect()
	if _, err := pgqsql.Install(t.Context(), s.conn, pgqsql.Options{}); err != nil {
		t.Fatal(err)
	}
	s.exec("select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	s.exec("select pgq.register_consumer('q', 'c'); select pgq_coop.register_subconsumer('q', 'g', 'one')")
	for _, step := range []struct{ name, open, still string }{
		{"next_batch", "pgq.next_batch('q', 'c')", "pgq.next_batch('q', 'c')"},
		{"coop", "pgq_coop.next_batch('q', 'g', 'one')", "pgq_coop.next_batch('q', 'g', 'one')"},
		{"taken over", "pgq_coop.next_batch('q', 'g', 'two', '0')", "pgq_coop.next_batch('q', 'g', 'two')"},
	} {
		s.exec("select pgq.ticker('q')")
		s.exec("checkpoint")
		s.exec("select pgq.insert_event('q', 'e', '')")
		s.exec("select pgq.ticker('q')")
		given := s.text(step.open)
		tick := s.text("select max(sub_next_tick) from pgq.subscription where sub_batch = " + given)
		c.Kill()
		c.Start()
		s = connect()
		if got := s.text("select count(*) from pgq.subscription where sub_batch = " + given); got != "1" {
			t.Errorf("%s: batch %s, which was given out, is forgotten after a crash", step.name, given)
		}
		if got := s.text("select count(*) from pgq.tick where tick_id = " + tick); got != "1" {
			t.Errorf("%s: tick %s of a batch that was given out is forgotten", step.name, tick)
		}
		if got := s.text(step.still); got != given {
			t.Errorf("%s: batch %s is %s after a crash", step.name, given, got)
		}
	}
}
