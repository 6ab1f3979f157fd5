package actors

import (
	"context"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// Server is a server whose databases are looked up.
type Server interface {
	// Databases lists the databases that can be served; the caller's context limits the time.
	Databases(ctx context.Context) ([]string, error)
	// Reset drops the connections, so that the next call makes new ones.
	Reset()
	// Close gives everything back; it waits for running calls.
	Close()
}

// DiscoveryParams describes one server whose databases are found out.
type DiscoveryParams struct {
	// Name is the configured name of the server.
	Name string
	// Open makes the server without I/O.
	Open func() (Server, error)
	// Connection stands for everything that Open depends on: with another Connection the discovery starts anew.
	Connection string
	// Database makes the parameters of a found database.
	Database func(name string) DatabaseParams
	// Period is the time between two looks.
	Period time.Duration
	// Timeout limits one look.
	Timeout time.Duration
}

// Discovery lists the databases of one server now and then and tells the daemon.
type Discovery struct {
	env    Env
	p      DiscoveryParams
	state  reporter
	look   worker
	ts     timers
	server Server
	fails  int
}

// discoveryProps builds a discovery.
func discoveryProps(env Env, p DiscoveryParams) *actor.Props {
	return newProps(env, kindDiscovery, func() actor.Actor {
		return &Discovery{env: env, p: p, state: reporter{env: env, kind: kindDiscovery}}
	})
}

// Receive implements actor.Actor.
func (d *Discovery) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		server, err := d.p.Open()
		if err != nil {
			panic(err) // checked before the daemon was built
		}
		d.server = server
		d.begin(c)
	case *actor.Stopping, *actor.Restarting:
		d.ts.stop()
		d.look.halt(haltGrace)
		if d.server != nil && !closeWithin(haltGrace, d.server.Close) {
			d.env.Log.Warn("connections did not close in time")
		}
	case messages.ReportStatus:
		d.state.repeat(c)
	case wake:
		if d.ts.fired(m) {
			d.begin(c)
		}
	case done[[]string]:
		if finish(&d.look, m) {
			d.listed(c, m.val, m.err)
		}
	}
}

// begin starts one look at the server.
func (d *Discovery) begin(c actor.Context) {
	server, timeout := d.server, d.p.Timeout
	_ = start(&d.look, c, d.env.Context, func(ctx context.Context) ([]string, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return server.Databases(ctx)
	})
}

// listed handles the outcome of a look.
func (d *Discovery) listed(c actor.Context, names []string, err error) {
	if err != nil {
		d.server.Reset()
		delay := fullJitter(reconnectBase, reconnectLimit, d.fails)
		d.fails++
		if loud(d.fails) {
			d.env.Log.Warn("list the databases of the server", "server", d.p.Name, "err", err, "fails", d.fails)
		}
		d.state.set(c, messages.Backoff, "", err, time.Now().Add(delay))
		d.ts.arm(c, "look", delay)
		return
	}
	d.fails = 0
	slices.Sort(names)
	c.Send(c.Parent(), messages.DatabasesDiscovered{Source: d.p.Name, Names: names})
	d.state.set(c, messages.Running, "", nil, time.Time{})
	d.ts.arm(c, "look", d.p.Period)
}
