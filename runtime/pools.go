package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

const (
	// checkTimeout limits one look whether a database is there, with the connect.
	checkTimeout = 5 * time.Second
	// idleTime is how long a connection of a pool may have nothing to do; between looks the ticker keeps its own busy.
	idleTime = time.Minute
)

// pool is a database as the actors see it: pgq on a pool of connections.
type pool struct{ db *pgq.DB }

var _ actors.Handle = (*pool)(nil)

// tickConns is how many connections ticker, maintainer and database actor need: + look, round, retry, check.
func tickConns(d configs.Database) int { return d.Ticker.Parallel + 4 }

// openPool makes a pool of up to conns connections to a configured database; database, when not empty, replaces the one the DSN names.
func openPool(ctx context.Context, d configs.Database, instance, name, database string, conns int) (*pool, error) {
	dsn := d.DSN
	if database != "" {
		var err error
		if dsn, err = withDatabase(dsn, database); err != nil {
			return nil, err
		}
	}
	opts := []pgq.Option{
		pgq.WithApplicationName("skyd/" + instance + "/" + name),
		pgq.WithConfig(func(c *pgxpool.Config) {
			c.MaxConnIdleTime = idleTime
			setPassword(c, d)
			findPrimary(c.ConnConfig)
		}),
	}
	if d.Pooler == "transaction" {
		opts = append(opts, pgq.WithTransactionPooler())
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		opts = append(opts, pgq.WithMaxConns(int32(conns)))
	}
	db, err := pgq.Open(ctx, dsn, opts...)
	if err != nil {
		return nil, err
	}
	return &pool{db: db}, nil
}

// findPrimary makes a DSN with several hosts find the one that takes writes, unless the DSN says itself what it wants, and
// makes sure that all of them are asked within the time of one look, also when the first ones are silent.
func findPrimary(c *pgx.ConnConfig) {
	hosts := map[string]bool{fmt.Sprint(c.Host, c.Port): true}
	for _, f := range c.Fallbacks { // also of one host with and without TLS
		hosts[fmt.Sprint(f.Host, f.Port)] = true
	}
	if len(hosts) == 1 {
		return
	}
	c.ConnectTimeout = min(c.ConnectTimeout, checkTimeout/time.Duration(len(hosts)))
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// OpenDatabase opens a configured database for a one-shot command, with its password and at most so many connections. It
// does not connect.
func OpenDatabase(ctx context.Context, d configs.Database, conns int32) (*pgq.DB, error) {
	return pgq.Open(ctx, d.DSN, pgq.WithMaxConns(conns), pgq.WithConfig(func(c *pgxpool.Config) { setPassword(c, d) }))
}

// setPassword gives a pool the password that is configured outside of the DSN. A file is read for every connection, so
// that a changed password needs no restart.
func setPassword(c *pgxpool.Config, d configs.Database) {
	switch {
	case d.Password != "":
		c.ConnConfig.Password = d.Password
	case d.PasswordFile != "":
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			password, err := firstLine(d.PasswordFile)
			cc.Password = password
			return err
		}
	}
}

// firstLine reads the first line of a file.
func firstLine(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Scan()
	if err := s.Err(); err != nil {
		return "", fmt.Errorf("read password from %s: %w", name, err)
	}
	return s.Text(), nil
}

// withDatabase returns the DSN with another database.
func withDatabase(dsn, database string) (string, error) {
	if !strings.Contains(dsn, "://") {
		quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(database)
		return dsn + " dbname='" + quoted + "'", nil // the last one counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the dsn is not a URL") // the parser's error quotes the password
	}
	u.Path, u.RawPath = "/"+database, ""
	query := u.Query()
	query.Del("dbname")
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// Check implements actors.Handle.
func (p *pool) Check(ctx context.Context) (actors.Health, error) {
	standby, readOnly, err := pgq.WriteState(ctx, p.db)
	if err != nil {
		return actors.Health{}, err
	}
	version, ok, err := pgq.Installed(ctx, p.db)
	return actors.Health{Installed: ok, Version: version, InRecovery: standby, ReadOnly: readOnly}, err
}

// SnapshotMark implements actors.TickSource.
func (p *pool) SnapshotMark(ctx context.Context) (string, error) { return pgq.SnapshotMark(ctx, p.db) }

// LoadTickStates implements actors.TickSource.
func (p *pool) LoadTickStates(ctx context.Context) ([]pgq.TickState, error) {
	return pgq.LoadTickStates(ctx, p.db)
}

// TickPeriods implements actors.TickSource.
func (p *pool) TickPeriods(ctx context.Context) (map[string]time.Duration, error) {
	return pgq.TickPeriods(ctx, p.db)
}

// Tick implements actors.TickSource.
func (p *pool) Tick(ctx context.Context, queue string) (int64, bool, error) {
	return pgq.Tick(ctx, p.db, queue)
}

// MaintOperations implements actors.MaintenanceSource.
func (p *pool) MaintOperations(ctx context.Context) ([]pgq.MaintOp, error) {
	return pgq.MaintOperations(ctx, p.db)
}

// RunMaintOp implements actors.MaintenanceSource.
func (p *pool) RunMaintOp(ctx context.Context, op pgq.MaintOp) (bool, error) {
	return pgq.RunMaintOp(ctx, p.db, op)
}

// RetryEvents implements actors.MaintenanceSource. What was redelivered too often already does not come back.
func (p *pool) RetryEvents(ctx context.Context) (int, error) {
	if _, err := pgq.BuryWorn(ctx, p.db); err != nil {
		return 0, err
	}
	return pgq.RetryEvents(ctx, p.db)
}

// Health implements actors.MaintenanceSource.
func (p *pool) Health(ctx context.Context) (pgq.Health, error) { return pgq.GetHealth(ctx, p.db) }

// Classify implements actors.Handle.
func (p *pool) Classify(err error) actors.Trouble { return classify(err) }

func classify(err error) actors.Trouble {
	t := actors.Trouble{Reason: "other", Lost: pgq.ConnectionLost(err), Outage: pgq.Outage(err), Permanent: pgq.Permanent(err)}
	state := pgq.SQLState(err)
	switch {
	case pgq.ReadOnly(err):
		t.Reason = "read_only"
	case strings.HasPrefix(state, "28"), state == "3D000", state == "42501":
		t.Reason = "auth"
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		t.Reason = "timeout"
	case t.Lost:
		t.Reason = "closed"
	}
	return t
}

// Reset implements actors.Handle.
func (p *pool) Reset() { p.db.Reset() }

// Close implements actors.Handle.
func (p *pool) Close() { p.db.Close() }

// server is a server whose databases are looked up.
type server struct {
	*pool
	include, exclude []string
}

// Databases implements actors.Server.
func (s *server) Databases(ctx context.Context) ([]string, error) {
	all, err := pgq.Databases(ctx, s.db)
	if err != nil {
		return nil, err
	}
	wanted := make([]string, 0, len(all))
	for _, name := range all {
		if (len(s.include) == 0 || matches(s.include, name)) && !matches(s.exclude, name) {
			wanted = append(wanted, name)
		}
	}
	return wanted, nil
}

// matches reports whether a name matches one of the patterns; they were checked when the configuration was read.
func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return false
}
