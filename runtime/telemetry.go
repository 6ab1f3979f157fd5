package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	meternoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
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

// flushTime limits the last export of traces and metrics.
const flushTime = 5 * time.Second

// telemetry is where spans and measurements go.
type telemetry struct {
	tracing  trace.TracerProvider
	metering metric.MeterProvider
	// prometheus has the measurements for /metrics; nil: nobody asks there.
	prometheus *prometheus.Registry
	closers    []func(context.Context) error
}

// startTelemetry makes the providers. Without an endpoint of OTLP there is neither a tracing SDK nor a goroutine;
// without that and without HTTP there are no measurements either.
func (d *Daemon) startTelemetry(ctx context.Context) (*telemetry, error) {
	t := &telemetry{tracing: noop.NewTracerProvider(), metering: meternoop.NewMeterProvider()}
	c := d.config.Telemetry
	res, err := describe(ctx, d.opts.Build.Version, d.config.Instance)
	if err != nil {
		d.log.Warn("describe this process for traces", "err", err) // a partial resource is still right
	}
	if d.opts.Tracing != nil {
		t.embedded(d.opts.Tracing)
	} else if err := t.startTracing(ctx, c, res); err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	if err := t.startMetering(ctx, c, res, d.config.HTTP.Listen != configs.None); err != nil {
		return nil, errors.Join(fmt.Errorf("start metrics: %w", err), t.close(ctx))
	}
	return t, nil
}

// describe is the resource: the service, this instance of it and its host; the OTEL_ variables win.
func describe(ctx context.Context, version, instance string) (*resource.Resource, error) {
	return resource.New(ctx, resource.WithSchemaURL(semconv.SchemaURL), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("skyd"), semconv.ServiceVersion(version),
			semconv.ServiceInstanceID(instance)),
		resource.WithFromEnv())
}

// embedded uses the provider of the program around us; one of the SDK gets the actors' names into its spans as ours does.
func (t *telemetry) embedded(tp trace.TracerProvider) {
	t.tracing = tp
	if sdk, ok := tp.(*sdktrace.TracerProvider); ok {
		sdk.RegisterSpanProcessor(actorTags{})
		t.closers = append(t.closers, func(context.Context) error {
			sdk.UnregisterSpanProcessor(actorTags{})
			return nil
		})
	}
}

// startTracing makes the tracer provider, if there is somewhere to send spans.
func (t *telemetry) startTracing(ctx context.Context, c configs.Telemetry, res *resource.Resource) error {
	exporter, err := newExporter(ctx, c)
	if err != nil || exporter == nil {
		return err
	}
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithBatcher(exporter), sdktrace.WithSpanProcessor(actorTags{}),
		sdktrace.WithResource(res), sdktrace.WithIDGenerator(traceIDs{}),
	}
	if os.Getenv("OTEL_TRACES_SAMPLER") == "" {
		opts = append(opts, sdktrace.WithSampler(operations{sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.SampleRatio))}))
	}
	provider := sdktrace.NewTracerProvider(opts...)
	t.tracing, t.closers = provider, append(t.closers, provider.Shutdown)
	return nil
}

// startMetering makes the meter provider, if anybody is to see what it measures.
func (t *telemetry) startMetering(ctx context.Context, c configs.Telemetry, res *resource.Resource, scraped bool) error {
	var readers []sdkmetric.Option
	if scraped {
		t.prometheus = prometheus.NewRegistry()
		reader, err := otelprom.New(otelprom.WithRegisterer(t.prometheus), otelprom.WithoutScopeInfo())
		if err != nil {
			return err
		}
		readers = append(readers, sdkmetric.WithReader(reader))
	}
	exporter, err := newMetricExporter(ctx, c)
	if err != nil {
		return err
	}
	if exporter != nil {
		readers = append(readers, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	}
	if len(readers) == 0 {
		return nil
	}
	provider := sdkmetric.NewMeterProvider(append(readers, sdkmetric.WithResource(res))...)
	t.metering, t.closers = provider, append(t.closers, provider.Shutdown)
	return nil
}

// close sends what was not sent yet, and ends the exporters.
func (t *telemetry) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	var errs []error
	for _, stop := range t.closers {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}

// operations keeps the traces of what operators do, whatever share of the others is kept.
type operations struct{ sdktrace.Sampler }

// alwaysSampled are the first words of their spans.
var alwaysSampled = []string{pgq.OpSwitchover, pgq.OpFailover, pgq.OpTakeover, pgq.OpResurrect, pgq.OpCopy, pgq.OpBackup, pgq.OpRestore}

// ShouldSample implements sdktrace.Sampler.
func (o operations) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	if word, _, _ := strings.Cut(p.Name, " "); !parent.IsValid() && slices.Contains(alwaysSampled, word) {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return o.Sampler.ShouldSample(p)
}

// actorTags names in every span the actor that works.
type actorTags struct{}

// OnStart implements sdktrace.SpanProcessor.
func (actorTags) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {
	if id, ok := actors.IdentityFromContext(ctx); ok {
		s.SetAttributes(pgq.KeyActorKind.String(id.Kind), pgq.KeyActorName.String(id.Name), pgq.KeyActorRestart.Int64(id.Restart))
	}
}

// OnEnd implements sdktrace.SpanProcessor.
func (actorTags) OnEnd(sdktrace.ReadOnlySpan) {}

// Shutdown implements sdktrace.SpanProcessor.
func (actorTags) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (actorTags) ForceFlush(context.Context) error { return nil }

// exportOf decides whether and how a signal (TRACES, METRICS) is sent: by the OTEL_ variables, which belong to the SDK and
// of which it reads headers, certificates and the rest by itself, else by the configuration.
func exportOf(signal string, c configs.Telemetry) (wanted, fromEnv, grpc bool) {
	if os.Getenv("OTEL_"+signal+"_EXPORTER") == "none" || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false, false, false
	}
	fromEnv = os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
	protocol := c.Protocol
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"} {
		if v := os.Getenv(name); v != "" {
			protocol = v
		}
	}
	return fromEnv || c.Endpoint != "", fromEnv, protocol == "grpc"
}

// newExporter makes the exporter of spans that configuration and environment ask for; nil: none.
func newExporter(ctx context.Context, c configs.Telemetry) (*otlptrace.Exporter, error) {
	wanted, fromEnv, grpc := exportOf("TRACES", c)
	switch {
	case !wanted:
		return nil, nil
	case grpc && fromEnv:
		return otlptracegrpc.New(ctx)
	case grpc:
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(c.Endpoint))
	case fromEnv:
		return otlptracehttp.New(ctx)
	default:
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimSuffix(c.Endpoint, "/")+"/v1/traces"))
	}
}

// newMetricExporter is the same for metrics.
func newMetricExporter(ctx context.Context, c configs.Telemetry) (sdkmetric.Exporter, error) {
	wanted, fromEnv, grpc := exportOf("METRICS", c)
	switch {
	case !wanted:
		return nil, nil
	case grpc && fromEnv:
		return otlpmetricgrpc.New(ctx)
	case grpc:
		return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(c.Endpoint))
	case fromEnv:
		return otlpmetrichttp.New(ctx)
	default:
		return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(strings.TrimSuffix(c.Endpoint, "/")+"/v1/metrics"))
	}
}
