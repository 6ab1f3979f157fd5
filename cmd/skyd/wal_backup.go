package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// backupVerbs are the verbs of skyd wal about base backups.
func backupVerbs() []func(*app) *cobra.Command {
	return []func(*app) *cobra.Command{
		newWALAnnotateCommand,
		newWALBackupCommand,
		newWALExpireCommand,
		newWALHoldCommand,
		newWALInfoCommand,
		newWALListCommand,
		newWALReceiveCommand,
		newWALReleaseCommand,
		newWALRestoreCommand,
		newWALStandbyCommand,
		newWALSynchStandbyCommand,
		newWALVerifyCommand,
	}
}

// onRepo runs work on the repository of a source. Long work is not under --timeout unless that was given.
func (a *app) onRepo(cmd *cobra.Command, f walFlags, work func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config) error) error {
	ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
	if cmd.Flags().Changed("timeout") {
		ctx, cancel = a.withTimeout(ctx)
	}
	defer cancel()
	w, all, err := a.walSource(ctx, f)
	if err != nil {
		return err
	}
	archive, closing, err := a.openArchive(ctx, w)
	if err != nil {
		return err
	}
	defer closing()
	return backupFailure(work(ctx, archive.Repo(), w, all))
}

// backupFailure gives errors of backups and restores their exit codes.
func backupFailure(err error) error {
	switch classified := (*commandError)(nil); {
	case err == nil || errors.As(err, &classified):
		return err
	case errors.Is(err, walarchive.ErrOptions), errors.Is(err, walarchive.ErrNoKey):
		return withExit(exitUsage, "", err)
	case errors.Is(err, walarchive.ErrNoBackup):
		return withExit(exitMissing, "see them with: skyd wal list", err)
	case errors.Is(err, walarchive.ErrWindow):
		return withExit(exitRefused, "see what can be restored with: skyd wal list", err)
	case errors.Is(err, walarchive.ErrLeased), errors.Is(err, walarchive.ErrDest), errors.Is(err, walarchive.ErrRefused):
		return withExit(exitRefused, "", err)
	case errors.Is(err, walarchive.ErrNoWAL):
		return withExit(exitTimeout, "see what waits with: skyd wal status", err)
	}
	return walFailure(err)
}

// sourceDSN is the address of the server of a source.
func sourceDSN(w walarchive.Config, all configs.Config) (string, error) {
	i := slices.IndexFunc(all.Databases, func(d configs.Database) bool { return d.Name == w.Database })
	if i < 0 {
		return "", usageError("source %s names no database: set wal[].database", w.Source)
	}
	return runtime.ReplicationDSN(all.Databases[i])
}

// owner names this process in leases.
func owner(verb string) string { return fmt.Sprintf("skyd wal %s, process %d", verb, os.Getpid()) }

// progress is a progress bar on stderr, when that is a terminal.
func (a *app) progress(what string) (tell func(done, total int64), end func()) {
	file, ok := a.stderr.(*os.File)
	info, err := os.Stderr.Stat()
	if a.quiet || !ok || file != os.Stderr || err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, func() {}
	}
	began, last := time.Now(), time.Time{}
	ch := make(chan struct{}, 1) // several goroutines tell
	tell = func(done, total int64) {
		select {
		case ch <- struct{}{}:
		default:
			return
		}
		defer func() { <-ch }()
		now := time.Now()
		if now.Sub(last) < 200*time.Millisecond || total <= 0 {
			return
		}
		last = now
		share := float64(done) / float64(total)
		left := time.Duration(float64(now.Sub(began)) * (1 - share) / max(share, 0.001)).Round(time.Second)
		bar := strings.Repeat("#", int(share*30)) + strings.Repeat(".", 30-int(share*30))
		fmt.Fprintf(a.stderr, "\r%s [%s] %3.0f%% %s of %s, %s left   ", what, bar, share*100, byteText(done), byteText(total), left)
	}
	return tell, func() { fmt.Fprintln(a.stderr) }
}

// byteText writes a number of bytes for people.
func byteText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	x, u := float64(n), 0
	for x >= 1024 && u < len(units)-1 {
		x, u = x/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", x, units[u])
}

// newWALBackupCommand builds skyd wal backup.
func newWALBackupCommand(a *app) *cobra.Command {
	var (
		f        walFlags
		o        walarchive.BackupOptions
		notes    []string
		check    string
		badPages bool
		dsn      string
	)
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "make a base backup",
		Long: `Copies the cluster over the replication protocol into the repository, from a primary or a standby. The backup counts, and is
listed, only when all of it is durable and the WAL it needs is in the archive; a backup that is killed leaves nothing that is
listed. An incremental backup stores only the blocks that changed; it is restored like a full one, without the older ones.

Exit code 7: the backup is complete, but pages of the source have wrong checksums; they are listed (--allow-bad-pages: 0).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch check {
			case "fast", "spread":
				o.Spread = check == "spread"
			default:
				return usageError("--checkpoint must be fast or spread (got %q)", check)
			}
			if o.Kind != walarchive.BackupFull && o.Kind != walarchive.BackupIncr {
				return usageError("--type must be full or incr (got %q)", o.Kind)
			}
			if o.From != "" && o.From != "primary" && o.From != "standby" {
				return usageError("--from must be primary or standby (got %q)", o.From)
			}
			var err error
			if o.Annotations, err = annotations(notes); err != nil {
				return err
			}
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config) error {
				if o.DSN = dsn; dsn == "" {
					if o.DSN, err = sourceDSN(w, all); err != nil {
						return err
					}
				}
				return a.takeBackup(ctx, repo, o, badPages)
			})
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.Kind, "type", walarchive.BackupFull, "full or incr")
	fl.StringVar(&o.From, "from", "", "refuse unless the server is a `ROLE`: primary or standby")
	fl.StringVar(&dsn, "server", "", "`DSN` of the server to copy from, for example a standby (default: the configured database)")
	fl.StringVar(&check, "checkpoint", "fast", "fast: at once; spread: gently")
	fl.StringArrayVar(&notes, "annotate", nil, "`KEY=VALUE` to keep with the backup")
	fl.IntVar(&o.RateKB, "rate", 0, "at most so many `KB` per second from the server (0: no limit)")
	fl.IntVar(&o.Jobs, "jobs", 2, "parallel compressors")
	fl.DurationVar(&o.WALTimeout, "wal-timeout", 5*time.Minute, "how long to wait for the WAL of the backup in the archive")
	fl.BoolVar(&badPages, "allow-bad-pages", false, "pages with wrong checksums do not change the exit code")
	return cmd
}

// takeBackup makes a backup and shows it.
func (a *app) takeBackup(ctx context.Context, repo *walarchive.Repo, o walarchive.BackupOptions, allowBad bool) error {
	var end func()
	o.Owner, o.Note = owner("backup"), func(text string) { a.note("%s", text) }
	o.Progress, end = a.progress("backup")
	b, err := repo.TakeBackup(ctx, o)
	end()
	if err != nil {
		return err
	}
	if len(b.BadPages) > 0 {
		for _, p := range b.BadPages {
			fmt.Fprintf(a.stderr, "bad page: %s block %d at %s\n", p.Path, p.Block, p.LSN)
		}
		if !allowBad {
			a.exit = exitPartial
		}
	}
	return a.show(b, func(w io.Writer) error {
		fmt.Fprintf(w, "backup %s (%s, from the %s) is complete: %d files, %s, stored %s; WAL %s to %s on timeline %d\n",
			b.ID, b.Kind, b.From, b.Files, byteText(b.Bytes), byteText(b.Stored), b.StartLSN, b.StopLSN, b.Timeline)
		return nil
	})
}

// annotations reads KEY=VALUE arguments.
func annotations(list []string) (map[string]string, error) {
	notes := map[string]string{}
	for _, text := range list {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usageError("%q is not of the form KEY=VALUE", text)
		}
		notes[key] = value
	}
	return notes, nil
}

// backupList is the result of skyd wal list.
type backupList struct {
	Backups []*walarchive.Backup `json:"backups"`
	Windows []walarchive.Window  `json:"windows"`
	Gaps    []walarchive.Gap     `json:"gaps"`
}

// newWALListCommand builds skyd wal list.
func newWALListCommand(a *app) *cobra.Command {
	var f walFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list the base backups and what can be restored",
		Long:  `Lists the complete base backups, and for each timeline from where to where the cluster can be restored.`,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, _ walarchive.Config, _ configs.Config) error {
				list := backupList{Backups: []*walarchive.Backup{}, Windows: []walarchive.Window{}, Gaps: []walarchive.Gap{}}
				all, err := repo.Backups(ctx)
				if err != nil {
					return err
				}
				windows, err := repo.WindowsWithCommits(ctx)
				if err != nil {
					return err
				}
				gaps, err := repo.Gaps(ctx)
				if err != nil {
					return err
				}
				list.Backups, list.Windows, list.Gaps = append(list.Backups, all...), append(list.Windows, windows...), append(list.Gaps, gaps...)
				return a.show(list, func(w io.Writer) error { return printBackups(w, list) })
			})
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	return cmd
}

// printBackups writes the list for people.
func printBackups(w io.Writer, list backupList) error {
	var rows [][]any
	for _, b := range list.Backups {
		marks := []string{}
		if b.Held {
			marks = append(marks, "held")
		}
		if n := len(b.BadPages); n > 0 {
			marks = append(marks, fmt.Sprintf("%d bad pages", n))
		}
		rows = append(rows, []any{
			b.ID, b.Kind, b.From, b.StopTime.Format(time.RFC3339), b.StartLSN, b.StopLSN, b.Timeline,
			byteText(b.Bytes), byteText(b.Stored), strings.Join(marks, ", "),
		})
	}
	header := []any{"BACKUP", "KIND", "FROM", "COMPLETE", "START", "STOP", "TLI", "SIZE", "STORED", ""}
	if err := writeTable(w, header, rows); err != nil {
		return err
	}
	for _, win := range list.Windows {
		fmt.Fprintln(w, windowText(win))
		for _, h := range win.Holes {
			fmt.Fprintf(w, "! hole in the WAL from %s to %s (segments %s to %s)\n", h.From, h.To, h.First, h.Last)
		}
	}
	for _, g := range list.Gaps {
		if g.ClosedBy == "" {
			fmt.Fprintf(w, "! gap from %s to %s: %s\n", g.From, g.To, g.Reason)
		}
	}
	return nil
}

// newWALInfoCommand builds skyd wal info.
func newWALInfoCommand(a *app) *cobra.Command {
	var f walFlags
	cmd := &cobra.Command{
		Use:   "info [ID]",
		Short: "show one base backup",
		Long:  `Shows everything that is recorded about a base backup, by default the newest one.`,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, _ walarchive.Config, _ configs.Config) error {
				b, err := pickBackup(ctx, repo, args)
				if err != nil {
					return err
				}
				return a.show(b, func(w io.Writer) error { return printBackup(w, b) })
			})
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	return cmd
}

// pickBackup finds the backup that was named, or the newest.
func pickBackup(ctx context.Context, repo *walarchive.Repo, args []string) (*walarchive.Backup, error) {
	if len(args) > 0 {
		return repo.GetBackup(ctx, args[0])
	}
	all, err := repo.Backups(ctx)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: source %s has none", walarchive.ErrNoBackup, repo.Source)
	}
	if err != nil {
		return nil, err
	}
	return all[len(all)-1], nil
}

// printBackup writes a backup for people.
func printBackup(w io.Writer, b *walarchive.Backup) error {
	rows := [][]any{
		{"backup", b.ID},
		{"state", b.State},
		{"kind", b.Kind},
		{"from", b.From},
		{"server", b.ServerVersion},
		{"system", b.System},
		{"timeline", b.Timeline},
		{"start", fmt.Sprintf("%s at %s", b.StartLSN, b.StartTime.Format(time.RFC3339))},
		{"stop", fmt.Sprintf("%s at %s", b.StopLSN, b.StopTime.Format(time.RFC3339))},
		{"files", b.Files},
		{"size", byteText(b.Bytes)},
		{"stored", byteText(b.Stored)},
		{"packs", len(b.Packs)},
		{"page checksums", b.Checksums},
		{"bad pages", len(b.BadPages)},
	}
	if b.Held {
		rows = append(rows, []any{"held", b.HeldReason})
	}
	for _, s := range b.Spaces {
		rows = append(rows, []any{"tablespace", fmt.Sprintf("%s %s in %s", s.OID, s.Name, s.Location)})
	}
	for _, key := range slices.Sorted(maps.Keys(b.Annotations)) {
		rows = append(rows, []any{"note " + key, b.Annotations[key]})
	}
	return writeTable(w, []any{"", ""}, rows)
}
