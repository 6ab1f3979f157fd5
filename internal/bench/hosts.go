package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// The systems that can be measured; each gets databases of its own.
const (
	hostRaw   = "raw"
	hostSkyd  = "skyd"
	hostPgQ   = "pgq"
	hostPgQue = "pgque"
	hostPgmq  = "pgmq"
	hostRiver = "river"
)

// titles are the systems' names in tables.
var titles = map[string]string{
	hostRaw: "PostgreSQL", hostSkyd: "skyd", hostPgQ: "PgQ C", hostPgQue: "PgQue", hostPgmq: "pgmq", hostRiver: "River",
}

// host is one database with one system in it.
type host struct {
	system  string
	name    string // of the database
	dsn     string
	db      *pgq.DB // commits asynchronously
	durable *pgq.DB // commits synchronously

	mu      sync.Mutex
	clients map[*pgq.DB]any // of systems with a client of their own
	batch   *int64          // that is open
	after   func() error    // what a round leaves to be ended when its clocks have been read
}

// fleet makes the databases of a run and drops them.
type fleet struct {
	o      Options
	dsn    string
	conn   *pgx.Conn // on the database that was given; makes and drops the others
	prefix string
	absent map[string]string // system: why
	made   []string
	open   []*host
	roles  []string // that are ours to drop
}

// benchRoles are the roles that installing a queue may leave on a server.
var benchRoles = []string{"pgq_reader", "pgq_writer", "pgq_admin", "pgque_reader", "pgque_writer", "pgque_admin"}

// newFleet connects to the given database.
func newFleet(ctx context.Context, o Options) (*fleet, error) {
	conn, err := connect(ctx, o.DSN)
	if err != nil {
		return nil, err
	}
	f := &fleet{
		o: o, dsn: o.DSN, conn: conn, prefix: fmt.Sprintf("skyd_bench_%d_%d_", os.Getpid(), time.Now().UnixMilli()%1e6),
		absent: map[string]string{},
	}
	rows, err := conn.Query(ctx, `select r from unnest($1::text[]) r where not exists (
  select from pg_catalog.pg_roles where rolname = r)`, benchRoles)
	if err == nil {
		f.roles, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	f.lookForPeers(ctx)
	return f, nil
}

// connect opens one connection, with the rules for DSNs of package pgq.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open database %q: the connection string is not usable", pgq.MaskDSN(dsn))
	}
	cfg.RuntimeParams["application_name"] = "skyd/bench"
	return pgx.ConnectConfig(ctx, cfg)
}

// lookForPeers notes which systems cannot be measured, and why.
func (f *fleet) lookForPeers(ctx context.Context) {
	var available bool
	const extension = `select exists (select from pg_catalog.pg_available_extensions where name = 'pgq')`
	if err := f.conn.QueryRow(ctx, extension).Scan(&available); err != nil || !available {
		f.absent[hostPgQ] = "extension pgq is not installed on the server"
	}
	if f.o.PgQue == "" {
		f.absent[hostPgQue] = "no --pgque FILE"
	}
	if f.o.Pgmq == "" {
		f.absent[hostPgmq] = "no --pgmq FILE"
	}
	if riverAbsent != "" {
		f.absent[hostRiver] = riverAbsent
	}
}

// make makes a database with a system in it; use tells what for. Nil, without an error, when the system is absent.
func (f *fleet) make(ctx context.Context, system, use string) (*host, error) {
	if f.absent[system] != "" {
		return nil, nil
	}
	h := &host{system: system, name: f.prefix + use + "_" + system}
	h.dsn = otherDatabase(f.dsn, h.name)
	if _, err := f.conn.Exec(ctx, "create database "+pgx.Identifier{h.name}.Sanitize()); err != nil {
		return nil, fmt.Errorf("make a database for %s: %w", titles[system], err)
	}
	f.made, f.open = append(f.made, h.name), append(f.open, h)
	var err error
	if h.db, err = f.pool(ctx, h.name, "off"); err != nil {
		return nil, err
	}
	if h.durable, err = f.pool(ctx, h.name, "on"); err != nil {
		return nil, err
	}
	err = f.install(ctx, h)
	if err != nil && system != hostSkyd && system != hostRaw && ctx.Err() == nil {
		f.absent[system] = "installing it failed: " + err.Error()
		return nil, f.drop(ctx, h)
	}
	return h, err
}

// pool opens a pool whose sessions prepare statements, as a program that cares for speed does.
func (f *fleet) pool(ctx context.Context, database, synchronous string) (*pgq.DB, error) {
	return pgq.Open(ctx, f.dsn, pgq.WithPreparedStatements(), pgq.WithMaxConns(16), pgq.WithApplicationName("skyd/bench"),
		pgq.WithConfig(func(c *pgxpool.Config) {
			c.ConnConfig.Database = database
			c.ConnConfig.RuntimeParams["synchronous_commit"] = synchronous
		}))
}

// install puts the system into its database.
func (f *fleet) install(ctx context.Context, h *host) error {
	switch h.system {
	case hostSkyd:
		_, err := pgqsql.Install(ctx, h.db, pgqsql.Options{})
		return err
	case hostPgQ:
		_, err := h.db.Exec(ctx, "create extension pgq")
		return err
	case hostPgQue:
		return runFile(ctx, h, f.o.PgQue)
	case hostPgmq:
		return runFile(ctx, h, f.o.Pgmq)
	case hostRiver:
		return installRiver(ctx, h)
	default:
		_, err := h.db.Exec(ctx, "create schema bench")
		return err
	}
}

// runFile runs a file of SQL as it is. What only psql understands fails there.
func runFile(ctx context.Context, h *host, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if h.system == hostPgmq && !strings.Contains(strings.ToLower(string(text)), "create schema") {
		text = append([]byte("create schema if not exists pgmq;\n"), text...) // as its control file does
	}
	conn, err := h.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Conn().PgConn().Exec(ctx, string(text)).ReadAll(); err != nil {
		return fmt.Errorf("run %s: %w", file, err)
	}
	_, err = conn.Exec(ctx, "discard all") // what the file set
	return err
}

// drop drops one database before the end of the run.
func (f *fleet) drop(ctx context.Context, h *host) error {
	if h == nil {
		return nil
	}
	h.close()
	f.open = slices.DeleteFunc(f.open, func(o *host) bool { return o == h })
	f.made = slices.DeleteFunc(f.made, func(name string) bool { return name == h.name })
	return dropDatabase(ctx, f.conn, h.name)
}

func (h *host) close() {
	h.mu.Lock()
	h.clients = nil // they hold the pools
	h.mu.Unlock()
	for _, db := range []*pgq.DB{h.db, h.durable} {
		if db != nil {
			db.Close()
		}
	}
}

func dropDatabase(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("drop database %s of the benchmark: %w", name, err)
	}
	return nil
}

// close drops everything that was made. It does so on a connection of its own: that of the run may be broken, or in
// the middle of something.
func (f *fleet) close(ctx context.Context) error {
	for _, h := range f.open {
		h.close()
	}
	_ = f.conn.Close(ctx) // it has no work that could be lost
	if len(f.made) == 0 {
		return nil
	}
	conn, err := connect(ctx, f.dsn)
	if err != nil {
		return fmt.Errorf("drop databases %s of the benchmark: %w", strings.Join(f.made, ", "), err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var errs []error
	for _, name := range f.made {
		errs = append(errs, dropDatabase(ctx, conn, name))
	}
	for _, role := range f.roles {
		// Somebody else may have come to use them meanwhile: then they stay.
		_, _ = conn.Exec(ctx, "drop role if exists "+pgx.Identifier{role}.Sanitize())
	}
	return errors.Join(errs...)
}

// otherDatabase is the DSN for another database of the same server.
func otherDatabase(dsn, name string) string {
	if u, err := url.Parse(dsn); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		u.Path = "/" + name
		q := u.Query()
		q.Del("dbname")
		q.Del("database")
		u.RawQuery = q.Encode()
		return u.String()
	}
	return dsn + " dbname=" + name // the last one wins
}

// libpq is the address of the host for a program that appends to it.
func (h *host) libpq() string {
	cc := h.db.Config().ConnConfig
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
	}
	s := fmt.Sprintf("host=%s port=%d dbname=%s user=%s", quote(cc.Host), cc.Port, quote(h.name), quote(cc.User))
	if cc.Password != "" {
		s += " password=" + quote(cc.Password)
	}
	return s
}

// get asks for one value.
func get[T any](ctx context.Context, q pgq.Querier, sql string, args ...any) (v T, err error) {
	err = q.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// do runs statements without parameters, one after another.
func do(ctx context.Context, q pgq.Querier, statements ...string) error {
	for _, sql := range statements {
		if _, err := q.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%w in %q", err, sql)
		}
	}
	return nil
}

// has tells whether the database has a function of that signature.
func (h *host) has(ctx context.Context, signature string) bool {
	found, err := get[bool](ctx, h.db, `select pg_catalog.to_regprocedure($1) is not null`, signature)
	return err == nil && found
}
