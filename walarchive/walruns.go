package walarchive

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// walRun is a stretch of WAL of one timeline without a hole.
type walRun struct{ from, to LSN }

// walRuns lists the stretches of whole segments that the archive holds of a timeline, in order.
func (r *Repo) walRuns(ctx context.Context, system uint64, timeline, size uint32) ([]walRun, error) {
	var runs []walRun
	for o, err := range r.List(ctx, r.TimelinePrefix(system, timeline), "") {
		if err != nil {
			return nil, fmt.Errorf("list timeline %d: %w", timeline, err)
		}
		name, ok := SegmentOfKey(o.Key)
		if !ok {
			continue
		}
		at, err := SegmentStart(name, size)
		if err != nil {
			return nil, err
		}
		if n := len(runs); n > 0 && runs[n-1].to == at {
			runs[n-1].to += LSN(size)
			continue
		}
		runs = append(runs, walRun{from: at, to: at + LSN(size)})
	}
	return runs, nil
}

// covers tells whether a segment is in the runs.
func covers(runs []walRun, at LSN) bool {
	_, ok := slices.BinarySearchFunc(runs, at, func(r walRun, at LSN) int {
		switch {
		case r.to <= at:
			return -1
		case r.from > at:
			return 1
		}
		return 0
	})
	return ok
}

// WALHole is WAL that is missing in the archive while later WAL is there.
type WALHole struct {
	Timeline uint32 `json:"timeline"`
	From     LSN    `json:"from_lsn"`
	To       LSN    `json:"to_lsn"`
	// First and Last are the missing segments.
	First string `json:"first_segment"`
	Last  string `json:"last_segment"`
}

// WALCover tells how far the WAL goes on the way to a timeline.
type WALCover struct {
	Timeline uint32 `json:"timeline"`
	From     LSN    `json:"from_lsn"`
	// End is where the WAL without a hole ends; End == From: there is none.
	End LSN `json:"end_lsn"`
	// Last is where all WAL ends, behind the holes.
	Last  LSN       `json:"last_lsn"`
	Holes []WALHole `json:"holes,omitempty"`
}

// walMap is what the archive holds of one cluster.
type walMap struct {
	repo      *Repo
	system    uint64
	size      uint32
	histories map[uint32]History // of all timelines but 1
	runs      map[uint32][]walRun
}

// walMap reads what the archive holds of a cluster.
func (r *Repo) walMap(ctx context.Context, system uint64, size uint32) (*walMap, error) {
	histories, err := r.Histories(ctx, system)
	if err != nil {
		return nil, err
	}
	m := &walMap{repo: r, system: system, size: size, histories: histories, runs: map[uint32][]walRun{}}
	for _, tli := range m.timelines() {
		if m.runs[tli], err = r.walRuns(ctx, system, tli, size); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// timelines lists all timelines, oldest first; 1 is always among them.
func (m *walMap) timelines() []uint32 {
	list := append(slices.Collect(maps.Keys(m.histories)), 1)
	slices.Sort(list)
	return slices.Compact(list)
}

// leaves are the timelines that no other one comes from: where the cluster may have gone on.
func (m *walMap) leaves() []uint32 {
	parents := map[uint32]bool{}
	for _, h := range m.histories {
		for _, b := range h {
			parents[b.Timeline] = true
		}
	}
	return slices.DeleteFunc(m.timelines(), func(t uint32) bool { return parents[t] })
}

// onPath tells whether a position of one timeline lies on the way to another.
func (m *walMap) onPath(timeline uint32, at LSN, target uint32) bool {
	if timeline == target {
		return true
	}
	for _, b := range m.histories[target] {
		if b.Timeline == timeline {
			return at <= b.Until
		}
	}
	return false
}

// cover walks from a position to the end of the WAL on the way to a timeline.
func (m *walMap) cover(ctx context.Context, from LSN, target uint32) (WALCover, error) {
	h, size := m.histories[target], LSN(m.size)
	first := from / size * size
	last := first
	for _, t := range append(slices.Collect(branches(h)), target) {
		if runs := m.runs[t]; len(runs) > 0 {
			last = max(last, runs[len(runs)-1].to)
		}
	}
	c := WALCover{Timeline: target, From: from, End: from}
	end, missing := first, LSN(0) // the end of the whole segments; how much is missing before at
	for at := first; at < last; at += size {
		if !m.has(h, target, at) {
			missing += size
			continue
		}
		if missing > 0 {
			tli := h.At(target, at-missing)
			c.Holes = append(c.Holes, WALHole{
				Timeline: tli, From: at - missing, To: at, First: SegmentName(tli, at-missing, m.size),
				Last: SegmentName(tli, at-1, m.size),
			})
			missing = 0
		}
		end = at + size
	}
	open, err := m.openEnd(ctx, h, target, end)
	if err != nil {
		return c, err
	}
	c.Last = max(open, from)
	if len(c.Holes) == 0 {
		c.End = c.Last
	} else if c.Holes[0].From > first {
		c.End = c.Holes[0].From
	}
	return c, nil
}

// branches iterates over the timelines of a history.
func branches(h History) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for _, b := range h {
			if !yield(b.Timeline) {
				return
			}
		}
	}
}

// has tells whether the segment at a position is there. The one in which a timeline begins holds the end of its parent
// too, so it replaces the parent's.
func (m *walMap) has(h History, target uint32, at LSN) bool {
	return covers(m.runs[h.At(target, at+LSN(m.size)-1)], at)
}

// openEnd is the end of the open segment that begins at a position, of the newest timeline that has one.
func (m *walMap) openEnd(ctx context.Context, h History, target uint32, start LSN) (LSN, error) {
	for _, tli := range slices.Backward(append(slices.Collect(branches(h)), target)) {
		have, err := m.repo.PartialEnd(ctx, m.system, SegmentName(tli, start, m.size))
		if err != nil {
			return 0, err
		}
		end := start + LSN(have)
		for _, b := range h {
			if b.Timeline == tli {
				end = min(end, max(b.Until, start))
			}
		}
		if end > start {
			return end, nil
		}
	}
	return start, nil
}

// holeText names holes for people.
func holeText(holes []WALHole) string {
	parts := make([]string, len(holes))
	for i, h := range holes {
		parts[i] = h.First
		if h.Last != h.First {
			parts[i] += " to " + h.Last
		}
	}
	return strings.Join(parts, ", ")
}
