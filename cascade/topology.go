package cascade

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skytools/skyd/pgq"
)

// NodeState is what is known about a member at the moment.
type NodeState string

// The states of a member.
const (
	Alive       NodeState = "ok"
	Dead        NodeState = "dead"        // tagged dead; it was not asked
	Unreachable NodeState = "unreachable" // it did not answer in time
	Missing     NodeState = "missing"     // the database answered and has no node of the queue, or another one
)

// Topology is a cascade at one moment, as its nodes tell it themselves.
type Topology struct {
	Queue string `json:"queue"`
	// Local is the node of the database that was asked first.
	Local string `json:"local_node"`
	// Roots are the nodes that are root: one when all is well.
	Roots []string `json:"roots"`
	// Nodes are the members by name.
	Nodes []*Node `json:"nodes"`
	// Holder says who keeps all nodes from forgetting events.
	Holder *Holder `json:"watermark_holder,omitempty"`
	// Operation is what changes, or left half changed, who is root.
	Operation *OpenOperation `json:"operation,omitempty"`

	own string // id of the operation that is ours
	// Problems are what is not as it should be, for people.
	Problems []string `json:"problems"`
	// Advice is what to run about it, where Advise was asked.
	Advice []Advice `json:"advice,omitempty"`
}

// Node is one member of the cascade.
type Node struct {
	Name  string    `json:"node"`
	Type  NodeType  `json:"type,omitempty"`
	State NodeState `json:"state"`
	// Error says why the node did not answer.
	Error string `json:"error,omitempty"`
	// Address is the location without its secrets.
	Address string `json:"location"`
	// Service is the libpq service of the location, if it has one.
	Service  string `json:"service,omitempty"`
	Provider string `json:"provider,omitempty"`
	Worker   string `json:"worker,omitempty"`
	Paused   bool   `json:"paused"`
	Uptodate bool   `json:"uptodate"`
	// LastTick is the position of the worker; of a root its newest tick.
	LastTick int64 `json:"last_tick"`
	// Lag is what the node has not got yet from its provider; nil for a root, and when one of the two did not answer.
	Lag *Lag `json:"lag,omitempty"`
	// LagSeconds is the age, by the root's clock, of the tick at which the worker stands; of a root the age of its newest tick.
	LagSeconds      *float64          `json:"lag_seconds,omitempty"`
	GlobalWatermark int64             `json:"global_watermark,omitempty"`
	LocalWatermark  int64             `json:"local_watermark,omitempty"`
	Queue           *QueueState       `json:"queue_state,omitempty"`
	Term            *Term             `json:"term,omitempty"`
	Consumers       []NodeConsumer    `json:"consumers,omitempty"`
	Attrs           map[string]string `json:"attributes,omitempty"`
	CombinedQueue   string            `json:"combined_queue,omitempty"`
	CombinedType    NodeType          `json:"combined_type,omitempty"`
	TargetFor       []string          `json:"target_for,omitempty"`
	// Children are the nodes that read from this one, sorted.
	Children []string `json:"children,omitempty"`

	location string
	self     bool
	site     *site
}

// Lag is the distance between a provider and its subscriber.
type Lag struct {
	Ticks  int64 `json:"ticks"`
	Events int64 `json:"events"`
	// Seconds lie between the provider's newest tick and the one at which the subscriber stands.
	Seconds float64 `json:"seconds"`
}

// QueueState is the queue of a root or branch.
type QueueState struct {
	// Closed: ordinary sessions cannot insert.
	Closed         bool    `json:"closed"`
	ExternalTicker bool    `json:"external_ticker"`
	TickerPaused   bool    `json:"ticker_paused"`
	TopTick        int64   `json:"top_tick"`
	FirstTick      int64   `json:"first_tick"`
	TickerLag      float64 `json:"ticker_lag_seconds"`
	// KeptSeconds is the time between the oldest tick that is kept and now; KeptBytes the size of the event tables.
	KeptSeconds    float64 `json:"kept_seconds"`
	KeptBytes      int64   `json:"kept_bytes"`
	RotationPeriod float64 `json:"rotation_period_seconds"`
	RotationAge    float64 `json:"rotation_age_seconds"`
}

// NodeConsumer is a cascaded consumer of a node, the worker left out.
type NodeConsumer struct {
	Consumer string `json:"consumer"`
	Provider string `json:"provider"`
	LastTick int64  `json:"last_tick"`
	Lag      *Lag   `json:"lag,omitempty"`
	Paused   bool   `json:"paused"`
	Uptodate bool   `json:"uptodate"`
	Error    string `json:"error,omitempty"`
}

// Holder is the consumer whose position holds the watermark of the whole cascade, and with it the rotation of all nodes.
type Holder struct {
	Node     string `json:"node"`
	Consumer string `json:"consumer"`
	Tick     int64  `json:"tick"`
	// Seconds is the age of the tick; Ticks and Events are what the root has made since, Bytes is what its event tables hold.
	Seconds float64 `json:"seconds"`
	Ticks   int64   `json:"ticks"`
	Events  int64   `json:"events"`
	Bytes   int64   `json:"bytes"`
}

// Node finds a member by name, nil when there is none.
func (t *Topology) Node(name string) *Node {
	i, ok := slices.BinarySearchFunc(t.Nodes, name, func(n *Node, name string) int { return strings.Compare(n.Name, name) })
	if !ok {
		return nil
	}
	return t.Nodes[i]
}

// Names lists the members.
func (t *Topology) Names() []string {
	names := make([]string, len(t.Nodes))
	for i, n := range t.Nodes {
		names[i] = n.Name
	}
	return names
}

// Below tells whether node name reads, directly or through others, from above, as far as the nodes answer.
func (t *Topology) Below(name, above string) bool {
	for range t.Nodes { // a cycle ends with the count
		n := t.Node(name)
		if n == nil || n.Provider == "" || n.Provider == name {
			return false
		}
		if n.Provider == above {
			return true
		}
		name = n.Provider
	}
	return false
}

// reachable is nil for a node that answered.
func (n *Node) reachable() error {
	switch n.State {
	case Alive:
		return nil
	case Dead:
		return fmt.Errorf("%w: %s is tagged dead", ErrUnreachable, n.Name)
	case Missing:
		return fmt.Errorf("%w: the database at the location of %s has no such node", ErrUnreachable, n.Name)
	}
	return fmt.Errorf("%w: %s: %s", ErrUnreachable, n.Name, n.Error)
}

// root finds the root that answers, when there is exactly one.
func (t *Topology) root() (*Node, error) {
	switch len(t.Roots) {
	case 0:
		return nil, fmt.Errorf("%w; known members: %s", ErrNoRoot, strings.Join(t.Names(), ", "))
	case 1:
		return t.Node(t.Roots[0]), nil
	}
	return nil, refuse("the cascade has several roots: %s; skyd node status shows them", strings.Join(t.Roots, ", "))
}

// live are the members that answered.
func (t *Topology) live() []*Node {
	return slices.DeleteFunc(slices.Clone(t.Nodes), func(n *Node) bool { return n.State != Alive })
}

// assemble makes the topology from what the databases said. It knows no clock and no database.
func assemble(queue, local string, sites []*site) *Topology {
	t := &Topology{Queue: queue, Local: local, Roots: []string{}, Problems: []string{}}
	for _, s := range sites {
		n := nodeOf(s)
		n.self = s.name == local
		t.Nodes = append(t.Nodes, n)
	}
	slices.SortFunc(t.Nodes, func(a, b *Node) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range t.Nodes {
		if n.State == Alive && n.Type == Root {
			t.Roots = append(t.Roots, n.Name)
		}
		if o := n.site.operation; o != nil && (t.Operation == nil || o.Started.After(t.Operation.Started)) {
			t.Operation = o
		}
	}
	t.guessProviders()
	for _, n := range t.Nodes {
		if p := t.Node(n.Provider); p != nil && p != n {
			p.Children = append(p.Children, n.Name)
		}
	}
	t.measure()
	t.Holder = t.holder()
	t.judge()
	return t
}

// nodeOf turns what a site said into a member.
func nodeOf(s *site) *Node {
	n := &Node{Name: s.name, State: Alive, Address: pgq.MaskDSN(s.location), location: s.location, site: s}
	n.Service = setting(s.location, "service")
	switch {
	case s.dead:
		n.State = Dead
	case s.err != nil:
		n.State, n.Error = Unreachable, oneLine(s.err.Error())
	case s.missing:
		n.State = Missing
	case s.info.Name != s.name:
		n.State, n.Error, s.missing = Missing, "the node there calls itself "+s.info.Name, true
	}
	if n.State != Alive {
		return n
	}
	i := s.info
	n.Type, n.Provider, n.Worker, n.Paused, n.Uptodate, n.LastTick = i.Type, i.Provider, i.Worker, i.Paused, i.Uptodate, i.LastTick
	n.GlobalWatermark, n.LocalWatermark = i.GlobalWatermark, i.LocalWatermark
	n.CombinedQueue, n.CombinedType, n.TargetFor = i.CombinedQueue, i.CombinedType, i.TargetFor
	if n.Attrs = ParseAttrs(i.Attrs); len(n.Attrs) == 0 {
		n.Attrs = nil
	}
	n.Term = s.term
	for _, c := range s.consumers {
		n.Consumers = append(n.Consumers, NodeConsumer{
			Consumer: c.Consumer, Provider: c.Provider, LastTick: c.LastTick, Paused: c.Paused, Uptodate: c.Uptodate, Error: c.Error,
		})
	}
	if f := s.queue; f != nil {
		n.Queue = &QueueState{
			Closed: f.closed, ExternalTicker: f.external, TickerPaused: f.paused, TopTick: f.top, FirstTick: f.low,
			TickerLag: s.now.Sub(f.topTime).Seconds(), KeptSeconds: s.now.Sub(f.lowTime).Seconds(), KeptBytes: f.bytes,
			RotationPeriod: f.rotation.Seconds(), RotationAge: s.now.Sub(f.rotated).Seconds(),
		}
	}
	return n
}

// guessProviders finds where a node that did not answer reads from: the first that has it as a subscriber. A subscription
// may be left from before the node became the root: nobody reads from a node that reads from it, and the newest term
// names its root.
func (t *Topology) guessProviders() {
	root := t.newestRoot()
	for _, n := range t.Nodes {
		for _, p := range t.Nodes {
			if n.Provider != "" || n.State == Alive || p == n || n.Name == root || t.Below(p.Name, n.Name) {
				continue
			}
			for _, s := range p.site.subscribers {
				if s.Node == n.Name {
					n.Provider, n.Worker = p.Name, s.Worker
				}
			}
		}
	}
}

// newestRoot is the root of the newest term that a node which answers knows; empty when none does.
func (t *Topology) newestRoot() (root string) {
	newest := int64(0)
	for _, n := range t.Nodes {
		if n.State == Alive && n.Term != nil && n.Term.Term > newest {
			newest, root = n.Term.Term, n.Term.Root
		}
	}
	return root
}

// measure fills in the lags.
func (t *Topology) measure() {
	var now time.Time
	if len(t.Roots) == 1 {
		now = t.Node(t.Roots[0]).site.now
	}
	for _, n := range t.Nodes {
		if n.State != Alive {
			continue
		}
		for i := range n.Consumers {
			c := &n.Consumers[i]
			if p := t.Node(c.Provider); p != nil && p != n {
				c.Lag = lagOn(p.site, c.Consumer)
			}
		}
		if n.Type == Root {
			n.LagSeconds = new(n.site.now.Sub(n.site.queue.topTime).Seconds())
			continue
		}
		p := t.Node(n.Provider)
		if p == nil || !p.site.answered() {
			continue
		}
		n.Lag = lagOn(p.site, n.Worker)
		at, ok := p.site.position(n.Worker)
		if ok && !at.since.IsZero() && !now.IsZero() {
			n.LagSeconds = new(max(0, now.Sub(at.since).Seconds()))
		}
	}
}

// lagOn measures how far a consumer is behind the queue it reads; nil when it is not registered there.
func lagOn(p *site, consumer string) *Lag {
	at, ok := p.position(consumer)
	if !ok || p.queue == nil {
		return nil
	}
	l := &Lag{Ticks: at.behind}
	if at.behind > 0 && !at.since.IsZero() {
		l.Events, l.Seconds = max(0, p.queue.topSeq-at.seq), p.queue.topTime.Sub(at.since).Seconds()
	}
	return l
}

// holder goes from the root to the lowest position on each way down.
func (t *Topology) holder() *Holder {
	if len(t.Roots) != 1 {
		return nil
	}
	root := t.Node(t.Roots[0])
	if root.site.queue == nil {
		return nil
	}
	n, h := root, &Holder{Node: root.Name, Consumer: root.Worker, Tick: root.site.queue.top}
	for range t.Nodes {
		low, ok := lowest(n.site)
		if !ok {
			break
		}
		h = &Holder{Node: n.Name, Consumer: low.consumer, Tick: low.tick}
		below := t.Node(subscriberOf(n.site, low.consumer))
		if below == nil {
			break
		}
		h.Node = below.Name
		if below.State != Alive || below.Type == Leaf {
			h.Consumer = below.Worker
			break
		}
		n = below
	}
	f := root.site.queue
	h.Bytes, h.Ticks = f.bytes, max(0, f.top-h.Tick)
	for _, p := range root.site.positions {
		if p.tick <= h.Tick && !p.since.IsZero() { // the nearest tick of which the root tells the time
			h.Seconds, h.Ticks, h.Events = root.site.now.Sub(p.since).Seconds(), p.behind, max(0, f.topSeq-p.seq)
		}
	}
	return h
}

// lowest finds the consumer that stands lowest on the queue here, the published watermark left out.
func lowest(s *site) (low position, ok bool) {
	for _, p := range s.positions {
		if p.consumer != ".global_watermark" && (!ok || p.tick < low.tick || p.tick == low.tick && !strings.HasPrefix(p.consumer, ".")) {
			low, ok = p, true
		}
	}
	return low, ok
}

// subscriberOf is the node to which a consumer of the queue here belongs: as its worker or as its watermark.
func subscriberOf(s *site, consumer string) string {
	for _, sub := range s.subscribers {
		if consumer == sub.Worker || consumer == "."+sub.Node+".watermark" {
			return sub.Node
		}
	}
	return ""
}

// oneLine joins the lines of a text.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
