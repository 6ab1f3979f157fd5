package bench

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

func TestPayload(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 12_345_678} {
		text := payload(n)
		if len(text) != payloadSize || !json.Valid([]byte(text)) || number(text) != n {
			t.Errorf("payload(%d) = %s, number %d", n, text, number(text))
		}
	}
	for text, want := range map[string]int{`{"n": "00000007"}`: 7, "": -1, "1234567": -1, "1234567x8": -1, "a00000012": 12} {
		if got := number(text); got != want {
			t.Errorf("number(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestOtherDatabase(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://u:p@h:1/app?sslmode=disable": "postgres://u:p@h:1/new?sslmode=disable",
		"postgresql:///app?host=/run&dbname=app": "postgresql:///new?host=%2Frun",
		"host=h port=1 dbname=app":               "host=h port=1 dbname=app dbname=new",
	} {
		got := otherDatabase(dsn, "new")
		if got != want {
			t.Errorf("otherDatabase(%q) = %q, want %q", dsn, got, want)
		}
		if cfg, err := pgx.ParseConfig(got); err != nil || cfg.Database != "new" {
			t.Errorf("%q names database %v, %v", got, cfg, err)
		}
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	s, err := parseStat("42 (a) b) S 7 1 1 0 -1 0 0 0 0 0 250 50 3 1 20 0 1 0 5 1 1")
	if err != nil || s != (procStat{parent: 7, own: 3 * time.Second, children: 40 * time.Millisecond}) {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, text := range []string{"", "42 (a) S 7", "42 (a) S x 1 1 0 -1 0 0 0 0 0 250 50 3 1 20"} {
		if _, err := parseStat(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestMeter_CountsWALAndCPUOfTheWork(t *testing.T) {
	db := pgtest.Empty(t)
	worker := db.Conn(t)
	m := newMeter(t.Context(), db.Conn(t))
	if m.cpu == nil {
		t.Log(m.why)
	}
	f, err := m.perEvent(t.Context(), 10, func(ctx context.Context) error {
		return do(ctx, worker, "create table public.t as select repeat('x', 100) from generate_series(1, 100000)")
	})
	if err != nil {
		t.Fatal(err)
	}
	if f[figWAL] < 100_000*100/10 || f[figWall] <= 0 || m.cpu != nil && f[figCPU] < 100 {
		t.Errorf("got %v for 10 MB of rows in 10 steps", f)
	}
	broken := errors.New("broken")
	if _, err := m.perEvent(t.Context(), 1, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the work", err)
	}
}

func TestDelivery_CountsWhatShouldNotCome(t *testing.T) {
	t.Parallel()
	d := &delivery{sent: make([]time.Time, 2), got: make([]time.Time, 2), primed: make(chan struct{}, 1), all: make(chan struct{})}
	d.missing.Store(2)
	now := time.Now()
	d.sent[0], d.sent[1] = now.Add(-time.Second), now
	for _, n := range []int{2, 0, 0, 77} {
		d.take(payload(n))
	}
	if f := d.figures(); f[figLost] != 1 || f[figP50] < 1000 || d.doubled != 1 || d.foreign != 1 || len(d.primed) != 1 {
		t.Errorf("got %v, %d doubled, %d foreign", f, d.doubled, d.foreign)
	}
	d.take(payload(1))
	select {
	case <-d.all:
	default:
		t.Error("all have come, and nobody is told")
	}
}
