package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// newSchemaCommand builds skyd schema: the SQL of skyd in one database.
func newSchemaCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "install, upgrade, harden and inspect the SQL of PgQ in a database",
	}
	cmd.AddCommand(newSchemaInstall(a), newSchemaUpgrade(a), newSchemaHarden(a), newSchemaStatus(a), newSchemaPrint(a))
	return cmd
}

// schemaFlags are the flags of the verbs that change a database.
type schemaFlags struct {
	only   []string
	dryRun bool
}

// register declares the flags.
func (f *schemaFlags) register(cmd *cobra.Command) {
	onlyFlag(cmd, &f.only)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "check everything and show what would be applied, change nothing")
}

// onlyFlag declares --only.
func onlyFlag(cmd *cobra.Command, only *[]string) {
	cmd.Flags().StringSliceVar(only, "only", nil,
		"these `SCHEMAS` and what they need, comma separated (of: "+strings.Join(pgqsql.Schemas(), ",")+")")
}

// newSchemaInstall builds skyd schema install.
func newSchemaInstall(a *app) *cobra.Command {
	var flags schemaFlags
	cmd := &cobra.Command{
		Use:   "install --db DSN",
		Short: "install the schemas, or bring them up to date and repair changed functions",
		Long: `Installs the schemas of skyd in one transaction. A schema that is up to date is not touched, and a second run
changes nothing. A schema that belongs to the original C extension is left alone: skyd works with it as it is.
The role needs CREATE on the database, and CREATEROLE only when the roles of PgQ do not exist yet.`,
		Example: "  skyd schema install --db postgres://app@127.0.0.1/app",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDatabase(cmd.Context(), func(ctx context.Context, db *pgq.DB) error {
				return a.install(ctx, db, pgqsql.Options{Schemas: flags.only, DryRun: flags.dryRun})
			})
		},
	}
	flags.register(cmd)
	return cmd
}

// newSchemaUpgrade builds skyd schema upgrade.
func newSchemaUpgrade(a *app) *cobra.Command {
	var flags schemaFlags
	var fromExtension bool
	cmd := &cobra.Command{
		Use:   "upgrade --db DSN",
		Short: "bring the schemas that are installed up to date, or take those of SkyTools over in place",
		Long: `Brings the schemas that are installed up to date, in one transaction, and adds no others.

A plain-SQL install of the original (PgQ 2.1 and 3.x, pgq_coop, pgq_ext) is taken over in place: queues, events, ticks,
positions, open batches, retry events, triggers and rights of other roles stay, the functions become those of skyd.
A schema of the original C extension is left alone unless --from-extension is given; then its objects leave the
extension and the empty extension is dropped. Try it with --dry-run first: it lists every step and changes nothing.
Stop pgqd and start skyd run in its place; producers and consumers need no stop.
The role must own the schemas and what is in them, and needs CREATE on the database.`,
		Example: "  skyd schema upgrade --db postgres://app@127.0.0.1/app --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDatabase(cmd.Context(), func(ctx context.Context, db *pgq.DB) error {
				names, err := installedSchemas(ctx, db, flags.only)
				if err != nil {
					return err
				}
				return a.install(ctx, db, pgqsql.Options{
					Schemas: names, DryRun: flags.dryRun, TakeOver: true, FromExtension: fromExtension,
				})
			})
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&fromExtension, "from-extension", false, "take over schemas of the original C extension too")
	return cmd
}

// newSchemaStatus builds skyd schema status.
func newSchemaStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "status --db DSN",
		Short:   "show what is installed, by whom, and what differs from this program",
		Example: "  skyd schema status --db postgres://app@127.0.0.1/app --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDatabase(cmd.Context(), func(ctx context.Context, db *pgq.DB) error {
				report, err := pgqsql.Inspect(ctx, db)
				if err != nil {
					return err
				}
				return a.show(report, func(w io.Writer) error { return writeReport(w, report, statusText) })
			})
		},
	}
}

// newSchemaPrint builds skyd schema print.
func newSchemaPrint(a *app) *cobra.Command {
	var only []string
	cmd := &cobra.Command{
		Use:     "print",
		Short:   "print the schemas as one script for psql",
		Example: "  skyd schema print | psql -d app",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := pgqsql.Bundle(only...)
			if err != nil {
				return schemaError(err)
			}
			_, err = io.WriteString(a.stdout, text)
			return err
		},
	}
	onlyFlag(cmd, &only)
	return cmd
}

// install runs Install and shows what it did.
func (a *app) install(ctx context.Context, db *pgq.DB, o pgqsql.Options) error {
	report, err := pgqsql.Install(ctx, db, o)
	if err != nil {
		return err
	}
	return a.show(report, func(w io.Writer) error {
		if err := writeReport(w, report, installText); err != nil || report.Changed {
			return err
		}
		_, err := fmt.Fprintln(w, "nothing to do")
		return err
	})
}

// installedSchemas lists the schemas to upgrade; one that was asked for must be there.
func installedSchemas(ctx context.Context, db *pgq.DB, only []string) ([]string, error) {
	report, err := pgqsql.Inspect(ctx, db)
	if err != nil {
		return nil, err
	}
	owners := map[string]pgqsql.Owner{}
	names := only
	for _, s := range report.Schemas {
		owners[s.Name] = s.Owner
		if only == nil && s.Owner != pgqsql.Missing {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil, withExit(exitMissing, "install them: skyd schema install --db DSN",
			fmt.Errorf("no schema of skyd in database %s", report.Database))
	}
	for _, name := range names {
		if owners[name] == pgqsql.Missing {
			return nil, withExit(exitMissing, "install it: skyd schema install --db DSN --only "+name,
				fmt.Errorf("schema %s is not installed in database %s", name, report.Database))
		}
	}
	return names, nil
}

// schemaError gives the errors of pgqsql their exit codes and the way out.
func schemaError(err error) error {
	if unknown := new(pgqsql.UnknownSchemaError); errors.As(err, &unknown) {
		return withExit(exitUsage, "", err)
	}
	if !errors.Is(err, pgqsql.ErrRefused) {
		return err
	}
	refusals := refusalsOf(err)
	if len(refusals) == 1 {
		return withExit(exitRefused, refusals[0].Remedy, err)
	}
	var lines []string
	for _, r := range refusals {
		lines = append(lines, fmt.Sprintf("%s (%s)", r.Problem, r.Remedy))
	}
	return withExit(exitRefused, "", errors.New(strings.Join(lines, "\n")))
}

// refusalsOf collects the refusals in a tree of errors.
func refusalsOf(err error) []*pgqsql.RefusedError {
	switch e := err.(type) { //nolint:errorlint // the tree is walked by hand
	case *pgqsql.RefusedError:
		return []*pgqsql.RefusedError{e}
	case interface{ Unwrap() []error }:
		var all []*pgqsql.RefusedError
		for _, inner := range e.Unwrap() {
			all = append(all, refusalsOf(inner)...)
		}
		return all
	case interface{ Unwrap() error }:
		return refusalsOf(e.Unwrap())
	}
	return nil
}

// writeReport writes one line per schema and one per file that needs a look.
func writeReport(w io.Writer, r pgqsql.Report, text func(pgqsql.SchemaReport, bool) string) error {
	fmt.Fprintf(w, "database %s, PostgreSQL %s\n\n", r.Database, r.ServerVersion)
	var rows [][]any
	for _, s := range r.Schemas {
		owner := string(s.Owner)
		if s.Extension != "" {
			owner += " " + s.Extension
		}
		rows = append(rows, []any{s.Name, owner, s.Version, text(s, r.DryRun)})
	}
	if err := writeTable(w, []any{"SCHEMA", "OWNER", "VERSION", "STATE"}, rows); err != nil {
		return err
	}
	for _, s := range r.Schemas {
		for _, list := range []struct {
			what  string
			names []string
		}{
			{s.Name, s.Changes},
			{"note on " + s.Name, s.Notes},
			{"changed in the database", s.Drifted},
			{"not applied", s.Pending},
			{"not from skyd", s.Unknown},
		} {
			for _, name := range list.names {
				fmt.Fprintf(w, "%s: %s\n", list.what, name)
			}
		}
	}
	return nil
}

// statusText is the state of a schema.
func statusText(s pgqsql.SchemaReport, _ bool) string {
	switch {
	case s.Owner == pgqsql.Extension:
		return "used as it is"
	case s.Owner == pgqsql.Missing:
		return "not installed"
	case s.UpToDate():
		return "up to date"
	case s.Owner == pgqsql.Original:
		return "SkyTools; can be taken over: skyd schema upgrade"
	case s.Owner != pgqsql.Skyd:
		return "not from skyd"
	}
	return fmt.Sprintf("files to apply: %d, to repair: %d", len(s.Pending), len(s.Drifted))
}

// installText is what an install did with a schema.
func installText(s pgqsql.SchemaReport, dryRun bool) string {
	switch {
	case s.TakenFrom != "" && dryRun:
		return fmt.Sprintf("to be taken over from %s, files to apply: %d", s.TakenFrom, len(s.Applied))
	case s.TakenFrom != "":
		return fmt.Sprintf("taken over from %s, files applied: %d", s.TakenFrom, len(s.Applied))
	case s.Owner == pgqsql.Extension:
		return "left alone"
	case len(s.Applied) == 0:
		return "up to date"
	case dryRun:
		return fmt.Sprintf("files to apply: %d", len(s.Applied))
	}
	return fmt.Sprintf("files applied: %d", len(s.Applied))
}
