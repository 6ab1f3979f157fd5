package configs

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeFile writes a file of a test and returns its name.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad_GoodFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range append(files, "skyd.example.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			c, err := Load(t.Context(), Source{File: file})
			if err != nil {
				t.Fatal(err)
			}
			if len(c.Databases) == 0 {
				t.Error("no databases")
			}
		})
	}
}

// A bad file says in its first lines (# expect: ...) all the faults it must be refused with, one per line.
func TestLoad_BadFilesAreRefusedWithAllTheirFaults(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if w, ok := strings.CutPrefix(strings.TrimSpace(line), "# expect: "); ok {
					want = append(want, strings.ReplaceAll(w, "FILE", file))
				}
			}
			_, err = Load(t.Context(), Source{File: file})
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults", err)
			}
			if got := err.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

func TestLoad_LaterSourcesWin(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := writeFile(t, dir, "skyd.yaml", `
http: { listen: "127.0.0.1:1" }
shutdown_timeout: 1s
log: { level: warn }
ticker: { period: 100ms }
databases:
  - { name: a, dsn: "dbname=a", ticker: { parallel: 2 } }
`)
	writeFile(t, dir, "conf.d/10-more.yaml", `
http: { listen: "127.0.0.1:2" }
shutdown_timeout: 2s
log: { format: json }
databases:
  - { name: b, dsn: "dbname=b", check_period: 5s }
`)
	writeFile(t, dir, "conf.d/20-more.yaml", "shutdown_timeout: 3s\n")
	c, err := Load(t.Context(), Source{
		File:    file,
		Environ: []string{"SKYD_SHUTDOWN_TIMEOUT=4 seconds", "SKYD_TICKER__PARALLEL=7", "SKYD_DATABASES__1__DSN=dbname=bb", "HOME=/"},
		Flags:   map[string]any{"http.listen": "127.0.0.1:3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Listen != "127.0.0.1:3" || c.ShutdownTimeout != 4*time.Second || c.Log != (Log{Level: "warn", Format: "json"}) {
		t.Errorf("got %+v %v %+v", c.HTTP, c.ShutdownTimeout, c.Log)
	}
	if len(c.Databases) != 2 || len(c.Files) != 3 {
		t.Fatalf("got %d databases of %v", len(c.Databases), c.Files)
	}
	a, b := c.Databases[0], c.Databases[1]
	if a.Ticker.Period != 100*time.Millisecond || a.Ticker.Parallel != 2 || a.CheckPeriod != time.Minute {
		t.Errorf("a: got %+v", a)
	}
	if b.DSN != "dbname=bb" || b.Ticker.Parallel != 7 || b.CheckPeriod != 5*time.Second || b.Maintenance != DefaultConfig().Maintenance {
		t.Errorf("b: got %+v", b)
	}
}

func TestLoad_DSNsNeedNoFile(t *testing.T) {
	t.Parallel()
	c, err := Load(t.Context(), Source{DSNs: []string{
		"postgres://u:secret@h/app", "host=x dbname=app password=secret", "host=y user=z", "postgres://h/b%20c",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range c.Databases {
		names = append(names, d.Name)
	}
	if got := strings.Join(names, " "); got != "app app-2 db db-2" {
		t.Errorf("got names %s", got)
	}
	text, err := json.Marshal(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") {
		t.Errorf("the password is shown: %s", text)
	}
}

func TestLoad_NameSelectsConfiguredDatabase(t *testing.T) {
	t.Parallel()
	file := writeFile(t, t.TempDir(), "skyd.yaml", `
databases:
  - { name: a, dsn: "dbname=a" }
  - { name: b, dsn: "dbname=b" }
`)
	c, err := Load(t.Context(), Source{File: file, DSNs: []string{"b"}})
	if err != nil || len(c.Databases) != 1 || c.Databases[0].Name != "b" {
		t.Errorf("got %+v, %v", c.Databases, err)
	}
	_, err = Load(t.Context(), Source{File: file, DSNs: []string{"c"}})
	if err == nil || !strings.Contains(err.Error(), `--db: "c" is neither a DSN`) {
		t.Errorf("got %v", err)
	}
}

func TestLoad_BadDSNDoesNotTellThePassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"postgres://u:secret@h:port/app", "host=x password=secret port=abc", "postgres://u:secret@h/app?sslmode=nonsense"} {
		_, err := Load(t.Context(), Source{DSNs: []string{dsn}})
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "--db: databases[0].dsn: cannot be used: ") {
			t.Errorf("%s: got %v", dsn, err)
		}
	}
}

func TestLoad_EnvironmentFaults(t *testing.T) {
	t.Parallel()
	c, err := Load(t.Context(), Source{DSNs: []string{"dbname=x"}, Environ: []string{
		"SKYD_PORT_8787_TCP=tcp://10.0.0.1:8787", "SKYD_TEST_REQUIRE=1",
	}})
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "SKYD_PORT_8787_TCP") {
		t.Errorf("got %v, %v", c.Warnings, err)
	}
	_, err = Load(t.Context(), Source{DSNs: []string{"dbname=x"}, Environ: []string{"SKYD_TICKER__PERIOD=fast"}})
	want := `environment SKYD_TICKER__PERIOD: ticker.period: must be a duration like 1m30s or '2 minutes' (got "fast")`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"1m30s": 90 * time.Second, "300ms": 300 * time.Millisecond, "0": 0, "2 minutes": 2 * time.Minute, "1 day": 24 * time.Hour,
		"00:00:03": 3 * time.Second, "1 day 02:03:04.5": 26*time.Hour + 3*time.Minute + 4500*time.Millisecond,
		"1 hour 30 min": 90 * time.Minute, "5min": 5 * time.Minute, "1.5 hours": 90 * time.Minute, "01:30": 90 * time.Minute,
		"-5s": -5 * time.Second,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "fast", "1 moon", "1:99", "1 month", "one day", "99999999999999 days", "::"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("1m30s")
	f.Add("1 day 02:03:04")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseDuration(text); err == nil {
			if again, err := parseDuration(DurationText(d)); err != nil || again != d {
				t.Errorf("%q = %v does not survive: %v, %v", text, d, again, err)
			}
		}
	})
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	keys := []string{"ticker", "maintenance", "databases", "http"}
	for word, want := range map[string]string{"tikcer": "ticker", "database": "databases", "htpp": "http", "zzzzzzz": ""} {
		if got := didYouMean(word, keys); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func TestReference_CoversEveryKeyAndDocsAreFresh(t *testing.T) {
	t.Parallel()
	text, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"`http.listen` | text | `127.0.0.1:8787`", "`ticker.period` | duration | `300ms`", "`databases[].password_file`"} {
		if !strings.Contains(text, key) {
			t.Errorf("missing: %s", key)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| `") && strings.HasSuffix(strings.TrimSpace(line), "|  |") {
			t.Errorf("a key without a meaning: %s", line)
		}
	}
	docs, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(docs) != text {
		t.Error("docs/config.md is stale: go generate ./configs")
	}
}

func FuzzParseDocument(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml", "*.yaml"} {
		files, _ := filepath.Glob(pattern)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := parseDocument("file", []byte(text), func(string) int { return 0 })
		for _, fault := range d.faults {
			if fault.Text == "" || strings.Contains(fault.Text, "\n") {
				t.Errorf("got %q", fault)
			}
		}
	})
}

func TestLoad_DoubtsAreWarnings(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, file := filepath.Join(dir, "password"), filepath.Join(dir, "skyd.yaml")
	text := "databases:\n" +
		"  - { name: a, dsn: \"host=db.example.com dbname=x sslmode=require\", password_file: " + secret + " }\n" +
		"  - { name: b, dsn: \"postgres://u:pw@127.0.0.1/x\", password_file: /nowhere }\n" +
		"  - { name: c, dsn: \"host=db.example.com dbname=x sslmode=verify-full\" }\n"
	for name, content := range map[string]string{secret: "x\n", file: text} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(t.Context(), Source{File: file, Environ: []string{"SKYD_HTTP__LISTNE=x"}})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(c.Warnings, "\n")
	for _, want := range []string{
		"skyd.yaml holds a password and can be read by others",
		"SKYD_HTTP__LISTNE is not a configuration key (did you mean SKYD_HTTP__LISTEN?); it is ignored",
		"database a: password_file " + secret + " can be read by others",
		"database a: the connection to db.example.com is encrypted, but the server is not verified; set sslmode=verify-full",
		"database b: password_file /nowhere cannot be read: no such file or directory",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got:\n%s\nwant %s", got, want)
		}
	}
	if len(c.Warnings) != 5 {
		t.Errorf("got %d warnings:\n%s", len(c.Warnings), got)
	}
}
