package pgqsql_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// Traps of those who tick.
var tickTraps = []trap{
	{
		name:  "T17_OwnEventsComeWithTheNextTick",
		naive: []naive{{"pgq._tick_snapshot", "if v_own < txid_snapshot_xmax(v_now) then", "if false then"}},
		run: func(t *testing.T, db *pgtest.Database) string {
			return ownEventsComeWithTheNextTick(t, db, "select pgq.ticker('q')")
		},
	},
	{
		name:  "T17_OwnEventsComeAfterThePushedTick",
		naive: []naive{{"pgq._tick_snapshot", "if v_own < txid_snapshot_xmax(v_now) then", "if false then"}},
		run: func(t *testing.T, db *pgtest.Database) string {
			return ownEventsComeWithTheNextTick(t, db, "update pgq.queue set queue_external_ticker = true; select pgq.ticker('q', 100, now(), 100); update pgq.queue set queue_external_ticker = false")
		},
	},
	{
		name:  "T31_CreationDoesNotCoverItsOwnEvents",
		naive: []naive{{"pgq.create_queue", "pgq._tick_snapshot()", "txid_current_snapshot()"}},
		run:   creationDoesNotCoverItsOwnEvents,
	},
	{
		name:  "S14_BrokenQueueDoesNotStopTheOthers",
		naive: []naive{{"pgq.ticker", "when others then", "when division_by_zero then"}},
		run:   brokenQueueDoesNotStopTheOthers,
	},
	{
		name:  "S7_OpenRegistrationHoldsNoOtherQueue",
		naive: []naive{{"pgq.maint_rotate_tables_step2", "for no key update skip locked", "for no key update"}},
		run:   openRegistrationHoldsNoOtherQueue,
	},
	{
		name: "P7_ResizeAgainstFinish",
		naive: []naive{
			{"pgq.resize_group", "update pgq.group_slot s set active = s.active where s.group_id = v_group.group_id;", ""},
			{"pgq.resize_group", "perform 1 from pgq.group_slot s where s.group_id = v_group.group_id order by s.slot for update;", ""},
			{"pgq.finish_group_batch", "if (i_batch ->> 'next')::bigint > v_group.cut_tick then", "if false then"},
		},
		run: func(t *testing.T, db *pgtest.Database) string { return resizeAgainstFinish(t, db, "read committed") },
	},
	{
		name: "P7_ResizeAgainstFinishWithAFixedSnapshot",
		naive: []naive{
			{"pgq.resize_group", "update pgq.group_slot s set active = s.active where s.group_id = v_group.group_id;", ""},
		},
		run: func(t *testing.T, db *pgtest.Database) string { return resizeAgainstFinish(t, db, "repeatable read") },
	},
}

// ownEventsComeWithTheNextTick ticks in a transaction that writes before and after it, when a later transaction has
// ended already; all of it is read in the transaction, as far as it goes, and the rest afterwards.
func ownEventsComeWithTheNextTick(t *testing.T, db *pgtest.Database, tick string) string {
	admin, s := open(t, db), open(t, db)
	admin.prepareQueue()
	s.exec("begin; select pgq.insert_event('q', 'own', '1')")
	admin.exec("select pgq.insert_event('q', 'other', '2')")
	s.exec(tick)
	s.drain()
	s.exec("select pgq.insert_event('q', 'own', '3')")
	s.exec("commit")
	admin.tick()
	admin.drain()
	if got := admin.text("select string_agg(ev_type, ' ' order by ev_id) from public.seen where ev_type <> 'early'"); got != "own other own" {
		return "delivered: " + got
	}
	return ""
}

// creationDoesNotCoverItsOwnEvents makes a queue, a consumer and an event in one transaction, while others end.
func creationDoesNotCoverItsOwnEvents(t *testing.T, db *pgtest.Database) string {
	admin, s := open(t, db), open(t, db)
	s.exec("begin; select txid_current()")
	admin.exec("select txid_current()")
	s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c'); select pgq.insert_event('q', 'own', 'x'); commit")
	admin.exec("update pgq.queue set queue_ticker_max_lag = '0'")
	admin.tick()
	return admin.deliveredOnce("own")
}

// brokenQueueDoesNotStopTheOthers ticks all queues when one has a tick from the future and one has lost its sequence.
func brokenQueueDoesNotStopTheOthers(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	for _, queue := range []string{"a", "future", "m", "torn", "z"} {
		s.exec("select pgq.create_queue('" + queue + "')")
	}
	s.exec("update pgq.tick set tick_snapshot = '900000000:900000000:' where tick_queue = 2; drop sequence pgq.event_4_id_seq cascade")
	if err := <-s.start("create temp table got as select pgq.ticker() as n"); err != nil {
		return err.Error()
	}
	if got := s.text("select n from got"); got != "3" {
		return got + " queues were ticked, want 3"
	}
	// when all are broken it is an error, as for one
	s.exec("update pgq.tick set tick_snapshot = '900000000:900000000:'")
	if err := <-s.start("select pgq.ticker()"); sqlState(err) != "55000" {
		return fmt.Sprintf("all queues lie in the future: got %v, want 55000", err)
	}
	return ""
}

// openRegistrationHoldsNoOtherQueue registers a consumer in a transaction that stays open, on a queue whose rotation is
// half done, and looks whether the rotation of another queue comes to its end.
func openRegistrationHoldsNoOtherQueue(t *testing.T, db *pgtest.Database) string {
	admin, registering, rotator := open(t, db), open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.create_queue('other'); update pgq.queue set queue_rotation_period = '0'")
	admin.exec("select pgq.maint_rotate_tables_step1('q')")
	admin.exec("select pgq.maint_rotate_tables_step1('other')")
	registering.exec("begin; select pgq.register_consumer('q', 'new')")
	done := rotator.start("select pgq.maint_rotate_tables_step2()")
	blocked := false
	pgtest.Eventually(t, 2*time.Minute, "step 2 ends or waits", func() bool {
		blocked = admin.text(fmt.Sprintf("select cardinality(pg_blocking_pids(%d)) > 0", rotator.pid)) == "true"
		return blocked || len(done) > 0
	})
	half := admin.text("select string_agg(queue_name, ' ') from pgq.queue where queue_switch_step2 is null")
	registering.exec("commit")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if blocked {
		return "step 2 waits for a registration"
	}
	if half != "q" {
		return "half done: " + half
	}
	admin.exec("select pgq.maint_rotate_tables_step2()")
	return strings.TrimPrefix(admin.text("select 'half done: ' || count(*) from pgq.queue where queue_switch_step2 is null"), "half done: 0")
}

// resizeAgainstFinish finishes a batch whose end came after the tick at which a change of the number of slots, not yet
// committed, is to happen. A slot beyond that tick would keep the change, and so the group, from ever going on.
func resizeAgainstFinish(t *testing.T, db *pgtest.Database, level string) string {
	admin, resizer, worker := open(t, db), open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.create_group('q', 'g', 'ev_key', 1)")
	admin.exec("select pgq.acquire_slots('q', 'g', 'w', '1 hour')")
	resizer.exec("begin; select pgq.insert_event('q', 'e', 'x')")
	admin.exec("select pgq.insert_event('q', 'e', 'x')")
	admin.tick()
	resizer.exec("select pgq.resize_group('q', 'g', 3)")
	admin.tick()
	worker.exec("begin isolation level " + level)
	batch := worker.text("select batch from pgq.next_group_batch('q', 'g', 'w', null, 1000)")
	done := worker.start("create temp table got as select pgq.finish_group_batch('" + batch + "') as code")
	var err error
	pgtest.Eventually(t, 2*time.Minute, "finish ends or waits", func() bool {
		return len(done) > 0 || admin.text(fmt.Sprintf("select cardinality(pg_blocking_pids(%d)) > 0", worker.pid)) == "true"
	})
	resizer.exec("commit")
	if err = <-done; err == nil && worker.text("select code from got") == "1" {
		worker.exec("commit")
	} else {
		worker.exec("rollback")
	}
	admin.tick()
	for range 10 {
		admin.exec("select pgq.acquire_slots('q', 'g', 'w', '1 hour')")
		batch := admin.text("select batch from pgq.next_group_batch('q', 'g', 'w', null, null)")
		if batch == "∅" {
			break
		}
		admin.exec("select pgq.finish_group_batch('" + batch + "')")
	}
	if got := admin.text("select min(last_tick) = (select max(tick_id) from pgq.tick) and count(*) = 3 from pgq.group_slot"); got != "true" {
		return "the group stands still: " + admin.text("select string_agg(s::text, ' ') from pgq.group_slot s") + " of " + admin.text("select max(tick_id) from pgq.tick") + fmt.Sprint(" finish said ", err)
	}
	return ""
}

// A transaction that has ticked keeps everybody else from ticking the queue: it is not left to idle for long.
func TestReceive_TransactionThatTickedMayNotIdle(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s, admin := open(t, db), open(t, db)
		receiveQueue(s)
		for _, c := range []struct{ setting, ticked, want string }{
			{"0", "begin", "10s"},
			{"1h", "begin", "10s"},
			{"7s", "begin", "7s"},
			{"0", "begin isolation level repeatable read", "0"}, // no tick
		} {
			s.exec("select pgq.insert_event('q', 'a', ''); set idle_in_transaction_session_timeout = '" + c.setting + "'; ")
			s.exec(c.ticked)
			s.receive(nil, true)
			if got := s.text("current_setting('idle_in_transaction_session_timeout')"); got != c.want {
				t.Errorf("%s with %s: may idle for %s, want %s", c.ticked, c.setting, got, c.want)
			}
			s.exec("rollback")
		}
		s.exec("begin")
		s.receive(nil, true)
		admin.makeNaive(naive{"pgq._check_queues", "interval '10 seconds'", "interval '-1 hour'"})
		admin.finds(t, "queue", "q", "warning", fmt.Sprintf("cannot be ticked: the open transaction of pid %d", s.pid), "let it end")
	})
}

// A queue without consumers rotates whoever has a transaction open: nothing is held, and nothing is warned of.
func TestCheck_NobodyHoldsAQueueWithoutConsumers(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s, writer := open(t, db), open(t, db)
		writer.exec("begin; select txid_current()")
		s.exec("select pgq.create_queue('q'); update pgq.queue set queue_rotation_period = '0'")
		for _, f := range s.check(t) {
			if f.Area == "rotation" {
				t.Errorf("got %+v, but the rotation is not held", f)
			}
		}
		s.exec("select pgq.maint_rotate_tables_step1('q')")
		if got := s.text("select queue_cur_table from pgq.queue"); got != "1" {
			t.Errorf("the rotation is held")
		}
	})
}

// A queue that somebody is just dropping, in a transaction that stays open, keeps no other one from its tick; nor does
// one that was dropped while the tickers were at it.
func TestTicker_PassesOverQueuesThatAreDropped(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s, dropper := open(t, db), open(t, db)
	for _, queue := range []string{"a", "b", "c"} {
		s.exec("select pgq.create_queue('" + queue + "')")
	}
	dropper.exec("begin; select pgq.drop_queue('b')")
	done := s.start("create temp table got as select pgq.ticker() as n")
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		dropper.exec("rollback")
		t.Fatal("the ticker waits for the transaction that drops a queue")
	}
	if got := s.text("select n from got"); got != "2" {
		t.Errorf("%s queues were ticked, want 2", got)
	}
	dropper.exec("commit")

	s.exec("update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	churn := dropper.start(`do $$ begin
		for i in 1 .. 40 loop
			perform pgq.create_queue('b');
			commit;
			perform pgq.drop_queue('b');
			commit;
		end loop;
	end $$`)
	for {
		if err := <-s.start("select pgq.ticker()"); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-churn:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
