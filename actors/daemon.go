package actors

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// DaemonParams describes the whole tree.
type DaemonParams struct {
	// Env is shared by all actors; Status is set by the daemon itself.
	Env Env
	// Version and Instance are shown in the status.
	Version  string
	Instance string
	// Databases are the configured databases.
	Databases []DatabaseParams
	// Discoveries are the servers whose databases are found out.
	Discoveries []DiscoveryParams
	// Stopped is closed when the daemon has ended with everything below it, asked or unasked.
	Stopped chan<- struct{}
}

// Daemon is the root: it keeps status, databases and discoveries alive. Only its own failure ends the process.
type Daemon struct {
	children
	state   reporter
	p       DaemonParams
	started time.Time
	found   map[string][]string // discovery, names of its databases
}

// DaemonProps builds the root actor. It has to be spawned under RootName.
func DaemonProps(p DaemonParams) *actor.Props {
	props := newProps(p.Env, func() actor.Actor { return &Daemon{p: p, found: map[string][]string{}} })
	return props.Configure(actor.WithGuardian(stopChild))
}

// RootName is the name under which the root actor is spawned.
const RootName = rootName

// StatusPID is the address of the status actor of the daemon with this address.
func StatusPID(daemon *actor.PID) *actor.PID {
	return actor.NewPID(daemon.GetAddress(), daemon.GetId()+"/"+kindStatus)
}

// Receive implements actor.Actor.
func (d *Daemon) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		d.start(c)
	case *actor.Stopping, *actor.Restarting:
		d.halt()
	case *actor.Stopped:
		close(d.p.Stopped)
	case messages.GetHealth:
		m.Reply <- time.Now()
	case statusStarted:
		d.state.repeat(c)
		d.repeat(c)
	case messages.DatabasesDiscovered:
		d.discovered(c, m)
	default:
		d.receive(c)
	}
}

func (d *Daemon) start(c actor.Context) {
	d.env = d.p.Env
	d.env.Status = StatusPID(c.Self())
	d.started = time.Now()
	d.state = reporter{env: d.env, kind: kindDaemon}
	info := buildInfo{version: d.p.Version, instance: d.p.Instance, started: d.started}
	env := d.env
	d.ensure(c, childSpec{name: kindStatus, kind: kindStatus, props: func(int64) *actor.Props { return statusProps(env, info) }})
	d.state.set(c, messages.Running, "", nil, time.Time{})
	for _, p := range d.p.Databases {
		d.serve(c, p)
	}
	for _, p := range d.p.Discoveries {
		d.ensure(c, childSpec{
			name: kindDiscovery + "/" + p.Name, kind: kindDiscovery,
			props: func(int64) *actor.Props { return discoveryProps(env, p) },
		})
	}
}

// serve makes one database part of the tree.
func (d *Daemon) serve(c actor.Context, p DatabaseParams) {
	env := d.env
	d.ensure(c, childSpec{
		name: kindDatabase + "/" + p.Name, kind: kindDatabase, database: p.Name, optional: p.Optional,
		props: func(incarnation int64) *actor.Props { return databaseProps(env, p, incarnation) },
	})
}

// discovered spawns what is new on a server and removes what is gone from it.
func (d *Daemon) discovered(c actor.Context, m messages.DatabasesDiscovered) {
	i := slices.IndexFunc(d.p.Discoveries, func(p DiscoveryParams) bool { return p.Name == m.Source })
	if i < 0 || d.halted {
		return
	}
	for _, name := range d.found[m.Source] {
		if !slices.Contains(m.Names, name) {
			d.env.Log.Info("database is gone from its server", "server", m.Source, "db", name)
			d.remove(c, kindDatabase+"/"+d.p.Discoveries[i].Database(name).Name)
		}
	}
	var served []string
	for _, name := range m.Names {
		if slices.Contains(d.found[m.Source], name) {
			served = append(served, name)
			continue
		}
		p := d.p.Discoveries[i].Database(name)
		if d.kids[kindDatabase+"/"+p.Name] != nil {
			// A configured one, or the predecessor of this one, which is still stopping: the next look tries again.
			d.env.Log.Warn("found a database whose name is taken", "server", m.Source, "db", name, "name", p.Name)
			continue
		}
		d.env.Log.Info("found a database", "server", m.Source, "db", name)
		d.serve(c, p)
		served = append(served, name)
	}
	d.found[m.Source] = served
}
