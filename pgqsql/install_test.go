package pgqsql_test

import (
	"context"
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
func mustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// query returns one value.
func query[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
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
	if want := []string{
		"demo/schema.sql", "demo/tables.sql", "demo/functions/one.sql", "demo/functions/two.sql",
		"demo/grants.sql",
	}; !first.Changed || !slices.Equal(schemaOf(t, first, "demo").Applied, want) {
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
		"syntax": {
			"functions/two.sql", "-- two\ncreate or replace function demo.two() returns int4 as $$ select 2 $$\nlanguge sql;\n",
			"demo/functions/two.sql:3:1: syntax error",
		},
		"missing name in sql function": {
			"functions/two.sql", "create or replace function demo.two() returns int4 as $$\n    select nothing\n    from demo.item\n$$ language sql;\n",
			`demo/functions/two.sql:2:12: column "nothing" does not exist (42703)`,
		},
		"plpgsql body": {
			"functions/two.sql", "create or replace function demo.two() returns int4 as $$\nbegin\n    -- größer\n    retrn 1;\nend;\n$$ language plpgsql;\n",
			"demo/functions/two.sql:4:5: syntax error",
		},
		"plpgsql declaration": {
			"functions/two.sql", "create or replace function demo.two() returns int4 as $$\ndeclare\n    v int4;\n    v no_such_type;\nbegin\n    return 1;\nend;\n$$ language plpgsql;\n",
			`demo/functions/two.sql:4:5: `,
		},
		"two bodies alike": {
			"functions/two.sql", "create or replace function demo.two() returns int4 as $$\nbegin\n    retur 1;\nend;\n$$ language plpgsql;\ncreate or replace function demo.two(a int4) returns int4 as $$\nbegin\n    retur 1;\nend;\n$$ language plpgsql;\n",
			"demo/functions/two.sql:3:5: syntax error",
		},
		"unicode before": {
			"tables.sql", "create table demo.item (id int4); comment on table demo.item is 'äöü€'; create tabel x();\n",
			"demo/tables.sql:1:80: syntax error",
		},
		"no position": {
			"tables.sql", "create table demo.item (id int4 default 1; -- ;\n",
			"demo/tables.sql:1:42: syntax error",
		},
		"exists already": {
			"tables.sql", "create table demo.item (id int4);\n/* ; /* ; */ */ -- ';\ncomment on table demo.item is ';''';\n\n  create table demo.item (id int4);\n",
			`demo/tables.sql:5:3: relation "item" already exists (42P07)`,
		},
		"unqualified": {
			"tables.sql", "create table demo.item (id int4);\ncreate index on item (id);\n",
			`demo/tables.sql:2:1: relation "item" does not exist (42P01)`,
		},
		"raise in do": {
			"tables.sql", "create table demo.item (id int4);\ndo $$\nbegin\n    raise exception 'not today';\nend;\n$$;\n",
			"demo/tables.sql:4: not today (P0001)",
		},
		"sql in do": {
			"tables.sql", "create table demo.item (id int4);\ndo $$\nbegin\n    insert into demo.item (ident) values (1);\nend;\n$$;\n",
			`demo/tables.sql:4:28: column "ident" of relation "item" does not exist (42703)`,
		},
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

func TestInstall_RunsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	conn := pgtest.Empty(t).Conn(t)
	mustInstall(t, demoTree(t, nil), conn)
	changed := demoTree(t, map[string]string{
		"demo/functions/two.sql": "create or replace function demo.two() returns int4 as $$ select 1 + 1 $$ language sql immutable;\n",
	})
	want := []string{"demo/functions/two.sql", "demo/grants.sql"}
	if s := inspect(t, changed, conn); !slices.Equal(s.Pending, want[:1]) || len(s.Drifted) > 0 || s.UpToDate() {
		t.Errorf("inspect: got %+v, want pending %v", s, want[:1])
	}
	if s := schemaOf(t, mustInstall(t, changed, conn), "demo"); !slices.Equal(s.Applied, want) {
		t.Errorf("install: applied %v, want %v", s.Applied, want)
	}
	if r := mustInstall(t, changed, conn); r.Changed {
		t.Errorf("again: got %+v, want no change", r)
	}
}

// inspect returns the state of schema demo.
func inspect(t testing.TB, tree pgqsql.Tree, conn *pgx.Conn) pgqsql.SchemaReport {
	t.Helper()
	r, err := tree.Inspect(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return schemaOf(t, r, "demo")
}

func TestInstall_RunsUpgradesOnce(t *testing.T) {
	t.Parallel()
	tree := demoTree(t, withUpgrade)
	fresh, old := pgtest.Empty(t).Conn(t), pgtest.Empty(t).Conn(t)
	mustInstall(t, tree, fresh)
	mustInstall(t, demoTree(t, nil), old)
	want := []string{"demo/upgrade/0001_label.sql", "demo/grants.sql"}
	for _, applied := range [][]string{want, nil} {
		if s := schemaOf(t, mustInstall(t, tree, old), "demo"); !slices.Equal(s.Applied, applied) {
			t.Errorf("applied %v, want %v", s.Applied, applied)
		}
	}
	for conn, want := range map[*pgx.Conn]int{fresh: 0, old: 1} {
		if n := query[int](t, conn, "select count(*)::int from demo.upgrades"); n != want {
			t.Errorf("upgrade script ran %d times, want %d", n, want)
		}
	}
	// the shape is the same, but for the hash of tables.sql, which was never run again
	hash := func(line string) bool { return strings.HasPrefix(line, "file | demo | tables.sql") }
	sameCatalog(t, slices.DeleteFunc(catalogOf(t, old, "demo"), hash), slices.DeleteFunc(catalogOf(t, fresh, "demo"), hash))

	_, err := demoTree(t, nil).Install(t.Context(), old, pgqsql.Options{})
	if !errors.Is(err, pgqsql.ErrRefused) || !strings.Contains(err.Error(), "newer skyd") ||
		!strings.Contains(err.Error(), "upgrade/0001_label.sql") {
		t.Errorf("older program: got %v, want a refusal that names the script", err)
	}
}

func TestInstall_RepairsDrift(t *testing.T) {
	t.Parallel()
	db, tree := pgtest.Empty(t), demoTree(t, nil)
	conn := db.Conn(t)
	mustInstall(t, tree, conn)
	clean := catalogOf(t, conn, "demo")
	mustExec(t, conn, "set search_path = demo, public")
	if s := inspect(t, tree, conn); !s.UpToDate() {
		t.Errorf("with another search_path: got %+v, want up to date", s)
	}
	for name, change := range map[string]string{
		"body":       "create or replace function demo.two() returns int4 as $$ select 3 $$ language sql immutable",
		"attributes": "alter function demo.two() security definer",
		"settings":   "alter function demo.two() set work_mem = '1MB'",
		"dropped":    "drop function demo.two()",
		"renamed":    "alter function demo.two() rename to three",
	} {
		mustExec(t, conn, change)
		if s := inspect(t, tree, conn); !slices.Equal(s.Drifted, []string{"demo/functions/two.sql"}) || len(s.Pending) > 0 {
			t.Errorf("%s: got %+v, want two.sql drifted", name, s)
		}
		want := []string{"demo/functions/two.sql", "demo/grants.sql"}
		if s := schemaOf(t, mustInstall(t, tree, conn), "demo"); !slices.Equal(s.Applied, want) || !s.UpToDate() {
			t.Errorf("%s: got %+v, want %v applied", name, s, want)
		}
		mustExec(t, conn, "drop function if exists demo.three()")
		plain := db.Conn(t)
		sameCatalog(t, catalogOf(t, plain, "demo"), clean)
	}
	mustExec(t, conn, "create function demo.mine() returns int4 as $$ select 1 $$ language sql")
	if s := inspect(t, tree, conn); !s.UpToDate() || !slices.Equal(s.Unknown, []string{"demo.mine()"}) {
		t.Errorf("a function of the user: got %+v, want it unknown and the schema up to date", s)
	}
}

func TestInstall_TakesTurns(t *testing.T) {
	t.Parallel()
	db, tree := pgtest.Empty(t), demoTree(t, nil)
	type result struct {
		report pgqsql.Report
		err    error
	}
	results := make(chan result)
	for range 4 {
		conn := db.Conn(t)
		go func() {
			r, err := tree.Install(t.Context(), conn, pgqsql.Options{})
			results <- result{r, err}
		}()
	}
	changed := 0
	for range 4 {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		if r.report.Changed {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("%d of 4 installs changed something, want 1", changed)
	}
}

func TestInstall_DatabasesOfOneServerMayRaceForRoles(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	admin := dial(t, server.DSN("postgres"))
	errs := make(chan error)
	const databases = 4
	for i := range databases {
		name := string(rune('a' + i))
		mustExec(t, admin, "create database "+name)
		conn := dial(t, server.DSN(name))
		go func() {
			_, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{})
			errs <- err
		}()
	}
	for range databases {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// dial connects to a server of the test's own.
func dial(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestInstall_NeedsNoSuperuser(t *testing.T) {
	t.Parallel()
	server := pgtest.NewCluster(t, nil)
	admin := dial(t, server.DSN("postgres"))
	for _, sql := range []string{
		"create role plain login", "create role creator login createrole", "create role nobody login",
		"create database one", "create database two", "create database three",
		"grant create on database one to plain, creator", "grant create on database two to plain",
	} {
		mustExec(t, admin, sql)
	}
	as := func(role, database string) *pgx.Conn {
		conn := dial(t, server.DSN(database))
		mustExec(t, conn, "set session authorization "+role)
		return conn
	}
	refused := func(conn *pgx.Conn, problem, remedy string) {
		t.Helper()
		_, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{})
		refusal := new(pgqsql.RefusedError)
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), problem) || !strings.Contains(refusal.Remedy, remedy) {
			t.Errorf("got %v (%+v), want %q (%q)", err, refusal, problem, remedy)
		}
	}
	refused(as("plain", "one"), "needs missing roles (pgq_reader, pgq_writer, pgq_admin) and role plain may not create them",
		`alter role "plain" createrole`)
	if _, err := pgqsql.Install(t.Context(), as("creator", "one"), pgqsql.Options{}); err != nil {
		t.Fatalf("with CREATE and CREATEROLE: %v", err)
	}
	if _, err := pgqsql.Install(t.Context(), as("plain", "two"), pgqsql.Options{}); err != nil {
		t.Fatalf("with CREATE, roles exist: %v", err)
	}
	refused(as("nobody", "three"), "role nobody may not create schemas in database three",
		`grant create on database "three" to "nobody"`)
	// what is up to date can be found so by anybody; what is not needs the owner
	if r, err := pgqsql.Install(t.Context(), as("nobody", "two"), pgqsql.Options{}); err != nil || r.Changed {
		t.Errorf("up to date, as anybody: got %+v, %v, want no change", r, err)
	}
	mustExec(t, as("plain", "two"), "drop function pgq.version()")
	refused(as("creator", "two"), "schema pgq in database two belongs to role plain; role creator may not change it", "member of that role")
	if r, err := pgqsql.Inspect(t.Context(), as("nobody", "two")); err != nil ||
		!slices.Equal(schemaOf(t, r, "pgq").Drifted, []string{"pgq/functions/version.sql"}) {
		t.Errorf("inspect as anybody: got %+v, %v, want version.sql drifted", r, err)
	}
}

func TestInstall_LeavesAnExtensionAlone(t *testing.T) {
	t.Parallel()
	conn := pgtest.Extension(t).Conn(t)
	const everything = `select string_agg(xmin::text, ',' order by oid) from pg_proc p where pronamespace = 'pgq'::regnamespace
		and exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')`
	before := query[string](t, conn, everything)
	report, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{Schemas: []string{"pgq"}})
	if err != nil {
		t.Fatal(err)
	}
	s := schemaOf(t, report, "pgq")
	if report.Changed || s.Owner != pgqsql.Extension || !strings.HasPrefix(s.Extension, "pgq 3.") || !strings.HasPrefix(s.Version, "3.") {
		t.Errorf("got %+v, want the extension left alone", report)
	}
	if after := query[string](t, conn, everything); after != before {
		t.Error("functions of the extension were changed")
	}
	if query[bool](t, conn, "select exists (select from pg_namespace where nspname = 'skyd')") {
		t.Error("schema skyd was made with nothing to record")
	}
	if r, err := pgqsql.Inspect(t.Context(), conn); err != nil || !schemaOf(t, r, "pgq").UpToDate() {
		t.Errorf("inspect: got %+v, %v, want up to date", r, err)
	}

	// What the extension does not bring comes beside it.
	report, err = pgqsql.Install(t.Context(), conn, pgqsql.Options{})
	if err != nil || schemaOf(t, report, "pgq_coop").Owner != pgqsql.Skyd || schemaOf(t, report, "pgq").Owner != pgqsql.Extension {
		t.Errorf("got %+v, %v, want pgq_coop beside the extension", report, err)
	}
	if s := schemaOf(t, report, "pgq_plus"); s.Owner != pgqsql.Skyd || !query[bool](t, conn, "select pgq.plus_version() is not null") {
		t.Errorf("got %+v, want the additions in the extension's schema", s)
	}
	if r, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{}); err != nil || r.Changed {
		t.Errorf("second run: got %+v, %v, want nothing to do", r, err)
	}
	if after := query[string](t, conn, everything); after != before {
		t.Error("functions of the extension were changed")
	}
}

// A guest hangs on a schema that others may own: who may not create there is told so, and nothing is installed.
func TestInstall_GuestNeedsRights(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	role := db.Role(t)
	mustExec(t, db.Conn(t), "grant create on database "+pgx.Identifier{db.Name}.Sanitize()+" to "+pgx.Identifier{role}.Sanitize())
	conn := db.ConnAs(t, role)
	_, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{Schemas: []string{"pgq_plus"}})
	var refused *pgqsql.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(refused.Remedy, "grant create on schema pgq to") {
		t.Errorf("got %v, want a refusal that names the missing right", err)
	}
}

// Whoever drops the extension takes the guest's objects along; a later install brings all of it back.
func TestInstall_GuestComesBackAfterItsHostWasDropped(t *testing.T) {
	t.Parallel()
	conn := pgtest.DB(t).Conn(t)
	mustExec(t, conn, "drop schema pgq cascade")
	report, err := pgqsql.Install(t.Context(), conn, pgqsql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s := schemaOf(t, report, "pgq_plus"); !s.UpToDate() || !query[bool](t, conn, "select pgq.plus_version() is not null") {
		t.Errorf("got %+v, want the additions installed afresh", s)
	}
}

func TestInstall_RefusesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql, want string
		owner     pgqsql.Owner
	}{
		"foreign":  {"create schema demo; create table demo.mine (id int4)", "schema demo in database %s is not from skyd", pgqsql.Foreign},
		"function": {"create schema demo; create function demo.one() returns int4 as 'select 1' language sql", "is not from skyd", pgqsql.Foreign},
		"original": {
			`create schema demo; create table demo.queue (queue_switch_step2 bigint, queue_data_pfx text);
			create table demo.subscription (sub_last_tick bigint); create table demo.tick (tick_snapshot txid_snapshot)`,
			"is a plain-SQL install of the original PgQ", pgqsql.Original,
		},
		"ledger": {"create schema skyd; create table skyd.mine (id int4)", "schema skyd in database %s is not from skyd", pgqsql.Missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, tree := pgtest.Empty(t), demoTree(t, nil)
			conn := db.Conn(t)
			mustExec(t, conn, c.sql)
			_, err := tree.Install(t.Context(), conn, pgqsql.Options{})
			if !errors.Is(err, pgqsql.ErrRefused) || !strings.Contains(err.Error(), strings.ReplaceAll(c.want, "%s", db.Name)) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if s := inspect(t, tree, conn); s.Owner != c.owner {
				t.Errorf("owner: got %s, want %s", s.Owner, c.owner)
			}
		})
	}
}

func TestInstall_StartsAfreshOverLeftovers(t *testing.T) {
	t.Parallel()
	conn, tree := pgtest.Empty(t).Conn(t), demoTree(t, withUpgrade)
	mustInstall(t, tree, conn)
	want := catalogOf(t, conn, "demo")
	for _, leftover := range []string{"drop schema demo cascade", "drop schema demo cascade; create schema demo"} {
		mustExec(t, conn, leftover)
		if s := inspect(t, tree, conn); s.Owner != pgqsql.Missing || len(s.Drifted) > 0 {
			t.Errorf("%s: got %+v, want missing", leftover, s)
		}
		if r := mustInstall(t, tree, conn); !r.Changed {
			t.Errorf("%s: got %+v, want an install", leftover, r)
		}
		sameCatalog(t, catalogOf(t, conn, "demo"), want)
	}
}

func TestInstall_DryRunChangesNothing(t *testing.T) {
	t.Parallel()
	conn, tree := pgtest.Empty(t).Conn(t), demoTree(t, nil)
	r, err := tree.Install(t.Context(), conn, pgqsql.Options{DryRun: true})
	if err != nil || !r.Changed || !r.DryRun || len(schemaOf(t, r, "demo").Applied) != 5 || schemaOf(t, r, "demo").Owner != pgqsql.Missing {
		t.Errorf("got %+v, %v, want a plan of 5 files", r, err)
	}
	if query[bool](t, conn, "select exists (select from pg_namespace where nspname in ('demo', 'skyd'))") {
		t.Error("a dry run made a schema")
	}
}

func TestInstall_OnlyWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	conn := pgtest.Empty(t).Conn(t)
	unknown := new(pgqsql.UnknownSchemaError)
	if _, err := demoTree(t, nil).Install(t.Context(), conn, pgqsql.Options{Schemas: []string{"dmo"}}); !errors.As(err, &unknown) ||
		err.Error() != `no schema "dmo" here; there are: demo` {
		t.Errorf("got %v, want an unknown schema", err)
	}
	fsys := demo(nil)
	for path, file := range demo(nil) {
		fsys[strings.Replace(path, "demo/", "other/", 1)] = &fstest.MapFile{
			Data: []byte(strings.ReplaceAll(string(file.Data), "demo", "other")),
		}
	}
	tree, err := pgqsql.LoadTree(fsys, pgqsql.Spec{Name: "demo"}, pgqsql.Spec{Name: "other", Needs: []string{"demo"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ask, want string }{{"demo", "skyd,demo"}, {"other", "skyd,demo,other"}} {
		r, err := tree.Install(t.Context(), conn, pgqsql.Options{Schemas: []string{c.ask}})
		var names []string
		for _, s := range r.Schemas {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, ","); err != nil || got != c.want || !r.Changed {
			t.Errorf("only %s: got %s, %v, want %s", c.ask, got, err, c.want)
		}
	}
}
