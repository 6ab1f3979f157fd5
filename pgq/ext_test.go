package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// newTarget is another database, with a ledger.
func newTarget(t testing.TB) *pgq.DB {
	t.Helper()
	target := open(t, newSkyd(t))
	must(t)(target.Exec(t.Context(), `create table public.ledger (ev_id bigint, data text)`))
	return target
}

// bookOne writes one event into the ledger.
func bookOne(ctx context.Context, tx pgx.Tx, ev *pgq.Event) error {
	_, err := tx.Exec(ctx, `insert into public.ledger values ($1, $2)`, ev.ID, ev.Data.String)
	return err
}

// remoteKinds are the ways to keep the position in the target.
var remoteKinds = map[string]struct {
	handler pgq.Handler
	ticks   bool
}{
	"batch": {handler: pgq.BatchTxHandler(book)},
	"tick":  {handler: pgq.BatchTxHandler(book), ticks: true},
	"event": {handler: pgq.EventTxHandler(bookOne)},
}

// onRemote runs a test for each of remoteKinds on both installs.
func onRemote(t *testing.T, test func(t *testing.T, db, target *pgq.DB, h pgq.Handler, o pgq.RemoteOptions)) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		dsn := db.Config().ConnString()
		for name, kind := range remoteKinds {
			queue := "q_" + name
			newQueue(t, db, queue)
			must(t)(pgq.RegisterConsumer(t.Context(), db, queue, "c"))
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				o := pgq.RemoteOptions{ConsumerOptions: quick(pgq.ConsumerOptions{}), Ticks: kind.ticks}
				test(t, open(t, dsn), newTarget(t), kind.handler, o)
			})
		}
	})
}

func queueOf(h pgq.Handler, o pgq.RemoteOptions) string {
	switch _, perEvent := h.(pgq.EventTxHandler); {
	case perEvent:
		return "q_event"
	case o.Ticks:
		return "q_tick"
	default:
		return "q_batch"
	}
}

// Both connections are cut after every possible part of the conversation: to
// the queue, to the target, each also between a commit and its answer.
func TestRemote_ExactlyOnceUnderCutConnections(t *testing.T) {
	onRemote(t, func(t *testing.T, db, target *pgq.DB, h pgq.Handler, o pgq.RemoteOptions) {
		queue := queueOf(h, o)
		o.FetchSize = 2
		srcDSN, dstDSN := db.Config().ConnString(), target.Config().ConnString()
		src, dst := pgtest.NewProxy(t, srcDSN), pgtest.NewProxy(t, dstDSN)
		runIn(t, pgq.NewRemoteConsumer(open(t, src.DSN(srcDSN)), queue, "c", open(t, dst.DSN(dstDSN)), h, o))
		total, step := 0, int64(131)
		if testing.Short() {
			step = 610
		}
		for _, proxy := range []*pgtest.Proxy{src, dst} {
			for n := int64(0); n < 2000; n += step {
				proxy.CutAfter(n)
				insert(t, db, queue, fmt.Sprint(total), fmt.Sprint(total+1), fmt.Sprint(total+2))
				tick(t, db, queue)
				total += 3
				checkLedger(t, target, total)
				proxy.Heal()
			}
		}
	})
}

// Run is ended by its context at every step, and begun again.
func TestRemote_ExactlyOnceUnderCancel(t *testing.T) {
	onRemote(t, func(t *testing.T, db, target *pgq.DB, h pgq.Handler, o pgq.RemoteOptions) {
		queue := queueOf(h, o)
		const rounds = 60
		for i := range rounds {
			insert(t, db, queue, fmt.Sprint(2*i), fmt.Sprint(2*i+1))
			tick(t, db, queue)
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%12)*time.Millisecond)
			must(t)(nil, pgq.NewRemoteConsumer(db, queue, "c", target, h, o).Run(ctx))
			cancel()
		}
		runIn(t, pgq.NewRemoteConsumer(db, queue, "c", target, h, o))
		checkLedger(t, target, 2*rounds)
	})
}

// Several Run of one name, as after a failover that left the old one alive.
func TestRemote_TwoAtOnceTakeEffectOnce(t *testing.T) {
	onRemote(t, func(t *testing.T, db, target *pgq.DB, h pgq.Handler, o pgq.RemoteOptions) {
		queue := queueOf(h, o)
		for range 3 {
			runIn(t, pgq.NewRemoteConsumer(db, queue, "c", target, h, o))
		}
		const events = 120
		for i := range events {
			insert(t, db, queue, fmt.Sprint(i))
			if i%2 == 1 {
				tick(t, db, queue)
			}
		}
		checkLedger(t, target, events)
	})
}

// A Run that slept while another one did its batch and the next one: the target
// remembers the last batch only, and yet nothing is doubled.
func TestRemote_SleeperDoublesNothing(t *testing.T) {
	onRemote(t, func(t *testing.T, db, target *pgq.DB, h pgq.Handler, o pgq.RemoteOptions) {
		queue := queueOf(h, o)
		dstDSN := target.Config().ConnString()
		dst := pgtest.NewProxy(t, dstDSN)
		insert(t, db, queue, "a", "b")
		tick(t, db, queue)
		dst.Freeze() // it reads the batch and gets no answer from the target
		asleep := open(t, dst.DSN(dstDSN))
		runIn(t, pgq.NewRemoteConsumer(db, queue, "c", asleep, h, o))
		pgtest.Eventually(t, patience, "sleeper has the batch", func() bool {
			return asleep.Stat().TotalConns()+asleep.Stat().ConstructingConns() > 0
		})
		stop := runIn(t, pgq.NewRemoteConsumer(db, queue, "c", target, h, o))
		checkLedger(t, target, 2)
		insert(t, db, queue, "c")
		tick(t, db, queue)
		checkLedger(t, target, 3)
		pgtest.Eventually(t, patience, "both batches finished", func() bool {
			ci, err := pgq.GetConsumerInfo(t.Context(), db, queue, "c")
			return err == nil && ci.CurrentBatch == 0
		})
		stop()
		dst.Thaw()
		insert(t, db, queue, "d")
		tick(t, db, queue)
		checkLedger(t, target, 4)
	})
}

// The target was restored from a backup, or the queue was moved.
func TestRemote_OutOfStep(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx, target := t.Context(), newTarget(t)
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		o := pgq.RemoteOptions{ConsumerOptions: quick(pgq.ConsumerOptions{}), Ticks: true, TargetName: "mine"}
		remote := func() *pgq.RemoteConsumer {
			return pgq.NewRemoteConsumer(db, "q", "c", target, pgq.BatchTxHandler(book), o)
		}
		var ticks []int64
		stop := runIn(t, remote())
		for i := range 4 {
			insert(t, db, "q", fmt.Sprint(i))
			ticks = append(ticks, tick(t, db, "q"))
		}
		checkLedger(t, target, 4)
		stop()
		// back to the state after the second tick
		must(t)(target.Exec(ctx, `delete from public.ledger where data in ('2', '3')`))
		must(t)(nil, pgq.SetLastTick(ctx, target, "mine", "", ticks[1]))
		insert(t, db, "q", "4")
		tick(t, db, "q")
		if err := remote().Run(ctx); !errors.Is(err, pgq.ErrOutOfStep) || !pgq.Permanent(err) {
			t.Fatalf("target is behind: got %v, want ErrOutOfStep", err)
		}
		o.Rewind = true
		stop = runIn(t, remote())
		checkLedger(t, target, 5)
		stop()
		// the queue's consumer was moved back: the target has it all
		must(t)(pgq.RegisterConsumerAt(ctx, db, "q", "c", ticks[0]))
		stop = runIn(t, remote())
		insert(t, db, "q", "5")
		tick(t, db, "q")
		checkLedger(t, target, 6)
		stop()
		last, known, err := pgq.LastTick(ctx, target, "mine", "")
		if err != nil || !known || last <= ticks[3] {
			t.Errorf("last tick: got %d, %v, %v", last, known, err)
		}
		must(t)(nil, pgq.ForgetLastTick(ctx, target, "mine", ""))
		if _, known, err := pgq.LastTick(ctx, target, "mine", ""); known || err != nil {
			t.Errorf("forgotten tick: got %v, %v", known, err)
		}
	})
}

// A batch that fails in the middle goes on where it stood, and an event sent to
// retry is handled once, later.
func TestRemote_EventsOneByOne(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx, target := t.Context(), newTarget(t)
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		var calls, failures atomic.Int64
		failures.Store(2)
		h := pgq.EventTxHandler(func(ctx context.Context, tx pgx.Tx, ev *pgq.Event) error {
			calls.Add(1)
			if err := bookOne(ctx, tx, ev); err != nil {
				return err
			}
			switch {
			case ev.Data.String == "later" && ev.Retry == 0:
				return pgq.RetryAfter(time.Nanosecond, errors.New("not yet"))
			case ev.Data.String == "poison" && failures.Add(-1) >= 0:
				panic("no")
			}
			return nil
		})
		runIn(t, pgq.NewRemoteConsumer(db, "q", "c", target, h, pgq.RemoteOptions{ConsumerOptions: quick(pgq.ConsumerOptions{})}))
		insert(t, db, "q", "a", "b", "later", "poison", "z")
		tick(t, db, "q")
		checkLedger(t, target, 4)
		pgtest.Eventually(t, patience, "retry event moved", func() bool {
			n, err := pgq.RetryEvents(ctx, db)
			must(t)(nil, err)
			return n == 1
		})
		tick(t, db, "q")
		checkLedger(t, target, 5)
		// a b later poison, later poison, later poison z, later again
		if n := calls.Load(); n != 10 {
			t.Errorf("handler was called %d times, want 10", n)
		}
		if err := pgq.NewRemoteConsumer(db, "q", "c", target, pgq.EventHandler(nil), pgq.RemoteOptions{}).Run(ctx); !errors.Is(err, pgq.ErrBadParameter) {
			t.Errorf("wrong handler: got %v, want ErrBadParameter", err)
		}
		done, err := pgq.IsEventDone(ctx, target, "c", "", 1, 1)
		must(t)(nil, err)
		if _, err := pgq.IsBatchDone(ctx, target, "c", "", 1); err != nil || done {
			t.Errorf("tags of a batch before: got %v, %v", done, err)
		}
	})
}
