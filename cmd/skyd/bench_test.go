package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/skytools/skyd/internal/bench"
	"github.com/skytools/skyd/internal/pgtest"
)

func TestBench_Usage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]result{
		"bench --rounds 0":           {exitUsage, "", "skyd: --rounds must be between 1 and 1000 (got 0)\n"},
		"bench --only insert,drains": {exitUsage, "", "skyd: no table \"drains\"; there are: insert, capture, drain, latency, idle, pinned, cascade, wal\n"},
		"bench --pgmq /no/such/file": {exitUsage, "", "skyd: stat /no/such/file: no such file or directory\n"},
		"bench now":                  {exitUsage, "", "skyd: unknown command \"now\" for \"skyd bench\"\n"},
	} {
		if got := skyd(t, strings.Fields(args)...); got != want {
			t.Errorf("skyd %s: got %+v, want %+v", args, got, want)
		}
	}
	if got := skyd(t, "bench", "--db", "postgres://nobody@127.0.0.1:1/x"); got.code != exitConnect {
		t.Errorf("no server there: got %+v", got)
	}
}

func TestBench_NoServerToRun(t *testing.T) {
	t.Setenv("SKYD_PG_BIN", t.TempDir())
	if got := skyd(t, "bench"); got.code != exitRefused || !strings.Contains(got.stderr, "give --db DSN") {
		t.Errorf("got %+v, want exit 5 and what to do", got)
	}
}

func TestBench_JSONAndMarkdownOfOneRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "results.json")
	got := skyd(t, "bench", "--db", pgtest.Empty(t).DSN, "--quick", "--rounds", "1", "--only", "insert", "--json", file)
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "# skyd bench\n") || !strings.Contains(got.stderr, "insert: preparing") {
		t.Fatalf("got %+v", got)
	}
	for _, want := range []string{"\n| payload | 200 bytes |\n", "\n| PgQue send | absent (no --pgque FILE) |\n", "\n## Targets\n", "\nMusts: "} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("output lacks %q:\n%s", want, got.stdout)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc bench.Report
	if err := json.Unmarshal(text, &doc); err != nil || len(doc.Tables) != 1 || len(doc.Checks) == 0 || !doc.Setup.Quick {
		t.Errorf("%v in %s", err, text)
	}
}

func TestBench_SignalsLeaveNothing(t *testing.T) {
	t.Parallel()
	d := startWithServer(t, "bench", "--quick", "--only", "insert")
	pgtest.Eventually(t, demoPatience, "a database of the benchmark", func() bool {
		found, err := filepath.Glob(filepath.Join(d.temp, "skyd-pg-*/data/base/[1-9]????"))
		return err == nil && len(found) > 0
	})
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.wait(t); code != 130 || !strings.HasSuffix(d.stderr.String(), ": benchmark stopped, its databases are dropped\n") {
		t.Errorf("exit %d, stderr %s", code, d.stderr.String())
	}
	d.checkGone(t)
}

func TestPrintBench(t *testing.T) {
	t.Parallel()
	value := 1.5
	r := bench.Report{
		Tables: []bench.Table{{
			Title: "Producer", Note: "One connection.",
			Columns: []bench.Column{{ID: "cpu", Title: "CPU", Digits: 1, Ratio: true}, {ID: "wal", Title: "WAL"}, {ID: "none", Title: "None"}},
			Sections: []bench.Section{{Name: "one", Commit: "asynchronous", Reference: "raw", Events: 2000, Rows: []bench.Row{
				{
					Name: "raw", Values: map[string]bench.Stat{"cpu": {Median: 2, Min: 1, Max: 3}, "wal": {Median: 7, Min: 7, Max: 7}},
					Ratios: map[string]bench.Stat{"cpu": {Median: 1, Min: 1, Max: 1}},
				},
				{Name: "peer", Absent: "not installed"},
			}}},
		}},
		Checks: []bench.Check{
			{Name: "a", Bound: "<= 1x raw", Level: "must", Verdict: bench.Missed, Value: &value, Fails: true},
			{Name: "b", Bound: "<= 5", Level: "must", Verdict: bench.Missed, Value: &value},
			{Name: "c", Bound: "<= 1x peer", Level: "must", Verdict: bench.NotJudged, Why: "peer is absent"},
			{Name: "c", Bound: "<= 1x peer", Level: "moonshot", Verdict: bench.Reached, Value: &value},
		},
	}
	var b strings.Builder
	if err := printBench(&b, r); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(b.String(), "\n## Producer")
	want := `

One connection.

### one

asynchronous commit; 2,000 events a round; reference: raw.

| | CPU | × | WAL |
|---|---|---|---|
| raw | 2.0 (1.0 to 3.0) | 1.00 | 7 |
| peer | absent (not installed) |

## Targets

| target | | bound | measured | |
|---|---|---|---|---|
| a | must | <= 1x raw | 1.50 | missed |
| b | must | <= 5 | 1.50 | missed (depends on the machine: does not fail) |
| c | must | <= 1x peer |  | not judged (peer is absent) |
| c | moonshot | <= 1x peer | 1.50 | reached |

Musts: 0 reached, 2 missed, 1 not judged.
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
