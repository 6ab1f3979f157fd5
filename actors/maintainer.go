package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// MaintenanceSource is what the maintainer needs of a database. Every call is a transaction of its own.
type MaintenanceSource interface {
	classifier
	// MaintOperations lists what has to be done now.
	MaintOperations(ctx context.Context) ([]pgq.MaintOp, error)
	// RunMaintOp does one of them; again means: call me again at once.
	RunMaintOp(ctx context.Context, op pgq.MaintOp) (again bool, err error)
	// RetryEvents moves due events from the retry queue back; it is called until it moves none.
	RetryEvents(ctx context.Context) (int, error)
	// Health tells how queues and consumers are, and who keeps event tables from being rotated.
	Health(ctx context.Context) (pgq.Health, error)
}

// MaintainerParams are the settings of a maintainer.
type MaintainerParams struct {
	// Period is the time between two rounds of maintenance; 0: no maintainer.
	Period time.Duration
	// RetryPeriod is the time between two looks at the retry queue.
	RetryPeriod time.Duration
	// OperationTimeout limits one operation, except vacuum.
	OperationTimeout time.Duration
}

// againLimit ends the calls of an operation that wants to be called again and again: it goes on in the next round.
const againLimit = 10_000

// Maintainer runs the maintenance operations and the retry of events, each on its own cadence: an operation that hangs
// does not hold up the retries, and one that fails does not hold up the others.
type Maintainer struct {
	env    Env
	state  reporter
	p      MaintainerParams
	src    MaintenanceSource
	round  worker
	retry  worker
	clock  timers
	failed map[string]int // operation, failures in a row
	broken error          // operations that failed in the last round
	fails  int            // of whole rounds
	stuck  int            // of retry rounds
}

// roundDone is the result of a round of maintenance.
type roundDone struct {
	ran    int64
	errs   map[string]error // by operation
	order  []string         // all operations, as listed
	health pgq.Health
}

// retryDone is the number of events a round of retry moved.
type retryDone int64

// maintainerProps builds the maintainer of one database.
func maintainerProps(env Env, db string, p MaintainerParams, src MaintenanceSource) *actor.Props {
	return newProps(env, kindMaintainer, func() actor.Actor {
		return &Maintainer{
			env: env, p: p, src: src, failed: map[string]int{},
			state: reporter{env: env, kind: kindMaintainer, database: db},
		}
	})
}

// Receive implements actor.Actor.
func (w *Maintainer) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		w.beginRound(c)
		w.beginRetry(c)
	case *actor.Stopping, *actor.Restarting:
		w.clock.stop()
		if !haltAll(haltGrace, &w.round, &w.retry) {
			w.env.Log.Warn("work did not stop in time")
		}
	case messages.ReportStatus:
		w.state.repeat(c)
	case wake:
		if !w.clock.fired(m) {
			return
		}
		if m.name == "retry" {
			w.beginRetry(c)
		} else {
			w.beginRound(c)
		}
	case done[roundDone]:
		if finish(&w.round, m) {
			w.roundEnded(c, m.val, m.err)
		}
	case done[retryDone]:
		if finish(&w.retry, m) {
			w.retryEnded(c, m.val, m.err)
		}
	}
}

func (w *Maintainer) beginRound(c actor.Context) {
	src, timeout, ops, db := w.src, w.p.OperationTimeout, w.env.Operations, w.state.database
	_ = start(&w.round, c, w.env.Context, func(ctx context.Context) (roundDone, error) {
		op := ops.Routine("maintenance", db, "")
		defer op.End(errUnended)
		r, err := maintain(ctx, src, timeout, op)
		op.End(errors.Join(append(slices.Collect(maps.Values(r.errs)), err)...))
		return r, err
	})
}

func (w *Maintainer) beginRetry(c actor.Context) {
	src, timeout, ops, db := w.src, w.p.OperationTimeout, w.env.Operations, w.state.database
	_ = start(&w.retry, c, w.env.Context, func(ctx context.Context) (retryDone, error) {
		op := ops.Routine("retry", db, "")
		defer op.End(errUnended)
		n, err := retryEvents(ctx, src, timeout, op)
		op.End(err)
		return n, err
	})
}

// maintain runs one round: every operation once (and again, when it asks for it), each in its own transaction. The
// failure of one goes into the result and the next one has its turn; only a lost connection ends the round.
func maintain(ctx context.Context, src MaintenanceSource, timeout time.Duration, shown *Operation) (roundDone, error) {
	r := roundDone{errs: map[string]error{}}
	limited, cancel := context.WithTimeout(ctx, timeout)
	ops, err := src.MaintOperations(limited)
	cancel()
	if err != nil {
		return r, err
	}
	for _, op := range ops {
		r.order = append(r.order, op.String())
		shown.Step(op.String())
		if err := runOperation(ctx, src, op, timeout); err != nil {
			if ctx.Err() != nil || src.Classify(err).Lost {
				return r, err
			}
			r.errs[op.String()] = err
		}
		r.ran++
	}
	limited, cancel = context.WithTimeout(ctx, timeout)
	defer cancel()
	shown.Step("health of queues and consumers")
	r.health, err = src.Health(limited)
	return r, err
}

// runOperation runs one operation until it is done.
func runOperation(ctx context.Context, src MaintenanceSource, op pgq.MaintOp, timeout time.Duration) error {
	for range againLimit {
		again, err := runOnce(ctx, src, op, timeout)
		if err != nil || !again || ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// runOnce is one call of one operation. Vacuum may take as long as it needs: cut short it would never get done.
func runOnce(ctx context.Context, src MaintenanceSource, op pgq.MaintOp, timeout time.Duration) (bool, error) {
	if op.Func != "vacuum" && op.Func != "vacuum analyze" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return src.RunMaintOp(ctx, op)
}

// retryEvents moves events until none is due.
func retryEvents(ctx context.Context, src MaintenanceSource, timeout time.Duration, shown *Operation) (retryDone, error) {
	var total retryDone
	for range againLimit {
		limited, cancel := context.WithTimeout(ctx, timeout)
		n, err := src.RetryEvents(limited)
		cancel()
		if err != nil {
			return total, err
		}
		if n == 0 || ctx.Err() != nil {
			break
		}
		total += retryDone(n)
		shown.Step(fmt.Sprintf("%d events moved", total))
	}
	return total, nil
}

// roundEnded reports a round and arms the next one.
func (w *Maintainer) roundEnded(c actor.Context, r roundDone, err error) {
	now := time.Now()
	w.logOperations(r)
	w.env.report(c, messages.MaintenanceDone{
		Database: w.state.database, At: now, Operations: r.ran, Failed: int64(len(r.errs)), Health: r.health,
		Full: err == nil,
	})
	if err != nil {
		w.fails++
		w.trouble(c, "round", "maintenance round failed", err, w.fails)
		return
	}
	w.fails, w.broken = 0, nil
	for _, op := range r.order {
		if e := r.errs[op]; e != nil {
			w.broken = errors.Join(w.broken, e)
		}
	}
	w.clock.arm(c, "round", w.p.Period)
	w.works(c)
}

// logOperations logs the failed operations with growing distance, and the end of a failure.
func (w *Maintainer) logOperations(r roundDone) {
	for _, op := range r.order {
		switch err := r.errs[op]; {
		case err != nil:
			w.failed[op]++
			if loud(w.failed[op]) {
				w.env.Log.Warn("maintenance operation failed", "db", w.state.database, "op", op, "err", err,
					"fails", w.failed[op])
			}
		case w.failed[op] > 0:
			w.env.Log.Info("maintenance operation works again", "db", w.state.database, "op", op, "fails", w.failed[op])
			delete(w.failed, op)
		}
	}
}

// works sets the state after a success: a failing operation is an error to show, but the maintainer runs.
func (w *Maintainer) works(c actor.Context) {
	if w.fails == 0 && w.stuck == 0 {
		w.state.set(c, messages.Running, "", w.broken, time.Time{})
	}
}

// retryEnded reports moved events and arms the next round of retry.
func (w *Maintainer) retryEnded(c actor.Context, moved retryDone, err error) {
	if moved > 0 {
		w.env.report(c, messages.MaintenanceDone{Database: w.state.database, At: time.Now(), Retried: int64(moved)})
	}
	if err != nil {
		w.stuck++
		w.trouble(c, "retry", "retry of events failed", err, w.stuck)
		return
	}
	w.stuck = 0
	w.clock.arm(c, "retry", w.p.RetryPeriod)
	w.works(c)
}

// trouble handles the failure of a whole round: the database may be away, and if not, the round is tried again.
func (w *Maintainer) trouble(c actor.Context, timer, text string, err error, fails int) {
	limit := respawnLimit
	if w.src.Classify(err).Outage {
		limit = reconnectLimit
	}
	delay := fullJitter(respawnBase, limit, fails-1)
	if loud(fails) {
		w.env.Log.Warn("maintenance failed", "work", text, "db", w.state.database, "err", err, "fails", fails, "delay", delay.Round(time.Millisecond))
	}
	w.state.set(c, messages.Backoff, text, err, time.Now().Add(delay))
	c.Send(c.Parent(), messages.DatabaseTroubled{Actor: treePath(c.Self()), Err: err})
	w.clock.arm(c, timer, delay)
}
