package actors

import (
	"strconv"
	"strings"
	"time"

	"github.com/skytools/skyd/pgq"
)

// The decisions of the ticker: pure functions of what was seen and when.

// defaultIdlePeriod is the idle period of a queue that nobody configured. A queue with a shorter one asks for ticks
// while nothing happens, and gets them.
const defaultIdlePeriod = time.Minute

// never is the distance of something that does not come by itself.
const never = time.Duration(1<<63 - 1)

// dueIn is how long after s was read the queue becomes due if nothing else happens: 0 exactly when s.Due(). A settled
// queue (nothing can be waiting in it, see settling) ticks only every quiet, unless its idle period asks for more.
func dueIn(s pgq.TickState, settled bool, quiet time.Duration) time.Duration {
	lag := s.Lag()
	switch {
	case s.Paused || s.External:
		return never
	case s.Ticks == 0:
		return 0
	case s.NewEvents() > 0 && s.NewEvents() >= int64(s.MaxCount):
		return 0
	case s.NewEvents() > 0:
		return max(s.MaxLag-lag, 0)
	case s.Ticks == 1:
		return 0
	}
	distance := max(s.MaxLag/2, min(2*s.Gap, s.IdlePeriod))
	if settled && s.IdlePeriod >= defaultIdlePeriod {
		distance = max(distance, quiet)
	}
	return max(distance-lag, 0)
}

// fullIn is how long after s was read the queue has max_count new events, if they keep coming as they did since old.
func fullIn(old, s pgq.TickState) time.Duration {
	since, came := s.ServerNow.Sub(old.ServerNow), s.EventSeq-old.EventSeq
	missing := int64(s.MaxCount) - s.NewEvents()
	if s.Paused || s.External || since <= 0 || came <= 0 || missing <= 0 {
		return never
	}
	in := float64(missing) / float64(came) * float64(since)
	if in > float64(time.Hour) {
		return never
	}
	return time.Duration(in)
}

// nextLook is when to look again: when the first queue becomes due, but sooner when events come and someone wants them
// soon. Without events the distance doubles up to the period.
func nextLook(due, wish, last, least, period time.Duration) time.Duration {
	pause := min(2*last, period)
	return max(min(due, wish, pause), min(least, period))
}

// quickLook is the distance of looks that a database with quick queues gets at least while nothing happens: a look that
// finds nothing costs the server some 30 microseconds, no WAL and no transaction id.
const quickLook = 20 * time.Millisecond

// quietLook is the longest time between two looks that a queue allows, also after a long quiet time: its tick_period, or
// as long as its events may wait. Otherwise the first event after the quiet time would wait for the look as well.
func quietLook(s pgq.TickState, period time.Duration) time.Duration {
	switch {
	case s.Paused || s.External:
		return never
	case period > 0:
		return period
	default:
		return max(s.MaxLag, quickLook)
	}
}

// settling proves that nothing is waiting for a tick in a database where nothing happens, so that it can be left alone
// without a write. A tick covers everything when no transaction was in progress before it began: whoever took an event
// id earlier has finished, and is seen. From then on nothing came as long as the transaction counter moved only by our
// own ticks. That is what an epoch is: a time in which nobody but us got a transaction id.
type settling struct {
	epoch uint64 // 0: none
	calm  bool   // the last look saw no transaction in progress, and nobody but us since the one before
	xmax  uint64 // transaction counter at that look
	own   uint64 // our ticks since
}

// ticked counts one of our own ticks.
func (s *settling) ticked() { s.own++ }

// look takes the snapshot of a look. running is how many of our ticks may or may not be in it. Beside them nothing can be
// proven, but what was stays so while the counter shows no more than they take: the next look without them counts exactly.
// With many queues there is hardly a look without a tick, and nothing would ever be proven if it ended the epoch.
func (s *settling) look(mark string, running int) {
	xmin, xmax, ok := parseSnapshot(mark)
	if running > 0 && s.calm && ok && xmax >= s.xmax && xmax <= s.xmax+s.own+uint64(running) {
		return
	}
	quiet := ok && xmin == xmax && running == 0
	if !quiet || !s.calm || xmax != s.xmax+s.own {
		s.epoch++
	}
	s.calm, s.xmax, s.own = quiet, xmax, 0
}

// covers reports whether a tick that began in the given epoch still covers everything.
func (s *settling) covers(epoch uint64) bool { return s.calm && epoch != 0 && epoch == s.epoch }

// current is the epoch for a tick that begins now; 0 when the tick will prove nothing.
func (s *settling) current() uint64 {
	if !s.calm {
		return 0
	}
	return s.epoch
}

// parseSnapshot reads xmin and xmax of a snapshot in text form: xmin:xmax:list.
func parseSnapshot(mark string) (xmin, xmax uint64, ok bool) {
	first, rest, ok := strings.Cut(mark, ":")
	if !ok {
		return 0, 0, false
	}
	second, _, ok := strings.Cut(rest, ":")
	if !ok {
		return 0, 0, false
	}
	xmin, err1 := strconv.ParseUint(first, 10, 64)
	xmax, err2 := strconv.ParseUint(second, 10, 64)
	return xmin, xmax, err1 == nil && err2 == nil
}
