package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
)

// startLimit is how long a server may take until it answers. An image that
// has to be fetched first is the slow case.
const startLimit = 5 * time.Minute

// backend is one PostgreSQL server that this package started.
type backend interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Kill() error
	Freeze() error
	Thaw() error
	DSN(database string) string
	Remove() error
}

// errNoServer means that there is nothing to run PostgreSQL with: the one
// reason for which tests are skipped.
var errNoServer = errors.New("no PostgreSQL for tests: set SKYD_TEST_DSN, install the server, or start Docker")

// server is the shared server of a test binary.
type server struct {
	admin  string  // DSN of a database to create others from
	own    backend // nil when somebody else runs the server
	prefix string  // of the names of all databases and roles we make

	mu        sync.Mutex
	count     int
	templates map[string]*template
}

// template is a database that is copied for tests.
type template struct {
	once sync.Once
	name string
	err  error
}

// shared is the server of this process. Package-level state on purpose: a
// test binary has one server, whichever test asks first.
var shared struct {
	mu  sync.Mutex
	srv *server
	err error
}

// runner is what Main needs of testing.M.
type runner interface{ Run() int }

// Main runs the tests and then stops the shared server; its result is the
// exit code. Call it from TestMain.
func Main(m runner) int {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintf(os.Stderr, "pgtest: %v\n", err)
		return max(code, 1)
	}
	return code
}

func stopShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	srv := shared.srv
	shared.srv, shared.err = nil, errors.New("pgtest.Main has ended")
	if srv == nil {
		return nil
	}
	if srv.own != nil {
		return srv.own.Remove()
	}
	return srv.dropTemplates()
}

// sharedServer returns the server of this process, starting it if needed. It
// ends the test when there is none.
func sharedServer(t testing.TB) *server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.srv == nil && shared.err == nil {
		shared.srv, shared.err = startShared()
	}
	if shared.err != nil {
		unavailable(t, shared.err)
	}
	return shared.srv
}

// unavailable skips the test, if err only says that something is not
// installed and nobody requires it.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, errNoServer) && !errors.Is(err, errNoExtension) {
		t.Fatal(err)
	}
	Missing(t, err.Error())
}

// Missing ends a test for which something is not on this machine, what says it: skipped, or failed if
// SKYD_TEST_REQUIRE=1.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
		t.Fatalf("SKYD_TEST_REQUIRE=1 and %s", what)
	}
	t.Skip(what)
}

func startShared() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return nil, err
	}
	srv := &server{prefix: "skydtest_" + hex.EncodeToString(random), templates: make(map[string]*template)}
	if dsn := os.Getenv("SKYD_TEST_DSN"); dsn != "" {
		srv.admin = dsn
		if err := srv.do(ctx, "select 1"); err != nil {
			return nil, fmt.Errorf("SKYD_TEST_DSN: %w", err)
		}
		return srv, nil
	}
	own, err := newBackend(ctx, nil, true)
	if err != nil {
		return nil, err
	}
	srv.own, srv.admin = own, own.DSN("postgres")
	return srv, nil
}

// newBackend makes and starts a server from binaries or in Docker.
func newBackend(ctx context.Context, settings map[string]string, autoRemove bool) (backend, error) {
	b, err := pgserver.Find()
	if errors.Is(err, pgserver.ErrNotFound) {
		d, derr := newDocker(ctx, settings, autoRemove)
		if derr != nil {
			return nil, errors.Join(derr, err)
		}
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := pgserver.New(ctx, b, pgserver.Options{Settings: settings})
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// name returns a name that no other test of this server uses.
func (s *server) name(kind string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return fmt.Sprintf("%s_%s%d", s.prefix, kind, s.count)
}

// do runs statements one by one on the admin database.
func (s *server) do(ctx context.Context, statements ...string) error {
	return run(ctx, s.admin, statements...)
}

func run(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// templateFor returns the name of the template database of that kind, which
// fill fills once.
func (s *server) templateFor(ctx context.Context, kind string, fill func(ctx context.Context, dsn string) error) (string, error) {
	s.mu.Lock()
	tmpl, ok := s.templates[kind]
	if !ok {
		tmpl = &template{name: s.prefix + "_template_" + kind}
		s.templates[kind] = tmpl
	}
	s.mu.Unlock()
	tmpl.once.Do(func() {
		tmpl.err = s.create(ctx, tmpl.name, "template0")
		if tmpl.err == nil {
			tmpl.err = s.fill(ctx, withDatabase(s.admin, tmpl.name), fill)
		}
	})
	return tmpl.name, tmpl.err
}

// fill fills one template at a time, of all processes that use the server:
// installing PgQ makes roles, which belong to the whole server, and two
// installations that make the same role at once fail.
func (s *server) fill(ctx context.Context, dsn string, fill func(ctx context.Context, dsn string) error) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // gives the lock back
	if _, err := conn.Exec(ctx, "select pg_catalog.pg_advisory_lock(1752132453)"); err != nil {
		return err
	}
	return fill(ctx, dsn)
}

// create makes a database whose connections have an empty search_path.
func (s *server) create(ctx context.Context, name, tmpl string) error {
	quoted := quote(name)
	return s.do(ctx,
		"create database "+quoted+" template "+quote(tmpl),
		"alter database "+quoted+" set search_path = ''",
	)
}

func (s *server) dropTemplates() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, tmpl := range s.templates {
		errs = append(errs, s.do(ctx, "drop database if exists "+quote(tmpl.name)))
	}
	return errors.Join(errs...)
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// withDatabase returns dsn, in either form, with another database.
func withDatabase(dsn, database string) string {
	return withParts(dsn, map[string]string{"dbname": database})
}

// withParts replaces host, port, user or dbname of a DSN in either form.
func withParts(dsn string, parts map[string]string) string {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		for _, key := range []string{"host", "port", "user", "dbname"} {
			if value, ok := parts[key]; ok { // the last of equal keys wins
				dsn += fmt.Sprintf(" %s='%s'", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
			}
		}
		return dsn
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn // the driver reports it better
	}
	q := u.Query()
	for key, value := range parts {
		q.Del(key)
		switch key {
		case "dbname":
			u.Path = "/" + value
		case "user":
			u.User = url.User(value)
		case "host":
			u.Host = value + ":" + parts["port"]
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}
