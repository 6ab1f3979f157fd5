package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// maxIncrements is the number of pieces of an open segment at which they are joined.
const maxIncrements = 64

// receivedHeader begins the header of an object that a receiver stores.
func receivedHeader(name string, system uint64, info SegmentInfo, writer string) Header {
	h := Header{
		Name: name, System: system, Timeline: SegmentTimeline(name), Start: info.Start, Major: info.Major,
		Writer: writer, Time: time.Now().UTC(),
	}
	if info.Start > 0 {
		h.Prev = SegmentName(h.Timeline, info.Start-1, info.Size)
	}
	return h
}

// writer names this receiver in objects.
func (rc *Receiver) writer() string {
	host, _ := os.Hostname() // for people; the empty name will do
	return host + ":receiver"
}

// shipUntil brings what was received into the repository until ctx ends, and once more then: what is durable here is to
// be durable there before anybody restores.
func (rc *Receiver) shipUntil(ctx context.Context, dir *walDir, system uint64) {
	tick := time.NewTicker(rc.o.PartialInterval)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-ctx.Done():
			last = true
		case <-rc.wake:
		case <-tick.C:
		}
		within, cancel := context.WithCancel(ctx)
		if last {
			within, cancel = context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		}
		err := rc.ship(within, dir, system)
		cancel()
		if last {
			return
		}
		if err != nil && ctx.Err() == nil {
			rc.trouble(err)
		} else if err == nil {
			rc.trouble(nil)
		}
		select {
		case rc.done <- struct{}{}:
		default:
		}
	}
}

// trouble notes what keeps the repository from taking WAL.
func (rc *Receiver) trouble(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	rc.mu.Lock()
	changed := rc.status.Trouble != text
	rc.mu.Unlock()
	if !changed {
		return
	}
	if text != "" {
		rc.o.Note("the repository does not take WAL: " + text)
	}
	rc.update(func(st *ReceiverStatus) { st.Trouble = text })
}

// ship stores the closed segments, oldest first, then what is new of the open ones.
func (rc *Receiver) ship(ctx context.Context, dir *walDir, system uint64) error {
	closed, open, err := dir.segments()
	if err != nil {
		return err
	}
	for i, name := range closed {
		if _, err := rc.repo.storeSegment(ctx, system, dir.file(name), rc.writer()); err != nil {
			return err
		}
		if err := rc.repo.DropPartial(ctx, system, name); err != nil {
			return err
		}
		if err := os.Remove(dir.file(name)); err != nil {
			return err
		}
		rc.forget(name)
		start, err := SegmentStart(name, uint32(dir.size))
		if err != nil {
			return err
		}
		rc.stored(start + LSN(dir.size))
		rc.update(func(st *ReceiverStatus) { st.Pending = int64(len(closed)-i-1) * dir.size })
	}
	for _, name := range open {
		if err := rc.shipOpen(ctx, dir, system, name); err != nil {
			return err
		}
	}
	return nil
}

// forget drops what is known about an open segment.
func (rc *Receiver) forget(name string) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	delete(rc.shipped, name)
	delete(rc.idle, name)
}

// stored notes the end of what is in the repository.
func (rc *Receiver) stored(at LSN) {
	rc.update(func(st *ReceiverStatus) {
		st.Stored = max(st.Stored, at)
		for len(rc.marks) > 0 && rc.marks[0].at <= at {
			st.StoredTime = rc.marks[0].sent
			rc.marks = rc.marks[1:]
		}
	})
}

// shipOpen stores what is new of an open segment. One that nobody writes any more, of a timeline that ended or of an
// earlier run, is stored as far as it goes.
func (rc *Receiver) shipOpen(ctx context.Context, dir *walDir, system uint64, name string) error {
	start, err := SegmentStart(name, uint32(dir.size))
	if err != nil {
		return err
	}
	rc.mu.Lock()
	current, flushed := rc.current == name, rc.status.Flushed
	from, known := rc.shipped[name]
	idle := rc.idle[name]
	rc.mu.Unlock()
	switch {
	case current && known && flushed == start+LSN(from):
		return nil // nothing new
	case !current && idle:
		return rc.discard(ctx, dir, system, name)
	}
	if !known {
		if from, err = rc.repo.PartialEnd(ctx, system, name); err != nil {
			return err
		}
	}
	content, err := dir.received(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // closed a moment ago
	}
	if err != nil {
		return err
	}
	end := int64(len(content))
	if current && flushed >= start && flushed < start+LSN(dir.size) {
		// Only what is durable here: the file may hold more, or less than its real length when it ends in zeros.
		end = int64(flushed - start)
		content = append(content, make([]byte, max(0, end-int64(len(content))))...)[:max(end, 0)]
		if from > end {
			return nil // received again after a restart
		}
	}
	if end > from {
		if err := rc.repo.PutPartial(ctx, system, name, from, content[from:end], start, rc.writer()); err != nil {
			return err
		}
		if err := rc.join(ctx, system, name, content[:end], start); err != nil {
			return err
		}
	}
	rc.mu.Lock()
	rc.shipped[name] = max(end, from)
	rc.idle[name] = !current && rc.current != name // all of it is stored; until somebody writes it again
	latest := rc.status.Timeline == SegmentTimeline(name)
	rc.mu.Unlock()
	if latest {
		rc.stored(start + LSN(max(end, from)))
	}
	return nil
}

// discard removes the file of an open segment that nobody writes any more and that is stored as far as it goes, when it is
// of no use here: it came into the archive whole on another way, or its timeline has ended.
func (rc *Receiver) discard(ctx context.Context, dir *walDir, system uint64, name string) error {
	_, err := rc.repo.Head(ctx, rc.repo.SegmentKey(system, name))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	st := rc.Status()
	if err == nil {
		if err := rc.repo.DropPartial(ctx, system, name); err != nil {
			return err
		}
	} else if !st.Connected || SegmentTimeline(name) >= st.Timeline {
		return nil // receiving goes on with it
	}
	rc.forget(name)
	return os.Remove(dir.openFile(name))
}

// join replaces many pieces of an open segment by one.
func (rc *Receiver) join(ctx context.Context, system uint64, name string, content []byte, start LSN) error {
	list, _, err := rc.repo.increments(ctx, system, name)
	if err != nil || len(list) <= maxIncrements {
		return err
	}
	if err := rc.repo.PutPartial(ctx, system, name, 0, content, start, rc.writer()); err != nil {
		return err
	}
	return rc.repo.dropIncrements(ctx, system, name, int64(len(content)))
}

// salvage stores what earlier runs received and did not store, without the server: it may be gone for good.
func (rc *Receiver) salvage(ctx context.Context) error {
	root := filepath.Join(rc.o.StateDir, "receive")
	systems, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	for _, e := range systems {
		system, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil {
			continue
		}
		dir := &walDir{path: filepath.Join(root, e.Name())}
		closed, open, err := dir.segments()
		if err != nil {
			return err
		}
		for _, path := range append(mapSlice(closed, dir.file), mapSlice(open, dir.openFile)...) {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			dir.size = info.Size()
		}
		if err := rc.ship(ctx, dir, system); err != nil {
			return err
		}
	}
	return nil
}

// mapSlice applies f to every element.
func mapSlice(list []string, f func(string) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

// SalvageWAL stores what a receiver of this host left in its state directory: for a restore after the primary and the
// daemon are gone.
func (r *Repo) SalvageWAL(ctx context.Context, stateDir string) error {
	return NewReceiver(r, ReceiverOptions{StateDir: stateDir}).salvage(ctx)
}
