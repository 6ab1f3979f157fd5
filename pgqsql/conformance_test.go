package pgqsql_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

var rewriteScripts = flag.Bool("rewrite", false, "rewrite the expected results of the conformance scripts")

// TestConformance plays every script on skyd's SQL and on the original C extension: the answers must be the expected
// ones, and where they are not the same the script says why.
func TestConformance(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/conformance/*.test")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no conformance scripts: %v", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".test")
		if *rewriteScripts {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := readScript(t, path)
				ours, ext := playOn(t, pgtest.DB(t), s), playOn(t, extension(t, name), s)
				if err := os.WriteFile(path, []byte(s.rewrite(ours, ext).text()), 0o644); err != nil {
					t.Fatal(err)
				}
			})
			continue
		}
		t.Run(name+"/skyd", func(t *testing.T) {
			t.Parallel()
			s := readScript(t, path)
			for _, f := range s.failures(playOn(t, pgtest.DB(t), s), false) {
				t.Error(f)
			}
		})
		t.Run(name+"/extension", func(t *testing.T) {
			t.Parallel()
			s := readScript(t, path)
			for _, f := range s.failures(playOn(t, extension(t, name), s), true) {
				t.Error(f)
			}
		})
	}
}

// extension is a database with the C extension and what skyd installs beside it. Scripts about nodes play on the
// original's pgq_node.
func extension(t testing.TB, script string) *pgtest.Database {
	t.Helper()
	var more []string
	if strings.HasPrefix(script, "node") {
		more = append(more, "pgq_node")
	}
	return pgtest.Beside(t, more...)
}

// playOn runs a script on a database of its own.
func playOn(t testing.TB, db *pgtest.Database, s script) [][]string {
	t.Helper()
	results, err := newPlayer(func() *pgx.Conn { return db.Conn(t) }).play(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

const playerScript = `# sessions, roles, nulls, errors
create table public.t (a int4, b text)
----

insert into public.t values (1, null), (2, ''), (3, 'x
y'); select a, b from public.t order by a; select '', true
----
1|∅
2|
3|x\ny
|t

session other

begin; select 1
----
1

select ''; select 1/0
----
""
ERROR 22012

select 1
----
ERROR

rollback
----

session main
role pg_monitor
select current_user, current_setting('search_path')
----
pg_monitor|""

role none
select current_user <> 'pg_monitor'
----
t
---- extension: T0, to have one
f
`

func TestConformance_PlaysScripts(t *testing.T) {
	t.Parallel()
	s, err := parseScript("x.test", playerScript)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.text(); got != playerScript {
		t.Errorf("text: got\n%s\nwant\n%s", got, playerScript)
	}
	results := playOn(t, pgtest.Empty(t), s)
	if f := s.failures(results, false); len(f) > 0 {
		t.Errorf("got %s", strings.Join(f, "\n"))
	}
	if f := s.failures(results, true); len(f) != 1 || !strings.HasPrefix(f[0], "x.test:38:\n    select current_user <>") {
		t.Errorf("as the extension: got %q, want one failure", f)
	}
}

func TestConformance_CanFail(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"other value":        "select 1\n----\n2\n",
		"missing row":        "select 1\n----\n",
		"row too many":       "select 1\n----\n1\n1\n",
		"other error":        "select 1/0\n----\nERROR 42501\n",
		"no error":           "select 1\n----\nERROR\n",
		"unexpected error":   "select nothing\n----\n1\n",
		"null is not empty":  "select null, 1\n----\n|1\n",
		"error not expected": "select 1; select 1/0\n----\n1\n",
	} {
		s, err := parseScript(name, text)
		if err != nil {
			t.Fatal(err)
		}
		if f := s.failures(playOn(t, pgtest.Empty(t), s), false); len(f) != 1 {
			t.Errorf("%s: got %q, want one failure", name, f)
		}
	}
	for name, text := range map[string]string{
		"no expectation": "select 1\n",
		"no sql":         "----\n1\n",
		"no reason":      "select 1\n----\n1\n---- extension:\n2\n",
		"same":           "select 1\n----\n1\n---- extension: T1\n1\n",
		"unexplained":    "select 1\n----\n1\n---- extension: UNEXPLAINED\n2\n",
	} {
		if _, err := parseScript(name, text); err == nil {
			t.Errorf("%s: parsed, want an error", name)
		}
	}
}

func TestConformance_RewriteKeepsTheFormOfErrors(t *testing.T) {
	t.Parallel()
	s, err := parseScript("x.test", "select 1\n----\n2\n\nselect 1/0\n----\nERROR 42501\n\nselect 1/0\n----\nERROR\n\nselect 3\n----\n3\n")
	if err != nil {
		t.Fatal(err)
	}
	ours := [][]string{{"1"}, {"ERROR 22012"}, {"ERROR 22012"}, {"3"}}
	ext := [][]string{{"1"}, {"ERROR 22012"}, {"ERROR 22012"}, {"4"}}
	want := "select 1\n----\n1\n\nselect 1/0\n----\nERROR 22012\n\nselect 1/0\n----\nERROR\n\nselect 3\n----\n3\n---- extension: UNEXPLAINED\n4\n"
	if got := s.rewrite(ours, ext).text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
