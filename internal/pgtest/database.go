package pgtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// errNoExtension means that the server has not the extension's files.
var errNoExtension = errors.New("extension is not installed on the test server")

// cleanupLimit is how long the end of a test may take.
const cleanupLimit = 30 * time.Second

// Database is one database of the shared server that belongs to one test.
type Database struct {
	// DSN connects as superuser.
	DSN string
	// Name is the name of the database.
	Name string

	srv   *server
	roles []string
}

// DB returns a fresh database with all of skyd's SQL installed.
func DB(t testing.TB) *Database {
	t.Helper()
	return fresh(t, "skyd", installSkyd)
}

// Empty returns a fresh database with nothing in it.
func Empty(t testing.TB) *Database {
	t.Helper()
	return newDatabase(t, sharedServer(t), "template0")
}

// Extension returns a fresh database with the original PgQ extension, written
// in C, and the named extensions that build on it. Where the server does not
// have them, the test is skipped, or fails if SKYD_TEST_REQUIRE=1.
func Extension(t testing.TB, more ...string) *Database {
	t.Helper()
	names := append([]string{"pgq"}, more...)
	kind := "ext"
	for _, name := range names {
		kind += "_" + name
	}
	return fresh(t, kind, func(ctx context.Context, dsn string) error {
		return createExtensions(ctx, dsn, names)
	})
}

// Beside returns a fresh database like Extension, with everything that skyd
// installs beside an extension.
func Beside(t testing.TB, more ...string) *Database {
	t.Helper()
	names := append([]string{"pgq"}, more...)
	kind := "beside"
	for _, name := range names {
		kind += "_" + name
	}
	return fresh(t, kind, func(ctx context.Context, dsn string) error {
		if err := createExtensions(ctx, dsn, names); err != nil {
			return err
		}
		return installSkyd(ctx, dsn)
	})
}

func createExtensions(ctx context.Context, dsn string, names []string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, name := range names {
		var known bool
		if err := conn.QueryRow(ctx, "select exists (select from pg_catalog.pg_available_extensions where name = $1)", name).Scan(&known); err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("%s: %w", name, errNoExtension)
		}
		if _, err := conn.Exec(ctx, "create extension "+quote(name)); err != nil {
			return fmt.Errorf("create extension %s: %w", name, err)
		}
	}
	return nil
}

// fresh copies the template of that kind, which fill fills once.
func fresh(t testing.TB, kind string, fill func(ctx context.Context, dsn string) error) *Database {
	t.Helper()
	srv := sharedServer(t)
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	tmpl, err := srv.templateFor(ctx, kind, fill)
	if err != nil {
		unavailable(t, fmt.Errorf("template database %s: %w", kind, err))
	}
	return newDatabase(t, srv, tmpl)
}

func newDatabase(t testing.TB, srv *server, tmpl string) *Database {
	t.Helper()
	d := &Database{Name: srv.name("db"), srv: srv}
	d.DSN = withDatabase(srv.admin, d.Name)
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := srv.create(ctx, d.Name, tmpl); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.drop(t) })
	return d
}

// drop removes the database and then its roles, which own nothing any more.
func (d *Database) drop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	statements := []string{"drop database if exists " + quote(d.Name) + " with (force)"}
	for _, role := range d.roles {
		statements = append(statements, "drop role if exists "+quote(role))
	}
	if err := d.srv.do(ctx, statements...); err != nil {
		t.Errorf("drop test database: %v", err)
	}
}

// Role makes a role that may log in and is a member of the given roles. Its
// name is unique; it is dropped with the database.
func (d *Database) Role(t testing.TB, memberOf ...string) string {
	t.Helper()
	role := d.srv.name("role")
	statements := []string{"create role " + quote(role) + " login"}
	for _, group := range memberOf {
		statements = append(statements, "grant "+quote(group)+" to "+quote(role))
	}
	if err := d.srv.do(t.Context(), statements...); err != nil {
		t.Fatal(err)
	}
	d.roles = append(d.roles, role)
	return role
}

// DSNAs is the DSN for another role; the server must let it in without a
// password, as those started by this package do.
func (d *Database) DSNAs(role string) string {
	return withParts(d.DSN, map[string]string{"user": role})
}

// Pool opens a pool as superuser that is closed when the test ends.
func (d *Database) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Conn opens a connection as superuser that is closed when the test ends.
func (d *Database) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	return connect(t, d.DSN)
}

// ConnAs opens a connection that acts as role, whether or not the role may
// log in. It is closed when the test ends.
func (d *Database) ConnAs(t testing.TB, role string) *pgx.Conn {
	t.Helper()
	conn := connect(t, d.DSN)
	if _, err := conn.Exec(t.Context(), "set session authorization "+quote(role)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		_ = conn.Close(ctx) // the test may have broken it
	})
	return conn
}
