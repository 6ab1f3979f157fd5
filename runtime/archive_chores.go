package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/drill"
)

// Periods of the chores of an archive.
const (
	surveyPeriod = time.Minute
	drillLook    = time.Minute
	// drillAgain is the least time between two drills when the last one failed.
	drillAgain = time.Hour
)

// chores are what the daemon does for an archive again and again.
func (d *Daemon) chores(w walarchive.Config, db *configs.Database) []actors.ArchiveChore {
	server := ""
	if db != nil {
		server = connectionKey(*db, d.config.Instance, "")
	}
	list := []actors.ArchiveChore{{Name: "survey", Period: surveyPeriod, Key: fmt.Sprintf("%s %+v", server, w), Do: d.survey(w, db)}}
	if w.Drill.Every > 0 {
		list = append(list, actors.ArchiveChore{
			Name: "drill", Period: drillLook, Key: fmt.Sprintf("%s %+v", server, w.Drill),
			Do: func(ctx context.Context, h actors.ArchiveHandle) (any, error) { return d.drill(ctx, h, w, db) },
		})
	}
	if w.Periodic.Cmd != "" {
		list = append(list, actors.ArchiveChore{
			Name: "periodic", Period: min(w.Periodic.Interval, time.Minute), Key: fmt.Sprintf("%+v", w.Periodic),
			Do: func(ctx context.Context, _ actors.ArchiveHandle) (any, error) {
				run, err := w.RunPeriodic(ctx, false)
				if err == nil && run.Error != "" {
					err = fmt.Errorf("the command of %s failed: %s", run.At.Format(time.RFC3339), run.Error)
				}
				return nil, err
			},
		})
	}
	return list
}

// survey looks at everything that belongs to an archive.
func (d *Daemon) survey(w walarchive.Config, db *configs.Database) func(context.Context, actors.ArchiveHandle) (any, error) {
	var lastBytes int64
	var lastAt time.Time
	return func(ctx context.Context, h actors.ArchiveHandle) (any, error) {
		own, ok := h.(archiveHandle)
		if !ok {
			return nil, fmt.Errorf("%T has no repository", h)
		}
		if err := own.RecordDropped(ctx); err != nil {
			return nil, err
		}
		var server walarchive.Server
		if db != nil {
			pool, err := OpenDatabase(ctx, *db, 1)
			if err != nil {
				return nil, err
			}
			defer pool.Close()
			server = pool
		}
		st, err := own.Status(ctx, server, time.Now())
		if err != nil {
			return nil, err
		}
		m := surveyed(w.Source, st)
		now := time.Now()
		if grown := st.ReadyBytes - lastBytes; !lastAt.IsZero() && grown > 0 && st.PGWALFree >= 0 {
			left := float64(st.PGWALFree) / (float64(grown) / now.Sub(lastAt).Seconds())
			m.FullIn = &left
		}
		lastBytes, lastAt = st.ReadyBytes, now
		return m, alarm(m)
	}
}

// surveyed is a status as messages tell it.
func surveyed(source string, st walarchive.SourceStatus) messages.ArchiveSurveyed {
	m := messages.ArchiveSurveyed{
		Source: source, At: time.Now(), LagBytes: st.LagBytes, Missing: st.Missing, Problems: st.Problems,
		ReadyBytes: st.ReadyBytes, PGWALFree: st.PGWALFree, Dropped: len(st.Dropped),
	}
	if st.Archiver != nil {
		m.ServerAnswers = true
	}
	for _, g := range st.Gaps {
		if g.ClosedBy == "" {
			m.Gaps++
		}
	}
	for _, w := range st.Writers {
		m.Writers = max(m.Writers, len(w.Writers))
	}
	if st.Slot != nil {
		m.SlotStatus, m.SlotSafe = st.Slot.WALStatus, st.Slot.SafeBytes
	}
	for _, w := range st.Windows {
		if w.System == st.System {
			m.WindowStart, m.WindowEnd, m.Restorable = w.FromTime, w.Commit, uint64(w.To)
		}
	}
	for kind, b := range st.Backups {
		m.Backups = append(m.Backups, messages.BackupSeen{
			Kind: kind, Last: b.StopTime, Seconds: b.StopTime.Sub(b.StartTime).Seconds(),
			Bytes: b.Bytes, Stored: b.Stored, BadPages: len(b.BadPages),
		})
	}
	if st.Drill != nil {
		m.Drill = &messages.DrillSeen{Began: st.Drill.Began, Seconds: st.Drill.Seconds, LastSuccess: st.Drill.LastSuccess, Error: st.Drill.Error}
	}
	return m
}

// alarm is what a survey finds that somebody must do something about.
func alarm(m messages.ArchiveSurveyed) error {
	switch {
	case m.SlotStatus == "lost":
		return errors.New("the replication slot is lost")
	case m.Dropped > 0:
		return fmt.Errorf("%d segments were given up (queue_max)", m.Dropped)
	case m.Gaps > 0:
		return fmt.Errorf("%d gap(s) in the WAL: a new base backup, or skyd wal repair", m.Gaps)
	case m.Missing > 0:
		return fmt.Errorf("%d segment(s) are missing in the archive: skyd wal verify", m.Missing)
	case m.FullIn != nil && *m.FullIn < 3600:
		return fmt.Errorf("pg_wal is full in %s if nothing is archived", time.Duration(*m.FullIn*float64(time.Second)).Round(time.Second))
	}
	return nil
}

// drill makes a restore drill if one is due. A failed one stays an error until one goes well.
func (d *Daemon) drill(ctx context.Context, h actors.ArchiveHandle, w walarchive.Config, db *configs.Database) (any, error) {
	repo, err := repoOf(h)
	if err != nil {
		return nil, err
	}
	last, err := repo.LastDrill(ctx)
	if err != nil {
		return nil, err
	}
	every := w.Drill.Every
	if last != nil && !last.OK() {
		every = min(every, drillAgain)
	}
	if last == nil || time.Since(last.Began) >= every {
		if all, err := repo.Backups(ctx); err != nil || len(all) == 0 {
			return nil, err // nothing to restore yet
		}
		command, err := WALClient(w, "fetch", d.opts.ConfigFile)
		if err != nil {
			return nil, err
		}
		note := func(text string) { d.log.Debug("restore drill", "source", w.Source, "step", text) }
		if last, err = RestoreDrill(ctx, repo, w, db, command+" %f %p", note); err != nil {
			return nil, err
		}
		d.log.Info("restore drill", "source", w.Source, "backup", last.Backup, "seconds", last.Seconds, "err", last.Error)
	}
	seen := messages.DrillSeen{Source: w.Source, Began: last.Began, Seconds: last.Seconds, LastSuccess: last.LastSuccess, Error: last.Error}
	if !last.OK() {
		err = fmt.Errorf("the restore drill of %s failed: %s", last.Began.Format(time.RFC3339), last.Error)
	}
	return seen, err
}

// ErrNoPrograms is returned by RestoreDrill when the server's programs are not on this host.
var ErrNoPrograms = drill.ErrNoPrograms

// RestoreDrill restores a source into a throw-away server and looks through it; command is the restore_command. db may be
// nil. See drill.Run.
func RestoreDrill(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, db *configs.Database, command string, note func(string)) (*walarchive.Drill, error) {
	o := drill.Options{
		Dir: w.Drill.Dir, BinDir: w.Drill.BinDir, PGData: w.PGData, Command: command, Note: note,
		Owner: fmt.Sprintf("restore drill, process %d", os.Getpid()), Roles: []string{"postgres"},
	}
	if o.Dir == "" && w.StateDir != "" {
		o.Dir = filepath.Join(w.StateDir, "drill")
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if db != nil {
		if c, err := pgx.ParseConfig(strings.TrimSpace(db.DSN)); err == nil && c.User != "postgres" {
			o.Roles = append(o.Roles, c.User)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.Drill.Timeout, fmt.Errorf("the drill did not end within %s", w.Drill.Timeout))
	defer cancel()
	return drill.Run(ctx, repo, o)
}
