package file

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/skytools/skyd/walarchive"
)

// Names that are no objects.
const (
	tempPrefix = ".tmp-"
	lockName   = ".lock"
)

// Storage is a directory.
type Storage struct {
	dir string
	// step is called before every call that changes the directory; its error is taken for that of the call. For tests.
	step func(call string) error

	mu    sync.Mutex
	swept map[string]bool // directories in which nobody's leftovers are any more
}

var _ walarchive.Storage = (*Storage)(nil)

// Open opens the storage of a URL like file:///var/lib/skyd/wal. The directory is made by the first Put.
func Open(_ context.Context, u *url.URL) (walarchive.Storage, error) {
	return open(u)
}

func open(u *url.URL) (*Storage, error) {
	switch {
	case u.Scheme != "file":
		return nil, fmt.Errorf("storage %s: the scheme must be file", u.Redacted())
	case u.Host != "" && u.Host != "localhost", !strings.HasPrefix(u.Path, "/"), u.RawQuery != "":
		return nil, fmt.Errorf("storage %s: must look like file:///absolute/directory", u.Redacted())
	}
	return &Storage{dir: filepath.Clean(u.Path), step: func(string) error { return nil }}, nil
}

// String implements walarchive.Storage.
func (s *Storage) String() string { return (&url.URL{Scheme: "file", Path: s.dir}).String() }

// Close implements walarchive.Storage.
func (s *Storage) Close() error { return nil }

// Capabilities implements walarchive.Storage.
func (s *Storage) Capabilities() walarchive.Capabilities {
	return walarchive.Capabilities{AtomicPut: true, FreshList: true, LocalDir: s.dir}
}

// file is the path of a key.
func (s *Storage) file(key string) (string, error) {
	if err := walarchive.CheckKey(key); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, filepath.FromSlash(key)), nil
}

// Put implements walarchive.Storage.
func (s *Storage) Put(ctx context.Context, key string, body io.Reader, opts walarchive.PutOptions) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	if _, err := os.Lstat(name); err == nil {
		return s.exists(dir, key)
	}
	temp, err := s.write(ctx, dir, body, opts.Size)
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	err = s.link(temp, name)
	if rerr := s.remove(temp); err == nil {
		err = rerr
	}
	if errors.Is(err, fs.ErrExist) {
		return s.exists(dir, key)
	}
	if err == nil {
		err = s.syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// exists makes sure that what stands under the key is durable: whoever linked it may have died before the sync.
func (s *Storage) exists(dir, key string) error {
	if err := s.syncDir(dir); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return fmt.Errorf("store %s: %w", key, walarchive.ErrExists)
}

// Settle makes an object durable that is seen: it was synced before it got its name, the name may not be.
func (s *Storage) Settle(_ context.Context, key string) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(name))
}

// link gives a complete file its final name. On NFS an answer may be lost and the repeated request find its own work:
// the file then has two names.
func (s *Storage) link(temp, name string) error {
	if err := s.step("link"); err != nil {
		return err
	}
	err := os.Link(temp, name)
	if err != nil {
		if a, aerr := os.Lstat(temp); aerr == nil {
			if b, berr := os.Lstat(name); berr == nil && os.SameFile(a, b) {
				return nil
			}
		}
	}
	return err
}

// write makes a synced file with a temporary name in dir.
func (s *Storage) write(ctx context.Context, dir string, body io.Reader, size int64) (temp string, err error) {
	if err := s.mkdirs(dir); err != nil {
		return "", err
	}
	if err := s.step("create"); err != nil {
		return "", err
	}
	s.sweep(dir)
	temp = filepath.Join(dir, tempPrefix+rand.Text())
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) // says that its writer lives: see sweep
	n := int64(0)
	if err = adopt(temp); err == nil {
		n, err = io.Copy(f, &source{ctx: ctx, r: body, step: s.step})
	}
	if err == nil && size > 0 && n != size {
		err = fmt.Errorf("the body has %d bytes, not %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err == nil {
		if err = s.step("fsync"); err == nil {
			err = f.Sync()
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = s.remove(temp) // the first error counts; a file that stays is swept later
		return "", err
	}
	return temp, nil
}

// sweepAge is how old a leftover must be: between making and locking a file passes a moment.
const sweepAge = time.Minute

// sweep removes what writers that died left in a directory, once per directory. A writer that lives holds a lock; where
// there are no locks, leftovers stay.
func (s *Storage) sweep(dir string) {
	s.mu.Lock()
	done := s.swept[dir]
	if s.swept == nil {
		s.swept = map[string]bool{}
	}
	s.swept[dir] = true
	s.mu.Unlock()
	if done {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the store itself will say why
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), tempPrefix) || time.Since(info.ModTime()) < sweepAge {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = s.remove(name)
		}
		_ = f.Close()
	}
}

// source reads a body until its context is cancelled.
type source struct {
	ctx  context.Context
	r    io.Reader
	step func(string) error
}

// Read implements io.Reader.
func (r *source) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	if err := r.step("write"); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// mkdirs makes a directory with its parents and syncs the parent of each new one.
func (s *Storage) mkdirs(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := s.mkdirs(parent); err != nil {
			return err
		}
	}
	if err := s.step("mkdir"); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = adopt(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncDir(filepath.Dir(dir))
}

// adopt gives what root has made to the owner of the directory that it is in: who keeps the archive, the server's user as a
// rule, must be able to read what a command run as root has stored.
func adopt(name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(name))
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return os.Lchown(name, int(owner.Uid), int(owner.Gid))
}

// syncDir makes the names in a directory durable.
func (s *Storage) syncDir(dir string) error {
	if err := s.step("fsync directory"); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Storage) remove(name string) error {
	if err := s.step("unlink"); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PutIf implements walarchive.Storage.
func (s *Storage) PutIf(ctx context.Context, key string, body []byte, etag string) (string, error) {
	if etag == "" {
		return tagOf(body), s.Put(ctx, key, strings.NewReader(string(body)), walarchive.PutOptions{Size: int64(len(body))})
	}
	name, err := s.file(key)
	if err != nil {
		return "", err
	}
	unlock, err := s.lock()
	if err != nil {
		return "", fmt.Errorf("replace %s: %w", key, err)
	}
	defer unlock()
	old, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && tagOf(old) != etag:
		return "", fmt.Errorf("replace %s: %w", key, walarchive.ErrChanged)
	case err != nil:
		return "", fmt.Errorf("replace %s: %w", key, err)
	}
	dir := filepath.Dir(name)
	temp, err := s.write(ctx, dir, strings.NewReader(string(body)), int64(len(body)))
	if err != nil {
		return "", fmt.Errorf("replace %s: %w", key, err)
	}
	if err = s.step("rename"); err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		_ = s.remove(temp)
	} else {
		err = s.syncDir(dir)
	}
	if err != nil {
		return "", fmt.Errorf("replace %s: %w", key, err)
	}
	return tagOf(body), nil
}

// lock keeps other replacements out; it ends with the process.
func (s *Storage) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := adopt(f.Name()); err != nil {
		_ = f.Close()
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

// tagOf is the ETag of a small object: its content.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}

// Get implements walarchive.Storage.
func (s *Storage) Get(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	f, err := s.open(key)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(fmt.Errorf("read %s: %w", key, err), f.Close())
		}
	}
	if length < 0 {
		return f, nil
	}
	return limited{io.LimitReader(f, length), f}, nil
}

// limited reads a part of a file.
type limited struct {
	io.Reader
	io.Closer
}

func (s *Storage) open(key string) (*os.File, error) {
	name, err := s.file(key)
	if err != nil {
		return nil, err
	}
	if err := s.reachable(); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, readError(key, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("read %s: %w", key, walarchive.ErrNotFound), err, f.Close())
	}
	return f, nil
}

// reachable tells a key that is absent from a storage that is: without its directory (a mount that is gone) nothing is
// known about what it holds.
func (s *Storage) reachable() error {
	if _, err := os.Stat(s.dir); err != nil {
		return fmt.Errorf("the storage directory is not there: %w", unnamed(err))
	}
	return nil
}

// unnamed is the cause without fs.ErrNotExist, which means an absent object.
func unnamed(err error) error {
	return errors.New(err.Error())
}

func readError(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		err = walarchive.ErrNotFound
	}
	return fmt.Errorf("read %s: %w", key, err)
}

// Head implements walarchive.Storage.
func (s *Storage) Head(_ context.Context, key string) (walarchive.Object, error) {
	f, err := s.open(key)
	if err != nil {
		return walarchive.Object{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return walarchive.Object{}, readError(key, err)
	}
	o := walarchive.Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}
	if info.Size() <= walarchive.MaxSmall {
		body, err := io.ReadAll(f)
		if err != nil {
			return o, readError(key, err)
		}
		o.ETag = tagOf(body)
	}
	return o, nil
}

// List implements walarchive.Storage.
func (s *Storage) List(ctx context.Context, prefix, after string) iter.Seq2[walarchive.Object, error] {
	return func(yield func(walarchive.Object, error) bool) {
		if err := s.reachable(); err != nil {
			yield(walarchive.Object{}, fmt.Errorf("list %s: %w", prefix, err))
			return
		}
		walarchive.ListTree(ctx, prefix, after, func(dir string) ([]fs.DirEntry, error) {
			entries, err := os.ReadDir(filepath.Join(s.dir, filepath.FromSlash(dir)))
			if errors.Is(err, syscall.ENOTDIR) {
				err = fs.ErrNotExist
			}
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
			err = context.Cause(ctx)
		}
		if err == nil {
			err = s.remove(name)
		}
		if err != nil && !errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("delete %s: %w", key, err)
		}
		dirs[filepath.Dir(name)] = true
	}
	for dir := range dirs {
		if err := s.syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}
