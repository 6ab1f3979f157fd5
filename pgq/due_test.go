package pgq

import (
	"testing"
	"time"
)

// The rules of pgq.ticker, line by line.
func TestTickStateDue_DecisionTable(t *testing.T) {
	t.Parallel()
	const (
		maxCount = 500
		maxLag   = 3 * time.Second
		idle     = time.Minute
	)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name             string
		ticks            int
		lag, gap         time.Duration
		events           int64
		paused, external bool
		want             bool
	}{
		{name: "no tick yet", ticks: 0, want: true},
		{name: "no tick yet, but paused", ticks: 0, paused: true},
		{name: "no tick yet, but external", ticks: 0, external: true},

		{name: "enough events at once", ticks: 2, events: maxCount, want: true},
		{name: "more than enough events", ticks: 2, events: maxCount + 1, want: true},
		{name: "one event short of enough", ticks: 2, events: maxCount - 1},
		{name: "one event, waited max_lag", ticks: 2, events: 1, lag: maxLag, want: true},
		{name: "one event, waited almost max_lag", ticks: 2, events: 1, lag: maxLag - 1},
		{name: "one event, only one tick, still waits", ticks: 1, events: 1, lag: maxLag - 1},
		{name: "events, but paused", ticks: 2, events: maxCount, lag: maxLag, paused: true},
		{name: "events, but external", ticks: 2, events: maxCount, lag: maxLag, external: true},

		{name: "quiet, only one tick", ticks: 1, want: true},
		{name: "quiet, half of max_lag not over", ticks: 2, lag: maxLag/2 - 1, gap: 0},
		{name: "quiet, half of max_lag over, gap small", ticks: 2, lag: maxLag / 2, gap: time.Millisecond, want: true},
		{name: "quiet, not twice the gap", ticks: 2, lag: 20*time.Second - 1, gap: 10 * time.Second},
		{name: "quiet, twice the gap", ticks: 2, lag: 20 * time.Second, gap: 10 * time.Second, want: true},
		{name: "quiet, gap large, idle period not over", ticks: 2, lag: idle - 1, gap: idle},
		{name: "quiet, gap large, idle period over", ticks: 2, lag: idle, gap: idle, want: true},
		{name: "counter went back counts as quiet", ticks: 2, events: -5, lag: idle - 1, gap: idle},
	} {
		s := TickState{
			Queue: "q", LastTick: 7, ServerNow: now, TickTime: now.Add(-c.lag),
			EventSeq: 1000 + c.events, TickSeq: 1000, MaxCount: maxCount, MaxLag: maxLag,
			IdlePeriod: idle, Gap: c.gap, Ticks: c.ticks, Paused: c.paused, External: c.external,
		}
		if got := s.Due(); got != c.want {
			t.Errorf("%s: got %v, want %v for %+v", c.name, got, c.want, s)
		}
	}
}

func TestTickStateDue_ZeroLagAndIdleTickAlways(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := TickState{Ticks: 2, TickTime: now, ServerNow: now, MaxCount: 500}
	if !s.Due() {
		t.Errorf("got no tick for max_lag = idle_period = 0, want one on every call: %+v", s)
	}
}
