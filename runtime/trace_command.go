package runtime

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// TraceCommand lets a one-shot command trace what it does when the OTEL_ variables name an endpoint: the operations of
// package cascade under the context it returns, and the command itself when op, one of pgq's Op names, is not empty. The
// function ends the span and sends everything; it has to be called. Without an endpoint nothing is made.
func TraceCommand(ctx context.Context, version, op, object string) (context.Context, func(error), error) {
	none := func(error) {}
	c := configs.DefaultConfig()
	if wanted, _, _ := exportOf("TRACES", c.Telemetry); !wanted {
		return ctx, none, nil
	}
	res, err := describe(ctx, version, "command")
	if res == nil {
		return ctx, none, err
	}
	var t telemetry
	if err := t.startTracing(ctx, c.Telemetry, res); err != nil {
		return ctx, none, err
	}
	end := func(error) { _ = t.close(context.WithoutCancel(ctx)) } // a collector that is away is not the command's trouble
	traced := cascade.ContextWithTracerProvider(ctx, t.tracing)
	if op == "" {
		return traced, end, nil
	}
	traced, span := t.tracing.Tracer("github.com/skytools/skyd/cmd/skyd", trace.WithInstrumentationVersion(version),
		trace.WithSchemaURL(schemaURL)).Start(traced, pgq.SpanName(op, object))
	return traced, func(err error) {
		pgq.RecordError(span, err)
		span.End()
		end(err)
	}, nil
}
