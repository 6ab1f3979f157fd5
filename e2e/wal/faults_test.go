package wal_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// exit runs skyd with the configuration and gives all it says and its exit code.
func (h *house) exit(args ...string) (string, int) {
	h.t.Helper()
	out, errs, exit := h.as(h.dir, filepath.Join(programs, "skyd"), append(args, "--config", h.path("skyd.yaml"))...)
	return out + errs, exit
}

// smallDisk mounts a file system of its own at a directory; the test is skipped where nobody may mount.
func (h *house) smallDisk(name string, megabytes int) string {
	h.t.Helper()
	dir := h.path(name)
	h.must(os.MkdirAll(dir, 0o755))
	option := fmt.Sprintf("size=%dm,mode=0755", megabytes)
	if h.owner != nil {
		option += fmt.Sprintf(",uid=%d,gid=%d", h.owner.Uid, h.owner.Gid)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", option, "skyd-test", dir).CombinedOutput(); err != nil {
		pgtest.Missing(h.t, fmt.Sprintf("a file system of its own cannot be mounted: %v %s", err, out))
	}
	h.t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			h.t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// archiving makes a house with a server that is set up to archive.
func archiving(t *testing.T, more string) (*house, *server) {
	t.Helper()
	h := newHouse(t)
	s := h.newServer(1, map[string]string{"archive_mode": "on", "wal_level": "replica", "full_page_writes": "on", "autovacuum": "off"})
	s.start()
	s.sql("create table t (i int)")
	h.configure(s, more)
	return h, s
}

// burst writes rows, each closing a segment.
func (s *server) burst(n int) {
	s.h.t.Helper()
	for range n {
		s.sql("insert into t select generate_series(1, 500)", "select pg_switch_wal()")
	}
}

// TestFault_RepositoryFull: push fails with 1 and leaves nothing half done, what is there stays, status says so, and room is
// enough to go on.
func TestFault_RepositoryFull(t *testing.T) {
	t.Parallel()
	h, s := archiving(t, "")
	disk := h.smallDisk("disk", 4)
	text, err := os.ReadFile(h.path("skyd.yaml"))
	h.must(err)
	h.must(os.WriteFile(h.path("skyd.yaml"), []byte(strings.Replace(string(text), "file://"+h.repo(), "file://"+disk+"/repo", 1)), 0o644))
	h.skyd("wal", "setup")
	s.burst(1)
	s.archived()
	filler, err := os.Create(filepath.Join(disk, "filler"))
	h.must(err)
	for err == nil {
		_, err = filler.Write(make([]byte, 64<<10))
	}
	h.must(filler.Close())
	s.burst(3)
	pgtest.Eventually(t, 2*time.Minute, "the archiver counts a failure", func() bool {
		return s.sql("select failed_count > 0 from pg_stat_archiver") == "t"
	})
	ready, err := filepath.Glob(filepath.Join(s.DataDir(), "pg_wal/archive_status/*.ready"))
	if err != nil || len(ready) == 0 {
		t.Fatalf("nothing waits: %v", err)
	}
	name := strings.TrimSuffix(filepath.Base(ready[0]), ".ready")
	if out, exit := h.exit("wal", "push", filepath.Join(s.DataDir(), "pg_wal", name)); exit != 1 || !strings.Contains(out, "no space left") {
		t.Errorf("push into a full repository: exit %d, %s", exit, out)
	}
	if out, exit := h.exit("wal", "status"); exit != 0 || !strings.Contains(out, "the archiver failed") {
		t.Errorf("status: exit %d\n%s", exit, out)
	}
	left, err := filepath.Glob(filepath.Join(disk, "repo/main/wal/*/00000001/*/.tmp*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	h.must(os.Remove(filepath.Join(disk, "filler")))
	s.archived()
	if out := h.skyd("wal", "status"); strings.Contains(out, "hole") {
		t.Errorf("status: %s", out)
	}
}

// TestFault_StateDirectoryFull: the receiver tells the server nothing that it could not keep, and goes on when there is room;
// archiving by push is not concerned.
func TestFault_StateDirectoryFull(t *testing.T) {
	t.Parallel()
	h, s := archiving(t, "    receive: { enabled: true, partial_interval: 100ms }\n")
	disk := h.smallDisk("disk", 4)
	text, err := os.ReadFile(h.path("skyd.yaml"))
	h.must(err)
	h.must(os.WriteFile(h.path("skyd.yaml"), []byte(strings.Replace(string(text), "state_dir: "+h.path("state"), "state_dir: "+disk, 1)), 0o644))
	filler, err := os.Create(filepath.Join(disk, "filler"))
	h.must(err)
	for err == nil {
		_, err = filler.Write(make([]byte, 64<<10))
	}
	h.must(filler.Close())
	h.skyd("wal", "setup")
	h.run()
	s.burst(3)
	s.archived()
	pgtest.Eventually(t, time.Minute, "the receiver says why it does not receive", func() bool {
		return strings.Contains(h.status(), "no space left")
	})
	if got := s.sql("select count(*) from pg_replication_slots where restart_lsn is not null"); got != "1" {
		t.Error("no slot keeps the WAL")
	}
	h.must(os.Remove(filepath.Join(disk, "filler")))
	pgtest.Eventually(t, 2*time.Minute, "the receiver has caught up", func() bool {
		return s.sql("select count(*) from pg_stat_replication where flush_lsn >= pg_current_wal_flush_lsn()") == "1"
	})
}

// TestFault_QueueMax: with the archive away and more waiting than queue_max, the server goes on; the gap is on record, the
// hook is told, and a new base backup makes it harmless.
func TestFault_QueueMax(t *testing.T) {
	t.Parallel()
	h, s := archiving(t, "")
	told := h.path("told")
	h.configure(s, "    queue_max: 3145728\n    backup: { every: 24h }\n    hooks: { on_gap: 'echo $SKYD_GAP_FROM $SKYD_GAP_TO >> "+told+"' }\n")
	h.skyd("wal", "setup")
	h.skyd("wal", "backup")
	s.burst(1)
	s.archived()
	h.must(os.Rename(h.repo(), h.repo()+".away"))
	s.burst(8)
	pgtest.Eventually(t, 2*time.Minute, "segments are given up", func() bool {
		s.burst(1) // wakes the archiver
		dropped, err := os.ReadDir(h.path("state/dropped"))
		return err == nil && len(dropped) >= 3
	})
	h.must(os.Rename(h.repo()+".away", h.repo()))
	s.burst(1)
	s.archived()
	if out := h.skyd("wal", "list"); !strings.Contains(out, "! gap from") {
		t.Errorf("no gap on record:\n%s", out)
	}
	if text, err := os.ReadFile(told); err != nil || !strings.Contains(string(text), "0/") {
		t.Errorf("the hook was told %q, %v", text, err)
	}
	if out, exit := h.exit("wal", "verify"); exit != 1 || !strings.Contains(out, "hole") {
		t.Errorf("verify with a gap: exit %d\n%s", exit, out)
	}
	h.run()
	pgtest.Eventually(t, 2*time.Minute, "a backup closes the gap", func() bool {
		out := h.skyd("wal", "list")
		return !strings.Contains(out, "! gap from") && len(backupID.FindAllString(out, -1)) >= 2
	})
}

// TestFault_DamagedAndMissing: verify finds damaged and missing segments, repair brings them back from pg_wal or another
// repository, and says what it cannot; a record whose checksum is wrong inside of an object that is whole is found too.
func TestFault_DamagedAndMissing(t *testing.T) {
	t.Parallel()
	h, s := archiving(t, "")
	h.skyd("wal", "setup")
	h.skyd("wal", "backup")
	s.burst(6)
	s.archived()
	h.skyd("wal", "copy", "--with-wal", "--to", "file://"+h.path("copy"))
	segments, err := filepath.Glob(filepath.Join(h.repo(), "main/wal/*/00000001/*/*.zst"))
	h.must(err)
	damaged, missing := segments[len(segments)-4], segments[len(segments)-2]
	harm := func() {
		body, err := os.ReadFile(damaged)
		h.must(err)
		body[len(body)-10] ^= 0xff
		h.must(os.WriteFile(damaged, body, 0o600))
		h.must(os.Remove(missing))
	}
	harm()
	if out, exit := h.exit("wal", "verify", "--deep"); exit != 1 || !strings.Contains(out, "2 fault(s)") {
		t.Errorf("verify: exit %d\n%s", exit, out)
	}
	if out := h.skyd("wal", "list"); !strings.Contains(out, "! gap") {
		t.Errorf("verify put no gap on record:\n%s", out)
	}
	if out := h.skyd("wal", "repair", "--dry-run"); !strings.Contains(out, "2 repaired, 0 lost") {
		t.Errorf("repair --dry-run: %s", out)
	}
	if out, exit := h.exit("wal", "verify"); exit != 1 {
		t.Errorf("a dry run repaired: %s", out)
	}
	if out := h.skyd("wal", "repair"); !strings.Contains(out, "2 repaired, 0 lost, 0 gap(s) open") {
		t.Errorf("repair from pg_wal: %s", out)
	}
	h.skyd("wal", "verify", "--deep")
	harm()
	alone := []string{"wal", "repair", "--source", "main", "--storage", "file://" + h.repo()}
	out, errs, exit := h.as(h.dir, filepath.Join(programs, "skyd"), alone...)
	if exit != 7 || !strings.Contains(out, "0 repaired, 2 lost") {
		t.Errorf("repair without a source: exit %d\n%s%s", exit, out, errs)
	}
	out, errs, exit = h.as(h.dir, filepath.Join(programs, "skyd"), append(alone, "--from", "file://"+h.path("copy"))...)
	if exit != 0 || !strings.Contains(out, "2 repaired, 0 lost, 0 gap(s) open") {
		t.Errorf("repair from another repository: exit %d\n%s%s", exit, out, errs)
	}
	h.skyd("wal", "verify", "--deep")
	if out := h.skyd("wal", "list"); strings.Contains(out, "! gap") {
		t.Errorf("a gap is open:\n%s", out)
	}
}

// TestFault_ReinitInPlace: a new cluster in the same directory, with segments of another size, is refused until setup, gets a
// branch of its own and a full backup, and the old one stays restorable.
func TestFault_ReinitInPlace(t *testing.T) {
	t.Parallel()
	h, s := archiving(t, "")
	h.skyd("wal", "setup")
	h.skyd("wal", "backup")
	s.burst(2)
	s.archived()
	old := backupID.FindString(h.skyd("wal", "list"))
	s.stop()
	next := h.newServer(2, map[string]string{"archive_mode": "on", "wal_level": "replica", "full_page_writes": "on"})
	conf, err := os.ReadFile(filepath.Join(next.DataDir(), "postgresql.conf"))
	h.must(err)
	h.must(os.RemoveAll(next.DataDir())) // it came from a template, with the same system identifier
	h.must(h.tool("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=2", "-D", next.DataDir()))
	h.own(filepath.Join(next.DataDir(), "postgresql.conf"), conf)
	next.start()
	next.sql("create table t (i int)", "select pg_switch_wal()")
	h.configure(next, "")
	segments, err := filepath.Glob(filepath.Join(next.DataDir(), "pg_wal/0*"))
	h.must(err)
	if out, exit := h.exit("wal", "push", segments[0]); exit != 5 || !strings.Contains(out, "another cluster") {
		t.Errorf("push of another cluster: exit %d\n%s", exit, out)
	}
	h.skyd("wal", "setup")
	next.burst(1)
	next.archived()
	if out := h.skyd("wal", "backup", "--type", "incr"); !strings.Contains(out, "(full,") {
		t.Errorf("the first backup of the new cluster: %s", out)
	}
	h.skyd("wal", "verify", "--deep")
	for id, want := range map[string]string{old: "1000", "": "500"} {
		dest := h.path("restored-" + id)
		h.skyd("wal", "restore", dest, "--backup", id)
		c := h.copyOf(dest, nil, "")
		c.start()
		pgtest.Eventually(t, time.Minute, "recovery over", func() bool { return c.sql("select pg_is_in_recovery()") == "f" })
		if got := c.sql("select count(*) from t"); got != want {
			t.Errorf("backup %q restores %s rows, want %s", id, got, want)
		}
		c.stop()
	}
}
