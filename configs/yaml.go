package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/skytools/skyd/pgq"
)

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	// Origin is where: file:line, the name of an environment variable or a flag; empty for a missing key.
	Origin string `json:"origin,omitempty"`
	// Path is the key: databases[1].ticker.period.
	Path string `json:"path,omitempty"`
	// Text says what is wrong and what would be right.
	Text string `json:"text"`
}

// String is the fault in one line.
func (f Fault) String() string {
	parts := make([]string, 0, 3)
	for _, p := range []string{f.Origin, f.Path, f.Text} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}

// Faults is the error of a configuration that is refused; it holds everything that is wrong with it.
type Faults []Fault

// Error implements error: one line per fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// document is one file read strictly.
type document struct {
	file    string
	values  map[string]any
	origins map[string]string // path, file:line
	faults  Faults
	shift   func(list string) int // length of a list in earlier files
	secret  bool                  // it holds a password
	broken  bool                  // it is not YAML
}

// parseDocument reads the text of a file. shift tells how long a list is in earlier files.
func parseDocument(file string, text []byte, shift func(list string) int) *document {
	d := &document{file: file, values: map[string]any{}, origins: map[string]string{}, shift: shift}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		d.broken = true
		d.faults = append(d.faults, syntaxFault(file, err))
		return d
	}
	if len(root.Content) == 0 {
		return d // empty, or comments only
	}
	if v, ok := d.value(root.Content[0], reflect.TypeFor[Config](), ""); ok {
		d.values, _ = v.(map[string]any)
	}
	return d
}

// syntaxFault turns "yaml: line 3: what" into a fault with a place.
func syntaxFault(file string, err error) Fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			return Fault{Origin: file + ":" + line, Text: what}
		}
	}
	return Fault{Origin: file, Text: text}
}

func (d *document) fault(n *yaml.Node, path, format string, args ...any) {
	d.faults = append(d.faults, Fault{Origin: d.at(n), Path: path, Text: fmt.Sprintf(format, args...)})
}

func (d *document) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", d.file, n.Line) }

// value turns a node into a value of the type; false: there is none, because it is null or faulty.
func (d *document) value(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if path != "" {
		d.origins[path] = d.at(n)
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, false // an empty section or key: the default
	}
	switch {
	case t.Kind() == reflect.Struct:
		return d.section(n, t, path)
	case t.Kind() == reflect.Slice:
		return d.list(n, t, path)
	case t.Kind() == reflect.Map:
		return d.texts(n, t, path)
	case n.Kind != yaml.ScalarNode:
		d.fault(n, path, "must be %s", typeName(t))
		return nil, false
	}
	v, err := parseScalar(t, n.Value)
	if err != nil {
		d.fault(n, path, "%v", err)
		return nil, false
	}
	return v, true
}

// section reads a mapping.
func (d *document) section(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "must be %s", typeName(t))
		return nil, false
	}
	values, seen := map[string]any{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, node := n.Content[i], n.Content[i+1]
		at := joinPath(path, key.Value)
		if line, dup := seen[key.Value]; dup {
			d.fault(key, at, "stands twice, first in line %d", line)
			continue
		}
		seen[key.Value] = key.Line
		ft, ok := fieldOf(t, key.Value)
		if !ok {
			d.fault(key, at, "unknown key%s", DidYouMean(key.Value, keysOf(t)))
			continue
		}
		d.secret = d.secret || isSecret(key.Value)
		if v, ok := d.value(node, ft, at); ok {
			if dsn, isText := v.(string); isText && key.Value == "dsn" {
				d.secret = d.secret || pgq.MaskDSN(dsn) != dsn
			}
			values[key.Value] = v
		}
	}
	return values, true
}

// texts reads a mapping whose keys are the user's.
func (d *document) texts(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if n.Kind != yaml.MappingNode {
		d.fault(n, path, "must be %s", typeName(t))
		return nil, false
	}
	values := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, node := n.Content[i].Value, n.Content[i+1]
		if _, dup := values[key]; dup {
			d.fault(n.Content[i], joinPath(path, key), "stands twice")
			continue
		}
		if v, ok := d.value(node, t.Elem(), joinPath(path, key)); ok {
			values[key] = v
		}
	}
	return values, true
}

// list reads a sequence.
func (d *document) list(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, "must be %s", typeName(t))
		return nil, false
	}
	values := make([]any, 0, len(n.Content))
	for i, node := range n.Content {
		if slices.Contains(addingLists, path) {
			i += d.shift(path)
		}
		v, ok := d.value(node, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		switch {
		case ok:
		case t.Elem().Kind() == reflect.Struct:
			v = map[string]any{} // keeps the numbers of the others
		default:
			continue
		}
		values = append(values, v)
	}
	return values, true
}

// DidYouMean is the end of a message about an unknown word: the one that was probably meant, or all that are known.
func DidYouMean(word string, candidates []string) string {
	if guess := Guess(word, candidates); guess != "" || len(candidates) == 0 {
		return guess
	}
	return " (known here: " + strings.Join(candidates, ", ") + ")"
}

// Guess is the end of a message about an unknown word when one of the candidates was probably meant, else empty.
func Guess(word string, candidates []string) string {
	if guess := didYouMean(word, candidates); guess != "" {
		return fmt.Sprintf(" (did you mean %s?)", guess)
	}
	return ""
}

// joinPath appends a key to a path.
func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
