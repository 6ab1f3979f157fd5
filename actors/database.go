package actors

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// Health is what a look at a database found.
type Health struct {
	// Installed: the schema pgq is there in a version we can work with.
	Installed bool
	// Version is the version of the schema, also one that we cannot work with; empty without the schema.
	Version string
	// InRecovery: the server is a standby.
	InRecovery bool
	// ReadOnly: it takes no writes, as a standby or by its settings.
	ReadOnly bool
}

// Trouble says what an error means for the connection to a database.
type Trouble struct {
	// Reason is closed, read_only, timeout, auth or other: the label of skyd_db_reconnects_total.
	Reason string
	// Lost: the connections of the pool are not worth keeping.
	Lost bool
	// Outage: the server or the way to it is at fault, not what was asked of it; it may be over at any moment.
	Outage bool
	// Permanent: trying again soon will not help.
	Permanent bool
}

// Handle is one database as its actors see it.
type Handle interface {
	TickSource
	MaintenanceSource
	// Check looks whether the database is there and what it holds.
	Check(ctx context.Context) (Health, error)
	// Reset drops the connections, so that the next call makes new ones and resolves names anew.
	Reset()
	// Close gives everything back; it waits for running calls.
	Close()
}

// classifier tells what an error means; part of every source, so that each actor declares only what it needs.
type classifier interface {
	Classify(err error) Trouble
}

// DatabaseParams describes one database to serve.
type DatabaseParams struct {
	// Name is the configured name, never a DSN.
	Name string
	// Optional: found by discovery; that it lacks PgQ is normal and no fault.
	Optional bool
	// Open makes the handle without I/O.
	Open func() (Handle, error)
	// Connection stands for everything that Open depends on: with another Connection the database starts anew.
	Connection string
	// CheckPeriod is the time between two looks at a database that lacks PgQ, or that is up.
	CheckPeriod time.Duration
	// CheckTimeout limits one look.
	CheckTimeout time.Duration
	// Ticker and Maintainer are the parameters of the children.
	Ticker     TickerParams
	Maintainer MaintainerParams
	// Lease says whether and how several daemons share the work.
	Lease LeaseParams
	// Consumers are what this daemon does with the events of the database.
	Consumers []ConsumerParams
	// Nodes are the cascade nodes in the database that this daemon runs.
	Nodes []NodeParams
}

// Delays between the beginnings of two attempts at a database that is away. The limit is what it may take at most until
// the end of an outage is noticed.
const (
	reconnectBase  = 100 * time.Millisecond
	reconnectLimit = 4 * time.Second
	// missingLimit is the longest time a configured database without PgQ waits for the next look: someone is about to
	// install it.
	missingLimit = 5 * time.Second
)

// Database owns the handle of one database. While the database is away, lacks PgQ or is a standby, its children are
// parked; they come back with it.
type Database struct {
	children
	p      DatabaseParams
	state  reporter
	look   worker
	clock  timers
	handle Handle
	up     bool
	known  bool // a first look was done
	again  bool // trouble came while a look was under way
	fails  int
	began  time.Time // of the last look
	downAt time.Time
	last   messages.DatabaseChanged
	leases map[string]int64 // units that are ours, with their epochs
}

// databaseProps builds a database actor.
func databaseProps(env Env, p DatabaseParams) *actor.Props {
	return newProps(env, kindDatabase, func() actor.Actor {
		return &Database{
			children: children{env: env}, p: p, leases: map[string]int64{},
			state: reporter{env: env, kind: kindDatabase, database: p.Name, optional: p.Optional},
		}
	})
}

// Receive implements actor.Actor.
func (d *Database) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		handle, err := d.p.Open()
		if err != nil {
			panic(fmt.Errorf("open %s: %w", d.p.Name, err)) // checked before the daemon was built
		}
		d.handle = handle
		d.check(c)
	case *actor.Stopping, *actor.Restarting:
		d.halt()
		d.clock.stop()
		d.look.halt(haltGrace)
	case *actor.Stopped:
		if d.handle != nil && !closeWithin(haltGrace, d.handle.Close) {
			d.env.Log.Warn("connections did not close in time", "db", d.p.Name)
		}
	case messages.ReportStatus:
		d.state.repeat(c)
		if d.known {
			d.env.report(c, d.last)
		}
		d.repeat(c)
	case adjust:
		d.adjusted(c, m.params)
	case messages.DatabaseTroubled:
		d.troubled(c, m)
	case leaseChanged:
		d.leaseChange(c, m)
	case *actor.Terminated:
		d.keeperGone(c, m.Who)
		d.receive(c)
	case messages.TickMade:
		d.tickMade(c, m)
	case done[Health]:
		if finish(&d.look, m) {
			d.checked(c, m.val, m.err)
		}
	default:
		if w, ok := c.Message().(wake); ok && d.clock.fired(w) {
			d.check(c)
			return
		}
		d.receive(c)
	}
}

// check starts a look at the database.
func (d *Database) check(c actor.Context) {
	d.clock.disarm("check")
	handle, timeout := d.handle, d.p.CheckTimeout
	d.began = time.Now()
	err := start(&d.look, c, d.env.Context, func(ctx context.Context) (Health, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return handle.Check(ctx)
	})
	d.again = errors.Is(err, errBusy)
}

// troubled looks at once whether the database is still there. While it is away, nothing new can be learnt.
func (d *Database) troubled(c actor.Context, m messages.DatabaseTroubled) {
	if !d.up || d.halted {
		return
	}
	if t := d.handle.Classify(m.Err); t.Lost {
		d.handle.Reset()
	}
	d.check(c)
}

// checked handles the outcome of a look.
func (d *Database) checked(c actor.Context, h Health, err error) {
	if d.halted {
		return
	}
	switch {
	case err != nil:
		t := d.handle.Classify(err)
		d.away(c, err, t)
	case h.InRecovery:
		d.away(c, errStandby, Trouble{Reason: "read_only"})
		d.last.InRecovery = true
		d.env.report(c, d.last)
	case h.ReadOnly:
		d.away(c, errReadOnly, Trouble{Reason: "read_only"})
	case !h.Installed:
		d.missing(c, h)
	default:
		d.present(c, h)
	}
	d.known = true
	if d.again && d.up {
		d.check(c)
	}
}

var (
	errStandby  = errors.New("the server is a standby (in recovery); waiting for the primary")
	errReadOnly = errors.New("the server takes no writes (transaction_read_only); waiting for one that does")
)

// away parks the children and tries again later.
func (d *Database) away(c actor.Context, err error, t Trouble) {
	now := time.Now()
	if d.up || !d.known {
		d.downAt = now
		d.fails = 0
	}
	d.handle.Reset()
	d.parkAll(c, "waits for the database")
	// An attempt that timed out has waited already.
	delay, state := max(fullJitter(reconnectBase, reconnectLimit, d.fails)-now.Sub(d.began), reconnectBase), messages.Backoff
	if t.Permanent {
		delay, state = d.p.CheckPeriod/2+fullJitter(d.p.CheckPeriod/2, d.p.CheckPeriod/2, 0), messages.Failed
	}
	d.fails++
	if loud(d.fails) {
		d.env.Log.Warn("database is away", "db", d.p.Name, "reason", t.Reason, "err", err, "fails", d.fails,
			"delay", delay.Round(time.Millisecond))
	}
	d.up = false
	d.state.set(c, state, "", err, now.Add(delay))
	d.changed(c, messages.DatabaseChanged{Reason: t.Reason})
	d.clock.arm(c, "check", delay)
}

// missing waits for someone to install PgQ.
func (d *Database) missing(c actor.Context, h Health) {
	now, delay := time.Now(), d.p.CheckPeriod
	if !d.p.Optional {
		delay = min(delay, missingLimit)
	}
	note := "the schema pgq is not installed"
	if h.Version != "" {
		note = "the schema pgq has version " + h.Version + ", which skyd does not support"
	}
	d.parkAll(c, "waits for the schema pgq")
	d.handle.Reset() // a database without PgQ is not worth an open connection
	switch first := d.up || d.state.last.Note != note; {
	case d.p.Optional:
		d.state.set(c, messages.Parked, note, nil, now.Add(delay))
		if first {
			d.env.Log.Debug("database without PgQ", "db", d.p.Name, "note", note)
		}
	default:
		d.state.set(c, messages.Failed, note, errors.New(note+"; install it with: skyd schema install"), now.Add(delay))
		if first {
			d.env.Log.Warn("database cannot be served", "db", d.p.Name, "note", note, "hint", "skyd schema install")
		}
	}
	d.up, d.fails = false, 0
	d.changed(c, messages.DatabaseChanged{Reason: "missing"})
	d.clock.arm(c, "check", delay)
}

// present brings the children to life.
func (d *Database) present(c actor.Context, h Health) {
	now := time.Now()
	if !d.up {
		args := []any{"db", d.p.Name, "version", h.Version}
		if !d.downAt.IsZero() {
			args = append(args, "away", now.Sub(d.downAt).Round(time.Millisecond))
		}
		d.env.Log.Info("database is up", args...)
	}
	d.up, d.fails, d.downAt = true, 0, time.Time{}
	d.state.set(c, messages.Running, "", nil, time.Time{})
	d.changed(c, messages.DatabaseChanged{Up: true, Version: h.Version})
	if d.p.Lease.TTL > 0 {
		d.keepLeases(c)
	}
	d.startChildren(c)
	d.clock.arm(c, "check", d.p.CheckPeriod)
}

// consumerSpec describes one consumer.
func (d *Database) consumerSpec(p ConsumerParams) childSpec {
	db := d.p.Name
	p.epoch = d.leases[p.actorName()]
	return childSpec{
		name: p.actorName(), kind: kindConsumer, database: db,
		props: func(env Env) *actor.Props { return consumerProps(env, db, p) },
	}
}

// nodeSpec describes one cascade node.
func (d *Database) nodeSpec(p NodeParams) childSpec {
	db := d.p.Name
	p.epoch = d.leases[p.actorName()]
	return childSpec{
		name: p.actorName(), kind: kindNode, database: db,
		props: func(env Env) *actor.Props { return nodeProps(env, db, p) },
	}
}

// tickMade wakes the consumers of a queue.
func (d *Database) tickMade(c actor.Context, m messages.TickMade) {
	for _, p := range d.p.Consumers {
		if p.Queue != m.Queue {
			continue
		}
		if k := d.kids[p.actorName()]; k != nil && k.pid != nil {
			c.Send(k.pid, m)
		}
	}
}

// parkAll stops the children until the database can be worked in. The leases end with their keeper.
func (d *Database) parkAll(c actor.Context, note string) {
	clear(d.leases)
	for name, k := range d.kids {
		if k.want {
			d.park(c, name, note)
		}
	}
}

// changed tells status the state of the database, when it is news.
func (d *Database) changed(c actor.Context, m messages.DatabaseChanged) {
	m.Database = d.p.Name
	m.At = d.last.At
	if m == d.last {
		return
	}
	m.At = time.Now()
	d.last = m
	d.env.report(c, m)
}

// loud spaces out the log lines of a repeating failure: the 1st, 2nd, 4th, 8th ... time.
func loud(n int) bool { return n > 0 && bits.OnesCount(uint(n)) == 1 }
