package cascade

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Creation describes a node to be made in the database of an Admin.
type Creation struct {
	Type NodeType
	Name string
	// Worker is the name of the node's worker. Defaults to NAME_worker.
	Worker string
	// Location is how the other nodes reach this database.
	Location string
	// Provider is a connect string of the node to read from, for branch and leaf.
	Provider string
	// Combined is the queue here that a merge leaf writes into.
	Combined string
	// Attrs are the attributes of the node, see ParseAttrs.
	Attrs map[string]string
	// NoCheck skips the test that Location leads to this database.
	NoCheck bool
}

// validate checks what needs no database.
func (c *Creation) validate() error {
	if c.Worker == "" {
		c.Worker = c.Name + "_worker"
	}
	switch {
	case c.Name == "" || c.Location == "":
		return refuse("a node needs a name and a location")
	case strings.HasPrefix(c.Name, ".") || strings.ContainsAny(c.Name, ", \t\n"):
		return refuse("node name %q: it must not begin with a dot, nor hold commas and blanks", c.Name)
	case c.Type == Root && c.Provider != "":
		return refuse("a root has no provider")
	case c.Type != Root && c.Provider == "":
		return refuse("a %s needs a provider", c.Type)
	case c.Combined != "" && c.Type != Leaf:
		return refuse("only a leaf can merge into another queue, not a %s", c.Type)
	case len(c.Attrs) > 0 && c.Type != Branch:
		return refuse("sync_watermark is for branches, not for a %s", c.Type)
	}
	return CheckLocation(c.Location)
}

// PlanCreate plans a new node. A creation that stopped half way is gone on with; a node that is there needs no steps.
//
// The node is first made in its own database, where nobody else sees it, then announced, and subscribed at its provider
// in the last step: whatever step is the last one done, no other node keeps events for a node that does not exist.
func (a *Admin) PlanCreate(ctx context.Context, c Creation) (*Change, error) {
	shown, err := a.planCreate(ctx, c)
	if err != nil {
		return nil, err
	}
	shown.under(func(ctx context.Context) (context.Context, func(), error) { return a.holdForCreate(ctx, c) },
		func(ctx context.Context) (*Change, *Topology, error) {
			again, err := a.planCreate(ctx, c) // which fails when it does not reach what it needs
			return again, &Topology{}, err
		})
	return shown, nil
}

// holdForCreate locks this database and the members of the cascade that the node comes into.
func (a *Admin) holdForCreate(ctx context.Context, c Creation) (context.Context, func(), error) {
	dbs := []*pgq.DB{a.self}
	if c.Type != Root {
		t, _, err := a.from(ctx, c.Provider)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range t.live() {
			if n.Name == c.Name {
				continue // it is this database
			}
			db, err := a.node(ctx, n)
			if err != nil && !silent(err) {
				return nil, nil, err
			}
			if err == nil {
				dbs = append(dbs, db)
			}
		}
	}
	return a.holdAll(ctx, dbs)
}

func (a *Admin) planCreate(ctx context.Context, c Creation) (*Change, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	var err error
	if c.Location, err = Portable(c.Location); err != nil {
		return nil, err
	}
	there, err := GetNodeInfo(ctx, a.self, a.queue)
	if err != nil && Code(err) != CodeNotFound {
		return nil, err
	}
	exists := err == nil
	if exists && (there.Name != c.Name || there.Type != c.Type || there.CombinedQueue != c.Combined) {
		return nil, refuse("this database is node %s (%s) of queue %s already", there.Name, there.Type, a.queue)
	}
	if exists {
		c.Worker = there.Worker
	}
	plan := &Change{}
	if !c.NoCheck {
		if err := a.sameDatabase(ctx, c.Location); err != nil {
			return nil, err
		}
	}
	if HasPassword(c.Location) {
		plan.note("the location carries a password, which everybody who may read the cascade can see: use a service or a password file")
	}
	if !NamesHost(c.Location) {
		plan.note("the location names no host: it works on this machine only")
	}
	if c.Type == Root {
		return plan, a.planRoot(plan, c, exists)
	}
	return plan, a.planBelow(ctx, plan, c, there, exists)
}

// planRoot plans a root.
func (a *Admin) planRoot(plan *Change, c Creation, exists bool) error {
	if exists {
		return nil
	}
	plan.add(c.Name, "make the root of queue "+a.queue, func(ctx context.Context) error {
		return pgq.Transact(ctx, a.self, func(q pgq.Querier) error {
			if _, err := RegisterLocation(ctx, q, a.queue, Location{Node: c.Name, Location: c.Location}); err != nil {
				return err
			}
			_, err := CreateNode(ctx, q, NewNode{Queue: a.queue, Type: Root, Name: c.Name, Worker: c.Worker})
			return err
		})
	})
	return nil
}

// planBelow plans a branch or leaf.
func (a *Admin) planBelow(ctx context.Context, plan *Change, c Creation, there NodeInfo, exists bool) error {
	t, provider, err := a.from(ctx, c.Provider)
	if err != nil {
		return err
	}
	root, err := t.root()
	if err = errors.Join(err, t.idle()); err != nil {
		return err
	}
	if err := a.checkBelow(ctx, t, provider, c, there, exists); err != nil {
		return err
	}
	for _, name := range strings.Split(c.Attrs[AttrSyncWatermark], ",") {
		if name != "" && t.Node(name) == nil {
			plan.note("sync_watermark names %s, which is no member yet", name)
		}
	}
	if !exists {
		plan.add(c.Name, fmt.Sprintf("make a %s of queue %s that reads from %s", c.Type, a.queue, provider.Name), func(ctx context.Context) error {
			if err := a.heard(ctx, t, provider, c.Name); err != nil {
				return err
			}
			return a.makeBelow(ctx, t, provider, c)
		})
	}
	if known := slices.ContainsFunc(root.site.locations, func(l Location) bool { return l.Node == c.Name && l.Location == c.Location && !l.Dead }); !known {
		plan.add(root.Name, "tell all nodes the location of "+c.Name, a.locate(root, Location{Node: c.Name, Location: c.Location}))
	}
	for _, n := range t.live() {
		stale := n != provider && n.Name != c.Name && slices.ContainsFunc(n.site.subscribers, func(s Subscriber) bool { return s.Node == c.Name })
		if stale {
			plan.add(n.Name, "drop a subscription of "+c.Name+" that an earlier try left", a.unsubscribe(n, c.Name))
		}
	}
	if subscribed := subscriberOf(provider.site, c.Worker) == c.Name; !subscribed || !exists {
		plan.add(provider.Name, "subscribe "+c.Name, func(ctx context.Context) error { return a.subscribe(ctx, t, provider, c, !exists) })
	}
	return nil
}

// from reads the cascade from the database of a provider.
func (a *Admin) from(ctx context.Context, dsn string) (*Topology, *Node, error) {
	db, err := a.at(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	there := &Admin{queue: a.queue, self: db, connect: a.connect, patience: a.patience, assumed: a.assumed, open: a.open}
	t, err := there.Topology(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("provider %s: %w", pgq.MaskDSN(dsn), err)
	}
	n := t.Node(t.Local)
	if n == nil {
		return nil, nil, refuse("the provider %s has no node of queue %s", pgq.MaskDSN(dsn), a.queue)
	}
	n.self = false // it is not this database
	return t, n, nil
}

// checkBelow checks what must hold for a new branch or leaf.
func (a *Admin) checkBelow(ctx context.Context, t *Topology, provider *Node, c Creation, there NodeInfo, exists bool) error {
	member := t.Node(c.Name)
	switch {
	case exists && there.Provider != provider.Name:
		return refuse("node %s exists and reads from %s; move it with: skyd node change-provider", c.Name, there.Provider)
	case provider.Type == Leaf:
		return refuse("%s is a leaf: it has no queue to read from", provider.Name)
	case exists || member == nil || member.State == Missing:
	case member.State == Alive:
		return refuse("the cascade has a node %s already, at %s", c.Name, member.Address)
	case member.location != c.Location:
		return refuse("%s is a member at %s, which does not answer; if it is gone: skyd node drop --node %s", c.Name, member.Address, c.Name)
	}
	if _, taken := provider.site.position(c.Worker); taken && subscriberOf(provider.site, c.Worker) != c.Name {
		return refuse("%s has a consumer %s that is not the worker of %s; choose another name with --worker", provider.Name, c.Worker, c.Name)
	}
	if exists {
		return nil
	}
	if c.Combined != "" {
		i, err := GetNodeInfo(ctx, a.self, c.Combined)
		if err != nil || i.Type == Leaf {
			return refuse("queue %s has no root or branch in this database to merge into", c.Combined)
		}
	}
	if c.Type == Branch {
		if _, err := pgq.GetQueueInfo(ctx, a.self, a.queue); !errors.Is(err, pgq.ErrQueueNotFound) {
			if err != nil {
				return err
			}
			return refuse("this database has a queue %s that belongs to no cascade; drop it before: skyd queue drop %s", a.queue, a.queue)
		}
	}
	return nil
}

// makeBelow makes the node in its own database, standing at the global watermark of its provider. The first tick of a
// branch is the provider's in all fields, and its event numbers go on from there.
func (a *Admin) makeBelow(ctx context.Context, t *Topology, provider *Node, c Creation) error {
	db, err := a.node(ctx, provider)
	if err != nil {
		return err
	}
	first, err := watermarkTick(ctx, db, a.queue)
	if err != nil {
		return err
	}
	return pgq.Transact(ctx, a.self, func(q pgq.Querier) error {
		members := []Location{{Node: c.Name, Location: c.Location}}
		for _, m := range t.Nodes {
			if m.Name != c.Name {
				members = append(members, Location{Node: m.Name, Location: m.location, Dead: m.site.dead})
			}
		}
		for _, m := range members {
			if _, err := RegisterLocation(ctx, q, a.queue, m); err != nil {
				return err
			}
		}
		_, err := CreateNode(ctx, q, NewNode{
			Queue: a.queue, Type: c.Type, Name: c.Name, Worker: c.Worker, Provider: provider.Name, Watermark: first.id, Combined: c.Combined,
		})
		if err == nil && c.Type == Branch {
			err = adoptTick(ctx, q, a.queue, first)
		}
		if err == nil && len(c.Attrs) > 0 {
			_, err = SetNodeAttrs(ctx, q, a.queue, FormatAttrs(c.Attrs))
		}
		return err
	})
}

// firstTick is the tick at which a new branch begins.
type firstTick struct {
	id, seq int64
	at      time.Time
}

// watermarkTick reads the tick at the global watermark.
func watermarkTick(ctx context.Context, q pgq.Querier, queue string) (t firstTick, err error) {
	const read = `
select t.tick_id, t.tick_event_seq, t.tick_time
  from pgq.queue q
  join pgq.subscription s on s.sub_queue = q.queue_id
  join pgq.consumer c on c.co_id = s.sub_consumer
  join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = s.sub_last_tick
 where q.queue_name = $1 and c.co_name = '.global_watermark'`
	if err = q.QueryRow(ctx, read, queue).Scan(&t.id, &t.seq, &t.at); err != nil {
		err = fmt.Errorf("read the global watermark of queue %s: %w", queue, pgq.Classify(err))
	}
	return t, err
}

// adoptTick gives the first tick of a new branch the fields it has at the provider, removes the one that making a queue
// puts before it, and lets the counter of events go on after it.
func adoptTick(ctx context.Context, q pgq.Querier, queue string, first firstTick) error {
	const update = `
update pgq.tick t set tick_time = $3, tick_event_seq = $4
  from pgq.queue q where q.queue_name = $1 and t.tick_queue = q.queue_id and t.tick_id = $2`
	const remove = `
delete from pgq.tick t using pgq.queue q where q.queue_name = $1 and t.tick_queue = q.queue_id and t.tick_id < $2`
	const count = `select pgq.seq_setval(q.queue_event_seq, $2) from pgq.queue q where q.queue_name = $1`
	_, err := q.Exec(ctx, update, queue, first.id, first.at, first.seq)
	if err == nil {
		_, err = q.Exec(ctx, remove, queue, first.id)
	}
	if err == nil {
		_, err = q.Exec(ctx, count, queue, first.seq)
	}
	if err != nil {
		return fmt.Errorf("begin queue %s at tick %d: %w", queue, first.id, pgq.Classify(err))
	}
	return nil
}

// subscribe makes the provider keep events for the new node. When its rotation was faster, a node that was made just
// now is made again.
func (a *Admin) subscribe(ctx context.Context, t *Topology, provider *Node, c Creation, fresh bool) error {
	if err := a.heard(ctx, t, provider, c.Name); err != nil {
		return err
	}
	db, err := a.node(ctx, provider)
	if err != nil {
		return err
	}
	for tries := 0; ; tries++ {
		i, err := GetNodeInfo(ctx, a.self, a.queue)
		if err != nil {
			return err
		}
		err = pgq.Transact(ctx, db, func(q pgq.Querier) error {
			if err := ensureLocation(ctx, q, a.queue, Location{Node: c.Name, Location: c.Location}); err != nil {
				return err
			}
			if _, err := UnregisterSubscriber(ctx, q, a.queue, c.Name); err != nil {
				return err
			}
			_, _, err := RegisterSubscriber(ctx, q, a.queue, c.Name, c.Worker, i.LastTick)
			return err
		})
		if !errors.Is(err, pgq.ErrTickNotFound) || !fresh || tries == 3 {
			return err
		}
		if _, err := DropNode(ctx, a.self, a.queue, c.Name); err != nil {
			return err
		}
		if err := a.makeBelow(ctx, t, provider, c); err != nil {
			return err
		}
	}
}

// ensureLocation registers a location where it is not known as that; a root tells all nodes of it.
func ensureLocation(ctx context.Context, q pgq.Querier, queue string, l Location) error {
	known, err := Locations(ctx, q, queue)
	if err == nil && !slices.Contains(known, l) {
		_, err = RegisterLocation(ctx, q, queue, l)
	}
	return err
}

// locate is a step that registers a location at a node.
func (a *Admin) locate(n *Node, l Location) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := a.node(ctx, n)
		if err != nil {
			return err
		}
		_, err = RegisterLocation(ctx, db, a.queue, l)
		return err
	}
}

// unsubscribe is a step that ends a subscription at a node.
func (a *Admin) unsubscribe(n *Node, subscriber string) func(context.Context) error {
	return func(ctx context.Context) error {
		db, err := a.node(ctx, n)
		if err != nil {
			return err
		}
		_, err = UnregisterSubscriber(ctx, db, a.queue, subscriber)
		return err
	}
}

// sameDatabase makes sure that a location leads to this very database: a lock taken here is seen there.
func (a *Admin) sameDatabase(ctx context.Context, location string) error {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	key := int64(binary.LittleEndian.Uint64(random[:]))
	there, err := a.at(ctx, location)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, a.self, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_catalog.pg_advisory_xact_lock($1)`, key); err != nil {
			return err
		}
		var other bool
		patient, cancel := context.WithTimeout(ctx, a.patience)
		defer cancel()
		err := there.QueryRow(patient, `select pg_catalog.pg_try_advisory_xact_lock($1)`, key).Scan(&other)
		if err != nil {
			return fmt.Errorf("%w: location %s cannot be reached from here: %w", ErrRefused, pgq.MaskDSN(location), err)
		}
		if other {
			return refuse("location %s leads to another database than this one", pgq.MaskDSN(location))
		}
		return nil
	})
}
