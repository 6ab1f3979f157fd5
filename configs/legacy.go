package configs

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Imported is a configuration of the original tools in the form of skyd.
type Imported struct {
	// YAML is a configuration file of skyd.
	YAML string `json:"yaml"`
	// Notes say what was left out or needs a look, one line each.
	Notes []string `json:"notes"`
}

// LaterError says that a file of the original tools was recognised, and that this version has no place for it yet.
type LaterError struct{ File, Tool string }

// Error implements error.
func (e *LaterError) Error() string {
	return fmt.Sprintf("%s is a configuration of %s, which this version of skyd does not support yet", e.File, e.Tool)
}

// iniFile is a configuration of the original: sections of keys, with the line of each key.
type iniFile struct {
	name     string
	sections map[string]map[string]iniValue
}

// iniValue is one value with its place.
type iniValue struct {
	text string
	line int
}

// legacyTools are the sections by which the files of the other tools are known.
var legacyTools = map[string]string{
	"londiste": "Londiste", "londiste3": "Londiste", "walmgr": "walmgr", "wal-master": "walmgr", "wal-slave": "walmgr",
	"queue_mover": "queue_mover", "queue_mover3": "queue_mover", "queue_splitter": "queue_splitter", "queue_splitter3": "queue_splitter",
	"cube_dispatcher": "cube_dispatcher", "table_dispatcher": "table_dispatcher", "bulk_loader": "bulk_loader",
}

// LegacyFile is one file to import.
type LegacyFile struct {
	Name string
	Text []byte
}

// Import translates configurations of pgqd, or of the older pgqadm, into one of skyd. The error is Faults for what
// cannot be read, or a LaterError for a file of another tool.
func Import(files []LegacyFile) (Imported, error) {
	var (
		out   Imported
		names []string
		b     strings.Builder
	)
	b.WriteString("databases:\n")
	for _, f := range files {
		ini, err := parseINI(f.Name, f.Text)
		if err != nil {
			return Imported{}, err
		}
		for section, tool := range legacyTools {
			if ini.sections[section] != nil {
				return Imported{}, &LaterError{File: f.Name, Tool: tool}
			}
		}
		im := importer{ini: ini, names: names}
		switch {
		case ini.sections["pgqd"] != nil:
			im.pgqd(&b)
		case ini.sections["pgqadm"] != nil:
			im.pgqadm(&b)
		default:
			im.fault(0, "has neither a section [pgqd] nor one of another tool of SkyTools")
		}
		if len(im.faults) > 0 {
			return Imported{}, im.faults
		}
		names = im.names
		out.Notes = append(out.Notes, im.notes...)
	}
	out.YAML = b.String()
	return out, nil
}

// parseINI reads an ini file: sections in brackets, key = value, comments with # or ;, and lines that go on indented.
func parseINI(name string, text []byte) (*iniFile, error) {
	ini := &iniFile{name: name, sections: map[string]map[string]iniValue{}}
	var faults Faults
	section, key, n := "", "", 0
	for line := range strings.Lines(string(text)) {
		n++
		indented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			section, key = strings.TrimSpace(strings.Trim(line, "[]")), ""
			if ini.sections[section] == nil {
				ini.sections[section] = map[string]iniValue{}
			}
			continue
		}
		left, right, ok := strings.Cut(line, "=")
		switch {
		case indented && key != "":
			v := ini.sections[section][key]
			v.text += " " + line
			ini.sections[section][key] = v
		case !ok || section == "":
			faults = append(faults, Fault{Origin: fmt.Sprintf("%s:%d", name, n), Text: "is neither [section] nor key = value"})
		default:
			key = strings.ToLower(strings.TrimSpace(left))
			ini.sections[section][key] = iniValue{strings.TrimSpace(right), n}
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return ini, nil
}

// importer translates one file.
type importer struct {
	ini    *iniFile
	names  []string
	notes  []string
	faults Faults
}

func (im *importer) fault(line int, format string, args ...any) {
	origin := im.ini.name
	if line > 0 {
		origin += ":" + strconv.Itoa(line)
	}
	im.faults = append(im.faults, Fault{Origin: origin, Text: fmt.Sprintf(format, args...)})
}

func (im *importer) note(format string, args ...any) {
	im.notes = append(im.notes, im.ini.name+": "+fmt.Sprintf(format, args...))
}

// pgqdKeys are the keys of pgqd; those without a text are translated, for the others it says what becomes of them.
var pgqdKeys = map[string]string{
	"base_connstr": "", "database_list": "", "initial_database": "", "ticker_period": "", "check_period": "", "maint_period": "", "retry_period": "",
	"logfile":      "logfile: skyd logs to standard error; systemd keeps it, or redirect it",
	"pidfile":      "pidfile: skyd needs none; a lock beside its control socket keeps a second one away",
	"syslog":       "syslog: skyd logs to standard error; systemd keeps it",
	"syslog_ident": "", "syslog_facility": "",
	"stats_period":        "stats_period: figures are at /metrics and in skyd status, at any time",
	"connection_lifetime": "connection_lifetime: not needed; the keyword pool_max_conn_lifetime in the dsn would set it",
	"job_name":            "",
}

// pgqd translates the configuration of pgqd.
func (im *importer) pgqd(b *strings.Builder) {
	s := im.ini.sections["pgqd"]
	known := make([]string, 0, len(pgqdKeys))
	for key := range pgqdKeys {
		known = append(known, key)
	}
	for key, v := range s {
		text, ok := pgqdKeys[key]
		switch {
		case !ok:
			im.fault(v.line, "unknown key %s%s", key, Guess(key, known))
		case text != "":
			im.note("%s", text)
		}
	}
	base := s["base_connstr"].text
	if pgq.MaskDSN(base) != base {
		im.note("base_connstr holds a password: better put it into a file and name that with password_file")
	}
	settings := im.periods(s)
	list := strings.FieldsFunc(s["database_list"].text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	if len(list) == 0 {
		im.database(b, "server", withName(base, cmp.Or(s["initial_database"].text, "template1")), append([]string{"discover: true"}, settings...))
		return
	}
	for _, name := range list {
		im.database(b, name, withName(base, name), settings)
	}
}

// pgqadm translates the configuration of the ticker of SkyTools 2.
func (im *importer) pgqadm(b *strings.Builder) {
	s := im.ini.sections["pgqadm"]
	if s["db"].text == "" {
		im.fault(0, "has no key db")
		return
	}
	im.note("only db is taken over; the defaults of skyd suit the rest")
	im.database(b, cmp.Or(s["job_name"].text, databaseOf(s["db"].text)), s["db"].text, nil)
}

// periods translates the periods, which pgqd gives in seconds.
func (im *importer) periods(s map[string]iniValue) (lines []string) {
	var maintenance []string
	for _, p := range []struct{ from, to, section string }{
		{"check_period", "check_period", ""},
		{"ticker_period", "period", "ticker"},
		{"maint_period", "period", "maintenance"},
		{"retry_period", "retry_period", "maintenance"},
	} {
		v, ok := s[p.from]
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(v.text, 64)
		if err != nil || n <= 0 || n > 1e6 {
			im.fault(v.line, "%s must be a number of seconds (got %q)", p.from, v.text)
			continue
		}
		text := p.to + ": " + DurationText(time.Duration(n*float64(time.Second)))
		switch p.section {
		case "":
			lines = append(lines, text)
		case "ticker":
			lines = append(lines, "ticker: { "+text+" }")
		default:
			maintenance = append(maintenance, text)
		}
	}
	if len(maintenance) > 0 {
		lines = append(lines, "maintenance: { "+strings.Join(maintenance, ", ")+" }")
	}
	return lines
}

// withName adds a database to a key=value DSN; the last one counts.
func withName(base, database string) string {
	if strings.ContainsAny(database, ` '\`) {
		database = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database) + "'"
	}
	return strings.TrimSpace(base + " dbname=" + database)
}

// database writes one database.
func (im *importer) database(b *strings.Builder, name, dsn string, settings []string) {
	if !nameRule.MatchString(name) {
		name = "db"
	}
	name = uniqueName(name, im.names)
	im.names = append(im.names, name)
	fmt.Fprintf(b, "  - name: %s\n    dsn: %s\n", yamlText(name), yamlText(dsn))
	for _, line := range settings {
		b.WriteString("    " + line + "\n")
	}
}

// yamlText quotes a text for YAML; a double-quoted text of JSON is one of YAML.
func yamlText(s string) string { return strconv.Quote(s) }
