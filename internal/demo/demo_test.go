package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/pgq"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "part" {
		if err := Part(context.Background(), os.Stdin, os.Stdout, os.Stderr); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 6 && os.Args[1] == "fetch" {
		os.Exit(fetchMain(strings.TrimPrefix(os.Args[3], "--storage="), os.Args[4], os.Args[5]))
	}
	goleak.VerifyTestMain(m)
}

// needServer ends the test where no server can be run.
func needServer(t *testing.T) {
	t.Helper()
	if _, err := pgserver.Find(); err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// told collects what Run says, and the log.
type told struct {
	mu   sync.Mutex
	said []string
	logs bytes.Buffer
}

func (o *told) say(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, text)
}

// Write takes the log.
func (o *told) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.logs.Write(p)
}

// options are those of a short run whose story ends in the test's log when the test fails.
func options(t *testing.T) (Options, *told) {
	o := &told{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("said:\n%s\nlog:\n%s", strings.Join(o.said, "\n"), o.logs.String())
		}
	})
	return Options{
		Program: []string{os.Args[0], "part"}, Duration: 4 * time.Second, ShowEvery: 100 * time.Millisecond, Say: o.say, Log: o, LogFormat: "text",
	}, o
}

func TestRun_ProvesExactlyOnceOverACrash(t *testing.T) {
	t.Parallel()
	needServer(t)
	o, story := options(t)
	var samples []Sample
	o.Show = func(s Sample) { samples = append(samples, s) }
	// The proof of the untouched run, and of the run with something done to it, each in a transaction of its own.
	broken := map[string]Proof{}
	o.audit = func(ctx context.Context, db *pgq.DB, acknowledged []int64) (Proof, error) {
		for name, c := range sabotage {
			err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
				if _, err := tx.Exec(ctx, c.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
					return err
				}
				broken[name], err = prove(ctx, tx, acknowledged)
				return errors.Join(err, errAbandoned)
			})
			if !errors.Is(err, errAbandoned) || errors.Is(err, context.Canceled) {
				return Proof{}, err
			}
		}
		return prove(ctx, db, acknowledged)
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	p := r.Proof
	if faults := p.Faults(); len(faults) > 0 {
		t.Errorf("not proved: %s", strings.Join(faults, "; "))
	}
	if p.Committed == 0 || p.Processed != 4*p.Committed || p.Rows != branches+tellers+accounts || p.Repeated == 0 {
		t.Errorf("got %+v, want transfers, four events each, all rows, and attempts that failed in the crash", p)
	}
	if c := r.Crash; c.Server <= 0 || c.Workload < c.Server || c.Daemon < c.Server || c.Consumer < c.Server {
		t.Errorf("came back after %+v, want everybody after the server", c)
	}
	if k := r.Takeover; k.Killed != "clerk-2" || k.By == k.Killed || k.By == "" || k.Events == 0 || k.Took < deadInterval/2 {
		t.Errorf("take-over %+v, want the batch of clerk-2 finished by another member, once it counted as dead", k)
	}
	if f := r.Failover; f.By == f.Killed || !slices.Contains(daemonNames, f.By) || f.Lease <= 0 || f.Tick < f.Lease {
		t.Errorf("failover %+v, want the other daemon to tick after it got the lease", f)
	}
	if l := r.Latency; l.P50 <= 0 || l.P99 < l.P50 || l.Longest < l.P99 {
		t.Errorf("latency %+v, want rising percentiles", l)
	}
	if a := r.Activity; a.Ticks < 2 || a.Batches < 2 {
		t.Errorf("activity %+v, want ticks and batches", a)
	}
	if faults := r.Faults(); len(faults) > 0 {
		t.Errorf("not proved: %s", strings.Join(faults, "; "))
	}
	checkSamples(t, samples)
	if _, err := os.Stat(dirOf(t, story)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory of the server is still there: %v", err)
	}
	checkSabotage(t, p, broken)
}

func checkSamples(t *testing.T, samples []Sample) {
	t.Helper()
	worked := 0
	for _, s := range samples {
		if s.Written > 0 && s.Processed > 0 && s.P99 >= s.P50 && s.Lag > 0 && !s.Down {
			worked++
		}
	}
	if worked == 0 {
		t.Errorf("none of %d samples shows work: %+v", len(samples), samples)
	}
}

// dirOf is the server's directory, as it was told.
func dirOf(t *testing.T, story *told) string {
	t.Helper()
	for _, s := range story.said {
		if rest, ok := strings.CutPrefix(s, "running in "); ok {
			dir, _, _ := strings.Cut(rest, " ")
			return dir
		}
	}
	t.Fatal("the directory of the server was not told")
	return ""
}

// sabotage is what can go wrong, and what the proof has to say then.
var sabotage = map[string]struct {
	sql  string
	want func(p *Proof)
	says string
}{
	"an event lost": {
		`delete from book.processed where ev_id = (select max(ev_id) from book.processed)`,
		func(p *Proof) { p.Processed--; p.Distinct--; p.Missing++ }, "1 events missing",
	},
	"an event processed twice": {
		`insert into book.processed select * from book.processed order by ev_id limit 1`,
		func(p *Proof) { p.Processed++; p.Doubled++ }, "1 events processed again",
	},
	"a change captured twice": {
		`insert into book.processed select -1, tbl, txn from book.processed order by ev_id limit 1`,
		func(p *Proof) { p.Processed++; p.Distinct++; p.Doubled++ }, "1 events processed again",
	},
	"an event lost and another processed twice": {
		`delete from book.processed where ev_id = (select max(ev_id) from book.processed);
		 insert into book.processed select * from book.processed order by ev_id limit 1`,
		func(p *Proof) { p.Distinct--; p.Missing++; p.Doubled++ }, "1 events missing",
	},
	"an event of a transaction that was rolled back": {
		`insert into book.processed values (-1, 'bank.accounts', -1)`,
		func(p *Proof) { p.Processed++; p.Distinct++; p.Invented++ }, "1 events of changes that were never committed",
	},
	"a balance wrong": {
		`update book.balances set balance = balance + 1 where (tbl, id) = (select tbl, id from book.balances limit 1)`,
		func(p *Proof) { p.RowsWrong++ }, "1 of 8088 balances differ",
	},
	"a row made up": {
		`insert into book.balances values ('bank.accounts', -1, 5, 1)`,
		func(p *Proof) { p.RowsWrong++ }, "1 of 8088 balances differ",
	},
	"the sum of events wrong": {
		`insert into book.batches values (-1, 'nobody', 0, 7)`,
		func(p *Proof) { p.EventsSum += 7 }, "the events add up to",
	},
	"a commit lost by the server": {
		`alter table bank.history disable trigger all; delete from bank.history where txn = (select max(txn) from bank.history where delta <> 0)`,
		nil, "1 confirmed transfers are not in the history",
	},
}

func checkSabotage(t *testing.T, good Proof, broken map[string]Proof) {
	t.Helper()
	good.AnswerLost, good.RolledBack, good.Repeated = 0, 0, 0 // added after the audit
	for name, c := range sabotage {
		got := broken[name]
		if !strings.Contains(strings.Join(got.Faults(), "; "), c.says) {
			t.Errorf("%s: faults are %q, want among them %q", name, got.Faults(), c.says)
		}
		if c.want == nil {
			continue
		}
		want := good
		if c.want(&want); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestProof_NothingCommittedProvesNothing(t *testing.T) {
	t.Parallel()
	if len((Proof{}).Faults()) == 0 {
		t.Error("a run without a transfer counts as a proof")
	}
}

func TestRun_KeepLeavesAServerThatStarts(t *testing.T) {
	t.Parallel()
	needServer(t)
	o, _ := options(t)
	o.Keep, o.Duration = true, time.Second
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Kept == nil {
		t.Fatal("nothing kept")
	}
	defer func() {
		if err := os.RemoveAll(r.Kept.Dir); err != nil {
			t.Error(err)
		}
	}()
	sh(t, r.Kept.Start)
	defer sh(t, r.Kept.Stop)
	if got := sh(t, r.Kept.Connect+` -XAtc "select count(*) from bank.history"`); strings.TrimSpace(got) != fmt.Sprint(r.Proof.Committed) {
		t.Errorf("kept %s transfers, want %d", got, r.Proof.Committed)
	}
}

func TestRun_EndsWithItsContextAndLeavesNothing(t *testing.T) {
	t.Parallel()
	needServer(t)
	errCancelled := errors.New("cancelled by the test")
	for _, at := range []string{"making a throw-away", "PgQ installed", "kill -9: process clerk", "kill -9: all", "kill -9: process daemon", "cascade: ", "and its data directory is deleted"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			o, story := options(t)
			o.Duration = time.Second
			if strings.Contains(at, "deleted") {
				o.Fetch = []string{os.Args[0], "fetch"}
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			o.Say = func(text string) {
				story.say(text)
				if strings.Contains(text, at) {
					cancel(errCancelled)
				}
			}
			if _, err := Run(ctx, o); !errors.Is(err, errCancelled) || err.Error() != errCancelled.Error() {
				t.Errorf("got %v, want %v alone: the cleaning up went well", err, errCancelled)
			}
			if at == "making a throw-away" {
				return
			}
			if _, err := os.Stat(dirOf(t, story)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("directory of the server is still there: %v", err)
			}
		})
	}
}

func TestRun_WithoutAServerSaysSo(t *testing.T) {
	t.Setenv("SKYD_PG_BIN", t.TempDir())
	if _, err := Run(t.Context(), Options{}); !errors.Is(err, ErrNoServer) {
		t.Errorf("got %v, want %v", err, ErrNoServer)
	}
}

func TestCrew_FirstFailureStopsAll(t *testing.T) {
	t.Parallel()
	crew, ctx := newCrew(t.Context())
	broke := errors.New("broke")
	crew.start("a", func(context.Context) error { return broke })
	stop := crew.start("b", func(ctx context.Context) error { <-ctx.Done(); return nil })
	if err := stop(false); err != nil {
		t.Errorf("b ended with %v", err)
	}
	if err := crew.stop(); !errors.Is(err, broke) || err.Error() != "a: broke" {
		t.Errorf("got %v, want the failure of a", err)
	}
	if !errors.Is(context.Cause(ctx), broke) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}

func TestShort_KeepsTheDigitsThatMatter(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		1234 * time.Microsecond: "1.2 ms", 45678 * time.Microsecond: "45 ms", 1234 * time.Millisecond: "1.2 s",
	} {
		if got := Short(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
