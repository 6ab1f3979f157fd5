package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Columns of the pinned table.
const (
	figGrowth    = "last_by_first"
	figGrowthCPU = "last_by_first_cpu"
	figFirst     = "first_us"
	figLast      = "last_us"
)

// Sections of the pinned table.
const (
	pinnedFree = "no holder"
	pinnedRead = "holder reads only"
	pinnedXid  = "holder owns a transaction id"
)

const rowSkydPinned = "skyd"

// pinnedEvents is how many events a batch has.
const pinnedEvents = 10

// sufferer consumes while somebody holds xmin.
type sufferer struct {
	system string
	name   string
	// produce makes one batch, consume works it off and returns how many events it had.
	produce func(ctx context.Context, h *host, conn *pgx.Conn, data []string) error
	consume func(ctx context.Context, h *host, conn *pgx.Conn) (int, error)
}

func sufferers() []sufferer {
	return []sufferer{
		{system: hostSkyd, name: rowSkydPinned, produce: producePgQ, consume: skydPinned},
		{system: hostSkyd, name: "skyd, calls of the contract", produce: producePgQ, consume: consumePgQ},
		{system: hostPgQ, name: "PgQ C", produce: producePgQ, consume: consumePgQ},
		{system: hostPgQue, name: "PgQue", produce: producePgQ, consume: consumePgQ},
		{system: hostPgmq, name: "pgmq", produce: producePgmq, consume: consumePgmq},
		{system: hostRaw, name: "bare SKIP LOCKED table", produce: produceJobs, consume: consumeJobs},
	}
}

// pinnedTable is the table of bloat.
func (r *run) pinnedTable() tableDef {
	return tableDef{
		name: tablePinned, title: "Pinned xmin: batches consumed while one transaction stays open", sections: r.pinnedSections,
		columns: []Column{
			{figGrowth, "last/first, wall", 2, false},
			{figGrowthCPU, "last/first, CPU of the session", 2, false},
			{figFirst, "first µs", 0, false},
			{figLast, "last µs", 0, false},
		},
		note: fmt.Sprintf("%d batches of %d events, each round in a database of its own. first and last are the medians of the "+
			"first and the last tenth of the batches; only consuming is timed.", r.sizes.batches, pinnedEvents),
	}
}

func (r *run) pinnedSections(ctx context.Context) ([]section, error) {
	if err := r.release(ctx); err != nil {
		return nil, err
	}
	var sections []section
	for _, name := range []string{pinnedFree, pinnedRead, pinnedXid} {
		s := section{name: name, commit: asynchronous, events: r.sizes.batches * pinnedEvents, warm: true}
		for _, w := range sufferers() {
			s.contenders = append(s.contenders, contender{
				name: w.name, absent: r.fleet.absent[w.system],
				run: func(ctx context.Context) (figures, error) { return r.suffer(ctx, w, name) },
			})
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// suffer is one round in a new database.
func (r *run) suffer(ctx context.Context, w sufferer, holder string) (f figures, err error) {
	h, err := r.fleet.make(ctx, w.system, "pinned")
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, fmt.Errorf("gone: %s", r.fleet.absent[w.system])
	}
	defer func() {
		if derr := r.fleet.drop(context.WithoutCancel(ctx), h); err == nil {
			err = derr
		}
	}()
	if err := h.prepare(ctx); err != nil {
		return nil, err
	}
	if w.system != hostPgmq && w.system != hostRaw {
		err := h.freshQueue(ctx, benchQueue, drainConsumer, [][2]string{{"ticker_max_count", "1"}, {"ticker_max_lag", "0"}})
		if err != nil {
			return nil, err
		}
	}
	conn, err := h.db.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	// A session is slow until it has planned everything.
	if _, _, err := w.batches(ctx, h, conn.Conn(), r.meter, max(r.sizes.batches/20, 10)); err != nil {
		return nil, err
	}
	release, err := r.hold(ctx, h, holder)
	if err != nil {
		return nil, err
	}
	defer release(context.WithoutCancel(ctx))
	took, cpu, err := w.batches(ctx, h, conn.Conn(), r.meter, r.sizes.batches)
	if err != nil {
		return nil, err
	}
	first, last := ends(took)
	f = figures{
		figGrowth: float64(last) / float64(first), figFirst: float64(first.Nanoseconds()) / 1000,
		figLast: float64(last.Nanoseconds()) / 1000,
	}
	if first, last := ends(cpu); first > 0 {
		f[figGrowthCPU] = float64(last) / float64(first)
	}
	return f, nil
}

// ends are the medians of the first and of the last tenth.
func ends(d []time.Duration) (first, last time.Duration) {
	tenth := max(len(d)/10, 1)
	return middle(d[:tenth]), middle(d[len(d)-tenth:])
}

// batches produces and consumes so many batches and returns what consuming each one took, by the clock on the wall and
// in CPU of the session; the latter is zero where that cannot be had precisely.
func (w sufferer) batches(ctx context.Context, h *host, conn *pgx.Conn, m *meter, count int) (took, cpu []time.Duration, err error) {
	took, cpu = make([]time.Duration, count), make([]time.Duration, count)
	pid := int(conn.PgConn().PID())
	for i := range took {
		data := payloads(i*pinnedEvents, pinnedEvents)
		if err := w.produce(ctx, h, conn, data); err != nil {
			return nil, nil, fmt.Errorf("batch %d: %w", i+1, err)
		}
		before := m.session(pid)
		begin := time.Now()
		n, err := w.consume(ctx, h, conn)
		took[i] = time.Since(begin)
		cpu[i] = m.session(pid) - before
		if err == nil {
			err = counted(n, pinnedEvents)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("batch %d: %w", i+1, err)
		}
	}
	return took, cpu, nil
}

func middle(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return quantile(s, 0.5)
}

// hold opens the transaction that pins xmin.
func (r *run) hold(ctx context.Context, h *host, holder string) (release func(context.Context), err error) {
	if holder == pinnedFree {
		return func(context.Context) {}, nil
	}
	tx, err := h.durable.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, err
	}
	take := `select pg_catalog.pg_current_snapshot()::text`
	if holder == pinnedXid {
		take = `select pg_catalog.pg_current_xact_id()::text`
	}
	if _, err := get[string](ctx, tx, take); err != nil {
		return nil, err
	}
	return func(ctx context.Context) { _ = tx.Rollback(ctx) }, nil
}

// producePgQ makes events and a tick.
func producePgQ(ctx context.Context, h *host, conn *pgx.Conn, data []string) error {
	const each = ".insert_event('bench', 'bench', d)) from unnest($1::text[]) d"
	if _, err := conn.Exec(ctx, "select count("+h.schema()+each, data); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "select "+h.schema()+".ticker('bench')")
	return err
}

// consumePgQ consumes by the contract, each call a transaction of its own.
func consumePgQ(ctx context.Context, h *host, conn *pgx.Conn) (n int, err error) {
	schema := h.schema()
	id, err := get[int64](ctx, conn, "select "+schema+".next_batch('bench', 'bench')")
	if err != nil {
		return 0, err
	}
	if err := eachText(ctx, conn, func(string) { n++ }, "select ev_data from "+schema+".get_batch_events($1)", id); err != nil {
		return n, err
	}
	_, err = conn.Exec(ctx, "select "+schema+".finish_batch($1)", id)
	return n, err
}

func producePgmq(ctx context.Context, _ *host, conn *pgx.Conn, data []string) error {
	_, err := conn.Exec(ctx, `select count(*) from pgmq.send_batch('bench', $1::text[]::jsonb[])`, data)
	return err
}

func consumePgmq(ctx context.Context, _ *host, conn *pgx.Conn) (int, error) {
	rows, err := conn.Query(ctx, `select msg_id, message::text from pgmq.read('bench', 60, $1::int)`, pinnedEvents)
	if err != nil {
		return 0, err
	}
	var (
		ids  []int64
		id   int64
		text string
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		ids = append(ids, id)
		return nil
	}); err != nil {
		return len(ids), err
	}
	_, err = conn.Exec(ctx, `select count(*) from pgmq.delete('bench', $1::bigint[])`, ids)
	return len(ids), err
}

func produceJobs(ctx context.Context, _ *host, conn *pgx.Conn, data []string) error {
	_, err := conn.Exec(ctx, `insert into bench.jobs (data) select d from unnest($1::text[]) d`, data)
	return err
}

func consumeJobs(ctx context.Context, _ *host, conn *pgx.Conn) (n int, err error) {
	err = eachText(ctx, conn, func(string) { n++ }, `
delete from bench.jobs where id in (select id from bench.jobs order by id limit $1 for update skip locked) returning data`, pinnedEvents)
	return n, err
}
