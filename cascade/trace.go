package cascade

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/pgq"
)

// ScopeName is the instrumentation scope of this package's spans.
const ScopeName = "github.com/skytools/skyd/cascade"

// BatchTraceID is the trace of one batch on its way through the cascade: every node makes it from the tick that ends the
// batch, so that their spans meet without a word between them. Ticks of a queue have the same id and time everywhere.
func BatchTraceID(queue string, tick int64, at time.Time) trace.TraceID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", queue, tick, at.UnixMicro()))
	return trace.TraceID(sum[:16])
}

// traceKey is the key of the trace id in a context.
type traceKey struct{}

// ContextWithTraceID asks for a trace id of the next root span under ctx. It takes an IDGenerator of the tracing SDK
// that looks it up with TraceIDFromContext; others give the span a trace of its own.
func ContextWithTraceID(ctx context.Context, id trace.TraceID) context.Context {
	return context.WithValue(ctx, traceKey{}, id)
}

// TraceIDFromContext is the trace id that was asked for; false: none was.
func TraceIDFromContext(ctx context.Context) (trace.TraceID, bool) {
	id, ok := ctx.Value(traceKey{}).(trace.TraceID)
	return id, ok && id.IsValid()
}

// providerKey is the key of the tracer provider in a context.
type providerKey struct{}

// ContextWithTracerProvider makes the operations under ctx (switchover, failover, resurrect) trace with tp instead of the
// global provider.
func ContextWithTracerProvider(ctx context.Context, tp trace.TracerProvider) context.Context {
	return context.WithValue(ctx, providerKey{}, tp)
}

// startBatchSpan begins the span of a batch on one node; the function ends it.
func startBatchSpan(ctx context.Context, tracer trace.Tracer, queue string, p Pass, o *offer, began time.Time) (context.Context, func(Pass, error)) {
	ctx = ContextWithTraceID(ctx, BatchTraceID(queue, o.tick, o.time))
	ctx, span := tracer.Start(ctx, pgq.SpanName(pgq.OpProcess, queue), trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began),
		trace.WithAttributes(append(pgq.MessagingAttributes(pgq.OpProcess, pgq.OpTypeProcess, queue, p.State.Worker), nodeAttributes(p.State)...)...),
		trace.WithAttributes(pgq.KeyPgqBatchID.Int64(o.id), pgq.KeyPgqTickID.Int64(o.tick), pgq.KeyPgqPrevTickID.Int64(o.prev)))
	return ctx, func(p Pass, err error) {
		if span.IsRecording() {
			span.SetAttributes(pgq.KeyMessagingBatchCount.Int(p.Events))
			pgq.RecordError(span, err)
		}
		span.End()
	}
}

// nodeAttributes name a node in spans.
func nodeAttributes(s WorkerState) []attribute.KeyValue {
	return []attribute.KeyValue{
		pgq.KeyMessagingClientID.String(s.Node), pgq.KeyPgqNodeName.String(s.Node), pgq.KeyPgqNodeType.String(string(s.Type)), pgq.KeyPgqNodeProvider.String(s.Provider),
	}
}

// traceTicks makes the spans of a root's new ticks: the beginning of the traces that go on at the nodes below.
func (w *Worker) traceTicks(ctx context.Context, top int64) error {
	if w.o.Tracer == nil || top <= w.traced {
		return nil
	}
	if w.traced == 0 {
		w.traced = top - 1 // no history
	}
	l := link{queue: w.queue, node: "itself", db: w.db}
	ticks, err := l.ticksBetween(ctx, w.traced, top)
	if err != nil {
		return err
	}
	for _, t := range ticks {
		_, span := w.o.Tracer.Start(ContextWithTraceID(ctx, BatchTraceID(w.queue, t.ID, t.Time)), pgq.SpanName(pgq.OpTick, w.queue),
			trace.WithNewRoot(), trace.WithTimestamp(t.Time),
			trace.WithAttributes(pgq.KeyMessagingDestination.String(w.queue), pgq.KeyPgqTickID.Int64(t.ID)))
		span.End(trace.WithTimestamp(t.Time))
		w.traced = t.ID
	}
	return nil
}
