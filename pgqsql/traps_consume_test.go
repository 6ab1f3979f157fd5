package pgqsql_test

import (
	"fmt"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// Traps of those who consume.
var consumeTraps = []trap{
	{
		name:  "T16_FinishedBatchAnswersZero",
		naive: []naive{{"pgq.finish_batch", "return 0;", "return 1;"}},
		run:   finishedBatchAnswersZero,
	},
	{
		name:  "T17_TickAndConsumeInOneTransaction",
		naive: []naive{{"pgq.receive_batch", "if v_own < txid_snapshot_xmax(v_now) then", "if false then"}},
		run:   tickAndConsumeInOneTransaction,
	},
	{
		name: "T19_CounterIsNoProof",
		naive: []naive{
			{"pgq.receive_batch", "or v_ended <> '{}'", ""},
			{"pgq.receive_batch", "or txid_snapshot_xmax(v_now) > txid_snapshot_xmax(v_prev.tick_snapshot)", ""},
		},
		run: counterIsNoProof,
	},
	{
		name:  "T30_StoppedTickerIsNoQuietQueue",
		naive: []naive{{"pgq.get_queue_info", "now() - top.tick_time", "interval '0'"}},
		run:   stoppedTickerIsNoQuietQueue,
	},
	{
		name:  "T31_RegisteredAtTheNewestTick",
		naive: []naive{{"pgq.register_consumer_at", "order by t.tick_id desc limit 1", "order by t.tick_id limit 1"}},
		run:   registeredAtTheNewestTick,
	},
	{
		name: "T32_HugeBatchIsNotHeldInMemory",
		naive: []naive{
			{"pgq.receive_batch", "v_next.tick_event_seq - v_prev.tick_event_seq > 10 * i_max_events::bigint", "false"},
			{"pgq.receive_batch", "limit $8", "limit $8 * 1000"},
		},
		run: hugeBatchIsNotHeldInMemory,
	},
}

// finishedBatchAnswersZero closes a batch twice, and one that was moved away.
func finishedBatchAnswersZero(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.prepareQueue()
	for _, away := range []string{
		"select pgq.finish_batch(%s)", "select pgq.register_consumer_at('q', 'c', (select max(tick_id) from pgq.tick))",
		"select pgq.unregister_consumer('q', 'c')",
	} {
		s.tick()
		batch := s.text("select pgq.next_batch('q', 'c')")
		if away[len(away)-4:] == "(%s)" {
			away = fmt.Sprintf(away, batch)
		}
		s.exec(away)
		if got := s.text("select pgq.finish_batch(" + batch + ")"); got != "0" {
			return "after " + away + " the batch was closed with answer " + got
		}
	}
	if got := s.text("select pgq.finish_batch(null)"); got != "0" {
		return "no batch at all was closed with answer " + got
	}
	return ""
}

// tickAndConsumeInOneTransaction ticks and reads in a transaction that is older
// than others which have ended, and that writes an event then.
func tickAndConsumeInOneTransaction(t *testing.T, db *pgtest.Database) string {
	s, other := open(t, db), open(t, db)
	s.prepareQueue()
	s.exec("begin; select txid_current()")
	other.exec("select pgq.insert_event('q', 'other', 'x')")
	got := s.receive(nil, true)
	if fmt.Sprint(got.events) != "[other]" {
		t.Fatalf("tick and batch in one transaction: got %s", got)
	}
	s.exec("select pgq.insert_event('q', 'own', 'x'); commit")
	s.exec(fmt.Sprintf("select pgq.finish_batch(%d)", *got.batch))
	s.tick()
	return s.deliveredOnce("own")
}

// counterIsNoProof has a batch with fewer events than the counter says, and an
// event that comes without a move of the counter.
func counterIsNoProof(t *testing.T, db *pgtest.Database) string {
	s, late := open(t, db), open(t, db)
	s.prepareQueue()
	late.exec("begin; select pgq.insert_event('q', 'late', 'x')")
	s.exec("begin; select pgq.insert_event('q', 'gone', 'x'), pgq.insert_event('q', 'gone', 'x'); rollback")
	s.exec("select pgq.insert_event('q', 'early', 'x')")
	got := s.receive(nil, true)
	if fmt.Sprint(got.events) != "[early]" {
		t.Fatalf("counter moved by 4: got %s", got)
	}
	if got := s.text("select max(tick_event_seq) - pgq.seq_getval(max(queue_event_seq)) from pgq.tick, pgq.queue"); got != "0" {
		t.Fatalf("the counter has moved by %s since the tick", got)
	}
	late.exec("commit")
	got = s.receive(got.batch, true)
	if fmt.Sprint(got.events) != "[late]" {
		return "an event that moved no counter is not seen: " + got.String()
	}
	return ""
}

// stoppedTickerIsNoQuietQueue asks for a batch where nobody ticks.
func stoppedTickerIsNoQuietQueue(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.prepareQueue()
	s.exec("update pgq.queue set queue_ticker_idle_period = '1 minute'; update pgq.tick set tick_time = tick_time - interval '3 minutes'")
	s.exec("select pgq.insert_event('q', 'waits', 'x')")
	if got := s.text("select pgq.next_batch('q', 'c')"); got != "∅" {
		t.Fatalf("a batch without a tick: %s", got)
	}
	if got := s.text("select ticker_lag > 2 * queue_ticker_idle_period and ev_new = 1 from pgq.get_queue_info('q')"); got != "true" {
		return "nothing tells that the ticker stands"
	}
	if got := s.text("select lag > interval '2 minutes' and pending_events = 0 from pgq.get_consumer_info('q', 'c')"); got != "true" {
		return "the lag of the consumer does not grow"
	}
	return ""
}

// registeredAtTheNewestTick registers after one event, during the second and
// before the third.
func registeredAtTheNewestTick(t *testing.T, db *pgtest.Database) string {
	s, writer := open(t, db), open(t, db)
	s.prepareQueue()
	s.exec("select pgq.insert_event('q', 'before', 'x')")
	writer.exec("begin; select pgq.insert_event('q', 'during', 'x')")
	s.tick()
	s.exec("select pgq.register_consumer('q', 'new')")
	writer.exec("commit")
	s.exec("select pgq.insert_event('q', 'after', 'x')")
	s.tick()
	batch := s.text("select pgq.next_batch('q', 'new')")
	if got := s.text("select string_agg(ev_type, ' ' order by ev_type) from pgq.get_batch_events(" + batch + ")"); got != "after during" {
		return "the new consumer got " + got
	}
	// the tick that creation makes does not cover what its transaction writes
	s.exec("begin; select pgq.create_queue('own'), pgq.register_consumer('own', 'c'); select pgq.insert_event('own', 'own', 'x'); commit")
	s.exec("update pgq.queue set queue_ticker_max_lag = '0'; select pgq.ticker('own')")
	batch = s.text("select pgq.next_batch('own', 'c')")
	if got := s.text("select string_agg(ev_type, ' ') from pgq.get_batch_events(" + batch + ")"); got != "own" {
		return "the event of the creating transaction was not delivered: " + got
	}
	return ""
}

// hugeBatchIsNotHeldInMemory makes one batch of what came while the ticker was
// paused, and asks for a part of it.
func hugeBatchIsNotHeldInMemory(t *testing.T, db *pgtest.Database) string {
	s := open(t, db)
	s.prepareQueue()
	s.exec("update pgq.queue set queue_ticker_paused = true")
	s.exec("select count(pgq.insert_event('q', 'e', 'x')) from generate_series(1, 1000)")
	s.exec("update pgq.queue set queue_ticker_paused = false")
	s.tick()
	most := 50
	got, err := receiveOn(t.Context(), s.conn, nil, &most, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.events) > most {
		return fmt.Sprintf("%d events at once, %d were asked for", len(got.events), most)
	}
	if *got.complete {
		return "a part is called complete"
	}
	s.exec("begin")
	defer s.exec("commit")
	n := len(s.column(fmt.Sprintf("select ev_id from pgq.get_batch_cursor(%d, 'c', 300)", *got.batch)))
	for more := 1; more > 0; n += more {
		more = len(s.column("fetch 300 from c"))
	}
	if n != 1000 {
		return fmt.Sprintf("the cursor gave %d events of 1000", n)
	}
	return ""
}

// column is the first column of a result as text.
func (s *session) column(sql string) []string {
	s.t.Helper()
	results, err := s.conn.PgConn().Exec(s.t.Context(), sql).ReadAll()
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	var got []string
	for _, row := range results[0].Rows {
		got = append(got, string(row[0]))
	}
	return got
}
