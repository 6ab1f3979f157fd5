package wal_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rewrite writes what the verbs say into testdata, to be read in the diff.
var rewrite = flag.Bool("rewrite", false, "write testdata/verbs.txt anew")

// volatile is what differs from run to run.
var volatile = []struct {
	form *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`"(id|oldest_backup|backup)": "\d{8}T\d{6}Z[FI][PS](-\d+)?"`), `"$1": "ID"`},
	{regexp.MustCompile(`\d{8}T\d{6}Z[FI][PS](-\d+)?`), "ID"},
	{regexp.MustCompile(`\b[0-9A-F]{24}\b`), "SEGMENT"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "HASH"},
	{regexp.MustCompile(`\b\d{17,20}\b`), "SYSTEM"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`\b[0-9A-F]{1,8}/[0-9A-F]{1,8}\b`), "LSN"},
	{regexp.MustCompile(`\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b`), "SIZE"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|µs|s)\b`), "TIME"},
	{regexp.MustCompile(`: \d+\.\d+(e-\d+)?(,?)\n`), ": N$2\n"},
	{regexp.MustCompile(`: \d{2,}(,?)\n`), ": N$1\n"},
	{regexp.MustCompile(`\b\d+ (object|segment|file|bytes|pack)`), "N $1"},
	{regexp.MustCompile(`\d+ MiB free`), "N MiB free"},
	{regexp.MustCompile(`holds \d+ bytes`), "holds N bytes"},
	{regexp.MustCompile(`; \d+ were there`), "; N were there"},
	{regexp.MustCompile(`\(\d+ bytes behind\)`), "(N bytes behind)"},
	{regexp.MustCompile(`the oldest for \d+ s`), "the oldest for N s"},
	{regexp.MustCompile(`\d+ archived, \d+ failed`), "N archived, N failed"},
	{regexp.MustCompile(`skyd-e2e-wal-\d+`), "PROGRAMS"},
	{regexp.MustCompile(`(?s)"packs": \{(\s*"\d+": \{[^}]*\},?)*\s*\}`), `"packs": {}`},
	{regexp.MustCompile(`\(process \d+\)`), "(process N)"},
	{regexp.MustCompile(`"(archived|failed|wal_segments|segments|packs|objects|present|archive_lag_bytes|ready_oldest_seconds)": \d+`), `"$1": N`},
	{regexp.MustCompile(`SEGMENT +SEGMENT +\d+`), "SEGMENT SEGMENT N"},
	{regexp.MustCompile(`(files|packs|server) +\d+\n`), "$1 N\n"},
	{regexp.MustCompile(`PostgreSQL \d+|version \d+`), "version N"},
	{regexp.MustCompile(` {2,}`), "  "},
	{regexp.MustCompile(` +\n`), "\n"},
}

// backupID finds ids of backups.
var backupID = regexp.MustCompile(`\d{8}T\d{6}Z[FI][PS]`)

// session writes down what commands say.
type session struct {
	*house
	server *server
	text   strings.Builder
}

// do runs one command and writes it down; want is its exit code.
func (s *session) do(want int, args ...string) string {
	s.t.Helper()
	full := append(append([]string{}, args...), "--config", s.path("skyd.yaml"))
	out, errs, exit := s.as(s.dir, filepath.Join(programs, "skyd"), full...)
	if exit != want {
		s.t.Errorf("skyd %s: exit %d, want %d\n%s%s", strings.Join(args, " "), exit, want, out, errs)
	}
	fmt.Fprintf(&s.text, "$ skyd %s\n%s", strings.Join(args, " "), out)
	for line := range strings.Lines(errs) {
		if strings.HasPrefix(line, "waiting for segment") { // or not: it may be there
			continue
		}
		fmt.Fprintf(&s.text, "! %s", line)
	}
	fmt.Fprintf(&s.text, "= %d\n\n", exit)
	return out
}

// plain is the text without what differs from run to run.
func (s *session) plain() string {
	host, err := os.Hostname()
	s.must(err)
	text := strings.NewReplacer(`"host": "`+host+`"`, `"host": "HOST"`, "["+host+":", "[HOST:", s.server.DataDir(), "PGDATA", s.dir, "DIR", fmt.Sprint(s.server.Port), "PORT").Replace(s.text.String())
	for _, v := range volatile {
		text = v.form.ReplaceAllString(text, v.name)
	}
	return text
}

// TestVerbs_SayAndExitAsWritten runs the verbs of skyd wal one after the other, with their errors, in text and JSON, and
// compares all of it with testdata/verbs.txt.
func TestVerbs_SayAndExitAsWritten(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv := h.newServer(1, map[string]string{"archive_mode": "on", "wal_level": "replica", "full_page_writes": "on"})
	srv.start()
	srv.sql("create table t (i int)", "insert into t select generate_series(1, 1000)")
	h.configure(srv, "    receive: { enabled: true }\n    fetch: { patience: 1s }\n"+
		"    periodic: { cmd: 'test -n \"$SKYD_LAST_WAL\"', interval: 1h }\n    hooks: { before_expire: 'test -e "+h.path("may-expire")+"' }\n")
	s := &session{house: h, server: srv}
	s.settingUp()
	id := s.backingUp()
	s.restoring(id)
	s.standingBy()
	s.tearingDown()
	const golden = "testdata/verbs.txt"
	got := s.plain()
	if *rewrite {
		h.must(os.MkdirAll("testdata", 0o755))
		h.must(os.WriteFile(golden, []byte(got), 0o644))
		return
	}
	want, err := os.ReadFile(golden)
	h.must(err)
	if got != string(want) {
		gl, wl := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(gl), len(wl)) {
			if gl[i] != wl[i] {
				t.Fatalf("line %d (rewrite with -rewrite):\ngot  %s\nwant %s\nafter\n%s", i+1, gl[i], wl[i], strings.Join(gl[max(0, i-8):i], "\n"))
			}
		}
		t.Fatalf("%d lines, want %d", len(gl), len(wl))
	}
}

// settingUp runs the verbs up to an archive that works.
func (s *session) settingUp() {
	s.do(4, "wal", "setup", "--source", "other")
	s.do(1, "wal", "status") // a storage that is not there is away, not empty
	s.do(1, "wal", "list", "-o", "json")
	s.do(2, "wal", "check")
	s.do(0, "wal", "setup", "--print")
	s.do(0, "wal", "setup", "--dry-run")
	s.do(0, "wal", "setup")
	s.do(0, "wal", "setup", "-o", "json")
	s.do(0, "wal", "switch", "--dry-run")
	s.do(0, "wal", "switch")
	s.do(1, "wal", "check") // nobody receives
	s.do(2, "wal", "pause-archiving", "why", "--for", "x")
	s.do(0, "wal", "pause-archiving", "moving the storage", "--dry-run")
	s.do(0, "wal", "pause-archiving", "moving the storage")
	s.do(6, "wal", "switch", "--timeout", "1s")
	s.do(2, "wal", "check")
	s.do(0, "wal", "resume-archiving", "-o", "json")
	s.do(0, "wal", "resume-archiving")
	s.server.sql("select pg_switch_wal()")
	s.server.archived()
	s.do(0, "wal", "status")
	s.do(0, "wal", "periodic")
	s.do(0, "wal", "periodic")
	s.do(0, "wal", "periodic", "--now", "-o", "json")
}

// backingUp runs the verbs of base backups; it gives the id of one.
func (s *session) backingUp() string {
	s.do(4, "wal", "info")
	s.do(4, "wal", "info", "nonsense")
	s.do(4, "wal", "copy", "--to", "file://"+s.path("copy"))
	s.do(4, "wal", "restore", s.path("new"))
	s.do(2, "wal", "backup", "--type", "half")
	s.do(5, "wal", "backup", "--from", "standby")
	s.do(0, "wal", "backup", "--annotate", "why=test")
	s.do(0, "wal", "backup", "--type", "incr", "-o", "json")
	s.do(0, "wal", "list")
	s.do(0, "wal", "info", "-o", "json")
	backup := backupID.FindString(s.skyd("wal", "list"))
	s.do(0, "wal", "info", backup)
	s.do(0, "wal", "hold", backup, "--reason", "audit")
	s.do(0, "wal", "list", "-o", "json")
	s.do(0, "wal", "release", backup)
	s.do(2, "wal", "annotate", backup, "nothing")
	s.do(0, "wal", "annotate", backup, "why=")
	s.do(0, "wal", "verify")
	s.do(0, "wal", "verify", "--deep", "-o", "json")
	s.do(0, "wal", "status", "-o", "json")
	s.do(0, "wal", "repair")
	s.do(2, "wal", "repair", "nonsense")
	s.do(2, "wal", "copy")
	s.do(2, "wal", "copy", "--to", "file://"+s.repo())
	s.do(0, "wal", "copy", "--to", "file://"+s.path("copy"), "--dry-run")
	s.do(0, "wal", "copy", "all", "--with-wal", "--to", "file://"+s.path("copy"))
	s.do(0, "wal", "copy", "all", "--with-wal", "--to", "file://"+s.path("copy"), "-o", "json")
	s.do(2, "wal", "expire")
	s.do(0, "wal", "expire", "--keep", "1", "--dry-run", "-o", "json")
	s.do(5, "wal", "expire", "--keep", "1")
	s.do(5, "wal", "expire", "--keep", "1", "--yes") // the hook says no
	s.own(s.path("may-expire"), nil)
	s.do(0, "wal", "expire", "--keep", "1", "--yes")
	s.do(0, "wal", "expire", "--keep", "1", "--yes")
	return backup
}

// restoring runs restore with what it refuses.
func (s *session) restoring(id string) {
	s.do(2, "wal", "restore", s.path("new"), "--delta", "--aside")
	s.do(2, "wal", "restore", s.path("new"), "--target-time", "soon")
	s.do(4, "wal", "restore", s.path("new"), "--backup", id)
	s.do(5, "wal", "restore", s.path("new"), "--target-time", "2020-01-01 00:00:00Z")
	s.do(5, "wal", "restore", s.path("new"), "--target-lsn", "FF/0")
	s.do(5, "wal", "restore", s.server.DataDir(), "--delta", "--yes")
	s.do(5, "wal", "restore", s.path("copy"))
	s.do(0, "wal", "restore", s.path("new"), "--dry-run")
	s.do(0, "wal", "restore", s.path("new"))
	s.do(5, "wal", "restore", s.path("new"), "--replace")
	s.do(0, "wal", "restore", s.path("new"), "--delta", "--yes", "-o", "json")
	s.do(1, "wal", "fetch", "0000000100000000000000FE", s.path("segment"))
	s.do(203, "wal", "fetch", "nonsense", s.path("segment"))
	s.do(2, "wal", "push", s.path("skyd.yaml"))
}

// standingBy runs the verbs about standbys against a primary.
func (s *session) standingBy() {
	s.do(0, "wal", "synch-standby", "--show")
	s.do(5, "wal", "synch-standby", "nobody")
	s.do(2, "wal", "synch-standby")
	s.do(5, "wal", "standby", "pause")
	s.do(5, "wal", "standby", "promote")
	s.do(0, "wal", "standby", "promote", "--yes")
	s.do(0, "wal", "standby", "status", "-o", "json")
	s.do(2, "wal", "standby", "create", s.path("new"))
	s.do(2, "wal", "receive", "--until", "x")
}

// tearingDown ends the archive.
func (s *session) tearingDown() {
	s.do(5, "wal", "destroy", "--yes")
	s.do(0, "wal", "unsetup", "--dry-run")
	s.do(0, "wal", "unsetup")
	s.do(0, "wal", "unsetup", "-o", "json")
	s.do(0, "wal", "destroy", "--dry-run")
	s.do(5, "wal", "destroy")
	s.do(0, "wal", "destroy", "--yes", "-o", "json")
	s.do(4, "wal", "destroy", "--yes")
}
