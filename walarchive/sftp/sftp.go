package sftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"github.com/skytools/skyd/walarchive"
)

// Names that are no objects.
const (
	tempPrefix = ".tmp-"
	lockPrefix = ".lock-"
)

// chunk is how much is read or written at a time, in several requests at once.
const chunk = 1 << 20

// file is the path of a key.
func (s *Storage) file(key string) (string, error) {
	if err := walarchive.CheckKey(key); err != nil {
		return "", err
	}
	return path.Join(s.dir, key), nil
}

// Put implements walarchive.Storage.
func (s *Storage) Put(ctx context.Context, key string, body io.Reader, o walarchive.PutOptions) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	err = s.do(ctx, func(c *conn) error { return s.put(ctx, c, name, body, o.Size) })
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

func (s *Storage) put(ctx context.Context, c *conn, name string, body io.Reader, size int64) error {
	dir := path.Dir(name)
	if _, err := c.Lstat(name); err == nil {
		return s.exists(c, dir)
	}
	temp, err := s.write(ctx, c, dir, body, size)
	if err != nil {
		return err
	}
	linked, err := link(c, temp, name)
	if rerr := remove(c, temp); err == nil {
		err = rerr
	}
	if err != nil {
		return err
	}
	if !linked {
		return s.exists(c, dir)
	}
	return syncDir(c, dir)
}

// exists makes sure that what stands under a name in dir is durable: whoever linked it may have died before the sync.
func (s *Storage) exists(c *conn, dir string) error {
	if err := syncDir(c, dir); err != nil {
		return err
	}
	return walarchive.ErrExists
}

// Settle makes an object durable that is seen: it was synced before it got its name, the name may not be.
func (s *Storage) Settle(ctx context.Context, key string) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	return s.do(ctx, func(c *conn) error { return syncDir(c, path.Dir(name)) })
}

// link gives a complete file its final name; false: somebody has it. SFTP has no error of its own for that.
func link(c *conn, temp, name string) (bool, error) {
	err := c.Link(temp, name)
	if err == nil {
		return true, nil
	}
	if _, serr := c.Lstat(name); serr == nil {
		return false, nil
	}
	return false, fmt.Errorf("give it its name: %w", err)
}

// write makes a synced file with a temporary name in dir.
func (s *Storage) write(ctx context.Context, c *conn, dir string, body io.Reader, size int64) (temp string, err error) {
	if err := s.mkdirs(c, dir); err != nil {
		return "", err
	}
	temp = path.Join(dir, tempPrefix+rand.Text())
	f, err := c.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return "", fmt.Errorf("make a file: %w", err)
	}
	n := int64(0)
	if err = f.Chmod(0o600); err == nil {
		n, err = copyTo(ctx, f, body, size)
	}
	if err == nil && size > 0 && n != size {
		err = fmt.Errorf("the body has %d bytes, not %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("sync: %w", err)
		}
	}
	if err == nil {
		if info, serr := f.Stat(); serr != nil || info.Size() != n {
			err = errors.Join(fmt.Errorf("the server has not got all of %d bytes", n), serr)
		} else {
			s.sweep(c, dir, info.ModTime())
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = remove(c, temp) // the first error counts; a file that stays is swept later
		return "", err
	}
	return temp, nil
}

// copyTo writes a body, until ctx ends.
func copyTo(ctx context.Context, f *sftp.File, body io.Reader, size int64) (n int64, err error) {
	room := int64(chunk)
	if size > 0 {
		room = min(room, size)
	}
	buf := make([]byte, room)
	for {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		got, err := io.ReadFull(body, buf)
		if got > 0 {
			if _, werr := f.WriteAt(buf[:got], n); werr != nil {
				return n, fmt.Errorf("write: %w", werr)
			}
			n += int64(got)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && got < len(buf) && isEnd(body) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// isEnd tells the end of a body from a body whose own error is io.ErrUnexpectedEOF.
func isEnd(body io.Reader) bool {
	_, err := body.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

// sweepAge is how long nobody must have written to a leftover, by the clock of the server.
const sweepAge = 24 * time.Hour

// sweep removes what writers that died left in a directory, once per directory. now is the server's clock.
func (s *Storage) sweep(c *conn, dir string, now time.Time) {
	s.mu.Lock()
	done := s.swept[dir]
	s.swept[dir] = true
	s.mu.Unlock()
	if done {
		return
	}
	entries, err := c.ReadDir(dir)
	if err != nil {
		return // the store itself will say why
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) && now.Sub(e.ModTime()) > sweepAge {
			_ = remove(c, path.Join(dir, e.Name())) // it stays until the next time
		}
	}
}

// mkdirs makes a directory with its parents, up to that of the storage, and syncs the parent of each new one.
func (s *Storage) mkdirs(c *conn, dir string) error {
	info, err := c.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is no directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case dir == s.dir:
		return s.away(err)
	}
	if err := s.mkdirs(c, path.Dir(dir)); err != nil {
		return err
	}
	if err := c.Mkdir(dir); err != nil {
		if info, serr := c.Stat(dir); serr != nil || !info.IsDir() {
			return fmt.Errorf("make the directory %s: %w", dir, err)
		}
	} else if err := c.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory %s: %w", dir, err)
	}
	return syncDir(c, path.Dir(dir))
}

// syncDir makes the names in a directory durable.
func syncDir(c *conn, dir string) error {
	d, err := c.Open(dir)
	if err == nil {
		err = d.Sync()
		if cerr := d.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the server cannot sync the directory %s, so its names are not durable: %w", dir, err)
	}
	return err
}

func remove(c *conn, name string) error {
	if err := c.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if _, serr := c.Lstat(name); errors.Is(serr, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return nil
}

// tagOf is the ETag of a small object: its content.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// PutIf implements walarchive.Storage.
func (s *Storage) PutIf(ctx context.Context, key string, body []byte, etag string) (string, error) {
	if etag == "" {
		return tagOf(body), s.Put(ctx, key, bytes.NewReader(body), walarchive.PutOptions{Size: int64(len(body))})
	}
	name, err := s.file(key)
	if err != nil {
		return "", err
	}
	err = s.do(ctx, func(c *conn) error { return s.replace(ctx, c, name, body, etag) })
	if err != nil {
		return "", fmt.Errorf("replace %s: %w", key, err)
	}
	return tagOf(body), nil
}

// staleLock is when a lock is taken for one that a dead writer left, by the clock of the server.
const staleLock = time.Minute

// replace replaces a file whose content has this tag. A lock with the name of the content that is to be replaced keeps
// others out. It holds the name of the file that is to take its place: who breaks a stale lock removes that file first, so
// that a writer who was only slow can replace nothing any more.
func (s *Storage) replace(ctx context.Context, c *conn, name string, body []byte, etag string) (err error) {
	dir := path.Dir(name)
	lock := path.Join(dir, lockPrefix+etag+"-"+path.Base(name))
	temp, err := s.write(ctx, c, dir, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = remove(c, temp) // the first error counts; a file that stays is swept later
		}
	}()
	for {
		if err := s.unchanged(c, name, etag); err != nil {
			return err
		}
		mine, err := s.lock(ctx, c, lock, temp)
		if err != nil {
			return err
		}
		if mine {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err = s.unchanged(c, name, etag); err == nil {
		err = c.PosixRename(temp, name)
	}
	if err == nil {
		err = syncDir(c, dir)
	}
	return errors.Join(err, remove(c, lock))
}

// unchanged makes sure that a file has the content of a tag: walarchive.ErrChanged.
func (s *Storage) unchanged(c *conn, name, etag string) error {
	now, err := readSmall(c, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && tagOf(now) != etag {
		return walarchive.ErrChanged
	}
	return err
}

// lock takes a lock; false: somebody has it. A stale one is broken.
func (s *Storage) lock(ctx context.Context, c *conn, lock, temp string) (bool, error) {
	note, err := s.write(ctx, c, path.Dir(lock), strings.NewReader(path.Base(temp)), 0)
	if err != nil {
		return false, err
	}
	mine, err := link(c, note, lock)
	now, serr := c.Lstat(note)
	if err = errors.Join(err, serr, remove(c, note)); err != nil || mine {
		return mine, err
	}
	info, err := c.Lstat(lock)
	if err != nil || now.ModTime().Sub(info.ModTime()) < staleLock {
		return false, nil //nolint:nilerr // it is gone: the next attempt gets it
	}
	holder, err := readSmall(c, lock)
	if err == nil && strings.HasPrefix(string(holder), tempPrefix) {
		err = remove(c, path.Join(path.Dir(lock), path.Base(string(holder))))
	}
	if err == nil {
		err = remove(c, lock)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return false, err
}

// readSmall reads a whole small file.
func readSmall(c *conn, name string) ([]byte, error) {
	f, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(f, walarchive.MaxSmall+1))
	return body, errors.Join(err, f.Close())
}

// away is the error of a storage whose directory is not there: a mount that is gone, or a mistake. Nothing is known then
// about what it holds.
func (s *Storage) away(err error) error {
	return fmt.Errorf("the directory %s is not there (make it, or mount it): %s", s.dir, err)
}

// readError tells an object that is absent from a storage that is.
func (s *Storage) readError(c *conn, name string, err error) error {
	state := (*sftp.StatusError)(nil)
	if !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &state) {
		return err
	}
	if _, derr := c.Stat(s.dir); derr != nil {
		return s.away(derr)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return walarchive.ErrNotFound
	}
	for dir := path.Dir(name); len(dir) > len(s.dir); dir = path.Dir(dir) { // a file in place of a directory
		if info, serr := c.Stat(dir); serr == nil && !info.IsDir() {
			return walarchive.ErrNotFound
		}
	}
	return err
}

// open opens an object for reading.
func (s *Storage) open(c *conn, name string) (f *sftp.File, info fs.FileInfo, err error) {
	if f, err = c.Open(name); err != nil {
		return nil, nil, s.readError(c, name, err)
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = walarchive.ErrNotFound
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// Get implements walarchive.Storage.
func (s *Storage) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	name, err := s.file(key)
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, offset: offset}
	err = s.do(ctx, func(c *conn) error {
		f, info, err := s.open(c, name)
		if err != nil {
			return err
		}
		r.c, r.f, r.left = c, f, max(0, info.Size()-offset)
		return nil
	})
	if err != nil {
		if r.f != nil {
			err = errors.Join(err, r.f.Close())
		}
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if length >= 0 {
		r.left = min(r.left, length)
	}
	return r, nil
}

// reader reads a part of a file, ahead of its user.
type reader struct {
	ctx    context.Context // of the Get
	c      *conn
	f      *sftp.File
	offset int64
	left   int64
	buf    []byte
	ready  []byte
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.ready) == 0 && r.left == 0 {
		return 0, io.EOF
	}
	if len(r.ready) == 0 {
		want := min(r.left, chunk)
		if int64(cap(r.buf)) < want {
			r.buf = make([]byte, want)
		}
		err := r.c.do(r.ctx, func() error {
			n, err := r.f.ReadAt(r.buf[:want], r.offset)
			if int64(n) < want && (err == nil || errors.Is(err, io.EOF)) {
				err = fmt.Errorf("the file ended %d bytes early", r.left-int64(n))
			}
			if int64(n) == want {
				err = nil
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("read: %w", err)
		}
		r.ready, r.offset, r.left = r.buf[:want], r.offset+want, r.left-want
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	_ = r.c.do(context.WithoutCancel(r.ctx), r.f.Close) // nothing was written
	return nil
}

// Head implements walarchive.Storage.
func (s *Storage) Head(ctx context.Context, key string) (o walarchive.Object, err error) {
	name, err := s.file(key)
	if err != nil {
		return o, err
	}
	err = s.do(ctx, func(c *conn) error {
		f, info, err := s.open(c, name)
		if err != nil {
			return err
		}
		o = walarchive.Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}
		if info.Size() <= walarchive.MaxSmall {
			var body []byte
			if body, err = io.ReadAll(f); err == nil && int64(len(body)) != info.Size() {
				err = fmt.Errorf("the file has %d bytes, not %d", len(body), info.Size())
			}
			o.ETag = tagOf(body)
		}
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return walarchive.Object{}, fmt.Errorf("read %s: %w", key, err)
	}
	return o, nil
}

// List implements walarchive.Storage.
func (s *Storage) List(ctx context.Context, prefix, after string) iter.Seq2[walarchive.Object, error] {
	return func(yield func(walarchive.Object, error) bool) {
		err := s.do(ctx, func(c *conn) error {
			if _, err := c.Stat(s.dir); err != nil {
				return s.away(err)
			}
			return nil
		})
		if err != nil {
			yield(walarchive.Object{}, fmt.Errorf("list %s: %w", prefix, err))
			return
		}
		walarchive.ListTree(ctx, prefix, after, func(dir string) (entries []fs.DirEntry, err error) {
			err = s.do(ctx, func(c *conn) error {
				infos, err := c.ReadDirContext(ctx, path.Join(s.dir, dir))
				for _, info := range infos {
					entries = append(entries, fs.FileInfoToDirEntry(info))
				}
				if err != nil && errors.Is(s.readError(c, path.Join(s.dir, dir, "x"), err), walarchive.ErrNotFound) {
					err = fs.ErrNotExist
				}
				return err
			})
			return entries, err
		})(yield)
	}
}

// Delete implements walarchive.Storage. Directories that become empty stay, so that no store in progress loses its own.
func (s *Storage) Delete(ctx context.Context, keys ...string) error {
	dirs := map[string]bool{}
	for _, key := range keys {
		name, err := s.file(key)
		if err == nil {
			err = s.do(ctx, func(c *conn) error {
				err := c.Remove(name)
				if err != nil && errors.Is(s.readError(c, name, err), walarchive.ErrNotFound) {
					err = nil
				}
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		dirs[path.Dir(name)] = true
	}
	for dir := range dirs {
		err := s.do(ctx, func(c *conn) error {
			info, err := c.Stat(dir)
			if err != nil || !info.IsDir() {
				return nil //nolint:nilerr // nothing was there
			}
			return syncDir(c, dir)
		})
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}
