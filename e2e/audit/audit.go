package audit

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
)

// Event is what an auditor compares of an event.
type Event struct {
	ID int64
	// Retry is how often the event came back from the retry queue; each time is an event of its own, which stands
	// outside of order.
	Retry int
	// Key is what order is kept for; "" for none.
	Key string
	// Seq is the place of the event among those of its key, ascending. A producer may give the next one of a key only
	// after the commit of the one before was answered, or after it saw that it failed. Only producers tell it.
	Seq int64
	// Tx is the transaction that produced it; 0 when that is of no interest. Only producers tell it.
	Tx int64
	// Hash is that of the payload, by Hash.
	Hash string
}

// Hash makes a payload comparable.
func Hash(payload string) string {
	sum := sha256.Sum256([]byte(payload))
	return hex.EncodeToString(sum[:8])
}

// Promises are what the auditor holds a consumer to, beyond what always holds: nothing lost, invented, altered or torn.
type Promises struct {
	// InOrder: batches are committed in the order of the queue, and those of a key in its order. Not for groups.
	InOrder bool
	// Once: no event is committed twice.
	Once bool
	// Fenced: nobody commits a batch that was given to somebody else since. It asks for Saw at the moment of the giving.
	Fenced bool
	// WholeTx: the events of one transaction come in one batch.
	WholeTx bool
}

// Delivery is one batch as one worker got it.
type Delivery struct {
	// Batch is its number, for messages only: it may change when another worker takes over.
	Batch  int64
	Worker string
	Events []Event
	// Cut: the worker was ended before it had all; Events is the beginning.
	Cut bool
	// Retried are the events among them that went to the retry queue when the batch was committed.
	Retried []int64
}

// Rule names what was violated.
type Rule string

// The rules, as the package comment explains them.
const (
	Lost       Rule = "lost"
	Invented   Rule = "invented"
	Altered    Rule = "altered"
	Torn       Rule = "torn"
	Split      Rule = "split"
	Disordered Rule = "disordered"
	KeyOrder   Rule = "key order"
	Doubled    Rule = "doubled"
	Stale      Rule = "stale"
)

// Violation is a broken promise.
type Violation struct {
	Rule     Rule
	Consumer string
	Event    int64 // 0: not about one event
	Batch    int64 // 0: not about one batch
	Text     string
}

// Error tells the whole of it.
func (v *Violation) Error() string {
	return fmt.Sprintf("%s: consumer %s, event %d, batch %d: %s", v.Rule, v.Consumer, v.Event, v.Batch, v.Text)
}

// Auditor collects what happened. Safe for concurrent use; the order of calls for one consumer is the order of what
// happened.
type Auditor struct {
	mu        sync.Mutex
	produced  map[int64]produced
	consumers []*Consumer
}

type produced struct {
	Event
	acknowledged bool
}

// New makes an auditor that knows nothing yet.
func New() *Auditor { return &Auditor{produced: map[int64]produced{}} }

// Acknowledged tells that the commit of these events was answered: they must arrive.
func (a *Auditor) Acknowledged(events ...Event) { a.produce(true, events) }

// Uncertain tells that a commit was sent and its answer lost: these events may arrive.
func (a *Auditor) Uncertain(events ...Event) { a.produce(false, events) }

func (a *Auditor) produce(acknowledged bool, events []Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ev := range events {
		a.produced[ev.ID] = produced{ev, acknowledged || a.produced[ev.ID].acknowledged}
	}
}

// Produced is how many events were acknowledged.
func (a *Auditor) Produced() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, p := range a.produced {
		if p.acknowledged {
			n++
		}
	}
	return n
}

// Consumer begins the account of a consumer (a group is one), which was registered before the first event was produced.
func (a *Auditor) Consumer(name string, p Promises) *Consumer {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &Consumer{auditor: a, name: name, promises: p}
	a.consumers = append(a.consumers, c)
	return c
}

// Consumer is the account of one consumer.
type Consumer struct {
	auditor  *Auditor
	name     string
	promises Promises
	journal  []entry
}

type entry struct {
	Delivery
	committed bool
}

// Saw tells that a worker was given a batch, again or for the first time.
func (c *Consumer) Saw(d Delivery) { c.note(entry{d, false}) }

// Committed tells that the effects of a batch are there for good. It need not have been seen.
func (c *Consumer) Committed(d Delivery) { c.note(entry{d, true}) }

func (c *Consumer) note(e entry) {
	c.auditor.mu.Lock()
	defer c.auditor.mu.Unlock()
	e.Events = slices.Clone(e.Events)
	c.journal = append(c.journal, e)
}

// Check returns the first *Violation of the consumer that has one, in the order in which consumers were made; nil when
// every promise was kept. All that was produced must have had the time to arrive.
func (a *Auditor) Check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.consumers {
		if v := c.check(); v != nil {
			return v
		}
	}
	return nil
}

// name of a delivered event: a retry is another one.
type name struct {
	id    int64
	retry int
}

// state is what is known after a part of a consumer's journal.
type state struct {
	*Consumer
	batchOf map[name]*batch
	last    *batch           // the last one committed
	keys    map[string]int64 // highest Seq committed
	done    map[int64]bool
	tx      map[int64]*batch
}

// batch is a set of events that belongs together, under whatever number.
type batch struct {
	events    []Event
	whole     bool
	owner     string
	committed bool
	past      bool // a later one was committed
}

func (c *Consumer) check() *Violation {
	s := &state{
		Consumer: c, batchOf: map[name]*batch{}, keys: map[string]int64{}, done: map[int64]bool{}, tx: map[int64]*batch{},
	}
	for _, e := range c.journal {
		if len(e.Events) == 0 {
			continue
		}
		b, v := s.delivered(e.Delivery)
		if v != nil {
			return v
		}
		if !e.committed {
			b.owner = e.Worker
		} else if v := s.committed(b, e.Delivery); v != nil {
			return v
		}
	}
	var missing []int64
	for id, p := range c.auditor.produced {
		if p.acknowledged && !s.done[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		first := slices.Min(missing)
		return &Violation{Lost, c.name, first, 0, fmt.Sprintf("acknowledged and never committed, as are %d of %d events",
			len(missing), len(c.auditor.produced))}
	}
	return nil
}

// delivered checks what a worker was given, and finds the batch that it is.
func (s *state) delivered(d Delivery) (*batch, *Violation) {
	for i, ev := range d.Events {
		known, ok := s.auditor.produced[ev.ID]
		switch {
		case !ok:
			return nil, s.violation(Invented, d, ev.ID, "nobody produced it, or it was rolled back")
		case known.Key != ev.Key || known.Hash != ev.Hash:
			return nil, s.violation(Altered, d, ev.ID, "produced with key %q hash %s, delivered with key %q hash %s",
				known.Key, known.Hash, ev.Key, ev.Hash)
		case i > 0 && cmp.Or(cmp.Compare(d.Events[i-1].ID, ev.ID), cmp.Compare(d.Events[i-1].Retry, ev.Retry)) >= 0:
			return nil, s.violation(Disordered, d, ev.ID, "comes behind event %d of its batch", d.Events[i-1].ID)
		}
	}
	b := s.batchOf[nameOf(d.Events[0])]
	if b == nil {
		b = &batch{}
	}
	short := min(len(b.events), len(d.Events))
	for i := range d.Events {
		if i < short && nameOf(d.Events[i]) != nameOf(b.events[i]) {
			return nil, s.violation(Torn, d, d.Events[i].ID, "its batch had event %d in this place", b.events[i].ID)
		}
		if other := s.batchOf[nameOf(d.Events[i])]; other != nil && other != b {
			return nil, s.violation(Torn, d, d.Events[i].ID, "was delivered in a batch with other events before")
		}
	}
	switch {
	case b.whole && len(d.Events) > len(b.events):
		return nil, s.violation(Torn, d, d.Events[len(b.events)].ID, "was not in its batch before")
	case !d.Cut && len(d.Events) < len(b.events):
		return nil, s.violation(Torn, d, b.events[len(d.Events)].ID, "was in its batch before and is missing now")
	}
	if len(d.Events) > len(b.events) {
		b.events = slices.Clone(d.Events)
	}
	b.whole = b.whole || !d.Cut
	for _, ev := range d.Events {
		s.batchOf[nameOf(ev)] = b
		if tx := s.auditor.produced[ev.ID].Tx; s.promises.WholeTx && tx != 0 && ev.Retry == 0 {
			if other := s.tx[tx]; other != nil && other != b {
				return nil, s.violation(Split, d, ev.ID, "others of its transaction came in another batch")
			}
			s.tx[tx] = b
		}
	}
	return b, nil
}

// committed checks what a worker has done for good.
func (s *state) committed(b *batch, d Delivery) *Violation {
	switch {
	case d.Cut:
		return s.violation(Torn, d, 0, "committed in part")
	case s.promises.Fenced && b.owner != "" && b.owner != d.Worker:
		return s.violation(Stale, d, d.Events[0].ID, "committed by %s, which had lost it to %s", d.Worker, b.owner)
	case s.promises.InOrder && b.past:
		return s.violation(Disordered, d, d.Events[0].ID, "its batch was committed after a later one")
	}
	for _, ev := range d.Events {
		if s.promises.Once && s.done[ev.ID] {
			return s.violation(Doubled, d, ev.ID, "was committed before")
		}
		if p := s.auditor.produced[ev.ID]; s.promises.InOrder && !b.committed && ev.Retry == 0 && p.Key != "" {
			if p.Seq <= s.keys[p.Key] {
				return s.violation(KeyOrder, d, ev.ID, "number %d of key %s comes after number %d", p.Seq, p.Key, s.keys[p.Key])
			}
			s.keys[p.Key] = p.Seq
		}
		if !slices.Contains(d.Retried, ev.ID) {
			s.done[ev.ID] = true
		}
	}
	if s.last != nil && s.last != b {
		s.last.past = true
	}
	s.last, b.committed = b, true
	return nil
}

func nameOf(ev Event) name { return name{ev.ID, ev.Retry} }

func (s *state) violation(r Rule, d Delivery, event int64, format string, args ...any) *Violation {
	return &Violation{r, s.name, event, d.Batch, fmt.Sprintf(format, args...)}
}
