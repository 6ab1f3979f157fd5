package runtime

import (
	"context"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/walarchive"
)

// keepArchive adds to the parameters of an archive what it does with its server: receive, back up, expire.
func (d *Daemon) keepArchive(p *actors.ArchiveParams, w walarchive.Config, db configs.Database) {
	me := fmt.Sprintf("skyd, process %d", os.Getpid())
	note := func(text string) { d.log.Info("archive is kept", "did", text, "source", w.Source) }
	server := connectionKey(db, d.config.Instance, "")
	if w.Receive.Enabled {
		p.ReceiveKey = fmt.Sprintf("%s %s %+v", server, w.StateDir, w.Receive)
		p.Receive = func(ctx context.Context, h actors.ArchiveHandle, tell func(walarchive.ReceiverStatus)) error {
			dsn, err := ReplicationDSN(db)
			if err != nil {
				return err
			}
			repo, err := repoOf(h)
			if err != nil {
				return err
			}
			return walarchive.NewReceiver(repo, walarchive.ReceiverOptions{
				DSN: dsn, Slot: w.Receive.Slot, Application: w.Receive.ApplicationName, StateDir: w.StateDir, Feedback: w.Receive.Feedback,
				PartialInterval: w.Receive.PartialInterval, Owner: me + ", receiver", Changed: tell, Note: note,
			}).Run(ctx)
		}
	}
	if w.Backup.Every == 0 {
		return
	}
	p.BackupKey = fmt.Sprintf("%s %+v %+v", server, w.Backup, w.Expire)
	p.KeepBackups = func(ctx context.Context, h actors.ArchiveHandle) (actors.BackupKept, error) {
		dsn, err := ReplicationDSN(db)
		if err != nil {
			return actors.BackupKept{}, err
		}
		repo, err := repoOf(h)
		if err != nil {
			return actors.BackupKept{}, err
		}
		k, err := repo.KeepBackups(ctx, walarchive.KeepOptions{
			Every: w.Backup.Every, FullEvery: w.Backup.FullEvery, Rule: w.Expire.Rule(), Owner: me + ", backup",
			Backup: walarchive.BackupOptions{DSN: dsn, From: w.Backup.From, Jobs: w.Backup.Jobs, RateKB: w.Backup.Rate, Note: note},
		})
		kept := actors.BackupKept{Removed: k.Removed}
		if k.Made != nil {
			kept.Made = k.Made.ID
		}
		if k.Last != nil {
			kept.Last, kept.Bytes, kept.Window = k.Last.StopTime, k.Last.Bytes, k.First.StopTime
		}
		return kept, err
	}
}

// repoOf is the repository behind a handle.
func repoOf(h actors.ArchiveHandle) (*walarchive.Repo, error) {
	own, ok := h.(archiveHandle)
	if !ok {
		return nil, fmt.Errorf("%T has no repository", h)
	}
	return own.Repo(), nil
}

// collectReceivers sends the metrics of receivers.
func collectReceivers(s Status, emit emitter) {
	lag := desc("skyd_wal_receiver_lag_bytes", "How far the receiver is behind the server, by position: written, flushed, stored.",
		"source", "position")
	connected := desc("skyd_wal_receiver_connected", "Whether the receiver is connected to the server.", "source")
	restarts := desc("skyd_wal_receiver_restarts_total", "Connections of the receiver that ended.", "source")
	pending := desc("skyd_wal_spool_bytes", "Received segments that wait for the repository.", "source")
	for _, a := range s.Archives {
		if r := a.Receiver; r != nil {
			for name, at := range map[string]uint64{"written": r.Written, "flushed": r.Flushed, "stored": r.Stored} {
				emit(lag, prometheus.GaugeValue, float64(r.Server-min(at, r.Server)), a.Source, name)
			}
			up := 0.0
			if r.Connected {
				up = 1
			}
			emit(connected, prometheus.GaugeValue, up, a.Source)
			emit(pending, prometheus.GaugeValue, float64(r.Pending), a.Source)
			emit(restarts, prometheus.CounterValue, float64(r.Restarts), a.Source)
		}
	}
}
