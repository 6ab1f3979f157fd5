package pgq

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// DeadLetter is an event that a consumer gave up.
type DeadLetter struct {
	// ID is the number of the dead letter; a later one is higher.
	ID       int64
	Queue    string
	Consumer string // of a cooperative group the main consumer
	// Time is when it was given up, Reason why; an empty reason may stand for
	// none.
	Time   time.Time
	Reason string
	// Event is the event as it was delivered last. Its Txid is 0 when it was
	// given up by maintenance.
	Event Event
}

// DeadLetterFilter chooses dead letters. The zero value chooses all of them.
type DeadLetterFilter struct {
	Queue    string // "": of all queues
	Consumer string // "": of all consumers
	// After is the ID of the last dead letter seen, for the next page.
	After int64
	// Limit is how many to return at most; 0: all.
	Limit int
}

const deadLetterColumns = `dead_id, queue_name, consumer_name, dead_time, coalesce(dead_reason, ''),
       ev_id, ev_time, coalesce(ev_txid, 0), coalesce(ev_retry, 0), ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`

// DeadLetters lists dead letters with their events, the oldest first. Errors:
// ErrNotInstalled without skyd's additions.
func DeadLetters(ctx context.Context, q Querier, f DeadLetterFilter) ([]DeadLetter, error) {
	const list = `select ` + deadLetterColumns + ` from pgq.dead_letter_list($1, $2, $3, $4::int)`
	letters, err := deadLetters(ctx, q, list, wanted(f.Queue), wanted(f.Consumer), f.After, wish(int64(f.Limit)))
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// GetDeadLetter returns one dead letter. Errors: ErrDeadLetterNotFound.
func GetDeadLetter(ctx context.Context, q Querier, id int64) (DeadLetter, error) {
	const get = `select ` + deadLetterColumns + ` from pgq.dead_letter_list($1)`
	letters, err := deadLetters(ctx, q, get, id)
	if err == nil && len(letters) == 0 {
		err = ErrDeadLetterNotFound
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("get dead letter %d: %w", id, err)
	}
	return letters[0], nil
}

func deadLetters(ctx context.Context, q Querier, sql string, args ...any) ([]DeadLetter, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, classify(err)
	}
	letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeadLetter, error) {
		var d DeadLetter
		e := &d.Event
		err := row.Scan(&d.ID, &d.Queue, &d.Consumer, &d.Time, &d.Reason, &e.ID, &e.Time, &e.Txid, &e.Retry,
			&e.Type, &e.Data, &e.Extra1, &e.Extra2, &e.Extra3, &e.Extra4)
		d.Time, e.Time = d.Time.UTC(), e.Time.UTC()
		return d, err
	})
	return letters, classify(err)
}

// wanted is null for a name that is no wish.
func wanted(name string) *string {
	if name == "" {
		return nil
	}
	return &name
}

// DeadLetterCount says how many events one consumer gave up.
type DeadLetterCount struct {
	Queue    string
	Consumer string // it need not be registered any more
	Events   int64
	Oldest   time.Time // when the first one that is left was given up
	Newest   time.Time
}

// CountDeadLetters counts dead letters by queue and consumer; an empty name
// stands for all. Errors: ErrNotInstalled without skyd's additions.
func CountDeadLetters(ctx context.Context, q Querier, queue, consumer string) ([]DeadLetterCount, error) {
	const info = `select queue_name, consumer_name, dead_events, oldest, newest from pgq.dead_letter_info($1, $2)`
	rows, err := q.Query(ctx, info, wanted(queue), wanted(consumer))
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", classify(err))
	}
	counts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeadLetterCount, error) {
		var c DeadLetterCount
		err := row.Scan(&c.Queue, &c.Consumer, &c.Events, &c.Oldest, &c.Newest)
		c.Oldest, c.Newest = c.Oldest.UTC(), c.Newest.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", classify(err))
	}
	return counts, nil
}

// RedriveDeadLetter sends one dead letter back to the consumer that gave it up,
// and to no other, with its redeliveries counted anew. done is false when it
// does not exist (any more), or its event is waiting for redelivery already.
// Errors: ErrNotSubscribed when its consumer is gone.
func RedriveDeadLetter(ctx context.Context, q Querier, id int64) (done bool, err error) {
	n, err := callInt(ctx, q, `select pgq.dead_letter_redrive($1::bigint)`, id)
	if err != nil {
		return false, fmt.Errorf("redrive dead letter %d: %w", id, err)
	}
	return n == 1, nil
}

// RedriveFilter chooses the dead letters to redrive.
type RedriveFilter struct {
	Queue    string    // required
	Consumer string    // "": of all consumers that are registered
	Type     Text      // the zero value: of all types
	Before   time.Time // given up before; zero: at any time
	Limit    int       // the oldest ones, at most so many; 0: all
}

// RedriveDeadLetters sends dead letters back to their consumers, each of them
// once whoever else redrives meanwhile, and returns how many. Errors:
// ErrQueueNotFound, ErrNotSubscribed when the named consumer is not registered.
func RedriveDeadLetters(ctx context.Context, q Querier, f RedriveFilter) (int, error) {
	var before *time.Time
	if !f.Before.IsZero() {
		before = &f.Before
	}
	n, err := callInt(ctx, q, `select pgq.dead_letter_redrive($1, $2, $3, $4, $5::int)`,
		f.Queue, wanted(f.Consumer), f.Type, before, wish(int64(f.Limit)))
	if err != nil {
		return 0, fmt.Errorf("redrive dead letters of queue %s: %w", f.Queue, err)
	}
	return int(n), nil
}

// PurgeDeadLetter deletes one dead letter for good; done is false when it does
// not exist (any more).
func PurgeDeadLetter(ctx context.Context, q Querier, id int64) (done bool, err error) {
	n, err := callInt(ctx, q, `select pgq.dead_letter_purge($1::bigint)`, id)
	if err != nil {
		return false, fmt.Errorf("purge dead letter %d: %w", id, err)
	}
	return n == 1, nil
}

// PurgeDeadLetters deletes the dead letters of a queue, or of one of its
// consumers, that were given up at least so long ago, for good, and returns how
// many. Errors: ErrQueueNotFound.
func PurgeDeadLetters(ctx context.Context, q Querier, queue, consumer string, olderThan time.Duration) (int, error) {
	n, err := callInt(ctx, q, `select pgq.dead_letter_purge($1, $2, $3::bigint * interval '1 microsecond')`,
		queue, wanted(consumer), wish(olderThan.Microseconds()))
	if err != nil {
		return 0, fmt.Errorf("purge dead letters of queue %s: %w", queue, err)
	}
	return int(n), nil
}

// BuryWorn makes dead letters of the events that wait in the retry queue for
// more redeliveries than max_retries of their queue allows, where clients that
// know only the contract put them, and deletes those that are older than
// dead_letter_keep; it returns how many it dealt with. Maintenance does it too;
// before RetryEvents it catches those that are due. Without skyd's additions it
// does nothing.
func BuryWorn(ctx context.Context, q Querier) (int, error) {
	const wanted = `select pg_catalog.to_regprocedure('pgq.maint_dead_letters()') is not null`
	var installed bool
	if err := q.QueryRow(ctx, wanted).Scan(&installed); err != nil || !installed {
		return 0, classify(err)
	}
	total := 0
	for {
		n, err := callInt(ctx, q, `select pgq.maint_dead_letters()`)
		if err != nil {
			return total, fmt.Errorf("bury worn events: %w", err)
		}
		if n == 0 {
			return total, nil
		}
		total += int(n)
	}
}
