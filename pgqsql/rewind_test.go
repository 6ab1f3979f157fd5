package pgqsql_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// A tick that is still there can be gone back to: the events after it are in
// tables that are read.
func TestRewind_EveryRetainedTickGivesItsEvents(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		s.exec("select pgq.create_queue('q'), pgq.register_consumer('q', 'c')")
		s.exec("update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
		after := map[string][]string{} // events by the tick before them
		// open transactions of other tests on the server hold back rotation
		deadline := time.Now().Add(2 * time.Minute)
		deleted := func() bool { return s.text("select min(tick_id) > 1 from pgq.tick") == "true" }
		for round := 0; round < 12 || (!deleted() && time.Now().Before(deadline)); round++ {
			event := fmt.Sprint(round)
			s.exec("select pgq.insert_event('q', '" + event + "', '')")
			for tick := range after {
				after[tick] = append(after[tick], event)
			}
			after[s.text("select pgq.ticker('q')")] = nil
			s.drain()
			s.exec("select pgq.maint_rotate_tables_step1('q')")
			s.exec("select pgq.maint_rotate_tables_step2()")
		}
		if !deleted() {
			t.Fatal("no tick was deleted: the test proves nothing")
		}
		for _, tick := range strings.Fields(s.text("select string_agg(tick_id::text, ' ' order by tick_id) from pgq.tick")) {
			s.exec("truncate public.seen; select pgq.rewind_to_tick('q', 'c', " + tick + ")")
			s.drain()
			want := strings.Join(after[tick], " ")
			if got := s.text("select coalesce(string_agg(ev_type, ' ' order by ev_id), '') from public.seen"); got != want {
				t.Errorf("from tick %s: got %q, want %q", tick, got, want)
			}
		}
		s.exec("select pgq_coop.register_subconsumer('q', 'c', 'm')")
		if err := <-s.start("select pgq.rewind_to_tick('q', 'c.m', (select max(tick_id) from pgq.tick))"); sqlState(err) != "55006" {
			t.Errorf("member of a group: got %v", err)
		}
	})
}
