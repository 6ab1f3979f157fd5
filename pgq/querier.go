package pgq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// defaultApplicationName is what a connection calls itself when neither
	// the DSN nor an option names it.
	defaultApplicationName = "skyd"
	// maxNameBytes is NAMEDATALEN-1: PostgreSQL cuts application names and
	// refuses notification channels beyond it.
	maxNameBytes = 63
	// connectTimeout bounds one connection attempt when the DSN does not.
	connectTimeout = 10 * time.Second
	// unheardLimit is how long the other side may leave what we sent without
	// the acknowledgement that its kernel gives. TCP by itself tries for a
	// quarter of an hour, in growing distance: a network that came back would
	// be noticed long after.
	unheardLimit = 8 * time.Second
	// cancelGrace is how long a cancelled statement may take to answer before
	// its connection is given up.
	cancelGrace = 3 * time.Second
)

// Querier runs SQL: a pgx.Tx, *pgx.Conn, *pgxpool.Pool or *DB. A function that
// takes one joins the transaction when it is given one.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// DB is a pool of connections to one database, made by Open. It is a
// *pgxpool.Pool with settings that suit queue work, also behind a transaction
// pooler. Safe for concurrent use; Close it when done.
type DB struct {
	*pgxpool.Pool
	watcher watcher
	closed  atomic.Bool
}

// Close closes all connections; it waits for those that are at work. A Consumer
// of the DB that still runs ends with ErrClosed.
func (db *DB) Close() {
	db.closed.Store(true)
	db.Pool.Close()
}

var _ Querier = (*DB)(nil)

// Option changes how Open makes its connections.
type Option func(*pgxpool.Config)

// WithApplicationName names the connections in pg_stat_activity; it wins over
// the DSN. Names are cut at 63 bytes, between runes. The house form is
// skyd/<instance>/<actor>. Defaults to the DSN's application_name, else "skyd".
func WithApplicationName(name string) Option {
	return func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["application_name"] = cutName(name)
	}
}

// WithMaxConns limits the pool; values below 1 are ignored. Defaults to the
// DSN's pool_max_conns, else to pgx's own default.
func WithMaxConns(n int32) Option {
	return func(c *pgxpool.Config) {
		if n > 0 {
			c.MaxConns = n
		}
	}
}

// WithTracer attaches a pgx tracer (github.com/jackc/pgx/v5/multitracer joins
// several). Defaults to none.
func WithTracer(t pgx.QueryTracer) Option {
	return func(c *pgxpool.Config) { c.ConnConfig.Tracer = t }
}

// WithPreparedStatements lets connections keep named prepared statements. It
// saves parsing, and it must not be used behind a transaction pooler. Defaults
// to unnamed statements, unless the DSN sets default_query_exec_mode.
func WithPreparedStatements() Option {
	return func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	}
}

// WithTransactionPooler is for connections through PgBouncer or the like in
// transaction mode: a cancelled call drops its connection instead of sending a
// cancel request, which may hit the statement of somebody else by then, and
// which ends PgBouncer 1.18.0. Give consumers NoListen as well, and leave
// WithPreparedStatements. Defaults to cancel requests.
func WithTransactionPooler() Option {
	return func(c *pgxpool.Config) {
		c.ConnConfig.BuildContextWatcherHandler = func(pc *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.DeadlineContextWatcherHandler{Conn: pc.Conn()}
		}
	}
}

// WithConfig gives access to the whole pool configuration, after the other
// settings of Open and in the order of the options.
func WithConfig(change func(*pgxpool.Config)) Option {
	return Option(change)
}

// Open makes a pool for a DSN in URL or key=value form; what the DSN omits
// comes from the libpq environment variables. It does not connect: a database
// that is down shows in the first call. The context is not kept; the pool lives
// until Close.
//
// An unusable DSN gives an error for which Permanent is true. No error text
// carries the password.
func Open(ctx context.Context, dsn string, opts ...Option) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", MaskDSN(dsn), maskParseError(dsn, err))
	}
	cc := cfg.ConnConfig
	if cc.RuntimeParams["application_name"] == "" {
		cc.RuntimeParams["application_name"] = defaultApplicationName
	}
	if !strings.Contains(dsn, "default_query_exec_mode") {
		// Unnamed statements with remembered descriptions: binary results (so
		// the server's DateStyle does not matter), one round trip, and nothing
		// left on a server connection that a pooler may give to somebody else.
		cc.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = connectTimeout
		dialer := &net.Dialer{Timeout: connectTimeout, Control: giveUpUnheard, KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
		}}
		cc.DialFunc = dialer.DialContext
	}
	// A cancelled call cancels the statement on the server as well, instead of
	// dropping the connection and leaving the statement running.
	cc.BuildContextWatcherHandler = func(pc *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: pc, DeadlineDelay: cancelGrace}
	}
	for _, o := range opts {
		o(cfg)
	}
	cc.RuntimeParams["application_name"] = cutName(cc.RuntimeParams["application_name"])
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", MaskDSN(dsn), err)
	}
	return &DB{Pool: pool}, nil
}

// Installed tells whether the database has a usable PgQ: schema pgq with a
// version() that answers with a text starting with 3 to 9. It works without
// the schema, and reports the version it found even when that is refused.
// It makes no write.
func Installed(ctx context.Context, q Querier) (version string, ok bool, err error) {
	const lookup = `select exists (
  select from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
   where n.nspname = 'pgq' and p.proname = 'version' and p.pronargs = 0)`
	var found bool
	if err := q.QueryRow(ctx, lookup).Scan(&found); err != nil {
		return "", false, fmt.Errorf("look for schema pgq: %w", classify(err))
	}
	if !found {
		return "", false, nil
	}
	var v *string
	err = q.QueryRow(ctx, `select pgq.version()::text`).Scan(&v)
	if err = classify(err); errors.Is(err, ErrNotInstalled) {
		return "", false, nil // dropped between the two questions
	}
	if err != nil {
		return "", false, fmt.Errorf("ask version of pgq: %w", err)
	}
	if v == nil || *v == "" {
		return "", false, nil
	}
	return *v, (*v)[0] >= '3' && (*v)[0] <= '9', nil
}

// cutName shortens a name to what PostgreSQL keeps, without splitting a rune.
func cutName(s string) string {
	if len(s) <= maxNameBytes {
		return s
	}
	s = s[:maxNameBytes]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}
