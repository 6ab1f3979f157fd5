package walarchive

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Range is a part of a timeline that is archived without a hole.
type Range struct {
	Timeline uint32 `json:"timeline"`
	First    string `json:"first"`
	Last     string `json:"last"`
	From     LSN    `json:"from_lsn"`
	To       LSN    `json:"to_lsn"`
	Segments int    `json:"segments"`
	Stored   int64  `json:"stored_bytes"`
}

// Ranges lists what is archived of a cluster, by timeline and position. Between two ranges of one timeline there is a hole.
func (r *Repo) Ranges(ctx context.Context, system uint64) ([]Range, error) {
	size, err := r.segmentSize(ctx, system)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, nil
	}
	var ranges []Range
	for o, err := range r.List(ctx, r.WALPrefix(system), "") {
		if err != nil {
			return nil, err
		}
		name, ok := SegmentOfKey(o.Key)
		if !ok {
			continue
		}
		start, err := SegmentStart(name, size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		last := len(ranges) - 1
		if last < 0 || ranges[last].Timeline != SegmentTimeline(name) || ranges[last].To != start {
			ranges = append(ranges, Range{Timeline: SegmentTimeline(name), First: name, From: start})
			last++
		}
		x := &ranges[last]
		x.Last, x.To = name, start+LSN(size)
		x.Segments++
		x.Stored += o.Size
	}
	return ranges, nil
}

// LastSegment names the newest segment on the newest timeline of a cluster; "": there is none.
func (r *Repo) LastSegment(ctx context.Context, system uint64) (string, error) {
	// Timelines and logs are directories: walk them from the newest by asking for what comes after a guess.
	var last string
	prefix, after := r.WALPrefix(system), ""
	for {
		found := ""
		for o, err := range r.List(ctx, prefix, after) {
			if err != nil {
				return "", err
			}
			if name, ok := SegmentOfKey(o.Key); ok {
				found = name
				break
			}
		}
		if found == "" {
			return last, nil
		}
		last, after = found, r.logEnd(system, found)
		end, err := r.lastIn(ctx, system, found)
		if err != nil {
			return "", err
		}
		last = end
	}
}

// logEnd is behind all keys of the segments that share the log number of this one.
func (r *Repo) logEnd(system uint64, name string) string {
	return r.TimelinePrefix(system, SegmentTimeline(name)) + name[8:16] + "0"
}

// lastIn names the last segment with the log number of this one.
func (r *Repo) lastIn(ctx context.Context, system uint64, name string) (string, error) {
	last := name
	prefix := r.TimelinePrefix(system, SegmentTimeline(name)) + name[8:16] + "/"
	for o, err := range r.List(ctx, prefix, "") {
		if err != nil {
			return "", err
		}
		if found, ok := SegmentOfKey(o.Key); ok {
			last = found
		}
	}
	return last, nil
}

// Systems lists the system identifiers that have WAL in the archive.
func (r *Repo) Systems(ctx context.Context) (systems []uint64, err error) {
	prefix, after := r.Source+"/wal/", ""
	for {
		found := false
		for o, err := range r.List(ctx, prefix, after) {
			if err != nil {
				return nil, err
			}
			part, _, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
			if id, err := strconv.ParseUint(part, 10, 64); err == nil {
				systems = append(systems, id)
			}
			after, found = prefix+part+"0", true
			break
		}
		if !found {
			return systems, nil
		}
	}
}
