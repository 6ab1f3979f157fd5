package walarchive_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
)

// fill writes so many megabytes of WAL, segment by segment.
func fill(t *testing.T, dsn string, segments int) {
	t.Helper()
	for range segments {
		sql(t, dsn, "select pg_logical_emit_message(false, 'fill', repeat('x', 1000))", "select pg_switch_wal()")
	}
}

// TestFault_SlotLost: the server gave the slot of a receiver up and removed its WAL. The receiver goes on, the gap is on
// record, a backup is due because of it, and closes it.
func TestFault_SlotLost(t *testing.T) {
	t.Parallel()
	srv := newServer(t, map[string]string{"max_slot_wal_keep_size": "32MB", "min_wal_size": "32MB", "max_wal_size": "32MB"})
	repo, dsn := makeRepo(t, walarchive.RepoOptions{}), srv.DSN("postgres")
	sql(t, dsn, "create table t (i int)", "insert into t values (1)")
	state := t.TempDir()
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd", StateDir: state})
	rc.streaming()
	takeBackup(t, repo, dsn, walarchive.BackupFull)
	rc.until(position(t, dsn))
	rc.end()
	fill(t, dsn, 8)
	pgtest.Eventually(t, patience, "the slot is lost", func() bool {
		sql(t, dsn, "checkpoint", "select pg_switch_wal()")
		return scalar(t, dsn, "select coalesce(wal_status, '') from pg_replication_slots") == "lost"
	})
	sql(t, dsn, "insert into t values (2)")
	rc = receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd", StateDir: state})
	rc.until(position(t, dsn))
	if got := scalar(t, dsn, "select wal_status from pg_replication_slots"); got == "lost" {
		t.Error("the receiver works without a slot that keeps WAL")
	}
	gaps, err := repo.Gaps(t.Context())
	if err != nil || len(gaps) == 0 || gaps[0].ClosedBy != "" {
		t.Fatalf("gaps: %v, %v", gaps, err)
	}
	keep := walarchive.KeepOptions{Every: time.Hour, Owner: "test", Backup: walarchive.BackupOptions{DSN: dsn}}
	k, err := repo.KeepBackups(t.Context(), keep)
	if err != nil || k.Made == nil {
		t.Fatalf("no backup behind the gap: %v", err)
	}
	if open, err := repo.OpenGaps(t.Context(), k.Made.System); err != nil || len(open) > 0 {
		t.Errorf("open: %v, %v", open, err)
	}
	if k, err = repo.KeepBackups(t.Context(), keep); err != nil || k.Made != nil {
		t.Errorf("another backup: %+v, %v", k.Made, err)
	}
	rc.until(position(t, dsn))
	c := newClone(t, repo)
	c.restore(repo, walarchive.RestoreOptions{})
	if got := scalar(t, c.start(true), "select count(*)::text from t"); got != "2" {
		t.Errorf("%s rows behind the gap", got)
	}
}

// TestFault_ServerDiesDuringBackup: nothing is listed, and the next backup is not in anybody's way. While one is made, a
// second one is refused and told by whom. Two of the same second have different names, whatever the clock says.
func TestFault_ServerDiesDuringBackup(t *testing.T) {
	t.Parallel()
	srv, repo := newServer(t, nil), makeRepo(t, walarchive.RepoOptions{})
	dsn := srv.DSN("postgres")
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	under, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		told := false
		_, err := repo.TakeBackup(t.Context(), walarchive.BackupOptions{DSN: dsn, Owner: "the first", RateKB: 1000, Progress: func(int64, int64) {
			if !told {
				told = true
				close(under)
			}
		}})
		failed <- err
	}()
	select {
	case <-under:
	case err := <-failed:
		t.Fatal(err)
	}
	_, err := repo.TakeBackup(t.Context(), walarchive.BackupOptions{DSN: dsn, Owner: "the second"})
	if !errors.Is(err, walarchive.ErrLeased) || !strings.Contains(fmt.Sprint(err), "the first") {
		t.Errorf("a second backup: %v", err)
	}
	if _, err := repo.Expire(t.Context(), walarchive.ExpireOptions{Rule: walarchive.Retention{Keep: 1}}); !errors.Is(err, walarchive.ErrLeased) {
		t.Errorf("expire during a backup: %v", err)
	}
	if err := srv.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the backup of a dead server: %v", err)
	}
	if all, err := repo.Backups(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("%d backups are listed, %v", len(all), err)
	}
	startServer(t, srv)
	sql(t, dsn, "create table t (i int)")
	rc.until(position(t, dsn))
	now := time.Now()
	var ids []string
	for _, at := range []time.Time{now, now, now.Add(-time.Hour)} { // the clock stands, then jumps back
		b, err := repo.TakeBackup(t.Context(), walarchive.BackupOptions{DSN: dsn, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.ID)
	}
	if ids[0] == ids[1] {
		t.Errorf("two backups named %s", ids[0])
	}
	all, err := repo.Backups(t.Context())
	if err != nil || len(all) != 3 || all[2].ID != ids[2] {
		t.Errorf("order %v, want %v: by position, not by clock (%v)", all, ids, err)
	}
}
