package sftp

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/skytools/skyd/walarchive"
)

// dialLimit is how long making a connection may take.
const dialLimit = 20 * time.Second

// extensions are what the server must offer, with the reason.
var extensions = [][2]string{
	{"fsync@openssh.com", "nothing that is stored there would be durable"},
	{"hardlink@openssh.com", "an object could overwrite another one"},
	{"posix-rename@openssh.com", "an object could not be replaced at once"},
}

// Storage is a directory on another host.
type Storage struct {
	dir   string
	url   string
	host  string // with the port
	known string // known_hosts
	auth  ssh.ClientConfig

	turn  chan struct{} // holds the turn of connecting
	mu    sync.Mutex
	conn  *conn           // nil or the last one
	swept map[string]bool // directories in which nobody's leftovers are any more
}

// conn is a connection; done is closed when it has ended.
type conn struct {
	*sftp.Client
	ssh  *ssh.Client
	done chan struct{}
}

var _ walarchive.Storage = (*Storage)(nil)

// Open opens the storage of a URL like sftp://user@host:22/absolute/directory. key=FILE names a private key (default: those
// of ~/.ssh), known_hosts=FILE the keys of the hosts (default: ~/.ssh/known_hosts). Connections are made when needed.
func Open(_ context.Context, u *url.URL) (walarchive.Storage, error) { return open(u) }

func open(u *url.URL) (*Storage, error) {
	_, secret := u.User.Password()
	switch {
	case u.Scheme != "sftp" || u.Hostname() == "" || !strings.HasPrefix(u.Path, "/") || path.Clean(u.Path) == "/":
		return nil, fmt.Errorf("storage %s: must look like sftp://user@host/absolute/directory?key=...&known_hosts=...", u.Redacted())
	case secret:
		return nil, fmt.Errorf("storage %s: a password does not belong in the URL: use a key file", u.Redacted())
	}
	for name := range u.Query() {
		if name != "key" && name != "known_hosts" {
			return nil, fmt.Errorf("storage %s: no parameter %q; there are key and known_hosts", u.Redacted(), name)
		}
	}
	s := &Storage{
		dir: path.Clean(u.Path), url: u.Redacted(), host: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "22")),
		known: u.Query().Get("known_hosts"), turn: make(chan struct{}, 1), swept: map[string]bool{},
	}
	home, _ := os.UserHomeDir() // without one the files must be named
	if s.known == "" {
		s.known = filepath.Join(home, ".ssh", "known_hosts")
	}
	if s.auth.User = u.User.Username(); s.auth.User == "" {
		me, err := user.Current()
		if err != nil {
			return nil, fmt.Errorf("storage %s: the user is missing: sftp://user@host/...", s.url)
		}
		s.auth.User = me.Username
	}
	keys, err := readKeys(u.Query()["key"], home)
	if err != nil {
		return nil, fmt.Errorf("storage %s: %w", s.url, err)
	}
	s.auth.Auth = []ssh.AuthMethod{ssh.PublicKeys(keys...)}
	if _, err := knownhosts.New(s.known); err != nil {
		return nil, fmt.Errorf("storage %s: the keys of hosts: %w", s.url, err)
	}
	return s, nil
}

// readKeys reads the private keys, those that are named or the usual ones that are there.
func readKeys(files []string, home string) (keys []ssh.Signer, err error) {
	named := len(files) > 0
	if !named {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			files = append(files, filepath.Join(home, ".ssh", name))
		}
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if !named && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		key, err := ssh.ParsePrivateKey(text)
		if locked := (*ssh.PassphraseMissingError)(nil); errors.As(err, &locked) {
			return nil, fmt.Errorf("private key %s: it needs a passphrase: make one without for this use (ssh-keygen)", name)
		}
		if err != nil {
			return nil, fmt.Errorf("private key %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no private key: make one with ssh-keygen, or name it: sftp://...?key=/path/of/the/key (looked for %s)",
			strings.Join(files, ", "))
	}
	return keys, nil
}

// client is a connection that works, as far as is known.
func (s *Storage) client(ctx context.Context) (*conn, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c != nil {
		select {
		case <-c.done:
		default:
			return c, nil
		}
	}
	c, err := s.connect(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("connect to %s: %w", s.host, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
	return c, nil
}

// connect makes a connection.
func (s *Storage) connect(ctx context.Context) (c *conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	config := s.auth
	if config.HostKeyCallback, config.HostKeyAlgorithms, err = s.hostKeys(); err != nil {
		return nil, err
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.host)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	sc, chans, requests, err := ssh.NewClientConn(raw, s.host, &config)
	if err != nil {
		return nil, errors.Join(s.explain(err), ignoreClosed(raw.Close()))
	}
	c = &conn{ssh: ssh.NewClient(sc, chans, requests), done: make(chan struct{})}
	if c.Client, err = sftp.NewClient(c.ssh, sftp.UseConcurrentWrites(true)); err != nil {
		return nil, errors.Join(fmt.Errorf("sftp: %w", err), ignoreClosed(c.ssh.Close()))
	}
	go func() { // ends with the connection, which Close ends
		_ = c.Wait() // of no use: it says how the connection ended
		_ = c.ssh.Close()
		close(c.done)
	}()
	for _, e := range extensions {
		if _, ok := c.HasExtension(e[0]); !ok {
			c.end()
			return nil, fmt.Errorf("the server does not offer %s: %s; use the SFTP server of OpenSSH", e[0], e[1])
		}
	}
	return c, nil
}

// end ends a connection and waits for that.
func (c *conn) end() {
	_ = c.ssh.Close() // what counts is that it is closed
	<-c.done
}

// hostKeys makes the check of the host's key, and names the kinds of keys that are known of it: the server is to show one
// of those.
func (s *Storage) hostKeys() (check ssh.HostKeyCallback, kinds []string, err error) {
	check, err = knownhosts.New(s.known)
	if err != nil {
		return nil, nil, fmt.Errorf("the keys of hosts: %w", err)
	}
	probe, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil, nil, err
	}
	var wanted *knownhosts.KeyError // of a key that nobody has: it tells the ones that are known
	if errors.As(check(s.host, &net.TCPAddr{}, probe), &wanted) {
		for _, k := range wanted.Want {
			if kind := k.Key.Type(); kind == ssh.KeyAlgoRSA {
				kinds = append(kinds, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			} else {
				kinds = append(kinds, kind)
			}
		}
	}
	slices.Sort(kinds)
	return check, slices.Compact(kinds), nil
}

// explain says what to do about a connection that was refused.
func (s *Storage) explain(err error) error {
	var key *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	host, port, _ := net.SplitHostPort(s.host)
	switch {
	case errors.As(err, &revoked):
		return fmt.Errorf("the key of %s is revoked in %s", host, s.known)
	case errors.As(err, &key) && len(key.Want) > 0:
		return fmt.Errorf("the key of %s is not the one in %s, line %d: somebody may stand in between; if the host really has a new one, "+
			"remove that line (ssh-keygen -R)", host, s.known, key.Want[0].Line)
	case errors.As(err, &key):
		return fmt.Errorf("the key of %s is not in %s: compare it and add it (ssh-keyscan -p %s %s)", host, s.known, port, host)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("the host does not let the user %s in with the keys: %w", s.auth.User, err)
	}
	return err
}

// ignoreClosed drops the error of closing what is closed.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Close implements walarchive.Storage.
func (s *Storage) Close() error {
	s.mu.Lock()
	c := s.conn
	s.conn = nil
	s.mu.Unlock()
	if c != nil {
		c.end()
	}
	return nil
}

// String implements walarchive.Storage.
func (s *Storage) String() string { return s.url }

// Capabilities implements walarchive.Storage.
func (s *Storage) Capabilities() walarchive.Capabilities {
	return walarchive.Capabilities{AtomicPut: true, FreshList: true}
}

// grace is how long a call may take after it was cancelled, until its connection is given up with all that others do on it.
const grace = time.Second

// do runs calls on the connection until ctx ends. f has ended when do returns.
func (s *Storage) do(ctx context.Context, f func(c *conn) error) error {
	c, err := s.client(ctx)
	if err != nil {
		return err
	}
	return c.do(ctx, func() error { return f(c) })
}

// do is Storage.do on this connection.
func (c *conn) do(ctx context.Context, f func() error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	select {
	case err := <-ended:
		if errors.Is(err, sftp.ErrSSHFxConnectionLost) {
			c.end() // so that the next call makes another one
		}
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case err := <-ended:
		return errors.Join(context.Cause(ctx), err)
	case <-late.C:
		_ = c.ssh.Close() // ends the call
		return errors.Join(context.Cause(ctx), <-ended)
	}
}
