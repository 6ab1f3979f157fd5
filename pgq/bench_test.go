package pgq

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// What telemetry costs one insert when nobody listens; compare with the tens
// of microseconds of a round trip.
func BenchmarkTelemetryOff(b *testing.B) {
	for name, tel := range map[string]*telemetry{
		"function": contextTelemetry(context.Background()),
		"producer": newTelemetry(nil, nil),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, op := tel.start(context.Background(), trace.SpanKindProducer, OpInsert, OpTypeSend, "q", "")
				tel.sent(ctx, op, 1, nil)
			}
		})
	}
}

func BenchmarkParseTraceparent(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := ParseTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"); !ok {
			b.Fatal("refused")
		}
	}
}
