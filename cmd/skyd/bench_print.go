package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/skytools/skyd/internal/bench"
)

// printBench writes a report as Markdown.
func printBench(w io.Writer, r bench.Report) error {
	var b strings.Builder
	printBenchSetup(&b, r.Setup)
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", t.Title, t.Note)
		for _, s := range t.Sections {
			printBenchSection(&b, t.Columns, s)
		}
	}
	printBenchChecks(&b, r.Checks)
	_, err := io.WriteString(w, b.String())
	return err
}

func printBenchSetup(b *strings.Builder, s bench.Setup) {
	quick := ""
	if s.Quick {
		quick = " (quick: too small to judge)"
	}
	fmt.Fprintf(b, "# skyd bench\n\n| | |\n|---|---|\n")
	line := func(key, value string) { fmt.Fprintf(b, "| %s | %s |\n", key, value) }
	line("started", s.Started.Format("2006-01-02 15:04 MST")+fmt.Sprintf(", took %.0f min", s.Seconds/60))
	line("skyd", cmp.Or(s.Skyd, "unknown"))
	line("server", s.Server)
	var settings []string
	for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
		settings = append(settings, name+"="+s.Settings[name])
	}
	line("settings", strings.Join(settings, ", "))
	line("machine", fmt.Sprintf("%s/%s, %d CPUs, %s, %.0f GiB", s.Machine.OS, s.Machine.Arch, s.Machine.CPUs,
		cmp.Or(s.Machine.Model, "unknown model"), float64(s.Machine.Memory)/(1<<30)))
	line("payload", strconv.Itoa(s.Payload)+" bytes")
	line("rounds", fmt.Sprintf("%d, interleaved, order rotated, after one for warming up%s", s.Rounds, quick))
	line("server CPU", s.ServerCPU)
	fmt.Fprintf(b, "\nFigures are medians (min to max) of the rounds. A column × divides the one before it by that of the "+
		"reference row, round by round.\n")
}

func printBenchSection(b *strings.Builder, columns []bench.Column, s bench.Section) {
	fmt.Fprintf(b, "\n### %s\n\n", s.Name)
	facts := []string{s.Commit + " commit"}
	if s.Events > 0 {
		facts = append(facts, fmt.Sprintf("%s events a round", grouped(int64(s.Events))))
	}
	if s.Reference != "" {
		facts = append(facts, "reference: "+s.Reference)
	}
	fmt.Fprintf(b, "%s.\n\n", strings.Join(facts, "; "))
	head, rule := "| |", "|---|"
	shown := slices.DeleteFunc(slices.Clone(columns), func(c bench.Column) bool { return !hasFigure(s, c.ID) })
	for _, c := range shown {
		head += " " + c.Title + " |"
		rule += "---|"
		if c.Ratio && s.Reference != "" {
			head += " × |"
			rule += "---|"
		}
	}
	fmt.Fprintf(b, "%s\n%s\n", head, rule)
	for _, row := range s.Rows {
		fmt.Fprintf(b, "| %s |", row.Name)
		if row.Absent != "" {
			fmt.Fprintf(b, " absent (%s) |\n", row.Absent)
			continue
		}
		for _, c := range shown {
			value, ok := row.Values[c.ID]
			fmt.Fprintf(b, " %s |", spread(value, ok, c.Digits))
			if c.Ratio && s.Reference != "" {
				ratio, ok := row.Ratios[c.ID]
				fmt.Fprintf(b, " %s |", spread(ratio, ok, 2))
			}
		}
		b.WriteByte('\n')
	}
}

// hasFigure tells whether any row of the section has the figure.
func hasFigure(s bench.Section, id string) bool {
	return slices.ContainsFunc(s.Rows, func(r bench.Row) bool { _, ok := r.Values[id]; return ok })
}

// spread writes median and extremes; the latter only where they differ.
func spread(s bench.Stat, ok bool, digits int) string {
	if !ok {
		return ""
	}
	text := func(v float64) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	if text(s.Min) == text(s.Max) {
		return text(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", text(s.Median), text(s.Min), text(s.Max))
}

func printBenchChecks(b *strings.Builder, checks []bench.Check) {
	if len(checks) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Targets\n\n| target | | bound | measured | |\n|---|---|---|---|---|\n")
	count := map[string]int{}
	for _, c := range checks {
		measured, verdict := "", c.Verdict
		if c.Value != nil {
			measured = strconv.FormatFloat(*c.Value, 'f', 2, 64)
		}
		switch {
		case c.Why != "":
			verdict += " (" + c.Why + ")"
		case c.Verdict == bench.Missed && c.Level == "must" && !c.Fails:
			verdict += " (depends on the machine: does not fail)"
		}
		if c.Level == "must" {
			count[c.Verdict]++
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", c.Name, c.Level, c.Bound, measured, verdict)
	}
	fmt.Fprintf(b, "\nMusts: %d reached, %d missed, %d not judged.\n", count[bench.Reached], count[bench.Missed], count[bench.NotJudged])
}
