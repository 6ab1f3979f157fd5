package pgq_test

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
	"github.com/skytools/skyd/pgq"
)

func quickPartitioned(ttl time.Duration) pgq.PartitionedOptions {
	return pgq.PartitionedOptions{ConsumerOptions: quick(pgq.ConsumerOptions{}), TTL: ttl}
}

// newGroup makes a queue with an ordered group and the table of its effects.
func newGroup(t testing.TB, db *pgq.DB, slots int) {
	t.Helper()
	newQueue(t, db, "q")
	must(t)(pgq.CreateGroup(t.Context(), db, "q", "g", "ev_key", slots))
	must(t)(db.Exec(t.Context(), `create table public.effect (
		n bigint generated always as identity, key text, seq int, slot int, epoch bigint, who text)`))
}

// insertKeyed inserts events whose data is their number within their key.
func insertKeyed(t testing.TB, db *pgq.DB, seq map[string]int, keys ...string) {
	t.Helper()
	events := make([]pgq.NewEvent, len(keys))
	for i, key := range keys {
		events[i] = pgq.NewEvent{Data: pgq.Str(fmt.Sprint(seq[key]))}.WithKey(key)
		seq[key]++
	}
	must(t)(pgq.InsertBatch(t.Context(), db, "q", events))
}

// effect writes what a batch brings about, in its transaction.
func effect(ctx context.Context, tx pgx.Tx, b *pgq.Batch, who string, slots int) error {
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		slot := pgq.KeySlot(ev.Extra3.String, slots)
		i := slices.IndexFunc(b.Slots(), func(s pgq.Slot) bool { return s.Number == slot })
		if i < 0 {
			return fmt.Errorf("event of slot %d in a batch of slots %v", slot, b.Slots())
		}
		_, err := tx.Exec(ctx, `insert into public.effect (key, seq, slot, epoch, who) values ($1, $2::int, $3, $4, $5)`,
			ev.Extra3.String, ev.Data.String, slot, b.Slots()[i].Epoch, who)
		if err != nil {
			return err
		}
	}
	return nil
}

// audit waits for all effects and checks them: each once, each key in order, and
// no epoch of a slot with two owners or after a greater one.
func audit(t testing.TB, db *pgq.DB, seq map[string]int) {
	t.Helper()
	total := 0
	for _, n := range seq {
		total += n
	}
	var rows int
	pgtest.Eventually(t, patience, fmt.Sprintf("%d effects", total), func() bool {
		err := db.QueryRow(t.Context(), `select count(*) from public.effect`).Scan(&rows)
		return err == nil && rows >= total
	})
	for what, query := range map[string]string{
		"effects beyond one for each event": `select key, seq::text from public.effect group by 1, 2 having count(*) > 1`,
		"keys out of order": `select key, seq::text from (
			select *, row_number() over (partition by key order by n) - 1 as want from public.effect) e where seq <> want`,
		"epochs with two owners": `select slot::text, epoch::text from public.effect group by slot, epoch having count(distinct who) > 1`,
	} {
		found, err := db.Query(t.Context(), query)
		must(t)(nil, err)
		bad, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
			var a, b string
			err := row.Scan(&a, &b)
			return a + "/" + b, err
		})
		if err != nil || len(bad) > 0 {
			t.Errorf("%s: %v, %v", what, bad, err)
		}
	}
	if rows != total {
		t.Errorf("got %d effects, want %d", rows, total)
	}
}

// owners is how many slots each living worker has.
func owners(t testing.TB, db *pgq.DB) (counts []int) {
	t.Helper()
	rows, err := db.Query(t.Context(), `select count(*)::int from pgq.group_info where alive group by worker order by 1`)
	must(t)(nil, err)
	counts, err = pgx.CollectRows(rows, pgx.RowTo[int])
	must(t)(nil, err)
	return counts
}

func TestKeySlot_AsInSQL(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	// never to change: positions of running groups depend on it
	for key, want := range map[string]int{"": 610, "a": 610, "42": 628, "Größe": 760, "ключ": 122} {
		if got := pgq.KeySlot(key, 1000); got != want {
			t.Errorf("KeySlot(%q, 1000) = %d, want %d", key, got, want)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		key, slots := fmt.Sprintf("%x'\\%c", rnd.Uint64(), 'а'+rnd.Int32N(1000)), 1+rnd.IntN(4096)
		var got int
		must(t)(nil, db.QueryRow(t.Context(), `select pgq.key_slot($1, $2)`, key, slots).Scan(&got))
		if want := pgq.KeySlot(key, slots); got != want {
			t.Fatalf("pgq.key_slot(%q, %d) = %d, in Go %d", key, slots, got, want)
		}
	}
}

// Workers come, take their fair share, and give it back when they go.
func TestPartitioned_FairShares(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newGroup(t, db, 8)
		seq := map[string]int{}
		var stops []func()
		for _, want := range [][]int{{8}, {4, 4}, {2, 3, 3}, {2, 2, 2, 2}, {1, 1, 2, 2, 2}} {
			who := fmt.Sprint("w", len(stops))
			h := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error { return effect(ctx, tx, b, who, 8) })
			stops = append(stops, runIn(t, pgq.NewPartitionedConsumer(db, "q", "g", who, h, quickPartitioned(time.Second))))
			pgtest.Eventually(t, patience, fmt.Sprintf("shares %v", want), func() bool { return slices.Equal(owners(t, db), want) })
			insertKeyed(t, db, seq, "a", "b", "c", "d", "a", "b")
			tick(t, db, "q")
			audit(t, db, seq)
		}
		for i, want := range [][]int{{2, 2, 2, 2}, {2, 3, 3}, {4, 4}, {8}, nil} {
			stops[i]()
			pgtest.Eventually(t, patience, fmt.Sprintf("shares %v", want), func() bool { return slices.Equal(owners(t, db), want) })
		}
	})
}

// A worker that is frozen loses its slots after the time to live; what it does
// when it comes back is refused, and the order of its keys is kept.
func TestPartitioned_FrozenWorkerIsFenced(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newGroup(t, db, 2)
		seq := map[string]int{}
		dsn := db.Config().ConnString()
		proxy := pgtest.NewProxy(t, dsn)
		frozen := make(chan struct{})
		var once sync.Once
		h := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
			if err := effect(ctx, tx, b, "frozen", 2); err != nil {
				return err
			}
			once.Do(func() { proxy.Freeze(); close(frozen) })
			return nil
		})
		runIn(t, pgq.NewPartitionedConsumer(open(t, proxy.DSN(dsn)), "q", "g", "w", h, quickPartitioned(300*time.Millisecond)))
		pgtest.Eventually(t, patience, "first worker has all", func() bool { return slices.Equal(owners(t, db), []int{2}) })
		insertKeyed(t, db, seq, "a", "b", "c", "a", "b", "c")
		tick(t, db, "q")
		<-frozen
		other := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error { return effect(ctx, tx, b, "other", 2) })
		runIn(t, pgq.NewPartitionedConsumer(db, "q", "g", "w", other, quickPartitioned(300*time.Millisecond)))
		audit(t, db, seq)
		proxy.Thaw()
		for range 20 {
			insertKeyed(t, db, seq, "a", "b", "c", "d")
			tick(t, db, "q")
		}
		audit(t, db, seq)
	})
}

// A stale epoch finishes nothing and reads nothing, through SQL.
func TestPartitioned_StaleEpochIsRefused(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newGroup(t, db, 2)
		insertKeyed(t, db, map[string]int{}, "a", "b", "c", "d")
		tick(t, db, "q")
		exec := func(sql string, args ...any) { t.Helper(); must(t)(db.Exec(ctx, sql, args...)) }
		number := func(sql string, args ...any) (n int) {
			t.Helper()
			must(t)(nil, db.QueryRow(ctx, sql, args...).Scan(&n))
			return n
		}
		exec(`select pgq.acquire_slots('q', 'g', 'one', '1 hour')`)
		var old string
		must(t)(nil, db.QueryRow(ctx, `select batch from pgq.next_group_batch('q', 'g', 'one', null, null)`).Scan(&old))
		if n := number(`select count(*) from pgq.get_group_events($1::jsonb)`, old); n != 4 {
			t.Errorf("got %d events, want 4", n)
		}
		exec(`select pgq.acquire_slots('q', 'g', 'two', '1 hour')`) // nothing free yet
		exec(`select pgq.acquire_slots('q', 'g', 'one', '1 hour')`) // gives one back
		exec(`select pgq.acquire_slots('q', 'g', 'two', '1 hour')`)
		if n := number(`select pgq.finish_group_batch($1::jsonb)`, old); n != 0 {
			t.Errorf("batch with a slot that was lost: finish answered %d, want 0", n)
		}
		if _, err := db.Exec(ctx, `select * from pgq.get_group_events($1::jsonb)`, old); !errors.Is(pgq.Classify(err), pgq.ErrBatchGone) {
			t.Errorf("events of it: got %v, want ErrBatchGone", err)
		}
		if n := number(`select count(*) from pgq.group_info where last_tick > 1`); n != 0 {
			t.Errorf("%d slots moved, want none", n)
		}
		for range 2 { // finished once only
			exec(`select pgq.finish_group_batch(batch) from pgq.next_group_batch('q', 'g', 'one', null, null)`)
		}
		var mine string
		must(t)(nil, db.QueryRow(ctx, `select batch from pgq.next_group_batch('q', 'g', 'two', null, null)`).Scan(&mine))
		if a, b := number(`select pgq.finish_group_batch($1::jsonb)`, mine), number(`select pgq.finish_group_batch($1::jsonb)`, mine); a != 1 || b != 0 {
			t.Errorf("finish twice: got %d and %d, want 1 and 0", a, b)
		}
		for _, bad := range []string{`null`, `{}`, `{"group": 1}`, `{"group": 99, "slots": [1], "epochs": [1], "worker": "x", "prev": 1, "next": 2}`} {
			if n := number(`select pgq.finish_group_batch($1::jsonb)`, bad); n != 0 {
				t.Errorf("finish of %s answered %d", bad, n)
			}
		}
	})
}

// A bad event keeps its slot waiting, in order, and nobody else.
func TestPartitioned_PoisonHoldsItsSlotOnly(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		newGroup(t, db, 16)
		seq := map[string]int{}
		var cured atomic.Bool
		h := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
			if !cured.Load() {
				data := b.With(tx)
				for ev, err := range data.Events(ctx) {
					if err != nil {
						return err
					}
					if ev.Extra3.String == "poison" {
						return pgq.RetryAfter(20*time.Millisecond, errors.New("no"))
					}
				}
			}
			return effect(ctx, tx, b, "w", 16)
		})
		runIn(t, pgq.NewPartitionedConsumer(db, "q", "g", "w", h, quickPartitioned(time.Second)))
		healthy := map[string]int{}
		for i := range 20 {
			insertKeyed(t, db, seq, "poison")
			key := fmt.Sprint("k", i)
			insertKeyed(t, db, seq, key)
			if pgq.KeySlot(key, 16) != pgq.KeySlot("poison", 16) {
				healthy[key]++
			}
			tick(t, db, "q")
		}
		pgtest.Eventually(t, patience, "all other slots go on", func() bool {
			var n int
			err := db.QueryRow(t.Context(), `select count(*) from public.effect`).Scan(&n)
			return err == nil && n == len(healthy)
		})
		cured.Store(true)
		audit(t, db, seq)
	})
}

func TestPartitioned_RefusesAndCreates(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		var seen journal
		calls := 0
		h := pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
			if calls++; calls == 2 {
				return pgq.RetryAfter(time.Millisecond, errors.New("again"))
			}
			seen.add(ev.Data.String)
			return nil
		})
		worker := func(o pgq.PartitionedOptions) *pgq.PartitionedConsumer {
			return pgq.NewPartitionedConsumer(db, "q", "g", "w", h, o)
		}
		o := quickPartitioned(time.Second)
		if err := worker(o).Run(ctx); !errors.Is(err, pgq.ErrNotSubscribed) {
			t.Errorf("no group: got %v, want ErrNotSubscribed", err)
		}
		for _, bad := range []struct {
			key   string
			slots int
		}{{"ev_data", 4}, {"x", 4}, {"ev_key", 0}, {"ev_key", 5000}} {
			if _, err := pgq.CreateGroup(ctx, db, "q", "g", bad.key, bad.slots); !errors.Is(err, pgq.ErrBadParameter) {
				t.Errorf("create group with %v: got %v, want ErrBadParameter", bad, err)
			}
		}
		o.Create, o.KeyField = 4, "ev_type"
		stop := runIn(t, worker(o))
		pgtest.Eventually(t, patience, "slots are taken", func() bool { return slices.Equal(owners(t, db), []int{4}) })
		insert(t, db, "q", "1", "2", "3") // all of one type
		tick(t, db, "q")
		seen.waitFor(t, "1", "1", "2", "3") // RetryAfter: the batch again, whole and in order
		stop()
		if created, err := pgq.CreateGroup(ctx, db, "q", "g", "ev_type", 4); created || err != nil {
			t.Errorf("create again: got %v, %v", created, err)
		}
		if _, err := pgq.CreateGroup(ctx, db, "q", "g", "ev_key", 4); !errors.Is(err, pgq.ErrBadParameter) {
			t.Errorf("create with another key: got %v, want ErrBadParameter", err)
		}
		for _, want := range []bool{true, false} {
			if dropped, err := pgq.DropGroup(ctx, db, "q", "g"); dropped != want || err != nil {
				t.Errorf("drop group: got %v, %v, want %v", dropped, err, want)
			}
		}
		must(t)(pgq.CreateGroup(ctx, db, "q", "g", "ev_key", 4))
		must(t)(pgq.UnregisterConsumer(ctx, db, "q", "g"))
		var left int
		must(t)(nil, db.QueryRow(ctx, `select count(*) from pgq.group_info`).Scan(&left))
		if left != 0 {
			t.Errorf("%d slots left after their consumer was unregistered", left)
		}
	})
}

var partitionedRounds = flag.Int("partitioned.rounds", 0, "rounds of TestPartitioned_Storm, which stalls now and then; 0: not run")

// Everything at once, by a seed: workers come, are killed, are frozen beyond the
// time to live and come back, connections are cut, the group is resized, tables
// are rotated. The auditor sees each event once and each key in order.
func TestPartitioned_Storm(t *testing.T) {
	if *partitionedRounds == 0 {
		return // not proof of anything: see its flag
	}
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		const seed = 20261122
		rnd := rand.New(rand.NewPCG(seed, 0))
		newGroup(t, db, 4)
		must(t)(db.Exec(ctx, `update pgq.queue set queue_rotation_period = '0'`))
		must(t)(db.Exec(ctx, `create sequence public.worker`))
		dsn := db.Config().ConnString()
		h := func(who string) pgq.Handler {
			return pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
				for ev, err := range b.Events(ctx) {
					if err != nil {
						return err
					}
					key := ev.Extra3.String
					if _, err := tx.Exec(ctx, `insert into public.effect (key, seq, slot, epoch, who) select $1, $2::int, s.slot, s.epoch, $3
						from unnest($4::int[], $5::bigint[]) s (slot, epoch)
						where s.slot = pgq.key_slot($1, (select slots from pgq.slot_group))`, key, ev.Data.String, who, slotNumbers(b), slotEpochs(b)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		type worker struct {
			proxy *pgtest.Proxy
			stop  func()
		}
		var workers []worker
		start := func() {
			w := worker{proxy: pgtest.NewProxy(t, dsn)}
			who := fmt.Sprint("w", len(workers))
			w.stop = runIn(t, pgq.NewPartitionedConsumer(open(t, w.proxy.DSN(dsn)), "q", "g", "w", h(who), quickPartitioned(300*time.Millisecond)))
			workers = append(workers, w)
		}
		start()
		start()
		seq := map[string]int{}
		for range *partitionedRounds {
			keys := make([]string, 1+rnd.IntN(20))
			for i := range keys {
				keys[i] = fmt.Sprint("k", rnd.IntN(30))
			}
			insertKeyed(t, db, seq, keys...)
			if rnd.IntN(3) > 0 {
				tick(t, db, "q")
			}
			w := workers[max(0, len(workers)-1-rnd.IntN(4))]
			switch rnd.IntN(12) {
			case 0:
				if len(workers) < 10 {
					start()
				}
			case 1:
				w.proxy.Reset()
			case 2:
				w.proxy.CutAfter(rnd.Int64N(3000))
			case 3:
				w.proxy.Freeze()
			case 4, 5:
				w.proxy.Thaw()
			case 6:
				w.proxy.Heal()
			case 7:
				if len(workers) > 4 {
					workers[rnd.IntN(len(workers)-3)].stop()
				}
			case 8, 9:
				// a worker whose connection froze in the middle of a commit may hold a slot
				if _, err := pgq.ResizeGroup(ctx, db, "q", "g", 1+rnd.IntN(9)); err != nil && !pgq.Retryable(err) {
					t.Fatal(err)
				}
			case 10:
				must(t)(db.Exec(ctx, `select pgq.maint_rotate_tables_step1('q')`))
				must(t)(db.Exec(ctx, `select pgq.maint_rotate_tables_step2()`))
			}
			must(t)(db.Exec(ctx, `select pg_sleep(0.02)`))
		}
		tick(t, db, "q")
		for _, w := range workers {
			w.proxy.Heal()
		}
		start()
		audit(t, db, seq)
		var table, epoch int
		must(t)(nil, db.QueryRow(ctx, `select queue_cur_table, (select max(epoch) from pgq.group_slot) from pgq.queue`).Scan(&table, &epoch))
		t.Logf("%d events, %d workers, epochs up to %d, table %d", len(seq), len(workers), epoch, table)
	})
}

func slotNumbers(b *pgq.Batch) (n []int) {
	for _, s := range b.Slots() {
		n = append(n, s.Number)
	}
	return n
}

func slotEpochs(b *pgq.Batch) (n []int64) {
	for _, s := range b.Slots() {
		n = append(n, s.Epoch)
	}
	return n
}
