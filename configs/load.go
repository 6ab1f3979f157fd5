package configs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"

	"github.com/skytools/skyd/walarchive"
)

// DefaultFile is read when neither a file nor a DSN is given, if it is there.
const DefaultFile = "/etc/skyd/skyd.yaml"

// Source says where a configuration comes from.
type Source struct {
	// File is the configuration file; conf.d/*.yaml beside it is read too. Empty: DefaultFile, if it is there and no
	// DSN is given.
	File string
	// DSNs are the --db flags: a DSN adds a database; the name of a configured database selects it.
	DSNs []string
	// Environ is the environment, as from os.Environ.
	Environ []string
	// Flags are keys set by flags, such as http.listen; they win over everything.
	Flags map[string]any
}

// Loaded is a configuration with what is worth telling about it.
type Loaded struct {
	Config
	// Files are the files that were read, in order.
	Files []string
	// Warnings are for the log: one line each.
	Warnings []string
}

// envPrefix begins the names of all our environment variables; the others with this prefix belong to tests and tools.
const envPrefix = "SKYD_"

// loader carries the state of one Load.
type loader struct {
	k        *koanf.Koanf
	origins  map[string]string
	faults   Faults
	files    []string
	warnings []string
	unread   bool // a file could not be read or parsed
}

// Load reads a configuration from all its sources and validates it. The error is Faults when the configuration is
// wrong. The context limits nothing but is passed to what checks a DSN; there is no network I/O.
func Load(ctx context.Context, src Source) (Loaded, error) {
	l := &loader{k: koanf.New("."), origins: map[string]string{}}
	l.load(defaultMap(), nil)
	if err := l.readFiles(src); err != nil {
		return Loaded{}, err
	}
	l.readEnviron(src.Environ)
	for _, key := range slices.Sorted(maps.Keys(src.Flags)) {
		l.origins[key] = "flag"
		l.load(map[string]any{key: src.Flags[key]}, nil)
	}
	l.addDSNs(src.DSNs)
	l.inherit()
	var c Config
	if err := l.k.Unmarshal("", &c); err != nil {
		return Loaded{}, fmt.Errorf("decode configuration: %w", err)
	}
	if !l.unread { // what is missing may stand in the file that could not be read
		l.faults = append(l.faults, locate(c.check(ctx), l.origins)...)
	}
	if len(l.faults) > 0 {
		return Loaded{}, dedupe(l.faults)
	}
	if c.Control.Socket == "" {
		c.Control.Socket = DefaultSocket(src.Environ)
	}
	for i, w := range c.WAL {
		c.WAL[i] = withPlaces(w, c.Control.Socket, src.Environ)
	}
	if c.Instance == "" {
		if host, err := os.Hostname(); err == nil {
			c.Instance = host
		}
	}
	return Loaded{Config: c, Files: l.files, Warnings: append(l.warnings, doubts(ctx, c)...)}, nil
}

// load merges values over what is there.
func (l *loader) load(values map[string]any, merge func(src, dest map[string]any) error) {
	var opts []koanf.Option
	if merge != nil {
		opts = append(opts, koanf.WithMergeFunc(merge))
	}
	if err := l.k.Load(confmap.Provider(values, "."), nil, opts...); err != nil {
		l.faults = append(l.faults, Fault{Text: err.Error()})
	}
}

// defaultMap is DefaultConfig as koanf wants it; it has no databases, consumers and nodes.
func defaultMap() map[string]any {
	m := sectionMap(reflect.ValueOf(DefaultConfig()))
	for _, list := range addingLists {
		delete(m, list)
	}
	return m
}

// sectionMap turns a section into a map by its keys.
func sectionMap(v reflect.Value) map[string]any {
	m := map[string]any{}
	for i := range v.NumField() {
		key, field := v.Type().Field(i).Tag.Get("koanf"), v.Field(i)
		if field.Kind() == reflect.Struct {
			m[key] = sectionMap(field)
		} else {
			m[key] = field.Interface()
		}
	}
	return m
}

// readFiles reads the file and its conf.d.
func (l *loader) readFiles(src Source) error {
	file := src.File
	if file == "" {
		if len(src.DSNs) > 0 {
			return nil
		}
		if _, err := os.Stat(DefaultFile); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		file = DefaultFile
	}
	more, err := filepath.Glob(filepath.Join(filepath.Dir(file), "conf.d", "*.yaml"))
	if err != nil {
		return fmt.Errorf("list conf.d of %s: %w", file, err)
	}
	slices.Sort(more)
	for _, name := range append([]string{file}, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			l.faults = append(l.faults, Fault{Origin: name, Text: "cannot be read: " + cause(err)})
			l.unread = true
			continue
		}
		d := parseDocument(name, text, func(list string) int { return len(l.list(list)) })
		l.faults = append(l.faults, d.faults...)
		l.unread = l.unread || d.broken
		maps.Copy(l.origins, d.origins)
		l.load(d.values, mergeAdding)
		l.files = append(l.files, name)
		if info, err := os.Stat(name); err == nil && d.secret && info.Mode().Perm()&0o044 != 0 {
			l.warnings = append(l.warnings, fmt.Sprintf("%s holds a password and can be read by others (mode %#o); "+
				"use password_file, or chmod 0640 or less", name, info.Mode().Perm()))
		}
	}
	return nil
}

// cause is the reason of a file error without the path, which the fault names already.
func cause(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// addingLists are the lists that add up over several files.
var addingLists = []string{"databases", "consumers", "nodes", "wal"}

// mergeAdding merges src into dest key by key; the lists of sections add up.
func mergeAdding(src, dest map[string]any) error {
	for key, v := range src {
		old, isMap := dest[key].(map[string]any)
		values, both := v.(map[string]any)
		switch {
		case isMap && both:
			if err := mergeAdding(values, old); err != nil {
				return err
			}
		case slices.Contains(addingLists, key):
			before, _ := dest[key].([]any)
			added, _ := v.([]any)
			dest[key] = append(slices.Clone(before), added...)
		default:
			dest[key] = v
		}
	}
	return nil
}

// list is a list of sections so far.
func (l *loader) list(key string) []any {
	list, _ := l.k.Get(key).([]any)
	return list
}

// databases is the list of databases so far.
func (l *loader) databases() []any { return l.list("databases") }

// readEnviron applies SKYD_ variables. An unknown one is a warning, not a fault: orchestrators set variables named after
// the services they run.
func (l *loader) readEnviron(environ []string) {
	lists := map[string]any{}
	provider := env.Provider(".", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, text string) (string, any) {
			path := strings.Split(strings.ToLower(strings.TrimPrefix(name, envPrefix)), "__")
			t, ok := typeAt(path)
			if !ok || t.Kind() == reflect.Struct || (t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct) {
				l.unknownVariable(name)
				return "", nil
			}
			value, err := envValue(t, text)
			if err != nil {
				l.faults = append(l.faults, Fault{Origin: "environment " + name, Path: pathText(path), Text: err.Error()})
				return "", nil
			}
			l.origins[pathText(path)] = "environment " + name
			if slices.Contains(addingLists, path[0]) {
				list, ok := lists[path[0]].([]any)
				if !ok {
					list = slices.Clone(l.list(path[0]))
				}
				lists[path[0]] = setElement(list, path[1:], value)
				return "", nil
			}
			return strings.Join(path, "."), value
		},
	})
	if err := l.k.Load(provider, nil); err != nil {
		l.faults = append(l.faults, Fault{Origin: "environment", Text: err.Error()})
	}
	l.load(lists, nil)
}

// unknownVariable warns of a variable that nobody reads, unless it is one of ours for other purposes.
func (l *loader) unknownVariable(name string) {
	for _, known := range []string{"SKYD_TEST_", "SKYD_PG_", "SKYD_E2E_", "SKYD_BENCH_"} {
		if strings.HasPrefix(name, known) {
			return
		}
	}
	l.warnings = append(l.warnings, "environment variable "+name+" is not a configuration key"+Guess(name, variables())+"; it is ignored")
}

// envValue reads the text of a variable; a list of texts is separated by commas.
func envValue(t reflect.Type, text string) (any, error) {
	if t.Kind() != reflect.Slice {
		return parseScalar(t, text)
	}
	var list []any
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list, nil
}

// setElement sets one key of one element of a list: path is its number and the keys below it.
func setElement(list []any, path []string, value any) []any {
	i, _ := strconv.Atoi(path[0])
	for len(list) <= i {
		list = append(list, map[string]any{})
	}
	m, _ := list[i].(map[string]any)
	m = maps.Clone(m)
	if m == nil {
		m = map[string]any{}
	}
	list[i] = m
	for _, key := range path[1 : len(path)-1] {
		inner, _ := m[key].(map[string]any)
		inner = maps.Clone(inner)
		if inner == nil {
			inner = map[string]any{}
		}
		m[key] = inner
		m = inner
	}
	m[path[len(path)-1]] = value
	return list
}

// pathText writes databases.0.dsn as databases[0].dsn.
func pathText(path []string) string {
	var b strings.Builder
	for i, part := range path {
		switch {
		case isIndex(part):
			b.WriteString("[" + part + "]")
			continue
		case i > 0:
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}

// addDSNs applies --db: a DSN is one more database, a name selects a configured one.
func (l *loader) addDSNs(dsns []string) {
	list := l.databases()
	var names, selected []string
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			name, _ := m["name"].(string)
			names = append(names, name)
		}
	}
	var added []any
	for _, dsn := range dsns {
		if !LooksLikeDSN(dsn) && slices.Contains(names, dsn) {
			selected = append(selected, dsn)
			continue
		}
		if !LooksLikeDSN(dsn) {
			l.faults = append(l.faults, Fault{Origin: "--db", Text: fmt.Sprintf(
				"%q is neither a DSN (postgres://user@host/name, or key=value) nor the name of a configured database", dsn)})
			continue
		}
		name := uniqueName(databaseOf(dsn), names)
		names = append(names, name)
		l.origins[fmt.Sprintf("databases[%d]", len(list)+len(added))] = "--db"
		added = append(added, map[string]any{"name": name, "dsn": dsn})
	}
	if len(selected) > 0 {
		list = slices.DeleteFunc(slices.Clone(list), func(item any) bool {
			m, _ := item.(map[string]any)
			name, _ := m["name"].(string)
			return !slices.Contains(selected, name)
		})
	}
	l.load(map[string]any{"databases": append(slices.Clone(list), added...)}, nil)
}

// LooksLikeDSN tells a DSN from the name of a database.
func LooksLikeDSN(s string) bool {
	return strings.Contains(s, "=") || strings.Contains(s, "://") || s == ""
}

// databaseOf guesses a short name for a DSN: the database, as far as the text names it.
func databaseOf(dsn string) string {
	name := ""
	if _, rest, isURL := strings.Cut(dsn, "://"); isURL {
		rest, query, _ := strings.Cut(rest, "?")
		if i := strings.LastIndexByte(rest, '/'); i >= 0 {
			name = rest[i+1:]
		}
		for pair := range strings.SplitSeq(query, "&") {
			if v, ok := strings.CutPrefix(pair, "dbname="); ok {
				name = v
			}
		}
	} else {
		for _, word := range strings.Fields(dsn) {
			if v, ok := strings.CutPrefix(word, "dbname="); ok {
				name = strings.Trim(v, "'")
			}
		}
	}
	if !nameRule.MatchString(name) {
		return "db"
	}
	return name
}

// uniqueName appends a number to a name that is taken.
func uniqueName(name string, taken []string) string {
	unique := name
	for n := 2; slices.Contains(taken, unique); n++ {
		unique = name + "-" + strconv.Itoa(n)
	}
	return unique
}

// inherit gives every database what stands at the top and not in itself, and every consumer, node and archive the
// defaults.
func (l *loader) inherit() {
	top := l.k.Raw()
	list := slices.Clone(l.databases())
	for i, item := range list {
		own, _ := item.(map[string]any)
		full := map[string]any{}
		for _, key := range []string{"check_period", "ticker", "maintenance"} {
			if section, ok := top[key].(map[string]any); ok {
				full[key] = maps.Clone(section)
			} else {
				full[key] = top[key]
			}
		}
		_ = mergeAdding(own, full) // never fails
		list[i] = full
	}
	consumers := slices.Clone(l.list("consumers"))
	for i, item := range consumers {
		own, _ := item.(map[string]any)
		full := sectionMap(reflect.ValueOf(DefaultConsumer()))
		_ = mergeAdding(own, full) // never fails
		consumers[i] = full
	}
	nodes := slices.Clone(l.list("nodes"))
	for i, item := range nodes {
		own, _ := item.(map[string]any)
		full := sectionMap(reflect.ValueOf(DefaultNode()))
		_ = mergeAdding(own, full) // never fails
		nodes[i] = full
	}
	wal := slices.Clone(l.list("wal"))
	for i, item := range wal {
		own, _ := item.(map[string]any)
		full := sectionMap(reflect.ValueOf(walarchive.DefaultConfig()))
		_ = mergeAdding(own, full) // never fails
		wal[i] = full
	}
	l.load(map[string]any{"databases": list, "consumers": consumers, "nodes": nodes, "wal": wal}, nil)
}

// locate gives faults the place where their key, or the section around it, was set.
func locate(faults Faults, origins map[string]string) Faults {
	for i, f := range faults {
		for path := f.Path; path != "" && faults[i].Origin == ""; path = parentPath(path) {
			faults[i].Origin = origins[path]
		}
	}
	return faults
}

// parentPath cuts the last key or number off a path.
func parentPath(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// dedupe drops a fault that says again what an earlier one of the same key has said.
func dedupe(faults Faults) Faults {
	var out Faults
	seen := map[string]bool{}
	for _, f := range faults {
		if key := f.Origin + " " + f.Path; f.Path == "" || !seen[key] {
			seen[key] = true
			out = append(out, f)
		}
	}
	return out
}
