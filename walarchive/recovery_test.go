package walarchive_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/file"
)

// fetchWord makes the test binary a restore_command.
const fetchWord = "be-the-restore-command"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 {
		switch os.Args[1] {
		case fetchWord:
			os.Exit(fetchMain(os.Args[2], os.Args[3], os.Args[4]))
		case victimWord:
			os.Exit(victimMain(os.Args[2], os.Args[3], os.Args[4]))
		}
	}
	os.Exit(m.Run())
}

// identitySuffix is behind the name of a repository's directory in that of a file with the keys that open it.
const identitySuffix = ".identity"

// fetchMain is the restore_command of restored servers: fetch from a directory, the way the real one does.
func fetchMain(repo, name, dest string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := os.Getwd()
	if err != nil {
		return walarchive.FetchInternal
	}
	st, err := file.Open(ctx, fileURL(repo))
	if err != nil {
		return walarchive.FetchInternal
	}
	c := walarchive.DefaultConfig()
	c.Source, c.Fetch.Patience = "main", time.Second
	if _, err := os.Stat(repo + identitySuffix); err == nil {
		c.Encryption.IdentityFile = repo + identitySuffix
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	a, err := walarchive.OpenArchive(ctx, st, c, log)
	if err != nil {
		log.Error("open the archive", "err", err)
		return walarchive.FetchInternal
	}
	exit, err := a.Fetch(ctx, walarchive.FetchRequest{Name: name, Dest: filepath.Join(dir, dest), Dir: dir})
	if err != nil {
		log.Info("fetch", "exit", exit, "err", err)
	}
	return exit
}

// clone is a server to be restored: a place for a data directory, and a port.
type clone struct {
	*pgserver.Cluster
	t    *testing.T
	repo string // directory
}

// newClone makes the place. The repository's directory must be readable for the server.
func newClone(t *testing.T, repo *walarchive.Repo) *clone {
	t.Helper()
	c := &clone{Cluster: newCluster(t, nil), t: t, repo: repo.Capabilities().LocalDir}
	if err := os.RemoveAll(c.DataDir()); err != nil {
		t.Fatal(err)
	}
	return c
}

// command is the restore_command: this test binary, where the server's user may run it.
func (c *clone) command() string {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	bin := filepath.Join(c.Dir, "fetch")
	in, err := os.Open(self)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(bin, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		c.t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("%s %s %s %%f %%p", bin, fetchWord, c.repo)
}

// restore plans and restores with the options.
func (c *clone) restore(repo *walarchive.Repo, o walarchive.RestoreOptions) *walarchive.RestorePlan {
	c.t.Helper()
	p, err := c.tryRestore(repo, o)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *clone) tryRestore(repo *walarchive.Repo, o walarchive.RestoreOptions) (*walarchive.RestorePlan, error) {
	c.t.Helper()
	o.Dest = c.DataDir()
	if o.Command == "" {
		o.Command = c.command()
	}
	p, err := repo.PlanRestore(c.t.Context(), o)
	if err != nil {
		return nil, err
	}
	return p, repo.Restore(c.t.Context(), p)
}

// start runs the restored server; promoted waits until recovery is over.
func (c *clone) start(promoted bool) string {
	c.t.Helper()
	c.lend()
	startServer(c.t, c.Cluster)
	dsn := c.DSN("postgres")
	if promoted {
		pgtest.Eventually(c.t, patience, "recovery over", func() bool {
			return scalar(c.t, dsn, "select pg_catalog.pg_is_in_recovery()::text") == "false"
		})
	}
	return dsn
}

// lend gives the repository to the user of the server, who reads it; root may write it all the same.
func (c *clone) lend() {
	c.t.Helper()
	if c.Account() == "" {
		return
	}
	u, err := user.Lookup(c.Account())
	if err != nil {
		c.t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		c.t.Fatal(err)
	}
	for dir := filepath.Dir(c.repo); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	err = filepath.WalkDir(c.repo, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, uid, -1)
		}
		if errors.Is(err, fs.ErrNotExist) { // the temporary name of a receiver
			return nil
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// set adds a line to the settings of the restored server.
func (c *clone) set(t *testing.T, line string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.DataDir(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// ownerOf is the owner of a file.
func ownerOf(t *testing.T, path string) (uid, gid int) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return int(s.Uid), int(s.Gid)
}
