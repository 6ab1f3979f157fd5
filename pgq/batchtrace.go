package pgq

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// maxTraces bounds the memory for telling traces apart in a huge batch.
const maxTraces = 10000

// batchTrace follows one batch from its receipt to its settlement: one new
// trace, with links to the traces in which its events were created.
//
//	next_batch (receive)  root
//	  process             child; the handler runs under it
//	    finish_batch, event_retry (settle)
type batchTrace struct {
	c       *Consumer
	b       *Batch
	op      operation // process
	seen    map[trace.TraceID]struct{}
	links   []trace.Link
	events  int
	dropped int
	// before the spans exist, chunks only get counted; first keeps the one
	// chunk whose links the spans start with
	first []Event
}

// newBatchTrace watches the reading of a batch.
func (c *Consumer) newBatchTrace(b *Batch) *batchTrace {
	t := &batchTrace{c: c, b: b}
	b.s.onRead = t.read
	return t
}

// read sees every chunk as it comes from the database.
func (t *batchTrace) read(ctx context.Context, chunk []Event) {
	t.events += len(chunk)
	t.b.s.events += len(chunk)
	t.b.s.tally.read(chunk)
	t.c.tel.count(ctx, t.c.tel.consumedMessages, t.b.s.received, len(chunk))
	if t.op.span == nil {
		t.first = chunk
		return
	}
	if t.op.recording() {
		from := len(t.links)
		t.link(chunk)
		for _, l := range t.links[from:] {
			t.op.span.AddLink(l)
		}
	}
}

// start makes the spans of a batch that has events, and returns the context for
// its handler.
func (t *batchTrace) start(ctx context.Context) context.Context {
	received := t.b.s.received
	if t.c.tel.tracer == nil {
		return ctx
	}
	ctx, span := t.c.tel.tracer.Start(ctx, SpanName(received.name, received.queue),
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithTimestamp(received.started), trace.WithAttributes(received.attrs()...))
	// Links are worth their parsing only when somebody looks at them.
	if span.IsRecording() {
		t.link(t.first)
		for _, l := range t.links {
			span.AddLink(l)
		}
		t.describe(span)
	}
	t.first = nil
	span.End()
	ctx, t.op = t.c.tel.start(ctx, trace.SpanKindConsumer, OpProcess, OpTypeProcess, t.b.Queue, t.b.Consumer,
		trace.WithLinks(t.links...))
	t.b.s.span = t.op.span.SpanContext()
	return ctx
}

// describe sets what is known of the whole batch by now.
func (t *batchTrace) describe(span trace.Span) {
	span.SetAttributes(
		KeyMessagingBatchCount.Int(t.events),
		KeyPgqBatchID.Int64(t.b.ID),
		KeyPgqTickID.Int64(t.b.TickID),
		KeyPgqPrevTickID.Int64(t.b.PrevTickID),
	)
	span.SetAttributes(t.c.server...)
	if t.c.member != "" {
		span.SetAttributes(KeyMessagingClientID.String(t.c.member))
	}
	if t.dropped > 0 {
		span.SetAttributes(KeyPgqLinksDropped.Int(t.dropped))
	}
}

// link collects one link for each trace that made events of the chunk.
func (t *batchTrace) link(chunk []Event) {
	for i := range chunk {
		ev := &chunk[i]
		if !ev.Extra4.Valid {
			continue
		}
		sc, ok := ParseTraceparent(ev.Extra4.String)
		if !ok {
			continue
		}
		if _, known := t.seen[sc.TraceID()]; known {
			continue
		}
		if t.seen == nil {
			t.seen = make(map[trace.TraceID]struct{})
		}
		if len(t.seen) < maxTraces {
			t.seen[sc.TraceID()] = struct{}{}
		}
		if len(t.links) >= MaxLinks {
			t.dropped++
			continue
		}
		attrs := append(make([]attribute.KeyValue, 0, 3), messageID(ev.ID))
		if ev.Type.Valid {
			attrs = append(attrs, KeyPgqEventType.String(ev.Type.String))
		}
		if ev.Retry > 0 {
			attrs = append(attrs, KeyPgqEventRetry.Int(ev.Retry))
		}
		t.links = append(t.links, trace.Link{SpanContext: sc, Attributes: attrs})
	}
}

// handled notes that the handler has returned.
func (t *batchTrace) handled(ctx context.Context, err error) {
	t.c.tel.measure(ctx, t.c.tel.processDuration, t.op, err)
}

// end closes the batch's span after it was settled, or failed.
func (t *batchTrace) end(err error) {
	t.b.s.onRead = nil
	if t.op.span == nil {
		return
	}
	if t.op.recording() {
		t.describe(t.op.span)
		RecordError(t.op.span, err)
	}
	t.op.span.End()
}
