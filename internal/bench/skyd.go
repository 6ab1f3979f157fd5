package bench

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

// skydArray inserts an array.
const skydArray = `
select cardinality(pgq.insert_events('bench', array_fill('bench'::text, array[cardinality($1::text[])]), $1::text[]))`

// skydCopy writes with the COPY producer of the Go client.
func skydCopy(ctx context.Context, _ *host, db *pgq.DB, data []string) error {
	n, err := pgq.InsertCopy(ctx, db, benchQueue, func(yield func(pgq.NewEvent, error) bool) {
		for _, d := range data {
			if !yield(pgq.NewEvent{Type: pgq.Str("bench"), Data: pgq.Str(d)}, nil) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return counted(int(n), len(data))
}

// splitName turns schema.table, as current_event_table() writes it, into an identifier.
func splitName(name string) pgx.Identifier {
	return strings.Split(strings.ReplaceAll(name, `"`, ""), ".")
}

// skydCatchers are the captures that need no trigger call of the old contract.
func skydCatchers() []catcher {
	const needs = "pgq.capture_table(regclass,text,text,text,text[])"
	by := func(name, level string) catcher {
		return catcher{
			system: hostSkyd, name: name, needs: needs,
			trigger: []string{"select pgq.capture_table('public.bench_capture', 'bench', 'logutriga', '" + level + "')"},
		}
	}
	return []catcher{by(rowSkydRow, "row"), by(rowSkydStatement, "statement")}
}

// drainConsumerOptions is how the Consumer works off a full queue.
func drainConsumerOptions() pgq.ConsumerOptions {
	return pgq.ConsumerOptions{NoListen: true}
}

// skydCouriers are the ways of skyd: ticks at the pace of the consumer, and ticks of the daemon.
func skydCouriers() []courier {
	const insertEvent = `select pgq.insert_event('latency', 'bench', $1)`
	eager := [][2]string{{"ticker_max_lag", "0"}, {"ticker_max_count", "1"}}
	return []courier{
		{
			system: hostSkyd, name: rowSkydLatency, send: insertEvent,
			consume: runConsumer(pgq.ConsumerOptions{TickWait: 2 * time.Millisecond}),
		},
		{
			system: hostSkyd, name: "skyd run, looks every 2 ms, max_lag 0", send: insertEvent, config: eager,
			beside: daemon(eagerTicker), consume: runConsumer(pgq.ConsumerOptions{}),
		},
	}
}

// eagerTicker makes the daemon look as often as it may.
func eagerTicker(c *configs.Ticker) { c.MinPeriod = 2 * time.Millisecond }

// runConsumer is the Consumer of the Go client.
func runConsumer(o pgq.ConsumerOptions) func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error {
	return func(ctx context.Context, _ *host, db *pgq.DB, got func(data string)) error {
		handler := pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
			for ev, err := range b.Events(ctx) {
				if err != nil {
					return err
				}
				got(ev.Data.String)
			}
			return nil
		})
		return pgq.NewConsumer(db, latencyQueue, latencyConsumer, handler, o).Run(ctx)
	}
}

// daemon runs skyd run on the database; tune changes the settings of its ticker.
func daemon(tune func(*configs.Ticker)) func(ctx context.Context, h *host, db *pgq.DB) error {
	return func(ctx context.Context, h *host, _ *pgq.DB) error {
		c := configs.DefaultConfig()
		c.Instance = "bench"
		c.ShutdownTimeout = 5 * time.Second
		c.HTTP.Listen, c.Control.Socket = configs.None, configs.None
		if tune != nil {
			tune(&c.Ticker)
		}
		c.Databases = []configs.Database{{
			Name: "bench", DSN: h.dsn, CheckPeriod: c.CheckPeriod, Ticker: c.Ticker, Maintenance: c.Maintenance,
		}}
		d, err := runtime.New(ctx, c, runtime.Options{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		return d.Run(ctx)
	}
}

// receiveAll works a full queue off with receive_batch, which is what the Consumer sends.
func receiveAll(ctx context.Context, h *host, _, batch int) (total int, err error) {
	var open *int64
	for {
		n, next, err := receive(ctx, h.db, drainQueue(batch), open, false)
		if err != nil || next == nil {
			return total, err
		}
		total, open = total+n, next
	}
}

// receive finishes one batch, opens the next and counts its events; next is nil when there is none.
func receive(ctx context.Context, q pgq.Querier, queue string, open *int64, tick bool) (n int, next *int64, err error) {
	const receiveBatch = `
select batch_id, ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4
  from pgq.receive_batch($1, $2, $3, null, null, $4)`
	rows, err := q.Query(ctx, receiveBatch, queue, drainConsumer, open, tick)
	if err != nil {
		return 0, nil, err
	}
	var (
		id, txid   *int64
		at         *time.Time
		retry      *int32
		kind, data pgq.Text
		extra      [4]pgq.Text
	)
	to := []any{&next, &id, &at, &txid, &retry, &kind, &data, &extra[0], &extra[1], &extra[2], &extra[3]}
	_, err = pgx.ForEachRow(rows, to, func() error {
		if id != nil {
			n++
		}
		return nil
	})
	return n, next, err
}

// skydPinned consumes as the Consumer of the Go client does: one call finishes the batch before and gets the next one.
func skydPinned(ctx context.Context, h *host, conn *pgx.Conn) (n int, err error) {
	n, h.batch, err = receive(ctx, conn, benchQueue, h.batch, false)
	return n, err
}
