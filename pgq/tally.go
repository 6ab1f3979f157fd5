package pgq

import "time"

// tally is what happened to the events of a batch, for Steps.
type tally struct {
	timed   bool // ages are wanted
	times   []eventTimes
	retried int
	dead    int
}

// eventTimes are events of one batch that were made in the same millisecond.
type eventTimes struct {
	at time.Time
	n  int
}

// read notes the times of a chunk; neighbours have mostly the same.
func (t *tally) read(chunk []Event) {
	if !t.timed {
		return
	}
	for i := range chunk {
		at := chunk[i].Time.Truncate(time.Millisecond)
		if last := len(t.times) - 1; last >= 0 && t.times[last].at.Equal(at) {
			t.times[last].n++
			continue
		}
		t.times = append(t.times, eventTimes{at: at, n: 1})
	}
}

// EventsRetried is how many events of the batch were sent to the retry queue,
// EventsDead how many became dead letters, by calls on this Batch that went
// well. An event that used up its redeliveries in Retry counts as neither.
func (b *Batch) EventsRetried() int { return b.s.tally.retried }

// EventsDead is described with EventsRetried.
func (b *Batch) EventsDead() int { return b.s.tally.dead }

// EachAge calls f with the ages, at that time, of the events that were read, and how many have it: ev_time to the
// millisecond. Only batches of Steps know them.
func (b *Batch) EachAge(now time.Time, f func(age time.Duration, events int)) {
	for _, t := range b.s.tally.times {
		f(max(now.Sub(t.at), 0), t.n)
	}
}
