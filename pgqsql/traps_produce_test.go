package pgqsql_test

import (
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// eventIDsAreNoPosition plays what ids do: gaps, jumps, and smaller ids in later batches. The counter of the ticker
// must move by one for each event all the same.
func eventIDsAreNoPosition(t *testing.T, db *pgtest.Database) string {
	admin, early := open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.set_queue_config('q', 'ticker_max_count', '10')")
	admin.exec("begin; select pgq.insert_event('q', 'undone', 'x'); rollback") // a gap
	early.exec("begin; select pgq.insert_event('q', 'early', 'x')")
	admin.exec("select pgq.insert_event('q', 'late', 'x')")
	if got := admin.text("select ev_new from pgq.get_queue_info('q')"); got != "3" {
		return "the counter moved by " + got + " for three inserts"
	}
	admin.tick()
	admin.drain()
	early.exec("commit")
	admin.exec("select pgq.force_tick('q')") // a jump
	admin.tick()
	admin.drain()
	if got := admin.text("select string_agg(ev_type, ' ' order by ev_id) from public.seen where ev_id > 1"); got != "early late" {
		return "delivered: " + got
	}
	return ""
}

// foreignCodeInDefiner tells whether a reader's function ran as the owner.
func foreignCodeInDefiner(t *testing.T, db *pgtest.Database) string {
	return attack(t, db, "pgq_reader")
}

// rawSQLRunsAsItsCaller gives raw SQL to the one function that takes it, and tries to leave some for maintenance.
func rawSQLRunsAsItsCaller(t *testing.T, db *pgtest.Database) string {
	admin := open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.insert_event('q', 'e', 'x')")
	admin.tick()
	admin.exec(shadows)
	role := db.Role(t, "pgq_reader")
	admin.exec("grant usage on schema evil to " + role + "; grant all on all tables in schema evil to " + role)
	reader := &session{t: t, conn: db.ConnAs(t, role)}
	batch := reader.text("select pgq.next_batch('q', 'c')")
	reader.exec("begin; select * from pgq.get_batch_cursor(" + batch + ", 'c', 10, $$evil.now() is not null$$); commit")
	if err := <-reader.start("update pgq.queue set queue_extra_maint = '{evil.now}'"); sqlState(err) != "42501" {
		return "a reader may set queue_extra_maint"
	}
	ran := admin.text("select string_agg(distinct who, ',') from evil.log")
	if ran == "∅" {
		t.Fatal("the condition was not evaluated")
	}
	return strings.TrimPrefix(strings.TrimPrefix(ran, role), ",")
}

// limitCountsOneTransaction fills a transaction up to the limit, twice.
func limitCountsOneTransaction(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.exec("select pgq.create_queue('q'); update pgq.queue set queue_per_tx_limit = 2")
	for range 2 {
		s.exec("begin")
		for range 2 {
			if err := <-s.start("select pgq.insert_event('q', 'e', 'x')"); err != nil {
				return err.Error()
			}
		}
		s.steps("savepoint a", "!select pgq.insert_event('q', 'e', 'x')", "rollback to a", "commit")
	}
	return ""
}
