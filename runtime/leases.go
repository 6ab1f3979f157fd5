package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// leaseParams makes the parameters of the leases of one database.
func (d *Daemon) leaseParams(ctx context.Context, c configs.Config, db configs.Database, name, database string) actors.LeaseParams {
	ttl, kind := c.HA.LeaseTTL, pgq.SessionLease
	if db.Pooler == "transaction" && db.LeaseDSN == "" {
		kind = pgq.TimedLease
	}
	var former *pgq.Leases // of the last incarnation; there is one at a time
	return actors.LeaseParams{
		Key: fmt.Sprintf("%v %v %s", ttl, kind, connectionKey(db, c.Instance, database)), TTL: ttl,
		Open: func() (actors.LeaseSource, error) {
			if db.LeaseDSN != "" {
				db.DSN, db.Pooler = db.LeaseDSN, configs.None // the way around it
			}
			p, err := openPool(ctx, db, c.Instance, name+"/lease", database, 2)
			if err != nil {
				return nil, err
			}
			l := pgq.NewLeases(p.db, c.Instance, ttl, kind)
			if former != nil {
				l.Inherit(former)
			}
			former = l
			return &leases{pool: p, kind: kind, log: d.log.With("db", name), l: l}, nil
		},
	}
}

// leases is the keeper of leases as its actor sees it.
type leases struct {
	*pool
	l      *pgq.Leases
	kind   pgq.LeaseKind
	log    *slog.Logger
	warned bool
}

var _ actors.LeaseSource = (*leases)(nil)

// Take implements actors.LeaseSource. Behind a pooler and without skyd's schema there are no leases: then this daemon
// works, as if it were the only one, and says so.
func (l *leases) Take(ctx context.Context, unit string) (int64, bool, error) {
	epoch, ok, err := l.l.Take(ctx, unit)
	if l.kind != pgq.TimedLease || !errors.Is(err, pgq.ErrNotInstalled) {
		return epoch, ok, err
	}
	if !l.warned {
		l.log.Warn("no leases behind a pooler without the schema pgq_plus: run one daemon only",
			"hint", "skyd schema install, or set lease_dsn")
	}
	l.warned = true
	return 0, true, nil
}

// Renew implements actors.LeaseSource.
func (l *leases) Renew(ctx context.Context) ([]string, error) { return l.l.Renew(ctx) }

// Release implements actors.LeaseSource.
func (l *leases) Release(ctx context.Context, unit string) error { return l.l.Release(ctx, unit) }

// Close implements actors.LeaseSource.
func (l *leases) Close(ctx context.Context) {
	for _, unit := range l.l.Held() {
		if err := l.l.Release(ctx, unit); err != nil {
			l.log.Debug("lease is left to run out", "unit", unit, "err", err)
		}
	}
	l.l.Close()
	l.pool.Close()
}
