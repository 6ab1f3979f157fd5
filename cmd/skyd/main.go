// Command skyd installs, runs and looks after PgQ queues, cascades, Londiste replication and WAL archives.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

// nouns lists the constructors of all top-level commands: one line per noun.
func nouns() []func(*app) *cobra.Command {
	return []func(*app) *cobra.Command{
		newBenchCommand,
		newCheckCommand,
		newCompletionCommand,
		newConfigCommand,
		newConsumerCommand,
		newDemoCommand,
		newDoctorCommand,
		newEventCommand,
		newExplainCommand,
		newManCommand,
		newNodeCommand,
		newOpCommand,
		newQueueCommand,
		newReferenceCommand,
		newReloadCommand,
		newRunCommand,
		newSchemaCommand,
		newStatusCommand,
		newStopCommand,
		newSubconsumerCommand,
		newTickCommand,
		newVersionCommand,
		newWALCommand,
	}
}

func main() {
	if code, guarded := guardTransfer(os.Args[1:], os.Environ()); guarded {
		os.Exit(code)
	}
	ctx, stop := signalContext()
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// app is what every command shares: the streams and the global flags. A command reads the flags only inside its
// RunE, after parsing.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	configFile string
	dsns       []string // --db, repeatable for the commands that take several
	output     string
	noColor    bool
	quiet      bool
	verbose    bool
	timeout    time.Duration
	logFormat  string

	exit    int  // of a command that went well and has something bad to tell
	running bool // a RunE has been entered: what fails before that is a usage error
}

// run is the whole program as a function: it parses args, runs one command and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return a.exit
	}
	if !a.running {
		err = usageError("%w", err)
	}
	if cause := new(signalError); errors.As(context.Cause(ctx), &cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if sig := new(signalError); errors.As(err, &sig) && sig.sig == syscall.SIGPIPE {
		return exitCode(err) // in silence: nobody reads
	}
	return a.fail(err, wantsJSON(a.output, args))
}

// newRoot builds the command tree.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "skyd",
		Short:         "queues, cascades and WAL archives for PostgreSQL",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       buildVersion(),
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.configFile, "config", "", "configuration `FILE`")
	f.StringArrayVar(&a.dsns, "db", nil, "database: a `DSN`, or with --config the name of a configured database")
	f.StringVarP(&a.output, "output", "o", "table", "format of the result: table, json or yaml")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (also NO_COLOR, and when the output is no terminal)")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "results and errors only")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "tell more on stderr")
	f.DurationVar(&a.timeout, "timeout", 30*time.Second, "give up after this time (one-shot commands; 0 = never)")
	f.StringVar(&a.logFormat, "log-format", "text", "format of the log: text or json")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.checkGlobals() }
	for _, build := range nouns() {
		root.AddCommand(build(a))
	}
	a.prepare(root)
	return root
}

// tracedAs are the commands that are an operation themselves; the spans of switchover and failover are made where those
// are done.
var tracedAs = map[string]string{"skyd wal backup": pgq.OpBackup, "skyd wal restore": pgq.OpRestore}

// traced runs a one-shot command with the tracing that the environment asks for; those that run a daemon have their own.
func (a *app) traced(cmd *cobra.Command, run func() error) error {
	switch cmd.CommandPath() {
	case "skyd run", "skyd demo", "skyd bench":
		return run()
	}
	object, _ := cmd.Flags().GetString("source") // where there is one
	ctx, end, err := runtime.TraceCommand(cmd.Context(), buildVersion(), tracedAs[cmd.CommandPath()], object)
	if err != nil {
		a.note("skyd: warning: no traces: %s", oneLine(err.Error()))
	}
	cmd.SetContext(ctx)
	err = run()
	end(err)
	return err
}

// prepare gives every command the house rules: nouns without a verb are usage errors, and a RunE notes that it began.
func (a *app) prepare(parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if cmd.HasSubCommands() && !cmd.Runnable() {
			cmd.Args = cobra.ArbitraryArgs
			cmd.RunE = needVerb
		} else if inner := cmd.RunE; inner != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				a.running = true
				return a.traced(cmd, func() error { return inner(cmd, args) })
			}
		}
		a.prepare(cmd)
	}
}

// needVerb refuses a noun that stands alone or is followed by an unknown verb.
func needVerb(cmd *cobra.Command, args []string) error {
	var verbs []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			verbs = append(verbs, c.Name())
		}
	}
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q for %q; it has: %s", args[0], cmd.CommandPath(), strings.Join(verbs, ", "))
	}
	return fmt.Errorf("%s needs one of: %s", cmd.CommandPath(), strings.Join(verbs, ", "))
}

// checkGlobals validates the global flags that have a closed set of values.
func (a *app) checkGlobals() error {
	switch a.output {
	case "table", "json", "yaml":
	default:
		return fmt.Errorf("--output must be table, json or yaml (got %q)", a.output)
	}
	if a.logFormat != "text" && a.logFormat != "json" {
		return fmt.Errorf("--log-format must be text or json (got %q)", a.logFormat)
	}
	if a.timeout < 0 {
		return fmt.Errorf("--timeout must not be negative (got %s)", a.timeout)
	}
	return nil
}

// withTimeout applies --timeout to a one-shot command.
func (a *app) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, a.timeout)
}

// oneDSN returns the single --db of a command that works on one database.
func (a *app) oneDSN() (string, error) {
	switch len(a.dsns) {
	case 0:
		return "", usageError("which database? give --db DSN, for example --db postgres://user@host/name")
	case 1:
		return a.dsns[0], nil
	default:
		return "", usageError("--db given %d times; this command works on one database", len(a.dsns))
	}
}

// signalError is the cause of a context cancelled by a signal.
type signalError struct{ sig syscall.Signal }

// Error implements error.
func (e *signalError) Error() string { return "interrupted by signal " + e.sig.String() }

// signalContext is cancelled by the first SIGINT or SIGTERM; the second one ends the process at once,
// see secondSignal.
func signalContext() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ctx, second := withSecondSignal(ctx)
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for first := true; ; first = false {
			sig, ok := (<-ch).(syscall.Signal)
			if !ok {
				return
			}
			switch code := int(second.Load()); {
			case first || code == secondWaits:
			case code != 0:
				os.Exit(code)
			default:
				os.Exit(exitSignal + int(sig))
			}
			cancel(&signalError{sig: sig})
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(ch)
		cancel(nil)
	}
}
