package pgqsql_test

import (
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// shadows are functions and operators that a role puts in front of the
// server's own, in the hope that a function running as the owner calls them.
// Each notes who it runs as and answers like the real one.
const shadows = `
create schema evil;
create table evil.log (who text, what text);
create function evil.note(what text) returns void as $$
	insert into evil.log values (current_user, what) $$ language sql volatile;
create function evil.now() returns timestamptz as $$
	begin perform evil.note('now'); return pg_catalog.now(); end $$ language plpgsql;
create function evil.txid_current() returns bigint as $$
	begin perform evil.note('txid_current'); return pg_catalog.txid_current(); end $$ language plpgsql;
create function evil.txid_current_snapshot() returns txid_snapshot as $$
	begin perform evil.note('txid_current_snapshot'); return pg_catalog.txid_current_snapshot(); end $$ language plpgsql;
create function evil.nextval(regclass) returns bigint as $$
	begin perform evil.note('nextval'); return pg_catalog.nextval($1); end $$ language plpgsql;
create function evil.format(text, variadic text[]) returns text as $$
	begin perform evil.note('format'); return pg_catalog.format($1, variadic $2); end $$ language plpgsql;
create function evil.format(text, integer, integer) returns text as $$
	begin perform evil.note('format'); return pg_catalog.format($1, $2, $3); end $$ language plpgsql;
create function evil.current_setting(text) returns text as $$
	begin perform evil.note('current_setting'); return pg_catalog.current_setting($1); end $$ language plpgsql;
create function evil.texteq(text, text) returns boolean as $$
	begin perform evil.note('='); return pg_catalog.texteq($1, $2); end $$ language plpgsql;
create operator evil.= (leftarg = text, rightarg = text, function = evil.texteq);
create function evil.int8eq(bigint, bigint) returns boolean as $$
	begin perform evil.note('= bigint'); return pg_catalog.int8eq($1, $2); end $$ language plpgsql;
create operator evil.= (leftarg = bigint, rightarg = bigint, function = evil.int8eq);
create function evil.make_interval(secs integer) returns interval as $$
	begin perform evil.note('make_interval'); return pg_catalog.make_interval(secs => $1); end $$ language plpgsql;
create table public.owned (id integer primary key, v text);
`

// attacks are the calls a role may make, with the role it needs.
var attacks = map[string][]string{
	"pgq_writer": {
		"select pgq.insert_event('q', 't', 'd')",
		"select pgq.insert_event('q', 't', 'd', null, null, null, null)",
		"begin isolation level repeatable read; select pgq.insert_event('q', 't', 'd'); commit",
		"select pgq.current_event_table('q')",
		"select pgq.queue_insert_event('q', 't', 'd')",
		"insert into public.owned values (1, 'x'); update public.owned set v = 'y'; delete from public.owned",
	},
	"pgq_reader": {
		"select pgq.register_consumer('q', 'c'), pgq.register_consumer_at('q', 'd', 1), pgq.unregister_consumer('q', 'd')",
		"select pgq.force_tick('q'), pgq.get_consumer_info('q', 'c'), pgq.get_queue_info('q')",
		"select pgq.next_batch('q', 'known'), pgq.next_batch_info('q', 'known'), pgq.next_batch_custom('q', 'known', null, 1, null)",
		"select pgq.queue_register_consumer('q', 'e'), pgq.queue_next_batch('q', 'e'), pgq.queue_unregister_consumer('q', 'e')",
		"select pgq.queue_get_batch_events(1), pgq.queue_event_retry(1, 1, 0); select pgq.queue_finish_batch(99)",
		"select pgq.events_retry(1, '{1}', 0), pgq.nack(1, 1, 'x'), pgq.nack_events(1, '{1}', null), pgq.events_dead(1, '{1}', '{x}'), pgq.dead_letter_info('q', null), pgq.dead_letter_list('q', null, 0, 1)",
		"select * from pgq.queue_health, pgq.consumer_health; select pgq.consumer_paused('q', 'known')",
		"select pgq.get_batch_info(1), pgq.event_retry(1, 1, 0), pgq.event_retry(1, 1, now()), pgq.batch_retry(1, 0), pgq.finish_batch(1)",
	},
}

func TestSecurity_NoRoleRunsItsCodeAsTheOwner(t *testing.T) {
	t.Parallel()
	for role := range attacks {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			if who := attack(t, pgtest.DB(t), role); who != "" {
				t.Errorf("code of a role with %s ran as the owner: %s", role, who)
			}
		})
		t.Run(role+"/search paths not pinned", func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			open(t, db).exec(`do $$ declare f regprocedure; begin
				for f in select oid from pg_catalog.pg_proc where pronamespace in ('pgq'::regnamespace, 'skyd'::regnamespace) and proconfig is not null loop
					execute pg_catalog.format('alter function %s reset search_path', f);
				end loop; end $$`)
			if attack(t, db, role) == "" {
				t.Error("the attack does not reach functions without a pinned search_path: it proves nothing")
			}
		})
	}
}

// attack makes all calls of a role with its own schema first in the path and
// tells which of its functions were run by somebody else.
func attack(t *testing.T, db *pgtest.Database, memberOf string) string {
	t.Helper()
	owner := open(t, db)
	owner.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'known')")
	owner.exec("select pgq.insert_event('q', 't', 'd')")
	owner.exec("select pgq.force_tick('q')")
	owner.tick()

	role := db.Role(t, memberOf)
	owner.exec(shadows)
	owner.exec("create trigger x after insert or update or delete on public.owned for each row execute function pgq.logutriga('q', 'ev_extra4=now()')")
	owner.exec("grant all on schema evil, public to " + role + "; grant all on all tables in schema evil, public to " + role)
	for _, call := range attacks[memberOf] {
		conn := db.ConnAs(t, role)
		if _, err := conn.PgConn().Exec(t.Context(), "set search_path = evil, pg_catalog; create temp table queue (queue_id integer)").ReadAll(); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.PgConn().Exec(t.Context(), call).ReadAll(); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
	}
	if owner.text("select count(*) from evil.log where who = '"+role+"'") == "0" && memberOf == "pgq_writer" {
		t.Fatal("the shadowing functions were never called: the attack proves nothing")
	}
	who := owner.text("select string_agg(distinct who || ' ran ' || what, ', ') from evil.log where who <> '" + role + "'")
	return strings.TrimPrefix(who, "∅")
}

// The maintenance runs with the rights of an administrator and perhaps with a
// schema in its search_path where others may create functions.
func TestSecurity_MaintenanceRunsNoForeignCode(t *testing.T) {
	t.Parallel()
	calls := `set search_path = evil, public;
		select pgq.ticker(), pgq.ticker('q');
		select pgq.maint_retry_events();
		select pgq.maint_rotate_tables_step1('q');
		select pgq.maint_rotate_tables_step2();
		select * from pgq.maint_operations();
		select pgq.set_queue_options('q', '{"max_retries": 0, "dead_letter_keep": "1 day"}');
		select pgq.maint_dead_letters(), pgq.dead_letter_redrive('q', null, null, null, null), pgq.dead_letter_purge('q', null, null);
		select pgq.set_consumer_limit('q', 'c', 'detach', '1 microsecond', null, null), pgq.maint_consumer_limits();
		select pgq.reattach_consumer('q', 'c');
		select pgq.grant_perms('q'), pgq.tune_storage('q'), pgq.upgrade_schema();
		select pgq.insert_event_raw('q', null, null, null, null, 't', 'd', null, null, null, null);
		select pgq.seq_setval('pgq.event_1_id_seq', 5), pgq.seq_getval('pgq.event_1_id_seq')`
	ran := func(t *testing.T, unpin string) string {
		db := pgtest.DB(t)
		s := open(t, db)
		s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c'); update pgq.queue set queue_rotation_period = '0'")
		s.exec("select pgq.event_retry_raw('q', 'c', now(), null, now(), 1, 't', 'd', null, null, null, null)")
		s.exec(shadows)
		s.exec(unpin)
		open(t, db).exec(calls)
		return s.text("select string_agg(distinct what, ', ') from evil.log")
	}
	if what := ran(t, ""); what != "∅" {
		t.Errorf("the maintenance ran foreign code: %s", what)
	}
	if ran(t, `do $$ declare f regprocedure; begin
		for f in select oid from pg_catalog.pg_proc where pronamespace in ('pgq'::regnamespace, 'skyd'::regnamespace) and proconfig is not null loop
			execute pg_catalog.format('alter function %s reset search_path', f);
		end loop; end $$`) == "∅" {
		t.Error("the attack does not reach functions without a pinned search_path: it proves nothing")
	}
}
