package sftp

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// Packets of SFTP that the server below looks at.
const (
	typeOpen, typeRemove, typeStatus, typeExtended, typeVersion = 3, 13, 101, 200, 2
	statusOK, statusFailure                                     = 0, 4
)

// server is an SFTP server in this process. The library's server has no fsync@openssh.com, so that is added on the way.
type server struct {
	t       testing.TB
	dir     string
	addr    string
	key     string // file of the client's key
	known   string // file with the key of the host
	without string // an extension that it does not offer
	wait    sync.WaitGroup

	mu       sync.Mutex
	conns    []net.Conn
	asked    []string // what was asked for: open, fsync, hardlink ...
	dieAt    int      // the connection ends at this request; 0: never
	requests int
	noSync   bool // fsync fails
}

// newKey makes a private key and writes it to a file.
func newKey(t testing.TB, file string) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err == nil {
		err = os.WriteFile(file, pem.EncodeToMemory(block), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// newServer starts a server of a new directory.
func newServer(t testing.TB, without string) *server {
	t.Helper()
	keys := t.TempDir()
	s := &server{t: t, dir: t.TempDir(), without: without, key: filepath.Join(keys, "client"), known: filepath.Join(keys, "known_hosts")}
	client, host := newKey(t, s.key).PublicKey(), newKey(t, filepath.Join(keys, "host"))
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), client.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	config.AddHostKey(host)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.knows(s.addr, host.PublicKey())
	s.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wait.Go(func() { s.serve(c, config) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.drop()
		s.wait.Wait()
	})
	return s
}

// knows adds a key of a host to known_hosts.
func (s *server) knows(addr string, key ssh.PublicKey) {
	s.t.Helper()
	f, err := os.OpenFile(s.known, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, knownhosts.Line([]string{knownhosts.Normalize(addr)}, key))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// drop ends all connections.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// dies ends the connection at the n-th request from now on.
func (s *server) dies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.dieAt, s.asked = 0, n, nil
}

// order is what was asked for since dies, and whether all was answered.
func (s *server) order() (asked []string, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked), s.requests
}

// url is the address of a directory of the server as seen through addr.
func (s *server) url(addr string) *url.URL {
	q := url.Values{"key": {s.key}, "known_hosts": {s.known}}
	return &url.URL{Scheme: "sftp", User: url.User("archive"), Host: addr, Path: s.dir, RawQuery: q.Encode()}
}

// open is a handle of the storage.
func (s *server) open(addr string) *Storage {
	s.t.Helper()
	st, err := open(s.url(addr))
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *server) serve(raw net.Conn, config *ssh.ServerConfig) {
	defer func() { _ = raw.Close() }()
	sc, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return
	}
	defer func() { _ = sc.Close() }()
	s.wait.Go(func() { ssh.DiscardRequests(requests) })
	for nc := range channels {
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		s.wait.Go(func() {
			for q := range requests {
				_ = q.Reply(q.Type == "subsystem", nil)
			}
		})
		s.wait.Go(func() { s.session(raw, ch) })
	}
}

// session serves one channel.
func (s *server) session(raw net.Conn, ch ssh.Channel) {
	in, toServer := io.Pipe()
	fromServer, out := io.Pipe()
	var answers sync.Mutex // packets to the client are whole
	s.wait.Go(func() {
		for {
			p, err := readPacket(fromServer)
			if err != nil {
				_ = ch.Close()
				return
			}
			if p[0] == typeVersion {
				p = s.version(p)
			}
			answers.Lock()
			err = writePacket(ch, p)
			answers.Unlock()
			if err != nil {
				_ = fromServer.CloseWithError(err)
				return
			}
		}
	})
	s.wait.Go(func() {
		for {
			p, err := readPacket(ch)
			if err == nil && !s.admit(p) {
				_ = raw.Close()
				err = io.ErrClosedPipe
			}
			if err == nil && p[0] == typeExtended && extension(p) == "fsync@openssh.com" {
				answers.Lock()
				err = writePacket(ch, s.synced(p))
				answers.Unlock()
			} else if err == nil {
				err = writePacket(toServer, p)
			}
			if err != nil {
				_ = toServer.CloseWithError(io.EOF)
				return
			}
		}
	})
	sub, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{in, out})
	if err == nil {
		_ = sub.Serve()
	}
	_ = out.Close()
	_ = in.Close()
}

// admit counts a request; false: it is the one at which the connection ends.
func (s *server) admit(p []byte) bool {
	what := ""
	switch p[0] {
	case typeOpen:
		what = "open"
	case typeRemove:
		what = "remove"
	case typeExtended:
		what = extension(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.dieAt > 0 && s.requests >= s.dieAt {
		return false
	}
	if what != "" {
		s.asked = append(s.asked, what)
	}
	return true
}

// synced is the answer to fsync.
func (s *server) synced(p []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := uint32(statusOK)
	if s.noSync {
		code = statusFailure
	}
	out := append([]byte{typeStatus}, p[1:5]...)
	out = binary.BigEndian.AppendUint32(out, code)
	out = binary.BigEndian.AppendUint32(out, 0)
	return binary.BigEndian.AppendUint32(out, 0)
}

// version adds fsync@openssh.com to what the server offers, and takes one away.
func (s *server) version(p []byte) []byte {
	out, rest := p[:5:5], p[5:]
	text := func() string {
		n := binary.BigEndian.Uint32(rest)
		v := string(rest[4 : 4+n])
		rest = rest[4+n:]
		return v
	}
	var all [][2]string
	for len(rest) > 0 {
		name := text()
		all = append(all, [2]string{name, text()})
	}
	for _, e := range append(all, [2]string{"fsync@openssh.com", "1"}) {
		if e[0] == s.without {
			continue
		}
		for _, v := range e {
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(v))), v...)
		}
	}
	return out
}

// extension is the name of an extended request.
func extension(p []byte) string {
	n := binary.BigEndian.Uint32(p[5:])
	return string(p[9 : 9+n])
}

func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, p)
	return p, err
}

func writePacket(w io.Writer, p []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
	return err
}
