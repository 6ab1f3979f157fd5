package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// volatile are the parts of results that differ from run to run.
var volatile = []struct {
	pattern *regexp.Regexp
	to      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d\d)`), "TIME"},
	{regexp.MustCompile(`(\b(ticker_lag|lag|last_seen)_seconds"?): [0-9.e-]+`), "$1: N"},
	{regexp.MustCompile(`(txid"?: ?)\d+`), "${1}N"},
	{regexp.MustCompile(`events_per_second("?): [0-9.e+-]+`), "events_per_second$1: N"},
	{regexp.MustCompile(` +\d+(\.\d+)?(µs|ms|s)\b`), " D"},
	{regexp.MustCompile(`(?m) +\d+\.\d +(\d+)\b`), " R $1"},
	{regexp.MustCompile(`gets [0-9.]+ events`), "gets N events"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "},
}

// session runs commands and writes them down with all they print.
type session struct {
	t      *testing.T
	dsn    string
	socket string // of a daemon to ask, in place of a database
	log    strings.Builder
}

// do runs one command line; {in} in front of it is its standard input.
func (s *session) do(line string) {
	s.t.Helper()
	input, args := "", line
	if rest, ok := strings.CutPrefix(line, "{"); ok {
		input, args, _ = strings.Cut(rest, "} ")
	}
	var out, errs bytes.Buffer
	words := append(split(args), "--db", s.dsn)
	if s.socket != "" {
		words = append(split(args), "--socket", s.socket)
	}
	code := run(s.t.Context(), words, strings.NewReader(strings.ReplaceAll(input, ";", "\n")), &out, &errs)
	fmt.Fprintf(&s.log, "$ skyd %s\n%s", args, out.String())
	for l := range strings.Lines(errs.String()) {
		s.log.WriteString("! " + l)
	}
	if code != 0 {
		fmt.Fprintf(&s.log, "exit %d\n", code)
	}
}

// split cuts a command line at blanks; quoted words stay whole.
func split(line string) []string {
	var words []string
	for _, w := range regexp.MustCompile(`('[^']*'|[^\s'])+`).FindAllString(line, -1) {
		words = append(words, strings.ReplaceAll(w, "'", ""))
	}
	return words
}

// text is the session without what differs from run to run.
func (s *session) text() string {
	text := s.log.String()
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.to)
	}
	return text
}

func TestQueueCommands_Session(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string]string{
		"queue": `queue list
queue create orders --dry-run
queue create orders ticker_max_lag='500 ms'
queue create orders
queue create orders -o json
queue create 'odd "name".x' -o yaml
queue set orders ticker_max_lag=500ms rotation_period='1 hour' --dry-run
queue set orders rotation_period='1 hour' -o json
queue set orders rotation_period='1 hour'
queue set orders rotation_perod='1 hour'
queue set orders ticker_max_count=x
queue set ordesr ticker_max_count=5
queue pause orders
queue pause orders
tick orders
queue resume orders
queue list
queue list -o json
queue list -o yaml
queue show
queue show orders
queue show orders -o json
queue drop orders
queue drop orders --dry-run
queue drop orders --yes -o json
queue drop orders --yes
queue drop orders --yes --if-exists
tick
tick -o json`,
		"consumer": `consumer register billing
queue create orders
consumer register billing --dry-run
consumer register billing
consumer register orders billing
consumer register --queue orders --consumer other -o json
consumer register orders
consumer register ordesr billing
event insert orders new '{"id": 1}' --extra1 shop
event insert orders new two -o json
tick orders
consumer list
consumer list orders -o json
consumer list nowhere
consumer show billing
consumer show orders billing -o yaml
consumer show nobody
consumer seek billing
consumer seek billing --to last --dry-run
consumer seek billing --to last
consumer seek billing --to last --yes -o json
consumer seek billing --to last
consumer seek billing --tick 99 --yes
consumer seek billing --time 1000h --yes
consumer seek billing --to middle --yes
queue show orders
queue drop orders --yes
queue drop orders --force --dry-run
consumer unregister billing
consumer unregister billing --yes
consumer unregister billing --yes -o json
queue create second
consumer register another
subconsumer register orders group w1
subconsumer register orders group w1 -o json
subconsumer list
subconsumer list orders group -o json
subconsumer unregister orders group w1
subconsumer unregister orders group w1 -y
subconsumer unregister orders group w1 -y
subconsumer list`,
		"event": `queue create orders
event insert orders
event insert orders new one --dry-run
{{"type":"a","data":{"x":1},"extra2":null};;{"data":"plain","ev_extra4":"t"}} event insert orders default --extra2 e --stdin jsonl
{{"type":"a"};{"tpye":"b"}} event insert orders --stdin jsonl
{} event insert orders --stdin jsonl -o json
event insert orders x y --stdin csv
event insert nowhere x y
event list
event list orders -o json --limit 1
event list orders --limit 0
event tail orders --limit 2 --count 2 -o json
event dead list
event dead list -o json
event dead show 1
event dead show x
event dead redrive
event dead redrive 1
event dead redrive --all --queue orders --dry-run
event dead redrive --all
event dead purge 1
event dead purge 1 --yes -o json
event dead purge --all --queue orders -y`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &session{t: t, dsn: pgtest.DB(t).DSN}
			for line := range strings.SplitSeq(lines, "\n") {
				s.do(line)
			}
			golden(t, name+".txt", s.text())
		})
	}
}

func TestQueueCommands_WithoutPgQSayWhatToDo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t).DSN
	for _, args := range []string{"queue list", "queue create q", "consumer list", "event list q", "tick", "subconsumer list"} {
		r := skyd(t, append(strings.Fields(args), "--db", dsn)...)
		if r.code != exitRefused || !strings.Contains(r.stderr, "skyd schema install") || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: got %+v", args, r)
		}
	}
}

func TestQueueCommands_WithoutRights(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	dsn := db.DSNAs(db.Role(t, "pgq_reader"))
	r := skyd(t, "queue", "create", "q", "--db", dsn)
	if r.code != exitRefused || !strings.Contains(r.stderr, "pgq_admin") {
		t.Errorf("got %+v", r)
	}
	if r := skyd(t, "queue", "list", "--db", dsn); r.code != exitOK {
		t.Errorf("got %+v", r)
	}
}

func TestTarget_NamesOfTheConfiguration(t *testing.T) {
	t.Parallel()
	a, b := pgtest.DB(t), pgtest.DB(t)
	file := filepath.Join(t.TempDir(), "skyd.yaml")
	text := fmt.Sprintf("databases:\n  - { name: one, dsn: %q }\n  - { name: two, dsn: %q }\n", a.DSN, b.DSN)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := skyd(t, "queue", "create", "q", "--config", file, "--db", "two"); r.code != exitOK {
		t.Fatalf("got %+v", r)
	}
	for args, want := range map[string]result{
		"--db two": {exitOK, "q", ""}, "--db one": {exitOK, "no queues", ""}, "--db " + b.DSN: {exitOK, "q", ""},
		"":         {exitUsage, "", "which database? give --db NAME; " + file + " has: one, two"},
		"--db tow": {exitUsage, "", `no database "tow" in ` + file + " (did you mean two?)"},
	} {
		r := skyd(t, append([]string{"queue", "list", "--config", file}, split(args)...)...)
		if r.code != want.code || !strings.Contains(r.stdout, want.stdout) || !strings.Contains(r.stderr, want.stderr) {
			t.Errorf("%s: got %+v", args, r)
		}
	}
}

// person answers questions as on a terminal.
type person struct{ io.Reader }

func (person) Answers() bool { return true }

func TestConfirm_AsksForTheName(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DB(t).DSN
	if r := skyd(t, "queue", "create", "orders", "--db", dsn); r.code != exitOK {
		t.Fatal(r)
	}
	for answer, want := range map[string]int{"order\n": exitRefused, "y\n": exitRefused, "": exitRefused, "\n": exitRefused} {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"queue", "drop", "orders", "--db", dsn}, person{strings.NewReader(answer)}, &out, &errs)
		if code != want || !strings.Contains(errs.String(), "queue orders is dropped with all its events\nTo go on, type the name orders: ") {
			t.Errorf("%q: got %d %s", answer, code, errs.String())
		}
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"queue", "drop", "orders", "--db", dsn}, person{strings.NewReader("orders\n")}, &out, &errs); code != exitOK {
		t.Errorf("got %d %s", code, errs.String())
	}
}

func TestEventTail_FollowsCommits(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	if r := skyd(t, "queue", "create", "orders", "--db", db.DSN); r.code != exitOK {
		t.Fatal(r)
	}
	out, code := &syncBuffer{}, make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"event", "tail", "--every", "10ms", "--count", "2", "-o", "json", "--db", db.DSN}, nil, out, out)
	}()
	pgtest.Eventually(t, slow, "both events", func() bool {
		if strings.Count(out.String(), "\n") < 2 {
			_ = skyd(t, "event", "insert", "orders", "new", "x\x1b", "--db", db.DSN)
		}
		return strings.Count(out.String(), "\n") == 2
	})
	if got := <-code; got != exitOK {
		t.Errorf("got %d", got)
	}
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if r := skyd(t, "event", "list", "--db", db.DSN); strings.Contains(r.stdout, "\x1b") {
		t.Errorf("a control character reaches the terminal: %q", r.stdout)
	}
	if r := skyd(t, "event", "tail", "--timeout", "300ms", "--db", db.DSN); r.code != exitOK {
		t.Errorf("got %+v", r)
	}
}

func TestPages_AreFreshAndComplete(t *testing.T) {
	t.Parallel()
	want := reference(newRoot(&app{stdout: io.Discard, stderr: io.Discard}))
	file := filepath.Join("..", "..", "docs", "cli.md")
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("docs/cli.md is not what the commands say: go test ./cmd/skyd -run TestPages -rewrite (%v)", err)
	}
	dir := t.TempDir()
	if r := skyd(t, "man", dir, "-o", "json"); r.code != exitOK || !strings.Contains(r.stdout, `"skyd-queue-create.1"`) {
		t.Errorf("got %+v", r)
	}
	page, err := os.ReadFile(filepath.Join(dir, "skyd-queue-drop.1"))
	if err != nil || !strings.Contains(string(page), ".TH \"SKYD-QUEUE-DROP\" 1") || !strings.Contains(string(page), `.B \-\-if\-exists`) {
		t.Errorf("got %v, %s", err, page)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := skyd(t, "completion", shell); r.code != exitOK || !strings.Contains(r.stdout, "skyd") {
			t.Errorf("%s: got %d", shell, r.code)
		}
	}
	if r := skyd(t, "completion", "tcsh"); r.code != exitUsage {
		t.Errorf("got %+v", r)
	}
}
