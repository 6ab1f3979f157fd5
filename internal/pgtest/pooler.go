package pgtest

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
)

// Pooler is a PgBouncer in transaction mode before one database. There are
// fewer connections to the server than clients, so every transaction may meet
// another session. Its methods end the test when they fail, so they must be
// called from the test's own goroutine.
type Pooler struct {
	t    testing.TB
	args []string
	addr string
	user string
	name string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// NewPooler starts PgBouncer before the database of a DSN and ends it with the
// test. Without the program the test is skipped, or fails if
// SKYD_TEST_REQUIRE=1.
func NewPooler(t testing.TB, dsn string) *Pooler {
	t.Helper()
	return NewPoolerAt(t, dsn, "127.0.0.1")
}

// NewPoolerAt is NewPooler on these addresses; DSN names the first one.
func NewPoolerAt(t testing.TB, dsn string, hosts ...string) *Pooler {
	t.Helper()
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		binary, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		unavailable(t, fmt.Errorf("%w: pgbouncer is not installed", errNoServer))
	}
	fatal := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	cfg, err := pgx.ParseConfig(dsn)
	fatal(err)
	port, err := pgserver.FreePort()
	fatal(err)
	dir, err := os.MkdirTemp("", "skyd-pooler-")
	fatal(err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	fatal(os.Chmod(dir, 0o755)) // it runs as somebody else
	password := ""
	if cfg.Password != "" {
		password = " password=" + cfg.Password
	}
	ini := filepath.Join(dir, "pgbouncer.ini")
	fatal(os.WriteFile(ini, fmt.Appendf(nil, `[databases]
%s = host=%s port=%d user=%s%s
[pgbouncer]
listen_addr = %s
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_login_retry = 1
ignore_startup_parameters = extra_float_digits
`, cfg.Database, cfg.Host, cfg.Port, cfg.User, password, strings.Join(hosts, ","), port), 0o644))
	p := &Pooler{
		t: t, args: []string{binary, ini}, addr: net.JoinHostPort(hosts[0], strconv.Itoa(port)), user: cfg.User, name: cfg.Database,
	}
	if os.Geteuid() == 0 { // it refuses to run as root
		p.args = []string{binary, "-u", "nobody", ini}
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.end(syscall.SIGTERM)
		}
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", p.log.Bytes())
		}
	})
	p.Start()
	return p
}

// DSN connects through the pooler.
func (p *Pooler) DSN() string {
	u := url.URL{Scheme: "postgres", User: url.User(p.user), Host: p.addr, Path: "/" + p.name}
	return u.String()
}

// Start runs the pooler again and returns when it listens.
func (p *Pooler) Start() {
	p.t.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, startLimit, "the pooler listens", func() bool {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// Kill ends the pooler as a crash does: all connections through it are gone.
func (p *Pooler) Kill() {
	p.end(syscall.SIGKILL)
	p.cmd = nil
}

func (p *Pooler) end(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	_ = p.cmd.Wait() // it was told to end
}
