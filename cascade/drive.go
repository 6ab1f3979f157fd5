package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/pgq"
)

// How an operation ended when it did not end well.
var (
	// ErrRolledBack: the operation was undone, the old root takes events and nobody is paused.
	ErrRolledBack = errors.New("rolled back")
	// ErrUnfinished: the operation is open; whoever runs it next goes on from where it stands, or back.
	ErrUnfinished = errors.New("unfinished")
	// ErrNeedsPerson: the nodes are in a state that no rule covers.
	ErrNeedsPerson = errors.New("somebody has to look")
)

// rollbackLimit is how long a driver that has to stop may take to undo.
const rollbackLimit = 15 * time.Second

// OpStep is a step that took effect, for whoever watches.
type OpStep struct {
	Node string        `json:"node"`
	Step ActionKind    `json:"step"`
	Why  string        `json:"why"`
	Took time.Duration `json:"took"`
}

// Proof compares both sides after a switchover.
type Proof struct {
	Queue string `json:"queue"`
	Old   string `json:"old_node"`
	New   string `json:"new_node"`
	Term  int64  `json:"term"`
	// The events of the ticks after FromTick up to FinalTick, the last tick of the old root, on both sides.
	FromTick  int64  `json:"from_tick"`
	FinalTick int64  `json:"final_tick"`
	OldEvents int64  `json:"old_events"`
	NewEvents int64  `json:"new_events"`
	OldHash   string `json:"old_hash"`
	NewHash   string `json:"new_hash"`
	// WritesHeld is how long no node took events: from before the transaction that closes to after the one that opens, by
	// the clock of this process; by the clocks of both servers when another process did one of the two.
	WritesHeld time.Duration `json:"writes_held"`
	Took       time.Duration `json:"took"`
}

// Equal tells whether both sides have the same.
func (p *Proof) Equal() bool { return p.OldEvents == p.NewEvents && p.OldHash == p.NewHash }

// run drives the operation until it is over. A context that ends makes it go back where that is possible.
func (o *operation) run(ctx context.Context, back, adopt bool, told func(OpStep)) error {
	ctx, span := tracer(ctx).Start(ctx, pgq.SpanName(pgq.OpSwitchover, o.a.queue), trace.WithAttributes(
		pgq.KeyMessagingSystem.String(pgq.MessagingSystem), pgq.KeyMessagingDestination.String(o.a.queue),
		pgq.KeyPgqNodeName.String(o.new), pgq.KeyPgqNodeProvider.String(o.old)))
	defer span.End()
	err := o.loop(ctx, back, adopt, told)
	if err != nil && ctx.Err() != nil && !back && !errors.Is(err, ErrDriverLost) {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
		defer cancel()
		if again := o.loop(undo, true, adopt, told); again == nil || errors.Is(again, ErrRolledBack) {
			err = joinCause(again, context.Cause(ctx))
		} else {
			err = fmt.Errorf("%w (%w)", again, context.Cause(ctx))
		}
	}
	if err != nil {
		pgq.RecordError(span, err)
	}
	return err
}

// joinCause gives an end its reason.
func joinCause(end, cause error) error {
	if end == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", end, cause)
}

// tracer makes the spans of operations.
func tracer(ctx context.Context) trace.Tracer {
	tp, ok := ctx.Value(providerKey{}).(trace.TracerProvider)
	if !ok {
		tp = otel.GetTracerProvider()
	}
	return tp.Tracer(ScopeName, trace.WithInstrumentationVersion(pgq.Version()), trace.WithSchemaURL(pgq.SchemaURL))
}

// loop looks, decides and does until the operation is over.
func (o *operation) loop(ctx context.Context, back, adopt bool, told func(OpStep)) error {
	var cause error
	waits := ""
	for {
		f := Facts{Rollback: back, Adopt: adopt}
		if err := o.lookBoth(ctx, &f); err != nil {
			return o.stopped(ctx, err, waits)
		}
		next := Decide(f)
		switch next.Kind {
		case ActFinished:
			return o.over(f, cause)
		case ActStop:
			return fmt.Errorf("%w: %s", ErrNeedsPerson, next.Why)
		case ActWait:
			waits = next.Why
			if f.Old.State == OpAborted { // the old root is open, what is left belongs to the supervision of the new one
				return joinOver(ErrRolledBack, cause, next.Why)
			}
			if err := rest(ctx, pollPeriod); err != nil {
				return o.stopped(ctx, err, waits)
			}
			continue
		}
		if next.Kind == ActDemote && o.attends(f.Old) {
			if err := rest(ctx, pollPeriod); err != nil {
				return o.stopped(ctx, err, "worker of "+o.old+" to see that it is paused")
			}
			continue
		}
		if f.Overdue && next.Kind == ActReopen && cause == nil && !back {
			cause = fmt.Errorf("writes were refused for more than %s: %s", o.limits.WriteOutage, waits)
		}
		err := o.step(ctx, next, told)
		switch {
		case err == nil:
		case errors.Is(err, ErrDriverLost) || errors.Is(err, ErrBusy):
			return err
		case errors.Is(err, ErrOvertaken) || silent(err) || lockTimeout(err):
			waits = err.Error()
			if again := rest(ctx, pollPeriod); again != nil {
				return o.stopped(ctx, again, waits)
			}
		case back:
			return fmt.Errorf("%w: %w", ErrUnfinished, err)
		default: // the step cannot be done: undo what was, if that is still possible
			back, cause = true, err
			if f.New.Type == Root {
				return fmt.Errorf("%w: %w", ErrUnfinished, err)
			}
		}
	}
}

// attends tells whether the worker of the old root may still be at the chores of a root, because it has not seen yet that
// it is paused: the original's ends its process when it finds no root any more. One that does not run is not waited for.
func (o *operation) attends(old Side) bool {
	if !old.Paused || old.Uptodate {
		return false
	}
	if o.attendedSince.IsZero() {
		o.attendedSince = time.Now()
	}
	return time.Since(o.attendedSince) < alivePatience
}

// lockTimeout tells whether a step gave up waiting for somebody's lock.
func lockTimeout(err error) bool {
	var pe *pgconn.PgError
	return errors.As(err, &pe) && (pe.Code == "55P03" || pe.Code == "57014" || pe.Code == "40P01" || pe.Code == "40001")
}

// stopped explains an end that the context or a database made.
func (o *operation) stopped(ctx context.Context, err error, waits string) error {
	if ctx.Err() == nil {
		return err
	}
	if waits == "" {
		return fmt.Errorf("%w: %w", ErrUnfinished, err)
	}
	return fmt.Errorf("%w: %w; the last it waited for: %s", ErrUnfinished, err, waits)
}

// over tells how the operation has ended.
func (o *operation) over(f Facts, cause error) error {
	if f.New.Reached && f.New.Type == Root {
		return nil
	}
	return joinOver(ErrRolledBack, cause, "")
}

func joinOver(end, cause error, note string) error {
	switch {
	case cause != nil:
		return fmt.Errorf("%w: %w", end, cause)
	case note != "":
		return fmt.Errorf("%w: %s", end, note)
	}
	return end
}

// step does one action, in a span of its own.
func (o *operation) step(ctx context.Context, next Action, told func(OpStep)) error {
	ctx, span := tracer(ctx).Start(ctx, string(next.Kind))
	defer span.End()
	span.AddEvent("state.enter")
	begun := time.Now()
	if next.Kind == ActClose {
		o.closedAt = begun
	}
	err := o.do(ctx, next.Kind)
	if err != nil {
		pgq.RecordError(span, err)
		return err
	}
	if next.Kind == ActPromote {
		o.openedAt = time.Now()
	}
	if told != nil {
		node := o.old
		if next.Kind.OnNew() {
			node = o.new
		}
		told(OpStep{Node: node, Step: next.Kind, Why: next.Why, Took: time.Since(begun)})
	}
	return nil
}

// prove compares what both sides have from the beginning of the operation to the final tick.
func (o *operation) prove(ctx context.Context) (*Proof, error) {
	const digest = `
select j.start_tick, j.final_tick, j.term, coalesce(j.closed_at, 'epoch'), coalesce(j.opened_at, 'epoch'), d.events, d.hash,
       clock_timestamp()
  from (select coalesce(n.start_tick, n.final_tick) as start_tick, n.final_tick, n.term, n.closed_at, n.opened_at
          from skyd_node.operation n where n.op_id = $2) j
 cross join lateral skyd_node.digest($1, j.start_tick, j.final_tick) d`
	p := &Proof{Queue: o.a.queue, Old: o.old, New: o.new}
	var closed, opened time.Time
	for _, node := range []string{o.new, o.old} {
		db, err := o.db(ctx, node)
		if err != nil {
			return nil, err
		}
		events, hash, c, v := &p.OldEvents, &p.OldHash, &closed, new(time.Time)
		if node == o.new {
			events, hash, c, v = &p.NewEvents, &p.NewHash, new(time.Time), &opened
		}
		var now time.Time
		var term int64
		if err := db.QueryRow(ctx, digest, o.a.queue, o.id).Scan(&p.FromTick, &p.FinalTick, &term, c, v, events, hash, &now); err != nil {
			return nil, fmt.Errorf("compare ticks on %s: %w", node, pgq.Classify(err))
		}
		p.Term = max(p.Term, term)
	}
	p.WritesHeld = opened.Sub(closed)
	if !o.closedAt.IsZero() && !o.openedAt.IsZero() {
		p.WritesHeld = o.openedAt.Sub(o.closedAt)
	}
	return p, nil
}
