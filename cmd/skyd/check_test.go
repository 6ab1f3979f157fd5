package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

func TestCheck_AllFormatsAndExitCodes(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	if r := skyd(t, "queue", "create", "orders", "--db", db.DSN); r.code != exitOK {
		t.Fatal(r)
	}
	socket := filepath.Join(t.TempDir(), "s")
	r := skyd(t, "check", "--socket", socket, "--format", "nagios")
	if r.code != 2 || !strings.HasPrefix(r.stdout, "SKYD CRITICAL - daemon CRITICAL: no skyd is running there") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("without a daemon: got %+v", r)
	}
	if r := skyd(t, "check", "--format", "xml"); r.code != 3 {
		t.Errorf("got %+v", r)
	}
	log, code := &syncBuffer{}, make(chan int, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		code <- run(ctx, []string{"run", "--db", db.DSN, "--listen", "none", "--socket", socket}, nil, log, log)
	}()
	defer func() { cancel(); <-code }()
	pgtest.Eventually(t, slow, "the queue is seen", func() bool {
		return strings.Contains(skyd(t, "status", "--socket", socket).stdout, "orders")
	})
	name := ""
	pgtest.Eventually(t, slow, "everything is well", func() bool {
		r = skyd(t, "check", "--socket", socket, "--format", "json")
		var doc struct {
			Severity string
			Checks   []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil {
			t.Fatal(err, r)
		}
		for _, c := range doc.Checks {
			if strings.HasPrefix(c.Name, "queue/") {
				name = c.Name
			}
		}
		return r.code == 0 && doc.Severity == "OK" && name != ""
	})
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--format", "nagios"}, 0, " checks | '" + name + "'="},
		{[]string{"--format", "prometheus"}, 0, "skyd_check_status{check=\"" + name + "\"} 0\n"},
		{[]string{"--format", "text", "--lag-warning", "1ns"}, 1, "WARNING  " + name + ": the newest tick is "},
		{[]string{"--lag-critical", "1ns", name}, 2, "CRITICAL " + name + ": the newest tick is "},
		{[]string{"--lag-critical", "1ns", "--exclude", name}, 0, "OK       daemon: running\n"},
		{[]string{"nothing"}, 3, "UNKNOWN  nothing: there is no such check\n"},
	} {
		r := skyd(t, append([]string{"check", "--socket", socket}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.stdout, c.want) || r.stderr != "" {
			t.Errorf("%q: got %+v, want %d %s", c.args, r, c.code, c.want)
		}
	}
}

func TestDoctor_NamesFaultsAndRemedies(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	if r := skyd(t, "queue", "create", "orders", "--db", db.DSN); r.code != exitOK {
		t.Fatal(r)
	}
	r := skyd(t, "doctor", "--db", db.DSN, "--all")
	if !strings.Contains(r.stdout, "  ok       schema: schema pgq has version ") || !strings.Contains(r.stdout, "drift/pgq: is as this program ships it") {
		t.Errorf("got %+v", r)
	}
	r = skyd(t, "doctor", "--db", pgtest.Empty(t).DSN)
	if r.code != exitFailed || !strings.Contains(r.stdout, "fault    schema: ") || !strings.Contains(r.stdout, "-> skyd schema install --db DSN") {
		t.Errorf("without PgQ: got %+v", r)
	}
	r = skyd(t, "doctor", "--db", "postgres://joe:topsecret@127.0.0.1:1/app", "-o", "json")
	if r.code != exitConnect || !strings.Contains(r.stdout, `"ok": false`) || strings.Contains(r.stdout, "topsecret") {
		t.Errorf("unreachable: got %+v", r)
	}
}

func TestExplainLag_SaysWhyAndWhatToDo(t *testing.T) {
	t.Parallel()
	s := &session{t: t, dsn: pgtest.DB(t).DSN}
	for _, line := range []string{
		"queue create orders", "consumer register billing", "explain lag billing", "event insert orders t d", "tick", "event insert orders t d", "tick",
		"explain lag orders billing", "explain lag billing -o json", "queue pause orders", "explain lag billing", "explain lag nobody",
	} {
		s.do(line)
	}
	golden(t, "explain.txt", s.text())
}

// What only the daemon knows comes first: the database sees an open batch, the daemon why it stays so.
func TestExplainLag_TellsWhatTheDaemonMeets(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, args := range [][]string{{"queue", "create", "orders"}, {"consumer", "register", "orders", "poisoned"}, {"event", "insert", "orders", "t", "d"}} {
		if r := skyd(t, append(args, "--db", db.DSN)...); r.code != exitOK {
			t.Fatal(r)
		}
	}
	if r := skyd(t, "explain", "lag", "poisoned", "--db", db.DSN); !strings.Contains(r.stdout, "ticker: it has finished all ticks; about 1 events wait for the next one") {
		t.Errorf("without a ticker: got %+v", r)
	}
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "skyd.yaml"), filepath.Join(dir, "s")
	text := fmt.Sprintf(`{control: {socket: %s}, http: {listen: none}, databases: [{name: main, dsn: %q}],
consumers: [{name: poisoned, queue: orders, handler: {kind: sql, statement: "select 1 / 0 from (select :ev_id::int) x"}}]}`, socket, db.DSN)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, code := &syncBuffer{}, make(chan int, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { code <- run(ctx, []string{"run", "--config", file}, nil, log, log) }()
	defer func() { cancel(); <-code }()
	pgtest.Eventually(t, slow, "the daemon's failures are the first reason", func() bool {
		r := skyd(t, "explain", "lag", "orders", "poisoned", "--db", db.DSN, "--socket", socket)
		_, reasons, _ := strings.Cut(r.stdout, "\n\n")
		return r.code == exitOK && strings.HasPrefix(reasons, "daemon: skyd on ") && strings.Contains(reasons, "times in a row: ") &&
			strings.Contains(reasons, "division by zero")
	})
}

// Whatever tells how the daemon is tells the same: all of it comes from one snapshot.
func TestTruth_CheckDoctorStatusAndReadyAgree(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	if r := skyd(t, "queue", "create", "orders", "--db", db.DSN); r.code != exitOK {
		t.Fatal(r)
	}
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "skyd.yaml"), filepath.Join(dir, "s")
	text := fmt.Sprintf("control: { socket: %s }\nhttp: { listen: '127.0.0.1:0' }\ndatabases: [{ name: main, dsn: %q }]\n", socket, db.DSN) +
		"consumers: [{ name: bad, queue: orders, handler: { kind: sql, statement: 'select 1 / (:ev_id - :ev_id)' } }]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := skyd(t, "doctor", "--config", file); !strings.Contains(r.stdout, "note     running: no skyd is running there") {
		t.Errorf("without a daemon: %+v", r)
	}
	log, code := &syncBuffer{}, make(chan int, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { code <- run(ctx, []string{"run", "--config", file}, nil, log, log) }()
	defer func() { cancel(); <-code }()
	pgtest.Eventually(t, slow, "the daemon runs", func() bool { return strings.Contains(log.String(), "http=127") })
	_, rest, _ := strings.Cut(log.String(), "http=")
	address, _, _ := strings.Cut(rest, " ")
	get := func(path string) (int, string) {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	const check = "consumer/main/orders/bad"
	agree := func(code int, what string, want bool) {
		t.Helper()
		pgtest.Eventually(t, slow, what, func() bool {
			status, body := get("/readyz?verbose")
			found := skyd(t, "check", "--config", file, check)
			return (status == code) == want && strings.Contains(body, check) && (found.code != 0) == (status != http.StatusOK)
		})
	}
	agree(http.StatusOK, "everything is well", true)
	pgtest.Eventually(t, slow, "the doctor sees a daemon that is well", func() bool {
		return strings.Contains(skyd(t, "doctor", "--config", file, "--all").stdout, "ok       "+check+": running")
	})
	if r := skyd(t, "event", "insert", "orders", "t", "x", "--db", db.DSN); r.code != exitOK {
		t.Fatal(r)
	}
	agree(http.StatusServiceUnavailable, "the consumer fails again and again", true)
	if status, _ := get("/livez"); status != http.StatusOK {
		t.Errorf("a consumer that fails makes /livez %d", status)
	}
	if r := skyd(t, "doctor", "--config", file); r.code != exitFailed || !strings.Contains(r.stdout, "fault    "+check+": ") {
		t.Errorf("doctor: %+v", r)
	}
	if r := skyd(t, "status", "--config", file); !strings.Contains(r.stdout, "NOT EVERYTHING IS WELL") {
		t.Errorf("status: %+v", r)
	}
	if r := skyd(t, "explain", "lag", "orders", "bad", "--db", db.DSN, "--socket", socket); !strings.Contains(r.stdout, "daemon: skyd on ") || !strings.Contains(r.stdout, "division by zero") {
		t.Errorf("explain lag: %+v", r)
	}
	if status, body := get("/readyz/consumer/bad"); status != http.StatusServiceUnavailable || !strings.Contains(body, "division by zero") {
		t.Errorf("/readyz/consumer/bad: %d %s", status, body)
	}
}
