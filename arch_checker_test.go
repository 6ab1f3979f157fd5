package skyd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchitecture_CheckerCanFail gives the checker small trees with one fault
// each: a checker that finds nothing proves nothing.
func TestArchitecture_CheckerCanFail(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\t_ = 1\n", maxFuncLines)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string // part of the one fault; "" for none
	}{
		{"clean", map[string]string{
			"pgq/doc.go":             "// Package pgq is.\npackage pgq\n",
			"pgq/a.go":               "package pgq\n\nimport _ \"github.com/jackc/pgx/v5/pgxpool\"\n\nconst q = `select pgq.ticker()`\n",
			"pgq/a_test.go":          "package pgq\n\nimport _ \"github.com/skytools/skyd/internal/pgtest\"\n",
			"testdata/bad.go":        "no Go at all",
			"cmd/skyd/main.go":       "// Command skyd is.\npackage main\n\nconst help = \"select the queue to update\"\n",
			"walarchive/x/doc.go":    "// Package x is.\npackage x\n\nimport _ \"github.com/skytools/skyd/walarchive\"\n",
			"runtime/doc.go":         "// Package runtime is.\npackage runtime\n\nimport _ \"github.com/skytools/skyd/walarchive/x\"\n",
			"e2e/quickstart_test.go": "package e2e\n\nimport _ \"github.com/skytools/skyd/internal/pgtest\"\n",
		}, ""},
		{"upward import", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nimport _ \"github.com/skytools/skyd/actors\"\n"}, "may not import github.com/skytools/skyd/actors"},
		{"outside library", map[string]string{"messages/doc.go": "// Package messages is.\npackage messages\n\nimport _ \"github.com/jackc/pgx/v5\"\n"}, "may not import github.com/jackc/pgx/v5"},
		{"otel SDK", map[string]string{"actors/doc.go": "// Package actors is.\npackage actors\n\nimport _ \"go.opentelemetry.io/otel/sdk/trace\"\n"}, "may not import go.opentelemetry.io/otel/sdk/trace"},
		{"similar module", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nimport _ \"github.com/jackc/pgx/v55\"\n"}, "may not import github.com/jackc/pgx/v55"},
		{"more of protoactor", map[string]string{"actors/doc.go": "// Package actors is.\npackage actors\n\nimport _ \"github.com/asynkron/protoactor-go/remote\"\n"}, "may not import"},
		{"no row", map[string]string{"util/doc.go": "// Package util is.\npackage util\n"}, `package "util" has no row`},
		{"no row, tests only", map[string]string{"pgq2/a_test.go": "package pgq2\n"}, `package "pgq2" has no row`},
		{"e2e looks inside", map[string]string{"e2e/a_test.go": "package e2e\n\nimport _ \"github.com/skytools/skyd/pgq\"\n"}, "may not import github.com/skytools/skyd/pgq"},
		{"pgtest in the product", map[string]string{"cmd/skyd/main.go": "// Command skyd is.\npackage main\n\nimport _ \"github.com/skytools/skyd/internal/pgtest\"\n"}, "for tests only"},
		{"testing in the product", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nimport _ \"testing\"\n"}, "belongs in tests"},
		{"no package comment", map[string]string{"pgq/doc.go": "package pgq\n"}, "0 package comments"},
		{"two package comments", map[string]string{"cmd/skyd/main.go": "// Command skyd is.\npackage main\n", "cmd/skyd/b.go": "// Command skyd also is.\npackage main\n"}, "2 package comments"},
		{"package comment elsewhere", map[string]string{"pgq/a.go": "// Package pgq is.\npackage pgq\n"}, "belongs in doc.go"},
		{"function without comment", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nfunc Open() {}\n"}, "exported function Open has no comment"},
		{"method without comment", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\n// DB is.\ntype DB[T any] struct{}\n\nfunc (d *DB[T]) Close() {}\n\ntype x int\n\nfunc (x) String() string { return \"\" }\n"}, "exported function Close has no comment"},
		{"type without comment", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\n// group.\ntype (\n\tDB int\n)\n"}, "exported type DB has no comment"},
		{"constant without comment", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nconst (\n\tA = 1 // is one\n\tB = 2\n)\n"}, "exported const B has no comment"},
		{"long function", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nfunc f() {\n" + long + "}\n"}, "function f has 82 lines"},
		{"long file", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n", "pgq/a_test.go": "package pgq\n" + strings.Repeat("\n", maxFileLines)}, "701 lines"},
		{"init", map[string]string{"pgq/doc.go": "// Package pgq is.\npackage pgq\n\nfunc init() {}\n"}, "no init functions"},
		{"SQL select", map[string]string{"actors/doc.go": "// Package actors is.\npackage actors\n\nconst q = \"select pgq.ticker($1)\"\n"}, "SQL in a string"},
		{"SQL select from", map[string]string{"actors/doc.go": "// Package actors is.\npackage actors\n\nconst q = `\n  SELECT a\n  FROM b`\n"}, "SQL in a string"},
		{"SQL insert", map[string]string{"runtime/doc.go": "// Package runtime is.\npackage runtime\n\nconst q = \"insert into t values (1)\"\n"}, "SQL in a string"},
		{"SQL update", map[string]string{"runtime/doc.go": "// Package runtime is.\npackage runtime\n\nconst q = \"update a.t set b = 1\"\n"}, "SQL in a string"},
		{"SQL delete", map[string]string{"runtime/doc.go": "// Package runtime is.\npackage runtime\n\nconst q = \"delete from t\"\n"}, "SQL in a string"},
		{"SQL call", map[string]string{"cmd/skyd/main.go": "// Command skyd is.\npackage main\n\nconst q = \"call pgq.x()\"\n"}, "SQL in a string"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for name, text := range tt.files {
				file := filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			faults, files := checkTree(t, root)
			switch {
			case files == 0:
				t.Error("no file checked")
			case tt.want == "" && len(faults) > 0:
				t.Errorf("faults in a clean tree: %q", faults)
			case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)):
				t.Errorf("faults = %q, want one with %q", faults, tt.want)
			}
		})
	}
}
