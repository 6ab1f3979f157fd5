package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Columns of the latency table.
const (
	figP50   = "p50_ms"
	figP90   = "p90_ms"
	figP99   = "p99_ms"
	figMax   = "max_ms"
	figLost  = "lost"
	figTicks = "ticks_per_s"
	figRate  = "events_per_s"
)

// Rows of the latency table that targets name.
const (
	rowSkydLatency   = "skyd Consumer, TickWait 2 ms"
	rowPgQueFast     = "PgQue, ticker 10 ms, max_lag 1 ms"
	rowRiverCooldown = "River, FetchCooldown 1 ms"
)

// latencySection names a section.
func latencySection(rate int, commit string) string {
	return fmt.Sprintf("%d/s, %s commit", rate, commit)
}

// courier is one way from commit to consumer.
type courier struct {
	system string
	name   string
	send   string // $1 is the data
	client func(ctx context.Context, h *host, db *pgq.DB, data []string) error
	// config are settings of the queue.
	config [][2]string
	// beside runs beside the consumer until ctx ends: the ticker of those who need one.
	beside func(ctx context.Context, h *host, db *pgq.DB) error
	// startup is how long it takes until it is at its best.
	startup time.Duration
	// slow takes seconds for each event; tests leave it out.
	slow bool
	// consume hands the data of events over until ctx ends.
	consume func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error
}

func couriers() []courier {
	const insertEvent = `select pgq.insert_event('latency', 'bench', $1)`
	const send = `select pgque.send('latency'::text, 'bench'::text, $1::text)`
	eager := [][2]string{{"ticker_max_lag", "0"}, {"ticker_max_count", "1"}}
	all := append(skydCouriers(),
		courier{
			system: hostPgQ, name: "PgQ C, ticker 1 s, max_lag 3 s, poll 1 s", send: insertEvent, slow: true,
			beside: tickEvery(time.Second), consume: pollPgQ(time.Second),
		},
		courier{
			system: hostPgQ, name: "PgQ C, ticker 10 ms, max_lag 0, poll 10 ms", send: insertEvent, config: eager,
			beside: tickEvery(10 * time.Millisecond), consume: pollPgQ(10 * time.Millisecond),
		},
		courier{
			system: hostPgQue, name: "PgQue, ticker 100 ms, its default queue", send: send, slow: true,
			beside: tickEvery(100 * time.Millisecond), consume: pollPgQue(100 * time.Millisecond),
		},
		courier{
			system: hostPgQue, name: rowPgQueFast, send: send, config: [][2]string{{"ticker_max_lag", "1 millisecond"}},
			beside: tickEvery(10 * time.Millisecond), consume: pollPgQue(10 * time.Millisecond),
		},
	)
	for _, ms := range []int{100, 10} {
		all = append(all, courier{
			system: hostPgmq, name: fmt.Sprintf("pgmq read_with_poll %d ms", ms),
			send: `select pgmq.send('latency', $1::text::jsonb)`, consume: pollPgmq(ms),
		})
	}
	return append(all,
		courier{system: hostRiver, name: "River, as it comes", client: riverInsert, consume: riverConsume(0), startup: 2 * time.Second},
		courier{system: hostRiver, name: rowRiverCooldown, client: riverInsert, consume: riverConsume(time.Millisecond), startup: 2 * time.Second})
}

// latencyTable is the table of the way from commit to consumer.
func (r *run) latencyTable() tableDef {
	return tableDef{
		name: tableLatency, title: "Latency: from the commit of the producer to the event in the hands of the consumer",
		sections: r.latencySections,
		columns: []Column{
			{figP50, "p50 ms", 2, true},
			{figP90, "p90 ms", 2, false},
			{figP99, "p99 ms", 2, false},
			{figMax, "max ms", 1, false},
			{figLost, "lost", 0, false},
			{figTicks, "ticks/s", 1, false},
			{figRate, "events/s", 0, false},
		},
		note: "Single inserts at a fixed pace, each a transaction of its own, one consumer. The clock starts when the " +
			"producer has the reply to its commit; up to 4 producers. ticks/s is empty for what has no ticks.",
	}
}

func (r *run) latencySections(ctx context.Context) ([]section, error) {
	var sections []section
	for _, commit := range []string{asynchronous, synchronous} {
		for _, rate := range r.sizes.rates {
			s := section{
				name: latencySection(rate, commit), commit: commit, reference: rowSkydLatency,
				events: max(int(float64(rate)*r.sizes.latency.Seconds()), 1),
			}
			for _, c := range couriers() {
				if c.slow && r.sizes.noSlow {
					continue
				}
				contender, err := r.latencyContender(ctx, s, c, rate)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", c.name, err)
				}
				s.contenders = append(s.contenders, contender)
			}
			sections = append(sections, s)
		}
	}
	return sections, nil
}

const latencyQueue, latencyConsumer = "latency", "bench"

// latencyContender makes a contender of a courier.
func (r *run) latencyContender(ctx context.Context, s section, w courier, rate int) (contender, error) {
	c := contender{name: w.name}
	h, absent, err := r.queueHost(ctx, w.system)
	if err != nil || absent != "" {
		c.absent = absent
		return c, err
	}
	db := h.db
	if s.commit == synchronous {
		db = h.durable
	}
	c.reset = func(ctx context.Context) error { return h.freshQueue(ctx, latencyQueue, latencyConsumer, w.config) }
	c.run = func(ctx context.Context) (figures, error) {
		f, err := deliver(ctx, h, db, w, rate, s.events)
		if err == nil && f[figLost] != 0 {
			err = fmt.Errorf("%g of %d events lost", f[figLost], s.events)
		}
		return f, err
	}
	return c, nil
}

// freshQueue makes an empty queue with one consumer.
func (h *host) freshQueue(ctx context.Context, queue, consumer string, config [][2]string) error {
	switch h.system {
	case hostPgmq:
		// Dropping a queue that does not exist is an error in some of its versions.
		exists, err := get[bool](ctx, h.db, `select to_regclass('pgmq.q_' || $1) is not null`, queue)
		if err == nil && exists {
			_, err = h.db.Exec(ctx, `select pgmq.drop_queue($1)`, queue)
		}
		if err == nil {
			_, err = h.db.Exec(ctx, `select pgmq.create($1)`, queue)
		}
		return err
	case hostRiver:
		return do(ctx, h.db, "truncate river_job")
	}
	schema := h.schema()
	exists, err := get[bool](ctx, h.db, "select exists (select from "+schema+".queue where queue_name = $1)", queue)
	if err == nil && exists {
		_, err = h.db.Exec(ctx, "select "+schema+".drop_queue($1, true)", queue)
	}
	if err == nil {
		_, err = h.db.Exec(ctx, "select "+schema+".create_queue($1)", queue)
	}
	for _, kv := range config {
		if err == nil {
			_, err = h.db.Exec(ctx, "select "+schema+".set_queue_config($1, $2, $3)", queue, kv[0], kv[1])
		}
	}
	if err == nil {
		_, err = h.db.Exec(ctx, "select "+schema+".register_consumer($1, $2)", queue, consumer)
	}
	return err
}

// delivery is one round: what was sent when, and what came when.
type delivery struct {
	sent, got []time.Time   // by number of the event
	primed    chan struct{} // one for each event before the first one that has come
	missing   atomic.Int64
	all       chan struct{} // closed when everything has come
	doubled   int
	foreign   int
}

// take notes that an event came. One goroutine calls it.
func (d *delivery) take(data string) {
	n := number(data)
	switch {
	case n == len(d.got):
		d.primed <- struct{}{}
	case n < 0 || n >= len(d.got):
		d.foreign++
	case !d.got[n].IsZero():
		d.doubled++
	default:
		d.got[n] = time.Now()
		if d.missing.Add(-1) == 0 {
			close(d.all)
		}
	}
}

// latencyPatience is how long the last events may take.
const latencyPatience = 20 * time.Second

// deliver runs one round.
func deliver(ctx context.Context, h *host, db *pgq.DB, w courier, rate, n int) (f figures, err error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &delivery{sent: make([]time.Time, n), got: make([]time.Time, n), primed: make(chan struct{}, primers), all: make(chan struct{})}
	d.missing.Store(int64(n))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	failed := make(chan error, 2)
	start := func(f func() error) {
		wg.Go(func() {
			if err := f(); ctx.Err() == nil {
				failed <- cmp.Or(err, errors.New("ended by itself"))
			}
		})
	}
	if w.beside != nil {
		start(func() error { return w.beside(ctx, h, db) })
	}
	start(func() error { return w.consume(ctx, h, db, d.take) })
	if err := d.prime(ctx, h, db, w, failed); err != nil {
		return nil, err
	}
	ticks, err := h.ticks(ctx, latencyQueue)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := d.produce(ctx, h, db, w, rate); err != nil {
		return nil, err
	}
	took := time.Since(begin)
	if _, err := arrival(ctx, d.all, failed); err != nil {
		return nil, err
	}
	after, err := h.ticks(ctx, latencyQueue)
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(begin)
	cancel()
	wg.Wait()
	if d.doubled+d.foreign > 0 {
		return nil, fmt.Errorf("%d events came twice, %d were never sent", d.doubled, d.foreign)
	}
	f = d.figures()
	f[figRate] = float64(n) / took.Seconds()
	if after >= 0 {
		f[figTicks] = float64(after-ticks) / elapsed.Seconds()
	}
	return f, nil
}

// primers is how many events may be sent before the first one that counts.
const primers = 5

// prime sends events that do not count until one of them comes soon: then everybody is at work.
func (d *delivery) prime(ctx context.Context, h *host, db *pgq.DB, w courier, failed <-chan error) error {
	if err := pause(ctx, w.startup); err != nil {
		return err
	}
	for range primers {
		begin := time.Now()
		if err := w.sendOne(ctx, h, db, len(d.got)); err != nil {
			return err
		}
		if came, err := arrival(ctx, d.primed, failed); err != nil || !came {
			return cmp.Or(err, errors.New("nothing is delivered"))
		}
		if w.slow || time.Since(begin) < 300*time.Millisecond {
			break
		}
	}
	return nil
}

// arrival waits for events that are under way; false when they have not come in time.
func arrival(ctx context.Context, came <-chan struct{}, failed <-chan error) (bool, error) {
	patience := time.NewTimer(latencyPatience)
	defer patience.Stop()
	select {
	case <-came:
		return true, nil
	case err := <-failed:
		return false, err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-patience.C:
		return false, nil
	}
}

// sendOne sends one event in a transaction of its own.
func (w courier) sendOne(ctx context.Context, h *host, db *pgq.DB, n int) error {
	if w.client != nil {
		return w.client(ctx, h, db, []string{payload(n)})
	}
	_, err := db.Exec(ctx, w.send, payload(n))
	return err
}

// produce sends all events at the rate, on as many connections as that needs. Who is late does not wait.
func (d *delivery) produce(ctx context.Context, h *host, db *pgq.DB, w courier, rate int) error {
	producers := 1
	if rate >= 1000 {
		producers = 4
	}
	failed := make([]error, producers)
	begin := time.Now()
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for n := p; n < len(d.sent) && failed[p] == nil; n += producers {
				due := begin.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
				if ahead := time.Until(due); ahead > 0 {
					failed[p] = pause(ctx, ahead)
				}
				if failed[p] == nil {
					failed[p] = w.sendOne(ctx, h, db, n)
				}
				d.sent[n] = time.Now()
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// figures computes the percentiles when nobody sends or takes any more.
func (d *delivery) figures() figures {
	var took []time.Duration
	for n, at := range d.got {
		if !at.IsZero() {
			took = append(took, max(at.Sub(d.sent[n]), 0)) // it may have come before the producer knew
		}
	}
	slices.Sort(took)
	ms := func(q float64) float64 { return float64(quantile(took, q).Microseconds()) / 1000 }
	return figures{figP50: ms(0.5), figP90: ms(0.9), figP99: ms(0.99), figMax: ms(1), figLost: float64(d.missing.Load())}
}

// ticks is how many ticks a queue has had; -1 for what has none.
func (h *host) ticks(ctx context.Context, queue string) (int64, error) {
	switch h.system {
	case hostSkyd, hostPgQ, hostPgQue:
		return get[int64](ctx, h.db, "select coalesce(max(tick_id), 0) from "+h.schema()+".tick join "+h.schema()+
			".queue on queue_id = tick_queue where queue_name = $1", queue)
	default:
		return -1, nil
	}
}

// tickEvery is the ticker of those who have it in SQL: one call for all queues, at a fixed pace.
func tickEvery(period time.Duration) func(ctx context.Context, h *host, db *pgq.DB) error {
	return func(ctx context.Context, h *host, db *pgq.DB) error {
		pace := time.NewTicker(period)
		defer pace.Stop()
		for {
			if err := do(ctx, db, "select "+h.schema()+".ticker()"); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-pace.C:
			}
		}
	}
}

// pollPgQ is the loop of a consumer of PgQ: batch after batch, and a pause when there is none.
func pollPgQ(poll time.Duration) func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error {
	return func(ctx context.Context, _ *host, db *pgq.DB, got func(data string)) error {
		for {
			id, err := get[*int64](ctx, db, `select pgq.next_batch($1, $2)`, latencyQueue, latencyConsumer)
			if err == nil && id == nil {
				if pause(ctx, poll) != nil {
					return nil
				}
				continue
			}
			if err == nil {
				err = eachText(ctx, db, got, `select ev_data from pgq.get_batch_events($1)`, *id)
			}
			if err == nil {
				_, err = db.Exec(ctx, `select pgq.finish_batch($1)`, *id)
			}
			if err != nil {
				return err
			}
		}
	}
}

// eachText hands each row of one text column over.
func eachText(ctx context.Context, q pgq.Querier, got func(data string), sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var data string
	_, err = pgx.ForEachRow(rows, []any{&data}, func() error {
		got(data)
		return nil
	})
	return err
}

func pollPgQue(poll time.Duration) func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error {
	return func(ctx context.Context, _ *host, db *pgq.DB, got func(data string)) error {
		for {
			rows, err := db.Query(ctx, `select batch_id, payload from pgque.receive($1::text, $2::text, 1000000)`, latencyQueue, latencyConsumer)
			if err != nil {
				return err
			}
			var (
				batch int64
				data  string
			)
			if _, err = pgx.ForEachRow(rows, []any{&batch, &data}, func() error {
				got(data)
				return nil
			}); err != nil {
				return err
			}
			if batch == 0 {
				// An empty batch has no row that names it.
				_, err = db.Exec(ctx, `select pgque.finish_batch(sub_batch) from pgque.subscription where sub_batch is not null`)
				if err == nil && pause(ctx, poll) != nil {
					return nil
				}
			} else {
				_, err = db.Exec(ctx, `select pgque.ack($1)`, batch)
			}
			if err != nil {
				return err
			}
		}
	}
}

func pollPgmq(ms int) func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error {
	return func(ctx context.Context, _ *host, db *pgq.DB, got func(data string)) error {
		for ctx.Err() == nil {
			rows, err := db.Query(ctx, `select msg_id, message::text from pgmq.read_with_poll('latency', 60, 1000, 1, $1::int)`, ms)
			if err != nil {
				return err
			}
			var (
				ids  []int64
				id   int64
				data string
			)
			if _, err = pgx.ForEachRow(rows, []any{&id, &data}, func() error {
				ids = append(ids, id)
				got(data)
				return nil
			}); err != nil {
				return err
			}
			if len(ids) > 0 {
				if _, err := db.Exec(ctx, `select count(*) from pgmq.delete('latency', $1::bigint[])`, ids); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
