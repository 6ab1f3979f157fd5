package actors

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/skytools/skyd/pgq"
)

func TestDueIn_IsZeroExactlyWhenTheContractSaysDue(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	pick := func(list ...time.Duration) time.Duration { return list[r.IntN(len(list))] }
	due := 0
	for range 200_000 {
		s := pgq.TickState{
			Ticks: r.IntN(3), ServerNow: now, MaxCount: r.IntN(4), EventSeq: int64(r.IntN(6)), TickSeq: int64(r.IntN(6)),
			MaxLag:     pick(0, time.Second, 3*time.Second, time.Minute),
			IdlePeriod: pick(0, time.Second, 30*time.Second, time.Minute, time.Hour),
			Gap:        pick(0, time.Millisecond, time.Second, 20*time.Second, time.Hour),
			Paused:     r.IntN(10) == 0, External: r.IntN(10) == 0,
		}
		s.TickTime = now.Add(-pick(0, time.Millisecond, time.Second, 1500*time.Millisecond, 2*time.Second, 40*time.Second, 2*time.Hour))
		in := dueIn(s, false, time.Hour)
		if (in == 0) != s.Due() {
			t.Fatalf("%+v: due in %s, contract says %v", s, in, s.Due())
		}
		if in == never {
			continue
		}
		due++
		s.ServerNow = s.ServerNow.Add(in)
		if !s.Due() {
			t.Fatalf("%+v: not due after %s", s, in)
		}
		if in > 0 {
			if s.ServerNow = s.ServerNow.Add(-1); s.Due() {
				t.Fatalf("%+v: due before %s", s, in)
			}
		}
	}
	if due < 1000 {
		t.Errorf("only %d cases", due)
	}
}

func TestDueIn_SettledQueueTicksRarelyUnlessItAsksForMore(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := pgq.TickState{Ticks: 2, ServerNow: now, TickTime: now, Gap: time.Hour, MaxLag: 3 * time.Second, IdlePeriod: time.Minute}
	for _, c := range []struct {
		name    string
		settled bool
		idle    time.Duration
		events  int64
		want    time.Duration
	}{
		{"contract", false, time.Minute, 0, time.Minute},
		{"settled", true, time.Minute, 0, 5 * time.Minute},
		{"settled, wants idle ticks", true, 10 * time.Second, 0, 10 * time.Second},
		{"settled, longer idle period", true, time.Hour, 0, time.Hour},
		{"settled, but events", true, time.Minute, 1, 3 * time.Second},
	} {
		s.IdlePeriod, s.EventSeq, s.MaxCount = c.idle, c.events, 500
		if got := dueIn(s, c.settled, 5*time.Minute); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestFullIn_ExtrapolatesTheRate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := pgq.TickState{ServerNow: now, EventSeq: 100, TickSeq: 100, MaxCount: 500}
	s := old
	s.ServerNow, s.EventSeq = now.Add(100*time.Millisecond), 200
	if got := fullIn(old, s); got != 400*time.Millisecond {
		t.Errorf("got %s", got)
	}
	for name, change := range map[string]func(s *pgq.TickState){
		"no events": func(s *pgq.TickState) { s.EventSeq = 100 }, "full already": func(s *pgq.TickState) { s.EventSeq = 700 },
		"same look": func(s *pgq.TickState) { s.ServerNow = now }, "paused": func(s *pgq.TickState) { s.Paused = true },
		"in days": func(s *pgq.TickState) { s.MaxCount = 1 << 40 },
	} {
		changed := s
		change(&changed)
		if got := fullIn(old, changed); got != never {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func TestNextLook(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		name                          string
		due, wish, last, least, limit time.Duration
		want                          time.Duration
	}{
		{"nothing happens: twice as long", never, never, 20 * ms, 10 * ms, 300 * ms, 40 * ms},
		{"up to the period", never, never, 200 * ms, 10 * ms, 300 * ms, 300 * ms},
		{"due soon", 25 * ms, never, 200 * ms, 10 * ms, 300 * ms, 25 * ms},
		{"due already", 0, never, 200 * ms, 10 * ms, 300 * ms, 10 * ms},
		{"wanted soon", never, 15 * ms, 200 * ms, 10 * ms, 300 * ms, 15 * ms},
		{"looks are expensive", 0, 0, 200 * ms, 100 * ms, 300 * ms, 100 * ms},
		{"but never beyond the period", 0, 0, 200 * ms, 1000 * ms, 300 * ms, 300 * ms},
	} {
		if got := nextLook(c.due, c.wish, c.last, c.least, c.limit); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestSettling_ProvesThatNothingCanBeWaiting(t *testing.T) {
	t.Parallel()
	var s settling
	s.look("10:10:", 0)
	if s.current() != s.epoch || s.epoch == 0 {
		t.Fatalf("a quiet look is no epoch: %+v", s)
	}
	epoch := s.current() // a tick begins now, and takes transaction 10
	s.ticked()
	s.look("11:11:", 0)
	if !s.covers(epoch) {
		t.Error("only our own tick happened, and it began when nothing was under way")
	}
	s.look("11:11:", 0)
	if !s.covers(epoch) {
		t.Error("nothing happened since")
	}
	s.look("11:11:", 1)
	s.look("11:12:11", 2)
	s.ticked()
	s.ticked()
	if !s.covers(epoch) {
		t.Error("looks beside our own ticks end nothing")
	}
	s.look("13:13:", 0)
	if !s.covers(epoch) {
		t.Error("only our own ticks happened")
	}
	s.look("14:14:", 0) // somebody else committed
	if s.covers(epoch) {
		t.Error("an event may have come")
	}
}

func TestSettling_InDoubtNothingIsProven(t *testing.T) {
	t.Parallel()
	for name, looks := range map[string]func(s *settling){
		"a transaction was under way when the tick began":    func(s *settling) { s.look("9:10:9", 0); s.ticked(); s.look("11:11:", 0) },
		"a transaction is under way":                         func(s *settling) { s.look("10:10:", 0); s.ticked(); s.look("11:12:11", 0) },
		"somebody committed beside our tick":                 func(s *settling) { s.look("10:10:", 0); s.ticked(); s.look("12:12:", 0) },
		"our tick failed and took an id":                     func(s *settling) { s.look("10:10:", 0); s.look("11:11:", 0) },
		"more was committed than our ticks can be":           func(s *settling) { s.look("10:10:", 1) },
		"somebody committed beside a tick that was not made": func(s *settling) { s.look("9:9:", 1); s.look("9:9:", 0) },
		"a tick of ours is under way":                        func(s *settling) { s.look("10:10:", 1); s.look("11:11:", 0) },
		"the counter went back":                              func(s *settling) { s.look("10:10:", 0); s.look("5:5:", 0) },
		"nonsense":                                           func(s *settling) { s.look("10:10:", 0); s.look("x", 0) },
	} {
		var s settling
		s.look("8:8:", 0)
		old := s.current()
		looks(&s)
		if s.covers(old) || s.covers(0) {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	var s settling
	s.look("9:10:9", 0)
	if s.current() != 0 || s.covers(s.current()) {
		t.Error("a tick that begins beside a transaction proves nothing")
	}
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add("10:20:10,14")
	f.Fuzz(func(t *testing.T, text string) { _, _, _ = parseSnapshot(text) })
}
