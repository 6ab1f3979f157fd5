package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// repoVerbs are the verbs of skyd wal about the repository as a whole.
func repoVerbs() []func(*app) *cobra.Command {
	return []func(*app) *cobra.Command{
		newWALCopyCommand,
		newWALDestroyCommand,
		newWALPeriodicCommand,
		newWALRepairCommand,
		newWALSwitchCommand,
	}
}

// switchResult is what switch did, or would do.
type switchResult struct {
	Source  string  `json:"source"`
	Changed bool    `json:"changed"`
	DryRun  bool    `json:"dry_run"`
	Segment string  `json:"segment,omitempty"`
	Waited  float64 `json:"waited_seconds"`
}

// newWALSwitchCommand builds skyd wal switch.
func newWALSwitchCommand(a *app) *cobra.Command {
	var (
		f walFlags
		c changeFlags
	)
	cmd := &cobra.Command{
		Use:   "switch",
		Short: "close the open segment and wait until it is archived",
		Long: `Closes the segment that the server writes (pg_switch_wal) and waits until it is in the repository: from then on everything that
was committed before can be restored. Exit code 6: it did not come within --timeout.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.withTimeout(cmd.Context())
			defer cancel()
			w, all, err := a.walSource(ctx, f)
			if err != nil {
				return err
			}
			db, err := a.walServer(ctx, w, all)
			if err != nil {
				return err
			}
			defer db.Close()
			archive, closing, err := a.openArchive(ctx, w)
			if err != nil {
				return err
			}
			defer closing()
			facts, err := walarchive.ReadFacts(ctx, db)
			if err != nil {
				return err
			}
			if facts.InRecovery {
				return withExit(exitRefused, "run it against the primary", errors.New("a standby closes no segments"))
			}
			r := switchResult{Source: w.Source, DryRun: c.dryRun, Changed: !c.dryRun}
			if !c.dryRun {
				began := time.Now()
				if r.Segment, err = walarchive.SwitchSegment(ctx, db); err != nil {
					return err
				}
				if err := archive.AwaitSegment(ctx, facts.System, r.Segment); err != nil {
					return withExit(exitTimeout, "see what waits with: skyd wal status", err)
				}
				r.Waited = time.Since(began).Seconds()
			}
			return a.show(r, func(out io.Writer) error {
				text := "would close the open segment of source " + w.Source
				if !c.dryRun {
					text = fmt.Sprintf("%s is archived", r.Segment)
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

// copyResult is what copy did, or would do.
type copyResult struct {
	Changed bool   `json:"changed"`
	DryRun  bool   `json:"dry_run"`
	To      string `json:"to"`
	*walarchive.CopyReport
}

// newWALCopyCommand builds skyd wal copy.
func newWALCopyCommand(a *app) *cobra.Command {
	var (
		f  walFlags
		c  changeFlags
		to string
		o  walarchive.CopyOptions
	)
	cmd := &cobra.Command{
		Use:   "copy [ID|all]",
		Short: "copy base backups to another storage",
		Long: `Copies a base backup, or all, with the WAL that makes them consistent, to another storage, as they are: what is there is a
repository by itself. --with-wal copies all WAL from there on, so that the copy can be restored to the same last moment. What is
there already is left alone, so that a copy that was ended goes on where it was.`,
		Example: "  skyd wal copy all --with-wal --source main --to s3://vault/main?region=eu-central-1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError("--to is missing: the URL of the storage to copy to")
			}
			if len(args) == 1 && args[0] != "all" {
				o.Backup = args[0]
			}
			o.DryRun = c.dryRun
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, _ walarchive.Config, _ configs.Config) error {
				s, err := runtime.OpenStorage(ctx, to)
				if err != nil {
					return withExit(exitUsage, "", err)
				}
				defer func() { _ = s.Close() }()
				if s.String() == repo.String() {
					return usageError("--to is the storage of the source itself")
				}
				var end func()
				o.Progress, end = a.progress("copy")
				rep, err := repo.CopyTo(ctx, s, o)
				end()
				if err != nil {
					return err
				}
				r := copyResult{Changed: rep.Objects > 0, DryRun: c.dryRun, To: s.String(), CopyReport: rep}
				return a.show(r, func(out io.Writer) error {
					done := map[bool]string{false: "copied", true: "would copy"}[c.dryRun]
					_, err := fmt.Fprintf(out, "%s %d object(s), %s, of %d backup(s) to %s; %d were there\n", done, rep.Objects,
						byteText(rep.Bytes), len(rep.Backups), r.To, rep.Present)
					return err
				})
			})
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	c.register(cmd, false)
	cmd.Flags().StringVar(&to, "to", "", "`URL` of the storage to copy to")
	cmd.Flags().BoolVar(&o.WAL, "with-wal", false, "copy all WAL from the start of the oldest copied backup on")
	return cmd
}

// repairResult is what repair did, or would do.
type repairResult struct {
	Changed bool `json:"changed"`
	DryRun  bool `json:"dry_run"`
	*walarchive.RepairReport
}

// newWALRepairCommand builds skyd wal repair.
func newWALRepairCommand(a *app) *cobra.Command {
	var (
		f    walFlags
		c    changeFlags
		from string
	)
	cmd := &cobra.Command{
		Use:   "repair [SEGMENT...]",
		Short: "store damaged or missing segments again",
		Long: `Reads the segments of the archive, by default all, and stores those that are damaged or missing again: from pg_wal of the
server, from what a receiver of this host keeps, or from another repository (--from). Gaps that are filled are closed.

Exit code 7: something is damaged or missing, and found nowhere; it is listed and on record as a gap. Make a new base backup.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, _ configs.Config) error {
				o := walarchive.RepairOptions{Segments: args, PGData: w.PGData, DryRun: c.dryRun}
				if from != "" {
					s, err := runtime.OpenStorage(ctx, from)
					if err != nil {
						return withExit(exitUsage, "", err)
					}
					defer func() { _ = s.Close() }()
					if o.From, err = walarchive.OpenRepo(ctx, s, w.Source, w.Options()); err != nil {
						return err
					}
				}
				if w.StateDir != "" && !c.dryRun {
					if err := repo.SalvageWAL(ctx, w.StateDir); err != nil {
						a.note("what the receiver of this host has cannot be stored: %v", err)
					}
				}
				rep, err := repo.Repair(ctx, o)
				if err != nil {
					return err
				}
				if len(rep.Lost)+len(rep.Open) > 0 {
					a.exit = exitPartial
				}
				r := repairResult{Changed: len(rep.Repaired)+len(rep.Closed) > 0, DryRun: c.dryRun, RepairReport: rep}
				return a.show(r, func(out io.Writer) error { return printRepair(out, r) })
			})
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	c.register(cmd, false)
	cmd.Flags().StringVar(&from, "from", "", "`URL` of another repository of the source to take segments from")
	return cmd
}

// printRepair writes the report for people.
func printRepair(w io.Writer, r repairResult) error {
	for _, d := range r.Repaired {
		fmt.Fprintf(w, "%s %s from %s\n", map[bool]string{false: "stored", true: "would store"}[r.DryRun], d.Segment, d.From)
	}
	for _, d := range r.Lost {
		fmt.Fprintf(w, "! %s is nowhere: %s\n", d.Segment, oneLine(d.Fault))
	}
	for _, g := range r.Closed {
		fmt.Fprintf(w, "closed: %s\n", g)
	}
	for _, g := range r.Open {
		fmt.Fprintf(w, "! %s\n", g)
	}
	_, err := fmt.Fprintf(w, "%d segment(s): %d repaired, %d lost, %d gap(s) open\n", r.Segments, len(r.Repaired), len(r.Lost), len(r.Open))
	return err
}

// destroyResult is what destroy removed, or would remove.
type destroyResult struct {
	Source     string `json:"source"`
	Changed    bool   `json:"changed"`
	DryRun     bool   `json:"dry_run"`
	Repository string `json:"repository"`
	*walarchive.DestroyReport
}

// newWALDestroyCommand builds skyd wal destroy.
func newWALDestroyCommand(a *app) *cobra.Command {
	var (
		f     walFlags
		c     changeFlags
		force bool
	)
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "remove everything of one source from the repository",
		Long: `Removes all base backups and all WAL of a source, for good. It is refused while the server archives there (skyd wal unsetup), and
while somebody works there. --force goes on when the server, which was set up, does not answer.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config) error {
				d, err := repo.PlanDestroy(ctx, time.Now())
				if err != nil {
					return err
				}
				if err := a.stillArchives(ctx, w, all, d.SetUp(), force); err != nil {
					return err
				}
				what := fmt.Sprintf("%d backup(s) and all WAL of source %s in %s go for good: %d object(s), %s", d.Backups, repo.Source,
					repo.String(), d.Objects, byteText(d.Bytes))
				if err := a.confirm(c, repo.Source, what); err != nil {
					return err
				}
				if !c.dryRun {
					if err := repo.Destroy(ctx, d, w.StateDir); err != nil {
						return err
					}
				}
				r := destroyResult{Source: repo.Source, Changed: true, DryRun: c.dryRun, Repository: repo.String(), DestroyReport: d}
				return a.show(r, func(out io.Writer) error {
					done := map[bool]string{false: "removed", true: "would remove"}[c.dryRun]
					_, err := fmt.Fprintf(out, "%s %d backup(s), %d object(s), %s of source %s\n", done, d.Backups, d.Objects, byteText(d.Bytes), repo.Source)
					return err
				})
			})
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	c.register(cmd, true)
	cmd.Flags().BoolVar(&force, "force", false, "the server that was set up may be away")
	return cmd
}

// stillArchives refuses when the server of a source archives there, or may.
func (a *app) stillArchives(ctx context.Context, w walarchive.Config, all configs.Config, setUp, force bool) error {
	if w.Database == "" {
		if setUp && !force {
			return withExit(exitRefused, "run it with the configuration, or with --force when the server is gone for good",
				errors.New("a server was set up to archive there"))
		}
		return nil
	}
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	db, err := a.walServer(ctx, w, all)
	if err != nil {
		return err
	}
	defer db.Close()
	facts, err := walarchive.ReadFacts(ctx, db)
	switch {
	case err != nil && setUp && !force:
		return withExit(exitRefused, "--force goes on when it is gone for good", fmt.Errorf("the server that was set up to archive there does not answer: %w", err))
	case err != nil:
		return nil
	case strings.Contains(facts.ArchiveCommand, "--source="+w.Source+" ") || strings.Contains(facts.ArchiveCommand, "--source "+w.Source+" "):
		return withExit(exitRefused, "end that with: skyd wal unsetup --source "+w.Source,
			fmt.Errorf("the server archives there: archive_command is %q", facts.ArchiveCommand))
	}
	return nil
}

// periodicResult is what periodic did.
type periodicResult struct {
	Source string `json:"source"`
	walarchive.PeriodicRun
}

// newWALPeriodicCommand builds skyd wal periodic.
func newWALPeriodicCommand(a *app) *cobra.Command {
	var (
		f   walFlags
		now bool
	)
	cmd := &cobra.Command{
		Use:   "periodic",
		Short: "run the periodic command of a source if it is due",
		Long: `Runs the command periodic.cmd of the configuration when periodic.interval has passed since its last run, with SKYD_SOURCE and
SKYD_LAST_WAL in the environment, and kills it after periodic.timeout. The daemon does the same by itself. Exit code 1: it
failed, and is tried again at the next interval.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, _, err := a.walSource(cmd.Context(), f)
			if err != nil {
				return err
			}
			if w.Periodic.Cmd == "" {
				return usageError("source %s has no periodic command: set wal[].periodic.cmd", w.Source)
			}
			r := periodicResult{Source: w.Source}
			if r.PeriodicRun, err = w.RunPeriodic(cmd.Context(), now); err != nil {
				return err
			}
			if r.Ran && r.Error != "" {
				a.exit = exitFailed
			}
			return a.show(r, func(out io.Writer) error {
				switch {
				case !r.Ran:
					fmt.Fprintf(out, "nothing to do: it is due at %s\n", r.Next.Format(time.RFC3339))
				case r.Error != "":
					fmt.Fprintf(out, "failed: %s\n", oneLine(r.Error))
				default:
					fmt.Fprintf(out, "done in %.1f s\n", r.Seconds)
				}
				return nil
			})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&now, "now", false, "run it although it is not due")
	return cmd
}
