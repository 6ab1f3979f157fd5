package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

// target finds the one database of a command: the DSN of --db, or with --config the configured database of that name,
// which may be left out when there is one only.
func (a *app) target(ctx context.Context) (configs.Database, error) {
	if a.configFile == "" || len(a.dsns) == 1 && configs.LooksLikeDSN(a.dsns[0]) {
		dsn, err := a.oneDSN()
		return configs.Database{DSN: dsn}, err
	}
	if len(a.dsns) > 1 {
		return configs.Database{}, usageError("--db given %d times; this command works on one database", len(a.dsns))
	}
	names := a.dsns
	a.dsns = nil // the file is read as it is
	c, err := a.loadConfig(ctx, nil)
	if err != nil {
		return configs.Database{}, err
	}
	var known []string
	for _, d := range c.Databases {
		if len(names) == 0 && len(c.Databases) == 1 || len(names) == 1 && d.Name == names[0] {
			return d, nil
		}
		known = append(known, d.Name)
	}
	if len(names) == 0 {
		return configs.Database{}, usageError("which database? give --db NAME; %s has: %s", a.configFile, strings.Join(known, ", "))
	}
	return configs.Database{}, usageError("no database %q in %s%s", names[0], a.configFile, configs.DidYouMean(names[0], known))
}

// onDatabase runs work on the database of the command, within --timeout.
func (a *app) onDatabase(ctx context.Context, work func(context.Context, *pgq.DB) error) error {
	d, err := a.target(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	db, err := runtime.OpenDatabase(ctx, d, 1)
	if err != nil {
		return withExit(exitUsage, "", err)
	}
	defer db.Close()
	if err := work(ctx, db); err != nil {
		if exitCode(err) == exitConnect {
			return fmt.Errorf("cannot use database %s: %w", pgq.MaskDSN(d.DSN), err)
		}
		return schemaError(err)
	}
	return nil
}

// onQueues is onDatabase for commands about queues: errors of PgQ get their exit codes and the way out.
func (a *app) onQueues(cmd *cobra.Command, work func(ctx context.Context, db *pgq.DB) error) error {
	return a.onDatabase(cmd.Context(), func(ctx context.Context, db *pgq.DB) error {
		return queueError(ctx, db, work(ctx, db))
	})
}

// queueError gives the errors of PgQ their exit codes and the way out.
func queueError(ctx context.Context, db *pgq.DB, err error) error {
	state := sqlState(err)
	switch classified := (*commandError)(nil); {
	case err == nil || errors.As(err, &classified):
		return err
	case errors.Is(err, pgq.ErrNotInstalled):
		return withExit(exitRefused, "install PgQ with: skyd schema install --db DSN", err)
	case state == "42501":
		return withExit(exitRefused, "the role needs pgq_reader, pgq_writer or pgq_admin: grant pgq_admin to ROLE", err)
	case errors.Is(err, pgq.ErrQueueNotFound):
		return withExit(exitMissing, "see them with: skyd queue list", err)
	case errors.Is(err, pgq.ErrNotSubscribed):
		return withExit(exitMissing, "see them with: skyd consumer list", err)
	case errors.Is(err, pgq.ErrTickNotFound), errors.Is(err, pgq.ErrNotKept):
		return withExit(exitMissing, "see the ticks that are kept with: skyd consumer show", err)
	case errors.Is(err, pgq.ErrDeadLetterNotFound):
		return withExit(exitMissing, "see them with: skyd event dead list", err)
	case errors.Is(err, pgq.ErrQueueInUse):
		return withExit(exitRefused, "--force unregisters its consumers", err)
	case errors.Is(err, pgq.ErrTickerPaused):
		return withExit(exitRefused, "resume it with: skyd queue resume", err)
	case errors.Is(err, pgq.ErrBatchOpen):
		return withExit(exitRefused, "--drop-batch gives up its events", err)
	case errors.Is(err, pgq.ErrTickerExternal), errors.Is(err, pgq.ErrQueueDisabled), errors.Is(err, pgq.ErrTxLimit):
		return withExit(exitRefused, "", err)
	case errors.Is(err, pgq.ErrBadParameter), strings.HasPrefix(state, "22"):
		return withExit(exitUsage, "", err)
	}
	return err
}

// knownQueue makes sure that a queue is there; if not, the error says which name was probably meant.
func knownQueue(ctx context.Context, q pgq.Querier, queue string) error {
	names, err := queueNames(ctx, q)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == queue {
			return nil
		}
	}
	guess, hint := configs.Guess(queue, names), ""
	if guess == "" {
		hint = "see them with: skyd queue list"
	}
	return withExit(exitMissing, hint, fmt.Errorf("%w: %s%s", pgq.ErrQueueNotFound, queue, guess))
}

// queueNames lists the queues of the database.
func queueNames(ctx context.Context, q pgq.Querier) ([]string, error) {
	infos, err := pgq.QueueInfos(ctx, q)
	names := make([]string, len(infos))
	for i, info := range infos {
		names[i] = info.Name
	}
	return names, err
}

// objects are the names that a command is about, from flags and arguments.
type objects struct {
	queue, consumer, sub string
	depth                int // 1: a queue, 2: a consumer, 3: a subconsumer
}

// register declares --queue and, from depth 2 on, --consumer.
func (o *objects) register(cmd *cobra.Command, depth int) {
	o.depth = depth
	cmd.Flags().StringVar(&o.queue, "queue", "", "`QUEUE`, in place of the argument; needless when the database has one only")
	if depth > 1 {
		cmd.Flags().StringVar(&o.consumer, "consumer", "", "`CONSUMER`, in place of the argument")
	}
	cmd.Args = cobra.MaximumNArgs(depth)
}

// find takes the names from the arguments that the flags leave open. A queue that is not named is the only one.
func (o *objects) find(ctx context.Context, q pgq.Querier, args []string) error {
	fields := []*string{&o.queue, &o.consumer, &o.sub}[:o.depth]
	var open []*string
	for _, f := range fields {
		if *f == "" {
			open = append(open, f)
		}
	}
	if o.queue == "" && len(args) == len(open)-1 {
		names, err := queueNames(ctx, q)
		if err != nil {
			return err
		}
		switch len(names) {
		case 1:
			o.queue, open = names[0], open[1:]
		case 0:
			return withExit(exitMissing, "make one with: skyd queue create NAME", errors.New("there is no queue in this database"))
		default:
			return usageError("which queue? there are: %s", strings.Join(names, ", "))
		}
	}
	if len(args) != len(open) {
		return usageError("want %s, got %d argument(s)", strings.Join([]string{"QUEUE", "CONSUMER", "SUBCONSUMER"}[:o.depth], " "), len(args))
	}
	for i, f := range open {
		if *f = args[i]; args[i] == "" {
			return usageError("a name must not be empty")
		}
	}
	return knownQueue(ctx, q, o.queue)
}

// changeFlags are the flags of commands that change something.
type changeFlags struct {
	dryRun bool
	yes    bool
}

// register declares --dry-run, and for destructive commands --yes.
func (f *changeFlags) register(cmd *cobra.Command, destructive bool) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "check everything and show what would be done, change nothing")
	if destructive {
		cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	}
}

// change is the result of a command that changes something.
type change struct {
	Action      string   `json:"action"`
	Changed     bool     `json:"changed"`
	DryRun      bool     `json:"dry_run"`
	Queue       string   `json:"queue"`
	Consumer    string   `json:"consumer,omitempty"`
	Subconsumer string   `json:"subconsumer,omitempty"`
	Tick        int64    `json:"tick,omitempty"`
	ID          int64    `json:"id,omitempty"`
	Count       int      `json:"count,omitempty"`
	Details     []string `json:"details,omitempty"`
}

// apply runs work in a transaction, or rehearses it, and shows the change. done says in the past tense what was done, same
// what holds already when nothing was to be done.
func (a *app) apply(ctx context.Context, db *pgq.DB, f changeFlags, c *change, done, same string, work func(pgq.Querier) error) error {
	c.DryRun = f.dryRun
	run := pgq.Transact
	if f.dryRun {
		run = pgq.Rehearse
	}
	if err := run(ctx, db, work); err != nil {
		return err
	}
	return a.show(c, func(w io.Writer) error {
		text := done
		switch {
		case !c.Changed:
			text = "nothing to do: " + same
		case f.dryRun:
			text = "would be done: " + done
		}
		fmt.Fprintln(w, text)
		for _, d := range c.Details {
			fmt.Fprintln(w, "  "+d)
		}
		return nil
	})
}

// confirm shows what a destructive command is going to do and asks for the name of its object. Without a terminal to
// ask on it refuses.
func (a *app) confirm(f changeFlags, name string, consequences ...string) error {
	if f.yes || f.dryRun {
		return nil
	}
	if !asks(a.stdin) {
		return withExit(exitRefused, "--yes does it without asking", fmt.Errorf("not confirmed: %s", strings.Join(consequences, "; ")))
	}
	for _, line := range consequences {
		fmt.Fprintln(a.stderr, line)
	}
	fmt.Fprintf(a.stderr, "To go on, type the name %s: ", name)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimRight(line, "\r\n") != name {
		return withExit(exitRefused, "", errors.New("not confirmed: that is not the name, nothing was changed"))
	}
	return nil
}

// asks reports whether somebody can answer on r: a terminal.
func asks(r io.Reader) bool {
	switch in := r.(type) {
	case interface{ Answers() bool }:
		return in.Answers()
	case *os.File:
		info, err := in.Stat()
		if err != nil || info.Mode()&os.ModeCharDevice == 0 {
			return false
		}
		null, err := os.Stat(os.DevNull)
		return err != nil || !os.SameFile(info, null)
	}
	return false
}
