package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// scopeName is the instrumentation scope of the actors' spans; schemaURL the conventions they follow.
const (
	scopeName = "github.com/skytools/skyd/actors"
	schemaURL = pgq.SchemaURL
)

// flushTime limits the last export of traces.
const flushTime = 5 * time.Second

// startTracing makes the tracer provider and the function that flushes and closes it. Without an endpoint there is
// neither an SDK nor a goroutine.
func (d *Daemon) startTracing(ctx context.Context) (trace.TracerProvider, func(context.Context) error, error) {
	nothing := func(context.Context) error { return nil }
	if d.opts.Tracing != nil {
		return d.opts.Tracing, nothing, nil
	}
	exporter, err := newExporter(ctx, d.config.Telemetry)
	if err != nil {
		return nil, nil, fmt.Errorf("start tracing: %w", err)
	}
	if exporter == nil {
		return noop.NewTracerProvider(), nothing, nil
	}
	res, err := resource.New(ctx, resource.WithSchemaURL(semconv.SchemaURL), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("skyd"), semconv.ServiceVersion(d.opts.Build.Version),
			semconv.ServiceInstanceID(d.config.Instance)),
		resource.WithFromEnv())
	if err != nil {
		d.log.Warn("describe this process for traces", "err", err) // a partial resource is still right
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(exporter), sdktrace.WithResource(res), sdktrace.WithIDGenerator(traceIDs{})}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		opts = append(opts, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(d.config.Telemetry.SampleRatio))))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	return provider, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, flushTime)
		defer cancel()
		return provider.Shutdown(ctx)
	}, nil
}

// newExporter makes the exporter that configuration and the OTEL_ variables ask for; nil: none. The variables belong to
// the SDK, which reads headers, certificates and the rest of them by itself; here they only decide on and off.
func newExporter(ctx context.Context, c configs.Telemetry) (*otlptrace.Exporter, error) {
	if os.Getenv("OTEL_TRACES_EXPORTER") == "none" || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return nil, nil
	}
	fromEnv := os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	if !fromEnv && c.Endpoint == "" {
		return nil, nil
	}
	protocol := c.Protocol
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"} {
		if v := os.Getenv(name); v != "" {
			protocol = v
		}
	}
	if protocol == "grpc" {
		var opts []otlptracegrpc.Option
		if !fromEnv {
			opts = append(opts, otlptracegrpc.WithEndpointURL(c.Endpoint))
		}
		return otlptracegrpc.New(ctx, opts...)
	}
	var opts []otlptracehttp.Option
	if !fromEnv {
		opts = append(opts, otlptracehttp.WithEndpointURL(strings.TrimSuffix(c.Endpoint, "/")+"/v1/traces"))
	}
	return otlptracehttp.New(ctx, opts...)
}

// deadLetters counts messages to actors that are gone, by the kind of the actor.
type deadLetters struct {
	mu     sync.Mutex
	counts map[string]int64
}

// watch counts the dead letters of a system. The handler runs in the goroutine of whoever sent the message: it counts
// and does nothing else.
func (l *deadLetters) watch(system *actor.ActorSystem) {
	system.EventStream.Subscribe(func(event any) {
		letter, ok := event.(*actor.DeadLetterEvent)
		if !ok || letter.PID == nil {
			return
		}
		switch letter.Message.(type) {
		case actor.SystemMessage, actor.AutoReceiveMessage:
			return // the library's own goodbyes
		}
		kind := "other"
		parts := strings.Split(letter.PID.GetId(), "/")
		for _, k := range actors.Kinds() {
			if parts[len(parts)-1] == k || (len(parts) > 1 && parts[len(parts)-2] == k) {
				kind = k
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.counts == nil {
			l.counts = map[string]int64{}
		}
		l.counts[kind]++
	})
}

// snapshot copies the counts.
func (l *deadLetters) snapshot() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := make(map[string]int64, len(l.counts))
	for k, n := range l.counts {
		copied[k] = n
	}
	return copied
}

// NewLogger builds the daemon's logger: trace and span ids of the context are part of every line.
func NewLogger(h slog.Handler) *slog.Logger { return slog.New(traced{h}) }

// traced adds trace ids.
type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (t traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{t.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (t traced) WithGroup(name string) slog.Handler { return traced{t.Handler.WithGroup(name)} }

// quiet lowers what the actor library tells to debug; its warnings stay.
type quiet struct{ slog.Handler }

func quietly(h slog.Handler) slog.Handler { return quiet{h} }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	if level < slog.LevelWarn {
		level = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		r.Level = slog.LevelDebug
	}
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
