package walarchive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Exit codes of push, never above 125: PostgreSQL would take that for the archiver's death and count no failure.
const (
	PushDone    = 0
	PushFailed  = 1 // storage, temporary
	PushUsage   = 2 // usage or configuration
	PushRefused = 5 // other content, not a segment of this cluster, paused
)

// PushExit is the exit code of push for an error of Push.
func PushExit(err error) int {
	switch {
	case err == nil:
		return PushDone
	case errors.Is(err, ErrConflict), errors.Is(err, ErrInvalid), errors.Is(err, ErrPaused), errors.Is(err, ErrForeignCluster),
		errors.Is(err, ErrForeignBranch):
		return PushRefused
	case errors.Is(err, ErrNoRepository), errors.Is(err, ErrNotWAL):
		return PushUsage
	}
	return PushFailed
}

// ErrNotWAL is returned for a name that no WAL file has.
var ErrNotWAL = errors.New("not the name of a WAL file")

// Pushed tells what a Push did.
type Pushed struct {
	Name   string
	Stored bool  // false: the same content was there
	Bytes  int64 // of the file
	Packed int64 // of the object
	Took   time.Duration
	// Dropped: it is not archived, but given up by queue_max.
	Dropped bool
}

// Push archives the WAL file at path. When it returns nil, the file's content is durable in the repository under its name.
// ErrConflict, ErrInvalid, ErrPaused, ErrForeignCluster, ErrForeignBranch: refused. Everything else may pass by itself.
// What queue_max lets go (Pushed.Dropped) is no error either: the server is to go on.
func (a *Archive) Push(ctx context.Context, path string) (p Pushed, err error) {
	p, err = a.pushAll(ctx, path)
	if err == nil {
		if rerr := a.RecordDropped(ctx); rerr != nil { // the next push tries again
			a.log.Warn("a gap is not on record yet", "source", a.config.Source, "err", rerr)
		}
		return p, nil
	}
	if dropped, derr := a.config.Drop(p.Name, err); dropped || derr != nil {
		if p.Dropped = dropped; dropped {
			a.log.Error("a segment is given up: more than queue_max waits", "event", "wal.dropped", "source", a.config.Source,
				"name", p.Name, "err", err)
			return p, nil
		}
		return p, errors.Join(err, derr)
	}
	return p, err
}

// push archives the file.
func (a *Archive) push(ctx context.Context, path string) (p Pushed, err error) {
	began := time.Now()
	defer func() { p.Took = time.Since(began) }()
	p.Name = filepath.Base(path)
	kind := KindOf(p.Name)
	if kind == NotWAL {
		return p, fmt.Errorf("%q: %w", p.Name, ErrNotWAL)
	}
	if pause, err := a.config.Paused(began); err != nil || pause != nil {
		if err == nil {
			err = fmt.Errorf("%w since %s: %s (skyd wal resume-archiving --source %s)", ErrPaused, pause.Since.Format(time.RFC3339),
				pause.Reason, a.config.Source)
		}
		return p, err
	}
	if a.repo.Capabilities().LocalDir != "" { // what looks like the storage may be the place where it is to be mounted
		if err := a.repo.present(ctx); err != nil {
			return p, err
		}
	}
	cluster, err := a.clusterNow(ctx)
	if err != nil {
		return p, err
	}
	content, free, err := a.repo.readFile(path)
	if err != nil {
		return p, err
	}
	defer free()
	p.Bytes = int64(len(content))
	switch kind {
	case WALSegment:
		err = a.pushSegment(ctx, cluster, &p, content)
	case HistoryFile:
		err = a.pushHistory(ctx, cluster, &p, content)
	default:
		err = a.pushExtra(ctx, cluster, &p, kind, content)
	}
	if err != nil {
		err = fmt.Errorf("push %s: %w", p.Name, err)
	}
	return p, err
}

// pushSegment archives a whole segment.
func (a *Archive) pushSegment(ctx context.Context, cluster Cluster, p *Pushed, content []byte) error {
	info, err := CheckSegment(p.Name, cluster.System, content)
	if err != nil {
		return err
	}
	tli := SegmentTimeline(p.Name)
	history, err := a.timeline(ctx, cluster.System, tli, info.Start, nil)
	if err != nil {
		return err
	}
	if want := history.At(tli, info.Start); history != nil && info.Timeline != want || tli == 1 && info.Timeline != 1 {
		return fmt.Errorf("%w: its first page is of timeline %d, by the history of timeline %d it must be of %d", ErrInvalid,
			info.Timeline, tli, want)
	}
	h := a.header(p.Name, cluster, info.Start)
	if info.Start > 0 {
		h.Prev = SegmentName(tli, info.Start-1, info.Size)
	}
	return a.store(ctx, a.repo.SegmentKey(cluster.System, p.Name), h, p, content)
}

// header begins the header of an object of this cluster.
func (a *Archive) header(name string, cluster Cluster, start LSN) Header {
	host, _ := os.Hostname() // for people; the empty name will do
	return Header{Name: name, System: cluster.System, Timeline: SegmentTimeline(name), Start: start, Major: cluster.Major,
		Writer: host + ":" + a.config.PGData, Time: time.Now().UTC()}
}

// store puts an object unless the same content is there already.
func (a *Archive) store(ctx context.Context, key string, h Header, p *Pushed, content []byte) (err error) {
	p.Stored, p.Packed, err = a.repo.storeObject(ctx, key, h, content)
	return err
}

// pushHistory archives a history file: the first one wins.
func (a *Archive) pushHistory(ctx context.Context, cluster Cluster, p *Pushed, content []byte) error {
	tli := SegmentTimeline(p.Name)
	if _, err := ParseHistory(tli, content); err != nil {
		return err
	}
	if _, err := a.timeline(ctx, cluster.System, tli, 0, content); err != nil {
		return err
	}
	return a.putPlain(ctx, a.repo.HistoryKey(cluster.System, p.Name), p, content)
}

// putPlain stores a small file as it is; ErrConflict when another one is there.
func (a *Archive) putPlain(ctx context.Context, key string, p *Pushed, content []byte) error {
	err := a.repo.Put(ctx, key, strings.NewReader(string(content)), PutOptions{Size: int64(len(content))})
	if err == nil {
		p.Stored, p.Packed = true, p.Bytes
		return nil
	}
	if !errors.Is(err, ErrExists) {
		return err
	}
	there, err := a.repo.ReadSmall(ctx, key)
	if err != nil {
		return err
	}
	if string(there) != string(content) {
		return ErrConflict
	}
	return nil
}

// pushExtra archives what recovery never asks for. Promotions may push partial segments with different tails, and backups
// the same label twice: each content is kept, under its hash when the name is taken.
func (a *Archive) pushExtra(ctx context.Context, cluster Cluster, p *Pushed, kind FileKind, content []byte) error {
	if kind == BackupFile {
		err := a.putPlain(ctx, a.repo.ExtraKey(cluster.System, p.Name), p, content)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		return a.putPlain(ctx, a.repo.ExtraKey(cluster.System, p.Name+"."+contentName(content)), p, content)
	}
	info, err := ReadSegmentInfo(content)
	if err != nil {
		return err
	}
	start, err := SegmentStart(strings.TrimSuffix(p.Name, ".partial"), info.Size)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case info.System != cluster.System || info.Start != start || int64(info.Size) != p.Bytes:
		return fmt.Errorf("%w: its header says system %d, position %s and %d bytes", ErrInvalid, info.System, info.Start, info.Size)
	}
	key := a.repo.ExtraKey(cluster.System, p.Name+"."+contentName(content)+a.repo.Suffix())
	return a.store(ctx, key, a.header(p.Name, cluster, start), p, content)
}

// SetPause pauses archiving: push is refused with the reason until the pause is over.
func (c Config) SetPause(p Pause) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	temp := c.pauseFile() + ".tmp"
	if err := writeSynced(temp, body); err != nil {
		return err
	}
	return os.Rename(temp, c.pauseFile())
}

// EndPause resumes archiving; false: it was not paused.
func (c Config) EndPause() (bool, error) {
	err := os.Remove(c.pauseFile())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Paused tells whether archiving is paused at a moment; nil: no.
func (c Config) Paused(now time.Time) (*Pause, error) {
	body, err := os.ReadFile(c.pauseFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	var p Pause
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", c.pauseFile(), err)
	}
	if !p.Until.IsZero() && now.After(p.Until) {
		return nil, nil
	}
	return &p, nil
}

// writeSynced writes a file and syncs it.
func writeSynced(name string, body []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	return errors.Join(err, f.Sync(), f.Close())
}

// readFull reads until the buffer is full or the file ends.
func readFull(r io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}
