package cascade_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/skytools/skyd/cascade"
)

// TestWorkerPlan is the table of roles, line by line.
func TestWorkerPlan(t *testing.T) {
	t.Parallel()
	sync := cascade.FormatAttrs(map[string]string{cascade.AttrSyncWatermark: "a,b"})
	for name, c := range map[string]struct {
		state cascade.WorkerState
		want  cascade.Plan
	}{
		"root": {cascade.WorkerState{Type: cascade.Root}, cascade.Plan{PublishMark: true}},
		"branch": {cascade.WorkerState{Type: cascade.Branch}, cascade.Plan{
			Read: true, Apply: true, Copy: cascade.SameIDs, Target: "q", Tick: true, TakeTickID: true,
			Mark: cascade.MoveMark, Report: cascade.ReportLocal,
		}},
		"branch with sync_watermark": {cascade.WorkerState{Type: cascade.Branch, Attrs: sync}, cascade.Plan{
			Read: true, Apply: true, Copy: cascade.SameIDs, Target: "q", Tick: true, TakeTickID: true,
			Mark: cascade.RememberMark, Report: cascade.ReportPrevious, SyncNodes: []string{"a", "b"},
		}},
		"leaf": {cascade.WorkerState{Type: cascade.Leaf}, cascade.Plan{Read: true, Apply: true, Report: cascade.ReportLocal}},
		"leaf with sync_watermark": {
			cascade.WorkerState{Type: cascade.Leaf, Attrs: sync},
			cascade.Plan{Read: true, Apply: true, Report: cascade.ReportLocal},
		},
		"merge leaf to a combined root": {
			cascade.WorkerState{Type: cascade.Leaf, CombinedQueue: "c", CombinedType: cascade.Root},
			cascade.Plan{
				Read: true, Apply: true, Copy: cascade.NewIDs, Target: "c", SendTickID: true, Report: cascade.ReportLocal,
			},
		},
		"merge leaf to a combined branch": {
			cascade.WorkerState{Type: cascade.Leaf, CombinedQueue: "c", CombinedType: cascade.Branch},
			cascade.Plan{Read: true, WaitBehind: true, Report: cascade.ReportLocal},
		},
	} {
		got, err := cascade.WorkerPlan("q", c.state)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, c.want)
		}
	}
	for _, s := range []cascade.WorkerState{
		{},
		{Type: "trunk"},
		{Type: cascade.Root, CombinedQueue: "c", CombinedType: cascade.Root},
		{Type: cascade.Branch, CombinedQueue: "c", CombinedType: cascade.Branch},
		{Type: cascade.Leaf, CombinedQueue: "c", CombinedType: cascade.Leaf},
	} {
		if _, err := cascade.WorkerPlan("q", s); !errors.Is(err, cascade.ErrBadRole) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestJudge is the table of crash points: what is in the target when the provider offers the batch 5..7.
func TestJudge(t *testing.T) {
	t.Parallel()
	branch := cascade.Plan{Read: true, Copy: cascade.SameIDs, Tick: true}
	leaf := cascade.Plan{Read: true}
	merge := cascade.Plan{Read: true, Copy: cascade.NewIDs}
	behind := cascade.Plan{Read: true, WaitBehind: true}
	for name, c := range map[string]struct {
		plan           cascade.Plan
		completed, top int64
		want           cascade.Verdict
		lost           bool
	}{
		"branch, nothing done":                          {branch, 5, 5, cascade.TakeBatch, false},
		"branch, events in":                             {branch, 7, 5, cascade.WriteTick, false},
		"branch, tick in":                               {branch, 7, 7, cascade.FinishBatch, false},
		"branch, tick before is missing":                {branch, 5, 4, cascade.FetchTick, false},
		"branch, tick and the one before missing":       {branch, 7, 4, cascade.FetchTick, false},
		"branch, tick without events":                   {branch, 5, 7, 0, true},
		"branch, foreign tick":                          {branch, 7, 6, 0, true},
		"branch, ahead":                                 {branch, 9, 9, 0, true},
		"branch, behind":                                {branch, 4, 4, 0, true},
		"leaf, nothing done":                            {leaf, 5, 0, cascade.TakeBatch, false},
		"leaf, done":                                    {leaf, 7, 0, cascade.FinishBatch, false},
		"leaf, ahead":                                   {leaf, 8, 0, 0, true},
		"leaf, behind":                                  {leaf, 4, 0, 0, true},
		"merge leaf, nothing done":                      {merge, 5, 0, cascade.TakeBatch, false},
		"merge leaf, brought by the combined queue":     {merge, 9, 0, cascade.FinishBatch, false},
		"merge leaf, behind":                            {merge, 4, 0, 0, true},
		"waits behind, brought":                         {behind, 7, 0, cascade.TakeBatch, false},
		"waits behind, brought long ago":                {behind, 70, 0, cascade.TakeBatch, false},
		"waits behind, not brought":                     {behind, 5, 0, cascade.WaitForTarget, false},
		"waits behind, source is ahead by some batches": {behind, 2, 0, cascade.WaitForTarget, false},
	} {
		got, err := c.plan.Judge(5, 7, c.completed, c.top)
		if got != c.want || errors.Is(err, cascade.ErrPositionLost) != c.lost {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}
