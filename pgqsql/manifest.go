package pgqsql

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// MinServerVersion is the oldest server that the SQL runs on, as server_version_num.
const MinServerVersion = 140000

// ledger is the schema of the installer's own records. It is installed before all others.
const ledger = "skyd"

//go:embed all:sql
var tree embed.FS

// manifest lists the schemas in install order.
func manifest() []schemaSpec {
	return []schemaSpec{
		{name: ledger},
		{name: "pgq", roles: []string{"pgq_reader", "pgq_writer", "pgq_admin"}},
		{name: "pgq_plus", inside: "pgq", needs: []string{"pgq"}},
		{name: "pgq_coop", needs: []string{"pgq"}},
		{name: "pgq_node", needs: []string{"pgq", "pgq_plus"}},
		{name: "skyd_node", needs: []string{"pgq", "pgq_plus", "pgq_node"}},
		{name: "pgq_ext", roles: []string{"pgq_reader", "pgq_writer", "pgq_admin"}},
	}
}

// schemaSpec is what the manifest says about a schema. One with a host is a guest: its objects live in the schema of
// the host under names that the host does not use, whoever owns the host.
type schemaSpec struct {
	name   string
	inside string   // the host; empty for a schema of its own
	roles  []string // created when missing
	needs  []string // schemas it calls; installed with it
}

// namespace is the schema that the objects are in.
func (s schemaSpec) namespace() string {
	if s.inside != "" {
		return s.inside
	}
	return s.name
}

// fileKind tells when a file is run.
type fileKind int

const (
	codeFile    fileKind = iota // again whenever it changed
	tablesFile                  // once, by a fresh install
	upgradeFile                 // once, by an install of an older shape
)

// source is the SQL of one schema.
type source struct {
	schemaSpec
	files []file // in execution order
}

// file is one SQL file.
type file struct {
	schema    string // name of the source
	namespace string // where its functions are made
	path      string // relative to the folder of the schema
	heading   string // of the generated documentation
	kind      fileKind
	text      string     // what is sent: the file, and the comments made from its headers
	sum       string     // sha256 of text
	functions []function // with their headers
}

// name is the path by which the file is reported: pgq/functions/next_batch.sql.
func (f file) name() string { return f.schema + "/" + f.path }

// function is the base name of the files of functions and triggers, else empty.
func (f file) function() string {
	dir, base := path.Split(f.path)
	if dir != "functions/" && dir != "triggers/" {
		return ""
	}
	return strings.TrimSuffix(base, ".sql")
}

// shipped parses the embedded tree.
func shipped() ([]source, error) {
	sub, err := fs.Sub(tree, "sql")
	if err != nil {
		return nil, err
	}
	return loadTree(sub, manifest())
}

// loadTree reads the schemas of specs from a tree of SQL files.
func loadTree(fsys fs.FS, specs []schemaSpec) ([]source, error) {
	var sources []source
	for _, spec := range specs {
		src, err := loadSchema(fsys, spec)
		if err != nil {
			return nil, fmt.Errorf("sql of schema %s: %w", spec.name, err)
		}
		sources = append(sources, src)
	}
	return sources, nil
}

// loadSchema reads install.txt and the files it lists.
func loadSchema(fsys fs.FS, spec schemaSpec) (source, error) {
	src := source{schemaSpec: spec}
	list, err := fs.ReadFile(fsys, spec.name+"/install.txt")
	if err != nil {
		return src, err
	}
	heading := ""
	for _, line := range strings.Split(string(list), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if title, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.TrimSpace(title)
			continue
		}
		f, err := loadFile(fsys, spec.name, line)
		if err != nil {
			return src, err
		}
		f.heading, f.namespace = heading, spec.namespace()
		if slices.ContainsFunc(src.files, func(g file) bool { return g.path == f.path }) {
			return src, fmt.Errorf("install.txt lists %s twice", line)
		}
		src.files = append(src.files, f)
	}
	return src, src.check(fsys)
}

// check finds files that install.txt forgot and an install that could not run.
func (s source) check(fsys fs.FS) error {
	listed := func(p string) bool {
		return slices.ContainsFunc(s.files, func(f file) bool { return f.path == p })
	}
	if !listed("tables.sql") {
		return fmt.Errorf("install.txt does not list tables.sql")
	}
	return fs.WalkDir(fsys, s.name, func(p string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(p, s.name+"/")
		if err != nil || d.IsDir() || path.Ext(p) != ".sql" || listed(rel) {
			return err
		}
		return fmt.Errorf("install.txt does not list %s", rel)
	})
}

// filePath is the form of a path in install.txt. It needs no quoting in SQL.
var filePath = regexp.MustCompile(`^([a-z0-9_]+/)?[a-z0-9_]+\.sql$`)

// loadFile reads one file and adds the comments made from its headers.
func loadFile(fsys fs.FS, schema, rel string) (file, error) {
	f := file{schema: schema, path: rel}
	if !filePath.MatchString(rel) {
		return f, fmt.Errorf("install.txt: %q is not a path like functions/name.sql", rel)
	}
	raw, err := fs.ReadFile(fsys, schema+"/"+rel)
	if err != nil {
		return f, err
	}
	f.text = string(raw)
	switch {
	case rel == "tables.sql":
		f.kind = tablesFile
	case strings.HasPrefix(rel, "upgrade/"):
		f.kind = upgradeFile
	}
	if f.function() != "" {
		f.functions = parseFunctions(f.text)
		f.text += commentStatements(f.functions)
	}
	sum := sha256.Sum256([]byte(f.text))
	f.sum = hex.EncodeToString(sum[:])
	return f, nil
}

// choose returns the sources of the wanted schemas with everything they need, in install order; nil means all.
func choose(sources []source, names []string) ([]source, error) {
	if names == nil {
		return sources, nil
	}
	wanted := map[string]bool{ledger: true}
	for todo := slices.Clone(names); len(todo) > 0; todo = todo[1:] {
		i := slices.IndexFunc(sources, func(s source) bool { return s.name == todo[0] })
		if i < 0 {
			return nil, &UnknownSchemaError{Schema: todo[0], Known: schemaNames(sources)}
		}
		if !wanted[todo[0]] {
			wanted[todo[0]] = true
			todo = append(todo, sources[i].needs...)
		}
	}
	return slices.DeleteFunc(slices.Clone(sources), func(s source) bool { return !wanted[s.name] }), nil
}

// schemaNames lists the names a user can ask for.
func schemaNames(sources []source) []string {
	var names []string
	for _, s := range sources {
		if s.name != ledger {
			names = append(names, s.name)
		}
	}
	return names
}

// Schemas lists the schemas that this program ships, in install order.
func Schemas() []string {
	var names []string
	for _, s := range manifest() {
		if s.name != ledger {
			names = append(names, s.name)
		}
	}
	return names
}

// UnknownSchemaError says that a schema was asked for which is not shipped.
type UnknownSchemaError struct {
	Schema string
	Known  []string
}

// Error implements error.
func (e *UnknownSchemaError) Error() string {
	return fmt.Sprintf("no schema %q here; there are: %s", e.Schema, strings.Join(e.Known, ", "))
}
