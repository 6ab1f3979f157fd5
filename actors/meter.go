package actors

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// MeterBounds are the upper bounds, in seconds, of the buckets of a Meter's durations: handling a message takes
// microseconds, and an actor that needs more than some milliseconds blocks.
var MeterBounds = [...]float64{0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10}

// Meter measures the actors of one process: how many messages wait for each kind, and how long handling them takes.
// The zero value is ready and safe for concurrent use; a nil Meter measures nothing.
type Meter struct {
	mu    sync.Mutex
	boxes map[actor.Mailbox]string // kind
	spent map[meterKey]*Spent
}

// meterKey is what durations are counted by.
type meterKey struct {
	kind    string
	message reflect.Type
}

// Spent is the time that the actors of one kind spent on one type of message.
type Spent struct {
	Kind    string
	Message string
	// Counts belong to MeterBounds; the last one is of those above the highest bound.
	Counts [len(MeterBounds) + 1]uint64
	Sum    float64
	Count  uint64
}

// Depths returns how many messages wait, by the kind of the actor.
func (m *Meter) Depths() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	depths := map[string]int{}
	for box, kind := range m.boxes {
		depths[kind] += box.UserMessageCount()
	}
	return depths
}

// Spent returns the durations, by kind and message.
func (m *Meter) Spent() []Spent {
	m.mu.Lock()
	defer m.mu.Unlock()
	merged := map[[2]string]Spent{} // types of different packages may share a name
	for _, s := range m.spent {
		key := [2]string{s.Kind, s.Message}
		sum := merged[key]
		sum.Kind, sum.Message = s.Kind, s.Message
		for i, n := range s.Counts {
			sum.Counts[i] += n
		}
		sum.Sum += s.Sum
		sum.Count += s.Count
		merged[key] = sum
	}
	return slices.SortedFunc(maps.Values(merged), func(a, b Spent) int {
		return strings.Compare(a.Kind+" "+a.Message, b.Kind+" "+b.Message)
	})
}

// props makes the actors of these props measured; each props value is for one incarnation.
func (m *Meter) props(kind string) []actor.PropsOption {
	if m == nil {
		return nil
	}
	var box actor.Mailbox
	produce := func() actor.Mailbox {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.boxes == nil {
			m.boxes = map[actor.Mailbox]string{}
		}
		box = actor.Unbounded()()
		m.boxes[box] = kind
		return box
	}
	measure := func(next actor.ReceiverFunc) actor.ReceiverFunc {
		return func(c actor.ReceiverContext, envelope *actor.MessageEnvelope) {
			begin := time.Now()
			defer func() {
				m.handled(meterKey{kind, reflect.TypeOf(envelope.Message)}, time.Since(begin))
				if _, gone := envelope.Message.(*actor.Stopped); gone {
					m.mu.Lock()
					defer m.mu.Unlock()
					delete(m.boxes, box)
				}
			}()
			next(c, envelope)
		}
	}
	return []actor.PropsOption{actor.WithMailbox(produce), actor.WithReceiverMiddleware(measure)}
}

// handled counts one message.
func (m *Meter) handled(key meterKey, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.spent[key]
	if s == nil {
		if m.spent == nil {
			m.spent = map[meterKey]*Spent{}
		}
		s = &Spent{Kind: key.kind, Message: messageName(key.message)}
		m.spent[key] = s
	}
	i, _ := slices.BinarySearch(MeterBounds[:], d.Seconds())
	s.Counts[i]++
	s.Sum += d.Seconds()
	s.Count++
}

// messageName is the short name of a type of message: GetStatus, Started; the results of work are all called done.
func messageName(t reflect.Type) string {
	if t == nil {
		return "nil"
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, _, _ := strings.Cut(t.Name(), "[")
	return name
}

// failures are the moments at which actors failed lately.
type failures map[string][]time.Time

// add notes a failure.
func (f failures) add(path string, at time.Time) {
	const most = 100
	list := append(f[path], at)
	f[path] = list[max(0, len(list)-most):]
}

// recent counts the failures of the last messages.FlapWindow.
func (f failures) recent(path string, now time.Time) (n int) {
	for _, at := range f[path] {
		if now.Sub(at) < messages.FlapWindow {
			n++
		}
	}
	return n
}
