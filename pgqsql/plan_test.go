package pgqsql

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// steps writes a plan as text: run files by name, recorded ones in brackets.
func stepsText(steps []step) string {
	var b []string
	for _, s := range steps {
		if s.run {
			b = append(b, s.file.path)
		} else {
			b = append(b, "["+s.file.path+"]")
		}
	}
	return strings.Join(b, " ")
}

func TestPlan_ShapeOnceCodeWhenItDiffers(t *testing.T) {
	t.Parallel()
	src := source{schemaSpec: schemaSpec{name: "s"}, files: []file{
		{schema: "s", path: "tables.sql", kind: tablesFile, sum: "1"},
		{schema: "s", path: "upgrade/0001_a.sql", kind: upgradeFile, sum: "1"},
		{schema: "s", path: "upgrade/0002_b.sql", kind: upgradeFile, sum: "1"},
		{schema: "s", path: "functions/f.sql", sum: "1"},
		{schema: "s", path: "functions/g.sql", sum: "1"},
		{schema: "s", path: "grants.sql", sum: "1"},
	}}
	all := map[string]string{
		"tables.sql": "1", "upgrade/0001_a.sql": "1", "upgrade/0002_b.sql": "1", "functions/f.sql": "1",
		"functions/g.sql": "1", "grants.sql": "1",
	}
	with := func(path, sum string) map[string]string {
		m := map[string]string{}
		for k, v := range all {
			m[k] = v
		}
		if m[path] = sum; sum == "" {
			delete(m, path)
		}
		return m
	}
	fn := map[string]recordedFunction{"s.f()": {"functions/f.sql", "x"}}
	for name, c := range map[string]struct {
		state schemaState
		want  string
	}{
		"missing":         {schemaState{owner: Missing}, "tables.sql [upgrade/0001_a.sql] [upgrade/0002_b.sql] functions/f.sql functions/g.sql grants.sql"},
		"up to date":      {schemaState{owner: Skyd, sums: all}, ""},
		"extension":       {schemaState{owner: Extension}, ""},
		"foreign":         {schemaState{owner: Foreign}, ""},
		"tables changed":  {schemaState{owner: Skyd, sums: with("tables.sql", "0")}, ""},
		"upgrade changed": {schemaState{owner: Skyd, sums: with("upgrade/0001_a.sql", "0")}, ""},
		"new upgrade":     {schemaState{owner: Skyd, sums: with("upgrade/0002_b.sql", "")}, "upgrade/0002_b.sql grants.sql"},
		"new function":    {schemaState{owner: Skyd, sums: with("functions/g.sql", "")}, "functions/g.sql grants.sql"},
		"other function":  {schemaState{owner: Skyd, sums: with("functions/f.sql", "0")}, "functions/f.sql grants.sql"},
		"other grants":    {schemaState{owner: Skyd, sums: with("grants.sql", "0")}, "grants.sql"},
		"drift": {schemaState{
			owner: Skyd, sums: all, recorded: fn,
			catalog: map[string]catalogedFunction{"s.f()": {"f", "y"}},
		}, "functions/f.sql grants.sql"},
		"no drift": {schemaState{
			owner: Skyd, sums: all, recorded: fn,
			catalog: map[string]catalogedFunction{"s.f()": {"f", "x"}},
		}, ""},
		"dropped": {schemaState{owner: Skyd, sums: all, recorded: fn}, "functions/f.sql grants.sql"},
	} {
		if got := stepsText(plan(src, c.state)); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestPreconditions_NameWhatIsWrong(t *testing.T) {
	t.Parallel()
	src := source{schemaSpec: schemaSpec{name: "s"}, files: []file{{schema: "s", path: "tables.sql", kind: tablesFile}}}
	base := func(change func(*databaseState)) databaseState {
		s := databaseState{
			database: "app", serverVersion: "15.1", serverNum: 150001, role: "joe", canCreate: true,
			schemas: map[string]schemaState{"s": {owner: Missing}},
		}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		state databaseState
		want  string
	}{
		"fine": {base(func(*databaseState) {}), ""},
		"old server": {
			base(func(s *databaseState) { s.serverVersion, s.serverNum = "13.9", 130009 }),
			"the server runs PostgreSQL 13.9; skyd needs 14 or newer",
		},
		"standby": {base(func(s *databaseState) { s.standby = true }), "database app is on a standby, which cannot be changed"},
		"no create": {
			base(func(s *databaseState) { s.canCreate = false }),
			"role joe may not create schemas in database app (wanted: s)",
		},
		"standby, nothing to do": {base(func(s *databaseState) {
			s.standby, s.schemas["s"] = true, schemaState{owner: Skyd, sums: map[string]string{"tables.sql": ""}}
		}), ""},
		"newer": {base(func(s *databaseState) {
			s.schemas["s"] = schemaState{owner: Skyd, installer: "v9", sums: map[string]string{"tables.sql": "", "upgrade/0009_x.sql": ""}}
		}), "schema s in database app was installed by a newer skyd (v9): upgrade script upgrade/0009_x.sql is unknown here"},
	} {
		err := preconditions(c.state, []source{src})
		got := ""
		if err != nil {
			got = err.Error()
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v is no ErrRefused", name, err)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestLoadTree_RefusesBadManifests(t *testing.T) {
	t.Parallel()
	for want, install := range map[string]string{
		"install.txt lists tables.sql twice":            "tables.sql\nfunctions/f.sql\ntables.sql\n",
		"install.txt does not list functions/f.sql":     "tables.sql\n",
		"install.txt does not list tables.sql":          "functions/f.sql\n",
		`"../x.sql" is not a path like functions/name`:  "tables.sql\nfunctions/f.sql\n../x.sql\n",
		`"functions/F.sql" is not a path`:               "tables.sql\nfunctions/F.sql\n",
		"open s/functions/g.sql: file does not exist":   "tables.sql\nfunctions/f.sql\nfunctions/g.sql\n",
		`install.txt: "functions/f.sql # f" is not a p`: "tables.sql\nfunctions/f.sql # f\n",
	} {
		fsys := fstest.MapFS{"s/install.txt": {Data: []byte(install)}, "s/tables.sql": {}, "s/functions/f.sql": {}}
		_, err := loadTree(fsys, []schemaSpec{{name: "s"}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "schema s") {
			t.Errorf("%q: got %v, want %s", install, err, want)
		}
	}
}

const goodHeader = `
    -- ----------------------------------------------------------------
    -- Function: s.f(2)
    --
    --     Does it. It's done with
    --     care.
    --
    -- Parameters:
    --     i_a   - first - with a dash,
    --             and a second line
    --     i_b_c - second
    --
    -- Returns:
    --     0 - nothing
    --     1 - done
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     s.g(1)
    --
    -- Tables:
    --     read - s.t
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
`

func TestHeader_IsParsed(t *testing.T) {
	t.Parallel()
	got, err := parseHeader(goodHeader)
	want := header{
		Function: "s.f(2)", Purpose: "Does it. It's done with care.", Returns: "0 - nothing\n1 - done", Raises: "none",
		Calls: "s.g(1)", Tables: "read - s.t", Locks: "none",
		Parameters: []parameter{{"i_a", "first - with a dash, and a second line"}, {"i_b_c", "second"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	functions := parseFunctions("create or replace function s.f(i_a int4 default f(1, 2),\n  out i_b numeric(3,1) = 'x')\nreturns int4 as $$" +
		goodHeader + "$$;\ncreate or replace function s.f()\n as $$ $$;")
	wantComment := "\ncomment on function s.f(i_a int4, out i_b numeric(3,1)) is 'Does it.';\n"
	if c := commentStatements(functions); len(functions) != 2 || c != wantComment {
		t.Errorf("got %d functions and %q, want 2 and %q", len(functions), c, wantComment)
	}
	if got, want := literal(`it's \n`), `E'it''s \\n'`; got != want {
		t.Errorf("literal: got %s, want %s", got, want)
	}
}

func TestHeader_FaultsAreNamed(t *testing.T) {
	t.Parallel()
	for want, change := range map[string][2]string{
		"no header":                  {"--", "++"},
		"section Locks is missing":   {"    -- Locks:\n    --     none\n", ""},
		"section Raises is empty":    {"Raises:\n    --     none", "Raises:\n    --"},
		"no purpose":                 {"    --     Does it. It's done with\n    --     care.\n", ""},
		"out of order":               {"-- Raises:", "-- Tables:"},
		"not closed":                 {"    -- -----------------------------------------------------------------\nbegin", "begin"},
		"not a parameter line":       {"i_a   - first - with a dash,", "the first"},
		"section Tables is out of o": {"-- Calls:", "-- Call:"},
		"section Tables is empty (w": {"    --     read - s.t\n", ""},
	} {
		body := strings.ReplaceAll(goodHeader, change[0], change[1])
		if want == "not closed" {
			body = goodHeader[:strings.LastIndex(goodHeader, "    -- ----")]
		}
		if _, err := parseHeader(body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestStatements_KnowWhatHidesASemicolon(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]int{
		"":                        nil,
		" ; ;; -- x\n":            nil,
		"select 1":                {0},
		"select 1; select 2":      {0, 10},
		"a ';' b; c":              {0, 9},
		"a ''';' b; c":            {0, 11},
		`a E'\';' b; c`:           {0, 12},
		`a '\'; c`:                {0, 7},
		`a ";" b; c`:              {0, 9},
		"a $$;$$ b; c":            {0, 11},
		"a $x$;$$;$x$ b; c":       {0, 16},
		"a$1;b":                   {0, 4},
		"a$x$;b$x$;c":             {0, 5, 10},
		"/* ; /* ; */ ; */ a; b":  {18, 21},
		"-- ;\na -- ;\n; b":       {5, 14},
		"é 'ü;' ; b":              {0, 11},
		"unclosed $$ ; ":          {0},
		"unclosed '; /* ":         {0},
		"a /* ; ":                 {0},
		"\nbegin;\n\n  commit;\n": {1, 11},
	} {
		if got := statements(text); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add(goodHeader)
	f.Add("create or replace function s.f(i_a int4 default f(1, 2)) as $$" + goodHeader + "$$; select E'\\';'")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return // places are counted from the start, once per error
		}
		last := -1
		for _, at := range statements(text) {
			if at <= last || at >= len(text) {
				t.Fatalf("statement at %d after %d in a text of %d", at, last, len(text))
			}
			last = at
			lineColumn(text, at)
		}
		for _, fn := range parseFunctions(text) {
			if fn.err == nil && (fn.header.Purpose == "" || fn.header.Locks == "") {
				t.Fatalf("header with an empty section: %+v", fn.header)
			}
		}
	})
}
