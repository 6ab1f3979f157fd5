package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/walarchive"
)

// watchPeriod is the time between two looks of --watch.
const watchPeriod = 2 * time.Second

// newWALStatusCommand builds skyd wal status.
func newWALStatusCommand(a *app) *cobra.Command {
	var (
		f     walFlags
		watch bool
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show what is archived and what waits",
		Long: `Shows what is archived without a hole, on each timeline, up to which position and commit it can be restored, what waits for the
archiver and for the repository, receiver, slot, the newest base backups, the last restore drill, gaps, writers and problems.
--watch shows it again every two seconds; with --output json each time is a document.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			w, all, err := a.walSource(ctx, f)
			if err != nil {
				return err
			}
			return watched(ctx, watch, func() error { return a.walStatus(ctx, w, all, watch) })
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again and again until interrupted")
	return cmd
}

// watched does something once, or again and again until it is interrupted.
func watched(ctx context.Context, again bool, look func() error) error {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		err := look()
		if !again || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// walStatus is one look at the status.
func (a *app) walStatus(ctx context.Context, w walarchive.Config, all configs.Config, watch bool) error {
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	archive, closing, err := a.openArchive(ctx, w)
	if err != nil {
		return err
	}
	defer closing()
	var server walarchive.Server
	if w.Database != "" {
		db, err := a.walServer(ctx, w, all)
		if err != nil {
			return err
		}
		defer db.Close()
		server = db
	}
	st, err := archive.Status(ctx, server, time.Now())
	if err != nil {
		return walFailure(err)
	}
	return a.show(st, func(out io.Writer) error {
		if watch {
			fmt.Fprintln(out, "-- "+time.Now().Format(time.RFC3339))
		}
		return printWALStatus(out, st)
	})
}

// printWALStatus writes the status for people.
func printWALStatus(w io.Writer, st walarchive.SourceStatus) error {
	fmt.Fprintf(w, "source %s in %s, system %d, PostgreSQL %d\n", st.Source, st.Repository, st.System, st.Major)
	fmt.Fprintf(w, "archived until %s", st.Until)
	if st.Archiver != nil {
		fmt.Fprintf(w, ", the server is at %s (%d bytes behind)", st.Archiver.Position, st.LagBytes)
	}
	fmt.Fprintf(w, "; %d file(s) wait, the oldest for %.0f s\n", st.Ready, st.ReadyAge)
	for _, win := range st.Windows {
		fmt.Fprintln(w, windowText(win))
	}
	for _, kind := range slices.Sorted(maps.Keys(st.Backups)) {
		b := st.Backups[kind]
		fmt.Fprintf(w, "newest %s backup %s, complete %s\n", kind, b.ID, b.StopTime.Format(time.RFC3339))
	}
	for _, s := range st.Senders {
		fmt.Fprintf(w, "%s: %s, %s, %d bytes behind\n", s.Name, s.State, s.Sync, s.Lag)
	}
	if s := st.Slot; s != nil {
		safe := "no limit"
		if s.SafeBytes >= 0 {
			safe = byteText(s.SafeBytes) + " until it is lost"
		}
		fmt.Fprintf(w, "slot %s: %s, holds %d bytes, %s\n", s.Name, s.WALStatus, s.KeptBytes, safe)
	}
	if st.Spool > 0 {
		fmt.Fprintf(w, "received and not in the repository: %s\n", byteText(st.Spool))
	}
	if d := st.Drill; d != nil {
		fmt.Fprintf(w, "last restore drill %s: %s\n", d.Began.Format(time.RFC3339), map[bool]string{true: "ok", false: "FAILED"}[d.OK()])
	}
	var rows [][]any
	for _, r := range st.Ranges {
		rows = append(rows, []any{r.Timeline, r.First, r.Last, r.Segments, byteText(r.Stored)})
	}
	if err := writeTable(w, []any{"TIMELINE", "FIRST", "LAST", "SEGMENTS", "STORED"}, rows); err != nil {
		return err
	}
	for _, p := range st.Problems {
		fmt.Fprintln(w, "! "+p)
	}
	return nil
}

// windowText says what can be restored.
func windowText(win walarchive.Window) string {
	text := fmt.Sprintf("restorable on timeline %d: from %s (%s) to %s", win.Timeline, win.From, win.FromTime.Format(time.RFC3339), win.To)
	if !win.Commit.IsZero() {
		text += ", last commit " + win.Commit.Format(time.RFC3339)
	}
	return text
}

// newWALCheckCommand builds skyd wal check.
func newWALCheckCommand(a *app) *cobra.Command {
	var f walFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "prove that archiving works, end to end",
		Long: `Checks settings, repository, clocks and writers, closes a segment, waits until it is archived and fetches it.

Exit code 0: all is well; 1: something is questionable; 2: the archive does not work; 3: it could not be found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.walCheck(cmd.Context(), f) },
	}
	f.register(cmd)
	return cmd
}

// walCheck runs the checks.
func (a *app) walCheck(ctx context.Context, f walFlags) error {
	const unknown = 3
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	w, all, err := a.walSource(ctx, f)
	if err != nil {
		return withExit(unknown, "", err)
	}
	db, err := a.walServer(ctx, w, all)
	if err != nil {
		return withExit(unknown, "", err)
	}
	defer db.Close()
	archive, closing, err := a.openArchive(ctx, w)
	if err != nil {
		return withExit(2, "", err)
	}
	defer closing()
	command, err := a.archiveCommand(w)
	if err != nil {
		return withExit(unknown, "", err)
	}
	results := archive.Check(ctx, db, command)
	for _, r := range results {
		switch {
		case r.OK:
		case r.Warn:
			a.exit = max(a.exit, 1)
		default:
			a.exit = 2
		}
	}
	return a.show(struct {
		Source string                   `json:"source"`
		OK     bool                     `json:"ok"`
		Checks []walarchive.CheckResult `json:"checks"`
	}{w.Source, a.exit == 0, results}, func(out io.Writer) error {
		for _, r := range results {
			mark := "ok  "
			if !r.OK {
				mark = "FAIL"
			}
			if !r.OK && r.Warn {
				mark = "warn"
			}
			fmt.Fprintf(out, "%s  %-10s  %s\n", mark, r.Name, oneLine(r.Text))
		}
		return nil
	})
}

// pauseResult is what pause-archiving and resume-archiving did.
type pauseResult struct {
	Source  string            `json:"source"`
	Changed bool              `json:"changed"`
	DryRun  bool              `json:"dry_run"`
	Pause   *walarchive.Pause `json:"pause,omitempty"`
}

// newWALPauseCommand builds skyd wal pause-archiving.
func newWALPauseCommand(a *app) *cobra.Command {
	var f walFlags
	var c changeFlags
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "pause-archiving REASON",
		Short: "have pushes refused for a while, with a reason",
		Long: `Has every push of the source refused with exit code 5 and the reason, until skyd wal resume-archiving or the end of --for. The
server keeps its WAL meanwhile: watch the space in pg_wal.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, _, err := a.walSource(cmd.Context(), f)
			if err != nil {
				return err
			}
			now := time.Now().UTC()
			p := walarchive.Pause{Reason: strings.Join(args, " "), Since: now}
			if length > 0 {
				p.Until = now.Add(length)
			}
			if !c.dryRun {
				if err := w.SetPause(p); err != nil {
					return err
				}
			}
			r := pauseResult{Source: w.Source, Changed: true, DryRun: c.dryRun, Pause: &p}
			return a.show(r, func(out io.Writer) error {
				is := map[bool]string{false: "is", true: "would be"}[c.dryRun]
				_, err := fmt.Fprintf(out, "archiving of source %s %s paused%s: %s\n", w.Source, is, until(p.Until), p.Reason)
				return err
			})
		},
	}
	f.register(cmd)
	c.register(cmd, false)
	cmd.Flags().DurationVar(&length, "for", 0, "end by itself after this time (0: only by resume-archiving)")
	return cmd
}

// until says when something ends.
func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.Format(time.RFC3339)
}

// newWALResumeCommand builds skyd wal resume-archiving.
func newWALResumeCommand(a *app) *cobra.Command {
	var f walFlags
	var c changeFlags
	cmd := &cobra.Command{
		Use:   "resume-archiving",
		Short: "end pause-archiving",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, _, err := a.walSource(cmd.Context(), f)
			if err != nil {
				return err
			}
			r := pauseResult{Source: w.Source, DryRun: c.dryRun}
			if p, err := w.Paused(time.Now()); err != nil {
				return err
			} else if c.dryRun {
				r.Changed = p != nil
			} else if r.Changed, err = w.EndPause(); err != nil {
				return err
			}
			return a.show(r, func(out io.Writer) error {
				text := "archiving of source " + w.Source + map[bool]string{false: " goes on", true: " would go on"}[c.dryRun]
				if !r.Changed {
					text = "nothing to do: archiving of source " + w.Source + " is not paused"
				}
				_, err := fmt.Fprintln(out, text)
				return err
			})
		},
	}
	f.register(cmd)
	c.register(cmd, false)
	return cmd
}

var _ walarchive.Server = (*pgq.DB)(nil)
