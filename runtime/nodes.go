package runtime

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// Node is a cascade node whose events are applied by Go code of the program that embeds the daemon; see Options.Nodes.
type Node struct {
	// Config says which node it is and how its worker runs.
	Config configs.Node
	// Applier gets the events of every batch in the transaction that moves the node.
	Applier cascade.Applier
}

// nodeConns is how many connections a node's worker needs in its own database: the batch, the look for a pause, one
// more; and at its provider: the batch, and one to finish it.
const nodeConns = 3

// nodeParams makes the parameters of the cascade nodes of one database.
func (d *Daemon) nodeParams(ctx context.Context, c configs.Config, db configs.Database, name, database string) []actors.NodeParams {
	var params []actors.NodeParams
	add := func(n configs.Node, applier cascade.Applier) {
		if n.Database != name && (n.Database != "" || len(c.Databases) != 1 || database != "") {
			return
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %+v", connectionKey(db, c.Instance, database), n))
		params = append(params, actors.NodeParams{
			Key: hex.EncodeToString(sum[:]), Queue: n.Queue, Name: n.Name,
			Open: func(unit string, epoch int64) (actors.NodeSource, error) {
				p, err := openPool(ctx, db, c.Instance, "node/"+n.Queue, database, nodeConns)
				if err != nil {
					return nil, err
				}
				return &nodeSource{pool: p, Worker: cascade.NewWorker(p.db, n.Queue, d.workerOptions(c, name, n, applier, unit, epoch))}, nil
			},
			Keep: func() (actors.NodeKeeper, error) {
				p, err := openPool(ctx, db, c.Instance, "operations/"+n.Queue, database, nodeConns)
				if err != nil {
					return nil, err
				}
				driver := "skyd/" + c.Instance + "/" + n.Name + "/" + rand.Text()[:6]
				k := &nodeKeeper{pool: p, queue: n.Queue, Keeper: cascade.NewKeeper(p.db, n.Queue, driver)}
				k.DeadRetention = n.DeadRetention
				return k, nil
			},
		})
	}
	for _, n := range c.Nodes {
		add(n, nil)
	}
	for _, n := range d.opts.Nodes {
		add(n.Config, n.Applier)
	}
	return params
}

// workerOptions are the options of a node's worker under a lease.
func (d *Daemon) workerOptions(c configs.Config, database string, n configs.Node, applier cascade.Applier, unit string, epoch int64) cascade.WorkerOptions {
	name := "skyd/" + c.Instance + "/node/" + n.Queue + "/" + n.Name
	o := cascade.WorkerOptions{
		Node: n.Name, Applier: applier, PollPeriod: n.PollPeriod, MarkPeriod: n.WatermarkPeriod, StepTimeout: n.StepTimeout,
		Logger: d.log.With("kind", kindWorker, "actor", "database/"+database+"/"+kindNode+"/"+url.PathEscape(n.Queue)+"/"+kindWorker,
			"db", database, "node", n.Name),
		Open: func(ctx context.Context, location string) (*pgq.DB, error) {
			return cascade.OpenLocation(ctx, location, pgq.WithApplicationName(name), pgq.WithMaxConns(nodeConns),
				pgq.WithConfig(func(c *pgxpool.Config) { c.MaxConnIdleTime = idleTime }))
		},
	}
	if _, off := d.telemetry.tracing.(noop.TracerProvider); !off {
		o.Tracer = d.tracer(cascade.ScopeName)
	}
	if epoch > 0 {
		o.QueueFence = func(b *pgx.Batch) bool { return pgq.QueueFence(b, unit, epoch, n.StepTimeout) }
	}
	return o
}

// nodeSource is the worker of a node as its actor sees it.
type nodeSource struct {
	*pool
	*cascade.Worker
}

var _ actors.NodeSource = (*nodeSource)(nil)

// Classify implements actors.NodeSource.
func (n *nodeSource) Classify(err error) actors.Trouble {
	t := n.pool.Classify(err)
	t.Permanent = t.Permanent || cascade.Permanent(err)
	return t
}

// Close implements actors.NodeSource.
func (n *nodeSource) Close() {
	n.Worker.Close()
	n.pool.Close()
}

// nodeKeeper is a keeper with the pool that it works on.
type nodeKeeper struct {
	*cascade.Keeper
	pool  *pool
	queue string
}

// Switchovers implements actors.NodeKeeper.
func (k *nodeKeeper) Switchovers(ctx context.Context) (took []time.Duration, aborted int, state string, err error) {
	t, err := cascade.ReadTally(ctx, k.pool.db, k.queue)
	return t.Done, t.Aborted, string(t.UnderWay), err
}

// Close implements actors.NodeKeeper.
func (k *nodeKeeper) Close() {
	k.Keeper.Close()
	k.pool.Close()
}
