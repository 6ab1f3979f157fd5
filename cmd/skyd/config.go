package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
)

// newConfigCommand builds skyd config.
func newConfigCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "check, show and explain the configuration"}
	cmd.AddCommand(newConfigCheck(a), newConfigShow(a), newConfigReference(a), newConfigExample(a), newConfigImport(a))
	return cmd
}

// configResult is the result of skyd config check.
type configResult struct {
	OK        bool     `json:"ok"`
	Files     []string `json:"files"`
	Databases int      `json:"databases"`
	Warnings  []string `json:"warnings"`
}

// newConfigCheck builds skyd config check.
func newConfigCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "check [--config FILE]",
		Short:   "check the configuration; exit code 2 and one line per fault when it is wrong",
		Example: "  skyd config check --config /etc/skyd/skyd.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.loadConfig(cmd.Context(), nil)
			if err != nil {
				return err
			}
			r := configResult{OK: true, Files: orEmpty(c.Files), Databases: len(c.Databases), Warnings: orEmpty(c.Warnings)}
			for _, w := range r.Warnings {
				a.note("skyd: warning: %s", w)
			}
			return a.show(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "the configuration is right: %d database(s), %d file(s) read\n", r.Databases, len(r.Files))
				return err
			})
		},
	}
}

// orEmpty keeps null out of JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// newConfigShow builds skyd config show.
func newConfigShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show [--config FILE]",
		Short: "print the configuration in force, from all its sources, with secrets masked",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.loadConfig(cmd.Context(), nil)
			if err != nil {
				return err
			}
			return a.show(c.Config, func(w io.Writer) error { return writeYAML(w, c.Config) })
		},
	}
}

// newConfigReference builds skyd config reference.
func newConfigReference(a *app) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "reference",
		Short: "print the reference of all configuration keys (Markdown)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := configs.Reference()
			if err != nil {
				return err
			}
			if to != "" {
				return os.WriteFile(filepath.Clean(to), []byte(text), 0o644)
			}
			_, err = io.WriteString(a.stdout, text)
			return err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "write it to this `FILE`")
	return cmd
}

// newConfigExample builds skyd config example.
func newConfigExample(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "print a commented configuration file to start from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(a.stdout, configs.Example)
			return err
		},
	}
}

// newConfigImport builds skyd config import.
func newConfigImport(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "translate configurations of pgqd into one of skyd",
		Long: `Prints a configuration of skyd that does what the given pgqd.ini files do; what was left out is noted on stderr. The
files of Londiste and walmgr are recognised and refused (exit code 5): this version has no place for them yet.`,
		Example: "  skyd config import /etc/pgqd.ini > /etc/skyd/skyd.yaml",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var files []configs.LegacyFile
			for _, name := range args {
				text, err := os.ReadFile(name)
				if err != nil {
					return withExit(exitMissing, "", err)
				}
				files = append(files, configs.LegacyFile{Name: name, Text: text})
			}
			im, err := configs.Import(files)
			if faults := configs.Faults(nil); errors.As(err, &faults) {
				return a.refuse(faults)
			}
			if err != nil {
				return withExit(exitRefused, "keep the original running for it, and import the others", err)
			}
			im.Notes = orEmpty(im.Notes)
			for _, n := range im.Notes {
				a.note("skyd: note: %s", n)
			}
			return a.show(im, func(w io.Writer) error {
				_, err := io.WriteString(w, im.YAML)
				return err
			})
		},
	}
}
