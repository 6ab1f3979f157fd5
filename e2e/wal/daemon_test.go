package wal_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// run starts the daemon of a house; kill ends it with SIGKILL.
func (h *house) run() (kill func()) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "skyd"), "run", "--config", h.path("skyd.yaml"))
	cmd.Dir = h.dir
	if h.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.owner}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	h.must(cmd.Start())
	done := false
	kill = func() {
		if !done {
			done = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if h.t.Failed() {
			h.t.Logf("daemon:\n%s", &out)
		}
	}
	h.t.Cleanup(kill)
	pgtest.Eventually(h.t, time.Minute, "the gate is open", func() bool {
		_, err := os.Stat(h.path("wal.sock"))
		return err == nil
	})
	return kill
}

// status is the status of the daemon; its exit code tells whether all is well.
func (h *house) status() string {
	out, _, _ := h.as(h.dir, filepath.Join(programs, "skyd"), "status", "--socket", h.path("skyd.sock"), "-o", "json")
	return out
}

// TestArchiving_ThroughDaemonsThatDie archives under load while the daemon is killed and started again, and while nobody runs
// it. Nothing that the server was told is archived is missing, and a standby gets all of it from the archive.
func TestArchiving_ThroughDaemonsThatDie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.newServer(1, map[string]string{"archive_mode": "on", "wal_level": "replica"})
	s.start()
	s.sql("create table t (i int)", "checkpoint")
	h.configure(s, "    workers: 3\n    fetch: { patience: 1s }\n")
	h.skyd("wal", "setup")
	if out := h.skyd("wal", "setup"); !strings.Contains(out, "nothing to do") {
		t.Errorf("the second setup changed something: %s", out)
	}
	s.stop()
	base := h.path("base")
	h.copyTree(s.DataDir(), base)
	s.start()
	burst := func(n int) {
		for range n {
			s.sql("insert into t select generate_series(1, 2000)", "select pg_switch_wal()")
		}
	}
	for range 3 {
		kill := h.run()
		burst(4)
		kill()
		burst(2)
	}
	h.run()
	burst(3)
	s.archived()
	if failed := s.sql("select failed_count from pg_stat_archiver"); failed != "0" {
		t.Logf("%s pushes failed on the way, which is no loss", failed)
	}
	out, errs, exit := h.as(h.dir, filepath.Join(programs, "skyd"), "wal", "check", "--config", h.path("skyd.yaml"))
	if exit != 0 {
		t.Errorf("check: exit %d\n%s%s", exit, out, errs)
	}
	if status := h.status(); !strings.Contains(status, `"archives"`) ||
		!strings.Contains(status, `"path": "wal/main/shipper"`) {
		t.Errorf("status of the daemon:\n%s", status)
	}
	if status := h.skyd("wal", "status"); strings.Contains(status, "hole") {
		t.Errorf("status: %s", status)
	}
	want := s.sql("select count(*) from t")
	s.sql("select pg_switch_wal()")
	s.archived()
	s.stop()
	p := &past{house: h, base: base}
	if rows, _, log, up := p.recovers(p.client("--socket="+h.path("wal.sock")), "recovery.signal"); !up || rows != want {
		t.Errorf("recovered %s rows of %s, up: %t\n%s", rows, want, up, tail(log))
	}
}

// TestArchiving_RepositoryAway: the archiver hears no while the repository is away, and goes on when it is back.
func TestArchiving_RepositoryAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.newServer(1, map[string]string{"archive_mode": "on", "wal_level": "replica"})
	s.start()
	h.configure(s, "")
	h.skyd("wal", "setup")
	h.run()
	h.must(os.Rename(h.repo(), h.repo()+".away"))
	s.sql("create table t (i int)", "select pg_switch_wal()")
	pgtest.Eventually(t, 2*time.Minute, "the archiver counts a failure", func() bool {
		return s.sql("select failed_count > 0 from pg_stat_archiver") == "t"
	})
	status := h.status()
	if !strings.Contains(status, "archiving fails") {
		t.Errorf("the daemon does not say that archiving fails:\n%s", status)
	}
	h.must(os.Rename(h.repo()+".away", h.repo()))
	s.archived()
	out := h.skyd("wal", "unsetup")
	if !strings.Contains(out, "on record") || !strings.Contains(h.skyd("wal", "status"), "! gap on timeline 1") {
		t.Errorf("unsetup left no gap on record: %s", out)
	}
	if got := s.sql("show archive_command"); got != "" && got != "(disabled)" {
		t.Errorf("archive_command after unsetup: %q", got)
	}
}
