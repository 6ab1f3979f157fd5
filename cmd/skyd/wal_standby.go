package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// newWALStandbyCommand builds skyd wal standby.
func newWALStandbyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "standby", Short: "create, promote, pause and resume a standby"}
	cmd.AddCommand(newStandbyCreate(a), newStandbyPromote(a), newStandbyReplay(a, "pause", true), newStandbyReplay(a, "resume", false),
		newStandbyStatus(a))
	return cmd
}

// serverFlags name a server that is not the configured one.
type serverFlags struct {
	walFlags
	server string
}

// register declares --source and --server.
func (f *serverFlags) register(cmd *cobra.Command, what string) {
	f.walFlags.register(cmd)
	cmd.Flags().StringVar(&f.server, "server", "", "`DSN` of "+what+" (default: the configured database)")
}

// connect opens the server of a command.
func (f *serverFlags) connect(ctx context.Context, a *app, w walarchive.Config, all configs.Config) (*pgq.DB, error) {
	if f.server == "" {
		return a.walServer(ctx, w, all)
	}
	db, err := runtime.OpenDatabase(ctx, configs.Database{DSN: f.server}, 1)
	return db, withExit(exitUsage, "", err)
}

// onServer runs work on the server of a command, which needs no repository.
func (a *app) onServer(cmd *cobra.Command, f serverFlags, work func(context.Context, *pgq.DB) error) error {
	ctx, cancel := a.withTimeout(cmd.Context())
	defer cancel()
	var (
		w   walarchive.Config
		all configs.Config
		err error
	)
	if f.server == "" {
		if w, all, err = a.walSource(ctx, f.walFlags); err != nil {
			return err
		}
	}
	db, err := f.connect(ctx, a, w, all)
	if err != nil {
		return err
	}
	defer db.Close()
	return backupFailure(work(ctx, db))
}

// newStandbyCreate builds skyd wal standby create.
func newStandbyCreate(a *app) *cobra.Command {
	var (
		f     restoreFlags
		start string
		wait  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "create DEST",
		Short: "make a standby from the archive",
		Long: `Makes the slot on the primary first, so that nothing can be lost between, then restores the newest base backup into DEST, set
up to replay the archive and to stream from the primary, and back. --start-cmd starts the server; then the command waits until
it streams.`,
		Example: `  skyd wal standby create /srv/standby --source main --primary-conninfo 'host=db1 user=repl' --slot standby1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.o.Standby = true
			if f.o.Conninfo == "" {
				return usageError("--primary-conninfo is missing: where the standby streams from")
			}
			if err := f.complete(args[0]); err != nil {
				return err
			}
			return a.onRepo(cmd, f.walFlags, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, _ configs.Config) error {
				if start == "" {
					start = w.Standby.StartCmd
				}
				if w.Standby.StopCmd != "" && f.o.Existing != "" && !f.dryRun {
					if err := a.confirm(f.changeFlags, repo.Source, "the server in "+f.o.Dest+" is stopped and its content lost"); err != nil {
						return err
					}
					f.yes = true
					if err := a.shell(ctx, f.o.Dest, w.Standby.StopCmd); err != nil {
						return fmt.Errorf("standby.stop_cmd: %w", err)
					}
				}
				if f.o.Slot != "" && !f.dryRun {
					if err := makeSlot(ctx, f.o.Conninfo, f.o.Slot); err != nil {
						return err
					}
				}
				if err := a.restore(ctx, repo, w, &f); err != nil || start == "" || f.dryRun {
					return err
				}
				return a.startStandby(ctx, f.o, start, wait)
			})
		},
	}
	f.walFlags.register(cmd)
	f.registerStorage(cmd)
	f.changeFlags.register(cmd, true)
	fl := cmd.Flags()
	fl.StringVar(&f.o.Conninfo, "primary-conninfo", "", "`DSN` from which the standby streams")
	fl.StringVar(&f.o.Slot, "slot", "", "replication slot of the standby; made if it is missing")
	fl.StringVar(&f.o.Backup, "backup", "", "`ID` of the base backup (default: the newest)")
	fl.BoolVar(&f.delta, "delta", false, "DEST is there: write only what differs, remove what is too much")
	fl.BoolVar(&f.aside, "aside", false, "DEST is there: rename it to DEST.N first")
	fl.BoolVar(&f.replace, "replace", false, "DEST is there: remove its content first")
	fl.StringArrayVar(&f.spaces, "tablespace", nil, "`NAME=DIR` puts a tablespace elsewhere")
	fl.StringVar(&f.o.ConfigFrom, "config-from", "", "take postgresql.conf from a `FILE`")
	fl.IntVar(&f.o.Jobs, "jobs", 4, "parallel readers")
	fl.StringVar(&start, "start-cmd", "", "shell `COMMAND` that starts the server")
	fl.DurationVar(&wait, "wait", 5*time.Minute, "how long to wait until the standby streams")
	return cmd
}

// makeSlot makes a slot on the primary.
func makeSlot(ctx context.Context, dsn, slot string) error {
	r, err := walarchive.DialReplication(ctx, dsn, "skyd standby create")
	if err != nil {
		return err
	}
	err = r.CreateSlot(ctx, slot)
	if cerr := r.Close(ctx); err == nil {
		err = cerr
	}
	return err
}

// startStandby starts the server and waits until the primary says that it streams.
func (a *app) startStandby(ctx context.Context, o walarchive.RestoreOptions, start string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := a.shell(ctx, o.Dest, start); err != nil {
		return fmt.Errorf("start-cmd: %w", err)
	}
	db, err := runtime.OpenDatabase(ctx, configs.Database{DSN: o.Conninfo}, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	lag, err := walarchive.AwaitStandby(ctx, db, o.Slot)
	if err == nil {
		a.note("the standby streams, %d bytes behind", lag)
	}
	return err
}

// shell runs a shell command for the server with this data directory.
func (a *app) shell(ctx context.Context, pgdata, command string) error {
	sh := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	sh.Stdout, sh.Stderr = a.stderr, a.stderr
	sh.Dir = pgdata
	sh.Env = append(os.Environ(), "PGDATA="+pgdata)
	return sh.Run()
}

// newStandbyPromote builds skyd wal standby promote.
func newStandbyPromote(a *app) *cobra.Command {
	var (
		f      serverFlags
		change changeFlags
		o      walarchive.PromoteOptions
	)
	cmd := &cobra.Command{
		Use:   "promote",
		Short: "make a standby the primary",
		Long: `Ends the recovery of a standby and waits for it. It is refused while the archive holds WAL that the standby has not
replayed: that would be lost (--allow-data-loss).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onRepo(cmd, f.walFlags, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config) error {
				db, err := f.connect(ctx, a, w, all)
				if err != nil {
					return err
				}
				defer db.Close()
				if err := a.confirm(change, repo.Source, "the standby becomes a primary; the old primary must be stopped for good"); err != nil {
					return err
				}
				o.DryRun = change.dryRun
				p, err := repo.Promote(ctx, db, o)
				if err != nil {
					return err
				}
				return a.show(p, func(w io.Writer) error {
					text := "the server was promoted: it is on timeline %d now\n"
					if !p.Changed {
						text = "nothing was done; the server is on timeline %d\n"
					}
					fmt.Fprintf(w, text, p.Timeline)
					return nil
				})
			})
		},
	}
	f.register(cmd, "the standby")
	change.register(cmd, true)
	cmd.Flags().BoolVar(&o.AllowLoss, "allow-data-loss", false, "promote although the archive holds more WAL")
	cmd.Flags().DurationVar(&o.Wait, "wait", time.Minute, "how long to wait for the end of recovery")
	return cmd
}

// newStandbyReplay builds skyd wal standby pause and resume.
func newStandbyReplay(a *app, verb string, pause bool) *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: verb, Short: verb + " the replay of a standby",
		Long: map[bool]string{true: "Stops the replay; WAL is received all the same.", false: "Goes on with the replay."}[pause], Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onServer(cmd, f, func(ctx context.Context, db *pgq.DB) error {
				changed, err := walarchive.PauseReplay(ctx, db, pause)
				if err != nil {
					return err
				}
				st, err := walarchive.ReadStandby(ctx, db)
				if err != nil {
					return err
				}
				result := struct {
					Changed bool `json:"changed"`
					walarchive.StandbyStatus
				}{changed, st}
				return a.show(result, func(w io.Writer) error {
					fmt.Fprintf(w, "replay: %s, at %s\n", st.Pause, st.Replayed)
					return nil
				})
			})
		},
	}
	f.register(cmd, "the standby")
	return cmd
}

// newStandbyStatus builds skyd wal standby status.
func newStandbyStatus(a *app) *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "status", Short: "show how a standby stands", Long: "Shows positions, lag and where the standby streams from.", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onServer(cmd, f, func(ctx context.Context, db *pgq.DB) error {
				st, err := walarchive.ReadStandby(ctx, db)
				if err != nil {
					return err
				}
				return a.show(st, func(w io.Writer) error {
					return writeTable(w, []any{"", ""}, [][]any{
						{"in recovery", st.InRecovery},
						{"replay", st.Pause},
						{"timeline", st.Timeline},
						{"replayed", st.Replayed},
						{"received", st.Received},
						{"streams from", st.Sender},
						{"lag (s)", st.LagSeconds},
					})
				})
			})
		},
	}
	f.register(cmd, "the standby")
	return cmd
}

// newWALSynchStandbyCommand builds skyd wal synch-standby.
func newWALSynchStandbyCommand(a *app) *cobra.Command {
	var (
		f     serverFlags
		o     walarchive.SyncOptions
		show  bool
		watch bool
	)
	cmd := &cobra.Command{
		Use:   "synch-standby NAMES",
		Short: "say which standbys every commit waits for",
		Long: `Sets synchronous_standby_names, and waits until the server acts on it. '' switches it off, '*' takes anybody. It is refused
unless as many of the named standbys as the setting needs are connected, stream, and are not far behind: else every commit would
wait for ever. The receiver of skyd is such a standby, under its application name (skyd_wal).`,
		Example: "  skyd wal synch-standby skyd_wal --source main\n  skyd wal synch-standby 'FIRST 1 (skyd_wal, standby1)' --source main",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			show = show || watch
			if show == (len(args) == 1) {
				return usageError("give the names ('' for none), or --show")
			}
			return watched(cmd.Context(), watch, func() error {
				return a.onServer(cmd, f, func(ctx context.Context, db *pgq.DB) error {
					var (
						st  walarchive.SyncStatus
						err error
					)
					if show {
						st, err = walarchive.ReadSync(ctx, db)
					} else {
						st, err = walarchive.SetSync(ctx, db, args[0], o)
					}
					if err != nil {
						return err
					}
					return a.show(st, func(w io.Writer) error {
						fmt.Fprintf(w, "synchronous_standby_names = '%s'\n", st.Names)
						for _, s := range st.Senders {
							fmt.Fprintf(w, "  %s: %s, %s, %d bytes behind\n", s.Name, s.State, s.Sync, s.Lag)
						}
						return nil
					})
				})
			})
		},
	}
	f.register(cmd, "the primary")
	cmd.Flags().BoolVar(&show, "show", false, "show the setting and who is connected")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it again and again until interrupted; it never changes the setting")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "make the checks only")
	cmd.Flags().Int64Var(&o.MaxLag, "max-lag", 16<<20, "how many `BYTES` a standby may be behind")
	cmd.Flags().DurationVar(&o.Wait, "wait", 20*time.Second, "how long to wait until the server counts them as synchronous")
	return cmd
}
