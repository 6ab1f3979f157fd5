package actors

import (
	"errors"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// Reconfigure asks the daemon to serve these databases, servers and archives from now on, and no others. What it serves already
// with the same parameters is not touched: neither stopped nor told.
type Reconfigure struct {
	Databases   []DatabaseParams
	Discoveries []DiscoveryParams
	Archives    []ArchiveParams
	// Reply is buffered and gets one answer.
	Reply chan<- Reconfigured
}

// Reconfigured is the answer to Reconfigure: names of databases and servers, and wal/SOURCE for archives, sorted. Actors that have to end do so after
// the answer.
type Reconfigured struct {
	Added     []string
	Removed   []string
	Replaced  []string // another connection: the database's actors started anew
	Adjusted  []string // other settings of ticker, maintainer or checks
	Untouched []string
	Err       error // nothing was changed
}

// ErrStopping is the answer of a daemon that is about to end.
var ErrStopping = errors.New("the daemon is stopping")

// served is a database that is part of the tree.
type served struct {
	params DatabaseParams
	source string // the server it was found on; empty: configured by itself
}

// adjust tells a database actor its new settings; the connection is the same.
type adjust struct{ params DatabaseParams }

// sameConnection reports whether two parameters mean the same database reached in the same way.
func (p DatabaseParams) sameConnection(q DatabaseParams) bool {
	return p.Connection == q.Connection && p.Optional == q.Optional
}

// sameSettings reports whether two parameters with the same connection are the same.
func (p DatabaseParams) sameSettings(q DatabaseParams) bool {
	return p.CheckPeriod == q.CheckPeriod && p.CheckTimeout == q.CheckTimeout && p.Ticker == q.Ticker && p.Maintainer == q.Maintainer &&
		slices.EqualFunc(p.Consumers, q.Consumers, sameConsumer) && slices.EqualFunc(p.Nodes, q.Nodes, sameNode) && p.Lease.Key == q.Lease.Key
}

// sameConsumer reports whether two consumers are the same in everything.
func sameConsumer(p, q ConsumerParams) bool {
	return p.Queue == q.Queue && p.Name == q.Name && p.Key == q.Key
}

// sameNode reports whether two nodes are the same in everything.
func sameNode(p, q NodeParams) bool { return p.Queue == q.Queue && p.Name == q.Name && p.Key == q.Key }

// reconfigure brings the tree to what m wants.
func (d *Daemon) reconfigure(c actor.Context, m Reconfigure) {
	if d.halted {
		m.Reply <- Reconfigured{Err: ErrStopping}
		return
	}
	var r Reconfigured
	wanted := map[string]bool{}
	for _, p := range m.Databases {
		wanted[p.Name] = true
	}
	d.dropSources(c, m.Discoveries, &r)
	for name, s := range d.served {
		if s.source == "" && !wanted[name] {
			d.unserve(c, name)
			r.Removed = append(r.Removed, name)
		}
	}
	for _, p := range m.Databases {
		d.serve(c, p, "", &r)
	}
	for _, p := range m.Discoveries {
		d.discover(c, p, &r)
	}
	d.reconfigureArchives(c, m.Archives, &r)
	d.p.Databases, d.p.Discoveries = m.Databases, m.Discoveries
	for _, list := range []*[]string{&r.Added, &r.Removed, &r.Replaced, &r.Adjusted, &r.Untouched} {
		slices.Sort(*list)
	}
	m.Reply <- r
}

// adjustArchive tells the actor of an archive its new settings; the repository is the same.
type adjustArchive struct{ params ArchiveParams }

// archiveSpec describes the actor of an archive.
func (d *Daemon) archiveSpec(p ArchiveParams) childSpec {
	return childSpec{name: p.actorName(), kind: kindWAL, props: func(env Env) *actor.Props { return walClusterProps(env, p) }}
}

// actorName is the name of the archive's actor below the root.
func (p ArchiveParams) actorName() string { return kindWAL + "/" + p.Source }

// reconfigureArchives ends the archives that are not wanted any more, starts the new ones, and touches of the others only
// what changed.
func (d *Daemon) reconfigureArchives(c actor.Context, wanted []ArchiveParams, r *Reconfigured) {
	find := func(in []ArchiveParams, source string) int {
		return slices.IndexFunc(in, func(p ArchiveParams) bool { return p.Source == source })
	}
	for _, old := range d.p.Archives {
		if find(wanted, old.Source) < 0 {
			d.remove(c, old.actorName())
			r.Removed = append(r.Removed, old.actorName())
		}
	}
	for _, p := range wanted {
		spec, name := d.archiveSpec(p), p.actorName()
		i := find(d.p.Archives, p.Source)
		switch {
		case i < 0:
			d.ensure(c, spec)
			r.Added = append(r.Added, name)
		case d.p.Archives[i].Key != p.Key:
			d.replace(c, spec)
			r.Replaced = append(r.Replaced, name)
		case d.p.Archives[i].ReceiveKey != p.ReceiveKey || d.p.Archives[i].BackupKey != p.BackupKey ||
			d.p.Archives[i].choreKey() != p.choreKey():
			d.adopt(spec)
			if k := d.kids[name]; k != nil && k.pid != nil {
				c.Send(k.pid, adjustArchive{params: p})
			}
			r.Adjusted = append(r.Adjusted, name)
		default:
			r.Untouched = append(r.Untouched, name)
		}
	}
	d.p.Archives = wanted
}

// dropSources ends the discoveries that are not wanted any more, with everything they found.
func (d *Daemon) dropSources(c actor.Context, wanted []DiscoveryParams, r *Reconfigured) {
	for _, old := range d.p.Discoveries {
		if slices.ContainsFunc(wanted, func(p DiscoveryParams) bool { return p.Name == old.Name }) {
			continue
		}
		d.remove(c, kindDiscovery+"/"+old.Name)
		for _, found := range d.found[old.Name] {
			d.unserve(c, old.Database(found).Name)
		}
		delete(d.found, old.Name)
		r.Removed = append(r.Removed, old.Name)
	}
}

// discover starts, replaces or leaves alone the discovery of one server, and brings what it has found up to date.
func (d *Daemon) discover(c actor.Context, p DiscoveryParams, r *Reconfigured) {
	spec := childSpec{
		name: kindDiscovery + "/" + p.Name, kind: kindDiscovery,
		props: func(env Env) *actor.Props { return discoveryProps(env, p) },
	}
	i := slices.IndexFunc(d.p.Discoveries, func(old DiscoveryParams) bool { return old.Name == p.Name })
	var inner Reconfigured
	d.found[p.Name] = slices.DeleteFunc(d.found[p.Name], func(name string) bool {
		return d.served[p.Database(name).Name].source != p.Name // configured by itself from now on
	})
	for _, name := range d.found[p.Name] {
		d.serve(c, p.Database(name), p.Name, &inner)
	}
	switch {
	case i < 0 || d.kids[spec.name] == nil:
		d.replace(c, spec)
		r.Added = append(r.Added, p.Name)
	case d.p.Discoveries[i].Connection != p.Connection || d.p.Discoveries[i].Period != p.Period:
		d.replace(c, spec)
		r.Replaced = append(r.Replaced, p.Name)
	case len(inner.Replaced)+len(inner.Adjusted) > 0:
		d.adopt(spec)
		r.Adjusted = append(r.Adjusted, p.Name)
	default:
		r.Untouched = append(r.Untouched, p.Name)
	}
}

// serve makes one database part of the tree, or brings it up to date.
func (d *Daemon) serve(c actor.Context, p DatabaseParams, source string, r *Reconfigured) {
	spec := childSpec{
		name: kindDatabase + "/" + p.Name, kind: kindDatabase, database: p.Name, optional: p.Optional,
		props: func(env Env) *actor.Props { return databaseProps(env, p) },
	}
	old, known := d.served[p.Name]
	d.served[p.Name] = served{params: p, source: source}
	switch {
	case !known:
		d.ensure(c, spec)
		r.Added = append(r.Added, p.Name)
	case !old.params.sameConnection(p):
		d.replace(c, spec)
		r.Replaced = append(r.Replaced, p.Name)
	case !old.params.sameSettings(p):
		d.adopt(spec)
		if k := d.kids[spec.name]; k != nil && k.pid != nil {
			c.Send(k.pid, adjust{params: p})
		}
		r.Adjusted = append(r.Adjusted, p.Name)
	default:
		r.Untouched = append(r.Untouched, p.Name)
	}
}

// unserve takes one database out of the tree.
func (d *Daemon) unserve(c actor.Context, name string) {
	delete(d.served, name)
	d.remove(c, kindDatabase+"/"+name)
}

// adjusted takes new settings: only the children whose settings changed start anew.
func (d *Database) adjusted(c actor.Context, p DatabaseParams) {
	old := d.p
	d.p = p
	if d.halted {
		return
	}
	for _, k := range []struct {
		spec    childSpec
		on      bool
		changed bool
	}{
		{d.tickerSpec(), p.Ticker.Period > 0, old.Ticker != p.Ticker},
		{d.maintainerSpec(), p.Maintainer.Period > 0, old.Maintainer != p.Maintainer},
	} {
		switch {
		case !k.changed:
		case !k.on:
			d.remove(c, k.spec.name)
			if k.spec.kind == kindTicker { // nobody looks at the queues any more: no figures are better than old ones
				d.env.report(c, messages.QueuesSeen{Database: p.Name, At: time.Now()})
			}
		case d.up && d.mayRun(tickerUnit):
			d.replace(c, k.spec)
		default:
			d.adopt(k.spec)
		}
	}
	d.adjustConsumers(c, old.Consumers)
	d.adjustNodes(c, old.Nodes)
	d.adjustLease(c, old.Lease)
	if old.CheckPeriod != p.CheckPeriod {
		d.check(c)
	}
}

// adjustLease brings the leases to new settings and units.
func (d *Database) adjustLease(c actor.Context, old LeaseParams) {
	if !d.up {
		return
	}
	switch {
	case d.p.Lease.TTL <= 0:
		d.remove(c, kindLease)
		clear(d.leases)
	case old.Key != d.p.Lease.Key:
		d.remove(c, kindLease)
		clear(d.leases)
		d.check(c) // starts the keeper when the last one is gone
	default:
		d.wantUnits(c)
	}
	d.startChildren(c)
}

// adjustConsumers ends the consumers that are not wanted any more and starts the new and the changed ones.
func (d *Database) adjustConsumers(c actor.Context, old []ConsumerParams) {
	for _, o := range old {
		if !slices.ContainsFunc(d.p.Consumers, func(p ConsumerParams) bool { return p.actorName() == o.actorName() }) {
			d.remove(c, o.actorName())
			d.env.report(c, messages.ConsumerGone{Database: d.p.Name, Queue: o.Queue, Consumer: o.Name})
		}
	}
	for _, p := range d.p.Consumers {
		switch {
		case slices.ContainsFunc(old, func(o ConsumerParams) bool { return sameConsumer(o, p) }):
		case d.up && (p.Workers > 1 || d.mayRun(p.actorName())):
			d.replace(c, d.consumerSpec(p))
		default:
			d.adopt(d.consumerSpec(p))
		}
	}
}

// adjustNodes does the same for cascade nodes.
func (d *Database) adjustNodes(c actor.Context, old []NodeParams) {
	for _, o := range old {
		if !slices.ContainsFunc(d.p.Nodes, func(p NodeParams) bool { return p.Queue == o.Queue }) {
			d.remove(c, o.actorName())
			d.env.report(c, messages.NodeGone{Database: d.p.Name, Queue: o.Queue})
		}
	}
	for _, p := range d.p.Nodes {
		switch {
		case slices.ContainsFunc(old, func(o NodeParams) bool { return sameNode(o, p) }):
		case d.up && d.mayRun(p.actorName()):
			d.replace(c, d.nodeSpec(p))
		default:
			d.adopt(d.nodeSpec(p))
		}
	}
}

// tickerSpec describes the ticker.
func (d *Database) tickerSpec() childSpec {
	handle, p := d.handle, d.p
	return childSpec{
		name: kindTicker, kind: kindTicker, database: p.Name, optional: p.Optional,
		props: func(env Env) *actor.Props { return tickerProps(env, p.Name, p.Ticker, handle) },
	}
}

// maintainerSpec describes the maintainer.
func (d *Database) maintainerSpec() childSpec {
	handle, p := d.handle, d.p
	return childSpec{
		name: kindMaintainer, kind: kindMaintainer, database: p.Name, optional: p.Optional,
		props: func(env Env) *actor.Props { return maintainerProps(env, p.Name, p.Maintainer, handle) },
	}
}
