package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/runtime"
)

// checkFlags are the flags of skyd check.
type checkFlags struct {
	socket  string
	format  string
	limits  runtime.Limits
	exclude []string
}

// newCheckCommand builds skyd check.
func newCheckCommand(a *app) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "monitoring probe: is the running daemon well",
		Long: `Asks the running daemon on its control socket; no database is asked. NAMEs select checks, as skyd status and /readyz?verbose
name them; a queue is queue/DATABASE/QUEUE. Exit code 0: OK, 1: WARNING, 2: CRITICAL (also when no daemon runs), 3: UNKNOWN.`,
		Example: "  skyd check --format nagios --lag-warning 1m --lag-critical 10m\n" +
			"  skyd check --format prometheus > /var/lib/node_exporter/skyd.prom",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"nagios", "json", "prometheus", "text"}, f.format) {
				return withExit(int(runtime.Unknown), "", fmt.Errorf("--format must be nagios, json, prometheus or text (got %q)", f.format))
			}
			list, err := a.judge(cmd, f, args)
			if err != nil {
				return withExit(int(runtime.Unknown), "", err)
			}
			worst := runtime.Worst(list)
			if err := a.writeCheck(f.format, worst, list); err != nil {
				return err
			}
			a.exit = int(worst)
			return nil
		},
	}
	socketFlag(cmd, &f.socket)
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", "text", "`FORM` of the result: nagios, json, prometheus or text")
	fl.DurationVar(&f.limits.Warning, "lag-warning", runtime.DefaultLimits().Warning, "warn when the newest tick of a queue is older (0: never)")
	fl.DurationVar(&f.limits.Critical, "lag-critical", runtime.DefaultLimits().Critical, "critical when the newest tick of a queue is older (0: never)")
	fl.StringSliceVar(&f.exclude, "exclude", nil, "leave out these `CHECKS`, comma separated")
	return cmd
}

// judge asks the daemon and selects the verdicts. That no daemon runs is a verdict, too.
func (a *app) judge(cmd *cobra.Command, f checkFlags, names []string) ([]runtime.Judgement, error) {
	path, err := a.socketPath(cmd, f.socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.withTimeout(cmd.Context())
	defer cancel()
	s, err := runtime.FetchStatus(ctx, path)
	if errors.Is(err, runtime.ErrNotRunning) || errors.Is(err, context.DeadlineExceeded) {
		return []runtime.Judgement{{Name: "daemon", Severity: runtime.Critical, Text: oneLine(err.Error())}}, nil
	}
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(runtime.Judge(s, f.limits), func(j runtime.Judgement) bool {
		return slices.Contains(f.exclude, j.Name) || len(names) > 0 && !slices.Contains(names, j.Name)
	})
	for _, name := range names {
		if !slices.ContainsFunc(list, func(j runtime.Judgement) bool { return j.Name == name }) {
			list = append(list, runtime.Judgement{Name: name, Severity: runtime.Unknown, Text: "there is no such check"})
		}
	}
	return list, nil
}

// writeCheck writes the verdicts.
func (a *app) writeCheck(format string, worst runtime.Severity, list []runtime.Judgement) error {
	switch format {
	case "json":
		return writeJSON(a.stdout, struct {
			Severity runtime.Severity    `json:"severity"`
			Checks   []runtime.Judgement `json:"checks"`
		}{worst, list})
	case "prometheus":
		return writeProbeMetrics(a.stdout, list)
	case "nagios":
		return writeNagios(a.stdout, worst, list)
	}
	for _, j := range list {
		if _, err := fmt.Fprintf(a.stdout, "%-8s %s: %s\n", j.Severity, j.Name, j.Text); err != nil {
			return err
		}
	}
	return nil
}

// writeNagios writes one line: the verdict, what is wrong, and the lags as performance data.
func writeNagios(w io.Writer, worst runtime.Severity, list []runtime.Judgement) error {
	var wrong, data []string
	for _, j := range list {
		if j.Severity != runtime.OK {
			wrong = append(wrong, j.Name+" "+j.Severity.String()+": "+j.Text)
		}
		if j.Lag != nil {
			data = append(data, fmt.Sprintf("'%s'=%.3fs", strings.NewReplacer("'", "''", "=", "_").Replace(j.Name), *j.Lag))
		}
	}
	text := fmt.Sprintf("%d checks", len(list))
	if len(wrong) > 0 {
		text = strings.Join(wrong, "; ")
	}
	line := "SKYD " + worst.String() + " - " + strings.ReplaceAll(oneLine(text), "|", "/")
	if len(data) > 0 {
		line += " | " + strings.Join(data, " ")
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// writeProbeMetrics writes the verdicts as metrics for a textfile collector.
func writeProbeMetrics(w io.Writer, list []runtime.Judgement) error {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var b strings.Builder
	b.WriteString("# HELP skyd_check_status Verdict of a check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.\n# TYPE skyd_check_status gauge\n")
	for _, j := range list {
		fmt.Fprintf(&b, "skyd_check_status{check=\"%s\"} %d\n", escape.Replace(j.Name), j.Severity)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
