package configs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const pgqdINI = `# the ticker
[pgqd]
base_connstr = host=db1 user=pgq
  port=5433
database_list = app, shop
logfile = ~/log/pgqd.log
pidfile = ~/pid/pgqd.pid
ticker_period = 0.5
maint_period=60
retry_period = 30
; over
check_period = 60
`

func TestImport_PgqdBecomesAConfigurationThatLoads(t *testing.T) {
	t.Parallel()
	im, err := Import([]LegacyFile{
		{"pgqd.ini", []byte(pgqdINI)},
		{"all.ini", []byte("[pgqd]\ninitial_database = post'gres\n")},
		{"old.ini", []byte("[pgqadm]\njob_name = app\ndb = dbname=old\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "skyd.yaml")
	if err := os.WriteFile(file, []byte(im.YAML), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(t.Context(), Source{File: file})
	if err != nil {
		t.Fatalf("%v\n%s", err, im.YAML)
	}
	if len(c.Databases) != 4 {
		t.Fatalf("got %s", im.YAML)
	}
	app, server, old := c.Databases[0], c.Databases[2], c.Databases[3]
	if app.Name != "app" || app.DSN != "host=db1 user=pgq port=5433 dbname=app" || app.Ticker.Period != 500*time.Millisecond ||
		app.Maintenance.Period != time.Minute || app.Maintenance.RetryPeriod != 30*time.Second || app.CheckPeriod != time.Minute {
		t.Errorf("got %+v", app)
	}
	if !server.Discover || server.DSN != `dbname='post\'gres'` || old.Name != "app-2" || old.DSN != "dbname=old" {
		t.Errorf("got %+v, %+v", server, old)
	}
	if notes := strings.Join(im.Notes, "\n"); !strings.Contains(notes, "pgqd.ini: logfile: ") || !strings.Contains(notes, "pgqd.ini: pidfile: ") {
		t.Errorf("got %s", notes)
	}
}

func TestImport_FaultsHaveAPlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[pgqd]\nticker_perod = 1\n":  "f.ini:2: unknown key ticker_perod (did you mean ticker_period?)",
		"[pgqd]\nticker_period = x\n": `f.ini:2: ticker_period must be a number of seconds (got "x")`,
		"hello\n":                     "f.ini:1: is neither [section] nor key = value",
		"[other]\na = b\n":            "f.ini: has neither a section [pgqd] nor one of another tool of SkyTools",
		"[pgqadm]\n":                  "f.ini: has no key db",
	} {
		var faults Faults
		if _, err := Import([]LegacyFile{{"f.ini", []byte(text)}}); !errors.As(err, &faults) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for section, tool := range map[string]string{"londiste3": "Londiste", "walmgr": "walmgr", "wal-slave": "walmgr"} {
		_, err := Import([]LegacyFile{{"f.ini", []byte("[" + section + "]\njob_name = x\n")}})
		if later := (*LaterError)(nil); !errors.As(err, &later) || later.Tool != tool {
			t.Errorf("%s: got %v", section, err)
		}
	}
}

func FuzzImport(f *testing.F) {
	f.Add(pgqdINI)
	f.Add("[pgqd]\nbase_connstr=password='a b'\ndatabase_list=x,,'y\n")
	f.Fuzz(func(t *testing.T, text string) {
		im, err := Import([]LegacyFile{{"f.ini", []byte(text)}})
		if err != nil {
			return
		}
		if d := parseDocument("x", []byte(im.YAML), func(string) int { return 0 }); d.broken {
			t.Errorf("%q gives no YAML: %v\n%s", text, d.faults, im.YAML)
		}
	})
}
