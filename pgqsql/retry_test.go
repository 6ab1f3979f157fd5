package pgqsql_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// readsOnce makes a schedule that settles all 400 events of batch 1 by one call and counts the rows that are read for
// it.
func readsOnce(call string) func(t *testing.T, db *pgtest.Database) string {
	return func(t *testing.T, db *pgtest.Database) string {
		t.Helper()
		s := open(t, db)
		s.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'c')")
		s.exec("select pgq.insert_event('q', 'e', 'x') from generate_series(1, 400)")
		s.exec("select pgq.force_tick('q')")
		s.tick()
		s.exec("select pgq.next_batch('q', 'c')")
		s.exec("begin; " + call)
		if got := s.text("select count(*) from pgq.retry_queue"); got != "400" {
			t.Fatalf("%s events wait for redelivery, want 400", got)
		}
		read := s.text(`select sum(pg_stat_get_xact_tuples_returned(c.oid) + pg_stat_get_xact_tuples_fetched(c.oid))
			from pg_class c where c.relname like 'event\_1\_%'`)
		s.exec("commit")
		if n, err := strconv.Atoi(read); err != nil || n > 2*400 {
			return read + " rows were read to settle 400 events"
		}
		return ""
	}
}

// Whatever the policy: the delay lies between the part that jitter leaves and the whole, never above the cap, and the
// whole never shrinks from one redelivery to the next.
func TestBackoff_DelaysStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	conn := pgtest.DB(t).Conn(t)
	rnd := rand.New(rand.NewPCG(5, 1))
	whole := func(policy string, base float64, n int) float64 {
		switch policy {
		case "linear":
			return base * float64(max(n, 1))
		case "exponential":
			return base * math.Pow(2, float64(max(n, 1)-1))
		default:
			return base
		}
	}
	for range 300 {
		policy := []string{"fixed", "linear", "exponential"}[rnd.IntN(3)]
		base := []float64{0, 1e-3, rnd.Float64() * 100, 3600, 1e9}[rnd.IntN(5)]
		limit := []float64{0, 1, rnd.Float64() * 1e4, math.Inf(1)}[rnd.IntN(4)]
		jitter := []float64{0, 0.2, rnd.Float64(), 1, 5}[rnd.IntN(5)]
		n := []int{-5, 0, 1, 2, 1 + rnd.IntN(70), math.MaxInt32}[rnd.IntN(6)]
		var got float64
		err := conn.QueryRow(t.Context(), "select pgq.backoff_seconds($1, $2, nullif($3, 'infinity'::float8), $4, $5)", policy, base, limit, jitter, n).Scan(&got)
		if err != nil {
			t.Fatal(err)
		}
		high := min(whole(policy, base, n), limit, 3e9)
		if policy == "exponential" && n > 40 { // the doubling ends, long after any cap
			high = min(whole(policy, base, 41), limit, 3e9)
		}
		low := high * (1 - min(jitter, 1))
		if got < low*(1-1e-9) || got > high*(1+1e-9) {
			t.Errorf("%s, base %v, cap %v, jitter %v, redelivery %d: got %v, want between %v and %v", policy, base, limit, jitter, n, got, low, high)
		}
	}
	if _, err := conn.Exec(t.Context(), "select pgq.backoff_seconds('quadratic', 1, 1, 0, 1)"); sqlState(err) != "22023" {
		t.Errorf("unknown policy: got %v", err)
	}
	// the longest delay is still a time
	query[string](t, conn, "select (now() + make_interval(secs => pgq.backoff_seconds('exponential', 1e9, null, 0, 2147483647)))::text")
}

// Redrives that run at the same time, by number and by filter: every dead letter comes back to its consumer once.
func TestDeadLetter_RedrivesAtOnceMoveEachOnce(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s, a, b := open(t, db), open(t, db), open(t, db)
		s.prepareQueue()
		s.exec("select pgq.insert_event('q', 'dead', i::text) from generate_series(1, 200) i")
		s.tick()
		batch := s.text("select pgq.next_batch('q', 'c')")
		s.exec(fmt.Sprintf("select pgq.events_dead(%s, array(select ev_id from pgq.get_batch_events(%s)), null), pgq.finish_batch(%s)", batch, batch, batch))

		// one holds a letter, the other waits for it and finds it gone
		a.exec("begin; select pgq.dead_letter_redrive(1)")
		done := b.start("create temp table got as select pgq.dead_letter_redrive(1) as n")
		b.waitBlocked(s)
		// a third passes over it
		if got := s.text("select pgq.dead_letter_redrive('q', 'c', null, null, 50)"); got != "50" {
			t.Errorf("redrive past a locked one: got %s, want 50", got)
		}
		a.exec("commit")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := b.text("select n from got"); got != "0" {
			t.Errorf("second redrive of one letter: got %s, want 0", got)
		}

		counts := make(chan int, 2)
		for _, one := range []*session{a, b} {
			go func() {
				n := 0
				for i := 1; i <= 200; i += 7 {
					var k int
					if err := one.conn.QueryRow(t.Context(), "select pgq.dead_letter_redrive($1) + pgq.dead_letter_redrive('q', 'c', null, null, 3)", i).Scan(&k); err != nil {
						t.Error(err)
					}
					n += k
				}
				counts <- n
			}()
		}
		if n := <-counts + <-counts; n != 200-51 {
			t.Errorf("redriven: got %d, want %d", n, 200-51)
		}
		for s.text("select pgq.maint_retry_events()") != "0" {
		}
		s.tick()
		s.drain()
		if got := s.text("select count(*) || ' of ' || count(distinct ev_id) from public.seen where ev_type = 'dead'"); got != "200 of 200" {
			t.Errorf("delivered again: got %s, want 200 of 200", got)
		}
	})
}

// nackAgainstTakeover lets a member of a group nack while another takes its batch over. Either the nack comes first,
// or it finds the batch gone: an event is never given up behind the back of the member that works on it.
func nackAgainstTakeover(t *testing.T, db *pgtest.Database) string {
	s, slow, next := open(t, db), open(t, db), open(t, db)
	s.exec("select pgq.create_queue('q'); select pgq_coop.register_subconsumer('q', 'c', 'slow')")
	s.exec("select pgq.insert_event('q', 'e', 'x'); select pgq.insert_event('q', 'f', 'x')")
	s.exec("select pgq.force_tick('q')")
	s.tick()
	batch := slow.text("select pgq_coop.next_batch('q', 'c', 'slow')")

	// the nack came first: a member at work is passed over
	slow.exec("begin; select pgq.events_dead(" + batch + ", '{1}', '{slow}')")
	if err := <-next.start("create temp table got as select pgq_coop.next_batch('q', 'c', 'next', '0') as id"); err != nil {
		t.Fatal(err)
	}
	taken := next.text("select id is not null from got") == "true"
	slow.exec("commit")
	if taken {
		return "a batch was taken over while one of its events was being given up"
	}
	next.exec("update got set id = pgq_coop.next_batch('q', 'c', 'next', '0')")
	if next.text("select id from got") == batch {
		t.Fatal("the batch kept its id")
	}
	// the takeover came first
	if err := <-slow.start("select pgq.nack(" + batch + ", 2, 'late')"); sqlState(err) != "42704" {
		t.Fatalf("nack of a batch that was taken over: got %v", err)
	}
	return ""
}
