package messages

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// Trace is embedded by messages that continue a trace: the span under which the sender worked. The receiver makes it
// its parent with Context. The zero value means: no trace.
type Trace struct {
	Span trace.SpanContext
}

// Context is ctx with the span, for work and log lines that belong to the trace.
func (t Trace) Context(ctx context.Context) context.Context {
	if !t.Span.IsValid() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, t.Span)
}
