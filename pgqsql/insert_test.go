package pgqsql_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// steps plays statements in one session; "!" in front means that it must fail.
func (s *session) steps(statements ...string) {
	s.t.Helper()
	for _, sql := range statements {
		wanted, refused := strings.CutPrefix(sql, "!")
		_, err := s.conn.PgConn().Exec(s.t.Context(), wanted).ReadAll()
		if (err != nil) != refused {
			s.t.Fatalf("%s: got error %v, want one: %v", wanted, err, refused)
		}
	}
}

const insertSQL = "select pgq.insert_event('q', 't', 'd')"

// The code behind insert_event remembers, within a transaction, which table is current. What the transaction itself
// changes must count all the same.
func TestInsertEvent_SeesWhatItsTransactionChanges(t *testing.T) {
	t.Parallel()
	closed := "update pgq.queue set queue_disable_insert = true"
	opened := "update pgq.queue set queue_disable_insert = false"
	for name, c := range map[string]struct {
		steps []string
		want  int // events at the end
	}{
		"closed": {[]string{
			"begin", insertSQL, "savepoint a", closed, "savepoint b", "!" + insertSQL, "rollback to b",
			"set local session_replication_role = replica", insertSQL, "set local session_replication_role = local",
			"savepoint b", "!" + insertSQL, "rollback to a", insertSQL, "commit", insertSQL,
		}, 4 - 1},
		"closed and open again": {[]string{"begin", insertSQL, closed, opened, insertSQL, "commit"}, 2},
		"limited": {[]string{
			"begin", insertSQL, "update pgq.queue set queue_per_tx_limit = 2", insertSQL, insertSQL,
			"savepoint a", "!" + insertSQL, "rollback to a", "commit", "begin", insertSQL, insertSQL, "!" + insertSQL, "rollback",
		}, 3},
		"limit 0": {[]string{"update pgq.queue set queue_per_tx_limit = 0", "!" + insertSQL}, 0},
		"dropped and created": {[]string{
			"begin", insertSQL, "select pgq.drop_queue('q')", "savepoint a", "!" + insertSQL,
			"rollback to a", "select pgq.create_queue('q')", insertSQL, insertSQL, "commit", insertSQL,
		}, 3},
		"creation rolled back": {[]string{
			"begin", insertSQL, "savepoint a", "select pgq.drop_queue('q'); select pgq.create_queue('q')",
			insertSQL, "rollback to a", insertSQL, "commit",
		}, 2},
		"renamed": {[]string{
			"begin", insertSQL, "update pgq.queue set queue_name = 'p'", "savepoint a", "!" + insertSQL,
			"rollback to a", "select pgq.insert_event('p', 't', 'd')", "commit",
		}, 2},
		"rotated": {[]string{
			"update pgq.queue set queue_rotation_period = '0'; select pgq.ticker('q')", "begin", insertSQL,
			"select pgq.maint_rotate_tables_step1('q')", insertSQL, "commit", insertSQL,
		}, 3},
		"savepoint": {[]string{"begin", "savepoint a", insertSQL, "rollback to a", insertSQL, "commit"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, pgtest.DB(t))
			s.exec("select pgq.create_queue('q')")
			s.steps(c.steps...)
			if got := s.text("select count(*) from pgq.event_template"); got != fmt.Sprint(c.want) {
				t.Errorf("%s events, want %d", got, c.want)
			}
		})
	}
}

// The hints are settings that anybody can make. A forged one may cost time, nothing else.
func TestInsertEvent_ForgedHintsDoNoHarm(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	admin, writer := open(t, db), &session{t: t, conn: db.ConnAs(t, db.Role(t, "pgq_writer"))}
	admin.exec("select pgq.create_queue('q'), pgq.create_queue('other')")
	for _, forged := range []string{"0", "1", "2", "7", "", "x", "0; drop table pgq.queue", "-1", "'"} {
		writer.exec("set skyd.slot_1 = " + quoteLiteral(forged))
		writer.exec("set skyd.slot_2 = " + quoteLiteral(forged))
		writer.exec(insertSQL)
		admin.exec("update pgq.queue set queue_disable_insert = true where queue_name = 'q'")
		writer.steps("!" + insertSQL)
		admin.exec("update pgq.queue set queue_disable_insert = false, queue_per_tx_limit = 0 where queue_name = 'q'")
		writer.steps("!" + insertSQL)
		admin.exec("update pgq.queue set queue_per_tx_limit = null")
	}
	if got := admin.text("(select count(*) from pgq.event_1_0) || ' ' || (select count(*) from pgq.event_template)"); got != "9 9" {
		t.Errorf("%s events, want 9, all in the current table of the queue", got)
	}
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Names that hash anywhere, also more of them than one function takes, and what SQL makes hard.
func TestInsertEvent_ManyQueues(t *testing.T) {
	t.Parallel()
	s := open(t, pgtest.DB(t))
	names := []string{"", " ", "'", `"`, `\`, "a.b", "%s", "$$", "żółw", strings.Repeat("x", 300), "null"}
	for i := range 40 {
		names = append(names, fmt.Sprint("queue ", i))
	}
	check := func(names []string, want int) {
		t.Helper()
		s.exec("begin")
		for _, name := range names {
			for range 2 {
				s.exec("select pgq.insert_event(" + quoteLiteral(name) + ", 't', 'd', '1', '2', '3', '4')")
			}
		}
		s.exec("commit")
		if got := s.text(`select string_agg(distinct n::text, ' ') from (select count(e.ev_id) as n from pgq.queue q
			left join pgq.event_template e on e.tableoid = ('pgq.event_' || q.queue_id || '_0')::regclass group by q.queue_id) c`); got != fmt.Sprint(want) {
			t.Errorf("events per queue: %s, want %d", got, want)
		}
		if got := s.text("select count(*) from pgq._inserters_stale()"); got != "0" {
			t.Errorf("%s functions are stale", got)
		}
	}
	for i, name := range names {
		s.exec("select pgq.create_queue(" + quoteLiteral(name) + ")")
		if i == 10 {
			check(names[:11], 2)
			s.exec("truncate pgq.event_template")
		}
	}
	check(names, 2)
	for _, name := range names[11:] {
		s.exec("select pgq.drop_queue(" + quoteLiteral(name) + ")")
	}
	check(names[:11], 4)
}

// Creating and dropping queues goes on while others produce; nobody sees an error, and they do not wait for each other.
func TestInsertEvent_QueuesComeAndGoMeanwhile(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	setup := open(t, db)
	setup.exec("select pgq.create_queue('q')")

	a, b := open(t, db), open(t, db)
	a.exec("select pgq.create_queue('a')")
	a.exec("begin; select pgq.drop_queue('a')")
	b.exec("select pgq.create_queue('b')") // does not wait
	a.exec("commit")
	a.exec("select pgq.insert_event('b', 't', 'd')")
	if got := a.text("select string_agg(func_name, ' ') from pgq.maint_operations()"); got != "pgq._make_inserters" {
		t.Errorf("maintenance has to do: %s, want what the second creation left", got)
	}
	a.exec("select pgq._make_inserters()")
	if got := a.text("select count(*) from pgq.maint_operations()"); got != "0" {
		t.Errorf("maintenance has still %s things to do", got)
	}

	var (
		wg       sync.WaitGroup
		stop     = make(chan struct{})
		inserted atomic.Int64
	)
	for range 2 {
		s := open(t, db)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := s.conn.PgConn().Exec(t.Context(), "begin; "+insertSQL+"; "+insertSQL+"; commit; "+insertSQL).ReadAll()
				if err != nil {
					t.Error(err)
					return
				}
				inserted.Add(3)
			}
		})
	}
	for i := range 2 {
		s := open(t, db)
		wg.Go(func() {
			for n := range 20 {
				name := quoteLiteral(fmt.Sprintf("%d.%d", i, n%3))
				_, err := s.conn.PgConn().Exec(t.Context(), "select pgq.create_queue("+name+"); select pgq.insert_event("+name+
					", 't', 'd'); begin; select pgq.drop_queue("+name+"); select pgq.create_queue("+name+"); commit; select pgq.insert_event("+
					name+", 't', 'd'); select pgq.drop_queue("+name+")").ReadAll()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	pgtest.Eventually(t, time.Minute, "events inserted meanwhile", func() bool { return t.Failed() || inserted.Load() > 300 })
	close(stop)
	wg.Wait()
	if got := setup.text("select count(*) from pgq.event_1"); got != fmt.Sprint(inserted.Load()) {
		t.Errorf("%s events, want %d", got, inserted.Load())
	}
}

// Code that is out of date sends events the long way, into the right table.
func TestInsertEvent_StaleCodeIsOnlySlow(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s, holder := open(t, db), open(t, db)
	s.exec("select pgq.create_queue('q'); " + insertSQL)
	holder.exec("begin; select pg_advisory_xact_lock(1885827445, 0)")
	s.exec("begin; " + insertSQL)
	s.exec("select pgq.drop_queue('q'); select pgq.create_queue('q')")
	s.exec(insertSQL + "; commit; " + insertSQL)
	if got := s.text("select count(*) from pgq.event_2_0"); got != "2" {
		t.Errorf("%s events, want 2", got)
	}
}

// A way that turns out not to be open takes no event id: neither a rotation nor a change of the queue leaves a gap.
func TestInsertEvent_TakesOneID(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s, other := open(t, db), open(t, db)
	s.exec("select pgq.create_queue('q')")
	other.exec("update pgq.queue set queue_rotation_period = '0'")
	s.exec("begin; " + insertSQL)
	other.exec("select pgq.maint_rotate_tables_step1('q')")
	s.exec(insertSQL)
	other.exec("update pgq.queue set queue_per_tx_limit = 10")
	s.exec(insertSQL + "; commit")
	if got := s.text("select string_agg(ev_id::text || ' in ' || tableoid::regclass, ', ' order by ev_id) from pgq.event_1"); got != "1 in pgq.event_1_0, 2 in pgq.event_1_1, 3 in pgq.event_1_1" {
		t.Errorf("events %s", got)
	}
}

// A tick that was rolled back must not stop ticks in repeatable read for good; a tick of somebody else must.
func TestTicker_RepeatableReadAfterARollback(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s, other := open(t, db), open(t, db)
	s.exec("select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	s.exec("begin; select pgq.ticker('q'); rollback")
	s.exec("begin isolation level repeatable read")
	if got := s.text("select pgq.ticker('q')"); got != "3" {
		t.Errorf("after a rollback: tick %s, want 3", got)
	}
	s.exec("commit; begin isolation level repeatable read; select 1")
	other.exec("select pgq.ticker('q')")
	if got := s.text("select pgq.ticker('q') is null"); got != "true" {
		t.Errorf("with a snapshot before another tick: no tick is %s, want true", got)
	}
	s.exec("commit")
}

// A known consumer costs no number, however often it registers.
func TestRegisterConsumer_KnownNameCostsNoNumber(t *testing.T) {
	t.Parallel()
	s := open(t, pgtest.DB(t))
	s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c') from generate_series(1, 5)")
	if got := s.text("select pgq.seq_getval('pgq.consumer_co_id_seq')"); got != "1" {
		t.Errorf("%s numbers are used, want 1", got)
	}
}
