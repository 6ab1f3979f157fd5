package walarchive

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Branch is one line of a history file: up to Until the WAL is that of Timeline.
type Branch struct {
	Timeline uint32
	Until    LSN
}

// History is where a timeline comes from, oldest ancestor first. A timeline without ancestors has none.
type History []Branch

// ParseHistory reads a history file of PostgreSQL.
func ParseHistory(timeline uint32, text []byte) (History, error) {
	var h History
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		bad := func() (History, error) {
			return nil, fmt.Errorf("%w: the history of timeline %d has the line %q", ErrInvalid, timeline, strings.TrimSpace(line))
		}
		if len(fields) < 2 {
			return bad()
		}
		tli, err := strconv.ParseUint(fields[0], 10, 32)
		until, lerr := ParseLSN(fields[1])
		if err != nil || lerr != nil || len(h) > 0 && uint32(tli) <= h[len(h)-1].Timeline || uint32(tli) >= timeline {
			return bad()
		}
		h = append(h, Branch{uint32(tli), until})
	}
	if len(h) == 0 {
		return nil, fmt.Errorf("%w: the history of timeline %d names no ancestor", ErrInvalid, timeline)
	}
	return h, nil
}

// At is the timeline whose WAL stands at a position, for the timeline with this history.
func (h History) At(timeline uint32, at LSN) uint32 {
	for _, b := range h {
		if at < b.Until {
			return b.Timeline
		}
	}
	return timeline
}

// HistoryName names the history file of a timeline.
func HistoryName(timeline uint32) string { return fmt.Sprintf("%08X.history", timeline) }

// History reads the history of a timeline from the archive; nil for timeline 1. ErrNotFound.
func (r *Repo) History(ctx context.Context, system uint64, timeline uint32) (History, error) {
	if timeline <= 1 {
		return nil, nil
	}
	text, err := r.ReadSmall(ctx, r.HistoryKey(system, HistoryName(timeline)))
	if err != nil {
		return nil, err
	}
	return ParseHistory(timeline, text)
}

// Histories reads all histories of a cluster.
func (r *Repo) Histories(ctx context.Context, system uint64) (map[uint32]History, error) {
	all := map[uint32]History{}
	for o, err := range r.List(ctx, r.WALPrefix(system)+"history/", "") {
		if err != nil {
			return nil, err
		}
		name := o.Key[strings.LastIndexByte(o.Key, '/')+1:]
		if KindOf(name) != HistoryFile {
			continue
		}
		h, err := r.History(ctx, system, SegmentTimeline(name))
		if err != nil {
			return nil, err
		}
		all[SegmentTimeline(name)] = h
	}
	return all, nil
}
