package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
)

// statusResult is the result of skyd status.
type statusResult struct {
	OK     bool            `json:"ok"`
	Checks []runtime.Check `json:"checks"`
	runtime.Status
}

// newStatusCommand builds skyd status.
func newStatusCommand(a *app) *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show what the running daemon does, on one screen",
		Long: `Asks the running daemon on its control socket. Exit code 0: everything is well, 1: something is wrong (and named),
3: no daemon answers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onDaemon(cmd, socket, func(ctx context.Context, path string) error {
				s, err := runtime.FetchStatus(ctx, path)
				if err != nil {
					return err
				}
				checks := runtime.Health(s)
				r := statusResult{OK: runtime.Healthy(checks), Checks: checks, Status: s}
				if err := a.show(r, func(w io.Writer) error { return writeStatus(w, r) }); err != nil {
					return err
				}
				if !r.OK {
					return withExit(exitFailed, "", errors.New("not everything is well"))
				}
				return nil
			})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// socketPath finds the control socket: the flag, else what the configuration says, else the default.
func (a *app) socketPath(cmd *cobra.Command, flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if a.configFile == "" {
		return cmp.Or(os.Getenv("SKYD_CONTROL__SOCKET"), configs.DefaultSocket(os.Environ())), nil
	}
	c, err := a.loadConfig(cmd.Context(), nil)
	return c.Control.Socket, err
}

// writeStatus writes the screen: is anything wrong, where, since when; then databases, queues, actors.
func writeStatus(w io.Writer, r statusResult) error {
	verdict := "everything is well"
	if !r.OK {
		verdict = "NOT EVERYTHING IS WELL"
	}
	if _, err := fmt.Fprintf(w, "skyd %s on %s, up %s: %s\n", r.Version, r.Instance, age(r.Now, r.Started), verdict); err != nil {
		return err
	}
	for _, c := range r.Checks {
		if !c.OK {
			if _, err := fmt.Fprintf(w, "  %s: %s\n", c.Name, c.Text); err != nil {
				return err
			}
		}
	}
	if err := writeConfigState(w, r.Config); err != nil {
		return err
	}
	var databases, queues, consumers, nodes, actors [][]any
	for _, d := range r.Databases {
		state := "up"
		if !d.Up {
			state = "away (" + d.Reason + ")"
		}
		databases = append(databases, []any{d.Name, state, age(r.Now, d.Since), d.Version, d.Operations, d.OpsFailed, d.Retried})
	}
	for _, q := range r.Queues {
		note := strings.Join(notes(q.Paused, "paused", q.External, "external ticker", q.RotationBlocked,
			"rotation blocked by "+q.RotationBlocker, q.DeadEvents > 0, fmt.Sprintf("%d dead letters", q.DeadEvents), q.LastError != "", q.LastError), "; ")
		queues = append(queues, []any{
			q.Database, q.Queue, q.LastTick, fmt.Sprintf("%.1fs", q.LagSeconds), q.EventSeq, q.Unticked,
			q.Ticks, q.TickErrors, note,
		})
	}
	for _, u := range r.Workers {
		open := ""
		if !u.OpenSince.IsZero() {
			open = fmt.Sprintf("%d for %s", u.BatchID, age(r.Now, u.OpenSince))
		}
		name := u.Consumer
		if u.Member > 0 {
			name = fmt.Sprintf("%s/%d", name, u.Member)
		}
		consumers = append(consumers, []any{u.Database, u.Queue, name, u.Finished, u.Events, u.Failed, u.Fails, open})
	}
	for _, n := range r.Nodes {
		note := strings.Join(notes(n.Paused, "paused", !n.Uptodate, "not up to date", n.Skipped > 0,
			fmt.Sprintf("%d special events without effect", n.Skipped), n.LastError != "", n.LastError), "; ")
		nodes = append(nodes, []any{
			n.Database, n.Queue, n.Node, n.Type, n.Provider, n.Completed, fmt.Sprintf("%.1fs", n.LagSeconds), n.GlobalWatermark, n.Batches,
			n.Events, n.Failed, note,
		})
	}
	for _, x := range r.Actors {
		text := x.Note
		if x.LastError != "" && !x.DownSince.IsZero() && !strings.Contains(x.LastError, text) {
			text = strings.Join(notes(text != "", text, true, x.LastError), ": ")
		} else if text == "" && !x.DownSince.IsZero() {
			text = x.LastError
		}
		if !x.NextRetry.IsZero() {
			text += fmt.Sprintf(" (again in %s)", age(x.NextRetry, r.Now))
		}
		actors = append(actors, []any{x.Path, x.State, age(r.Now, x.Since), x.Restarts, strings.TrimSpace(text)})
	}
	return writeTables(w,
		screenTable{[]any{"DATABASE", "STATE", "SINCE", "PGQ", "MAINT", "FAILED", "RETRIED"}, databases},
		screenTable{[]any{"DATABASE", "QUEUE", "TICK", "LAG", "EVENTS", "UNTICKED", "TICKS", "ERRORS", "NOTE"}, queues},
		screenTable{[]any{"DATABASE", "QUEUE", "CONSUMER", "BATCHES", "EVENTS", "FAILED", "IN A ROW", "OPEN BATCH"}, consumers},
		screenTable{[]any{"DATABASE", "QUEUE", "NODE", "TYPE", "PROVIDER", "TICK", "LAG", "WATERMARK", "BATCHES", "EVENTS", "FAILED", "NOTE"}, nodes},
		screenTable{[]any{"ACTOR", "STATE", "SINCE", "RESTARTS", "NOTE"}, actors})
}

// writeConfigState tells what is wrong with the configuration: nothing, mostly.
func writeConfigState(w io.Writer, c runtime.ConfigStatus) error {
	if c.LastError != "" {
		if _, err := fmt.Fprintf(w, "  the last reload was refused: %s\n", c.LastError); err != nil {
			return err
		}
	}
	if len(c.RestartNeeded) > 0 {
		if _, err := fmt.Fprintf(w, "  in force after a restart only: %s\n", strings.Join(c.RestartNeeded, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// screenTable is one table of the screen.
type screenTable struct {
	header []any
	rows   [][]any
}

// writeTables writes the tables that have rows, with an empty line above each.
func writeTables(w io.Writer, tables ...screenTable) error {
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := writeTable(w, t.header, t.rows); err != nil {
			return err
		}
	}
	return nil
}

// notes picks the texts whose condition holds: condition, text, condition, text ...
func notes(pairs ...any) []string {
	var out []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if on, _ := pairs[i].(bool); on {
			out = append(out, fmt.Sprint(pairs[i+1]))
		}
	}
	return out
}

// age is the time between two moments, in two units at most.
func age(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case then.IsZero() || now.IsZero():
		return ""
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return configs.DurationText(d.Round(time.Second))
	case d < 48*time.Hour:
		return configs.DurationText(d.Round(time.Minute))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
