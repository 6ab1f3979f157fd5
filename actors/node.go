package actors

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/messages"
)

// NodeSource is the worker of one cascade node.
type NodeSource interface {
	classifier
	// Step does one thing, or waits a moment for something to do.
	Step(ctx context.Context) (cascade.Pass, error)
	// Attend answers, within a moment, those who changed the flags of the node; changed: there was something to see.
	Attend(ctx context.Context) (s cascade.WorkerState, changed bool, err error)
	// Close gives back what it holds; no call is under way.
	Close()
}

// NodeParams describes the cascade node of one queue.
type NodeParams struct {
	// Key stands for everything that the node's worker depends on: with another key it starts anew.
	Key string
	// Queue and Name are the queue and the node.
	Queue string
	Name  string
	// Open makes the worker without I/O. The lease is the unit and the epoch under which it works; the epoch is 0 without
	// leases.
	Open func(unit string, epoch int64) (NodeSource, error)
	// Keep makes what looks after the operations of the node, without I/O. Nil: nobody does.
	Keep func() (NodeKeeper, error)

	epoch int64
}

// actorName is the place of the node below its database; queue names may hold anything.
func (p NodeParams) actorName() string { return kindNode + "/" + url.PathEscape(p.Queue) }

// Node is the cascade node of one queue: it keeps its worker alive.
type Node struct {
	children
	db    string
	p     NodeParams
	state reporter
}

// nodeProps builds the actor of one node.
func nodeProps(env Env, db string, p NodeParams) *actor.Props {
	return newProps(env, kindNode, func() actor.Actor {
		return &Node{children: children{env: env}, db: db, p: p, state: reporter{env: env, kind: kindNode, database: db}}
	})
}

// Receive implements actor.Actor.
func (n *Node) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		db, p := n.db, n.p
		n.ensure(c, childSpec{
			name: kindWorker, kind: kindWorker, database: db,
			props: func(env Env) *actor.Props { return nodeWorkerProps(env, db, p) },
		})
		if p.Keep != nil {
			n.ensure(c, childSpec{
				name: kindKeeper, kind: kindKeeper, database: db,
				props: func(env Env) *actor.Props { return keeperProps(env, db, p) },
			})
		}
		n.state.set(c, messages.Running, "node "+n.p.Name, nil, time.Time{})
	case *actor.Stopping, *actor.Restarting:
		n.halt()
	case messages.ReportStatus:
		n.state.repeat(c)
		n.repeat(c)
	case messages.DatabaseTroubled:
		c.Send(c.Parent(), m)
	default:
		n.receive(c)
	}
}

const (
	// sayNode is the shortest time between two reports of figures.
	sayNode = 500 * time.Millisecond
	// nodePermanentPause is the pause after an error that only a human can cure: short, because the cure of most is a
	// command that somebody runs right now.
	nodePermanentPause = 5 * time.Second
	// attendPause is the pause after a look at the flags that failed itself.
	attendPause = 500 * time.Millisecond
)

// NodeWorker steps the worker of a node. While it waits after a failure, it goes on answering those who change the
// node's flags, and tries again at once when they did.
type NodeWorker struct {
	env     Env
	p       NodeParams
	state   reporter
	src     NodeSource
	work    worker
	clock   timers
	fails   int
	retryAt time.Time
	seen    messages.NodeSeen
	said    time.Time
}

// attended is the result of a look at the flags.
type attended struct {
	state   cascade.WorkerState
	changed bool
}

// nodeWorkerProps builds the worker of a node.
func nodeWorkerProps(env Env, db string, p NodeParams) *actor.Props {
	return newProps(env, kindWorker, func() actor.Actor {
		return &NodeWorker{
			env: env, p: p, state: reporter{env: env, kind: kindWorker, database: db},
			seen: messages.NodeSeen{Database: db, Queue: p.Queue, Node: p.Name},
		}
	})
}

// Receive implements actor.Actor.
func (w *NodeWorker) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		src, err := w.p.Open(w.p.actorName(), w.p.epoch)
		if err != nil {
			panic(fmt.Errorf("open the worker of node %s of queue %s: %w", w.p.Name, w.p.Queue, err))
		}
		w.src = src
		w.step(c)
	case *actor.Stopping, *actor.Restarting:
		w.clock.stop()
		if !w.work.halt(haltGrace) {
			w.env.Log.Warn("worker did not stop in time", w.about()...)
		}
	case *actor.Stopped:
		if w.src != nil && !closeWithin(haltGrace, w.src.Close) {
			w.env.Log.Warn("connections did not close in time", w.about()...)
		}
	case messages.ReportStatus:
		w.state.repeat(c)
		w.tell(c)
	case wake:
		if w.clock.fired(m) {
			w.waited(c)
		}
	case done[cascade.Pass]:
		if finish(&w.work, m) {
			w.stepped(c, m.val, m.err)
		}
	case done[attended]:
		if finish(&w.work, m) {
			w.attended(c, m.val, m.err)
		}
	}
}

// step begins the next step.
func (w *NodeWorker) step(c actor.Context) {
	_ = start(&w.work, c, w.env.Context, w.src.Step)
}

// attend looks at the flags while the worker waits.
func (w *NodeWorker) attend(c actor.Context) {
	src := w.src
	_ = start(&w.work, c, w.env.Context, func(ctx context.Context) (attended, error) {
		s, changed, err := src.Attend(ctx)
		return attended{state: s, changed: changed}, err
	})
}

// stepped handles the outcome of a step.
func (w *NodeWorker) stepped(c actor.Context, p cascade.Pass, err error) {
	w.look(p.State)
	if err != nil {
		w.failed(c, err)
		return
	}
	w.seen.Did, w.seen.Error = string(p.Did), ""
	w.seen.Top = max(p.Top, w.seen.Top)
	switch p.Did {
	case cascade.DidBatch, cascade.DidFinish:
		if p.Did == cascade.DidBatch {
			w.seen.Batches++
			w.seen.Events += int64(p.Events)
			w.seen.Skipped += int64(p.Skipped)
			addDuration(&w.seen.Duration, p.Took)
		}
		if p.Tick > 0 {
			w.seen.Completed, w.seen.Behind = max(w.seen.Completed, p.Tick), p.TickTime
		}
	case cascade.DidNothing, cascade.DidChores:
		w.seen.Behind = time.Time{}
	case cascade.DidPause:
		w.fallBehind()
	}
	if w.fails > 0 {
		w.env.Log.Info("node works again", w.about("fails", w.fails)...)
	}
	w.fails = 0
	w.state.set(c, messages.Running, w.note(p), nil, time.Time{})
	w.say(c)
	w.step(c)
}

// note says for people what the worker does.
func (w *NodeWorker) note(p cascade.Pass) string {
	switch {
	case p.Did == cascade.DidPause:
		return "paused"
	case p.State.Type == cascade.Root:
		return "root"
	case p.Did == cascade.DidWait:
		return string(p.State.Type) + ", waits for the combined queue"
	}
	return string(p.State.Type) + ", reads from " + p.State.Provider
}

// look takes over what is known of the node.
func (w *NodeWorker) look(s cascade.WorkerState) {
	if s.Type == "" {
		return
	}
	if was := w.seen.Type; was != "" && was != string(s.Type) || w.seen.Provider != "" && w.seen.Provider != s.Provider {
		w.env.Log.Info("node changed", w.about("type", s.Type, "provider", s.Provider, "tick", s.Completed)...)
	}
	w.seen.Type, w.seen.Provider, w.seen.Worker = string(s.Type), s.Provider, s.Worker
	w.seen.Paused, w.seen.Uptodate = s.Paused, s.Uptodate
	w.seen.Completed, w.seen.Top = s.Completed, s.Top
	w.seen.GlobalWatermark, w.seen.LocalWatermark = s.GlobalWatermark, s.LocalWatermark
	if s.Type == cascade.Root {
		w.seen.Completed = s.Top
	}
}

// fallBehind lets the lag grow from now on, when it was none.
func (w *NodeWorker) fallBehind() {
	if w.seen.Behind.IsZero() && w.seen.Type != string(cascade.Root) {
		w.seen.Behind = time.Now()
	}
}

// attended handles the outcome of a look at the flags.
func (w *NodeWorker) attended(c actor.Context, a attended, err error) {
	switch {
	case err != nil:
		w.clock.arm(c, "attend", min(attendPause, max(time.Until(w.retryAt), time.Millisecond)))
	case a.changed, time.Now().After(w.retryAt):
		w.look(a.state)
		w.say(c)
		w.step(c)
	default:
		w.attend(c)
	}
}

// waited goes on after a pause.
func (w *NodeWorker) waited(c actor.Context) {
	if time.Now().Before(w.retryAt) {
		w.attend(c)
		return
	}
	w.step(c)
}

// failed waits a growing while after a failure, attentively.
func (w *NodeWorker) failed(c actor.Context, err error) {
	now, t := time.Now(), w.src.Classify(err)
	limit := pauseLimit
	if t.Outage {
		limit = reconnectLimit
	}
	state, delay := messages.Backoff, fullJitter(pauseBase, limit, w.fails)
	if t.Permanent {
		state, delay = messages.Failed, nodePermanentPause/2+fullJitter(nodePermanentPause/2, nodePermanentPause/2, 0)
	}
	w.fails++
	w.seen.Failed++
	w.seen.Error = err.Error()
	w.fallBehind()
	if loud(w.fails) {
		w.env.Log.Warn("node failed, trying again", w.about("err", err, "fails", w.fails, "delay", delay.Round(time.Millisecond))...)
	}
	if t.Outage {
		c.Send(c.Parent(), messages.DatabaseTroubled{Actor: treePath(c.Self()), Err: err})
	}
	w.retryAt = now.Add(delay)
	w.state.set(c, state, "", err, w.retryAt)
	w.tell(c)
	w.clock.arm(c, "attend", min(attendPause, delay))
}

// about is what every log line says.
func (w *NodeWorker) about(more ...any) []any {
	return append([]any{"db", w.seen.Database, "queue", w.p.Queue, "node", w.p.Name}, more...)
}

// say sends the figures, not too often.
func (w *NodeWorker) say(c actor.Context) {
	if time.Since(w.said) >= sayNode {
		w.tell(c)
	}
}

// tell sends the figures.
func (w *NodeWorker) tell(c actor.Context) {
	w.said = time.Now()
	w.seen.At, w.seen.Fails = w.said, w.fails
	w.env.report(c, w.seen)
	w.seen.Batches, w.seen.Events, w.seen.Skipped, w.seen.Failed = 0, 0, 0, 0
	w.seen.Duration = messages.Histogram{}
}

// nodes are the cascade nodes as status keeps them.
type nodes map[[2]string]*messages.NodeStatus

// note adds up what a worker did.
func (n nodes) note(m messages.NodeSeen) {
	key := [2]string{m.Database, m.Queue}
	e := n[key]
	if e == nil {
		e = &messages.NodeStatus{Database: m.Database, Queue: m.Queue}
		n[key] = e
	}
	e.Node, e.Type, e.Provider, e.Worker = m.Node, m.Type, m.Provider, m.Worker
	e.Paused, e.Uptodate, e.Did, e.Behind, e.Seen = m.Paused, m.Uptodate, m.Did, m.Behind, m.At
	e.Completed, e.Top, e.GlobalWatermark, e.LocalWatermark = m.Completed, m.Top, m.GlobalWatermark, m.LocalWatermark
	e.Fails, e.LastError = m.Fails, m.Error
	e.Batches += m.Batches
	e.Events += m.Events
	e.Skipped += m.Skipped
	e.Failed += m.Failed
	addHistogram(&e.Duration, m.Duration)
}

// noteSwitchovers takes over what the journal says, once the node is known.
func (n nodes) noteSwitchovers(m messages.SwitchoversSeen) {
	if e := n[[2]string{m.Database, m.Queue}]; e != nil {
		e.Switchovers = m.Switchovers
	}
}

// forget drops a node, or with an empty queue all of a database.
func (n nodes) forget(database, queue string) {
	for key := range n {
		if key[0] == database && (queue == "" || key[1] == queue) {
			delete(n, key)
		}
	}
}

// list copies the nodes, with their lag as of now.
func (n nodes) list(now time.Time) []messages.NodeStatus {
	var list []messages.NodeStatus
	for _, e := range n {
		s := *e
		if !s.Behind.IsZero() {
			s.LagSeconds = max(now.Sub(s.Behind).Seconds(), 0)
		}
		list = append(list, s)
	}
	slices.SortFunc(list, compareNodes)
	return list
}

// compareNodes orders nodes by database and queue.
func compareNodes(a, b messages.NodeStatus) int {
	return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Queue, b.Queue))
}
