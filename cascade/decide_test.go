package cascade

import (
	"slices"
	"testing"
)

// closedRoot is an old root in the given state of the operation, branch a new one.
func closedRoot(state OpState, top, final int64) Side {
	return Side{Reached: true, Type: Root, Name: "o", Provider: "o", Top: top, Final: final, Gated: final > 0, State: state, Op: "op"}
}

func openRoot(name string, state OpState, term int64) Side {
	return Side{Reached: true, Type: Root, Name: name, Provider: name, Open: true, Top: 9, Completed: 9, Term: term, State: state}
}

func branch(name string, state OpState, top int64) Side {
	return Side{Reached: true, Type: Branch, Name: name, Provider: "o", Gated: true, Top: top, Completed: top, State: state}
}

func TestDecide_EveryRowOfTheTable(t *testing.T) {
	t.Parallel()
	away := Side{}
	demoted := branch("o", OpDemoted, 9)
	demoted.Provider = "n"
	peered := openRoot("n", OpPromoted, 2)
	peered.Peer = true
	grave := openRoot("n", OpDone, 2)
	grave.State, grave.Gravestone = OpNone, true
	for _, c := range []struct {
		name string
		f    Facts
		want ActionKind
	}{
		// root open, branch closed
		{"fresh", Facts{Old: openRoot("o", OpPrepared, 0), New: branch("n", OpNone, 9)}, ActPrepareNew},
		{"both ready", Facts{Old: openRoot("o", OpPrepared, 0), New: branch("n", OpPrepared, 9)}, ActClose},
		{"undo of S1", Facts{Old: openRoot("o", OpPrepared, 0), New: branch("n", OpPrepared, 9), Rollback: true}, ActReopen},
		{"S1, new root away", Facts{Old: openRoot("o", OpPrepared, 0), New: away}, ActWait},
		{"S1, new root away, back", Facts{Old: openRoot("o", OpPrepared, 0), New: away, Rollback: true}, ActReopen},
		{"rolled back, new root not told", Facts{Old: openRoot("o", OpAborted, 0), New: branch("n", OpPrepared, 9)}, ActEndNew},
		{"rolled back", Facts{Old: openRoot("o", OpAborted, 0), New: branch("n", OpAborted, 9)}, ActFinished},
		{"opened by somebody after the close", Facts{Old: openRoot("o", OpClosed, 0), New: branch("n", OpPrepared, 9)}, ActReopen},
		{"opened by somebody after the grant", Facts{Old: openRoot("o", OpGranted, 0), New: branch("n", OpPrepared, 9)}, ActMarkAbort},
		{"the same, the new root told", Facts{Old: openRoot("o", OpGranted, 0), New: branch("n", OpAborting, 9)}, ActUngrant},
		// root closed, branch closed
		{"S2", Facts{Old: closedRoot(OpClosed, 8, 0), New: branch("n", OpPrepared, 8)}, ActFinal},
		{"S2 late", Facts{Old: closedRoot(OpClosed, 8, 0), New: branch("n", OpPrepared, 8), Overdue: true}, ActReopen},
		{"S3 behind", Facts{Old: closedRoot(OpFinal, 9, 9), New: branch("n", OpPrepared, 8)}, ActWait},
		{"S3 late", Facts{Old: closedRoot(OpFinal, 9, 9), New: branch("n", OpPrepared, 8), Overdue: true}, ActReopen},
		{"S3 late, new root away", Facts{Old: closedRoot(OpFinal, 9, 9), New: away, Overdue: true}, ActReopen},
		{"S3 caught up", Facts{Old: closedRoot(OpFinal, 9, 9), New: branch("n", OpPrepared, 9)}, ActGrant},
		{"S3 merge workers behind", Facts{Old: closedRoot(OpFinal, 9, 9), New: branch("n", OpPrepared, 9), Unmerged: true}, ActWait},
		{"a tick behind the final one", Facts{Old: closedRoot(OpFinal, 10, 9), New: branch("n", OpPrepared, 9)}, ActFinal},
		{"new root has a tick the old one lacks", Facts{Old: closedRoot(OpFinal, 9, 9), New: branch("n", OpPrepared, 10)}, ActReopen},
		{"S4", Facts{Old: closedRoot(OpGranted, 9, 9), New: branch("n", OpPrepared, 9)}, ActPromote},
		{"S4 late goes forward", Facts{Old: closedRoot(OpGranted, 9, 9), New: branch("n", OpPrepared, 9), Overdue: true}, ActPromote},
		{"S4 back", Facts{Old: closedRoot(OpGranted, 9, 9), New: branch("n", OpPrepared, 9), Rollback: true}, ActMarkAbort},
		{"S4 back, told", Facts{Old: closedRoot(OpGranted, 9, 9), New: branch("n", OpAborting, 9)}, ActUngrant},
		{"S4, new root away: it may have opened", Facts{Old: closedRoot(OpGranted, 9, 9), New: away, Rollback: true, Overdue: true}, ActWait},
		// the reference's tools, without journal
		{"closed by another tool", Facts{Old: closedRoot(OpNone, 9, 0), New: branch("n", OpNone, 9)}, ActStop},
		{"closed by another tool, resume", Facts{Old: closedRoot(OpNone, 9, 0), New: branch("n", OpNone, 9), Adopt: true}, ActPrepareOld},
		{"closed by another tool, rollback", Facts{Old: closedRoot(OpNone, 9, 0), New: branch("n", OpNone, 9), Rollback: true}, ActReopen},
		{"promoted by another tool", Facts{Old: closedRoot(OpNone, 9, 0), New: openRoot("n", OpNone, 0), Adopt: true}, ActResumeNew},
		// new root open
		{"S5", Facts{Old: closedRoot(OpGranted, 9, 9), New: peered}, ActDemote},
		{"S5 rollback is too late", Facts{Old: closedRoot(OpGranted, 9, 9), New: peered, Rollback: true}, ActDemote},
		{"S5, old root away", Facts{Old: away, New: peered}, ActWait},
		{"S6", Facts{Old: demoted, New: peered}, ActResumeOld},
		{"S7", Facts{Old: Side{Reached: true, Type: Branch, Provider: "n", State: OpDone}, New: peered}, ActResumeNew},
		{"S8", Facts{Old: Side{Reached: true, Type: Branch, Provider: "n", State: OpDone}, New: openRoot("n", OpDone, 2)}, ActFinished},
		// two roots
		{"split brain, old one stale", Facts{Old: openRoot("o", OpNone, 1), New: openRoot("n", OpNone, 2)}, ActFenceOld},
		{"split brain, new one stale", Facts{Old: openRoot("o", OpNone, 3), New: openRoot("n", OpNone, 2)}, ActFenceNew},
		{"split brain, equal terms", Facts{Old: openRoot("o", OpNone, 2), New: openRoot("n", OpNone, 2)}, ActStop},
		{"gone on without the old root", Facts{Old: closedRoot(OpNone, 9, 0), New: grave}, ActStop},
		// nobody open
		{"torn", Facts{Old: branch("o", OpGranted, 9), New: branch("n", OpPrepared, 9)}, ActPromote},
		{"torn, behind", Facts{Old: branch("o", OpGranted, 9), New: branch("n", OpPrepared, 8)}, ActStop},
		// nobody there
		{"neither", Facts{Old: away, New: away}, ActWait},
		{"old root away", Facts{Old: away, New: branch("n", OpPrepared, 9)}, ActWait},
		{"leaf", Facts{Old: openRoot("o", OpPrepared, 0), New: Side{Reached: true, Type: Leaf}}, ActStop},
	} {
		if got := Decide(c.f); got.Kind != c.want || got.Why == "" {
			t.Errorf("%s: got %s (%s), want %s", c.name, got.Kind, got.Why, c.want)
		}
	}
}

// What a guard lets pass is right whenever it comes: the commit points belong to one row each.
func TestGuard_CommitPointsBelongToOneRow(t *testing.T) {
	t.Parallel()
	by := Fence{Op: "op", Final: 9, Term: 2}
	for _, c := range []struct {
		name string
		kind ActionKind
		s    Side
		ok   bool
	}{
		{"grant after abort", ActGrant, closedRoot(OpAborted, 9, 9), false},
		{"reopen after grant", ActReopen, closedRoot(OpGranted, 9, 9), false},
		{"ungrant", ActUngrant, closedRoot(OpGranted, 9, 9), true},
		{"ungrant before the grant", ActUngrant, closedRoot(OpFinal, 9, 9), false},
		{"promote after the mark", ActPromote, branch("n", OpAborting, 9), false},
		{"mark after promotion", ActMarkAbort, openRoot("n", OpPromoted, 2), false},
		{"promote behind", ActPromote, branch("n", OpPrepared, 8), false},
		{"promote", ActPromote, branch("n", OpPrepared, 9), true},
		{"grant with a tick behind", ActGrant, closedRoot(OpFinal, 10, 9), false},
		{"second final tick", ActFinal, closedRoot(OpFinal, 9, 9), false},
		{"demote an open root", ActDemote, openRoot("o", OpNone, 1), false},
		{"fence the newest term", ActFenceOld, openRoot("o", OpNone, 2), false},
		{"another operation", ActReopen, Side{Type: Root, Op: "other"}, false},
		{"another driver", ActReopen, Side{Type: Root, Op: "op", State: OpClosed, Epoch: 7}, false},
	} {
		if err := Guard(c.kind, by, c.s); (err == nil) != c.ok {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestMostAdvanced_TheHighestTickThenTheWantedThenTheName(t *testing.T) {
	t.Parallel()
	a, b, n, l := candidate{"a", Branch, 9}, candidate{"b", Branch, 9}, candidate{"n", Branch, 7}, candidate{"l", Leaf, 11}
	for _, c := range []struct {
		all    []candidate
		wanted string
		best   string
		ahead  []string
	}{
		{[]candidate{n, b}, "n", "b", nil},
		{[]candidate{n, b, l}, "n", "b", []string{"l"}},
		{[]candidate{b, a}, "b", "b", nil},
		{[]candidate{b, a}, "n", "a", nil},
		{[]candidate{l}, "l", "", []string{"l"}},
	} {
		if best, ahead := mostAdvanced(c.all, c.wanted); best.name != c.best || !slices.Equal(ahead, c.ahead) {
			t.Errorf("%v, wanted %s: got %s, ahead %v", c.all, c.wanted, best.name, ahead)
		}
	}
}
