package pgq_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

func TestHealth_TellsWhatWaits(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		b, ids := openBatch(t, db, 5)
		must(t)(b.Retry(ctx, time.Hour, ids[0]))
		must(t)(b.Bury(ctx, ids[1:3], nil))
		h, err := pgq.GetHealth(ctx, db)
		if err != nil || len(h.Queues) != 1 || len(h.Consumers) != 2 {
			t.Fatalf("health: got %+v, %v", h, err)
		}
		q, c, other := h.Queues[0], h.Consumers[0], h.Consumers[1]
		if q.Queue != "q" || q.EventsTotal < 5 || len(q.TableBytes) != 3 || q.EventBytes <= 0 || q.RetryEvents != 1 || q.RetryDue != 0 ||
			q.RetryOldest <= 0 || q.DeadEvents != 2 || q.DeadOldest <= 0 || q.Consumers != 2 || q.BatchOpen <= 0 || q.RotationPeriod != 2*time.Hour ||
			q.RotationDue || q.Holder != pgq.NoHolder || q.HolderText() != "" {
			t.Errorf("queue: got %+v", q)
		}
		if c.Consumer != "c" || !c.Registered || c.Lag <= 0 || c.LagTicks != 1 || c.OpenBatches != 1 || c.BatchOpen <= 0 || c.RetryEvents != 1 ||
			c.DeadEvents != 2 || c.State != pgq.WithinLimit || !c.StateSince.IsZero() {
			t.Errorf("consumer: got %+v", c)
		}
		if other.Consumer != "other" || other.OpenBatches != 0 || other.BatchOpen != 0 || other.DeadEvents != 0 {
			t.Errorf("other consumer: got %+v", other)
		}
	})
}

// Without skyd's additions there is less to tell, but no error.
func TestHealth_WorksOnThePlainExtension(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := open(t, pgtest.Extension(t).DSN)
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
	insert(t, db, "q", "1")
	tick(t, db, "q")
	next(t, db, "q", "c")
	h, err := pgq.GetHealth(ctx, db)
	if err != nil || len(h.Queues) != 1 || len(h.Consumers) != 1 || h.Consumers[0].OpenBatches != 1 {
		t.Errorf("health: got %+v, %v", h, err)
	}
	if _, err := pgq.QueueHealths(ctx, db, ""); !errors.Is(err, pgq.ErrNotInstalled) {
		t.Errorf("health of queues: got %v, want ErrNotInstalled", err)
	}
	if n, err := pgq.BuryWorn(ctx, db); err != nil || n != 0 {
		t.Errorf("bury worn events: got %d, %v", n, err)
	}
	if ops, err := pgq.MaintOperations(ctx, db); err != nil || strings.Contains(pgq.MaintOp{Func: "x"}.String(), "plus") {
		t.Errorf("maintenance: got %v, %v", ops, err)
	}
}

func TestHealth_HoldersInWords(t *testing.T) {
	t.Parallel()
	for want, h := range map[string]pgq.QueueHealth{
		"":              {},
		"consumer slow": {Holder: pgq.HolderConsumer, HolderName: "slow", HolderAge: time.Hour},
		"open transaction 77 of process 5 (import) in database app, for 1h0m0s": {
			Holder: pgq.HolderWriter, HolderName: "import", HolderPID: 5, HolderXid: 77, HolderDatabase: "app", HolderAge: time.Hour,
		},
		"open transaction 77 of process 5, for 1s": {Holder: pgq.HolderWriter, HolderPID: 5, HolderXid: 77, HolderAge: time.Second},
		"prepared transaction gid in database app, for 1s": {
			Holder: pgq.HolderPrepared, HolderName: "gid", HolderDatabase: "app", HolderAge: time.Second,
		},
		"no tick for 3s":              {Holder: pgq.HolderTicker, HolderAge: 3 * time.Second},
		"lock of process 5 (pg_dump)": {Holder: pgq.HolderLock, HolderPID: 5, HolderName: "pg_dump"},
	} {
		if got := h.HolderText(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestConsumerLimit_DetachesAndReattaches(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		b, _ := openBatch(t, db, 3)
		if err := b.Finish(ctx); err != nil {
			t.Fatal(err)
		}
		maintain := func() {
			t.Helper()
			ops, err := pgq.MaintOperations(ctx, db)
			if err != nil {
				t.Fatal(err)
			}
			ran := 0
			for _, op := range ops {
				if op.Func == "pgq.maint_consumer_limits" {
					must(t)(pgq.RunMaintOp(ctx, db, op))
					ran++
				}
			}
			if ran != 1 {
				t.Fatalf("limits are listed %d times in %v", ran, ops)
			}
		}
		state := func(consumer string) pgq.ConsumerHealth {
			t.Helper()
			all, err := pgq.ConsumerHealths(ctx, db, "q", consumer)
			if err != nil || len(all) != 1 {
				t.Fatalf("health of %s: got %+v, %v", consumer, all, err)
			}
			return all[0]
		}
		must(t)(nil, pgq.SetConsumerLimit(ctx, db, "q", "", pgq.ConsumerLimit{Action: pgq.LimitPause, Lag: time.Microsecond}))
		must(t)(nil, pgq.SetConsumerLimit(ctx, db, "q", "c", pgq.ConsumerLimit{Action: pgq.LimitDetach, Lag: time.Microsecond, Events: 10}))
		maintain()
		if got := state("c"); got.State != pgq.ConsumerDetached || got.Registered || got.Note == "" || got.StateSince.IsZero() {
			t.Errorf("c: got %+v, want it detached", got)
		}
		if got := state("other"); got.State != pgq.ConsumerPaused || !got.Registered || got.Limit != pgq.LimitPause {
			t.Errorf("other: got %+v, want it paused", got)
		}
		for _, want := range []bool{true, false} {
			if paused, err := pgq.IsPaused(ctx, db, "q", "other"); err != nil || paused != want {
				t.Errorf("other is paused: got %v, %v, want %v", paused, err, want)
			}
			if done, err := pgq.ResumeConsumer(ctx, db, "q", "other"); err != nil || done != want {
				t.Errorf("resume: got %v, %v, want %v", done, err, want)
			}
		}
		if at, err := pgq.ReattachConsumer(ctx, db, "q", "c"); err != nil || at != b.TickID {
			t.Errorf("reattach: got %d, %v, want %d", at, err, b.TickID)
		}
		for _, name := range []string{"c", "other", "nobody"} {
			if _, err := pgq.ReattachConsumer(ctx, db, "q", name); !errors.Is(err, pgq.ErrNotDetached) {
				t.Errorf("reattach %s: got %v, want ErrNotDetached", name, err)
			}
		}

		// its events go away while it is detached
		must(t)(pgq.RemoveConsumerLimit(ctx, db, "q", ""))
		must(t)(db.Exec(ctx, `delete from pgq.consumer_state`))
		insert(t, db, "q", "lost")
		tick(t, db, "q")
		maintain()
		must(t)(pgq.UnregisterConsumer(ctx, db, "q", "other"))
		must(t)(nil, pgq.SetQueueConfig(ctx, db, "q", "rotation_period", "0"))
		for range 2 {
			for _, step := range []pgq.MaintOp{{Func: "pgq.maint_rotate_tables_step1", Arg: "q", HasArg: true}, {Func: "pgq.maint_rotate_tables_step2"}} {
				must(t)(pgq.RunMaintOp(ctx, db, step))
			}
			tick(t, db, "q")
		}
		if _, err := pgq.ReattachConsumer(ctx, db, "q", "c"); !errors.Is(err, pgq.ErrPositionLost) {
			t.Errorf("reattach too late: got %v, want ErrPositionLost", err)
		}

		if removed, err := pgq.RemoveConsumerLimit(ctx, db, "q", "c"); err != nil || !removed {
			t.Errorf("remove limit: got %v, %v", removed, err)
		}
		if removed, err := pgq.RemoveConsumerLimit(ctx, db, "q", "c"); err != nil || removed {
			t.Errorf("remove limit again: got %v, %v", removed, err)
		}
		for name, l := range map[string]pgq.ConsumerLimit{"no action": {Lag: 1 << 40}, "unknown": {Action: "shoot", Ticks: 1}, "nothing": {Action: pgq.LimitWarn}} {
			if err := pgq.SetConsumerLimit(ctx, db, "q", "c", l); !errors.Is(err, pgq.ErrBadParameter) {
				t.Errorf("%s: got %v, want ErrBadParameter", name, err)
			}
		}
		if err := pgq.SetConsumerLimit(ctx, db, "nothing", "c", pgq.ConsumerLimit{Action: pgq.LimitWarn, Ticks: 1}); !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("missing queue: got %v, want ErrQueueNotFound", err)
		}
	})
}
