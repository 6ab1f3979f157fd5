package pgqsql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// captured opens a database with a table t whose trigger writes to queue q.
func captured(t *testing.T, columns, trigger string) (s, other *session) {
	t.Helper()
	db := pgtest.DB(t)
	s = open(t, db)
	s.exec("select pgq.create_queue('q'); create table public.t (id int primary key, " + columns + ")")
	s.exec("create trigger x after insert or update or delete on public.t for each row execute function " + trigger)
	return s, open(t, db)
}

// encoders counts them.
func (s *session) encoders() string {
	return s.text("select count(*) from pg_proc where pronamespace = 'skyd_gen'::regnamespace and proname ~ '^[ors][0-9]+_'")
}

// wantEvents takes the events out of the queue.
func (s *session) wantEvents(want ...string) {
	s.t.Helper()
	got := s.text(`select string_agg(concat_ws('|', ev_type, ev_data), e'\n' order by ev_id) from pgq.event_1`)
	if got != strings.Join(want, "\n") {
		s.t.Errorf("got events\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	s.exec("truncate pgq.event_1_0")
}

func TestTraps_T22_TextOfTheWritersSession(t *testing.T) {
	t.Parallel()
	s, _ := captured(t, "d timestamptz, f float8", "pgq.logutriga('q')")
	for range 2 { // the slow way, then the encoder
		s.exec("set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set extra_float_digits = 0")
		s.exec("insert into public.t values (1, '2001-02-03 04:05:06+00', 0.1::float4)")
		s.wantEvents("I:id|id=1&d=03.02.2001+13%3a05%3a06+JST&f=0.100000001490116")
		s.exec("set timezone = 'UTC'; reset datestyle; reset extra_float_digits; update public.t set id = id")
		s.wantEvents("U:id|id=1&d=2001-02-03+04%3a05%3a06%2b00&f=0.10000000149011612")
		s.exec("delete from public.t; truncate pgq.event_1_0")
	}
}

func TestTraps_T23_ChangeThatTheTypeCallsEqual(t *testing.T) {
	t.Parallel()
	s, _ := captured(t, "n numeric", "pgq.sqltriga('q')")
	s.exec("insert into public.t (id, n) values (1, 1.50); truncate pgq.event_1_0")
	for _, n := range []string{"1.5", "1.50"} {
		s.exec("update public.t set n = " + n)
		s.wantEvents("U|n='" + n + "' where id='1'")
	}
}

func TestTraps_T24_NullInTheKey(t *testing.T) {
	t.Parallel()
	s, _ := captured(t, "v text, n int", "pgq.sqltriga('q', 'pkey=v')")
	s.exec("insert into public.t (id) values (1)")
	for _, sql := range []string{"update public.t set n = 1", "delete from public.t"} {
		if err := <-s.start(sql); sqlState(err) != "22004" {
			t.Errorf("%s: got %v, want 22004", sql, err)
		}
	}
	s.wantEvents("I|(id,v,n) values ('1',null,null)")
}

func TestTraps_T26_OutputFunctionsAndQuoting(t *testing.T) {
	t.Parallel()
	s, _ := captured(t, `"We&i=rd ""x""" text, c char(5), b bool`, "pgq.logutriga('q')")
	for i := range 2 {
		s.exec(fmt.Sprintf("insert into public.t values (%d, '=&', 'a', true)", i))
		s.wantEvents(fmt.Sprintf("I:id|id=%d&We%%26i%%3drd+%%22x%%22=%%3d%%26&c=a++++&b=t", i))
	}
}

// The encoder is made by the first row, serves all later ones, and follows the table: in the next statement, in
// another session, in the same transaction, and back when that is undone.
func TestTraps_T25_EncodersAreMadeUsedAndFollowTheTable(t *testing.T) {
	t.Parallel()
	s, other := captured(t, "v text", "pgq.logutriga('q')")
	if got := s.encoders(); got != "0" {
		t.Fatalf("got %s encoders before the first row, want none", got)
	}
	s.exec("insert into public.t values (1, 'a')")
	if got := s.encoders(); got != "1" {
		t.Fatalf("got %s encoders after the first row, want 1", got)
	}
	// with an encoder no row goes the slow way, which makes SQL for each
	slow := naive{"skyd.capture_row", "v_options := skyd.capture_options(i_args);", "raise exception 'the slow way';"}
	s.makeNaive(slow)
	s.exec("insert into public.t values (2, 'b')")
	other.exec("update public.t set v = v where id = 1")
	s.wantEvents("I:id|id=1&v=a", "I:id|id=2&v=b", "U:id|id=1&v=a")
	s.exec("alter table public.t rename v to w")
	if err := <-other.start("update public.t set w = w"); err == nil || !strings.Contains(err.Error(), "the slow way") {
		t.Fatalf("got %v, want the encoder to see that it is outdated", err)
	}
	s.makeNaive(naive{slow.function, slow.instead, slow.shipped})

	s.exec("delete from public.t where id = 2; truncate pgq.event_1_0")
	for _, step := range []struct{ change, want string }{
		{"alter table public.t add x int", "U:id|id=1&w=a&x"},
		{"alter table public.t alter x type text using 'a&b'", "U:id|id=1&w=a&x=a%26b"},
		{"alter table public.t drop constraint t_pkey, add primary key (x, id)", "U:x,id|id=1&w=a&x=a%26b"},
		{"drop trigger x on public.t; create trigger x after update on public.t for each row execute function pgq.logutriga('q', 'ignore=w', 'pkey=id')", "U:id|id=1&x=a%26b"},
	} {
		s.exec("begin; update public.t set id = id; truncate pgq.event_1_0; savepoint a; " + step.change)
		s.exec("update public.t set id = id")
		s.wantEvents(step.want)
		s.exec("rollback to a; update public.t set id = id; commit; truncate pgq.event_1_0")
		s.exec(step.change)
		other.exec("update public.t set id = id")
		s.exec("update public.t set id = id")
		s.wantEvents(step.want, step.want)
	}

	s.exec("drop table public.t")
	if got := s.text("select string_agg(func_name, ',') from pgq.maint_operations() where func_name like 'skyd%'"); got != "skyd.capture_clean" {
		t.Errorf("maintenance of the encoders: got %s", got)
	}
	s.exec("select skyd.capture_clean()")
	if got := s.encoders(); got != "0" {
		t.Errorf("got %s encoders after the table was dropped, want none", got)
	}
}

// The plan of a trigger holds what makes usual events; the encoder gets the others. Without a route rows reach the
// encoder all the same, and make one as soon as they may.
func TestTraps_T25_PlansLeadToEncoders(t *testing.T) {
	t.Parallel()
	const routes = "select count(*) from pg_proc where pronamespace = 'skyd_gen'::regnamespace and prosrc ~ 'then skyd_gen.x'"
	s, other := captured(t, "v text", "pgq.logutriga('q')")
	other.exec("begin; select pg_advisory_xact_lock(1936423269, 0)")
	s.exec("insert into public.t values (1, 'a'); insert into public.t values (2, 'b')")
	if got := s.text(routes); got != "0" || s.encoders() != "1" {
		t.Fatalf("while another is at the routes: got %s of them and %s encoders, want 0 and 1", got, s.encoders())
	}
	other.exec("commit")
	s.exec("insert into public.t values (3, 'c')")
	s.wantEvents("I:id|id=1&v=a", "I:id|id=2&v=b", "I:id|id=3&v=c")
	if got := s.text(routes); got != "3" {
		t.Fatalf("got %s routes, want one for each operation", got)
	}
	s.exec(`do $$ begin execute format('create or replace function skyd_gen.%I(_op text, _new record, _old record) returns boolean
		language plpgsql as %L', (select proname from pg_proc where proname ~ '^r[0-9]+_'), 'begin raise exception ''the encoder''; end'); end $$`)
	other.exec("begin; insert into public.t values (4, 'd & e (f)'); update public.t set v = null where id = 4; delete from public.t where id = 4; commit")
	s.wantEvents("I:id|id=4&v=d+%26+e+%28f%29", "U:id|id=4&v", "D:id|id=4&v")
	for _, refused := range []string{"insert into public.t values (5, 'ü')", "update public.t set id = 6 where id = 3"} {
		if err := <-other.start(refused); err == nil || !strings.Contains(err.Error(), "the encoder") {
			t.Errorf("%s: got %v, want it to be left to the encoder", refused, err)
		}
	}
	s.exec("drop table public.t; select skyd.capture_clean()")
	if got := s.text(routes); got != "0" {
		t.Errorf("got %s routes after the table was dropped, want none", got)
	}
}

// Two first rows at once: nobody waits, both are captured.
func TestTraps_T25_FirstRowsAtOnce(t *testing.T) {
	t.Parallel()
	s, other := captured(t, "v text", "pgq.jsontriga('q')")
	s.exec("begin; insert into public.t values (1, 'a')")
	other.exec("set lock_timeout = '5s'; insert into public.t values (2, 'b')")
	s.exec("commit")
	s.exec("insert into public.t values (3, 'c')")
	if got := s.text("select count(*) from pgq.event_1"); got != "3" || s.encoders() != "1" {
		t.Errorf("got %s events and %s encoders, want 3 and 1", got, s.encoders())
	}
}

// A writer whose snapshot is older than the table's shape reads old catalogs.
func TestCapture_OldSnapshotIsRefused(t *testing.T) {
	t.Parallel()
	for _, change := range []string{"rename v to w", "add w int", "drop column v", "alter v type int8", "drop constraint t_pkey", "rename to t3"} {
		t.Run(change, func(t *testing.T) {
			t.Parallel()
			s, other := captured(t, "v int", "pgq.logutriga('q')")
			table := "public.t"
			s.exec("begin isolation level repeatable read; select 1")
			other.exec("alter table public.t " + change)
			if change == "rename to t3" {
				table = "public.t3"
			}
			if err := <-s.start("insert into " + table + " (id) values (1)"); sqlState(err) != "40001" {
				t.Errorf("got %v, want 40001", err)
			}
			s.exec("rollback; begin isolation level serializable; insert into " + table + " (id) values (1); insert into " + table + " (id) values (2); commit")
			if got := s.text("select count(*) from pgq.event_1"); got != "2" {
				t.Errorf("got %s events, want 2", got)
			}
		})
	}
}

func TestCapture_StatementLevelIsRefusedWhereOrderWouldBeWrong(t *testing.T) {
	t.Parallel()
	for name, db := range map[string]*pgtest.Database{"skyd": pgtest.DB(t), "extension": extension(t, "")} {
		t.Run(name, func(t *testing.T) { captureByStatement(t, open(t, db)) })
	}
}

func captureByStatement(t *testing.T, s *session) {
	s.exec("select pgq.create_queue('q'); create table public.t (id int primary key, v int)")
	s.exec(`create function public.again() returns trigger as $$ begin
		if new.v < 100 then update public.t set v = v + 100 where id = new.id; end if; return null; end $$ language plpgsql`)
	capture := "select coalesce(array_length(pgq.capture_table('public.t', 'q', 'logutriga', 'statement', '{backup}'), 1), 0)"
	for _, want := range []string{"4", "0"} {
		if got := s.text(capture); got != want {
			t.Errorf("made %s triggers, want %s", got, want)
		}
	}
	for range 2 {
		s.exec(`insert into public.t select i, i from generate_series(1, 3) i; update public.t set v = 5 where id = 1;
			update public.t set v = v + 1 where id > 1; delete from public.t where id > 1; truncate public.t`)
		s.wantEvents("I:id|id=1&v=1", "I:id|id=2&v=2", "I:id|id=3&v=3", "U:id|id=1&v=5", "U:id|id=2&v=3", "U:id|id=3&v=4",
			"D:id|id=2&v=3", "D:id|id=3&v=4", "R|")
	}
	// more than one array takes
	s.exec("insert into public.t select i, i from generate_series(1, 45000) i")
	if got := s.text("select count(*) || ' ' || bool_and(ev_data = 'id=' || n || '&v=' || n) from (select *, row_number() over (order by ev_id) n from pgq.event_1) e"); got != "45000 true" {
		t.Errorf("got %s, want 45000 events in order", got)
	}
	for _, sql := range []string{"update public.t set id = -id", "update public.t set id = -id where id = 7"} {
		if err := <-s.start(sql); sqlState(err) != "55000" {
			t.Errorf("%s: got %v, want 55000", sql, err)
		}
	}

	if got := s.text("select count(*) from pgq.capture_hazards()"); got != "0" {
		t.Errorf("got %s hazards, want none", got)
	}
	// the trigger that somebody adds later is found
	s.exec("create trigger z after insert on public.t for each row execute function public.again()")
	if got := s.text("select hazard from pgq.capture_hazards()"); !strings.Contains(got, "row trigger z") {
		t.Errorf("got hazard %s", got)
	}
	s.exec(`create table public.u (id int primary key, v int);
		create trigger again after insert or update on public.u for each row execute function public.again();
		create table public.p (id int primary key) partition by list (id);
		create table public.f (id int primary key, up int references public.f on delete cascade)`)
	for _, table := range []string{"public.u", "public.p", "public.f"} {
		if err := <-s.start("select pgq.capture_table('" + table + "', 'q', 'jsontriga', 'statement')"); sqlState(err) != "55000" {
			t.Errorf("%s: got %v, want 55000", table, err)
		}
		s.exec("select pgq.capture_table('" + table + "', 'q', 'jsontriga')")
	}
}

// Expressions run as whoever writes, code that he puts into his search path changes nothing that the contract fixes,
// and without pgq_writer nothing is captured nor made.
func TestCapture_RightsOfTheWriter(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s := open(t, db)
	s.exec("select pgq.create_queue('q'); create table public.t (id int primary key, v text)")
	s.exec("create trigger x after insert or update on public.t for each row execute function pgq.logutriga('q', 'ev_extra3=current_user', 'ignore=nothing')")
	writer, reader := db.Role(t, "pgq_writer"), db.Role(t, "pgq_reader")
	s.exec("grant usage on schema public to public; grant all on public.t to public; grant create on database " + pgx.Identifier{db.Name}.Sanitize() + " to " + writer)
	if _, err := db.ConnAs(t, reader).Exec(t.Context(), "insert into public.t values (0, '')"); sqlState(err) != "42501" {
		t.Errorf("a role without pgq_writer: got %v, want 42501", err)
	}
	conn := db.ConnAs(t, writer)
	mustExec(t, conn, `create schema evil;
		create function evil.no(text, text) returns boolean language sql as 'select false';
		create operator evil.= (leftarg = text, rightarg = text, function = evil.no);
		create operator evil.<> (leftarg = text, rightarg = text, function = evil.no);
		create function evil.replace(text, text, text) returns text language sql as $$ select 'evil' $$;
		create function evil.num_nulls(anyelement) returns int language sql as 'select 1';
		set search_path = evil, pg_catalog`)
	for i := range 3 {
		mustExec(t, conn, fmt.Sprintf("insert into public.t values (%d, 'a b&'); update public.t set v = 'c d=' where id operator(pg_catalog.=) %[1]d", i))
	}
	if got, want := s.text("select string_agg(ev_extra3, '|') from pgq.event_1"), strings.TrimSuffix(strings.Repeat(writer+"|", 6), "|"); got != want {
		t.Errorf("expressions ran as %s, want %s", got, want)
	}
	s.exec("delete from pgq.event_1_0 where ev_data not like 'id=2%'")
	s.wantEvents("I:id|id=2&v=a+b%26", "U:id|id=2&v=c+d%3d")

	// what makes the code takes names, and quotes what it finds under them
	mustExec(t, conn, `create table evil.own (id int primary key); create trigger "x'); drop table public.t; --" after insert on evil.own
		for each row execute function pgq.logutriga('q', 'ev_extra4=1); drop table public.t; --')`)
	if _, err := conn.Exec(t.Context(), "insert into evil.own values (1)"); err == nil {
		t.Error("an expression that is none was taken")
	}
	if got := s.text("select count(*) from public.t"); got != "3" {
		t.Errorf("got %s rows, want 3", got)
	}
	if got := s.text("select count(*) from pg_proc where pronamespace = 'skyd_gen'::regnamespace and proname ~ '^[ors][0-9]' and prosecdef"); got != "0" {
		t.Errorf("got %s encoders with the rights of the owner, want none", got)
	}
}
