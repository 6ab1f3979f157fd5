package pgqsql_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// program finds one of PostgreSQL's programs.
func program(t *testing.T, name string) string {
	t.Helper()
	if b, err := pgserver.Find(); err == nil {
		return filepath.Join(b.Dir, name)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		pgtest.Missing(t, fmt.Sprintf("no %s on this machine: %v", name, err))
	}
	return path
}

// dumpOf is what pg_dump gives.
func dumpOf(t *testing.T, dsn string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, "pg_dump"), "-d", dsn)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, problems.String())
	}
	return string(out)
}

// on is a session on any server.
func on(t *testing.T, dsn string) *session {
	t.Helper()
	conn := dial(t, dsn)
	return &session{t: t, conn: conn, pid: conn.PgConn().PID()}
}

// useUp lets a server give out transaction ids.
func (s *session) useUp(n int) {
	s.t.Helper()
	s.exec(fmt.Sprintf("do $$ begin for i in 1..%d loop perform txid_current(); commit; end loop; end $$", n))
}

// restored is a queue of an old server with much in it, and a copy of its database in a young one.
type restored struct {
	old, young string // DSNs
	unfinished *session
}

// dumpAndRestore makes one on our pgq or on the extension. Old enough means that the old server is far ahead.
func dumpAndRestore(t *testing.T, extension bool, ticks int) restored {
	t.Helper()
	source, target := pgtest.NewCluster(t, nil), pgtest.NewCluster(t, nil)
	r := restored{old: source.DSN("postgres"), young: target.DSN("postgres")}
	s := on(t, r.old)
	s.useUp(20000)
	if extension {
		if _, err := s.conn.Exec(t.Context(), "create extension pgq"); err != nil {
			pgtest.Missing(t, fmt.Sprintf("no extension: %v", err))
		}
	}
	if _, err := pgqsql.Install(t.Context(), dial(t, r.old), pgqsql.Options{}); err != nil {
		t.Fatal(err)
	}
	r.unfinished = fillOldServer(t, r.old, ticks)

	on(t, r.young).exec("create role pgq_reader; create role pgq_writer; create role pgq_admin in role pgq_reader, pgq_writer")
	if out, err := psql(t, r.young, "\\set ON_ERROR_STOP 1\nbegin;\n"+dumpOf(t, r.old)+"\ncommit;\n"); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	return r
}

// fillOldServer makes queue q with a rotation behind it, consumers at different places, one with an open batch, one with
// an event to retry, events of a transaction that was open over several ticks, of savepoints, and of no tick yet. The
// session it returns is in the middle of a transaction.
func fillOldServer(t *testing.T, dsn string, ticks int) *session {
	t.Helper()
	s, long, unfinished := on(t, dsn), on(t, dsn), on(t, dsn)
	insert := func(on *session, name string) { on.exec("select pgq.insert_event('q', '" + name + "', '')") }
	s.exec("select pgq.create_queue('q'); select pgq.create_queue('idle')")
	s.exec("update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	s.exec("select pgq.register_consumer('q', 'slow'), pgq.register_consumer('idle', 'slow')")
	insert(s, "first")
	s.tick()
	s.exec("select pgq.register_consumer_at('q', 'slow', 2)")
	insert(s, "before the rotation")
	s.exec("select pgq.maint_rotate_tables_step1('q')")
	s.exec("select pgq.maint_rotate_tables_step2()")
	s.answers(t, [][2]string{{"select queue_cur_table from pgq.queue where queue_name = 'q'", "1"}})
	s.exec("select pgq.register_consumer('q', 'open'), pgq.register_consumer('q', 'retry')")
	insert(s, "a1")
	long.exec("begin")
	insert(long, "long1")
	insert(s, "a2")
	s.tick()
	s.exec("begin; savepoint x; select pgq.insert_event('q', 'saved', ''); release x; commit")
	insert(long, "long2")
	s.tick()
	insert(s, "b1")
	s.tick()
	long.exec("commit")
	s.exec("select pgq.insert_event('q', 'many' || i, '') from generate_series(1, 20) i")
	s.tick()
	unfinished.exec("begin")
	insert(unfinished, "unfinished")
	insert(s, "c1")
	s.tick()
	for i := range ticks {
		insert(s, fmt.Sprint("t", i))
		s.tick()
	}
	s.exec("select pgq.register_consumer('q', 'end')")
	insert(s, "unticked")
	s.exec(`do $$ declare b bigint; begin
		b := pgq.next_batch('q', 'retry');
		perform pgq.event_retry(b, ev_id, 0) from pgq.get_batch_events(b) where ev_type = 'a1';
		perform pgq.finish_batch(b);
	end $$`)
	s.exec("select pgq.finish_batch(pgq.next_batch('q', 'open'))")
	s.exec("select pgq.next_batch('q', 'open')")
	return unfinished
}

// story reads everything that consumers of queue q have not finished, batch by batch.
func (s *session) story(t *testing.T, consumers ...string) string {
	t.Helper()
	var all strings.Builder
	for _, consumer := range consumers {
		fmt.Fprintf(&all, "%s:", consumer)
		for {
			batch := s.text("select pgq.next_batch('q', '" + consumer + "')")
			if batch == "∅" {
				break
			}
			fmt.Fprintf(&all, " [%s]", s.text("select coalesce(string_agg(ev_type, ' ' order by ev_id, ev_type), '') from pgq.get_batch_events("+batch+")"))
			s.exec("select pgq.finish_batch(" + batch + ")")
		}
		all.WriteString("\n")
	}
	return all.String()
}

func TestRebase_EveryConsumerGetsWhatItHadNotFinished(t *testing.T) {
	for name, c := range map[string]struct {
		extension bool
		ticks     int
	}{"skyd": {false, 3}, "extension": {true, 3}, "more ticks than ids": {false, 1000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := dumpAndRestore(t, c.extension, c.ticks)
			old, young := on(t, r.old), on(t, r.young)
			positions := "select string_agg(t::text, ' ' order by sub_queue, sub_consumer) from (select sub_id, sub_queue, sub_consumer, sub_last_tick, sub_batch, sub_next_tick from pgq.subscription) t"
			if was, is := old.text(positions), young.text(positions); was != is {
				t.Fatalf("restored positions are %s, want %s", is, was)
			}
			_, err := young.conn.Exec(t.Context(), "select pgq.ticker()")
			server := new(pgconn.PgError)
			if !errors.As(err, &server) || !c.extension && !strings.Contains(server.Message, "pgq.rebase_after_restore()") {
				t.Fatalf("ticker after the restore: got %v, want a refusal that names the repair", err)
			}
			if !c.extension {
				_, err := young.conn.Exec(t.Context(), "select pgq.maint_rotate_tables_step1('q')")
				if err == nil || !strings.Contains(err.Error(), "pgq.rebase_after_restore()") {
					t.Errorf("rotation after the restore: got %v, want a refusal that names the repair", err)
				}
			}
			// producers do not wait for the repair
			young.exec("select pgq.insert_event('q', 'early1', '')")
			young.exec("begin; savepoint x; select pgq.insert_event('q', 'early2', ''); release x; commit")

			calls := 0
			for young.text("select pgq.rebase_after_restore()") != "0" {
				if calls++; calls > 2 {
					t.Fatal("the repair finds no end")
				}
			}
			if want := 1 + c.ticks/1000; calls != want {
				t.Errorf("repaired in %d calls, want %d", calls, want)
			}
			if was, is := old.text(positions), young.text(positions); was != is {
				t.Errorf("positions after the repair are %s, want %s", is, was)
			}

			r.unfinished.exec("rollback")
			consumers := []string{"slow", "open", "retry", "end"}
			old.exec("select pgq.insert_event('q', 'early1', '')")
			old.exec("select pgq.insert_event('q', 'early2', '')")
			for _, s := range []*session{old, young} {
				for s.text("select pgq.maint_retry_events()") != "0" {
				}
				s.tick()
			}
			want := old.story(t, consumers...)
			if got := young.story(t, consumers...); got != want {
				t.Errorf("got:\n%s\nwant, as on the old server:\n%s", got, want)
			}
			livesOn(t, young, consumers)
		})
	}
}

// livesOn lets a queue rotate through all of its tables while events come in, and checks that each comes once.
func livesOn(t *testing.T, s *session, consumers []string) {
	t.Helper()
	rotations := 0
	for round := range 12 {
		before := s.text("select queue_cur_table from pgq.queue where queue_name = 'q'")
		s.exec("select pgq.maint_rotate_tables_step1('q')")
		s.exec("select pgq.maint_rotate_tables_step2()")
		if s.text("select queue_cur_table from pgq.queue where queue_name = 'q'") != before {
			rotations++
		}
		s.exec(fmt.Sprintf("select pgq.insert_event('q', 'round%d', '')", round))
		s.tick()
		for _, consumer := range consumers {
			want := fmt.Sprintf("%s: [round%d]\n", consumer, round)
			if got := s.story(t, consumer); got != want {
				t.Errorf("after the repair: got %q, want %q", got, want)
			}
		}
	}
	if rotations < 3 {
		t.Errorf("%d rotations in 12 rounds, want at least 3", rotations)
	}
}

// A server that needs no repair is left as it is.
func TestRebase_LeavesAHealthyServerAlone(t *testing.T) {
	db := pgtest.DB(t)
	fillOldServer(t, db.DSN, 2)
	s := open(t, db)
	all := `select md5(string_agg(r, '|' order by r)) from (
		select t.xmin || t::text as r from pgq.tick t union all select q.xmin || q::text from pgq.queue q
		union all select e.xmin || e::text from pgq.event_template e) x`
	before := s.text(all)
	s.exec("begin; select pgq.insert_event('q', 'own', '')")
	s.answers(t, [][2]string{{"select pgq.rebase_after_restore()", "0"}})
	s.exec("rollback")
	if after := s.text(all); after != before {
		t.Error("the repair changed a server that needs none")
	}
}

// Rights: who administrates may repair, nobody else.
func TestRebase_NeedsAnAdmin(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for role, want := range map[string]string{"pgq_admin": "", "pgq_reader": "42501", "pgq_writer": "42501"} {
		_, err := db.ConnAs(t, db.Role(t, role)).Exec(t.Context(), "select pgq.rebase_after_restore()", pgx.QueryExecModeSimpleProtocol)
		if got := sqlState(err); got != want {
			t.Errorf("%s: got %v, want %q", role, err, want)
		}
	}
}
