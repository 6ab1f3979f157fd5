package walarchive_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
)

// TestStandby_ArchiveAndStreamInTurns cuts the stream of a standby again and again: it goes on from the archive, and
// comes back to the stream. Then it is promoted, and the receiver follows it to the new timeline.
func TestStandby_ArchiveAndStreamInTurns(t *testing.T) {
	t.Parallel()
	srv, repo := newServer(t, nil), makeRepo(t, walarchive.RepoOptions{})
	dsn := srv.DSN("postgres")
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	sql(t, dsn, "create table t (i int primary key)")
	takeBackup(t, repo, dsn, walarchive.BackupFull)
	proxy := pgtest.NewProxy(t, fmt.Sprintf("127.0.0.1:%d", srv.Port))
	c := newClone(t, repo)
	c.restore(repo, walarchive.RestoreOptions{Standby: true, Conninfo: proxy.DSN(dsn)})
	c.set(t, "wal_retrieve_retry_interval = '100ms'")
	standby := c.start(false)
	rows := 0
	grows := func(what string) {
		t.Helper()
		rows++
		sql(t, dsn, fmt.Sprintf("insert into t values (%d)", rows), "select pg_catalog.pg_switch_wal()")
		rc.until(position(t, dsn) / (16 << 20) * (16 << 20))
		c.lend()
		pgtest.Eventually(t, patience, fmt.Sprintf("row %d on the standby, %s", rows, what), func() bool {
			return scalar(t, standby, "select count(*)::text from t") == fmt.Sprint(rows)
		})
	}
	state := func() walarchive.StandbyStatus {
		st, err := walarchive.ReadStandby(t.Context(), connect(t, standby))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	turns := 2
	if *walLong {
		turns = 100
	}
	for range turns {
		pgtest.Eventually(t, patience, "streaming", func() bool { return state().Streaming })
		grows("by the stream")
		proxy.Refuse()
		proxy.Reset()
		grows("by the archive")
		proxy.Heal()
	}
	if changed, err := walarchive.PauseReplay(t.Context(), connect(t, standby), true); err != nil || !changed {
		t.Errorf("pause: %t, %v", changed, err)
	}
	pgtest.Eventually(t, patience, "paused", func() bool { return state().Pause == "paused" })
	proxy.Refuse()
	proxy.Reset()
	sql(t, dsn, "insert into t values (0)")
	rc.until(position(t, dsn))
	if p, err := repo.Promote(t.Context(), connect(t, standby), walarchive.PromoteOptions{Wait: patience}); !errors.Is(err, walarchive.ErrRefused) {
		t.Fatalf("promoted although the archive holds more: %+v, %v", p, err)
	}
	proxy.Heal()
	if changed, err := walarchive.PauseReplay(t.Context(), connect(t, standby), false); err != nil || !changed {
		t.Errorf("resume: %t, %v", changed, err)
	}
	pgtest.Eventually(t, patience, "all replayed", func() bool { return state().Replayed >= position(t, dsn) })
	rc.end()
	follow := receive(t, repo, walarchive.ReceiverOptions{DSN: standby})
	follow.streaming()
	srvEnd := position(t, dsn)
	if err := srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := repo.Promote(t.Context(), connect(t, standby), walarchive.PromoteOptions{Wait: patience, AllowLoss: true})
	if err != nil || !p.Changed || p.Timeline != 2 {
		t.Fatalf("promote: %+v, %v (the primary ended at %s)", p, err, srvEnd)
	}
	sql(t, standby, "insert into t values (-1)")
	pgtest.Eventually(t, patience, "timeline 2 received", func() bool { return follow.Status().Timeline == 2 })
	follow.until(position(t, standby))
	windows, err := repo.Windows(t.Context())
	if err != nil || len(windows) != 1 || windows[0].Timeline != 2 {
		t.Errorf("windows %+v, %v: want one, on timeline 2", windows, err)
	}
	again := newClone(t, repo)
	again.restore(repo, walarchive.RestoreOptions{})
	if got := scalar(t, again.start(true), "select count(*)::text from t"); got != fmt.Sprint(rows+2) {
		t.Errorf("restored along timeline 2: %s rows, want %d", got, rows+2)
	}
}
