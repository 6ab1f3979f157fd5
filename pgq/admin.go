package pgq

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// CreateQueue makes a queue with default settings and its first tick. created
// is false when it exists already.
func CreateQueue(ctx context.Context, q Querier, queue string) (created bool, err error) {
	n, err := callInt(ctx, q, `select pgq.create_queue($1)`, queue)
	if err != nil {
		return false, fmt.Errorf("create queue %s: %w", queue, err)
	}
	return n == 1, nil
}

// DropQueue drops a queue with its events. With force it unregisters the
// consumers first, which drops their retry events too; without force a queue
// that has consumers gives ErrQueueInUse. A missing queue gives
// ErrQueueNotFound.
func DropQueue(ctx context.Context, q Querier, queue string, force bool) error {
	if _, err := callInt(ctx, q, `select pgq.drop_queue($1, $2)`, queue, force); err != nil {
		return fmt.Errorf("drop queue %s: %w", queue, err)
	}
	return nil
}

// SetQueueConfig sets one parameter of a queue: ticker_max_count,
// ticker_max_lag, ticker_idle_period, ticker_paused, rotation_period or
// external_ticker. The value is given in PostgreSQL's text form. Errors:
// ErrBadParameter, ErrQueueNotFound, or the server's own for a value that does
// not fit.
func SetQueueConfig(ctx context.Context, q Querier, queue, name, value string) error {
	if _, err := callInt(ctx, q, `select pgq.set_queue_config($1, $2, $3)`, queue, name, value); err != nil {
		return fmt.Errorf("set %s of queue %s: %w", name, queue, err)
	}
	return nil
}

// RegisterConsumer registers a consumer at the newest tick: it will see what is
// committed after that tick. created is false when it was registered already;
// its position is then untouched. Errors: ErrQueueNotFound.
func RegisterConsumer(ctx context.Context, q Querier, queue, consumer string) (created bool, err error) {
	n, err := callInt(ctx, q, `select pgq.register_consumer($1, $2)`, queue, consumer)
	if err != nil {
		return false, fmt.Errorf("register consumer %s on queue %s: %w", consumer, queue, err)
	}
	return n == 1, nil
}

// RegisterConsumerAt registers a consumer at a tick, or moves a registered one
// there, dropping its open batch (created is then false). Errors:
// ErrQueueNotFound, ErrTickNotFound.
func RegisterConsumerAt(ctx context.Context, q Querier, queue, consumer string, tick int64) (created bool, err error) {
	n, err := callInt(ctx, q, `select pgq.register_consumer_at($1, $2, $3)`, queue, consumer, tick)
	if err != nil {
		return false, fmt.Errorf("register consumer %s on queue %s at tick %d: %w", consumer, queue, tick, err)
	}
	return n == 1, nil
}

// Seek moves a registered consumer to the last tick that was made by the given
// time, and returns that tick: what was committed after it comes again, or is
// skipped if the time lies ahead. The open batch is dropped, retry events stay.
// A running Consumer notices and goes on from there. Errors: ErrNotSubscribed,
// ErrNotKept, whose text says from when on there are events; ErrNotInstalled
// without pgq.rewind.
func Seek(ctx context.Context, q Querier, queue, consumer string, to time.Time) (tick int64, err error) {
	tick, err = callInt(ctx, q, `select pgq.rewind($1, $2, $3)`, queue, consumer, to)
	if err != nil {
		return 0, fmt.Errorf("seek consumer %s on queue %s to %s: %w", consumer, queue, to.Format(time.RFC3339), err)
	}
	return tick, nil
}

// SeekTick is Seek to a tick. Errors: ErrNotSubscribed, ErrTickNotFound, whose
// text says which ticks there are; ErrNotInstalled.
func SeekTick(ctx context.Context, q Querier, queue, consumer string, tick int64) error {
	if _, err := callInt(ctx, q, `select pgq.rewind_to_tick($1, $2, $3)`, queue, consumer, tick); err != nil {
		return fmt.Errorf("seek consumer %s on queue %s to tick %d: %w", consumer, queue, tick, err)
	}
	return nil
}

// UnregisterConsumer removes a consumer from a queue, with its retry events,
// and returns how many subscriptions went: 0 when it was not registered, more
// than 1 for a cooperative group.
func UnregisterConsumer(ctx context.Context, q Querier, queue, consumer string) (int, error) {
	n, err := callInt(ctx, q, `select pgq.unregister_consumer($1, $2)`, queue, consumer)
	if err != nil {
		return 0, fmt.Errorf("unregister consumer %s from queue %s: %w", consumer, queue, err)
	}
	return int(n), nil
}

// QueueInfo is the state of one queue.
type QueueInfo struct {
	Name             string
	Tables           int // number of data tables
	CurrentTable     int // the one that takes inserts
	RotationPeriod   time.Duration
	SwitchTime       time.Time // start of the last rotation
	ExternalTicker   bool
	TickerPaused     bool
	TickerMaxCount   int
	TickerMaxLag     time.Duration
	TickerIdlePeriod time.Duration
	TickerLag        time.Duration // age of the newest tick
	EventsPerSecond  float64       // over the last 20 ticks; 0 when unknown
	NewEvents        int64         // about how many wait for a tick
	LastTick         int64         // 0 without a tick
}

// QueueInfos returns the state of all queues, by name.
func QueueInfos(ctx context.Context, q Querier) ([]QueueInfo, error) {
	infos, err := queueInfos(ctx, q, nil)
	if err != nil {
		return nil, fmt.Errorf("get queue info: %w", err)
	}
	return infos, nil
}

// GetQueueInfo returns the state of one queue. Errors: ErrQueueNotFound.
func GetQueueInfo(ctx context.Context, q Querier, queue string) (QueueInfo, error) {
	infos, err := queueInfos(ctx, q, &queue)
	if err == nil && len(infos) == 0 {
		err = ErrQueueNotFound
	}
	if err != nil {
		return QueueInfo{}, fmt.Errorf("get info of queue %s: %w", queue, err)
	}
	return infos[0], nil
}

func queueInfos(ctx context.Context, q Querier, queue *string) ([]QueueInfo, error) {
	const getQueueInfo = `
select queue_name, queue_ntables, queue_cur_table, extract(epoch from queue_rotation_period)::float8,
       queue_switch_time, queue_external_ticker, queue_ticker_paused, queue_ticker_max_count,
       extract(epoch from queue_ticker_max_lag)::float8, extract(epoch from queue_ticker_idle_period)::float8,
       coalesce(extract(epoch from ticker_lag), 0)::float8, coalesce(ev_per_sec, 0),
       coalesce(ev_new, 0), coalesce(last_tick_id, 0)
  from pgq.get_queue_info($1::text)`
	rows, err := q.Query(ctx, getQueueInfo, queue)
	if err != nil {
		return nil, classify(err)
	}
	infos, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (QueueInfo, error) {
		var (
			i                         QueueInfo
			rotation, maxLag, idle, l float64
		)
		err := row.Scan(&i.Name, &i.Tables, &i.CurrentTable, &rotation, &i.SwitchTime, &i.ExternalTicker,
			&i.TickerPaused, &i.TickerMaxCount, &maxLag, &idle, &l, &i.EventsPerSecond, &i.NewEvents, &i.LastTick)
		i.SwitchTime = i.SwitchTime.UTC()
		i.RotationPeriod, i.TickerMaxLag = seconds(rotation), seconds(maxLag)
		i.TickerIdlePeriod, i.TickerLag = seconds(idle), seconds(l)
		return i, err
	})
	return infos, classify(err)
}

// ConsumerInfo is the state of one consumer on one queue. An idle member of a
// cooperative group has no position: its Lag, LastTick and PendingEvents are 0.
type ConsumerInfo struct {
	Queue         string
	Consumer      string
	Lag           time.Duration // age of the last finished tick
	LastSeen      time.Duration // since a batch was opened or closed
	LastTick      int64         // position: end of the last finished batch
	CurrentBatch  int64         // open batch, 0 for none
	NextTick      int64         // end tick of the open batch, 0 for none
	PendingEvents int64         // about how many events are left to consume
}

// ConsumerInfos returns the state of all consumers, by queue and name.
func ConsumerInfos(ctx context.Context, q Querier) ([]ConsumerInfo, error) {
	infos, err := consumerInfos(ctx, q, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("get consumer info: %w", err)
	}
	return infos, nil
}

// QueueConsumerInfos returns the state of the consumers of one queue, by name;
// none for a missing queue.
func QueueConsumerInfos(ctx context.Context, q Querier, queue string) ([]ConsumerInfo, error) {
	infos, err := consumerInfos(ctx, q, &queue, nil)
	if err != nil {
		return nil, fmt.Errorf("get consumer info of queue %s: %w", queue, err)
	}
	return infos, nil
}

// GetConsumerInfo returns the state of one consumer on one queue. Errors:
// ErrNotSubscribed.
func GetConsumerInfo(ctx context.Context, q Querier, queue, consumer string) (ConsumerInfo, error) {
	infos, err := consumerInfos(ctx, q, &queue, &consumer)
	if err == nil && len(infos) == 0 {
		err = ErrNotSubscribed
	}
	if err != nil {
		return ConsumerInfo{}, fmt.Errorf("get info of consumer %s on queue %s: %w", consumer, queue, err)
	}
	return infos[0], nil
}

func consumerInfos(ctx context.Context, q Querier, queue, consumer *string) ([]ConsumerInfo, error) {
	const getConsumerInfo = `
select queue_name, consumer_name, coalesce(extract(epoch from lag), 0)::float8,
       coalesce(extract(epoch from last_seen), 0)::float8, coalesce(last_tick, 0),
       coalesce(current_batch, 0), coalesce(next_tick, 0), coalesce(pending_events, 0)
  from pgq.get_consumer_info($1::text, $2::text)`
	rows, err := q.Query(ctx, getConsumerInfo, queue, consumer)
	if err != nil {
		return nil, classify(err)
	}
	infos, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (ConsumerInfo, error) {
		var (
			i         ConsumerInfo
			lag, seen float64
		)
		err := row.Scan(&i.Queue, &i.Consumer, &lag, &seen, &i.LastTick, &i.CurrentBatch, &i.NextTick, &i.PendingEvents)
		i.Lag, i.LastSeen = seconds(lag), seconds(seen)
		return i, err
	})
	return infos, classify(err)
}

// MaintOp is one entry of the list of maintenance work the database asks for.
type MaintOp struct {
	// Func is a function, or vacuum, or vacuum analyze.
	Func string
	// Arg is its argument: a queue, or the table to vacuum.
	Arg string
	// HasArg is false for functions that take none.
	HasArg bool
}

// String returns the operation as the statement it stands for, for logs.
func (op MaintOp) String() string {
	if op.HasArg {
		return op.Func + "(" + op.Arg + ")"
	}
	return op.Func + "()"
}

// MaintOperations returns the maintenance work that is due, in the order in
// which it is to be run. Beside the C extension it adds that of skyd's
// additions, which skyd's own list holds already.
func MaintOperations(ctx context.Context, q Querier) ([]MaintOp, error) {
	ops, err := maintOperations(ctx, q, `select func_name, func_arg from pgq.maint_operations()`)
	if err != nil {
		return nil, fmt.Errorf("list maintenance operations: %w", err)
	}
	const beside = `select pg_catalog.to_regprocedure('pgq.plus_maint_operations()') is not null
   and exists (select from pg_catalog.pg_extension e where e.extname = 'pgq')`
	var more bool
	if err := q.QueryRow(ctx, beside).Scan(&more); err != nil {
		return nil, fmt.Errorf("list maintenance operations: %w", classify(err))
	}
	if !more {
		return ops, nil
	}
	added, err := maintOperations(ctx, q, `select func_name, func_arg from pgq.plus_maint_operations()`)
	if err != nil {
		return nil, fmt.Errorf("list maintenance operations: %w", err)
	}
	return append(ops, added...), nil
}

func maintOperations(ctx context.Context, q Querier, sql string) ([]MaintOp, error) {
	rows, err := q.Query(ctx, sql)
	if err != nil {
		return nil, classify(err)
	}
	ops, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (MaintOp, error) {
		var (
			op  MaintOp
			arg *string
		)
		err := row.Scan(&op.Func, &arg)
		if arg != nil {
			op.Arg, op.HasArg = *arg, true
		}
		return op, err
	})
	return ops, classify(err)
}

// RunMaintOp runs one maintenance operation. again asks for another call at
// once. It must be a transaction of its own (the two steps of a rotation share
// one to no effect, and vacuum refuses any): a transaction that has already
// written gives ErrNotOwnTransaction.
func RunMaintOp(ctx context.Context, q Querier, op MaintOp) (again bool, err error) {
	again, err = runMaintOp(ctx, q, op)
	if err != nil {
		return false, fmt.Errorf("maintenance %s: %w", op, classify(err))
	}
	return again, nil
}

func runMaintOp(ctx context.Context, q Querier, op MaintOp) (again bool, err error) {
	if tx, ok := q.(pgx.Tx); ok {
		var fresh bool
		err := tx.QueryRow(ctx, `select pg_catalog.pg_current_xact_id_if_assigned() is null`).Scan(&fresh)
		if err != nil {
			return false, err
		}
		if !fresh {
			return false, ErrNotOwnTransaction
		}
	}
	switch op.Func {
	case "vacuum", "vacuum analyze":
		table, err := quoteQualified(op.Arg)
		if err != nil {
			return false, err
		}
		_, err = q.Exec(ctx, op.Func+" "+table, pgx.QueryExecModeExec)
		return false, err
	}
	fn, err := quoteQualified(op.Func)
	if err != nil {
		return false, err
	}
	// The mode gives results of any type as text, and leaves no description of
	// somebody else's function behind.
	call, args := `select `+fn+`()`, []any{pgx.QueryExecModeExec}
	if op.HasArg {
		call, args = `select `+fn+`($1)`, append(args, op.Arg)
	}
	rows, err := q.Query(ctx, call, args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for first := true; rows.Next(); first = false {
		if values := rows.RawValues(); first && len(values) > 0 {
			n, err := strconv.ParseInt(string(values[0]), 10, 64)
			again = err == nil && n != 0
		}
	}
	return again, rows.Err()
}

// RetryEvents moves the events whose time of retry has come, and delayed events
// that are due, into their queues, step by step until none is left, and returns
// how many it moved. Given a pool or a connection each step is its own
// transaction; when one fails, the count of those before it comes with the
// error.
func RetryEvents(ctx context.Context, q Querier) (int, error) {
	total, err := moveEvents(ctx, q, `select pgq.maint_retry_events()`)
	if err != nil {
		return total, fmt.Errorf("move retry events: %w", err)
	}
	has, err := hasAdditions(ctx, q)
	if err != nil {
		return total, fmt.Errorf("look for delayed events: %w", classify(err))
	}
	if !has {
		return total, nil
	}
	n, err := moveEvents(ctx, q, `select pgq.maint_delayed_events()`)
	if err != nil {
		err = fmt.Errorf("move delayed events: %w", err)
	}
	return total + n, err
}

// moveEvents repeats a call until it moves nothing.
func moveEvents(ctx context.Context, q Querier, call string) (total int, err error) {
	for {
		n, err := callInt(ctx, q, call)
		if err != nil || n == 0 {
			return total, err
		}
		total += int(n)
	}
}

// callInt runs a statement that returns one integer.
func callInt(ctx context.Context, q Querier, sql string, args ...any) (int64, error) {
	var n int64
	err := q.QueryRow(ctx, sql, args...).Scan(&n)
	return n, classify(err)
}

func seconds(s float64) time.Duration {
	const most = float64(1<<63-1) / float64(time.Second)
	if s >= most {
		return 1<<63 - 1
	}
	return time.Duration(s * float64(time.Second))
}

// errBadName marks a name that is no SQL identifier; it is Permanent.
var errBadName = fmt.Errorf("%w: not a name of the form schema.name", ErrBadParameter)

// quoteQualified reads a possibly qualified name by the rules of SQL (unquoted
// parts fold to lower case) and returns it fully quoted, so that nothing but a
// name can reach a statement.
func quoteQualified(s string) (string, error) {
	var parts pgx.Identifier
	for rest := s; ; {
		part, tail, err := cutIdentifier(rest)
		if err != nil {
			return "", fmt.Errorf("%q: %w", s, err)
		}
		parts = append(parts, part)
		if tail == "" {
			return parts.Sanitize(), nil
		}
		rest = tail[1:]
	}
}

// cutIdentifier splits off the first identifier; tail is empty or starts with
// the dot that follows it.
func cutIdentifier(s string) (part, tail string, err error) {
	if strings.HasPrefix(s, `"`) {
		var b strings.Builder
		for i := 1; i < len(s); i++ {
			switch {
			case s[i] == 0:
				return "", "", errBadName
			case s[i] != '"':
				b.WriteByte(s[i])
			case i+1 < len(s) && s[i+1] == '"':
				b.WriteByte('"')
				i++
			default:
				if b.Len() == 0 || (i+1 < len(s) && s[i+1] != '.') {
					return "", "", errBadName
				}
				return b.String(), s[i+1:], nil
			}
		}
		return "", "", errBadName
	}
	end := strings.IndexByte(s, '.')
	if end < 0 {
		end = len(s)
	}
	part = s[:end]
	for i := range len(part) {
		c := part[i] | 0x20
		letter := (c >= 'a' && c <= 'z') || part[i] == '_' || part[i] >= 0x80
		if !letter && (i == 0 || !(part[i] == '$' || (part[i] >= '0' && part[i] <= '9'))) {
			return "", "", errBadName
		}
	}
	if part == "" {
		return "", "", errBadName
	}
	return lowerASCII(part), s[end:], nil
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}
