package actors

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skytools/skyd/messages"
)

func TestOperations_KeepsWhatMatters(t *testing.T) {
	t.Parallel()
	var s operations
	start := time.Now()
	note := func(id int64, state messages.OperationState, routine bool, took time.Duration) {
		m := messages.Operation{ID: id, State: state, Routine: routine, Started: start}
		if state != messages.OperationRuns {
			m.Ended = start.Add(took)
		}
		s.note(m)
	}
	note(1, messages.OperationRuns, true, 0)
	note(2, messages.OperationDone, true, routineLimit-1) // went well at once
	note(3, messages.OperationDone, true, routineLimit)
	note(4, messages.OperationFailed, true, 0)
	note(5, messages.OperationDone, false, 0)
	var ids []int64
	for _, m := range s.list() {
		ids = append(ids, m.ID)
	}
	if fmt.Sprint(ids) != "[1 3 4 5]" {
		t.Errorf("got %v", ids)
	}
	for id := int64(10); id < 10+2*keptOperations; id++ {
		note(id, messages.OperationDone, false, 0)
	}
	list := s.list()
	if len(list) != keptOperations+1 || list[0].ID != 1 || list[1].ID != 10+keptOperations {
		t.Errorf("%d are kept, from %d and %d on; what runs is never forgotten", len(list), list[0].ID, list[1].ID)
	}
}

func TestOperation_FirstEndCounts(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]messages.Operation{
		nil:                  {State: messages.OperationDone},
		errors.New("no"):     {State: messages.OperationFailed, Error: "no"},
		context.Canceled:     {State: messages.OperationFailed, Error: "was stopped before its end"},
		errors.Join(errLost): {State: messages.OperationFailed, Error: errLost.Error()},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := NewOperations(newSystem(t)).Begin("reload", "", "")
			p.Step("one")
			p.End(err)
			p.End(errUnended)
			if p.last.State != want.State || p.last.Error != want.Error || p.last.Ended.IsZero() || p.ID() != 1 {
				t.Errorf("%v: got %+v", err, p.last)
			}
		})
	}
	var nobody *Operations
	p := nobody.Routine("maintenance", "", "")
	p.Step("x")
	p.End(nil)
	if p.ID() != 0 {
		t.Error("nobody gave a number")
	}
}
