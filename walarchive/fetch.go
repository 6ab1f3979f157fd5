package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// FetchRequest asks for one file of the archive.
type FetchRequest struct {
	// Name of the file, as restore_command's %f.
	Name string
	// Dest is the absolute path that gets the file, restore_command's %p.
	Dest string
	// Dir is the working directory of the command: the data directory of the server that asks.
	Dir string

	whole bool // no part of a segment will do: another storage may have all of it
}

// attemptLimit is how long nothing may come from a storage until it counts as away.
const attemptLimit = 30 * time.Second

// Fetch brings a file of the archive to its destination, as the decision table says: it looks again while the verdict
// has patience. Nothing is left at the destination, or beside it, unless the exit code is 0. The error says why it is not.
func (a *Archive) Fetch(ctx context.Context, q FetchRequest) (exit int, err error) {
	return FetchWith(ctx, q, a.config.Fetch.Patience, func(ctx context.Context, temp string) error {
		return a.Deliver(ctx, q, temp)
	}, a.event)
}

// EventOf names the event that an error of fetch is.
func EventOf(err error) string {
	if errors.Is(err, ErrGap) {
		return "wal.gap"
	}
	return "wal.fetch"
}

// event tells somebody who should look.
func (a *Archive) event(q FetchRequest, exit int, err error) {
	a.log.Error("a WAL file could not be fetched", "event", EventOf(err), "source", a.config.Source, "name", q.Name, "exit", exit, "err", err)
}

// FetchWith is Fetch around any way to deliver: deliver writes the file to temp, in the directory of the destination.
func FetchWith(ctx context.Context, q FetchRequest, patience time.Duration, deliver func(ctx context.Context, temp string) error,
	event func(FetchRequest, int, error),
) (exit int, err error) {
	who, began := CallerIn(q.Dir), time.Now()
	temp := fmt.Sprintf("%s.skyd-%d", q.Dest, os.Getpid())
	for try := 0; ; try++ {
		limit := attemptLimit
		if who == StandbyCaller {
			limit = standbyPatience
		}
		attempt, stop := whileGrowing(ctx, temp, limit)
		err = deliver(attempt, temp)
		stop()
		if err == nil {
			if err = os.Rename(temp, q.Dest); err != nil {
				err = &localError{err}
			}
		}
		if err != nil {
			_ = os.Remove(temp) // most often it is not there
		}
		v := Decide(who, FindingOf(err), patience)
		if v.Exit == FetchDone {
			return FetchDone, nil
		}
		wait := min(5*time.Second, 100*time.Millisecond<<min(try, 10))
		wait = wait/2 + rand.N(wait/2)
		if left := v.Patience - time.Since(began); left <= 0 || !pause(ctx, min(wait, left)) {
			if v.Event {
				event(q, v.Exit, err)
			}
			return v.Exit, err
		}
	}
}

// errStalled is the cause of an attempt that ended because nothing came any more.
var errStalled = errors.New("the storage does not answer")

// whileGrowing is a context that ends when the file has not grown for so long.
func whileGrowing(ctx context.Context, name string, limit time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var (
		watch *time.Timer
		armed = make(chan struct{})
		size  int64
	)
	watch = time.AfterFunc(limit, func() {
		<-armed
		if info, err := os.Stat(name); err == nil && info.Size() > size {
			size = info.Size()
			watch.Reset(limit)
			return
		}
		cancel(errStalled)
	})
	close(armed)
	return ctx, func() {
		watch.Stop()
		cancel(nil)
	}
}

// pause waits; false: the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Deliver writes a file of the archive to temp, verified. ErrAbsent, ErrGap, ErrDamaged; other errors are the storage's,
// or local ones.
func (a *Archive) Deliver(ctx context.Context, q FetchRequest, temp string) error {
	if len(a.mirrors) > 0 {
		return a.deliverAny(ctx, q, temp)
	}
	return a.deliverHere(ctx, q, temp)
}

// deliverHere is Deliver from this storage alone.
func (a *Archive) deliverHere(ctx context.Context, q FetchRequest, temp string) error {
	kind := KindOf(q.Name)
	if kind == NotWAL {
		return fmt.Errorf("%q: %w", q.Name, ErrNotWAL)
	}
	cluster, err := a.clusterOf(ctx, q.Dir)
	if err != nil {
		return err
	}
	switch kind {
	case WALSegment:
		return a.deliverSegment(ctx, cluster.System, q, temp)
	case HistoryFile:
		return a.deliverPlain(ctx, a.repo.HistoryKey(cluster.System, q.Name), q, temp)
	case BackupFile:
		return a.deliverPlain(ctx, a.repo.ExtraKey(cluster.System, q.Name), q, temp)
	}
	return fmt.Errorf("%s: %w", q.Name, ErrAbsent)
}

// clusterOf is the cluster of the server that asks: of its working directory, else the configured data directory, else
// the one that the archive is of.
func (a *Archive) clusterOf(ctx context.Context, dir string) (Cluster, error) {
	for _, d := range []string{dir, a.config.PGData} {
		if d == "" || !exists(filepath.Join(d, "global", "pg_control")) {
			continue
		}
		c, err := ReadCluster(d)
		if err != nil {
			err = &localError{err}
		}
		return c, err
	}
	all, err := a.repo.Clusters(ctx)
	if err != nil {
		return Cluster{}, err
	}
	c, ok := all.Current()
	if !ok {
		return c, fmt.Errorf("%w: source %s has nothing in %s", errUsage, a.config.Source, a.repo.Storage)
	}
	return c, nil
}

// deliverPlain brings a file that is stored as it is.
func (a *Archive) deliverPlain(ctx context.Context, key string, q FetchRequest, temp string) error {
	text, err := a.repo.ReadSmall(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return a.absent(ctx, q.Name)
	}
	if err != nil {
		return err
	}
	if KindOf(q.Name) == HistoryFile {
		if _, err := ParseHistory(SegmentTimeline(q.Name), text); err != nil {
			return err
		}
	}
	return toFile(temp, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// absent says that a file is not in the archive, once it is sure that the archive is there.
func (a *Archive) absent(ctx context.Context, name string) error {
	if err := a.repo.present(ctx); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", name, ErrAbsent)
}

// deliverSegment brings a segment, or at the end of recovery the part of it that a receiver got.
func (a *Archive) deliverSegment(ctx context.Context, system uint64, q FetchRequest, temp string) error {
	err := a.repo.FetchSegment(ctx, system, q.Name, temp)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := a.repo.present(ctx); err != nil {
		return err
	}
	hole, err := a.repo.hole(ctx, system, q.Name)
	switch {
	case err != nil:
		return err
	case hole != "":
		if err := a.repo.FetchSegment(ctx, system, q.Name, temp); !errors.Is(err, ErrNotFound) {
			return err // it came while we looked
		}
		return fmt.Errorf("%s: %w (%s is)", q.Name, ErrGap, hole)
	case CallerIn(q.Dir) == RecoverCaller && !q.whole:
		err = a.repo.FetchPartial(ctx, system, q.Name, temp)
		if errors.Is(err, ErrNotFound) {
			err = a.repo.FetchSegment(ctx, system, q.Name, temp) // it was closed while we looked
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return fmt.Errorf("%s: %w", q.Name, ErrAbsent)
}

// FetchSegment writes a segment to the file temp, verified. ErrNotFound, ErrDamaged.
func (r *Repo) FetchSegment(ctx context.Context, system uint64, name, temp string) error {
	return toFile(temp, func(w io.Writer) error {
		head := &firstBytes{w: w}
		h, err := r.Unseal(ctx, r.SegmentKey(system, name), head)
		if err != nil {
			return err
		}
		if h.Name != name {
			return fmt.Errorf("%w: it is %s", ErrDamaged, h.Name)
		}
		info, err := ReadSegmentInfo(head.page)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		start, err := SegmentStart(name, info.Size)
		if err != nil || info.Start != start || info.System != system || h.Bytes != int64(info.Size) {
			return fmt.Errorf("%w: it holds position %s of system %d", ErrDamaged, info.Start, info.System)
		}
		return nil
	})
}

// firstBytes passes everything on and keeps the header of the first page.
type firstBytes struct {
	w    io.Writer
	page []byte
}

// Write implements io.Writer.
func (f *firstBytes) Write(p []byte) (int, error) {
	if room := longPage - len(f.page); room > 0 {
		f.page = append(f.page, p[:min(room, len(p))]...)
	}
	return f.w.Write(p)
}

// hole tells which file shows that a segment should be there; "": none, it is the end of its timeline. A timeline begins
// with the segment of its branch: that it has nothing before is no hole. But a timeline that branched off its parent
// later proves that the parent had everything before that.
func (r *Repo) hole(ctx context.Context, system uint64, name string) (string, error) {
	tli := SegmentTimeline(name)
	later, err := r.laterSegment(ctx, system, name)
	if err != nil {
		return "", err
	}
	histories, err := r.Histories(ctx, system)
	if err != nil {
		return "", err
	}
	size, err := r.segmentSize(ctx, system)
	if err != nil || size == 0 {
		return later, err
	}
	start, err := SegmentStart(name, size)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	if later != "" {
		if h := histories[tli]; len(h) > 0 && start+LSN(size) <= h[len(h)-1].Until {
			return "", nil
		}
		return later, nil
	}
	for child, h := range histories {
		for i, b := range h {
			begins := i == 0 || start >= h[i-1].Until-h[i-1].Until%LSN(size)
			if b.Timeline == tli && begins && start+LSN(size) <= b.Until {
				return HistoryName(child), nil
			}
		}
	}
	return "", nil
}

// laterSegment names a stored segment behind this one on its timeline, or "". The next one is asked for by name, because
// a list may be stale.
func (r *Repo) laterSegment(ctx context.Context, system uint64, name string) (string, error) {
	size, err := r.segmentSize(ctx, system)
	if err != nil {
		return "", err
	}
	if size > 0 {
		next, err := NextSegment(name, size)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errUsage, err)
		}
		if _, err = r.Head(ctx, r.SegmentKey(system, next)); err == nil || !errors.Is(err, ErrNotFound) {
			return next, err
		}
	}
	for o, err := range r.List(ctx, r.TimelinePrefix(system, SegmentTimeline(name)), r.SegmentKey(system, name)) {
		if err != nil {
			return "", err
		}
		if found, ok := SegmentOfKey(o.Key); ok && found > name {
			return found, nil
		}
	}
	return "", nil
}

// segmentSize is the size of the segments of a cluster; 0 when the archive does not know it.
func (r *Repo) segmentSize(ctx context.Context, system uint64) (uint32, error) {
	all, err := r.Clusters(ctx)
	if err != nil {
		return 0, err
	}
	for _, c := range all.Clusters {
		if c.System == system {
			return c.Size, nil
		}
	}
	return 0, nil
}

// FetchPartial writes what a receiver stored of an open segment to the file temp, filled with zeros to the size of a
// segment. ErrNotFound.
func (r *Repo) FetchPartial(ctx context.Context, system uint64, name, temp string) error {
	content, err := r.ReadPartial(ctx, system, name)
	if err != nil {
		return err
	}
	return toFile(temp, func(w io.Writer) error {
		if len(content) < longPage { // nothing was received of it yet
			return fmt.Errorf("%s.part: %w", name, ErrNotFound)
		}
		info, err := ReadSegmentInfo(content)
		if err != nil {
			return fmt.Errorf("%s.part: %w: %w", name, ErrDamaged, err)
		}
		start, err := SegmentStart(name, info.Size)
		if err != nil || info.Start != start || info.System != system || len(content) > int(info.Size) {
			return fmt.Errorf("%s.part: %w: it holds position %s of system %d", name, ErrDamaged, info.Start, info.System)
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		f, _ := w.(*destination)
		return f.grow(int64(info.Size))
	})
}

// destination is the file that gets a fetched one; its failures are local ones.
type destination struct{ f *os.File }

// Write implements io.Writer.
func (d *destination) Write(p []byte) (int, error) {
	n, err := d.f.Write(p)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

// grow fills the file with zeros up to a size.
func (d *destination) grow(size int64) error {
	if err := d.f.Truncate(size); err != nil {
		return &localError{err}
	}
	return nil
}

// toFile makes a file; it is removed when fill fails. It is not synced: the server asks again after a crash.
func toFile(name string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return &localError{err}
	}
	err = fill(&destination{f})
	if cerr := f.Close(); err == nil && cerr != nil {
		err = &localError{cerr}
	}
	if err != nil {
		_ = os.Remove(name)
	}
	return err
}
