package pgqsql

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// shape is what the catalog has of one schema, as far as a takeover must bring it in line: names are relative to the
// schema, definitions are the server's own text.
type shape struct {
	tables      map[string]bool
	sequences   map[string]bool
	columns     map[string]shapeColumn // by "table.column"
	order       []string               // keys of columns, in table order
	constraints map[string]shapeConstraint
	indexes     map[string]string // definition by name, without those of constraints
	types       map[string]bool   // composite types of their own
	comments    map[string]string // by "table x", "sequence x", "column x.y"
	functions   map[string]shapeFunction
	views       map[string]bool
}

// shapeColumn is one column.
type shapeColumn struct {
	table, name, kind, value string // kind is the type, value the default
	notNull                  bool
}

// shapeConstraint is one constraint; by "table.name".
type shapeConstraint struct{ table, name, definition string }

// shapeFunction is one function; by its signature.
type shapeFunction struct {
	name, takes, gives string // full arguments and result
	kind               string
	oid                uint32
	public             bool // everybody may execute it
}

// The queries of readShape. $1 is the schema; the search path must be empty.
const (
	shapeRelationsSQL = `
select c.relname::text, c.relkind::text, coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '')
from pg_catalog.pg_class c
where c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = $1::text)
  and c.relkind in ('r', 'S', 'v', 'm', 'c')`

	shapeColumnsSQL = `
select c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
       coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), ''),
       coalesce(pg_catalog.col_description(c.oid, a.attnum), '')
from pg_catalog.pg_class c
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = $1::text) and c.relkind = 'r'
order by c.relname, a.attnum`

	shapeConstraintsSQL = `
select c.relname::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid)
from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
where c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = $1::text)
  and k.contype in ('p', 'u', 'f', 'c', 'x')`

	shapeIndexesSQL = `
select c.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid)
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
where c.relnamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = $1::text)
  and not exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid
                  and k.contype in ('p', 'u', 'x'))`

	shapeFunctionsSQL = `
select p.oid, p.oid::pg_catalog.regprocedure::text, p.proname::text,
       pg_catalog.pg_get_function_arguments(p.oid), coalesce(pg_catalog.pg_get_function_result(p.oid), ''),
       p.prokind::text,
       exists (select from pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
               where a.grantee = 0)
from pg_catalog.pg_proc p
where p.pronamespace = (select n.oid from pg_catalog.pg_namespace n where n.nspname = $1::text) and p.prokind <> 'a'`
)

// readShape reads one schema.
func readShape(ctx context.Context, tx pgx.Tx, schema string) (shape, error) {
	s := shape{
		tables: map[string]bool{}, sequences: map[string]bool{}, columns: map[string]shapeColumn{},
		constraints: map[string]shapeConstraint{}, indexes: map[string]string{}, types: map[string]bool{},
		comments: map[string]string{}, functions: map[string]shapeFunction{}, views: map[string]bool{},
	}
	each := func(sql string, fields []any, row func()) error {
		rows, _ := tx.Query(ctx, sql, pgx.QueryExecModeExec, schema)
		_, err := pgx.ForEachRow(rows, fields, func() error { row(); return nil })
		return err
	}
	var (
		relation, kind, comment, signature string
		column                             shapeColumn
		constraint                         shapeConstraint
		function                           shapeFunction
	)
	kinds := map[string]map[string]bool{"r": s.tables, "S": s.sequences, "v": s.views, "m": s.views, "c": s.types}
	words := map[string]string{"r": "table ", "S": "sequence "}
	err := each(shapeRelationsSQL, []any{&relation, &kind, &comment}, func() {
		kinds[kind][relation] = true
		if word := words[kind]; word != "" && comment != "" {
			s.comments[word+relation] = comment
		}
	})
	if err != nil {
		return s, fmt.Errorf("read the relations of schema %s: %w", schema, err)
	}
	err = each(shapeColumnsSQL, []any{&column.table, &column.name, &column.kind, &column.notNull, &column.value, &comment}, func() {
		key := column.table + "." + column.name
		s.columns[key] = column
		s.order = append(s.order, key)
		if comment != "" {
			s.comments["column "+key] = comment
		}
	})
	if err != nil {
		return s, fmt.Errorf("read the columns of schema %s: %w", schema, err)
	}
	err = each(shapeConstraintsSQL, []any{&constraint.table, &constraint.name, &constraint.definition}, func() {
		s.constraints[constraint.table+"."+constraint.name] = constraint
	})
	if err != nil {
		return s, fmt.Errorf("read the constraints of schema %s: %w", schema, err)
	}
	if err := each(shapeIndexesSQL, []any{&relation, &comment}, func() { s.indexes[relation] = comment }); err != nil {
		return s, fmt.Errorf("read the indexes of schema %s: %w", schema, err)
	}
	err = each(shapeFunctionsSQL, []any{
		&function.oid, &signature, &function.name, &function.takes, &function.gives, &function.kind, &function.public,
	}, func() { s.functions[signature] = function })
	if err != nil {
		return s, fmt.Errorf("read the functions of schema %s: %w", schema, err)
	}
	return s, nil
}
