package pgqsql_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// onBothInstalls runs a test on our pgq and beside the C extension.
func onBothInstalls(t *testing.T, test func(t *testing.T, db *pgtest.Database)) {
	t.Parallel()
	t.Run("skyd", func(t *testing.T) { t.Parallel(); test(t, pgtest.DB(t)) })
	t.Run("extension", func(t *testing.T) { t.Parallel(); test(t, extension(t, "coop")) })
}

// Members ask, take over from each other whether dead or alive, come back as
// zombies and leave. Each stretch between two ticks must be closed by exactly
// one of them, and none may be left out.
func TestCoop_EveryBatchIsClosedOnce(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		const ticks, members = 120, 4
		setup := open(t, db)
		setup.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true; select pgq.register_consumer('q', 'c')")
		setup.exec(fmt.Sprintf("select pgq.ticker('q', i + 1, now(), i * 10) from generate_series(1, %d) i", ticks))
		var (
			mu     sync.Mutex
			closed = map[int64]int{} // by end tick
			wg     sync.WaitGroup
		)
		for m := range members {
			conn, rnd := db.Conn(t), rand.New(rand.NewPCG(uint64(m), 1))
			wg.Go(func() {
				for misses := 0; misses < 50; {
					tick, err := coopStep(conn, rnd, fmt.Sprintf("m%d", m))
					if err != nil {
						t.Error(err)
						return
					}
					misses++
					if tick > 0 {
						misses = 0
						mu.Lock()
						closed[tick]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		// what the last ones left open
		rnd := rand.New(rand.NewPCG(0, 0))
		for {
			tick, err := coopWork(setup.conn, rnd, "last", 0)
			if err != nil {
				t.Fatal(err)
			}
			if tick == 0 {
				break
			}
			closed[tick]++
		}
		for tick := int64(2); tick <= ticks+1; tick++ {
			if closed[tick] != 1 {
				t.Errorf("the batch up to tick %d was closed %d times", tick, closed[tick])
			}
		}
		if got := setup.text("select count(*) from pgq.subscription where sub_batch is not null or sub_last_tick < " + fmt.Sprint(ticks+1)); got != "0" {
			t.Errorf("%s subscriptions still hold rotation", got)
		}
	})
}

// coopStep is one turn of a member that may die with its batch in hand.
func coopStep(conn *pgx.Conn, rnd *rand.Rand, name string) (closed int64, err error) {
	if rnd.IntN(10) == 0 {
		_, err := conn.Exec(context.Background(), "select pgq_coop.next_batch('q', 'c', $1, '0')", name)
		return 0, err // dead; who comes back under this name gets the batch again, unless it was taken
	}
	return coopWork(conn, rnd, name, rnd.IntN(3))
}

// coopWork takes a batch, shows signs of life and closes it; 0: there was
// none, or it was taken over meanwhile.
func coopWork(conn *pgx.Conn, rnd *rand.Rand, name string, touches int) (closed int64, err error) {
	ctx := context.Background()
	var batch, tick *int64
	if err := conn.QueryRow(ctx, "select pgq_coop.next_batch('q', 'c', $1, $2)", name, []string{"0", "1 hour"}[rnd.IntN(2)]).Scan(&batch); err != nil || batch == nil {
		if name == "last" && err == nil {
			err = conn.QueryRow(ctx, "select pgq_coop.next_batch('q', 'c', $1, '0')", name).Scan(&batch)
		}
		if err != nil || batch == nil {
			return 0, err
		}
	}
	if err := conn.QueryRow(ctx, "select tick_id from pgq.get_batch_info($1)", *batch).Scan(&tick); err != nil || tick == nil {
		return 0, err // taken over before we looked
	}
	for range touches {
		if _, err := conn.Exec(ctx, "select pgq_coop.touch($1)", *batch); err != nil {
			return 0, err
		}
	}
	var code int
	if err := conn.QueryRow(ctx, "select pgq_coop.finish_batch($1)", *batch).Scan(&code); err != nil || code == 0 {
		return 0, err
	}
	return *tick, nil
}

// Two members that ask at once get different batches, two first calls make one
// group.
func TestCoop_MembersTakeTurns(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		admin, a, b := open(t, db), open(t, db), open(t, db)
		admin.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true")
		a.exec("begin")
		a.exec("select pgq_coop.register_subconsumer('q', 'c', 'a')")
		done := b.start("create temp table got as select pgq_coop.register_subconsumer('q', 'c', 'b') as code")
		b.waitBlocked(admin)
		a.exec("commit")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := admin.text("select count(distinct sub_id) || ' of ' || count(*) from pgq.subscription"); got != "1 of 3" {
			t.Errorf("groups and subscriptions: %s, want 1 of 3", got)
		}

		admin.exec("select pgq.ticker('q', 10, now(), 10), pgq.ticker('q', 20, now(), 20)")
		a.exec("begin")
		first := a.text("select pgq_coop.next_batch('q', 'c', 'a')")
		done = b.start("create temp table batch as select pgq_coop.next_batch('q', 'c', 'b') as id")
		b.waitBlocked(admin)
		a.exec("commit")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if second := b.text("select id from batch"); second == first || second == "∅" {
			t.Errorf("members got batches %s and %s", first, second)
		}
	})
}

// Sessions register, ask, take over, finish, touch and leave under the same few
// names at once, also two under one name. No call fails for another reason than
// the contract's, there is one group at the end, and each stretch between two
// ticks was closed once.
func TestCoop_RacesOfOneName(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		const ticks, sessions, names = 150, 6, 3
		setup := open(t, db)
		setup.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true")
		setup.exec("select pgq_coop.register_subconsumer('q', 'c', 'm0')")
		setup.exec(fmt.Sprintf("select pgq.ticker('q', i + 1, now(), i * 10) from generate_series(1, %d) i", ticks))
		var (
			mu     sync.Mutex
			closed = map[int64]int{} // by end tick
			wg     sync.WaitGroup
		)
		for s := range sessions {
			conn, rnd := db.Conn(t), rand.New(rand.NewPCG(uint64(s), 7))
			wg.Go(func() {
				for range 150 {
					tick, err := raceStep(conn, rnd, fmt.Sprintf("m%d", rnd.IntN(names)))
					if err != nil {
						t.Error(err)
						return
					}
					if tick > 0 {
						mu.Lock()
						closed[tick]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		rnd := rand.New(rand.NewPCG(0, 0))
		for {
			tick, err := coopWork(setup.conn, rnd, "last", 0)
			if err != nil {
				t.Fatal(err)
			}
			if tick == 0 {
				break
			}
			closed[tick]++
		}
		for tick := int64(2); tick <= ticks+1; tick++ {
			if closed[tick] != 1 {
				t.Errorf("the batch up to tick %d was closed %d times", tick, closed[tick])
			}
		}
		if got := setup.text("select count(distinct sub_id) || ' ' || count(sub_last_tick) || ' ' || count(sub_batch) from pgq.subscription"); got != "1 1 0" {
			t.Errorf("groups, positions, open batches: got %s, want 1 1 0", got)
		}
	})
}

// raceStep is one call, or a batch from opening to finish.
func raceStep(conn *pgx.Conn, rnd *rand.Rand, name string) (closed int64, err error) {
	ctx := context.Background()
	switch rnd.IntN(6) {
	case 0:
		_, err = conn.Exec(ctx, "select pgq_coop.register_subconsumer('q', 'c', $1)", name)
	case 1:
		_, err = conn.Exec(ctx, "select pgq_coop.unregister_subconsumer('q', 'c', $1, 0)", name)
		if pe := (*pgconn.PgError)(nil); errors.As(err, &pe) && pe.Code == "55006" {
			err = nil // it has an open batch
		}
	case 2:
		_, err = conn.Exec(ctx, "select pgq_coop.next_batch('q', 'c', $1, '0')", name)
	default:
		return coopWork(conn, rnd, name, rnd.IntN(2))
	}
	return 0, err
}

// The main consumer had a batch of its own before it got members: closing that
// must not cost the group its position.
func TestCoop_BatchOfTheMainConsumer(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		s := open(t, db)
		s.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true; select pgq.register_consumer('q', 'c')")
		s.exec("select pgq.ticker('q', 10, now(), 10), pgq.ticker('q', 20, now(), 20)")
		batch := s.text("select pgq.next_batch('q', 'c')")
		s.exec("select pgq_coop.register_subconsumer('q', 'c', 'a')")
		if got := s.text("select pgq_coop.finish_batch(" + batch + ")"); got != "1" {
			t.Errorf("finish of the main consumer's batch: got %s, want 1", got)
		}
		if got := s.text("select tick_id from pgq.get_batch_info(pgq_coop.next_batch('q', 'c', 'a'))"); got != "20" {
			t.Errorf("next batch of the group ends at tick %s, want 20", got)
		}
	})
}

// A member whose row is locked is at work: it is not taken over, nobody waits
// for it, and so finishing and asking in one transaction never ends in a circle.
func TestCoop_FinishingMemberIsNotDead(t *testing.T) {
	onBothInstalls(t, func(t *testing.T, db *pgtest.Database) {
		admin, a, b := open(t, db), open(t, db), open(t, db)
		admin.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true; select pgq.register_consumer('q', 'c')")
		admin.exec("select pgq.ticker('q', 10, now(), 10), pgq.ticker('q', 20, now(), 20)")
		batch := a.text("select pgq_coop.next_batch('q', 'c', 'a')")
		a.exec("begin")
		a.exec("select pgq_coop.finish_batch(" + batch + ")")
		if got := b.text("select tick_id from pgq.get_batch_info(pgq_coop.next_batch('q', 'c', 'b', '-1 hour'))"); got != "20" {
			t.Errorf("another member got the batch up to tick %s, want the group's next one, up to 20", got)
		}
		if got := a.text("select pgq_coop.next_batch('q', 'c', 'a') is null"); got != "true" {
			t.Errorf("got a batch where none is left: %s", got)
		}
		a.exec("commit")
	})
}

// Beside an extension of another owner the role that installs must be able to do
// what the functions do; else the install says what is missing.
func TestCoop_RefusesARoleWithoutRights(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	role := db.Role(t, "pgq_admin")
	admin := open(t, db)
	quoted := pgx.Identifier{role}.Sanitize()
	admin.exec("grant create on database " + pgx.Identifier{db.Name}.Sanitize() + " to " + quoted)
	only := pgqsql.Options{Schemas: []string{"pgq_coop"}}
	_, err := pgqsql.Install(t.Context(), db.ConnAs(t, role), only)
	if err == nil || !strings.Contains(err.Error(), "lacks usage on sequence pgq.batch_id_seq") {
		t.Fatalf("got %v, want a refusal that names the sequence", err)
	}
	admin.exec("grant usage on sequence pgq.batch_id_seq, pgq.consumer_co_id_seq to " + quoted)
	if _, err := pgqsql.Install(t.Context(), db.ConnAs(t, role), only); err != nil {
		t.Fatalf("with the grants: %v", err)
	}
	admin.exec("select pgq.create_queue('q'); update pgq.queue set queue_external_ticker = true; select pgq.ticker('q', 10, now(), 10)")
	s := open(t, db)
	s.exec("set role pgq_reader")
	s.exec("select pgq_coop.register_subconsumer('q', 'c', 'a'), pgq_coop.register_subconsumer('q', 'c', 'b')")
	admin.exec("select pgq.ticker('q', 20, now(), 20)")
	s.exec("select pgq_coop.next_batch('q', 'c', 'a')")
	if got := s.text("select pgq_coop.finish_batch(pgq_coop.next_batch('q', 'c', 'b', '-1 hour'))"); got != "1" {
		t.Errorf("takeover and finish as a reader: got %s, want 1", got)
	}
}
