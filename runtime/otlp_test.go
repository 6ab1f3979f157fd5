package runtime

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	dto "github.com/prometheus/client_model/go"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collectmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collect "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// otlpReceiver is a collector: it takes what comes over the wire, and understands it.
type otlpReceiver struct {
	url string

	mu       sync.Mutex
	spans    []*otlp.Span
	resource map[string]string
	schemas  []string
	scopes   []string // name and version
	metrics  []string // names
}

func newOTLPReceiver(t *testing.T) *otlpReceiver {
	t.Helper()
	r := &otlpReceiver{resource: map[string]string{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var (
			in      collect.ExportTraceServiceRequest
			metrics collectmetrics.ExportMetricsServiceRequest
			answer  proto.Message
		)
		switch {
		case err != nil:
		case req.URL.Path == "/v1/traces":
			err, answer = proto.Unmarshal(body, &in), &collect.ExportTraceServiceResponse{}
		case req.URL.Path == "/v1/metrics":
			err, answer = proto.Unmarshal(body, &metrics), &collectmetrics.ExportMetricsServiceResponse{}
		default:
			err = errors.New("no such signal")
		}
		if err != nil || req.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s %s: %v", req.URL.Path, req.Header.Get("Content-Type"), err)
		}
		r.take(&in)
		r.takeMetrics(&metrics)
		out, err := proto.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(out)
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *otlpReceiver) take(in *collect.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range in.GetResourceSpans() {
		for _, a := range rs.GetResource().GetAttributes() {
			r.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			r.schemas = append(r.schemas, ss.GetSchemaUrl())
			r.scopes = append(r.scopes, ss.GetScope().GetName()+" "+ss.GetScope().GetVersion())
			r.spans = append(r.spans, ss.GetSpans()...)
		}
	}
}

func (r *otlpReceiver) takeMetrics(in *collectmetrics.ExportMetricsServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range in.GetResourceMetrics() {
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				r.metrics = append(r.metrics, m.GetName())
				if h := m.GetHistogram(); h != nil && !slices.Equal(h.GetDataPoints()[0].GetExplicitBounds(), pgq.DurationBoundaries()) {
					r.metrics = append(r.metrics, m.GetName()+" with other boundaries")
				}
			}
		}
	}
}

// named returns the spans of that name that are children of one of parents, or of anything when there are none.
func (r *otlpReceiver) named(name string, parents ...*otlp.Span) (found []*otlp.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		child := slices.ContainsFunc(parents, func(p *otlp.Span) bool {
			return string(p.GetSpanId()) == string(s.GetParentSpanId()) && string(p.GetTraceId()) == string(s.GetTraceId())
		})
		if s.GetName() == name && (child || len(parents) == 0) {
			found = append(found, s)
		}
	}
	return found
}

// attr is an attribute as text.
func attr(s *otlp.Span, key string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == key {
			if v, ok := a.GetValue().GetValue().(*common.AnyValue_StringValue); ok {
				return v.StringValue
			}
			return a.GetValue().String()
		}
	}
	return ""
}

// A batch of a configured consumer is one trace from its receipt to its finish, linked to the trace in which its event
// was created, also beyond a mover, as a collector sees it.
func TestOTLP_BatchIsOneTraceFromProducerToFinish(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	newQueue(t, c, "copy")
	exec(t, c, `create table public.seen (id int8 primary key, data text)`)
	receiver := newOTLPReceiver(t)
	insert := func(u *configs.Consumer) {
		u.Handler.Kind, u.Handler.Statement = "sql", `insert into public.seen values (:ev_id, :ev_data)`
	}
	config := consumersConfig(t, []configs.Database{database("main", db.DSN)},
		consumer("mover", func(u *configs.Consumer) { u.Handler.Kind, u.Handler.TargetQueue = "mover", "copy" }),
		consumer("last", func(u *configs.Consumer) { insert(u); u.Queue = "copy" }))
	config.Telemetry = configs.Telemetry{Endpoint: receiver.url, Protocol: "http/protobuf", SampleRatio: 1}
	r := runConfig(t, config, nil)
	pgtest.Eventually(t, slow, "both consumers are registered", func() bool {
		return value[int](t, c, `select count(*) from pgq.get_consumer_info()`) == 2
	})

	traceID, spanID := "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	producer, _ := pgq.ParseTraceparent("00-" + traceID + "-" + spanID + "-01")
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), producer)
	exec(t, c, `select pgq.insert_event('q', 't', 'x', null, null, null, $1)`, pgq.FormatTraceparent(trace.SpanContextFromContext(ctx)))
	count(t, c, `select count(*) from public.seen`, 1)
	pgtest.Eventually(t, slow, "the batch is finished", func() bool {
		u, ok := r.workerOf("last")
		return ok && u.Finished > 0
	})
	families, err := r.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"messaging_client_sent_messages_total", "target_info"} {
		if !slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name }) {
			t.Errorf("/metrics lacks %s", name)
		}
	}
	if err := r.stop(); err != nil { // sends what was not sent yet
		t.Fatal(err)
	}
	for _, name := range []string{pgq.MetricSent, pgq.MetricConsumed, pgq.MetricOperationDuration, pgq.MetricProcessDuration} {
		if !slices.Contains(receiver.metrics, name) || slices.Contains(receiver.metrics, name+" with other boundaries") {
			t.Errorf("metric %s as the collector sees it, among %q", name, receiver.metrics)
		}
	}
	for _, scope := range receiver.scopes {
		if name, version, _ := strings.Cut(scope, " "); !strings.HasPrefix(name, "github.com/skytools/skyd/") || version == "" {
			t.Errorf("scope %q", scope)
		}
	}
	for _, s := range receiver.spans {
		if attr(s, "skyd.actor.kind") == "" || !strings.HasPrefix(attr(s, "skyd.actor.name"), "database/main/") || attr(s, "skyd.actor.restart") == "" {
			t.Errorf("span %s does not name its actor: %v", s.GetName(), s.GetAttributes())
		}
	}

	for queue, consumer := range map[string]string{"q": "mover", "copy": "last"} {
		checkBatchTrace(t, receiver, queue, consumer, traceID, spanID)
	}
	moved := receiver.named("insert_event copy", receiver.named("process q")...)
	if len(moved) != 1 || attr(moved[0], "messaging.operation.type") != "send" {
		t.Errorf("insert of the mover below its process: %v", moved)
	}
	if r := receiver.resource; r["service.name"] != "skyd" || r["service.version"] != "v0" || r["service.instance.id"] != "test" || r["host.name"] == "" {
		t.Errorf("resource %v", r)
	}
	if slices.ContainsFunc(receiver.schemas, func(s string) bool { return s != schemaURL }) {
		t.Errorf("schemas %q, want all %s", receiver.schemas, schemaURL)
	}
}

func checkBatchTrace(t *testing.T, r *otlpReceiver, queue, consumer, traceID, spanID string) {
	t.Helper()
	ticks := r.named("tick " + queue)
	if len(ticks) == 0 || ticks[0].GetKind() != otlp.Span_SPAN_KIND_INTERNAL {
		t.Errorf("%d spans of ticks of %s", len(ticks), queue)
	}
	roots := r.named("next_batch " + queue)
	processed := r.named("process "+queue, roots...)
	finished := r.named("finish_batch "+queue, processed...)
	if len(roots) != 1 || len(processed) != 1 || len(finished) != 1 {
		t.Errorf("queue %s: %d next_batch, %d process below it, %d finish_batch below that; want one each: the empty batches make none",
			queue, len(roots), len(processed), len(finished))
		return
	}
	if len(roots[0].GetParentSpanId()) != 0 || hex.EncodeToString(roots[0].GetTraceId()) == traceID {
		t.Errorf("queue %s: the batch is a child of somebody", queue)
	}
	for _, c := range []struct {
		span     *otlp.Span
		kind     otlp.Span_SpanKind
		op, name string
		linked   bool
	}{
		{roots[0], otlp.Span_SPAN_KIND_CLIENT, "receive", "next_batch", true},
		{processed[0], otlp.Span_SPAN_KIND_CONSUMER, "process", "process", true},
		{finished[0], otlp.Span_SPAN_KIND_CLIENT, "settle", "finish_batch", false},
	} {
		s := c.span
		if s.GetKind() != c.kind || attr(s, "messaging.operation.type") != c.op || attr(s, "messaging.operation.name") != c.name ||
			attr(s, "messaging.system") != "pgq" || attr(s, "messaging.destination.name") != queue ||
			attr(s, "messaging.consumer.group.name") != consumer || s.GetStatus().GetCode() != otlp.Status_STATUS_CODE_UNSET {
			t.Errorf("queue %s: %s", queue, s)
		}
		if strings.Contains(s.String(), "insert into") {
			t.Errorf("queue %s: SQL or data in a span: %s", queue, s)
		}
		if !c.linked {
			continue
		}
		if l := s.GetLinks(); len(l) != 1 || hex.EncodeToString(l[0].GetTraceId()) != traceID || hex.EncodeToString(l[0].GetSpanId()) != spanID {
			t.Errorf("queue %s: span %s has links %v, want one to the producer", queue, s.GetName(), l)
		}
	}
	if r.named("tick " + queue)[0].GetEndTimeUnixNano() == 0 || attr(roots[0], "messaging.pgq.batch.id") == "" || attr(roots[0], "messaging.batch.message_count") == "" {
		t.Errorf("queue %s: batch-wide attributes are missing: %s", queue, roots[0])
	}
}

// Whatever share of the batches is traced, what operators do always is; a parent that is not kept decides for its children.
func TestSampler_KeepsOperations(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter), sdktrace.WithSampler(operations{sdktrace.ParentBased(sdktrace.NeverSample())}))
	tracer := p.Tracer("test")
	for _, name := range []string{"switchover q", "failover q", "takeover q", "copy public.t", "backup main", "restore main", "next_batch q", "switchoverish q"} {
		ctx, root := tracer.Start(t.Context(), name)
		_, child := tracer.Start(ctx, "copy below "+name)
		child.End()
		root.End()
	}
	var got []string
	for _, s := range exporter.GetSpans() {
		got = append(got, s.Name)
	}
	if len(got) != 12 || slices.Contains(got, "next_batch q") || slices.Contains(got, "copy below next_batch q") {
		t.Errorf("kept %q", got)
	}
}

// A failed batch is found in the traces by its log line.
func TestLog_FailedBatchNamesActorAndTrace(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exporter := tracetest.NewInMemoryExporter()
	p := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	r := runOptions(t, consumersConfig(t, []configs.Database{database("main", db.DSN)}), Options{Tracing: p, Consumers: []Consumer{{
		Config: consumer("bad", func(*configs.Consumer) {}),
		Handler: func(int) pgq.Handler {
			return pgq.EventHandler(func(context.Context, *pgq.Event) error { return errors.New("poison") })
		},
	}}})
	registered(t, c, "bad")
	exec(t, c, `select pgq.insert_event('q', 't', '')`)
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "the failure is in the log", func() bool { return strings.Contains(r.log.String(), "poison") })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	spans := exporter.GetSpans()
	i := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "process q" })
	for line := range strings.Lines(r.log.String()) {
		if !strings.Contains(line, "poison") || !strings.Contains(line, "consumer failed, trying again") {
			continue
		}
		for _, want := range []string{
			"time=", "level=WARN", "kind=consumer", "actor=database/main/consumer/q/bad", "db=main", "queue=q", "consumer=bad", "batch_id=",
			"trace_id=" + spans[i].SpanContext.TraceID().String(),
		} {
			if strings.Count(line, want) != 1 {
				t.Errorf("%q is not once in %s", want, line)
			}
		}
		return
	}
	t.Error("no line about the failure")
}
