package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// Cascade is what the act with the cascade showed: the root moved from one node to another while it was written to.
type Cascade struct {
	Nodes int    `json:"nodes"`
	Old   string `json:"old_root"`
	New   string `json:"new_root"`
	// LastTick is the last one of the old root. The events of the switchover up to it, and their hash, on both sides.
	LastTick  int64  `json:"last_tick"`
	OldEvents int64  `json:"old_events"`
	NewEvents int64  `json:"new_events"`
	OldHash   string `json:"old_hash"`
	NewHash   string `json:"new_hash"`
	// WritesHeld is how long no node took events, Took the whole switchover.
	WritesHeld time.Duration `json:"-"`
	Took       time.Duration `json:"-"`
	// Acknowledged is how many events a root has confirmed, before and after. Missing are those that a node has not, Doubled
	// those that a node has more than once, over all nodes; Different counts nodes whose events are not those of the root.
	Acknowledged int64 `json:"acknowledged"`
	Missing      int64 `json:"missing"`
	Doubled      int64 `json:"doubled"`
	Different    int64 `json:"nodes_different"`
}

// Faults says in words what is wrong; nothing when nothing is.
func (c Cascade) Faults() []string {
	var faults []string
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			faults = append(faults, "cascade: "+fmt.Sprintf(format, args...))
		}
	}
	add(c.Acknowledged == 0, "no event was written")
	add(c.Missing > 0, "%d confirmed events are missing on a node", c.Missing)
	add(c.Doubled > 0, "%d events are doubled", c.Doubled)
	add(c.Different > 0, "%d nodes have other events than the root", c.Different)
	add(c.OldEvents != c.NewEvents || c.OldHash != c.NewHash, "the two sides of the switchover differ")
	return faults
}

const cascadeQueue = "orders"

// cascadeNode is a node of the act, with a database of its own.
type cascadeNode struct {
	Name string `json:"name"`
	DSN  string `json:"dsn"`
}

// cascadeAct is the act with the cascade.
type cascadeAct struct {
	*show
	nodes []cascadeNode
	dbs   map[string]*pgq.DB

	mu    sync.Mutex
	acked []string
}

// playCascade makes a root and two branches, each in a database of its own, and moves the root under load.
func (s *show) playCascade(ctx context.Context, report *Report) (err error) {
	a := &cascadeAct{show: s, dbs: map[string]*pgq.DB{}}
	defer func() {
		for _, db := range a.dbs {
			db.Close()
		}
	}()
	if err := a.build(ctx); err != nil {
		return fmt.Errorf("make the cascade: %w", err)
	}
	crew, ctx := newCrew(ctx)
	defer func() {
		if first := crew.stop(); first != nil {
			err = first
		}
	}()
	daemon, err := s.startPart(crew, order{Name: "daemon-c", Nodes: a.nodes})
	if err != nil {
		return err
	}
	var writers []func(ask bool) error
	for i := range 3 {
		writers = append(writers, crew.start("writer", func(ctx context.Context) error { return a.write(ctx, i) }))
	}
	load := min(s.o.Duration/10, 2*time.Second)
	if err := sleep(ctx, load); err != nil {
		return err
	}
	s.o.Say("cascade: a root and two branches run; the root moves from n1 to n2 while three writers write")
	if err := a.switchover(ctx, &report.Cascade); err != nil {
		return fmt.Errorf("switchover: %w", err)
	}
	if err := sleep(ctx, load); err != nil {
		return err
	}
	for _, stop := range writers {
		if err := stop(true); err != nil {
			return err
		}
	}
	if err := a.prove(ctx, &report.Cascade); err != nil {
		return err
	}
	return daemon.end(true)
}

// build makes databases and nodes.
func (a *cascadeAct) build(ctx context.Context) error {
	for i, name := range []string{"n1", "n2", "n3"} {
		if _, err := a.db.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
			return err
		}
		n := cascadeNode{Name: name, DSN: a.srv.DSN(name)}
		db, err := pgq.Open(ctx, n.DSN, pgq.WithApplicationName("skyd/demo/cascade"), pgq.WithMaxConns(4))
		if err != nil {
			return err
		}
		a.nodes, a.dbs[name] = append(a.nodes, n), db
		if _, err := pgqsql.Install(ctx, db, pgqsql.Options{}); err != nil {
			return err
		}
		c := cascade.Creation{Type: cascade.Root, Name: name, Location: n.DSN}
		if i > 0 {
			c.Type, c.Provider = cascade.Branch, a.nodes[0].DSN
		}
		admin := cascade.NewAdmin(db, cascadeQueue, cascade.AdminOptions{})
		plan, err := admin.PlanCreate(ctx, c)
		if err == nil {
			err = plan.Run(ctx, nil)
		}
		admin.Close()
		if err != nil {
			return err
		}
	}
	return pgq.SetQueueConfig(ctx, a.dbs["n1"], cascadeQueue, "ticker_max_lag", "30 milliseconds")
}

// cascadeDatabases are the databases and nodes of the daemon that runs the cascade.
func cascadeDatabases(c *configs.Config, nodes []cascadeNode) {
	c.Databases = nil
	for _, n := range nodes {
		c.Databases = append(c.Databases, configs.Database{
			Name: n.Name, DSN: n.DSN, CheckPeriod: time.Second, Ticker: c.Ticker, Maintenance: c.Maintenance,
		})
		node := configs.DefaultNode()
		node.Queue, node.Name, node.Database = cascadeQueue, n.Name, n.Name
		c.Nodes = append(c.Nodes, node)
	}
}

// write writes to whoever takes events: first to n1, and to n2 when that refuses.
func (a *cascadeAct) write(ctx context.Context, number int) error {
	at, other := a.dbs["n1"], a.dbs["n2"]
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("order %d of writer %d", i, number)
		if _, err := at.Exec(ctx, `select pgq.insert_event($1, 'order', $2)`, cascadeQueue, key); err != nil {
			at, other = other, at
		} else {
			a.mu.Lock()
			a.acked = append(a.acked, key)
			a.mu.Unlock()
		}
		if sleep(ctx, 5*time.Millisecond) != nil {
			break
		}
	}
	return nil
}

// switchover moves the root.
func (a *cascadeAct) switchover(ctx context.Context, c *Cascade) error {
	admin := cascade.NewAdmin(a.dbs["n2"], cascadeQueue, cascade.AdminOptions{})
	defer admin.Close()
	plan, err := admin.PlanTakeover(ctx, "n1", "n2", cascade.TakeoverOptions{All: true, Force: true})
	if err != nil {
		return err
	}
	r, err := admin.Run(ctx, plan)
	if err != nil {
		return err
	}
	p := r.Proof
	*c = Cascade{
		Nodes: len(a.nodes), Old: p.Old, New: p.New, LastTick: p.FinalTick, OldEvents: p.OldEvents, NewEvents: p.NewEvents,
		OldHash: p.OldHash, NewHash: p.NewHash, WritesHeld: p.WritesHeld, Took: p.Took,
	}
	a.o.Say(fmt.Sprintf("cascade: n2 is root, writes were held for %s", Short(p.WritesHeld)))
	return nil
}

// prove compares what was confirmed with what all nodes have.
func (a *cascadeAct) prove(ctx context.Context, c *Cascade) error {
	if _, err := a.dbs["n2"].Exec(ctx, `select pgq.force_tick($1)`, cascadeQueue); err != nil {
		return err
	}
	info, err := pgq.GetQueueInfo(ctx, a.dbs["n2"], cascadeQueue)
	if err != nil {
		return err
	}
	c.Acknowledged = int64(len(a.acked))
	var root string
	for _, name := range []string{"n2", "n1", "n3"} {
		db := a.dbs[name]
		err := until(ctx, func() bool {
			now, err := pgq.GetQueueInfo(ctx, db, cascadeQueue)
			return err == nil && now.LastTick > info.LastTick
		})
		if err != nil {
			return err
		}
		const compare = `
with e as materialized (select e.ev_id, e.ev_data from pgq.event_template e where e.ev_type = 'order')
select (select count(*) from unnest($1::text[]) k where not exists (select from e where e.ev_data = k)),
       (select count(*) - count(distinct ev_data) from e),
       (select coalesce(md5(string_agg(ev_id || ' ' || ev_data, ',' order by ev_id)), '') from e)`
		var missing, doubled int64
		var hash string
		if err := db.QueryRow(ctx, compare, slices.Clip(a.acked)).Scan(&missing, &doubled, &hash); err != nil {
			return err
		}
		c.Missing, c.Doubled = c.Missing+missing, c.Doubled+doubled
		if root == "" {
			root = hash
		} else if hash != root {
			c.Different++
		}
	}
	return nil
}
