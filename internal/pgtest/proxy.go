package pgtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
)

// Proxy is a TCP connection between client and server that breaks on demand.
// Its methods may be called from any goroutine; faults hit connections that
// are open and those to come, until Heal.
type Proxy struct {
	t       testing.TB
	addr    string
	network string // of the target
	target  string

	mu       sync.Mutex
	change   *sync.Cond // a fault came or went, or the proxy closed
	listener net.Listener
	conns    map[net.Conn]struct{}
	frozen   bool
	closed   bool
	delay    time.Duration
	answers  int64         // bytes of answers until the cut; negative: no cut
	quit     chan struct{} // closed with the proxy
	wg       sync.WaitGroup
}

// NewProxy listens on a port of 127.0.0.1 and forwards to target, which is
// host:port or a DSN. It is closed when the test ends.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return NewProxyAt(t, fmt.Sprintf("127.0.0.1:%d", port), target)
}

// NewProxyAt is NewProxy for an address of the caller's choice.
func NewProxyAt(t testing.TB, addr, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, network: "tcp", target: target, conns: make(map[net.Conn]struct{}), answers: -1, quit: make(chan struct{})}
	p.change = sync.NewCond(&p.mu)
	if strings.ContainsAny(target, "=@/") {
		cfg, err := pgx.ParseConfig(target)
		if err != nil {
			t.Fatalf("target of the proxy: %v", err)
		}
		p.network, p.target = "tcp", net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
		if strings.HasPrefix(cfg.Host, "/") {
			p.network, p.target = "unix", fmt.Sprintf("%s/.s.PGSQL.%d", cfg.Host, cfg.Port)
		}
	}
	p.addr = addr
	if err := p.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

// Addr is the host:port to connect to.
func (p *Proxy) Addr() string { return p.addr }

// DSN returns dsn, with host and port replaced by those of the proxy.
func (p *Proxy) DSN(dsn string) string {
	host, port, _ := strings.Cut(p.addr, ":")
	return withParts(dsn, map[string]string{"host": host, "port": port})
}

// Freeze stops all traffic without closing anything, as a lost network does.
// New connections are accepted and hear nothing.
func (p *Proxy) Freeze() { p.set(func() { p.frozen = true }) }

// Thaw lets the traffic go on; nothing of it is lost.
func (p *Proxy) Thaw() { p.set(func() { p.frozen = false }) }

// Delay holds every piece of traffic back for d, in both directions.
func (p *Proxy) Delay(d time.Duration) { p.set(func() { p.delay = d }) }

// CutAfter passes n more bytes of answers (from server to client) and resets
// the connection that carries the next one. CutAfter(0) lets requests through
// and cuts before the first byte of an answer: the client cannot know whether
// its commit was done. It strikes once; connections that come later work.
func (p *Proxy) CutAfter(n int64) { p.set(func() { p.answers = n }) }

// Reset breaks all open connections with RST on both sides. New ones work.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

// Refuse makes new connections fail as if no server ran. Open ones live on.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

// Heal ends all faults.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.set(func() { p.frozen, p.delay, p.answers = false, 0, -1 })
	if err := p.listen(); err != nil {
		p.t.Errorf("heal proxy: %v", err)
	}
}

func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.change.Broadcast()
}

// reset closes all connections with RST; the caller holds mu.
func (p *Proxy) reset() {
	for c := range p.conns {
		abort(c)
	}
	clear(p.conns)
	p.change.Broadcast()
}

func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	if p.listener != nil {
		_ = p.listener.Close()
	}
	close(p.quit)
	p.reset()
	p.mu.Unlock()
	p.wg.Wait()
}

// listen opens the proxy's port, if it is not open.
func (p *Proxy) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.listener = l
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed by Refuse or at the end
			}
			p.wg.Go(func() { p.serve(client) })
		}
	})
	return nil
}

// serve forwards one connection until one side ends it.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial(p.network, p.target)
	if err != nil {
		abort(client)
		return
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		abort(client)
		abort(server)
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(server, client, false) })
	wg.Go(func() { p.pump(client, server, true) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
	_ = client.Close()
	_ = server.Close()
}

// pump forwards one direction and then closes its end.
func (p *Proxy) pump(dst, src net.Conn, answer bool) {
	defer func() {
		if half, ok := dst.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		pass, cut := p.admit(n, answer)
		if _, werr := dst.Write(buf[:pass]); werr != nil {
			err = werr
		}
		if cut {
			abort(src)
			abort(dst)
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				abort(src)
				abort(dst)
			}
			return
		}
	}
}

// admit waits as the faults demand and tells how many of n bytes may pass and
// whether the connection ends after them.
func (p *Proxy) admit(n int, answer bool) (pass int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.delay > 0 && n > 0 {
		timer := time.NewTimer(p.delay)
		p.mu.Unlock()
		select {
		case <-timer.C:
		case <-p.quit:
		}
		timer.Stop()
		p.mu.Lock()
	}
	for p.frozen && !p.closed {
		p.change.Wait()
	}
	if p.closed {
		return 0, true
	}
	if answer && p.answers >= 0 {
		if int64(n) > p.answers {
			pass = int(p.answers)
			p.answers = -1
			return pass, true
		}
		p.answers -= int64(n)
	}
	return n, false
}
