package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Sections of the drain table, by the size of a batch.
var drainSections = []struct {
	name  string
	batch int
}{{"batches of 500", 500}, {"batches of 10000", 10_000}}

// Rows of the drain table that targets name.
const (
	rowSelect       = "one SELECT of everything"
	rowPgQLoop      = "PgQ C, a transaction per batch"
	rowSkydConsumer = "skyd Consumer"
	rowPythonPgQ    = "Python consumer on PgQ C"
	rowPgmqRead     = "pgmq read + delete"
	rowRiverWork    = "River no-op jobs"
)

// drainer is one way to get events out.
type drainer struct {
	system string
	name   string
	slow   bool // gets fewer events
	fill   func(ctx context.Context, h *host, n, batch int) error
	reset  func(ctx context.Context, h *host, n, batch int) error
	drain  func(ctx context.Context, h *host, n, batch int) (got int, err error)
	python bool // a process of its own does it
}

func drainers() []drainer {
	pgqDrainer := func(system, name string, drain func(ctx context.Context, h *host, n, batch int) (int, error)) drainer {
		return drainer{system: system, name: name, fill: fillQueue, reset: rewind, drain: drain}
	}
	all := []drainer{
		pgqDrainer(hostPgQ, "PgQ C: "+rowSelect, selectAll),
		pgqDrainer(hostSkyd, "skyd: "+rowSelect, selectAll),
		pgqDrainer(hostPgQ, rowPgQLoop, loopByTransaction),
		pgqDrainer(hostPgQ, "PgQ C, finish + next pipelined", loopPipelined),
		pgqDrainer(hostSkyd, "skyd, a transaction per batch", loopByTransaction),
		pgqDrainer(hostSkyd, "skyd, finish + next pipelined", loopPipelined),
		pgqDrainer(hostSkyd, "skyd, receive_batch", receiveAll),
		pgqDrainer(hostSkyd, rowSkydConsumer, consumeAll),
		pgqDrainer(hostPgQ, "skyd Consumer on PgQ C", consumeAll),
		pgqDrainer(hostPgQue, "PgQue receive + ack", receiveAck),
		{system: hostPgmq, name: rowPgmqRead, slow: true, reset: fillPgmq, drain: readDelete},
		{system: hostRaw, name: "bare SKIP LOCKED table, delete", slow: true, reset: fillJobs, drain: deleteJobs},
		{system: hostRiver, name: rowRiverWork, slow: true, reset: fillRiver, drain: workRiver},
	}
	for _, system := range []string{hostPgQ, hostSkyd} {
		all = append(all, drainer{system: system, name: "Python consumer on " + titles[system], fill: fillQueue, reset: rewind, python: true})
	}
	return all
}

// drainTable is the table of consumers.
func (r *run) drainTable() tableDef {
	return tableDef{
		name: tableDrain, title: "Consumer: a full queue is worked off", columns: perEventColumns, sections: r.drainSections,
		note: "All PgQ kin read the same ticks, made beforehand; pgmq, River and the bare table are filled before each " +
			"round and get a fifth of the events. Whoever loses one ends the run.",
	}
}

func (r *run) drainSections(ctx context.Context) ([]section, error) {
	python, noPython := r.findPython(ctx)
	var sections []section
	for _, def := range drainSections {
		s := section{name: def.name, commit: asynchronous, reference: rowPgQLoop, events: r.sizes.drain}
		for _, d := range drainers() {
			c, err := r.drainContender(ctx, d, def.batch, python, noPython)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", d.name, err)
			}
			if c.absent != "" && d.name == s.reference {
				s.reference = "skyd: " + rowSelect
			}
			s.contenders = append(s.contenders, c)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// drainContender makes a contender of a drainer.
func (r *run) drainContender(ctx context.Context, d drainer, batch int, python, noPython string) (contender, error) {
	c := contender{name: d.name}
	h, absent, err := r.queueHost(ctx, d.system)
	if err == nil && absent == "" && d.python {
		absent = noPython
	}
	if err != nil || absent != "" {
		c.absent = absent
		return c, err
	}
	n := r.sizes.drain
	if d.slow {
		n = r.sizes.drainSlow
	}
	if d.fill != nil {
		if err := d.fill(ctx, h, n, batch); err != nil {
			return c, err
		}
	}
	c.reset = func(ctx context.Context) error { return d.reset(ctx, h, n, batch) }
	c.run = func(ctx context.Context) (figures, error) {
		if d.python {
			return r.drainPython(ctx, h, python, n, batch)
		}
		got := 0
		f, err := r.meter.perEvent(ctx, n, func(ctx context.Context) (err error) {
			got, err = d.drain(ctx, h, n, batch)
			return err
		})
		if h.after != nil {
			err = errors.Join(err, h.after())
			h.after = nil
		}
		if err != nil {
			return nil, err
		}
		return f, counted(got, n)
	}
	return c, nil
}

// drainQueue is the queue with ticks at such a distance.
func drainQueue(batch int) string { return fmt.Sprintf("drain%d", batch) }

const drainConsumer = "bench"

// fillQueue fills a queue with a tick after each batch, once: consumers are set back to its start.
func fillQueue(ctx context.Context, h *host, n, batch int) error {
	queue, schema := drainQueue(batch), h.schema()
	made, err := get[int](ctx, h.db, "select "+schema+".create_queue($1)", queue)
	if err != nil || made == 0 {
		return err // or full already
	}
	for _, config := range [][2]string{{"ticker_max_count", "1"}, {"ticker_max_lag", "0"}} {
		if _, err := h.db.Exec(ctx, "select "+schema+".set_queue_config($1, $2, $3)", queue, config[0], config[1]); err != nil {
			return err
		}
	}
	for at := 0; at < n; at += batch {
		const fill = `.insert_event($1, 'bench', d)) from unnest($2::text[]) d`
		if _, err := h.db.Exec(ctx, "select count("+schema+fill, queue, payloads(at, min(batch, n-at))); err != nil {
			return err
		}
		if tick, err := get[*int64](ctx, h.db, "select "+schema+".ticker($1)", queue); err != nil || tick == nil {
			return errors.Join(errors.New("no tick was made"), err)
		}
	}
	table, err := h.eventTable(ctx, queue)
	if err != nil {
		return err
	}
	return do(ctx, h.db, "vacuum analyze "+table+"_0", "analyze "+schema+".tick")
}

// rewind sets the consumer back to the first tick.
func rewind(ctx context.Context, h *host, _, batch int) error {
	queue, schema := drainQueue(batch), h.schema()
	first, err := get[int64](ctx, h.db, "select min(tick_id) from "+schema+".tick join "+schema+
		".queue on queue_id = tick_queue where queue_name = $1", queue)
	if err != nil {
		return err
	}
	registered, err := get[bool](ctx, h.db, "select exists (select from "+schema+".get_consumer_info($1, $2))", queue, drainConsumer)
	if err == nil && registered {
		_, err = h.db.Exec(ctx, "select "+schema+".unregister_consumer($1, $2)", queue, drainConsumer)
	}
	if err == nil {
		_, err = h.db.Exec(ctx, "select "+schema+".register_consumer_at($1, $2, $3)", queue, drainConsumer, first)
	}
	return err
}

// eventSelect names the columns that clients of PgQ read.
const eventSelect = `select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 from `

// countEvents reads the rows of eventSelect as a client does and counts them.
func countEvents(rows pgx.Rows) (n int, err error) {
	defer rows.Close()
	var ev struct {
		id, txid    int64
		at          time.Time
		retry       *int32
		kind, data  pgq.Text
		extra       [4]pgq.Text
		destination []any
	}
	ev.destination = []any{&ev.id, &ev.at, &ev.txid, &ev.retry, &ev.kind, &ev.data, &ev.extra[0], &ev.extra[1], &ev.extra[2], &ev.extra[3]}
	for rows.Next() {
		if err := rows.Scan(ev.destination...); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

func selectAll(ctx context.Context, h *host, _, batch int) (int, error) {
	table, err := h.eventTable(ctx, drainQueue(batch))
	if err != nil {
		return 0, err
	}
	rows, err := h.db.Query(ctx, eventSelect+table+"_0")
	if err != nil {
		return 0, err
	}
	return countEvents(rows)
}

// loopByTransaction is the plain loop: a transaction for each batch.
func loopByTransaction(ctx context.Context, h *host, _, batch int) (total int, err error) {
	queue := drainQueue(batch)
	for more := true; more; {
		err = pgx.BeginFunc(ctx, h.db, func(tx pgx.Tx) error {
			id, err := get[*int64](ctx, tx, `select pgq.next_batch($1, $2)`, queue, drainConsumer)
			if err != nil || id == nil {
				more = false
				return err
			}
			rows, err := tx.Query(ctx, eventSelect+`pgq.get_batch_events($1)`, *id)
			if err != nil {
				return err
			}
			n, err := countEvents(rows)
			if err != nil {
				return err
			}
			total += n
			_, err = tx.Exec(ctx, `select pgq.finish_batch($1)`, *id)
			return err
		})
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// loopPipelined finishes a batch and opens the next one in one round trip and one commit.
func loopPipelined(ctx context.Context, h *host, _, batch int) (total int, err error) {
	queue := drainQueue(batch)
	const next, finish = `select pgq.next_batch($1, $2)`, `select pgq.finish_batch($1)`
	id, err := get[*int64](ctx, h.db, next, queue, drainConsumer)
	for err == nil && id != nil {
		var rows pgx.Rows
		if rows, err = h.db.Query(ctx, eventSelect+`pgq.get_batch_events($1)`, *id); err != nil {
			return total, err
		}
		n, err := countEvents(rows)
		if err != nil {
			return total, err
		}
		total += n
		var pipeline pgx.Batch
		pipeline.Queue(finish, *id)
		pipeline.Queue(next, queue, drainConsumer).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
		if err := h.db.SendBatch(ctx, &pipeline).Close(); err != nil {
			return total, err
		}
	}
	return total, err
}

// consumeAll runs the Consumer of the Go client until it has seen everything.
func consumeAll(ctx context.Context, h *host, n, batch int) (got int, err error) {
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	handler := pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
		for _, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			got++
		}
		if got >= n {
			stop() // Run finishes the batch nevertheless
		}
		return nil
	})
	err = pgq.NewConsumer(h.db, drainQueue(batch), drainConsumer, handler, drainConsumerOptions()).Run(ctx)
	return got, err
}

// receiveAck is PgQue's own loop.
func receiveAck(ctx context.Context, h *host, _, batch int) (total int, err error) {
	for {
		rows, err := h.db.Query(ctx, `select msg_id, batch_id, type, payload, retry_count, created_at, extra1, extra2, extra3, extra4
 from pgque.receive($1::text, $2::text, $3::int)`, drainQueue(batch), drainConsumer, batch)
		if err != nil {
			return total, err
		}
		var (
			id, in             int64
			kind, data         pgq.Text
			retry              *int32
			at                 time.Time
			extra1, x2, x3, x4 pgq.Text
			n                  int
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &in, &kind, &data, &retry, &at, &extra1, &x2, &x3, &x4}, func() error {
			n++
			return nil
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
		if _, err := h.db.Exec(ctx, `select pgque.ack($1)`, in); err != nil {
			return total, err
		}
	}
}

func fillPgmq(ctx context.Context, h *host, n, _ int) error {
	if err := do(ctx, h.db, "truncate pgmq.q_bench"); err != nil {
		return err
	}
	if _, err := h.db.Exec(ctx, `select count(*) from pgmq.send_batch('bench', $1::text[]::jsonb[])`, payloads(0, n)); err != nil {
		return err
	}
	return do(ctx, h.db, "vacuum analyze pgmq.q_bench")
}

func readDelete(ctx context.Context, h *host, _, batch int) (total int, err error) {
	for {
		rows, err := h.db.Query(ctx, `select msg_id, message::text from pgmq.read('bench', 60, $1::int)`, batch)
		if err != nil {
			return total, err
		}
		var (
			ids  []int64
			id   int64
			data string
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &data}, func() error {
			ids = append(ids, id)
			return nil
		})
		if err != nil || len(ids) == 0 {
			return total, err
		}
		total += len(ids)
		if _, err := h.db.Exec(ctx, `select count(*) from pgmq.delete('bench', $1::bigint[])`, ids); err != nil {
			return total, err
		}
	}
}

func fillJobs(ctx context.Context, h *host, n, _ int) error {
	if err := do(ctx, h.db, "truncate bench.jobs"); err != nil {
		return err
	}
	if _, err := h.db.Exec(ctx, `insert into bench.jobs (data) select d from unnest($1::text[]) d`, payloads(0, n)); err != nil {
		return err
	}
	return do(ctx, h.db, "vacuum analyze bench.jobs")
}

func deleteJobs(ctx context.Context, h *host, _, batch int) (total int, err error) {
	for {
		rows, err := h.db.Query(ctx, `
delete from bench.jobs where id in (select id from bench.jobs order by id limit $1 for update skip locked) returning id, data`, batch)
		if err != nil {
			return total, err
		}
		var (
			n    int
			id   int64
			data string
		)
		_, err = pgx.ForEachRow(rows, []any{&id, &data}, func() error {
			n++
			return nil
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}
