package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// RepairOptions say where repair may take segments from.
type RepairOptions struct {
	// Segments are the names to look at; empty: all, and every byte of them is read.
	Segments []string
	// PGData is the data directory of the cluster; its pg_wal is tried first. Empty: none.
	PGData string
	// From is another repository of the source; nil: none.
	From *Repo
	// DryRun looks for what is to be done, and changes nothing.
	DryRun bool
	// Progress is told how many bytes were read.
	Progress func(done int64)
	Now      func() time.Time
}

// Repaired is one segment that repair found damaged or missing.
type Repaired struct {
	Segment string `json:"segment"`
	System  uint64 `json:"system_id,string"`
	Fault   string `json:"fault"`
	// From is where the segment was taken from; empty: it is nowhere.
	From string `json:"from,omitempty"`
}

// RepairReport is what repair did, or would do.
type RepairReport struct {
	Segments int64      `json:"segments"`
	Repaired []Repaired `json:"repaired"`
	Lost     []Repaired `json:"lost"`
	// Closed are the gaps that are filled now, Open those that are not.
	Closed []Gap `json:"gaps_closed"`
	Open   []Gap `json:"gaps_open"`
}

// repairing is one repair under way.
type repairing struct {
	r    *Repo
	o    RepairOptions
	rep  *RepairReport
	read int64
	buf  segmentBuffer
}

// Repair finds segments that are damaged or missing, and stores them again from pg_wal or from another repository, where
// they are whole there. A damaged object is removed only with a whole segment in hand. Gaps that are filled are closed;
// what cannot be found is in the report, and on record as a gap.
func (r *Repo) Repair(ctx context.Context, o RepairOptions) (*RepairReport, error) {
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	x := &repairing{r: r, o: o, rep: &RepairReport{Repaired: []Repaired{}, Lost: []Repaired{}, Closed: []Gap{}, Open: []Gap{}}}
	all, err := r.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range o.Segments {
		if KindOf(name) != WALSegment {
			return nil, fmt.Errorf("%w: %q: %w", ErrOptions, name, ErrNotWAL)
		}
	}
	for i, c := range all.Clusters {
		current := i == len(all.Clusters)-1
		if len(o.Segments) > 0 && !current {
			continue
		}
		if err := x.cluster(ctx, c.System, current); err != nil {
			return x.rep, err
		}
	}
	return x.rep, nil
}

// cluster repairs the WAL of one cluster.
func (x *repairing) cluster(ctx context.Context, system uint64, current bool) error {
	size, err := x.r.segmentSize(ctx, system)
	if err != nil || size == 0 {
		return err
	}
	names := x.o.Segments
	if len(names) == 0 {
		for o, err := range x.r.List(ctx, x.r.WALPrefix(system), "") {
			if err != nil {
				return err
			}
			if name, ok := SegmentOfKey(o.Key); ok {
				names = append(names, name)
			}
		}
		missing, err := x.missing(ctx, system, size, current)
		if err != nil {
			return err
		}
		names = append(names, missing...)
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, name := range names {
		if err := x.segment(ctx, system, name); err != nil {
			return err
		}
	}
	return x.gaps(ctx, system, size, current)
}

// missing names the segments of holes, and of gaps on record.
func (x *repairing) missing(ctx context.Context, system uint64, size uint32, current bool) ([]string, error) {
	var names []string
	span := func(timeline uint32, from, to LSN) {
		for at := from / LSN(size) * LSN(size); at < to; at += LSN(size) {
			names = append(names, SegmentName(timeline, at, size))
		}
	}
	ranges, err := x.r.Ranges(ctx, system)
	if err != nil {
		return nil, err
	}
	for i, g := range ranges {
		if i > 0 && ranges[i-1].Timeline == g.Timeline {
			span(g.Timeline, ranges[i-1].To, g.From)
		}
	}
	windows, err := x.r.Windows(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range windows {
		for _, h := range w.Holes {
			if w.System == system {
				span(h.Timeline, h.From, h.To)
			}
		}
	}
	gaps, err := x.r.Gaps(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range gaps {
		if g.of(system, current) && g.ClosedBy == "" {
			span(g.Timeline, g.From, g.To)
		}
	}
	return names, nil
}

// segment looks at one segment, and brings it back when it is not well.
func (x *repairing) segment(ctx context.Context, system uint64, name string) error {
	key := x.r.SegmentKey(system, name)
	x.buf = x.buf[:0]
	h, fault := x.r.Unseal(ctx, key, &x.buf)
	if fault == nil {
		_, fault = CheckSegment(name, system, x.buf)
	}
	x.read += int64(len(x.buf))
	x.o.Progress(x.read)
	x.rep.Segments++
	switch {
	case fault == nil:
		return nil
	case !errors.Is(fault, ErrDamaged) && !errors.Is(fault, ErrNotFound) && !errors.Is(fault, ErrInvalid):
		return fault
	}
	done := Repaired{Segment: name, System: system, Fault: fault.Error()}
	content, from, err := x.find(ctx, system, name, h)
	if err != nil {
		return err
	}
	if content == nil {
		x.rep.Lost = append(x.rep.Lost, done)
		return x.lost(ctx, system, name)
	}
	done.From = from
	x.rep.Repaired = append(x.rep.Repaired, done)
	if x.o.DryRun {
		return nil
	}
	info, err := CheckSegment(name, system, content)
	if err != nil {
		return err
	}
	host, _ := os.Hostname() // for people; the empty name will do
	sealed, object, err := x.r.Seal(receivedHeader(name, system, info, host+":repair"), content)
	if err != nil {
		return err
	}
	if !errors.Is(fault, ErrNotFound) {
		if err := x.r.Delete(ctx, key); err != nil {
			return err
		}
	}
	_, err = x.r.putObject(ctx, key, sealed, object)
	return err
}

// find looks for the segment where it may still be whole; nil: nowhere. A content that the damaged object's header, where
// it can be read, contradicts is another one's, and not taken.
func (x *repairing) find(ctx context.Context, system uint64, name string, h Header) ([]byte, string, error) {
	fits := func(content []byte) bool {
		if _, err := CheckSegment(name, system, content); err != nil {
			return false
		}
		return h.Name != name || h.SHA256+h.Tag == "" || x.r.stamp(Header{}, content).sameContent(h)
	}
	if x.o.PGData != "" {
		path := filepath.Join(x.o.PGData, "pg_wal", name)
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
		// A file without a status is being written, or was made ready for reuse.
		closed := exists(filepath.Join(x.o.PGData, "pg_wal", "archive_status", name+".done")) ||
			exists(filepath.Join(x.o.PGData, "pg_wal", "archive_status", name+".ready"))
		if err == nil && closed && fits(content) {
			return content, path, nil
		}
	}
	if x.o.From != nil {
		var content segmentBuffer
		_, err := x.o.From.Unseal(ctx, x.o.From.SegmentKey(system, name), &content)
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged) {
			return nil, "", fmt.Errorf("storage %s: %w", x.o.From.Storage, err)
		}
		if err == nil && fits(content) {
			return content, x.o.From.String(), nil
		}
	}
	return nil, "", nil
}

// lost puts a segment that is nowhere on record, unless a gap tells of it already.
func (x *repairing) lost(ctx context.Context, system uint64, name string) error {
	size, err := x.r.segmentSize(ctx, system)
	if err != nil || x.o.DryRun {
		return err
	}
	at, err := SegmentStart(name, size)
	if err != nil {
		return err
	}
	gaps, err := x.r.Gaps(ctx)
	if err != nil {
		return err
	}
	for _, g := range gaps {
		if g.Timeline == SegmentTimeline(name) && g.From <= at && (g.To == 0 || at < g.To) {
			return nil
		}
	}
	return x.r.RecordGap(ctx, Gap{
		System: system, Timeline: SegmentTimeline(name), From: at, To: at + LSN(size),
		Reason: "the segment is damaged or missing, and repair found it nowhere", Time: x.o.Now().UTC(),
	})
}

// gaps closes the gaps of which all segments are there.
func (x *repairing) gaps(ctx context.Context, system uint64, size uint32, current bool) error {
	gaps, err := x.r.Gaps(ctx)
	if err != nil {
		return err
	}
	for _, g := range gaps {
		if !g.of(system, current) || g.ClosedBy != "" {
			continue
		}
		filled, err := x.filled(ctx, system, size, g)
		if err != nil {
			return err
		}
		if !filled {
			x.rep.Open = append(x.rep.Open, g)
			continue
		}
		g.ClosedBy = "repair"
		x.rep.Closed = append(x.rep.Closed, g)
		if x.o.DryRun {
			continue
		}
		if err := x.r.CloseGap(ctx, g, "repair"); err != nil {
			return err
		}
	}
	return nil
}

// filled tells whether the archive has all segments of a gap, whole and undamaged as far as this repair looked. Of a gap
// without an end the first segment decides: what follows it would be a hole.
func (x *repairing) filled(ctx context.Context, system uint64, size uint32, g Gap) (bool, error) {
	to := g.To
	if to == 0 {
		to = g.From + 1
	}
	for at := g.From / LSN(size) * LSN(size); at < to; at += LSN(size) {
		name := SegmentName(g.Timeline, at, size)
		same := func(d Repaired) bool { return d.System == system && d.Segment == name }
		if slices.ContainsFunc(x.rep.Lost, same) {
			return false, nil
		}
		if x.o.DryRun && slices.ContainsFunc(x.rep.Repaired, same) {
			continue
		}
		if _, err := x.r.Head(ctx, x.r.SegmentKey(system, name)); errors.Is(err, ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// of tells whether a gap is in the WAL of a cluster. Old records do not say: they are of the current one.
func (g Gap) of(system uint64, current bool) bool {
	return g.System == system || g.System == 0 && current
}

// closeGaps closes the gaps that a complete backup makes harmless: what came before its start is not needed to go on from
// it.
func (r *Repo) closeGaps(ctx context.Context, b *Backup) error {
	open, err := r.OpenGaps(ctx, b.System)
	if err != nil {
		return err
	}
	for _, g := range open {
		if g.From >= b.StartLSN || g.To > b.StartLSN {
			continue
		}
		if err := r.CloseGap(ctx, g, "backup "+b.ID); err != nil {
			return err
		}
	}
	return nil
}

// OpenGaps lists the gaps in the WAL of a cluster that nothing has closed.
func (r *Repo) OpenGaps(ctx context.Context, system uint64) ([]Gap, error) {
	all, err := r.Gaps(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	clusters, err := r.Clusters(ctx)
	if err != nil {
		return nil, err
	}
	now, _ := clusters.Current()
	return slices.DeleteFunc(all, func(g Gap) bool { return g.ClosedBy != "" || !g.of(system, now.System == system) }), nil
}

// String says a gap for people.
func (g Gap) String() string {
	to := g.To.String()
	if g.To == 0 {
		to = "an unknown position"
	}
	return strings.TrimSpace(fmt.Sprintf("gap on timeline %d from %s to %s: %s", g.Timeline, g.From, to, g.Reason))
}

// recordHole puts a hole on record, unless gaps tell of all of it already.
func (r *Repo) recordHole(ctx context.Context, system uint64, h WALHole) error {
	gaps, err := r.Gaps(ctx)
	if err != nil {
		return err
	}
	from := h.From
	for _, g := range gaps { // in the order of their begin
		if g.Timeline == h.Timeline && g.From <= from && (g.To == 0 || g.To > from) {
			if from = g.To; g.To == 0 || g.To >= h.To {
				return nil
			}
		}
	}
	return r.RecordGap(ctx, Gap{
		System: system, Timeline: h.Timeline, From: from, To: h.To, Time: time.Now().UTC(),
		Reason: "segments are missing, found by verify",
	})
}
