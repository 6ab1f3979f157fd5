// Package simulation runs the delivery protocol on a model: a database with transactions, snapshots and locks, ticks,
// rotation, subscriptions, groups, leases and a target with pgq_ext, in virtual time, with crashes, freezes and lost
// answers between any two steps. The auditor judges. A seed decides everything, so that what fails once fails always.
// Mutants of the protocol show that it can fail. The model follows the SQL by hand; that the SQL does what the model
// does is proven by the tests of pgqsql and by the kill tests of e2e.
package simulation

import (
	"flag"
	"testing"
)

var (
	seedFlag  = flag.Uint64("simulation.seed", 0, "run this seed only")
	seedsFlag = flag.Uint64("simulation.seeds", 1000, "how many seeds")
)

func TestSimulation_EverySeedKeepsThePromises(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), *seedsFlag
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	events := 0
	for seed := first; seed <= last; seed++ {
		w, err := simulate(seed, none)
		if err != nil {
			t.Fatalf("%v\nreplay: go test ./e2e/simulation -run EverySeed -simulation.seed=%d", err, seed)
		}
		events += w.auditor.Produced()
	}
	t.Logf("%d seeds, %d events", last-first+1, events)
}

func TestSimulation_SameSeedSameRun(t *testing.T) {
	t.Parallel()
	a, errA := simulate(7, none)
	b, errB := simulate(7, none)
	if errA != nil || errB != nil || a.now != b.now || a.q.xid != b.q.xid || a.q.batchID != b.q.batchID || a.q.events != b.q.events {
		t.Errorf("two runs of a seed differ: %v %v, time %d %d, xid %d %d, batch %d %d, event %d %d", errA, errB,
			a.now, b.now, a.q.xid, b.q.xid, a.q.batchID, b.q.batchID, a.q.events, b.q.events)
	}
}

func TestSimulation_KillsEveryMutant(t *testing.T) {
	t.Parallel()
	for _, m := range []mutant{
		insertLateXid, insertNoPin, tickSnapshotEarly, tickNoLock, rotateOneStep, rotateOverConsumer, rotateOverMembers,
		readCurrentTable, tickByXmax, finishIgnored, finishApart, openBlind, noFence, fenceUnlocked, leaseSameEpoch,
		coopSameID, coopLosesBatch, remoteNoTag, remoteNotOpen,
	} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= *seedsFlag; seed++ {
				if _, err := simulate(seed, m); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Errorf("survived %d seeds", *seedsFlag)
		})
	}
}
