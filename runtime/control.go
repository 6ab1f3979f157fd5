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
	"slices"
	"strings"
	"syscall"
	"time"
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
	var s Status
	err := ask(ctx, socket, http.MethodGet, "/api/v1/status", &s)
	return s, err
}

// WaitOperation waits until an operation of the daemon behind a control socket has ended, and returns how. The error is
// that of FetchStatus when the daemon went away meanwhile.
func WaitOperation(ctx context.Context, socket string, op Operation) (Operation, error) {
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for op.State == OperationRuns {
		select {
		case <-again.C:
		case <-ctx.Done():
		}
		s, err := FetchStatus(ctx, socket)
		if ctx.Err() != nil { // also when it ends in the middle of the question
			return op, fmt.Errorf("wait for operation %d, which is at %q: %w", op.ID, op.Step, ctx.Err())
		}
		if err != nil {
			return op, err
		}
		i := slices.IndexFunc(s.Operations, func(o Operation) bool { return o.ID == op.ID && o.Started.Equal(op.Started) })
		if i < 0 { // a routine one that went well
			op.State, op.Ended = OperationDone, s.Now
			return op, nil
		}
		op = s.Operations[i]
	}
	return op, nil
}

// RequestReload asks the daemon behind a control socket to reload its configuration. The error is configs.Faults when
// the daemon refuses it, and ErrNotRunning when nobody answers.
func RequestReload(ctx context.Context, socket string) (Reloaded, error) {
	var r Reloaded
	err := ask(ctx, socket, http.MethodPost, "/api/v1/reload", &r)
	return r, err
}

// RequestStop asks the daemon behind a control socket to end, and waits until it is gone. The error is ErrNotRunning
// when there was none.
func RequestStop(ctx context.Context, socket string) error {
	if err := ask(ctx, socket, http.MethodPost, "/api/v1/stop", nil); err != nil {
		return err
	}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		gone, err := unlocked(socket)
		if gone || err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the daemon at %s: %w", socket, ctx.Err())
		}
	}
}

// unlocked reports whether the daemon of a socket has ended: it holds the lock beside it as long as it lives.
func unlocked(socket string) (bool, error) {
	lock, err := os.OpenFile(socket+".lock", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether the daemon has ended: %w", err)
	}
	defer lock.Close() // gives the lock back
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	return err == nil, nil
}

// ask puts one question to the daemon behind a control socket; answer may be nil.
func ask(ctx context.Context, socket, method, path string, answer any) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, method, "http://skyd"+path, nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("ask the daemon at %s: %w", socket, ctx.Err())
		}
		return fmt.Errorf("%w: %s: %w", ErrNotRunning, socket, rootCause(err))
	}
	defer response.Body.Close()
	var refused faultsAnswer
	switch response.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		if answer == nil {
			return nil
		}
		err = json.NewDecoder(response.Body).Decode(answer)
	case http.StatusUnprocessableEntity:
		if err = json.NewDecoder(response.Body).Decode(&refused); err == nil {
			return refused.Faults
		}
	default:
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000))
		return fmt.Errorf("the daemon at %s answers %s: %s", socket, response.Status, strings.TrimSpace(string(text)))
	}
	if err != nil {
		return fmt.Errorf("read the answer of the daemon at %s: %w", socket, err)
	}
	return nil
}
