package wal_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// drillStatus is what the daemon says about restore drills.
type drillStatus struct {
	Archives []struct {
		Drill *struct {
			LastSuccess time.Time `json:"last_success"`
			Error       string    `json:"error"`
		} `json:"restore_drill"`
	} `json:"archives"`
	Actors []struct {
		Path      string `json:"path"`
		State     string `json:"state"`
		LastError string `json:"last_error"`
	} `json:"actors"`
}

// drilled reads the status until it tells of a drill.
func (h *house) drilled(done func(drillStatus) bool) drillStatus {
	h.t.Helper()
	var st drillStatus
	pgtest.Eventually(h.t, 2*time.Minute, "the daemon tells of a drill", func() bool {
		st = drillStatus{}
		return json.Unmarshal([]byte(h.status()), &st) == nil && len(st.Archives) == 1 && st.Archives[0].Drill != nil && done(st)
	})
	return st
}

// TestDrill_RestoresAndTells: a restore drill restores, recovers and looks through everything; what it finds wrong it tells,
// and a drill that was killed leaves nothing behind.
func TestDrill_RestoresAndTells(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	s := h.newServer(1, map[string]string{"archive_mode": "on", "wal_level": "replica", "full_page_writes": "on"})
	s.start()
	s.sql("create table t (i int primary key, pad text)", "create database other", "insert into t select i, repeat('x', 100) from generate_series(1, 2000) i")
	h.configure(s, "    fetch: { patience: 1s }\n    drill: { every: 1h, dir: "+h.path("drills")+" }\n")
	h.skyd("wal", "setup")
	out, errs, exit := h.as(h.dir, filepath.Join(programs, "skyd"), "wal", "verify", "--restore", "--config", h.path("skyd.yaml"))
	if exit != 4 || !strings.Contains(errs, "no such backup") {
		t.Errorf("without a backup: exit %d, %s%s", exit, out, errs)
	}
	h.skyd("wal", "backup")
	s.sql("insert into t values (0, 'after the backup')")
	h.skyd("wal", "switch")

	h.killedDrill()
	out, errs, exit = h.as(h.dir, filepath.Join(programs, "skyd"), "wal", "verify", "--restore", "--config", h.path("skyd.yaml"))
	if exit != 0 || !strings.Contains(out, "all well") || !strings.Contains(errs, "database other") {
		t.Fatalf("drill: exit %d\n%s%s", exit, out, errs)
	}
	if left, err := filepath.Glob(h.path("drills/*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}

	record, err := filepath.Glob(h.path("repo/main/drill.json"))
	if err != nil || len(record) != 1 {
		t.Fatalf("no record of the drill: %v", err)
	}
	h.must(os.Remove(record[0]))
	kill := h.run()
	st := h.drilled(func(drillStatus) bool { return true })
	if d := st.Archives[0].Drill; d.Error != "" || time.Since(d.LastSuccess) > 5*time.Minute {
		t.Errorf("the daemon's drill: %+v", *d)
	}
	kill()
	h.must(os.Remove(record[0]))

	segments, err := filepath.Glob(filepath.Join(h.repo(), "main/wal/*/00000001/*/*.zst"))
	h.must(err)
	object := segments[len(segments)-1]
	body, err := os.ReadFile(object)
	h.must(err)
	body[len(body)/2] ^= 0xff
	h.must(os.WriteFile(object, body, 0o600))
	h.run()
	st = h.drilled(func(st drillStatus) bool { return st.Archives[0].Drill.Error != "" })
	for _, a := range st.Actors {
		if a.Path == "wal/main/drill" && (a.State != "backoff" || !strings.Contains(a.LastError, "recovery")) {
			t.Errorf("the actor is %s: %s", a.State, a.LastError)
		}
	}
	if got := h.skyd("wal", "status"); !strings.Contains(got, "last restore drill") || !strings.Contains(got, "FAILED") {
		t.Errorf("status:\n%s", got)
	}
}

// killedDrill kills a drill when its server runs.
func (h *house) killedDrill() {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "skyd"), "wal", "verify", "--restore", "--config", h.path("skyd.yaml"))
	cmd.Dir = h.dir
	if h.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.owner}
	}
	h.must(cmd.Start())
	pgtest.Eventually(h.t, time.Minute, "the server of the drill runs", func() bool {
		found, err := filepath.Glob(h.path("drills/*/data/postmaster.pid"))
		return err == nil && len(found) == 1
	})
	h.must(cmd.Process.Kill())
	_ = cmd.Wait()
}
