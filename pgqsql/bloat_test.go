package pgqsql_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// Dead versions that an old snapshot keeps must not be read again by every
// batch. Counted in pages touched, which a busy machine does not change.
func TestBloat_OldSnapshotDoesNotSlowConsumption(t *testing.T) {
	t.Parallel()
	const batches, sample = 1500, 10
	for name, holder := range map[string]string{
		"nobody":          "",
		"read-only":       "begin isolation level repeatable read; select 1 from pgq.queue",
		"with own writes": "begin isolation level repeatable read; select txid_current()",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			s, old := open(t, db), open(t, db)
			s.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true")
			s.exec("select pgq.register_consumer('q', 'c'); select pgq.register_consumer('q', 'other')")
			s.exec("select pgq_coop.register_subconsumer('q', 'group', 'm')")
			if holder != "" {
				old.exec(holder)
			}
			first := s.pagesPerBatch(2, sample)
			s.exec(fmt.Sprintf(`do $$
				declare b bigint;
				begin
					for i in %d .. %d loop
						perform pgq.ticker('q', i, now(), i);
						commit;
						b := pgq.next_batch('q', 'c');
						perform pgq.finish_batch(b);
						b := pgq_coop.next_batch('q', 'group', 'm');
						perform pgq_coop.finish_batch(b);
						commit;
					end loop;
				end $$`, 2+sample, batches))
			last := s.pagesPerBatch(batches+1, sample)
			t.Logf("pages for each batch: %d, after %d batches %d", first, batches, last)
			if last > first*3/2 {
				t.Errorf("a batch touches %d pages, after %d batches %d", first, batches, last)
			}
		})
	}
}

var sharedHits = regexp.MustCompile(`Buffers: shared hit=(\d+)(?: read=(\d+))?`)

// pagesPerBatch works through n ticks from the given one, as a plain consumer
// and as a member of a group, and returns how many pages that touched for one:
// the median, because a catalog that autovacuum changes is read again at once.
func (s *session) pagesPerBatch(tick, n int) int {
	s.t.Helper()
	pages := 0
	var counts []int
	explain := func(sql string) {
		var out string
		rows, err := s.conn.Query(s.t.Context(), "explain (analyze, buffers, timing off, summary off, costs off) "+sql)
		if err != nil {
			s.t.Fatal(err)
		}
		for rows.Next() && out == "" {
			var line string
			if err := rows.Scan(&line); err != nil {
				s.t.Fatal(err)
			}
			if m := sharedHits.FindStringSubmatch(line); m != nil {
				out = m[1]
				hits, _ := strconv.Atoi(m[1])
				reads, _ := strconv.Atoi(m[2])
				pages += hits + reads
			}
		}
		rows.Close()
		if rows.Err() != nil || out == "" {
			s.t.Fatalf("%s: %v, buffers %q", sql, rows.Err(), out)
		}
	}
	for i := range n {
		pages = 0
		s.exec(fmt.Sprintf("select pgq.ticker('q', %d, now(), %[1]d)", tick+i))
		explain("select pgq.next_batch('q', 'c')")
		batch := s.text("select pgq.next_batch('q', 'c')")
		explain("select * from pgq.get_batch_events(" + batch + ")")
		explain("select pgq.finish_batch(" + batch + ")")
		explain("select pgq_coop.next_batch('q', 'group', 'm', '1 hour')")
		batch = s.text("select pgq_coop.next_batch('q', 'group', 'm')")
		explain("select pgq_coop.touch(" + batch + ")")
		explain("select pgq_coop.finish_batch(" + batch + ")")
		counts = append(counts, pages)
	}
	slices.Sort(counts)
	return counts[n/2]
}

// A batch is found by where its row is. Another session that moves the row
// between the search and the change must not make the batch disappear.
func TestBloat_MovedRowIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ meanwhile, call, want string }{
		"plain, sign of life":    {"update pgq.subscription set sub_active = now()", "pgq.finish_batch(%s)", "1"},
		"plain, finished":        {"select pgq.finish_batch(%s)", "pgq.finish_batch(%s)", "0"},
		"plain, moved elsewhere": {"select pgq.register_consumer_at('q', 'c', 1)", "pgq.finish_batch(%s)", "0"},
		"member, sign of life":   {"select pgq_coop.touch(%s)", "pgq_coop.finish_batch(%s)", "1"},
		"member, finished":       {"select pgq_coop.finish_batch(%s)", "pgq_coop.finish_batch(%s)", "0"},
		"touch after finish":     {"select pgq_coop.finish_batch(%s)", "pgq_coop.touch(%s)", "0"},
		"touch, both":            {"select pgq_coop.touch(%s)", "pgq_coop.touch(%s)", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			admin, a, b := open(t, db), open(t, db), open(t, db)
			admin.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true")
			admin.exec("select pgq.register_consumer('q', 'c'); select pgq_coop.register_subconsumer('q', 'group', 'm')")
			// versions on several pages, so that the row changes its page, too
			admin.exec("begin; select pgq.ticker('q', 2, now(), 2)")
			for range 200 {
				admin.exec("update pgq.subscription set sub_active = now()")
			}
			admin.exec("commit")
			batch := admin.text("select pgq.next_batch('q', 'c')")
			if name[0] != 'p' {
				batch = admin.text("select pgq_coop.next_batch('q', 'group', 'm')")
			}
			fill := func(sql string) string { return regexp.MustCompile(`%s`).ReplaceAllString(sql, batch) }
			a.exec("begin; " + fill(c.meanwhile))
			done := b.start("create temp table answer as select " + fill(c.call) + " as code")
			b.waitBlocked(admin)
			a.exec("commit")
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := b.text("select code from answer"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
