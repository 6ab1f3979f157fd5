package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/runtime"
)

func TestReloadAndStop_TalkToTheDaemon(t *testing.T) {
	t.Parallel()
	db, other := pgtest.DB(t), pgtest.DB(t)
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "skyd.yaml"), filepath.Join(dir, "s")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := fmt.Sprintf("control: { socket: %s }\nhttp: { listen: none }\ndatabases:\n  - { name: main, dsn: %q }\n", socket, db.DSN)
	write(base)
	log, code := &syncBuffer{}, make(chan int, 1)
	go func() {
		code <- run(context.WithoutCancel(t.Context()), []string{"run", "--config", file}, strings.NewReader(""), log, log)
	}()
	pgtest.Eventually(t, slow, "the database is up", func() bool { return strings.Contains(log.String(), "database is up") })

	if r := skyd(t, "reload", "--config", file); r.code != exitOK || r.stdout != "nothing has changed\n" {
		t.Errorf("got %+v", r)
	}
	write(base + fmt.Sprintf("  - { name: more, dsn: %q }\nlog: { level: warn }\ninstance: renamed\n", other.DSN))
	r := skyd(t, "reload", "--config", file, "-o", "json")
	var done runtime.Reloaded
	if err := json.Unmarshal([]byte(r.stdout), &done); err != nil || !done.Changed || strings.Join(done.Added, "") != "more" ||
		strings.Join(done.RestartNeeded, "") != "instance" {
		t.Errorf("got %v, %+v", err, r)
	}
	write("tikcer: {}\n" + base + "  - { name: x, dns: x }\n")
	r = skyd(t, "reload", "--socket", socket)
	want := "skyd: " + file + ":1: tikcer: unknown key (did you mean ticker?)\nskyd: " + file + ":"
	if r.code != exitUsage || !strings.HasPrefix(r.stderr, want) || strings.Count(r.stderr, "\n") < 2 || r.stdout != "" {
		t.Errorf("a bad file: got %+v, want %s", r, want)
	}
	if r := skyd(t, "status", "--socket", socket); !strings.Contains(r.stdout, "the last reload was refused: ") ||
		!strings.Contains(r.stdout, "in force after a restart only: instance") || !strings.Contains(r.stdout, "database/more") {
		t.Errorf("got %+v", r)
	}
	for i, want := range []string{"the daemon has stopped\n", "no daemon is running there: " + socket + "\n"} {
		if r := skyd(t, "stop", "--socket", socket); r.code != exitOK || r.stdout != want {
			t.Errorf("stop %d: got %+v", i, r)
		}
	}
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("exit code %d: %s", got, log)
		}
	case <-time.After(slow):
		t.Fatal("the daemon does not end")
	}
	if r := skyd(t, "reload", "--socket", socket); r.code != exitConnect || !strings.HasPrefix(r.stderr, "skyd: no skyd is running there") {
		t.Errorf("got %+v", r)
	}
}

func TestOp_ShowsWhatTheDaemonDoes(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	if r := skyd(t, "queue", "create", "orders", "--db", db.DSN); r.code != exitOK {
		t.Fatal(r)
	}
	// Maintenance of this queue takes until the lock is given back.
	for _, sql := range []string{
		`create function public.slow(text) returns int language plpgsql as $$ begin perform pg_advisory_xact_lock(7); return 0; end $$`,
		`update pgq.queue set queue_extra_maint = array['public.slow']`, `select pg_advisory_lock(7)`,
	} {
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file, socket := filepath.Join(dir, "skyd.yaml"), filepath.Join(dir, "s")
	text := fmt.Sprintf("control: { socket: %s }\nhttp: { listen: none }\ndatabases:\n  - { name: main, dsn: %q }\n", socket, db.DSN)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, code := &syncBuffer{}, make(chan int, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { code <- run(ctx, []string{"run", "--config", file}, strings.NewReader(""), log, log) }()
	defer func() { cancel(); <-code }()
	var ops []runtime.Operation
	find := func(kind string) (op runtime.Operation) {
		r := skyd(t, "op", "list", "--socket", socket, "-o", "json")
		if json.Unmarshal([]byte(r.stdout), &ops) != nil {
			return op
		}
		for _, o := range ops {
			if o.Kind == kind {
				return o
			}
		}
		return op
	}
	pgtest.Eventually(t, slow, "maintenance runs", func() bool { return find("maintenance").Step == "public.slow(orders)" })
	slowOp := find("maintenance")
	id := fmt.Sprint(slowOp.ID)
	if r := skyd(t, "op", "list", "--socket", socket); r.code != exitOK || !strings.Contains(r.stdout, "maintenance  main") ||
		!strings.Contains(r.stdout, "public.slow(orders)") {
		t.Errorf("got %+v", r)
	}
	if r := skyd(t, "op", "show", id, "--socket", socket); r.code != exitOK || !strings.Contains(r.stdout, "state     running\nstep      public.slow(orders)\n") {
		t.Errorf("got %+v", r)
	}
	if r := skyd(t, "op", "wait", id, "--socket", socket, "--timeout", "1ms"); r.code != exitTimeout {
		t.Errorf("got %+v", r)
	}
	waited := make(chan result, 1)
	go func() { waited <- skyd(t, "op", "wait", id, "--socket", socket, "-o", "json", "--timeout", "5m") }()
	if _, err := c.Exec(t.Context(), `select pg_advisory_unlock(7)`); err != nil {
		t.Fatal(err)
	}
	if r := <-waited; r.code != exitOK || !strings.Contains(r.stdout, `"state": "done"`) {
		t.Errorf("got %+v", r)
	}
	r := skyd(t, "reload", "--socket", socket, "-o", "json")
	var done runtime.Reloaded
	if err := json.Unmarshal([]byte(r.stdout), &done); err != nil || done.Operation == 0 {
		t.Fatal(err, r)
	}
	if r := skyd(t, "op", "wait", fmt.Sprint(done.Operation), "--socket", socket); r.code != exitOK || !strings.Contains(r.stdout, "kind      reload") {
		t.Errorf("got %+v", r)
	}
	if err := os.WriteFile(file, []byte(text+"x: y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := skyd(t, "reload", "--socket", socket); r.code != exitUsage {
		t.Errorf("got %+v", r)
	}
	id = fmt.Sprint(find("reload").ID)
	if r := skyd(t, "op", "wait", id, "--socket", socket); r.code != exitFailed || !strings.Contains(r.stderr, "operation "+id+" failed: ") {
		t.Errorf("got %+v", r)
	}
	for _, c := range []struct {
		args []string
		code int
	}{{[]string{"op", "show", "999999"}, exitMissing}, {[]string{"op", "wait", "x"}, exitUsage}, {[]string{"op", "list"}, exitOK}} {
		if r := skyd(t, append(c.args, "--socket", socket)...); r.code != c.code {
			t.Errorf("%v: got %+v", c.args, r)
		}
	}
	if r := skyd(t, "op", "list", "--socket", filepath.Join(dir, "none")); r.code != exitConnect {
		t.Errorf("got %+v", r)
	}
}
