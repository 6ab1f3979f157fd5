package pgqsql_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

var (
	diffSeed  = flag.Uint64("diff.seed", 0, "seed of the differential test of the contract; 0: from the clock")
	diffCalls = flag.Int("diff.calls", 300, "number of steps of the differential test of the contract")
)

// diffWorld makes up calls of the contract. Left out on purpose, because ours is meant to differ:
//
//	T2   transactions of repeatable read beside others
//	T4   the first event of a queue: each queue gets one when it is made, and its first tick is told the counter
//	T7   moving retry events while a queue is closed for writing or has a limit
//	T12  cooperative groups, also T13 and T15
//	T29  a limit of events in a transaction that rolls back to a savepoint
//
// and besides: times, transaction ids, numbers of consumers, the number of events one call of maint_retry_events moves, texts of errors.
type diffWorld struct {
	*rand.Rand
	serial int
}

var (
	diffQueues = []string{
		"q", "", "Q", `od"d`, "it's", "a.b", "back\\slash", " blank ", "日本", strings.Repeat("long", 60), "%I %s $1", "q;select 1--",
	}
	diffConsumers = []string{"c", "", "C", `c"c`, "c's", "a.b", "a", "x\\y", "é", strings.Repeat("n", 200)}
	diffTexts     = []string{"", "a", "'", `"`, `\`, "\n\t", "日本", "$1", "%s", strings.Repeat("x", 2500)}
)

func (w *diffWorld) pick(list ...string) string { return list[w.IntN(len(list))] }

// queue is the literal of a queue's name; few of them are in use at once.
func (w *diffWorld) queue() string {
	if w.IntN(40) == 0 {
		return w.pick("null", "'no such queue'")
	}
	return diffLiteral(diffQueues[min(w.IntN(len(diffQueues)), w.IntN(len(diffQueues)))])
}

func (w *diffWorld) consumer() string {
	if w.IntN(60) == 0 {
		return w.pick("null", "'nobody'")
	}
	return diffLiteral(diffConsumers[min(w.IntN(len(diffConsumers)), w.IntN(len(diffConsumers)), w.IntN(len(diffConsumers)))])
}

func (w *diffWorld) text() string {
	if w.IntN(4) == 0 {
		return "null"
	}
	return diffLiteral(diffTexts[w.IntN(len(diffTexts))])
}

func (w *diffWorld) texts(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = w.text()
	}
	return strings.Join(list, ", ")
}

func diffLiteral(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, "'", "''", "\n", `\n`).Replace(s) + "'"
}

// batch is an expression for an open batch, now and then for one that is not.
func (w *diffWorld) batch() string {
	if w.IntN(25) == 0 {
		return w.pick("null::bigint", "0", "-1", "9223372036854775807", "1")
	}
	return fmt.Sprintf("(select s.sub_batch from pgq.subscription s where s.sub_batch is not null order by s.sub_batch offset %d limit 1)", w.IntN(3))
}

// event is an expression for an event of a batch.
func (w *diffWorld) event(batch string) string {
	if w.IntN(15) == 0 {
		return w.pick("null", "0", "-1", "999999999")
	}
	return fmt.Sprintf("(select e.ev_id from pgq.get_batch_events(%s) e order by e.ev_id offset %d limit 1)", batch, w.IntN(6))
}

// produce is one statement that inserts events.
func (w *diffWorld) produce() string {
	q := w.queue()
	switch w.IntN(8) {
	case 0, 1:
		return fmt.Sprintf("select pgq.insert_event(%s, %s)", q, w.texts(2))
	case 2, 3:
		return fmt.Sprintf("select pgq.insert_event(%s, %s)", q, w.texts(6))
	case 4:
		w.serial++
		id, owner := w.pick("null", fmt.Sprint(-w.serial)), w.pick("null", "null", "1", "2")
		return fmt.Sprintf("select pgq.insert_event_raw(%s, %s, %s, %s, %s, %s)", q, id, w.pick("null", "'2020-02-02'"), owner, w.pick("null", "3"), w.texts(6))
	case 5:
		return fmt.Sprintf("select pgq.current_event_table(%s); "+
			"do $do$ begin execute 'insert into ' || pgq.current_event_table(%s) || ' (ev_time, ev_type, ev_data) values (now(), ''direct'', null)'; end $do$", q, q)
	case 6:
		return fmt.Sprintf("select pgq.insert_event(%s, i::text, %s) from generate_series(1, %d) i", q, w.text(), 1+w.IntN(30))
	default:
		return fmt.Sprintf("do $do$ begin perform pgq.insert_event(%s, %s); raise exception 'away'; exception when others then null; end $do$; "+
			"select pgq.insert_event(%s, %s)", q, w.texts(2), q, w.texts(2))
	}
}

// consume is one call of a consumer.
func (w *diffWorld) consume() string {
	q, c := w.queue(), w.consumer()
	switch w.IntN(16) {
	case 0, 1:
		return fmt.Sprintf("select pgq.next_batch(%s, %s)", q, c)
	case 2:
		return fmt.Sprintf("select batch_id, cur_tick_id, prev_tick_id, cur_tick_event_seq, prev_tick_event_seq from pgq.next_batch_info(%s, %s)", q, c)
	case 3, 4:
		return fmt.Sprintf("select batch_id, cur_tick_id, prev_tick_id, cur_tick_event_seq, prev_tick_event_seq from pgq.next_batch_custom(%s, %s, %s, %s, %s)", q, c,
			w.pick("null", "'0'", "'1 hour'", "'-1 hour'"), w.pick("null", "0", "1", "5", "20", "1500", "-1", "2000000000"), w.pick("null", "'0'", "'1 hour'", "'-1 second'"))
	case 5, 6:
		b := w.batch()
		return fmt.Sprintf("select ev_id, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 from pgq.get_batch_events(%s) e order by e::text collate \"C\"; "+
			"select array_agg(ev_id) from pgq.get_batch_events(%s)", b, b)
	case 7:
		args := fmt.Sprintf("%s, %s, %s", w.batch(), w.pick("'cur'", "'My cur'", `'q"'`, "null", "''"), w.pick("0", "-1", "1", "3", "100", "null"))
		if w.IntN(2) == 0 {
			args += ", " + w.pick("null", "'ev_type is not null'", "$$ev_type = '1' or ev_data is null$$", "'false'", "'nonsense'", "''")
		}
		return "begin; select ev_id, ev_retry, ev_type from pgq.get_batch_cursor(" + args + "); move 3 in cur; move all in \"My cur\"; commit"
	case 8:
		b := w.batch()
		return fmt.Sprintf("select pgq.event_retry(%s, %s, %s)", b, w.event(b), w.pick("0", "-5", "3600", "null::int", "now()", "'2020-01-01'::timestamptz"))
	case 9:
		return fmt.Sprintf("select pgq.batch_retry(%s, %s)", w.batch(), w.pick("0", "-1", "3600", "null"))
	case 10:
		w.serial++
		return fmt.Sprintf("select pgq.event_retry_raw(%s, %s, %s, %s, now(), %s, %s)", q, c, w.pick("now()", "'2020-01-01'", "'2999-01-01'", "null"),
			w.pick("null", fmt.Sprint(-w.serial), fmt.Sprint(-w.IntN(20))), w.pick("null", "1"), w.texts(6))
	case 11:
		b := w.batch()
		return fmt.Sprintf("select queue_name, consumer_name, prev_tick_id, tick_id, seq_start, seq_end from pgq.get_batch_info(%s); select count(*) > 0 from pgq.batch_event_tables(%s)", b, b)
	default:
		return fmt.Sprintf("select pgq.finish_batch(%s)", w.batch())
	}
}

// admin is one call that makes, changes or drops.
func (w *diffWorld) admin() string {
	q, c := w.queue(), w.consumer()
	switch w.IntN(14) {
	case 0, 1:
		return w.newQueue(q)
	case 2:
		if w.IntN(4) > 0 {
			return w.newQueue(q)
		}
		return fmt.Sprintf("select pgq.drop_queue(%s%s)", q, w.pick("", ", true", ", false", ", null", ", true"))
	case 3, 4, 5:
		return fmt.Sprintf("select pgq.register_consumer(%s, %s)", q, c)
	case 6:
		return fmt.Sprintf("select pgq.register_consumer_at(%s, %s, %s)", q, c, w.pick("null", "1", "2", "7", "0", "99999",
			fmt.Sprintf("(select max(t.tick_id) - 2 from pgq.tick t join pgq.queue u on u.queue_id = t.tick_queue where u.queue_name = %s)", q)))
	case 7:
		return fmt.Sprintf("select pgq.unregister_consumer(%s, %s)", q, c)
	case 8, 9:
		name := w.pick("ticker_max_count", "ticker_max_lag", "ticker_idle_period", "ticker_paused", "rotation_period", "external_ticker",
			"ntables", "name", "disable_insert", "per_tx_limit", "queue_ticker_max_count", "", "Ticker_Paused", "ticker_paused; x", "switch_time", "extra_maint")
		value := w.pick("'0'", "'1 hour'", "'70000'", "'nonsense'", "null", "'true'", "'f'", "''", "'-1'")
		return fmt.Sprintf("begin; select pgq.set_queue_config(%s, %s, %s); %s", q, diffLiteral(name), value, w.pick("rollback", "commit"))
	case 10:
		return fmt.Sprintf("update pgq.queue set queue_disable_insert = %s where queue_name = %s", w.pick("true", "false", "false"), q)
	case 11:
		return fmt.Sprintf("select pgq.%s(%s)", w.pick("grant_perms", "tune_storage"), q)
	case 12:
		return "update pgq.queue set queue_disable_insert = false, queue_ticker_paused = false, queue_external_ticker = false, " + w.pick(
			"queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'", "queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'",
			"queue_ticker_max_lag = '1 hour', queue_ticker_idle_period = '1 hour', queue_ticker_max_count = 10") + ", queue_rotation_period = '0'"
	default:
		return "set session_replication_role = " + w.pick("replica", "local", "origin", "origin")
	}
}

// newQueue makes a queue and levels what T4 makes different.
func (w *diffWorld) newQueue(q string) string {
	return fmt.Sprintf("select pgq.create_queue(%s); update pgq.tick set tick_event_seq = 1 where tick_id = 1 and tick_event_seq < 2; "+
		"select pgq.insert_event(%s, 'first', null)", q, q)
}

// maintain is one call of the ticker or of maintenance.
func (w *diffWorld) maintain() string {
	q := w.queue()
	switch w.IntN(13) {
	case 0, 1, 2:
		return fmt.Sprintf("select pgq.ticker(%s)", q)
	case 3, 4:
		return "select pgq.ticker()"
	case 5:
		return fmt.Sprintf("select pgq.ticker(%s, %s, now(), %s)", q, w.pick("3", "50", "1000", "null", "60"), w.pick("0", "100", "5000", "null"))
	case 6:
		return fmt.Sprintf("select pgq.force_tick(%s)", q)
	case 7:
		return "update pgq.queue set queue_disable_insert = false, queue_per_tx_limit = null; " +
			"do $do$ begin while pgq.maint_retry_events() > 0 loop end loop; end $do$"
	case 8, 9:
		return fmt.Sprintf("select pgq.maint_rotate_tables_step1(%s)", q)
	case 10:
		return "select pgq.maint_rotate_tables_step2()"
	case 11:
		return "select func_name, func_arg from pgq.maint_operations() where func_name like 'pgq.maint_rotate%'; select * from pgq.maint_tables_to_vacuum()"
	default:
		return fmt.Sprintf("select pgq.seq_setval(queue_event_seq, %d), pgq.seq_setval(queue_tick_seq, 0), pgq.seq_getval(queue_tick_seq) from pgq.queue where queue_name = %s; "+
			"select pgq.seq_getval('pgq.nosuch')", w.IntN(3000), q)
	}
}

// limited sets a limit, inserts around it in one transaction and takes the limit away.
func (w *diffWorld) limited() []string {
	q := w.queue()
	n := w.IntN(4)
	sql := "begin"
	for range w.IntN(6) {
		sql += "; " + w.pick(fmt.Sprintf("select pgq.insert_event(%s, 'limited', null)", q), fmt.Sprintf("select pgq.insert_event(%s, 'limited', null)", w.queue()),
			fmt.Sprintf("select pgq.insert_event_raw(%s, null, null, null, null, 'limited', null, null, null, null, null)", q))
	}
	return []string{
		fmt.Sprintf("update pgq.queue set queue_per_tx_limit = %d where queue_name = %s", n, q),
		sql + "; commit", "update pgq.queue set queue_per_tx_limit = null",
	}
}

// call is one statement of any kind.
func (w *diffWorld) call() string {
	switch w.IntN(10) {
	case 0, 1, 2:
		return w.produce()
	case 3, 4, 5, 6:
		return w.consume()
	case 7, 8:
		return w.maintain()
	default:
		return w.admin()
	}
}

// plain is a call without transaction control in it.
func (w *diffWorld) plain() string {
	for {
		if sql := w.call(); !strings.HasPrefix(sql, "begin") && !strings.HasPrefix(sql, "set ") {
			return sql
		}
	}
}

// step is what one session does next: 0 does everything, 1 only produces, in long transactions.
func (w *diffWorld) step() (session int, calls []string) {
	switch w.IntN(20) {
	case 0:
		return 0, w.limited()
	case 1, 2:
		sql := "begin" + w.pick("", "", " isolation level repeatable read", " isolation level serializable") + "; " + w.plain()
		for range w.IntN(3) {
			sql += "; savepoint s; " + w.plain() + w.pick("", "; rollback to s", "; release s") + "; " + w.produce()
		}
		return 0, []string{sql + "; " + w.pick("commit", "commit", "rollback")}
	case 3, 4:
		return 1, []string{"begin; " + w.produce()}
	case 5:
		return 1, []string{w.pick("commit", "rollback", "savepoint s", "rollback to s")}
	case 6:
		return 1, []string{w.produce()}
	default:
		return 0, []string{w.call()}
	}
}

// diffSide is one of the databases, with its sessions.
type diffSide struct{ conns [2]*pgx.Conn }

func newDiffSide(t *testing.T, db *pgtest.Database) *diffSide {
	s := &diffSide{}
	for i := range s.conns {
		s.conns[i] = db.Conn(t)
		// who would have to wait for the other session fails on both sides
		mustExec(t, s.conns[i], "set lock_timeout = '20ms'; set search_path = ''")
	}
	return s
}

// do runs a call and tells its rows and whether it failed.
func (s *diffSide) do(ctx context.Context, session int, sql string) (got []string, failed error) {
	conn := s.conns[session].PgConn()
	results, err := conn.Exec(ctx, sql).ReadAll()
	for _, r := range results {
		got = append(got, r.CommandTag.String())
		for _, row := range r.Rows {
			got = append(got, renderRow(row))
		}
	}
	if err != nil {
		got = append(got, "ERROR")
		if conn.TxStatus() == 'E' && session == 0 {
			_, _ = conn.Exec(ctx, "rollback").ReadAll()
		}
	}
	return got, err
}

// diffState is what there is to see after each step, but times and transaction ids.
const diffState = `
select queue_id, queue_name, queue_ntables, queue_cur_table, queue_rotation_period, queue_switch_step2 is null, queue_external_ticker, queue_disable_insert,
    queue_ticker_paused, queue_ticker_max_count, queue_ticker_max_lag, queue_ticker_idle_period, queue_per_tx_limit, queue_data_pfx, queue_event_seq, queue_tick_seq,
    pgq.seq_getval(queue_event_seq), pgq.seq_getval(queue_tick_seq) from pgq.queue order by 1;
select tick_queue, tick_id, tick_event_seq from pgq.tick order by 1, 2;
select sub_id, sub_queue, co_name, sub_last_tick, sub_batch, sub_next_tick from pgq.subscription join pgq.consumer on co_id = sub_consumer order by 2, 3;
select co_name from pgq.consumer order by 1;
select ev_queue, ev_owner, ev_id, ev_txid, ev_retry, ev_type, ev_data from pgq.retry_queue order by 1, 2, 3;
select tableoid::regclass, ev_id, ev_owner, ev_retry, ev_type, ev_data from pgq.event_template order by 1, 2, 3, 4, 5, 6;
select queue_name, queue_cur_table, ev_new, last_tick_id from pgq.get_queue_info();
select queue_name, consumer_name, last_tick, current_batch, next_tick, pending_events from pgq.get_consumer_info()`

// TestContract_AsTheOriginal plays random calls of the contract on ours and on the C extension, step by step: answers,
// failures and all tables must stay the same.
func TestContract_AsTheOriginal(t *testing.T) {
	// not parallel: open transactions of other tests would hold back rotation, and not on both sides at the same time
	seed := *diffSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("repeat with -diff.seed=%d -diff.calls=%d", seed, *diffCalls)
	ours, theirs := newDiffSide(t, pgtest.DB(t)), newDiffSide(t, pgtest.Extension(t))
	w := &diffWorld{Rand: rand.New(rand.NewPCG(seed, 1))}
	var log []string
	counts := map[string]int{}
	compare := func(session int, sql string) {
		got, failed := ours.do(t.Context(), session, sql)
		want, wantFailed := theirs.do(t.Context(), session, sql)
		if !slices.Equal(got, want) {
			if sql == diffState {
				sql = "state"
			}
			t.Fatalf("step %d, session %d: %s\nours: %v\n  %s\noriginal: %v\n  %s\nbefore:\n%s", len(log), session, sql, failed,
				strings.Join(diffOnly(got, want), "\n  "), wantFailed, strings.Join(diffOnly(want, got), "\n  "), strings.Join(log[max(0, len(log)-25):], ";\n"))
		}
		counts["calls"]++
		if failed != nil {
			counts["failed"]++
		}
	}
	start := func(sql string) {
		compare(0, sql)
		log = append(log, sql)
	}
	for _, q := range diffQueues[:3] {
		start(w.newQueue(diffLiteral(q)))
	}
	start("update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0'")
	for len(log) < *diffCalls {
		session, calls := w.step()
		for _, sql := range calls {
			compare(session, sql)
			log = append(log, fmt.Sprintf("/* %d */ %s", session, sql))
		}
		compare(0, diffState)
	}
	t.Logf("%d calls, of these %d failed on both sides", counts["calls"], counts["failed"])
}

// diffOnly is the lines of one that are not in the other.
func diffOnly(one, other []string) []string {
	return slices.DeleteFunc(slices.Clone(one), func(s string) bool { return slices.Contains(other, s) })
}
