package walarchive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
)

// VerifyOptions say how much verify looks at.
type VerifyOptions struct {
	// Backup is one id; empty: all, and the WAL.
	Backup string
	// Deep decodes every block and every segment, and checks page checksums.
	Deep bool
	// Progress is told how many bytes were read.
	Progress func(done int64)
	// Note is told in one line what happens.
	Note func(text string)
}

// VerifyFault is one thing that is damaged or missing.
type VerifyFault struct {
	Backup string `json:"backup,omitempty"`
	Object string `json:"object,omitempty"`
	Fault  string `json:"fault"`
}

// VerifyReport is what verify found.
type VerifyReport struct {
	Backups  int   `json:"backups"`
	Packs    int   `json:"packs"`
	Segments int64 `json:"segments"`
	Bytes    int64 `json:"bytes"`
	// Records of the WAL were checked, with Deep.
	Records int64         `json:"records,omitempty"`
	Windows []Window      `json:"windows"`
	Faults  []VerifyFault `json:"faults"`
}

// Window is what can be restored on the way to one timeline.
type Window struct {
	System   uint64 `json:"system_id,string"`
	Timeline uint32 `json:"timeline"`
	// Oldest is the oldest backup of the window; From and FromTime are its end, the first moment that can be restored.
	Oldest   string    `json:"oldest_backup"`
	Backups  int       `json:"backups"`
	From     LSN       `json:"from_lsn"`
	FromTime time.Time `json:"from_time"`
	// To is the last position that can be restored.
	To    LSN       `json:"to_lsn"`
	Last  LSN       `json:"last_lsn"`
	Holes []WALHole `json:"holes,omitempty"`
	// Commit is the time of the last commit before To, by the WAL itself; only where it was asked for, and zero when none is
	// near the end.
	Commit time.Time `json:"last_commit,omitzero"`
}

// WindowsWithCommits is Windows, with the time of the last commit in each.
func (r *Repo) WindowsWithCommits(ctx context.Context) ([]Window, error) {
	windows, err := r.Windows(ctx)
	for i, w := range windows {
		windows[i].Commit, err = r.LastCommit(ctx, w.System, w.Timeline, w.To)
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNoKey) {
			err = nil // that is told elsewhere
		}
		if err != nil {
			return nil, err
		}
	}
	return windows, err
}

// Windows tells what can be restored, for each timeline that the clusters may have gone on with.
func (r *Repo) Windows(ctx context.Context) ([]Window, error) {
	all, err := r.Backups(ctx)
	if err != nil {
		return nil, err
	}
	var list []Window
	for _, system := range systemsOf(all) {
		mine := slices.DeleteFunc(slices.Clone(all), func(b *Backup) bool { return b.System != system })
		m, err := r.walMap(ctx, system, mine[0].SegmentSize)
		if err != nil {
			return nil, err
		}
		for _, tli := range m.leaves() {
			w, err := m.window(ctx, mine, tli)
			if err != nil {
				return nil, err
			}
			if w.Backups > 0 {
				list = append(list, w)
			}
		}
	}
	return list, nil
}

// systemsOf lists the clusters of backups, in the order of their first backup.
func systemsOf(all []*Backup) []uint64 {
	var list []uint64
	for _, b := range all {
		if !slices.Contains(list, b.System) {
			list = append(list, b.System)
		}
	}
	return list
}

// window is the window on the way to a timeline: from the oldest backup whose WAL reaches the end without a hole, or, when
// the newest one has a hole behind it, up to that.
func (m *walMap) window(ctx context.Context, all []*Backup, tli uint32) (Window, error) {
	w := Window{System: m.system, Timeline: tli}
	for _, b := range slices.Backward(all) {
		if !m.onPath(b.Timeline, b.StopLSN, tli) {
			continue
		}
		c, err := m.cover(ctx, b.StartLSN, tli)
		if err != nil {
			return w, err
		}
		if w.Backups == 0 {
			w.To, w.Last, w.Holes = c.End, c.Last, c.Holes
		} else if len(c.Holes) > len(w.Holes) {
			w.Holes = c.Holes // what lies behind the older backup cannot be bridged by it, but by the newer one
		}
		w.Backups++
		w.Oldest, w.From, w.FromTime = b.ID, b.StopLSN, b.StopTime
	}
	return w, nil
}

// verifier is one verify under way.
type verifier struct {
	r        *Repo
	o        VerifyOptions
	rep      *VerifyReport
	seen     map[string]bool
	read     atomic.Int64
	scan     recordScan // of the timeline whose segments are being read
	timeline uint32
}

// Verify looks whether what the records promise is there and unharmed. Faults are in the report; the error is for what
// kept us from looking.
func (r *Repo) Verify(ctx context.Context, o VerifyOptions) (*VerifyReport, error) {
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	v := &verifier{r: r, o: o, rep: &VerifyReport{Faults: []VerifyFault{}}, seen: map[string]bool{}}
	all, err := r.Backups(ctx)
	if err != nil {
		return nil, err
	}
	if o.Backup != "" {
		b, err := r.GetBackup(ctx, o.Backup)
		if err != nil {
			return nil, err
		}
		all = []*Backup{b}
	}
	for _, b := range all {
		o.Note("backup " + b.ID)
		if err := v.backup(ctx, b); err != nil {
			return nil, err
		}
	}
	if o.Backup == "" {
		if err := v.continuity(ctx, all); err != nil {
			return nil, err
		}
	}
	v.rep.Bytes = v.read.Load()
	return v.rep, nil
}

// fault notes what is wrong; an error that is the storage's ends the look.
func (v *verifier) fault(b *Backup, object string, err error) error {
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInvalid) {
		return err
	}
	f := VerifyFault{Object: object, Fault: err.Error()}
	if b != nil {
		f.Backup = b.ID
	}
	v.rep.Faults = append(v.rep.Faults, f)
	return nil
}

// backup verifies one backup: its own WAL, its list of files, all packs.
func (v *verifier) backup(ctx context.Context, b *Backup) error {
	v.rep.Backups++
	for at := b.StartLSN / LSN(b.SegmentSize) * LSN(b.SegmentSize); at < b.StopLSN; at += LSN(b.SegmentSize) {
		ok, err := v.r.holdsWAL(ctx, b.System, b.Timeline, b.SegmentSize, at, b.StopLSN)
		if err != nil {
			return err
		}
		if !ok {
			name := SegmentName(b.Timeline, at, b.SegmentSize)
			if err := v.fault(b, v.r.SegmentKey(b.System, name), fmt.Errorf("segment %s, without which it cannot be used: %w", name, ErrNotFound)); err != nil {
				return err
			}
		}
	}
	used := map[uint32]int64{} // the end of the last block in each pack
	err := readFiles(ctx, v.r, b, func(e *fileEntry) error {
		for _, bl := range e.Blocks {
			used[bl.Pack] = max(used[bl.Pack], bl.Offset+int64(bl.Length))
		}
		return nil
	})
	if err != nil {
		return v.fault(b, v.r.filesKey(b.ID), err)
	}
	for number, end := range used {
		pack, ok := b.Packs[number]
		if !ok || pack.Size < end {
			err := fmt.Errorf("%w: the list of files reaches to byte %d of pack %d, the record has %d", ErrDamaged, end, number, pack.Size)
			if err := v.fault(b, v.r.backupKey(b.ID), err); err != nil {
				return err
			}
		}
	}
	for _, pack := range b.Packs {
		if err := v.pack(ctx, b, pack); err != nil {
			return err
		}
	}
	if v.o.Deep {
		return v.blocks(ctx, b)
	}
	return nil
}

// pack hashes one pack, once for all backups that use it.
func (v *verifier) pack(ctx context.Context, b *Backup, p Pack) error {
	if v.seen[p.Key] {
		return nil
	}
	v.seen[p.Key] = true
	v.rep.Packs++
	body, err := v.r.Get(ctx, p.Key, 0, -1)
	if err != nil {
		return v.fault(b, p.Key, err)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, v), body)
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != p.Size || got != p.SHA256 {
		return v.fault(b, p.Key, fmt.Errorf("%w: %d bytes with sha256 %.16s…, the record says %d with %.16s…", ErrDamaged, n, got, p.Size, p.SHA256))
	}
	return nil
}

// Write implements io.Writer: it counts.
func (v *verifier) Write(p []byte) (int, error) {
	v.o.Progress(v.read.Add(int64(len(p))))
	return len(p), nil
}

// blocks decodes every block of a backup and checks its hash and its pages.
func (v *verifier) blocks(ctx context.Context, b *Backup) error {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return err
	}
	defer dec.Close()
	var places []blockPlace
	err = readFiles(ctx, v.r, b, func(e *fileEntry) error {
		f := &restoreFile{entry: *e}
		for i, bl := range e.Blocks {
			places = append(places, blockPlace{block: bl, file: f, index: i})
		}
		return nil
	})
	if err != nil {
		return v.fault(b, v.r.filesKey(b.ID), err)
	}
	run := &restoreRun{repo: v.r, p: &RestorePlan{Backup: b}}
	var raw, clear []byte
	for _, s := range spans(places) {
		if raw, err = run.readSpan(ctx, s, raw); err != nil {
			if err := v.fault(b, b.Packs[s.pack].Key, err); err != nil {
				return err
			}
			continue
		}
		for _, p := range s.blocks {
			if clear, err = v.r.openBlock(dec, p, raw[p.Offset-s.from:][:p.Length], clear); err != nil {
				if err := v.fault(b, b.Packs[s.pack].Key, err); err != nil {
					return err
				}
				continue
			}
			v.pages(b, p, clear)
		}
	}
	return nil
}

// pages notes pages of a block with wrong checksums that the record of the backup does not know.
func (v *verifier) pages(b *Backup, p blockPlace, content []byte) {
	if !b.Checksums {
		return
	}
	for _, bad := range badPages(&p.file.entry, p.index, content, b.StartLSN) {
		if slices.ContainsFunc(b.BadPages, func(known BadPage) bool { return known.Path == bad.Path && known.Block == bad.Block }) {
			continue
		}
		text := fmt.Sprintf("page %d of %s has checksum %04X, its content %04X", bad.Block, bad.Path, bad.Have, bad.Want)
		v.rep.Faults = append(v.rep.Faults, VerifyFault{Backup: b.ID, Object: b.Packs[p.Pack].Key, Fault: text})
	}
}

// continuity verifies the WAL: without a hole from the oldest backup to the end, on the way to every timeline.
func (v *verifier) continuity(ctx context.Context, all []*Backup) error {
	windows, err := v.r.Windows(ctx)
	if err != nil {
		return err
	}
	v.rep.Windows = windows
	for _, w := range windows {
		for _, h := range w.Holes {
			text := fmt.Sprintf("hole in the WAL of timeline %d from %s to %s: %s", h.Timeline, h.From, h.To, holeText([]WALHole{h}))
			v.rep.Faults = append(v.rep.Faults, VerifyFault{Object: v.r.SegmentKey(w.System, h.First), Fault: text})
			if err := v.r.recordHole(ctx, w.System, h); err != nil { // who may only read can verify all the same
				v.o.Note("the hole is not on record as a gap: " + err.Error())
			}
		}
	}
	for _, system := range systemsOf(all) {
		for o, err := range v.r.List(ctx, v.r.WALPrefix(system), "") {
			if err != nil {
				return err
			}
			name, ok := SegmentOfKey(o.Key)
			if !ok {
				continue
			}
			v.rep.Segments++
			if err := v.segment(ctx, o, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// segment verifies one segment: the header of its object, with deep all of its content.
func (v *verifier) segment(ctx context.Context, o Object, name string) error {
	if !v.o.Deep {
		h, err := v.r.HeaderOf(ctx, o.Key)
		if err == nil && h.Name != name {
			err = fmt.Errorf("%w: it holds %s", ErrDamaged, h.Name)
		}
		if err != nil {
			return v.fault(nil, o.Key, err)
		}
		return nil
	}
	var content segmentBuffer
	h, err := v.r.Unseal(ctx, o.Key, &content)
	if err == nil {
		_, err = CheckSegment(name, h.System, content)
	}
	if err == nil {
		err = v.records(name, content)
	}
	v.o.Progress(v.read.Add(o.Size))
	if err != nil {
		return v.fault(nil, o.Key, err)
	}
	return nil
}

// segmentBuffer takes the content of a segment.
type segmentBuffer []byte

// Write implements io.Writer.
func (b *segmentBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// records checks the checksum of every record of a segment. The segments come timeline by timeline, in order.
func (v *verifier) records(name string, content []byte) error {
	if tli := SegmentTimeline(name); v.timeline != tli {
		v.timeline, v.scan = tli, recordScan{}
	}
	before := v.scan.records
	_, err := v.scan.feed(content)
	v.rep.Records += v.scan.records - before
	if err != nil {
		v.scan = recordScan{}
	}
	return err
}
