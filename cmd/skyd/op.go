package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/runtime"
)

// newOpCommand builds skyd op.
func newOpCommand(a *app) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "op",
		Short: "long operations of the running daemon",
		Long: `What the daemon does and takes its time for: reloads, maintenance, retry of events. It remembers the last 100 that have
ended since it started, of those that come by themselves only what failed or took a second and more.`,
	}
	cmd.PersistentFlags().StringVar(&socket, "socket", "", "`PATH` of the daemon's control socket")
	list := &cobra.Command{
		Use:     "list",
		Short:   "list the operations, the newest first",
		Example: "  skyd op list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDaemon(cmd, socket, func(ctx context.Context, path string) error {
				s, err := runtime.FetchStatus(ctx, path)
				if err != nil {
					return err
				}
				slices.Reverse(s.Operations)
				return a.show(s.Operations, func(w io.Writer) error { return writeOperations(w, s) })
			})
		},
	}
	show := &cobra.Command{
		Use:     "show ID",
		Short:   "show one operation",
		Example: "  skyd op show 17 -o json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onOperation(cmd, socket, args[0], func(_ context.Context, _ string, op runtime.Operation) error {
				return a.show(op, func(w io.Writer) error { return writeOperation(w, op) })
			})
		},
	}
	wait := &cobra.Command{
		Use:   "wait ID",
		Short: "wait for the end of an operation",
		Long: `Waits at most --timeout. Exit code 0: it is done, 1: it failed, 4: there is no such operation, or it is forgotten, 6: it
still runs.`,
		Example: "  skyd op wait 17 --timeout 10m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onOperation(cmd, socket, args[0], func(ctx context.Context, path string, op runtime.Operation) error {
				op, err := runtime.WaitOperation(ctx, path, op)
				if err != nil {
					return err
				}
				if err := a.show(op, func(w io.Writer) error { return writeOperation(w, op) }); err != nil {
					return err
				}
				if op.State == runtime.OperationFailed {
					return withExit(exitFailed, "", fmt.Errorf("operation %d failed: %s", op.ID, op.Error))
				}
				return nil
			})
		},
	}
	cmd.AddCommand(list, show, wait)
	return cmd
}

// onOperation finds an operation and works with it, within --timeout.
func (a *app) onOperation(cmd *cobra.Command, socket, text string, work func(context.Context, string, runtime.Operation) error) error {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return usageError("an operation has a number, see skyd op list (got %q)", text)
	}
	return a.onDaemon(cmd, socket, func(ctx context.Context, path string) error {
		s, err := runtime.FetchStatus(ctx, path)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Operations, func(op runtime.Operation) bool { return op.ID == id })
		if i < 0 {
			return withExit(exitMissing, "skyd op list names those that are known", fmt.Errorf("operation %d: %w", id, errNoOperation))
		}
		return work(ctx, path, s.Operations[i])
	})
}

var errNoOperation = errors.New("there is none of that number, or it is forgotten")

// writeOperations writes one line per operation.
func writeOperations(w io.Writer, s runtime.Status) error {
	if len(s.Operations) == 0 {
		_, err := fmt.Fprintln(w, "nothing runs, and nothing is remembered")
		return err
	}
	var rows [][]any
	for _, op := range s.Operations {
		text := op.Step
		if op.Error != "" {
			text = oneLine(op.Error)
		}
		rows = append(rows, []any{op.ID, op.Kind, op.Database, op.Subject, op.State, age(s.Now, op.Started), took(op, s.Now), text})
	}
	return writeTable(w, []any{"ID", "KIND", "DATABASE", "SUBJECT", "STATE", "AGO", "TOOK", "STEP"}, rows)
}

// writeOperation writes one operation.
func writeOperation(w io.Writer, op runtime.Operation) error {
	lines := [][2]string{
		{"id", strconv.FormatInt(op.ID, 10)},
		{"kind", op.Kind},
		{"database", op.Database},
		{"subject", op.Subject},
		{"state", string(op.State)},
		{"step", op.Step},
		{"error", op.Error},
		{"started", op.Started.UTC().Format(time.RFC3339)},
	}
	if !op.Ended.IsZero() {
		lines = append(lines, [2]string{"ended", op.Ended.UTC().Format(time.RFC3339)}, [2]string{"took", took(op, op.Ended)})
	}
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-9s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

// took is how long an operation took, or takes.
func took(op runtime.Operation, now time.Time) string {
	if !op.Ended.IsZero() {
		now = op.Ended
	}
	return age(now, op.Started)
}
