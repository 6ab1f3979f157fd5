package actors

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/walarchive"
)

// ArchiveHandle is the archive of one cluster as its actors see it. Safe for concurrent use.
type ArchiveHandle interface {
	// Push archives a file; it says nil only when the file is durable in the repository.
	Push(ctx context.Context, path string) (walarchive.Pushed, error)
	// Fetch brings a file back.
	Fetch(ctx context.Context, q walarchive.FetchRequest) (exit int, err error)
	// FetchAhead fetches what servers in recovery will ask for next, until ctx is cancelled.
	FetchAhead(ctx context.Context) error
	// Close gives the storage back.
	Close() error
}

// ArchiveParams describes the archive of one cluster.
type ArchiveParams struct {
	// Source is the configured name.
	Source string
	// Key, ReceiveKey and BackupKey stand for everything that the archive, receiving and backups depend on: parameters with
	// the same key are the same.
	Key, ReceiveKey, BackupKey string
	// PGData is the data directory of the cluster.
	PGData string
	// Workers is how many files are stored at the same time.
	Workers int
	// Open opens the repository.
	Open func(ctx context.Context) (ArchiveHandle, error)
	// Listen opens the socket of push and fetch.
	Listen func(ctx context.Context) (net.Listener, error)
	// LookPeriod is the time between two looks at what waits, when nobody pushes.
	LookPeriod time.Duration
	// PushTimeout limits one push.
	PushTimeout time.Duration
	// Receive receives WAL until the connection or ctx ends, and tells how far it is, from several goroutines. nil: this
	// daemon receives none.
	Receive func(ctx context.Context, h ArchiveHandle, tell func(walarchive.ReceiverStatus)) error
	// KeepBackups makes a base backup if one is due, and lets the old ones go. nil: nobody asked for it.
	KeepBackups func(ctx context.Context, h ArchiveHandle) (BackupKept, error)
	// Chores are done again and again.
	Chores []ArchiveChore
}

// choreKey stands for all chores.
func (p ArchiveParams) choreKey() string {
	var text strings.Builder
	for _, k := range p.Chores {
		fmt.Fprintf(&text, "%s %s %s\n", k.Name, k.Period, k.Key)
	}
	return text.String()
}

// Delays between two attempts to open a repository.
const (
	archiveBase  = 200 * time.Millisecond
	archiveLimit = 10 * time.Second
)

// WALCluster owns the archive of one cluster. While its repository cannot be opened it has no children: without the gate
// clients do the work themselves, and say why it fails.
type WALCluster struct {
	children
	p      ArchiveParams
	state  reporter
	open   worker
	clock  timers
	handle ArchiveHandle
	fails  int
}

// walClusterProps builds the actor of one archive.
func walClusterProps(env Env, p ArchiveParams) *actor.Props {
	return newProps(env, kindWAL, func() actor.Actor {
		return &WALCluster{children: children{env: env}, p: p, state: reporter{env: env, kind: kindWAL}}
	})
}

// Receive implements actor.Actor.
func (w *WALCluster) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		w.state.set(c, messages.Starting, "opening the repository", nil, time.Time{})
		w.begin(c)
	case *actor.Stopping, *actor.Restarting:
		w.halt()
		w.clock.stop()
		w.open.halt(haltGrace)
	case *actor.Stopped:
		if w.handle != nil && !closeWithin(haltGrace, func() { _ = w.handle.Close() }) {
			w.env.Log.Warn("the storage did not close in time", "source", w.p.Source)
		}
	case messages.ReportStatus:
		w.state.repeat(c)
		w.repeat(c)
	case done[ArchiveHandle]:
		w.opened(c, m)
	case adjustArchive:
		w.adjusted(c, m.params)
	default:
		if k, ok := c.Message().(wake); ok && w.clock.fired(k) {
			w.begin(c)
			return
		}
		w.receive(c)
	}
}

// begin opens the repository.
func (w *WALCluster) begin(c actor.Context) {
	if err := start(&w.open, c, w.env.Context, w.p.Open); err != nil {
		panic(err) // one attempt at a time
	}
}

// opened has the repository, or tries again later.
func (w *WALCluster) opened(c actor.Context, d done[ArchiveHandle]) {
	if !finish(&w.open, d) {
		if d.err == nil {
			_ = d.val.Close() // of an attempt that nobody waits for any more
		}
		return
	}
	if d.err != nil {
		delay := fullJitter(archiveBase, archiveLimit, w.fails)
		w.fails++
		w.state.set(c, messages.Backoff, "the repository cannot be opened", d.err, time.Now().Add(delay))
		w.clock.arm(c, "open", delay)
		return
	}
	w.handle, w.fails = d.val, 0
	w.state.set(c, messages.Running, "", nil, time.Time{})
	p, handle := w.p, w.handle
	w.ensure(c, childSpec{name: kindShipper, kind: kindShipper, props: func(env Env) *actor.Props { return shipperProps(env, p, handle) }})
	shipper := actor.NewPID(c.Self().GetAddress(), c.Self().GetId()+"/"+kindShipper)
	w.ensure(c, childSpec{name: kindPrefetcher, kind: kindPrefetcher, props: func(env Env) *actor.Props { return prefetcherProps(env, handle) }})
	w.ensure(c, childSpec{name: kindGate, kind: kindGate, props: func(env Env) *actor.Props { return gateProps(env, p, handle, shipper) }})
	if p.Receive != nil {
		w.ensure(c, w.receiverSpec())
	}
	if p.KeepBackups != nil {
		w.ensure(c, w.backupSpec())
	}
	for _, k := range p.Chores {
		w.ensure(c, w.choreSpec(k))
	}
}

// choreSpec describes the actor of a chore.
func (w *WALCluster) choreSpec(k ArchiveChore) childSpec {
	handle := w.handle
	return childSpec{name: k.Name, kind: k.Name, props: func(env Env) *actor.Props { return choreProps(env, k, handle) }}
}

// adjustChores ends the chores that are not wanted any more and replaces those that changed.
func (w *WALCluster) adjustChores(c actor.Context, old []ArchiveChore) {
	was := map[string]ArchiveChore{}
	for _, k := range old {
		was[k.Name] = k
	}
	for _, k := range w.p.Chores {
		before, there := was[k.Name]
		delete(was, k.Name)
		switch {
		case !there:
			w.ensure(c, w.choreSpec(k))
		case before.Key != k.Key || before.Period != k.Period:
			w.replace(c, w.choreSpec(k))
		}
	}
	for name := range was {
		w.remove(c, name)
	}
}

// receiverSpec describes the receiver.
func (w *WALCluster) receiverSpec() childSpec {
	p, handle := w.p, w.handle
	return childSpec{name: kindReceiver, kind: kindReceiver, props: func(env Env) *actor.Props { return receiverProps(env, p, handle) }}
}

// backupSpec describes the keeper of backups.
func (w *WALCluster) backupSpec() childSpec {
	p, handle := w.p, w.handle
	return childSpec{name: kindBackup, kind: kindBackup, props: func(env Env) *actor.Props { return backupProps(env, p, handle) }}
}

// adjusted takes new settings of receiving and backups; the repository is the same.
func (w *WALCluster) adjusted(c actor.Context, p ArchiveParams) {
	old := w.p
	w.p = p
	if w.handle == nil || w.halted {
		return // those who begin later begin with the new settings
	}
	for _, k := range []struct {
		spec    childSpec
		on      bool
		changed bool
	}{
		{w.receiverSpec(), p.Receive != nil, old.ReceiveKey != p.ReceiveKey},
		{w.backupSpec(), p.KeepBackups != nil, old.BackupKey != p.BackupKey},
	} {
		switch {
		case !k.changed:
		case !k.on:
			w.remove(c, k.spec.name)
		default:
			w.replace(c, k.spec)
		}
	}
	w.adjustChores(c, old.Chores)
}

// Gate listens for the small client of push and fetch.
type Gate struct {
	env     Env
	p       ArchiveParams
	state   reporter
	serving worker
	handle  ArchiveHandle
	shipper *actor.PID
}

// gateProps builds the gate of an archive.
func gateProps(env Env, p ArchiveParams, handle ArchiveHandle, shipper *actor.PID) *actor.Props {
	return newProps(env, kindGate, func() actor.Actor {
		return &Gate{env: env, p: p, handle: handle, shipper: shipper, state: reporter{env: env, kind: kindGate}}
	})
}

// gateEnded is the result of serving: it only ends when it fails.
type gateEnded struct{}

// Receive implements actor.Actor.
func (g *Gate) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		g.serve(c)
		g.state.set(c, messages.Running, "", nil, time.Time{})
	case *actor.Stopping, *actor.Restarting:
		g.serving.halt(haltGrace)
	case messages.ReportStatus:
		g.state.repeat(c)
	case done[gateEnded]:
		if finish(&g.serving, m) && m.err != nil {
			panic(m.err) // the parent brings it back after a while
		}
	}
}

// serve answers clients until the actor stops.
func (g *Gate) serve(c actor.Context) {
	root, shipper, p := c.ActorSystem().Root, g.shipper, g.p
	handler := gateHandler{fetch: g.handle.Fetch, push: func(q pushFile) { root.Send(shipper, q) }}
	err := start(&g.serving, c, g.env.Context, func(ctx context.Context) (gateEnded, error) {
		l, err := p.Listen(ctx)
		if err != nil {
			return gateEnded{}, err
		}
		gate := walarchive.Gate{Source: p.Source, PGData: p.PGData, Handler: handler}
		return gateEnded{}, gate.Serve(ctx, l)
	})
	if err != nil {
		panic(err)
	}
}

// gateHandler passes the wishes of clients on.
type gateHandler struct {
	push  func(pushFile)
	fetch func(context.Context, walarchive.FetchRequest) (int, error)
}

// PushFile implements walarchive.GateHandler: the shipper may have stored the file already.
func (h gateHandler) PushFile(ctx context.Context, name string) error {
	reply := make(chan error, 1)
	again := time.NewTicker(askShipperAgain)
	defer again.Stop()
	for {
		h.push(pushFile{name: name, reply: reply})
		select {
		case err := <-reply:
			return err
		case <-again.C: // the shipper may have been replaced: the question is lost
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// askShipperAgain is how often a question to the shipper is put again.
const askShipperAgain = 5 * time.Second

// FetchFile implements walarchive.GateHandler.
func (h gateHandler) FetchFile(ctx context.Context, q walarchive.FetchRequest) (int, error) {
	return h.fetch(ctx, q)
}

// Prefetcher keeps the fetching ahead alive; what it fetches is handed out by the archive's Fetch.
type Prefetcher struct {
	state  reporter
	env    Env
	work   worker
	handle ArchiveHandle
}

// prefetcherProps builds the prefetcher of an archive.
func prefetcherProps(env Env, handle ArchiveHandle) *actor.Props {
	return newProps(env, kindPrefetcher, func() actor.Actor {
		return &Prefetcher{env: env, handle: handle, state: reporter{env: env, kind: kindPrefetcher}}
	})
}

// Receive implements actor.Actor.
func (p *Prefetcher) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		handle := p.handle
		err := start(&p.work, c, p.env.Context, func(ctx context.Context) (gateEnded, error) { return gateEnded{}, handle.FetchAhead(ctx) })
		if err != nil {
			panic(err)
		}
		p.state.set(c, messages.Running, "", nil, time.Time{})
	case *actor.Stopping, *actor.Restarting:
		p.work.halt(haltGrace)
	case messages.ReportStatus:
		p.state.repeat(c)
	case done[gateEnded]:
		if finish(&p.work, m) && m.err != nil {
			panic(m.err)
		}
	}
}
