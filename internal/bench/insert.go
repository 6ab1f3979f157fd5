package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Sections of the insert table.
const (
	insertSingle    = "1 event per transaction"
	insertDurable   = "1 event per transaction, durable"
	insertPipelined = "100 calls pipelined in a transaction"
	insertArray100  = "arrays of 100, a transaction each"
	insertArray     = "arrays of 10000, a transaction each"
	insertCopy      = "COPY of 10000, a transaction each"
)

// Rows of the insert table that targets name.
const (
	rowRawIndexed = "raw INSERT, txid index"
	rowRawCopy    = "raw COPY BINARY, txid index"
	rowSkydInsert = "skyd insert_event"
	rowSkydArray  = "skyd insert_events"
	rowSkydCopy   = "skyd COPY"
	rowPgQInsert  = "PgQ C insert_event"
	rowPgQueSend  = "PgQue send"
)

const (
	benchQueue  = "bench"
	pipelineLen = 100
	smallArray  = 100
	bigArray    = 10_000
)

// writer is one way to get events into the database. $1 is the data, or an array of it.
type writer struct {
	system string
	name   string
	events string // the table that must hold the events afterwards; "" for the queue's
	single string
	array  string
	// copyTo is the table that COPY goes to; "" for the one the queue names.
	copyTo string
	copies bool
	// noPipeline is for those who can only send one call after another.
	noPipeline bool
	// client does it with a Go client of the system instead of a statement.
	client func(ctx context.Context, h *host, db *pgq.DB, data []string) error
}

// writers are all ways there are, limits first.
func writers(kind string) []writer {
	var all []writer
	switch kind {
	case insertSingle, insertDurable, insertPipelined:
		all = singleWriters()
	case insertCopy:
		all = copyWriters()
	default:
		all = arrayWriters()
	}
	return all
}

func singleWriters() []writer {
	const insertEvent = `select pgq.insert_event('bench', 'bench', $1)`
	return []writer{
		{
			system: hostRaw, name: "raw INSERT, no index", events: "bench.plain",
			single: `insert into bench.plain (ev_id, ev_time, ev_type, ev_data) values (nextval('bench.ids'), now(), 'bench', $1)`,
		},
		{
			system: hostRaw, name: rowRawIndexed, events: "bench.indexed",
			single: `insert into bench.indexed (ev_id, ev_time, ev_type, ev_data) values (nextval('bench.ids'), now(), 'bench', $1)`,
		},
		{system: hostSkyd, name: rowSkydInsert, single: insertEvent},
		{system: hostPgQ, name: rowPgQInsert, single: insertEvent},
		{system: hostPgQue, name: rowPgQueSend, single: `select pgque.send('bench'::text, 'bench'::text, $1::text)`},
		{system: hostPgmq, name: "pgmq send", events: "pgmq.q_bench", single: `select pgmq.send('bench', $1::text::jsonb)`},
		{system: hostRiver, name: "River Insert", events: "public.river_job", client: riverInsert, noPipeline: true},
		{system: hostRaw, name: "bare SKIP LOCKED table", events: "bench.jobs", single: `insert into bench.jobs (data) values ($1)`},
	}
}

func arrayWriters() []writer {
	const each = `select count(pgq.insert_event('bench', 'bench', d)) from unnest($1::text[]) d`
	return []writer{
		{
			system: hostRaw, name: "raw INSERT, no index", events: "bench.plain",
			array: `insert into bench.plain (ev_id, ev_time, ev_type, ev_data)
 select nextval('bench.ids'), now(), 'bench', d from unnest($1::text[]) d`,
		},
		{
			system: hostRaw, name: rowRawIndexed, events: "bench.indexed",
			array: `insert into bench.indexed (ev_id, ev_time, ev_type, ev_data)
 select nextval('bench.ids'), now(), 'bench', d from unnest($1::text[]) d`,
		},
		{system: hostSkyd, name: rowSkydArray, array: skydArray},
		{system: hostSkyd, name: "skyd insert_event over an array", array: each},
		{system: hostPgQ, name: "PgQ C insert_event over an array", array: each},
		{system: hostPgQue, name: "PgQue send_batch", array: `select cardinality(pgque.send_batch('bench'::text, 'bench'::text, $1::text[]))`},
		{
			system: hostPgmq, name: "pgmq send_batch", events: "pgmq.q_bench",
			array: `select count(*) from pgmq.send_batch('bench', $1::text[]::jsonb[])`,
		},
		{system: hostRiver, name: "River InsertManyFast", events: "public.river_job", client: riverInsertMany},
		{system: hostRaw, name: "bare SKIP LOCKED table", events: "bench.jobs", array: `insert into bench.jobs (data) select d from unnest($1::text[]) d`},
	}
}

func copyWriters() []writer {
	return []writer{
		{system: hostRaw, name: "raw COPY BINARY, no index", events: "bench.plain", copies: true, copyTo: "plain"},
		{system: hostRaw, name: rowRawCopy, events: "bench.indexed", copies: true, copyTo: "indexed"},
		{system: hostSkyd, name: rowSkydCopy, client: skydCopy},
		{system: hostPgQ, name: "PgQ C COPY BINARY into current_event_table()", copies: true},
	}
}

// insertTable is the table of producers.
func (r *run) insertTable() tableDef {
	return tableDef{
		name: tableInsert, title: "Producer: events into a queue", columns: perEventColumns, sections: r.insertSections,
		note: "One connection, prepared statements. raw INSERT fills a table that looks like an event table; " +
			"the row with the index on the transaction id is what every PgQ needs at least.",
	}
}

func (r *run) insertSections(ctx context.Context) ([]section, error) {
	var sections []section
	for _, s := range []section{
		{name: insertSingle, commit: asynchronous, reference: rowRawIndexed, events: r.sizes.single},
		{name: insertDurable, commit: synchronous, reference: rowRawIndexed, events: r.sizes.durable},
		{name: insertPipelined, commit: asynchronous, reference: rowRawIndexed, events: r.sizes.pipelined},
		{name: insertArray100, commit: asynchronous, reference: rowRawIndexed, events: r.sizes.pipelined},
		{name: insertArray, commit: asynchronous, reference: rowRawIndexed, events: r.sizes.bulk},
		{name: insertCopy, commit: asynchronous, reference: rowRawCopy, events: r.sizes.bulk},
	} {
		for _, w := range writers(s.name) {
			c, err := r.inserter(ctx, s, w)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			s.contenders = append(s.contenders, c)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// inserter makes a contender of a writer.
func (r *run) inserter(ctx context.Context, s section, w writer) (contender, error) {
	c := contender{name: w.name}
	h, absent, err := r.queueHost(ctx, w.system)
	if err == nil && absent == "" && w.noPipeline && s.name == insertPipelined {
		absent = "it cannot pipeline calls"
	}
	if err != nil || absent != "" {
		c.absent = absent
		return c, err
	}
	if w.events == "" {
		if w.events, err = h.eventTable(ctx, benchQueue); err != nil {
			return c, err
		}
	}
	db := h.db
	if s.commit == synchronous {
		db = h.durable
	}
	data := payloads(0, s.events)
	c.reset = func(ctx context.Context) error { return do(ctx, h.db, "truncate "+w.events) }
	c.run = func(ctx context.Context) (figures, error) {
		f, err := r.meter.perEvent(ctx, s.events, func(ctx context.Context) error { return w.write(ctx, h, db, s.name, data) })
		if err != nil {
			return nil, err
		}
		n, err := get[int](ctx, h.db, "select count(*) from "+w.events)
		if err != nil {
			return nil, err
		}
		return f, counted(n, s.events)
	}
	return c, nil
}

// write does the work of a section.
func (w writer) write(ctx context.Context, h *host, db *pgq.DB, kind string, data []string) error {
	chunk := map[string]int{insertSingle: 1, insertDurable: 1, insertPipelined: pipelineLen, insertArray100: smallArray}[kind]
	if chunk == 0 {
		chunk = bigArray
	}
	for len(data) > 0 {
		part := data[:min(chunk, len(data))]
		data = data[len(part):]
		if err := w.writeChunk(ctx, h, db, part); err != nil {
			return err
		}
	}
	return nil
}

// writeChunk writes one transaction.
func (w writer) writeChunk(ctx context.Context, h *host, db *pgq.DB, data []string) error {
	switch {
	case w.client != nil:
		return w.client(ctx, h, db, data)
	case w.copies:
		return copyBinary(ctx, db, w.copyTo, data)
	case w.array != "":
		_, err := db.Exec(ctx, w.array, data)
		return err
	case len(data) == 1:
		_, err := db.Exec(ctx, w.single, data[0])
		return err
	default:
		var pipeline pgx.Batch
		for _, d := range data {
			pipeline.Queue(w.single, d)
		}
		return db.SendBatch(ctx, &pipeline).Close()
	}
}

// copyBinary copies into a table of ours, or into the one that the queue names in the same transaction.
func copyBinary(ctx context.Context, db *pgq.DB, table string, data []string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		target := pgx.Identifier{"bench", table}
		if table == "" {
			name, err := get[string](ctx, tx, `select pgq.current_event_table('bench')`)
			if err != nil {
				return err
			}
			target = splitName(name)
		}
		now := time.Now()
		_, err := tx.CopyFrom(ctx, target, []string{"ev_time", "ev_type", "ev_data"},
			pgx.CopyFromSlice(len(data), func(i int) ([]any, error) { return []any{now, "bench", data[i]}, nil }))
		return err
	})
}

// queueHost returns the shared database of a system with everything that the tables of producers need in it.
func (r *run) queueHost(ctx context.Context, system string) (*host, string, error) {
	_, known := r.hosts[system]
	h, absent, err := r.host(ctx, system)
	if err != nil || known || absent != "" {
		return h, absent, err
	}
	return h, "", h.prepare(ctx)
}

// eventColumns make a table that looks like an event table.
const eventColumns = ` (ev_id bigint not null default nextval('bench.ids'), ev_time timestamptz not null,
 ev_txid bigint not null default txid_current(), ev_owner int, ev_retry int, ev_type text, ev_data text,
 ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)`

// prepare makes the queue of the producers.
func (h *host) prepare(ctx context.Context) error {
	switch h.system {
	case hostRaw:
		return do(ctx, h.db, "create sequence bench.ids",
			"create table bench.plain"+eventColumns, "create table bench.indexed"+eventColumns,
			"create index on bench.indexed (ev_txid)",
			"create table bench.jobs (id bigserial primary key, created timestamptz not null default now(), data text not null)")
	case hostSkyd, hostPgQ, hostPgQue:
		return do(ctx, h.db, "select "+h.schema()+".create_queue('bench')")
	case hostPgmq:
		return do(ctx, h.db, "select pgmq.create('bench')")
	default:
		return nil
	}
}

// schema is where the functions of a PgQ are.
func (h *host) schema() string {
	if h.system == hostPgQue {
		return "pgque"
	}
	return "pgq"
}

// eventTable is the parent of the event tables of a queue.
func (h *host) eventTable(ctx context.Context, queue string) (string, error) {
	return get[string](ctx, h.db, "select queue_data_pfx from "+h.schema()+".queue where queue_name = $1", queue)
}
