package pgqsql

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// action is one step of a takeover: what it is good for, and its SQL.
type action struct{ what, sql string }

// takeover is the plan by which a schema of the original becomes ours, in place: the tables stay with their rows, the
// functions are replaced under the feet of the triggers and views that use them.
type takeover struct {
	from    string
	actions []action // in place of tables.sql
	finish  []action // after the files
	notes   []string // what stays, what is worth knowing
	faults  []fault  // what this program does not know how to do
	drops   []string // signatures of the functions that are dropped, also those that are made again
	kept    []string // tables that ours does not use
}

// fault is a reason not to do it, and the way out.
type fault struct{ problem, remedy string }

// did tells what is done, for reports.
func (t *takeover) did() []string {
	var list []string
	for _, a := range slices.Concat(t.actions, t.finish) {
		list = append(list, a.what)
	}
	return list
}

// planner compares what is there with what a fresh install has.
type planner struct {
	takeover

	schema     string
	have, want shape
	know       legacy
	guests     map[string]bool // signatures of functions that are not the original's business
}

// do adds an action.
func (p *planner) do(what, format string, args ...any) {
	p.actions = append(p.actions, action{what, fmt.Sprintf(format, args...)})
}

// name is a qualified name.
func (p *planner) name(relation string) string { return ident(p.schema) + "." + ident(relation) }

// planTakeover makes the plan. It knows nothing of who depends on what is dropped; that is looked at in the database.
func planTakeover(schema string, have, want shape, know legacy, guests map[string]bool) *takeover {
	p := planner{schema: schema, have: have, want: want, know: know, guests: guests}
	p.functions()
	p.typesGone()
	p.constraintsOff()
	p.relations()
	p.columns()
	p.constraintsOn()
	p.comments()
	p.rights()
	p.finish = know.finish
	for _, table := range know.kept {
		if have.tables[table] {
			p.kept = append(p.kept, table)
		}
	}
	return &p.takeover
}

// functions drops what ours cannot replace and what older versions had. Everything else is replaced in place.
func (p *planner) functions() {
	names, public := map[string]bool{}, 0
	closing := func(fn, ours shapeFunction) {
		if fn.public && !ours.public && !strings.HasPrefix(fn.name, "_") {
			public++
		}
	}
	for _, fn := range p.want.functions {
		names[fn.name] = true
	}
	for _, signature := range slices.Sorted(maps.Keys(p.have.functions)) {
		fn := p.have.functions[signature]
		ours, known := p.want.functions[signature]
		switch {
		case p.guests[signature]:
		case known && fn.takes == ours.takes && fn.gives == ours.gives && fn.kind == ours.kind:
			closing(fn, ours)
		case known:
			p.drop(signature, "arguments or result differ, made again")
			closing(fn, ours)
		case slices.Contains(p.know.gone, fn.name), slices.Contains(p.know.gone, signature):
			p.drop(signature, "of an older version")
		case names[fn.name]:
			p.faults = append(p.faults, fault{
				fmt.Sprintf("has a function %s, which is not from any version known here and shares its name with one of ours", signature),
				"rename or drop it",
			})
		default:
			p.notes = append(p.notes, fmt.Sprintf("function %s has none in skyd that takes its place; it stays as it is", signature))
		}
	}
	if public > 0 {
		p.notes = append(p.notes, fmt.Sprintf("everybody could execute %d functions that are for pgq_reader, pgq_writer or "+
			"pgq_admin: grant these roles to the roles of your programs", public))
	}
}

// drop drops a function.
func (p *planner) drop(signature, why string) {
	p.drops = append(p.drops, signature)
	p.do(fmt.Sprintf("drop function %s: %s", signature, why), "drop function %s", signature)
}

// typesGone drops composite types of older versions.
func (p *planner) typesGone() {
	for _, name := range p.know.gone {
		if p.have.types[name] {
			p.do(fmt.Sprintf("drop type %s.%s: of an older version", p.schema, name), "drop type %s", p.name(name))
		}
	}
}

// constraintsOff drops constraints that ours has not or has otherwise, those that refer to others first.
func (p *planner) constraintsOff() {
	var off []shapeConstraint
	for _, key := range slices.Sorted(maps.Keys(p.have.constraints)) {
		c := p.have.constraints[key]
		ours, known := p.want.constraints[key]
		switch {
		case known && ours.definition != c.definition, !known && slices.Contains(p.know.constraints, key):
			off = append(off, c)
		case !known && p.want.tables[c.table]:
			p.notes = append(p.notes, fmt.Sprintf("constraint %s of table %s.%s is not from PgQ; it stays", c.name, p.schema, c.table))
		}
	}
	slices.SortStableFunc(off, func(a, b shapeConstraint) int {
		foreign := func(c shapeConstraint) int {
			if strings.HasPrefix(c.definition, "FOREIGN KEY") {
				return 0
			}
			return 1
		}
		return cmp.Compare(foreign(a), foreign(b))
	})
	for _, c := range off {
		p.do(fmt.Sprintf("drop constraint %s of table %s.%s", c.name, p.schema, c.table),
			"alter table %s drop constraint %s", p.name(c.table), ident(c.name))
	}
	for _, name := range p.know.indexes {
		if _, there := p.have.indexes[name]; there {
			p.do(fmt.Sprintf("drop index %s.%s: of an older version", p.schema, name), "drop index %s", p.name(name))
		}
	}
}

// relations makes tables and sequences that are missing; their columns follow.
func (p *planner) relations() {
	for _, name := range slices.Sorted(maps.Keys(p.want.sequences)) {
		if !p.have.sequences[name] {
			p.do(fmt.Sprintf("create sequence %s.%s", p.schema, name), "create sequence %s", p.name(name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.want.tables)) {
		if !p.have.tables[name] {
			p.do(fmt.Sprintf("create table %s.%s", p.schema, name), "create table %s ()", p.name(name))
		}
	}
}

// columns brings the columns in line.
func (p *planner) columns() {
	for _, key := range p.have.order {
		c := p.have.columns[key]
		if _, known := p.want.columns[key]; known || !p.want.tables[c.table] {
			continue
		}
		if c.notNull && c.value == "" {
			p.faults = append(p.faults, fault{
				fmt.Sprintf("has a column %s that is not from any version known here and must be given a value", key),
				fmt.Sprintf("give it a default or let it be null: alter table %s alter column %s drop not null",
					p.name(c.table), ident(c.name)),
			})
			continue
		}
		p.notes = append(p.notes, fmt.Sprintf("column %s.%s is not from PgQ; it stays", p.schema, key))
	}
	for _, key := range p.want.order {
		p.column(key, p.want.columns[key])
	}
}

// column brings one column in line: there, of its type, with its values, its default, not null.
func (p *planner) column(key string, want shapeColumn) {
	have, there := p.have.columns[key]
	table, name := p.name(want.table), ident(want.name)
	label := p.schema + "." + key
	if !there {
		clause := ""
		if want.value != "" {
			clause = " default " + want.value
		}
		p.do("add column "+label, "alter table %s add column %s %s%s", table, name, want.kind, clause)
		have = shapeColumn{kind: want.kind, value: want.value}
	}
	if have.kind != want.kind {
		if !snapshot(have.kind) || !snapshot(want.kind) {
			p.faults = append(p.faults, fault{
				fmt.Sprintf("has column %s of type %s, and %s is needed", key, have.kind, want.kind),
				"no version of PgQ known here has it so; change it by hand",
			})
			return
		}
		p.do(fmt.Sprintf("change column %s to %s", label, want.kind),
			"alter table %[1]s alter column %[2]s drop default, alter column %[2]s type %[3]s using %[2]s::text::%[3]s",
			table, name, want.kind)
		have.value = ""
	}
	if want.notNull && !have.notNull {
		switch fill := p.know.fill[key]; {
		case fill != "":
			p.do("fill column "+label, "%s", fill)
		case want.value != "" && there:
			p.do("fill column "+label, "update %s set %s = %s where %[2]s is null", table, name, want.value)
		}
	}
	switch {
	case have.value == want.value:
	case want.value == "":
		p.do("drop the default of column "+label, "alter table %s alter column %s drop default", table, name)
	default:
		p.do("set the default of column "+label, "alter table %s alter column %s set default %s", table, name, want.value)
	}
	switch {
	case want.notNull && !have.notNull:
		p.do("set column "+label+" not null", "alter table %s alter column %s set not null", table, name)
	case have.notNull && !want.notNull:
		p.do("let column "+label+" be null", "alter table %s alter column %s drop not null", table, name)
	}
}

// snapshot tells a type whose text is that of a snapshot of transactions, whoever made it.
func snapshot(kind string) bool {
	bare := kind[strings.LastIndexByte(kind, '.')+1:]
	return bare == "txid_snapshot" || bare == "pg_snapshot"
}

// constraintsOn adds constraints and indexes, those that others refer to first.
func (p *planner) constraintsOn() {
	var on []shapeConstraint
	for _, key := range slices.Sorted(maps.Keys(p.want.constraints)) {
		c := p.want.constraints[key]
		if have, there := p.have.constraints[key]; !there || have.definition != c.definition {
			on = append(on, c)
		}
	}
	for _, foreign := range []bool{false, true} {
		for _, c := range on {
			if strings.HasPrefix(c.definition, "FOREIGN KEY") == foreign {
				p.do(fmt.Sprintf("add constraint %s to table %s.%s", c.name, p.schema, c.table),
					"alter table %s add constraint %s %s", p.name(c.table), ident(c.name), c.definition)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.want.indexes)) {
		definition, there := p.have.indexes[name]
		switch {
		case !there:
			p.do(fmt.Sprintf("create index %s.%s", p.schema, name), "%s", p.want.indexes[name])
		case definition != p.want.indexes[name]:
			p.do(fmt.Sprintf("make index %s.%s again", p.schema, name), "drop index %s; %s", p.name(name), p.want.indexes[name])
		}
	}
}

// comments sets the comments of a fresh install.
func (p *planner) comments() {
	var statements []string
	for _, key := range slices.Sorted(maps.Keys(p.want.comments)) {
		if text := p.want.comments[key]; p.have.comments[key] != text {
			kind, name, _ := strings.Cut(key, " ")
			var parts []string
			for _, part := range strings.Split(name, ".") {
				parts = append(parts, ident(part))
			}
			statements = append(statements, fmt.Sprintf("comment on %s %s.%s is %s;", kind, ident(p.schema),
				strings.Join(parts, "."), literal(text)))
		}
	}
	if len(statements) > 0 {
		p.do("comments", "%s", strings.Join(statements, "\n"))
	}
}

// rights takes back what older versions granted on the tables; grants.sql comes later. Rights of other roles stay.
func (p *planner) rights() {
	var names []string
	for _, relations := range []map[string]bool{p.want.tables, p.want.sequences} {
		for _, name := range slices.Sorted(maps.Keys(relations)) {
			names = append(names, p.name(name))
		}
	}
	if len(names) > 0 {
		p.do("rights on the tables, for public and the roles of PgQ", "revoke all on %s from public, pgq_reader, pgq_writer, pgq_admin",
			strings.Join(names, ", "))
	}
}
