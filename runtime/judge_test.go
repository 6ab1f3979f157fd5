package runtime

import (
	"slices"
	"testing"
	"time"

	"github.com/skytools/skyd/messages"
)

func TestJudge_LevelsOfAQueue(t *testing.T) {
	t.Parallel()
	limits := Limits{Warning: time.Minute, Critical: time.Hour}
	for _, c := range []struct {
		q    messages.QueueStatus
		want Severity
	}{
		{messages.QueueStatus{LagSeconds: 59}, OK},
		{messages.QueueStatus{LagSeconds: 61}, Warning},
		{messages.QueueStatus{LagSeconds: 3601, LastError: "x"}, Critical},
		{messages.QueueStatus{LagSeconds: 3601, Paused: true}, OK},
		{messages.QueueStatus{LagSeconds: 3601, External: true}, OK},
		{messages.QueueStatus{LastError: "x"}, Warning},
		{messages.QueueStatus{RotationBlocker: "c", External: true}, Warning},
	} {
		if got := Judge(Status{Queues: []messages.QueueStatus{c.q}}, limits); len(got) != 1 || got[0].Severity != c.want || Worst(got) != c.want {
			t.Errorf("%+v: got %+v", c.q, got)
		}
	}
	s := Status{
		Now: time.Now(), Config: messages.ConfigStatus{LastError: "x"},
		Actors: []messages.ActorStatus{{Path: "a", State: messages.Failed}, {Path: "b", State: messages.Running}},
	}
	if got := Judge(s, limits); Worst(got) != Critical || got[0].Severity != Critical || got[1].Severity != OK || got[2].Severity != Warning {
		t.Errorf("got %+v", got)
	}
	leaked := Status{Workers: []messages.WorkerStatus{{Database: "d", Queue: "q", Consumer: "c", Leaked: 1}}}
	if got := Judge(leaked, limits); len(got) != 1 || got[0].Name != "handlers/d/q/c" || got[0].Severity != Warning {
		t.Errorf("a leaked handler: got %+v", got)
	}
}

// The actor of a consumer runs whenever a batch is open, also when each of them fails: its batches tell.
func TestHealth_WorkerWhoseBatchesFail(t *testing.T) {
	t.Parallel()
	status := func(fails int) Status {
		return Status{
			Now: time.Now(),
			Actors: []messages.ActorStatus{
				{Path: "database/d/consumer/a%2Fq/c", Kind: "consumer", Database: "d", State: messages.Running, LastError: "boom"},
				{Path: "database/d/consumer/q/g", Kind: "consumer", Database: "d", State: messages.Running},
				{Path: "database/d/consumer/q/g/sub/2", Kind: "subconsumer", Database: "d", State: messages.Running},
			},
			Workers: []messages.WorkerStatus{
				{Database: "d", Queue: "a/q", Consumer: "c", Fails: fails}, {Database: "d", Queue: "q", Consumer: "g", Member: 2, Fails: fails},
			},
		}
	}
	for fails, want := range map[int][]Check{
		flapping - 1: {
			{Name: "consumer/d/a%2Fq/c", OK: true, Text: "running"},
			{Name: "consumer/d/q/g", OK: true, Text: "running"},
			{Name: "subconsumer/d/q/g/2", OK: true, Text: "running"},
		},
		flapping: {
			{Name: "consumer/d/a%2Fq/c", Text: "running, failed 3 times in a row: boom"},
			{Name: "consumer/d/q/g", OK: true, Text: "running"},
			{Name: "subconsumer/d/q/g/2", Text: "running, failed 3 times in a row"},
		},
	} {
		if got := Health(status(fails)); !slices.Equal(got, want) {
			t.Errorf("%d failures: got %+v, want %+v", fails, got, want)
		}
	}
	for wanted, want := range map[string]bool{
		"consumer/c": true, "consumer/d": true, "consumer/d/a%2Fq": true, "consumer/d/a%2Fq/c": true, "consumer/a%2Fq/c": true,
		"consumer": true, "subconsumer/d": false, "consumer/q/c": false, "consumer/x": false, "sumer/c": false,
	} {
		if got := selects(wanted, "consumer/d/a%2Fq/c"); got != want {
			t.Errorf("%s: got %v", wanted, got)
		}
	}
}
