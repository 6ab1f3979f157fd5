package pgqsql_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// original is one way in which PgQ was installed before skyd.
type original struct {
	from    string // as the report calls it
	options pgqsql.Options
	more    []string // schemas beside pgq
	install func(t *testing.T) *pgtest.Database
}

// originals are all that can be taken over.
func originals() map[string]original {
	plain, extension := pgqsql.Options{TakeOver: true}, pgqsql.Options{TakeOver: true, FromExtension: true}
	return map[string]original{
		"2.1": {
			from: "plain SQL", options: plain, more: []string{"pgq_ext"},
			install: func(t *testing.T) *pgtest.Database { return fromFiles(t, "pgq_2.sql", "pgq_ext_2.sql") },
		},
		"3.x": {
			from: "plain SQL", options: plain, more: []string{"pgq_coop", "pgq_node"},
			install: func(t *testing.T) *pgtest.Database { return fromFiles(t, "pgq_3.sql", "pgq_coop.sql", "pgq_node.sql") },
		},
		"3.x as shipped": {from: "plain SQL", options: plain, install: asShipped},
		"extension": {
			from: "extension pgq 3.", options: extension,
			install: func(t *testing.T) *pgtest.Database { return pgtest.Extension(t) },
		},
	}
}

// ask is what to call Install with.
func (o original) ask() pgqsql.Options {
	options := o.options
	options.Schemas = append([]string{"pgq"}, o.more...)
	return options
}

// fromFiles makes a database from fixtures.
func fromFiles(t *testing.T, names ...string) *pgtest.Database {
	t.Helper()
	db := pgtest.Empty(t)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", "legacy", name))
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, db.Conn(t), string(text))
	}
	return db
}

// asShipped makes a database with the plain-SQL script that comes with the extension's files.
func asShipped(t *testing.T) *pgtest.Database {
	t.Helper()
	db := pgtest.Empty(t)
	path := query[string](t, db.Conn(t), "select setting || '/contrib/pgq_pl_only.sql' from pg_catalog.pg_config where name = 'SHAREDIR'")
	script, err := os.ReadFile(path)
	if err != nil {
		pgtest.Missing(t, fmt.Sprintf("no plain-SQL install of the original on this machine: %v", err))
	}
	if out, err := psql(t, db.DSN, string(script)); err != nil || strings.Contains(out, "ERROR") {
		t.Fatalf("%v\n%s", err, out)
	}
	return db
}

// oldTick makes a tick.
const oldTick = `insert into pgq.tick (tick_queue, tick_id) values (1, nextval('pgq.event_1_tick_seq'))`

// oldQueue is a queue of the original in the middle of its life, each element a transaction: ticks 1 to 4, a rotation
// between 3 and 4, unread events in two tables and one after the last tick, a consumer at the first tick, one with the
// open batch 77 and an event to retry, one that has read all, and a table with a trigger.
var oldQueue = []string{
	`insert into pgq.queue (queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
		values ('q', 'pgq.event_1', 'pgq.event_1_id_seq', 'pgq.event_1_tick_seq');
	create sequence pgq.event_1_id_seq;
	create sequence pgq.event_1_tick_seq;
	create table pgq.event_1 () inherits (pgq.event_template);
	create table pgq.event_1_0 () inherits (pgq.event_1);
	create table pgq.event_1_1 () inherits (pgq.event_1);
	create table pgq.event_1_2 () inherits (pgq.event_1);
	alter table pgq.event_1_0 alter ev_id set default nextval('pgq.event_1_id_seq');
	alter table pgq.event_1_1 alter ev_id set default nextval('pgq.event_1_id_seq');
	alter table pgq.event_1_2 alter ev_id set default nextval('pgq.event_1_id_seq');
	create index event_1_0_txid_idx on pgq.event_1_0 (ev_txid);
	create index event_1_1_txid_idx on pgq.event_1_1 (ev_txid);
	create index event_1_2_txid_idx on pgq.event_1_2 (ev_txid);
	grant select on pgq.event_1, pgq.event_1_0, pgq.event_1_1, pgq.event_1_2 to public`,
	oldTick,
	`insert into pgq.event_1_0 (ev_time, ev_type) values (now(), 'a1')`,
	`insert into pgq.event_1_0 (ev_time, ev_type) values (now(), 'a2')`,
	oldTick,
	`insert into pgq.event_1_0 (ev_time, ev_type, ev_data) values (now(), 'b1', 'ü & "quoted"')`,
	oldTick,
	`update pgq.queue set queue_cur_table = 1, queue_switch_step1 = txid_current(), queue_switch_step2 = null`,
	`update pgq.queue set queue_switch_step2 = txid_current()`,
	`insert into pgq.event_1_1 (ev_time, ev_type) values (now(), 'c1')`,
	oldTick,
	`insert into pgq.event_1_1 (ev_time, ev_type) values (now(), 'd1')`,
	`insert into pgq.consumer (co_name) values ('slow'), ('mid.dle "x"'), ('done')`,
	`insert into pgq.subscription (sub_queue, sub_consumer, sub_last_tick, sub_batch, sub_next_tick)
		values (1, 1, 1, null, null), (1, 2, 2, 77, 3), (1, 3, 4, null, null)`,
	`select setval('pgq.batch_id_seq', 77)`,
	`create table public.t (id integer primary key, v text)`,
	`create trigger t_log after insert or update or delete on public.t for each row execute function pgq.logutriga('q')`,
}

// fillOld puts that queue into a database of the original.
func fillOld(t *testing.T, db *pgtest.Database) {
	t.Helper()
	s := open(t, db)
	column := func(table, name, more string) bool {
		return s.text("select count(*) from pg_attribute where attrelid = 'pgq."+table+"'::regclass and attname = '"+name+"'"+more) == "1"
	}
	counted := column("tick", "tick_event_seq", " and attnotnull")
	for _, sql := range oldQueue {
		if counted && sql == oldTick {
			sql = `insert into pgq.tick (tick_queue, tick_id, tick_event_seq)
				select 1, nextval('pgq.event_1_tick_seq'), last_value from pgq.event_1_id_seq`
		}
		s.exec(sql)
	}
	if column("retry_queue", "ev_queue", "") {
		s.exec(`insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type)
			values (now(), 1, 1, now(), 2, 1, 'a1')`)
		return
	}
	s.exec(`insert into pgq.retry_queue (ev_retry_after, ev_id, ev_time, ev_owner, ev_retry, ev_type)
		values (now(), 1, now(), 2, 1, 'a1')`)
	s.exec(`insert into pgq.failed_queue (ev_failed_reason, ev_failed_time, ev_id, ev_time, ev_owner, ev_type)
		values ('poison', now(), 2, now(), 2, 'a2')`)
}

// The takeovers are long transactions, which hold back the rotations of other tests: they do not run beside them.
func TestTakeover_KeepsEverything(t *testing.T) {
	for name, o := range originals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := o.install(t)
			fillOld(t, db)
			s, app := open(t, db), db.Role(t)
			s.exec("grant select on pgq.retry_queue to " + app)
			s.exec("grant execute on function pgq.insert_event(text, text, text), pgq.get_queue_info(text) to " + app)
			report, err := pgqsql.Install(t.Context(), db.Conn(t), o.ask())
			if err != nil {
				t.Fatal(err)
			}
			pgq := schemaOf(t, report, "pgq")
			if !report.Changed || !strings.HasPrefix(pgq.TakenFrom, o.from) || pgq.Owner != pgqsql.Skyd || !pgq.UpToDate() {
				t.Errorf("got %+v, want schema pgq taken over from %s", pgq, o.from)
			}
			again, err := pgqsql.Install(t.Context(), db.Conn(t), o.ask())
			if err != nil || again.Changed {
				t.Errorf("second upgrade: got %+v, %v, want no change", again, err)
			}
			s.answers(t, [][2]string{
				{"select has_table_privilege('" + app + "', 'pgq.retry_queue', 'select')", "true"},
				{"select has_function_privilege('" + app + "', 'pgq.insert_event(text,text,text)', 'execute')", "true"},
				{"select has_function_privilege('" + app + "', 'pgq.get_queue_info(text)', 'execute')", "true"},
				{"select has_function_privilege('" + app + "', 'pgq.drop_queue(text)', 'execute')", "false"},
				{"select has_function_privilege('pgq_writer', 'pgq.insert_event(text,text,text)', 'execute')", "true"},
				{"select count(*) from pg_extension where extname = 'pgq'", "0"},
			})
			worksOn(t, db)
			sameAsFresh(t, db, append([]string{"pgq"}, o.more...))
		})
	}
}

// answers checks queries, in their order.
func (s *session) answers(t *testing.T, steps [][2]string) {
	t.Helper()
	for _, step := range steps {
		if got := s.text(step[0]); got != step[1] {
			t.Errorf("%s: got %s, want %s", step[0], got, step[1])
		}
	}
}

// rest reads all batches of a consumer of queue q and lists the types of the events.
func (s *session) rest(t *testing.T, consumer string) string {
	t.Helper()
	var seen []string
	for {
		batch := s.text("select pgq.next_batch('q', '" + consumer + "')")
		if batch == "∅" {
			return strings.Join(seen, " ")
		}
		if events := s.text("select string_agg(ev_type, ' ' order by ev_id) from pgq.get_batch_events(" + batch + ")"); events != "∅" {
			seen = append(seen, events)
		}
		if got := s.text("select pgq.finish_batch(" + batch + ")"); got != "1" {
			t.Errorf("finish_batch of %s answers %s", consumer, got)
		}
	}
}

// worksOn lets every consumer of the old queue go on, and new events come in on all ways.
func worksOn(t *testing.T, db *pgtest.Database) {
	t.Helper()
	s := open(t, db)
	s.answers(t, [][2]string{
		{`select pgq.next_batch('q', 'mid.dle "x"')`, "77"},
		{"select string_agg(ev_data, ',') from pgq.get_batch_events(77)", `ü & "quoted"`},
		{"select count(*) from pgq.get_batch_info(77) where queue_name = 'q' and prev_tick_id = 2 and tick_id = 3", "1"},
		{"select string_agg(last_tick || '/' || coalesce(current_batch, 0), ' ' order by consumer_name collate \"C\") from pgq.get_consumer_info('q')", "4/0 2/77 1/0"},
		{"select bool_and(tick_event_seq between 0 and 5) from pgq.tick", "true"},
		{"select ev_new > 0 from pgq.get_queue_info('q')", "true"},
	})
	s.exec("update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	s.exec("insert into public.t values (1, 'x')")
	s.exec("select pgq.insert_event('q', 'new', '')")
	s.exec("insert into pgq.event_1_1 (ev_time, ev_type) values (now(), 'copied')")
	s.answers(t, [][2]string{{"select pgq.maint_retry_events()", "1"}, {"select pgq.ticker('q')", "5"}})
	for consumer, want := range map[string]string{
		"slow":        "a1 a2 b1 c1 d1 I:id new copied",
		`mid.dle "x"`: "b1 c1 a1 d1 I:id new copied",
		"done":        "d1 I:id new copied",
	} {
		if got := s.rest(t, consumer); got != want {
			t.Errorf("consumer %s: got %s, want %s", consumer, got, want)
		}
	}
	s.exec("update pgq.queue set queue_rotation_period = '0'")
	// a transaction of another test may hold it for a while
	pgtest.Eventually(t, 2*time.Minute, "a rotation", func() bool {
		s.exec("select pgq.ticker('q')")
		for _, consumer := range []string{"slow", `mid.dle "x"`, "done"} {
			s.rest(t, consumer)
		}
		s.exec("select pgq.maint_rotate_tables_step1('q')")
		s.exec("select pgq.maint_rotate_tables_step2()")
		return s.text("select queue_cur_table from pgq.queue") == "2"
	})
	var batch *int64 // as the Python client asks
	if err := db.Conn(t).QueryRow(t.Context(), "select batch_id from pgq.next_batch_custom($1, $2, null, null, null)", "q", "slow").Scan(&batch); err != nil {
		t.Error(err)
	}
}

// sameAsFresh compares the catalog with that of a fresh install that has made the same queue. The order of columns and
// of rights does not count, nor does what the takeover keeps on purpose.
func sameAsFresh(t *testing.T, db *pgtest.Database, schemas []string) {
	t.Helper()
	fresh := pgtest.Empty(t)
	if _, err := pgqsql.Install(t.Context(), fresh.Conn(t), pgqsql.Options{Schemas: schemas}); err != nil {
		t.Fatal(err)
	}
	if open(t, db).text("select count(*) from pgq.queue") == "1" {
		open(t, fresh).exec("select pgq.create_queue('q')")
	}
	kept := func(line string) bool {
		return strings.Contains(line, "failed_queue") || strings.Contains(line, "fq_pkey") || strings.Contains(line, "logtriga()")
	}
	got := slices.DeleteFunc(looseCatalogOf(t, db.Conn(t), schemas...), kept)
	sameCatalog(t, got, looseCatalogOf(t, fresh.Conn(t), schemas...))
}

// looseCatalogOf is catalogOf without the order of columns and rights, and without the rights of single roles.
func looseCatalogOf(t *testing.T, conn *pgx.Conn, schemas ...string) []string {
	t.Helper()
	const rights = `(select string_agg(r, ' ' order by r) from (
		select case when a.grantee = 0 then 'public' else a.grantee::regrole::text end || '=' || a.privilege_type as r
		from aclexplode(coalesce(%s, acldefault(%s))) a
		where a.grantee = 0 or a.grantee::regrole::text like 'pgq%%') x)`
	return catalogBy(t, conn, strings.NewReplacer(
		"a.attnum, ", "",
		"c.relacl", fmt.Sprintf(rights, "c.relacl", `case when c.relkind = 'S' then 's'::"char" else 'r'::"char" end, c.relowner`),
		"p.proacl", fmt.Sprintf(rights, "p.proacl", `'f', p.proowner`),
		"n.nspacl", fmt.Sprintf(rights, "n.nspacl", `'n', n.nspowner`),
	), schemas...)
}

// wholeCatalog is the catalog of a database of the original, where there are no records of skyd, with its extensions.
func wholeCatalog(t *testing.T, db *pgtest.Database) []string {
	t.Helper()
	return catalogBy(t, db.Conn(t), strings.NewReplacer(
		"select concat_ws(' | ', 'file', schema_name, path, sha256) from skyd.schema_file",
		"select nspname::text from pg_namespace where nspname !~ 'pg_(toast_)?temp'",
		"select concat_ws(' | ', 'recorded', schema_name, signature, path, fingerprint) from skyd.schema_function",
		"select concat_ws(' | ', e.extname, pg_describe_object(d.classid, d.objid, 0)) from pg_extension e join pg_depend d on d.refobjid = e.oid",
	), "pgq", "pgq_coop", "pgq_ext", "skyd")
}

// catalogBy is catalogOf by another query.
func catalogBy(t *testing.T, conn *pgx.Conn, change *strings.Replacer, schemas ...string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), change.Replace(catalogSQL), schemas)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestTakeover_OnlyWhenAskedFor(t *testing.T) {
	for name, o := range originals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := o.install(t)
			before := wholeCatalog(t, db)
			asked := []pgqsql.Options{{Schemas: []string{"pgq"}}}
			if o.options.FromExtension {
				asked = append(asked, pgqsql.Options{Schemas: []string{"pgq"}, TakeOver: true})
			}
			for _, options := range asked {
				r, err := pgqsql.Install(t.Context(), db.Conn(t), options)
				if o.options.FromExtension && (err != nil || r.Changed) {
					t.Errorf("%+v: got %+v, %v, want the extension left alone", options, r, err)
				}
				if !o.options.FromExtension && !errors.Is(err, pgqsql.ErrRefused) {
					t.Errorf("%+v: got %v, want a refusal", options, err)
				}
			}
			dry := o.ask()
			dry.DryRun = true
			r, err := pgqsql.Install(t.Context(), db.Conn(t), dry)
			if err != nil || !r.Changed || !r.DryRun || len(schemaOf(t, r, "pgq").Changes) == 0 {
				t.Errorf("dry run: got %+v, %v, want a plan", r, err)
			}
			sameCatalog(t, wholeCatalog(t, db), before)
		})
	}
}

// A takeover that is cut off near its end leaves the original whole, and the next one succeeds.
func TestTakeover_CutOffLeavesTheOriginal(t *testing.T) {
	for name, o := range originals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := o.install(t)
			fillOld(t, db)
			before := wholeCatalog(t, db)
			holder, admin, conn := open(t, db), open(t, db), db.Conn(t)
			// the storage of the event tables is among the last steps
			holder.exec("begin; lock table pgq.event_1_2 in share update exclusive mode")
			done := make(chan error, 1)
			go func() {
				_, err := pgqsql.Install(t.Context(), conn, o.ask())
				done <- err
			}()
			pid := conn.PgConn().PID()
			pgtest.Eventually(t, 2*time.Minute, "the takeover waits near its end", func() bool {
				return admin.text(fmt.Sprintf("select cardinality(pg_blocking_pids(%d)) > 0", pid)) == "true"
			})
			admin.exec(fmt.Sprintf("select pg_terminate_backend(%d)", pid))
			if err := <-done; err == nil {
				t.Error("the takeover went on without its connection")
			}
			holder.exec("commit")
			sameCatalog(t, wholeCatalog(t, db), before)
			if _, err := pgqsql.Install(t.Context(), db.Conn(t), o.ask()); err != nil {
				t.Fatalf("second try: %v", err)
			}
			worksOn(t, db)
		})
	}
}

func TestTakeover_KeepsGroups(t *testing.T) {
	o := originals()["3.x"]
	db := o.install(t)
	fillOld(t, db)
	s := open(t, db)
	s.exec("insert into pgq.consumer (co_name) values ('group'), ('group.one'), ('group.two')")
	s.exec(`insert into pgq.subscription (sub_id, sub_queue, sub_consumer, sub_last_tick, sub_batch, sub_next_tick)
		values (9, 1, 4, 3, null, null), (9, 1, 5, 2, 78, 3), (9, 1, 6, null, null, null)`)
	s.exec("select setval('pgq.batch_id_seq', 78), setval('pgq.subscription_sub_id_seq', 9)")
	if _, err := pgqsql.Install(t.Context(), db.Conn(t), o.ask()); err != nil {
		t.Fatal(err)
	}
	s.answers(t, [][2]string{
		{"select pgq_coop.next_batch('q', 'group', 'one')", "78"},
		{"select string_agg(ev_type, ' ') from pgq.get_batch_events(78)", "b1"},
		{"select pgq_coop.next_batch('q', 'group', 'two')", "79"},
		{"select string_agg(ev_type, ' ') from pgq.get_batch_events(79)", "c1"},
		{"select pgq_coop.finish_batch(78)", "1"},
		{"select pgq_coop.finish_batch(79)", "1"},
		{"select pgq.unregister_consumer('q', 'group')", "3"},
	})
}

func TestTakeover_ReportsWhatStays(t *testing.T) {
	o := originals()["2.1"]
	db := o.install(t)
	fillOld(t, db)
	s := open(t, db)
	s.exec("create function pgq.mine() returns integer as 'select 1' language sql; alter table pgq.queue add column owner text")
	s.exec("insert into pgq_ext.completed_batch values ('c', 5)")
	r, err := pgqsql.Install(t.Context(), db.Conn(t), o.ask())
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(schemaOf(t, r, "pgq").Notes, "\n")
	for _, want := range []string{
		"table pgq.failed_queue is no longer used; it stays as it is, rows: 1", "function pgq.mine()", "column pgq.queue.owner",
		"function pgq.logtriga()", "grant these roles",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes: got %s, want %q", notes, want)
		}
	}
	s.answers(t, [][2]string{
		{"select string_agg(ev_failed_reason, ',') from pgq.failed_queue", "poison"},
		{"select pgq.mine()", "1"},
		{"select pgq_ext.is_batch_done('c', 5)", "true"},
		{"select to_regprocedure('pgq.event_failed(bigint,bigint,text)') is null", "true"},
		{"select to_regtype('pgq.ret_batch_event') is null", "true"},
	})
}

func TestTakeover_RefusesWhatItDoesNotKnow(t *testing.T) {
	for name, c := range map[string]struct{ from, sql, problem, remedy string }{
		"function of our name": {
			"3.x", "create function pgq.insert_event(text, jsonb) returns bigint as 'select 1::bigint' language sql",
			"has a function pgq.insert_event(text,jsonb)", "rename or drop it",
		},
		"column without default": {
			"3.x", "alter table pgq.queue add column owner text not null", "has a column queue.owner", "drop not null",
		},
		"type": {
			"3.x", "alter table pgq.tick alter column tick_id type integer",
			"has column tick.tick_id of type integer, and bigint is needed", "by hand",
		},
		"view on a result that changes": {
			"2.1", "create view public.lag as select ticker_lag from pgq.get_queue_info()", "view", "drop that first",
		},
		"foreign key on the old key": {
			"2.1", "create table public.note (sub integer references pgq.subscription (sub_id))",
			"subscription_pkey", "drop that first",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := originals()[c.from]
			db := o.install(t)
			mustExec(t, db.Conn(t), c.sql)
			before := wholeCatalog(t, db)
			for _, dry := range []bool{true, false} {
				options := o.ask()
				options.DryRun = dry
				_, err := pgqsql.Install(t.Context(), db.Conn(t), options)
				refused(t, err, c.problem, c.remedy)
			}
			sameCatalog(t, wholeCatalog(t, db), before)
		})
	}
	for _, name := range []string{"3.x", "extension"} {
		t.Run("not the owner of "+name, func(t *testing.T) {
			t.Parallel()
			o := originals()[name]
			db := o.install(t)
			_, err := pgqsql.Install(t.Context(), db.ConnAs(t, db.Role(t)), o.ask())
			refused(t, err, "may not change it", "connect as a member")
		})
	}
}

// refused checks a refusal.
func refused(t *testing.T, err error, problem, remedy string) {
	t.Helper()
	refusal := new(pgqsql.RefusedError)
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Problem, problem) || !strings.Contains(refusal.Remedy, remedy) {
		t.Errorf("got %v (%+v), want %q (%q)", err, refusal, problem, remedy)
	}
}

// An extension that needs another one comes along or holds it.
func TestTakeover_ExtensionsThatNeedOneAnother(t *testing.T) {
	db := pgtest.Extension(t)
	text, err := os.ReadFile(filepath.Join("testdata", "legacy", "pgq_coop.sql"))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, db)
	s.exec(string(text))
	// what create extension pgq_coop leaves, where its files are
	s.exec(`insert into pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
		values (9999999, 'pgq_coop', 10, 'pg_catalog'::regnamespace, false, '3.4')`)
	s.exec(`insert into pg_catalog.pg_depend (classid, objid, objsubid, refclassid, refobjid, refobjsubid, deptype)
		select 'pg_extension'::regclass, 9999999, 0, 'pg_extension'::regclass, oid, 0, 'n' from pg_extension where extname = 'pgq'`)
	s.exec(`do $$ declare f regprocedure; begin
		for f in select oid from pg_proc where pronamespace = 'pgq_coop'::regnamespace loop
			execute 'alter extension pgq_coop add function ' || f;
		end loop; execute 'alter extension pgq_coop add schema pgq_coop'; end $$`)

	options := pgqsql.Options{Schemas: []string{"pgq"}, TakeOver: true, FromExtension: true}
	_, err = pgqsql.Install(t.Context(), db.Conn(t), options)
	refused(t, err, "extension pgq_coop needs it", "take both over at once")
	options.Schemas = []string{"pgq", "pgq_coop"}
	r, err := pgqsql.Install(t.Context(), db.Conn(t), options)
	if err != nil || schemaOf(t, r, "pgq_coop").Owner != pgqsql.Skyd || schemaOf(t, r, "pgq").Owner != pgqsql.Skyd {
		t.Fatalf("got %+v, %v, want both taken over", r, err)
	}
	s.answers(t, [][2]string{{"select count(*) from pg_extension where extname like 'pgq%'", "0"}})
	sameAsFresh(t, db, []string{"pgq", "pgq_coop"})
}

// What skyd added beside the extension stays where it is, and then nothing is left to complain about.
func TestTakeover_WithAdditionsBeside(t *testing.T) {
	db := extension(t, "takeover")
	s := open(t, db)
	s.exec("select pgq.create_queue('q'); select pgq.set_queue_options('q', '{\"max_retries\": 3}')")
	r, err := pgqsql.Install(t.Context(), db.Conn(t), pgqsql.Options{TakeOver: true, FromExtension: true})
	if err != nil || schemaOf(t, r, "pgq").TakenFrom == "" || !schemaOf(t, r, "pgq_plus").UpToDate() {
		t.Fatalf("got %+v, %v, want pgq taken over", r, err)
	}
	s.answers(t, [][2]string{{"select pgq.get_queue_options('q') ->> 'max_retries'", "3"}})
	if found := s.check(t); len(found) > 0 {
		t.Errorf("got %+v, want nothing", found)
	}
	if h := mustHarden(t, db.Conn(t), true); h.Changed {
		t.Errorf("got %+v, want nothing to harden", h)
	}
}

// Producers go on while the functions of a PgQ 3.5 are replaced.
func TestTakeover_ProducersDoNotWait(t *testing.T) {
	o := originals()["extension"]
	db := o.install(t)
	fillOld(t, db)
	holder, producer, admin, conn := open(t, db), open(t, db), open(t, db), db.Conn(t)
	holder.exec("begin; lock table pgq.event_1_2 in share update exclusive mode")
	done := make(chan error, 1)
	go func() {
		_, err := pgqsql.Install(t.Context(), conn, o.ask())
		done <- err
	}()
	pid := conn.PgConn().PID()
	pgtest.Eventually(t, 2*time.Minute, "the takeover waits near its end", func() bool {
		return admin.text(fmt.Sprintf("select cardinality(pg_blocking_pids(%d)) > 0", pid)) == "true"
	})
	producer.exec("set lock_timeout = '1s'")
	producer.exec("select pgq.insert_event('q', 'meanwhile', '')")
	holder.exec("commit")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	producer.answers(t, [][2]string{{"select count(*) from pgq.event_template where ev_type = 'meanwhile'", "1"}})
}
