package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

func newTracing(t testing.TB, sampler sdktrace.Sampler) (*sdktrace.TracerProvider, *tracetest.InMemoryExporter) {
	exporter := tracetest.NewInMemoryExporter()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(sampler))
	t.Cleanup(func() { _ = tp.Shutdown(context.Background()) })
	return tp, exporter
}

// attr is the value of a span's attribute as text, "" when it is missing.
func attr(attrs []attribute.KeyValue, key attribute.Key) string {
	for _, kv := range attrs {
		if kv.Key == key {
			return kv.Value.String()
		}
	}
	return ""
}

// named waits until n spans of that name have ended.
func named(t testing.TB, e *tracetest.InMemoryExporter, name string, n int) tracetest.SpanStubs {
	t.Helper()
	var found tracetest.SpanStubs
	pgtest.Eventually(t, patience, fmt.Sprintf("%d spans %q", n, name), func() bool {
		found = nil
		for _, s := range e.GetSpans() {
			if s.Name == name {
				found = append(found, s)
			}
		}
		return len(found) >= n
	})
	return found
}

func TestTrace_ProducerCarriesItsContext(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(t.Context(), db, "q", "c"))
		tp, exporter := newTracing(t, sdktrace.AlwaysSample())
		never, _ := newTracing(t, sdktrace.NeverSample())

		traced, parent := tp.Tracer("test").Start(t.Context(), "parent")
		unsampled, other := never.Tracer("test").Start(t.Context(), "parent")
		must(t)(pgq.Insert(t.Context(), db, "q", pgq.NewEvent{Data: pgq.Str("no span")}))
		must(t)(pgq.Insert(unsampled, db, "q", pgq.NewEvent{Data: pgq.Str("not recorded")}))
		must(t)(pgq.Insert(traced, db, "q", pgq.NewEvent{Data: pgq.Str("carried")}))
		must(t)(pgq.Insert(traced, db, "q", pgq.NewEvent{Data: pgq.Str("taken"), Extra4: pgq.Str("mine")}))
		must(t)(pgq.InsertBatch(traced, db, "q", []pgq.NewEvent{{Data: pgq.Str("batch")}, {Data: pgq.Str("batch taken"), Extra4: pgq.Str("")}}))
		must(t)(pgq.NewProducer(pgq.ProducerOptions{NoTraceCarrier: true, TracerProvider: tp}).
			Insert(traced, db, "q", pgq.NewEvent{Data: pgq.Str("switched off")}))
		_, err := pgq.Insert(traced, db, "nq", pgq.NewEvent{})
		if !errors.Is(err, pgq.ErrQueueNotFound) {
			t.Errorf("got %v, want ErrQueueNotFound", err)
		}
		parent.End()
		other.End()

		spans := named(t, exporter, "insert_event q", 4)
		context := func(i int) pgq.Text { return pgq.Str(pgq.FormatTraceparent(spans[i].SpanContext)) }
		want := map[string]pgq.Text{
			"no span": {}, "not recorded": {}, "switched off": {},
			"carried": context(0), "taken": pgq.Str("mine"), "batch": context(2), "batch taken": pgq.Str(""),
		}
		tick(t, db, "q")
		for ev, err := range next(t, db, "q", "c").Events(t.Context()) {
			must(t)(nil, err)
			if ev.Extra4 != want[ev.Data.String] {
				t.Errorf("%s: got ev_extra4 %+v, want %+v", ev.Data.String, ev.Extra4, want[ev.Data.String])
			}
		}
		for _, s := range spans {
			if s.SpanKind != trace.SpanKindProducer || s.Parent.SpanID() != parent.SpanContext().SpanID() ||
				attr(s.Attributes, pgq.KeyMessagingSystem) != "pgq" || attr(s.Attributes, pgq.KeyMessagingOperationType) != "send" ||
				attr(s.Attributes, pgq.KeyMessagingDestination) != "q" || s.Status.Code != codes.Unset {
				t.Errorf("got span %+v", s)
			}
		}
		if attr(spans[0].Attributes, pgq.KeyMessagingMessageID) == "" || attr(spans[2].Attributes, pgq.KeyMessagingBatchCount) != "2" {
			t.Errorf("got %v and %v, want a message id and a message count", spans[0].Attributes, spans[2].Attributes)
		}
		failed := named(t, exporter, "insert_event nq", 1)[0]
		if failed.Status.Code != codes.Error || len(attr(failed.Attributes, pgq.KeyErrorType)) != 5 {
			t.Errorf("got status %v, %v, want an error with a SQLSTATE", failed.Status, failed.Attributes)
		}
	})
}

// traceparent makes the nth context of a producer elsewhere.
func traceparent(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n+1, n+1) }

func TestTrace_BatchIsOneTraceWithLinks(t *testing.T) {
	onBoth(t, func(t *testing.T, db *pgq.DB) {
		ctx := t.Context()
		newQueue(t, db, "q")
		must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
		const traces = 140
		var events []pgq.NewEvent
		for i := range traces {
			ev := pgq.NewEvent{Type: pgq.Str("t"), Extra4: pgq.Str(traceparent(i))}
			events = append(events, ev, ev) // twice: links are one for each trace
		}
		events = append(events, pgq.NewEvent{Extra4: pgq.Str("no context")}, pgq.NewEvent{})
		must(t)(pgq.InsertBatch(ctx, db, "q", events))
		tick(t, db, "q")
		tick(t, db, "q") // an empty batch: no spans

		tp, exporter := newTracing(t, sdktrace.AlwaysSample())
		reader := metric.NewManualReader()
		mp := metric.NewMeterProvider(metric.WithReader(reader))
		var inHandler trace.SpanContext
		outer, outerSpan := tp.Tracer("test").Start(ctx, "outer")
		defer outerSpan.End()
		c := pgq.NewConsumer(db, "q", "c", pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
			inHandler = trace.SpanContextFromContext(ctx)
			data, err := dataOf(ctx, b)
			if len(data) != len(events) {
				t.Errorf("got %d events, want %d", len(data), len(events))
			}
			return err
		}), quick(pgq.ConsumerOptions{TracerProvider: tp, MeterProvider: mp, FetchSize: 100}))
		cctx, cancel := context.WithCancel(outer)
		done := make(chan error, 1)
		go func() { done <- c.Run(cctx) }()
		finish := named(t, exporter, "finish_batch q", 2)[0] // the second one is the empty batch's
		cancel()
		must(t)(nil, <-done)

		receive := named(t, exporter, "next_batch q", 1)
		process := named(t, exporter, "process q", 1)
		if len(receive) != 1 || len(process) != 1 {
			t.Fatalf("got %d receive and %d process spans, want one each", len(receive), len(process))
		}
		r, p := receive[0], process[0]
		if r.Parent.IsValid() || r.SpanContext.TraceID() == outerSpan.SpanContext().TraceID() || r.SpanKind != trace.SpanKindClient {
			t.Errorf("receive: got parent %v, kind %v, want a new root", r.Parent, r.SpanKind)
		}
		if p.Parent.SpanID() != r.SpanContext.SpanID() || p.SpanKind != trace.SpanKindConsumer {
			t.Errorf("process: got parent %v, kind %v, want the receive span", p.Parent, p.SpanKind)
		}
		if inHandler.SpanID() != p.SpanContext.SpanID() || finish.Parent.SpanID() != p.SpanContext.SpanID() {
			t.Errorf("handler ran in %v, finish under %v, want both in process %v", inHandler, finish.Parent, p.SpanContext)
		}
		// The first fetch brings 50 traces, the rest comes while the handler reads.
		checkLinks(t, "receive", r.Links, 50)
		checkLinks(t, "process", p.Links, pgq.MaxLinks)
		for key, want := range map[attribute.Key]string{
			pgq.KeyPgqLinksDropped: fmt.Sprint(traces - pgq.MaxLinks), pgq.KeyMessagingBatchCount: fmt.Sprint(len(events)),
			pgq.KeyMessagingConsumerGroup: "c", pgq.KeyPgqTickID: "2", pgq.KeyPgqPrevTickID: "1",
			pgq.KeyMessagingOperationType: "process", pgq.KeyServerAddress: db.Config().ConnConfig.Host,
		} {
			if got := attr(p.Attributes, key); got != want {
				t.Errorf("process: got %s = %q, want %q", key, got, want)
			}
		}
		if p.InstrumentationScope.Name != pgq.ScopeName || p.InstrumentationScope.SchemaURL != pgq.SchemaURL {
			t.Errorf("got scope %+v", p.InstrumentationScope)
		}
		checkMetrics(t, reader, len(events))
	})
}

func checkLinks(t *testing.T, name string, links []sdktrace.Link, want int) {
	t.Helper()
	if len(links) != want {
		t.Errorf("%s: got %d links, want %d", name, len(links), want)
	}
	for i, l := range links {
		if pgq.FormatTraceparent(l.SpanContext) != traceparent(i) || attr(l.Attributes, pgq.KeyMessagingMessageID) == "" {
			t.Errorf("%s: link %d is %+v", name, i, l)
		}
	}
}

func checkMetrics(t *testing.T, reader *metric.ManualReader, events int) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	must(t)(nil, reader.Collect(t.Context(), &rm))
	got := map[string]bool{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			got[m.Name] = true
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				if m.Name == pgq.MetricConsumed && data.DataPoints[0].Value != int64(events) {
					t.Errorf("consumed: got %d, want %d", data.DataPoints[0].Value, events)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					if !slices.Equal(p.Bounds, pgq.DurationBoundaries()) {
						t.Errorf("%s: got boundaries %v", m.Name, p.Bounds)
					}
					for _, kv := range p.Attributes.ToSlice() {
						if strings.HasPrefix(string(kv.Key), "messaging.pgq.") || kv.Key == pgq.KeyMessagingMessageID {
							t.Errorf("%s: has attribute %s of a single batch or event", m.Name, kv.Key)
						}
					}
				}
			}
		}
	}
	for _, name := range []string{pgq.MetricConsumed, pgq.MetricOperationDuration, pgq.MetricProcessDuration} {
		if !got[name] {
			t.Errorf("got metrics %v, want %s", got, name)
		}
	}
}

func TestTrace_FailedHandlerMarksItsSpan(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	ctx := t.Context()
	newQueue(t, db, "q")
	must(t)(pgq.RegisterConsumer(ctx, db, "q", "c"))
	insert(t, db, "q", "secret")
	tick(t, db, "q")
	tp, exporter := newTracing(t, sdktrace.AlwaysSample())
	stop := background(t, pgq.NewConsumer(db, "q", "c", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
		panic(ev.Data.String)
	}), quick(pgq.ConsumerOptions{TracerProvider: tp})))
	p := named(t, exporter, "process q", 1)[0]
	must(t)(nil, stop())
	if p.Status.Code != codes.Error || attr(p.Attributes, pgq.KeyErrorType) != "panic" {
		t.Errorf("got %v, %v, want error panic", p.Status, p.Attributes)
	}
	if strings.Contains(fmt.Sprintf("%+v", p), "secret") {
		t.Errorf("got %+v, which holds event data", p)
	}
}

func TestSetTraceparent_ReachesTriggers(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	tp, _ := newTracing(t, sdktrace.AlwaysSample())
	ctx, span := tp.Tracer("test").Start(t.Context(), "work")
	defer span.End()
	tx, err := db.Begin(ctx)
	must(t)(nil, err)
	defer func() { _ = tx.Rollback(ctx) }()
	var got string
	must(t)(nil, pgq.SetTraceparent(t.Context(), tx)) // no span: nothing set
	must(t)(nil, tx.QueryRow(ctx, `select coalesce(current_setting('skyd.traceparent', true), '')`).Scan(&got))
	if got != "" {
		t.Errorf("without span: got %q", got)
	}
	must(t)(nil, pgq.SetTraceparent(ctx, tx))
	must(t)(nil, tx.QueryRow(ctx, `select current_setting('skyd.traceparent', true)`).Scan(&got))
	if got != pgq.FormatTraceparent(span.SpanContext()) {
		t.Errorf("got %q, want the span's context", got)
	}
}
