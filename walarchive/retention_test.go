package walarchive_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
)

// TestPlanKeep_Model plays random histories of one cluster: backups of all sorts, failovers, holds. Whatever the rules
// are: what is kept can be restored, and every moment of the window that could be restored before still can.
func TestPlanKeep_Model(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		all, histories, byTime := randomCluster(rnd, now)
		rule := walarchive.Retention{Keep: rnd.IntN(4), Min: rnd.IntN(3)}
		if rnd.IntN(2) == 0 {
			rule.Window = time.Duration(rnd.IntN(60)) * time.Hour
		}
		plan := walarchive.PlanKeep(all, map[uint64]map[uint32]walarchive.History{1: histories}, rule, now)
		fail := func(format string, args ...any) {
			t.Errorf("seed %d, %+v: %s", seed, rule, fmt.Sprintf(format, args...))
		}
		kept := func(b *walarchive.Backup) bool { return len(plan.Kept[b.ID]) > 0 }
		if rule.Keep == 0 && rule.Window == 0 && len(plan.Remove) > 0 {
			fail("removes %d backups without a rule", len(plan.Remove))
		}
		good := 0
		for _, b := range all {
			if b.Held && !kept(b) {
				fail("held backup %s goes", b.ID)
			}
			if kept(b) && plan.Removes(1, b.StartLSN, b.StopLSN) {
				fail("the WAL %s to %s of kept backup %s goes", b.StartLSN, b.StopLSN, b.ID)
			}
			if kept(b) && len(b.BadPages) == 0 {
				good++
			}
		}
		have := len(slices.DeleteFunc(slices.Clone(all), func(b *walarchive.Backup) bool { return len(b.BadPages) > 0 }))
		if want := min(have, max(rule.Keep, rule.Min, 1)); good < want {
			fail("keeps %d good backups of %d, want at least %d", good, have, want)
		}
		if rule.Window == 0 {
			continue
		}
		for at := now.Add(-rule.Window); !at.After(now); at = at.Add(time.Hour) {
			before := restorable(all, byTime, at, func(*walarchive.Backup) bool { return true })
			after := restorable(all, byTime, at, kept)
			if before != nil && after == nil {
				fail("%s could be restored, and cannot any more", at)
			}
			if after != nil && plan.Removes(1, after.StartLSN, byTime(at)) {
				fail("the WAL from backup %s to %s goes", after.ID, at)
			}
		}
	}
}

// restorable finds a good backup from which a moment can be restored.
func restorable(all []*walarchive.Backup, byTime func(time.Time) walarchive.LSN, at time.Time, usable func(*walarchive.Backup) bool) *walarchive.Backup {
	for _, b := range slices.Backward(all) {
		if usable(b) && len(b.BadPages) == 0 && !b.StopTime.After(at) && b.StopLSN <= byTime(at) {
			return b
		}
	}
	return nil
}

// randomCluster makes a cluster of 100 hours: WAL flows with the time, backups come at random, every failover begins a
// new timeline on which the cluster goes on.
func randomCluster(rnd *rand.Rand, now time.Time) ([]*walarchive.Backup, map[uint32]walarchive.History, func(time.Time) walarchive.LSN) {
	begin := now.Add(-100 * time.Hour)
	byTime := func(at time.Time) walarchive.LSN { return walarchive.LSN(at.Sub(begin)/time.Second) << 10 }
	histories := map[uint32]walarchive.History{}
	tli := uint32(1)
	var path walarchive.History
	var all []*walarchive.Backup
	for at := begin; at.Before(now); at = at.Add(time.Duration(1+rnd.IntN(300)) * time.Minute) {
		if rnd.IntN(10) == 0 {
			path = append(slices.Clone(path), walarchive.Branch{Timeline: tli, Until: byTime(at)})
			tli++
			histories[tli] = path
			continue
		}
		stop := at.Add(time.Duration(rnd.IntN(20)) * time.Minute)
		b := &walarchive.Backup{
			ID: fmt.Sprintf("b%03d", len(all)), System: 1, State: walarchive.BackupComplete, Timeline: tli,
			StartLSN: byTime(at), StopLSN: byTime(stop), StopTime: stop, Held: rnd.IntN(12) == 0, SegmentSize: 1 << 20,
		}
		if rnd.IntN(8) == 0 {
			b.BadPages = []walarchive.BadPage{{Path: "base/1/1"}}
		}
		all = append(all, b)
		at = stop
	}
	return all, histories, byTime
}
