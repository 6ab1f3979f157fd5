package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// Disaster is the last act: the primary is destroyed in the middle of commits, and comes back from the WAL archive.
type Disaster struct {
	BackupBytes  int64 `json:"backup_bytes"`
	BackupStored int64 `json:"backup_stored_bytes"`
	// Acknowledged counts rows whose commit was confirmed, Missing those of them that the restored server has not, Rows
	// those that it has: a commit may be there whose confirmation never came.
	Acknowledged int64 `json:"acknowledged"`
	Missing      int64 `json:"missing"`
	Rows         int64 `json:"rows"`
	// Segments is how many files of the archive recovery needs at most.
	Segments int64 `json:"wal_segments"`
	// Same tells whether the proof of the acts before, counted anew on the restored server, says the same.
	Same bool `json:"proof_unchanged"`
	// Lost is how long there was no data directory, Back until the server answered again, both from the kill on.
	Lost time.Duration `json:"-"`
	Back time.Duration `json:"-"`
}

// Faults says what contradicts "every acknowledged row is back". None: proved.
func (d Disaster) Faults() (faults []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	check(d.Acknowledged > 0, "no row was acknowledged before the primary was destroyed, so nothing was proved")
	check(d.Missing == 0, "%d of %d acknowledged rows did not come back from the archive", d.Missing, d.Acknowledged)
	check(d.Rows >= d.Acknowledged, "%d rows came back, %d were acknowledged", d.Rows, d.Acknowledged)
	check(d.Same, "the proof of the restored server differs from the one before")
	return faults
}

const (
	demoSource   = "demo"
	demoReceiver = "skyd_demo"
	// disasterWriters commit beside each other, at least disasterRows in all, before the primary is destroyed.
	disasterWriters = 4
	disasterRows    = 200
)

// archive is the WAL archive of the demo, beside the data directory of the server, as if on another host.
type archive struct {
	s       *show
	url     string
	state   string
	storage walarchive.Storage
	repo    *walarchive.Repo
	rc      *walarchive.Receiver
}

// disaster runs the last act; before is the proof so far.
func (s *show) disaster(ctx context.Context, before Proof) (d Disaster, err error) {
	ctx, cancel := stuckAfter(ctx, "the server is not back from the archive")
	defer cancel()
	a := &archive{s: s, url: "file://" + filepath.Join(s.srv.Dir, "archive"), state: filepath.Join(s.srv.Dir, "receiver")}
	if err := a.open(ctx); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, a.storage.Close()) }()
	receiving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.rc.Run(receiving) }()
	running := true
	defer func() {
		stop()
		if running {
			<-ended
		}
	}()
	if err := a.prepare(ctx, &d, ended); err != nil {
		return d, err
	}
	acknowledged, begin, err := s.destroy(ctx)
	if err != nil {
		return d, err
	}
	d.Acknowledged, d.Lost = int64(len(acknowledged)), time.Since(begin)
	<-ended // the connection is cut: what was received is in the archive now
	running = false
	if err := a.comeBack(ctx, &d); err != nil {
		return d, err
	}
	d.Back = time.Since(begin)
	return d, s.countBack(ctx, &d, acknowledged, before)
}

// open makes the repository and the receiver.
func (a *archive) open(ctx context.Context) (err error) {
	if a.storage, err = runtime.OpenStorage(ctx, a.url); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.s.srv.Dir, "archive"), 0o700); err != nil {
		return err
	}
	if err := a.s.srv.Own(filepath.Join(a.s.srv.Dir, "archive")); err != nil { // the restored server reads it
		return err
	}
	if _, err := walarchive.InitRepo(ctx, a.storage, walarchive.RepoOptions{}); err != nil {
		return errors.Join(err, a.storage.Close())
	}
	if a.repo, err = walarchive.OpenRepo(ctx, a.storage, demoSource, walarchive.RepoOptions{}); err != nil {
		return errors.Join(err, a.storage.Close())
	}
	a.rc = walarchive.NewReceiver(a.repo, walarchive.ReceiverOptions{
		DSN: a.s.srv.dsn(), Slot: demoReceiver, Application: demoReceiver,
		StateDir: a.state, Owner: "skyd demo",
	})
	return nil
}

// prepare takes a backup, and then has every commit wait for the receiver.
func (a *archive) prepare(ctx context.Context, d *Disaster, ended <-chan error) error {
	s := a.s
	for !a.rc.Status().Connected {
		select {
		case err := <-ended:
			return fmt.Errorf("receive WAL: %w", errors.Join(err, errStuck))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	b, err := a.repo.TakeBackup(ctx, walarchive.BackupOptions{DSN: s.srv.dsn(), Owner: "skyd demo"})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	d.BackupBytes, d.BackupStored = b.Bytes, b.Stored
	s.o.Say(fmt.Sprintf("base backup in the WAL archive: %.0f MB in %.1f MB; a receiver streams the WAL behind it", float64(b.Bytes)/1e6, float64(b.Stored)/1e6))
	conn, err := pgx.Connect(ctx, s.srv.dsn())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "create table bank.ledger (id text primary key)"); err != nil {
		return err
	}
	_, err = walarchive.SetSync(ctx, conn, demoReceiver, walarchive.SyncOptions{Wait: recoveryTimeout})
	return err
}

// destroy lets clients commit, kills the server in the middle of that, and removes its data directory. begin is the moment
// of the kill.
func (s *show) destroy(ctx context.Context) (acknowledged []string, begin time.Time, err error) {
	var (
		mu   sync.Mutex
		wait sync.WaitGroup
	)
	defer wait.Wait()
	writing, stop := context.WithCancel(ctx)
	defer stop()
	for c := range disasterWriters {
		conn, err := pgx.Connect(ctx, s.srv.dsn())
		if err != nil {
			return nil, begin, err
		}
		wait.Go(func() {
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			for n := 0; ; n++ {
				id := fmt.Sprintf("%d-%d", c, n)
				if _, err := conn.Exec(writing, "insert into bank.ledger values ($1)", id); err != nil {
					return // not acknowledged
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				mu.Unlock()
			}
		})
	}
	err = until(ctx, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged) >= disasterRows
	})
	if err != nil {
		return nil, begin, err
	}
	begin = time.Now()
	s.o.Say("kill -9: all processes of PostgreSQL, in the middle of commits; and its data directory is deleted")
	if err := errors.Join(s.srv.Kill(), os.RemoveAll(s.srv.DataDir())); err != nil {
		return nil, begin, err
	}
	wait.Wait()
	return acknowledged, begin, nil
}

// comeBack restores the data directory from the archive and starts the server.
func (a *archive) comeBack(ctx context.Context, d *Disaster) error {
	s := a.s
	if err := a.repo.SalvageWAL(ctx, a.state); err != nil {
		return err
	}
	command, err := a.fetchCommand()
	if err != nil {
		return err
	}
	plan, err := a.repo.PlanRestore(ctx, walarchive.RestoreOptions{Dest: s.srv.DataDir(), Command: command})
	if err != nil {
		return err
	}
	d.Segments = plan.Segments
	if err := a.repo.Restore(ctx, plan); err != nil {
		return err
	}
	// Nobody is there to wait for any more.
	auto := filepath.Join(s.srv.DataDir(), "postgresql.auto.conf")
	f, err := os.OpenFile(auto, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, "synchronous_standby_names = ''\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.srv.Start(ctx); err != nil {
		return err
	}
	return until(ctx, func() bool {
		var recovering bool
		err := s.db.QueryRow(ctx, "select pg_catalog.pg_is_in_recovery()").Scan(&recovering)
		return err == nil && !recovering
	})
}

// fetchCommand is the restore_command: this program, where the server's user can run it.
func (a *archive) fetchCommand() (string, error) {
	s := a.s
	text, err := os.ReadFile(s.o.Fetch[0])
	if err != nil {
		return "", err
	}
	program := filepath.Join(s.srv.Dir, "fetch")
	if err := os.WriteFile(program, text, 0o700); err != nil {
		return "", err
	}
	if err := s.srv.Own(program); err != nil {
		return "", err
	}
	words := append([]string{program}, s.o.Fetch[1:]...)
	words = append(words, "--source="+demoSource, "--storage="+a.url)
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ") + " %f %p", nil
}

// countBack compares what came back with what was acknowledged, and with the proof of the acts before.
func (s *show) countBack(ctx context.Context, d *Disaster, acknowledged []string, before Proof) error {
	const missing = `
select (select count(*) from unnest($1::text[]) a (id) left join bank.ledger l using (id) where l.id is null), (select count(*) from bank.ledger)`
	if err := s.db.QueryRow(ctx, missing, acknowledged).Scan(&d.Missing, &d.Rows); err != nil {
		return err
	}
	again, err := s.o.audit(ctx, s.db, s.work.acknowledged())
	if err != nil {
		return fmt.Errorf("compare the restored tables and events: %w", err)
	}
	s.work.count(&again)
	d.Same = again == before
	s.o.Say(fmt.Sprintf("back from the archive %s after the kill: %d commits were confirmed, %d of them are missing", Short(d.Back), d.Acknowledged, d.Missing))
	return nil
}
