package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// expireResult is what expire removed, or would remove.
type expireResult struct {
	Changed bool `json:"changed"`
	DryRun  bool `json:"dry_run"`
	*walarchive.ExpirePlan
}

// newWALExpireCommand builds skyd wal expire.
func newWALExpireCommand(a *app) *cobra.Command {
	var (
		f      walFlags
		change changeFlags
		o      walarchive.ExpireOptions
	)
	cmd := &cobra.Command{
		Use:   "expire",
		Short: "remove old base backups and the WAL that only they need",
		Long: `Keeps the newest good backups (--keep), every backup that is needed to restore each moment of a window (--window), held
backups, and in any case the newest good one. WAL goes only when it is older than everything that stays. It can be killed at
any moment: what stays is whole, and the next run goes on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Rule.Keep <= 0 && o.Rule.Window <= 0 && !o.Garbage {
				return usageError("nothing says what to keep: give --keep N, --window DURATION, or --garbage alone")
			}
			o.Owner = owner("expire")
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, _ walarchive.Config, _ configs.Config) error {
				return a.expire(ctx, repo, o, change)
			})
		},
	}
	f.register(cmd)
	change.register(cmd, true)
	cmd.Flags().IntVar(&o.Rule.Keep, "keep", 0, "the `NUMBER` of newest good backups to keep")
	cmd.Flags().DurationVar(&o.Rule.Window, "window", 0, "how far back every moment must stay restorable")
	cmd.Flags().IntVar(&o.Rule.Min, "min", 1, "the `NUMBER` of good backups to keep in any case")
	cmd.Flags().BoolVar(&o.Rule.OldSystems, "old-systems", false, "let go of clusters that were followed by another one")
	cmd.Flags().BoolVar(&o.Garbage, "garbage", false, "also remove what killed backups left behind")
	return cmd
}

// expire shows the plan, asks, and executes it.
func (a *app) expire(ctx context.Context, repo *walarchive.Repo, o walarchive.ExpireOptions, change changeFlags) error {
	plan, err := repo.PlanExpire(ctx, o)
	if err != nil {
		return err
	}
	if !change.dryRun && plan.Objects+len(plan.Backups) > 0 {
		what := fmt.Sprintf("%d backup(s) go for good: %s; with %d segments, %s", len(plan.Backups), strings.Join(plan.Backups, ", "),
			plan.Segments, byteText(plan.Bytes))
		if err := a.confirm(change, repo.Source, what); err != nil {
			return err
		}
		if plan, err = repo.Expire(ctx, o); err != nil {
			return err
		}
	}
	r := expireResult{Changed: plan.Objects+len(plan.Backups) > 0, DryRun: change.dryRun, ExpirePlan: plan}
	return a.show(r, func(w io.Writer) error {
		done := map[bool]string{false: "removed", true: "would remove"}[change.dryRun]
		if !r.Changed {
			done = "nothing to do:"
		}
		fmt.Fprintf(w, "%s %d backup(s), %d segment(s), %d object(s), %s\n", done, len(plan.Backups), plan.Segments, plan.Objects, byteText(plan.Bytes))
		for _, id := range plan.Backups {
			fmt.Fprintln(w, "  "+id)
		}
		return nil
	})
}

// updateBackup builds a command that changes the record of a backup.
func updateBackup(a *app, use, short, long string, args cobra.PositionalArgs, done string,
	update func(ctx context.Context, repo *walarchive.Repo, id string, rest []string) (*walarchive.Backup, error),
) *cobra.Command {
	var f walFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, _ walarchive.Config, _ configs.Config) error {
				b, err := update(ctx, repo, args[0], args[1:])
				if err != nil {
					return err
				}
				return a.show(b, func(w io.Writer) error {
					fmt.Fprintf(w, done+"\n", b.ID)
					return nil
				})
			})
		},
	}
	f.register(cmd)
	return cmd
}

// newWALHoldCommand builds skyd wal hold.
func newWALHoldCommand(a *app) *cobra.Command {
	var reason string
	cmd := updateBackup(a, "hold ID", "protect a base backup from expire",
		`Protects a base backup, with the WAL between its start and stop, from every expire until it is released.`, cobra.ExactArgs(1),
		"backup %s is held", func(ctx context.Context, repo *walarchive.Repo, id string, _ []string) (*walarchive.Backup, error) {
			return repo.HoldBackup(ctx, id, reason)
		})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who wonder later")
	return cmd
}

// newWALReleaseCommand builds skyd wal release.
func newWALReleaseCommand(a *app) *cobra.Command {
	return updateBackup(a, "release ID", "end the protection of a base backup", `Ends what skyd wal hold began.`, cobra.ExactArgs(1),
		"backup %s is released", func(ctx context.Context, repo *walarchive.Repo, id string, _ []string) (*walarchive.Backup, error) {
			return repo.ReleaseBackup(ctx, id)
		})
}

// newWALAnnotateCommand builds skyd wal annotate.
func newWALAnnotateCommand(a *app) *cobra.Command {
	return updateBackup(a, "annotate ID KEY=VALUE...", "keep notes with a base backup", `Sets notes of a base backup; an empty value removes one.`,
		cobra.MinimumNArgs(2), "backup %s is annotated",
		func(ctx context.Context, repo *walarchive.Repo, id string, rest []string) (*walarchive.Backup, error) {
			notes, err := annotations(rest)
			if err != nil {
				return nil, err
			}
			return repo.AnnotateBackup(ctx, id, notes)
		})
}

// newWALVerifyCommand builds skyd wal verify.
func newWALVerifyCommand(a *app) *cobra.Command {
	var (
		f       walFlags
		o       walarchive.VerifyOptions
		restore bool
	)
	cmd := &cobra.Command{
		Use:   "verify [ID]",
		Short: "prove that what is stored can be restored",
		Long: `Hashes every pack of the base backups, looks that the WAL goes without a hole from the oldest backup to the end on every
timeline, and reads the header of every segment. --deep decodes every block and segment and checks the checksums of pages and of
WAL records. --restore also restores into a throw-away server (a drill, as drill.every makes them): it recovers to the end,
and every relation is looked through. It needs the server's programs on this host, and room in drill.dir.

Exit code 1: something is damaged or missing; it is listed.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Backup = args[0]
			}
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config) error {
				rep, err := repo.Verify(ctx, o)
				if err != nil {
					return err
				}
				r := verifyResult{VerifyReport: rep}
				if restore {
					if r.Drill, err = a.drill(ctx, repo, w, all, f); err != nil {
						return err
					}
				}
				if len(rep.Faults) > 0 || r.Drill != nil && !r.Drill.OK() {
					a.exit = exitFailed
				}
				return a.show(r, func(w io.Writer) error { return printVerify(w, r) })
			})
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	cmd.Flags().BoolVar(&o.Deep, "deep", false, "decode everything")
	cmd.Flags().BoolVar(&restore, "restore", false, "restore into a throw-away server and look through it")
	return cmd
}

// verifyResult is what verify found.
type verifyResult struct {
	*walarchive.VerifyReport
	Drill *walarchive.Drill `json:"restore_drill,omitempty"`
}

// drill makes a restore drill.
func (a *app) drill(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config, f walFlags) (*walarchive.Drill, error) {
	command, err := a.fetchCommand(w, f)
	if err != nil {
		return nil, err
	}
	var db *configs.Database
	if i := slices.IndexFunc(all.Databases, func(d configs.Database) bool { return d.Name == w.Database }); i >= 0 {
		db = &all.Databases[i]
	}
	d, err := runtime.RestoreDrill(ctx, repo, w, db, command, func(text string) { a.note("%s", text) })
	if errors.Is(err, runtime.ErrNoPrograms) {
		err = withExit(exitMissing, "", err)
	}
	return d, err
}

// printVerify writes the report for people.
func printVerify(w io.Writer, r verifyResult) error {
	rep := r.VerifyReport
	for _, f := range rep.Faults {
		what := slices.DeleteFunc([]string{f.Backup, f.Object}, func(s string) bool { return s == "" })
		fmt.Fprintf(w, "! %s: %s\n", strings.Join(what, " "), f.Fault)
	}
	fmt.Fprintf(w, "%d backup(s), %d pack(s), %d segment(s), %s read: %d fault(s)\n", rep.Backups, rep.Packs, rep.Segments,
		byteText(rep.Bytes), len(rep.Faults))
	if d := r.Drill; d != nil && d.OK() {
		fmt.Fprintf(w, "restored %s into a throw-away server: recovered to %s on timeline %d, all well\n", d.Backup, d.End, d.Timeline)
	} else if d != nil {
		fmt.Fprintf(w, "! restore drill: %s\n", oneLine(d.Error))
	}
	return nil
}
