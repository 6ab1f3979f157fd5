package runtime

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/configs"
)

// LogSwitch is the daemon's log with a level and a format that can be changed while it runs. Safe for concurrent use.
type LogSwitch struct {
	w       io.Writer
	current atomic.Pointer[slog.Handler]
}

// NewLogSwitch makes the log that a configuration asks for; Apply changes it.
func NewLogSwitch(w io.Writer, c configs.Log) *LogSwitch {
	s := &LogSwitch{w: w}
	s.Apply(c)
	return s
}

// Apply changes level and format, also of all loggers that were derived before.
func (s *LogSwitch) Apply(c configs.Log) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the level was checked with the configuration
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(s.w, opts)
	if c.Format == "json" {
		h = slog.NewJSONHandler(s.w, opts)
	}
	s.current.Store(&h)
}

// Handler is the handler to log to.
func (s *LogSwitch) Handler() slog.Handler { return &switched{s: s} }

// switched is a handler with attributes and groups on top of whatever the switch says at the moment.
type switched struct {
	s     *LogSwitch
	outer *switched
	add   func(slog.Handler) slog.Handler
	built atomic.Pointer[builtHandler]
}

// builtHandler is a handler derived from one state of the switch.
type builtHandler struct{ base, derived *slog.Handler }

// handler derives the handler for the state of the switch, once per state.
func (h *switched) handler() slog.Handler {
	base := h.s.current.Load()
	if h.outer == nil {
		return *base
	}
	if b := h.built.Load(); b != nil && b.base == base {
		return *b.derived
	}
	derived := h.add(h.outer.handler())
	h.built.Store(&builtHandler{base: base, derived: &derived})
	return derived
}

// Enabled implements slog.Handler.
func (h *switched) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.s.current.Load()).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *switched) Handle(ctx context.Context, r slog.Record) error {
	return h.handler().Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *switched) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &switched{s: h.s, outer: h, add: func(in slog.Handler) slog.Handler { return in.WithAttrs(attrs) }}
}

// WithGroup implements slog.Handler.
func (h *switched) WithGroup(name string) slog.Handler {
	return &switched{s: h.s, outer: h, add: func(in slog.Handler) slog.Handler { return in.WithGroup(name) }}
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
