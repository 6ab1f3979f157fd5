package wal_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// long runs the faults at every segment of a recovery.
var long = flag.Bool("wal.long", false, "faults at every segment of a recovery, more segment sizes")

// rows is how many rows the history of a test has: each in a segment of its own.
const rows = 6

// past is an archived history: a cold copy of the data directory from before it, and the repository behind it.
type past struct {
	*house
	base     string
	segments []string // keys in the repository, in order
	source   *server
}

// newPast makes a cluster, archives rows through setup and the small client, and stops it.
func newPast(t *testing.T, megabytes int) *past {
	t.Helper()
	h := newHouse(t)
	s := h.newServer(megabytes, map[string]string{"archive_mode": "on", "wal_level": "replica", "full_page_writes": "on"})
	s.start()
	s.sql("create table t (i int primary key, at timestamptz default clock_timestamp())", "checkpoint")
	h.configure(s, "    fetch: { patience: 1s }\n")
	h.skyd("wal", "setup", "--source", "main")
	s.stop()
	p := &past{house: h, base: h.path("base"), source: s}
	h.copyTree(s.DataDir(), p.base)
	s.start()
	for i := 1; i <= rows; i++ {
		s.sql(fmt.Sprintf("insert into t values (%d)", i), "select pg_switch_wal()")
	}
	s.archived()
	s.stop()
	var err error
	p.segments, err = filepath.Glob(filepath.Join(h.repo(), "main/wal/*/00000001/*/*.zst"))
	h.must(err)
	slices.Sort(p.segments)
	if len(p.segments) < rows {
		t.Fatalf("archived %d segments, want at least %d\n%s", len(p.segments), rows, s.log())
	}
	return p
}

// client is the restore_command with the small client.
func (p *past) client(more ...string) string {
	return filepath.Join(programs, "skyd-wal") + " fetch --source=main --config=" + p.path("skyd.yaml") + " " + strings.Join(more, " ") + " %f %p"
}

// recovers starts a copy of the base in recovery and tells what came of it: rows and timeline, or that it stopped.
func (p *past) recovers(command, signal string) (rows, timeline, log string, up bool) {
	p.t.Helper()
	settings := map[string]string{"restore_command": command, "archive_mode": "off", "hot_standby": "on"}
	c := p.copyOf(p.base, settings, signal)
	if err := c.Start(p.ctx()); err != nil {
		return "", "", c.log(), false
	}
	defer c.stop()
	up = true
	if signal == "recovery.signal" {
		pgtest.Eventually(p.t, 2*time.Minute, "the end of recovery, or of the server", func() bool {
			out, err := c.query("select pg_is_in_recovery()")
			if err != nil {
				up = c.Running()
				return !up
			}
			return out == "f"
		})
	}
	if !up {
		return "", "", c.log(), false
	}
	return c.sql("select count(*) from t"), c.sql("select timeline_id from pg_control_checkpoint()", "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"),
		c.log(), true
}

// stopsWith recovers and proves that the server stopped for the exit code instead of opening the database early.
func (p *past) stopsWith(what, command string, exit int) {
	p.t.Helper()
	rows, timeline, log, up := p.recovers(command, "recovery.signal")
	if up {
		p.t.Errorf("%s: the server opened with %s of 6 rows on timeline %s", what, rows, timeline)
	}
	if !strings.Contains(log, fmt.Sprintf("child process exited with exit code %d", exit)) {
		p.t.Errorf("%s: want exit code %d in the log:\n%s", what, exit, tail(log))
	}
}

func tail(log string) string { return log[max(0, len(log)-2000):] }

// faults runs test for one segment in the middle, or with -wal.long for each.
func (p *past) faults(test func(i int, object string)) {
	for i, object := range p.segments {
		if *long || i == len(p.segments)/2 {
			test(i, object)
		}
	}
}

// TestRecovery_NeverEndsEarlyInSilence: whatever is wrong with archive or client, recovery gives all rows or stops.
func TestRecovery_NeverEndsEarlyInSilence(t *testing.T) {
	t.Parallel()
	p := newPast(t, 1)
	if rows, timeline, log, up := p.recovers(p.client(), "recovery.signal"); !up || rows != "6" || timeline != "2" {
		t.Fatalf("a whole archive gives %s rows on timeline %s, up: %t\n%s", rows, timeline, up, tail(log))
	}
	p.faults(func(i int, object string) {
		if i == len(p.segments)-1 {
			return // without the last one the archive ends before it
		}
		h := object + ".away"
		p.must(os.Rename(object, h))
		p.stopsWith(fmt.Sprintf("hole at %d", i), p.client(), 201)
		body, err := os.ReadFile(h)
		p.must(err)
		body[len(body)/2] ^= 0xff
		p.own(object, body)
		p.stopsWith(fmt.Sprintf("rot at %d", i), p.client(), 202)
		if *long {
			p.own(object, body[:len(body)/2])
			p.stopsWith(fmt.Sprintf("cut at %d", i), p.client(), 202)
		}
		p.must(os.Rename(h, object))
		// The storage goes away when this segment is asked for.
		name := strings.TrimSuffix(filepath.Base(object), ".zst")
		away := fmt.Sprintf("test %%f != %s || mv %s %s; %s", name, p.repo(), p.repo()+".away", p.client())
		p.stopsWith(fmt.Sprintf("storage away at %d", i), away, 200)
		p.must(os.Rename(p.repo()+".away", p.repo()))
		if !*long {
			return
		}
		p.must(os.Rename(p.repo(), p.repo()+".away"))
		p.must(os.Mkdir(p.repo(), 0o755)) // a mount point without its file system
		p.stopsWith("storage not mounted", p.client(), 200)
		p.must(os.Remove(p.repo()))
		p.must(os.Rename(p.repo()+".away", p.repo()))
	})
	full := filepath.Join(programs, "skyd") + " wal fetch --config=" + p.path("skyd.yaml")
	for what, command := range map[string]string{
		"unknown flag":            p.client("--bogus=1"),
		"missing configuration":   strings.Replace(p.client(), "skyd.yaml", "none.yaml", 1),
		"unknown source":          strings.Replace(p.client(), "source=main", "source=other", 1),
		"argument too few":        strings.TrimSuffix(p.client(), " %p"),
		"no skyd beside":          p.client("--skyd=/nowhere/skyd"),
		"skyd that panics":        p.client("--skyd=" + p.script("exit 2")),
		"skyd that says absent":   p.client("--skyd=" + p.script("exit 1")),
		"skyd that says all well": p.client("--skyd=" + p.script("exit 0")),
		"skyd that is killed":     p.client("--skyd=" + p.script("kill -9 $$")),
		"full form, unknown flag": full + " --source=main --bogus %f %p",
		"full form, help":         full + " --help %f %p",
		"full form, no source":    full + " --source=other %f %p",
	} {
		p.exits(what, command, 203)
	}
	if !*long {
		return
	}
	if rows, timeline, log, up := p.recovers(full+" --source=main %f %p", "recovery.signal"); !up || rows != "6" || timeline != "2" {
		t.Errorf("the full form gives %s rows on timeline %s, up: %t\n%s", rows, timeline, up, tail(log))
	}
}

// script makes a program that stands for a skyd that fails.
func (p *past) script(text string) string {
	p.t.Helper()
	name := p.path(fmt.Sprintf("skyd-%x", text))
	p.must(os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return name
}

// exits runs a restore_command in directories of a recovery and of a standby: exit in the first, 1 in the second.
func (p *past) exits(what, command string, exit int) {
	p.t.Helper()
	for signal, want := range map[string]int{"recovery.signal": exit, "": exit, "standby.signal": 1} {
		dir, err := os.MkdirTemp(p.dir, "data-")
		p.must(err)
		p.must(os.Chmod(dir, 0o755))
		p.own(filepath.Join(dir, "PG_VERSION"), []byte("15\n"))
		if signal != "" {
			p.own(filepath.Join(dir, signal), nil)
		}
		line := strings.NewReplacer("%f", strings.TrimSuffix(filepath.Base(p.segments[0]), ".zst"), "%p", "RECOVERYXLOG").Replace(command)
		_, errs, got := p.as(dir, "/bin/sh", "-c", line)
		if got != want {
			p.t.Errorf("%s, %q: exit %d, want %d\n%s", what, signal, got, want, errs)
		}
		if _, err := os.Stat(filepath.Join(dir, "RECOVERYXLOG")); err == nil {
			p.t.Errorf("%s, %q: something was left at the destination", what, signal)
		}
	}
}

// TestStandby_LivesThroughAllFaults: a standby stays up whatever the archive says, and goes on when it is mended.
func TestStandby_LivesThroughAllFaults(t *testing.T) {
	t.Parallel()
	p := newPast(t, 1)
	middle := p.segments[len(p.segments)/2]
	p.must(os.Rename(middle, middle+".away"))
	settings := map[string]string{"restore_command": p.client(), "archive_mode": "off", "hot_standby": "on", "wal_retrieve_retry_interval": "200ms"}
	s := p.copyOf(p.base, settings, "standby.signal")
	s.start()
	count := func() string {
		out, err := s.query("select count(*) from t")
		if err != nil {
			t.Fatalf("the standby died: %v\n%s", err, tail(s.log()))
		}
		return out
	}
	waitRows := func(want string) {
		t.Helper()
		pgtest.Eventually(t, 2*time.Minute, want+" rows on the standby", func() bool { return count() == want })
	}
	waitLog := func(text string, n int) {
		t.Helper()
		pgtest.Eventually(t, 2*time.Minute, "the log says "+text, func() bool { return strings.Count(s.log(), text) >= n })
	}
	waitLog("event=wal.gap", 2)
	if got := count(); got == "6" || got == "0" {
		t.Fatalf("%s rows with a hole in the middle", got)
	}
	body, err := os.ReadFile(middle + ".away")
	p.must(err)
	p.own(middle, body[:100])
	waitLog("the stored object is damaged", 2)
	p.must(os.Rename(p.repo(), p.repo()+".away"))
	waitLog("storage directory is not there", 2)
	p.must(os.Rename(p.repo()+".away", p.repo()))
	p.must(os.Rename(p.path("skyd.yaml"), p.path("skyd.yaml.away")))
	waitLog("skyd.yaml: cannot be read", 2)
	p.must(os.Rename(p.path("skyd.yaml.away"), p.path("skyd.yaml")))
	p.must(os.Rename(middle+".away", middle))
	waitRows("6")
	if out := s.sql("select pg_is_in_recovery()"); out != "t" {
		t.Error("the standby was promoted")
	}
	s.stop()
}
