package cascade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/pgq"
)

// Kinds of operations.
const (
	KindSwitchover = "switchover"
	KindFailover   = "failover"
	KindResurrect  = "resurrect"
)

// driverTTL is how long the driver of an operation may be silent before another one takes it over; it says that it
// lives every driverBeat.
const (
	driverTTL  = 5 * time.Second
	driverBeat = 500 * time.Millisecond
)

// Journal is the row of an operation in one database.
type Journal struct {
	ID    string  `json:"operation"`
	Queue string  `json:"queue"`
	Kind  string  `json:"kind"`
	Side  string  `json:"side"` // which of the two nodes this database is: old or new
	Old   string  `json:"old_node"`
	New   string  `json:"new_node"`
	Term  int64   `json:"term"`
	State OpState `json:"state"`
	// StartTick is where the proof begins, FinalTick the last tick of the old root.
	StartTick int64     `json:"start_tick,omitempty"`
	FinalTick int64     `json:"final_tick,omitempty"`
	Held      []string  `json:"held,omitempty"`
	Limits    Limits    `json:"limits"`
	Driver    string    `json:"driver"`
	Seen      time.Time `json:"driver_seen"`
	Started   time.Time `json:"started"`
	Closed    time.Time `json:"closed_at,omitzero"`
	Opened    time.Time `json:"opened_at,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	Error     string    `json:"last_error,omitempty"`
	// Silent: the driver has not been heard of for so long that another one may take over.
	Silent bool `json:"driver_silent"`
}

// Limits are the bounds of an operation. They are in its journal, so that whoever takes it over keeps them.
type Limits struct {
	// WriteOutage is how long writes may be refused before the old root opens again. Defaults to 10 s.
	WriteOutage time.Duration `json:"write_outage_max"`
}

// operationsSQL reads journals; what is appended to it says which.
const operationsSQL = `
select o.op_id, o.queue_name, o.kind, o.side, o.old_node, o.new_node, o.term, o.state, coalesce(o.start_tick, 0),
       coalesce(o.final_tick, 0), o.held, o.options, o.driver, o.driver_seen, o.started, coalesce(o.closed_at, 'epoch'),
       coalesce(o.opened_at, 'epoch'), coalesce(o.finished, 'epoch'), coalesce(o.last_error, ''),
       o.driver_seen < clock_timestamp() - $1::interval
  from skyd_node.operation o`

func scanJournal(row pgx.CollectableRow) (j Journal, err error) {
	var options []byte
	err = row.Scan(&j.ID, &j.Queue, &j.Kind, &j.Side, &j.Old, &j.New, &j.Term, &j.State, &j.StartTick, &j.FinalTick,
		&j.Held, &options, &j.Driver, &j.Seen, &j.Started, &j.Closed, &j.Opened, &j.Finished, &j.Error, &j.Silent)
	for _, t := range []*time.Time{&j.Closed, &j.Opened, &j.Finished} {
		if t.Unix() == 0 {
			*t = time.Time{}
		}
	}
	if err == nil {
		err = json.Unmarshal(options, &j.Limits)
	}
	return j, err
}

// OpenOperations lists the operations of a queue that are open in this database, "" for all queues: at most one for
// each queue. A database without the schema of operations has none.
func OpenOperations(ctx context.Context, q pgq.Querier, queue string) ([]Journal, error) {
	return readJournals(ctx, q, operationsSQL+` where o.finished is null and $2 in ('', o.queue_name) order by o.queue_name`, queue)
}

// Operations lists the operations of a queue that this database has a journal of, the newest first.
func Operations(ctx context.Context, q pgq.Querier, queue string) ([]Journal, error) {
	return readJournals(ctx, q, operationsSQL+` where $2 in ('', o.queue_name) order by o.started desc limit 100`, queue)
}

// Tally sums up the operations of a queue that made, or were to make, the node of one database the root.
type Tally struct {
	Done     []time.Duration // how long each took that ended
	Aborted  int             // rolled back, or overtaken by others
	UnderWay OpState         // of the one that is open here, on either side; "" for none
}

// ReadTally counts the journals of one database. Each operation has one on the new root's side, so that the sum over all
// nodes counts it once. A database without the schema of operations has none.
func ReadTally(ctx context.Context, q pgq.Querier, queue string) (t Tally, err error) {
	if ok, err := hasOperations(ctx, q); err != nil || !ok {
		return t, err
	}
	const journals = `
select o.state, o.finished is not null, extract(epoch from coalesce(o.finished, o.started) - o.started)::float8
  from skyd_node.operation o where o.queue_name = $1 and (o.finished is null or o.side = 'new')`
	var state OpState
	var finished bool
	var seconds float64
	rows, err := q.Query(ctx, journals, queue)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&state, &finished, &seconds}, func() error {
			switch {
			case !finished:
				t.UnderWay = state
			case state == OpAborted:
				t.Aborted++
			default:
				t.Done = append(t.Done, time.Duration(seconds*float64(time.Second)))
			}
			return nil
		})
	}
	if err != nil {
		return t, fmt.Errorf("count the operations: %w", pgq.Classify(err))
	}
	return t, nil
}

func readJournals(ctx context.Context, q pgq.Querier, sql, arg string) ([]Journal, error) {
	if ok, err := hasOperations(ctx, q); err != nil || !ok {
		return nil, err
	}
	rows, err := q.Query(ctx, sql, driverTTL, arg)
	if err == nil {
		var list []Journal
		list, err = pgx.CollectRows(rows, scanJournal)
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read the journal of operations: %w", pgq.Classify(err))
}

// hasOperations tells whether the database has the schema of operations.
func hasOperations(ctx context.Context, q pgq.Querier) (ok bool, err error) {
	const lookup = `select pg_catalog.to_regclass('skyd_node.operation') is not null and pg_catalog.to_regprocedure('pgq.close_queue(text)') is not null`
	if err = q.QueryRow(ctx, lookup).Scan(&ok); err != nil {
		return false, fmt.Errorf("look for schema skyd_node: %w", pgq.Classify(err))
	}
	return ok, nil
}

// sideFacts is Side with what a step needs and a decision does not.
type sideFacts struct {
	Side
	worker    string
	refusedMS float64 // since when writes are refused here
	held      []string
	startTick int64
	gravetick int64
}

// sideSQL reads the facts of one database in one statement: they are of one moment.
const sideSQL = `
select n.node_type, n.node_name, n.worker_name,
       coalesce(not q.queue_disable_insert, false),
       q.queue_id is not null and (
           select count(*) = q.queue_ntables from pg_catalog.pg_trigger g
            where g.tgname = '_skyd_closed' and g.tgenabled <> 'D'
              and g.tgrelid in (select pg_catalog.to_regclass(pgq.quote_fqname(q.queue_data_pfx || '_' || i))
                                  from pg_catalog.generate_series(0, q.queue_ntables - 1) i)),
       coalesce(s.provider_node, ''), coalesce(s.last_tick_id, 0),
       coalesce((select max(t.tick_id) from pgq.tick t where t.tick_queue = q.queue_id), 0),
       coalesce(s.paused, false), coalesce(s.uptodate, false), coalesce(t.term, 0), coalesce(t.root_node, ''),
       exists (select from pgq_node.subscriber_info i where i.queue_name = n.queue_name and i.subscriber_node = $3),
       exists (select from pgq_node.subscriber_info i
                where i.queue_name = n.queue_name and i.subscriber_node = $3 and i.worker_name = $3 || '.gravestone'),
       coalesce((select u.sub_last_tick from pgq.subscription u join pgq.consumer c on c.co_id = u.sub_consumer
                  where u.sub_queue = q.queue_id and c.co_name = $3 || '.gravestone'), 0),
       coalesce(o.state, ''), coalesce(cur.op_id, ''), coalesce(o.final_tick, 0), coalesce(o.epoch, 0),
       coalesce(extract(epoch from clock_timestamp() - o.closed_at) * 1000, 0)::float8,
       coalesce(o.held, '{}'), coalesce(o.start_tick, 0)
  from pgq_node.node_info n
  left join pgq.queue q on q.queue_name = n.queue_name and n.node_type <> 'leaf'
  left join pgq_node.local_state s on s.queue_name = n.queue_name and s.consumer_name = n.worker_name
  left join skyd_node.term t on t.queue_name = n.queue_name
  left join skyd_node.operation o on o.op_id = $2
  left join skyd_node.operation cur on cur.queue_name = n.queue_name and cur.finished is null
 where n.queue_name = $1`

// readSide reads what a database says about itself in an operation with another node.
func readSide(ctx context.Context, q pgq.Querier, queue, op, peer string) (f sideFacts, err error) {
	err = q.QueryRow(ctx, sideSQL, queue, op, peer).Scan(&f.Type, &f.Name, &f.worker, &f.Open, &f.Gated, &f.Provider,
		&f.Completed, &f.Top, &f.Paused, &f.Uptodate, &f.Term, &f.TermRoot, &f.Peer, &f.Gravestone, &f.gravetick,
		&f.State, &f.Op, &f.Final, &f.Epoch, &f.refusedMS, &f.held, &f.startTick)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, fmt.Errorf("queue %s: node %w in this database", queue, ErrNotFound)
	}
	if err != nil {
		return f, fmt.Errorf("read the node of queue %s: %w", queue, pgq.Classify(err))
	}
	f.Reached = true
	return f, nil
}

// openJournal writes the first row of an operation in a database; another open one of the queue is ErrBusy.
func openJournal(ctx context.Context, q pgq.Querier, j Journal) error {
	const insert = `
insert into skyd_node.operation (op_id, queue_name, kind, side, old_node, new_node, term, state, start_tick, held, options, plan, driver, epoch)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10::text[], '{}'), $11, $12, $13, 1)`
	options, err := json.Marshal(j.Limits)
	if err != nil {
		return err
	}
	_, err = q.Exec(ctx, insert, j.ID, j.Queue, j.Kind, j.Side, j.Old, j.New, j.Term, string(j.State), orNull(j.StartTick),
		j.Held, options, planOf(j.Kind), j.Driver)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.ConstraintName == "operation_open_uq" {
		return fmt.Errorf("%w on queue %s: skyd node takeover --resume or --rollback ends it", ErrBusy, j.Queue)
	}
	if err != nil {
		return fmt.Errorf("open the journal of operation %s: %w", j.ID, pgq.Classify(err))
	}
	return nil
}

// planOf lists the steps of an operation in order.
func planOf(kind string) []string {
	switch kind {
	case KindSwitchover:
		return []string{"prepare-old", "prepare-new", "close", "final", "grant", "promote", "demote", "resume-old", "resume-new"}
	case KindFailover:
		return []string{"prepare", "feed", "promote", "children", "consumers", "tag-dead", "done"}
	}
	return []string{"close", "cut", "subscribe", "done"}
}

// setState writes a state into the journal, with the step that it tells of.
func setState(ctx context.Context, q pgq.Querier, op string, state OpState) error {
	const update = `
update skyd_node.operation o
   set state = $2, updated = clock_timestamp(), driver_seen = clock_timestamp(), last_error = null,
       closed_at = case when $2 = 'closed' and o.closed_at is null then clock_timestamp() else o.closed_at end,
       opened_at = case when $2 = 'promoted' then clock_timestamp() else o.opened_at end,
       finished = case when $2 in ('done', 'aborted') then clock_timestamp() else o.finished end
 where o.op_id = $1`
	tag, err := q.Exec(ctx, update, op, string(state))
	if err == nil && tag.RowsAffected() != 1 {
		return fmt.Errorf("%w: operation %s has no journal here", ErrOvertaken, op)
	}
	if err != nil {
		return fmt.Errorf("write the journal of operation %s: %w", op, pgq.Classify(err))
	}
	return nil
}

// takeDriver makes the caller the driver of an operation in one database: it was so before, or the one before is silent.
// The epoch it returns is 0 when there is no journal here, and ErrDriven when somebody is at work.
func takeDriver(ctx context.Context, q pgq.Querier, op, driver string) (epoch int64, err error) {
	const take = `
with row as (
    select o.op_id, o.driver, o.epoch, o.driver_seen < clock_timestamp() - $3::interval as silent
      from skyd_node.operation o where o.op_id = $1 for update
), taken as (
    update skyd_node.operation o
       set epoch = o.epoch + (o.driver <> $2)::int, driver = $2, driver_seen = clock_timestamp()
      from row where o.op_id = row.op_id and (row.silent or row.driver = $2)
 returning o.epoch
)
select row.driver, coalesce((select taken.epoch from taken), 0) from row`
	var holder string
	err = q.QueryRow(ctx, take, op, driver, driverTTL).Scan(&holder, &epoch)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("take operation %s over: %w", op, pgq.Classify(err))
	case epoch == 0:
		return 0, fmt.Errorf("%w: operation %s is driven by %s", ErrDriven, op, holder)
	}
	return epoch, nil
}

// beat tells that the driver lives; false: another one has taken over.
func beat(ctx context.Context, q pgq.Querier, op string, epoch int64) (bool, error) {
	const update = `update skyd_node.operation set driver_seen = clock_timestamp() where op_id = $1 and epoch = $2`
	tag, err := q.Exec(ctx, update, op, epoch)
	if err != nil {
		return false, fmt.Errorf("write the journal of operation %s: %w", op, pgq.Classify(err))
	}
	return tag.RowsAffected() == 1, nil
}
