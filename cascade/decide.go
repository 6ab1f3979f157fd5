package cascade

import (
	"errors"
	"fmt"
)

// Why a step of an operation was not done. Nothing has changed then; the next look at the facts tells what to do.
var (
	// ErrBusy: another operation is open on the node.
	ErrBusy = errors.New("another operation is open")
	// ErrDriverLost: another process has taken the operation over.
	ErrDriverLost = errors.New("another driver has taken the operation over")
	// ErrOvertaken: the node has changed since it was read.
	ErrOvertaken = errors.New("overtaken")
)

// OpState is how far an operation is, as its journal has it. The journal of the old root and that of the new one are
// rows of their own: each is written in the transaction of the step that it tells of.
type OpState string

// The states of a planned switchover, in order, and its two ends.
const (
	OpNone     OpState = ""         // no journal in this database
	OpPrepared OpState = "prepared" // S1: nothing has changed
	OpClosed   OpState = "closed"   // S2, old root: writes are refused
	OpFinal    OpState = "final"    // S3, old root: the final tick is made, nobody writes behind it
	OpGranted  OpState = "granted"  // S4, old root: the new root has the final tick and may open
	OpPromoted OpState = "promoted" // S5, new root: it takes events; the point of no return
	OpDemoted  OpState = "demoted"  // S6, old root: it is a branch of the new one
	OpDone     OpState = "done"     // S8
	OpAborting OpState = "aborting" // new root: it will not open, the old one may
	OpAborted  OpState = "aborted"  // rolled back
)

// Open tells whether somebody still has to drive the operation on.
func (s OpState) Open() bool { return s != OpNone && s != OpDone && s != OpAborted }

// Side is what one of the two databases of an operation says about itself: its tables decide, the journal only
// disambiguates.
type Side struct {
	// Reached is false for a database that does not answer; the rest is then unknown.
	Reached bool
	Type    NodeType
	Name    string
	// Open: events are taken. Gated: the event tables refuse them for every isolation level.
	Open  bool
	Gated bool
	// Provider is the node its worker reads from; Completed the worker's position, Top the newest tick.
	Provider  string
	Completed int64
	Top       int64
	Paused    bool
	Uptodate  bool
	// Term is the newest term known here, TermRoot who became root with it.
	Term     int64
	TermRoot string
	// Peer tells whether the other node is a subscriber of this one, Gravestone whether as a dead one.
	Peer       bool
	Gravestone bool
	// State is that of this operation's journal here; Op the id of the operation that is open here, whichever it is.
	State OpState
	Op    string
	Final int64 // the final tick, once the journal has it
	Epoch int64 // of the driver
}

// Facts is what a decision is made from.
type Facts struct {
	Old, New Side
	// Rollback: go back if that is still possible. Overdue: writes are refused for longer than allowed.
	Rollback bool
	Overdue  bool
	// Adopt: take on what a tool without journal has left half-finished.
	Adopt bool
	// Unmerged: merge workers of the old root still have a batch in hand, or those of the new root do not yet stand where
	// they do.
	Unmerged bool
}

// ActionKind is what to do next.
type ActionKind string

// The actions. Each is one transaction in one database, or none.
const (
	ActPrepareOld ActionKind = "prepare-old" // open the journal on the old root: the lock against a second operation
	ActPrepareNew ActionKind = "prepare-new"
	ActClose      ActionKind = "close"   // O: refuse writes
	ActFinal      ActionKind = "final"   // O: close the tables themselves, make the final tick
	ActGrant      ActionKind = "grant"   // O: from here on only N may say that the old root opens again
	ActPromote    ActionKind = "promote" // N: open
	ActDemote     ActionKind = "demote"  // O: become a branch of N
	ActResumeOld  ActionKind = "resume-old"
	ActResumeNew  ActionKind = "resume-new"
	ActMarkAbort  ActionKind = "mark-abort" // N: will not open any more
	ActReopen     ActionKind = "reopen"     // O, before the grant: take events again, close the journal
	ActUngrant    ActionKind = "ungrant"    // O, after the grant and the mark on N: the same
	ActEndNew     ActionKind = "end-new"    // N: close the journal as aborted
	ActFenceOld   ActionKind = "fence-old"  // O: it has a lower term and takes events
	ActFenceNew   ActionKind = "fence-new"
	ActFreeOld    ActionKind = "free-old" // O: let the worker go on that a tool without journal has paused
	ActFreeNew    ActionKind = "free-new"
	ActWait       ActionKind = "wait"
	ActStop       ActionKind = "stop" // a person has to look
	ActFinished   ActionKind = "finished"
)

// Action is a decision and its reason, for people.
type Action struct {
	Kind ActionKind
	Why  string
}

// OnOld tells whether the action is a transaction of the old root, OnNew of the new one.
func (k ActionKind) OnOld() bool {
	switch k {
	case ActPrepareOld, ActClose, ActFinal, ActGrant, ActDemote, ActResumeOld, ActReopen, ActUngrant, ActFenceOld, ActFreeOld:
		return true
	}
	return false
}

// OnNew tells whether the action is a transaction of the new root.
func (k ActionKind) OnNew() bool {
	switch k {
	case ActPrepareNew, ActPromote, ActResumeNew, ActMarkAbort, ActEndNew, ActFenceNew, ActFreeNew:
		return true
	}
	return false
}

func act(kind ActionKind, format string, args ...any) Action {
	return Action{Kind: kind, Why: fmt.Sprintf(format, args...)}
}

// Decide tells the next action of a planned switchover from what both databases say now. It knows no clock, no
// connection and no history: whoever calls it next, after a crash of whatever, goes on from the same facts.
//
// Two rows decide between done and rolled back, so that no two drivers can disagree whatever they have read before.
// Until the grant it is the old root's journal: it goes either to granted or to aborted. After the grant it is the new
// root's: it goes either to promoted or to aborting, and the old root opens only after aborting.
func Decide(f Facts) Action {
	end := decideRoles(f)
	switch {
	case end.Kind != ActFinished || !f.Adopt:
		return end
	case f.New.Reached && f.New.Paused:
		return act(ActFreeNew, "%s; a tool without journal has left %s paused", end.Why, f.New.Name)
	case f.Old.Reached && f.Old.Paused:
		return act(ActFreeOld, "%s; a tool without journal has left %s paused", end.Why, f.Old.Name)
	}
	return end
}

func decideRoles(f Facts) Action {
	o, n := f.Old, f.New
	switch {
	case n.Reached && n.Type == Root:
		return decideRoot(f)
	case o.Reached && (o.State == OpAborted || o.State == OpDone):
		return decideOver(f)
	case n.Reached && n.Type == Leaf || o.Reached && o.Type == Leaf:
		return act(ActStop, "a leaf cannot take part: it has no queue")
	case !o.Reached && !n.Reached:
		return act(ActWait, "neither node answers")
	case !o.Reached:
		return act(ActWait, "old root does not answer, and whether it is closed for good is not known")
	case o.Type == Branch && n.Reached:
		return decideTorn(f)
	case o.Type == Branch:
		return act(ActWait, "old root is a branch already; new root does not answer")
	case o.Open:
		return decideOpen(f)
	default:
		return decideClosed(f)
	}
}

// decideRoot: the new root is one. The only way is forward.
func decideRoot(f Facts) Action {
	o, n := f.Old, f.New
	switch {
	case n.State == OpDone && !o.State.Open():
		return act(ActFinished, "%s is root", n.Name)
	case !n.Open:
		return act(ActStop, "new root %s is root and takes no events", n.Name)
	case !o.Reached:
		return act(ActWait, "new root serves; the old one does not answer, its part follows when it returns")
	case o.Type == Root && o.Open && o.Term < n.Term:
		return act(ActFenceOld, "split brain: old root takes events with term %d, the term is %d", o.Term, n.Term)
	case o.Type == Root && o.Open && o.Term > n.Term:
		return act(ActFenceNew, "split brain: new root takes events with term %d, the term is %d", n.Term, o.Term)
	case o.Type == Root && o.Open:
		return act(ActStop, "split brain: both are roots with term %d and take events", o.Term)
	case o.Type == Root && n.Gravestone:
		return act(ActStop, "the cascade went on without %s: it comes back by resurrect", o.Name)
	case o.Type == Root && !n.Peer:
		return act(ActResumeNew, "old root is no subscriber of the new one yet")
	case o.Type == Root:
		return act(ActDemote, "new root serves")
	case o.State.Open():
		return act(ActResumeOld, "old root is a branch")
	case n.State.Open():
		return act(ActResumeNew, "old root is done")
	}
	return act(ActFinished, "%s is root, %s a %s", n.Name, o.Name, o.Type)
}

// decideOver: the old root is done with this operation, whatever has happened to it since.
func decideOver(f Facts) Action {
	o, n := f.Old, f.New
	switch {
	case n.State.Open():
		return act(ActEndNew, "the operation is %s", o.State)
	case !n.Reached:
		return act(ActWait, "the operation is %s; new root does not answer", o.State)
	}
	return act(ActFinished, "the operation is %s", o.State)
}

// decideTorn: both are branches, nobody takes events.
func decideTorn(f Facts) Action {
	o, n := f.Old, f.New
	final := max(o.Final, n.Final)
	switch {
	case !o.State.Open() && !n.State.Open() && !f.Adopt:
		return act(ActFinished, "neither node is root, and no operation is open")
	case n.State == OpAborting || n.State == OpAborted:
		return act(ActStop, "nobody takes events, and %s is told not to", n.Name)
	case n.Top < o.Top || n.Top < final || n.Completed != n.Top:
		return act(ActStop, "nobody takes events: %s has ticks up to %d, %s up to %d, final tick %d", o.Name, o.Top, n.Name, n.Top, final)
	case n.State == OpNone:
		return act(ActPrepareNew, "nobody takes events")
	}
	return act(ActPromote, "nobody takes events; %s has all ticks up to %d", n.Name, n.Top)
}

// decideOpen: the old root takes events.
func decideOpen(f Facts) Action {
	o, n := f.Old, f.New
	switch {
	case o.State == OpPrepared && !f.Rollback && !n.Reached:
		return act(ActWait, "new root does not answer")
	case o.State == OpPrepared && !f.Rollback && n.State == OpNone:
		return act(ActPrepareNew, "old root is ready")
	case o.State == OpPrepared && !f.Rollback && n.State == OpPrepared && f.Unmerged:
		return act(ActWait, "merge workers of the old root have not confirmed their pause")
	case o.State == OpPrepared && !f.Rollback && n.State == OpPrepared:
		return act(ActClose, "both are ready")
	case o.State == OpGranted && !n.Reached:
		return act(ActWait, "new root may open, and does not answer")
	case o.State == OpGranted && n.State == OpPrepared:
		return act(ActMarkAbort, "somebody has opened the old root")
	case o.State == OpGranted:
		return act(ActUngrant, "somebody has opened the old root")
	case o.State.Open():
		// Rolled back on demand, or somebody else has opened the queue: the end is the same.
		return act(ActReopen, "the old root takes events")
	case n.State.Open():
		return act(ActEndNew, "the old root takes events")
	case !n.Reached && o.State != OpNone:
		return act(ActWait, "new root does not answer; the old one takes events")
	}
	return act(ActFinished, "%s is root and takes events", o.Name)
}

// decideClosed: the old root is one and refuses events.
func decideClosed(f Facts) Action {
	o, n := f.Old, f.New
	aborts := n.State == OpAborting || n.State == OpAborted
	switch {
	case o.State == OpNone && !f.Adopt && !f.Rollback:
		return act(ActStop, "%s is closed, and no journal says why", o.Name)
	case o.State == OpGranted && !n.Reached:
		return act(ActWait, "new root may have opened, and does not answer")
	case o.State == OpGranted && aborts:
		return act(ActUngrant, "new root will not open")
	case o.State == OpGranted && f.Rollback:
		return act(ActMarkAbort, "rollback")
	case o.State == OpGranted:
		return act(ActPromote, "new root has the final tick %d", o.Final)
	case f.Rollback || f.Overdue && o.State != OpNone:
		return act(ActReopen, "%s", backReason(f))
	case aborts:
		return act(ActReopen, "new root will not open")
	case o.State == OpNone:
		return act(ActPrepareOld, "the queue is closed, and no journal says why")
	case !n.Reached:
		return act(ActWait, "new root does not answer")
	case n.State == OpNone:
		return act(ActPrepareNew, "old root is closed")
	}
	return decideCaughtUp(f)
}

// decideCaughtUp: the old root is closed, the new one follows.
func decideCaughtUp(f Facts) Action {
	o, n := f.Old, f.New
	switch {
	case o.State == OpPrepared:
		return act(ActClose, "the queue is closed, its worker may not be")
	case o.State == OpClosed:
		return act(ActFinal, "writes are refused")
	case o.Final < o.Top:
		return act(ActFinal, "a tick was made behind the final one")
	case n.Top > o.Final:
		return act(ActReopen, "%s has tick %d, above the final tick %d", n.Name, n.Top, o.Final)
	case n.Completed < o.Final || n.Top < o.Final:
		return act(ActWait, "new root is at tick %d, final tick is %d", min(n.Completed, n.Top), o.Final)
	case f.Unmerged:
		return act(ActWait, "merge workers of the new root are behind")
	}
	return act(ActGrant, "new root has the final tick %d", o.Final)
}

func backReason(f Facts) string {
	if f.Rollback {
		return "rollback"
	}
	return "writes were refused for longer than allowed"
}

// Fence is what a driver holds against the row of a journal.
type Fence struct {
	Op    string // operation
	Epoch int64  // of the driver; a row with another one belongs to another driver
	Final int64  // ActPromote: the tick that the old root has granted
	Term  int64  // ActFenceOld, ActFenceNew: the newest term
}

// Guard tells whether an action may be done in the database that s was read in, in the transaction that will do it and
// under its locks. Between a decision and its transaction anything may have happened, in particular to a driver that
// was frozen: an action that a guard lets pass is right whatever that was.
func Guard(kind ActionKind, by Fence, s Side) error {
	if s.Op != "" && s.Op != by.Op {
		return fmt.Errorf("%w: operation %s is open on %s", ErrBusy, s.Op, s.Name)
	}
	if s.State != OpNone && s.Epoch != by.Epoch {
		return fmt.Errorf("%w: operation %s on %s", ErrDriverLost, by.Op, s.Name)
	}
	if !fits(kind, by, s) {
		return fmt.Errorf("%w: %s does not fit %s %s in state %q", ErrOvertaken, kind, s.Type, s.Name, s.State)
	}
	return nil
}

func fits(kind ActionKind, by Fence, s Side) bool {
	root, closed := s.Type == Root, s.Type == Root && !s.Open
	switch kind {
	case ActPrepareOld:
		return root && s.State == OpNone
	case ActPrepareNew:
		return s.Type == Branch && s.State == OpNone
	case ActClose:
		return root && s.State == OpPrepared
	case ActFinal:
		return closed && (s.State == OpClosed || s.State == OpFinal && s.Top > s.Final)
	case ActGrant:
		return closed && s.Gated && s.State == OpFinal && s.Top == s.Final
	case ActPromote:
		return s.Type == Branch && s.State == OpPrepared && s.Top == by.Final && s.Completed == by.Final
	case ActDemote:
		return closed && s.State != OpDone && s.State != OpAborted
	case ActMarkAbort:
		return s.Type == Branch && s.State == OpPrepared
	case ActReopen:
		return root && (s.State == OpNone || s.State == OpPrepared || s.State == OpClosed || s.State == OpFinal)
	case ActUngrant:
		return root && s.State == OpGranted
	case ActEndNew:
		return s.Type == Branch && s.State.Open()
	case ActResumeOld:
		return s.Type == Branch && s.State.Open()
	case ActResumeNew:
		return root && s.Open
	case ActFenceOld, ActFenceNew:
		return root && s.Term < by.Term
	case ActFreeOld, ActFreeNew:
		return s.Paused && !s.State.Open()
	}
	return false
}
