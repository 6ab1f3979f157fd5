package pgqsql_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
)

// onBothHosts runs a test on skyd's PgQ and beside the C extension.
func onBothHosts(t *testing.T, test func(t *testing.T, db *pgtest.Database)) {
	t.Parallel()
	t.Run("skyd", func(t *testing.T) { t.Parallel(); test(t, pgtest.DB(t)) })
	t.Run("extension", func(t *testing.T) { t.Parallel(); test(t, extension(t, "rights")) })
}

// denied makes a call that must fail for want of rights.
func denied(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != "42501" {
		t.Errorf("%s: got %v, want 42501", sql, err)
	}
}

// ownedByMallory makes a table with an index whose function writes into queue q, and the rows for it.
const ownedByMallory = `
	create table public.bait (n integer);
	create function public.send(n integer) returns integer language plpgsql immutable as $$
		begin perform pgq.queue_insert_event('q', 't', 'stolen'); return n; exception when insufficient_privilege then return n; end $$;
	create index on public.bait (public.send(n));
	insert into public.bait select generate_series(1, 100)`

// A superuser that analyses the table of another role runs that role's code.
// That code must have no more rights than its role, whatever the session has.
func TestQueueRights_TheCallerIsWhoseCodeItIs(t *testing.T) {
	onBothHosts(t, func(t *testing.T, db *pgtest.Database) {
		stolen := func(db *pgtest.Database) int {
			owner := db.Conn(t)
			mallory := db.Role(t)
			mustExec(t, owner, "select pgq.create_queue('q'); grant create on schema public to "+mallory)
			conn := db.ConnAs(t, mallory)
			mustExec(t, conn, ownedByMallory)
			mustExec(t, owner, "analyze public.bait")
			return query[int](t, owner, "select count(*)::int from pgq.event_1 where ev_data = 'stolen'")
		}
		naive := db.Conn(t)
		mustExec(t, naive, `do $$ begin execute replace('create or replace view pgq.caller with (security_barrier) as '
			|| pg_catalog.pg_get_viewdef('pgq.caller'::regclass), 'CURRENT_USER',
			'coalesce(nullif(pg_catalog.current_setting(''role''), ''none''), session_user)'); end $$`)
		if stolen(db) == 0 {
			t.Error("the schedule does no harm where the session counts as the caller: it proves nothing")
		}
		fresh := pgtest.DB(t)
		if strings.HasSuffix(t.Name(), "extension") {
			fresh = extension(t, "rights")
		}
		if n := stolen(fresh); n != 0 {
			t.Errorf("code of a role without rights inserted %d events", n)
		}
	})
}

// A definer function has the rights of its owner: so a producer may let others
// write what it decides, and nobody lends rights by being called.
func TestQueueRights_DefinerFunctions(t *testing.T) {
	onBothHosts(t, func(t *testing.T, db *pgtest.Database) {
		owner, app, user := db.Conn(t), db.Role(t), db.Role(t)
		mustExec(t, owner, "select pgq.create_queue('q'); grant create on schema public to "+app+", "+user)
		if n := query[int](t, owner, "select pgq.grant_queue('q', $1, 'write')", app); n != 1 {
			t.Fatalf("grant_queue: got %d, want 1", n)
		}
		asApp, asUser := db.ConnAs(t, app), db.ConnAs(t, user)
		const send = " returns bigint language sql security definer as $$ select pgq.queue_insert_event('q', 't', 'd') $$"
		mustExec(t, asApp, "create function public.by_app()"+send)
		mustExec(t, asUser, "create function public.by_user()"+send)
		mustExec(t, asUser, "select public.by_app()")
		denied(t, asApp, "select public.by_user()")
		denied(t, asUser, "select pgq.queue_insert_event('q', 't', 'd')")
		mustExec(t, asApp, `create table public.captured (n integer);
			create function public.capture() returns trigger language plpgsql security definer as $$
				begin perform pgq.queue_insert_event('q', 'n', new.n::text); return null; end $$;
			create trigger capture after insert on public.captured for each row execute function public.capture();
			grant insert on public.captured to public`)
		mustExec(t, asUser, "insert into public.captured values (7)")
		if n := query[int](t, owner, "select count(*)::int from pgq.event_1 where ev_data = '7'"); n != 1 {
			t.Errorf("captured %d events, want 1", n)
		}
	})
}

// Nobody becomes another role by what he can set, nor with a proof that was
// another's, another session's or of another transaction.
func TestQueueRights_ForgedCallers(t *testing.T) {
	onBothHosts(t, func(t *testing.T, db *pgtest.Database) {
		owner, app, mallory := db.Conn(t), db.Role(t), db.Role(t)
		mustExec(t, owner, "select pgq.create_queue('q')")
		mustExec(t, owner, "select pgq.grant_queue('q', $1, 'write')", app)
		asApp := db.ConnAs(t, app)
		// a real login: what ConnAs gives may still change its session user
		asMallory, err := pgx.Connect(t.Context(), db.DSNAs(mallory))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = asMallory.Close(context.Background()) })

		denied(t, asMallory, "select set_config('role', $1, false)", app)
		denied(t, asMallory, "set session authorization "+app)
		denied(t, asMallory, "select pgq.queue_insert_event('q', 't', 'd')")
		mustExec(t, asMallory, `create temp view caller as select '10:0' as proof; set search_path = pg_temp, pg_catalog`)
		denied(t, asMallory, "select pgq.queue_insert_event('q', 't', 'd')")
		denied(t, asMallory, "select * from pgq.caller_key")
		denied(t, asMallory, "create or replace view pgq.caller as select ''::text as proof")

		const insert = "select pgq.queue_insert_event('q', 't', 'd', i_caller => $1)"
		proof := query[string](t, asApp, "select pgq.caller_proof()")
		denied(t, asMallory, insert, proof)
		denied(t, asApp, insert, proof) // of an earlier transaction
		tx, err := asApp.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		proof = query[string](t, tx.Conn(), "select pgq.caller_proof()")
		denied(t, asMallory, insert, proof)
		mustExec(t, asApp, insert, proof)
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		// an own proof does not name another
		denied(t, asMallory, "select pgq.queue_insert_event('q', 't', 'd', i_caller => $1::text::regrole::oid || ':' || split_part(pgq.caller_proof(), ':', 2))", app)

		// a member may become the role, and has its rights anyway
		mustExec(t, owner, "grant "+app+" to "+mallory)
		mustExec(t, asMallory, "select pgq.queue_insert_event('q', 't', 'd'), set_config('role', $1, false)", app)
		mustExec(t, asMallory, "select pgq.queue_insert_event('q', 't', 'd')")
	})
}

func TestQueueRights_GoWithTheRole(t *testing.T) {
	onBothHosts(t, func(t *testing.T, db *pgtest.Database) {
		owner, role := db.Conn(t), db.Role(t)
		odd := strings.ReplaceAll(`odd "r'.é `+role, "'", "")
		mustExec(t, owner, "select pgq.create_queue('q')")
		mustExec(t, owner, "select pgq.grant_queue('q', $1, 'read')", role)
		conn := db.ConnAs(t, role)
		mustExec(t, conn, "select pgq.queue_register_consumer('q', 'c')")

		quoted := pgx.Identifier{odd}.Sanitize()
		mustExec(t, owner, "alter role "+role+" rename to "+quoted)
		mustExec(t, conn, "select pgq.queue_next_batch('q', 'c')")
		// what a dump writes, and a restore reads
		if text := query[string](t, owner, "select role_id::text from pgq.queue_right"); text != quoted {
			t.Errorf("role_id is dumped as %s, want %s", text, quoted)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustExec(t, owner, "drop role "+quoted)
		mustExec(t, owner, "create role "+role) // the name again, but not the rights
		if n := query[int](t, owner, "select count(*)::int from pgq.queue_grants"); n != 0 {
			t.Errorf("got %d grants of a dropped role", n)
		}
		mustExec(t, owner, "set role "+role)
		denied(t, owner, "select pgq.queue_next_batch('q', 'c')")
		mustExec(t, owner, "reset role")
		if f := query[string](t, owner, "select func_name from pgq.plus_maint_operations()"); f != "pgq.maint_queue_rights" {
			t.Errorf("maintenance is %s", f)
		}
		mustExec(t, owner, "select pgq.maint_queue_rights()")
		if n := query[int](t, owner, "select ((select count(*) from pgq.queue_right) + (select count(*) from pgq.consumer_holder))::int"); n != 0 {
			t.Errorf("%d rows of the dropped role are left", n)
		}
	})
}
