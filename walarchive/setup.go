package walarchive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Server runs SQL on the cluster: a *pgx.Conn, *pgxpool.Pool or *pgq.DB.
type Server interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrUnfit is returned when a server or its settings do not permit what is asked for.
var ErrUnfit = errors.New("the server is not fit for it")

// Facts are what setup, check and status need to know of a server.
type Facts struct {
	System         uint64
	Version        int // server_version_num
	InRecovery     bool
	Size           uint32 // of a segment
	Checksums      bool
	DataDir        string
	WALLevel       string
	ArchiveMode    string
	ArchiveCommand string
	ArchiveLibrary string // "" before 15
	ArchiveTimeout time.Duration
	FullPageWrites bool
	Fsync          bool
}

// ReadFacts asks a server. data_directory and archive_command need pg_read_all_settings.
func ReadFacts(ctx context.Context, s Server) (f Facts, err error) {
	const query = `
		select (select system_identifier from pg_catalog.pg_control_system())::text, current_setting('server_version_num')::int,
			pg_catalog.pg_is_in_recovery(), (select setting::bigint from pg_catalog.pg_settings where name = 'wal_segment_size'),
			current_setting('data_checksums') = 'on', coalesce(current_setting('data_directory', true), ''),
			current_setting('wal_level'), current_setting('archive_mode'),
			coalesce((select setting from pg_catalog.pg_settings where name = 'archive_command'), ''),
			coalesce(current_setting('archive_library', true), ''),
			(select setting::int from pg_catalog.pg_settings where name = 'archive_timeout'),
			current_setting('full_page_writes') = 'on', current_setting('fsync') = 'on'`
	var system string
	var size int64
	var timeout int
	err = s.QueryRow(ctx, query).Scan(&system, &f.Version, &f.InRecovery, &size, &f.Checksums, &f.DataDir, &f.WALLevel, &f.ArchiveMode,
		&f.ArchiveCommand, &f.ArchiveLibrary, &timeout, &f.FullPageWrites, &f.Fsync)
	if err != nil {
		return f, fmt.Errorf("ask the server: %w", err)
	}
	f.Size, f.ArchiveTimeout = uint32(size), time.Duration(timeout)*time.Second
	if f.ArchiveCommand == "(disabled)" { // what it shows while archive_mode is off
		f.ArchiveCommand = ""
	}
	_, err = fmt.Sscan(system, &f.System)
	return f, err
}

// Setting is one server setting that setup changes.
type Setting struct {
	Name    string `json:"name"`
	From    string `json:"from"`
	To      string `json:"to"`
	Restart bool   `json:"needs_restart"` // the running server keeps the old value until it is restarted
}

// SQL is the statement that changes the setting.
func (s Setting) SQL() string {
	return "alter system set " + s.Name + " = " + literal(s.To)
}

// literal quotes a text for statements that take no parameters.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// archiveTimeout bounds how long a commit waits for its segment to be closed.
const archiveTimeout = time.Minute

// PlanSetup says which settings must change so that the server archives with this command; with a receiver nobody waits for
// a segment to be closed. ErrUnfit.
func PlanSetup(f Facts, local Cluster, command string, receiver bool) ([]Setting, error) {
	switch {
	case f.Version < 140000:
		return nil, fmt.Errorf("%w: it is version %d, at least PostgreSQL 14 is needed", ErrUnfit, f.Version/10000)
	case f.System != local.System:
		return nil, fmt.Errorf("%w: it is system %d, the configured pgdata is of system %d: database and pgdata must be of one cluster",
			ErrUnfit, f.System, local.System)
	case f.ArchiveMode == "always":
		return nil, fmt.Errorf("%w: archive_mode is always, so that a standby would archive too: two writers; set it to on", ErrUnfit)
	case f.ArchiveLibrary != "":
		return nil, fmt.Errorf("%w: archive_library is %q and wins over archive_command: reset it first", ErrUnfit, f.ArchiveLibrary)
	}
	plan := []Setting{}
	if f.WALLevel == "minimal" {
		plan = append(plan, Setting{"wal_level", f.WALLevel, "replica", true})
	}
	if f.ArchiveMode == "off" {
		plan = append(plan, Setting{"archive_mode", f.ArchiveMode, "on", true})
	}
	if f.ArchiveCommand != command {
		plan = append(plan, Setting{"archive_command", f.ArchiveCommand, command, false})
	}
	if f.ArchiveTimeout == 0 && !receiver {
		plan = append(plan, Setting{"archive_timeout", "0", fmt.Sprintf("%ds", int(archiveTimeout.Seconds())), false})
	}
	return plan, nil
}

// Remembered is setup.json: what setup changed, so that unsetup can put it back.
type Remembered struct {
	Host     string    `json:"host"`
	Time     time.Time `json:"time"`
	Settings []Setting `json:"settings"`
}

// setupKey is the key of Remembered.
func (l Layout) setupKey() string { return l.Source + "/setup.json" }

// Setup changes the settings and has the server read them. What they were before is remembered in the repository, once.
func (r *Repo) Setup(ctx context.Context, s Server, me Writer, plan []Setting) error {
	if len(plan) == 0 {
		return nil
	}
	var old Remembered
	tag, err := r.getJSON(ctx, r.setupKey(), &old)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	next := Remembered{Host: me.Host, Time: time.Now().UTC(), Settings: old.Settings}
	for _, p := range plan {
		if !remembers(old.Settings, p.Name) {
			next.Settings = append(next.Settings, p)
		}
	}
	if err := r.putJSON(ctx, r.setupKey(), next, tag); err != nil {
		return err
	}
	return applySettings(ctx, s, plan)
}

func remembers(settings []Setting, name string) bool {
	for _, s := range settings {
		if s.Name == name {
			return true
		}
	}
	return false
}

// ReloadSQL has the server read its settings again.
const ReloadSQL = "select pg_catalog.pg_reload_conf()"

// applySettings runs the statements and reloads.
func applySettings(ctx context.Context, s Server, plan []Setting) error {
	for _, p := range plan {
		if _, err := s.Exec(ctx, p.SQL()); err != nil {
			return fmt.Errorf("set %s: %w", p.Name, err)
		}
	}
	_, err := s.Exec(ctx, ReloadSQL)
	return err
}

// PlanUnsetup says how to put back what setup changed. keepWAL leaves a command that fails, so that the server keeps all
// WAL. archive_mode and wal_level stay: they cost a restart and hurt nobody.
func (r *Repo) PlanUnsetup(ctx context.Context, f Facts, keepWAL bool) ([]Setting, error) {
	var old Remembered
	if _, err := r.getJSON(ctx, r.setupKey(), &old); err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	plan := []Setting{}
	for _, s := range old.Settings {
		switch {
		case s.Name == "archive_command":
			back := Setting{Name: s.Name, From: f.ArchiveCommand, To: s.From}
			if keepWAL {
				back.To = "false"
			}
			if back.From != back.To {
				plan = append(plan, back)
			}
		case s.Name == "archive_timeout" && f.ArchiveTimeout > 0:
			plan = append(plan, Setting{Name: s.Name, From: s.To, To: s.From})
		}
	}
	return plan, nil
}

// Unsetup puts the settings back and records the gap that begins behind the newest segment of the archive.
func (r *Repo) Unsetup(ctx context.Context, s Server, system uint64, plan []Setting) (*Gap, error) {
	if err := applySettings(ctx, s, plan); err != nil {
		return nil, err
	}
	var gap *Gap
	last, err := r.LastSegment(ctx, system)
	if err != nil {
		return nil, err
	}
	if last != "" {
		size, err := r.segmentSize(ctx, system)
		if err != nil {
			return nil, err
		}
		start, err := SegmentStart(last, size)
		if err != nil {
			return nil, err
		}
		gap = &Gap{System: system, Timeline: SegmentTimeline(last), From: start + LSN(size), Reason: "skyd wal unsetup", Time: time.Now().UTC()}
		if err := r.RecordGap(ctx, *gap); err != nil {
			return nil, err
		}
	}
	return gap, r.Delete(ctx, r.setupKey())
}

// SwitchSegment closes the segment that is being written, with something in it, and names it. Not on a standby.
func SwitchSegment(ctx context.Context, s Server) (string, error) {
	if _, err := s.Exec(ctx, "select pg_catalog.pg_logical_emit_message(true, 'skyd', 'switch')"); err != nil {
		return "", err
	}
	var name string
	err := s.QueryRow(ctx, "select pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())").Scan(&name)
	return name, err
}

// ArchiverState is what the server tells of its archiver.
type ArchiverState struct {
	Archived   int64     `json:"archived"`
	LastName   string    `json:"last_archived,omitempty"`
	LastTime   time.Time `json:"last_archived_time,omitzero"`
	Failed     int64     `json:"failed"`
	FailedName string    `json:"last_failed,omitempty"`
	FailedTime time.Time `json:"last_failed_time,omitzero"`
	Now        time.Time `json:"server_time"`
	Position   LSN       `json:"position"` // end of the WAL
	Timeline   uint32    `json:"timeline"`
}

// ReadArchiver asks for the state of the archiver.
func ReadArchiver(ctx context.Context, s Server) (a ArchiverState, err error) {
	const query = `
		select archived_count, coalesce(last_archived_wal, ''), coalesce(last_archived_time, '-infinity'), failed_count,
			coalesce(last_failed_wal, ''), coalesce(last_failed_time, '-infinity'), clock_timestamp(),
			(case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
				else pg_catalog.pg_current_wal_insert_lsn() end)::text,
			(select timeline_id from pg_catalog.pg_control_checkpoint())
		from pg_catalog.pg_stat_archiver`
	var position *string
	var last, failed finite
	err = s.QueryRow(ctx, query).Scan(&a.Archived, &a.LastName, &last, &a.Failed, &a.FailedName, &failed, &a.Now, &position, &a.Timeline)
	if err != nil {
		return a, fmt.Errorf("ask for the archiver: %w", err)
	}
	a.LastTime, a.FailedTime = time.Time(last), time.Time(failed)
	if position != nil {
		a.Position, err = ParseLSN(*position)
	}
	return a, err
}

// finite scans a timestamp; infinity is the zero time.
type finite time.Time

// Scan implements sql.Scanner.
func (f *finite) Scan(value any) error {
	if t, ok := value.(time.Time); ok {
		*f = finite(t.UTC())
	}
	return nil
}

// MarshalJSON writes a plan with its statements.
func (s Setting) MarshalJSON() ([]byte, error) {
	type plain Setting
	return json.Marshal(struct {
		plain
		SQL string `json:"sql"`
	}{plain(s), s.SQL()})
}
