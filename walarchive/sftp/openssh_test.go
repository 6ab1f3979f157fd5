package sftp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// TestOpenSSH runs the conformance suite against the real thing. SKYD_TEST_SSHD names the program where it is at no usual
// place.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	sshd := cmp.Or(os.Getenv("SKYD_TEST_SSHD"), "/usr/sbin/sshd")
	if _, err := os.Stat(sshd); err != nil {
		t.Skipf("no OpenSSH server on this machine: %v (Debian: openssh-server)", err)
	}
	h := startOpenSSH(t, sshd)
	storagetest.Run(t, func(t *testing.T) func() walarchive.Storage {
		dir := h.newDir(t)
		return func() walarchive.Storage {
			st, err := open(h.url(dir))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = st.Close() })
			return st
		}
	})
	t.Run("replace races", func(t *testing.T) {
		t.Parallel()
		st, err := open(h.url(h.newDir(t)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		for i := range 30 {
			key := fmt.Sprintf("x%d", i)
			storagetest.Put(t, st, key, storagetest.Body(i, 1000*i))
			if got := storagetest.Read(t, st, key); !bytes.Equal(got, storagetest.Body(i, 1000*i)) {
				t.Errorf("%s has %d bytes", key, len(got))
			}
		}
	})
}

// openSSH is a running sshd.
type openSSH struct {
	user      string
	uid, gid  int
	port      int
	key, know string
}

func (h *openSSH) url(dir string) *url.URL {
	q := url.Values{"key": {h.key}, "known_hosts": {h.know}}
	return &url.URL{Scheme: "sftp", User: url.User(h.user), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(h.port)), Path: dir, RawQuery: q.Encode()}
}

// newDir makes a directory that the user of the server may write to.
func (h *openSSH) newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skyd-sftp-")
	if err == nil {
		err = os.Chown(dir, h.uid, h.gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startOpenSSH starts sshd as this user; root gives it to the user of PostgreSQL, because the server of root wants a user of its
// own.
func startOpenSSH(t *testing.T, program string) *openSSH {
	t.Helper()
	me, err := user.Current()
	if err == nil && me.Uid == "0" {
		me, err = user.Lookup("postgres")
	}
	if err != nil {
		t.Fatal(err)
	}
	h := &openSSH{user: me.Username}
	h.uid, _ = strconv.Atoi(me.Uid)
	h.gid, _ = strconv.Atoi(me.Gid)
	if h.port, err = pgserver.FreePort(); err != nil {
		t.Fatal(err)
	}
	dir, keys := h.newDir(t), t.TempDir()
	h.key, h.know = filepath.Join(keys, "client"), filepath.Join(keys, "known_hosts")
	client, host := newKey(t, h.key), newKey(t, filepath.Join(dir, "host"))
	s := &server{t: t, known: h.know}
	s.knows(fmt.Sprintf("127.0.0.1:%d", h.port), host.PublicKey())
	config := fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s/host
AuthorizedKeysFile %s/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
`, h.port, dir, dir)
	err = errors.Join(os.WriteFile(filepath.Join(dir, "authorized"), ssh.MarshalAuthorizedKey(client.PublicKey()), 0o600),
		os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	for _, name := range []string{"host", "authorized", "config"} {
		err = errors.Join(err, os.Chown(filepath.Join(dir, name), h.uid, h.gid))
	}
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "-D", "-e", "-f", filepath.Join(dir, "config"))
	cmd.Stderr = &log
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(h.uid), Gid: uint32(h.gid)}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.String())
		}
	})
	pgtest.Eventually(t, 20*time.Second, "the server of OpenSSH", func() bool {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", h.port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return h
}
