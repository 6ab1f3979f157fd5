package walarchive_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/file"
)

// victimWord makes the test binary a process that is killed.
const victimWord = "be-killed"

// victimMain does the work that is going to be killed: receive, backup, or restore. where is a DSN or a directory.
func victimMain(repo, work, where string) int {
	ctx := context.Background()
	st, err := file.Open(ctx, fileURL(repo))
	if err != nil {
		return 1
	}
	r, err := walarchive.OpenRepo(ctx, st, "main", walarchive.RepoOptions{})
	if err != nil {
		return 1
	}
	switch work {
	case "receive":
		err = walarchive.NewReceiver(r, walarchive.ReceiverOptions{
			DSN: where, Slot: "skyd", StateDir: repo + ".state",
			PartialInterval: 20 * time.Millisecond,
		}).Run(ctx)
	case "backup":
		_, err = r.TakeBackup(ctx, walarchive.BackupOptions{DSN: where})
	case "restore":
		var p *walarchive.RestorePlan
		p, err = r.PlanRestore(ctx, walarchive.RestoreOptions{Dest: where, Command: "false", Existing: walarchive.DestDelta})
		if err == nil {
			err = r.Restore(ctx, p)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, work, err)
		return 1
	}
	return 0
}

// killed runs a victim and kills it after a while; false: it was done before.
func killed(t *testing.T, repo *walarchive.Repo, work, where string, after time.Duration) bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, victimWord, repo.Capabilities().LocalDir, work, where)
	out, err := cmd.CombinedOutput()
	if ctx.Err() == nil && err != nil {
		t.Fatalf("%s: %v\n%s", work, err, out)
	}
	return err != nil
}

// ledger are the rows that the server acknowledged.
type ledger struct {
	mu   sync.Mutex
	rows map[string]bool
	idle sync.WaitGroup
}

// write lets clients insert rows until the server is gone.
func (l *ledger) write(t *testing.T, dsn string, clients int) {
	t.Helper()
	l.rows = map[string]bool{}
	for c := range clients {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		l.idle.Go(func() {
			defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
			for n := 0; ; n++ {
				row := fmt.Sprintf("%d-%d", c, n)
				if _, err := conn.Exec(t.Context(), "insert into ledger values ($1, repeat('x', 2000))", row); err != nil {
					return
				}
				l.mu.Lock()
				l.rows[row] = true
				l.mu.Unlock()
			}
		})
	}
}

// count is how many rows were acknowledged so far.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.rows)
}

// missing lists the acknowledged rows that a server does not have.
func (l *ledger) missing(t *testing.T, dsn string) (lost []string) {
	t.Helper()
	have := map[string]bool{}
	conn := connect(t, dsn)
	rows, err := conn.Query(t.Context(), "select id from ledger")
	if err != nil {
		t.Fatal(err)
	}
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { have[id] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	for row := range l.rows {
		if !have[row] {
			lost = append(lost, row)
		}
	}
	return lost
}

// TestDisaster_SynchronousReceiverLosesNothing kills the primary in the middle of writes, deletes its directory, and
// restores: every acknowledged row is there.
func TestDisaster_SynchronousReceiverLosesNothing(t *testing.T) {
	t.Parallel()
	seeds := 1
	if *walLong {
		seeds = 10
	}
	for seed := range seeds {
		srv, repo := newServer(t, nil), makeRepo(t, walarchive.RepoOptions{})
		dsn := srv.DSN("postgres")
		sql(t, dsn, "create table ledger (id text primary key, pad text)")
		rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd", Application: "skyd_wal"})
		rc.streaming()
		if _, err := walarchive.SetSync(t.Context(), connect(t, dsn), "nobody", walarchive.SyncOptions{}); err == nil {
			t.Fatal("a standby that is not there was accepted as synchronous")
		}
		takeBackup(t, repo, dsn, walarchive.BackupFull)
		conn := connect(t, dsn)
		pgtest.Eventually(t, patience, "synchronous", func() bool {
			_, err := walarchive.SetSync(t.Context(), conn, "skyd_wal", walarchive.SyncOptions{Wait: patience})
			return err == nil
		})
		var l ledger
		l.write(t, dsn, 4)
		want := 200 + rand.IntN(3000)
		pgtest.Eventually(t, patience, "rows written", func() bool { return l.count() >= want })
		if err := srv.Kill(); err != nil {
			t.Fatal(err)
		}
		l.idle.Wait()
		if err := os.RemoveAll(srv.DataDir()); err != nil {
			t.Fatal(err)
		}
		rc.end()
		c := newClone(t, repo)
		c.restore(repo, walarchive.RestoreOptions{})
		clone := c.start(true)
		lost := l.missing(t, clone)
		t.Logf("seed %d: %d rows acknowledged, %d lost", seed, len(l.rows), len(lost))
		if len(lost) > 0 {
			t.Fatalf("%d of %d acknowledged rows are lost, among them %s", len(lost), len(l.rows), lost[0])
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKill_BackupReceiveRestore kills each of them with SIGKILL at random moments: a killed backup is not listed, a killed
// receiver goes on from its files without a hole, and what a killed restore left has no pg_control until another one,
// with delta, is done.
func TestKill_BackupReceiveRestore(t *testing.T) {
	t.Parallel()
	srv, repo := newServer(t, map[string]string{"wal_sender_timeout": "2s"}), makeRepo(t, walarchive.RepoOptions{})
	dsn := srv.DSN("postgres")
	kills := 2
	if *walLong {
		kills = 25
	}
	sql(t, dsn, "create table t (i int primary key, pad text)")
	for n := range kills {
		sql(t, dsn, fmt.Sprintf("insert into t select i, repeat('x', 500) from generate_series(%d, %d) i", n*20000, n*20000+19999))
		killed(t, repo, "receive", dsn, 100*time.Millisecond+rand.N(700*time.Millisecond))
	}
	rc := receive(t, repo, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd", StateDir: repo.Capabilities().LocalDir + ".state"})
	rc.until(position(t, dsn))
	for range kills {
		if killed(t, repo, "backup", dsn, 50*time.Millisecond+rand.N(900*time.Millisecond)) {
			if all, err := repo.Backups(t.Context()); err != nil || len(all) > 0 {
				t.Fatalf("after a killed backup %d are listed (%v)", len(all), err)
			}
		} else {
			break
		}
	}
	b := takeBackup(t, repo, dsn, walarchive.BackupFull)
	rc.until(position(t, dsn))
	rep := verified(t, repo, "after kills")
	if rep.Segments < 1 || len(rep.Windows) != 1 {
		t.Errorf("verified %+v", rep)
	}
	c := newClone(t, repo)
	for n := 0; n < kills; n++ {
		if !killed(t, repo, "restore", c.DataDir(), 30*time.Millisecond+rand.N(500*time.Millisecond)) {
			break
		}
		if _, err := os.Stat(filepath.Join(c.DataDir(), "global", "pg_control")); err == nil {
			t.Fatal("a killed restore left a pg_control")
		}
	}
	if _, err := c.tryRestore(repo, walarchive.RestoreOptions{}); err == nil {
		t.Error("a directory that is not empty was accepted without a word")
	}
	c.restore(repo, walarchive.RestoreOptions{Existing: walarchive.DestDelta})
	if out, err := serverTool(t, c.Cluster, "pg_verifybackup", "--no-parse-wal", "--manifest-path="+manifestOf(t, repo, b), c.DataDir()); err != nil {
		t.Errorf("pg_verifybackup: %v\n%s", err, out)
	}
	clone := c.start(true)
	want := scalar(t, dsn, "select count(*)::text from t")
	if got := scalar(t, clone, "select count(*)::text from t"); got != want {
		t.Errorf("the restored server has %s rows, the original %s", got, want)
	}
	sql(t, clone, "create extension amcheck")
	if out, err := serverTool(t, c.Cluster, "pg_amcheck", "--heapallindexed", "-d", "postgres", "-h", "127.0.0.1", "-p", fmt.Sprint(c.Port), "-U", "postgres"); err != nil {
		t.Errorf("pg_amcheck: %v\n%s", err, out)
	}
}
