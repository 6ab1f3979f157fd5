package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newCompletionCommand builds skyd completion.
func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish|powershell",
		Short:     "print the completion script for a shell",
		Example:   "  source <(skyd completion bash)\n  skyd completion fish > ~/.config/fish/completions/skyd.fish",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.stdout)
		},
	}
}

// manResult is the result of skyd man.
type manResult struct {
	Directory string   `json:"directory"`
	Pages     []string `json:"pages"`
}

// newManCommand builds skyd man.
func newManCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "write the manual pages into a directory",
		Example: "  skyd man /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := manResult{Directory: args[0]}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, c := range commands(cmd.Root()) {
				name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
				if err := os.WriteFile(filepath.Join(args[0], name), []byte(manPage(c)), 0o644); err != nil {
					return err
				}
				r.Pages = append(r.Pages, name)
			}
			return a.show(r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d pages written to %s\n", len(r.Pages), r.Directory)
				return err
			})
		},
	}
}

// newReferenceCommand builds skyd reference, which makes docs/cli.md.
func newReferenceCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "reference",
		Short:  "print the reference of all commands (Markdown)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(a.stdout, reference(cmd.Root()))
			return err
		},
	}
}

// commands lists a command and all below it, without the hidden ones.
func commands(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			list = append(list, commands(sub)...)
		}
	}
	return list
}

// flagRow is one flag in the pages: how it is written, what it does, its default.
type flagRow struct{ form, usage, def string }

// flagRows lists flags.
func flagRows(set *pflag.FlagSet) (rows []flagRow) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		word, usage := pflag.UnquoteUsage(f)
		form := "--" + f.Name
		if f.Shorthand != "" {
			form = "-" + f.Shorthand + ", " + form
		}
		if word != "" {
			form += " " + word
		}
		def := f.DefValue
		if def == "false" || def == "[]" || def == "0" || def == "0s" {
			def = ""
		}
		rows = append(rows, flagRow{form, usage, def})
	})
	return rows
}

// exitTable is the part about exit codes, the same on all pages.
const exitTable = `| code | meaning |
|---|---|
| 0 | ok; also when there was nothing to do |
| 1 | failed |
| 2 | wrong usage or bad configuration |
| 3 | cannot connect, or not let in |
| 4 | the named thing does not exist |
| 5 | refused by a precondition, or not confirmed |
| 6 | timeout |
| 7 | partly done |
| 130, 143 | interrupted one-shot command |
`

// reference is docs/cli.md.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands of skyd\n\n<!-- Generated from the command tree by skyd reference; do not edit. -->\n\n" +
		"Results go to stdout, everything else to stderr. `--output json` and `yaml` are a contract: keys are added, never renamed;\n" +
		"times are RFC 3339 in UTC, durations are seconds as numbers. With json, errors are\n" +
		"`{\"error\":{\"code\",\"message\",\"hint\",\"sqlstate\"}}` on stderr. A command that changes something says `\"changed\": false`\n" +
		"when it holds already, and takes `--dry-run`. Destructive ones ask for the name; without a terminal and without `--yes`\n" +
		"they end with exit code 5.\n\n`--db` is a DSN, or with `--config FILE` the name of a configured database.\n\n" + exitTable +
		"\n`skyd check` has the four codes of a monitoring probe instead.\n\n## Flags of all commands\n\n")
	writeFlags(&b, flagRows(root.PersistentFlags()))
	for _, c := range commands(root)[1:] {
		if c.HasAvailableSubCommands() {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", c.CommandPath())
		if c.Deprecated != "" {
			continue
		}
		fmt.Fprintf(&b, "`%s`\n\n%s.\n", useLine(c), sentence(c.Short))
		if c.Long != "" {
			fmt.Fprintf(&b, "\n%s\n", c.Long)
		}
		if c.Example != "" {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", unindent(c.Example))
		}
		if rows := flagRows(c.NonInheritedFlags()); len(rows) > 0 {
			b.WriteByte('\n')
			writeFlags(&b, rows)
		}
	}
	return b.String()
}

// useLine is how a command is called.
func useLine(c *cobra.Command) string {
	if c.HasParent() {
		return c.Parent().CommandPath() + " " + c.Use
	}
	return c.Use
}

// sentence begins with a capital.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// unindent drops the blanks in front of example lines.
func unindent(s string) string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		lines = append(lines, strings.TrimPrefix(line, "  "))
	}
	return strings.Join(lines, "\n")
}

// writeFlags writes a table of flags.
func writeFlags(b *strings.Builder, rows []flagRow) {
	b.WriteString("| flag | meaning | default |\n|---|---|---|\n")
	for _, r := range rows {
		def := r.def
		if def != "" {
			def = "`" + def + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", r.form, strings.ReplaceAll(r.usage, "|", `\|`), def)
	}
}

// manPage is the page of one command in section 1.
func manPage(c *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %q 1 \"\" \"skyd\" \"skyd\"\n", strings.ToUpper(name))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n", roff(name), roff(c.Short), roff(useLine(c)))
	b.WriteString(".SH DESCRIPTION\n")
	if c.Long != "" {
		fmt.Fprintf(&b, "%s\n", roff(c.Long))
	} else {
		fmt.Fprintf(&b, "%s.\n", roff(sentence(c.Short)))
	}
	for _, part := range []struct {
		title string
		rows  []flagRow
	}{{"OPTIONS", flagRows(c.NonInheritedFlags())}, {"GLOBAL OPTIONS", flagRows(c.InheritedFlags())}} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, ".SH %s\n", part.title)
		for _, r := range part.rows {
			text := r.usage
			if r.def != "" {
				text += " (default " + r.def + ")"
			}
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(r.form), roff(text))
		}
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "help" {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(sub.CommandPath()), roff(sub.Short))
			}
		}
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(unindent(c.Example)))
	}
	b.WriteString(".SH EXIT STATUS\n")
	for line := range strings.Lines(exitTable) {
		if cells := strings.Split(line, " | "); len(cells) == 2 && strings.ContainsAny(cells[0], "0123456789") {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", strings.Trim(cells[0], "| "), strings.Trim(cells[1], "| \n"))
		}
	}
	return b.String()
}

// roff escapes a text: backslashes, hyphens, and lines that would be requests.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
