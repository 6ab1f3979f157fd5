package demo

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// bookkeeper is a member of the consumer's group: it writes down what the events say, in the transaction that finishes
// their batch.
type bookkeeper struct {
	member string
	tell   func(note)
	hold   atomic.Bool // stop in the middle of the next batch
}

// page is what the events of one batch amount to.
type page struct {
	events   []int64 // numbers
	tables   []string
	txns     []int64
	delta    int64
	balances map[row]state // the last one counts
}

// state is a balance, and the how manieth of its row: the members of a group work on batches in any order.
type state struct{ balance, changes int64 }

// row is a row of a table with balances.
type row struct {
	table string
	id    int64
}

const (
	bookEvents = `insert into book.processed (ev_id, tbl, txn) select * from unnest($1::bigint[], $2::text[], $3::bigint[])`
	bookRows   = `insert into book.balances as b (tbl, id, balance, changes)
    select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
    on conflict (tbl, id) do update set balance = excluded.balance, changes = excluded.changes where b.changes < excluded.changes`
	bookBatch = `insert into book.batches (tick, member, events, delta) values ($1, $2, $3, $4)`
)

// book is the handler of the members.
func (k *bookkeeper) book(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
	p := page{balances: make(map[row]state)}
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
	if k.hold.Swap(false) {
		return k.stand(ctx, tx, b, p)
	}
	var out pgx.Batch
	out.Queue(bookEvents, p.events, p.tables, p.txns)
	p.queueRows(&out)
	out.Queue(bookBatch, b.TickID, k.member, len(p.events), p.delta)
	if err := tx.SendBatch(ctx, &out).Close(); err != nil {
		return err
	}
	latencies, now := make([]time.Duration, len(times)), time.Now()
	for i, t := range times {
		latencies[i] = now.Sub(t)
	}
	k.tell(note{Latencies: latencies})
	return nil
}

// stand writes the events down and goes no further. The balances are not touched: the others want those rows.
func (k *bookkeeper) stand(ctx context.Context, tx pgx.Tx, b *pgq.Batch, p page) error {
	if _, err := tx.Exec(ctx, bookEvents, p.events, p.tables, p.txns); err != nil {
		return err
	}
	k.tell(note{Holding: &held{Tick: b.TickID, Events: len(p.events)}})
	<-ctx.Done()
	return errHeld
}

// queueRows writes the balances, in an order that is the same for all members, so that they do not wait in a circle.
func (p *page) queueRows(out *pgx.Batch) {
	rows := slices.SortedFunc(maps.Keys(p.balances), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.id, b.id))
	})
	var (
		tables                 []string
		ids, balances, changes []int64
	)
	for _, r := range rows {
		s := p.balances[r]
		tables, ids = append(tables, r.table), append(ids, r.id)
		balances, changes = append(balances, s.balance), append(changes, s.changes)
	}
	out.Queue(bookRows, tables, ids, balances, changes)
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
	var n [4]int64
	for i, column := range []string{key, "balance", "changes", "last_txn"} {
		if n[i], err = strconv.ParseInt(values.Get(column), 10, 64); err != nil {
			return 0, fmt.Errorf("column %s: %w", column, err)
		}
	}
	if r := (row{table, n[0]}); p.balances[r].changes < n[2] {
		p.balances[r] = state{n[1], n[2]}
	}
	return n[3], nil
}
