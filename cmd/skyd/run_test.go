package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/runtime"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", name, got, want)
	}
}

// syncBuffer is a buffer that a running program writes while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const slow = 60 * time.Second

func TestRunDaemon_ServesAndEndsWithExit0(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	if _, err := c.Exec(t.Context(), `select pgq.create_queue('orders'), pgq.set_queue_config('orders', 'ticker_max_lag', '0')`); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log, code := &syncBuffer{}, make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"run", "--db", db.DSN, "--listen", "127.0.0.1:0", "--socket", socket, "--log-format", "json"},
			strings.NewReader(""), log, log)
	}()
	var r result
	pgtest.Eventually(t, slow, "a status that shows the queue", func() bool {
		r = skyd(t, "status", "--socket", socket)
		return r.code == exitOK && strings.Contains(r.stdout, "orders") && strings.Contains(r.stdout, "/maintainer")
	})
	if !strings.Contains(r.stdout, ": everything is well\n") {
		t.Errorf("got %s", r.stdout)
	}
	r = skyd(t, "status", "--socket", socket, "-o", "json")
	var doc struct {
		OK     bool `json:"ok"`
		Queues []struct {
			Queue string  `json:"queue"`
			Lag   float64 `json:"ticker_lag_seconds"`
		} `json:"queues"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || !doc.OK || len(doc.Queues) != 1 || doc.Queues[0].Queue != "orders" {
		t.Errorf("got %v, %s", err, r.stdout)
	}
	r = skyd(t, "run", "--db", db.DSN, "--listen", "none", "--socket", socket)
	if r.code != exitFailed || !strings.Contains(r.stderr, "another skyd runs with this control socket (see it with skyd status") {
		t.Errorf("a second daemon: got %+v", r)
	}
	cancel()
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("exit code %d: %s", got, log)
		}
	case <-time.After(slow):
		t.Fatal("the daemon does not end")
	}
	for line := range strings.Lines(log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if strings.Contains(log.String(), db.DSN) {
		t.Error("the log shows a DSN")
	}
	r = skyd(t, "status", "--socket", socket)
	if r.code != exitConnect || !strings.HasPrefix(r.stderr, "skyd: no skyd is running there: "+socket) {
		t.Errorf("got %+v", r)
	}
}

func TestRunDaemon_RefusesWithOneLinePerFault(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := l.Addr().String()
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("tikcer: {}\ndatabases:\n  - { name: a, dns: x }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"run", "--db", "postgres://u:secret@h:port/x"}, exitUsage, "skyd: --db: databases[0].dsn: cannot be used: invalid port\n"},
		{
			[]string{"run", "--db", "main"},
			exitUsage,
			`skyd: --db: "main" is neither a DSN (postgres://user@host/name, or key=value) nor the name of a configured database` + "\n" +
				"skyd: databases: no database to serve: give --db DSN, or list some in the configuration file\n",
		},
		{
			[]string{"run", "--config", bad},
			exitUsage,
			"skyd: " + bad + ":1: tikcer: unknown key (did you mean ticker?)\n" +
				"skyd: " + bad + ":3: databases[0].dns: unknown key (did you mean dsn?)\n" +
				"skyd: " + bad + ":3: databases[0].dsn: is missing\n",
		},
		{[]string{"run", "--config", bad + "x"}, exitUsage, "skyd: " + bad + "x: cannot be read: no such file or directory\n"},
		{
			[]string{"run", "--db", "dbname=x", "--listen", "0.0.0.0:1", "--socket", "none"},
			exitUsage,
			"skyd: flag: http.listen: 0.0.0.0:1 can be reached from other machines: set http.tls_cert and http.tls_key, or http.insecure: true\n",
		},
		{
			[]string{"run", "--db", "dbname=x", "--listen", busy, "--socket", "none", "--quiet"},
			exitFailed,
			"skyd: listen on " + busy + ": address already in use (choose another address with --listen HOST:PORT, or --listen none)\n",
		},
		{[]string{"run", "extra"}, exitUsage, `skyd: unknown command "extra" for "skyd run"` + "\n"},
	} {
		if r := skyd(t, c.args...); r.code != c.code || r.stderr != c.want || r.stdout != "" {
			t.Errorf("%q: got %+v, want %d %s", c.args, r, c.code, c.want)
		}
	}
	r := skyd(t, "config", "check", "--config", bad, "-o", "json")
	var doc errorDocument
	if err := json.Unmarshal([]byte(r.stderr), &doc); err != nil || doc.Error.Code != "usage" || strings.Count(doc.Error.Message, "\n") != 2 {
		t.Errorf("got %v, %s", err, r.stderr)
	}
}

func TestConfig_CheckAndShow(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "skyd.yaml")
	text := "instance: here\ncontrol: { socket: /run/skyd/skyd.sock }\ndatabases:\n" +
		"  - { name: main, dsn: \"postgres://app:secret@127.0.0.1/app\", password: hidden, ticker: { period: 1s } }\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := skyd(t, "config", "check", "--config", file)
	if r.code != exitOK || r.stdout != "the configuration is right: 1 database(s), 1 file(s) read\n" || !strings.Contains(r.stderr, "can be read by others") {
		t.Errorf("got %+v", r)
	}
	r = skyd(t, "config", "show", "--config", file)
	golden(t, "config_show.yaml", r.stdout)
	if strings.Contains(r.stdout+r.stderr, "secret") || strings.Contains(r.stdout, "hidden") {
		t.Errorf("a password is shown: %s", r.stdout)
	}
	shown := filepath.Join(t.TempDir(), "shown.yaml")
	if err := os.WriteFile(shown, []byte(r.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := skyd(t, "config", "show", "--config", shown); again.stdout != r.stdout {
		t.Errorf("what is shown is not read back: %+v", again)
	}
	if r := skyd(t, "config", "reference"); r.code != exitOK || !strings.HasPrefix(r.stdout, "# Configuration of skyd\n") {
		t.Errorf("got %+v", r)
	}
	if r := skyd(t, "config", "example"); r.code != exitOK || !strings.Contains(r.stdout, "databases:") {
		t.Errorf("got %+v", r)
	}
}

func TestStatus_OneScreen(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/status.json")
	if err != nil {
		t.Fatal(err)
	}
	var s runtime.Status
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	checks := runtime.Health(s)
	var b strings.Builder
	if err := writeStatus(&b, statusResult{OK: runtime.Healthy(checks), Checks: checks, Status: s}); err != nil {
		t.Fatal(err)
	}
	golden(t, "status.txt", b.String())
}

// program starts this test binary as skyd in a process of its own.
func program(t *testing.T, args ...string) (*exec.Cmd, *syncBuffer) {
	t.Helper()
	log := &syncBuffer{}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "SKYD_TICKER__LOOK_TIMEOUT=500ms")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, log
}

// exitOf waits for the end of a process.
func exitOf(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func TestRunDaemon_Signals(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, log := program(t, "run", "--db", db.DSN, "--listen", "none", "--socket", "none")
		pgtest.Eventually(t, slow, "the database is up", func() bool { return strings.Contains(log.String(), "database is up") })
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		pgtest.Eventually(t, slow, "SIGHUP is answered", func() bool { return strings.Contains(log.String(), "configuration reloaded") })
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if code := exitOf(t, cmd); code != 0 || !strings.Contains(log.String(), "skyd has stopped") {
			t.Errorf("%s: exit code %d: %s", sig, code, log)
		}
	}

	proxy := pgtest.NewProxy(t, db.DSN)
	cmd, log := program(t, "run", "--db", proxy.DSN(db.DSN), "--listen", "none", "--socket", "none")
	pgtest.Eventually(t, slow, "the ticker may work", func() bool { return strings.Contains(log.String(), "lease taken") })
	proxy.Freeze() // from here on work hangs, and the end takes its time
	pgtest.Eventually(t, slow, "work hangs", func() bool {
		return strings.Contains(log.String(), "look at the queues") || strings.Contains(log.String(), "leases failed")
	})
	for _, line := range []string{"skyd is stopping", ""} {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		pgtest.Eventually(t, slow, line, func() bool { return strings.Contains(log.String(), line) })
	}
	if code := exitOf(t, cmd); code != 1 || strings.Contains(log.String(), "skyd has stopped") {
		t.Errorf("second signal: exit code %d: %s", code, log)
	}
}
