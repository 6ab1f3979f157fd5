package pgserver

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// binaries finds a server or ends the test.
func binaries(t *testing.T) Binaries {
	t.Helper()
	b, err := Find()
	if err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return b
}

func newCluster(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := New(t.Context(), binaries(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func start(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestCluster_LifeAndDeath(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{Settings: map[string]string{"application_name": "it's"}})
	if c.Running() {
		t.Error("running before Start")
	}
	start(t, c)
	if err := c.Start(t.Context()); err == nil {
		t.Error("second Start: no error")
	}
	if got := query(t, c.SocketDSN("postgres"), "select current_setting('application_name')"); got != "it's" {
		t.Errorf("application_name = %q", got)
	}
	if got := query(t, c.DSN("postgres"), "select current_setting('fsync') || current_setting('full_page_writes') || current_setting('TimeZone')"); got != "offoffUTC" {
		t.Errorf("settings = %q", got)
	}
	query(t, c.DSN("postgres"), "with a as (select 1) select pg_switch_wal()::text")
	port := c.Port
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	start(t, c)
	if c.Port != port {
		t.Errorf("port changed over a restart: %d, was %d", c.Port, port)
	}
}

func TestCluster_KillEndsAllProcessesAndDataStays(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	start(t, c)
	conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "create table kept as select 1 as a"); err != nil {
		t.Fatal(err)
	}
	pids, err := descendants(c.proc.pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) < 4 {
		t.Fatalf("server processes = %v, want at least 4", pids)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	table, err := processTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if _, ok := table[pid]; ok {
			t.Errorf("server process %d outlived Kill", pid)
		}
	}
	if _, err := conn.Exec(t.Context(), "select 1"); err == nil {
		t.Error("a session survived Kill")
	}
	start(t, c)
	if got := query(t, c.DSN("postgres"), "select a::text from kept"); got != "1" {
		t.Errorf("after the crash: %q", got)
	}
}

func TestCluster_FreezeAndThaw(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	start(t, c)
	conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() { // ends with the answer
		_, err := conn.Exec(context.Background(), "select 1")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a frozen server answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := c.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("after Thaw: %v", err)
	}
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("stop of a frozen server: %v", err)
	}
}

func TestCluster_StartReportsTheServersReason(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{Settings: map[string]string{"no_such_setting": "1"}})
	err := c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("Start = %v, want the reason from the log", err)
	}
}

func TestCluster_RemoveLeavesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, Options{})
	start(t, c)
	if err := c.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("directory after Remove: %v", err)
	}
	if c.Running() {
		t.Error("running after Remove")
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("Start after Remove: no error")
	}
}

func TestNew_TogetherSharesOneTemplate(t *testing.T) {
	t.Setenv("TMPDIR", reachableDir(t)) // an empty cache
	b := binaries(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			c, err := New(t.Context(), b, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "*", "*.tar"))
	if err != nil || len(left) != 1 {
		t.Errorf("templates = %v (%v), want one", left, err)
	}
}

func TestNew_RefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), binaries(t), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("New in a used directory = %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "precious")); err != nil {
		t.Errorf("New touched the directory: %v", err)
	}
}

// reachableDir is a temporary directory that the server's user can pass.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skyd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestOwnerKilled_ServerEnds runs this test binary again as the owner of a
// server and kills it.
func TestOwnerKilled_ServerEnds(t *testing.T) {
	if os.Getenv("SKYD_TEST_OWNER") == "1" {
		ownUntilKilled(t)
		return
	}
	t.Parallel()
	binaries(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestOwnerKilled_ServerEnds$", "-test.v")
	cmd.Env = append(os.Environ(), "SKYD_TEST_OWNER=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "owner of "); ok {
			id, path, _ := strings.Cut(rest, " ")
			if pid, err = strconv.Atoi(id); err != nil {
				t.Fatal(err)
			}
			dir = path
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if dir == "" {
		t.Fatal("the owner did not start a server")
	}
	waitFor(t, "the server of a killed owner is gone", func() bool {
		table, err := processTable()
		if err != nil {
			t.Fatal(err)
		}
		_, lives := table[pid]
		return !lives
	})
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "lock"), old, old); err != nil {
		t.Fatal(err)
	}
	sweep(filepath.Dir(dir))
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what the killed owner left was not swept: %v", err)
	}
}

func ownUntilKilled(t *testing.T) {
	c, err := New(t.Context(), binaries(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	start(t, c)
	_, _ = os.Stdout.WriteString("owner of " + strconv.Itoa(c.proc.pid) + " " + c.Dir + "\n")
	select {} // until killed
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited 20 s in vain: %s", what)
		case <-again.C:
		}
	}
}

func TestFind_SkydPgBinDecides(t *testing.T) {
	t.Setenv("SKYD_PG_BIN", t.TempDir())
	if b, err := Find(); err == nil {
		t.Errorf("Find in an empty directory = %+v", b)
	}
}

func TestFind_VersionTooOld(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"initdb": "#!/bin/sh\n", "postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SKYD_PG_BIN", dir)
	if b, err := Find(); err == nil || !strings.Contains(err.Error(), "PostgreSQL 9") {
		t.Errorf("Find = %+v, %v, want a refusal of version 9", b, err)
	}
}
