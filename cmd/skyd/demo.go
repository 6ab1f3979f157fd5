package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/internal/demo"
	"github.com/skytools/skyd/runtime"
)

// demoFlags are the flags of skyd demo.
type demoFlags struct {
	keep     bool
	noUI     bool
	duration time.Duration
	rate     int
}

// newDemoCommand builds skyd demo.
func newDemoCommand(a *app) *cobra.Command {
	var flags demoFlags
	cmd := &cobra.Command{
		Use:   "demo [--keep] [--no-ui] [--duration 30s]",
		Short: "see skyd at work on a throw-away PostgreSQL, and check what it did",
		Long: `Starts a PostgreSQL of its own from the server programs on this machine, installs PgQ, puts triggers on the tables
of a small bank, and runs a concurrent workload, two daemons, and three cooperative subconsumers that share the batches
of one consumer; daemons and subconsumers are processes of their own. Then it kills with SIGKILL: a subconsumer in the
middle of a batch, which another one takes over; PostgreSQL, which is started again; and the daemon that ticks, whose
work the other one goes on with. At the end it compares the tables with what the subconsumers made of the events: each
committed change must have been processed exactly once. Then a root and two branches of a cascade, in databases of their
own, are written to while the root moves to a branch: each confirmed event must be on all three exactly once. In the last
act the primary is destroyed: kill -9 in the middle of commits, and its data directory deleted. It comes back from the WAL
archive, a base backup and what a synchronous receiver streamed, with every row whose commit was confirmed. All that, or
exit code 1 with the numbers.

Nothing is left behind, also after Ctrl-C. --keep leaves the data on disk when the run comes to its end, and prints how
to start the server again. Without server programs the exit code is 5; SKYD_PG_BIN names the directory of those to use.

On a terminal the last line is rewritten; elsewhere, and with --no-ui, there is a line every two seconds. With
--output json or yaml the result is the only thing on stdout, and the rest goes to stderr.`,
		Example: `  skyd demo
  skyd demo --duration 10s --no-ui
  skyd demo --keep`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDemo(cmd.Context(), flags) },
	}
	f := cmd.Flags()
	f.BoolVar(&flags.keep, "keep", false, "keep the data of the server and print how to start it")
	f.BoolVar(&flags.noUI, "no-ui", false, "plain lines also on a terminal")
	f.DurationVar(&flags.duration, "duration", 30*time.Second, "how long the workload runs")
	f.IntVar(&flags.rate, "rate", 0, "transfers a second that are tried (default depends on the number of CPUs)")
	cmd.AddCommand(newDemoPartCommand(a))
	return cmd
}

// newDemoPartCommand builds what the demo runs as its daemons and subconsumers. They end when the demo does, and not by
// the signals that a terminal sends to all of them.
func newDemoPartCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "part",
		Short:  "a process of the demo",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			return demo.Part(context.WithoutCancel(cmd.Context()), a.stdin, a.stdout, a.stderr)
		},
	}
}

// runDemo runs the demo and prints what it tells.
func (a *app) runDemo(ctx context.Context, flags demoFlags) error {
	if flags.duration < time.Second || flags.duration > time.Hour {
		return usageError("--duration must be between 1s and 1h (got %s)", flags.duration)
	}
	if flags.rate < 0 || flags.rate > 100_000 {
		return usageError("--rate must be between 1 and 100000, or 0 for the default (got %d)", flags.rate)
	}
	secondSignal(ctx, secondWaits)
	ctx, stop := withHangup(ctx)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	screen := newDemoScreen(a.demoStream(), !flags.noUI && !a.quiet, cancel)
	if a.quiet {
		screen.mute()
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	report, err := demo.Run(ctx, demo.Options{
		Program: []string{program, "demo", "part"}, Fetch: []string{program, "wal", "fetch"}, Duration: flags.duration, Rate: flags.rate, Keep: flags.keep,
		Build: runtime.Build{Version: buildVersion(), Revision: buildRevision()},
		Say:   screen.say, Show: screen.show, ShowEvery: screen.every(), Log: a.demoLog(), LogFormat: a.logFormat,
	})
	screen.end()
	if err != nil {
		return demoError(ctx, err)
	}
	if err := a.show(demoDocument(report), func(w io.Writer) error { return printReport(w, report) }); err != nil {
		return err
	}
	if faults := report.Faults(); len(faults) > 0 {
		return withExit(exitFailed, "", errors.New("NOT PROVED: "+strings.Join(faults, "; ")))
	}
	return nil
}

// demoStream is where the story is told: it is the result, unless the result is a document.
func (a *app) demoStream() io.Writer {
	if a.output == "table" {
		return a.stdout
	}
	return a.stderr
}

// demoLog shows the log of daemons and subconsumers with --verbose only.
func (a *app) demoLog() io.Writer {
	if !a.verbose {
		return nil
	}
	return a.stderr
}

// demoError gives an error of the demo its exit code. What ended ctx is the error then, joined with what went wrong in
// cleaning up.
func demoError(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	sig := new(signalError)
	switch {
	case errors.Is(err, syscall.EPIPE):
		return &signalError{sig: syscall.SIGPIPE}
	case cause != nil && errors.As(cause, &sig):
		if err == cause { //nolint:errorlint // not joined with anything: the cleaning up went well
			err = errStoppedDemo
		}
		if sig.sig == syscall.SIGHUP { // the others are named for every command
			err = fmt.Errorf("%w: %w", sig, err)
		}
		return err
	case errors.Is(err, demo.ErrNoServer):
		return withExit(exitRefused, installHint(), err)
	default:
		return withExit(exitFailed, "", err)
	}
}

// errStoppedDemo follows the name of the signal.
var errStoppedDemo = errors.New("demo stopped, its server and files are removed")

// installHint is the command that installs PostgreSQL's server with the package manager of this machine.
func installHint() string {
	for _, m := range [][2]string{
		{"apt-get", "apt-get install postgresql"},
		{"dnf", "dnf install postgresql-server"},
		{"apk", "apk add postgresql"},
		{"brew", "brew install postgresql@17"},
	} {
		if _, err := exec.LookPath(m[0]); err == nil {
			return m[1]
		}
	}
	return "install the server package of PostgreSQL 14 or later"
}

// withHangup makes the end of the terminal end the context like a signal that asks for it, and keeps a reader who went
// away from killing the process: writing gives an error then.
func withHangup(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	hangup, pipe := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	signal.Notify(pipe, syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		select {
		case <-hangup:
			cancel(&signalError{sig: syscall.SIGHUP})
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(hangup)
		signal.Stop(pipe)
		close(done)
		cancel(nil)
	}
}

// demoResult is the document of --output json and yaml.
type demoResult struct {
	Proved   bool          `json:"proved"`
	Faults   []string      `json:"faults"`
	Server   string        `json:"server"`
	Workload float64       `json:"workload_seconds"`
	Proof    demo.Proof    `json:"proof"`
	Latency  demoLatency   `json:"latency"`
	Takeover demoTakeover  `json:"takeover"`
	Crash    demoCrash     `json:"crash"`
	Failover demoFailover  `json:"failover"`
	Activity demo.Activity `json:"activity"`
	Cascade  demoCascade   `json:"cascade"`
	Disaster *demoDisaster `json:"disaster,omitempty"`
	Kept     *demo.Kept    `json:"kept,omitempty"`
}

// demoLatency is from commit to commit; the percentiles are without what had to wait for the end of a crash.
type demoLatency struct {
	P50     float64 `json:"p50_seconds"`
	P99     float64 `json:"p99_seconds"`
	Longest float64 `json:"longest_seconds"`
}

// demoTakeover is what became of the batch of the killed subconsumer, from the kill on.
type demoTakeover struct {
	demo.Takeover
	Took float64 `json:"seconds"`
}

// demoCascade is the switchover of the cascade, with what the nodes had in the end.
type demoCascade struct {
	demo.Cascade
	WritesHeld float64 `json:"writes_held_seconds"`
	Took       float64 `json:"seconds"`
}

// demoFailover is how long it took the other daemon to take over, from the kill on.
type demoFailover struct {
	demo.Failover
	Lease float64 `json:"lease_seconds"`
	Tick  float64 `json:"tick_seconds"`
}

// demoDisaster is what came back from the WAL archive, and when, from the kill on.
type demoDisaster struct {
	demo.Disaster
	Lost float64 `json:"destroyed_seconds"`
	Back float64 `json:"back_seconds"`
}

// demoCrash is how long it took to come back, from the kill on.
type demoCrash struct {
	Server   float64 `json:"server_seconds"`
	Workload float64 `json:"workload_seconds"`
	Daemon   float64 `json:"daemon_seconds"`
	Consumer float64 `json:"consumer_seconds"`
}

// demoDocument makes the document.
func demoDocument(r demo.Report) demoResult {
	var last *demoDisaster
	if d := r.Disaster; d != nil {
		last = &demoDisaster{*d, d.Lost.Seconds(), d.Back.Seconds()}
	}
	faults := r.Faults()
	return demoResult{
		Proved: len(faults) == 0, Faults: append([]string{}, faults...), Server: r.Server, Workload: r.Workload.Seconds(),
		Proof: r.Proof, Activity: r.Activity, Kept: r.Kept, Disaster: last,
		Latency:  demoLatency{r.Latency.P50.Seconds(), r.Latency.P99.Seconds(), r.Latency.Longest.Seconds()},
		Cascade:  demoCascade{r.Cascade, r.Cascade.WritesHeld.Seconds(), r.Cascade.Took.Seconds()},
		Takeover: demoTakeover{r.Takeover, r.Takeover.Took.Seconds()},
		Failover: demoFailover{r.Failover, r.Failover.Lease.Seconds(), r.Failover.Tick.Seconds()},
		Crash: demoCrash{
			r.Crash.Server.Seconds(), r.Crash.Workload.Seconds(), r.Crash.Daemon.Seconds(), r.Crash.Consumer.Seconds(),
		},
	}
}

// printReport is the same for people.
func printReport(w io.Writer, r demo.Report) error {
	p, l := r.Proof, r.Latency
	var b strings.Builder
	line := func(label string, n int64, format string, args ...any) {
		fmt.Fprintf(&b, "  %-34s %10s  %s\n", label, grouped(n), fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "\nThe proof, counted in the tables\n\n")
	line("transfers committed", p.Committed, "in %.0f s; confirmed and lost: %d", r.Workload.Seconds(), p.AcknowledgedMissing)
	line("  confirmation lost in the crash", p.AnswerLost, "found committed when tried again")
	line("transfers rolled back on purpose", p.RolledBack, "must leave no event")
	line("row changes committed", p.Expected, "4 tables, the same number in each: %s", yes(p.Uneven == 0))
	line("events processed", p.Processed, "distinct %s", grouped(p.Distinct))
	line("  missing", p.Missing, "")
	line("  processed more than once", p.Doubled, "")
	line("  of changes never committed", p.Invented, "")
	line("balances rebuilt from events", p.Rows, "different from the tables: %d", p.RowsWrong)
	line("sum of the tables", p.HistorySum, "sum of the events %s", grouped(p.EventsSum))
	t, c, f := r.Takeover, r.Crash, r.Failover
	fmt.Fprintf(&b, "\nBack by themselves, from kill -9 on\n\n")
	fmt.Fprintf(&b, "  subconsumer %s: its batch of %d events was finished by %s after %s\n", t.Killed, t.Events, t.By, demo.Short(t.Took))
	fmt.Fprintf(&b, "  PostgreSQL: recovered %s, workload %s, daemon %s, subconsumers %s\n",
		demo.Short(c.Server), demo.Short(c.Workload), demo.Short(c.Daemon), demo.Short(c.Consumer))
	fmt.Fprintf(&b, "  %s: %s had the lease after %s, ticked after %s\n", f.Killed, f.By, demo.Short(f.Lease), demo.Short(f.Tick))
	fmt.Fprintf(&b, "\n  from commit to processed: p50 %s, p99 %s; over a crash at most %s\n",
		demo.Short(l.P50), demo.Short(l.P99), demo.Short(l.Longest))
	fmt.Fprintf(&b, "  %s ticks, %s batches, %d table rotations, %s\n\n", grouped(r.Activity.Ticks), grouped(r.Activity.Batches),
		r.Activity.Rotations, r.Server)
	k := r.Cascade
	fmt.Fprintf(&b, "Switchover of a cascade of %d nodes under load, %s to %s\n\n", k.Nodes, k.Old, k.New)
	fmt.Fprintf(&b, "  last tick of the old root %d; %s: %s events, hash %s\n", k.LastTick, k.Old, grouped(k.OldEvents), k.OldHash)
	fmt.Fprintf(&b, "  %*s %s: %s events, hash %s\n", len(fmt.Sprintf("last tick of the old root %d;", k.LastTick)), "", k.New, grouped(k.NewEvents), k.NewHash)
	fmt.Fprintf(&b, "  writes were held for %s, the whole took %s\n", demo.Short(k.WritesHeld), demo.Short(k.Took))
	fmt.Fprintf(&b, "  %s events confirmed; on the nodes missing %d, doubled %d; nodes that differ %d\n\n", grouped(k.Acknowledged),
		k.Missing, k.Doubled, k.Different)
	if d := r.Disaster; d != nil {
		fmt.Fprintf(&b, "The primary destroyed, and back from the WAL archive\n\n")
		line("commits confirmed before the kill", d.Acknowledged, "each waited for the receiver")
		line("  missing after the restore", d.Missing, "rows that came back: %s", grouped(d.Rows))
		fmt.Fprintf(&b, "  base backup %.0f MB, stored in %.1f MB; %d segment(s) of WAL\n", float64(d.BackupBytes)/1e6, float64(d.BackupStored)/1e6, d.Segments)
		fmt.Fprintf(&b, "  answered again %s after kill -9 and the loss of its data directory\n", demo.Short(d.Back))
		fmt.Fprintf(&b, "  the proof above, counted again on the restored server: the same: %s\n\n", yes(d.Same))
	}
	if len(r.Faults()) == 0 {
		fmt.Fprintf(&b, "PROVED: each of %s committed changes was processed exactly once, over three crashes%s\n", grouped(p.Expected), back(r.Disaster))
	}
	if k := r.Kept; k != nil {
		fmt.Fprintf(&b, "\nKept in %s\n  start    %s\n  connect  %s\n  stop     %s\n  remove   %s\n",
			k.Dir, k.Start, k.Connect, k.Stop, k.Remove)
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), "  \n", "\n"))
	return err
}

// back is what the last act adds to the verdict.
func back(d *demo.Disaster) string {
	if d == nil {
		return "."
	}
	return ",\nand all of it came back from the archive."
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}
