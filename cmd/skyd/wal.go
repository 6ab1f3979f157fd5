package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// walVerbs lists the constructors of the verbs of skyd wal.
func walVerbs() []func(*app) *cobra.Command {
	return []func(*app) *cobra.Command{
		newWALCheckCommand,
		newWALFetchCommand,
		newWALPauseCommand,
		newWALPushCommand,
		newWALResumeCommand,
		newWALSetupCommand,
		newWALStatusCommand,
		newWALUnsetupCommand,
	}
}

// newWALCommand builds skyd wal.
func newWALCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wal",
		Short: "WAL archive: archiving, backup, restore, standbys",
		Long: `Keeps the WAL and base backups of PostgreSQL clusters in a repository: a directory or an object storage. A cluster is a
source, an entry of the section wal of the configuration.`,
	}
	for _, build := range slices.Concat(walVerbs(), backupVerbs(), repoVerbs()) {
		cmd.AddCommand(build(a))
	}
	return cmd
}

// walFlags choose the source that a command works on.
type walFlags struct {
	source   string
	storage  string
	identity string
	tagKey   string
}

// register declares --source.
func (f *walFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.source, "source", "", "`NAME` of the source; needless when the configuration has one only")
}

// registerStorage declares --storage, for commands that can do without a configuration.
func (f *walFlags) registerStorage(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.storage, "storage", "", "`URL` of the repository, in place of the configured one")
	cmd.Flags().StringVar(&f.identity, "identity-file", "", "`FILE` with the age keys of an encrypted repository, with --storage")
	cmd.Flags().StringVar(&f.tagKey, "tag-key-file", "", "`FILE` with the tag key of an encrypted repository, if there is one")
}

// walSource finds the source of a command in the configuration; with --storage none is needed.
func (a *app) walSource(ctx context.Context, f walFlags) (walarchive.Config, configs.Config, error) {
	if f.storage == "" && f.identity+f.tagKey != "" {
		return walarchive.Config{}, configs.Config{}, usageError("--identity-file and --tag-key-file go with --storage")
	}
	if f.storage != "" && a.configFile == "" {
		c := walarchive.DefaultConfig()
		c.Source, c.Storage = f.source, f.storage
		c.Encryption.IdentityFile, c.Encryption.TagKeyFile = f.identity, f.tagKey
		if c.Source == "" {
			return c, configs.Config{}, usageError("which source? give --source NAME with --storage")
		}
		return c, configs.Config{}, nil
	}
	all, err := a.loadConfig(ctx, nil)
	if err != nil {
		return walarchive.Config{}, all.Config, err
	}
	var names []string
	for _, w := range all.WAL {
		if f.source == w.Source || f.source == "" && len(all.WAL) == 1 {
			if f.storage != "" {
				w.Storage, w.Storages = f.storage, nil
				w.Encryption.IdentityFile = cmp.Or(f.identity, w.Encryption.IdentityFile)
				w.Encryption.TagKeyFile = cmp.Or(f.tagKey, w.Encryption.TagKeyFile)
			}
			return w, all.Config, nil
		}
		names = append(names, w.Source)
	}
	switch {
	case len(names) == 0:
		return walarchive.Config{}, all.Config, usageError("the configuration has no section wal; a source is { source, pgdata, database, storage }")
	case f.source == "":
		return walarchive.Config{}, all.Config, usageError("which source? give --source NAME; there are: %s", strings.Join(names, ", "))
	}
	return walarchive.Config{}, all.Config, withExit(exitMissing, "", fmt.Errorf("no source %q in the configuration%s", f.source,
		configs.DidYouMean(f.source, names)))
}

// openArchive opens the archive of a source. close gives it back.
func (a *app) openArchive(ctx context.Context, c walarchive.Config) (archive *walarchive.Archive, closing func(), err error) {
	s, err := runtime.OpenStorage(ctx, c.Storage)
	if err != nil {
		return nil, nil, withExit(exitUsage, "", err)
	}
	archive, err = walarchive.OpenArchive(ctx, s, c, a.walLog())
	if err != nil {
		return nil, nil, walFailure(errors.Join(err, s.Close()))
	}
	archive.Mirror(runtime.OpenStorage)
	return archive, func() { _ = errors.Join(archive.Close(), s.Close()) }, nil // nothing is left to be written
}

// walLog takes events of one-shot commands: PostgreSQL has them in its log.
func (a *app) walLog() *slog.Logger {
	if a.quiet {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.stderr, nil))
}

// walFailure gives an error of the archive its exit code.
func walFailure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, walarchive.ErrNoRepository), errors.Is(err, walarchive.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return withExit(exitMissing, "", err)
	case errors.Is(err, walarchive.ErrConflict), errors.Is(err, walarchive.ErrInvalid), errors.Is(err, walarchive.ErrPaused),
		errors.Is(err, walarchive.ErrForeign), errors.Is(err, walarchive.ErrForeignCluster),
		errors.Is(err, walarchive.ErrForeignBranch), errors.Is(err, walarchive.ErrExists), errors.Is(err, walarchive.ErrChanged):
		return withExit(exitRefused, "", err)
	}
	return err
}
