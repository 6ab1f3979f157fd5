package pgq

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"
)

// CopyQuerier is a Querier that can begin a transaction: a pgx.Tx (which then
// makes a savepoint), *pgx.Conn, *pgxpool.Pool or *DB.
type CopyQuerier interface {
	Querier
	Begin(ctx context.Context) (pgx.Tx, error)
}

// InsertOnce inserts an event unless one with this key was inserted into the
// queue before and is not older than ttl; see Producer.InsertOnce.
func InsertOnce(ctx context.Context, q Querier, queue, key string, ttl time.Duration, ev NewEvent) (id int64, duplicate bool, err error) {
	p := Producer{tel: contextTelemetry(ctx)}
	return p.InsertOnce(ctx, q, queue, key, ttl, ev)
}

// InsertAt inserts an event that consumers get at a later time; see
// Producer.InsertAt.
func InsertAt(ctx context.Context, q Querier, queue string, at time.Time, ev NewEvent) (int64, error) {
	p := Producer{tel: contextTelemetry(ctx)}
	return p.InsertAt(ctx, q, queue, at, ev)
}

// InsertCopy inserts any number of events by COPY; see Producer.InsertCopy.
func InsertCopy(ctx context.Context, q CopyQuerier, queue string, events iter.Seq2[NewEvent, error]) (int64, error) {
	p := Producer{tel: contextTelemetry(ctx)}
	return p.InsertCopy(ctx, q, queue, events)
}

// InsertOnce inserts an event unless one with this key was inserted into the
// queue before, in a transaction that committed, and is not older than ttl:
// then it returns the id of that one and duplicate is true. A program that does
// not know whether its last try was committed repeats it with the same key. Two
// transactions with the same key take turns.
//
// It needs skyd's SQL beside PgQ (pgq_plus), else ErrNotInstalled. Otherwise
// errors are those of Insert; ttl must be positive.
func (p *Producer) InsertOnce(ctx context.Context, q Querier, queue, key string, ttl time.Duration, ev NewEvent) (id int64, duplicate bool, err error) {
	ctx, op := p.tel.start(ctx, trace.SpanKindProducer, OpInsert, OpTypeSend, queue, "")
	sent := 0
	defer func() { p.tel.sent(ctx, op, sent, err) }()
	p.carry(op, &ev)
	const insertEventOnce = `select id, duplicate from pgq.insert_event_once($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	err = q.QueryRow(ctx, insertEventOnce, queue, key, ttl,
		ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4).Scan(&id, &duplicate)
	if err != nil {
		return 0, false, fmt.Errorf("insert event once into queue %s: %w", queue, classify(err))
	}
	if !duplicate {
		sent = 1
	}
	return id, duplicate, nil
}

// InsertAt inserts an event that consumers get at a later time: maintenance
// moves it into the queue when it is due. With a time that is past it is
// inserted at once.
//
// It needs skyd's SQL beside PgQ (pgq_plus), else ErrNotInstalled. Otherwise
// errors are those of Insert.
func (p *Producer) InsertAt(ctx context.Context, q Querier, queue string, at time.Time, ev NewEvent) (id int64, err error) {
	ctx, op := p.tel.start(ctx, trace.SpanKindProducer, OpInsert, OpTypeSend, queue, "")
	defer func() { p.tel.sent(ctx, op, 1, err) }()
	p.carry(op, &ev)
	const insertEventAt = `select pgq.insert_event_at($1, $2, $3, $4, $5, $6, $7, $8)`
	err = q.QueryRow(ctx, insertEventAt, queue, at,
		ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("insert delayed event into queue %s: %w", queue, classify(err))
	}
	return id, nil
}

// InsertCopy inserts events by COPY into the current table of the queue, all or
// none, and returns how many; an error from events ends it. It is the fastest
// way for thousands of events, and it keeps none of them in memory.
//
// It writes into the table itself: the role needs the rights of pgq_admin, and
// queue_per_tx_limit is not looked at. The ids stay unknown. Errors are those
// of Insert.
func (p *Producer) InsertCopy(ctx context.Context, q CopyQuerier, queue string, events iter.Seq2[NewEvent, error]) (n int64, err error) {
	ctx, op := p.tel.start(ctx, trace.SpanKindProducer, OpInsert, OpTypeSend, queue, "")
	defer func() { p.tel.sent(ctx, op, int(n), err) }()
	err = pgx.BeginFunc(ctx, q, func(tx pgx.Tx) error {
		table, now, err := currentEventTable(ctx, tx, queue)
		if err != nil {
			return err
		}
		next, stop := iter.Pull2(events)
		defer stop()
		n, err = tx.CopyFrom(ctx, table,
			[]string{"ev_time", "ev_type", "ev_data", "ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4"},
			pgx.CopyFromFunc(func() ([]any, error) {
				ev, err, ok := next()
				if !ok || err != nil {
					return nil, err
				}
				p.carry(op, &ev)
				return []any{now, ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4}, nil
			}))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("copy events into queue %s: %w", queue, classify(err))
	}
	return n, nil
}

// currentEventTable returns the table that takes the events of this transaction,
// and the transaction's time. The transaction id is taken first, in a statement
// of its own: with the C extension a rotation in between would lose the events.
func currentEventTable(ctx context.Context, tx pgx.Tx, queue string) (table pgx.Identifier, now time.Time, err error) {
	b := &pgx.Batch{}
	b.Queue(`select pg_catalog.txid_current()`)
	var name string
	b.Queue(`select pgq.current_event_table($1), pg_catalog.now()`, queue).QueryRow(func(row pgx.Row) error {
		return row.Scan(&name, &now)
	})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, now, err
	}
	for rest := name; ; {
		part, tail, err := cutIdentifier(rest)
		if err != nil {
			return nil, now, err
		}
		table = append(table, part)
		if tail == "" {
			return table, now, nil
		}
		rest = tail[1:]
	}
}

// carry puts the trace context into an event that has room for it.
func (p *Producer) carry(op operation, ev *NewEvent) {
	if ev.Extra4.Valid {
		return
	}
	if carrier := p.carrier(op); carrier != "" {
		ev.Extra4 = Str(carrier)
	}
}

// additions is the key under which a connection remembers that its database has
// skyd's additions to PgQ.
const additions = "skyd.pgq_plus"

// hasAdditions tells whether the database has pgq.insert_events. Connections
// remember that it has; a pool asks each time.
func hasAdditions(ctx context.Context, q Querier) (bool, error) {
	var conn *pgx.Conn
	switch q := q.(type) {
	case *pgx.Conn:
		conn = q
	case interface{ Conn() *pgx.Conn }: // pgx.Tx, *pgxpool.Conn
		conn = q.Conn()
	}
	if conn != nil && conn.PgConn().CustomData()[additions] == true {
		return true, nil
	}
	const look = `select pg_catalog.to_regprocedure(
  'pgq.insert_events(text, text[], text[], text[], text[], text[], text[])') is not null`
	var has bool
	if err := q.QueryRow(ctx, look).Scan(&has); err != nil {
		return false, err
	}
	if has && conn != nil {
		conn.PgConn().CustomData()[additions] = true
	}
	return has, nil
}
