package walarchive_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skytools/skyd/walarchive"
)

// TestRestore_TablespacesBadPagesEncrypted backs up a cluster with a tablespace and page checksums, one page of which is
// damaged, into an encrypted repository, and restores it beside the original, then again with delta onto damaged files.
func TestRestore_TablespacesBadPagesEncrypted(t *testing.T) {
	t.Parallel()
	srv := newCluster(t, nil)
	if out, err := serverTool(t, srv, "pg_checksums", "--enable", "-D", srv.DataDir()); err != nil && !strings.Contains(out, "already enabled") {
		t.Fatalf("pg_checksums: %v\n%s", err, out)
	}
	startServer(t, srv)
	repo := makeRepo(t, walarchive.RepoOptions{Encryption: encryption(t)})
	dsn := srv.DSN("postgres")
	sql(t, dsn, "create table plain as select i, md5(i::text) from generate_series(1, 5000) i")
	space := filepath.Join(srv.Dir, "space")
	makeOwned(t, space, srv.DataDir())
	sql(t, dsn, "create tablespace extra location '"+space+"'", "create table there tablespace extra as select * from plain", "checkpoint")
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	good := takeBackup(t, repo, dsn, walarchive.BackupFull)
	if len(good.BadPages) != 0 || !good.Checksums || len(good.Spaces) != 1 || good.Spaces[0].Name != "extra" {
		t.Fatalf("backup %+v", good)
	}
	rel := scalar(t, dsn, "select pg_catalog.pg_relation_filepath('plain')")
	damage(t, filepath.Join(srv.DataDir(), rel), 3*8192+4000)
	bad := takeBackup(t, repo, dsn, walarchive.BackupIncr)
	if len(bad.BadPages) != 1 || bad.BadPages[0].Path != rel || bad.BadPages[0].Block != 3 {
		t.Errorf("bad pages %+v, want block 3 of %s", bad.BadPages, rel)
	}
	rc.until(position(t, dsn))
	c := newClone(t, repo)
	for _, word := range []string{walarchive.DestEmpty, walarchive.DestDelta, walarchive.DestAside, walarchive.DestReplace} {
		if _, err := c.tryRestore(repo, walarchive.RestoreOptions{Existing: word}); !errors.Is(err, walarchive.ErrDest) {
			t.Errorf("%q restored into the tablespace of the original: %v", word, err)
		}
	}
	o := walarchive.RestoreOptions{Spaces: map[string]string{"extra": filepath.Join(c.Dir, "elsewhere")}, Command: "false"}
	p := c.restore(repo, o)
	if p.Backup.ID != good.ID {
		t.Errorf("restored backup %s, want %s: the other one has a bad page", p.Backup.ID, good.ID)
	}
	check := func(what string) {
		t.Helper()
		args := []string{"--no-parse-wal", "--manifest-path=" + manifestOf(t, repo, good), c.DataDir()}
		if out, err := serverTool(t, c.Cluster, "pg_verifybackup", args...); err != nil {
			t.Errorf("%s: pg_verifybackup: %v\n%s", what, err, out)
		}
	}
	check("restored")
	damage(t, filepath.Join(c.DataDir(), rel), 100)
	if err := os.Truncate(filepath.Join(c.DataDir(), "PG_VERSION"), 1); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir(), "base", "too much"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.tryRestore(repo, o); !errors.Is(err, walarchive.ErrDest) {
		t.Errorf("a directory that is not empty, without a word: %v", err)
	}
	o.Existing = walarchive.DestDelta
	c.restore(repo, o)
	check("with delta")
	o.Existing = walarchive.DestAside
	o.Spaces = map[string]string{"extra": filepath.Join(c.Dir, "third")}
	if p = c.restore(repo, o); p.Aside != c.DataDir()+".1" {
		t.Errorf("the old directory went to %q", p.Aside)
	}
	check("aside")
}

// makeOwned makes a directory that belongs to the owner of another one.
func makeOwned(t *testing.T, dir, like string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	uid, gid := ownerOf(t, like)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// damage changes one byte of a file.
func damage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
