package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Version of the protocol.
const Version = 1

// The operations.
const (
	Push  = "push"
	Fetch = "fetch"
)

// Request is what the client says.
type Request struct {
	Version int    `json:"v"`
	Op      string `json:"op"`
	Source  string `json:"source"`
	Path    string `json:"path,omitempty"` // push: the file, absolute
	Name    string `json:"name,omitempty"` // fetch: the file's name
	Dest    string `json:"dest,omitempty"` // fetch: where to write it, absolute; the client renames it then
	Dir     string `json:"dir,omitempty"`  // fetch: the working directory of the command
}

// Answer is a line from the daemon.
type Answer struct {
	Version int    `json:"v"`
	Wait    bool   `json:"wait,omitempty"`   // still at work
	Direct  bool   `json:"direct,omitempty"` // do it yourself
	Done    bool   `json:"done,omitempty"`   // Exit counts
	Exit    int    `json:"exit"`
	Error   string `json:"error,omitempty"`
}

const (
	// MaxLine bounds a line.
	MaxLine = 64 << 10
	// Beat is how often a daemon at work says so.
	Beat = time.Second
	// Silence is how long a client believes in a daemon that says nothing.
	Silence = 10 * time.Second
)

// ErrNoAnswer is returned by Ask when the daemon is not there, ended before its answer, or wants the caller to do it.
var ErrNoAnswer = errors.New("no answer from the daemon")

// Ask sends a request to the daemon at a unix socket and waits for its answer.
func Ask(socket string, q Request) (Answer, error) {
	q.Version = Version
	line, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	fd, err := dial(socket)
	if err != nil {
		return Answer{}, fmt.Errorf("%w at %s: %w", ErrNoAnswer, socket, err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := writeAll(fd, append(line, '\n')); err != nil {
		return Answer{}, fmt.Errorf("%w at %s: %w", ErrNoAnswer, socket, err)
	}
	var buf []byte
	chunk := make([]byte, 4096)
	for {
		for {
			line, rest, ok := bytes.Cut(buf, []byte{'\n'})
			if !ok {
				break
			}
			buf = rest
			var a Answer
			if err := json.Unmarshal(line, &a); err != nil {
				return a, fmt.Errorf("%w at %s: %w", ErrNoAnswer, socket, err)
			}
			if a.Direct {
				return a, fmt.Errorf("%w at %s: %s", ErrNoAnswer, socket, a.Error)
			}
			if a.Done && !allowed(q.Op, a.Exit) {
				a.Error = fmt.Sprintf("the daemon answered with exit code %d, which %s never has: %s", a.Exit, q.Op, a.Error)
				a.Exit = ExitFor(q.Op)
			}
			if a.Done {
				return a, nil
			}
		}
		n, err := read(fd, chunk)
		if err == nil && (n == 0 || len(buf) > MaxLine) {
			err = errors.New("it ended before the answer")
		}
		if err != nil {
			return Answer{}, fmt.Errorf("%w at %s: %w", ErrNoAnswer, socket, err)
		}
		buf = append(buf, chunk[:n]...)
	}
}

// dial connects to a unix socket, without the poller of package net.
func dial(path string) (int, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	limit := syscall.NsecToTimeval(int64(Silence))
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	if err == nil {
		err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	}
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := syscall.Write(fd, p)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}

func read(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// ExitFor is the exit code of an operation that could not be done for a reason of its own: flags, configuration, a crash.
// For fetch it depends on the working directory: a standby goes on with streaming after 1, recovery must stop.
func ExitFor(op string) int {
	if op == Push {
		return 2
	}
	if _, err := os.Lstat("standby.signal"); err == nil {
		return 1
	}
	return 203
}
