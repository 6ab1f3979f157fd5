package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/demo"
	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
)

const demoPatience = time.Minute

// demoProcess is skyd demo, or another command with a server, as a process of its own, with a directory of its own for temporary files.
type demoProcess struct {
	cmd    *exec.Cmd
	temp   string
	out    *bufio.Reader
	pipe   io.Closer
	stderr bytes.Buffer
	seen   strings.Builder
}

// startDemo starts skyd demo; where no server can be run the test is skipped, or fails if skips are forbidden.
func startDemo(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	return startWithServer(t, append([]string{"demo"}, args...)...)
}

// startWithServer is the same for any command that runs a server.
func startWithServer(t *testing.T, args ...string) *demoProcess {
	t.Helper()
	if _, err := pgserver.Find(); err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	// Not t.TempDir: the user that PostgreSQL runs as cannot pass through it.
	temp, err := os.MkdirTemp("", "skydemo-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	if err := os.Chmod(temp, 0o711); err != nil {
		t.Fatal(err)
	}
	d := &demoProcess{temp: temp, cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	d.cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+temp)
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.out, d.pipe = bufio.NewReader(out), out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// waitFor reads the output up to the line that holds text.
func (d *demoProcess) waitFor(t *testing.T, text string) {
	t.Helper()
	for {
		line, err := d.out.ReadString('\n')
		d.seen.WriteString(line)
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			t.Fatalf("output ended before %q: %v\n%s%s", text, err, d.seen.String(), d.stderr.String())
		}
	}
}

// wait returns the exit code.
func (d *demoProcess) wait(t *testing.T) int {
	t.Helper()
	rest, _ := io.ReadAll(d.out) // ends with the process
	d.seen.Write(rest)
	err := d.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return d.cmd.ProcessState.ExitCode()
}

// servers lists the processes whose command line names the directory.
func (d *demoProcess) servers(t *testing.T) (found []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		// Backends change their title; where they work does not change.
		text, _ := os.ReadFile(file)
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(file), "cwd"))
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ")) // the parts of the demo
		if strings.Contains(string(text), d.temp) || strings.Contains(string(env), "TMPDIR="+d.temp) || strings.HasPrefix(cwd, d.temp) {
			found = append(found, file+" "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return found
}

// files lists what is in the directory for temporary files.
func (d *demoProcess) files(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(d.temp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (d *demoProcess) checkGone(t *testing.T) {
	t.Helper()
	if servers := d.servers(t); len(servers) > 0 {
		t.Errorf("processes left:\n%s", strings.Join(servers, "\n"))
	}
	if files := d.files(t); len(files) > 0 {
		t.Errorf("files left: %s", files)
	}
	if t.Failed() {
		t.Logf("output:\n%s%s", d.seen.String(), d.stderr.String())
	}
}

func TestDemo_SignalsLeaveNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		until string // of the output; or
		file  string // that exists
		sigs  []syscall.Signal
		code  int
	}{
		"initdb":           {file: "skyd-pg-*/data/base", sigs: []syscall.Signal{syscall.SIGINT}, code: 130},
		"server starts":    {file: "skyd-pg-*/server.log", sigs: []syscall.Signal{syscall.SIGINT}, code: 130},
		"schema":           {until: "running in", sigs: []syscall.Signal{syscall.SIGTERM}, code: 143},
		"member killed":    {until: "kill -9: process clerk", sigs: []syscall.Signal{syscall.SIGINT}, code: 130},
		"daemon killed":    {until: "kill -9: process daemon", sigs: []syscall.Signal{syscall.SIGTERM}, code: 143},
		"crash":            {until: "kill -9: all", sigs: []syscall.Signal{syscall.SIGINT}, code: 130},
		"recovery":         {until: "started again", sigs: []syscall.Signal{syscall.SIGTERM}, code: 143},
		"drain":            {until: "workload stopped", sigs: []syscall.Signal{syscall.SIGINT}, code: 130},
		"impatient":        {until: "written/s", sigs: []syscall.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGTERM}, code: 130},
		"terminal is gone": {until: "workload:", sigs: []syscall.Signal{syscall.SIGHUP}, code: 129},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, "--duration", "3s")
			if c.until != "" {
				d.waitFor(t, c.until)
			} else {
				pgtest.Eventually(t, demoPatience, c.file, func() bool {
					found, err := filepath.Glob(filepath.Join(d.temp, c.file))
					return err == nil && len(found) > 0
				})
			}
			for _, sig := range c.sigs {
				if err := d.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			if code := d.wait(t); code != c.code || !strings.HasPrefix(d.stderr.String(), "skyd: interrupted by signal ") ||
				!strings.HasSuffix(d.stderr.String(), ": demo stopped, its server and files are removed\n") {
				t.Errorf("exit %d, stderr %s; want exit %d and one line that tells the signal", code, d.stderr.String(), c.code)
			}
			d.checkGone(t)
		})
	}
}

func TestDemo_ReaderGoneLeavesNothing(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--duration", "5s")
	d.waitFor(t, "PgQ installed")
	if err := d.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if code := d.wait(t); code != exitSignal+int(syscall.SIGPIPE) || d.stderr.Len() > 0 {
		t.Errorf("exit %d, stderr %q, want the exit code of a broken pipe, in silence", code, d.stderr.String())
	}
	d.checkGone(t)
}

func TestDemo_KilledTakesItsServerAlong(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only the kernel of Linux tells a server that its owner died")
	}
	d := startDemo(t, "--duration", "5s")
	d.waitFor(t, "workload:")
	if len(d.servers(t)) == 0 {
		t.Error("the server is not seen, so its end cannot be")
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.wait(t)
	pgtest.Eventually(t, demoPatience, "server ends", func() bool { return len(d.servers(t)) == 0 })
}

func TestDemo_TellsTheStoryAndProves(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--duration", "5s")
	code := d.wait(t)
	text := d.seen.String()
	for _, want := range []string{
		" making a throw-away server\n", " fsync on\n", " written/s ", " ms / ", "kill -9: all", "back by themselves", "took its batch over", " has the lease after ",
		"\n  subconsumer clerk-2: its batch of ", "\n  PostgreSQL: recovered ",
		"\n  transfers committed ", "\n    missing                                   0\n", "\nPROVED: each of ",
		" confirmed, 0 of them are missing\n", "and all of it came back from the archive.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if code != exitOK || d.stderr.Len() > 0 || strings.ContainsAny(text, "\r\x1b") {
		t.Errorf("exit %d, stderr %q, want exit 0 and plain lines on stdout alone", code, d.stderr.String())
	}
	for line := range strings.Lines(text) {
		if len(line) > 120 {
			t.Errorf("line is too long: %s", line)
		}
	}
	d.checkGone(t)
}

func TestDemoDocument_TellsAllActs(t *testing.T) {
	t.Parallel()
	r := demo.Report{
		Proof: demo.Proof{Committed: 1, Expected: 4, Processed: 4, Distinct: 4}, Crash: demo.Crash{Consumer: time.Second},
		Takeover: demo.Takeover{Killed: "clerk-2", By: "clerk-1", Took: 2 * time.Second},
		Failover: demo.Failover{Killed: "daemon-a", By: "daemon-b", Tick: 1500 * time.Millisecond},
		Disaster: &demo.Disaster{Acknowledged: 3, Missing: 1, Rows: 2, Back: 3 * time.Second},
	}
	text, err := json.Marshal(demoDocument(r))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"proved":false`, `1 of 3 acknowledged rows did not come`, `"consumer_seconds":1`, `"by":"clerk-1"`, `"seconds":2`, `"by":"daemon-b"`,
		`"tick_seconds":1.5`, `"writes_held_seconds":0`, `"missing":1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("document lacks %s:\n%s", want, text)
		}
	}
}

func TestDemo_UsageAndMissingServer(t *testing.T) {
	for args, want := range map[string]result{
		"demo --duration 1ms": {exitUsage, "", "skyd: --duration must be between 1s and 1h (got 1ms)\n"},
		"demo --rate -1":      {exitUsage, "", "skyd: --rate must be between 1 and 100000, or 0 for the default (got -1)\n"},
		"demo now":            {exitUsage, "", "skyd: unknown command \"now\" for \"skyd demo\"\n"},
	} {
		if got := skyd(t, strings.Fields(args)...); got != want {
			t.Errorf("skyd %s: got %+v, want %+v", args, got, want)
		}
	}
	t.Setenv("SKYD_PG_BIN", t.TempDir())
	if got := skyd(t, "demo"); got.code != exitRefused || strings.Count(got.stderr, "\n") != 1 ||
		!strings.HasPrefix(got.stderr, "skyd: no PostgreSQL to run: ") || !strings.Contains(got.stderr, "install") {
		t.Errorf("without a server: got %+v, want exit 5 and one line that says what to install", got)
	}
}

func TestPrintReport_FailureIsSeen(t *testing.T) {
	t.Parallel()
	r := demo.Report{Proof: demo.Proof{Committed: 1000, Expected: 4000, Processed: 3999, Distinct: 3998, Missing: 2, Doubled: 1, HistorySum: -1234567}}
	var b strings.Builder
	if err := printReport(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PROVED", "  \n"} {
		if strings.Contains(b.String(), want) {
			t.Errorf("report holds %q:\n%s", want, b.String())
		}
	}
	for _, want := range []string{"missing                                   2\n", "more than once                  1\n", " 3,999  distinct 3,998\n", " -1,234,567  "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, b.String())
		}
	}
}

func TestDemoScreen_RewritesTheLastRowOnly(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	s := &demoScreen{w: &b, live: true, begin: time.Now()}
	s.show(demo.Sample{Written: 1, P50: time.Millisecond, P99: time.Second})
	s.show(demo.Sample{Down: true})
	s.say("and then")
	s.show(demo.Sample{Written: 2})
	s.end()
	s.end()
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 5 || strings.Count(lines[1], "\r") != 2 || strings.Count(lines[3], "\r") != 1 ||
		!strings.Contains(lines[0], "written/s") || !strings.Contains(lines[2], "and then") {
		t.Errorf("got %q", lines)
	}
}
