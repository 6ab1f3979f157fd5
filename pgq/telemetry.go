package pgq

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// ScopeName is the instrumentation scope of this package's spans and metrics.
const ScopeName = "github.com/skytools/skyd/pgq"

// SchemaURL is the semantic convention the attribute keys follow; it belongs
// on every tracer and meter of skyd.
const SchemaURL = "https://opentelemetry.io/schemas/1.43.0"

// Version is the version of this module in the program at hand, for the scopes of
// spans and metrics; empty when it is not known.
var Version = sync.OnceValue(func() string {
	const module = "github.com/skytools/skyd"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module {
			return m.Version
		}
	}
	return ""
})

// Attribute keys of spans and metrics. The messaging group of the conventions
// is still in development: this list is the only place where keys are spelled.
const (
	KeyMessagingSystem        = attribute.Key("messaging.system")
	KeyMessagingOperationName = attribute.Key("messaging.operation.name")
	KeyMessagingOperationType = attribute.Key("messaging.operation.type")
	KeyMessagingDestination   = attribute.Key("messaging.destination.name")
	KeyMessagingConsumerGroup = attribute.Key("messaging.consumer.group.name")
	KeyMessagingClientID      = attribute.Key("messaging.client.id")
	KeyMessagingBatchCount    = attribute.Key("messaging.batch.message_count")
	KeyMessagingMessageID     = attribute.Key("messaging.message.id")
	KeyMessagingBodySize      = attribute.Key("messaging.message.body.size")

	KeyPgqBatchID      = attribute.Key("messaging.pgq.batch.id")
	KeyPgqTickID       = attribute.Key("messaging.pgq.tick.id")
	KeyPgqPrevTickID   = attribute.Key("messaging.pgq.prev_tick.id")
	KeyPgqLinksDropped = attribute.Key("messaging.pgq.batch.links_dropped")
	KeyPgqEventType    = attribute.Key("messaging.pgq.event.type")
	KeyPgqEventRetry   = attribute.Key("messaging.pgq.event.retry")
	KeyPgqNodeName     = attribute.Key("messaging.pgq.node.name")
	KeyPgqNodeType     = attribute.Key("messaging.pgq.node.type")
	KeyPgqNodeProvider = attribute.Key("messaging.pgq.node.provider")

	KeyActorKind    = attribute.Key("skyd.actor.kind")
	KeyActorName    = attribute.Key("skyd.actor.name")
	KeyActorRestart = attribute.Key("skyd.actor.restart")

	KeyDBSystem          = attribute.Key("db.system.name")
	KeyDBNamespace       = attribute.Key("db.namespace")
	KeyDBCollection      = attribute.Key("db.collection.name")
	KeyDBOperation       = attribute.Key("db.operation.name")
	KeyDBOperationBatch  = attribute.Key("db.operation.batch.size")
	KeyDBQuerySummary    = attribute.Key("db.query.summary")
	KeyDBQueryText       = attribute.Key("db.query.text")
	KeyDBStoredProcedure = attribute.Key("db.stored_procedure.name")
	KeyDBResponseStatus  = attribute.Key("db.response.status_code")

	KeyErrorType     = attribute.Key("error.type")
	KeyServerAddress = attribute.Key("server.address")
	KeyServerPort    = attribute.Key("server.port")
)

// Values of KeyMessagingSystem and KeyDBSystem.
const (
	MessagingSystem = "pgq"
	DBSystem        = "postgresql"
)

// Operation names: messaging.operation.name, and the first word of span names.
const (
	OpInsert     = "insert_event"
	OpCreate     = "create"
	OpNextBatch  = "next_batch"
	OpProcess    = "process"
	OpFinish     = "finish_batch"
	OpRetry      = "event_retry"
	OpDead       = "event_dead"
	OpTick       = "tick"
	OpSwitchover = "switchover"
	OpFailover   = "failover"
	OpTakeover   = "takeover"
	OpResurrect  = "resurrect"
	OpCopy       = "copy"
	OpPush       = "push"
	OpBackup     = "backup"
	OpRestore    = "restore"
)

// Operation types: messaging.operation.type.
const (
	OpTypeSend    = "send"
	OpTypeCreate  = "create"
	OpTypeReceive = "receive"
	OpTypeProcess = "process"
	OpTypeSettle  = "settle"
)

// Metric names of the messaging conventions, all made by this package.
const (
	MetricSent              = "messaging.client.sent.messages"
	MetricConsumed          = "messaging.client.consumed.messages"
	MetricOperationDuration = "messaging.client.operation.duration"
	MetricProcessDuration   = "messaging.process.duration"
)

// MaxLinks is how many links a span gets; the SDK would drop the rest without
// a word.
const MaxLinks = 128

// DurationBoundaries returns the histogram boundaries, in seconds, of every
// duration metric. The SDK's own defaults are made for milliseconds.
func DurationBoundaries() []float64 {
	return []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
}

// SpanName is the name of a span: the operation and what it works on, usually
// the queue.
func SpanName(op, object string) string { return op + " " + object }

// MessagingAttributes returns the attributes every messaging span has from its
// start. An empty consumer is left out.
func MessagingAttributes(op, opType, queue, consumer string) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 8)
	attrs = append(attrs,
		KeyMessagingSystem.String(MessagingSystem),
		KeyMessagingOperationName.String(op),
		KeyMessagingOperationType.String(opType),
		KeyMessagingDestination.String(queue),
	)
	if consumer != "" {
		attrs = append(attrs, KeyMessagingConsumerGroup.String(consumer))
	}
	return attrs
}

// sentinelNames are the error.type values of the contract's own errors that do
// not come with a SQLSTATE.
var sentinelNames = []struct {
	err  error
	name string
}{
	{ErrBatchGone, "batch_gone"},
	{ErrQueueNotFound, "queue_not_found"},
	{ErrNotOwnTransaction, "not_own_transaction"},
	{ErrIsolation, "isolation"},
	{ErrHandlerPanic, "panic"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
}

// ErrorType is the value of error.type: the SQLSTATE of a server error, else
// the short name of the innermost error's Go type, else _OTHER. It never
// contains data.
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	if code := SQLState(err); code != "" {
		return code
	}
	for _, s := range sentinelNames {
		if errors.Is(err, s.err) {
			return s.name
		}
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			break
		}
		err = inner
	}
	switch name := fmt.Sprintf("%T", err); name {
	case "*errors.errorString", "*errors.joinError", "*fmt.wrapError", "*fmt.wrapErrors":
		return "_OTHER"
	default:
		return name
	}
}

// RecordError marks a span as failed, by the kind of the error only: texts of
// server errors may quote data. A nil error leaves it alone.
func RecordError(span trace.Span, err error) {
	if err == nil || !span.IsRecording() {
		return
	}
	kind := ErrorType(err)
	span.SetStatus(codes.Error, kind)
	span.SetAttributes(KeyErrorType.String(kind))
}

// ParseTraceparent reads a W3C traceparent of version 00. Anything that is not
// exactly one gives ok = false and is to be ignored.
func ParseTraceparent(s string) (sc trace.SpanContext, ok bool) {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return sc, false
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return sc, false
		}
	}
	var (
		cfg   trace.SpanContextConfig
		flags [1]byte
	)
	if _, err := hex.Decode(cfg.TraceID[:], []byte(s[3:35])); err != nil {
		return sc, false
	}
	if _, err := hex.Decode(cfg.SpanID[:], []byte(s[36:52])); err != nil {
		return sc, false
	}
	if _, err := hex.Decode(flags[:], []byte(s[53:])); err != nil {
		return sc, false
	}
	// Version 00 defines bit 0 (sampled) and, in level 2, bit 1 (random);
	// unknown bits are ignored, as the standard asks.
	cfg.TraceFlags = trace.TraceFlags(flags[0]) & trace.FlagsSampled
	cfg.Remote = true
	sc = trace.NewSpanContext(cfg)
	return sc, sc.IsValid()
}

// FormatTraceparent writes a span context as W3C traceparent; "" when it is
// not valid.
func FormatTraceparent(sc trace.SpanContext) string {
	if !sc.IsValid() {
		return ""
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" +
		(sc.TraceFlags() & trace.FlagsSampled).String()
}
