package pgqsql_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// holder tells who the health view says keeps queue q from being rotated.
func (s *session) holder() string {
	s.t.Helper()
	return s.text("select concat_ws(' ', coalesce(holder, 'nobody'), holder_name, (holder_pid is not null and rotation_blocked)::text) from pgq.get_queue_health('q')")
}

// holderIsNamed blocks a rotation in every way there is and compares the report with what is the case.
func holderIsNamed(t *testing.T, db *pgtest.Database) string {
	return holders(t, open(t, db), open(t, db))
}

// holders is the schedule of holderIsNamed.
func holders(t *testing.T, admin, writer *session) string {
	t.Helper()
	admin.prepareQueue()
	harm := ""
	expect := func(when, want string) {
		t.Helper()
		admin.settle()
		if got := admin.holder(); got != want && harm == "" {
			harm = when + ": rotation is held by " + got + ", want " + want
		}
	}
	expect("nothing is open", "nobody false")

	writer.exec("begin; lock table pgq.event_1_1 in access share mode")
	writer.exec("set local application_name = 'pg_dump'")
	expect("the next table is locked", "lock pg_dump true")
	writer.exec("rollback")

	admin.rotate()
	expect("nobody has ticked since the rotation", "ticker false")
	admin.tick()
	expect("the consumer is behind", "consumer c false")

	writer.exec("set application_name = 'long import'; begin; select pg_current_xact_id()")
	admin.drain()
	admin.exec("select pgq.maint_rotate_tables_step1('q')")
	admin.exec("select pgq.maint_rotate_tables_step2()")
	admin.tick()
	admin.drain()
	expect("a transaction is open since before the rotation", "writer long import true")
	if got := admin.text(fmt.Sprintf("select holder_pid = %d and holder_age_seconds > 0 and holder_database = current_database() from pgq.get_queue_health('q')", writer.pid)); got != "true" && harm == "" {
		harm = "the writer is not described"
	}
	// the server hides the start of other roles' transactions from a role like the daemon's: then it is the age at least
	admin.exec("create role health_owner in role pgq_admin; grant all on schema pgq to health_owner")
	defer admin.exec("alter function pgq.get_queue_health(text) owner to current_user; drop owned by health_owner; drop role health_owner")
	admin.exec("alter function pgq.get_queue_health(text) owner to health_owner")
	if got := admin.text("select holder_age_seconds > 0 from pgq.get_queue_health('q')"); got != "true" && harm == "" {
		harm = "the age of a hidden transaction is " + got
	}

	if admin.text("current_setting('max_prepared_transactions')::integer > 0") == "true" {
		writer.exec("prepare transaction 'it''s forgotten'")
		expect("it is prepared", "prepared it's forgotten false")
		writer.exec("commit prepared 'it''s forgotten'")
	} else {
		writer.exec("commit")
	}
	admin.tick()
	admin.drain()
	expect("all is over", "nobody false")
	return harm
}

// Prepared transactions are off unless a server is told otherwise.
func TestHealth_NamesPreparedTransactions(t *testing.T) {
	t.Parallel()
	c := pgtest.NewCluster(t, map[string]string{"max_prepared_transactions": "2"})
	sessions := make([]*session, 2)
	for i := range sessions {
		conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		if _, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{}); err != nil {
			t.Fatal(err)
		}
		sessions[i] = &session{t: t, conn: conn, pid: conn.PgConn().PID()}
	}
	if harm := holders(t, sessions[0], sessions[1]); harm != "" {
		t.Error(harm)
	}
	sessions[0].exec("select pgq.drop_queue('q', true)")
	sessions[0].exec("delete from public.seen")
	writerWithoutConsumers(t, sessions[0], sessions[1], "prepared", "prepare transaction 'late'", "commit prepared 'late'")
}

// monitoringAgainstRotation rotates while a transaction that looked at the health of the queue is still open.
func monitoringAgainstRotation(t *testing.T, db *pgtest.Database) string {
	admin, monitor := open(t, db), open(t, db)
	admin.prepareQueue()
	monitor.exec("begin; select * from pgq.queue_health; select * from pgq.consumer_health")
	admin.exec("select pgq.maint_rotate_tables_step1('q')")
	monitor.exec("commit")
	if admin.text("select queue_cur_table from pgq.queue") != "1" {
		return "the rotation was skipped"
	}
	return ""
}

// detachAgainstFinish detaches a consumer while it finishes a batch. Reattached, it must not get that batch again.
func detachAgainstFinish(t *testing.T, db *pgtest.Database) string {
	admin, consumer := open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.set_consumer_limit('q', 'c', 'detach', null, 0, null)")
	for _, data := range []string{"done", "left"} {
		admin.exec("select pgq.insert_event('q', '" + data + "', 'x')")
		admin.tick()
	}
	batch := consumer.text("select pgq.next_batch('q', 'c')")
	consumer.exec("create table public.seen_too as select ev_id, ev_type from pgq.get_batch_events(" + batch + ")")
	consumer.exec("begin; select pgq.finish_batch(" + batch + ")")
	detached := open(t, db)
	done := detached.start("select pgq.maint_consumer_limits()")
	detached.waitBlocked(admin)
	consumer.exec("commit")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := admin.text("select state from pgq.get_consumer_health('q', 'c')"); got != "detached" {
		t.Fatalf("consumer is %s, want detached", got)
	}
	admin.exec("select pgq.reattach_consumer('q', 'c')")
	admin.drain()
	if got := admin.text("select string_agg(ev_type, ',') from (select * from public.seen_too union all select * from public.seen where ev_type <> 'early') s"); got != "done,left" {
		return "delivered: " + got + ", want done,left"
	}
	return ""
}
