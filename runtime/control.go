package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

var (
	// ErrSocketTaken is returned by Run when another daemon answers on the control socket.
	ErrSocketTaken = errors.New("another skyd runs with this control socket")
	// ErrNotRunning is returned by FetchStatus when no daemon answers on the socket.
	ErrNotRunning = errors.New("no skyd is running there")
)

// controlSocket is the unix socket of a daemon. A lock beside it says that its daemon lives: a socket file without the
// lock is left over from a daemon that was killed, and is replaced.
type controlSocket struct {
	file     string
	lock     *os.File
	listener net.Listener
}

// openControl takes the socket.
func openControl(ctx context.Context, file string) (*controlSocket, error) {
	if err := ownDirectory(filepath.Dir(file)); err != nil {
		return nil, fmt.Errorf("control socket %s: %w", file, err)
	}
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("control socket %s: %w", file, ErrSocketTaken)
		}
		return nil, fmt.Errorf("lock control socket %s: %w", file, err)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = lock.Close()
		return nil, fmt.Errorf("remove the old control socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", file)
	if err == nil {
		err = os.Chmod(file, 0o660)
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("control socket %s: %w", file, rootCause(err))
	}
	return &controlSocket{file: file, lock: lock, listener: l}, nil
}

// ownDirectory makes the directory of the socket, and refuses one that somebody else could have prepared for us.
func ownDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Getuid() && stat.Uid != 0 {
		return fmt.Errorf("the directory %s belongs to another user", dir)
	}
	return nil
}

// path is the place of the socket, for the log. A nil socket is none.
func (s *controlSocket) path() string {
	if s == nil {
		return "none"
	}
	return s.file
}

// close gives the socket back; the lock last, so that the next daemon finds no socket of ours.
func (s *controlSocket) close() error {
	if s == nil {
		return nil
	}
	var errs []error
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// FetchStatus asks the daemon behind a control socket for its status. The error is ErrNotRunning when nobody answers.
func FetchStatus(ctx context.Context, socket string) (Status, error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://skyd/api/v1/status", nil)
	if err != nil {
		return Status{}, err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			return Status{}, fmt.Errorf("ask the daemon at %s: %w", socket, ctx.Err())
		}
		return Status{}, fmt.Errorf("%w: %s: %w", ErrNotRunning, socket, rootCause(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return Status{}, fmt.Errorf("the daemon at %s answers %s: %s", socket, response.Status, text)
	}
	var s Status
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		return Status{}, fmt.Errorf("read the answer of the daemon at %s: %w", socket, err)
	}
	return s, nil
}
