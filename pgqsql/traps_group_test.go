package pgqsql_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// moreTraps are those of groups, names and transaction ids.
func moreTraps() []trap {
	return []trap{
		{
			name:  "T8_RetryReadsNearTheEvent",
			naive: []naive{{"pgq._batch_event", "continue when v_high <= 8;", "continue;"}},
			run:   retryReadsNearTheEvent,
		},
		{
			name:  "T9_CheckNamesWhoHoldsRotation",
			naive: []naive{{"pgq._check_rotation", "where x <= v_queue.queue_switch_step2\n               and (v_behind or x & 4294967295 = any (v_lookers))\n            union all", "where false\n            union all"}},
			run:   checkNamesHolders,
		},
		{
			name:  "T10_SkippedRotationIsVisible",
			naive: []naive{{"pgq._check_rotation", "where l.relation = to_regclass(v_queue.next_table)", "where false and l.relation = to_regclass(v_queue.next_table)"}},
			run:   skippedRotationIsVisible,
		},
		{
			name:  "T12_MembersBatchClosedAsAConsumers",
			naive: []naive{{"pgq.finish_batch", "pgq._is_group_member(s.sub_queue, s.sub_consumer)", "false"}},
			run:   memberClosedAsConsumer,
		},
		{
			name:  "T13_TakenBatchHasANewNumber",
			naive: []naive{{"pgq_coop._take_over", "set sub_batch = nextval('pgq.batch_id_seq')", "set sub_batch = v_dead.sub_batch"}},
			run:   zombieCloses,
		},
		{
			name:  "T14_LivingWorkerKeepsItsBatch",
			naive: []naive{{"pgq_coop.touch", "set sub_active = now()", "set sub_active = s.sub_active"}},
			run:   livingWorkerKeepsItsBatch,
		},
		{
			name:  "T15_GroupsBatchTakenByItsMainName",
			naive: []naive{{"pgq._refuse_group", "and m.sub_id = i_sub_id) then", "and false) then"}},
			run:   mainNameTakesABatch,
		},
		{
			name:  "T20_TicksFromTheFuture",
			naive: []naive{{"pgq._tick_due", "if txid_snapshot_xmax(v_newest.tick_snapshot) > txid_snapshot_xmax(txid_current_snapshot()) then", "if false then"}},
			run:   ticksFromTheFuture,
		},
		{
			name: "T21_IdsBeyond32Bits",
			naive: []naive{
				{"pgq.get_batch_events", "using v_batch.first_txid,", "using (v_batch.first_txid & 4294967295),"},
				{"pgq.get_batch_events", "' where ev_txid >= $1 and ev_txid < $2'", "' where (ev_txid & 4294967295) >= $1 and (ev_txid & 4294967295) < ($2 & 4294967295)'"},
			},
			run: idsBeyond32Bits,
		},
		{
			name:  "T33_ConsumerNamedLikeAMember",
			naive: []naive{{"pgq_coop.register_subconsumer", "if v_owner <> v_main.sub_id then", "if false then"}},
			run:   consumerNamedLikeAMember,
		},
	}
}

// says tells whether pgq.check() has a problem with the words.
func (s *session) says(words string) bool {
	return s.text("select count(*) from pgq.check() where position('"+words+"' in problem) > 0") != "0"
}

// retryReadsNearTheEvent counts the rows that are read to retry single events of a batch of 20000, the first and the last
// among them, one that a redelivery put far from its place, and one that is not there.
func retryReadsNearTheEvent(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c')")
	s.exec("insert into pgq.event_1_0 (ev_time, ev_type, ev_data) select now(), 'e', repeat('x', i % 200) from generate_series(1, 20000) i")
	s.exec("insert into pgq.event_1_0 (ev_id, ev_time, ev_owner, ev_retry, ev_type) values (-5, now(), 1, 1, 'again')")
	s.exec("select pgq.force_tick('q')")
	s.tick()
	s.exec("select pgq.next_batch('q', 'c')")
	s.exec("begin")
	const events = 25
	for i := range events {
		if got := s.text(fmt.Sprintf("select pgq.event_retry(1, %d, 0)", 1+i*19999/(events-1))); got != "1" {
			t.Errorf("event_retry answers %s", got)
		}
	}
	read := s.text("select pg_stat_get_xact_tuples_returned('pgq.event_1_0'::regclass) + pg_stat_get_xact_tuples_fetched('pgq.event_1_0'::regclass)")
	if got := s.text("select pgq.event_retry(1, -5, 0)"); got != "1" {
		t.Errorf("retry of a redelivered event answers %s", got)
	}
	if got := s.text("select count(distinct ev_id) || ' of ' || count(*) || ' ' || max(ev_retry) from pgq.retry_queue where ev_owner = 1"); got != "26 of 26 2" {
		t.Errorf("the retry queue has %s", got)
	}
	if err := <-s.start("select pgq.event_retry(1, 20001, 0)"); err == nil {
		t.Error("an event that is not in the batch was retried")
	}
	s.exec("rollback")
	if n, err := strconv.Atoi(read); err != nil || n > events*2000 {
		return read + " rows were read to retry 25 of 20000 events"
	}
	t.Logf("rows read to retry 25 of 20000 events: %s", read)
	return ""
}

// checkNamesHolders lets a consumer hold rotation, then an open transaction.
func checkNamesHolders(t *testing.T, db *pgtest.Database) string {
	admin, holder := open(t, db), open(t, db)
	admin.prepareQueue()
	admin.exec("select pgq.register_consumer('q', 'lazy')")
	holder.exec("begin; select txid_current()")
	admin.rotate()
	admin.tick()
	admin.drain()
	admin.exec("select pgq.maint_rotate_tables_step1('q')")
	if got := admin.text("select queue_cur_table from pgq.queue"); got != "1" {
		t.Fatalf("rotated over a consumer: current table %s", got)
	}
	if !admin.says("is held by consumer lazy") {
		return "nothing names the consumer that holds rotation"
	}
	if !admin.says(fmt.Sprintf("is held by the open transaction of pid %d", holder.pid)) {
		return "nothing names the transaction that holds rotation"
	}
	holder.exec("commit")
	admin.exec("select pgq.unregister_consumer('q', 'lazy')")
	admin.tick()
	admin.drain()
	admin.exec("select pgq.maint_rotate_tables_step1('q')")
	if got := admin.text("select queue_cur_table from pgq.queue"); got != "2" {
		t.Fatalf("the rotation is still held: current table %s", got)
	}
	return ""
}

// skippedRotationIsVisible lets somebody read a parent table while a rotation is due.
func skippedRotationIsVisible(t *testing.T, db *pgtest.Database) string {
	admin, reader := open(t, db), open(t, db)
	admin.prepareQueue()
	reader.exec("begin; select count(*) from pgq.event_template")
	admin.exec("select pgq.maint_rotate_tables_step1('q')")
	if got := admin.text("select queue_cur_table from pgq.queue"); got != "0" {
		t.Fatalf("rotated under a reader: current table %s", got)
	}
	if !admin.says(fmt.Sprintf("is skipped while pid %d has a lock on table pgq.event_1_1", reader.pid)) {
		return "nothing tells who keeps the rotation from its table"
	}
	reader.exec("commit")
	admin.rotate()
	return ""
}

// prepareGroup makes group g on queue q with member one, who has an open batch.
func (s *session) prepareGroup() (batch string) {
	s.t.Helper()
	s.prepareQueue()
	s.exec("select pgq_coop.register_subconsumer('q', 'g', 'one')")
	s.exec("select pgq.insert_event('q', 'e', '')")
	s.tick()
	return s.text("select pgq_coop.next_batch('q', 'g', 'one')")
}

func memberClosedAsConsumer(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	batch := s.prepareGroup()
	if got := s.text("select pgq.finish_batch(" + batch + ")"); got != "1" {
		t.Fatalf("finish_batch answers %s", got)
	}
	s.exec("select pgq_coop.finish_batch(pgq_coop.next_batch('q', 'g', 'two'))")
	if got := s.text("select count(*) from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name = 'g.one' and sub_last_tick is not null"); got != "0" {
		return "the idle member has a position, which holds rotation"
	}
	return ""
}

func zombieCloses(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	old := s.prepareGroup()
	taken := s.text("select pgq_coop.next_batch('q', 'g', 'two', '0')")
	if taken == "∅" {
		t.Fatal("nothing was taken over")
	}
	if got := s.text("select pgq_coop.finish_batch(" + old + ")"); got != "0" {
		return "the zombie closes the batch of its successor"
	}
	if got := s.text("select string_agg(ev_type, ',') from pgq.get_batch_events(" + taken + ")"); got != "e" {
		return "the successor gets " + got
	}
	return ""
}

func livingWorkerKeepsItsBatch(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	batch := s.prepareGroup()
	s.exec("update pgq.subscription set sub_active = now() - interval '1 hour'")
	s.exec("select pgq_coop.touch(" + batch + ")")
	s.exec("select pgq_coop.next_batch('q', 'g', 'two', '30 minutes')")
	if got := s.text("select pgq_coop.finish_batch(" + batch + ")"); got != "1" {
		return "a living worker lost its batch"
	}
	return ""
}

func mainNameTakesABatch(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.prepareGroup()
	// the one tick there is was handed out
	if err := <-s.start("select pgq.next_batch('q', 'g')"); err == nil {
		return "the main name is refused only when a batch waits"
	}
	s.exec("select pgq.insert_event('q', 'e', '')")
	s.tick()
	err := <-s.start("select pgq.next_batch('q', 'g')")
	if err == nil {
		return "the main name took a batch of the group"
	}
	if !strings.Contains(err.Error(), "cooperative group") {
		t.Errorf("got %v, want to hear why", err)
	}
	if got := s.text("select pgq.unregister_consumer('q', 'g')"); got != "2" {
		return "unregister removed " + got + " of 2 rows"
	}
	return ""
}

func ticksFromTheFuture(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.prepareQueue()
	s.exec("update pgq.tick set tick_snapshot = '900000000:900000000:' where tick_id = (select max(tick_id) from pgq.tick)")
	s.exec("select pgq.insert_event('q', 'late', '')")
	err := <-s.start("select pgq.ticker('q')")
	if err == nil {
		return "a tick was made over one from the future"
	}
	if !strings.Contains(err.Error(), "pgq.rebase_after_restore()") {
		t.Errorf("got %v, want it to name the repair", err)
	}
	s.exec("select pgq.rebase_after_restore()")
	s.tick()
	return s.deliveredOnce("late")
}

// idsBeyond32Bits plays a server that has given out more than 2^32 ids.
func idsBeyond32Bits(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c')")
	const at = 5<<32 - 1 // an epoch ends in the middle of the batch
	s.exec("update pgq.queue set queue_switch_step1 = 5, queue_switch_step2 = 6")
	s.exec(fmt.Sprintf("update pgq.tick set tick_snapshot = '%d:%d:%d'", at-3, at, at-3))
	s.exec(fmt.Sprintf(`insert into pgq.event_1_0 (ev_time, ev_txid, ev_type)
		select now(), %d + d, 'e' || d from unnest(array[-4, -3, -2, -1, 0, 4, 5, 6, 7, 8]) d`, at))
	s.exec(fmt.Sprintf("insert into pgq.tick (tick_queue, tick_id, tick_snapshot, tick_event_seq) values (1, 2, '%d:%d:%d', 8)", at+5, at+8, at+5))
	const want = "e-3,e0,e4,e6,e7"
	batch := s.text("select pgq.next_batch('q', 'c')")
	if got := s.text("select string_agg(ev_type, ',' order by ev_txid) from pgq.get_batch_events(" + batch + ")"); got != want {
		return "the batch has " + got + ", want " + want
	}
	sql := s.text("select pgq.batch_event_sql(" + batch + ")")
	if got := s.text("select string_agg(ev_type, ',' order by ev_txid) from (" + sql + ") e"); got != want {
		return "the query of the batch has " + got + ", want " + want
	}
	if got := s.text("select count(*) from pgq.event_template where pg_typeof(ev_txid) <> 'bigint'::regtype"); got != "0" {
		return "ev_txid is no bigint"
	}
	return ""
}

func consumerNamedLikeAMember(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.prepareQueue()
	s.exec("select pgq.register_consumer('q', 'g.one')")
	if err := <-s.start("select pgq_coop.register_subconsumer('q', 'g', 'one')"); err == nil {
		return "a consumer of its own counts as a member of the group"
	} else if !strings.Contains(err.Error(), "is no member of group g") {
		t.Errorf("got %v, want to hear why", err)
	}
	// and the other way round
	s.exec("select pgq_coop.register_subconsumer('q', 'h', 'one')")
	if got := s.text("select pgq.register_consumer('q', 'h.one')"); got != "0" {
		return "a member was registered again as a consumer of its own"
	}
	return ""
}

// allowedToMiss are traps whose tests are on their way. The list only shrinks.
var allowedToMiss = []int{22, 23, 24, 25, 26}

// Every trap of section 16 has a test of its name.
func TestTraps_EachHasATest(t *testing.T) {
	t.Parallel()
	number := regexp.MustCompile(`^T([0-9]+)_`)
	tested := map[string]bool{}
	for _, trap := range allTraps() {
		if m := number.FindStringSubmatch(trap.name); m != nil {
			tested[m[1]] = true
		}
	}
	for n := 1; n <= 33; n++ {
		missing, allowed := !tested[fmt.Sprint(n)], slices.Contains(allowedToMiss, n)
		switch {
		case missing && !allowed:
			t.Errorf("trap T%d has no test", n)
		case !missing && allowed:
			t.Errorf("trap T%d has a test now: take it off the list", n)
		}
	}
}
