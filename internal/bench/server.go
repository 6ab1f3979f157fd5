package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/skytools/skyd/internal/pgserver"
)

// ErrNoServer means that no DSN was given and that the machine has no PostgreSQL to run.
var ErrNoServer = errors.New("no PostgreSQL to run")

// startServer makes a throw-away server with settings that suit a small machine: it writes to disk as a real one does.
func startServer(ctx context.Context) (c *pgserver.Cluster, err error) {
	binaries, err := pgserver.Find()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	c, err = pgserver.New(ctx, binaries, pgserver.Options{Fsync: true, NoCache: true, Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min", "autovacuum_naptime": "1min",
	}})
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}
