package demo

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// The bank is as big as one of pgbench, but with more branches: rows that every transfer wants would make a queue of
// the workload.
const (
	branches = 8
	tellers  = 10 * branches
	accounts = 1000 * branches
)

// bankSQL makes the tables. In schema bank is what the workload changes, in schema book what the consumer makes of the
// events. Columns last_txn and changes let each table tell by itself how many changes were committed.
const bankSQL = `
create schema bank;
create table bank.branches (
    bid int primary key, balance bigint not null default 0, changes bigint not null default 0, last_txn bigint);
create table bank.tellers (
    tid int primary key, bid int not null, balance bigint not null default 0, changes bigint not null default 0, last_txn bigint);
create table bank.accounts (
    aid int primary key, bid int not null, balance bigint not null default 0, changes bigint not null default 0, last_txn bigint);
create table bank.history (
    txn bigint primary key, tid int not null, bid int not null, aid int not null, delta bigint not null,
    mtime timestamptz not null default now());
insert into bank.branches (bid) select generate_series(1, 8);
insert into bank.tellers (tid, bid) select i, 1 + (i - 1) / 10 from generate_series(1, 80) i;
insert into bank.accounts (aid, bid) select i, 1 + (i - 1) / 1000 from generate_series(1, 8000) i;

create schema book;
-- No key: an event that is processed twice shall show, not fail.
create table book.processed (ev_id bigint not null, tbl text not null, txn bigint not null);
-- Balances as the update events tell them.
create table book.balances (tbl text, id int, balance bigint not null, changes bigint not null, primary key (tbl, id));
-- Who finished which batch, and sums over its events.
create table book.batches (tick bigint not null, member text not null, events bigint not null, delta bigint not null);
create view book.totals as
    select count(*) as batches, coalesce(sum(events), 0)::bigint as events, coalesce(sum(delta), 0)::bigint as delta from book.batches;
analyze;`

// makeBank makes and fills the tables.
func makeBank(ctx context.Context, db *pgq.DB) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, bankSQL, pgx.QueryExecModeSimpleProtocol)
		return err
	})
}

// triggersSQL sends each change to the queue: updates url encoded, the history as JSON.
const triggersSQL = `
create trigger to_queue after insert or update or delete on bank.branches for each row execute function pgq.logutriga('bank');
create trigger to_queue after insert or update or delete on bank.tellers for each row execute function pgq.logutriga('bank');
create trigger to_queue after insert or update or delete on bank.accounts for each row execute function pgq.logutriga('bank');
create trigger to_queue after insert or update or delete on bank.history for each row execute function pgq.jsontriga('bank');`

// makeTriggers starts the capture of changes.
func makeTriggers(ctx context.Context, db *pgq.DB) error {
	_, err := db.Exec(ctx, triggersSQL, pgx.QueryExecModeSimpleProtocol)
	return err
}
