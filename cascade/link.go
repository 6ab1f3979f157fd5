package cascade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// offer is a batch that the provider has opened for us.
type offer struct {
	id         int64
	prev, tick int64
	time       time.Time
	seq        *int64 // event counter of the tick, as the provider has it
	prevSeq    *int64
	sql        string // query that gives the events
	ticks      []tick // that it goes over, up to the last one; none when nobody asked
	whole      *offer // that this is a part of, up to tick number at
	at         int
}

// link is the connection of a consumer to its provider, from which it reads under that consumer name.
type link struct {
	queue, consumer string
	node, location  string // of the provider
	db              *pgq.DB
	ahead           *offer // opened on the way, while the last one was finished
	merge           bool   // several ticks may come as one batch
	asked           time.Time
	wake            *pgq.Wakeups
	stop            func()
}

// Opener makes the pool of a provider from its location.
type Opener func(ctx context.Context, location string) (*pgq.DB, error)

// openLink makes a link; it does not connect.
func openLink(ctx context.Context, open Opener, queue, consumer, node, location string, log *slog.Logger) (*link, error) {
	db, err := open(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("provider %s of queue %s: %w", node, queue, err)
	}
	l := &link{queue: queue, consumer: consumer, node: node, location: location, db: db}
	l.wake = pgq.NewWakeups(db, pgq.WakeupChannel(queue), log)
	l.stop = background(ctx, l.wake.Run)
	return l, nil
}

// background runs f until the returned function is called, which waits for its end. The context of the call that began
// it lends its values only.
func background(ctx context.Context, f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// close gives the connections back.
func (l *link) close() {
	if l == nil {
		return
	}
	l.stop()
	l.db.Close()
}

const offerColumns = `b.batch_id, b.prev_tick_id, b.cur_tick_id, b.cur_tick_time, b.cur_tick_event_seq, b.prev_tick_event_seq,
       case when b.batch_id is not null then pgq.batch_event_sql(b.batch_id) end`

const nextOfferSQL = `select ` + offerColumns + ` from pgq.next_batch_info($1, $2) b`

// scanOffer reads a row of offerColumns; nil when there is no batch.
func scanOffer(row pgx.Row) (*offer, error) {
	var (
		o              offer
		id, prev, tick *int64
		at             *time.Time
		sql            *string
	)
	if err := row.Scan(&id, &prev, &tick, &at, &o.seq, &o.prevSeq, &sql); err != nil {
		return nil, pgq.Classify(err)
	}
	if id == nil {
		return nil, nil
	}
	if prev == nil || tick == nil || at == nil || sql == nil {
		return nil, pgq.ErrPositionLost
	}
	o.id, o.prev, o.tick, o.time, o.sql = *id, *prev, *tick, *at, *sql
	return &o, nil
}

// nextOffer is how the next batch is asked for.
func (l *link) nextOffer() (sql string, args []any, scan func(pgx.Row) (*offer, error)) {
	if l.merge {
		return mergedOfferSQL, []any{l.queue, l.consumer, trainTicks, trainEvents}, scanMergedOffer
	}
	return nextOfferSQL, []any{l.queue, l.consumer}, scanOffer
}

// next is the open batch, or the next one; nil: none. (commit b)
func (l *link) next(ctx context.Context) (*offer, error) {
	if o := l.ahead; o != nil {
		l.ahead = nil
		return o, nil
	}
	l.asked = time.Now()
	sql, args, scan := l.nextOffer()
	o, err := scan(l.db.QueryRow(ctx, sql, args...))
	if errors.Is(err, errTicksMissing) {
		o, err = scan(l.db.QueryRow(ctx, sql, args...))
	}
	if err != nil {
		return nil, fmt.Errorf("next batch of queue %s for %s at provider %s: %w", l.queue, l.consumer, l.node, err)
	}
	return o, nil
}

// finish closes a batch and opens the next one in the same commit (f, and b of the next). That somebody else closed it
// is no error: what the target has is the truth.
func (l *link) finish(ctx context.Context, o *offer) error {
	var pipeline pgx.Batch
	pipeline.Queue(`select pgq.finish_batch($1)`, o.id)
	sql, args, scan := l.nextOffer()
	pipeline.Queue(sql, args...)
	results := l.db.SendBatch(ctx, &pipeline)
	var n int64
	err := results.QueryRow().Scan(&n)
	var ahead *offer
	if err == nil {
		if ahead, err = scan(results.QueryRow()); errors.Is(err, errTicksMissing) {
			l.asked, err = time.Time{}, nil // ask at once
		}
	}
	err = errors.Join(err, results.Close())
	if err != nil {
		return fmt.Errorf("finish batch %d of queue %s at provider %s: %w", o.id, l.queue, l.node, pgq.Classify(err))
	}
	if n == 1 {
		l.ahead = ahead
	}
	return nil
}

// tick is one tick of the provider.
type tick struct {
	ID   int64
	Time time.Time
	Seq  *int64

	snapshot string
}

// ticksBetween reads the provider's ticks after one up to another, the first hundred.
func (l *link) ticksBetween(ctx context.Context, after, upTo int64) ([]tick, error) {
	const ticks = `
select t.tick_id, t.tick_time, t.tick_event_seq
  from pgq.tick t
  join pgq.queue q on q.queue_id = t.tick_queue
 where q.queue_name = $1 and t.tick_id > $2 and t.tick_id <= $3
 order by t.tick_id
 limit 100`
	rows, err := l.db.Query(ctx, ticks, l.queue, after, upTo)
	if err == nil {
		var list []tick
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[tick]); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read ticks of queue %s at provider %s: %w", l.queue, l.node, pgq.Classify(err))
}

// tickAtMost is the newest tick of the provider that is not above a tick; 0: none.
func (l *link) tickAtMost(ctx context.Context, upTo int64) (int64, error) {
	const newest = `
select coalesce((
    select t.tick_id
      from pgq.tick t
      join pgq.queue q on q.queue_id = t.tick_queue
     where q.queue_name = $1 and t.tick_id <= $2
     order by t.tick_queue desc, t.tick_id desc
     limit 1), 0)`
	var id int64
	if err := l.db.QueryRow(ctx, newest, l.queue, upTo).Scan(&id); err != nil {
		return 0, fmt.Errorf("read ticks of queue %s at provider %s: %w", l.queue, l.node, pgq.Classify(err))
	}
	return id, nil
}
