package pgq

import (
	"context"
	"fmt"
	"time"
)

// LimitAction is what maintenance does with a consumer that is over its limit.
type LimitAction string

// The actions.
const (
	// LimitNone exempts a consumer from the default of its queue.
	LimitNone LimitAction = "none"
	// LimitWarn notes it in the health views.
	LimitWarn LimitAction = "warn"
	// LimitPause asks skyd's own consumers to rest; see IsPaused. A client that
	// asks PgQ for a batch gets one all the same.
	LimitPause LimitAction = "pause"
	// LimitDetach unregisters the consumer, so that it does not hold rotation,
	// and keeps its position for ReattachConsumer.
	LimitDetach LimitAction = "detach"
)

// ConsumerLimit says how far a consumer may lag. Over any of the three is over
// the limit.
type ConsumerLimit struct {
	Action LimitAction
	Lag    time.Duration // age of the last finished tick; 0: no limit
	Ticks  int64         // ticks behind; 0: no limit
	Events int64         // events behind, about; 0: no limit
}

// SetConsumerLimit sets the limit of a consumer, registered or not, or with an
// empty consumer name the default of the queue, which does not hold for
// consumers whose names begin with a dot. Errors: ErrQueueNotFound,
// ErrBadParameter.
func SetConsumerLimit(ctx context.Context, q Querier, queue, consumer string, l ConsumerLimit) error {
	_, err := callInt(ctx, q, `select pgq.set_consumer_limit($1, $2, $3, $4::bigint * interval '1 microsecond', $5::bigint, $6::bigint)`,
		queue, wanted(consumer), string(l.Action), wish(l.Lag.Microseconds()), wish(l.Ticks), wish(l.Events))
	if err != nil {
		return fmt.Errorf("set limit of consumer %s on queue %s: %w", consumer, queue, err)
	}
	return nil
}

// RemoveConsumerLimit removes the limit of a consumer, or with an empty name the
// default of the queue; removed is false when there was none. Errors:
// ErrQueueNotFound.
func RemoveConsumerLimit(ctx context.Context, q Querier, queue, consumer string) (removed bool, err error) {
	n, err := callInt(ctx, q, `select pgq.set_consumer_limit($1, $2, null, null, null, null)`, queue, wanted(consumer))
	if err != nil {
		return false, fmt.Errorf("remove limit of consumer %s on queue %s: %w", consumer, queue, err)
	}
	return n == 1, nil
}

// IsPaused tells a consumer whether a limit asks it to rest.
func IsPaused(ctx context.Context, q Querier, queue, consumer string) (bool, error) {
	var paused bool
	if err := q.QueryRow(ctx, `select pgq.consumer_paused($1, $2)`, queue, consumer).Scan(&paused); err != nil {
		return false, fmt.Errorf("ask whether consumer %s on queue %s is paused: %w", consumer, queue, classify(err))
	}
	return paused, nil
}

// ResumeConsumer ends the pause of a consumer; done is false when it was not
// paused. It is not paused again before it was within its limit once.
func ResumeConsumer(ctx context.Context, q Querier, queue, consumer string) (done bool, err error) {
	n, err := callInt(ctx, q, `select pgq.resume_consumer($1, $2)`, queue, consumer)
	if err != nil {
		return false, fmt.Errorf("resume consumer %s on queue %s: %w", consumer, queue, err)
	}
	return n == 1, nil
}

// ReattachConsumer registers a detached consumer again where it stood, gives it
// back what waited for its redelivery, and returns the tick it stands at. Its
// limit holds again after it was within it once. Errors: ErrQueueNotFound,
// ErrNotDetached, ErrPositionLost when its events are gone (the server's detail
// names what was lost, its hint what is left).
func ReattachConsumer(ctx context.Context, q Querier, queue, consumer string) (tick int64, err error) {
	tick, err = callInt(ctx, q, `select pgq.reattach_consumer($1, $2)`, queue, consumer)
	if err != nil {
		return 0, fmt.Errorf("reattach consumer %s on queue %s: %w", consumer, queue, err)
	}
	return tick, nil
}

// pauseCheck is how often a consumer asks whether it is paused.
const pauseCheck = 5 * time.Second

// pauseWatch knows whether a consumer is to rest.
type pauseWatch struct {
	c     *Consumer
	asked time.Time
	known bool // the database has pauses
	rests bool
}

// paused tells whether the consumer is to rest now. It asks the database now and
// then. An error changes nothing: the call that follows meets it, too.
func (w *pauseWatch) paused(ctx context.Context) bool {
	if time.Since(w.asked) < pauseCheck && !w.asked.IsZero() {
		return w.rests
	}
	w.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if !w.known {
		const installed = `select pg_catalog.to_regprocedure('pgq.consumer_paused(text,text)') is not null`
		if err := w.c.db.QueryRow(ctx, installed).Scan(&w.known); err != nil || !w.known {
			return w.rests
		}
	}
	rests, err := IsPaused(ctx, w.c.db, w.c.queue, w.c.name)
	if err != nil {
		return w.rests
	}
	if rests != w.rests {
		w.c.log.Warn("consumer is paused by its limit, or no longer", "paused", rests)
	}
	w.rests = rests
	return rests
}
