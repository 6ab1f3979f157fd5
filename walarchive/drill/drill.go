package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/walarchive"
)

// Options say how a drill is made.
type Options struct {
	// Dir is where the cluster is restored to, in a directory of its own that is removed afterwards.
	Dir string
	// BinDir has the programs of the server; empty: the places where packages put them.
	BinDir string
	// PGData is the data directory of the original, which tells whom the throw-away server runs as when we are root.
	PGData string
	// Command is the restore_command.
	Command string
	// Backup is the id to restore; empty: as restore would choose.
	Backup string
	// Roles are tried until one may log in; any superuser will do then.
	Roles []string
	// Owner names the holder of the lease.
	Owner string
	// Note is told in one line what happens.
	Note func(text string)
}

// run is one drill under way.
type run struct {
	repo *walarchive.Repo
	o    Options
	d    *walarchive.Drill
	s    *server
	plan *walarchive.RestorePlan
	role string
}

// Run makes a drill and puts it on record. A drill that failed is no error: see its Error. The error is for one that could
// not be begun, or not be put on record: nothing to restore (ErrNoBackup), no programs (ErrNoPrograms), somebody else at
// work (ErrLeased).
func Run(ctx context.Context, repo *walarchive.Repo, o Options) (d *walarchive.Drill, err error) {
	if o.Note == nil {
		o.Note = func(string) {}
	}
	err = repo.WithLease(ctx, "drill", o.Owner, func(ctx context.Context) error {
		d, err = begin(ctx, repo, o)
		return err
	})
	return d, err
}

// begin makes the drill under its lease.
func begin(ctx context.Context, repo *walarchive.Repo, o Options) (*walarchive.Drill, error) {
	r := &run{repo: repo, o: o, s: &server{}, d: &walarchive.Drill{Began: time.Now().UTC(), Checks: []walarchive.CheckResult{}}}
	all, err := repo.Backups(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: source %s has none", walarchive.ErrNoBackup, repo.Source)
	}
	if r.s.bin, err = programs(ctx, o.BinDir, all[len(all)-1].ServerVersion/10000); err != nil {
		return nil, err
	}
	if r.s.owner, err = account(o.PGData); err != nil {
		return nil, err
	}
	if r.s.dir, err = place(o.Dir, repo.Source, r.s.owner); err != nil {
		return nil, err
	}
	err = r.all(ctx)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err != nil {
		if tail := r.s.logTail(); tail != "" {
			err = fmt.Errorf("%w; the server's log: %s", err, tail)
		}
		r.d.Error = err.Error()
	}
	end := errors.Join(r.s.stop(after, false), os.RemoveAll(r.s.dir))
	if cause := context.Cause(ctx); errors.Is(cause, context.Canceled) {
		return nil, errors.Join(cause, end) // it was not the archive that failed
	}
	r.d.Seconds = time.Since(r.d.Began).Seconds()
	return r.d, errors.Join(repo.RecordDrill(after, r.d), end)
}

// note adds what was looked at.
func (r *run) note(name, format string, args ...any) {
	c := walarchive.CheckResult{Name: name, OK: true, Text: fmt.Sprintf(format, args...)}
	r.d.Checks = append(r.d.Checks, c)
	r.o.Note(name + ": " + c.Text)
}

// all makes the steps of a drill; the first failure ends it.
func (r *run) all(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{{"restore", r.restore}, {"recovery", r.recover}, {"content", r.content}, {"stop", r.finish}} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// restore restores the cluster.
func (r *run) restore(ctx context.Context) (err error) {
	r.plan, err = r.repo.PlanRestore(ctx, walarchive.RestoreOptions{
		Dest: r.s.dataDir(), Command: r.o.Command, Backup: r.o.Backup,
		SpacesDir: filepath.Join(r.s.dir, "tablespaces"), Jobs: 2, Note: r.o.Note,
	})
	if err != nil {
		return err
	}
	b := r.plan.Backup
	r.d.Backup, r.d.System, r.d.Bytes = b.ID, b.System, b.Bytes
	if err := r.repo.Restore(ctx, r.plan); err != nil {
		return err
	}
	r.note("restore", "backup %s, %d files", b.ID, b.Files)
	return nil
}

// recover starts the server and waits until recovery has ended, at the end of the archive.
func (r *run) recover(ctx context.Context) error {
	want, err := r.repo.LastCommit(ctx, r.plan.Backup.System, r.plan.Timeline, r.plan.Cover.End)
	if err != nil {
		return err
	}
	if err := r.s.start(ctx, r.plan.Backup.Settings); err != nil {
		return err
	}
	conn, err := r.await(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var end string
	var commit *time.Time
	err = conn.QueryRow(ctx, `select coalesce(pg_last_wal_replay_lsn()::text, '0/0'), pg_last_xact_replay_timestamp(),
		(select timeline_id from pg_control_checkpoint())`).Scan(&end, &commit, &r.d.Timeline)
	if err != nil {
		return err
	}
	if r.d.End, err = walarchive.ParseLSN(end); err != nil {
		return err
	}
	if commit != nil {
		r.d.Commit = commit.UTC()
	}
	if r.d.End < r.plan.Backup.StopLSN {
		return fmt.Errorf("it ended at %s, before the backup's end %s", r.d.End, r.plan.Backup.StopLSN)
	}
	if r.d.Commit.Before(want) && want.After(r.plan.Backup.StopTime) {
		return fmt.Errorf("it ended at %s with the commit of %s, the archive has one of %s", r.d.End, r.d.Commit, want)
	}
	r.note("recovery", "up to %s on timeline %d", r.d.End, r.d.Timeline)
	return nil
}

// await waits until the server is open for writing, and connects as a superuser.
func (r *run) await(ctx context.Context) (*pgx.Conn, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := r.open(ctx)
		if conn != nil || err != nil {
			return conn, err
		}
		select {
		case <-r.s.done:
			return nil, fmt.Errorf("the server ended: %w", r.s.end)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// open connects when the server has ended recovery; nil: not yet. It finds a role that may do all.
func (r *run) open(ctx context.Context) (*pgx.Conn, error) {
	for _, role := range r.o.Roles {
		conn, err := r.s.connect(ctx, "template1", role)
		if state := (*pgconn.PgError)(nil); errors.As(err, &state) && (state.Code == "28000" || state.Code == "28P01") {
			continue // there is no such role, or it may not log in
		}
		if err != nil {
			return nil, nil // it is starting
		}
		var recovering bool
		var super string
		err = conn.QueryRow(ctx, `select pg_is_in_recovery(), coalesce((select min(rolname) from pg_roles where rolsuper and rolcanlogin), '')`).
			Scan(&recovering, &super)
		_ = conn.Close(ctx)
		switch {
		case err != nil || recovering:
			return nil, nil
		case super == "":
			return nil, errors.New("the cluster has no superuser that may log in")
		}
		r.role = super
		conn, err = r.s.connect(ctx, "template1", super)
		return conn, err
	}
	return nil, fmt.Errorf("none of the roles %s may log in", strings.Join(r.o.Roles, ", "))
}

// content looks through every relation of every database.
func (r *run) content(ctx context.Context) error {
	conn, err := r.s.connect(ctx, "template1", r.role)
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, "select datname from pg_database where datallowconn order by 1")
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.database(ctx, name); err != nil {
			return fmt.Errorf("database %s: %w", name, err)
		}
	}
	return nil
}

// relation is one relation to look through.
type relation struct {
	oid  uint32
	name string
	kind string
}

// database looks through the relations of one database: with amcheck, or, where the extension is not installed, by reading
// every table.
func (r *run) database(ctx context.Context, name string) (err error) {
	conn, err := r.s.connect(ctx, name, r.role)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	schema, err := amcheck(ctx, conn)
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `
		select c.oid, c.oid::regclass::text, c.relkind::text from pg_class c
			left join pg_index i on i.indexrelid = c.oid left join pg_am a on a.oid = c.relam
		where c.relpersistence = 'p' and (c.relkind in ('r', 'm', 't') and coalesce(a.amname, 'heap') = 'heap'
			or c.relkind = 'i' and a.amname = 'btree' and i.indisvalid and i.indisready)
		order by c.oid`)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (rel relation, err error) {
		return rel, row.Scan(&rel.oid, &rel.name, &rel.kind)
	})
	if err != nil {
		return err
	}
	for _, rel := range list {
		if err := look(ctx, conn, rel, schema); err != nil {
			return fmt.Errorf("%s: %w", rel.name, err)
		}
	}
	how := "amcheck"
	if schema == "" {
		how = "read; amcheck is not installed"
	}
	r.note("database "+name, "%d relations (%s)", len(list), how)
	return nil
}

// amcheck makes the extension in a database, and gives its schema; empty: it is not installed on this host.
func amcheck(ctx context.Context, conn *pgx.Conn) (schema string, err error) {
	var have bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_available_extensions where name = 'amcheck')").Scan(&have); err != nil || !have {
		return "", err
	}
	if _, err := conn.Exec(ctx, "create schema skyd_drill"); err != nil {
		return "", err
	}
	if _, err := conn.Exec(ctx, "create extension if not exists amcheck schema skyd_drill"); err != nil {
		return "", err
	}
	err = conn.QueryRow(ctx, `select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
		where e.extname = 'amcheck'`).Scan(&schema)
	return schema, err
}

// look looks through one relation, with amcheck where its schema is given.
func look(ctx context.Context, conn *pgx.Conn, rel relation, schema string) error {
	switch {
	case rel.kind == "i" && schema != "":
		_, err := conn.Exec(ctx, "select "+schema+".bt_index_check($1::oid::regclass)", rel.oid)
		return err
	case schema != "":
		var n int64
		var first string
		err := conn.QueryRow(ctx, "select count(*), coalesce(min(msg), '') from "+schema+".verify_heapam($1::oid::regclass)", rel.oid).Scan(&n, &first)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d corruptions, among them: %s", n, first)
		}
		return err
	case rel.kind == "i", rel.kind == "t": // a toast table is read with its table
		return nil
	}
	_, err := conn.Exec(ctx, "copy (select * from "+rel.name+") to '/dev/null'")
	return err
}

// finish stops the server and checks the checksums of all pages, where the cluster has them.
func (r *run) finish(ctx context.Context) error {
	if err := r.s.stop(ctx, true); err != nil {
		return err
	}
	if !r.plan.Backup.Checksums {
		return nil
	}
	if out, err := r.s.command(ctx, "pg_checksums", "--check", "-D", r.s.dataDir()).CombinedOutput(); err != nil {
		return fmt.Errorf("pg_checksums: %w: %s", err, strings.Join(strings.Fields(string(out)), " "))
	}
	r.note("checksums", "all pages")
	return nil
}
