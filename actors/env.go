package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/messages"
)

// rootName is the name of the root actor.
const rootName = "daemon"

// Kinds of actors, as they appear in logs, metrics and status.
const (
	kindDaemon     = "daemon"
	kindStatus     = "status"
	kindDatabase   = "database"
	kindDiscovery  = "discovery"
	kindTicker     = "ticker"
	kindMaintainer = "maintainer"

	kindConsumer    = "consumer"
	kindSubconsumer = "subconsumer"
	kindBatch       = "batch"
	kindLease       = "lease"

	kindWAL     = "wal"
	kindGate    = "gate"
	kindShipper = "shipper"

	kindReceiver   = "receiver"
	kindBackup     = "backup"
	kindSurvey     = "survey"
	kindDrill      = "drill"
	kindPeriodic   = "periodic"
	kindNode       = "node"
	kindWorker     = "worker"
	kindPrefetcher = "prefetcher"
)

// Env is what every actor of one daemon shares.
type Env struct {
	// Log takes state changes; the actors add their own attributes.
	Log *slog.Logger
	// Tracer makes the spans; the no-op tracer costs nothing.
	Tracer trace.Tracer
	// Context carries values (never a cancellation) into all work of the actors.
	Context context.Context
	// Meter measures the actors; nil: nothing is measured.
	Meter *Meter
	// Status is where states and figures go; nil: nowhere.
	Status *actor.PID
	// Operations shows what takes long; nil: nobody looks.
	Operations *Operations

	base *slog.Logger // Log without the actor
}

// Identity is the actor that works under a context, for the spans of its work.
type Identity struct {
	Kind    string
	Name    string // tree path without the root
	Restart int64  // how often it failed and was brought back
}

// identityKey is the key of the identity in a context.
type identityKey struct{}

// IdentityFromContext is the actor whose work runs under ctx; false: none.
func IdentityFromContext(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// of is the environment of one incarnation of an actor: its log lines and the spans of its work name it.
func (e Env) of(kind, name string, restart int64) Env {
	if e.base == nil {
		e.base = e.Log
	}
	e.Log = e.base.With("kind", kind, "actor", name)
	e.Context = context.WithValue(e.Context, identityKey{}, Identity{Kind: kind, Name: name, Restart: restart})
	return e
}

// report sends a fact to the status actor.
func (e Env) report(c actor.Context, fact any) {
	if e.Status != nil {
		c.Send(e.Status, fact)
	}
}

// reporter is how an actor says its own state; it repeats the last one when status asks.
type reporter struct {
	env      Env
	kind     string
	database string
	optional bool
	last     messages.ActorChanged
}

// set tells a state. Repeating the same state is silent, unless there is an error to tell.
func (r *reporter) set(c actor.Context, state messages.State, note string, err error, retry time.Time) {
	if r.last.State == state && r.last.Note == note && err == nil && r.last.Err == "" {
		return
	}
	r.last = messages.ActorChanged{
		Path: treePath(c.Self()), Kind: r.kind, Database: r.database, State: state, Note: note, Retry: retry,
		At: time.Now(), Optional: r.optional,
	}
	if err != nil {
		r.last.Err = err.Error()
	}
	r.env.report(c, r.last)
}

// repeat tells the last state again.
func (r *reporter) repeat(c actor.Context) {
	if r.last.State != "" {
		r.env.report(c, r.last)
	}
}

// Kinds lists the kinds of actors.
func Kinds() []string {
	return []string{
		kindDaemon, kindStatus, kindDatabase, kindDiscovery, kindTicker, kindMaintainer, kindConsumer,
		kindSubconsumer, kindBatch, kindLease, kindNode, kindWorker, kindKeeper, kindWAL, kindGate, kindShipper, kindReceiver, kindBackup, kindPrefetcher,
		kindSurvey, kindDrill, kindPeriodic,
	}
}
