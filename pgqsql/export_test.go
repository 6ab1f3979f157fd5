package pgqsql

import (
	"context"
	"io/fs"
	"regexp"
)

// What the external tests need of a tree of their own.

// Spec is schemaSpec.
type Spec struct {
	Name  string
	Roles []string
	Needs []string
}

// Tree is a parsed tree.
type Tree struct{ sources []source }

// LoadTree parses a tree; the ledger is the real one.
func LoadTree(fsys fs.FS, specs ...Spec) (Tree, error) {
	sub, err := fs.Sub(tree, "sql")
	if err != nil {
		return Tree{}, err
	}
	sources, err := loadTree(sub, []schemaSpec{{name: ledger}})
	if err != nil {
		return Tree{}, err
	}
	for _, s := range specs {
		src, err := loadTree(fsys, []schemaSpec{{name: s.Name, roles: s.Roles, needs: s.Needs}})
		if err != nil {
			return Tree{}, err
		}
		sources = append(sources, src...)
	}
	return Tree{sources}, nil
}

// Shipped is the embedded tree.
func Shipped() (Tree, error) {
	sources, err := shipped()
	return Tree{sources}, err
}

// Install is Install of this tree.
func (t Tree) Install(ctx context.Context, db Beginner, o Options) (Report, error) {
	return install(ctx, db, t.sources, o)
}

// Inspect is Inspect against this tree.
func (t Tree) Inspect(ctx context.Context, db Beginner) (Report, error) {
	return inspect(ctx, db, t.sources)
}

// Bundle is Bundle of this tree.
func (t Tree) Bundle(schemas ...string) (string, error) {
	return bundle(t.sources, schemas)
}

// Header is header.
type Header = header

// ParseHeader is parseHeader.
func ParseHeader(body string) (Header, error) { return parseHeader(body) }

// Functions are the create function statements of the tree: file, name and text without bodies and comments.
func (t Tree) Functions() (files, names, statements []string) {
	for _, src := range t.sources {
		for _, f := range src.files {
			at := createFunction.FindAllStringSubmatchIndex(f.text, -1)
			for i, m := range at {
				end := len(f.text)
				if i+1 < len(at) {
					end = at[i+1][0]
				}
				files, names = append(files, f.name()), append(names, f.text[m[2]:m[3]])
				statements = append(statements, bodies.ReplaceAllString(f.text[m[0]:end], "BODY"))
			}
		}
	}
	return files, names, statements
}

// bodies matches dollar-quoted text.
var bodies = regexp.MustCompile(`(?s)\$\$.*?\$\$|\$body\$.*?\$body\$`)
