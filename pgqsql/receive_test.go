package pgqsql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// received is what one call of pgq.receive_batch gave.
type received struct {
	batch    *int64
	events   []string // ev_type
	finished *int32
	complete *bool
	tick     *int64
}

type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// receiveOn calls pgq.receive_batch for consumer c of queue q.
func receiveOn(ctx context.Context, q queryer, finish *int64, maxEvents, merge *int, tick bool) (r received, err error) {
	rows, err := q.Query(ctx, `select batch_id, ev_id, ev_type, finished, complete, cur_tick_id
		from pgq.receive_batch('q', 'c', $1, $2, $3, $4)`, finish, maxEvents, merge, tick)
	if err != nil {
		return r, err
	}
	defer rows.Close()
	for rows.Next() {
		var id *int64
		var evType *string
		if err := rows.Scan(&r.batch, &id, &evType, &r.finished, &r.complete, &r.tick); err != nil {
			return r, err
		}
		if id != nil {
			r.events = append(r.events, *evType)
		}
	}
	return r, rows.Err()
}

func (s *session) receive(finish *int64, tick bool) received {
	s.t.Helper()
	r, err := receiveOn(s.t.Context(), s.conn, finish, nil, nil, tick)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (r received) String() string {
	num := func(p *int64) string {
		if p == nil {
			return "∅"
		}
		return fmt.Sprint(*p)
	}
	fin := "∅"
	if r.finished != nil {
		fin = fmt.Sprint(*r.finished)
	}
	return fmt.Sprintf("batch %s events %v finished %s", num(r.batch), r.events, fin)
}

func (s *session) wantReceived(finish *int64, tick bool, want string) received {
	s.t.Helper()
	r := s.receive(finish, tick)
	if r.String() != want {
		s.t.Fatalf("got %s, want %s", r, want)
	}
	return r
}

// receiveQueue makes queue q with consumer c, whose own ticker ticks when it is asked.
func receiveQueue(s *session) {
	s.exec("select pgq.create_queue('q'), pgq.register_consumer('q', 'c')")
	s.exec("update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '1 hour'")
	// past the start, where the original does not count the first event
	s.exec("select pgq.insert_event('q', 'first', '')")
	s.exec("select pgq.insert_event('q', 'second', '')")
	s.exec("select pgq.ticker('q')")
	for {
		batch := s.text("select pgq.next_batch('q', 'c')")
		if batch == "∅" {
			return
		}
		s.exec("select pgq.finish_batch(" + batch + ")")
	}
}

func TestReceive_OneCallOpensReadsAndCloses(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		receiveQueue(s)
		s.exec("alter sequence pgq.batch_id_seq restart 100")
		s.wantReceived(nil, true, "batch ∅ events [] finished ∅")
		s.exec("select pgq.insert_event('q', 'a', ''), pgq.insert_event('q', 'b', '')")
		s.wantReceived(nil, false, "batch ∅ events [] finished ∅")
		a := s.wantReceived(nil, true, "batch 100 events [a b] finished ∅")
		s.wantReceived(nil, true, "batch 100 events [a b] finished ∅")
		s.exec("select pgq.insert_event('q', 'c', '')")
		wrong := int64(7)
		s.wantReceived(&wrong, true, "batch 100 events [a b] finished 0")
		c := s.wantReceived(a.batch, true, "batch 101 events [c] finished 1")
		s.wantReceived(c.batch, true, "batch ∅ events [] finished 1")
		s.wantReceived(c.batch, true, "batch ∅ events [] finished 0")

		// several ticks as one batch, up to a limit
		for i := range 6 {
			s.exec(fmt.Sprintf("select pgq.insert_event('q', '%d', '')", i))
			s.exec("select pgq.ticker('q')")
		}
		r, err := receiveOn(t.Context(), s.conn, nil, nil, new(4), true)
		if err != nil || len(r.events) != 4 {
			t.Fatalf("merged up to 4: got %s, %v", r, err)
		}
		// a part of the events, which is said
		r, err = receiveOn(t.Context(), s.conn, nil, new(3), nil, true)
		if err != nil || len(r.events) != 3 || *r.complete {
			t.Fatalf("3 of 4 events: got %s, complete %v, %v", r, *r.complete, err)
		}
		r, err = receiveOn(t.Context(), s.conn, nil, new(5), nil, true)
		if err != nil || len(r.events) != 4 || !*r.complete {
			t.Fatalf("4 events: got %s, complete %v, %v", r, *r.complete, err)
		}
		if got := s.text("select string_agg(ev_type, '' order by ev_id) from pgq.get_batch_events(" + fmt.Sprint(*r.batch) + ")"); got != "0123" {
			t.Errorf("events of the merged batch: %s", got)
		}
	})
}

func TestReceive_TicksOnlyWhatItMay(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		receiveQueue(s)
		s.exec("select pgq.insert_event('q', 'a', '')")
		for _, closed := range []string{"queue_ticker_paused", "queue_external_ticker"} {
			s.exec("update pgq.queue set " + closed + " = true")
			s.wantReceived(nil, true, "batch ∅ events [] finished ∅")
			s.exec("update pgq.queue set " + closed + " = false")
		}
		s.exec("begin isolation level repeatable read")
		s.wantReceived(nil, true, "batch ∅ events [] finished ∅")
		s.exec("commit")
		holder := open(t, db)
		holder.exec("begin; select pg_advisory_xact_lock(1885827444, queue_id) from pgq.queue")
		s.wantReceived(nil, true, "batch ∅ events [] finished ∅")
		holder.exec("commit")
		if got := s.receive(nil, true); len(got.events) != 1 {
			t.Errorf("got %s", got)
		}
	})
}

// Not parallel: transaction ids and WAL belong to the server.
func TestReceive_IdleWritesNothing(t *testing.T) {
	s := open(t, pgtest.DB(t))
	receiveQueue(s)
	s.receive(nil, true)
	const state = "select pg_current_snapshot()::text || ' ' || pg_current_wal_insert_lsn()"
	var before, after string
	pgtest.Eventually(t, time.Minute, "a moment in which nobody else writes", func() bool {
		before = s.text(state)
		for range 50 {
			s.wantReceived(nil, true, "batch ∅ events [] finished ∅")
		}
		after = s.text(state)
		return before == after
	})
}

// A transaction that was open at the last tick moves no counter when it ends.
func TestReceive_LateCommitIsSeen(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s, late, old := open(t, db), open(t, db), open(t, db)
	receiveQueue(s)
	old.exec("begin; select txid_current()")
	late.exec("begin; select pgq.insert_event('q', 'late', '')")
	s.exec("select pgq.insert_event('q', 'early', '')")
	got := s.wantReceived(nil, true, fmt.Sprintf("batch %s events [early] finished ∅", s.text("select last_value + 1 from pgq.batch_id_seq")))
	if got := s.receive(got.batch, true); got.batch != nil {
		t.Fatalf("a batch before the commit: %s", got)
	}
	late.exec("commit")
	if got := s.receive(nil, true); fmt.Sprint(got.events) != "[late]" {
		t.Errorf("after the commit: got %s", got)
	}
}

// An event may be counted by a tick whose snapshot does not list its transaction:
// the end of a snapshot is one beyond the last transaction that has ended, and
// this one is newer. Not parallel: others must not end transactions meanwhile.
func TestReceive_LateCommitBeyondTheSnapshotIsSeen(t *testing.T) {
	for range 20 {
		if lateCommitBeyondTheSnapshot(t) {
			return
		}
	}
	t.Error("every snapshot listed the open transaction, because something else ended meanwhile: nothing was proved")
}

// lateCommitBeyondTheSnapshot plays the schedule once; false: the server's own transactions were in its way.
func lateCommitBeyondTheSnapshot(t *testing.T) bool {
	db := pgtest.DB(t)
	s, late := open(t, db), open(t, db)
	receiveQueue(s)
	s.exec("select pgq.insert_event('q', 'early', '')")
	late.exec("begin")
	late.exec("select pgq.insert_event('q', 'late', '')")
	r := s.receive(nil, true)
	if got := fmt.Sprint(r.events); got != "[early]" {
		t.Fatalf("got %s, want the event that is committed", got)
	}
	beyond := strings.HasSuffix(s.text("select tick_snapshot from pgq.tick order by tick_id desc limit 1"), ":")
	late.exec("commit")
	r = s.receive(r.batch, true)
	if got := fmt.Sprint(r.events); got != "[late]" {
		t.Errorf("got %s, want the event that was committed late: nothing else would ever bring it", got)
	}
	return beyond
}

// What a transaction writes after it has ticked and read must not count as
// delivered, also when later transactions ended before its tick.
func TestReceive_OwnEventsComeLater(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s, other := open(t, db), open(t, db)
		receiveQueue(s)
		for _, first := range []string{"select pgq.insert_event('q', 'own', '')", "select txid_current()", "select 1"} {
			s.exec("begin; " + first)
			other.exec("select pgq.insert_event('q', 'other', '')")
			seen := s.receive(nil, true)
			s.exec("select pgq.insert_event('q', 'own', '')")
			s.exec("commit")
			types := seen.events
			for {
				if seen = s.receive(seen.batch, true); seen.batch == nil {
					break
				}
				types = append(types, seen.events...)
			}
			want := map[string]int{"other": 1, "own": 1}
			if first[7] == 'p' {
				want["own"] = 2
			}
			got := map[string]int{}
			for _, evType := range types {
				got[evType]++
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %v, want %v", first, got, want)
			}
		}
	})
}

// The session that does not get the batch opened by another one of its
// consumer must get the same batch, not one over it.
func TestReceive_TwoSessionsOfOneConsumer(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		admin, a, b := open(t, db), open(t, db), open(t, db)
		receiveQueue(admin)
		admin.exec("select pgq.insert_event('q', 'e', '')")
		admin.exec("select pgq.ticker('q')")
		a.exec("begin")
		first := a.receive(nil, true)
		opened := b.start("create temp table got on commit preserve rows as select max(batch_id) as id from pgq.receive_batch('q', 'c')")
		b.waitBlocked(admin)
		a.exec("commit")
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
		if got, want := b.text("select id from got"), fmt.Sprint(*first.batch); got != want {
			t.Errorf("two open batches of one consumer: %s and %s", want, got)
		}
	})
}

func TestReceive_GroupsAreRefused(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		receiveQueue(s)
		s.exec("select pgq_coop.register_subconsumer('q', 'c', 'm'), pgq.insert_event('q', 'e', '')")
		if _, err := receiveOn(t.Context(), s.conn, nil, nil, nil, true); sqlState(err) != "55006" {
			t.Errorf("main consumer of a group: got %v", err)
		}
		if _, err := s.conn.Exec(t.Context(), "select * from pgq.receive_batch('q', 'nobody')"); sqlState(err) != "42704" {
			t.Errorf("unknown consumer: got %v", err)
		}
	})
}

// Producers with transactions of all lengths, two tickers, rotations and two
// consumers that tick themselves: each event comes exactly once to each.
func TestReceive_EveryEventOnceUnderStress(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	setup := open(t, db)
	receiveQueue(setup)
	setup.exec("select pgq.register_consumer('q', 'd'); update pgq.queue set queue_rotation_period = '0'")
	const producers, rounds = 3, 60
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers, others sync.WaitGroup
	run := func(wg *sync.WaitGroup, step func(conn *pgx.Conn, rnd *rand.Rand, i int) (bool, error)) {
		conn, rnd := db.Conn(t), rand.New(rand.NewPCG(1, uint64(len(t.Name()))))
		wg.Go(func() {
			for i := 0; ; i++ {
				more, err := step(conn, rnd, i)
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				if err != nil || !more {
					return
				}
			}
		})
	}
	for p := range producers {
		run(&writers, func(conn *pgx.Conn, rnd *rand.Rand, i int) (bool, error) {
			sql := fmt.Sprintf("begin; select pgq.insert_event('q', '%d.%d.a', ''); select pg_sleep(%f); select pgq.insert_event('q', '%d.%d.b', ''); commit",
				p, i, rnd.Float64()*0.02*float64(p), p, i)
			_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
			return i+1 < rounds, err
		})
	}
	for _, sql := range []string{"select pgq.ticker()", "select pgq.maint_rotate_tables_step1('q')", "select pgq.maint_rotate_tables_step2()"} {
		run(&others, func(conn *pgx.Conn, _ *rand.Rand, _ int) (bool, error) {
			_, err := conn.Exec(ctx, sql+", pg_sleep(0.003)")
			return ctx.Err() == nil, err
		})
	}
	counts := [2]map[string]int{{}, {}}
	var readers sync.WaitGroup
	for n, name := range []string{"c", "d"} {
		conn := db.Conn(t)
		readers.Go(func() {
			var finish *int64
			for len(counts[n]) < producers*rounds*2 {
				rows, err := conn.Query(ctx, "select batch_id, ev_type from pgq.receive_batch('q', $1, $2, i_tick => true)", name, finish)
				if err != nil {
					t.Error(err)
					return
				}
				var evType *string
				_, err = pgx.ForEachRow(rows, []any{&finish, &evType}, func() error {
					if evType != nil {
						counts[n][*evType]++
					}
					return nil
				})
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("consumer %s after %d events: %v", name, len(counts[n]), err)
					}
					return
				}
			}
		})
	}
	writers.Wait()
	done := make(chan struct{})
	go func() { readers.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("consumers did not get all events in a minute")
	}
	cancel()
	<-done
	others.Wait()
	for n := range counts {
		for evType, times := range counts[n] {
			if times != 1 {
				t.Errorf("consumer %d got %s %d times", n, evType, times)
			}
		}
		if len(counts[n]) != producers*rounds*2 {
			t.Errorf("consumer %d got %d events of %d", n, len(counts[n]), producers*rounds*2)
		}
	}
}
