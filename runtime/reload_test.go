package runtime

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/walarchive"
)

// source is a configuration that a test can change.
type source struct {
	mu   sync.Mutex
	c    configs.Config
	err  error
	gate chan struct{} // when set, reading waits for it
	logs []configs.Log
}

func (s *source) set(change func(c *configs.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.c)
}

func (s *source) load(ctx context.Context) (configs.Loaded, error) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return configs.Loaded{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return configs.Loaded{Config: s.c}, s.err
}

// runSource starts a daemon that reads its configuration from src.
func runSource(t testing.TB, src *source, getenv func(string) string, dbs ...configs.Database) *running {
	t.Helper()
	c := configs.DefaultConfig()
	c.Instance, c.HTTP.Listen, c.Control.Socket, c.Databases = "test", "127.0.0.1:0", filepath.Join(t.TempDir(), "s"), dbs
	src.c = c
	return runOptions(t, c, Options{
		Load: src.load, Getenv: getenv,
		ApplyLog: func(l configs.Log) { src.set(func(*configs.Config) { src.logs = append(src.logs, l) }) },
	})
}

// backends lists the server processes of a database's pool, with the time they were started.
func backends(t testing.TB, c *pgx.Conn, name string) string {
	t.Helper()
	return value[string](t, c, `select coalesce(string_agg(pid || ' ' || backend_start, ',' order by pid), '') from pg_stat_activity
		where application_name = 'skyd/test/' || $1 and datname = current_database()`, name)
}

func TestReload_TouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	keep, change, drop, add := pgtest.DB(t), pgtest.DB(t), pgtest.DB(t), pgtest.DB(t)
	conns := map[*pgtest.Database]*pgx.Conn{}
	for _, db := range []*pgtest.Database{keep, change, drop, add} {
		conns[db] = db.Conn(t)
		newQueue(t, conns[db], "q")
	}
	src := &source{}
	r := runSource(t, src, nil, database("keep", keep.DSN), database("change", change.DSN), database("drop", drop.DSN))
	for _, db := range []*pgtest.Database{keep, change, drop} {
		ticksOn(t, conns[db], "q")
	}
	for _, path := range []string{"database/keep/maintainer", "database/change/maintainer"} {
		pgtest.Eventually(t, slow, path, func() bool { return r.actor(path).State == messages.Running })
	}
	before := map[string]messages.ActorStatus{}
	for _, a := range r.status().Actors {
		before[a.Path] = a
	}

	src.set(func(c *configs.Config) {
		slower := database("change", change.DSN)
		slower.Ticker.Period *= 2
		c.Databases = []configs.Database{database("keep", keep.DSN), slower, database("add", add.DSN)}
		c.Log.Level, c.ShutdownTimeout, c.HTTP.Pprof = "debug", 20*time.Second, true
	})
	got, err := r.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Reloaded{
		Changed: true, Added: []string{"add"}, Removed: []string{"drop"}, Replaced: []string{}, Adjusted: []string{"change"},
		Untouched: []string{"keep"}, Keys: []string{"shutdown_timeout", "log.level"}, RestartNeeded: []string{"http.pprof"}, Warnings: []string{},
	}
	if got.Operation == 0 {
		t.Error("the reload has no number to look it up by")
	}
	want.Operation = got.Operation
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, db := range []*pgtest.Database{keep, change, add} {
		ticksOn(t, conns[db], "q")
	}
	pgtest.Eventually(t, slow, "the end of the connections of the dropped one", func() bool {
		return backends(t, conns[drop], "drop") == "" && r.actor("database/drop").Path == ""
	})
	for _, path := range []string{"database/keep", "database/keep/ticker", "database/keep/maintainer", "database/change", "database/change/maintainer"} {
		if a := r.actor(path); !a.Since.Equal(before[path].Since) || a.Restarts != 0 {
			t.Errorf("%s was touched: %+v, before %+v", path, a, before[path])
		}
	}
	if a := r.actor("database/change/ticker"); !a.Since.After(before[a.Path].Since) {
		t.Errorf("the ticker works by its old settings: %+v", a)
	}
	if len(src.logs) != 1 || src.logs[0].Level != "debug" {
		t.Errorf("the log: got %+v", src.logs)
	}
	if c := r.status().Config; !c.OK || !slices.Equal(c.RestartNeeded, []string{"http.pprof"}) || !c.Loaded.After(r.status().Started) {
		t.Errorf("got %+v", c)
	}
	if got, err = r.Reload(t.Context()); err != nil || got.Changed || len(got.Untouched) != 3 {
		t.Errorf("the same again: got %+v, %v", got, err)
	}
	if !strings.Contains(r.log.String(), "these keys take effect only when skyd is started again") {
		t.Error("the log does not name the keys that need a restart")
	}
}

func TestReload_OtherDSNConnectsAnew(t *testing.T) {
	t.Parallel()
	first, second := pgtest.DB(t), pgtest.DB(t)
	c1, c2 := first.Conn(t), second.Conn(t)
	newQueue(t, c1, "q")
	newQueue(t, c2, "q")
	src := &source{}
	r := runSource(t, src, nil, database("main", first.DSN))
	ticksOn(t, c1, "q")
	src.set(func(c *configs.Config) { c.Databases = []configs.Database{database("main", second.DSN)} })
	if got, err := r.Reload(t.Context()); err != nil || !slices.Equal(got.Replaced, []string{"main"}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	ticksOn(t, c2, "q")
	pgtest.Eventually(t, slow, "the end of the old connections", func() bool { return backends(t, c1, "main") == "" })
}

func TestReload_BadConfigurationLeavesEverythingRunning(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	src := &source{}
	r := runSource(t, src, nil, database("main", db.DSN))
	ticksOn(t, c, "q")
	good := r.status().Config.Loaded
	src.err = configs.Faults{{Origin: "skyd.yaml:3", Path: "tikcer", Text: "unknown key"}, {Origin: "skyd.yaml:9", Path: "x", Text: "y"}}
	for range 2 {
		_, err := RequestReload(t.Context(), r.config.Control.Socket)
		faults := configs.Faults(nil)
		if !errors.As(err, &faults) || !reflect.DeepEqual(faults, src.err) {
			t.Fatalf("got %v", err)
		}
	}
	src.set(func(c *configs.Config) { src.err = nil; c.Ticker.Period = -1 }) // refused by the last check
	if _, err := r.Reload(t.Context()); err == nil {
		t.Error("a configuration that does not validate is taken")
	}
	ticksOn(t, c, "q")
	s := r.status().Config
	if s.OK || !strings.Contains(s.LastError, "ticker.period") || !s.Loaded.Equal(good) {
		t.Errorf("got %+v", s)
	}
	_, body := r.get("/metrics")
	if !strings.Contains(body, "skyd_config_last_reload_successful 0\n") {
		t.Error("the metric does not tell")
	}
	if code, _ := r.get("/readyz"); code != 200 {
		t.Errorf("what runs is as well as before: got %d", code)
	}
	src.set(func(c *configs.Config) { c.Ticker.Period = time.Second })
	if got, err := RequestReload(t.Context(), r.config.Control.Socket); err != nil || !got.Changed {
		t.Errorf("got %+v, %v", got, err)
	}
	pgtest.Eventually(t, slow, "the metric", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, "skyd_config_last_reload_successful 1\n")
	})
}

func TestReload_ConcurrentOnesTakeTurnsAndTheLastStateWins(t *testing.T) {
	t.Parallel()
	dbs := []*pgtest.Database{pgtest.DB(t), pgtest.DB(t)}
	src := &source{}
	r := runSource(t, src, nil, database("a", dbs[0].DSN))
	var wait sync.WaitGroup
	for i := range 20 {
		src.set(func(c *configs.Config) {
			c.Databases = []configs.Database{database("a", dbs[i%2].DSN), database("b", dbs[(i+1)%2].DSN)}[:1+i%2]
		})
		wait.Go(func() {
			if _, err := r.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := dbs[1].Conn(t)
	newQueue(t, c, "q")
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "both databases are served", func() bool {
		s := r.status()
		return len(s.Databases) == 2 && s.Databases[0].Up && s.Databases[1].Up
	})
	for _, a := range r.status().Actors {
		if a.Restarts != 0 {
			t.Errorf("%s failed: %s", a.Path, a.LastError)
		}
	}
}

func TestReload_RefusedOutsideOfItsLife(t *testing.T) {
	t.Parallel()
	src := &source{}
	r := runSource(t, src, nil, database("main", pgtest.DB(t).DSN))
	src.set(func(*configs.Config) { src.gate = make(chan struct{}) })
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := r.Reload(ctx); first <- err }()
	pgtest.Eventually(t, slow, "the first one has its turn", func() bool { return len(r.reloading) == 1 })
	short, done := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer done()
	if _, err := r.Reload(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second one: got %v", err)
	}
	if err := r.stop(); err != nil { // a reload that hangs does not hold up the end
		t.Error(err)
	}
	cancel()
	if err := <-first; err == nil {
		t.Error("the reload that hangs went well")
	}
	if _, err := r.Reload(t.Context()); err == nil {
		t.Error("a daemon that has ended reloads")
	}
	d, err := New(t.Context(), r.config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Reload(t.Context()); !errors.Is(err, ErrNoSource) {
		t.Errorf("got %v", err)
	}
}

func TestControl_StopEndsTheDaemon(t *testing.T) {
	t.Parallel()
	r := run(t, nil, database("main", pgtest.DB(t).DSN))
	socket := r.config.Control.Socket
	if code, _ := r.get("/api/v1/stop"); code != 404 {
		t.Errorf("stop over HTTP: got %d", code)
	}
	if err := RequestStop(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Errorf("the end was not clean: %v", err)
	}
	if err := RequestStop(t.Context(), socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestLogSwitch_ChangesLoggersThatWereDerivedBefore(t *testing.T) {
	t.Parallel()
	b := &logBuffer{}
	s := NewLogSwitch(b, configs.Log{Level: "info", Format: "text"})
	log := slog.New(s.Handler()).With("a", 1).WithGroup("g").With("b", 2)
	log.Debug("no")
	log.Info("one", "c", 3)
	s.Apply(configs.Log{Level: "debug", Format: "json"})
	log.Debug("two", "c", 4)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[0], `msg=one a=1 g.b=2 g.c=3`) || !strings.HasSuffix(lines[1], `"msg":"two","a":1,"g":{"b":2,"c":4}}`) {
		t.Errorf("got %q", lines)
	}
}

func TestConnectionKey_ChangesWithEverythingAConnectionDependsOn(t *testing.T) {
	t.Parallel()
	base := database("main", "dbname=x")
	seen := map[string]string{connectionKey(base, "i", ""): "base", connectionKey(base, "j", ""): "instance", connectionKey(base, "i", "d"): "database"}
	for what, change := range map[string]func(d *configs.Database){
		"dsn": func(d *configs.Database) { d.DSN += " " }, "password": func(d *configs.Database) { d.Password = "x" },
		"file": func(d *configs.Database) { d.PasswordFile = "x" }, "parallel": func(d *configs.Database) { d.Ticker.Parallel++ },
		"include": func(d *configs.Database) { d.Include = []string{"a"} }, "exclude": func(d *configs.Database) { d.Exclude = []string{"a"} },
	} {
		d := base
		change(&d)
		key := connectionKey(d, "i", "")
		if other := seen[key]; other != "" {
			t.Errorf("%s is the same as %s", what, other)
		}
		seen[key] = what
	}
	same := base
	same.Ticker.Period++
	if seen[connectionKey(same, "i", "")] != "base" {
		t.Error("a setting of the ticker is part of the connection")
	}
}

// TestReload_TakesOverArchives: the section wal is a difference like everything else; a source that did not change is not
// even asked to connect again.
func TestReload_TakesOverArchives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := func(source string) walarchive.Config {
		w := walarchive.DefaultConfig()
		w.Source, w.PGData, w.Storage = source, filepath.Join(dir, "data", source), "file://"+dir+"/repo"
		w.Socket, w.StateDir = filepath.Join(dir, source+".sock"), filepath.Join(dir, "state", source)
		return w
	}
	s, err := OpenStorage(t.Context(), entry("a").Storage)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := walarchive.InitRepo(t.Context(), s, entry("a").Options()); err != nil {
		t.Fatal(err)
	}
	src := &source{}
	r := runSource(t, src, nil, database("main", pgtest.DB(t).DSN))
	wal := func(list ...walarchive.Config) Reloaded {
		t.Helper()
		src.set(func(c *configs.Config) { c.WAL = list })
		got, err := RequestReload(t.Context(), r.config.Control.Socket)
		if err != nil || len(got.RestartNeeded) > 0 || !slices.Contains(got.Untouched, "main") {
			t.Fatalf("got %+v, %v", got, err)
		}
		return got
	}
	if got := wal(entry("a"), entry("b")); !slices.Equal(got.Added, []string{"wal/a", "wal/b"}) {
		t.Errorf("got %+v", got)
	}
	pgtest.Eventually(t, slow, "both gates", func() bool {
		_, a := os.Lstat(entry("a").Socket)
		_, b := os.Lstat(entry("b").Socket)
		return a == nil && b == nil
	})
	held, err := (&net.Dialer{}).DialContext(t.Context(), "unix", entry("a").Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	before := r.actor("wal/a/gate").Since

	b := entry("b")
	b.Workers = 3
	if got := wal(entry("a"), b, entry("c")); !slices.Equal(got.Added, []string{"wal/c"}) || !slices.Equal(got.Replaced, []string{"wal/b"}) ||
		!slices.Contains(got.Untouched, "wal/a") {
		t.Errorf("got %+v", got)
	}
	if got := wal(entry("a"), entry("c")); !slices.Equal(got.Removed, []string{"wal/b"}) {
		t.Errorf("got %+v", got)
	}
	pgtest.Eventually(t, slow, "the end of b", func() bool { return r.actor("wal/b").Path == "" && r.actor("wal/b/gate").Path == "" })
	if _, err := os.Lstat(b.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket of b: %v, want that it is gone", err)
	}
	pgtest.Eventually(t, slow, "the gate of c", func() bool { return r.actor("wal/c/gate").State == messages.Running })
	if now := r.actor("wal/a/gate"); !now.Since.Equal(before) {
		t.Errorf("the gate of a was touched: %+v", now)
	}
	if err := held.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection to a: %v, want that it is open", err)
	}
}
