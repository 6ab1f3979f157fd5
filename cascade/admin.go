package cascade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Errors of administration; matched with errors.Is.
var (
	// ErrUnreachable: a node that the operation needs does not answer.
	ErrUnreachable = errors.New("node does not answer")
	// ErrNoRoot: no member that answers is the root.
	ErrNoRoot = errors.New("the cascade has no root that answers")
	// ErrRefused: a condition of the operation does not hold; nothing was changed.
	ErrRefused = errors.New("refused")
	// ErrNotConfirmed: the consumer did not confirm in time that it has seen a change.
	ErrNotConfirmed = errors.New("not confirmed")
)

// refuse says which condition does not hold.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Admin administers the cascade of one queue, from the database of one of its nodes. It holds no state of the cascade:
// every operation reads the nodes anew. It keeps connections and is not safe for concurrent use.
type Admin struct {
	queue    string
	self     *pgq.DB
	connect  Opener
	patience time.Duration
	assumed  []string
	revived  []string
	moved    map[string]string

	mu   sync.Mutex
	open map[string]*pgq.DB // by location
}

// AdminOptions are the settings of NewAdmin; the zero value is fine.
type AdminOptions struct {
	// Patience limits how long one node may take to connect and to tell its state. Defaults to 5 s.
	Patience time.Duration
	// Dead names members that are taken for dead without asking them, beside those tagged so.
	Dead []string
	// Alive names members that are asked although they are tagged dead.
	Alive []string
	// Locations are where members are asked instead of their registered location.
	Locations map[string]string
	// Connect opens nodes by their location. Defaults to Dial(Patience).
	Connect Opener
}

// NewAdmin makes an Admin for the cascade of a queue; self is the database that it starts from.
func NewAdmin(self *pgq.DB, queue string, o AdminOptions) *Admin {
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	if o.Connect == nil {
		o.Connect = Dial(o.Patience)
	}
	return &Admin{queue: queue, self: self, connect: o.Connect, patience: o.Patience, assumed: o.Dead, revived: o.Alive, moved: o.Locations, open: map[string]*pgq.DB{}}
}

// Close ends the connections that the Admin made.
func (a *Admin) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, db := range a.open {
		db.Close()
	}
	clear(a.open)
}

// at opens the database at a location, once.
func (a *Admin) at(ctx context.Context, location string) (*pgq.DB, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if db := a.open[location]; db != nil {
		return db, nil
	}
	db, err := a.connect(ctx, location)
	if err == nil {
		a.open[location] = db
	}
	return db, err
}

// node opens the database of a node of the topology; the node answered when the topology was read.
func (a *Admin) node(ctx context.Context, n *Node) (*pgq.DB, error) {
	if n.self {
		return a.self, nil
	}
	if err := n.reachable(); err != nil {
		return nil, err
	}
	return a.at(ctx, n.location)
}

// ask surveys one member within the patience.
func (a *Admin) ask(ctx context.Context, s *site, db *pgq.DB) {
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	if db == nil {
		if db, s.err = a.at(ctx, s.location); s.err != nil {
			return
		}
	}
	s.err = survey(ctx, db, a.queue, s)
}

// Topology reads the whole cascade: this database, and in parallel all members it knows, and all that those know. What
// does not answer within the patience is in the result as unreachable. It fails only when this database does not answer.
// A database that is no node gives a topology without nodes.
func (a *Admin) Topology(ctx context.Context) (*Topology, error) {
	first := &site{}
	if err := survey(ctx, a.self, a.queue, first); err != nil {
		return nil, fmt.Errorf("read the node of queue %s: %w", a.queue, err)
	}
	first.name = first.info.Name
	var sites []*site
	if !first.missing {
		sites = append(sites, first)
	}
	known := map[string]bool{first.name: true}
	for wave := first.locations; len(wave) > 0; {
		var asked []*site
		for _, l := range wave {
			if l.Node == first.name && first.location == "" {
				first.location = l.Location
			}
			if !known[l.Node] {
				known[l.Node] = true
				s := &site{name: l.Node, location: l.Location, dead: l.Dead && !slices.Contains(a.revived, l.Node) || slices.Contains(a.assumed, l.Node)}
				if moved, ok := a.moved[l.Node]; ok {
					s.location = moved
				}
				asked = append(asked, s)
			}
		}
		a.askAll(ctx, asked)
		wave = nil
		for _, s := range asked {
			wave = append(wave, s.locations...)
		}
		sites = append(sites, asked...)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return assemble(a.queue, first.name, sites), nil
}

// askAll surveys members in parallel; dead ones are left alone.
func (a *Admin) askAll(ctx context.Context, sites []*site) {
	var all sync.WaitGroup
	for _, s := range sites {
		if !s.dead {
			all.Go(func() { a.ask(ctx, s, nil) })
		}
	}
	all.Wait()
}
