package actors

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

const (
	// keptOperations is how many ended operations status remembers.
	keptOperations = 100
	// routineLimit is how long an operation that nobody asked for may take and be forgotten when it went well.
	routineLimit = time.Second
)

// Operations numbers the long operations of one daemon and tells status about them. A nil Operations tells nobody. Safe
// for concurrent use.
type Operations struct {
	newest atomic.Int64
	root   *actor.RootContext
	status *actor.PID
}

// Operation is one that was begun; it belongs to one goroutine at a time. A nil Operation tells nobody.
type Operation struct {
	o    *Operations
	last messages.Operation
}

// NewOperations tells the status actor below the root actor of a system, which may be spawned later.
func NewOperations(system *actor.ActorSystem) *Operations {
	return &Operations{root: system.Root, status: StatusPID(actor.NewPID(system.Address(), RootName))}
}

// Begin starts an operation that somebody asked for.
func (o *Operations) Begin(kind, database, subject string) *Operation {
	return o.begin(messages.Operation{Kind: kind, Database: database, Subject: subject})
}

// Routine starts an operation that comes by itself; it is shown while it runs, and kept when it took long or failed.
func (o *Operations) Routine(kind, database, subject string) *Operation {
	return o.begin(messages.Operation{Kind: kind, Database: database, Subject: subject, Routine: true})
}

func (o *Operations) begin(m messages.Operation) *Operation {
	if o == nil {
		return nil
	}
	m.Started, m.State = time.Now(), messages.OperationRuns
	m.ID = o.newest.Add(1)
	op := &Operation{o: o, last: m}
	op.tell()
	return op
}

// ID is the number of the operation.
func (p *Operation) ID() int64 {
	if p == nil {
		return 0
	}
	return p.last.ID
}

// Step says what the operation does now.
func (p *Operation) Step(text string) {
	if p != nil {
		p.last.Step = text
		p.tell()
	}
}

// End says how the operation ended; only the first End counts, so that a deferred one can tell of a panic.
func (p *Operation) End(err error) {
	if p == nil || p.last.State != messages.OperationRuns {
		return
	}
	p.last.State, p.last.Ended = messages.OperationDone, time.Now()
	switch {
	case errors.Is(err, context.Canceled):
		p.last.State, p.last.Error = messages.OperationFailed, "was stopped before its end"
	case err != nil:
		p.last.State, p.last.Error = messages.OperationFailed, err.Error()
	}
	p.tell()
}

// errUnended is how an operation ends that did not get to its end: it panicked.
var errUnended = errors.New("failed in an unforeseen way; the log has more")

func (p *Operation) tell() { p.o.root.Send(p.o.status, p.last) }

// operations are what status knows of operations, by number.
type operations map[int64]messages.Operation

// note takes over what an operation says, and forgets the oldest ones that have ended.
func (s *operations) note(m messages.Operation) {
	if *s == nil {
		*s = operations{}
	}
	(*s)[m.ID] = m
	if m.State == messages.OperationRuns {
		return
	}
	if m.Routine && m.State == messages.OperationDone && m.Ended.Sub(m.Started) < routineLimit {
		delete(*s, m.ID)
		return
	}
	ended := s.list()
	ended = slices.DeleteFunc(ended, func(m messages.Operation) bool { return m.State == messages.OperationRuns })
	for _, old := range ended[:max(len(ended)-keptOperations, 0)] {
		delete(*s, old.ID)
	}
}

// list is all of them, the oldest first.
func (s operations) list() []messages.Operation {
	list := make([]messages.Operation, 0, len(s))
	for _, m := range s {
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b messages.Operation) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
