package cascade

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/skytools/skyd/pgq"
)

// A provider that ticks often offers more batches than a worker can bring with some round trips each. So the worker of a
// branch takes several ticks of the provider as one batch there, and cuts it at the ticks again: in its own queue each tick
// has its own transaction with its own events, as at the provider. All of them go to the server in one round trip. The
// positions on the way are those of the ticks, so a worker may die anywhere; the rest of the batch is taken then.
const (
	// trainTicks is how many ticks are looked at for one batch, and about how many are written in one round trip.
	trainTicks = 100
	// trainEvents is how many events they may have; the provider may give twice as many.
	trainEvents = 2000
)

// mergedOfferSQL opens a batch up to a tick that is several ticks away, as long as there are not too many events between.
// The ticks of the batch come with it.
const mergedOfferSQL = `
with s as materialized (
    select s.sub_queue, s.sub_last_tick, t.tick_event_seq as seq
      from pgq.queue q
     cross join pgq.consumer c
      join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = c.co_id
      join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
     where q.queue_name = $1 and c.co_name = $2
), pick as materialized (
    select max(t.tick_event_seq - s.seq)::int4 as events
      from s
     cross join lateral (select t.tick_event_seq from pgq.tick t where t.tick_queue = s.sub_queue and t.tick_id > s.sub_last_tick
                          order by t.tick_id limit $3) t
     where t.tick_event_seq - s.seq between 1 and $4
)
select ` + offerColumns + `, ticks.ids, ticks.times, ticks.seqs, ticks.snapshots
  from pick
 cross join lateral pgq.next_batch_custom($1, $2, null, pick.events, null) b
  left join lateral (
    select array_agg(t.tick_id order by t.tick_id) as ids, array_agg(t.tick_time order by t.tick_id) as times,
           array_agg(t.tick_event_seq order by t.tick_id) as seqs, array_agg(t.tick_snapshot::text order by t.tick_id) as snapshots
      from pgq.queue q
      join pgq.tick t on t.tick_queue = q.queue_id
     where q.queue_name = $1 and t.tick_id > b.prev_tick_id and t.tick_id <= b.cur_tick_id) ticks on true`

// scanMergedOffer reads a row of mergedOfferSQL; nil when there is no batch.
func scanMergedOffer(row pgx.Row) (*offer, error) {
	var (
		ids       []int64
		times     []time.Time
		seqs      []*int64
		snapshots []string
	)
	o, err := scanOffer(withMore{row, []any{&ids, &times, &seqs, &snapshots}})
	if o == nil || err != nil {
		return o, err
	}
	for i := range ids {
		o.ticks = append(o.ticks, tick{ID: ids[i], Time: times[i], Seq: seqs[i], snapshot: snapshots[i]})
	}
	if len(o.ticks) == 0 || o.ticks[len(o.ticks)-1].ID != o.tick {
		return nil, errTicksMissing
	}
	return o, nil
}

// errTicksMissing: the batch was opened up to a tick that is newer than the statement which opened it. It is open now, so
// the next statement sees all its ticks.
var errTicksMissing = errors.New("ticks of the batch are not visible yet")

// withMore is a row that has more columns than the one who scans it knows.
type withMore struct {
	pgx.Row
	more []any
}

// Scan implements pgx.Row.
func (r withMore) Scan(to ...any) error { return r.Row.Scan(slices.Concat(to, r.more)...) }

// car is the part of a batch up to the first of its ticks that is not completed; the last part when all are. It is the
// batch itself when that has one tick.
func (o *offer) car(completed int64) *offer {
	if len(o.ticks) < 2 {
		return o
	}
	i := slices.IndexFunc(o.ticks, func(t tick) bool { return t.ID > completed })
	if i < 0 {
		i = len(o.ticks) - 1
	}
	return o.cut(i)
}

// cut is the part of a batch up to the ith of its ticks.
func (o *offer) cut(i int) *offer {
	t := o.ticks[i]
	part := &offer{id: o.id, prev: o.prev, tick: t.ID, time: t.Time, seq: t.Seq, prevSeq: o.prevSeq, whole: o, at: i}
	where := fmt.Sprintf("pg_catalog.txid_visible_in_snapshot(ev_txid, '%s')", t.snapshot)
	if i > 0 {
		before := o.ticks[i-1]
		part.prev, part.prevSeq = before.ID, before.Seq
		where += fmt.Sprintf(" and not pg_catalog.txid_visible_in_snapshot(ev_txid, '%s')", before.snapshot)
	}
	part.sql = "select * from (" + o.sql + ") b where " + where
	return part
}

// lastOf tells whether nothing of the batch follows the n parts from this one on.
func (o *offer) lastOf(n int) bool { return o.whole == nil || o.at+n >= len(o.whole.ticks) }

// trains tells whether several ticks go in one round trip: a branch that only copies.
func (w *Worker) trains(plan Plan) bool { return plan.Copy == SameIDs && w.o.Applier == nil }

// merges tells whether the provider may give several ticks as one batch: a branch cuts it at the ticks, and a leaf needs
// no ticks.
func (w *Worker) merges(plan Plan) bool {
	return w.trains(plan) || plan.Copy == NoCopy && !plan.WaitBehind
}

// events is about how many events there are, by the counters of the ticks.
func (o *offer) events() int64 {
	if o.seq == nil || o.prevSeq == nil {
		return math.MaxInt64
	}
	return *o.seq - *o.prevSeq
}

// load is the events of one tick.
type load struct {
	tick                            tick
	ids                             []int64
	times                           []pgtype.Timestamptz
	types, data, ex1, ex2, ex3, ex4 []pgq.Text
	single                          bool // has events that have to be acted upon: it goes by itself
	maxID                           int64
}

func (l *load) add(r *row) {
	if r.fields[fieldRetry] != nil || strings.HasPrefix(string(r.fields[fieldType]), string(systemPrefix)) {
		l.single = true
		return
	}
	l.ids = append(l.ids, r.id())
	l.maxID = max(l.maxID, r.id())
	l.times = append(l.times, r.time())
	for field, to := range map[int]*[]pgq.Text{
		fieldType: &l.types, fieldData: &l.data, fieldExtra1: &l.ex1, fieldExtra2: &l.ex2, fieldExtra3: &l.ex3, fieldExtra4: &l.ex4,
	} {
		*to = append(*to, r.text(field))
	}
}

// errTooBig: the events do not fit into one message.
var errTooBig = errors.New("too big for one round trip")

// readTrain reads the events from a part of a batch on, by ticks.
func (w *Worker) readTrain(ctx context.Context, first *offer) ([]*load, error) {
	ticks := []tick{{ID: first.tick, Time: first.time, Seq: first.seq}}
	sql := first.sql
	if first.whole != nil {
		ticks, sql = first.whole.ticks[first.at:], first.whole.sql
		if first.at > 0 {
			sql = fmt.Sprintf("select * from (%s) b where not pg_catalog.txid_visible_in_snapshot(ev_txid, '%s')", sql,
				first.whole.ticks[first.at-1].snapshot)
		}
	}
	loads := make([]*load, len(ticks))
	snapshots := make([]snapshot, len(ticks))
	for i, t := range ticks {
		loads[i] = &load{tick: t}
		if len(ticks) > 1 {
			var err error
			if snapshots[i], err = parseSnapshot(t.snapshot); err != nil {
				return nil, err
			}
		}
	}
	const fields = `select ev_txid, ev_retry, ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`
	conn, err := w.link.db.Acquire(ctx)
	if err != nil {
		return nil, pgq.Classify(err)
	}
	defer conn.Release()
	// One message there, no name on the server, and all fields binary: what pgx has no call for.
	rows := conn.Conn().PgConn().ExecParams(ctx, fields+` from (`+sql+`) e order by ev_id`, nil, nil, nil, []int16{pgx.BinaryFormatCode})
	defer func() { _, _ = rows.Close() }()
	size := 0
	for rows.NextRow() {
		var r row
		raw := rows.Values()
		copy(r.fields[:], raw[1:])
		for _, field := range raw {
			size += len(field)
		}
		if size > chunkSize {
			return nil, errTooBig
		}
		i := 0
		if len(ticks) > 1 {
			txid := int64(binary.BigEndian.Uint64(raw[0]))
			for i < len(ticks) && !snapshots[i].sees(txid) {
				i++
			}
			if i == len(ticks) {
				return nil, fmt.Errorf("%w: event %d belongs to no tick of its batch", errBadCopy, r.id())
			}
		}
		loads[i].add(&r)
	}
	_, err = rows.Close()
	return loads, pgq.Classify(err)
}

// train brings as many ticks as can go in one round trip, from a part of a batch on. n is how many; 0: the first one has to
// go by itself.
func (w *Worker) train(ctx context.Context, p *Pass, first *offer) (n int, err error) {
	switch {
	case w.noTrain:
		w.noTrain = false
		return 0, nil
	case first.events() > 2*trainEvents:
		return 0, nil
	}
	loads, err := w.readTrain(ctx, first)
	if errors.Is(err, errTooBig) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if i := slices.IndexFunc(loads, func(l *load) bool { return l.single }); i >= 0 {
		loads = loads[:i]
	}
	loads = loads[:min(len(loads), trainTicks)]
	if len(loads) == 0 {
		return 0, nil
	}
	if w.table == "" {
		const current = `select pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table) from pgq.queue q where q.queue_name = $1`
		if err := w.db.QueryRow(ctx, current, w.queue).Scan(&w.table); err != nil {
			return 0, fmt.Errorf("find the event table of queue %s: %w", w.queue, pgq.Classify(err))
		}
	}
	var b pgx.Batch
	position, died := first.prev, error(nil)
	w.queueSequence(&b, loads)
	for i, l := range loads {
		if died = errors.Join(w.o.hook("chunk"), w.o.hook("copied")); died != nil {
			break
		}
		w.queueLoad(&b, p.State, l, position)
		n, position = i+1, l.tick.ID
		p.Events += len(l.ids)
		if died = w.o.hook("c"); died != nil {
			break
		}
		w.queueTick(&b, l.tick, i == len(loads)-1)
		if died = w.o.hook("d"); died != nil {
			break
		}
	}
	if err := w.sendTrain(ctx, &b); err != nil {
		w.table = ""
		return 0, err
	}
	if n > 0 {
		t := loads[n-1].tick
		p.Tick, p.TickTime, p.Top = t.ID, t.Time, t.ID
	}
	return n, died
}

// queueBegin begins a transaction behind the fence. All but the last one are made durable by the one that follows them;
// should they be lost in a crash, then position, events and ticks together, and they come again.
func (w *Worker) queueBegin(b *pgx.Batch, durable bool) {
	commit := "off"
	if durable {
		commit = ""
	}
	const settings = `
select pg_catalog.txid_current(), pg_catalog.set_config('skyd.copies_batch', $1, true),
       pg_catalog.set_config('statement_timeout', $2, true), pg_catalog.set_config('idle_in_transaction_session_timeout', $2, true),
       case when $3 <> '' then pg_catalog.set_config('synchronous_commit', $3, true) end`
	b.Queue(`begin isolation level read committed`)
	b.Queue(settings, w.queue, strconv.FormatInt(w.o.StepTimeout.Milliseconds(), 10), commit)
	if w.o.QueueFence != nil {
		w.o.QueueFence(b)
	}
}

// queueSequence keeps the ids of all events from being given anew, should this node become the root before the ticks are
// there.
func (w *Worker) queueSequence(b *pgx.Batch, loads []*load) {
	top := value(loads[len(loads)-1].tick.Seq)
	for _, l := range loads {
		top = max(top, l.maxID)
	}
	b.Queue(`
select case when pg_catalog.has_sequence_privilege(q.queue_event_seq, 'update') then pgq.seq_setval(q.queue_event_seq, $2) end
  from pgq.queue q where q.queue_name = $1`, w.queue, top)
}

// queueLoad is transaction c of one tick. It fails when the event table is another one by now, or the position not where it
// must be: division by zero is the only way to end what is under way in the middle.
func (w *Worker) queueLoad(b *pgx.Batch, s WorkerState, l *load, from int64) {
	w.queueBegin(b, false)
	if len(l.ids) > 0 {
		b.Queue(`
select 1 / count(*) from pgq.queue q
 where q.queue_name = $1 and pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table) = $2`, w.queue, w.table)
		b.Queue(`insert into `+w.table+` `+columns[SameIDs]+`
select * from unnest($1::int8[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])`,
			l.ids, l.times, l.types, l.data, l.ex1, l.ex2, l.ex3, l.ex4)
	}
	b.Queue(`with m as (`+moveSQL+` returning 1) select 1 / count(*) from m`, w.queue, s.Worker, from, l.tick.ID, s.Provider,
		s.Node, string(s.Type), s.CombinedQueue, string(s.CombinedType))
	b.Queue(`commit`)
}

// queueTick is commit d of one tick.
func (w *Worker) queueTick(b *pgx.Batch, t tick, last bool) {
	w.queueBegin(b, last)
	b.Queue(writeTickSQL, w.queue, t.ID, t.Time, t.Seq)
	if last {
		b.Queue(`select pg_catalog.pg_notify($1, $2)`, pgq.WakeupChannel(w.queue), strconv.FormatInt(t.ID, 10))
	}
	b.Queue(`commit`)
}

// sendTrain sends all and waits for the answers. errMoved: it ended in the middle, because the ground moved; what was
// committed before is good.
func (w *Worker) sendTrain(ctx context.Context, b *pgx.Batch) error {
	ctx, cancel := settle(ctx)
	defer cancel()
	conn, err := w.db.Acquire(ctx)
	if err != nil {
		return pgq.Classify(err)
	}
	defer conn.Release() // which closes a connection that is inside a transaction
	err = conn.SendBatch(ctx, b).Close()
	if pgq.SQLState(err) == "22012" {
		w.noTrain = true
		return errMoved
	}
	return pgq.Classify(err)
}

// snapshot is that of a tick.
type snapshot struct {
	xmin, xmax int64
	running    []int64
}

// parseSnapshot reads the text form of a txid_snapshot.
func parseSnapshot(text string) (s snapshot, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, fmt.Errorf("%w: snapshot %q", errBadCopy, text)
	}
	number := func(text string) (n int64) {
		var e error
		n, e = strconv.ParseInt(text, 10, 64)
		err = errors.Join(err, e)
		return n
	}
	s.xmin, s.xmax = number(parts[0]), number(parts[1])
	if parts[2] != "" {
		for _, id := range strings.Split(parts[2], ",") {
			s.running = append(s.running, number(id))
		}
	}
	return s, err
}

// sees tells whether a transaction is visible in the snapshot.
func (s snapshot) sees(txid int64) bool {
	if txid < s.xmin {
		return true
	}
	_, running := slices.BinarySearch(s.running, txid)
	return txid < s.xmax && !running
}
