package walarchive

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// storeObject makes and puts an object unless the same content is there already; then nothing is compressed. packed is the
// size of the object that was made.
func (r *Repo) storeObject(ctx context.Context, key string, h Header, content []byte) (stored bool, packed int64, err error) {
	h = r.stamp(h, content)
	err = r.compare(ctx, key, h)
	if !errors.Is(err, ErrNotFound) {
		if err == nil {
			err = r.settle(ctx, key)
		}
		return false, 0, err
	}
	buf := r.buffer(int64(len(content)))
	object, err := r.pack((*buf)[:0], h, content)
	if err != nil {
		return false, 0, err
	}
	stored, err = r.putObject(ctx, key, h, object)
	if err == nil {
		r.buffers.Put(buf) // after a failure a storage may still be reading
	}
	return stored, int64(len(object)), err
}

// buffer takes a buffer of at least this capacity from the pool.
func (r *Repo) buffer(size int64) *[]byte {
	buf, _ := r.buffers.Get().(*[]byte)
	if buf == nil || int64(cap(*buf)) < size {
		fresh := make([]byte, size)
		buf = &fresh
	}
	return buf
}

// readFile reads a file into a buffer of the pool; free gives the buffer back.
func (r *Repo) readFile(path string) (content []byte, free func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 1<<30 {
		return nil, nil, fmt.Errorf("%w: %s has %d bytes", ErrInvalid, path, info.Size())
	}
	buf := r.buffer(info.Size())
	content = (*buf)[:info.Size()]
	n, err := readFull(f, content)
	if err != nil {
		r.buffers.Put(buf)
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return content[:n], func() { r.buffers.Put(buf) }, nil
}
