package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// state is the tick state of one queue.
func state(t testing.TB, db *pgq.DB, queue string) pgq.TickState {
	t.Helper()
	states, err := pgq.LoadTickStates(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.Queue == queue {
			return s
		}
	}
	t.Fatalf("no state of queue %s in %v", queue, states)
	return pgq.TickState{}
}

func TestLoadTickStates_AllQueuesInOneRead(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		for _, q := range []string{"a", "b", "c"} {
			must(t)(pgq.CreateQueue(ctx, db, q))
		}
		must(t)(db.Exec(ctx, `update pgq.queue set queue_ticker_paused = true where queue_name = 'b'`))
		must(t)(db.Exec(ctx, `update pgq.queue set queue_external_ticker = true, queue_ticker_max_lag = '10000 years'
			where queue_name = 'c'`))
		must(t)(db.Exec(ctx, `delete from pgq.tick where tick_queue = 3`))

		tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		states, err := pgq.LoadTickStates(ctx, tx)
		if err != nil || len(states) != 3 {
			t.Fatalf("got %v, %v, want 3 states from a read-only transaction", states, err)
		}
		a, b, c := states[0], states[1], states[2]
		if a.Queue != "a" || a.LastTick != 1 || a.Ticks != 1 || a.MaxCount != 500 || a.MaxLag != 3*time.Second ||
			a.IdlePeriod != time.Minute || a.Gap != 0 || a.EventSeq != 0 || a.TickSeq != 0 || a.Lag() < 0 {
			t.Errorf("a: got %+v", a)
		}
		if !b.Paused || b.External || c.Paused || !c.External {
			t.Errorf("got paused %v %v, external %v %v", b.Paused, c.Paused, b.External, c.External)
		}
		if c.Ticks != 0 || c.LastTick != 0 || c.MaxLag < 200*365*24*time.Hour {
			t.Errorf("c: got %+v, want no tick and a lag beyond all measure", c)
		}
		var xid *string
		if err := tx.QueryRow(ctx, `select pg_current_xact_id_if_assigned()::text`).Scan(&xid); err != nil || xid != nil {
			t.Errorf("got xid %v, %v, want none taken", xid, err)
		}
	})
}

func TestTick_FirstEventOfAQueueIsSeen(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		must(t)(pgq.CreateQueue(ctx, db, "q"))
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		tick(t, db, "q") // the second tick: from now on idle ticks are rare
		if s := state(t, db, "q"); s.NewEvents() != 0 || s.Due() {
			t.Fatalf("before the first event: got %+v, want nothing due", s)
		}
		insert(t, db, "q", "first")
		if s := state(t, db, "q"); s.NewEvents() != 1 || s.Due() {
			t.Fatalf("after the first event: got %+v, want 1 new event, not due before max_lag", s)
		}
		if err := pgq.SetQueueConfig(ctx, db, "q", "ticker_max_lag", "1 ms"); err != nil {
			t.Fatal(err)
		}
		if err := pgq.SetQueueConfig(ctx, db, "q", "ticker_idle_period", "1 day"); err != nil {
			t.Fatal(err)
		}
		// The distance of the last two ticks must not be what lets it tick.
		must(t)(db.Exec(ctx, `update pgq.tick set tick_time = tick_time - interval '1 day' where tick_id = 1`))
		if s := state(t, db, "q"); !s.Due() {
			t.Fatalf("max_lag over: got %+v, want due", s)
		}
		id := tick(t, db, "q")
		b := next(t, db, "q", "c")
		must(t)(nil, b.Finish(ctx))
		b = next(t, db, "q", "c")
		if data, err := dataOf(ctx, b); err != nil || b.TickID != id || len(data) != 1 || data[0] != "first" {
			t.Errorf("batch up to tick %d: got %v, %v, want the first event up to tick %d", b.TickID, data, err, id)
		}
		if s := state(t, db, "q"); s.NewEvents() != 0 {
			t.Errorf("after the tick: got %+v, want no new events", s)
		}
		if err := pgq.SetQueueConfig(ctx, db, "q", "ticker_max_lag", "1 day"); err != nil {
			t.Fatal(err)
		}
		if _, made, err := pgq.Tick(ctx, db, "q"); made || err != nil {
			t.Errorf("tick again: got %v, %v, want none", made, err)
		}
	})
}

func TestTick_RefusesSharedTransactions(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		for _, c := range []struct {
			name  string
			level pgx.TxIsoLevel
			write bool
			want  error
		}{
			{"fresh", pgx.ReadCommitted, false, nil},
			{"after an insert", pgx.ReadCommitted, true, pgq.ErrNotOwnTransaction},
			{"repeatable read", pgx.RepeatableRead, false, pgq.ErrIsolation},
			{"serializable", pgx.Serializable, false, pgq.ErrIsolation},
		} {
			before := state(t, db, "q").LastTick
			tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: c.level})
			if err != nil {
				t.Fatal(err)
			}
			must(t)(tx.Exec(ctx, `set local statement_timeout = '1 min'`))
			if c.write {
				must(t)(pgq.Insert(ctx, tx, "q", pgq.NewEvent{}))
			}
			_, made, err := pgq.Tick(ctx, tx, "q")
			if !errors.Is(err, c.want) || made != (c.want == nil) {
				t.Errorf("%s: got %v, %v, want %v", c.name, made, err, c.want)
			}
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if after := state(t, db, "q").LastTick; (after > before) != (c.want == nil) {
				t.Errorf("%s: last tick %d before, %d after", c.name, before, after)
			}
		}
	})
}

func TestTick_NotifiesListeners(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		long := strings.Repeat("ü", 30)
		for _, queue := range []string{"q", `we"ird q'`, strings.Repeat("x", 59), strings.Repeat("x", 60), long} {
			newQueue(t, db, queue)
			conn, err := pgx.ConnectConfig(ctx, db.Config().ConnConfig)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(ctx) })
			must(t)(conn.Exec(ctx, "listen "+pgx.Identifier{pgq.WakeupChannel(queue)}.Sanitize()))
			id := tick(t, db, queue)
			n, err := conn.WaitForNotification(ctx)
			if err != nil || n.Payload != fmt.Sprint(id) {
				t.Errorf("queue %s: got %+v, %v, want payload %d", queue, n, err, id)
			}
		}
	})
}

func TestForceTick_NextTickTicks(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		must(t)(pgq.CreateQueue(ctx, db, "q"))
		tick(t, db, "q")
		if _, made, err := pgq.Tick(ctx, db, "q"); made || err != nil {
			t.Fatalf("got %v, %v, want no tick on a quiet queue", made, err)
		}
		last, err := pgq.ForceTick(ctx, db, "q")
		if err != nil {
			t.Fatal(err)
		}
		if s := state(t, db, "q"); !s.Due() {
			t.Errorf("got %+v, want due", s)
		}
		if id := tick(t, db, "q"); id <= last {
			t.Errorf("got tick %d, want one above %d", id, last)
		}
	})
}

// Queues come and go while the states are read: no read may fail for it.
func TestLoadTickStates_WhileQueuesAreDropped(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(done)
			for range 20 {
				if _, err := pgq.CreateQueue(ctx, db, "q"); err != nil {
					t.Error(err)
				}
				if err := pgq.DropQueue(ctx, db, "q", true); err != nil {
					t.Error(err)
				}
			}
		})
		reads := 0
		for running := true; running; reads++ {
			select {
			case <-done:
				running = false
			default:
			}
			if _, err := pgq.LoadTickStates(ctx, db); err != nil {
				t.Fatalf("read %d: %v", reads, err)
			}
		}
		wg.Wait()
	})
}

// A queue that is just being dropped must not keep the ticker from seeing the others.
func TestLoadTickStates_WaitsForNobodyWhoDrops(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		for _, q := range []string{"a", "b", "c"} {
			must(t)(pgq.CreateQueue(ctx, db, q))
		}
		tx, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		must(t)(nil, pgq.DropQueue(ctx, tx, "b", false))
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		states, err := pgq.LoadTickStates(ctx, db)
		if err != nil || len(states) != 2 || states[0].Queue != "a" || states[1].Queue != "c" {
			t.Errorf("got %v, %v, want the states of a and c", states, err)
		}
		must(t)(nil, tx.Rollback(ctx))
		if states, err := pgq.LoadTickStates(ctx, db); err != nil || len(states) != 3 {
			t.Errorf("got %v, %v, want three states", states, err)
		}
		var timeout string
		must(t)(nil, db.QueryRow(ctx, "select current_setting('lock_timeout')").Scan(&timeout))
		if timeout != "0" {
			t.Errorf("lock_timeout is %s afterwards, want it untouched", timeout)
		}
	})
}

func TestTickPeriods_AreThoseThatWereSet(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		must(t)(pgq.CreateQueue(ctx, db, "q"))
		want := map[string]time.Duration{}
		if installed, err := pgq.TickPeriods(ctx, db); err != nil || len(installed) != 0 {
			t.Errorf("got %v, %v, want none", installed, err)
		}
		if _, err := db.Exec(ctx, `select pgq.set_queue_options('q', '{"tick_period": "50 ms"}')`); err == nil {
			want["q"] = 50 * time.Millisecond
		} else if pgq.SQLState(err) != "42883" {
			t.Fatal(err)
		}
		got, err := pgq.TickPeriods(ctx, db)
		if err != nil || len(got) != len(want) || got["q"] != want["q"] {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	})
}

func TestSnapshotMark_MovesWithCommits(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		a, err := pgq.SnapshotMark(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		must(t)(db.Exec(ctx, `select txid_current()`))
		if b, err := pgq.SnapshotMark(ctx, db); err != nil || a == b {
			t.Errorf("after a commit: got %s and %s, %v, want different marks", a, b, err)
		}
	})
}

// Two tickers whose ticks interleave deliver events twice (trap T3). The C
// extension does not prevent it, so we do.
func TestTick_WaitsForNobodyAndInterleavesWithNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		must(t)(pgq.CreateQueue(ctx, db, "q"))
		other, err := db.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		must(t)(other.Exec(ctx, `select pg_advisory_xact_lock(1885827444, queue_id) from pgq.queue`))
		if _, made, err := pgq.Tick(ctx, db, "q"); err != nil || made {
			t.Errorf("beside another ticker: made %v, %v, want no tick", made, err)
		}
		if err := other.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if _, made, err := pgq.Tick(ctx, db, "q"); err != nil || !made {
			t.Errorf("alone again: made %v, %v, want a tick", made, err)
		}
	})
}
