package pgq

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Holder says who keeps the tables of a queue from being rotated.
type Holder string

// The holders of a rotation.
const (
	NoHolder       Holder = ""
	HolderConsumer Holder = "consumer" // a consumer is behind
	HolderWriter   Holder = "writer"   // a transaction that writes has been open since before the last rotation
	HolderPrepared Holder = "prepared" // so has a prepared transaction
	HolderTicker   Holder = "ticker"   // nobody has ticked since the last rotation
	HolderLock     Holder = "lock"     // a session has a lock on the table to be reused
)

// QueueHealth is the health of one queue.
type QueueHealth struct {
	Queue          string
	TickerLag      time.Duration // age of the newest tick
	TickerPaused   bool
	ExternalTicker bool
	EventsTotal    int64 // event ids taken since the queue exists
	EventsUnticked int64 // of them since the newest tick, about

	RotationPeriod  time.Duration
	RotationAge     time.Duration // since the last rotation
	RotationDue     bool          // the period is over
	RotationBlocked bool          // and somebody keeps it from happening
	// Holder says who, HolderName by which name: a consumer, an application
	// name, or the gid of a prepared transaction. HolderPID and HolderDatabase
	// are those of a session, HolderXid is its transaction. HolderAge is how
	// long the consumer lags or the transaction is open, at least.
	Holder         Holder
	HolderName     string
	HolderPID      int
	HolderDatabase string
	HolderXid      int64
	HolderAge      time.Duration

	TableBytes  []int64 // of each data table with its indexes; -1: not asked for, it is locked or about to be truncated
	EventBytes  int64   // sum of them
	RetryEvents int64   // in the retry queue
	RetryDue    int64   // of them due
	RetryOldest time.Duration
	DeadEvents  int64 // dead letters
	DeadOldest  time.Duration

	Consumers       int           // a group counts once
	ConsumerLag     time.Duration // of the slowest
	ConsumerPending int64         // events it has before it, about
	BatchOpen       time.Duration // of the longest open batch
}

// HolderText says in words who holds rotation; empty when nobody does.
func (h QueueHealth) HolderText() string {
	session := ""
	if h.HolderPID != 0 {
		session = fmt.Sprintf("process %d", h.HolderPID)
		if h.HolderName != "" {
			session += fmt.Sprintf(" (%s)", h.HolderName)
		}
		if h.HolderDatabase != "" {
			session += " in database " + h.HolderDatabase
		}
	}
	age := h.HolderAge.Round(time.Second)
	switch h.Holder {
	case NoHolder:
		return ""
	case HolderConsumer:
		return "consumer " + h.HolderName
	case HolderWriter:
		return fmt.Sprintf("open transaction %d of %s, for %v", h.HolderXid, session, age)
	case HolderPrepared:
		return fmt.Sprintf("prepared transaction %s in database %s, for %v", h.HolderName, h.HolderDatabase, age)
	case HolderTicker:
		return fmt.Sprintf("no tick for %v", age)
	case HolderLock:
		return "lock of " + session
	default:
		return string(h.Holder) + " " + h.HolderName
	}
}

const queueHealthSQL = `
select queue_name, coalesce(ticker_lag_seconds, 0), ticker_paused, external_ticker, events_total, coalesce(events_unticked, 0),
       rotation_period_seconds, rotation_age_seconds, rotation_due, rotation_blocked,
       coalesce(holder, ''), coalesce(holder_name, ''), coalesce(holder_pid, 0), coalesce(holder_database, ''),
       coalesce(holder_xid, 0), coalesce(holder_age_seconds, 0),
       array(select coalesce(b, -1) from unnest(table_bytes) with ordinality t (b, i) order by i), coalesce(event_bytes, 0),
       retry_events, retry_due, coalesce(retry_oldest_seconds, 0), dead_events, coalesce(dead_oldest_seconds, 0),
       consumers, coalesce(consumer_lag_seconds, 0), coalesce(consumer_pending_events, 0), coalesce(batch_open_seconds, 0)
  from pgq.get_queue_health($1)`

// QueueHealths returns the health of the queues, by name; an empty name stands
// for all. It reads no event and keeps no lock that would hold rotation.
// Errors: ErrNotInstalled without skyd's additions.
func QueueHealths(ctx context.Context, q Querier, queue string) ([]QueueHealth, error) {
	rows, err := q.Query(ctx, queueHealthSQL, wanted(queue))
	if err != nil {
		return nil, fmt.Errorf("get health of queues: %w", classify(err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (QueueHealth, error) {
		var (
			h                                             QueueHealth
			lag, period, age, held, retry, dead, cl, open float64
		)
		err := row.Scan(&h.Queue, &lag, &h.TickerPaused, &h.ExternalTicker, &h.EventsTotal, &h.EventsUnticked,
			&period, &age, &h.RotationDue, &h.RotationBlocked, &h.Holder, &h.HolderName, &h.HolderPID, &h.HolderDatabase,
			&h.HolderXid, &held, &h.TableBytes, &h.EventBytes, &h.RetryEvents, &h.RetryDue, &retry, &h.DeadEvents, &dead,
			&h.Consumers, &cl, &h.ConsumerPending, &open)
		h.TickerLag, h.RotationPeriod, h.RotationAge, h.HolderAge = seconds(lag), seconds(period), seconds(age), seconds(held)
		h.RetryOldest, h.DeadOldest, h.ConsumerLag, h.BatchOpen = seconds(retry), seconds(dead), seconds(cl), seconds(open)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("get health of queues: %w", classify(err))
	}
	return all, nil
}

// ConsumerState is what a limit has done to a consumer.
type ConsumerState string

// The states of a consumer that is or was over its limit.
const (
	WithinLimit      ConsumerState = ""
	ConsumerWarned   ConsumerState = "warned"
	ConsumerPaused   ConsumerState = "paused"
	ConsumerResumed  ConsumerState = "resumed" // by hand; it may catch up before its limit holds again
	ConsumerDetached ConsumerState = "detached"
)

// ConsumerHealth is the health of one consumer on one queue. A cooperative
// group is one consumer.
type ConsumerHealth struct {
	Queue      string
	Consumer   string
	Registered bool // false: detached, or it left only dead letters behind

	Lag           time.Duration // age of the last finished tick
	LagTicks      int64
	PendingEvents int64         // about
	LastSeen      time.Duration // since a batch was opened or closed
	OpenBatches   int
	BatchOpen     time.Duration // of the longest open batch
	HoldsRotation bool          // a rotation is due and this consumer is behind

	RetryEvents int64
	RetryOldest time.Duration
	DeadEvents  int64

	// Members of a cooperative group: with an open batch, without, and those of
	// both that have been silent for option member_stale_after. All 0 for a
	// plain consumer.
	MembersActive, MembersIdle, MembersStale int

	// Limit is what is done when it is over its limit, empty without one; State
	// what holds now, since StateSince, for the reason in Note.
	Limit      LimitAction
	State      ConsumerState
	StateSince time.Time
	Note       string
}

const consumerHealthSQL = `
select queue_name, consumer_name, registered, coalesce(lag_seconds, 0), coalesce(lag_ticks, 0), coalesce(pending_events, 0),
       coalesce(last_seen_seconds, 0), open_batches, coalesce(batch_open_seconds, 0), holds_rotation,
       retry_events, coalesce(retry_oldest_seconds, 0), dead_events,
       coalesce(members_active, 0), coalesce(members_idle, 0), coalesce(members_stale, 0),
       coalesce(limit_action, ''), coalesce(state, ''), coalesce(state_since, 'epoch'), coalesce(note, '')
  from pgq.get_consumer_health($1, $2)`

// ConsumerHealths returns the health of consumers, by queue and name; an empty
// name stands for all. Errors: ErrNotInstalled without skyd's additions.
func ConsumerHealths(ctx context.Context, q Querier, queue, consumer string) ([]ConsumerHealth, error) {
	rows, err := q.Query(ctx, consumerHealthSQL, wanted(queue), wanted(consumer))
	if err != nil {
		return nil, fmt.Errorf("get health of consumers: %w", classify(err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ConsumerHealth, error) {
		var (
			h                      ConsumerHealth
			lag, seen, open, retry float64
		)
		err := row.Scan(&h.Queue, &h.Consumer, &h.Registered, &lag, &h.LagTicks, &h.PendingEvents, &seen, &h.OpenBatches, &open,
			&h.HoldsRotation, &h.RetryEvents, &retry, &h.DeadEvents, &h.MembersActive, &h.MembersIdle, &h.MembersStale,
			&h.Limit, &h.State, &h.StateSince, &h.Note)
		h.Lag, h.LastSeen, h.BatchOpen, h.RetryOldest = seconds(lag), seconds(seen), seconds(open), seconds(retry)
		if h.State == WithinLimit {
			h.StateSince = time.Time{}
		}
		h.StateSince = h.StateSince.UTC()
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("get health of consumers: %w", classify(err))
	}
	return all, nil
}

// Health is the health of all queues and consumers of a database.
type Health struct {
	Queues    []QueueHealth
	Consumers []ConsumerHealth
	Tables    []TableHealth
}

// TableHealth is the health of the tables of one kind.
type TableHealth struct {
	Queue      string // empty for the kinds that all queues share
	Kind       string // event, tick, subscription or retry
	Bytes      int64  // with indexes; -1: not asked for, see QueueHealth.TableBytes
	DeadTuples int64  // as of the server's statistics
}

// tableHealthSQL opens no event table, which would hold rotation, and no table
// that is locked exclusively.
const tableHealthSQL = `
with tables as (
    select q.queue_name as queue, 'event' as kind, i.inhrelid as relid
      from pgq.queue q
      join pg_catalog.pg_inherits i on i.inhparent = pg_catalog.to_regclass(q.queue_data_pfx)
     union all
    select '', v.kind, pg_catalog.to_regclass(v.name)::oid
      from (values ('tick', 'pgq.tick'), ('subscription', 'pgq.subscription'), ('retry', 'pgq.retry_queue')) v (kind, name)
), closed as (
    select l.relation
      from pg_catalog.pg_locks l
     where l.mode = 'AccessExclusiveLock' and l.granted
       and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
)
select t.queue, t.kind, pg_catalog.sum(pg_catalog.pg_stat_get_dead_tuples(t.relid))::bigint,
       coalesce(pg_catalog.sum(case when t.kind <> 'event' and t.relid not in (select c.relation from closed c where c.relation is not null)
                                    then pg_catalog.pg_total_relation_size(t.relid) end), -1)::bigint
  from tables t
 group by t.queue, t.kind
 order by t.queue, t.kind`

// TableHealths returns the health of the tables behind the queues.
func TableHealths(ctx context.Context, q Querier) ([]TableHealth, error) {
	rows, err := q.Query(ctx, tableHealthSQL)
	if err != nil {
		return nil, fmt.Errorf("get health of tables: %w", classify(err))
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (TableHealth, error) {
		var h TableHealth
		err := row.Scan(&h.Queue, &h.Kind, &h.DeadTuples, &h.Bytes)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("get health of tables: %w", classify(err))
	}
	return all, nil
}

// GetHealth reads the health of all queues and consumers. Without skyd's
// additions it is what the contract tells: no writers that hold rotation, no
// sizes, no retry queue.
func GetHealth(ctx context.Context, q Querier) (Health, error) {
	const installed = `select pg_catalog.to_regprocedure('pgq.get_queue_health(text)') is not null`
	var plus bool
	if err := q.QueryRow(ctx, installed).Scan(&plus); err != nil {
		return Health{}, fmt.Errorf("get health: %w", classify(err))
	}
	tables, err := TableHealths(ctx, q)
	if err != nil {
		return Health{}, err
	}
	if plus {
		queues, err := QueueHealths(ctx, q, "")
		if err != nil {
			return Health{}, err
		}
		consumers, err := ConsumerHealths(ctx, q, "", "")
		return Health{Queues: queues, Consumers: consumers, Tables: tables}, err
	}
	queues, err := QueueInfos(ctx, q)
	if err != nil {
		return Health{}, err
	}
	consumers, err := ConsumerInfos(ctx, q)
	if err != nil {
		return Health{}, err
	}
	h := plainHealth(time.Now(), queues, consumers)
	h.Tables = tables
	return h, nil
}

// plainHealth is what the information functions of the contract tell.
func plainHealth(now time.Time, queues []QueueInfo, consumers []ConsumerInfo) Health {
	var h Health
	for _, q := range queues {
		one := QueueHealth{
			Queue: q.Name, TickerLag: q.TickerLag, TickerPaused: q.TickerPaused, ExternalTicker: q.ExternalTicker,
			EventsUnticked: q.NewEvents, RotationPeriod: q.RotationPeriod, RotationAge: q.RotationAge(now),
			RotationDue: q.RotationAge(now) > q.RotationPeriod,
		}
		if name := q.RotationBlocker(now, consumers); name != "" {
			one.RotationBlocked, one.Holder, one.HolderName = true, HolderConsumer, name
		}
		h.Queues = append(h.Queues, one)
	}
	for _, c := range consumers {
		one := ConsumerHealth{
			Queue: c.Queue, Consumer: c.Consumer, Registered: true, Lag: c.Lag, LastSeen: c.LastSeen, PendingEvents: c.PendingEvents,
		}
		if c.CurrentBatch != 0 {
			one.OpenBatches, one.BatchOpen = 1, c.LastSeen
		}
		h.Consumers = append(h.Consumers, one)
	}
	return h
}
