package configs

import (
	_ "embed" // the source and the example are part of the binary
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/skytools/skyd/handlers"
	"github.com/skytools/skyd/walarchive"
)

// configSource is config.go itself: its comments are the reference, so that there is one text only.
//
//go:embed config.go
var configSource string

// Example is a commented configuration file to start from.
//
//go:embed skyd.example.yaml
var Example string

// Reference returns the generated reference of all keys as Markdown.
func Reference() (string, error) {
	docs := map[string]string{}
	for pkg, source := range map[string]string{"configs": configSource, "handlers": handlers.ConfigSource, "walarchive": walarchive.ConfigSource} {
		more, err := fieldComments(source)
		if err != nil {
			return "", err
		}
		for key, text := range more {
			docs[pkg+"."+key] = text
		}
	}
	var b strings.Builder
	b.WriteString("# Configuration of skyd\n\n<!-- Generated from configs/config.go; do not edit. -->\n\n")
	b.WriteString("Order, later wins: built-in defaults, the file (`--config`, else `" + DefaultFile + "`), `conf.d/*.yaml` " +
		"beside it in name order, environment variables, flags. The variable of a key is `SKYD_` and its path in capitals " +
		"with `__` between the levels: `SKYD_HTTP__LISTEN`, `SKYD_DATABASES__0__DSN`. Durations are written like `1m30s` " +
		"or as PostgreSQL interval text like `2 minutes`. Check a file with `skyd config check --config FILE`; see what is " +
		"in force with `skyd config show`.\n")
	writeSection(&b, docs, reflect.ValueOf(DefaultConfig()), "")
	b.WriteString("\n## An example\n\n```yaml\n" + Example + "```\n")
	return b.String(), nil
}

// writeSection writes the keys of a section, and then its sub-sections.
func writeSection(b *strings.Builder, docs map[string]string, v reflect.Value, prefix string) {
	t := v.Type()
	b.WriteString("\n| key | type | default | meaning |\n|---|---|---|---|\n")
	var inner []int
	for i := range t.NumField() {
		f := t.Field(i)
		doc := docs[docKey(t, f)]
		kind, def := typeWord(f.Type), defaultText(v.Field(i))
		switch sub := f.Type.Kind() == reflect.Struct; {
		case sub && (f.Name == "Handler" || path.Base(t.PkgPath()) == "walarchive"):
			inner = append(inner, i)
			kind, def = "section", "below"
		case sub && prefix != "":
			kind, def = "section", "as `"+f.Tag.Get("koanf")+"`"
		case sub, f.Name == "Databases", f.Name == "Consumers", f.Name == "Nodes", f.Name == "WAL":
			inner = append(inner, i)
			kind, def = "section", "below"
			if !sub {
				kind = "list"
			}
		case prefix != "" && f.Name == "CheckPeriod":
			def = "as `check_period`"
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", prefix, f.Tag.Get("koanf"), kind, def, doc)
	}
	for _, i := range inner {
		f := t.Field(i)
		key := prefix + f.Tag.Get("koanf")
		fmt.Fprintf(b, "\n## %s\n\n%s\n", key, docs[docKey(t, f)])
		switch {
		case f.Name == "Consumers":
			writeSection(b, docs, reflect.ValueOf(DefaultConsumer()), key+"[].")
		case f.Name == "Nodes":
			writeSection(b, docs, reflect.ValueOf(DefaultNode()), key+"[].")
		case f.Name == "WAL":
			writeSection(b, docs, reflect.ValueOf(walarchive.DefaultConfig()), key+"[].")
		case f.Type.Kind() == reflect.Slice:
			writeSection(b, docs, reflect.Zero(f.Type.Elem()), key+"[].")
		default:
			writeSection(b, docs, v.Field(i), key+".")
		}
	}
}

// docKey is where fieldComments has the text of a field.
func docKey(section reflect.Type, f reflect.StructField) string {
	return path.Base(section.PkgPath()) + "." + section.Name() + "." + f.Name
}

// typeWord is the type column of the reference.
func typeWord(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Map:
		return "section of texts"
	case t.Kind() == reflect.Bool:
		return "true/false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Float64:
		return "number"
	default:
		return "text"
	}
}

// defaultText is the default column of the reference.
func defaultText(v reflect.Value) string {
	switch {
	case v.Type() == durationType:
		return "`" + DurationText(time.Duration(v.Int())) + "`"
	case v.Kind() == reflect.Slice, v.Kind() == reflect.Map, v.IsZero() && v.Kind() == reflect.String:
		return ""
	default:
		return fmt.Sprintf("`%v`", v.Interface())
	}
}

// fieldComments reads the comments of all struct fields: Type.Field, one line each.
func fieldComments(source string) (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", source, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("parse the embedded source: %w", err)
	}
	docs := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				for _, name := range field.Names {
					text := strings.Join(strings.Fields(field.Doc.Text()), " ")
					docs[spec.Name.Name+"."+name.Name] = strings.ReplaceAll(text, "|", `\|`)
				}
			}
		}
		return false
	})
	return docs, nil
}
