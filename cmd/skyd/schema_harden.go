package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// newSchemaHarden builds skyd schema harden.
func newSchemaHarden(a *app) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "harden --db DSN",
		Short: "make the functions of the original C extension safe against code of their callers",
		Long: `For databases that keep the original: the C extension, or plain SQL. Functions that run with the rights of their
owner get a search path of their own (without one, a producer's function now() runs as the owner), and functions that
the contract gives to pgq_reader, pgq_writer or pgq_admin are taken from everybody. Bodies are not touched; schemas of
skyd are safe as installed and left out. A second run changes nothing. Repeat it after an update of the extension and
after a restore from pg_dump: both bring the old functions back.
The role must own the functions.`,
		Example: "  skyd schema harden --db postgres://postgres@127.0.0.1/app --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDatabase(cmd.Context(), func(ctx context.Context, db *pgq.DB) error {
				done, err := pgqsql.Harden(ctx, db, dryRun)
				if err != nil {
					return err
				}
				return a.show(done, func(w io.Writer) error { return writeHardening(w, done) })
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything and show what would be changed, change nothing")
	return cmd
}

// writeHardening writes one line per function and change.
func writeHardening(w io.Writer, h pgqsql.Hardening) error {
	if !h.Changed {
		_, err := fmt.Fprintf(w, "database %s: nothing to do, functions looked at: %d\n", h.Database, h.Checked)
		return err
	}
	var rows [][]any
	for _, fn := range h.Functions {
		if fn.SearchPath != "" {
			rows = append(rows, []any{fn.Function, "search_path = " + fn.SearchPath})
		}
		if fn.Role != "" {
			rows = append(rows, []any{fn.Function, "execute for " + fn.Role + " instead of everybody"})
		}
	}
	if err := writeTable(w, []any{"FUNCTION", "CHANGE"}, rows); err != nil {
		return err
	}
	what := "changed"
	if h.DryRun {
		what = "to be changed"
	}
	_, err := fmt.Fprintf(w, "\ndatabase %s: functions %s: %d of %d\n", h.Database, what, len(h.Functions), h.Checked)
	return err
}
