package pgq

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Transact runs work in one transaction of its own: what work does takes effect
// together, or not at all when it returns an error.
func Transact(ctx context.Context, db *DB, work func(Querier) error) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return work(tx) })
}

// Rehearse runs work in a transaction that is rolled back: it meets every
// refusal that Transact would meet, and changes nothing but the counters of
// sequences.
func Rehearse(ctx context.Context, db *DB, work func(Querier) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	err = work(tx)
	settle, cancel := settleContext(ctx)
	defer cancel()
	if rollback := tx.Rollback(settle); err == nil {
		err = rollback
	}
	return err
}

// Mark is a moment in the life of a database: what had committed by then.
type Mark string

// dataTable finds the parent of a queue's event tables.
func dataTable(ctx context.Context, q Querier, queue string) (string, error) {
	const find = `select queue_data_pfx from pgq.queue where queue_name = $1`
	var name string
	err := q.QueryRow(ctx, find, queue).Scan(&name)
	if err == pgx.ErrNoRows { //nolint:errorlint // Scan returns it bare
		return "", ErrQueueNotFound
	}
	if err != nil {
		return "", classify(err)
	}
	return quoteQualified(name)
}

// NewestEvents returns the newest events that the queue still holds, at most
// limit, the oldest of them first, and the moment of the look for EventsSince.
// It looks beside all consumers and moves none; events that were redelivered
// show as often as they were. Needs to read the event tables (pgq_reader).
// Errors: ErrQueueNotFound.
func NewestEvents(ctx context.Context, q Querier, queue string, limit int) ([]Event, Mark, error) {
	table, err := dataTable(ctx, q, queue)
	if err == nil {
		var (
			events []Event
			mark   Mark
		)
		events, mark, err = browse(ctx, q, `
select * from (select `+eventColumns+`, ev_txid as txid from `+table+` order by ev_txid desc, ev_id desc limit $1) e
 order by txid, ev_id`, limit)
		if err == nil {
			return events, mark, nil
		}
	}
	return nil, "", fmt.Errorf("list events of queue %s: %w", queue, err)
}

// EventsSince returns the events that became visible after the mark, in the
// order of their transactions, and the mark for the next call: each event comes
// exactly once, whenever its transaction began. Errors: ErrQueueNotFound.
func EventsSince(ctx context.Context, q Querier, queue string, since Mark) ([]Event, Mark, error) {
	table, err := dataTable(ctx, q, queue)
	if err == nil {
		var (
			events []Event
			mark   Mark
		)
		events, mark, err = browse(ctx, q, `
select `+eventColumns+` from `+table+`
 where ev_txid >= pg_catalog.pg_snapshot_xmin($1::text::pg_snapshot)::text::bigint
   and not pg_catalog.pg_visible_in_snapshot(ev_txid::text::xid8, $1::text::pg_snapshot)
 order by ev_txid, ev_id`, string(since))
		if err == nil {
			return events, mark, nil
		}
	}
	return nil, since, fmt.Errorf("list events of queue %s: %w", queue, err)
}

// browse reads events and the snapshot they were read in.
func browse(ctx context.Context, q Querier, sql string, arg any) (events []Event, mark Mark, err error) {
	const snapshot = `select pg_catalog.pg_current_snapshot()::text`
	work := func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, snapshot).Scan(&mark); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sql, arg)
		if err != nil {
			return err
		}
		events, err = scanBrowsed(rows)
		return err
	}
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	if b, ok := q.(interface {
		BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
	}); ok {
		err = pgx.BeginTxFunc(ctx, b, options, work)
	} else {
		err = fmt.Errorf("%w: it reads twice in one snapshot", ErrNotOwnTransaction)
	}
	return events, mark, classify(err)
}

// scanBrowsed reads events of rows that may have further columns.
func scanBrowsed(rows pgx.Rows) ([]Event, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Event, error) {
		var (
			ev    Event
			retry *int32
		)
		to := []any{&ev.ID, &ev.Time, &ev.Txid, &retry, &ev.Type, &ev.Data, &ev.Extra1, &ev.Extra2, &ev.Extra3, &ev.Extra4}
		for range len(row.FieldDescriptions()) - len(to) {
			to = append(to, nil)
		}
		err := row.Scan(to...)
		ev.Time = ev.Time.UTC()
		if retry != nil {
			ev.Retry = int(*retry)
		}
		return ev, err
	})
}

// TickRange are the oldest and the newest tick that a queue still has.
type TickRange struct {
	First, Last         int64
	FirstTime, LastTime time.Time
}

// Ticks returns the range of ticks a consumer can be moved to. Errors:
// ErrQueueNotFound.
func Ticks(ctx context.Context, q Querier, queue string) (TickRange, error) {
	const find = `
select t.first, t.last, a.tick_time, z.tick_time
  from pgq.queue q
 cross join lateral (select min(tick_id) as first, max(tick_id) as last from pgq.tick where tick_queue = q.queue_id) t
  join pgq.tick a on a.tick_queue = q.queue_id and a.tick_id = t.first
  join pgq.tick z on z.tick_queue = q.queue_id and z.tick_id = t.last
 where q.queue_name = $1`
	var r TickRange
	err := q.QueryRow(ctx, find, queue).Scan(&r.First, &r.Last, &r.FirstTime, &r.LastTime)
	if err == pgx.ErrNoRows { //nolint:errorlint // Scan returns it bare
		err = ErrQueueNotFound
	}
	if err != nil {
		return r, fmt.Errorf("find the ticks of queue %s: %w", queue, classify(err))
	}
	r.FirstTime, r.LastTime = r.FirstTime.UTC(), r.LastTime.UTC()
	return r, nil
}

// SubconsumerInfo is one member of a cooperative group.
type SubconsumerInfo struct {
	Queue    string
	Consumer string // the group
	Name     string // the member, without the name of its group
	Batch    int64  // open batch, 0 for none
	NextTick int64  // end tick of the open batch, 0 for none
	LastSeen time.Duration
}

// SubconsumerInfos lists the members of cooperative groups, by queue, group and
// name; an empty queue or consumer stands for all of them.
func SubconsumerInfos(ctx context.Context, q Querier, queue, consumer string) ([]SubconsumerInfo, error) {
	const list = `
select q.queue_name, g.co_name, pg_catalog.substr(m.co_name, pg_catalog.length(g.co_name) + 2),
       coalesce(s.sub_batch, 0), coalesce(s.sub_next_tick, 0),
       coalesce(extract(epoch from pg_catalog.now() - s.sub_active), 0)::float8
  from pgq.subscription s
  join pgq.queue q on q.queue_id = s.sub_queue
  join pgq.consumer m on m.co_id = s.sub_consumer
  join pgq.subscription gs on gs.sub_queue = s.sub_queue and gs.sub_id = s.sub_id and gs.sub_consumer <> s.sub_consumer
  join pgq.consumer g on g.co_id = gs.sub_consumer
 where m.co_name like pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(g.co_name, '\', '\\'), '%', '\%'), '_', '\_') || '.%'
   and gs.sub_last_tick is not null and gs.sub_batch is null
   and ($1 = '' or q.queue_name = $1) and ($2 = '' or g.co_name = $2)
 order by 1, 2, 3`
	rows, err := q.Query(ctx, list, queue, consumer)
	if err == nil {
		var infos []SubconsumerInfo
		infos, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (SubconsumerInfo, error) {
			var (
				i    SubconsumerInfo
				seen float64
			)
			err := row.Scan(&i.Queue, &i.Consumer, &i.Name, &i.Batch, &i.NextTick, &seen)
			i.LastSeen = seconds(seen)
			return i, err
		})
		if err == nil {
			return infos, nil
		}
	}
	return nil, fmt.Errorf("list subconsumers: %w", classify(err))
}
