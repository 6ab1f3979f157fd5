package pgqsql_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
)

// The traps of section 16 of the PgQ contract that lose or double events. Each
// is a schedule of sessions that ends in harm on the naive form and in none on
// ours. Every schedule runs twice: on the schema as shipped, where no harm may
// come, and on a copy in which one decisive line was taken out again, where
// harm must come. So a schedule that no longer reaches the race fails too.

// A naive form: the function as shipped with one piece of its text replaced.
type naive struct{ function, shipped, instead string }

type trap struct {
	name  string
	naive []naive
	// run plays the schedule and tells what harm it did, "" for none.
	run func(t *testing.T, db *pgtest.Database) string
}

var traps = []trap{
	{
		// the generated code looks again when it writes, so both must go
		name: "T1_InsertAgainstRotation",
		naive: []naive{
			{"pgq._open_slot", "v_txid pg_catalog.int8 := pg_catalog.txid_current();", ""},
			{"pgq._inserter_parts", "and q.queue_cur_table operator(pg_catalog.=) %s", "and q.queue_cur_table <> -1 - %s"},
		},
		run: func(t *testing.T, db *pgtest.Database) string {
			return writeAgainstRotation(t, db, func(s *session) <-chan error {
				return s.start("select pgq.insert_event('q', 'late', 'x')")
			})
		},
	},
	{
		name:  "T1_RawInsertAgainstRotation",
		naive: []naive{{"pgq.insert_event_raw", "v_txid  bigint := txid_current();", "v_txid bigint;"}, {"pgq.insert_event_raw", "values ($1, $2, $3,", "values ($1, $2, txid_current(),"}},
		run: func(t *testing.T, db *pgtest.Database) string {
			return writeAgainstRotation(t, db, func(s *session) <-chan error {
				return s.start("select pgq.insert_event_raw('q', null, null, null, null, 'late', 'x', null, null, null, null)")
			})
		},
	},
	{
		name:  "T1_LimitedInsertAgainstRotation",
		naive: []naive{{"pgq.insert_event_raw", "v_txid  bigint := txid_current();", "v_txid bigint;"}, {"pgq.insert_event_raw", "values ($1, $2, $3,", "values ($1, $2, txid_current(),"}, {"pgq.insert_event_raw", "v_queue.queue_per_tx_limit, v_txid)", "v_queue.queue_per_tx_limit, 1)"}, {"pgq._open_slot", "v_txid pg_catalog.int8 := pg_catalog.txid_current();", ""}},
		run: func(t *testing.T, db *pgtest.Database) string {
			return writeAgainstRotation(t, db, func(s *session) <-chan error {
				open(t, db).exec("update pgq.queue set queue_per_tx_limit = 1")
				return s.start("select pgq.insert_event('q', 'late', 'x')")
			})
		},
	},
	{
		name:  "T1_OwnInsertAgainstRotation",
		naive: []naive{{"pgq.current_event_table", "v_txid     bigint := txid_current();", ""}},
		run: func(t *testing.T, db *pgtest.Database) string {
			return writeAgainstRotation(t, db, func(s *session) <-chan error {
				table := s.text("select pgq.current_event_table('q')")
				return s.start("insert into " + table + " (ev_time, ev_type) values (now(), 'late')")
			})
		},
	},
	{
		name:  "T1_RetryAgainstRotation",
		naive: []naive{{"pgq.current_event_table", "v_txid     bigint := txid_current();", ""}},
		run: func(t *testing.T, db *pgtest.Database) string {
			s := open(t, db)
			s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c')")
			s.exec("select pgq.event_retry_raw('q', 'c', now(), null, now(), 1, 'late', '', null, null, null, null)")
			return writeAgainstRotation(t, db, func(s *session) <-chan error {
				return s.start("select pgq.maint_retry_events()")
			})
		},
	},
	{
		name:  "T2_OldSnapshotAfterRotation",
		naive: []naive{{"pgq._pin_queue", "perform 1 from pgq.queue q where q.queue_id = v_id for share;", ""}},
		run:   oldSnapshotAfterRotation,
	},
	{
		name:  "T3_TwoTickers",
		naive: []naive{{"pgq.ticker", "if not pg_try_advisory_xact_lock(1885827444, v_queue.queue_id) then", "if false then"}},
		run:   twoTickers,
	},
	{
		name: "T4_FirstEventOfQueue",
		naive: []naive{
			{"pgq._event_count", "return coalesce(pg_catalog.pg_sequence_last_value(i_queue_event_seq::regclass), 0);", "return pgq.seq_getval(i_queue_event_seq);"},
			{"pgq.create_queue", "nextval((v_pfx || '_tick_seq')::regclass), pgq._tick_snapshot(), 0);", "nextval((v_pfx || '_tick_seq')::regclass), pgq._tick_snapshot(), 1);"},
		},
		run: firstEventOfQueue,
	},
	{
		name:  "T5_TwoSessionsOfOneConsumer",
		naive: []naive{{"pgq.next_batch_custom", "and s.sub_batch is null and s.sub_last_tick = v_prev.tick_id", ""}, {"pgq.next_batch_custom", "s.ctid = v_sub.ctid", "true"}},
		run:   twoSessionsOfOneConsumer,
	},
	{
		name:  "T6_ConcurrentRegistration",
		naive: []naive{{"pgq.register_consumer_at", "on conflict (co_name) do nothing", ""}},
		run: func(t *testing.T, db *pgtest.Database) string {
			open(t, db).exec("select pgq.create_queue('q')")
			return twiceAtOnce(t, db, "select pgq.register_consumer('q', 'c')")
		},
	},
	{
		name:  "T6_ConcurrentCreation",
		naive: []naive{{"pgq.create_queue", "on conflict (queue_name) do nothing", ""}},
		run: func(t *testing.T, db *pgtest.Database) string {
			return twiceAtOnce(t, db, "select pgq.create_queue('q')")
		},
	},
	{
		name:  "T7_ClosedQueueStopsRetries",
		naive: []naive{{"pgq.maint_retry_events", "and (not dq.queue_disable_insert or current_setting('session_replication_role') = 'replica')", ""}},
		run:   closedQueueStopsRetries,
	},
	{
		name: "T8_SetBasedRetryReadsTheBatchOnce",
		naive: []naive{{
			"pgq.events_retry", "return (select s.queued",
			"return (select sum(pgq.event_retry(i_batch_id, e, i_retry_seconds)) from unnest(i_event_ids) e);\n    return (select s.queued",
		}},
		run: readsOnce("select pgq.events_retry(1, array(select i from generate_series(1, 400) i), 0)"),
	},
	{
		name: "T8_NackReadsTheBatchOnce",
		naive: []naive{{
			"pgq.nack_events", "select s.queued, s.dead into queued, dead",
			"select count(pgq.nack(i_batch_id, e, '')) into queued from unnest(i_event_ids) e;\n    return;\n    select s.queued, s.dead into queued, dead",
		}},
		run: readsOnce("select pgq.nack_events(1, array(select i from generate_series(1, 400) i), array(select 'no ' || i from generate_series(1, 400) i))"),
	},
	{
		name:  "T13_NackAgainstTakeover",
		naive: []naive{{"pgq._settle_events", "where s.sub_batch = i_batch_id for no key update;", "where s.sub_batch = i_batch_id;"}},
		run:   nackAgainstTakeover,
	},
	{
		name:  "T9_HolderOfRotationIsNamed",
		naive: []naive{{"pgq.get_queue_health", "where w.xid <= q.queue_switch_step2", "where false"}},
		run:   holderIsNamed,
	},
	{
		name:  "T10_MonitoringDoesNotHoldRotation",
		naive: []naive{{"pgq.get_queue_health", "    return query\n    with queues", "    perform count(*) from pgq.event_template;\n    return query\n    with queues"}},
		run:   monitoringAgainstRotation,
	},
	{
		name:  "P18_DetachAgainstFinish",
		naive: []naive{{"pgq._detach_consumer", "        for update;", ";"}},
		run:   detachAgainstFinish,
	},
	{
		name:  "T11_BothStepsInOneTransaction",
		naive: []naive{{"pgq.maint_rotate_tables_step2", "and h.queue_switch_step1 <> txid_current()", ""}},
		run:   bothStepsInOneTransaction,
	},
	{
		name:  "T18_EventIDsAreNoPosition",
		naive: []naive{{"pgq.create_queue", "create sequence pgq.event_%s_id_seq'", "create sequence pgq.event_%s_id_seq cache 50'"}},
		run:   eventIDsAreNoPosition,
	},
	{
		name:  "T27_ForeignCodeInDefiner",
		naive: []naive{{"pgq.register_consumer_at", "SET search_path TO 'pg_catalog', 'pgq', 'pg_temp'", ""}},
		run:   foreignCodeInDefiner,
	},
	{
		name:  "T28_RawSQL",
		naive: []naive{{"pgq.get_batch_cursor", "LANGUAGE plpgsql", "LANGUAGE plpgsql SECURITY DEFINER"}},
		run:   rawSQLRunsAsItsCaller,
	},
	{
		name: "T29_LimitOfOneTransaction",
		naive: []naive{
			{"pgq._check_tx_limit", "if split_part(v_state, ':', 1) = i_txid::text then", "if v_state <> '' then"},
			{"pgq._check_tx_limit", "(v_count + 1), true)", "(v_count + 1), false)"},
		},
		run: limitCountsOneTransaction,
	},
}

// allTraps are those of all files.
func allTraps() []trap { return slices.Concat(traps, moreTraps(), consumeTraps, tickTraps) }

// Not parallel: transaction ids belong to the server, and a transaction open in
// another test would hold back the snapshots of these schedules.
func TestTraps(t *testing.T) {
	for _, trap := range allTraps() {
		t.Run(trap.name, func(t *testing.T) {
			t.Run("shipped", func(t *testing.T) {
				if harm := trap.run(t, pgtest.DB(t)); harm != "" {
					t.Error(harm)
				}
			})
			t.Run("naive", func(t *testing.T) {
				db := pgtest.DB(t)
				for _, n := range trap.naive {
					open(t, db).makeNaive(n)
				}
				if trap.run(t, db) == "" {
					t.Error("the naive form did no harm: the schedule does not reach the race")
				}
			})
		})
	}
}

// writeAgainstRotation lets a writer read the current table and then hold it
// up while both steps of a rotation commit, with a tick before its commit.
func writeAgainstRotation(t *testing.T, db *pgtest.Database, write func(*session) <-chan error) string {
	t.Helper()
	admin, writer, holder := open(t, db), open(t, db), open(t, db)
	admin.prepareQueue()
	// a share lock: an exclusive one would take a txid and hold back the tick
	holder.exec("begin; lock table pgq.event_1_0 in share mode")
	writer.exec("begin")
	written := write(writer)
	writer.waitBlocked(admin)

	admin.rotate()
	admin.tick()
	holder.exec("commit")
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	admin.drain()
	writer.exec("commit")
	admin.tick()
	return admin.deliveredOnce("late")
}

func oldSnapshotAfterRotation(t *testing.T, db *pgtest.Database) string {
	for _, level := range []string{"repeatable read", "serializable"} {
		admin, writer := open(t, db), open(t, db)
		admin.prepareQueue()
		writer.exec("begin isolation level " + level + "; select 1 from pgq.queue")
		admin.rotate()
		admin.tick()
		admin.drain()
		err := <-writer.start("select pgq.insert_event('q', 'late', 'x')")
		if sqlState(err) == "40001" {
			writer.exec("rollback")
			admin.exec("select pgq.drop_queue('q', true)")
			admin.exec("alter sequence pgq.queue_queue_id_seq restart")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		writer.exec("commit")
		admin.tick()
		if harm := admin.deliveredOnce("late"); harm != "" {
			return level + ": " + harm
		}
	}
	return ""
}

// A writer with a fixed snapshot must not hold the queue's row until it ends:
// where all producers are such, one of them is always open, and no rotation
// would ever find the row free.
func TestTraps_OpenWritersDoNotStarveRotation(t *testing.T) {
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			db := pgtest.DB(t)
			admin, writer := open(t, db), open(t, db)
			admin.prepareQueue()
			writer.exec("begin isolation level " + level)
			writer.exec("select pgq.insert_event('q', 'open', '1')")
			admin.rotate()
			writer.exec("select pgq.insert_event('q', 'open too', '2')")
			admin.tick()
			admin.drain()
			writer.exec("commit")
			admin.tick()
			for _, event := range []string{"open", "open too"} {
				if harm := admin.deliveredOnce(event); harm != "" {
					t.Errorf("%s: %s", event, harm)
				}
			}
		})
	}
}

// Without consumers nothing but the writer itself tells that its event, in the table before the last rotation, is still
// needed: by a consumer that registers before it commits. The original rotates on and loses the event. A prepared
// writer is in TestHealth_NamesPreparedTransactions, which has a server that allows it.
func TestTraps_OpenWriterHoldsAQueueWithoutConsumers(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	writerWithoutConsumers(t, open(t, db), open(t, db), "writer", "select 1", "commit")
}

// writerWithoutConsumers lets a writer of queue q stay open over four rotations; leave and end are its last statements.
func writerWithoutConsumers(t *testing.T, admin, writer *session, holder, leave, end string) {
	t.Helper()
	admin.exec("select pgq.create_queue('q')")
	admin.exec("update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	writer.exec("begin")
	writer.exec("select pgq.insert_event('q', 'late', '')")
	writer.exec(leave)
	for range 4 {
		admin.exec("select pgq.maint_rotate_tables_step1('q')")
		admin.exec("select pgq.maint_rotate_tables_step2()")
		admin.exec("select pgq.ticker('q')")
	}
	if got := admin.text("select queue_cur_table from pgq.queue"); got != "1" {
		t.Errorf("the current table is %s, want 1: the second rotation waits for the writer", got)
	}
	if got := admin.text("select holder from pgq.get_queue_health('q')"); got != holder {
		t.Errorf("the health of the queue names %s as holder, want %s", got, holder)
	}
	if got := admin.text("select string_agg(problem, ' ') from pgq.check() where area = 'rotation'"); !strings.Contains(got, "is held by") {
		t.Errorf("pgq.check() says %s, want who holds the rotation", got)
	}
	admin.exec("select pgq.register_consumer('q', 'c')")
	writer.exec(end)
	admin.tick()
	if harm := admin.deliveredOnce("late"); harm != "" {
		t.Error(harm)
	}
}

// twoTickers holds up one ticker between the snapshot of its tick and the
// tick's number, while an event commits and another ticker runs.
func twoTickers(t *testing.T, db *pgtest.Database) string {
	admin, slow, fast := open(t, db), open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec(`create function public.held_up() returns integer as $$ begin
		if current_setting('test.slow', true) = 'yes' then perform pg_advisory_xact_lock(42); end if;
		return 0; end $$ language plpgsql`)
	admin.makeNaive(naive{
		"pgq.ticker", "nextval(v_queue.queue_tick_seq::regclass), now(), v_snapshot, v_events)",
		"public.held_up() + nextval(v_queue.queue_tick_seq::regclass), now(), v_snapshot, v_events)",
	})

	admin.exec("select pg_advisory_lock(42)")
	slow.exec("set test.slow = 'yes'")
	ticked := slow.start("select pgq.ticker('q')")
	slow.waitBlocked(admin)
	fast.exec("select pgq.insert_event('q', 'between', 'x')")
	fast.exec("select pgq.ticker('q')")
	admin.exec("select pg_advisory_unlock(42)")
	if err := <-ticked; err != nil {
		t.Fatal(err)
	}
	inverted := admin.text(`select count(*) from pgq.tick a join pgq.tick b on a.tick_id < b.tick_id
		where txid_snapshot_xmax(a.tick_snapshot) > txid_snapshot_xmax(b.tick_snapshot)`)
	admin.tick()
	if harm := admin.deliveredOnce("between"); harm != "" {
		return harm
	}
	if inverted != "0" {
		return inverted + " ticks have an older snapshot than the one before"
	}
	return ""
}

func firstEventOfQueue(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c')")
	s.exec("select pgq.set_queue_config('q', 'ticker_max_count', '1')")
	s.exec("select pgq.ticker('q')")
	s.exec("select pgq.insert_event('q', 'first', 'x')")
	if got := s.text("select ev_new from pgq.get_queue_info('q')"); got != "1" {
		return "ev_new is " + got + " after the first event"
	}
	if got := s.text("select coalesce(pgq.ticker('q')::text, 'no tick')"); got == "no tick" {
		return "the first event got no tick"
	}
	return ""
}

func twoSessionsOfOneConsumer(t *testing.T, db *pgtest.Database) string {
	admin, a, b := open(t, db), open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.insert_event('q', 'e', 'x')")
	admin.tick()
	a.exec("begin")
	first := a.text("select pgq.next_batch('q', 'c')")
	b.exec("begin")
	opened := b.start("create temp table got on commit preserve rows as select pgq.next_batch('q', 'c') as id")
	b.waitBlocked(admin)
	a.exec("commit")
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	b.exec("commit")
	if second := b.text("select id from got"); second != first {
		return fmt.Sprintf("two open batches of one consumer: %s and %s", first, second)
	}
	if got := a.text("select pgq.finish_batch(" + first + ")"); got != "1" {
		return "the first session's batch was taken away"
	}
	return ""
}

// twiceAtOnce runs one call in two sessions, the second while the first is not
// committed: it must wait and answer 0.
func twiceAtOnce(t *testing.T, db *pgtest.Database, call string) string {
	admin, a, b := open(t, db), open(t, db), open(t, db)
	a.exec("begin")
	if got := a.text(call); got != "1" {
		t.Fatalf("first call answers %s", got)
	}
	done := b.start("create temp table got as " + call + " as code")
	b.waitBlocked(admin)
	a.exec("commit")
	if err := <-done; err != nil {
		return err.Error()
	}
	if got := b.text("select code from got"); got != "0" {
		return "second call answers " + got
	}
	return ""
}

func closedQueueStopsRetries(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	for _, q := range []string{"closed", "open"} {
		s.exec("select pgq.create_queue('" + q + "'); select pgq.register_consumer('" + q + "', 'c')")
		s.exec("select pgq.event_retry_raw('" + q + "', 'c', now(), null, now(), 1, 'e', '', null, null, null, null)")
	}
	s.exec("update pgq.queue set queue_disable_insert = true where queue_name = 'closed'")
	if err := <-s.start("select pgq.maint_retry_events()"); err != nil {
		return err.Error()
	}
	if got := s.text("select string_agg(q.queue_name, ',') from pgq.retry_queue r join pgq.queue q on q.queue_id = r.ev_queue"); got != "closed" {
		return "retry queue holds events of " + got
	}
	return ""
}

// bothStepsInOneTransaction lets a writer take its txid between the two steps
// of a rotation that runs in one transaction.
func bothStepsInOneTransaction(t *testing.T, db *pgtest.Database) string {
	admin, rotator, writer := open(t, db), open(t, db), open(t, db)
	admin.prepareQueue()
	rotator.exec("begin; select pgq.maint_rotate_tables_step1('q')")
	writer.exec("begin; select pgq.insert_event('q', 'late', 'x')")
	rotator.exec("select pgq.maint_rotate_tables_step2(); commit")
	admin.tick()
	admin.drain()
	writer.exec("commit")
	admin.tick()
	if harm := admin.deliveredOnce("late"); harm != "" {
		return harm
	}
	admin.exec("select pgq.maint_rotate_tables_step2()")
	if got := admin.text("select queue_switch_step2 > queue_switch_step1 from pgq.queue"); got != "true" {
		return "the rotation stays half done"
	}
	return ""
}

// session is one connection of a schedule. Its methods end the test on errors
// that the schedule does not ask for.
type session struct {
	t    *testing.T
	conn *pgx.Conn
	pid  uint32
}

func open(t *testing.T, db *pgtest.Database) *session {
	t.Helper()
	conn := db.Conn(t)
	return &session{t: t, conn: conn, pid: conn.PgConn().PID()}
}

func (s *session) exec(sql string) {
	s.t.Helper()
	if _, err := s.conn.PgConn().Exec(s.t.Context(), sql).ReadAll(); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// start runs a statement in the background; the channel gives its result.
func (s *session) start(sql string) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := s.conn.Exec(context.WithoutCancel(s.t.Context()), sql)
		done <- err
	}()
	return done
}

func (s *session) text(sql string) string {
	s.t.Helper()
	var got *string
	if err := s.conn.QueryRow(s.t.Context(), "select ("+sql+")::text").Scan(&got); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	if got == nil {
		return "∅"
	}
	return *got
}

// waitBlocked returns when this session waits for a lock.
func (s *session) waitBlocked(observer *session) {
	s.t.Helper()
	pgtest.Eventually(s.t, 2*time.Minute, "session blocked by a lock", func() bool {
		return observer.text(fmt.Sprintf("select cardinality(pg_blocking_pids(%d)) > 0", s.pid)) == "true"
	})
}

// prepareQueue makes queue q with consumer c whose position is past the start,
// so that a rotation is due and nothing holds it.
func (s *session) prepareQueue() {
	s.t.Helper()
	s.exec("select pgq.create_queue('q')")
	s.exec("select pgq.register_consumer('q', 'c')")
	s.exec("update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	// the sequence takes a txid with its first value only, and would take it
	// from the late writer
	s.exec("select pgq.insert_event('q', 'early', 'x')")
	s.tick()
	s.tick()
	s.drain()
}

// rotate runs both steps and fails when the rotation was held back.
func (s *session) rotate() {
	s.t.Helper()
	s.exec("select pgq.maint_rotate_tables_step1('q')")
	s.exec("select pgq.maint_rotate_tables_step2()")
	if got := s.text("select queue_cur_table from pgq.queue where queue_name = 'q'"); got != "1" {
		s.t.Fatalf("rotation did not happen, current table is %s", got)
	}
}

// tick makes a tick that nobody's transaction outside of this database keeps below the last rotation.
func (s *session) tick() {
	s.t.Helper()
	s.settle()
	if s.text("pgq.ticker('q')") == "∅" {
		s.t.Fatal("no tick was made")
	}
}

// settle waits until no transaction of another database, nor one of the server itself, is open since before the last
// rotation of a queue: transaction ids belong to the server, and such a one holds back what a schedule wants to see.
func (s *session) settle() {
	s.t.Helper()
	pgtest.Eventually(s.t, time.Minute, "end of foreign transactions", func() bool {
		return s.text(`select not exists (
			select 1 from txid_snapshot_xip(txid_current_snapshot()) x
			 where x <= (select max(coalesce(q.queue_switch_step2, 0)) from pgq.queue q)
			   and not exists (select 1 from pg_stat_activity a
			                    where a.backend_xid::text::bigint = x & 4294967295
			                      and a.datname = current_database() and a.backend_type = 'client backend')
			   and not exists (select 1 from pg_prepared_xacts p
			                    where p.transaction::text::bigint = x & 4294967295 and p.database = current_database()))`) == "true"
	})
}

// drain finishes all batches there are and notes their events in table seen.
func (s *session) drain() {
	s.t.Helper()
	s.exec("create table if not exists public.seen (ev_id bigint, ev_type text)")
	for {
		batch := s.text("select pgq.next_batch('q', 'c')")
		if batch == "∅" {
			return
		}
		s.exec("insert into public.seen select ev_id, ev_type from pgq.get_batch_events(" + batch + ")")
		s.exec("select pgq.finish_batch(" + batch + ")")
	}
}

// deliveredOnce drains the queue and tells what is wrong with the deliveries
// of one type of event.
func (s *session) deliveredOnce(evType string) string {
	s.t.Helper()
	s.drain()
	if got := s.text("select count(*) from public.seen where ev_type = '" + evType + "'"); got != "1" {
		return "the event was delivered " + got + " times"
	}
	return ""
}

// makeNaive replaces a piece of a function's text.
func (s *session) makeNaive(n naive) {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), "select pg_get_functiondef(p.oid) from pg_proc p where p.oid::regproc::text = $1 or (pronamespace::regnamespace || '.' || proname) = $1", n.function)
	if err != nil {
		s.t.Fatal(err)
	}
	defs, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	changed := false
	for _, def := range defs {
		if strings.Contains(def, n.shipped) {
			changed = true
			s.exec(strings.Replace(def, n.shipped, n.instead, 1))
		}
	}
	if !changed {
		s.t.Fatalf("%s does not contain %q", n.function, n.shipped)
	}
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
