package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// tinySizes make a run of seconds.
var tinySizes = sizes{
	single: 10, durable: 3, pipelined: 200, bulk: 1500, captureRows: 120, captureSingle: 110,
	drain: 1200, drainSlow: 700, rates: []int{1000}, latency: 100 * time.Millisecond,
	idleQueues: []int{1, 3}, settle: 400 * time.Millisecond, idle: 200 * time.Millisecond, batches: 20, noSlow: true,
	branch: 500, hops: []int{100},
	segments: 1, tables: 1, tableRows: 1000, commits: 2,
}

// tiny are the options of such a run on a database of the test, with stand-ins for the peers that come from files.
func tiny(t *testing.T, tables ...string) Options {
	t.Helper()
	return Options{
		DSN: pgtest.Empty(t).DSN, Tables: tables, Rounds: 2, sizes: &tinySizes,
		PgQue: "testdata/pgque.sql", Pgmq: "testdata/pgmq.sql", Say: func(text string) { t.Log(text) },
	}
}

// databases are those of benchmarks of this process that are still there.
func databases(t *testing.T, o Options) []string {
	t.Helper()
	conn, err := connect(t.Context(), o.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	const names = `select coalesce(array_agg(datname::text), '{}') from pg_catalog.pg_database where starts_with(datname, $1)`
	left, err := get[[]string](t.Context(), conn, names, fmt.Sprintf("skyd_bench_%d_", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestRun_EveryTable(t *testing.T) {
	o := tiny(t)
	o.Rounds, o.Programs = 1, programs(t)
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if left := databases(t, o); len(left) > 0 {
		t.Errorf("databases left: %s", left)
	}
	var names []string
	for _, table := range r.Tables {
		names = append(names, table.Name)
		for _, s := range table.Sections {
			checkSection(t, o, table, s)
		}
	}
	if !slices.Equal(names, TableNames()) {
		t.Errorf("tables %s, want %s", names, TableNames())
	}
	if r.Setup.Server == "" || r.Setup.Settings["fsync"] == "" || r.Setup.Payload != payloadSize || r.Setup.Machine.CPUs < 1 || r.Setup.Rounds != 1 {
		t.Errorf("setup is incomplete: %+v", r.Setup)
	}
	for _, c := range r.Checks {
		if (c.Verdict == NotJudged) != (c.Value == nil) || (c.Why == "") == (c.Verdict == NotJudged) || c.Name == "" || c.Bound == "" {
			t.Errorf("incomplete check %+v", c)
		}
	}
	for _, target := range targets() {
		for _, row := range []string{target.row, target.against} {
			sectionRun := slices.ContainsFunc(r.Tables, func(table Table) bool {
				return table.Name == target.table && slices.ContainsFunc(table.Sections, func(s Section) bool { return s.Name == target.section })
			})
			if sectionRun && row != "" && r.find(target.table, target.section, row) == nil {
				t.Errorf("target %s names row %q of %s, %s, which does not exist", target.name, row, target.table, target.section)
			}
		}
	}
}

// programs builds skyd and skyd-wal.
func programs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "../../cmd/skyd", "../../cmd/skyd-wal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v %s", err, out)
	}
	return dir
}

// checkSection wants figures of each round from everybody, or the reason why there are none.
func checkSection(t *testing.T, o Options, table Table, s Section) {
	t.Helper()
	rounds := o.Rounds
	if table.Name == tableIdle || s.Name == walIncr {
		rounds = 1
	}
	if s.Reference != "" && s.row(s.Reference) == nil {
		t.Errorf("%s, %s: no reference %s", table.Name, s.Name, s.Reference)
	}
	for _, row := range s.Rows {
		at := strings.Join([]string{table.Name, s.Name, row.Name}, ", ")
		if row.Absent != "" {
			t.Logf("%s is absent: %s", at, row.Absent)
			if len(row.Values)+len(row.Ratios) > 0 {
				t.Errorf("%s is absent and has figures", at)
			}
			continue
		}
		if len(row.Rounds) == 0 {
			t.Errorf("%s: no figures", at)
		}
		for _, c := range table.Columns {
			if table.Name == tableCascade && len(row.Rounds[c.ID]) == 0 {
				continue // its sections measure different things
			}
			if len(row.Rounds[c.ID]) != rounds && c.ID != figTicks && c.ID != figStored && !strings.Contains(c.ID, "cpu") {
				t.Errorf("%s: %d figures %s, want %d", at, len(row.Rounds[c.ID]), c.ID, rounds)
			}
		}
		if v, ok := row.Values[figLost]; ok && v != (Stat{}) {
			t.Errorf("%s: lost %v", at, v)
		}
		if r, ok := row.Ratios[figWall]; row.Name == s.Reference && ok && r != (Stat{1, 1, 1}) {
			t.Errorf("%s: the reference is %v times itself", at, r)
		}
	}
}

func TestRun_WithoutPeersNamesThemAll(t *testing.T) {
	o := tiny(t, tableCapture)
	o.PgQue, o.Rounds = "", 1
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if row := r.find(tableCapture, captureMany, "PgQue logutriga"); row == nil || row.Absent != "no --pgque FILE" {
		t.Errorf("got %+v, want a row that says why PgQue is absent", row)
	}
}

func TestFleet_BrokenPeerIsAbsentAndSaysWhy(t *testing.T) {
	broken := t.TempDir() + "/peer.sql"
	if err := os.WriteFile(broken, []byte("create schema pgmq;\nselect nonsense();"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := tiny(t)
	o.Pgmq = broken
	f, err := newFleet(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := f.make(t.Context(), hostPgmq, "test")
	if h != nil || err != nil || !strings.Contains(f.absent[hostPgmq], "nonsense") {
		t.Errorf("got %v, %v, absent %q; want no host and the reason", h, err, f.absent[hostPgmq])
	}
	if err := f.close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRun_CancelledLeavesNothing(t *testing.T) {
	o := tiny(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stop := errors.New("enough")
	o.Say = func(text string) {
		if strings.HasPrefix(text, "insert: 1 event") {
			cancel(stop)
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, stop) {
		t.Errorf("got %v, want the cause of the end", err)
	}
	if left := databases(t, o); len(left) > 0 {
		t.Errorf("databases left: %s", left)
	}
}

func TestRun_UnknownTable(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Options{DSN: "host=/nowhere", Tables: []string{"drains"}})
	if err == nil || !strings.Contains(err.Error(), `no table "drains"; there are: insert, `) {
		t.Errorf("got %v", err)
	}
}

// newRun is a run without Run, closed with the test.
func newRun(t *testing.T) *run {
	t.Helper()
	o, err := tiny(t).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFleet(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t.Context(), o.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(conn.Close(ctx), f.close(ctx)); err != nil {
			t.Error(err)
		}
	})
	return &run{o: o, sizes: *o.sizes, fleet: f, meter: newMeter(t.Context(), conn), hosts: map[string]*host{}}
}

func TestSection_InterleavesInRotatingOrder(t *testing.T) {
	r := newRun(t)
	r.o.Rounds = 3
	var order strings.Builder
	fake := func(name string, figure float64) contender {
		return contender{
			name:  name,
			reset: func(context.Context) error { order.WriteString("-"); return nil },
			run: func(context.Context) (figures, error) {
				order.WriteString(name)
				return figures{"f": figure}, nil
			},
		}
	}
	s, err := r.section(t.Context(), tableDef{columns: []Column{{ID: "f", Ratio: true}}}, section{
		reference: "a", contenders: []contender{fake("a", 2), {name: "x", absent: "not here"}, fake("b", 3), fake("c", 4)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := order.String(), "-c-a-b-a-b-c-b-c-a-c-a-b"; got != want {
		t.Errorf("order %s, want %s", got, want)
	}
	if b := s.row("b"); len(b.Rounds["f"]) != 3 || b.Ratios["f"].Median != 1.5 || s.row("x").Absent != "not here" {
		t.Errorf("got %+v", s)
	}
}

// TestRun_MissingEventIsAnError takes an event away between filling and draining.
func TestRun_MissingEventIsAnError(t *testing.T) {
	r := newRun(t)
	d := drainer{
		system: hostSkyd, name: "loses one", fill: fillQueue, drain: loopByTransaction,
		reset: func(ctx context.Context, h *host, n, batch int) error {
			table, err := h.eventTable(ctx, drainQueue(batch))
			if err == nil {
				err = do(ctx, h.db, "delete from "+table+" where ev_id = 7")
			}
			if err != nil {
				return err
			}
			return rewind(ctx, h, n, batch)
		},
	}
	c, err := r.drainContender(t.Context(), d, 500, "", "")
	if err != nil {
		t.Fatal(err)
	}
	def := r.drainTable()
	_, err = r.section(t.Context(), def, section{name: "lossy", contenders: []contender{c}})
	if err == nil || err.Error() != "loses one: 1199 events instead of 1200" {
		t.Errorf("got %v, want the number of events", err)
	}
}
