package walarchive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// droppedDir holds an empty file for each segment that was let go unarchived and is not on record in the repository yet.
func (c Config) droppedDir() string { return filepath.Join(c.StateDir, "dropped") }

// Drop lets the server go on without the archive: when more WAL waits than queue_max says, the segment that could not be
// archived, for a cause that may last, is given up. That is noted durably on this host first, and put on record as a gap as
// soon as the repository can be reached. false: it is not given up.
func (c Config) Drop(name string, cause error) (bool, error) {
	lasting := PushExit(cause) == PushFailed || errors.Is(cause, ErrNoRepository) // also a mount that is gone
	if c.QueueMax <= 0 || !lasting || KindOf(name) != WALSegment {
		return false, nil
	}
	waiting, err := WaitingBytes(c.PGData)
	if err != nil || waiting <= int64(c.QueueMax) {
		return false, err
	}
	dir := c.droppedDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("state_dir: %w", err)
	}
	if err := errors.Join(writeSynced(filepath.Join(dir, name), nil), syncPath(dir)); err != nil {
		return false, fmt.Errorf("state_dir: %w", err)
	}
	return true, nil
}

// WaitingBytes is the size of the segments that wait for the archiver.
func WaitingBytes(pgdata string) (int64, error) {
	ready, err := ReadyFiles(pgdata)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, f := range ready {
		if info, err := os.Stat(filepath.Join(pgdata, "pg_wal", f.Name)); err == nil { // one that is gone waits for nothing
			sum += info.Size()
		}
	}
	return sum, nil
}

// Dropped lists the segments that were given up and are not on record yet.
func (c Config) Dropped() ([]string, error) {
	entries, err := os.ReadDir(c.droppedDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	var names []string
	for _, e := range entries {
		if KindOf(e.Name()) == WALSegment {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// RecordDropped puts on record what was given up while the repository could not be reached.
func (a *Archive) RecordDropped(ctx context.Context) error {
	names, err := a.config.Dropped()
	if err != nil || len(names) == 0 {
		return err
	}
	c, err := a.clusterNow(ctx)
	if err != nil {
		return err
	}
	size, err := a.droppedSize(ctx, c)
	if err != nil {
		return err
	}
	for len(names) > 0 {
		from, err := SegmentStart(names[0], size)
		if err != nil {
			return err
		}
		n, to := 0, from
		for n < len(names) && names[n] == SegmentName(SegmentTimeline(names[0]), to, size) {
			n, to = n+1, to+LSN(size)
		}
		g := Gap{
			System: c.System, Timeline: SegmentTimeline(names[0]), From: from, To: to, Time: time.Now().UTC(),
			Reason: "given up: more than queue_max waited and the repository could not be reached",
		}
		if err := a.repo.RecordGap(ctx, g); err != nil {
			return err
		}
		a.log.Error("WAL was given up: a gap in the archive, a new backup is needed", "event", "wal.gap", "source", a.config.Source,
			"timeline", g.Timeline, "from", g.From.String(), "to", g.To.String())
		for _, name := range names[:n] {
			if err := os.Remove(filepath.Join(a.config.droppedDir(), name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		names = slices.Delete(names, 0, n)
	}
	return nil
}

// droppedSize is the size of the cluster's segments.
func (a *Archive) droppedSize(ctx context.Context, c Cluster) (uint32, error) {
	if c.Size > 0 {
		return c.Size, nil
	}
	size, err := a.repo.segmentSize(ctx, c.System)
	if err == nil && size == 0 {
		err = fmt.Errorf("the size of the segments of system %d is not known", c.System)
	}
	return size, err
}
