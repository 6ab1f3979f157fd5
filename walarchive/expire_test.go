package walarchive_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// walLong makes the tests of this package go through everything they know, which takes minutes.
var walLong = flag.Bool("wal.long", false, "run the long variants of the tests")

// verified ends the test unless everything that the records promise is there.
func verified(t *testing.T, repo *walarchive.Repo, what string) *walarchive.VerifyReport {
	t.Helper()
	rep, err := repo.Verify(t.Context(), walarchive.VerifyOptions{Deep: *walLong})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rep.Faults {
		t.Errorf("%s: %+v", what, f)
	}
	return rep
}

// TestExpire_EveryCrash fails at every call of the storage that changes something, one after the other, and goes on.
func TestExpire_EveryCrash(t *testing.T) {
	t.Parallel()
	srv, repo := newServer(t, nil), makeRepo(t, walarchive.RepoOptions{})
	dsn := srv.DSN("postgres")
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	old := takeBackup(t, repo, dsn, walarchive.BackupFull)
	sql(t, dsn, "create table t as select generate_series(1, 1000) i", "select pg_catalog.pg_switch_wal()")
	middle := takeBackup(t, repo, dsn, walarchive.BackupIncr)
	sql(t, dsn, "update t set i = i + 1", "select pg_catalog.pg_switch_wal()")
	last := takeBackup(t, repo, dsn, walarchive.BackupIncr)
	rc.until(last.StopLSN)
	rc.end()
	verified(t, repo, "before")
	if _, err := repo.HoldBackup(t.Context(), old.ID, "for the test"); err != nil {
		t.Fatal(err)
	}
	rule := walarchive.Retention{Keep: 1}
	p, err := repo.PlanExpire(t.Context(), walarchive.ExpireOptions{Rule: rule})
	if err != nil || len(p.Backups) != 1 || p.Backups[0] != middle.ID {
		t.Fatalf("plan %+v, %v: want only %s to go, the first is held", p, err, middle.ID)
	}
	if _, err := repo.ReleaseBackup(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	source := repo.Capabilities().LocalDir
	for n := 1; ; n++ {
		if !*walLong && n%6 != 1 {
			continue
		}
		dir := linkTree(t, source)
		sound := dirStorage(t, dir)
		faulty := storagetest.NewFaulty(sound, storagetest.Down, n)
		broken := newRepo(t, sound, walarchive.RepoOptions{})
		broken.Storage = faulty
		_, err := broken.Expire(t.Context(), walarchive.ExpireOptions{Rule: rule, Owner: "test"})
		calls := faulty.Calls()
		whole := newRepo(t, sound, walarchive.RepoOptions{})
		verified(t, whole, "after a fault")
		later := func() time.Time { return time.Now().Add(time.Hour) } // the lease of the dead one has run out
		if _, err := whole.Expire(t.Context(), walarchive.ExpireOptions{Rule: rule, Owner: "test", Now: later}); err != nil {
			t.Fatalf("after fault %d: %v", n, err)
		}
		verified(t, whole, "after going on")
		left, lerr := whole.Backups(t.Context())
		if lerr != nil || len(left) != 1 || left[0].ID != last.ID {
			t.Fatalf("after fault %d: %v, %v left", n, left, lerr)
		}
		if err == nil && calls < n {
			t.Logf("%d calls that change something", calls)
			break
		}
	}
}

// linkTree copies a repository by hard links: no object is ever written to in place.
func linkTree(t *testing.T, source string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dest := filepath.Join(to, strings.TrimPrefix(path, source))
		if d.IsDir() {
			return os.MkdirAll(dest, 0o700)
		}
		return os.Link(path, dest)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}
