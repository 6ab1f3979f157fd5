package walarchive_test

import (
	"testing"

	"github.com/skytools/skyd/walarchive"
)

func TestTakeBackup_FullThenIncremental(t *testing.T) {
	t.Parallel()
	srv, repo := newServer(t, nil), makeRepo(t, walarchive.RepoOptions{})
	dsn := srv.DSN("postgres")
	sql(t, dsn, "create table t as select i, repeat(md5(i::text), 4) as pad from generate_series(1, 20000) i")
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	full, err := repo.TakeBackup(t.Context(), walarchive.BackupOptions{DSN: dsn, Note: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	sql(t, dsn, "update t set pad = 'x' where i = 7")
	incr, err := repo.TakeBackup(t.Context(), walarchive.BackupOptions{DSN: dsn, Kind: walarchive.BackupIncr})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("full: %d files, %d bytes, stored %d; incr stored %d", full.Files, full.Bytes, full.Stored, incr.Stored)
	if incr.Stored*5 > full.Stored {
		t.Errorf("the incremental backup stored %d bytes, the full one %d", incr.Stored, full.Stored)
	}
	all, err := repo.Backups(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != full.ID || all[1].ID != incr.ID || all[1].Base != full.ID {
		t.Fatalf("backups: %v, %v", all, err)
	}
}
