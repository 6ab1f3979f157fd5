package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/internal/bench"
)

// benchFlags are the flags of skyd bench.
type benchFlags struct {
	only   []string
	rounds int
	quick  bool
	check  bool
	pgque  string
	pgmq   string
	python string
	json   string
}

// newBenchCommand builds skyd bench.
func newBenchCommand(a *app) *cobra.Command {
	var flags benchFlags
	cmd := &cobra.Command{
		Use:   "bench [--db DSN] [--only TABLE,...] [--check]",
		Short: "measure skyd against the physical limit and against its peers",
		Long: `Measures producing, change capture, consuming, latency, what an idle ticker costs, what an open transaction does, and
cascades (copy of a branch, lag over two hops, pause of a switchover), each next to what PostgreSQL alone needs for the same rows and to the other queues that are found: the original PgQ in
C where the server has the extension, its Python consumer where python3 has the modules, PgQue and pgmq from a file of
SQL, River in a build with -tags river. The table wal measures the WAL archive beside cp, the tools of PostgreSQL and pgBackRest; it
needs skyd-wal beside this program. What is not found is printed as absent.

Without --db a throw-away PostgreSQL is started from the programs on this machine. With it, the databases skyd_bench_...
are made on that server and dropped at the end, also after Ctrl-C; the named database itself is not written to. The role
must be able to create databases. Use a server and a machine that do nothing else: a run of all tables takes the better
part of an hour, and both cores. The table wal always has a server of its own.

Rounds are interleaved and the order rotates; figures are medians (min to max), and ratios are medians of the ratios of
each round. Only ratios of one run mean something. With --check the exit code is 1 when one of the project's musts is
missed; bounds in milliseconds and those whose peer is absent never fail.

The result is Markdown, or one document with --output json or yaml.`,
		Example: `  skyd bench --quick
  skyd bench --db postgres://postgres@localhost/postgres --only insert,drain --check
  skyd bench --pgmq pgmq.sql --pgque pgque.sql --json results.json > results.md`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runBench(cmd.Context(), flags) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&flags.only, "only", nil, "`TABLES` to run, of: "+strings.Join(bench.TableNames(), ", ")+" (default all)")
	f.IntVar(&flags.rounds, "rounds", 5, "how often everything is measured")
	f.BoolVar(&flags.quick, "quick", false, "everything small: shows that it works, the figures say little")
	f.BoolVar(&flags.check, "check", false, "fail when a must is missed")
	f.StringVar(&flags.pgque, "pgque", "", "`FILE` of SQL that installs PgQue")
	f.StringVar(&flags.pgmq, "pgmq", "", "`FILE` of SQL that installs pgmq")
	f.StringVar(&flags.python, "python", "", "`PROGRAM` that is Python 3 with modules pgq and psycopg2 (default: looked for)")
	f.StringVar(&flags.json, "json", "", "write the document of --output json to this `FILE` as well")
	return cmd
}

// runBench runs the benchmark and prints its report.
func (a *app) runBench(ctx context.Context, flags benchFlags) (err error) {
	if flags.rounds < 1 || flags.rounds > 1000 {
		return usageError("--rounds must be between 1 and 1000 (got %d)", flags.rounds)
	}
	o := bench.Options{
		Tables: flags.only, Rounds: flags.rounds, Quick: flags.quick, PgQue: flags.pgque, Pgmq: flags.pgmq,
		Python: flags.python, Version: strings.TrimSpace(buildVersion() + " " + buildRevision()),
		Say: func(text string) { a.note("%s", text) },
	}
	if err := o.Validate(); err != nil {
		return usageError("%w", err)
	}
	if len(a.dsns) > 0 {
		if o.DSN, err = a.oneDSN(); err != nil {
			return err
		}
	}
	for _, file := range []string{flags.pgque, flags.pgmq} {
		if _, err := os.Stat(file); file != "" && err != nil {
			return usageError("%w", err)
		}
	}
	secondSignal(ctx, secondWaits)
	ctx, stop := withHangup(ctx)
	defer stop()
	report, err := bench.Run(ctx, o)
	if err != nil {
		return benchError(ctx, err)
	}
	if flags.json != "" {
		if err := writeJSONFile(flags.json, report); err != nil {
			return err
		}
	}
	if err := a.show(report, func(w io.Writer) error { return printBench(w, report) }); err != nil {
		return err
	}
	if failed := report.Failed(); flags.check && len(failed) > 0 {
		return withExit(exitFailed, "", fmt.Errorf("%d musts missed: %s", len(failed), strings.Join(failed, "; ")))
	}
	return nil
}

// benchError gives an error of the benchmark its exit code. What ended ctx is the error then, joined with what went
// wrong in cleaning up.
func benchError(ctx context.Context, err error) error {
	sig := new(signalError)
	switch {
	case errors.Is(err, bench.ErrNoServer):
		return withExit(exitRefused, "give --db DSN, or "+installHint(), err)
	case errors.As(context.Cause(ctx), &sig):
		if err == context.Cause(ctx) { //nolint:errorlint // not joined with anything: the cleaning up went well
			err = errors.New("benchmark stopped, its databases are dropped")
		}
		if sig.sig == syscall.SIGHUP { // the others are named for every command
			err = fmt.Errorf("%w: %w", sig, err)
		}
	}
	return err
}

// writeJSONFile writes a document to a file of its own.
func writeJSONFile(name string, value any) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(writeJSON(f, value), f.Close())
}
