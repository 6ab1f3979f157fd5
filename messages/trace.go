package messages

import "go.opentelemetry.io/otel/trace"

// Trace is embedded by messages that continue a trace: the span under which the sender worked. The receiver makes it
// its parent with trace.ContextWithSpanContext. The zero value means: no trace.
type Trace struct {
	Span trace.SpanContext
}
