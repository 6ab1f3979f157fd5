package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/walarchive"
)

const (
	// walLook is the time between two looks at what waits in pg_wal when nobody pushes.
	walLook = 10 * time.Second
	// pushTimeout limits one push; the archiver tries again.
	pushTimeout = 10 * time.Minute
)

// archiveParams makes the actor parameters of the configured archives.
func (d *Daemon) archiveParams(c configs.Config) (params []actors.ArchiveParams) {
	for _, w := range c.WAL {
		p := actors.ArchiveParams{
			Key: archiveKey(w), Source: w.Source, PGData: w.PGData, Workers: w.Workers, LookPeriod: walLook, PushTimeout: pushTimeout,
			Open:   func(ctx context.Context) (actors.ArchiveHandle, error) { return d.openArchive(ctx, w) },
			Listen: func(ctx context.Context) (net.Listener, error) { return walarchive.ListenGate(ctx, w.Socket) },
		}
		if i := slices.IndexFunc(c.Databases, func(d configs.Database) bool { return d.Name == w.Database }); i >= 0 {
			d.keepArchive(&p, w, c.Databases[i])
			p.Chores = d.chores(w, &c.Databases[i])
		} else {
			p.Chores = d.chores(w, nil)
		}
		params = append(params, p)
	}
	return params
}

// archiveKey stands for everything in an entry that its repository, pushing and fetching depend on.
func archiveKey(w walarchive.Config) string {
	w.Database, w.Receive, w.Backup, w.Expire = "", walarchive.ReceiveConfig{}, walarchive.BackupConfig{}, walarchive.ExpireConfig{}
	w.Drill, w.Periodic, w.Standby = walarchive.DrillConfig{}, walarchive.PeriodicConfig{}, walarchive.StandbyConfig{}
	return fmt.Sprintf("%+v", w)
}

// archived reports whether a database is named for an archive: then it is no fault that it has no PgQ.
func archived(c configs.Config, database string) bool {
	return slices.ContainsFunc(c.WAL, func(w walarchive.Config) bool { return w.Database == database })
}

// openArchive opens the repository of a source.
func (d *Daemon) openArchive(ctx context.Context, w walarchive.Config) (actors.ArchiveHandle, error) {
	s, err := OpenStorage(ctx, w.Storage)
	if err != nil {
		return nil, err
	}
	a, err := walarchive.OpenArchive(ctx, s, w, d.log)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	a.Mirror(OpenStorage)
	return archiveHandle{a, walarchive.NewPrefetcher(a), s}, nil
}

// archiveHandle is an archive with its storage.
type archiveHandle struct {
	*walarchive.Archive
	prefetcher *walarchive.Prefetcher
	storage    walarchive.Storage
}

// Fetch implements actors.ArchiveHandle.
func (h archiveHandle) Fetch(ctx context.Context, q walarchive.FetchRequest) (int, error) {
	return h.prefetcher.Fetch(ctx, q)
}

// FetchAhead implements actors.ArchiveHandle.
func (h archiveHandle) FetchAhead(ctx context.Context) error { return h.prefetcher.Run(ctx) }

// Close implements actors.ArchiveHandle.
func (h archiveHandle) Close() error { return errors.Join(h.Archive.Close(), h.storage.Close()) }

// collectArchives sends the metrics of the WAL archives.
func collectArchives(s Status, emit emitter) {
	archived := desc("skyd_wal_archived_total", "WAL files archived, or found archived with the same content.", "source")
	failures := desc("skyd_wal_archive_failures_total", "Answers to the archiver that a file was not archived; it asks again.", "source")
	refused := desc("skyd_wal_push_refused_total", "WAL files that were refused, by reason: conflict (other content under the name), "+
		"invalid, foreign, paused.", "source", "reason")
	bytes := desc("skyd_wal_archived_bytes_total", "Bytes of the archived files, as the server wrote them.", "source")
	last := desc("skyd_wal_last_archived_timestamp_seconds", "When the last WAL file was archived.", "source")
	ready := desc("skyd_wal_ready_segments", "WAL files that wait for the archiver.", "source")
	collectReceivers(s, emit)
	collectSurveys(s, emit)
	for _, a := range s.Archives {
		emit(archived, prometheus.CounterValue, float64(a.Archived), a.Source)
		emit(failures, prometheus.CounterValue, float64(a.Failed), a.Source)
		emit(bytes, prometheus.CounterValue, float64(a.Bytes), a.Source)
		emit(ready, prometheus.GaugeValue, float64(a.Ready), a.Source)
		if !a.LastAt.IsZero() {
			emit(last, prometheus.GaugeValue, float64(a.LastAt.UnixNano())/1e9, a.Source)
		}
		for reason, n := range a.Refused {
			emit(refused, prometheus.CounterValue, float64(n), a.Source, reason)
		}
	}
}
