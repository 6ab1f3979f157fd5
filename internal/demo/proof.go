package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Proof compares what was committed with what the consumer made of it. All numbers but the last three come from the
// tables.
type Proof struct {
	// Committed is how many transfers are in the history.
	Committed int64 `json:"committed"`
	// AcknowledgedMissing counts transfers whose commit the server had confirmed and that are not in the history.
	AcknowledgedMissing int64 `json:"acknowledged_missing"`
	// Expected is how many rows the committed transfers changed, as each table counts its own.
	Expected int64 `json:"events_expected"`
	// Uneven counts tables whose own count is not that of the history.
	Uneven int64 `json:"tables_uneven"`
	// Processed and Distinct count the events that the consumer noted.
	Processed int64 `json:"events_processed"`
	Distinct  int64 `json:"events_distinct"`
	// Missing counts changes without an event, Doubled events that were noted again for the same change, Invented
	// those of changes that were never committed.
	Missing  int64 `json:"events_missing"`
	Doubled  int64 `json:"events_doubled"`
	Invented int64 `json:"events_invented"`
	// Rows counts accounts, tellers and branches, RowsWrong those whose balance is not the one rebuilt from events.
	Rows      int64 `json:"rows"`
	RowsWrong int64 `json:"rows_wrong"`
	// The sum of all transfers, as history, accounts, tellers and branches have it, and as summed up from the events.
	HistorySum  int64 `json:"history_sum"`
	AccountsSum int64 `json:"accounts_sum"`
	TellersSum  int64 `json:"tellers_sum"`
	BranchesSum int64 `json:"branches_sum"`
	EventsSum   int64 `json:"events_sum"`

	// AnswerLost counts committed transfers whose confirmation never came; RolledBack those rolled back on purpose;
	// Repeated attempts that failed.
	AnswerLost int64 `json:"answers_lost"`
	RolledBack int64 `json:"rolled_back"`
	Repeated   int64 `json:"attempts_failed"`
}

// Faults says what contradicts "each committed change was processed exactly once, and nothing else was". None: proved.
func (p Proof) Faults() (faults []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	check(p.Committed > 0, "no transfer was committed, so nothing was proved")
	check(p.AcknowledgedMissing == 0, "%d confirmed transfers are not in the history", p.AcknowledgedMissing)
	check(p.Uneven == 0, "%d tables count other changes than the history", p.Uneven)
	check(p.Expected == eventsPerTransfer*p.Committed, "%d transfers made %d changes, not %d each", p.Committed, p.Expected, eventsPerTransfer)
	check(p.Missing == 0, "%d events missing", p.Missing)
	check(p.Doubled == 0, "%d events processed again", p.Doubled)
	check(p.Invented == 0, "%d events of changes that were never committed", p.Invented)
	check(p.Processed == p.Distinct, "%d events processed, %d distinct", p.Processed, p.Distinct)
	check(p.Processed == p.Expected, "%d events processed, %d expected", p.Processed, p.Expected)
	check(p.RowsWrong == 0, "%d of %d balances differ from the ones rebuilt from events", p.RowsWrong, p.Rows)
	check(p.HistorySum == p.AccountsSum && p.HistorySum == p.TellersSum && p.HistorySum == p.BranchesSum,
		"sums of the tables differ: history %d, accounts %d, tellers %d, branches %d", p.HistorySum, p.AccountsSum, p.TellersSum, p.BranchesSum)
	check(p.EventsSum == p.HistorySum, "the events add up to %d, the history to %d", p.EventsSum, p.HistorySum)
	return faults
}

// Each change has an identity: its table and the transfer's number.
const compareEvents = `
with committed as (
    select h.txn, t.tbl
      from bank.history h
     cross join (values ('bank.history'), ('bank.accounts'), ('bank.tellers'), ('bank.branches')) t (tbl)
), processed as (
    select p.txn, p.tbl, count(*) as n from book.processed p group by p.txn, p.tbl
)
select count(*) filter (where p.n is null),
       coalesce(sum(p.n - 1) filter (where c.txn is not null), 0)::bigint,
       coalesce(sum(p.n) filter (where c.txn is null), 0)::bigint
  from committed c
  full join processed p on p.txn = c.txn and p.tbl = c.tbl`

const countTables = `
with counts as (
    select (select count(*) from bank.history) as history, (select sum(changes) from bank.accounts) as accounts,
           (select sum(changes) from bank.tellers) as tellers, (select sum(changes) from bank.branches) as branches
)
select history, (history + accounts + tellers + branches)::bigint,
       (accounts <> history)::int + (tellers <> history)::int + (branches <> history)::int,
       (select count(*) from book.processed), (select count(distinct ev_id) from book.processed),
       (select coalesce(sum(delta), 0)::bigint from bank.history), (select sum(balance)::bigint from bank.accounts),
       (select sum(balance)::bigint from bank.tellers), (select sum(balance)::bigint from bank.branches),
       (select delta from book.totals)
  from counts`

const compareBalances = `
with kept as (
    select 'bank.accounts' as tbl, aid as id, balance from bank.accounts
    union all select 'bank.tellers', tid, balance from bank.tellers
    union all select 'bank.branches', bid, balance from bank.branches
)
select count(k.id), count(*) filter (where k.id is null or k.balance <> coalesce(b.balance, 0))
  from kept k
  full join book.balances b on b.tbl = k.tbl and b.id = k.id`

const missingTransfers = `
select count(*) from unnest($1::bigint[]) a (txn) left join bank.history h on h.txn = a.txn where h.txn is null`

// prove compares tables and events; acknowledged are the transfers that the workload knows to be committed.
func prove(ctx context.Context, q pgq.Querier, acknowledged []int64) (p Proof, err error) {
	err = q.QueryRow(ctx, countTables).Scan(&p.Committed, &p.Expected, &p.Uneven, &p.Processed, &p.Distinct,
		&p.HistorySum, &p.AccountsSum, &p.TellersSum, &p.BranchesSum, &p.EventsSum)
	if err != nil {
		return p, err
	}
	if err := q.QueryRow(ctx, compareEvents).Scan(&p.Missing, &p.Doubled, &p.Invented); err != nil {
		return p, err
	}
	if err := q.QueryRow(ctx, compareBalances).Scan(&p.Rows, &p.RowsWrong); err != nil {
		return p, err
	}
	return p, q.QueryRow(ctx, missingTransfers, acknowledged).Scan(&p.AcknowledgedMissing)
}

// Latency is the time from the commit of a transfer to the commit that processed its events, as the server recorded
// both.
type Latency struct {
	// P50 and P99 are without the events that had to wait for the end of a crash, of the server, of the member that had
	// them, or of the daemon that ticked.
	P50 time.Duration `json:"-"`
	P99 time.Duration `json:"-"`
	// Longest is the longest of all: what was committed just before a crash waits until it is over.
	Longest time.Duration `json:"-"`
}

const commitToCommit = `
with times as (
    select pg_xact_commit_timestamp(h.xmin) as written, pg_xact_commit_timestamp(p.xmin) as processed
      from book.processed p
      join bank.history h on h.txn = p.txn
), ages as (
    select extract(epoch from processed - written)::float8 as age,
           exists (select from unnest($1::timestamptz[], $2::timestamptz[]) w (b, e) where written < w.e and processed > w.b) as waited
      from times
)
select coalesce(percentile_cont(0.5) within group (order by age) filter (where not waited), 0),
       coalesce(percentile_cont(0.99) within group (order by age) filter (where not waited), 0),
       coalesce(max(age), 0)
  from ages`

// measureLatency reads the commit times of all events. The crash of the server lasted until the consumer was back, that
// of the daemon until the other one ticked; that of the member concerns what was written before it only.
func measureLatency(ctx context.Context, q pgq.Querier, r *Report) (l Latency, err error) {
	crash, member, daemon := r.Crash, r.Takeover.begin, r.Failover
	begins := []time.Time{crash.begin, member, daemon.begin}
	ends := []time.Time{crash.begin.Add(crash.Consumer), member, daemon.begin.Add(daemon.Tick)}
	var p50, p99, longest float64
	err = q.QueryRow(ctx, commitToCommit, begins, ends).Scan(&p50, &p99, &longest)
	if err != nil {
		return l, fmt.Errorf("measure latency: %w", err)
	}
	duration := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
	return Latency{P50: duration(p50), P99: duration(p99), Longest: duration(longest)}, nil
}
