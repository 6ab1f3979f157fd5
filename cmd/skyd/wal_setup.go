package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// walServer connects to the database of a source.
func (a *app) walServer(ctx context.Context, w walarchive.Config, all configs.Config) (*pgq.DB, error) {
	i := slices.IndexFunc(all.Databases, func(d configs.Database) bool { return d.Name == w.Database })
	if i < 0 {
		return nil, usageError("source %s names no database: set wal[].database", w.Source)
	}
	db, err := runtime.OpenDatabase(ctx, all.Databases[i], 1)
	return db, withExit(exitUsage, "", err)
}

// asOwner makes sure that files of the repository will belong to the user that the server runs as.
func asOwner(w walarchive.Config, s walarchive.Storage) error {
	info, err := os.Stat(w.PGData)
	if err != nil {
		return withExit(exitRefused, "this command runs on the host of the cluster", fmt.Errorf("pgdata: %w", err))
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if ok && s.Capabilities().LocalDir != "" && os.Geteuid() != int(owner.Uid) {
		return withExit(exitRefused, fmt.Sprintf("run it as the user with the id %d, for example with sudo -u", owner.Uid),
			errors.New("the repository must belong to the user that the server runs as"))
	}
	return nil
}

// setupFlags are the flags of skyd wal setup.
type setupFlags struct {
	walFlags
	changeFlags
	print      bool
	adopt      bool
	noRestart  bool
	restartCmd string
}

// setupResult is what setup did, or would do.
type setupResult struct {
	Source         string               `json:"source"`
	Changed        bool                 `json:"changed"`
	DryRun         bool                 `json:"dry_run"`
	Repository     string               `json:"repository"`
	Made           bool                 `json:"repository_made"`
	System         uint64               `json:"system_id,string"`
	Settings       []walarchive.Setting `json:"settings"`
	PendingRestart []string             `json:"pending_restart"`
	Slot           string               `json:"slot_made,omitempty"`
	Adopted        uint32               `json:"adopted_timeline,omitempty"`
}

// newWALSetupCommand builds skyd wal setup.
func newWALSetupCommand(a *app) *cobra.Command {
	var f setupFlags
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "have a running server archive its WAL",
		Long: `Makes the repository, or finds it, and sets archive_command (and what it needs) with ALTER SYSTEM and a reload. What was set
before is remembered for skyd wal unsetup. Settings that need a restart of the server are named; --restart-cmd restarts it. A
second run changes nothing. After an upgrade or a new initdb it is run again: the new cluster gets a branch of its own in the
repository, the old one stays restorable.

It runs on the host of the cluster, as the user that the server runs as.`,
		Example: "  skyd wal setup --config /etc/skyd/skyd.yaml --source main",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.walSetup(cmd.Context(), f) },
	}
	f.walFlags.register(cmd)
	f.changeFlags.register(cmd, false)
	cmd.Flags().BoolVar(&f.print, "print", false, "print the SQL and do nothing")
	cmd.Flags().BoolVar(&f.adopt, "adopt", false, "let this server write the timeline it is on, whatever others archived behind its branch")
	cmd.Flags().StringVar(&f.restartCmd, "restart-cmd", "", "shell `COMMAND` that restarts the server, run if a setting needs it")
	cmd.Flags().BoolVar(&f.noRestart, "no-restart", false, "do not restart, only tell what needs it (the default without --restart-cmd)")
	return cmd
}

// walSetup sets a source up.
func (a *app) walSetup(ctx context.Context, f setupFlags) error {
	ctx, cancel := a.withTimeout(ctx)
	defer cancel()
	w, all, err := a.walSource(ctx, f.walFlags)
	if err != nil {
		return err
	}
	db, err := a.walServer(ctx, w, all)
	if err != nil {
		return err
	}
	defer db.Close()
	facts, err := walarchive.ReadFacts(ctx, db)
	if err != nil {
		return err
	}
	local, err := walarchive.ReadCluster(w.PGData)
	if err != nil {
		return withExit(exitRefused, "setup runs on the host of the cluster, as the user that the server runs as", err)
	}
	command, err := a.archiveCommand(w)
	if err != nil {
		return err
	}
	plan, err := walarchive.PlanSetup(facts, local, command, w.Receive.Enabled)
	if err != nil {
		return withExit(exitRefused, "", err)
	}
	if f.print {
		for _, s := range plan {
			fmt.Fprintln(a.stdout, s.SQL()+";")
		}
		fmt.Fprintln(a.stdout, walarchive.ReloadSQL+";")
		return nil
	}
	slot := ""
	if w.Receive.Enabled {
		missing, err := walarchive.PlanSlot(ctx, db, w.Receive.Slot)
		if err != nil {
			return withExit(exitRefused, "", err)
		}
		if missing {
			slot = w.Receive.Slot
		}
	}
	local.Size, local.Checksums = facts.Size, facts.Checksums
	r := setupResult{Source: w.Source, DryRun: f.dryRun, Repository: w.Storage, System: facts.System, Settings: plan, PendingRestart: []string{}, Slot: slot}
	if err := a.setUp(ctx, db, w, local, f, &r); err != nil {
		return err
	}
	for _, s := range plan {
		if s.Restart {
			r.PendingRestart = append(r.PendingRestart, s.Name)
		}
	}
	if len(r.PendingRestart) > 0 && f.restartCmd != "" && !f.noRestart && !f.dryRun {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", f.restartCmd)
		cmd.Stdout, cmd.Stderr = a.stderr, a.stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("restart the server with %q: %w", f.restartCmd, err)
		}
		r.PendingRestart = []string{}
	}
	return a.show(r, func(out io.Writer) error { return printSetup(out, r) })
}

// setUp does what changes something.
func (a *app) setUp(ctx context.Context, db *pgq.DB, w walarchive.Config, local walarchive.Cluster, f setupFlags, r *setupResult) error {
	s, err := runtime.OpenStorage(ctx, w.Storage)
	if err != nil {
		return withExit(exitUsage, "", err)
	}
	defer func() { _ = s.Close() }()
	if err := asOwner(w, s); err != nil {
		return err
	}
	me, err := walarchive.WriterOf(w.PGData)
	if err != nil {
		return err
	}
	if f.dryRun {
		r.Changed = len(r.Settings) > 0 || r.Slot != ""
		if _, err := walarchive.OpenRepo(ctx, s, w.Source, w.Options()); err != nil {
			if !errors.Is(err, walarchive.ErrNoRepository) && !errors.Is(err, os.ErrNotExist) && s.Capabilities().LocalDir == "" {
				return walFailure(err)
			}
			r.Made, r.Changed = true, true
		}
		return nil
	}
	if err := walarchive.MakeTagKey(w.Encryption); err != nil {
		return withExit(exitUsage, "", err)
	}
	if r.Made, err = walarchive.InitRepo(ctx, s, w.Options()); err != nil {
		return walFailure(err)
	}
	repo, err := walarchive.OpenRepo(ctx, s, w.Source, w.Options())
	if err != nil {
		return walFailure(err)
	}
	enrolled, err := repo.Enroll(ctx, local)
	if err != nil {
		return walFailure(err)
	}
	if f.adopt {
		state, err := walarchive.ReadArchiver(ctx, db)
		if err != nil {
			return err
		}
		if err := walarchive.NewArchive(repo, w, a.walLog()).Adopt(ctx, local.System, state.Timeline); err != nil {
			return err
		}
		r.Adopted = state.Timeline
	}
	more, err := setUpMirrors(ctx, w, local, r.Adopted, a.walLog())
	if err != nil {
		return err
	}
	r.Changed = r.Made || enrolled || more || len(r.Settings) > 0 || r.Slot != ""
	if r.Slot != "" { // before anything else: from now on the server keeps what the receiver needs
		if err := walarchive.MakeSlot(ctx, db, r.Slot); err != nil {
			return err
		}
	}
	return repo.Setup(ctx, db, me, r.Settings)
}

// setUpMirrors makes the repositories in the further storages of a source, or finds them; changed tells which.
func setUpMirrors(ctx context.Context, w walarchive.Config, local walarchive.Cluster, adopt uint32, log *slog.Logger) (changed bool, err error) {
	for _, url := range w.Storages {
		s, err := runtime.OpenStorage(ctx, url)
		if err != nil {
			return changed, withExit(exitUsage, "", err)
		}
		made, enrolled, err := setUpMirror(ctx, w, s, local, adopt, log)
		changed = changed || made || enrolled
		if err = errors.Join(err, s.Close()); err != nil {
			return changed, walFailure(fmt.Errorf("storage %s: %w", url, err))
		}
	}
	return changed, nil
}

func setUpMirror(ctx context.Context, w walarchive.Config, s walarchive.Storage, local walarchive.Cluster, adopt uint32,
	log *slog.Logger,
) (made, enrolled bool, err error) {
	if err := asOwner(w, s); err != nil {
		return false, false, err
	}
	if made, err = walarchive.InitRepo(ctx, s, w.Options()); err != nil {
		return false, false, err
	}
	repo, err := walarchive.OpenRepo(ctx, s, w.Source, w.Options())
	if err != nil {
		return made, false, err
	}
	if enrolled, err = repo.Enroll(ctx, local); err == nil && adopt > 0 {
		err = walarchive.NewArchive(repo, w, log).Adopt(ctx, local.System, adopt)
	}
	return made, enrolled, err
}

// archiveCommand is the archive_command of a source.
func (a *app) archiveCommand(w walarchive.Config) (string, error) {
	program, err := runtime.WALClient(w, "push", a.configFile)
	if err != nil {
		return "", err
	}
	return program + " %p", nil
}

// printSetup writes the result for people.
func printSetup(w io.Writer, r setupResult) error {
	done := map[bool]string{false: "", true: "would be done: "}[r.DryRun]
	if !r.Changed {
		fmt.Fprintf(w, "nothing to do: source %s archives to %s\n", r.Source, r.Repository)
	}
	if r.Made {
		fmt.Fprintf(w, "%srepository %s made\n", done, r.Repository)
	}
	for _, s := range r.Settings {
		fmt.Fprintf(w, "%s%s\n", done, s.SQL())
	}
	if r.Slot != "" {
		fmt.Fprintf(w, "%sreplication slot %s made\n", done, r.Slot)
	}
	if r.Adopted > 0 {
		fmt.Fprintf(w, "timeline %d is written by this server from now on\n", r.Adopted)
	}
	if len(r.PendingRestart) > 0 {
		fmt.Fprintf(w, "restart the server: %s take effect only then\n", strings.Join(r.PendingRestart, ", "))
	}
	return nil
}

// unsetupResult is what unsetup did, or would do.
type unsetupResult struct {
	Source   string               `json:"source"`
	Changed  bool                 `json:"changed"`
	DryRun   bool                 `json:"dry_run"`
	Settings []walarchive.Setting `json:"settings"`
	Slot     string               `json:"slot_dropped,omitempty"`
	Gap      *walarchive.Gap      `json:"gap,omitempty"`
}

// newWALUnsetupCommand builds skyd wal unsetup.
func newWALUnsetupCommand(a *app) *cobra.Command {
	var f walFlags
	var c changeFlags
	var keep bool
	cmd := &cobra.Command{
		Use:   "unsetup",
		Short: "put back what setup changed; the archive stays, with a gap on record",
		Long: `Puts archive_command and archive_timeout back to what they were before skyd wal setup, drops the slot of the receiver, which must
be stopped, and records in the repository that the WAL from there on is not in the archive. --keep-wal leaves a command that fails instead, so that the server keeps all WAL until
another one is set. archive_mode and wal_level stay as they are.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.walUnsetup(cmd.Context(), f, c, keep) },
	}
	f.register(cmd)
	c.register(cmd, false)
	cmd.Flags().BoolVar(&keep, "keep-wal", false, "leave an archive_command that fails")
	return cmd
}

// walUnsetup undoes walSetup.
func (a *app) walUnsetup(ctx context.Context, f walFlags, c changeFlags, keep bool) error {
	ctx, cancel := a.withTimeout(ctx)
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
	facts, err := walarchive.ReadFacts(ctx, db)
	if err != nil {
		return err
	}
	archive, closing, err := a.openArchive(ctx, w)
	if err != nil {
		return err
	}
	defer closing()
	r := unsetupResult{Source: w.Source, DryRun: c.dryRun}
	if r.Settings, err = archive.Repo().PlanUnsetup(ctx, facts, keep); err != nil {
		return walFailure(err)
	}
	if err := dropSlot(ctx, db, w.Receive.Slot, c.dryRun, &r); err != nil {
		return backupFailure(err)
	}
	r.Changed = len(r.Settings) > 0 || r.Slot != ""
	if len(r.Settings) > 0 && !c.dryRun {
		if r.Gap, err = archive.Repo().Unsetup(ctx, db, facts.System, r.Settings); err != nil {
			return walFailure(err)
		}
	}
	return a.show(r, func(out io.Writer) error {
		if !r.Changed {
			_, err := fmt.Fprintf(out, "nothing to do: source %s is not set up\n", w.Source)
			return err
		}
		for _, s := range r.Settings {
			fmt.Fprintf(out, "%s%s\n", map[bool]string{false: "", true: "would be done: "}[c.dryRun], s.SQL())
		}
		if r.Slot != "" {
			fmt.Fprintf(out, "%sreplication slot %s dropped\n", map[bool]string{false: "", true: "would be done: "}[c.dryRun], r.Slot)
		}
		if r.Gap != nil {
			fmt.Fprintf(out, "on record: the archive has nothing of timeline %d from %s on\n", r.Gap.Timeline, r.Gap.From)
		}
		return nil
	})
}

// dropSlot drops the slot of the receiver, or finds whether it would.
func dropSlot(ctx context.Context, db *pgq.DB, slot string, dry bool, r *unsetupResult) error {
	if slot == "" {
		return nil
	}
	st, err := walarchive.ReadSlotStatus(ctx, db, slot)
	switch {
	case errors.Is(err, walarchive.ErrNotFound):
		return nil
	case err != nil:
		return err
	case st.Active:
		return withExit(exitRefused, "stop the receiver first: receive.enabled, or skyd wal receive", fmt.Errorf("replication slot %s is in use", slot))
	}
	r.Slot = slot
	if !dry {
		_, err = walarchive.DropSlot(ctx, db, slot)
	}
	return err
}
