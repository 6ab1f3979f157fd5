package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
)

// house is a directory of one test that the server's user owns: repository, state, configuration.
type house struct {
	t        testing.TB
	dir      string
	binaries pgserver.Binaries
	owner    *syscall.Credential // nil: this user
}

// newHouse makes one. The test is skipped without a server.
func newHouse(t testing.TB) *house {
	t.Helper()
	b, err := pgserver.Find()
	if err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("/tmp", "skyd-wal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &house{t: t, dir: dir, binaries: b}
	h.must(os.Chmod(dir, 0o755))
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) path(name string) string { return filepath.Join(h.dir, name) }

// repo is the directory of the repository.
func (h *house) repo() string { return h.path("repo") }

// server is a cluster with 1 MB segments.
type server struct {
	*pgserver.Cluster
	h *house
}

// newServer makes a cluster, not started, whose segments have so many megabytes.
func (h *house) newServer(megabytes int, settings map[string]string) *server {
	h.t.Helper()
	c, err := pgserver.New(h.ctx(), h.binaries, pgserver.Options{Settings: settings})
	h.must(err)
	h.t.Cleanup(func() { _ = c.Remove() })
	info, err := os.Stat(c.DataDir())
	h.must(err)
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != os.Geteuid() {
		h.owner = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
		h.must(os.Chown(h.dir, int(st.Uid), int(st.Gid)))
	}
	s := &server{c, h}
	h.must(h.tool("pg_resetwal", "--wal-segsize="+fmt.Sprint(megabytes), "-D", c.DataDir()))
	return s
}

func (h *house) ctx() context.Context {
	ctx, cancel := context.WithTimeout(h.t.Context(), 3*time.Minute)
	h.t.Cleanup(cancel)
	return ctx
}

// tool runs a program of PostgreSQL.
func (h *house) tool(name string, args ...string) error {
	cmd, err := h.binaries.Command(h.ctx(), name, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// as runs a program as the server's user and gives its output and exit code.
func (h *house) as(dir, name string, args ...string) (stdout, stderr string, exit int) {
	h.t.Helper()
	cmd := exec.CommandContext(h.ctx(), name, args...)
	cmd.Dir = dir
	if h.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.owner}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatalf("%s: %v", name, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// skyd runs skyd with the configuration; it must succeed.
func (h *house) skyd(args ...string) string {
	h.t.Helper()
	out, errs, exit := h.as(h.dir, filepath.Join(programs, "skyd"), append(args, "--config", h.path("skyd.yaml"))...)
	if exit != 0 {
		h.t.Fatalf("skyd %s: exit %d\n%s%s", strings.Join(args, " "), exit, out, errs)
	}
	return out
}

// configure writes the configuration for a cluster; more are keys of the source.
func (h *house) configure(s *server, more string) {
	h.t.Helper()
	text := fmt.Sprintf("databases:\n  - { name: main, dsn: %q }\nhttp: { listen: none }\ncontrol: { socket: %s }\n"+
		"wal:\n  - source: main\n    pgdata: %s\n    database: main\n    storage: file://%s\n    state_dir: %s\n    socket: %s\n%s",
		s.DSN("postgres"), h.path("skyd.sock"), s.DataDir(), h.repo(), h.path("state"), h.path("wal.sock"), more)
	h.must(os.WriteFile(h.path("skyd.yaml"), []byte(text), 0o644))
}

// start starts a server.
func (s *server) start() {
	s.h.t.Helper()
	s.h.must(s.Start(s.h.ctx()))
}

func (s *server) stop() {
	s.h.t.Helper()
	s.h.must(s.Stop(s.h.ctx()))
}

// sql runs statements and gives the first column of the first row of the last one as text.
func (s *server) sql(statements ...string) string {
	s.h.t.Helper()
	out, err := s.query(statements...)
	s.h.must(err)
	return out
}

func (s *server) query(statements ...string) (out string, err error) {
	conn, err := pgx.Connect(s.h.ctx(), s.DSN("postgres"))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(s.h.ctx())) }()
	for _, sql := range statements {
		rows, err := conn.Query(s.h.ctx(), sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return "", err
		}
		out = ""
		for rows.Next() {
			if v := rows.RawValues(); len(v) > 0 && out == "" {
				out = string(v[0])
			}
		}
		if err := rows.Err(); err != nil {
			return "", fmt.Errorf("%s: %w", sql, err)
		}
	}
	return out, nil
}

// log is the server's log.
func (s *server) log() string {
	text, err := os.ReadFile(s.LogPath())
	s.h.must(err)
	return string(text)
}

// archived waits until the archiver has nothing left to do.
func (s *server) archived() {
	s.h.t.Helper()
	pgtest.Eventually(s.h.t, 2*time.Minute, "all segments are archived", func() bool {
		left, err := filepath.Glob(filepath.Join(s.DataDir(), "pg_wal", "archive_status", "*.ready"))
		return err == nil && len(left) == 0
	})
}

// copyOf makes a cluster from a copy of the data directory of a stopped one.
func (h *house) copyOf(data string, settings map[string]string, signal string) *server {
	h.t.Helper()
	c, err := pgserver.New(h.ctx(), h.binaries, pgserver.Options{})
	h.must(err)
	h.t.Cleanup(func() { _ = c.Remove() })
	h.must(os.RemoveAll(c.DataDir()))
	if out, err := exec.CommandContext(h.ctx(), "cp", "-a", data, c.DataDir()).CombinedOutput(); err != nil {
		h.t.Fatalf("copy: %v\n%s", err, out)
	}
	s := &server{c, h}
	var text strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	conf, err := os.OpenFile(filepath.Join(c.DataDir(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	h.must(err)
	_, err = conf.WriteString(text.String())
	h.must(err)
	h.must(conf.Close())
	if signal != "" {
		h.own(filepath.Join(c.DataDir(), signal), nil)
	}
	return s
}

// own writes a file that belongs to the server's user.
func (h *house) own(name string, body []byte) {
	h.t.Helper()
	h.must(os.WriteFile(name, body, 0o600))
	if h.owner != nil {
		h.must(os.Chown(name, int(h.owner.Uid), int(h.owner.Gid)))
	}
}

// copyTree copies a directory as it is.
func (h *house) copyTree(from, to string) {
	h.t.Helper()
	if out, err := exec.CommandContext(h.ctx(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		h.t.Fatalf("copy: %v\n%s", err, out)
	}
}
