package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// nodeSession runs commands on several databases, which the lines call DB1, DB2 and so on.
type nodeSession struct {
	session
	dbs []*pgtest.Database
}

// newNodeSession makes so many databases.
func newNodeSession(t *testing.T, databases int) *nodeSession {
	s := &nodeSession{session: session{t: t}}
	for range databases {
		s.dbs = append(s.dbs, pgtest.DB(t))
	}
	return s
}

// at runs a command line that begins with the number of its database.
func (s *nodeSession) at(line string) {
	s.t.Helper()
	number, rest, _ := strings.Cut(line, " ")
	for i, db := range s.dbs {
		rest = strings.ReplaceAll(rest, fmt.Sprintf("DB%d", i+1), db.DSN)
		if number == fmt.Sprint(i+1) {
			s.dsn = db.DSN
		}
	}
	s.do(rest)
}

// text masks what differs from run to run.
func (s *nodeSession) text() string {
	text := s.log.String()
	for i, db := range s.dbs {
		cfg, err := pgx.ParseConfig(db.DSN)
		if err != nil {
			s.t.Fatal(err)
		}
		name := fmt.Sprintf("DB%d", i+1)
		text = strings.ReplaceAll(text, db.DSN, name)
		text = strings.ReplaceAll(text, db.Name, name)
		text = regexp.MustCompile(`host=\S+ port=\d+ dbname=`+name+` user=`+cfg.User+`( [^\s"]+=[^\s"]+)*?( sslmode=[^\s"]+)?`).ReplaceAllString(text, "host=HOST dbname="+name)
	}
	for _, v := range append(volatile[:len(volatile):len(volatile)],
		[]struct {
			pattern *regexp.Regexp
			to      string
		}{
			{regexp.MustCompile(`Lag: +\S+,`), "Lag: D,"},
			{regexp.MustCompile(`(waited_seconds"): \S+`), "$1: N"},
			{regexp.MustCompile(`, \S+, \d+ [kM]B`), ", D, SIZE"},
			{regexp.MustCompile(`\d+ bytes`), "N bytes"},
			{regexp.MustCompile(`for \S+ \((.*), \d+ kB in`), "for D ($1, SIZE in"},
			{regexp.MustCompile(`((_seconds|kept_bytes|bytes|"seconds|\bseconds)"?): [0-9.e+-]+`), "$1: N"},
		}...) {
		text = v.pattern.ReplaceAllString(text, v.to)
	}
	return text
}

func TestNodeCommands_Session(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string]string{
		"node": `1 node list
1 node status
1 node create root --queue q --node n1 --dry-run --location DB1
1 node create root --queue q --node n1 --location DB1
1 node create root --queue q --node n1 --location DB1
1 node create root --queue q --node other --location DB1
1 node create rooot --queue q --node n1 --location DB1
1 node create root --queue q --location DB1
2 node create branch --queue q --node n2 --location DB2
2 node create branch --queue q --node n2 --location DB2 --provider DB1 --dry-run
2 node create branch --queue q --node n2 --location DB2 --provider DB1 -o json
2 node create branch --queue q --node n2 --location DB1 --provider DB1
3 node create leaf --queue q --node n3 --location DB3 --provider DB2
3 node create leaf --queue q --node n3 --location DB3 --provider DB2 -o yaml
4 node create branch --queue q --node n4 --location DB4 --provider DB1 --sync-watermark n3
4 node create branch --queue q --node n2 --location DB4 --provider DB1
1 node list
1 node list -o json
1 node status
1 node status --compact
1 node members
1 node members -o json
1 node info
3 node info
3 node info n2 -o yaml
2 node show-consumers
2 node show-consumers -o json
2 node pause --no-wait
2 node pause --no-wait
2 node resume --no-wait --dry-run
2 node resume --no-wait -o json
2 node pause --node nn
2 node pause --consumer nobody
3 node change-provider
3 node change-provider --provider n1 --dry-run
3 node change-provider --provider n3
3 node change-provider --provider n1
3 node change-provider --provider n1
1 node change-provider --provider n2
1 node rename n3 leaf3 --dry-run
1 node rename n3 leaf3
1 node rename leaf3
1 node tag-dead n4
1 node tag-dead n4
1 node tag-dead
1 node tag-dead n1
1 node status --dot
1 node tag-alive n4 -o json
1 node drop
1 node drop leaf3 --dry-run
1 node drop leaf3
1 node drop leaf3 --yes
1 node drop leaf3 --yes
1 node wait-root
1 node wait-provider -o json
4 node drop --yes -o json
2 node set-location --location DB1
2 node set-location --location DB2
2 node set-location --location DB2&application_name=x
1 node members
1 node create root --queue other --node n1 --location DB1
1 node info
1 node list`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newNodeSession(t, 4)
			for line := range strings.SplitSeq(lines, "\n") {
				s.at(line)
			}
			golden(t, name+".txt", s.text())
		})
	}
}

func TestNodeStatus_JSONIsOneDocumentWithItsCascades(t *testing.T) {
	t.Parallel()
	s := newNodeSession(t, 1)
	s.at("1 node create root --queue q --node n1 --location DB1")
	r := skyd(t, "node", "status", "-o", "json", "--db", s.dsn)
	var doc struct {
		Cascades []struct {
			Queue string
			Roots []string
			Nodes []map[string]any
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || len(doc.Cascades) != 1 || doc.Cascades[0].Nodes[0]["state"] != "ok" {
		t.Errorf("%v in %s", err, r.stdout)
	}
}

func TestNodeCreate_InstallsWhatIsMissing(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Empty(t).DSN
	if r := skyd(t, "node", "list", "--db", dsn); r.code != exitRefused || !strings.Contains(r.stderr, "skyd schema install") {
		t.Errorf("list without the schema: %+v", r)
	}
	args := []string{"node", "create", "root", "--queue", "q", "--node", "n1", "--location", dsn, "--db", dsn}
	if r := skyd(t, append(args, "--dry-run")...); r.code != exitOK || !strings.Contains(r.stdout, "install pgq_node, skyd_node") {
		t.Errorf("dry run: %+v", r)
	}
	if r := skyd(t, args...); r.code != exitOK {
		t.Errorf("create: %+v", r)
	}
	if r := skyd(t, "node", "list", "--db", dsn); r.code != exitOK || !strings.Contains(r.stdout, "n1") {
		t.Errorf("list: %+v", r)
	}
}

// work runs the workers of nodes, and ticks on all databases, until the test ends.
func (s *nodeSession) work() {
	ctx, stop := context.WithCancel(s.t.Context())
	var all sync.WaitGroup
	s.t.Cleanup(func() { stop(); all.Wait() })
	for _, d := range s.dbs {
		db, err := pgq.Open(ctx, d.DSN)
		if err != nil {
			s.t.Fatal(err)
		}
		all.Go(func() {
			defer db.Close()
			w := cascade.NewWorker(db, "q", cascade.WorkerOptions{PollPeriod: 20 * time.Millisecond})
			defer w.Close()
			for ctx.Err() == nil {
				if _, _, err := pgq.Tick(ctx, db, "q"); err != nil {
					_ = err // a branch makes none
				}
				if _, err := w.Step(ctx); err != nil {
					_, _, _ = w.Attend(ctx)
				}
			}
		})
	}
}

// The whole way of a switchover on the command line: rehearsed, asked for, carried out, repeated, and back again.
func TestNodeTakeover_ThereAndBack(t *testing.T) {
	t.Parallel()
	s := newNodeSession(t, 3)
	s.at("1 node create root --queue q --node n1 --location DB1")
	s.at("2 node create branch --queue q --node n2 --location DB2 --provider DB1")
	s.at("3 node create branch --queue q --node n3 --location DB3 --provider DB1")
	s.work()
	s.at("1 event insert q plain one")
	s.at("3 node wait-root --timeout 2m")
	takeover := func(want int, args ...string) result {
		t.Helper()
		r := skyd(t, append([]string{"node", "takeover", "--timeout", "2m", "--max-lag", "10m", "--write-outage-max", "1m", "--force", "--db", s.dbs[2].DSN}, args...)...)
		if r.code != want {
			t.Fatalf("%v: %+v\n%s", args, r, s.text())
		}
		return r
	}
	takeover(exitUsage)
	takeover(exitUsage, "n1", "--write-outage-max", "0s")
	takeover(exitMissing, "n9", "--yes")
	takeover(exitRefused, "n1", "--dead-branch", "--yes")
	if r := takeover(exitOK, "--resume"); !strings.Contains(r.stdout, "nothing to do") {
		t.Errorf("resume: %+v", r)
	}
	if r := takeover(exitOK, "n1", "--dry-run"); !strings.Contains(r.stdout, "n3 would take the place of n1") || !strings.Contains(r.stdout, "CHECK") {
		t.Errorf("dry run: %+v", r)
	}
	if r := takeover(exitRefused, "n1"); !strings.Contains(r.stderr, "not confirmed") {
		t.Errorf("without --yes: %+v", r)
	}
	var done takeoverResult
	r := takeover(exitOK, "n1", "--all", "--yes", "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &done); err != nil || !done.Changed || done.Proof == nil || !done.Proof.Equal || done.Proof.WritesHeld <= 0 || len(done.Steps) == 0 {
		t.Errorf("takeover: %v in %s", err, r.stdout)
	}
	if r := takeover(exitOK, "n1", "--yes"); !strings.Contains(r.stdout, "nothing to do") {
		t.Errorf("again: %+v", r)
	}
	if r := takeover(exitOK, "n3", "--target", "n1", "--yes"); !strings.Contains(r.stdout, "proof: ticks") || !strings.Contains(r.stdout, "writes were held for") {
		t.Errorf("back: %+v", r)
	}
	r = skyd(t, "node", "status", "--db", s.dbs[1].DSN, "-o", "json")
	var doc struct{ Cascades []cascade.Topology }
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || !slices.Equal(doc.Cascades[0].Roots, []string{"n1"}) || doc.Cascades[0].Operation != nil {
		t.Errorf("at the end: %v in %s", err, r.stdout)
	}
}

// A root that the cascade went on without comes back, and the events that never left it are in the dump.
func TestNodeResurrect_SavesWhatNeverLeft(t *testing.T) {
	t.Parallel()
	s := newNodeSession(t, 2)
	s.at("1 node create root --queue q --node n1 --location DB1")
	s.at("2 node create branch --queue q --node n2 --location DB2 --provider DB1")
	s.at("1 event insert q plain one")
	s.at("1 event insert q plain two")
	s.at("1 tick q")
	s.dsn = s.dbs[1].DSN
	s.do("node takeover n1 --dead n1 --dead-root --yes --timeout 2m")
	s.do("node takeover n1 --dead n1 --dead-root --allow-data-loss --yes --force --timeout 2m")
	file := filepath.Join(t.TempDir(), "lost.jsonl")
	back := func(want int, args ...string) result {
		t.Helper()
		r := skyd(t, append([]string{"node", "resurrect", "--db", s.dbs[0].DSN, "--timeout", "2m"}, args...)...)
		if r.code != want {
			t.Fatalf("%v: %+v\n%s", args, r, s.text())
		}
		return r
	}
	if r := back(exitOK, "--dry-run"); !strings.Contains(r.stdout, "would be done: n1 comes back as a branch of n2") {
		t.Errorf("dry run: %+v", r)
	}
	back(exitRefused)
	if r := back(exitOK, "--yes", "--dump", file); !strings.Contains(r.stdout, "is paused until") {
		t.Errorf("resurrect: %+v", r)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), `"ev_type":"plain"`) != 2 {
		t.Errorf("dump: %v, %s", err, text)
	}
	if r := back(exitOK, "--accept-loss"); !strings.Contains(r.stdout, "accepted") {
		t.Errorf("accept: %+v", r)
	}
	if r := back(exitOK, "-o", "json"); !strings.Contains(r.stdout, `"changed": false`) {
		t.Errorf("again: %+v", r)
	}
	if strings.Count(s.log.String(), "exit 5") != 1 {
		t.Errorf("takeover without --allow-data-loss was not refused, or the other was:\n%s", s.text())
	}
}
