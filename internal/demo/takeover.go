package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Takeover is what became of the batch of a member that was killed in the middle of it.
type Takeover struct {
	Killed string        `json:"killed"`
	By     string        `json:"by"`     // who finished the batch
	Events int           `json:"events"` // of the batch; they were written and not committed
	Took   time.Duration `json:"-"`      // from the kill on, until the other one has committed

	begin time.Time
}

// Failover is how long it took until another daemon did the work of the one that was killed, from the kill on.
type Failover struct {
	Killed string        `json:"killed"`
	By     string        `json:"by"`
	Lease  time.Duration `json:"-"` // the other one has the lease
	Tick   time.Duration `json:"-"` // it has made a tick

	begin time.Time
}

// stuckAfter is ctx with the limit of everything that has to come back by itself.
func stuckAfter(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, recoveryTimeout, fmt.Errorf("%s %s later: %w", what, recoveryTimeout, errStuck))
}

const finisher = `select member from book.batches where tick = $1`

// killMember kills a member of the group that has written all it has to and is about to commit.
func (s *show) killMember(ctx context.Context) (t Takeover, err error) {
	victim := s.members[1]
	ctx, cancel := stuckAfter(ctx, "batch of "+victim.name+" not taken over")
	defer cancel()
	if err := victim.order(order{Hold: true}); err != nil {
		return t, err
	}
	var batch held
	select {
	case batch = <-victim.held:
	case <-ctx.Done():
		return t, context.Cause(ctx)
	}
	t = Takeover{Killed: victim.name, Events: batch.Events, begin: time.Now()}
	s.o.Say(fmt.Sprintf("kill -9: process %s of the group, in the middle of a batch of %d events", victim.name, batch.Events))
	if err := victim.kill(); err != nil {
		return t, err
	}
	err = until(ctx, func() bool {
		return s.db.QueryRow(ctx, finisher, batch.Tick).Scan(&t.By) == nil
	})
	if err != nil {
		return t, err
	}
	t.Took = time.Since(t.begin)
	s.o.Say(fmt.Sprintf("%s took its batch over and finished it, %s after the kill (a member counts as dead after %s)",
		t.By, Short(t.Took), Short(deadInterval)))
	return t, nil
}

const tickerLease = `select lease_holder, lease_epoch from pgq.lease where lease_unit = 'ticker'`

// killDaemon kills the daemon that ticks.
func (s *show) killDaemon(ctx context.Context) (f Failover, err error) {
	ctx, cancel := stuckAfter(ctx, "no daemon has taken over")
	defer cancel()
	var epoch int64
	if err := s.db.QueryRow(ctx, tickerLease).Scan(&f.Killed, &epoch); err != nil {
		return f, fmt.Errorf("find the daemon that ticks: %w", err)
	}
	victim := s.daemons[f.Killed]
	if victim == nil {
		return f, fmt.Errorf("the lease is held by %q, which is none of ours: %w", f.Killed, errStuck)
	}
	f.begin = time.Now()
	s.o.Say("kill -9: process " + f.Killed + ", the one of two daemons that has the lease and ticks")
	if err := victim.kill(); err != nil {
		return f, err
	}
	tick := int64(-1)
	err = until(ctx, func() bool {
		var now int64
		q, err := pgq.GetQueueInfo(ctx, s.db, queueName)
		err = errors.Join(err, s.db.QueryRow(ctx, tickerLease).Scan(&f.By, &now))
		switch {
		case err != nil || now <= epoch:
			return false
		case f.Lease == 0:
			f.Lease, tick = time.Since(f.begin), q.LastTick
		}
		return q.LastTick > tick
	})
	if err != nil {
		return f, err
	}
	f.Tick = time.Since(f.begin)
	s.o.Say(fmt.Sprintf("%s has the lease after %s, and ticks after %s", f.By, Short(f.Lease), Short(f.Tick)))
	return f, nil
}

// makeGroup registers the members of the consumer's group.
func makeGroup(ctx context.Context, db *pgq.DB) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, name := range memberNames {
			if _, err := pgq.RegisterSubconsumer(ctx, tx, queueName, consumerName, name); err != nil {
				return err
			}
		}
		return nil
	})
}
