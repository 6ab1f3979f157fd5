package walarchive_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
)

// takeBackup makes a backup or ends the test.
func takeBackup(t *testing.T, repo *walarchive.Repo, dsn, kind string) *walarchive.Backup {
	t.Helper()
	b, err := repo.TakeBackup(t.Context(), walarchive.BackupOptions{DSN: dsn, Kind: kind, WALTimeout: patience, Note: func(s string) { t.Log("backup:", s) }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRestore_PointInTimeBetweenTwoRows(t *testing.T) {
	t.Parallel()
	srv, repo := newServer(t, nil), makeRepo(t, walarchive.RepoOptions{})
	dsn := srv.DSN("postgres")
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	sql(t, dsn, "create table t (i int primary key)")
	b := takeBackup(t, repo, dsn, walarchive.BackupFull)
	sql(t, dsn, "insert into t values (1)")
	at := position(t, dsn)
	sql(t, dsn, "select pg_catalog.pg_create_restore_point('one')")
	now := scalar(t, dsn, "select clock_timestamp()::text")
	moment, err := time.Parse("2006-01-02 15:04:05.999999-07", now)
	if err != nil {
		t.Fatal(err)
	}
	xid := scalar(t, dsn, "with x as (insert into t values (2) returning 1) select pg_catalog.txid_current()::text from x")
	sql(t, dsn, "insert into t values (3)")
	rc.until(position(t, dsn))
	for _, tt := range []struct {
		name   string
		target walarchive.Target
		want   string
		short  bool // also in the short variant
	}{
		{"latest", walarchive.Target{}, "1,2,3", false},
		{"time", walarchive.Target{Time: moment}, "1", true},
		{"lsn", walarchive.Target{LSN: at, Exclusive: true}, "1", false},
		{"name", walarchive.Target{Name: "one"}, "1", false},
		{"xid", walarchive.Target{XID: xid}, "1,2", false},
		{"before xid", walarchive.Target{XID: xid, Exclusive: true}, "1", true},
		{"immediate", walarchive.Target{Immediate: true}, "", false},
	} {
		if !tt.short && !*walLong {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			c := newClone(t, repo)
			c.restore(repo, walarchive.RestoreOptions{Target: tt.target})
			if out, err := serverTool(t, c.Cluster, "pg_verifybackup", "--no-parse-wal", "--manifest-path="+manifestOf(t, repo, b), c.DataDir()); err != nil {
				t.Errorf("pg_verifybackup: %v\n%s", err, out)
			}
			got := scalar(t, c.start(true), "select coalesce(string_agg(i::text, ',' order by i), '') from t")
			if got != tt.want {
				t.Errorf("rows %q, want %q", got, tt.want)
			}
		})
	}
}

// manifestOf copies PostgreSQL's manifest of a backup to where the server's tools can read it.
func manifestOf(t *testing.T, repo *walarchive.Repo, b *walarchive.Backup) string {
	t.Helper()
	text, err := repo.Manifest(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "manifest")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}
