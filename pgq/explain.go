package pgq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// LagFacts are the facts by which ExplainLag judges a consumer.
type LagFacts struct {
	Queue    QueueInfo
	Consumer ConsumerInfo
	Ticks    TickRange
	Behind   int64 // ticks between the consumer and the newest one
	Batch    int64 // about how many events are in the open batch
	Members  []SubconsumerInfo
	Now      time.Time
	Blocks   bool // it keeps the queue from rotating
}

// LoadLagFacts reads the facts about one consumer. Errors: ErrQueueNotFound,
// ErrNotSubscribed.
func LoadLagFacts(ctx context.Context, q Querier, queue, consumer string) (LagFacts, error) {
	const between = `
select (select count(*) from pgq.tick t where t.tick_queue = q.queue_id and t.tick_id > $2), pg_catalog.clock_timestamp(),
       coalesce((select n.tick_event_seq - p.tick_event_seq from pgq.tick p, pgq.tick n
                  where p.tick_queue = q.queue_id and n.tick_queue = q.queue_id and p.tick_id = $2 and n.tick_id = $3), 0)
  from pgq.queue q where q.queue_name = $1`
	var f LagFacts
	var err error
	if f.Queue, err = GetQueueInfo(ctx, q, queue); err != nil {
		return f, err
	}
	if f.Consumer, err = GetConsumerInfo(ctx, q, queue, consumer); err != nil {
		return f, err
	}
	if f.Ticks, err = Ticks(ctx, q, queue); err != nil {
		return f, err
	}
	if f.Members, err = SubconsumerInfos(ctx, q, queue, consumer); err != nil {
		return f, err
	}
	if err = q.QueryRow(ctx, between, queue, f.Consumer.LastTick, f.Consumer.NextTick).Scan(&f.Behind, &f.Now, &f.Batch); err != nil {
		return f, fmt.Errorf("read the ticks behind consumer %s: %w", consumer, classify(err))
	}
	f.Blocks = f.Queue.RotationBlocker(f.Now, []ConsumerInfo{f.Consumer}) == consumer
	return f, nil
}

// Limits of what is normal for a consumer.
const (
	unseenLimit = time.Minute // between two calls of a consumer that works
	hugeBatch   = 100_000     // events
)

// ExplainLag says why a consumer is behind, the first cause first, each with
// what to do. One finding of level Fine: it is not behind.
func ExplainLag(f LagFacts) []Finding {
	reasons := explainTicker(f)
	reasons = append(reasons, explainConsumer(f)...)
	if f.Blocks {
		reasons = append(reasons, Finding{
			"rotation", Warning, fmt.Sprintf("the event tables wait for this consumer: they were last rotated %s ago, which is due every %s",
				f.Queue.RotationAge(f.Now).Round(time.Second), f.Queue.RotationPeriod),
			"let it catch up; one that is not needed: skyd consumer unregister",
		})
	}
	if len(reasons) == 0 && f.Behind == 0 && f.Queue.NewEvents > 0 {
		return []Finding{{"ticker", Note, fmt.Sprintf("it has finished all ticks; about %d events wait for the next one, the newest is %s old",
			f.Queue.NewEvents, f.Queue.TickerLag.Round(time.Second)), "wait; skyd tick makes one now"}}
	}
	if len(reasons) == 0 {
		return []Finding{{"consumer", Fine, fmt.Sprintf("it is not behind: it has finished tick %d, the newest is %d", f.Consumer.LastTick, f.Ticks.Last), ""}}
	}
	return reasons
}

// explainTicker looks at what comes before every consumer: the ticks.
func explainTicker(f LagFacts) []Finding {
	q := f.Queue
	age := q.TickerLag.Round(time.Second)
	switch {
	case q.TickerPaused:
		return []Finding{{"ticker", Warning, "the queue is paused: no new batch comes", "skyd queue resume " + q.Name}}
	case q.ExternalTicker && q.TickerLag > unseenLimit:
		return []Finding{{"ticker", Warning, fmt.Sprintf("ticks come from outside, the last one %s ago", age), "look at the node that feeds this queue"}}
	case q.TickerLag > max(2*q.TickerIdlePeriod, unseenLimit) && q.NewEvents > 0:
		return []Finding{{"ticker", Fault, fmt.Sprintf("the newest tick is %s old and about %d events wait for one: no ticker runs", age, q.NewEvents), "skyd run --db DSN; skyd status says why not"}}
	}
	return nil
}

// explainConsumer looks at the consumer itself.
func explainConsumer(f LagFacts) (reasons []Finding) {
	c := f.Consumer
	seen := c.LastSeen.Round(time.Second)
	if c.LastTick != 0 && c.LastTick < f.Ticks.First {
		return []Finding{{"position", Fault, fmt.Sprintf("it stands at tick %d, the oldest that is kept is %d: its events are gone", c.LastTick, f.Ticks.First), "skyd consumer seek --to first, which skips what is lost"}}
	}
	open := c.CurrentBatch != 0
	for _, m := range f.Members {
		if m.Batch != 0 && m.LastSeen > unseenLimit {
			reasons = append(reasons, Finding{
				"member", Warning, fmt.Sprintf("subconsumer %s has batch %d open for %s", m.Name, m.Batch, m.LastSeen.Round(time.Second)),
				"look whether it works; another member takes the batch over after its dead interval",
			})
		}
	}
	switch {
	case open && f.Batch >= hugeBatch:
		reasons = append(reasons, Finding{
			"batch", Warning, fmt.Sprintf("its open batch %d has about %d events, open for %s: one huge transaction, or few ticks", c.CurrentBatch, f.Batch, seen),
			"let it finish; a lower ticker_max_count makes smaller batches, a huge transaction always is one batch",
		})
	case open && c.LastSeen > unseenLimit:
		reasons = append(reasons, Finding{
			"batch", Warning, fmt.Sprintf("batch %d is open for %s: the handler is slow, hangs, or its program has died", c.CurrentBatch, seen),
			"look at the consumer's program; a new start gets the same batch again",
		})
	case !open && f.Behind > 0 && c.LastSeen > unseenLimit && len(f.Members) == 0:
		reasons = append(reasons, Finding{
			"consumer", Warning, fmt.Sprintf("nobody consumes: not seen for %s, %d ticks wait", seen, f.Behind), "start the consumer's program",
		})
	case f.Behind > 1:
		reasons = append(reasons, Finding{
			"backlog", Note, fmt.Sprintf("it works, %d ticks and about %d events behind; the queue gets %.1f events a second", f.Behind, c.PendingEvents, f.Queue.EventsPerSecond),
			"wait; if the backlog grows, make the handler faster or share the work: skyd subconsumer register",
		})
	case open:
		reasons = append(reasons, Finding{
			"batch", Note, fmt.Sprintf("batch %d, about %d events, is open for %s, %d ticks wait in all", c.CurrentBatch, f.Batch, seen, f.Behind),
			"wait; skyd status tells whether the daemon that runs the consumer fails",
		})
	}
	return reasons
}

// Problems asks the database itself what is wrong with its PgQ (pgq.check), as
// findings of level Fault or Warning; none when all is well, and none without
// skyd's additions, which hold the check.
func Problems(ctx context.Context, q Querier) ([]Finding, error) {
	const check = `select area, object, severity, problem, coalesce(remedy, '') from pgq.check()`
	rows, err := q.Query(ctx, check)
	var findings []Finding
	if err == nil {
		findings, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Finding, error) {
			var (
				f                      Finding
				area, object, severity string
			)
			err := row.Scan(&area, &object, &severity, &f.Text, &f.Remedy)
			f.Name, f.Level = area+"/"+object, Warning
			if severity == "error" {
				f.Level = Fault
			}
			return f, err
		})
	}
	if err = classify(err); errors.Is(err, ErrNotInstalled) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("check the queues of the database: %w", err)
	}
	return findings, nil
}
