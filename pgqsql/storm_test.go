package pgqsql_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/e2e/audit"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

var (
	stormSeed   = flag.Uint64("storm.seed", 0, "what TestStorm does; 0: another one each time")
	stormRounds = flag.Int("storm.rounds", 15, "transactions of each producer of TestStorm")
)

const stormDatabase = "skyd_storm"

// TestStorm lets everything work at once on a server of its own, in plain SQL: producers with transactions of all kinds, three
// tickers, rotation without a pause, the mover of retries, two sessions of one consumer, a cooperative group whose
// members take batches over, an ordered group that is resized; and ends sessions of all of them at random: by
// pg_terminate_backend, by cutting the connection, by SIGKILL of the server process, which makes the whole server recover.
// The auditor reads the effects, which commit together with their batches: each event once, whole, in order.
func TestStorm(t *testing.T) {
	t.Parallel()
	seed := *stormSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("replay the choices: go test ./pgqsql -run TestStorm -storm.seed=%d -storm.rounds=%d", seed, *stormRounds)
	s := newStorm(t, seed)
	ctx, stop := context.WithCancel(t.Context())
	var crews, producers sync.WaitGroup
	for name, work := range s.crew() {
		crews.Go(func() { s.keep(ctx, name, work) })
	}
	for p := range 3 {
		producers.Go(func() { s.produce(ctx, p) })
	}
	produced := make(chan struct{})
	go func() { producers.Wait(); close(produced) }()
	s.disturb(ctx, produced)
	pgtest.Eventually(t, 5*time.Minute, "all events have taken effect everywhere", func() bool { return s.drained(ctx) })
	stop()
	crews.Wait()
	s.audit()
}

// storm is the stage of TestStorm.
type storm struct {
	t       *testing.T
	cluster *pgtest.Cluster
	dsn     string
	auditor *audit.Auditor
	turns   chan struct{} // one for each transaction of a producer
	total   atomic.Int64  // events that are committed

	mu       sync.Mutex
	rnd      *rand.Rand
	sessions map[string]*pgx.Conn
}

func newStorm(t *testing.T, seed uint64) *storm {
	t.Helper()
	c := pgtest.NewCluster(t, map[string]string{"autovacuum": "off"})
	s := &storm{
		t: t, cluster: c, dsn: c.DSN(stormDatabase), auditor: audit.New(), turns: make(chan struct{}, 1),
		rnd: rand.New(rand.NewPCG(seed, 7)), sessions: map[string]*pgx.Conn{},
	}
	admin, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), "create database "+stormDatabase); err != nil {
		t.Fatal(err)
	}
	_ = admin.Close(t.Context())
	conn, err := pgx.Connect(t.Context(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`select pgq.create_queue('q')`,
		`update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`,
		`select pgq.register_consumer('q', 'plain'), pgq_coop.register_subconsumer('q', 'team', 'm0'), pgq.create_group('q', 'g', 'ev_key', 4)`,
		`create table public.produced (producer integer, round integer, primary key (producer, round))`,
		`create table public.effect (n bigserial, consumer text, worker text, batch bigint default txid_current(), ev_id bigint,
			retry integer, key text, data text, retried boolean)`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return s
}

// choose is a number below n by the seed.
func (s *storm) choose(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rnd.IntN(n)
}

// connect gives a worker a session that can be ended from outside, as often as it takes.
func (s *storm) connect(ctx context.Context, name string) *pgx.Conn {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, s.dsn)
		if err == nil {
			s.mu.Lock()
			s.sessions[name] = conn
			s.mu.Unlock()
			return conn
		}
		_ = pause(ctx)
	}
	return nil
}

// pause keeps a worker that cannot connect from spinning.
func pause(ctx context.Context) error {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// keep does a work again and again until the context ends; when its session breaks it gets another one.
func (s *storm) keep(ctx context.Context, name string, work func(ctx context.Context, conn *pgx.Conn, name string) error) {
	for ctx.Err() == nil {
		conn := s.connect(ctx, name)
		var err error
		for err == nil && ctx.Err() == nil {
			err = work(ctx, conn, name)
		}
		if state := sqlState(err); ctx.Err() == nil && state != "" && state != "57P01" && state != "57P02" && state != "57P03" && state != "40P01" {
			s.t.Errorf("%s: %v", name, err)
		}
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}
}

// crew are all who work but the producers.
func (s *storm) crew() map[string]func(context.Context, *pgx.Conn, string) error {
	run := func(sql string) func(context.Context, *pgx.Conn, string) error {
		return func(ctx context.Context, conn *pgx.Conn, _ string) error {
			_, err := conn.Exec(ctx, sql)
			return err
		}
	}
	all := map[string]func(context.Context, *pgx.Conn, string) error{
		"ticker0": run("select pgq.ticker(), pg_sleep(0.01)"),
		"ticker1": run("select pgq.ticker('q'), pg_sleep(0.01)"),
		"ticker2": run("select pgq.ticker('q'), pg_sleep(0.02)"),
		"step1":   run("select pgq.maint_rotate_tables_step1('q'), pg_sleep(0.01)"),
		"step2":   run("select pgq.maint_rotate_tables_step2(), pg_sleep(0.01)"),
		"retries": run("select pgq.maint_retry_events(), pg_sleep(0.01)"),
		"resizer": func(ctx context.Context, conn *pgx.Conn, _ string) error {
			_, err := conn.Exec(ctx, "select pgq.resize_group('q', 'g', $1), pg_sleep(0.3)", 1+s.choose(6))
			return err
		},
	}
	for i := range 2 {
		all[fmt.Sprint("plain", i)] = s.plain
		all[fmt.Sprint("m", i)] = s.member
		all[fmt.Sprint("w", i)] = s.slots
	}
	return all
}

// inTx runs f in a transaction and commits it if f says so.
func inTx(ctx context.Context, conn *pgx.Conn, f func(tx pgx.Tx) (commit bool, err error)) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	commit, err := f(tx)
	if err != nil || !commit {
		return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return tx.Commit(ctx)
}

const (
	stormEffect = `insert into public.effect (consumer, worker, ev_id, retry, key, data, retried)
		select $1, $2, ev_id, coalesce(ev_retry, 0), ev_extra3, ev_data, ev_retry is null and ev_id %% 13 = 0 and $1 <> 'g'
		  from %s order by ev_id`
	stormRetry = `select count(pgq.event_retry($1, ev_id, 0)) from pgq.get_batch_events($1) where ev_retry is null and ev_id % 13 = 0`
)

// batch works on one batch by its number: effect, retries and finish in one transaction.
func (s *storm) batch(ctx context.Context, conn *pgx.Conn, consumer, name, finish string, id int64) error {
	late := s.choose(12) == 0 // long enough for a takeover
	return inTx(ctx, conn, func(tx pgx.Tx) (bool, error) {
		if _, err := tx.Exec(ctx, fmt.Sprintf(stormEffect, "pgq.get_batch_events($3)"), consumer, name, id); err != nil {
			if sqlState(err) == "42704" { // taken over, or done by the other session
				err = nil
			}
			return false, err
		}
		if late {
			if _, err := tx.Exec(ctx, "select pg_sleep(0.3)"); err != nil {
				return false, err
			}
		}
		if _, err := tx.Exec(ctx, stormRetry, id); err != nil {
			if sqlState(err) == "42704" {
				err = nil
			}
			return false, err
		}
		var done int
		err := tx.QueryRow(ctx, "select "+finish+"($1)", id).Scan(&done)
		return done == 1, err
	})
}

// plain is a session of the plain consumer. It takes batches in both ways there are.
func (s *storm) plain(ctx context.Context, conn *pgx.Conn, name string) error {
	next := "select pgq.next_batch('q', 'plain')"
	if s.choose(2) == 0 {
		next = "select max(batch_id) from pgq.receive_batch('q', 'plain', i_tick => true)"
	}
	var id *int64
	if err := conn.QueryRow(ctx, next).Scan(&id); err != nil || id == nil {
		return err
	}
	return s.batch(ctx, conn, "plain", name, "pgq.finish_batch", *id)
}

// member is a member of the cooperative group.
func (s *storm) member(ctx context.Context, conn *pgx.Conn, name string) error {
	var id *int64
	if err := conn.QueryRow(ctx, "select pgq_coop.next_batch('q', 'team', $1, '100 ms')", name).Scan(&id); err != nil || id == nil {
		return err
	}
	return s.batch(ctx, conn, "team", name, "pgq_coop.finish_batch", *id)
}

// slots is a worker of the ordered group.
func (s *storm) slots(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "select pgq.acquire_slots('q', 'g', $1, '200 ms')", name); err != nil {
		return err
	}
	var batch *string
	err := conn.QueryRow(ctx, "select batch::text from pgq.next_group_batch('q', 'g', $1, null, $2)", name, 1+s.choose(20)).Scan(&batch)
	if err != nil || batch == nil {
		return err
	}
	return inTx(ctx, conn, func(tx pgx.Tx) (bool, error) {
		if _, err := tx.Exec(ctx, fmt.Sprintf(stormEffect, "pgq.get_group_events($3::jsonb)"), "g", name, *batch); err != nil {
			if sqlState(err) == "42704" { // the slots have another owner by now
				err = nil
			}
			return false, err
		}
		if s.choose(10) == 0 {
			if _, err := tx.Exec(ctx, "select pg_sleep(0.25)"); err != nil {
				return false, err
			}
		}
		var done int
		err := tx.QueryRow(ctx, "select pgq.finish_group_batch($1::jsonb)", *batch).Scan(&done)
		return done == 1, err
	})
}

// produce commits transactions one after the other and makes sure of each what became of it.
func (s *storm) produce(ctx context.Context, producer int) {
	name, seq := fmt.Sprint("producer", producer), map[string]int64{}
	conn := s.connect(ctx, name)
	for round := range *stormRounds {
		for ctx.Err() == nil {
			events, err := s.transaction(ctx, conn, producer, round, seq)
			if err != nil {
				_ = conn.Close(context.WithoutCancel(ctx))
				conn = s.connect(ctx, name)
			}
			if err == nil || s.committed(ctx, conn, producer, round) {
				s.auditor.Acknowledged(events...)
				s.total.Add(int64(len(events)))
				for _, ev := range events {
					seq[ev.Key] = ev.Seq
				}
				break
			}
		}
		select {
		case s.turns <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// transaction inserts some events, takes others back, and waits a little or not at all before it commits.
func (s *storm) transaction(ctx context.Context, conn *pgx.Conn, producer, round int, seq map[string]int64) (events []audit.Event, err error) {
	err = inTx(ctx, conn, func(tx pgx.Tx) (bool, error) {
		var txid int64
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", producer); err != nil {
			return false, err
		}
		err := tx.QueryRow(ctx, "insert into public.produced values ($1, $2) returning txid_current()", producer, round).Scan(&txid)
		if err != nil {
			return false, err
		}
		insert := func(key, data string) (id int64, err error) {
			err = tx.QueryRow(ctx, "select pgq.insert_event('q', 't', $1, null, null, $2, null)", data, key).Scan(&id)
			return id, err
		}
		for i := range 1 + s.choose(3) {
			key, data := fmt.Sprintf("%d/%d", producer, i), fmt.Sprintf("%d.%d.%d", producer, round, i)
			id, err := insert(key, data)
			if err != nil {
				return false, err
			}
			events = append(events, audit.Event{ID: id, Key: key, Seq: seq[key] + 1, Tx: txid, Hash: audit.Hash(data)})
		}
		if s.choose(4) == 0 {
			undone := errors.New("undone")
			if err := pgx.BeginFunc(ctx, tx, func(pgx.Tx) error { _, err := insert("gone", "gone"); return errors.Join(err, undone) }); !errors.Is(err, undone) || sqlState(err) != "" {
				return false, err
			}
		}
		_, err = tx.Exec(ctx, "select pg_sleep($1)", float64(s.choose(4)*s.choose(4))/300)
		return true, err
	})
	return events, err
}

// committed finds out what became of a transaction whose session broke: it waits until the transaction is over and looks
// for its mark. txid_status would not do: a number that was not yet on disk when the server died is given out again.
func (s *storm) committed(ctx context.Context, conn *pgx.Conn, producer, round int) bool {
	for ctx.Err() == nil {
		_, err := conn.Exec(ctx, "select pg_advisory_xact_lock($1)", producer)
		var done bool
		if err == nil {
			err = conn.QueryRow(ctx, "select exists (select from public.produced where producer = $1 and round = $2)", producer, round).Scan(&done)
		}
		if err == nil {
			return done
		}
		_ = conn.Close(context.WithoutCancel(ctx))
		if again := s.connect(ctx, fmt.Sprint("status", producer)); again != nil {
			defer func() { _ = again.Close(context.WithoutCancel(ctx)) }()
			conn = again
		}
	}
	return false
}

// disturb ends sessions while events are produced, at the pace of the producers.
func (s *storm) disturb(ctx context.Context, produced <-chan struct{}) {
	ended := map[string]int{}
	defer func() { s.t.Logf("ended: %v", ended) }()
	crashes := max(2, *stormRounds/100)
	for turn := 1; ; turn++ {
		select {
		case <-produced:
			return
		case <-s.turns:
		}
		victim := s.victim()
		switch kind := s.choose(8); {
		case turn%(3**stormRounds/(crashes+1)) == 0:
			if s.kill(victim) {
				ended["by SIGKILL, with the whole server"]++
			}
		case kind < 2:
			_ = victim.PgConn().Conn().Close()
			ended["by a cut"]++
		case kind < 4:
			s.terminate(ctx, victim.PgConn().PID())
			ended["by an administrator"]++
		}
	}
}

// victim is a session of somebody.
func (s *storm) victim() *pgx.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	skip := s.rnd.IntN(len(s.sessions))
	for _, conn := range s.sessions {
		if skip--; skip < 0 {
			return conn
		}
	}
	panic("no session")
}

func (s *storm) terminate(ctx context.Context, pid uint32) {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return // the server is recovering
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, _ = conn.Exec(ctx, "select pg_terminate_backend($1)", int32(pid))
}

// kill ends one server process as the kernel does when memory runs out, if it is one of ours and on this machine.
func (s *storm) kill(victim *pgx.Conn) bool {
	pid := victim.PgConn().PID()
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.HasPrefix(string(title), "postgres: ") || !strings.Contains(string(title), stormDatabase) {
		return false
	}
	return syscall.Kill(int(pid), syscall.SIGKILL) == nil
}

// drained tells whether each consumer has done all events.
func (s *storm) drained(ctx context.Context) bool {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var done bool
	err = conn.QueryRow(ctx, `select count(*) = 3 and min(n) >= $1 from (
		select count(distinct ev_id) as n from public.effect where not retried group by consumer) c`, s.total.Load()).Scan(&done)
	return err == nil && done
}

// audit feeds the auditor with the effects, in their order.
func (s *storm) audit() {
	s.t.Helper()
	ctx := context.WithoutCancel(s.t.Context())
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for name, promises := range map[string]audit.Promises{
		"plain": {InOrder: true, Once: true, WholeTx: true},
		"team":  {Once: true, WholeTx: true},
		"g":     {InOrder: true, Once: true},
	} {
		consumer := s.auditor.Consumer(name, promises)
		rows, err := conn.Query(ctx, "select batch, worker, ev_id, retry, coalesce(key, ''), data, retried from public.effect where consumer = $1 order by min(n) over (partition by batch), n", name)
		if err != nil {
			s.t.Fatal(err)
		}
		var d audit.Delivery
		var batch int64
		var ev audit.Event
		var worker, data string
		var retried bool
		_, err = pgx.ForEachRow(rows, []any{&batch, &worker, &ev.ID, &ev.Retry, &ev.Key, &data, &retried}, func() error {
			if batch != d.Batch {
				consumer.Committed(d)
				d = audit.Delivery{Batch: batch, Worker: worker}
			}
			ev.Hash = audit.Hash(data)
			d.Events = append(d.Events, ev)
			if retried {
				d.Retried = append(d.Retried, ev.ID)
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		consumer.Committed(d)
	}
	if err := s.auditor.Check(); err != nil {
		s.t.Error(err)
	}
	var rotations string
	if err := conn.QueryRow(ctx, `select format('table %s, %s ticks, epochs up to %s, %s takes of batch numbers', queue_cur_table,
		(select max(tick_id) from pgq.tick), (select max(epoch) from pgq.group_slot), (select last_value from pgq.batch_id_seq)) from pgq.queue`).Scan(&rotations); err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%d events, %s", s.auditor.Produced(), rotations)
}
