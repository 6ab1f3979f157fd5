package actors

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// LeaseSource decides between several daemons who works on a unit of one database.
type LeaseSource interface {
	classifier
	// Take tries to become the holder of a unit, or says again that we are; it does not wait.
	Take(ctx context.Context, unit string) (epoch int64, ok bool, err error)
	// Renew keeps what is held and returns what was lost to others; after an error nothing is held.
	Renew(ctx context.Context) (lost []string, err error)
	// Release gives a unit back.
	Release(ctx context.Context, unit string) error
	// Close gives everything back.
	Close(ctx context.Context)
}

// LeaseParams are the settings of the leases of a database.
type LeaseParams struct {
	// Key stands for everything the leases depend on.
	Key string
	// TTL is the time after which a holder that shows no sign of life is replaced; 0: no leases, this daemon does all.
	TTL time.Duration
	// Open makes the source without I/O.
	Open func() (LeaseSource, error)
}

// leaseChanged tells the database that a unit is ours from now on, under that epoch, or not any more.
type leaseChanged struct {
	unit  string
	epoch int64
	held  bool
}

// leaseUnits tells the keeper which units this daemon wants.
type leaseUnits struct{ units []string }

// tickerUnit is the unit of ticker and maintainer.
const tickerUnit = "ticker"

// leaseRetry is the time between two tries for units that others hold; with jitter up to its double.
const leaseRetry = 200 * time.Millisecond

// Lease keeps the leases of one database. Its failure, and a lost connection, are the loss of all of them.
type Lease struct {
	env    Env
	p      LeaseParams
	state  reporter
	src    LeaseSource
	work   worker
	clock  timers
	wanted []string
	held   map[string]int64
	fails  int
}

// leased is the result of one round.
type leased struct {
	held map[string]int64
	err  error
}

// leaseProps builds the keeper of the leases of one database.
func leaseProps(env Env, db string, p LeaseParams, wanted []string) *actor.Props {
	return newProps(env, kindLease, func() actor.Actor {
		return &Lease{env: env, p: p, wanted: wanted, held: map[string]int64{}, state: reporter{env: env, kind: kindLease, database: db}}
	})
}

// Receive implements actor.Actor.
func (l *Lease) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		src, err := l.p.Open()
		if err != nil {
			panic(fmt.Errorf("open the leases of %s: %w", l.state.database, err))
		}
		l.src = src
		l.begin(c)
	case *actor.Stopping, *actor.Restarting:
		l.clock.stop()
		l.work.halt(haltGrace)
	case *actor.Stopped:
		l.close()
	case messages.ReportStatus:
		l.state.repeat(c)
	case leaseUnits:
		// The database says it with every look, and a look follows every failure: only news are worth a round.
		if news := !slices.Equal(l.wanted, m.units); news {
			l.wanted = m.units
			if l.fails == 0 {
				l.begin(c)
			}
		}
	case wake:
		if l.clock.fired(m) {
			l.begin(c)
		}
	case done[leased]:
		if finish(&l.work, m) {
			l.ended(c, m.val)
		}
	}
}

// close gives the leases back, in the time that stopping has, so that another daemon need not wait.
func (l *Lease) close() {
	if l.src == nil {
		return
	}
	src, base := l.src, l.env.Context
	closed := closeWithin(haltGrace, func() {
		ctx, cancel := context.WithTimeout(base, closeLimit)
		defer cancel()
		src.Close(ctx)
	})
	if !closed {
		l.env.Log.Warn("leases did not close in time", "db", l.state.database)
	}
}

// begin starts a round: keep what is held, try for the rest.
func (l *Lease) begin(c actor.Context) {
	src, wanted := l.src, slices.Clone(l.wanted)
	_ = start(&l.work, c, l.env.Context, func(ctx context.Context) (leased, error) {
		held, err := leaseRound(ctx, src, wanted)
		return leased{held: held, err: err}, nil
	})
}

// leaseRound is one round; after an error nothing is held.
func leaseRound(ctx context.Context, src LeaseSource, wanted []string) (map[string]int64, error) {
	if _, err := src.Renew(ctx); err != nil {
		return nil, err
	}
	held := map[string]int64{}
	for _, unit := range wanted {
		epoch, ok, err := src.Take(ctx, unit)
		if err != nil {
			return nil, err
		}
		if ok {
			held[unit] = epoch
		}
	}
	return held, nil
}

// ended compares the round with what was held before and tells the database.
func (l *Lease) ended(c actor.Context, r leased) {
	for unit, epoch := range l.held {
		if now, ok := r.held[unit]; !ok || now != epoch {
			if slices.Contains(l.wanted, unit) {
				l.env.Log.Warn("lease lost", "db", l.state.database, "unit", unit, "epoch", epoch, "err", r.err)
			}
			c.Send(c.Parent(), leaseChanged{unit: unit})
		}
	}
	for unit, epoch := range r.held {
		if before, ok := l.held[unit]; !ok || before != epoch {
			l.env.Log.Info("lease taken", "db", l.state.database, "unit", unit, "epoch", epoch)
			c.Send(c.Parent(), leaseChanged{unit: unit, epoch: epoch, held: true})
		}
	}
	l.held = r.held
	if r.err != nil {
		l.failed(c, r.err)
		return
	}
	l.fails = 0
	l.state.set(c, messages.Running, fmt.Sprintf("holds %d of %d", len(r.held), len(l.wanted)), nil, time.Time{})
	if len(r.held) < len(l.wanted) {
		l.clock.arm(c, "round", min(leaseRetry+fullJitter(leaseRetry, leaseRetry, 0), l.p.TTL/3))
		return
	}
	l.clock.arm(c, "round", l.p.TTL/3)
}

// failed waits after a lost connection.
func (l *Lease) failed(c actor.Context, err error) {
	delay := fullJitter(reconnectBase, reconnectLimit, l.fails)
	l.fails++
	if l.src.Classify(err).Outage {
		c.Send(c.Parent(), messages.DatabaseTroubled{Actor: treePath(c.Self()), Err: err})
	}
	if loud(l.fails) {
		l.env.Log.Warn("leases failed", "db", l.state.database, "err", err, "fails", l.fails)
	}
	l.state.set(c, messages.Backoff, "", err, time.Now().Add(delay))
	l.clock.arm(c, "round", delay)
}

// keepLeases starts the keeper and tells it what is wanted.
func (d *Database) keepLeases(c actor.Context) {
	p, db := d.p.Lease, d.p.Name
	d.ensure(c, childSpec{
		name: kindLease, kind: kindLease, database: db, optional: d.p.Optional,
		props: func(env Env) *actor.Props { return leaseProps(env, db, p, d.units()) },
	})
	d.wantUnits(c)
}

// wantUnits tells the keeper which units this daemon wants.
func (d *Database) wantUnits(c actor.Context) {
	if k := d.kids[kindLease]; k != nil && k.pid != nil {
		c.Send(k.pid, leaseUnits{units: d.units()})
	}
}

// units lists what is to be leased: a group of several workers needs no lease, because its members share the work
// wherever they are.
func (d *Database) units() []string {
	var units []string
	if d.p.Ticker.Period > 0 || d.p.Maintainer.Period > 0 {
		units = append(units, tickerUnit)
	}
	for _, p := range d.p.Consumers {
		if p.Workers <= 1 {
			units = append(units, p.actorName())
		}
	}
	for _, p := range d.p.Nodes {
		units = append(units, p.actorName())
	}
	return units
}

// mayRun tells whether the children of a unit may run here.
func (d *Database) mayRun(unit string) bool {
	_, held := d.leases[unit]
	return held || d.p.Lease.TTL <= 0
}

// leaseChange starts or parks what belongs to a unit.
func (d *Database) leaseChange(c actor.Context, m leaseChanged) {
	if d.halted {
		return
	}
	if m.held {
		d.leases[m.unit] = m.epoch
	} else {
		delete(d.leases, m.unit)
	}
	d.startChildren(c)
}

// keeperGone parks everything that was leased: a new keeper holds nothing.
func (d *Database) keeperGone(c actor.Context, who *actor.PID) {
	if k := d.byPID(who); k == nil || k.spec.kind != kindLease || len(d.leases) == 0 || d.halted {
		return
	}
	clear(d.leases)
	for name, k := range d.kids {
		group := k.spec.kind == kindConsumer && !slices.Contains(d.units(), name)
		if k.want && name != kindLease && !group {
			d.park(c, name, waitsForLease)
		}
	}
}

// waitsForLease is why a child is parked while its database is up.
const waitsForLease = "another daemon has the lease"

// startChildren brings the children to life that may run here, and parks the others.
func (d *Database) startChildren(c actor.Context) {
	if !d.up {
		return
	}
	run := func(spec childSpec, unit string, on bool) {
		switch k := d.kids[spec.name]; {
		case !on:
		case d.mayRun(unit):
			d.ensure(c, spec)
		case k == nil || k.want:
			d.await(c, spec, waitsForLease)
		}
	}
	run(d.tickerSpec(), tickerUnit, d.p.Ticker.Period > 0)
	run(d.maintainerSpec(), tickerUnit, d.p.Maintainer.Period > 0)
	for _, p := range d.p.Consumers {
		if p.Workers > 1 {
			d.ensure(c, d.consumerSpec(p))
			continue
		}
		run(d.consumerSpec(p), p.actorName(), true)
	}
	for _, p := range d.p.Nodes {
		run(d.nodeSpec(p), p.actorName(), true)
	}
}
