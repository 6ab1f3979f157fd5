package pgqsql

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Options of Install.
type Options struct {
	// Schemas to install, in any order; schemas they need are added. Nil means all that this program ships.
	Schemas []string
	// TakeOver allows to turn a plain-SQL install of the original into ours, in place. Without it such a schema is refused.
	TakeOver bool
	// FromExtension allows TakeOver to take schemas of the original extensions too. Without it they are left alone.
	FromExtension bool
	// DryRun checks every precondition and reports what would be applied, but writes nothing.
	DryRun bool
}

// ErrRefused is the class of errors of an install whose preconditions do not hold; nothing was changed then.
var ErrRefused = errors.New("refused")

// RefusedError says which precondition of an install does not hold. It is an ErrRefused.
type RefusedError struct {
	Schema  string // empty when it is about the database or the server
	Problem string
	Remedy  string
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Problem }

// Is makes the error an ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// installLock is the key of the advisory lock that makes installers of one database take turns.
const installLock = 0x736b7964 // skyd

// Install brings the schemas of a database up to date, in one transaction of its own: it waits for other installers
// and for the locks that upgrade scripts need, so give ctx a deadline. When there is nothing to do it writes nothing
// and Report.Changed is false. A schema that belongs to an extension is left alone and reported as such.
//
// Errors: ErrRefused (*RefusedError, several joined) when a precondition does not hold, *FileError when the server
// refuses a file, *UnknownSchemaError. The connection must not be inside a transaction: settings of this one would
// outlive a savepoint.
func Install(ctx context.Context, db Beginner, o Options) (Report, error) {
	sources, err := shipped()
	if err != nil {
		return Report{}, err
	}
	return install(ctx, db, sources, o)
}

// install is Install for any tree. Roles belong to the whole cluster and no lock of one database orders their
// creation, so an install that met another database's install there is tried again.
func install(ctx context.Context, db Beginner, sources []source, o Options) (Report, error) {
	sources, err := choose(sources, o.Schemas)
	if err != nil {
		return Report{}, err
	}
	for try := 1; ; try++ {
		report, err := installOnce(ctx, db, sources, o)
		if err == nil || try == 5 || !raced(err) {
			return report, err
		}
	}
}

// raced tells whether an error may come from a concurrent change of the same role or catalog row.
func raced(err error) bool {
	server := new(pgconn.PgError)
	if !errors.As(err, &server) {
		return false
	}
	switch server.Code {
	case "40001", "40P01", "42710":
		return true
	case "23505":
		return server.SchemaName == "pg_catalog"
	case "XX000":
		return strings.Contains(server.Message, "concurrently")
	}
	return false
}

// installOnce is one transaction.
func installOnce(ctx context.Context, db Beginner, sources []source, o Options) (Report, error) {
	var report Report
	err := inTransaction(ctx, db, func(tx pgx.Tx) (bool, error) {
		if err := takeLock(ctx, tx, o.DryRun); err != nil {
			return false, err
		}
		state, err := readState(ctx, tx, sources)
		if err != nil {
			return false, err
		}
		if err := state.planTakeovers(ctx, tx, sources, o); err != nil {
			return false, err
		}
		takeovers := state.takeovers()
		sources := withoutIdleLedger(sources, state)
		if err := preconditions(state, sources); err != nil {
			return false, err
		}
		applied := map[string][]string{}
		changed := false
		for _, src := range sources {
			steps := plan(src, state.schemas[src.name])
			changed = changed || len(steps) > 0
			for _, st := range steps {
				if st.run {
					applied[src.name] = append(applied[src.name], st.file.name())
				}
			}
			if !o.DryRun {
				if err := apply(ctx, tx, src, state.schemas[src.name], steps); err != nil {
					return false, err
				}
			}
		}
		if changed && !o.DryRun {
			if state, err = readState(ctx, tx, sources); err != nil {
				return false, err
			}
		}
		report = state.report(sources)
		report.Changed, report.DryRun = changed, o.DryRun
		for i := range report.Schemas {
			sr := &report.Schemas[i]
			sr.Applied = applied[sr.Name]
			if t := takeovers[sr.Name]; t != nil {
				sr.TakenFrom, sr.Changes, sr.Notes = t.from, t.did(), t.notes
			}
		}
		return changed && !o.DryRun, readVersions(ctx, tx, &report)
	})
	return report, err
}

// takeLock waits until no other installer works on this database. A dry run does not stand in the way of a real one.
func takeLock(ctx context.Context, tx pgx.Tx, dryRun bool) error {
	if dryRun {
		return nil
	}
	_, err := tx.Exec(ctx, "select pg_catalog.pg_advisory_xact_lock($1::int8)", pgx.QueryExecModeExec, installLock)
	if err != nil {
		return fmt.Errorf("wait for other installers: %w", err)
	}
	return nil
}

// withoutIdleLedger leaves our records out when there will be nothing to record: everything asked for belongs to
// extensions.
func withoutIdleLedger(sources []source, state databaseState) []source {
	idle := true
	for _, src := range sources {
		sch := state.schemas[src.name]
		idle = idle && (src.name == ledger || sch.owner == Extension && sch.taking == nil)
	}
	if !idle || state.schemas[ledger].owner == Skyd || len(sources) == 1 {
		return sources
	}
	return slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return s.name == ledger })
}

// preconditions returns everything that stands in the way, joined.
func preconditions(state databaseState, sources []source) error {
	if state.serverNum < MinServerVersion {
		return &RefusedError{Problem: fmt.Sprintf("the server runs PostgreSQL %s; skyd needs %d or newer",
			state.serverVersion, MinServerVersion/10000), Remedy: "upgrade the server"}
	}
	var faults []error
	work, create := false, []string{}
	for _, src := range sources {
		sch := state.schemas[src.name]
		faults = append(faults, schemaFaults(state, src)...)
		if sch.owner == Missing || sch.owner == Skyd || sch.taking != nil {
			work = work || len(plan(src, sch)) > 0
		}
		if sch.owner == Missing && !sch.present && src.inside == "" {
			create = append(create, src.name)
		}
	}
	if work && state.standby {
		return errors.Join(append(faults, &RefusedError{Problem: fmt.Sprintf("database %s is on a standby, which cannot be changed",
			state.database), Remedy: "connect to the primary; its standbys get the schema by replication"})...)
	}
	if len(create) > 0 && !state.canCreate {
		faults = append(faults, &RefusedError{
			Problem: fmt.Sprintf("role %s may not create schemas in database %s (wanted: %s)", state.role, state.database,
				strings.Join(create, ", ")),
			Remedy: fmt.Sprintf("as its owner: grant create on database %s to %s", ident(state.database), ident(state.role)),
		})
	}
	return errors.Join(faults...)
}

// schemaFaults are the preconditions of one schema.
func schemaFaults(state databaseState, src source) []error {
	sch := state.schemas[src.name]
	refuse := func(remedy, format string, args ...any) error {
		where := fmt.Sprintf("schema %s in database %s ", src.name, state.database)
		return &RefusedError{Schema: src.name, Problem: where + fmt.Sprintf(format, args...), Remedy: remedy}
	}
	switch {
	case sch.taking != nil:
		var faults []error
		for _, f := range sch.taking.faults {
			faults = append(faults, refuse(f.remedy, "%s", f.problem))
		}
		return append(faults, roleFaults(state, src, refuse)...)
	case sch.owner == Extension:
		return nil
	case sch.owner == Original:
		return []error{refuse("take it over in place, with all data: skyd schema upgrade --db DSN --dry-run shows how; "+
			"or leave it as it is: skyd runs on it", "is a plain-SQL install of the original PgQ")}
	case sch.owner == Foreign:
		return []error{refuse("rename or drop it, or install into another database",
			"is not from skyd: it has objects of another kind and belongs to role %s", sch.role)}
	}
	var faults []error
	for _, path := range newerUpgrades(src, sch) {
		faults = append(faults, refuse("use that version or a newer one",
			"was installed by a newer skyd (%s): upgrade script %s is unknown here", sch.installer, path))
	}
	if len(plan(src, sch)) == 0 {
		return faults
	}
	if src.inside != "" && sch.present && !sch.mayCreate {
		faults = append(faults, refuse(fmt.Sprintf("as its owner: grant create on schema %s to %s; or leave %s out with --only",
			src.inside, ident(state.role), src.name), "adds objects to schema %s, in which role %s may not create any",
			src.inside, state.role))
	}
	if src.inside == "" && sch.present && !sch.mine {
		faults = append(faults, refuse("connect as a member of that role",
			"belongs to role %s; role %s may not change it", sch.role, state.role))
	}
	return append(faults, roleFaults(state, src, refuse)...)
}

// roleFaults tells about roles that are missing and cannot be made.
func roleFaults(state databaseState, src source, refuse func(remedy, format string, args ...any) error) []error {
	missing := slices.DeleteFunc(slices.Clone(src.roles), func(r string) bool { return state.roles[r] })
	if len(missing) == 0 || state.canMakeRoles {
		return nil
	}
	return []error{refuse(fmt.Sprintf("as a superuser: alter role %s createrole; or let one create the roles: %s",
		ident(state.role), createRoles(missing)), "needs missing roles (%s) and role %s may not create them",
		strings.Join(missing, ", "), state.role)}
}

// createRoles is the remedy for missing roles.
func createRoles(names []string) string {
	var b []string
	for _, name := range names {
		b = append(b, "create role "+ident(name)+";")
	}
	return strings.Join(b, " ")
}

// newerUpgrades lists recorded upgrade scripts that this program does not have.
func newerUpgrades(src source, sch schemaState) []string {
	var unknown []string
	for path := range sch.sums {
		known := slices.ContainsFunc(src.files, func(f file) bool { return f.path == path })
		if strings.HasPrefix(path, "upgrade/") && !known {
			unknown = append(unknown, path)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// reason tells why a file is in the plan.
type reason int

const (
	fresh   reason = iota // the schema is being installed
	changed               // new or other content
	drifted               // the catalog has something else
	follows               // grants, because other files are applied
)

// step is one file of a plan.
type step struct {
	file file
	run  bool // else it is only recorded
	why  reason
}

// plan decides what to do with the files of one schema, in their order.
func plan(src source, sch schemaState) []step {
	if sch.owner != Missing && sch.owner != Skyd && sch.taking == nil {
		return nil
	}
	stray := sch.drifted(src)
	var steps []step
	for _, f := range src.files {
		recorded, known := sch.sums[f.path]
		switch {
		case sch.taking != nil:
			steps = append(steps, step{file: f, run: f.kind == codeFile, why: fresh})
		case sch.owner == Missing:
			steps = append(steps, step{file: f, run: f.kind != upgradeFile, why: fresh})
		case f.kind == tablesFile, f.kind == upgradeFile && known:
		case recorded != f.sum:
			steps = append(steps, step{file: f, run: true, why: changed})
		case slices.Contains(stray, f.path):
			steps = append(steps, step{file: f, run: true, why: drifted})
		}
	}
	return withGrants(src, steps)
}

// withGrants runs grants.sql whenever something else is run: a function that was dropped and made again has lost its
// grants.
func withGrants(src source, steps []step) []step {
	at := slices.IndexFunc(src.files, func(f file) bool { return f.path == "grants.sql" })
	if at < 0 || !slices.ContainsFunc(steps, func(s step) bool { return s.run }) ||
		slices.ContainsFunc(steps, func(s step) bool { return s.file.path == "grants.sql" }) {
		return steps
	}
	order := func(s step) int {
		return slices.IndexFunc(src.files, func(f file) bool { return f.path == s.file.path })
	}
	steps = append(steps, step{file: src.files[at], run: true, why: follows})
	slices.SortStableFunc(steps, func(a, b step) int { return order(a) - order(b) })
	return steps
}

// apply runs and records the steps of one schema. Records left over from a schema that was dropped go first.
func apply(ctx context.Context, tx pgx.Tx, src source, sch schemaState, steps []step) error {
	if len(steps) == 0 {
		return nil
	}
	if (sch.owner == Missing || sch.taking != nil) && src.name != ledger {
		if err := forget(ctx, tx, src.name); err != nil {
			return err
		}
	}
	for _, st := range steps {
		if st.run {
			if err := send(ctx, tx, st.file); err != nil {
				return err
			}
		}
		if sch.taking != nil && st.file.kind == tablesFile {
			if err := run(ctx, tx, src.name, sch.taking.actions); err != nil {
				return err
			}
		}
		if src.name == ledger {
			continue // its own tables may not be there yet
		}
		if err := record(ctx, tx, st.file); err != nil {
			return err
		}
	}
	if src.name == ledger {
		for _, st := range steps {
			if err := record(ctx, tx, st.file); err != nil {
				return err
			}
		}
	}
	if sch.taking != nil {
		if err := run(ctx, tx, src.name, sch.taking.finish); err != nil {
			return err
		}
	}
	return forgetRemoved(ctx, tx, src)
}

// send gives the server a whole file.
func send(ctx context.Context, tx pgx.Tx, f file) error {
	results := tx.Conn().PgConn().Exec(ctx, f.text)
	done := 0
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err == nil {
			done++
		}
	}
	if err := results.Close(); err != nil {
		return locate(f, err, done)
	}
	return nil
}

// The records, here and in the bundle. $1 is the schema and $2 the path of a file.
const (
	forgetFilesSQL     = `delete from skyd.schema_file where schema_name = $1::text`
	forgetFunctionsSQL = `delete from skyd.schema_function where schema_name = $1::text`

	recordOnceSQL = `insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ($1::text, $2::text, $3::text, $4::text)
on conflict (schema_name, path) do nothing`

	recordFileSQL = `insert into skyd.schema_file (schema_name, path, sha256, skyd_version)
values ($1::text, $2::text, $3::text, $4::text)
on conflict (schema_name, path) do update
set sha256 = excluded.sha256, skyd_version = excluded.skyd_version, applied_at = excluded.applied_at`

	forgetFileFunctionsSQL = `delete from skyd.schema_function where schema_name = $1::text and path = $2::text`

	// A guest may have an overload of a function of its host: what somebody else recorded, or brought, is not ours.
	recordFunctionsSQL = `insert into skyd.schema_function (schema_name, signature, path, fingerprint)
select $1::text, p.oid::pg_catalog.regprocedure::text, $2::text, pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = $4::text and p.proname = $3::text and p.prokind <> 'a'
  and not exists (select from skyd.schema_function o
                  where o.schema_name <> $1::text and o.signature = p.oid::pg_catalog.regprocedure::text)
  and not exists (select from pg_catalog.pg_depend d
                  where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e')
on conflict (schema_name, signature) do update
set path = excluded.path, fingerprint = excluded.fingerprint`
)

// forget removes the records of a schema.
func forget(ctx context.Context, tx pgx.Tx, schema string) error {
	for _, sql := range []string{forgetFilesSQL, forgetFunctionsSQL} {
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeExec, schema); err != nil {
			return fmt.Errorf("forget the old records of schema %s: %w", schema, err)
		}
	}
	return nil
}

// forgetRemoved removes the records of files that are no longer in the tree. Upgrade scripts stay: they are history.
func forgetRemoved(ctx context.Context, tx pgx.Tx, src source) error {
	var paths []string
	for _, f := range src.files {
		paths = append(paths, f.path)
	}
	for _, sql := range []string{forgetFilesSQL, forgetFunctionsSQL} {
		sql += " and path <> all ($2::text[]) and path not like 'upgrade/%'"
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeExec, src.name, paths); err != nil {
			return fmt.Errorf("forget removed files of schema %s: %w", src.name, err)
		}
	}
	return nil
}

// record notes that a file was applied and what the catalog made of its functions.
func record(ctx context.Context, tx pgx.Tx, f file) error {
	_, err := tx.Exec(ctx, recordFileSQL, pgx.QueryExecModeExec, f.schema, f.path, f.sum, programVersion())
	if err == nil && f.function() != "" {
		_, err = tx.Exec(ctx, forgetFileFunctionsSQL, pgx.QueryExecModeExec, f.schema, f.path)
		if err == nil {
			_, err = tx.Exec(ctx, recordFunctionsSQL, pgx.QueryExecModeExec, f.schema, f.path, f.function(), f.namespace)
		}
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", f.name(), err)
	}
	return nil
}

// programVersion is the version of skyd that this code is part of.
func programVersion() string {
	const module = "github.com/skytools/skyd"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module {
		return info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return "unknown"
}

// ident quotes a name for a remedy.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }
