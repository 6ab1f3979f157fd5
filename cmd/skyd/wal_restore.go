package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// restoreFlags are the flags of skyd wal restore.
type restoreFlags struct {
	walFlags
	changeFlags
	o                     walarchive.RestoreOptions
	time, lsn             string
	delta, aside, replace bool
	archive               string
	spaces                []string
}

// restoreResult is what restore did, or would do.
type restoreResult struct {
	Changed bool   `json:"changed"`
	DryRun  bool   `json:"dry_run"`
	Dest    string `json:"dest"`
	*walarchive.RestorePlan
}

// newWALRestoreCommand builds skyd wal restore.
func newWALRestoreCommand(a *app) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore DEST",
		Short: "bring a cluster back, to its last moment or an earlier one",
		Long: `Restores a base backup into the data directory DEST and sets it up so that the server, when it is started, replays the WAL to
the target: the end of the WAL, or a time, position, transaction, named restore point, or the first consistent moment.

The backup is the newest that ends before the target. Everything that can be checked is checked before DEST is touched. Every
block is verified before it is written. Until all is durable the directory has no pg_control, so a restore that was killed
cannot be started by accident; --delta goes on. In a restored copy archive_mode is off, unless DEST is the configured data
directory or --archive keep is given: a copy must not write into the archive of the original.

Without a configuration: skyd wal restore --storage file:///directory --source NAME DEST`,
		Example: `  skyd wal restore --source main /var/lib/postgresql/15/main --aside
  skyd wal restore --source main /srv/yesterday --target-time '2026-11-21 12:00:00+01'
  skyd wal restore --source main /srv/standby --standby --primary-conninfo 'host=db1 user=repl'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(args[0]); err != nil {
				return err
			}
			return a.onRepo(cmd, f.walFlags, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, _ configs.Config) error {
				return a.restore(ctx, repo, w, &f)
			})
		},
	}
	f.walFlags.register(cmd)
	f.registerStorage(cmd)
	f.changeFlags.register(cmd, true)
	f.declare(cmd)
	return cmd
}

// declare declares the flags of restore that are its own.
func (f *restoreFlags) declare(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.o.Backup, "backup", "", "`ID` of the base backup (default: the newest that fits)")
	fl.StringVar(&f.time, "target-time", "", "recover up to a `TIME` like 2026-11-22 12:00:00+01")
	fl.StringVar(&f.lsn, "target-lsn", "", "recover up to a position in the WAL, `LSN`")
	fl.StringVar(&f.o.Target.XID, "target-xid", "", "recover up to the end of the transaction `XID`")
	fl.StringVar(&f.o.Target.Name, "target-name", "", "recover up to the restore point `NAME`")
	fl.BoolVar(&f.o.Target.Immediate, "immediate", false, "recover up to the first consistent moment")
	fl.BoolVar(&f.o.Target.Exclusive, "exclusive", false, "end before the target, not behind it")
	fl.StringVar(&f.o.Timeline, "timeline", "", "follow the timeline `N`, latest or current (that of the backup)")
	fl.StringVar(&f.o.Action, "action", "", "at the target: promote (default), pause or shutdown")
	fl.BoolVar(&f.o.Standby, "standby", false, "make a standby")
	fl.StringVar(&f.o.Conninfo, "primary-conninfo", "", "`DSN` from which a standby streams")
	fl.StringVar(&f.o.Slot, "slot", "", "replication slot of a standby")
	fl.BoolVar(&f.delta, "delta", false, "DEST is there: write only what differs, remove what is too much")
	fl.BoolVar(&f.aside, "aside", false, "DEST is there: rename it to DEST.N first")
	fl.BoolVar(&f.replace, "replace", false, "DEST is there: remove its content first")
	fl.StringArrayVar(&f.spaces, "tablespace", nil, "`NAME=DIR` puts a tablespace elsewhere")
	fl.StringVar(&f.o.SpacesDir, "tablespace-all", "", "puts all tablespaces below a `DIR`")
	fl.StringVar(&f.archive, "archive", "", "keep: archive as the original did; off: archive_mode is off")
	fl.StringVar(&f.o.ConfigFrom, "config-from", "", "take postgresql.conf from a `FILE`")
	fl.IntVar(&f.o.Jobs, "jobs", 4, "parallel readers")
}

// timeForms are the forms of a time that people write; without a zone it is local.
var timeForms = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999-07",
	"2006-01-02T15:04:05.999999999-07", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04:05.999999999", "2006-01-02 15:04", "2006-01-02",
}

// parseTime reads a time as people write it.
func parseTime(text string) (time.Time, error) {
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError("%q is no time like 2026-11-22 12:00:00+01", text)
}

// complete turns flags into options.
func (f *restoreFlags) complete(dest string) (err error) {
	if f.o.Dest, err = filepath.Abs(dest); err != nil {
		return err
	}
	if f.time != "" {
		if f.o.Target.Time, err = parseTime(f.time); err != nil {
			return err
		}
	}
	if f.lsn != "" {
		if f.o.Target.LSN, err = walarchive.ParseLSN(f.lsn); err != nil {
			return usageError("--target-lsn: %w", err)
		}
	}
	words := 0
	for word, given := range map[string]bool{walarchive.DestDelta: f.delta, walarchive.DestAside: f.aside, walarchive.DestReplace: f.replace} {
		if given {
			f.o.Existing = word
			words++
		}
	}
	if words > 1 {
		return usageError("--delta, --aside and --replace exclude each other")
	}
	f.o.Spaces = map[string]string{}
	for _, text := range f.spaces {
		name, dir, ok := strings.Cut(text, "=")
		if !ok {
			return usageError("--tablespace: %q is not of the form NAME=DIR", text)
		}
		f.o.Spaces[name] = dir
	}
	switch f.archive {
	case "", "keep", "off":
	default:
		return usageError("--archive must be keep or off (got %q)", f.archive)
	}
	return nil
}

// fetchCommand is the restore_command of a restored cluster.
func (a *app) fetchCommand(w walarchive.Config, f walFlags) (string, error) {
	if f.storage == "" {
		program, err := runtime.WALClient(w, "fetch", a.configFile)
		return program + " %f %p", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	words := []string{self, "wal", "fetch", "--source=" + w.Source, "--storage=" + w.Storage}
	for _, p := range [][2]string{{"--identity-file=", f.identity}, {"--tag-key-file=", f.tagKey}} {
		if p[1] == "" {
			continue
		}
		path, err := filepath.Abs(p[1])
		if err != nil {
			return "", err
		}
		words = append(words, p[0]+path)
	}
	for i, word := range words {
		words[i] = runtime.ShellWord(word)
	}
	return strings.Join(words, " ") + " %f %p", nil
}

// restore plans, asks where something is lost, and restores.
func (a *app) restore(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, f *restoreFlags) error {
	o := f.o
	var err error
	if o.Command, err = a.fetchCommand(w, f.walFlags); err != nil {
		return err
	}
	original := w.PGData != "" && filepath.Clean(w.PGData) == filepath.Clean(o.Dest)
	o.KeepArchiving = f.archive == "keep" || f.archive == "" && original
	if w.StateDir != "" && !f.dryRun {
		if err := repo.SalvageWAL(ctx, w.StateDir); err != nil {
			return fmt.Errorf("store what the receiver of this host has: %w", err)
		}
	}
	var end func()
	o.Note = func(text string) { a.note("%s", text) }
	o.Progress, end = a.progress("restore")
	plan, err := repo.PlanRestore(ctx, o)
	if err != nil {
		return errors.Join(err, a.windowNote(ctx, repo, err))
	}
	r := restoreResult{Changed: true, DryRun: f.dryRun, Dest: o.Dest, RestorePlan: plan}
	if f.dryRun {
		return a.show(r, func(out io.Writer) error { return printRestore(out, r) })
	}
	if o.Existing == walarchive.DestReplace || o.Existing == walarchive.DestDelta {
		what := fmt.Sprintf("what is in %s is lost", o.Dest)
		if err := a.confirm(f.changeFlags, repo.Source, what); err != nil {
			return err
		}
	}
	err = repo.Restore(ctx, plan)
	end()
	if err != nil {
		return err
	}
	return a.show(r, func(out io.Writer) error { return printRestore(out, r) })
}

// windowNote tells on stderr what could be restored, when the target cannot.
func (a *app) windowNote(ctx context.Context, repo *walarchive.Repo, cause error) error {
	if !errors.Is(cause, walarchive.ErrWindow) {
		return nil
	}
	windows, err := repo.Windows(ctx)
	for _, win := range windows {
		a.note("restorable on timeline %d: from %s (%s) to %s", win.Timeline, win.From, win.FromTime.Format(time.RFC3339), win.To)
	}
	return err
}

// printRestore writes the result for people.
func printRestore(w io.Writer, r restoreResult) error {
	done := map[bool]string{false: "restored", true: "would restore"}[r.DryRun]
	fmt.Fprintf(w, "%s backup %s (%s) to %s; the server then recovers %s on timeline %d, %d segment(s) of WAL up to %s\n",
		done, r.Backup.ID, byteText(r.Bytes), r.Dest, r.Target, r.Timeline, r.Segments, r.Cover.End)
	if r.Aside != "" {
		fmt.Fprintf(w, "the old directory is %s\n", r.Aside)
	}
	for _, line := range r.Settings {
		fmt.Fprintln(w, "  "+line)
	}
	return nil
}
