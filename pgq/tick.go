package pgq

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TickState is what the decision to tick one queue needs, read at one moment.
type TickState struct {
	// Queue is the name of the queue.
	Queue string
	// LastTick is the id of the newest tick, 0 without one.
	LastTick int64
	// TickTime is the time of the newest tick, by the server's clock.
	TickTime time.Time
	// ServerNow is the server's clock when the state was read.
	ServerNow time.Time
	// EventSeq is the event counter now: how often the event sequence was
	// used, 0 before the first event.
	EventSeq int64
	// TickSeq is the event counter at the newest tick.
	TickSeq int64
	// MaxCount, MaxLag and IdlePeriod are the queue's ticker settings.
	MaxCount   int
	MaxLag     time.Duration
	IdlePeriod time.Duration
	// Gap is the distance of the two newest ticks, 0 with fewer than two.
	Gap time.Duration
	// Ticks is how many ticks there are, counted to 2.
	Ticks int
	// Paused and External queues are not ticked by us.
	Paused   bool
	External bool
}

// Lag is the age of the newest tick.
func (s TickState) Lag() time.Duration { return s.ServerNow.Sub(s.TickTime) }

// NewEvents is about how many events wait for a tick. Rolled back inserts and
// force_tick count as well.
func (s TickState) NewEvents() int64 { return s.EventSeq - s.TickSeq }

// Due decides whether the queue needs a tick, by the rule of the contract:
// new events tick when there are enough of them or they have waited long
// enough; a quiet queue ticks at doubling distances up to the idle period.
// Paused and external queues are never due.
func (s TickState) Due() bool {
	lag := s.Lag()
	switch {
	case s.Paused || s.External:
		return false
	case s.Ticks == 0:
		return true
	case s.NewEvents() > 0:
		return s.NewEvents() >= int64(s.MaxCount) || lag >= s.MaxLag
	case s.Ticks == 1:
		return true
	case lag < s.MaxLag/2:
		return false
	case lag < 2*s.Gap && lag < s.IdlePeriod:
		return false
	default:
		return true
	}
}

// The C extension (and only it) stores a counter of 1 for ticks before the
// first event as well as for ticks after it, because it reads last_value of a
// sequence that was never used. So there, 1 in the newest tick means 0 as long
// as the sequence has not gone further: at worst one tick too many, while the
// other reading delays the first event of a queue by up to a minute.
const tickStatesSQL = `
select q.queue_name, coalesce(t1.tick_id, 0), coalesce(t1.tick_time, 'epoch'::timestamptz),
       statement_timestamp(), s.seq,
       case when t1.tick_event_seq = 1 and s.seq <= 1
             and exists (select from pg_catalog.pg_extension e where e.extname = 'pgq')
            then 0 else coalesce(t1.tick_event_seq, 0) end,
       q.queue_ticker_max_count,
       (least(extract(epoch from q.queue_ticker_max_lag), 9e9) * 1000000)::bigint,
       (least(extract(epoch from q.queue_ticker_idle_period), 9e9) * 1000000)::bigint,
       (least(coalesce(extract(epoch from t1.tick_time - t2.tick_time), 0), 9e9) * 1000000)::bigint,
       (t1.tick_id is not null)::int + (t2.tick_id is not null)::int,
       q.queue_ticker_paused, q.queue_external_ticker
  from pgq.queue q
 cross join lateral (
        select coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(q.queue_event_seq)), 0) as seq
       ) s
  left join lateral (
        select t.tick_id, t.tick_time, t.tick_event_seq from pgq.tick t
         where t.tick_queue = q.queue_id
         order by t.tick_queue desc, t.tick_id desc limit 1
       ) t1 on true
  left join lateral (
        select t.tick_id, t.tick_time from pgq.tick t
         where t.tick_queue = q.queue_id and t.tick_id < t1.tick_id
         order by t.tick_queue desc, t.tick_id desc limit 1
       ) t2 on true`

// LoadTickStates reads the state of all queues in one query. It writes nothing,
// takes no transaction id, and reads each event counter without touching it. A
// queue that another transaction is just dropping is left out, after a short
// wait, when q is a pool; in a transaction of yours it is waited for.
func LoadTickStates(ctx context.Context, q Querier) ([]TickState, error) {
	states, where, err := []TickState(nil), "", error(nil)
	for range tickStateReads {
		states, err = loadTickStates(ctx, q, where)
		if SQLState(err) == lockNotAvailable && where == "" {
			where = withoutLocked
		} else if SQLState(err) != "XX000" {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("load tick states: %w", classify(err))
	}
	return states, nil
}

// tickStateReads bounds the attempts to read the states. Each XX000 is a queue that was dropped between finding its sequence and
// opening it.
const tickStateReads = 10

// withoutLocked leaves out queues that somebody is just dropping, whose sequence cannot be read until that has ended. To
// know them costs more than all the rest, so it is asked only then.
const withoutLocked = `
 where not exists (
        select from pg_catalog.pg_locks l
         where l.locktype = 'relation' and l.relation = pg_catalog.to_regclass(q.queue_event_seq)
           and l.mode = 'AccessExclusiveLock' and l.granted
           and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))`

// lockPatience bounds the wait for a sequence.
const lockPatience = `select pg_catalog.set_config('lock_timeout', '250ms', true)`

func loadTickStates(ctx context.Context, q Querier, where string) ([]TickState, error) {
	sql := tickStatesSQL + where + " order by q.queue_name"
	switch q.(type) {
	case *DB, *pgxpool.Pool: // the setting ends with the transaction that both statements are
		b := &pgx.Batch{}
		b.Queue(lockPatience)
		b.Queue(sql)
		r := q.SendBatch(ctx, b)
		defer func() { _ = r.Close() }()
		if _, err := r.Exec(); err != nil {
			return nil, err
		}
		rows, err := r.Query()
		return collectTickStates(rows, err)
	}
	rows, err := q.Query(ctx, sql)
	return collectTickStates(rows, err)
}

func collectTickStates(rows pgx.Rows, err error) ([]TickState, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (TickState, error) {
		var (
			s                 TickState
			maxLag, idle, gap int64
		)
		err := row.Scan(&s.Queue, &s.LastTick, &s.TickTime, &s.ServerNow, &s.EventSeq, &s.TickSeq,
			&s.MaxCount, &maxLag, &idle, &gap, &s.Ticks, &s.Paused, &s.External)
		s.TickTime, s.ServerNow = s.TickTime.UTC(), s.ServerNow.UTC()
		s.MaxLag, s.IdlePeriod, s.Gap = micros(maxLag), micros(idle), micros(gap)
		return s, err
	})
}

// TickPeriods reads option tick_period of the queues that have it: how long
// the daemon leaves at least between two ticks of the queue, and at most between
// two looks for its events. Without skyd's additions there are none.
func TickPeriods(ctx context.Context, q Querier) (map[string]time.Duration, error) {
	const tickPeriods = `
select q.queue_name, (least(extract(epoch from o.option_value::interval), 9e9) * 1000000)::bigint
  from pgq.queue_option o
  join pgq.queue q on q.queue_id = o.queue_id
 where o.option_name = 'tick_period'`
	periods := map[string]time.Duration{}
	rows, err := q.Query(ctx, tickPeriods)
	if err == nil {
		var (
			queue  string
			period int64
		)
		_, err = pgx.ForEachRow(rows, []any{&queue, &period}, func() error {
			periods[queue] = micros(period)
			return nil
		})
	}
	if err != nil && SQLState(err) != "42P01" {
		return nil, fmt.Errorf("load tick periods: %w", classify(err))
	}
	return periods, nil
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// lockNotAvailable is the SQLSTATE of a lock that was not waited for any longer.
const lockNotAvailable = "55P03"

// tickSQL ticks and wakes in one statement. The steps are chained by their
// references, so that each runs at most once and in this order:
//
//	guard  refuses a transaction that has written or has a frozen snapshot:
//	       its events would miss the tick, or the tick would be older than it says
//	turn   takes the lock that skyd's own SQL takes inside, so that two of us
//	       never interleave on the C extension either: a later tick with an
//	       older snapshot would deliver events twice
//	nudge  on the C extension, moves the sequence when it stands at the first
//	       event, which that ticker cannot tell from none; costs one id, once
//	       in the life of a queue
//	tick   the contract's own ticker decides and ticks
const tickSQL = `
with guard as materialized (
    select current_setting('transaction_isolation') in ('read committed', 'read uncommitted') as committed,
           pg_catalog.pg_current_xact_id_if_assigned() is null as fresh
), turn as materialized (
    select g.committed, g.fresh,
           g.committed and g.fresh and coalesce(pg_catalog.pg_try_advisory_xact_lock(1885827444, (
               select q.queue_id from pgq.queue q where q.queue_name = $1)), true) as ours
      from guard g
), nudge as materialized (
    select count(nextval(q.queue_event_seq::regclass)) as n
      from turn g
      join pgq.queue q on q.queue_name = $1
                      and not q.queue_ticker_paused and not q.queue_external_ticker
     cross join lateral (
            select t.tick_event_seq from pgq.tick t where t.tick_queue = q.queue_id
             order by t.tick_queue desc, t.tick_id desc limit 1
           ) t1
     where g.ours and t1.tick_event_seq = 1
       and pg_catalog.pg_sequence_last_value(q.queue_event_seq::regclass) = 1
       and exists (select from pg_catalog.pg_extension e where e.extname = 'pgq')
), tick as materialized (
    select g.committed, g.fresh, case when g.ours then pgq.ticker($1) end as id
      from turn g, nudge n where n.n >= 0
)
select committed, fresh, id, case when id is not null then pg_catalog.pg_notify($2, id::text) end is not null
  from tick`

// Tick lets the queue's ticker decide and tick, and tells the listeners of
// WakeupChannel. made is false when the ticker saw no need, or another session
// is ticking this queue at the moment.
//
// It needs a transaction of its own at read committed: a pool, a connection
// outside a transaction, or a transaction that has not written yet. Otherwise
// it refuses with ErrNotOwnTransaction or ErrIsolation and does nothing. Other
// errors: ErrQueueNotFound, ErrTickerPaused, ErrTickerExternal, ErrFutureTick.
func Tick(ctx context.Context, q Querier, queue string) (tick int64, made bool, err error) {
	var (
		committed, fresh, notified bool
		id                         *int64
	)
	err = q.QueryRow(ctx, tickSQL, queue, WakeupChannel(queue)).Scan(&committed, &fresh, &id, &notified)
	switch {
	case err != nil:
		err = classify(err)
	case !committed:
		err = ErrIsolation
	case !fresh:
		err = ErrNotOwnTransaction
	}
	if err != nil {
		return 0, false, fmt.Errorf("tick queue %s: %w", queue, err)
	}
	if id == nil {
		return 0, false, nil
	}
	return *id, true, nil
}

// ForceTick makes the next Tick of the queue tick whatever its settings say; it
// does not tick itself. It returns the id of the newest tick so far: call Tick
// until a higher one comes. On a paused or external queue it has no effect but
// the answer. Errors: ErrQueueNotFound.
func ForceTick(ctx context.Context, q Querier, queue string) (int64, error) {
	var id *int64
	if err := q.QueryRow(ctx, `select pgq.force_tick($1)`, queue).Scan(&id); err != nil {
		return 0, fmt.Errorf("force tick of queue %s: %w", queue, classify(err))
	}
	if id == nil {
		return 0, fmt.Errorf("force tick of queue %s: %w", queue, ErrQueueNotFound)
	}
	return *id, nil
}

// WakeupChannel is the notification channel that gets every tick id of a
// queue: pgq_<queue>, or pgq_<md5 of queue> when that would be longer than
// PostgreSQL takes. The SQL of skyd follows the same rule.
func WakeupChannel(queue string) string {
	const prefix = "pgq_"
	if len(prefix)+len(queue) <= maxNameBytes {
		return prefix + queue
	}
	sum := md5.Sum([]byte(queue))
	return prefix + hex.EncodeToString(sum[:])
}

// SnapshotMark returns the server's current snapshot as text. When it is the
// same as at the last look, no transaction has committed in between anywhere in
// the cluster, and there is nothing to look for. It costs no transaction id.
func SnapshotMark(ctx context.Context, q Querier) (string, error) {
	var mark string
	if err := q.QueryRow(ctx, `select pg_catalog.pg_current_snapshot()::text`).Scan(&mark); err != nil {
		return "", fmt.Errorf("read snapshot: %w", classify(err))
	}
	return mark, nil
}
