package pgqsql_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// demo is a small schema of its own for the tests of the installer.
func demo(changes map[string]string) fstest.MapFS {
	files := map[string]string{
		"demo/install.txt": "# Base\nschema.sql\ntables.sql\n\n# Functions\nfunctions/one.sql\nfunctions/two.sql\ngrants.sql\n",
		"demo/schema.sql":  "create schema if not exists demo;\n",
		"demo/tables.sql":  "create table demo.item (id int4 primary key);\n",
		"demo/functions/one.sql": `create or replace function demo.one(i_a int4 default 1)
returns int4 as $$
    -- ----------------------------------------------------------------
    -- Function: demo.one(1)
    --
    --     Answers one. It's the smallest of all.
    --
    -- Parameters:
    --     i_a - ignored
    --
    -- Returns:
    --     one
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    return 1;
end;
$$ language plpgsql immutable;
`,
		"demo/functions/two.sql": "create or replace function demo.two() returns int4 as $$ select 2 $$ language sql immutable;\n",
		"demo/grants.sql":        "revoke all on function demo.one(int4), demo.two() from public;\n",
	}
	fsys := fstest.MapFS{}
	for path, text := range files {
		fsys[path] = &fstest.MapFile{Data: []byte(text)}
	}
	for path, text := range changes {
		fsys[path] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

// demoTree parses demo with changes.
func demoTree(t testing.TB, changes map[string]string) pgqsql.Tree {
	t.Helper()
	tree, err := pgqsql.LoadTree(demo(changes), pgqsql.Spec{Name: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// mustInstall installs a tree.
func mustInstall(t testing.TB, tree pgqsql.Tree, db pgqsql.Beginner) pgqsql.Report {
	t.Helper()
	report, err := tree.Install(t.Context(), db, pgqsql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// mustExec runs SQL.
func mustExec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// query returns one value.
func query[T any](t testing.TB, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// schemaOf picks one schema of a report.
func schemaOf(t testing.TB, r pgqsql.Report, name string) pgqsql.SchemaReport {
	t.Helper()
	i := slices.IndexFunc(r.Schemas, func(s pgqsql.SchemaReport) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no schema %s in %+v", name, r)
	}
	return r.Schemas[i]
}

func TestInstall_SecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	conn, tree := pgtest.Empty(t).Conn(t), demoTree(t, nil)
	first := mustInstall(t, tree, conn)
	if want := []string{"demo/schema.sql", "demo/tables.sql", "demo/functions/one.sql", "demo/functions/two.sql",
		"demo/grants.sql"}; !first.Changed || !slices.Equal(schemaOf(t, first, "demo").Applied, want) {
		t.Fatalf("first install: got %+v, want %v applied", first, want)
	}
	const rows = `select string_agg(r, ',' order by r) from (
		select xmin::text || path as r from skyd.schema_file
		union all select xmin::text || signature from skyd.schema_function
		union all select xmin::text || oid::regprocedure::text from pg_proc where pronamespace = 'demo'::regnamespace) x`
	before := query[string](t, conn, rows)
	second := mustInstall(t, tree, conn)
	if second.Changed || len(schemaOf(t, second, "demo").Applied) > 0 {
		t.Errorf("second install: got %+v, want no change", second)
	}
	if after := query[string](t, conn, rows); after != before {
		t.Errorf("second install wrote rows:\n%s\n%s", before, after)
	}
	if !schemaOf(t, second, "demo").UpToDate() {
		t.Errorf("got %+v, want up to date", second)
	}
}

func TestInstall_ErrorsNameFileLineColumn(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ path, text, want string }{
		"syntax": {"functions/two.sql", "-- two\ncreate or replace function demo.two() returns int4 as $$ select 2 $$\nlanguge sql;\n",
			"demo/functions/two.sql:3:1: syntax error"},
		"missing name in sql function": {"functions/two.sql", "create or replace function demo.two() returns int4 as $$\n    select nothing\n    from demo.item\n$$ language sql;\n",
			`demo/functions/two.sql:2:12: column "nothing" does not exist (42703)`},
		"plpgsql body": {"functions/two.sql", "create or replace function demo.two() returns int4 as $$\nbegin\n    -- größer\n    retrn 1;\nend;\n$$ language plpgsql;\n",
			"demo/functions/two.sql:4:5: syntax error"},
		"plpgsql declaration": {"functions/two.sql", "create or replace function demo.two() returns int4 as $$\ndeclare\n    v int4;\n    v no_such_type;\nbegin\n    return 1;\nend;\n$$ language plpgsql;\n",
			`demo/functions/two.sql:4:5: `},
		"two bodies alike": {"functions/two.sql", "create or replace function demo.two() returns int4 as $$\nbegin\n    retur 1;\nend;\n$$ language plpgsql;\ncreate or replace function demo.two(a int4) returns int4 as $$\nbegin\n    retur 1;\nend;\n$$ language plpgsql;\n",
			"demo/functions/two.sql:3:5: syntax error"},
		"unicode before": {"tables.sql", "create table demo.item (id int4); comment on table demo.item is 'äöü€'; create tabel x();\n",
			"demo/tables.sql:1:80: syntax error"},
		"no position": {"tables.sql", "create table demo.item (id int4 default 1; -- ;\n",
			"demo/tables.sql:1:42: syntax error"},
		"exists already": {"tables.sql", "create table demo.item (id int4);\n/* ; /* ; */ */ -- ';\ncomment on table demo.item is ';''';\n\n  create table demo.item (id int4);\n",
			`demo/tables.sql:5:3: relation "item" already exists (42P07)`},
		"unqualified": {"tables.sql", "create table demo.item (id int4);\ncreate index on item (id);\n",
			`demo/tables.sql:2:1: relation "item" does not exist (42P01)`},
		"raise in do": {"tables.sql", "create table demo.item (id int4);\ndo $$\nbegin\n    raise exception 'not today';\nend;\n$$;\n",
			"demo/tables.sql:4: not today (P0001)"},
		"sql in do": {"tables.sql", "create table demo.item (id int4);\ndo $$\nbegin\n    insert into demo.item (ident) values (1);\nend;\n$$;\n",
			`demo/tables.sql:4:28: column "ident" of relation "item" does not exist (42703)`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := pgtest.Empty(t).Conn(t)
			_, err := demoTree(t, map[string]string{"demo/" + c.path: c.text}).Install(t.Context(), conn, pgqsql.Options{})
			at := new(pgqsql.FileError)
			if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if query[bool](t, conn, "select exists (select from pg_namespace where nspname in ('demo', 'skyd'))") {
				t.Error("a failed install left a schema behind")
			}
		})
	}
}

// withUpgrade is demo with a new column and table, for fresh installs and as an upgrade script.
var withUpgrade = map[string]string{
	"demo/install.txt": "# Base\nschema.sql\ntables.sql\nupgrade/0001_label.sql\n# Functions\nfunctions/one.sql\nfunctions/two.sql\ngrants.sql\n",
	"demo/tables.sql":  "create table demo.item (id int4 primary key, label text);\ncreate table demo.upgrades (at timestamptz);\n",
	"demo/upgrade/0001_label.sql": "alter table demo.item add column label text;\ncreate table demo.upgrades (at timestamptz);\n" +
		"insert into demo.upgrades values (pg_catalog.now());\n",
}
