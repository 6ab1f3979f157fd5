package pgqsql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Beginner is what the installer needs of a connection: *pgx.Conn, *pgxpool.Pool and *pgq.DB have it.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Owner tells whose a schema is.
type Owner string

// The owners of a schema; the package comment says what follows from each.
const (
	Missing   Owner = "missing"
	Skyd      Owner = "skyd"
	Extension Owner = "extension"
	Original  Owner = "original"
	Foreign   Owner = "foreign"
)

// Report says what is installed in one database, and what Install did.
type Report struct {
	Database      string         `json:"database"`
	ServerVersion string         `json:"server_version"`
	Changed       bool           `json:"changed"`
	DryRun        bool           `json:"dry_run,omitempty"`
	Schemas       []SchemaReport `json:"schemas"`
}

// SchemaReport is the state of one schema. Files are named as in the tree: pgq/functions/next_batch.sql.
type SchemaReport struct {
	Name      string   `json:"name"`
	Owner     Owner    `json:"owner"`
	Role      string   `json:"role,omitempty"`       // database role that owns the schema
	Extension string   `json:"extension,omitempty"`  // name and version of the extension that owns it
	Version   string   `json:"version,omitempty"`    // of <schema>.version(), when it can be called
	Installer string   `json:"installer,omitempty"`  // version of skyd that applied the newest file
	TakenFrom string   `json:"taken_from,omitempty"` // what it was before this Install made it ours
	Changes   []string `json:"changes,omitempty"`    // what else that took, or in a dry run would take
	Notes     []string `json:"notes,omitempty"`      // what stays of the original, and what to look at
	Applied   []string `json:"applied,omitempty"`    // by this Install; in a dry run what it would apply
	Pending   []string `json:"pending,omitempty"`    // new or changed files and upgrade scripts that Install would apply
	Drifted   []string `json:"drifted,omitempty"`    // files of functions that were changed or dropped in the database
	Unknown   []string `json:"unknown,omitempty"`    // functions in the schema that come from no file
}

// UpToDate reports whether Install has nothing to do for the schema.
func (s SchemaReport) UpToDate() bool {
	return s.Owner == Extension || s.Owner == Skyd && len(s.Pending) == 0 && len(s.Drifted) == 0
}

// Inspect reports what is installed without changing anything. It needs no rights beyond connecting.
func Inspect(ctx context.Context, db Beginner) (Report, error) {
	sources, err := shipped()
	if err != nil {
		return Report{}, err
	}
	return inspect(ctx, db, sources)
}

// inspect is Inspect for any tree.
func inspect(ctx context.Context, db Beginner, sources []source) (Report, error) {
	var report Report
	err := inTransaction(ctx, db, func(tx pgx.Tx) (bool, error) {
		state, err := readState(ctx, tx, sources)
		if err != nil {
			return false, err
		}
		report = state.report(sources)
		return false, readVersions(ctx, tx, &report)
	})
	return report, err
}

// databaseState is all that the installer looks at before it decides.
type databaseState struct {
	database      string
	serverVersion string
	serverNum     int
	standby       bool
	role          string // current user
	canCreate     bool   // CREATE on the database
	canMakeRoles  bool
	roles         map[string]bool // that exist
	schemas       map[string]schemaState
}

// schemaState is what the database has of one schema.
type schemaState struct {
	owner     Owner
	present   bool // the namespace is there, maybe empty
	role      string
	mine      bool // the current user may act as the owner
	mayCreate bool // the current user may create objects in it
	extension string
	taking    *takeover // what Install does to make it ours; nil when it is not asked to
	installer string
	sums      map[string]string            // recorded files: path to hash
	recorded  map[string]recordedFunction  // recorded functions by signature
	catalog   map[string]catalogedFunction // functions as they are, by signature
}

// recordedFunction is a row of skyd.schema_function.
type recordedFunction struct{ path, fingerprint string }

// catalogedFunction is a function in the catalog.
type catalogedFunction struct{ name, fingerprint string }

const stateSQL = `
select pg_catalog.current_database(),
       pg_catalog.current_setting('server_version'),
       pg_catalog.current_setting('server_version_num')::int4,
       pg_catalog.pg_is_in_recovery(),
       current_user::text,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       (select r.rolsuper or r.rolcreaterole from pg_catalog.pg_roles r where r.rolname = current_user),
       pg_catalog.to_regclass('skyd.schema_file') is not null
       and pg_catalog.to_regclass('skyd.schema_function') is not null,
       array(select r.rolname::text from pg_catalog.pg_roles r)`

// schemaStateSQL tells what a schema is, apart from our records. A schema belongs to an extension when the namespace
// or any function in it does. The original is recognised by columns that every version of it has.
const schemaStateSQL = `
select s.name, n.oid is not null,
       coalesce(pg_catalog.pg_get_userbyid(n.nspowner)::text, ''),
       n.oid is not null and pg_catalog.pg_has_role(n.nspowner, 'USAGE'),
       n.oid is not null and pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
       coalesce((
           select e.extname || ' ' || e.extversion
           from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
           where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'
             and (d.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.objid = n.oid
                  or d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                     and d.objid in (select p.oid from pg_catalog.pg_proc p where p.pronamespace = n.oid))
           limit 1), ''),
       exists (select 1 from pg_catalog.pg_class c where c.relnamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_proc p where p.pronamespace = n.oid)
       or exists (select 1 from pg_catalog.pg_type t where t.typnamespace = n.oid),
       (select pg_catalog.count(*) = 4 from pg_catalog.pg_attribute a
        where (a.attrelid, a.attname) in (
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_switch_step2'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.queue'), 'queue_data_pfx'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.subscription'), 'sub_last_tick'),
            (pg_catalog.to_regclass(pg_catalog.quote_ident(s.name) || '.tick'), 'tick_snapshot')))
from pg_catalog.unnest($1::text[]) as s (name)
left join pg_catalog.pg_namespace n on n.nspname = s.name`

const recordedFilesSQL = `
select f.schema_name, f.path, f.sha256,
       f.skyd_version, f.applied_at = max(f.applied_at) over (partition by f.schema_name)
from skyd.schema_file f
where f.schema_name = any ($1::text[])`

const recordedFunctionsSQL = `
select f.schema_name, f.signature, f.path, f.fingerprint
from skyd.schema_function f
where f.schema_name = any ($1::text[])`

// catalogSQL reads the functions as they are. The definition spells out type names as the search path demands, so it
// must only be run with an empty one.
const catalogSQL = `
select n.nspname::text, p.oid::pg_catalog.regprocedure::text, p.proname::text,
       pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid))
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any ($1::text[]) and p.prokind <> 'a'`

// readState looks at the database. The transaction's search path must be empty.
func readState(ctx context.Context, tx pgx.Tx, sources []source) (databaseState, error) {
	s := databaseState{roles: map[string]bool{}, schemas: map[string]schemaState{}}
	var (
		recorded bool
		roles    []string
		names    []string

		namespaces []string
	)
	for _, src := range sources {
		names = append(names, src.name)
		if src.inside == "" {
			namespaces = append(namespaces, src.name)
		}
	}
	err := tx.QueryRow(ctx, stateSQL, pgx.QueryExecModeExec).Scan(&s.database, &s.serverVersion, &s.serverNum,
		&s.standby, &s.role, &s.canCreate, &s.canMakeRoles, &recorded, &roles)
	if err != nil {
		return s, fmt.Errorf("read the state of the database: %w", err)
	}
	for _, r := range roles {
		s.roles[r] = true
	}
	if err := s.readSchemas(ctx, tx, namespaces); err != nil {
		return s, fmt.Errorf("read the state of the schemas: %w", err)
	}
	for _, src := range sources {
		if src.inside != "" {
			s.schemas[src.name] = s.schemas[src.inside].asGuest()
		} else if err := s.readMarks(ctx, tx, src.name); err != nil {
			return s, fmt.Errorf("look whose schema %s is: %w", src.name, err)
		}
	}
	if recorded {
		if err := s.readRecords(ctx, tx, names); err != nil {
			return s, fmt.Errorf("read the records of skyd: %w", err)
		}
	}
	for _, src := range sources {
		s.classify(src)
	}
	return s, nil
}

// readSchemas reads the catalog. The owner is provisional: what our records make of it comes later.
func (s databaseState) readSchemas(ctx context.Context, tx pgx.Tx, names []string) error {
	rows, _ := tx.Query(ctx, schemaStateSQL, pgx.QueryExecModeExec, names)
	var (
		name            string
		filled, looksPg bool
		sch             schemaState
	)
	_, err := pgx.ForEachRow(rows, []any{&name, &sch.present, &sch.role, &sch.mine, &sch.mayCreate, &sch.extension, &filled, &looksPg},
		func() error {
			switch {
			case sch.extension != "":
				sch.owner = Extension
			case !filled:
				sch.owner = Missing
			case looksPg:
				sch.owner = Original
			default:
				sch.owner = Foreign
			}
			sch.sums, sch.recorded = map[string]string{}, map[string]recordedFunction{}
			sch.catalog = map[string]catalogedFunction{}
			s.schemas[name] = sch
			return nil
		})
	if err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, catalogSQL, pgx.QueryExecModeExec, names)
	var (
		signature string
		fn        catalogedFunction
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &signature, &fn.name, &fn.fingerprint}, func() error {
		s.schemas[name].catalog[signature] = fn
		return nil
	})
	return err
}

// marksSQL tells whether a schema has all of the columns and functions.
const marksSQL = `
select pg_catalog.bool_and(
    case when m like '%(%' then pg_catalog.to_regprocedure(pg_catalog.quote_ident($1::text) || '.' || m) is not null
         else exists (
             select from pg_catalog.pg_attribute a
             where a.attrelid = pg_catalog.to_regclass(
                       pg_catalog.quote_ident($1::text) || '.' || pg_catalog.split_part(m, '.', 1))
               and a.attname = pg_catalog.split_part(m, '.', 2)) end)
from pg_catalog.unnest($2::text[]) as m`

// readMarks recognises the originals beside PgQ itself.
func (s databaseState) readMarks(ctx context.Context, tx pgx.Tx, name string) error {
	sch, marks := s.schemas[name], legacyOf(name).marks
	if sch.owner != Foreign || len(marks) == 0 {
		return nil
	}
	var original bool
	if err := tx.QueryRow(ctx, marksSQL, pgx.QueryExecModeExec, name, marks).Scan(&original); err != nil {
		return err
	}
	if original {
		sch.owner = Original
		s.schemas[name] = sch
	}
	return nil
}

// takeovers lists the plans by schema.
func (s databaseState) takeovers() map[string]*takeover {
	all := map[string]*takeover{}
	for name, sch := range s.schemas {
		if sch.taking != nil {
			all[name] = sch.taking
		}
	}
	return all
}

// readRecords reads our own tables.
func (s databaseState) readRecords(ctx context.Context, tx pgx.Tx, names []string) error {
	rows, _ := tx.Query(ctx, recordedFilesSQL, pgx.QueryExecModeExec, names)
	var (
		name, path, sum, installer, signature string
		newest                                bool
		fn                                    recordedFunction
	)
	_, err := pgx.ForEachRow(rows, []any{&name, &path, &sum, &installer, &newest}, func() error {
		sch := s.schemas[name]
		sch.sums[path] = sum
		if newest {
			sch.installer = installer
		}
		s.schemas[name] = sch
		return nil
	})
	if err != nil {
		return err
	}
	rows, _ = tx.Query(ctx, recordedFunctionsSQL, pgx.QueryExecModeExec, names)
	_, err = pgx.ForEachRow(rows, []any{&name, &signature, &fn.path, &fn.fingerprint}, func() error {
		s.schemas[name].recorded[signature] = fn
		return nil
	})
	return err
}

// classify settles the owner with the help of our records, and forgets the records of a schema that is not ours: they
// are left over from one that was dropped.
func (s databaseState) classify(src source) {
	sch := s.schemas[src.name]
	_, recorded := sch.sums["tables.sql"]
	switch {
	case src.inside != "" && recorded && sch.hasRecordedFunction():
		sch.owner = Skyd
	case src.inside == "" && recorded && (sch.owner == Original || sch.owner == Foreign):
		sch.owner = Skyd
	}
	if sch.owner != Skyd {
		clear(sch.sums)
		clear(sch.recorded)
		sch.installer = ""
	}
	s.schemas[src.name] = sch
}

// asGuest is what a guest of this schema starts from: the same namespace and catalog, and no owner until the records
// tell.
func (sch schemaState) asGuest() schemaState {
	sch.owner, sch.extension = Missing, ""
	sch.sums, sch.recorded = map[string]string{}, map[string]recordedFunction{}
	return sch
}

// hasRecordedFunction tells whether anything that the records name is still there.
func (sch schemaState) hasRecordedFunction() bool {
	for signature := range sch.recorded {
		if _, ok := sch.catalog[signature]; ok {
			return true
		}
	}
	return false
}

// drifted lists the files whose functions are no longer as they were installed.
func (sch schemaState) drifted(src source) []string {
	paths := map[string]bool{}
	for signature, fn := range sch.recorded {
		known := slices.ContainsFunc(src.files, func(f file) bool { return f.path == fn.path })
		if known && sch.catalog[signature].fingerprint != fn.fingerprint {
			paths[fn.path] = true
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// report makes the answer of Inspect.
func (s databaseState) report(sources []source) Report {
	r := Report{Database: s.database, ServerVersion: s.serverVersion, Schemas: []SchemaReport{}}
	for _, src := range sources {
		sch := s.schemas[src.name]
		sr := SchemaReport{
			Name: src.name, Owner: sch.owner, Role: sch.role, Extension: sch.extension,
			Installer: sch.installer,
		}
		if sch.owner == Skyd {
			for _, path := range sch.drifted(src) {
				sr.Drifted = append(sr.Drifted, src.name+"/"+path)
			}
			for _, st := range plan(src, sch) {
				if st.run && (st.why == fresh || st.why == changed) {
					sr.Pending = append(sr.Pending, st.file.name())
				}
			}
			sr.Unknown = sch.unknown(src, sources)
		}
		r.Schemas = append(r.Schemas, sr)
	}
	return r
}

// unknown lists the functions of the schema that come from no file of it or of its guests.
func (sch schemaState) unknown(src source, sources []source) []string {
	files := map[string]bool{}
	for _, other := range sources {
		if other.namespace() == src.namespace() {
			for _, f := range other.files {
				files[f.function()] = true
			}
		}
	}
	var signatures []string
	for signature, fn := range sch.catalog {
		if !files[fn.name] {
			signatures = append(signatures, signature)
		}
	}
	slices.Sort(signatures)
	return signatures
}

// versionSQL finds version functions that the current user can call.
const versionSQL = `
select n.nspname::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any ($1::text[]) and p.proname = 'version' and p.pronargs = 0
  and p.prorettype = 'pg_catalog.text'::pg_catalog.regtype and not p.proretset
  and pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_function_privilege(p.oid, 'EXECUTE')`

// readVersions asks the schemas that are PgQ, ours or not, for their version. One that cannot answer has none.
func readVersions(ctx context.Context, tx pgx.Tx, r *Report) error {
	var names []string
	for _, sch := range r.Schemas {
		if sch.Owner != Missing && sch.Owner != Foreign {
			names = append(names, sch.Name)
		}
	}
	rows, _ := tx.Query(ctx, versionSQL, pgx.QueryExecModeExec, names)
	callable, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for version functions: %w", err)
	}
	for i := range r.Schemas {
		sch := &r.Schemas[i]
		if !slices.Contains(callable, sch.Name) {
			continue
		}
		call := "select coalesce(" + pgx.Identifier{sch.Name, "version"}.Sanitize() + "(), '')"
		if err := tx.QueryRow(ctx, call, pgx.QueryExecModeExec).Scan(&sch.Version); err != nil {
			return fmt.Errorf("ask schema %s for its version: %w", sch.Name, err)
		}
	}
	return nil
}

// inTransaction runs work in a transaction of its own with the settings that reading the catalog and applying files
// rely on. It commits only when work asks for it.
func inTransaction(ctx context.Context, db Beginner, work func(pgx.Tx) (commit bool, err error)) (err error) {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("open a transaction: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		rollback := tx.Rollback(end) // says nothing new after an error: the server rolls back without us
		if err == nil && rollback != nil && !errors.Is(rollback, pgx.ErrTxClosed) {
			err = fmt.Errorf("roll back: %w", rollback)
		}
	}()
	if _, err := tx.Exec(ctx, settingsSQL, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("set up the transaction: %w", err)
	}
	commit, err := work(tx)
	if err != nil || !commit {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// rollbackTimeout bounds the farewell to a server that no longer answers.
const rollbackTimeout = 5 * time.Second

// settingsSQL comes first in every transaction: read committed, because what is read after the advisory lock must be
// what the last holder committed; an empty search path, because files are written for it and fingerprints depend on
// it; the rest, because a role or a database may have other defaults.
const settingsSQL = `
set transaction isolation level read committed;
set local search_path = '';
set local client_min_messages = 'warning';
set local check_function_bodies = on;
set local standard_conforming_strings = on;
set local default_tablespace = '';`
