package pgq

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// PartitionedOptions change how a PartitionedConsumer runs. The zero value is
// usable.
type PartitionedOptions struct {
	ConsumerOptions
	// TTL is how long the slots of a worker stay its own without a sign of
	// life; another worker gets them then. It is renewed three times as often,
	// also while the handler works. Below 300 ms it is 300 ms. Defaults to 30 s.
	TTL time.Duration
	// Create makes the group when it is missing, with this many slots, and
	// KeyField as its key: "ev_type", "ev_extra1" to "ev_extra4", or "ev_key",
	// the default, which is what NewEvent.WithKey sets. 0: a missing group ends
	// Run with ErrNotSubscribed.
	Create   int
	KeyField string
}

// PartitionedConsumer is one worker of an ordered group: the workers share the
// events of a queue by key, and the events of one key are worked on in order,
// by one worker at a time. It needs skyd's SQL beside PgQ (pgq_plus).
type PartitionedConsumer struct {
	c      *Consumer
	worker string
	o      PartitionedOptions

	running  atomic.Bool
	held     []int             // slots by the last answer of the database
	asked    time.Time         // when that was
	idle     bool              // there was no batch at the last look
	alone    map[int]time.Time // slots whose handler failed: not before, and one at a time
	failures map[int]int       // of those
}

// NewPartitionedConsumer makes a worker of an ordered group. The name of the
// worker is for people; every Run is a worker of its own, whatever its name. It
// does no I/O; the DB stays the caller's to close, after Run has returned. Run
// needs a second connection of it for renewals while the handler works.
func NewPartitionedConsumer(db *DB, queue, group, worker string, h Handler, o PartitionedOptions) *PartitionedConsumer {
	if o.TTL <= 0 {
		o.TTL = 30 * time.Second
	}
	o.TTL = max(o.TTL, minLeaseTTL)
	if o.KeyField == "" {
		o.KeyField = "ev_key"
	}
	p := &PartitionedConsumer{c: NewConsumer(db, queue, group, h, o.ConsumerOptions), o: o}
	// A process that was restarted under its old name must not be taken for
	// the one that may still be asleep somewhere.
	id := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	p.worker = worker + "#" + hex.EncodeToString(id)
	p.c.log = p.c.log.With("worker", p.worker)
	p.c.kind = kind{register: p.register, next: p.next, before: p.acquire, hold: p.hold, failed: p.failed}
	return p
}

// Run handles batch after batch of the worker's slots until the context ends, as
// Consumer.Run does.
//
// What is promised: the events of one key are handled in the order of their
// batches, and by id within a batch; the next one is not begun before the one
// before is finished, whoever works. When a handler fails, its batch is
// delivered again whole, after a pause, and the key waits; so do the other keys
// of its slot, but not the other slots. There is no way around: RetryAfter is
// such a failure with a pause of its own, and Batch.RetryEvent is refused with
// ErrOrdered. With a BatchTxHandler the effect is exactly once and in order
// also when a worker is frozen, loses its slots and comes back: its transaction
// is refused, with ErrLeaseLost in the log. Other handlers may then overlap with
// their successor for as long as they do not look at their context, which ends
// with cause ErrLeaseLost.
func (p *PartitionedConsumer) Run(ctx context.Context) error {
	if !p.running.CompareAndSwap(false, true) {
		return p.c.underWay()
	}
	defer p.running.Store(false)
	if p.c.db.Config().MaxConns < 2 {
		return fmt.Errorf("worker %s of group %s on queue %s: %w: it needs two connections, the pool has one (pool_max_conns)",
			p.worker, p.c.name, p.c.queue, ErrBadParameter)
	}
	p.held, p.asked = nil, time.Time{}
	p.idle, p.alone, p.failures = true, make(map[int]time.Time), make(map[int]int)
	err := p.c.Run(ctx)
	sctx, cancel := settleContext(ctx)
	defer cancel()
	const releaseSlots = `select pgq.release_slots($1, $2, $3)`
	if _, rerr := p.c.db.Exec(sctx, releaseSlots, p.c.queue, p.c.name, p.worker); rerr != nil && err == nil {
		p.c.log.Warn("slots are kept until their lease ends", "ttl", p.o.TTL, "err", rerr)
	}
	return err
}

// register makes the group, if it shall.
func (p *PartitionedConsumer) register(ctx context.Context) error {
	if p.o.Create <= 0 {
		return nil
	}
	_, err := CreateGroup(ctx, p.c.db, p.c.queue, p.c.name, p.o.KeyField, p.o.Create)
	return err
}

// acquire renews the leases and takes or gives back slots, when it is time: after
// a third of the time to live, or when slots are to be had and we have none to
// work on. A batch that was opened before may be of a slot that was given back;
// as opening one writes nothing, it can be forgotten.
func (p *PartitionedConsumer) acquire(ctx context.Context) (stale bool, err error) {
	if due, err := p.due(ctx); err != nil || !due {
		return false, err
	}
	const acquireSlots = `select slot from pgq.acquire_slots($1, $2, $3, $4::bigint * interval '1 microsecond')`
	rows, err := p.c.db.Query(ctx, acquireSlots, p.c.queue, p.c.name, p.worker, p.o.TTL.Microseconds())
	if err == nil {
		var held []int
		if held, err = pgx.CollectRows(rows, pgx.RowTo[int]); err == nil {
			if !slices.Equal(held, p.held) {
				p.c.log.Info("slots changed", "from", p.held, "to", held)
			}
			p.held, p.asked = held, time.Now()
			return true, nil
		}
	}
	return true, fmt.Errorf("acquire slots of group %s on queue %s: %w", p.c.name, p.c.queue, classify(err))
}

// due tells whether it is time to acquire. Idle workers only look: that writes
// nothing.
func (p *PartitionedConsumer) due(ctx context.Context) (bool, error) {
	since := time.Since(p.asked)
	if since >= p.o.TTL/3 || !p.idle || since < p.c.o.PollInterval {
		return since >= p.o.TTL/3, nil
	}
	const freeSlots = `
select exists (select from pgq.group_slot s
                where s.group_id = g.group_id and (s.worker is null or s.expires < clock_timestamp()))
       or g.new_slots is not null
          and not exists (select from pgq.group_slot s where s.group_id = g.group_id and s.last_tick <> g.cut_tick)
  from pgq.slot_group g
  join pgq.queue q on q.queue_id = g.queue_id
 where q.queue_name = $1 and g.group_name = $2`
	var free bool
	err := p.c.db.QueryRow(ctx, freeSlots, p.c.queue, p.c.name).Scan(&free)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotSubscribed
	}
	if err != nil {
		return false, fmt.Errorf("look for slots of group %s on queue %s: %w", p.c.name, p.c.queue, classify(err))
	}
	return free, nil
}

// next is the statement that opens our next batch: of a slot that failed before,
// when its pause is over, or of all slots that did not.
func (p *PartitionedConsumer) next() nextCall {
	const nextGroupBatch = `select batch, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time, cur_tick_event_seq,
       prev_tick_event_seq, slots, epochs
  from pgq.next_group_batch($1, $2, $3, $4::int[], $5::int)`
	return nextCall{
		sql:  nextGroupBatch,
		args: []any{p.c.queue, p.c.name, p.worker, p.choose(time.Now()), wish(int64(min(p.c.o.MaxMerge, math.MaxInt32)))},
		scan: p.scan,
	}
}

// choose returns the slots to ask for; nil for all.
func (p *PartitionedConsumer) choose(now time.Time) []int {
	if len(p.alone) == 0 {
		return nil
	}
	for _, slot := range slices.Sorted(maps.Keys(p.alone)) {
		if !now.Before(p.alone[slot]) {
			p.alone[slot] = now.Add(p.c.o.BackoffMin) // others have their turn
			return []int{slot}
		}
	}
	rest := make([]int, 0, len(p.held))
	for _, slot := range p.held {
		if _, failed := p.alone[slot]; !failed {
			rest = append(rest, slot)
		}
	}
	return rest
}

// scan reads the row of next.
func (p *PartitionedConsumer) scan(row pgx.Row, q Querier) (*Batch, error) {
	var (
		token              []byte
		tick, prev         *int64
		seqEnd, seqStart   *int64
		tickTime, prevTime *time.Time
		numbers            []int
		epochs             []int64
	)
	if err := row.Scan(&token, &tick, &prev, &tickTime, &prevTime, &seqEnd, &seqStart, &numbers, &epochs); err != nil {
		return nil, classify(err)
	}
	if p.idle = token == nil; p.idle {
		return nil, nil
	}
	b := &Batch{
		ID: *tick, Queue: p.c.queue, Consumer: p.c.name,
		TickID: *tick, PrevTickID: *prev, TickTime: tickTime.UTC(), PrevTickTime: prevTime.UTC(),
		SeqStart: *seqStart, SeqEnd: *seqEnd,
		q: q, s: &batchState{fetchSize: defaultFetchSize},
	}
	for i, slot := range numbers {
		b.s.slots = append(b.s.slots, Slot{Number: slot, Epoch: epochs[i]})
	}
	b.s.calls = batchCalls{
		finish: func(*Batch) nextCall {
			const finishGroupBatch = `select pgq.finish_group_batch($1::jsonb)`
			return nextCall{sql: finishGroupBatch, args: []any{string(token)}}
		},
		cursor: func(_ *Batch, name string, size int) nextCall {
			const getGroupCursor = `select ` + eventColumns + ` from pgq.get_group_cursor($1::jsonb, $2, $3::int)`
			return nextCall{sql: getGroupCursor, args: []any{string(token), name, size}}
		},
		retry:    ErrOrdered,
		gone:     ErrLeaseLost,
		finished: func() { p.succeeded(b) },
	}
	return b, nil
}

// hold renews the leases until release is called or one of them is lost.
func (p *PartitionedConsumer) hold(ctx context.Context, b *Batch) (context.Context, func() error) {
	return p.c.beat(ctx, b, p.o.TTL/3, ErrLeaseLost, func(ctx context.Context) (bool, error) {
		const renewSlots = `
select pgq.renew_slots($1, $2, $3, $4::bigint * interval '1 microsecond') > 0 and $5 = (
       select count(*) from pgq.slot_group g
         join pgq.queue q on q.queue_id = g.queue_id
         join pgq.group_slot s on s.group_id = g.group_id
         join unnest($6::int[], $7::bigint[]) as mine (slot, epoch) on mine.slot = s.slot and mine.epoch = s.epoch
        where q.queue_name = $1 and g.group_name = $2 and s.worker = $3)`
		numbers, epochs := make([]int, 0, len(b.s.slots)), make([]int64, 0, len(b.s.slots))
		for _, s := range b.s.slots {
			numbers, epochs = append(numbers, s.Number), append(epochs, s.Epoch)
		}
		var mine bool
		err := p.c.db.QueryRow(ctx, renewSlots, p.c.queue, p.c.name, p.worker, p.o.TTL.Microseconds(),
			len(numbers), numbers, epochs).Scan(&mine)
		return mine, classify(err)
	})
}

// failed sets the slots of a batch apart, each for itself, so that only the one
// with the bad event has to wait.
func (p *PartitionedConsumer) failed(b *Batch, err error) {
	now, several := time.Now(), len(b.s.slots) > 1
	for _, s := range b.s.slots {
		if several {
			p.alone[s.Number] = now
			continue
		}
		p.failures[s.Number]++
		pause := p.c.backoff(p.failures[s.Number])
		if re := (*retryError)(nil); errors.As(err, &re) && re.how == retryAfter {
			pause = re.after
		}
		p.alone[s.Number] = now.Add(pause)
	}
}

// succeeded takes slots back among the others.
func (p *PartitionedConsumer) succeeded(b *Batch) {
	for _, s := range b.s.slots {
		delete(p.alone, s.Number)
		delete(p.failures, s.Number)
	}
}

// Slot is a slot of an ordered group that a batch has events of, with the epoch
// of its lease. The epoch grows with every owner, so a system outside can refuse
// what comes late from an owner of before.
type Slot struct {
	Number int
	Epoch  int64
}

// Slots returns the slots of a batch of a PartitionedConsumer; nil for others.
func (b *Batch) Slots() []Slot { return slices.Clone(b.s.slots) }

// KeySlot is the slot that a key belongs to in a group of so many slots, as
// pgq.key_slot computes it.
func KeySlot(key string, slots int) int {
	sum := sha256.Sum256([]byte(key))
	return int(int64(binary.BigEndian.Uint32(sum[:4])) % int64(slots))
}

// WithKey returns the event with a key for ordered groups whose key field is
// "ev_key". It is carried in Extra3.
func (e NewEvent) WithKey(key string) NewEvent {
	e.Extra3 = Str(key)
	return e
}

// CreateGroup makes an ordered group on a queue; created is false when it exists
// with that key field. See PartitionedOptions for keyField. A plain consumer of
// that name becomes the group where it stands, else it starts at the newest tick.
// Errors: ErrQueueNotFound, ErrBadParameter.
func CreateGroup(ctx context.Context, q Querier, queue, group, keyField string, slots int) (created bool, err error) {
	const createGroup = `select pgq.create_group($1, $2, $3, $4::int)`
	n, err := callInt(ctx, q, createGroup, queue, group, keyField, slots)
	if err != nil {
		return false, fmt.Errorf("create group %s on queue %s: %w", group, queue, err)
	}
	return n == 1, nil
}

// DropGroup removes an ordered group with its consumer; dropped is false when
// there was none.
func DropGroup(ctx context.Context, q Querier, queue, group string) (dropped bool, err error) {
	const dropGroup = `select pgq.drop_group($1, $2)`
	n, err := callInt(ctx, q, dropGroup, queue, group)
	if err != nil {
		return false, fmt.Errorf("drop group %s of queue %s: %w", group, queue, err)
	}
	return n == 1, nil
}

// ResizeGroup changes the number of slots of a group: they are all worked up to
// the newest tick, then the new number holds. begun is false when it has that
// number or is on its way to it. It does not wait for that. Errors: ErrNotSubscribed,
// ErrBadParameter; a Retryable one when a worker's transaction holds a slot for more than 2 s.
func ResizeGroup(ctx context.Context, q Querier, queue, group string, slots int) (begun bool, err error) {
	const resizeGroup = `select pgq.resize_group($1, $2, $3::int)`
	n, err := callInt(ctx, q, resizeGroup, queue, group, slots)
	if err != nil {
		return false, fmt.Errorf("resize group %s of queue %s: %w", group, queue, err)
	}
	return n == 1, nil
}
