package pgqsql

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var generate = flag.Bool("generate", false, "write the generated files instead of checking them")

// TestGenerate_FilesAreFresh makes the bundle and the reference pages from the SQL files and compares them with what
// is in the tree; with -generate it writes them.
func TestGenerate_FilesAreFresh(t *testing.T) {
	t.Parallel()
	sources, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	text, err := bundle(sources, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"bundle/skyd.sql": text}
	for _, src := range sources {
		if src.name != ledger {
			files["../docs/sql/"+src.name+".md"] = referencePage(src)
		}
	}
	for path, want := range files {
		if *generate {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v; run: go generate ./pgqsql", err)
		} else if string(got) != want {
			t.Errorf("%s is stale; run: go generate ./pgqsql", path)
		}
	}
}

// referencePage is docs/sql/<schema>.md: the functions under the headings of install.txt. Names that start with an
// underscore are nobody's business but ours.
func referencePage(src source) string {
	var b, body strings.Builder
	fmt.Fprintf(&b, "# Schema %s\n\nGenerated from the headers of the SQL files; do not edit.\n", src.name)
	heading := ""
	for _, f := range src.files {
		if strings.HasPrefix(f.function(), "_") {
			continue
		}
		for _, fn := range f.functions {
			if f.heading != heading {
				heading = f.heading
				fmt.Fprintf(&b, "\n- [%s](#%s)", heading, strings.ReplaceAll(strings.ToLower(heading), " ", "-"))
				fmt.Fprintf(&body, "\n## %s\n", heading)
			}
			body.WriteString(referenceEntry(fn))
		}
	}
	return b.String() + "\n" + body.String()
}

// referenceEntry is one function.
func referenceEntry(fn function) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s(%s)\n\n%s\n", fn.name, fn.arguments, markdown(fn.header.Purpose))
	if len(fn.header.Parameters) > 0 {
		b.WriteString("\n| parameter | |\n|---|---|\n")
		for _, p := range fn.header.Parameters {
			fmt.Fprintf(&b, "| `%s` | %s |\n", p.Name, markdown(p.Text))
		}
	}
	b.WriteString("\n| | |\n|---|---|\n")
	for _, row := range [][2]string{
		{"Returns", fn.header.Returns},
		{"Raises", fn.header.Raises},
		{"Calls", fn.header.Calls},
		{"Tables", fn.header.Tables},
		{"Locks", fn.header.Locks},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row[0], strings.ReplaceAll(markdown(row[1]), "\n", "<br>"))
	}
	return b.String()
}

// markdown keeps a text from being read as markup.
func markdown(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", ">", "&gt;", "`", "\\`").Replace(text)
}
