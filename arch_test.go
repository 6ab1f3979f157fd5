package skyd_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/skytools/skyd"

// plan is who may import whom: skyd's packages and outside libraries by their
// names in libraries; the standard library is always allowed. A package
// without a row is refused, so that a new one is a decision. "x/*" stands for
// the packages directly below x.
var plan = map[string]string{
	"pgq":               "pgx otelapi",
	"pgqsql":            "pgx",
	"cascade":           "pgq pgx otelapi",
	"londiste":          "pgq cascade pgx otelapi",
	"walarchive":        "walarchive/wire pgx otelapi compress age",
	"walarchive/*":      "walarchive storagesdk",
	"walarchive/wire":   "",
	"walarchive/drill":  "walarchive pgx",
	"cmd/skyd-wal":      "walarchive/wire",
	"handlers":          "pgq pgx otelapi",
	"configs":           "pgq handlers cascade londiste walarchive koanf yaml",
	"messages":          "pgq cascade otelapi",
	"actors":            "messages pgq pgqsql cascade londiste walarchive protoactor otelapi",
	"dashboard":         "messages",
	"runtime":           "actors messages configs dashboard pgq handlers pgqsql cascade londiste walarchive walarchive/* protoactor pgx otel prometheus",
	"cmd/skyd":          "runtime configs pgq pgqsql cascade londiste walarchive walarchive/wire internal/bench internal/demo cobra yaml pretty",
	"internal/bench":    "runtime configs cascade pgq pgqsql internal/pgserver pgx river",
	"internal/demo":     "runtime configs cascade pgq pgqsql walarchive internal/pgserver pgx",
	"internal/pgserver": "pgx",
	"internal/pgtest":   "internal/pgserver pgqsql pgx dockertest",
	"e2e/audit":         "",
	"examples/*":        "pgq pgx",
	"examples/embedded": "runtime configs pgq pgx",
	"examples/leaf":     "runtime configs cascade pgq pgx",
}

// testPlan is the same for packages that hold tests only.
var testPlan = map[string]string{
	"":    "", // the root: this test
	"e2e": "e2e/audit internal/pgtest pgx goleak dockertest",

	"e2e/simulation": "e2e/audit",
	"e2e/wal":        "internal/pgserver internal/pgtest pgx",
}

// libraries are the outside modules; a "-" in front excludes.
var libraries = map[string][]string{
	"pgx":        {"github.com/jackc/pgx/v5"},
	"otelapi":    {"go.opentelemetry.io/otel", "-go.opentelemetry.io/otel/sdk", "-go.opentelemetry.io/otel/exporters"},
	"otel":       {"go.opentelemetry.io"},
	"protoactor": {"github.com/asynkron/protoactor-go/actor"},
	"koanf":      {"github.com/knadh/koanf"},
	"yaml":       {"go.yaml.in/yaml/v3"},
	"cobra":      {"github.com/spf13/cobra", "github.com/spf13/pflag"},
	"pretty":     {"github.com/jedib0t/go-pretty/v6"},
	"prometheus": {"github.com/prometheus/client_golang"},
	"dockertest": {"github.com/ory/dockertest/v3"},
	"storagesdk": {"github.com/minio/minio-go/v7", "github.com/pkg/sftp", "golang.org/x/crypto/ssh"},
	"compress":   {"github.com/klauspost/compress"},
	"age":        {"filippo.io/age"},
	"goleak":     {"go.uber.org/goleak"},
	"river":      {"github.com/riverqueue/river"},
}

// forTests may be imported by tests only; they themselves may import testing.
var forTests = []string{"e2e/audit", "internal/pgtest", "walarchive/storagetest"}

// withSQL may hold SQL text. The rest calls them.
var withSQL = []string{"pgq", "pgqsql", "cascade", "londiste", "walarchive", "walarchive/drill", "internal/pgtest", "internal/bench", "internal/demo", "examples/*"}

const (
	maxFileLines = 700
	maxFuncLines = 80
)

// sqlText is what a string with SQL looks like; the bare keywords are also
// English words.
var sqlText = regexp.MustCompile(`(?is)^\s*select\s+(\*|\d|'|\$|[\w.]+\s*\()` +
	`|\bselect\b.+\bfrom\b|\binsert\s+into\s|\bupdate\s+[\w."%]+\s+set\b|\bdelete\s+from\s|^\s*call\s+[\w."]+\s*\(`)

func TestArchitecture(t *testing.T) {
	t.Parallel()
	faults, files := checkTree(t, ".")
	for _, fault := range faults {
		t.Error(fault)
	}
	if files < 20 {
		t.Errorf("checked only %d files: the walk is wrong", files)
	}
}

// checkTree reads all Go files under root itself, not through go list: the
// cache of test results sees the files a test opens, not those its children do.
func checkTree(t *testing.T, root string) (faults []string, files int) {
	t.Helper()
	byDir := make(map[string][]*source)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "vendor") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := readSource(root, p)
		if err != nil {
			return err
		}
		byDir[src.pkg] = append(byDir[src.pkg], src)
		files++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sources := range byDir {
		faults = append(faults, checkPackage(sources)...)
	}
	slices.Sort(faults)
	return faults, files
}

// source is one parsed file.
type source struct {
	pkg   string // directory below the root, "" for the root
	path  string
	test  bool
	lines int
	fset  *token.FileSet
	file  *ast.File
}

func readSource(root, p string) (*source, error) {
	text, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, p)
	if err != nil {
		return nil, err
	}
	s := &source{path: filepath.ToSlash(rel), test: strings.HasSuffix(p, "_test.go"), lines: strings.Count(string(text), "\n"), fset: token.NewFileSet()}
	if dir := path.Dir(s.path); dir != "." {
		s.pkg = dir
	}
	s.file, err = parser.ParseFile(s.fset, p, text, parser.ParseComments)
	return s, err
}

func (s *source) fault(pos token.Pos, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.path, s.fset.Position(pos).Line, fmt.Sprintf(format, args...))
}

func checkPackage(sources []*source) (faults []string) {
	pkg := sources[0].pkg
	onlyTests := !slices.ContainsFunc(sources, func(s *source) bool { return !s.test })
	row, ok := rowOf(plan, pkg)
	if onlyTests {
		row, ok = rowOf(testPlan, pkg)
	}
	if !ok {
		faults = append(faults, fmt.Sprintf("package %q has no row in the plan: a new package is a decision (design of the house, then arch_test.go)", pkg))
	}
	comments := 0
	for _, s := range sources {
		if s.lines > maxFileLines {
			faults = append(faults, fmt.Sprintf("%s: %d lines, at most %d: split by idea", s.path, s.lines, maxFileLines))
		}
		if ok && (!s.test || onlyTests) {
			faults = append(faults, checkImports(s, row)...)
		}
		if s.test {
			continue
		}
		if s.file.Doc.Text() != "" {
			comments++
			if s.file.Name.Name != "main" && path.Base(s.path) != "doc.go" {
				faults = append(faults, fmt.Sprintf("%s: the package comment belongs in doc.go", s.path))
			}
		}
		faults = append(faults, checkCode(s)...)
	}
	if !onlyTests && comments != 1 {
		faults = append(faults, fmt.Sprintf("package %q has %d package comments, want one", pkg, comments))
	}
	return faults
}

// rowOf finds the row of a package, by name or by the pattern of its parent.
func rowOf(plan map[string]string, pkg string) (string, bool) {
	if row, ok := plan[pkg]; ok {
		return row, true
	}
	row, ok := plan[path.Dir(pkg)+"/*"]
	return row, ok
}

func checkImports(s *source, row string) (faults []string) {
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return append(faults, s.fault(spec.Pos(), "import %s: %v", spec.Path.Value, err))
		}
		own, isOwn := strings.CutPrefix(imported, module+"/")
		switch {
		case imported == "testing" && !s.test && !slices.Contains(forTests, s.pkg):
			faults = append(faults, s.fault(spec.Pos(), "testing belongs in tests"))
		case isOwn && slices.Contains(forTests, own) && !s.test:
			faults = append(faults, s.fault(spec.Pos(), "%s is for tests only", own))
		case !allowed(row, imported):
			faults = append(faults, s.fault(spec.Pos(), "package %q may not import %s; the plan allows it: %s", s.pkg, imported, row))
		}
	}
	return faults
}

// allowed tells whether a row permits an import.
func allowed(row, imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	if !strings.Contains(first, ".") {
		return true // standard library
	}
	own, isOwn := strings.CutPrefix(imported, module+"/")
	for name := range strings.FieldsSeq(row) {
		if isOwn && (name == own || name == path.Dir(own)+"/*") {
			return true
		}
		if !isOwn && inLibrary(libraries[name], imported) {
			return true
		}
	}
	return false
}

func inLibrary(prefixes []string, imported string) bool {
	in := false
	for _, prefix := range prefixes {
		prefix, exclude := strings.CutPrefix(prefix, "-")
		if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
			in = !exclude
			if exclude {
				return false
			}
		}
	}
	return in
}

// checkCode checks the declarations of a file that is no test.
func checkCode(s *source) (faults []string) {
	if ast.IsGenerated(s.file) {
		return nil
	}
	for _, decl := range s.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			faults = append(faults, checkFunc(s, d)...)
		case *ast.GenDecl:
			faults = append(faults, checkDocs(s, d)...)
		}
	}
	if _, ok := rowOf(setOf(withSQL), s.pkg); !ok {
		ast.Inspect(s.file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && sqlText.MatchString(text) {
				faults = append(faults, s.fault(lit.Pos(), "SQL in a string: it belongs in %s", strings.Join(withSQL, ", ")))
			}
			return true
		})
	}
	return faults
}

func setOf(names []string) map[string]string {
	set := make(map[string]string, len(names))
	for _, name := range names {
		set[name] = ""
	}
	return set
}

func checkFunc(s *source, d *ast.FuncDecl) (faults []string) {
	if n := s.fset.Position(d.End()).Line - s.fset.Position(d.Pos()).Line + 1; n > maxFuncLines {
		faults = append(faults, s.fault(d.Pos(), "function %s has %d lines, at most %d", d.Name.Name, n, maxFuncLines))
	}
	if d.Name.Name == "init" && d.Recv == nil {
		faults = append(faults, s.fault(d.Pos(), "no init functions: wire it in a constructor"))
	}
	if d.Name.IsExported() && d.Doc.Text() == "" && (d.Recv == nil || ast.IsExported(receiver(d))) {
		faults = append(faults, s.fault(d.Pos(), "exported function %s has no comment", d.Name.Name))
	}
	return faults
}

// receiver is the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	for expr := d.Recv.List[0].Type; ; {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// checkDocs wants a comment for every exported name: its own, at the end of
// its line, or that of its group of constants or variables.
func checkDocs(s *source, d *ast.GenDecl) (faults []string) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc.Text() == "" && (d.Doc.Text() == "" || d.Lparen.IsValid()) {
				faults = append(faults, s.fault(spec.Pos(), "exported type %s has no comment", spec.Name.Name))
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && spec.Doc.Text() == "" && spec.Comment.Text() == "" && d.Doc.Text() == "" {
					faults = append(faults, s.fault(spec.Pos(), "exported %s %s has no comment", d.Tok, name.Name))
				}
			}
		}
	}
	return faults
}
