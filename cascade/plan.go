package cascade

import (
	"errors"
	"fmt"
)

// ErrBadRole says: the node's type and that of its combined queue do not go together.
var ErrBadRole = errors.New("node has an impossible role")

// ErrPositionLost says: provider, position and local ticks of a node do not fit together, and no batch can be told to be the
// next one. A human has to look.
var ErrPositionLost = errors.New("position of the node is lost")

// CopyMode says where the events of a batch are copied to.
type CopyMode int

// The ways to copy.
const (
	NoCopy  CopyMode = iota
	SameIDs          // into the own queue, ids kept: a branch
	NewIDs           // into the combined queue, under new ids and without pgq.* events: a merge leaf
)

// MarkMode says what a node does with the global watermark that the root publishes.
type MarkMode int

// The ways to take the global watermark.
const (
	IgnoreMark   MarkMode = iota
	MoveMark              // a branch moves its own
	RememberMark          // a branch that waits for named nodes computes its own, see Plan.SyncNodes
)

// ReportMode says what a node reports upwards as its local watermark.
type ReportMode int

// The ways to report.
const (
	NoReport       ReportMode = iota
	ReportLocal               // the lowest tick anybody at or below needs
	ReportPrevious            // the tick before the batch: the node does not hold the provider back
)

// Plan is what the worker of a node does with batches. It follows from role and state alone.
type Plan struct {
	// Read: batches are read from the provider; else the worker has chores only.
	Read bool
	// Apply: events go to the applier; system events are acted upon in any case.
	Apply bool
	// Copy says how events are copied, and Target into which queue.
	Copy   CopyMode
	Target string
	// Tick: after the commit of a batch its tick is written into the own queue, as the provider has it.
	Tick bool
	// SendTickID: with the events, pgq.tick-id goes into the target.
	SendTickID bool
	// TakeTickID: events pgq.tick-id move the leafs that write into this queue elsewhere.
	TakeTickID bool
	// Mark is what is done with the global watermark of the root, and SyncNodes are the nodes waited for.
	Mark      MarkMode
	SyncNodes []string
	// PublishMark: the global watermark is published from here, now and then.
	PublishMark bool
	// Report is what is told to the provider now and then.
	Report ReportMode
	// WaitBehind: the events come through the combined queue; batches are taken only as far as it has brought them.
	WaitBehind bool
}

// WorkerPlan is what the worker of a node in that state does.
func WorkerPlan(queue string, s WorkerState) (Plan, error) {
	switch {
	case s.CombinedType != "" && s.Type != Leaf:
		return Plan{}, fmt.Errorf("%w: %s of queue %s with a combined queue %s", ErrBadRole, s.Type, queue, s.CombinedQueue)
	case s.Type == Root:
		return Plan{PublishMark: true}, nil
	case s.Type == Branch:
		p := Plan{
			Read: true, Apply: true, Copy: SameIDs, Target: queue, Tick: true, TakeTickID: true,
			Mark: MoveMark, Report: ReportLocal,
		}
		if nodes := SyncNodes(s.Attrs); nodes != nil {
			p.Mark, p.Report, p.SyncNodes = RememberMark, ReportPrevious, nodes
		}
		return p, nil
	case s.Type == Leaf && s.CombinedType == "":
		return Plan{Read: true, Apply: true, Report: ReportLocal}, nil
	case s.Type == Leaf && s.CombinedType == Root:
		return Plan{
			Read: true, Apply: true, Copy: NewIDs, Target: s.CombinedQueue, SendTickID: true, Report: ReportLocal,
		}, nil
	case s.Type == Leaf && s.CombinedType == Branch:
		return Plan{Read: true, WaitBehind: true, Report: ReportLocal}, nil
	}
	return Plan{}, fmt.Errorf("%w: %s of queue %s, combined queue is a %s", ErrBadRole, s.Type, queue, s.CombinedType)
}

// Verdict says what one batch needs.
type Verdict int

// The verdicts.
const (
	// TakeBatch: it is the next one.
	TakeBatch Verdict = iota
	// WriteTick: it was taken, its tick is missing; then finish it.
	WriteTick
	// FinishBatch: it is done, the provider does not know yet.
	FinishBatch
	// WaitForTarget: the combined queue has not brought its events yet; leave it open.
	WaitForTarget
	// FetchTick: the tick before it is missing in the own queue: the worker died between commit and tick, and has
	// another provider now.
	FetchTick
)

// Judge says what the batch between two ticks needs on a node with that position and, where it has a queue, that newest
// tick. Errors: ErrPositionLost.
func (p Plan) Judge(prev, cur, completed, top int64) (Verdict, error) {
	switch {
	case p.WaitBehind && cur > completed:
		return WaitForTarget, nil
	case p.WaitBehind:
		return TakeBatch, nil
	case p.Copy == NewIDs && cur <= completed:
		// The combined queue brought it while its node was a branch.
		return FinishBatch, nil
	case completed == prev && (!p.Tick || top == prev):
		return TakeBatch, nil
	case completed == prev && top < prev:
		return FetchTick, nil
	case completed == cur && (!p.Tick || top == cur):
		return FinishBatch, nil
	case completed == cur && top == prev:
		return WriteTick, nil
	case completed == cur && top < prev:
		return FetchTick, nil
	}
	return 0, fmt.Errorf("%w: the provider's batch goes from tick %d to %d, the node has completed tick %d%s",
		ErrPositionLost, prev, cur, completed, topText(p, top))
}

func topText(p Plan, top int64) string {
	if !p.Tick {
		return ""
	}
	return fmt.Sprintf(" and its queue ends with tick %d", top)
}
