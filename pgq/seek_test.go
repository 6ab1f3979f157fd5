package pgq_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/pgq"
)

func TestSeek_ReplaysFromATimeOrATick(t *testing.T) {
	onAll(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		tick(t, db, "q")
		ticks, times := []int64{}, []time.Time{}
		for i := range 4 {
			insert(t, db, "q", fmt.Sprint(i))
			ticks = append(ticks, tick(t, db, "q"))
			var at time.Time
			must(t)(nil, db.QueryRow(ctx, "select tick_time from pgq.tick where tick_id = $1", ticks[i]).Scan(&at))
			times = append(times, at)
		}
		rest := func() string {
			var data []string
			for {
				b, err := pgq.NextBatch(ctx, db, "q", "c")
				if err != nil {
					t.Fatal(err)
				}
				if b == nil {
					return strings.Join(data, " ")
				}
				d, err := dataOf(ctx, b)
				if err != nil {
					t.Fatal(err)
				}
				data = append(data, d...)
				must(t)(nil, b.Finish(ctx))
			}
		}
		if got := rest(); got != "0 1 2 3" {
			t.Fatalf("first delivery: got %q", got)
		}
		for want, to := range map[string]time.Time{"1 2 3": times[0], "2 3": times[2].Add(-time.Microsecond), "": times[3].Add(time.Hour)} {
			must(t)(pgq.Seek(ctx, db, "q", "c", to))
			if got := rest(); got != want {
				t.Errorf("seek to %v: got %q, want %q", to, got, want)
			}
		}
		must(t)(nil, pgq.SeekTick(ctx, db, "q", "c", ticks[1]))
		open := next(t, db, "q", "c")
		must(t)(nil, open.RetryEvent(ctx, firstID(t, open), 0))
		must(t)(nil, pgq.SeekTick(ctx, db, "q", "c", ticks[2]))
		if err := open.Finish(ctx); !errors.Is(err, pgq.ErrBatchGone) {
			t.Errorf("finish of a dropped batch: %v", err)
		}
		must(t)(pgq.RetryEvents(ctx, db))
		tick(t, db, "q")
		if got := rest(); got != "3 2" {
			t.Errorf("after a seek with a retry: got %q", got)
		}

		var oldest string
		must(t)(nil, db.QueryRow(ctx, "select min(tick_time)::text from pgq.tick").Scan(&oldest))
		if _, err := pgq.Seek(ctx, db, "q", "c", times[0].Add(-time.Hour)); !errors.Is(err, pgq.ErrNotKept) || !strings.Contains(err.Error(), oldest) {
			t.Errorf("beyond retention: got %v, want ErrNotKept with %s", err, oldest)
		}
		if err := pgq.SeekTick(ctx, db, "q", "c", 999); !errors.Is(err, pgq.ErrTickNotFound) {
			t.Errorf("unknown tick: got %v", err)
		}
		if _, err := pgq.Seek(ctx, db, "q", "nobody", times[0]); !errors.Is(err, pgq.ErrNotSubscribed) {
			t.Errorf("unknown consumer: got %v", err)
		}
		if got := rest(); got != "" {
			t.Errorf("refused seeks moved the consumer: got %q", got)
		}
	})
}

func firstID(t *testing.T, b *pgq.Batch) int64 {
	t.Helper()
	for ev, err := range b.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		return ev.ID
	}
	t.Fatal("batch without events")
	return 0
}
