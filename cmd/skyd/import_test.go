package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigImport_PrintsAConfigurationThatChecks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pgqd := write("pgqd.ini", "[pgqd]\nbase_connstr = host=127.0.0.1\ndatabase_list = app\nlogfile = x.log\nticker_period = 1\n")
	r := skyd(t, "config", "import", pgqd)
	if r.code != exitOK || !strings.Contains(r.stdout, `dsn: "host=127.0.0.1 dbname=app"`) || !strings.HasPrefix(r.stderr, "skyd: note: "+pgqd+": logfile: ") {
		t.Fatalf("got %+v", r)
	}
	if r := skyd(t, "config", "check", "--config", write("skyd.yaml", r.stdout)); r.code != exitOK {
		t.Errorf("what was imported does not check: %+v", r)
	}
	for text, want := range map[string]string{
		"[londiste3]\njob_name = x\n": "is a configuration of Londiste, which this version of skyd does not support yet (keep the original running for it, and import the others)\n",
		"[walmgr]\njob_name = x\n":    "is a configuration of walmgr, which this version of skyd does not support yet (keep the original running for it, and import the others)\n",
	} {
		if r := skyd(t, "config", "import", write("later.ini", text)); r.code != exitRefused || !strings.HasSuffix(r.stderr, want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("got %+v", r)
		}
	}
	if r := skyd(t, "config", "import", write("bad.ini", "[pgqd]\nx = 1\nticker_period = y\n")); r.code != exitUsage || strings.Count(r.stderr, "\n") != 2 {
		t.Errorf("got %+v", r)
	}
	if r := skyd(t, "config", "import", filepath.Join(dir, "none")); r.code != exitMissing {
		t.Errorf("got %+v", r)
	}
}
