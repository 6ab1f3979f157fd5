package pgqsql_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

var stressFactor = flag.Int("stress", 1, "multiply the transactions of TestStress")

// TestStress lets producers of every isolation level, with savepoints and
// rollbacks and transactions of all lengths, run against three tickers, the
// retry mover and rotations without a pause. Two consumers must get every
// committed event exactly once, and what one of them put into retry once more.
func TestStress_EveryCommittedEventOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	setup := open(t, db)
	setup.exec("select pgq.create_queue('q'); select pgq.register_consumer('q', 'plain'); select pgq.register_consumer('q', 'retrying')")
	setup.exec("update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '50 milliseconds'")

	const producers = 4
	perProducer := 150 * *stressFactor
	var (
		wg         sync.WaitGroup
		committed  = make([][]string, producers)
		refused    atomic.Int64
		stop       = make(chan struct{})
		background sync.WaitGroup
	)
	loop := func(work func(conn *pgx.Conn) error) {
		conn := db.Conn(t)
		background.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := work(conn); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	call := func(sql string) func(*pgx.Conn) error {
		return func(conn *pgx.Conn) error {
			_, err := conn.Exec(context.Background(), sql)
			return err
		}
	}
	for range 3 {
		loop(call("select pgq.ticker('q')"))
	}
	loop(call("select pgq.maint_retry_events()"))
	var rotations atomic.Int64
	table := 0
	loop(func(conn *pgx.Conn) error {
		if err := call("select pgq.maint_rotate_tables_step1('q')")(conn); err != nil {
			return err
		}
		if err := call("select pgq.maint_rotate_tables_step2()")(conn); err != nil {
			return err
		}
		before := table
		err := conn.QueryRow(context.Background(), "select queue_cur_table from pgq.queue").Scan(&table)
		if table != before {
			rotations.Add(1)
		}
		return err
	})
	plain, retrying := &reader{name: "plain"}, &reader{name: "retrying", retry: true}
	loop(plain.step)
	loop(retrying.step)

	for i := range producers {
		conn, rnd := db.Conn(t), rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			for n := range perProducer {
				events, err := produce(conn, rnd, fmt.Sprintf("%d.%d", i, n))
				switch {
				case sqlState(err) == "40001":
					refused.Add(1)
				case err != nil:
					t.Error(err)
					return
				}
				committed[i] = append(committed[i], events...)
			}
		})
	}
	wg.Wait()
	want := slices.Concat(committed...)
	defer func() {
		t.Logf("%d events committed, %d rotations, %d transactions refused with 40001; delivered %d and %d, of these %d asked again", len(want), rotations.Load(), refused.Load(), plain.count(), retrying.count(), retrying.retries())
	}()
	pgtest.Eventually(t, 2*time.Minute, "all events delivered", func() bool {
		return t.Failed() || plain.count() >= len(want) && retrying.count() >= len(want)+retrying.retries()
	})
	close(stop)
	background.Wait()

	if rotations.Load() == 0 {
		t.Error("no rotation happened: the test proves nothing about them")
	}
	plain.check(t, want)
	retrying.check(t, want)
}

// produce runs one transaction and returns the events it committed.
func produce(conn *pgx.Conn, rnd *rand.Rand, name string) ([]string, error) {
	ctx := context.Background()
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: levels[rnd.IntN(len(levels))]})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	var events []string
	for i := range 1 + rnd.IntN(5) {
		if rnd.IntN(3) == 0 { // a snapshot, or a while, before the event
			if _, err := tx.Exec(ctx, "select count(*), pg_sleep($1::float8) from pgq.queue", float64(rnd.IntN(8))/1000); err != nil {
				return nil, err
			}
		}
		event := fmt.Sprintf("%s.%d", name, i)
		inner, err := tx.Begin(ctx) // a savepoint
		if err != nil {
			return nil, err
		}
		if err := insertOne(ctx, inner, rnd, event); err != nil {
			return nil, err
		}
		if rnd.IntN(4) == 0 {
			err = inner.Rollback(ctx)
		} else {
			err, events = inner.Commit(ctx), append(events, event)
		}
		if err != nil {
			return nil, err
		}
	}
	if rnd.IntN(6) == 0 {
		return nil, tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, err
	}
	return events, nil
}

// insertOne inserts by function or, as bulk producers do, into the table.
func insertOne(ctx context.Context, tx pgx.Tx, rnd *rand.Rand, event string) error {
	if rnd.IntN(3) > 0 {
		_, err := tx.Exec(ctx, "select pgq.insert_event('q', 't', $1)", event)
		return err
	}
	var table string
	if err := tx.QueryRow(ctx, "select pgq.current_event_table('q')").Scan(&table); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "insert into "+table+" (ev_time, ev_type, ev_data) values (now(), 't', $1)", event)
	return err
}

// reader is a consumer that counts what it gets.
type reader struct {
	name  string
	retry bool

	mu      sync.Mutex
	first   map[string]int
	again   map[string]int
	retried int
	total   int
}

func (r *reader) count() int   { r.mu.Lock(); defer r.mu.Unlock(); return r.total }
func (r *reader) retries() int { r.mu.Lock(); defer r.mu.Unlock(); return r.retried }

// step reads and finishes the next batch, if there is one.
func (r *reader) step(conn *pgx.Conn) error {
	ctx := context.Background()
	var batch *int64
	if err := conn.QueryRow(ctx, "select pgq.next_batch('q', $1)", r.name).Scan(&batch); err != nil || batch == nil {
		return err
	}
	rows, err := conn.Query(ctx, "select ev_id, ev_data, ev_retry from pgq.get_batch_events($1)", *batch)
	if err != nil {
		return err
	}
	type event struct {
		ID    int64
		Data  string
		Retry *int32
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[event])
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == nil {
		r.first, r.again = map[string]int{}, map[string]int{}
	}
	for _, e := range events {
		r.total++
		if e.Retry != nil {
			r.again[e.Data]++
			continue
		}
		r.first[e.Data]++
		if r.retry && e.ID%5 == 0 {
			r.retried++
			if _, err := conn.Exec(ctx, "select pgq.event_retry($1, $2, 0)", *batch, e.ID); err != nil {
				return err
			}
		}
	}
	var closed int
	err = conn.QueryRow(ctx, "select pgq.finish_batch($1)", *batch).Scan(&closed)
	if err == nil && closed != 1 {
		err = errors.New("the batch was closed by somebody else")
	}
	return err
}

// check compares the deliveries with what was committed.
func (r *reader) check(t *testing.T, want []string) {
	t.Helper()
	for _, e := range want {
		if r.first[e] != 1 {
			t.Errorf("consumer %s got event %s %d times", r.name, e, r.first[e])
		}
	}
	if len(r.first) != len(want) {
		t.Errorf("consumer %s got %d events, %d were committed", r.name, len(r.first), len(want))
	}
	again := 0
	for e, n := range r.again {
		again += n
		if n != 1 {
			t.Errorf("consumer %s got the retry of event %s %d times", r.name, e, n)
		}
	}
	if again != r.retried {
		t.Errorf("consumer %s got %d retries, it asked for %d", r.name, again, r.retried)
	}
}
