package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

func emptyDSN(t *testing.T) string {
	t.Helper()
	return pgtest.Empty(t).DSN
}

// original returns the path of a program of the original PgQ's packages, or
// ends the test.
func original(t *testing.T, path string) string {
	t.Helper()
	found, err := exec.LookPath(path)
	if err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return found
}

// libpq is the DSN as libpq's keywords, without the database.
func libpq(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("host=%s port=%d user=%s", cfg.Host, cfg.Port, cfg.User)
	if cfg.Password != "" {
		text += " password=" + cfg.Password
	}
	return text
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestOriginalTicker_ServesOurSchema lets Debian's pgqd do all the work skyd
// would: ticks, retry, rotation.
func TestOriginalTicker_ServesOurSchema(t *testing.T) {
	t.Parallel()
	program := original(t, "pgqd")
	db := pgtest.DB(t)
	conn := db.Conn(t)
	exec1(t, conn, "select pgq.create_queue('orders')")
	exec1(t, conn, "select pgq.set_queue_config('orders', 'rotation_period', '1 second')")
	exec1(t, conn, "select pgq.set_queue_config('orders', 'ticker_max_lag', '100 milliseconds')")
	exec1(t, conn, "select pgq.register_consumer('orders', 'mailer')")
	pgqd := background(t, nil, program, writeFile(t, "pgqd.ini", `
[pgqd]
base_connstr = `+libpq(t, db.DSN)+`
database_list = `+db.Name+`
syslog = 0
pidfile =
ticker_period = 0.1
check_period = 1
retry_period = 0.3
maint_period = 0.3
`))
	exec1(t, conn, "select pgq.insert_event('orders', 'created', 'one')")
	number, events := waitBatch(t, conn, "orders", "mailer", pgqd)
	if len(events) != 1 || events[0].Data != "one" {
		t.Fatalf("events = %+v", events)
	}
	exec1(t, conn, "select pgq.event_retry($1::bigint, $2::bigint, 0)", number, events[0].ID)
	finish(t, conn, number)

	number, again := waitBatch(t, conn, "orders", "mailer", pgqd)
	if len(again) != 1 || again[0].ID != events[0].ID || again[0].Retry == nil || *again[0].Retry != 1 {
		t.Errorf("after retry: %+v, want event %d with ev_retry 1", again, events[0].ID)
	}
	finish(t, conn, number)

	table := scan[int](t, conn, "select queue_cur_table from pgq.queue")
	pgtest.Eventually(t, time.Minute, "pgqd rotates the queue", func() bool {
		pgqd.alive()
		number, _ := batch(t, conn, "orders", "mailer") // an open batch would hold the rotation
		return number == 0 && scan[int](t, conn, "select queue_cur_table from pgq.queue") != table
	})
	exec1(t, conn, "select pgq.insert_event('orders', 'created', 'two')")
	if _, events = waitBatch(t, conn, "orders", "mailer", pgqd); len(events) != 1 || events[0].Data != "two" {
		t.Errorf("after the rotation: %+v", events)
	}
	if strings.Contains(pgqd.out.String(), "ERROR") {
		t.Error("pgqd met errors")
		t.Log(pgqd.out.String())
	}
}

// TestOriginalPythonConsumer_ReadsOurSchema runs a consumer written with
// python3-pgq, with skyd as the ticker: it gets an event, puts it off, and
// gets it again.
func TestOriginalPythonConsumer_ReadsOurSchema(t *testing.T) {
	t.Parallel()
	python := original(t, "/usr/bin/python3")
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import pgq, psycopg2").CombinedOutput(); err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatalf("python3-pgq: %s", out)
		}
		t.Skipf("python3-pgq: %s", out)
	}
	db := pgtest.DB(t)
	conn := db.Conn(t)
	exec1(t, conn, "select pgq.create_queue('orders')")
	exec1(t, conn, "select pgq.set_queue_config('orders', 'ticker_max_lag', '100 milliseconds')")
	d := daemon(t, "run", "--db", db.DSN)
	ini := writeFile(t, "consumer.ini", `
[mailer]
job_name = mailer
db = `+libpq(t, db.DSN)+` dbname=`+db.Name+`
queue_name = orders
pidfile =
loop_delay = 0.1
`)
	out := filepath.Join(t.TempDir(), "events")
	if text, err := exec.CommandContext(t.Context(), python, "testdata/consumer.py", out, "--register", ini).CombinedOutput(); err != nil {
		t.Fatalf("register: %v\n%s", err, text)
	}
	if n := scan[int](t, conn, "select count(*) from pgq.get_consumer_info('orders', 'mailer')"); n != 1 {
		t.Fatalf("%d consumers registered, want 1", n)
	}
	exec1(t, conn, "select pgq.insert_event('orders', 'plain', 'one')")
	exec1(t, conn, "select pgq.insert_event('orders', 'again', 'two', 'x1', null, '', 'x4')")
	consumer := background(t, nil, python, "testdata/consumer.py", out, ini)
	pgtest.Eventually(t, time.Minute, "the Python consumer puts an event off", func() bool {
		d.alive()
		consumer.alive()
		return scan[int](t, conn, "select count(*) from pgq.retry_queue") == 1 || len(lines(t, out)) >= 3
	})
	exec1(t, conn, "select pgq.maint_retry_events()") // not waiting for the daemon's period
	pgtest.Eventually(t, time.Minute, "the Python consumer has all events", func() bool {
		d.alive()
		consumer.alive()
		return len(lines(t, out)) >= 3
	})
	want := []string{
		`["plain", "one", null, null, null, null, null]`,
		`["again", "two", "x1", null, "", "x4", null]`,
		`["again", "two", "x1", null, "", "x4", 1]`,
	}
	for i, line := range lines(t, out) {
		if i >= len(want) || line != want[i] {
			t.Errorf("event %d: %s, want %s", i+1, line, want[min(i, len(want)-1)])
		}
	}
	pgtest.Eventually(t, time.Minute, "the Python consumer finishes its last batch", func() bool {
		return scan[int](t, conn, "select count(*) from pgq.get_consumer_info('orders', 'mailer') where current_batch is null and pending_events = 0") == 1
	})
}

// lines reads what the consumer wrote: one JSON list for each event.
func lines(t *testing.T, file string) []string {
	t.Helper()
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if !json.Valid(s.Bytes()) {
			break // being written
		}
		all = append(all, s.Text())
	}
	return all
}

// TestDaemon_TicksTheOriginalExtension runs skyd on a database that has the
// original PgQ, written in C.
func TestDaemon_TicksTheOriginalExtension(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	conn := db.Conn(t)
	exec1(t, conn, "select pgq.create_queue('orders')")
	exec1(t, conn, "select pgq.register_consumer('orders', 'mailer')")
	before := scan[string](t, conn, "select string_agg(md5(prosrc), ',' order by oid) from pg_proc where pronamespace = 'pgq'::regnamespace")
	d := daemon(t, "run", "--db", db.DSN)
	for _, data := range []string{"one", "two"} {
		exec1(t, conn, "select pgq.insert_event('orders', 'created', $1::text)", data)
		number, events := waitBatch(t, conn, "orders", "mailer", d)
		if len(events) != 1 || events[0].Data != data {
			t.Errorf("events = %+v, want %s", events, data)
		}
		finish(t, conn, number)
	}
	if err := d.stop(); err != nil {
		t.Errorf("skyd run after SIGTERM: %v, want exit code 0", err)
	}
	if after := scan[string](t, conn, "select string_agg(md5(prosrc), ',' order by oid) from pg_proc where pronamespace = 'pgq'::regnamespace"); after != before {
		t.Error("skyd changed functions of the extension")
	}
}
