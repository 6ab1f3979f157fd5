package pgqsql_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgqsql"
)

// catalogFunction is a function as a fresh install left it.
type catalogFunction struct {
	Signature  string
	Schema     string
	Name       string
	Arguments  int
	Inputs     []string
	Body       string
	Definer    bool
	Settings   []string
	Public     bool // PUBLIC may execute it
	Trigger    bool
	Language   string
	HasComment bool
}

const functionsSQL = `
select p.oid::regprocedure::text, n.nspname::text, p.proname::text, p.pronargs::int,
       coalesce(array(select name from unnest(p.proargnames, p.proargmodes) with ordinality as a (name, mode, i)
                      where mode is null or mode in ('i', 'b', 'v') order by i), '{}')::text[],
       p.prosrc, p.prosecdef, coalesce(p.proconfig, '{}'),
       exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0),
       p.prorettype = 'trigger'::regtype, l.lanname::text, obj_description(p.oid, 'pg_proc') is not null
from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
where n.nspname = any ($1) order by 1`

// installedFunctions reads the functions of all shipped schemas.
func installedFunctions(t testing.TB, conn *pgx.Conn) []catalogFunction {
	t.Helper()
	rows, err := conn.Query(t.Context(), functionsSQL, append(pgqsql.Schemas(), "skyd"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[catalogFunction])
	if err != nil || len(all) == 0 {
		t.Fatalf("got %d functions, %v", len(all), err)
	}
	return all
}

// called finds function calls of our schemas in a text.
var called = regexp.MustCompile(`\b((?:pgq|pgq_coop|pgq_ext|pgq_node|londiste|skyd_node|skyd)\.[a-z0-9_]+)\s*\(`)

func TestContract_HeadersMatchTheCatalog(t *testing.T) {
	t.Parallel()
	all := installedFunctions(t, pgtest.DB(t).Conn(t))
	exists := map[string]bool{}
	for _, f := range all {
		exists[fmt.Sprintf("%s.%s(%d)", f.Schema, f.Name, f.Arguments)] = true
		exists[f.Schema+"."+f.Name] = true
	}
	for _, f := range all {
		if !strings.HasPrefix(strings.TrimLeft(f.Body, "\n"), "    -- -----") {
			t.Errorf("%s: the header is not the first thing in the body", f.Signature)
			continue
		}
		h, err := pgqsql.ParseHeader(f.Body)
		if err != nil {
			t.Errorf("%s: %v", f.Signature, err)
			continue
		}
		if want := fmt.Sprintf("%s.%s(%d)", f.Schema, f.Name, f.Arguments); h.Function != want {
			t.Errorf("%s: Function is %s, want %s", f.Signature, h.Function, want)
		}
		var names []string
		for _, p := range h.Parameters {
			names = append(names, p.Name)
		}
		if !f.Trigger && !slices.Equal(names, f.Inputs) {
			t.Errorf("%s: Parameters are %q, want %q", f.Signature, names, f.Inputs)
		}
		if !f.HasComment {
			t.Errorf("%s: no comment on function", f.Signature)
		}
		for _, name := range regexp.MustCompile(`[a-z_]+\.[a-z0-9_]+\(\d+\)`).FindAllString(h.Calls, -1) {
			if !exists[name] {
				t.Errorf("%s: Calls names %s, which does not exist", f.Signature, name)
			}
		}
		for _, line := range strings.Split(f.Body, "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "--") {
				continue
			}
			for _, m := range called.FindAllStringSubmatch(line, -1) {
				if exists[m[1]] && m[1] != f.Schema+"."+f.Name && !strings.Contains(h.Calls, m[1]+"(") {
					t.Errorf("%s: calls %s, which is not in Calls", f.Signature, m[1])
				}
			}
		}
	}
}

func TestContract_EveryFunctionHasItsFile(t *testing.T) {
	t.Parallel()
	report, err := pgqsql.Inspect(t.Context(), pgtest.DB(t).Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Schemas {
		if !s.UpToDate() || len(s.Unknown) > 0 {
			t.Errorf("fresh install: got %+v, want up to date without unknown functions", s)
		}
	}
	tree, err := pgqsql.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	files, names, statements := tree.Functions()
	for i, file := range files {
		schema, rest, _ := strings.Cut(file, "/")
		if schema == "pgq_plus" {
			schema = "pgq" // a guest there
		}
		if want := schema + "." + strings.TrimSuffix(path.Base(rest), ".sql"); names[i] != want {
			t.Errorf("%s creates %s, want only %s", file, names[i], want)
		}
		if !regexp.MustCompile(`\b(volatile|stable|immutable)\b`).MatchString(statements[i]) {
			t.Errorf("%s: %s does not state its volatility", file, names[i])
		}
		if !strings.HasPrefix(statements[i], "create or replace function ") {
			t.Errorf("%s: %s is not made with create or replace", file, names[i])
		}
	}
}

func TestContract_DefinerFunctionsPinTheirPath(t *testing.T) {
	t.Parallel()
	// What the contract gives to everybody; all other definer functions need a grant.
	public := []string{"pgq.get_consumer_info"}
	// What asks for the rights of its caller before anything else.
	asks := regexp.MustCompile(`\nbegin\n(    --[^\n]*\n)?    (perform|v_who :=|if not) pgq\._queue_(consumer_|batch_)?caller\(`)
	definers := 0
	for _, f := range installedFunctions(t, pgtest.DB(t).Conn(t)) {
		if !f.Definer {
			continue
		}
		definers++
		if want := "search_path=pg_catalog, " + f.Schema + ", pg_temp"; !slices.Contains(f.Settings, want) {
			t.Errorf("%s is security definer with %q, want %q", f.Signature, f.Settings, want)
		}
		if f.Public && !slices.Contains(public, f.Schema+"."+f.Name) && !asks.MatchString(f.Body) {
			t.Errorf("%s is security definer and everybody may execute it", f.Signature)
		}
	}
	if definers == 0 {
		t.Error("no security definer function found")
	}
}

// tolerated are findings of plpgsql_check that are no faults.
var tolerated = []*regexp.Regexp{
	// the row type of dynamic SQL is known at run time only
	regexp.MustCompile(`^\d+ 55000 record "[a-z_]+" is not assigned yet`),
	// transition tables are there when the trigger fires
	regexp.MustCompile(`^\d+ 42P01 relation "(old|new)_rows" does not exist`),
	// run only where these schemas are, after a look into the catalog
	regexp.MustCompile(`^\d+ 42P01 relation "(pgq_node|londiste)\.[a-z_]+" does not exist`),
}

func TestContract_PlpgsqlCheckFindsNothing(t *testing.T) {
	t.Parallel()
	conn := pgtest.DB(t).Conn(t)
	if !query[bool](t, conn, "select exists (select from pg_available_extensions where name = 'plpgsql_check')") {
		pgtest.Missing(t, "plpgsql_check is not on this server")
	}
	mustExec(t, conn, `create schema lint; create extension plpgsql_check schema lint;
		create table public.checked (id int4 primary key, data text)`)
	for _, f := range installedFunctions(t, conn) {
		if f.Language != "plpgsql" {
			continue
		}
		rows, err := conn.Query(t.Context(), `select concat_ws(' ', lineno, sqlstate, message, query)
			from lint.plpgsql_check_function_tb($1::regprocedure, relid => case when $2 then 'public.checked'::regclass else 0 end,
			     fatal_errors => false) where level = 'error'`, f.Signature, f.Trigger)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Errorf("%s: %v", f.Signature, err)
		}
		for _, finding := range found {
			if slices.ContainsFunc(tolerated, func(r *regexp.Regexp) bool { return r.MatchString(finding) }) {
				continue
			}
			t.Errorf("%s: %s", f.Signature, finding)
		}
	}
}
