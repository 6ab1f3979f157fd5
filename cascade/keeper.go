package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

const (
	// fencePeriod is the time between two looks of a root at the terms of the other members.
	fencePeriod = 30 * time.Second
	// keepLimit bounds one pass of a Keeper.
	keepLimit = time.Minute
)

// Keeper looks after the operations of the node of a database: it fences a root that the cascade has gone on without,
// and ends operations whose driver died. Several keepers, of this node and of others, do no harm to each other: an
// operation has one driver at a time. Not safe for concurrent use.
type Keeper struct {
	// DeadRetention is how long events are kept for a subscriber that is tagged dead, from its last sign of life on; after
	// that its subscription goes. 0: as long as it takes.
	DeadRetention time.Duration

	db     *pgq.DB
	a      *Admin
	driver string
	looked time.Time
}

// NewKeeper makes a keeper; driver names it in journals, unique among all. The database stays the caller's.
func NewKeeper(db *pgq.DB, queue, driver string) *Keeper {
	return &Keeper{db: db, a: NewAdmin(db, queue, AdminOptions{}), driver: driver}
}

// Close ends the connections to other nodes.
func (k *Keeper) Close() { k.a.Close() }

// Pass looks once. It returns what was done, "" for nothing. A switchover in which nothing has changed yet goes back;
// any other goes on as its limits allow.
func (k *Keeper) Pass(ctx context.Context) (did string, err error) {
	ctx, cancel := context.WithTimeout(ctx, keepLimit)
	defer cancel()
	defer k.a.Close() // a node that lives for years does not keep connections to all others
	if k.looked.IsZero() || time.Since(k.looked) > fencePeriod {
		f, err := k.a.FenceIfStale(ctx)
		if err != nil {
			return "", fmt.Errorf("compare terms: %w", err)
		}
		k.looked = time.Now()
		if f != nil && f.Now {
			return fmt.Sprintf("closed: the cascade went on with %s, term %d over %d; skyd node resurrect brings %s back", f.NewRoot, f.NewTerm, f.Term, f.Node), nil
		}
	}
	if dropped, err := k.dropDead(ctx); err != nil || dropped != "" {
		return dropped, err
	}
	open, err := OpenOperations(ctx, k.db, k.a.queue)
	if err != nil || len(open) == 0 || !open[0].Silent && open[0].Driver != k.driver {
		return "", err
	}
	j := open[0]
	_, err = k.a.Resume(ctx, "", "", false, TakeoverOptions{Driver: k.driver, cautious: true})
	switch {
	case err == nil:
		return fmt.Sprintf("ended the %s of %s by %s", j.Kind, j.Old, j.New), nil
	case errors.Is(err, ErrRolledBack):
		return fmt.Sprintf("rolled the %s of %s by %s back: %s", j.Kind, j.Old, j.New, oneLine(err.Error())), nil
	case errors.Is(err, ErrBusy) || errors.Is(err, ErrDriverLost) || errors.Is(err, ErrNotFound):
		return "", nil // somebody else is at it
	}
	return "", fmt.Errorf("%s of %s by %s: %w", j.Kind, j.Old, j.New, err)
}

// dropDead ends the subscription of one member that is tagged dead and was silent for too long.
func (k *Keeper) dropDead(ctx context.Context) (did string, err error) {
	const find = `
select s.subscriber_node, pg_catalog.date_trunc('second', u.sub_active)::text
  from pgq_node.subscriber_info s
  join pgq_node.node_location l on l.queue_name = s.queue_name and l.node_name = s.subscriber_node and l.dead
  join pgq.queue q on q.queue_name = s.queue_name
  join pgq.consumer c on c.co_name = s.worker_name
  join pgq.subscription u on u.sub_queue = q.queue_id and u.sub_consumer = c.co_id
 where s.queue_name = $1 and u.sub_active < pg_catalog.clock_timestamp() - $2::interval
 order by u.sub_active limit 1`
	if k.DeadRetention <= 0 {
		return "", nil
	}
	var node, since string
	err = k.db.QueryRow(ctx, find, k.a.queue, k.DeadRetention).Scan(&node, &since)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err == nil {
		_, err = UnregisterSubscriber(ctx, k.db, k.a.queue, node)
	}
	if err != nil {
		return "", fmt.Errorf("end the subscription of a dead node: %w", pgq.Classify(err))
	}
	return fmt.Sprintf("keeps no events any more for %s, which is tagged dead and was silent since %s: build it anew", node, since), nil
}
