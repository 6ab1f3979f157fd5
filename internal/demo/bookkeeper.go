package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// bookkeeper is the consumer: it writes down what the events say, in the transaction that finishes their batch.
type bookkeeper struct {
	mu        sync.Mutex
	latencies []time.Duration // since taken last; for show
}

// page is what the events of one batch amount to.
type page struct {
	events   []int64 // numbers
	tables   []string
	txns     []int64
	delta    int64
	balances map[row]int64 // the last one counts
}

// row is a row of a table with balances.
type row struct {
	table string
	id    int64
}

const (
	bookEvents = `insert into book.processed (ev_id, tbl, txn) select * from unnest($1::bigint[], $2::text[], $3::bigint[])`
	bookRows   = `insert into book.balances as b (tbl, id, balance) select * from unnest($1::text[], $2::bigint[], $3::bigint[])
    on conflict (tbl, id) do update set balance = excluded.balance`
	bookTotals = `update book.totals set batches = batches + 1, events = events + $1, delta = delta + $2`
)

// book is the handler of the consumer.
func (k *bookkeeper) book(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
	p := page{balances: make(map[row]int64)}
	var times []time.Time
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		if err := p.add(ev); err != nil {
			return fmt.Errorf("event %d: %w", ev.ID, err)
		}
		times = append(times, ev.Time)
	}
	var (
		tables   []string
		ids      []int64
		balances []int64
	)
	for r, balance := range p.balances {
		tables, ids, balances = append(tables, r.table), append(ids, r.id), append(balances, balance)
	}
	var out pgx.Batch
	out.Queue(bookEvents, p.events, p.tables, p.txns)
	out.Queue(bookRows, tables, ids, balances)
	out.Queue(bookTotals, len(p.events), p.delta)
	if err := tx.SendBatch(ctx, &out).Close(); err != nil {
		return err
	}
	k.saw(times)
	return nil
}

// add reads one event.
func (p *page) add(ev *pgq.Event) (err error) {
	var txn int64
	table := ev.Extra1.String
	switch table {
	case "bank.history":
		txn, err = p.addHistory(ev)
	case "bank.accounts":
		txn, err = p.addBalance(ev, table, "aid")
	case "bank.tellers":
		txn, err = p.addBalance(ev, table, "tid")
	case "bank.branches":
		txn, err = p.addBalance(ev, table, "bid")
	default:
		err = fmt.Errorf("table %q is not of the bank", table)
	}
	p.events, p.tables, p.txns = append(p.events, ev.ID), append(p.tables, table), append(p.txns, txn)
	return err
}

// addHistory reads a row of the history, written by jsontriga.
func (p *page) addHistory(ev *pgq.Event) (txn int64, err error) {
	var h struct{ Txn, Delta int64 }
	if err := json.Unmarshal([]byte(ev.Data.String), &h); err != nil {
		return 0, err
	}
	p.delta += h.Delta
	return h.Txn, nil
}

// addBalance reads a row with a balance, written by logutriga.
func (p *page) addBalance(ev *pgq.Event, table, key string) (txn int64, err error) {
	values, err := url.ParseQuery(ev.Data.String)
	if err != nil {
		return 0, err
	}
	var n [3]int64
	for i, column := range []string{key, "balance", "last_txn"} {
		if n[i], err = strconv.ParseInt(values.Get(column), 10, 64); err != nil {
			return 0, fmt.Errorf("column %s: %w", column, err)
		}
	}
	p.balances[row{table, n[0]}] = n[1]
	return n[2], nil
}

// saw notes how old events were when they had been handled.
func (k *bookkeeper) saw(times []time.Time) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range times {
		k.latencies = append(k.latencies, now.Sub(t))
	}
}

// take returns median and 99th percentile of the latencies since the last call.
func (k *bookkeeper) take() (p50, p99 time.Duration) {
	k.mu.Lock()
	l := k.latencies
	k.latencies = nil
	k.mu.Unlock()
	if len(l) == 0 {
		return 0, 0
	}
	slices.Sort(l)
	return l[len(l)/2], l[len(l)*99/100]
}
