package pgq

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// ProducerOptions say what a Producer reports and carries.
type ProducerOptions struct {
	// TracerProvider makes the spans of inserts. Defaults to the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the instruments. Defaults to the global one.
	MeterProvider metric.MeterProvider
	// NoTraceCarrier keeps the trace context out of events. Defaults to false:
	// an event whose Extra4 is null carries the traceparent of the span that
	// inserted it, when that span is recorded.
	NoTraceCarrier bool
}

// Producer inserts events and reports what it does. Safe for concurrent use.
type Producer struct {
	tel       *telemetry
	noCarrier bool
}

// NewProducer makes a Producer. A program that needs no metrics of its own can
// use the functions Insert and InsertBatch instead.
func NewProducer(o ProducerOptions) *Producer {
	return &Producer{
		tel:       newTelemetry(o.TracerProvider, o.MeterProvider),
		noCarrier: o.NoTraceCarrier,
	}
}

// Insert inserts one event and returns its id. It makes no metrics, and a span
// only as child of one that is in ctx and recorded; see Producer for more.
//
// Given a transaction, the event lives and dies with it. Errors:
// ErrQueueNotFound, ErrQueueDisabled, ErrTxLimit; at repeatable read and above
// also serialization failures, for which Retryable is true.
func Insert(ctx context.Context, q Querier, queue string, ev NewEvent) (int64, error) {
	p := Producer{tel: contextTelemetry(ctx)}
	return p.Insert(ctx, q, queue, ev)
}

// InsertBatch inserts many events in one statement, so in one round trip and
// all or none, and returns their ids in the same order. Otherwise it is like
// Insert.
func InsertBatch(ctx context.Context, q Querier, queue string, events []NewEvent) ([]int64, error) {
	p := Producer{tel: contextTelemetry(ctx)}
	return p.InsertBatch(ctx, q, queue, events)
}

// Insert inserts one event and returns its id; see the function Insert.
func (p *Producer) Insert(ctx context.Context, q Querier, queue string, ev NewEvent) (id int64, err error) {
	ctx, op := p.tel.start(ctx, trace.SpanKindProducer, OpInsert, OpTypeSend, queue, "")
	defer func() {
		if op.recording() && err == nil {
			op.span.SetAttributes(messageID(id))
		}
		p.tel.sent(ctx, op, 1, err)
	}()
	if carrier := p.carrier(op); carrier != "" && !ev.Extra4.Valid {
		ev.Extra4 = Str(carrier)
	}
	const insertEvent = `select pgq.insert_event($1, $2, $3, $4, $5, $6, $7)`
	err = q.QueryRow(ctx, insertEvent, queue,
		ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("insert event into queue %s: %w", queue, classify(err))
	}
	return id, nil
}

// InsertBatch inserts many events; see the function InsertBatch.
func (p *Producer) InsertBatch(ctx context.Context, q Querier, queue string, events []NewEvent) (ids []int64, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	ctx, op := p.tel.start(ctx, trace.SpanKindProducer, OpInsert, OpTypeSend, queue, "")
	defer func() {
		if op.recording() && len(events) > 1 {
			op.span.SetAttributes(KeyMessagingBatchCount.Int(len(events)))
		}
		p.tel.sent(ctx, op, len(events), err)
	}()
	ids, err = insertArrays(ctx, q, queue, eventArrays(events, p.carrier(op)))
	if err != nil {
		return nil, fmt.Errorf("insert %d events into queue %s: %w", len(events), queue, classify(err))
	}
	return ids, nil
}

// insertArrays inserts events by one statement and not by a pipeline of calls:
// that is atomic with any Querier, and costs the server a fraction.
func insertArrays(ctx context.Context, q Querier, queue string, cols [6][]*string) (ids []int64, err error) {
	whole, err := hasAdditions(ctx, q)
	if err != nil {
		return nil, err
	}
	if whole {
		const insertEvents = `select pgq.insert_events($1, $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])`
		err = q.QueryRow(ctx, insertEvents, queue, cols[0], cols[1], cols[2], cols[3], cols[4], cols[5]).Scan(&ids)
		return ids, err
	}
	const insertEventEach = `
select pgq.insert_event($1, e.type, e.data, e.extra1, e.extra2, e.extra3, e.extra4)
  from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    as e (type, data, extra1, extra2, extra3, extra4)`
	rows, err := q.Query(ctx, insertEventEach, queue, cols[0], cols[1], cols[2], cols[3], cols[4], cols[5])
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows(make([]int64, 0, len(cols[0])), rows, pgx.RowTo[int64])
}

// carrier is the traceparent to put into events, "" for none.
func (p *Producer) carrier(op operation) string {
	if p.noCarrier || !op.recording() {
		return ""
	}
	return FormatTraceparent(op.span.SpanContext())
}

// eventArrays turns events into one array for each column. carrier fills
// Extra4 where it is null; "" leaves it null.
func eventArrays(events []NewEvent, carrier string) [6][]*string {
	n := len(events)
	all := make([]*string, 6*n)
	var cols [6][]*string
	for i := range cols {
		cols[i] = all[i*n : (i+1)*n : (i+1)*n]
	}
	set := func(col, i int, t *Text) {
		if t.Valid {
			cols[col][i] = &t.String
		}
	}
	for i := range events {
		ev := &events[i]
		set(0, i, &ev.Type)
		set(1, i, &ev.Data)
		set(2, i, &ev.Extra1)
		set(3, i, &ev.Extra2)
		set(4, i, &ev.Extra3)
		set(5, i, &ev.Extra4)
		if carrier != "" && !ev.Extra4.Valid {
			cols[5][i] = &carrier
		}
	}
	return cols
}

// SetTraceparent gives the trace context of ctx to the change capture triggers
// of a transaction: those made with the argument
// ev_extra4=current_setting('skyd.traceparent', true) write it into their
// events. It lasts until the transaction ends, and does nothing when ctx holds
// no recorded span.
func SetTraceparent(ctx context.Context, tx pgx.Tx) error {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return nil
	}
	const setConfig = `select set_config('skyd.traceparent', $1, true)`
	if _, err := tx.Exec(ctx, setConfig, FormatTraceparent(span.SpanContext())); err != nil {
		return fmt.Errorf("set traceparent: %w", classify(err))
	}
	return nil
}

// sent closes the operation of an insert and counts its events.
func (t *telemetry) sent(ctx context.Context, op operation, n int, err error) {
	if err == nil {
		t.count(ctx, t.sentMessages, op, n)
	}
	t.end(ctx, op, err)
}
