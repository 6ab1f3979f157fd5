package pgqsql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// wanted tells whether Options ask for taking this schema over.
func (o Options) wanted(src source, sch schemaState) bool {
	if src.inside != "" || src.name == ledger {
		return false
	}
	return sch.owner == Original && o.TakeOver || sch.owner == Extension && o.TakeOver && o.FromExtension
}

// planTakeovers makes the plans for all schemas that Options ask for. What a fresh install looks like is found out by
// making one beside, inside a savepoint that is rolled back.
func (s databaseState) planTakeovers(ctx context.Context, tx pgx.Tx, sources []source, o Options) error {
	var taken []source
	for _, src := range sources {
		if o.wanted(src, s.schemas[src.name]) {
			taken = append(taken, src)
		}
	}
	if len(taken) == 0 || s.standby {
		return nil
	}
	have := map[string]shape{}
	for _, src := range taken {
		sch := s.schemas[src.name]
		sch.taking = &takeover{from: "plain SQL"}
		if sch.extension != "" {
			sch.taking.from = "extension " + sch.extension
		}
		s.schemas[src.name] = sch
		var err error
		if have[src.name], err = readShape(ctx, tx, src.name); err != nil {
			return err
		}
		if sch.taking.faults, err = s.ownerFaults(ctx, tx, src); err != nil {
			return err
		}
		if len(sch.taking.faults) > 0 {
			return nil
		}
	}
	fresh := slices.Clone(taken)
	if at := slices.IndexFunc(sources, func(o source) bool { return o.name == ledger }); at >= 0 && s.schemas[ledger].owner == Missing {
		fresh = slices.Insert(fresh, 0, sources[at]) // rights are set with its help
	}
	want, err := referenceShapes(ctx, tx, fresh, s)
	if err != nil {
		return err
	}
	for _, src := range taken {
		sch := s.schemas[src.name]
		t := planTakeover(src.name, have[src.name], want[src.name], legacyOf(src.name), s.guestsOf(src, sources))
		t.from = sch.taking.from
		if err := t.checkDependents(ctx, tx, src.name, have[src.name]); err != nil {
			return err
		}
		if err := t.keepRights(ctx, tx, have[src.name], want[src.name]); err != nil {
			return err
		}
		if err := t.countKept(ctx, tx, src.name); err != nil {
			return err
		}
		t.lock(src.name)
		sch.taking = t
		s.schemas[src.name] = sch
	}
	return s.releaseExtensions(ctx, tx, taken)
}

// guestsOf lists the functions that our guests have in the schema.
func (s databaseState) guestsOf(src source, sources []source) map[string]bool {
	guests := map[string]bool{}
	for _, other := range sources {
		if other.inside == src.name {
			for signature := range s.schemas[other.name].recorded {
				guests[signature] = true
			}
		}
	}
	return guests
}

// ownersSQL lists roles that own something in the schema or the extension and that the current user cannot act as.
const ownersSQL = `
select distinct pg_catalog.pg_get_userbyid(o.owner)::text
from (select c.relowner from pg_catalog.pg_class c where c.relnamespace = $1::text::pg_catalog.regnamespace
      union all
      select p.proowner from pg_catalog.pg_proc p where p.pronamespace = $1::text::pg_catalog.regnamespace
      union all
      select n.nspowner from pg_catalog.pg_namespace n where n.oid = $1::text::pg_catalog.regnamespace
      union all
      select e.extowner from pg_catalog.pg_extension e where e.extname || ' ' || e.extversion = $2::text) as o (owner)
where not pg_catalog.pg_has_role(o.owner, 'USAGE')
order by 1`

// ownerFaults tells what the current user lacks for a takeover.
func (s databaseState) ownerFaults(ctx context.Context, tx pgx.Tx, src source) ([]fault, error) {
	rows, _ := tx.Query(ctx, ownersSQL, pgx.QueryExecModeExec, ident(src.name), s.schemas[src.name].extension)
	owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for the owners of schema %s: %w", src.name, err)
	}
	var faults []fault
	if len(owners) > 0 {
		faults = append(faults, fault{
			fmt.Sprintf("or what is in it belongs to %s; role %s may not change it", strings.Join(owners, ", "), s.role),
			"connect as a member of these roles, or as a superuser",
		})
	}
	if !s.canCreate {
		faults = append(faults, fault{
			fmt.Sprintf("can only be taken over by a role that may create schemas in the database; role %s may not", s.role),
			fmt.Sprintf("as its owner: grant create on database %s to %s", ident(s.database), ident(s.role)),
		})
	}
	return faults, nil
}

// referenceShapes installs the schemas afresh under their own names, reads what comes out and undoes all of it.
func referenceShapes(ctx context.Context, tx pgx.Tx, fresh []source, s databaseState) (map[string]shape, error) {
	inner, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		return nil, fmt.Errorf("set a savepoint: %w", err)
	}
	defer func() { _ = inner.Rollback(ctx) }()
	for _, src := range fresh {
		if !s.schemas[src.name].present {
			continue
		}
		sql := fmt.Sprintf("alter schema %s rename to %s", ident(src.name), ident("skyd_was_"+src.name))
		if _, err := inner.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return nil, fmt.Errorf("set schema %s aside for a moment: %w", src.name, err)
		}
	}
	shapes := map[string]shape{}
	for _, src := range fresh {
		for _, f := range src.files {
			if f.kind == upgradeFile {
				continue
			}
			if err := send(ctx, tx, f); err != nil {
				return nil, err
			}
		}
		if shapes[src.name], err = readShape(ctx, tx, src.name); err != nil {
			return nil, err
		}
	}
	if err := inner.Rollback(ctx); err != nil {
		return nil, fmt.Errorf("undo the savepoint: %w", err)
	}
	return shapes, nil
}

// dependentsSQL lists what uses a function or type, apart from other functions that are dropped too.
const dependentsSQL = `
select pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0), pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
from pg_catalog.pg_depend d
where d.deptype in ('n', 'a')
  and (d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.refobjid = any ($1::oid[])
       or d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.refobjid in (
              select t.oid from pg_catalog.pg_type t
              where t.typnamespace = $2::text::pg_catalog.regnamespace and t.typname = any ($3::text[])))
  and not (d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = any ($1::oid[]))
union all
select pg_catalog.pg_describe_object('pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, 0),
       pg_catalog.pg_describe_object('pg_catalog.pg_constraint'::pg_catalog.regclass, f.oid, 0)
from pg_catalog.pg_constraint k join pg_catalog.pg_constraint f on f.conindid = k.conindid and f.contype = 'f'
join pg_catalog.pg_class c on c.oid = k.conrelid
join pg_catalog.pg_class r on r.oid = f.conrelid
where k.contype in ('p', 'u') and c.relnamespace = $2::text::pg_catalog.regnamespace
  and c.relname || '.' || k.conname = any ($4::text[])
  and not (r.relnamespace = c.relnamespace and r.relname || '.' || f.conname = any ($4::text[]))
order by 1, 2`

// checkDependents finds objects of the user that hang on what must be dropped.
func (t *takeover) checkDependents(ctx context.Context, tx pgx.Tx, schema string, have shape) error {
	oids, types, constraints := []uint32{}, []string{}, []string{}
	for _, signature := range t.drops {
		oids = append(oids, have.functions[signature].oid)
	}
	for name := range have.types {
		if slices.ContainsFunc(t.actions, func(a action) bool { return a.sql == "drop type "+ident(schema)+"."+ident(name) }) {
			types = append(types, name)
		}
	}
	for key, c := range have.constraints {
		sql := fmt.Sprintf("alter table %s.%s drop constraint %s", ident(schema), ident(c.table), ident(c.name))
		if slices.ContainsFunc(t.actions, func(a action) bool { return a.sql == sql }) {
			constraints = append(constraints, key)
		}
	}
	rows, _ := tx.Query(ctx, dependentsSQL, pgx.QueryExecModeExec, oids, ident(schema), types, constraints)
	var used, user string
	_, err := pgx.ForEachRow(rows, []any{&used, &user}, func() error {
		t.faults = append(t.faults, fault{
			fmt.Sprintf("has %s, which has to go, and %s uses it", used, user),
			"drop that first and make it again afterwards",
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for what depends on schema %s: %w", schema, err)
	}
	return nil
}

// rightsSQL lists who may execute a function, apart from its owner and everybody.
const rightsSQL = `
select distinct pg_catalog.pg_get_userbyid(a.grantee)::text
from pg_catalog.pg_proc p cross join lateral pg_catalog.aclexplode(p.proacl) a
where p.oid = $1::oid and a.grantee <> 0 and a.grantee <> p.proowner
  and pg_catalog.pg_get_userbyid(a.grantee) not in ('pgq_reader', 'pgq_writer', 'pgq_admin')
order by 1`

// keepRights gives back what other roles had on functions that are made again.
func (t *takeover) keepRights(ctx context.Context, tx pgx.Tx, have, want shape) error {
	for _, signature := range t.drops {
		if _, again := want.functions[signature]; !again {
			continue
		}
		rows, _ := tx.Query(ctx, rightsSQL, pgx.QueryExecModeExec, have.functions[signature].oid)
		roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("read the rights on function %s: %w", signature, err)
		}
		for _, role := range roles {
			t.finish = append(slices.Clone(t.finish), action{
				fmt.Sprintf("grant execute on function %s to %s again", signature, role),
				fmt.Sprintf("grant execute on function %s to %s", signature, ident(role)),
			})
		}
	}
	return nil
}

// countKept notes what stays in tables that are no longer used.
func (t *takeover) countKept(ctx context.Context, tx pgx.Tx, schema string) error {
	for _, table := range t.kept {
		var rows int64
		sql := fmt.Sprintf("select pg_catalog.count(*) from %s.%s", ident(schema), ident(table))
		if err := tx.QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(&rows); err != nil {
			return fmt.Errorf("count the rows of table %s.%s: %w", schema, table, err)
		}
		t.notes = append(t.notes, fmt.Sprintf("table %s.%s is no longer used; it stays as it is, rows: %d", schema, table, rows))
	}
	return nil
}

// lock puts a lock on the tables of the queues before everything else. A ticker or a maintenance that is at work ends
// first and the next one runs the new functions. Producers are kept out only when the table of queues changes.
func (t *takeover) lock(schema string) {
	if schema != "pgq" {
		return
	}
	var locks []string
	for _, table := range []string{"queue", "consumer", "subscription", "tick", "retry_queue"} {
		mode := "share row exclusive"
		alter := "alter table " + ident(schema) + "." + ident(table) + " "
		if slices.ContainsFunc(t.actions, func(a action) bool { return strings.HasPrefix(a.sql, alter) }) {
			mode = "access exclusive"
		}
		locks = append(locks, fmt.Sprintf("lock table pgq.%s in %s mode", table, mode))
	}
	t.actions = slices.Insert(t.actions, 0, action{"wait for tickers, consumers and maintenance", strings.Join(locks, "; ")})
}

// membersSQL lists the members of an extension in the order in which they can leave it.
const membersSQL = `
select o.type, o.identity
from pg_catalog.pg_depend d
join pg_catalog.pg_extension e on e.oid = d.refobjid
cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) o
where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e' and e.extname = $1::text
order by o.type = 'schema', o.type, o.identity`

// needingSQL lists extensions that need this one.
const needingSQL = `
select n.extname::text
from pg_catalog.pg_depend d
join pg_catalog.pg_extension e on e.oid = d.refobjid
join pg_catalog.pg_extension n on n.oid = d.objid
where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
  and d.classid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'n' and e.extname = $1::text
order by 1`

// releaseExtensions lets go of the members of extensions and drops the extensions, which are empty then, before
// anything else is done: those that need another one first.
func (s databaseState) releaseExtensions(ctx context.Context, tx pgx.Tx, taken []source) error {
	var members, drops []action
	for _, src := range taken {
		t, extension := s.schemas[src.name].taking, s.schemas[src.name].extensionName()
		if extension == "" {
			continue
		}
		release, err := releaseMembers(ctx, tx, extension)
		if err != nil {
			return err
		}
		members = append(members, release)
		rows, _ := tx.Query(ctx, needingSQL, pgx.QueryExecModeExec, extension)
		needing, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("look for extensions that need %s: %w", extension, err)
		}
		for _, other := range needing {
			if !slices.ContainsFunc(taken, func(o source) bool { return s.schemas[o.name].extensionName() == other }) {
				t.faults = append(t.faults, fault{
					fmt.Sprintf("belongs to extension %s, and extension %s needs it", extension, other),
					fmt.Sprintf("take both over at once, or drop extension %s first", other),
				})
			}
		}
		drops = slices.Insert(drops, 0, action{"drop extension " + extension + ", which is empty now", "drop extension " + ident(extension)})
	}
	first := s.schemas[taken[0].name].taking
	first.actions = slices.Concat(members, drops, first.actions)
	return nil
}

// releaseMembers takes everything out of an extension.
func releaseMembers(ctx context.Context, tx pgx.Tx, extension string) (action, error) {
	var (
		kind, identity string
		statements     []string
	)
	rows, _ := tx.Query(ctx, membersSQL, pgx.QueryExecModeExec, extension)
	_, err := pgx.ForEachRow(rows, []any{&kind, &identity}, func() error {
		statements = append(statements, fmt.Sprintf("alter extension %s drop %s %s;", ident(extension), kind, identity))
		return nil
	})
	if err != nil {
		return action{}, fmt.Errorf("read the members of extension %s: %w", extension, err)
	}
	return action{
		fmt.Sprintf("take %d objects out of extension %s", len(statements), extension), strings.Join(statements, " "),
	}, nil
}

// extensionName is the name without the version.
func (sch schemaState) extensionName() string {
	name, _, _ := strings.Cut(sch.extension, " ")
	return name
}

// run executes the steps of a takeover.
func run(ctx context.Context, tx pgx.Tx, schema string, actions []action) error {
	for _, a := range actions {
		if _, err := tx.Exec(ctx, a.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("schema %s: %s: %w", schema, a.what, err)
		}
	}
	return nil
}
