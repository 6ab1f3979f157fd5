package cascade

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// heard waits until a branch has read all that the nodes above it say of the end of a member: that it was dropped, or
// gave up a name. Read later, such an event would end the subscription that the member gets here under the same name.
func (a *Admin) heard(ctx context.Context, t *Topology, at *Node, member string) error {
	db, err := a.node(ctx, at)
	if err != nil {
		return err
	}
	below := at
	for range t.Nodes {
		up := t.Node(below.Provider)
		if up == nil || up == below || up.State != Alive {
			break // what cannot be asked is not waited for
		}
		source, err := a.node(ctx, up)
		if err != nil {
			return err
		}
		for {
			s, err := GetWorkerState(ctx, db, a.queue)
			open := false
			if err == nil {
				open, err = endAhead(ctx, source, a.queue, member, s.Completed)
			}
			if err != nil {
				return err
			}
			if !open {
				break
			}
			if s.Paused {
				return refuse("%s is paused, and has not heard yet that a node %s left the cascade or changed its name; let it go on first: skyd node resume", at.Name, member)
			}
			if rest(ctx, pollPeriod) != nil {
				return fmt.Errorf("%w: %s stands at tick %d, and has not heard yet that a node %s left the cascade or changed its name: %w",
					ErrRefused, at.Name, s.Completed, member, context.Cause(ctx))
			}
		}
		below = up
	}
	return nil
}

// endAhead tells whether the queue here has an event about the end of a member behind a tick.
func endAhead(ctx context.Context, q pgq.Querier, queue, member string, tick int64) (yes bool, err error) {
	const at = `
select t.tick_snapshot::text, pgq.quote_fqname(q.queue_data_pfx)
  from pgq.queue q
  join pgq.tick t on t.tick_queue = q.queue_id
 where q.queue_name = $1 and t.tick_id <= $2
 order by t.tick_queue desc, t.tick_id desc
 limit 1`
	const ahead = `
select exists (
    select from %s e
     where e.ev_txid >= txid_snapshot_xmin($1::text::txid_snapshot)
       and not txid_visible_in_snapshot(e.ev_txid, $1::text::txid_snapshot)
       and e.ev_type = $2 and e.ev_data = $3 and e.ev_extra1 = $4)`
	var snapshot, table string
	err = q.QueryRow(ctx, at, queue, tick).Scan(&snapshot, &table)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil // its ticks are gone, its events too
	}
	if err == nil {
		err = q.QueryRow(ctx, fmt.Sprintf(ahead, table), snapshot, typeUnregister, member, queue).Scan(&yes)
	}
	if err != nil {
		err = fmt.Errorf("look for the end of %s in queue %s: %w", member, queue, pgq.Classify(err))
	}
	return yes, err
}
