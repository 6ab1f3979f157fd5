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
	// Archives are the WAL archives of clusters on this host.
	Archives []ArchiveParams
	// Beat is called by the root actor's own loop every BeatPeriod, as a sign of life that no free timer can give; it
	// must not block. A BeatPeriod of 0: never.
	Beat       func()
	BeatPeriod time.Duration
	// Stopped is closed when the daemon has ended with everything below it, asked or unasked.
	Stopped chan<- struct{}
}

// Daemon is the root: it keeps status, databases and discoveries alive. Only its own failure ends the process.
type Daemon struct {
	children
	state   reporter
	p       DaemonParams
	started time.Time
	clock   timers
	found   map[string][]string // discovery, names of its databases
	served  map[string]served   // by name
	config  messages.ConfigLoaded
}

// DaemonProps builds the root actor. It has to be spawned under RootName.
func DaemonProps(p DaemonParams) *actor.Props {
	props := newProps(p.Env, kindDaemon, func() actor.Actor {
		return &Daemon{p: p, found: map[string][]string{}, served: map[string]served{}}
	})
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
		d.clock.stop()
	case *actor.Stopped:
		close(d.p.Stopped)
	case messages.GetHealth:
		m.Reply <- time.Now()
	case statusStarted:
		d.state.repeat(c)
		d.env.report(c, d.config)
		d.repeat(c)
	case messages.DatabasesDiscovered:
		d.discovered(c, m)
	case messages.ConfigLoaded:
		if m.Err != "" { // the last good one stays in force
			m.Good, m.RestartNeeded = d.config.Good, d.config.RestartNeeded
		}
		d.config = m
		d.env.report(c, m)
	case Reconfigure:
		d.reconfigure(c, m)
	default:
		if w, ok := c.Message().(wake); ok && d.clock.fired(w) {
			d.beat(c)
			return
		}
		d.receive(c)
	}
}

// beat gives the sign of life and arms the next one.
func (d *Daemon) beat(c actor.Context) {
	if d.p.BeatPeriod <= 0 || d.p.Beat == nil {
		return
	}
	d.p.Beat()
	d.clock.arm(c, "beat", d.p.BeatPeriod)
}

func (d *Daemon) start(c actor.Context) {
	d.env = d.p.Env.of(kindDaemon, rootName, 0)
	d.env.Status = StatusPID(c.Self())
	d.started = time.Now()
	d.state = reporter{env: d.env, kind: kindDaemon}
	info := buildInfo{version: d.p.Version, instance: d.p.Instance, started: d.started}
	d.ensure(c, childSpec{name: kindStatus, kind: kindStatus, props: func(env Env) *actor.Props { return statusProps(env, info) }})
	d.config = messages.ConfigLoaded{At: d.started, Good: d.started}
	d.env.report(c, d.config)
	d.state.set(c, messages.Running, "", nil, time.Time{})
	for _, p := range d.p.Databases {
		d.serve(c, p, "", &Reconfigured{})
	}
	for _, p := range d.p.Discoveries {
		d.discover(c, p, &Reconfigured{})
	}
	for _, p := range d.p.Archives {
		d.ensure(c, d.archiveSpec(p))
	}
	d.beat(c)
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
			d.unserve(c, d.p.Discoveries[i].Database(name).Name)
		}
	}
	var kept []string
	for _, name := range m.Names {
		if slices.Contains(d.found[m.Source], name) {
			kept = append(kept, name)
			continue
		}
		p := d.p.Discoveries[i].Database(name)
		if d.kids[kindDatabase+"/"+p.Name] != nil {
			// A configured one, or the predecessor of this one, which is still stopping: the next look tries again.
			d.env.Log.Warn("found a database whose name is taken", "server", m.Source, "db", name, "name", p.Name)
			continue
		}
		d.env.Log.Info("found a database", "server", m.Source, "db", name)
		d.serve(c, p, m.Source, &Reconfigured{})
		kept = append(kept, name)
	}
	d.found[m.Source] = kept
}
