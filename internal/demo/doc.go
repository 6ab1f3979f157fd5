// Package demo runs the whole of skyd once, for show and as a proof: skyd demo.
//
// [Run] takes a PostgreSQL server of its own (package pgserver), with fsync on, puts PgQ and the tables of a small bank
// into it, change capture triggers on the tables, and then runs three things beside each other:
//
//	workload   transfers as in TPC-B, over several connections: one insert and three updates each, so four events.
//	           Some are rolled back on purpose. Each has a number of its own, the key of its row in the history table,
//	           so the database decides what was committed, also where the answer to a commit was lost
//	daemon     the one of skyd run (package runtime): ticks and rotates the tables of the queue
//	consumer   a transactional one: in the transaction that finishes the batch it notes each event and rebuilds the
//	           balances from the events
//
// In the middle PostgreSQL is killed with SIGKILL and started again; all three have to come back by themselves. At the
// end the workload stops, the rest is consumed, and the tables are compared with what the consumer wrote: see [Proof].
//
// The caller shows what happens, see [Options]. When the context ends, Run stops everything and deletes the server and
// its files before it returns. When the process is killed, the server dies with it (on Linux), and its files are
// deleted by the next server of package pgserver.
package demo
