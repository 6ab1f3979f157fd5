package walarchive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/skytools/skyd/walarchive/wire"
)

// GateHandler does what clients ask for.
type GateHandler interface {
	// PushFile archives a file of the data directory's pg_wal.
	PushFile(ctx context.Context, name string) error
	// FetchFile is Archive.Fetch.
	FetchFile(ctx context.Context, q FetchRequest) (exit int, err error)
}

// Gate answers the small client on a unix socket.
type Gate struct {
	Source  string
	PGData  string
	Handler GateHandler
}

// requestLimit is how long a client may take to say what it wants.
const requestLimit = 10 * time.Second

// ListenGate opens the socket of a source. A socket that a dead daemon left behind is replaced.
func ListenGate(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("socket %s: another daemon answers there", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), l.Close())
	}
	return l, nil
}

// Serve answers clients until ctx is cancelled; then it closes the listener, ends what is under way, and returns nil.
func (g *Gate) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("accept: %w", err), l.Close())
		}
		wait.Go(func() { g.answer(ctx, conn) })
	}
}

// answer serves one client. What goes wrong with the connection is the client's to see.
func (g *Gate) answer(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	_ = conn.SetReadDeadline(time.Now().Add(requestLimit))
	line, err := bufio.NewReaderSize(conn, wire.MaxLine).ReadSlice('\n')
	if err != nil {
		return
	}
	var q wire.Request
	if err := json.Unmarshal(line, &q); err != nil {
		g.say(conn, wire.Answer{Direct: true, Error: "the request is not JSON"})
		return
	}
	result := make(chan wire.Answer, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				result <- wire.Answer{Direct: true, Error: fmt.Sprintf("panic: %v", r)}
			}
		}()
		result <- g.do(ctx, q)
	}()
	beat := time.NewTicker(wire.Beat)
	defer beat.Stop()
	for {
		select {
		case a := <-result:
			g.say(conn, a)
			return
		case <-beat.C:
			if !g.say(conn, wire.Answer{Wait: true}) {
				cancel() // the client is gone
				<-result
				return
			}
		}
	}
}

// say writes a line; false: the client is gone.
func (g *Gate) say(conn net.Conn, a wire.Answer) bool {
	a.Version = wire.Version
	line, err := json.Marshal(a)
	if err != nil {
		return false
	}
	_ = conn.SetWriteDeadline(time.Now().Add(requestLimit))
	_, err = conn.Write(append(line, '\n'))
	return err == nil
}

// do does what a client asks for, or has it do that itself.
func (g *Gate) do(ctx context.Context, q wire.Request) wire.Answer {
	direct := func(why string) wire.Answer { return wire.Answer{Direct: true, Error: why} }
	switch {
	case q.Version < 1 || q.Version > wire.Version:
		return direct(fmt.Sprintf("version %d is not known here", q.Version))
	case q.Source != g.Source:
		return direct("this is the daemon of source " + g.Source)
	}
	var exit int
	var err error
	switch q.Op {
	case wire.Push:
		if !sameDir(filepath.Dir(q.Path), filepath.Join(g.PGData, "pg_wal")) {
			return direct("the file is not in pg_wal of " + g.PGData)
		}
		err = g.Handler.PushFile(ctx, filepath.Base(q.Path))
		exit = PushExit(err)
	case wire.Fetch:
		if os.Geteuid() == 0 { // it would write for somebody else, wherever he wants
			return direct("a daemon that runs as root writes no files for others")
		}
		exit, err = g.Handler.FetchFile(ctx, FetchRequest{Name: q.Name, Dest: q.Dest, Dir: q.Dir})
	default:
		return direct(fmt.Sprintf("operation %q is not known here", q.Op))
	}
	if ctx.Err() != nil && exit != 0 {
		return direct("the daemon is stopping")
	}
	a := wire.Answer{Done: true, Exit: exit}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// sameDir reports whether two paths are one directory.
func sameDir(a, b string) bool {
	x, aerr := os.Stat(a)
	y, berr := os.Stat(b)
	return aerr == nil && berr == nil && os.SameFile(x, y)
}
