package pgq

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// telemetry is the tracer and the instruments of one producer or consumer. Any
// of its fields may be nil: then that part is off.
type telemetry struct {
	tracer           trace.Tracer
	sentMessages     metric.Int64Counter
	consumedMessages metric.Int64Counter
	opDuration       metric.Float64Histogram
	processDuration  metric.Float64Histogram
}

// noTelemetry is what is used outside of any recorded span.
var noTelemetry telemetry

// newTelemetry makes the instruments; nil providers mean the global ones. An
// instrument that a provider refuses stays off: telemetry never stops a queue.
func newTelemetry(tp trace.TracerProvider, mp metric.MeterProvider) *telemetry {
	if tp == nil {
		tp = otel.GetTracerProvider()
	}
	if mp == nil {
		mp = otel.GetMeterProvider()
	}
	meter := mp.Meter(ScopeName, metric.WithInstrumentationVersion(Version()), metric.WithSchemaURL(SchemaURL))
	counter := func(name, what string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit("{message}"), metric.WithDescription(what))
		if err != nil {
			return nil
		}
		return c
	}
	duration := func(name, what string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(what),
			metric.WithExplicitBucketBoundaries(DurationBoundaries()...))
		if err != nil {
			return nil
		}
		return h
	}
	return &telemetry{
		tracer:           tracerOf(tp),
		sentMessages:     counter(MetricSent, "Events inserted into queues."),
		consumedMessages: counter(MetricConsumed, "Events received from queues, once for each delivery."),
		opDuration:       duration(MetricOperationDuration, "Duration of the calls that insert, receive and settle events."),
		processDuration:  duration(MetricProcessDuration, "Duration of the handlers of batches."),
	}
}

// contextTelemetry traces with the provider of the span in ctx if that is
// recorded, and measures nothing.
func contextTelemetry(ctx context.Context) *telemetry {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return &noTelemetry
	}
	return &telemetry{tracer: tracerOf(span.TracerProvider())}
}

func tracerOf(tp trace.TracerProvider) trace.Tracer {
	return tp.Tracer(ScopeName, trace.WithInstrumentationVersion(Version()), trace.WithSchemaURL(SchemaURL))
}

// operation is one timed call: what it is, since when, and its span. The span
// is nil when there is none.
type operation struct {
	name     string
	opType   string
	queue    string
	consumer string
	started  time.Time
	span     trace.Span
}

func (o operation) recording() bool { return o.span != nil && o.span.IsRecording() }

// attrs are the attributes of the operation's span and metrics.
func (o operation) attrs() []attribute.KeyValue {
	return MessagingAttributes(o.name, o.opType, o.queue, o.consumer)
}

// metricAttrs are the attributes of the operation's metrics; they are bounded
// by the names of queues and consumers.
func (o operation) metricAttrs(err error) metric.MeasurementOption {
	attrs := o.attrs()
	if err != nil {
		attrs = append(attrs, KeyErrorType.String(ErrorType(err)))
	}
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

// begin starts the clock of an operation without a span.
func (t *telemetry) begin(name, opType, queue, consumer string) operation {
	op := operation{name: name, opType: opType, queue: queue, consumer: consumer}
	if t.tracer != nil || t.opDuration != nil {
		op.started = time.Now()
	}
	return op
}

// start begins an operation with a span.
func (t *telemetry) start(ctx context.Context, kind trace.SpanKind, name, opType, queue, consumer string, opts ...trace.SpanStartOption) (context.Context, operation) {
	op := t.begin(name, opType, queue, consumer)
	if t.tracer == nil {
		return ctx, op
	}
	opts = append(opts, trace.WithSpanKind(kind), trace.WithAttributes(op.attrs()...))
	ctx, op.span = t.tracer.Start(ctx, SpanName(name, queue), opts...)
	return ctx, op
}

// end closes an operation: span, and duration of a client operation.
func (t *telemetry) end(ctx context.Context, op operation, err error) {
	if op.span != nil {
		RecordError(op.span, err)
		op.span.End()
	}
	t.measure(ctx, t.opDuration, op, err)
}

// measure records how long an operation took.
func (t *telemetry) measure(ctx context.Context, h metric.Float64Histogram, op operation, err error) {
	if h == nil || !h.Enabled(ctx) {
		return
	}
	h.Record(ctx, time.Since(op.started).Seconds(), op.metricAttrs(err))
}

// count adds to a counter of messages.
func (t *telemetry) count(ctx context.Context, c metric.Int64Counter, op operation, n int) {
	if c == nil || n == 0 || !c.Enabled(ctx) {
		return
	}
	c.Add(ctx, int64(n), op.metricAttrs(nil))
}

func messageID(id int64) attribute.KeyValue {
	return KeyMessagingMessageID.String(strconv.FormatInt(id, 10))
}

// ServerAttributes returns server.address and server.port of a connection: the
// host, or the directory of a unix socket, which has no port.
func ServerAttributes(cc *pgx.ConnConfig) []attribute.KeyValue {
	attrs := []attribute.KeyValue{KeyServerAddress.String(cc.Host)}
	if strings.HasPrefix(cc.Host, "/") {
		return attrs
	}
	return append(attrs, KeyServerPort.Int(int(cc.Port)))
}
