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
	"sync"
)

// walDir is the local directory of a receiver, <state_dir>/receive/<system>: received segments that are not in the
// repository yet. A name with openSuffix is the segment that is being received: it has its full size from the start,
// zeros behind what was received. Closed segments have their plain names.
type walDir struct {
	path string
	size int64 // of a segment

	mu       sync.Mutex
	prepared bool // the spare file is there
	failed   error
	busy     sync.WaitGroup
}

// Names in a walDir that are no segments.
const (
	openSuffix = ".partial"
	spareName  = "spare"
	hollowName = "hollow"
)

// openWALDir makes the directory if it is missing.
func openWALDir(path string, size int64) (*walDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	return &walDir{path: path, size: size}, nil
}

// segments lists the closed segments, oldest first, and the open ones.
func (d *walDir) segments() (closed, open []string, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, nil, fmt.Errorf("state_dir: %w", err)
	}
	for _, e := range entries {
		name, isOpen := strings.CutSuffix(e.Name(), openSuffix)
		switch {
		case KindOf(name) != WALSegment:
		case isOpen:
			open = append(open, name)
		default:
			closed = append(closed, name)
		}
	}
	slices.Sort(closed)
	slices.Sort(open)
	return closed, open, nil
}

// file is the path of a closed segment.
func (d *walDir) file(name string) string { return filepath.Join(d.path, name) }

// openFile is the path of an open segment.
func (d *walDir) openFile(name string) string { return filepath.Join(d.path, name+openSuffix) }

// prepare fills a spare file with zeros in the background, so that receiving never waits for it: a file that does not
// grow is synced much faster.
func (d *walDir) prepare() {
	d.busy.Go(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.prepared {
			d.failed = d.zeroFile(d.file(spareName))
			d.prepared = d.failed == nil
		}
	})
}

// zeroFile makes a file of zeros of the size of a segment, durable.
func (d *walDir) zeroFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for left := d.size; left > 0 && err == nil; left -= int64(len(zeros)) {
		_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("prepare the next segment: %w", err), os.Remove(path))
	}
	return nil
}

// open gives the file of a segment that is to be received: the one from before, or the spare. While we catch up nobody
// waits for single records, and a segment is full before it is synced for the first time: filling it with zeros before would
// only double what is written.
func (d *walDir) open(name string, catchingUp bool) (*os.File, error) {
	path := d.openFile(name)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		info, err := f.Stat()
		if err == nil && info.Size() != d.size {
			err = fmt.Errorf("%s has %d bytes, a segment has %d", path, info.Size(), d.size)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if catchingUp {
		return d.hollow(path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.prepared {
		if err := d.zeroFile(d.file(spareName)); err != nil {
			return nil, err
		}
	}
	d.prepared = false
	if err := os.Rename(d.file(spareName), path); err != nil {
		return nil, err
	}
	if err := syncPath(d.path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// hollow makes a segment whose zeros have no place on disk yet. That the disk is full shows when it is written or synced,
// which is before the server hears anything.
func (d *walDir) hollow(path string) (*os.File, error) {
	f, err := os.OpenFile(d.file(hollowName), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err = f.Truncate(d.size); err == nil { // before it has its name: an open segment has its full size
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncPath(d.path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// closeSegment gives a segment that was received whole and synced its plain name.
func (d *walDir) closeSegment(name string) error {
	if err := os.Rename(d.openFile(name), d.file(name)); err != nil {
		return err
	}
	return syncPath(d.path)
}

// received reads what was received of an open segment: up to the last byte that is not zero. Behind what was received
// there are only zeros, and zeros at the end mean the same to recovery whether they were received or not.
func (d *walDir) received(name string) ([]byte, error) {
	text, err := os.ReadFile(d.openFile(name))
	if err != nil {
		return nil, err
	}
	n := len(text)
	for n > 0 && text[n-1] == 0 {
		n--
	}
	return text[:n], nil
}

// syncPath makes the content of a file, or the names in a directory, durable.
func syncPath(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// storeSegment stores a closed local segment in the repository. That it is there already, from push, is as good.
func (r *Repo) storeSegment(ctx context.Context, system uint64, path, writer string) (stored bool, err error) {
	name := filepath.Base(path)
	content, free, err := r.readFile(path)
	if err != nil {
		return false, err
	}
	defer free()
	info, err := CheckSegment(name, system, content)
	if err != nil {
		return false, fmt.Errorf("received segment %s: %w", name, err)
	}
	stored, _, err = r.storeObject(ctx, r.SegmentKey(system, name), receivedHeader(name, system, info, writer), content)
	return stored, err
}
