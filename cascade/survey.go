package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// site is what one database says about the cascade of a queue, as of one moment.
type site struct {
	name     string // of the member; the node itself may call itself otherwise
	location string
	dead     bool  // tagged, or assumed for this command: it was not asked
	err      error // why it did not answer
	missing  bool  // it answered, and has no node of the queue

	now         time.Time
	info        NodeInfo
	queue       *queueFacts
	consumers   []ConsumerInfo
	subscribers []Subscriber
	positions   []position
	locations   []Location
	term        *Term
	operation   *OpenOperation
}

// Term is who became root when, as a node knows it.
type Term struct {
	Term  int64     `json:"term"`
	Root  string    `json:"root"`
	Since time.Time `json:"since"`
}

// OpenOperation is an operation on who is root that is under way, or was left unfinished, as the journal of a node has it.
type OpenOperation struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Old     string    `json:"old_node"`
	New     string    `json:"new_node"`
	State   string    `json:"state"`
	Started time.Time `json:"started"`
	// Seen is when whoever drives it gave the last sign of life.
	Seen time.Time `json:"driver_seen"`
	// Silent: that is so long ago that another driver may go on with it.
	Silent bool   `json:"driver_silent"`
	Error  string `json:"error,omitempty"`
}

// queueFacts is the state of the queue of a root or branch.
type queueFacts struct {
	closed, external, paused bool
	rotation                 time.Duration
	rotated                  time.Time
	top, low                 int64
	topTime, lowTime         time.Time
	topSeq                   int64
	bytes                    int64
}

// position is where a consumer of the queue here stands.
type position struct {
	consumer string
	tick     int64
	since    time.Time // of the tick; zero when it does not exist any more
	seq      int64     // event counter of the tick
	behind   int64     // ticks after it
}

// answered tells whether there is a node and all about it.
func (s *site) answered() bool { return !s.dead && s.err == nil && !s.missing }

// position finds where a consumer stands.
func (s *site) position(consumer string) (position, bool) {
	for _, p := range s.positions {
		if p.consumer == consumer {
			return p, true
		}
	}
	return position{}, false
}

// survey reads all that a database knows about the cascade of a queue, in one transaction that writes nothing.
func survey(ctx context.Context, db *pgq.DB, queue string, s *site) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, ok, err := Installed(ctx, tx); err != nil || !ok {
			s.missing = true
			return err
		}
		var err error
		if s.locations, err = Locations(ctx, tx, queue); err != nil {
			return err
		}
		s.info, err = GetNodeInfo(ctx, tx, queue)
		if Code(err) == CodeNotFound {
			s.missing = true
			return nil
		}
		if err != nil {
			return err
		}
		if s.consumers, err = Consumers(ctx, tx, queue); err != nil {
			return err
		}
		if err = readOperations(ctx, tx, queue, s); err != nil {
			return err
		}
		if s.subscribers, err = Subscribers(ctx, tx, queue); err != nil {
			return err
		}
		if err = tx.QueryRow(ctx, `select now()`).Scan(&s.now); err != nil || s.info.Type == Leaf {
			return err
		}
		if s.positions, err = positions(ctx, tx, queue); err != nil {
			return err
		}
		s.queue, err = readQueue(ctx, tx, queue)
		return err
	})
}

// positions reads where the consumers of a queue stand. A worker of a cooperative group has no position of its own.
func positions(ctx context.Context, q pgq.Querier, queue string) ([]position, error) {
	const list = `
select c.co_name, s.sub_last_tick, coalesce(t.tick_time, 'epoch'), coalesce(t.tick_event_seq, 0),
       (select count(*) from pgq.tick n where n.tick_queue = q.queue_id and n.tick_id > s.sub_last_tick)
  from pgq.queue q
  join pgq.subscription s on s.sub_queue = q.queue_id
  join pgq.consumer c on c.co_id = s.sub_consumer
  left join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = s.sub_last_tick
 where q.queue_name = $1 and s.sub_last_tick is not null
 order by 1`
	rows, err := q.Query(ctx, list, queue)
	if err == nil {
		var all []position
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p position, err error) {
			err = row.Scan(&p.consumer, &p.tick, &p.since, &p.seq, &p.behind)
			if p.since.Unix() == 0 {
				p.since = time.Time{}
			}
			return p, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("read the positions on queue %s: %w", queue, pgq.Classify(err))
}

// readQueue reads the state of the queue itself.
func readQueue(ctx context.Context, q pgq.Querier, queue string) (*queueFacts, error) {
	const read = `
select q.queue_disable_insert, q.queue_external_ticker, q.queue_ticker_paused,
       extract(epoch from q.queue_rotation_period)::float8, q.queue_switch_time,
       coalesce(top.tick_id, 0), coalesce(top.tick_time, now()), coalesce(top.tick_event_seq, 0),
       coalesce(low.tick_id, 0), coalesce(low.tick_time, now()),
       coalesce((select sum(pg_catalog.pg_total_relation_size(i.inhrelid))::int8
                   from pg_catalog.pg_inherits i where i.inhparent = q.queue_data_pfx::regclass), 0)
  from pgq.queue q
  left join lateral (select * from pgq.tick t where t.tick_queue = q.queue_id order by t.tick_id desc limit 1) top on true
  left join lateral (select * from pgq.tick t where t.tick_queue = q.queue_id order by t.tick_id limit 1) low on true
 where q.queue_name = $1`
	f, rotation := &queueFacts{}, 0.0
	err := q.QueryRow(ctx, read, queue).Scan(&f.closed, &f.external, &f.paused, &rotation, &f.rotated,
		&f.top, &f.topTime, &f.topSeq, &f.low, &f.lowTime, &f.bytes)
	if err != nil {
		return nil, fmt.Errorf("read queue %s: %w", queue, pgq.Classify(err))
	}
	f.rotation = time.Duration(rotation * float64(time.Second))
	return f, nil
}

// readOperations reads what skyd notes beside the contract, where that is installed.
func readOperations(ctx context.Context, q pgq.Querier, queue string, s *site) error {
	const installed = `select pg_catalog.to_regclass('skyd_node.operation') is not null`
	const term = `select t.term, coalesce(t.root_node, ''), coalesce(t.since, now()) from skyd_node.get_term($1) t`
	const operation = `
select o.op_id, o.kind, o.old_node, o.new_node, o.state, o.started, o.driver_seen, coalesce(o.last_error, ''),
       o.driver_seen < clock_timestamp() - $2::interval
  from skyd_node.operation o
 where o.queue_name = $1 and o.finished is null`
	var (
		ok bool
		o  OpenOperation
		t  Term
	)
	err := q.QueryRow(ctx, installed).Scan(&ok)
	if err == nil && ok {
		err = q.QueryRow(ctx, term, queue).Scan(&t.Term, &t.Root, &t.Since)
	}
	if err != nil || !ok {
		return pgq.Classify(err)
	}
	if t.Since = t.Since.UTC(); t.Term > 0 {
		s.term = &t
	}
	err = q.QueryRow(ctx, operation, queue, driverTTL).Scan(&o.ID, &o.Kind, &o.Old, &o.New, &o.State, &o.Started, &o.Seen, &o.Error, &o.Silent)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the operations of queue %s: %w", queue, pgq.Classify(err))
	}
	o.Started, o.Seen = o.Started.UTC(), o.Seen.UTC()
	s.operation = &o
	return nil
}
