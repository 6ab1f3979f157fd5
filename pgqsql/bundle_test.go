package pgqsql_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// psql runs a script as a user would.
func psql(t testing.TB, dsn, script string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		b, err := pgserver.Find()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(b.Dir, "psql")
	}
	cmd := exec.CommandContext(t.Context(), path, "-X", "-q", "-d", dsn, "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// catalogOf describes everything in the schemas: relations with columns, constraints, defaults, options and rights,
// indexes, functions, types, comments, and the records of what was installed.
func catalogOf(t testing.TB, conn *pgx.Conn, schemas ...string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), catalogSQL, schemas)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

const catalogSQL = `
with ns as (select oid, nspname from pg_namespace where nspname = any ($1))
select x from (
    select concat_ws(' | ', 'schema', n.nspname, n.nspacl, obj_description(n.oid, 'pg_namespace'))
    from pg_namespace n where n.oid in (select oid from ns)
  union all
    select concat_ws(' | ', 'relation', c.oid::regclass, c.relkind, c.relpersistence, c.reloptions, c.relacl,
                     obj_description(c.oid, 'pg_class'))
    from pg_class c where c.relnamespace in (select oid from ns)
  union all
    select concat_ws(' | ', 'column', a.attrelid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
                     a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attacl, col_description(a.attrelid, a.attnum))
    from pg_attribute a join pg_class c on c.oid = a.attrelid
         left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    where c.relnamespace in (select oid from ns) and a.attnum > 0
  union all
    select concat_ws(' | ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where connamespace in (select oid from ns)
  union all
    select pg_get_indexdef(indexrelid)
    from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace in (select oid from ns)
  union all
    select concat_ws(' | ', 'sequence', s.seqrelid::regclass, s.seqstart, s.seqincrement, s.seqmax, s.seqcache,
                     s.seqtypid::regtype)
    from pg_sequence s join pg_class c on c.oid = s.seqrelid where c.relnamespace in (select oid from ns)
  union all
    select concat_ws(' | ', 'inherits', inhrelid::regclass, inhparent::regclass)
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where c.relnamespace in (select oid from ns)
  union all
    select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where c.relnamespace in (select oid from ns) and not tgisinternal
  union all
    select concat_ws(' | ', pg_get_functiondef(p.oid), p.proacl, obj_description(p.oid, 'pg_proc'))
    from pg_proc p where p.pronamespace in (select oid from ns) and p.prokind <> 'a'
  union all
    select concat_ws(' | ', 'type', t.oid::regtype, t.typtype, t.typacl)
    from pg_type t where t.typnamespace in (select oid from ns)
  union all
    select concat_ws(' | ', 'file', schema_name, path, sha256) from skyd.schema_file
  union all
    select concat_ws(' | ', 'recorded', schema_name, signature, path, fingerprint) from skyd.schema_function
) as x (x) order by x`

// sameCatalog compares two descriptions.
func sameCatalog(t testing.TB, got, want []string) {
	t.Helper()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("only got:  %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("only want: %s", line)
		}
	}
}

func TestBundle_LeavesWhatInstallLeaves(t *testing.T) {
	t.Parallel()
	shipped, err := pgqsql.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	upgraded := demoTree(t, withUpgrade)
	for name, c := range map[string]struct {
		tree    pgqsql.Tree
		schemas []string
	}{"shipped": {shipped, []string{"skyd", "pgq"}}, "demo": {upgraded, []string{"skyd", "demo"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := c.tree.Bundle()
			if err != nil {
				t.Fatal(err)
			}
			byBundle, byInstall := pgtest.Empty(t), pgtest.Empty(t)
			for i := range 2 {
				if out, err := psql(t, byBundle.DSN, text); err != nil {
					t.Fatalf("run %d: %v\n%s", i+1, err, out)
				}
			}
			a, b := byBundle.Conn(t), byInstall.Conn(t)
			mustInstall(t, c.tree, b)
			sameCatalog(t, catalogOf(t, a, c.schemas...), catalogOf(t, b, c.schemas...))
			if r := mustInstall(t, c.tree, a); r.Changed {
				t.Errorf("install after the bundle: got %+v, want no change", r)
			}
			// and the other way round: a bundle over an install
			if out, err := psql(t, byInstall.DSN, text); err != nil {
				t.Fatalf("bundle over install: %v\n%s", err, out)
			}
			if r := mustInstall(t, c.tree, b); r.Changed {
				t.Errorf("install after the bundle over install: got %+v, want no change", r)
			}
		})
	}
}

func TestBundle_RunsUpgradesOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	conn := db.Conn(t)
	mustInstall(t, demoTree(t, nil), conn)
	tree := demoTree(t, withUpgrade)
	text, err := tree.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if out, err := psql(t, db.DSN, text); err != nil {
			t.Fatalf("run %d: %v\n%s", i+1, err, out)
		}
	}
	if n := query[int](t, conn, "select count(*)::int from demo.upgrades"); n != 1 {
		t.Errorf("upgrade script ran %d times, want once", n)
	}
	if r := mustInstall(t, tree, conn); r.Changed {
		t.Errorf("install after the bundle: got %+v, want no change", r)
	}
}

func TestBundle_Refuses(t *testing.T) {
	t.Parallel()
	text, err := demoTree(t, nil).Bundle()
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.Empty(t)
	conn := db.Conn(t)
	mustExec(t, conn, "create schema demo; create table demo.other (id int4)")
	out, err := psql(t, db.DSN, text)
	if err == nil || !strings.Contains(out, "schema demo is there and is not from skyd") {
		t.Errorf("foreign schema: got %v %s", err, out)
	}
	if query[bool](t, conn, "select exists (select from pg_namespace where nspname = 'skyd')") {
		t.Error("a refused bundle left a schema behind")
	}
}

func TestBundle_LeavesAnExtensionAlone(t *testing.T) {
	t.Parallel()
	text, err := pgqsql.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.Extension(t)
	out, err := psql(t, db.DSN, text)
	if err == nil || !strings.Contains(out, "schema pgq belongs to extension pgq 3.") {
		t.Errorf("got %v %s, want a refusal that names the extension", err, out)
	}
	if query[bool](t, db.Conn(t), "select exists (select from pg_namespace where nspname = 'skyd')") {
		t.Error("a refused bundle left a schema behind")
	}
}
