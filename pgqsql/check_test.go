package pgqsql_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// finding is a row of pgq.check().
type finding struct{ Area, Object, Severity, Problem, Remedy string }

// check calls pgq.check().
func (s *session) check(t *testing.T) []finding {
	t.Helper()
	rows, _ := s.conn.Query(t.Context(), "select * from pgq.check()")
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[finding])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// finds checks that exactly one finding has the problem, and that its other fields have theirs.
func (s *session) finds(t *testing.T, area, object, severity, problem, remedy string) {
	t.Helper()
	count := 0
	found := s.check(t)
	for _, f := range found {
		if f.Area != area || f.Object != object || !strings.Contains(f.Problem, problem) {
			continue
		}
		count++
		if f.Severity != severity || !strings.Contains(f.Remedy, remedy) {
			t.Errorf("got %+v, want severity %s and remedy %s", f, severity, remedy)
		}
	}
	if count != 1 {
		t.Errorf("%d findings about %s %s that say %q, want 1, in\n%+v", count, area, object, problem, found)
	}
}

func TestCheck_NothingWrong(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		conn := db.Conn(t)
		s := open(t, db)
		mustHarden(t, conn, false)
		s.exec("select pgq.create_queue('q'), pgq.create_queue('O''Hara \"x\".ü')")
		s.exec("select pgq.register_consumer('q', 'c'), pgq.register_consumer('q', 'c.d'), pgq_coop.register_subconsumer('q', 'g', 'w')")
		s.exec("create table public.t (id integer primary key)")
		s.exec("create trigger a after insert or update or delete on public.t for each row execute function pgq.logutriga('O''Hara \"x\".ü', 'backup', 'ignore=a,b', 'when=id > 1')")
		s.exec("create trigger b after truncate on public.t for each statement execute function pgq.sqltriga('missing', 'deny')")
		if found := s.check(t); len(found) > 0 {
			t.Errorf("got %+v, want nothing", found)
		}
		admin := db.ConnAs(t, db.Role(t, "pgq_admin"))
		if _, err := admin.Exec(t.Context(), "select * from pgq.check()"); err != nil {
			t.Errorf("as an admin: %v", err)
		}
	})
}

func TestCheck_Functions(t *testing.T) {
	t.Parallel()
	s := open(t, extension(t, "check"))
	s.finds(t, "function", "pgq.insert_event(text,text,text,text,text,text,text)", "error", "with the search path of its caller", "skyd schema harden")

	own := open(t, pgtest.DB(t))
	own.exec("drop function pgq.force_tick(text)")
	own.finds(t, "function", "pgq.force_tick(text)", "error", "is missing", "skyd schema install")
	own.exec("grant execute on function pgq.drop_queue(text) to public")
	own.finds(t, "function", "pgq.drop_queue(text)", "warning", "everybody may execute it", "revoke execute on function pgq.drop_queue(text) from public")
	own.exec("revoke execute on function pgq.next_batch(text, text) from pgq_reader")
	own.finds(t, "function", "pgq.next_batch(text,text)", "error", "pgq_reader may not execute it", "grant execute")
}

func TestCheck_Triggers(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		s.exec(`select pgq.create_queue('q'); create table public."T x" (id integer primary key); create table public.nokey (id integer)`)
		for _, c := range []struct{ create, severity, problem, remedy string }{
			{"%s after insert on public.\"T x\" for each row execute function pgq.logutriga()", "error", "no queue name", "drop trigger"},
			{"%s after insert on public.\"T x\" for each row execute function pgq.logutriga('gone ü')", "error", "queue gone ü is missing", "select pgq.create_queue('gone ü')"},
			{"%s after insert on public.\"T x\" for each row execute function pgq.jsontriga('q', 'skip')", "error", "argument skip", "drop trigger"},
			{"%s after insert on public.\"T x\" for each row execute function pgq.sqltriga('q', 'SKIP')", "error", "SKIP but fires after", "drop trigger"},
			{"%s after truncate on public.\"T x\" for each statement execute function pgq.sqltriga('q', 'backup')", "error", "truncate does not know", "drop trigger"},
			{"%s after update on public.nokey for each row execute function pgq.sqltriga('q')", "error", "no primary key", "pkey="},
		} {
			s.exec("create trigger " + fmt.Sprintf(c.create, "bad"))
			table := `"T x"`
			if strings.Contains(c.create, "nokey") {
				table = "nokey"
			}
			s.finds(t, "trigger", "bad on public."+table, c.severity, c.problem, c.remedy)
			s.exec("drop trigger bad on public." + table)
		}
		s.exec("create trigger good after update on public.nokey for each row execute function pgq.sqltriga('q', 'pkey=id')")
		s.exec("alter table public.nokey disable trigger good")
		s.finds(t, "trigger", "good on public.nokey", "warning", "is disabled", "enable trigger")
	})
}

func TestCheck_Queues(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		s.exec("select pgq.create_queue('q'), pgq.create_queue('broken'), pgq.create_queue('future')")
		s.exec("alter sequence pgq.event_1_id_seq cache 10; alter sequence pgq.batch_id_seq cache 2")
		s.finds(t, "queue", "q", "warning", "event_1_id_seq hands out numbers in blocks", "alter sequence pgq.event_1_id_seq cache 1")
		s.finds(t, "queue", "pgq.batch_id_seq", "warning", "in blocks", "cache 1")
		s.exec("alter table pgq.event_1_2 reset (autovacuum_enabled)")
		s.finds(t, "queue", "q", "warning", "autovacuum works on table pgq.event_1_2", "select pgq.tune_storage('q')")
		s.exec("insert into pgq.tick (tick_queue, tick_id, tick_event_seq) values (1, 3, 1)")
		s.exec("insert into pgq.tick (tick_queue, tick_id, tick_snapshot, tick_event_seq) values (1, 4, '5:5:', 1)")
		s.finds(t, "queue", "q", "error", "1 ticks have an older snapshot", "one ticker")
		s.exec("select pgq.set_queue_config('q', 'ticker_paused', 'true')")
		s.finds(t, "queue", "q", "warning", "paused", "set_queue_config('q', 'ticker_paused', 'false')")
		s.exec("drop table pgq.event_2_1; drop sequence pgq.event_2_tick_seq")
		s.finds(t, "queue", "broken", "error", "pgq.event_2_1 is missing", "backup")
		s.finds(t, "queue", "broken", "error", "pgq.event_2_tick_seq is missing", "backup")
		s.exec("update pgq.queue set queue_switch_step2 = 1000000000000 where queue_name = 'future'")
		s.finds(t, "queue", "future", "error", "ids from the future", "select pgq.rebase_after_restore()")
	})
}

func TestCheck_Consumers(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'lost'); update pgq.subscription set sub_last_tick = 99")
		s.finds(t, "consumer", "q: lost", "error", "its position is gone: tick 99", "register_consumer_at('q', 'lost'")
		// numbers of batches are unique by their sequence only
		s.exec("alter table pgq.subscription drop constraint if exists subscription_batch_idx") // of the original
		s.exec("update pgq.subscription set sub_last_tick = 1; select pgq.register_consumer('q', 'also'), pgq.register_consumer('q', 'third')")
		s.exec("update pgq.subscription s set sub_batch = 7, sub_next_tick = 1 from pgq.consumer where sub_consumer = co_id and co_name in ('lost', 'also')")
		for _, name := range []string{"lost", "also"} {
			s.finds(t, "consumer", "q: "+name, "error", "has batch 7 open, and so has another", "register_consumer_at('q', '"+name+"', 1)")
		}
		s.finds(t, "consumer", "pgq.batch_id_seq", "error", "stands at 0 while batch 7 is open", "seq_setval('pgq.batch_id_seq', 7)")
		s.exec("select pgq.unregister_consumer('q', 'also'), pgq.unregister_consumer('q', 'third'), pgq.seq_setval('pgq.batch_id_seq', 7)")
		for _, f := range s.check(t) {
			if strings.Contains(f.Problem, "batch 7") {
				t.Errorf("one consumer has the batch, and the sequence is there: got %+v", f)
			}
		}
		// a member whose group is gone (trap T15)
		s.exec("select pgq_coop.register_subconsumer('q', 'g', 'one'), pgq_coop.register_subconsumer('q', 'h', 'idle')")
		s.exec("delete from pgq.subscription using pgq.consumer where sub_consumer = co_id and co_name = 'g'")
		s.finds(t, "consumer", "q: g.one", "error", "main consumer is gone", "select pgq.unregister_consumer('q', 'g.one')")
		// a batch of the main consumer, a position of an idle member (trap T12)
		s.exec("update pgq.subscription set sub_batch = 500, sub_next_tick = 1 from pgq.consumer where sub_consumer = co_id and co_name = 'h'")
		s.finds(t, "consumer", "q: h", "error", "a batch of its own", "finish_batch(500)")
		s.exec("update pgq.subscription set sub_last_tick = 1 from pgq.consumer where sub_consumer = co_id and co_name = 'h.idle'")
		s.finds(t, "consumer", "q: h.idle", "warning", "holds rotation", "unregister_consumer('q', 'h.idle')")
		// a consumer named like a member (trap T33)
		s.exec("select pgq.register_consumer('q', 'h.two')")
		s.finds(t, "consumer", "q: h.two", "warning", "name of a possible member of group h", "without the prefix h.")
	})
}
