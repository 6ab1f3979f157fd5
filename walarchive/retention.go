package walarchive

import (
	"slices"
	"time"
)

// Retention says what expire keeps. With neither Keep nor Window nothing is ever removed.
type Retention struct {
	// Keep is the number of newest good backups to keep; 0: no rule.
	Keep int `koanf:"keep"`
	// Window is how far back every moment must be restorable; 0: no rule.
	Window time.Duration `koanf:"window"`
	// Min is the number of good backups that are kept in any case.
	Min int `koanf:"min"`
	// OldSystems lets the last backup of a cluster go that was followed by another one (after an upgrade or initdb).
	OldSystems bool `koanf:"-"`
}

// Reasons to keep a backup.
const (
	KeptCount  = "count"      // among the newest
	KeptWindow = "window"     // inside of the window, or the one before its begin
	KeptHeld   = "held"       // by hold
	KeptLast   = "last"       // the newest good one of its cluster
	KeptBad    = "unreviewed" // has bad pages: nobody decided yet which backups are good
)

// KeepPlan says what expire keeps and what it removes.
type KeepPlan struct {
	// Kept are the reasons to keep backups by id.
	Kept map[string][]string
	// Remove are the backups that go, oldest first.
	Remove []*Backup
	// WAL says for each cluster which WAL goes; a cluster without an entry keeps all.
	WAL map[uint64]WALKeep
}

// WALKeep is the WAL of a cluster that stays.
type WALKeep struct {
	// From is the start of the oldest backup from which every later moment can be restored: recovery from there never
	// reads anything before, on whatever timeline.
	From LSN
	// Ranges are the start and stop of held backups before From.
	Ranges []walRun
}

// needs tells whether the WAL between two positions has to stay.
func (k WALKeep) needs(from, to LSN) bool {
	if to > k.From {
		return true
	}
	return slices.ContainsFunc(k.Ranges, func(r walRun) bool { return from < r.to && to > r.from })
}

// PlanKeep decides which of the complete backups stay. It knows nothing but its arguments; histories are those of the
// timelines of each cluster.
func PlanKeep(all []*Backup, histories map[uint64]map[uint32]History, rule Retention, now time.Time) KeepPlan {
	plan := KeepPlan{Kept: map[string][]string{}, WAL: map[uint64]WALKeep{}}
	all = slices.Clone(all)
	slices.SortStableFunc(all, olderBackup)
	systems := map[uint64][]*Backup{}
	for _, b := range all {
		systems[b.System] = append(systems[b.System], b)
	}
	newest := newestSystem(all)
	for system, list := range systems {
		if rule.Keep == 0 && rule.Window == 0 {
			for _, b := range list {
				plan.keep(b, KeptCount)
			}
			continue
		}
		plan.count(list, max(rule.Keep, rule.Min), system == newest)
		plan.window(list, histories[system], rule.Window, now)
		if last := lastGood(list); last != nil && (system == newest || !rule.OldSystems) {
			plan.keep(last, KeptLast)
		}
		plan.bad(list)
		plan.wal(system, list)
		for _, b := range list {
			if b.Held {
				plan.keep(b, KeptHeld)
			}
		}
	}
	for _, b := range all {
		if len(plan.Kept[b.ID]) == 0 {
			plan.Remove = append(plan.Remove, b)
		}
	}
	return plan
}

// newestSystem is the cluster with the newest backup.
func newestSystem(all []*Backup) uint64 {
	if len(all) == 0 {
		return 0
	}
	return slices.MaxFunc(all, func(a, b *Backup) int { return a.StopTime.Compare(b.StopTime) }).System
}

// keep notes a reason.
func (p *KeepPlan) keep(b *Backup, why string) {
	if !slices.Contains(p.Kept[b.ID], why) {
		p.Kept[b.ID] = append(p.Kept[b.ID], why)
	}
}

// count keeps the newest good backups of the current cluster.
func (p *KeepPlan) count(list []*Backup, n int, current bool) {
	if !current {
		return
	}
	for _, b := range slices.Backward(list) {
		if n == 0 {
			return
		}
		if len(b.BadPages) == 0 {
			p.keep(b, KeptCount)
			n--
		}
	}
}

// window keeps what every moment of the window needs: the backups that end inside of it, and the newest good one that
// ends before it begins, of every line that the cluster may have gone on with.
func (p *KeepPlan) window(list []*Backup, histories map[uint32]History, window time.Duration, now time.Time) {
	if window == 0 {
		return
	}
	begin := now.Add(-window)
	var lines []*Backup // newest first, one of each line
	for _, b := range slices.Backward(list) {
		if b.StopTime.After(begin) {
			p.keep(b, KeptWindow)
			continue
		}
		followed := func(o *Backup) bool { return comesFrom(histories, o.Timeline, b.Timeline) }
		if len(b.BadPages) == 0 && !slices.ContainsFunc(lines, followed) {
			lines = append(lines, b)
			p.keep(b, KeptWindow)
		}
	}
}

// comesFrom tells whether a timeline is another one, or a descendant of it.
func comesFrom(histories map[uint32]History, timeline, ancestor uint32) bool {
	return timeline == ancestor || slices.ContainsFunc(histories[timeline], func(b Branch) bool { return b.Timeline == ancestor })
}

// lastGood is the newest backup without bad pages.
func lastGood(list []*Backup) *Backup {
	for _, b := range slices.Backward(list) {
		if len(b.BadPages) == 0 {
			return b
		}
	}
	return nil
}

// bad keeps backups with bad pages as long as older ones are kept, and the newest good one beside them.
func (p *KeepPlan) bad(list []*Backup) {
	older := false
	for _, b := range list {
		if len(b.BadPages) > 0 && older {
			p.keep(b, KeptBad)
		}
		older = older || len(p.Kept[b.ID]) > 0
	}
}

// wal finds the WAL that stays: from the oldest kept backup on, and that of the held ones. It is called before holds are
// noted: a backup that is only held needs no more than its own WAL.
func (p *KeepPlan) wal(system uint64, list []*Backup) {
	keep := WALKeep{}
	first := true
	for _, b := range list {
		if len(p.Kept[b.ID]) > 0 && (first || b.StartLSN < keep.From) {
			keep.From, first = b.StartLSN, false
		}
	}
	if first {
		// Nothing but held backups, or none at all: what they need is not told apart from what comes after them.
		if i := slices.IndexFunc(list, func(b *Backup) bool { return b.Held }); i >= 0 {
			keep.From, first = list[i].StartLSN, false
			for _, b := range list {
				if b.Held {
					keep.From = min(keep.From, b.StartLSN)
				}
			}
		}
	}
	if first {
		return // old system of which nothing stays: its WAL goes with a later rule, never by guess
	}
	for _, b := range list {
		if b.Held && b.StartLSN < keep.From {
			keep.Ranges = append(keep.Ranges, walRun{from: b.StartLSN, to: b.StopLSN})
		}
	}
	p.WAL[system] = keep
}

// Removes tells whether some of the WAL between two positions of a cluster goes.
func (p KeepPlan) Removes(system uint64, from, to LSN) bool {
	k, ok := p.WAL[system]
	return ok && !k.holds(from, to)
}

// holds tells whether all WAL between two positions stays.
func (k WALKeep) holds(from, to LSN) bool {
	return from >= k.From || slices.ContainsFunc(k.Ranges, func(r walRun) bool { return from >= r.from && to <= r.to })
}
