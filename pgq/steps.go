package pgq

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/trace"
)

// Steps runs a consumer one batch at a time, for callers with a clock and a
// supervision of their own; Run does the same in a loop. Not safe for
// concurrent use.
type Steps struct {
	c          *Consumer
	registered bool
	rest       pauseWatch
	leave      func(ctx context.Context)
}

// Steps prepares a consumer for work in steps. The error is ErrBadParameter for
// a handler that does not fit.
func (c *Consumer) Steps() (*Steps, error) {
	switch c.handler.(type) {
	case EventHandler, BatchHandler, BatchTxHandler:
		return newSteps(c), nil
	}
	return nil, fmt.Errorf("consumer %s on queue %s: %w: handler %T", c.name, c.queue, ErrBadParameter, c.handler)
}

// Steps prepares a member for work in steps.
func (m *CoopConsumer) Steps() (*Steps, error) {
	s, err := m.c.Steps()
	if err == nil && !m.o.StayRegistered {
		s.leave = m.leave
	}
	return s, err
}

// Steps prepares a consumer of another database for work in steps.
func (r *RemoteConsumer) Steps() (*Steps, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	return newSteps(r.c), nil
}

func newSteps(c *Consumer) *Steps {
	c.timed = true
	return &Steps{c: c, registered: !c.o.Register && c.kind.register == nil, rest: pauseWatch{c: c}}
}

// Next opens the next batch, or returns the one that is open; nil when there is
// none, also while the consumer is paused by its limit. The consumer is registered first, when its options say so. Errors as
// those of Run: see Permanent.
func (s *Steps) Next(ctx context.Context) (*Batch, error) {
	if !s.registered {
		if err := s.c.register(ctx); err != nil {
			return nil, err
		}
		s.registered = true
	}
	if s.c.kind.before != nil {
		if _, err := s.c.kind.before(ctx); err != nil {
			return nil, err
		}
	}
	if s.rest.paused(ctx) {
		return nil, nil
	}
	return s.c.next(ctx)
}

// Process handles and finishes a batch and may open the next one on the way. A
// batch that somebody else closed or took over meanwhile is no error: lost says
// so. After an error the batch is open; Next returns it again. An error for
// which HandlerFailed is true says nothing about the connection.
func (s *Steps) Process(ctx context.Context, b *Batch) (next *Batch, lost bool, err error) {
	next, err = s.c.process(ctx, b)
	if errors.Is(err, ErrBatchGone) {
		return nil, true, nil
	}
	return next, false, err
}

// Leave ends the work: a member leaves its group unless it has an open batch,
// which the others get after the dead interval.
func (s *Steps) Leave(ctx context.Context) {
	if s.leave != nil && s.registered {
		s.leave(ctx)
	}
}

// HandlerFailed tells whether an error of Steps.Process comes from the handler.
func HandlerFailed(err error) bool {
	var he *handlerError
	return errors.As(err, &he)
}

// Trace is the span under which the batch is or was handled, for the log; not
// valid without tracing, before that, and for a batch without events.
func (b *Batch) Trace() trace.SpanContext { return b.s.span }

// EventsRead is how many events of the batch were read so far.
func (b *Batch) EventsRead() int { return b.s.events }
