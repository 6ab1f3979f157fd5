package pgq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// receiveSQL finishes the batch before, asks for a tick, opens the next batch
// and reads it, in one commit; see pgq.receive_batch.
const (
	receiveSQL     = receiveColumns + receiveCall
	receiveDurably = receiveColumns + `(select case when pg_catalog.current_setting('synchronous_commit') = 'off'
        then pg_catalog.set_config('synchronous_commit', 'local', true) end) d cross join lateral ` + receiveCall

	receiveColumns = `
select ` + eventColumns + `, finished, complete, ` + nextColumns + `
  from `
	receiveCall = `pgq.receive_batch($1, $2, $3, $4, $5, $6)`
)

// fused tells whether this consumer uses pgq.receive_batch.
func (c *Consumer) fused() bool {
	return c.kind.next == nil && c.o.Limits == BatchLimits{} && !c.noReceive.Load()
}

// receive opens the next batch and finishes one, if done is not nil. The
// events come along unless they are more than the fetch size. It is
// ErrNotInstalled where the function is missing.
func (c *Consumer) receive(ctx context.Context, q Querier, done *Batch) (*Batch, error) {
	var finish *int64
	if done != nil {
		finish = &done.ID
	}
	sql := receiveSQL
	if c.kind.elsewhere {
		sql = receiveDurably
	}
	rows, err := q.Query(ctx, sql, c.queue, c.name, finish, c.o.FetchSize+1, wish(int64(c.o.MaxMerge)), c.o.TickWait > 0)
	if err != nil {
		return nil, classify(err)
	}
	next, finished, err := c.scanReceived(rows)
	if err != nil {
		return nil, classify(err)
	}
	if done != nil {
		if err := done.finished(int64(finished.Int32), nil); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// scanReceived reads the events and the last row, which is about the batch.
func (c *Consumer) scanReceived(rows pgx.Rows) (next *Batch, finished pgtype.Int4, err error) {
	defer rows.Close()
	var (
		events   []Event
		complete pgtype.Bool
		retry    pgtype.Int4
	)
	for rows.Next() {
		if rows.RawValues()[0] != nil {
			events = append(events, Event{})
			ev := &events[len(events)-1]
			err := rows.Scan(&ev.ID, &ev.Time, &ev.Txid, &retry, &ev.Type, &ev.Data, &ev.Extra1, &ev.Extra2,
				&ev.Extra3, &ev.Extra4, nil, nil, nil, nil, nil, nil, nil, nil, nil)
			if err != nil {
				return nil, finished, err
			}
			ev.Time, ev.Retry = ev.Time.UTC(), int(retry.Int32)
			continue
		}
		next, err = scanNext(lastRow{rows, &finished, &complete}, c.db, c.queue, c.name)
		if err != nil {
			return nil, finished, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, finished, err
	}
	if next != nil && complete.Bool {
		next.s.ahead = &eventReader{b: next, q: c.db, chunk: events}
	}
	return next, finished, nil
}

// lastRow gives scanNext its columns of the last row of receiveSQL.
type lastRow struct {
	rows     pgx.Rows
	finished *pgtype.Int4
	complete *pgtype.Bool
}

// Scan implements pgx.Row.
func (r lastRow) Scan(dest ...any) error {
	return r.rows.Scan(append([]any{nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, r.finished, r.complete}, dest...)...)
}

// receiveNext is receive without a batch to finish. Where the function is
// missing, from then on the calls of the contract are used.
func (c *Consumer) receiveNext(ctx context.Context) (next *Batch, ok bool, err error) {
	next, err = c.receive(ctx, c.db, nil)
	if errors.Is(err, ErrNotInstalled) {
		c.noReceive.Store(true)
		c.log.Info("no pgq.receive_batch here, using the calls of plain PgQ", "tick_wait", c.o.TickWait)
		return nil, false, nil
	}
	if err != nil {
		return nil, true, fmt.Errorf("next batch of consumer %s on queue %s: %w", c.name, c.queue, err)
	}
	return next, true, nil
}

// limited bounds a call, so that a server that does not answer is noticed.
func (c *Consumer) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.o.CallTimeout)
}

// watchedPoll is how often a consumer asks by itself while somebody watches
// its queue.
const watchedPoll = 10 * time.Second
