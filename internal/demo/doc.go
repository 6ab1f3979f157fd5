// Package demo runs the whole of skyd once, for show and as a proof: skyd demo.
//
// [Run] takes a PostgreSQL server of its own (package pgserver), with fsync on, puts PgQ and the tables of a small bank
// into it, change capture triggers on the tables, and then runs these beside each other:
//
//	workload   transfers as in TPC-B, over several connections: one insert and three updates each, so four events.
//	           Some are rolled back on purpose. Each has a number of its own, the key of its row in the history table,
//	           so the database decides what was committed, also where the answer to a commit was lost
//	daemons    two processes of the one of skyd run (package runtime); a lease decides who ticks and rotates the tables
//	members    three processes, cooperative subconsumers of one consumer, transactional: in the transaction that
//	           finishes the batch each notes its events and rebuilds the balances from them
//
// One member is killed with SIGKILL in the middle of a batch, and another one takes the batch over. PostgreSQL is killed
// and started again; all have to come back by themselves. The daemon that ticks is killed, and the other one takes over.
// At the end the workload stops, the rest is consumed, and the tables are compared with what the members wrote: see
// [Proof]. In the last act the server is killed in the middle of commits and its data directory deleted; it comes back from
// a WAL archive (package walarchive), see [Disaster]. Daemons and members are processes of the program itself, see [Part].
//
// Then a second act makes a cascade, a root and two branches in databases of their own, moves the root to a branch while it
// is written to, and compares what was confirmed with what all three hold: see [Cascade].
//
// The caller shows what happens, see [Options]. When the context ends, Run stops everything and deletes the server and
// its files before it returns. When the process is killed, its parts end, the server dies with it (on Linux), and its
// files are deleted by the next server of package pgserver.
package demo
