package runtime

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/cascade"
)

// traceIDs gives root spans the trace id that their context asks for, so that the spans of a batch on all nodes of a
// cascade are one trace, kept or dropped together; all others get a new one.
type traceIDs struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g traceIDs) NewIDs(ctx context.Context) (id trace.TraceID, span trace.SpanID) {
	id, asked := cascade.TraceIDFromContext(ctx)
	for !asked && !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (traceIDs) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	for !id.IsValid() {
		binary.NativeEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}
