package pgq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// retryError says what is to become of one event that could not be handled.
type retryError struct {
	how   verdict
	after time.Duration
	err   error
}

// verdict is one of the ways for such an event.
type verdict int

const (
	retryAfter    verdict = iota // delivered again after a time
	retryByPolicy                // as the queue's policy says
	giveUp                       // dead letter
)

func (e *retryError) Error() string {
	switch e.how {
	case retryByPolicy:
		return fmt.Sprintf("retry event by policy: %v", e.err)
	case giveUp:
		return fmt.Sprintf("give up event: %v", e.err)
	default:
		return fmt.Sprintf("retry event after %v: %v", e.after, e.err)
	}
}
func (e *retryError) Unwrap() error { return e.err }

// where says in a word where the event goes.
func (e *retryError) where() string {
	if e.how == giveUp {
		return "dead letters"
	}
	return "retry"
}

// reason is what is kept with a dead letter.
func (e *retryError) reason() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// RetryAfter is returned by an EventHandler to have this one event delivered
// again after about the given time, in a later batch of this consumer, while
// the rest of the batch goes on. err says why, for the log.
func RetryAfter(after time.Duration, err error) error {
	return &retryError{how: retryAfter, after: after, err: err}
}

// RetryByPolicy is returned by an EventHandler to have this one event delivered
// again as the backoff policy of the queue says, or made a dead letter when the
// queue's max_retries is reached, while the rest of the batch goes on; see
// Batch.Nack. err says why, for the log and the dead letter. It needs skyd's
// additions; without them the batch fails with ErrNotInstalled.
func RetryByPolicy(err error) error { return &retryError{how: retryByPolicy, err: err} }

// GiveUp is returned by an EventHandler that knows this one event can never be
// handled: it becomes a dead letter at once, while the rest of the batch goes
// on; see Batch.Bury. err says why, for the log and the dead letter. It needs
// skyd's additions; without them the batch fails with ErrNotInstalled.
func GiveUp(err error) error { return &retryError{how: giveUp, err: err} }

// verdict tells what becomes of an event whose handling failed; nil: its batch
// fails.
func (o ConsumerOptions) verdict(err error) *retryError {
	var re *retryError
	switch {
	case errors.As(err, &re):
		return re
	case o.NackEvents:
		return &retryError{how: retryByPolicy, err: err}
	case o.EventRetry > 0:
		return &retryError{how: retryAfter, after: o.EventRetry, err: err}
	default:
		return nil
	}
}

// retryList collects the events a batch sends away, until it is known that the
// batch will be finished.
type retryList struct {
	ids   []int64
	after []time.Duration

	nacked, dead           []int64
	nackReasons, deadCause []string
}

func (r *retryList) add(id int64, e *retryError) {
	switch e.how {
	case retryByPolicy:
		r.nacked, r.nackReasons = append(r.nacked, id), append(r.nackReasons, e.reason())
	case giveUp:
		r.dead, r.deadCause = append(r.dead, id), append(r.deadCause, e.reason())
	default:
		r.ids, r.after = append(r.ids, id), append(r.after, e.after)
	}
}

func (r *retryList) any() bool { return len(r.ids)+len(r.nacked)+len(r.dead) > 0 }

// settle sends the events away.
func (r *retryList) settle(ctx context.Context, b *Batch) error {
	if len(r.ids) > 0 {
		if err := r.resend(ctx, b); err != nil {
			return err
		}
	}
	if len(r.nacked) > 0 {
		if _, _, err := b.NackEvents(ctx, r.nacked, r.nackReasons); err != nil {
			return err
		}
	}
	if len(r.dead) > 0 {
		if _, err := b.Bury(ctx, r.dead, r.deadCause); err != nil {
			return err
		}
	}
	return nil
}

// manyRetries is from when on it pays to ask for the set-based call: the one of
// the contract reads the batch for each event.
const manyRetries = 10

// resend sends the events round again that have a time of their own. Many of
// them go in sets of one delay each, rounded up to seconds, where that can be.
func (r *retryList) resend(ctx context.Context, b *Batch) error {
	if len(r.ids) < manyRetries {
		return b.retry(ctx, r.ids, r.after)
	}
	const installed = `select pg_catalog.to_regprocedure('pgq.events_retry(bigint,bigint[],integer)') is not null`
	var sets bool
	if err := b.q.QueryRow(ctx, installed).Scan(&sets); err != nil {
		return fmt.Errorf("retry %d events of batch %d of queue %s: %w", len(r.ids), b.ID, b.Queue, classify(err))
	}
	if !sets {
		return b.retry(ctx, r.ids, r.after)
	}
	bySeconds := make(map[int64][]int64)
	for i, id := range r.ids {
		s := wholeSeconds(r.after[i])
		bySeconds[s] = append(bySeconds[s], id)
	}
	for s, ids := range bySeconds {
		if _, err := b.Retry(ctx, time.Duration(s)*time.Second, ids...); err != nil {
			return err
		}
	}
	return nil
}

// Fate is what became of an event that could not be handled.
type Fate int

// The fates of an event.
const (
	// Waiting: it was in the retry queue of this consumer already, and was left
	// alone.
	Waiting Fate = iota
	// Requeued: it waits in the retry queue now.
	Requeued
	// Dead: it is a dead letter now.
	Dead
)

// String names the fate.
func (f Fate) String() string {
	switch f {
	case Waiting:
		return "waiting"
	case Requeued:
		return "requeued"
	case Dead:
		return "dead"
	default:
		return fmt.Sprintf("fate %d", int(f))
	}
}

// Retry puts events of the batch into the retry queue, to be delivered again to
// this consumer after about the given time (rounded up to seconds). The batch
// is read once, however many they are; all of them go, or none. An event that
// has used up the redeliveries its queue allows (option max_retries) becomes a
// dead letter instead. It returns how many were queued: not those, and not
// events that were waiting already. The batch stays open. Errors:
// ErrEventNotFound, ErrBatchGone, ErrNotInstalled without skyd's additions.
func (b *Batch) Retry(ctx context.Context, after time.Duration, ids ...int64) (queued int, err error) {
	ctx, op := b.settleEvents(ctx, OpRetry, ids)
	defer func() { b.telemetry(ctx).end(ctx, op, err) }()
	if err := b.s.calls.retry; err != nil {
		return 0, fmt.Errorf("retry %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, err)
	}
	n, err := callInt(ctx, b.q, `select pgq.events_retry($1, $2::bigint[], $3::int)`, b.ID, notNull(ids), wholeSeconds(after))
	if err != nil {
		return 0, fmt.Errorf("retry %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, err)
	}
	b.s.tally.retried += int(n)
	return int(n), nil
}

// notNull makes an array that is empty rather than null.
func notNull(ids []int64) []int64 {
	if ids == nil {
		return []int64{}
	}
	return ids
}

// wholeSeconds rounds up to what an integer of the server holds.
func wholeSeconds(d time.Duration) int64 {
	return int64(min(max(math.Ceil(d.Seconds()), math.MinInt32), math.MaxInt32))
}

// Nack says that one event of the batch could not be handled: it is delivered
// again to this consumer as the backoff policy of the queue says (options
// retry_backoff, retry_base, retry_cap, retry_jitter), or becomes a dead letter
// when the queue's max_retries is reached. The reason is kept with the dead
// letter. The batch stays open. Given a transaction it takes effect with the
// commit. Errors: ErrBatchGone, also when another member of the group took the
// batch over; ErrEventNotFound, ErrNotInstalled without skyd's additions.
func (b *Batch) Nack(ctx context.Context, id int64, reason string) (Fate, error) {
	queued, dead, err := b.NackEvents(ctx, []int64{id}, []string{reason})
	switch {
	case dead > 0:
		return Dead, err
	case queued > 0:
		return Requeued, err
	default:
		return Waiting, err
	}
}

// NackEvents is Nack for many events, in one call and with one read of the
// batch; all of them or none. There is one reason for each event, or one for
// all. It returns how many wait for redelivery and how many became dead
// letters. Errors: as Nack.
func (b *Batch) NackEvents(ctx context.Context, ids []int64, reasons []string) (queued, dead int, err error) {
	ctx, op := b.settleEvents(ctx, OpRetry, ids)
	defer func() { b.telemetry(ctx).end(ctx, op, err) }()
	if err := b.s.calls.retry; err != nil {
		return 0, 0, fmt.Errorf("nack %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, err)
	}
	const nackEvents = `select queued, dead from pgq.nack_events($1, $2::bigint[], $3::text[])`
	err = b.q.QueryRow(ctx, nackEvents, b.ID, notNull(ids), cleanReasons(reasons)).Scan(&queued, &dead)
	if err != nil {
		return 0, 0, fmt.Errorf("nack %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, classify(err))
	}
	b.s.tally.retried += queued
	b.s.tally.dead += dead
	return queued, dead, nil
}

// Bury makes events of the batch dead letters at once, whatever max_retries
// says; all of them or none. There is one reason for each event, or one for
// all. It returns how many it made; events that wait for redelivery already are
// left to that. The batch stays open. Errors: as Nack.
func (b *Batch) Bury(ctx context.Context, ids []int64, reasons []string) (dead int, err error) {
	ctx, op := b.settleEvents(ctx, OpDead, ids)
	defer func() { b.telemetry(ctx).end(ctx, op, err) }()
	if err := b.s.calls.retry; err != nil {
		return 0, fmt.Errorf("bury %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, err)
	}
	n, err := callInt(ctx, b.q, `select pgq.events_dead($1, $2::bigint[], $3::text[])`, b.ID, notNull(ids), cleanReasons(reasons))
	if err != nil {
		return 0, fmt.Errorf("bury %d events of batch %d of queue %s: %w", len(ids), b.ID, b.Queue, err)
	}
	b.s.tally.dead += int(n)
	return int(n), nil
}

// settleEvents begins an operation on some events of the batch.
func (b *Batch) settleEvents(ctx context.Context, name string, ids []int64) (context.Context, operation) {
	ctx, op := b.settle(ctx, name)
	if op.recording() {
		if len(ids) == 1 {
			op.span.SetAttributes(messageID(ids[0]))
		} else {
			op.span.SetAttributes(KeyMessagingBatchCount.Int(len(ids)))
		}
	}
	return ctx, op
}

// maxReason bounds a reason in bytes; the text of an error may hold anything,
// a stack too.
const maxReason = 2000

// cleanReasons makes texts that the server takes.
func cleanReasons(reasons []string) []string {
	clean := make([]string, len(reasons))
	for i, r := range reasons {
		r = strings.ToValidUTF8(strings.ReplaceAll(r, "\x00", ""), "\uFFFD")
		if len(r) > maxReason {
			r = strings.ToValidUTF8(r[:maxReason], "")
		}
		clean[i] = r
	}
	return clean
}
