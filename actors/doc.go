// Package actors decides when and how often skyd works, and what happens after a failure. The work itself is done by
// the domain packages (pgq and those above it); every actor declares the narrow interface it needs of them.
//
// # The tree
//
//	daemon                     root; only its own failure ends the process
//	├─ status                  last known state of every actor, figures of every queue
//	├─ discovery/<name>        lists the databases of one server
//	├─ wal/<source>            owns the archive of one cluster
//	│  ├─ gate                 the socket of push and fetch
//	│  ├─ survey               looks at all of the archive: gaps, holes, slot, space, last commit
//	│  ├─ drill                restores into a throw-away server when it is due
//	│  ├─ periodic             runs a command when it is due
//	│  ├─ prefetcher           fetches ahead for servers in recovery
//	│  └─ shipper              archives what the archiver asks for, and ahead of it
//	└─ database/<name>         owns the pool of one database
//	   ├─ ticker               makes the ticks of all queues
//	   ├─ maintainer           rotation, extra operations, vacuum hints, retry of events
//	   ├─ consumer/<queue>/<name>   one position in a queue; opens batch after batch
//	   │  ├─ batch/<id>        lives while the batch is open here; handles and finishes it
//	   │  └─ sub/<n>           members of a cooperative group, each with its own batch/<id>
//	   └─ node/<queue>         the cascade node of a queue in this database
//	      └─ worker            steps the node: batches from its provider, or the chores of a root
//
// # Rules
//
// The database is the truth: an actor may be lost at any line, and its successor reads its state again when it starts.
// Receive never blocks: long work runs through a worker (work.go), which recovers panics and returns the result as a
// message; a result that is not expected any more is dropped. Timers are one-shot and re-armed by the handler.
//
// An expected error (connection lost, lock timeout) is a value: the actor that meets it waits with full jitter and tries
// again, and tells its parent when the connection may be at fault. A panic is for broken invariants. A failed actor is
// stopped at once, so that its connections, timers and children are gone; its parent spawns a new one after a backoff
// from 1 s to 60 s with full jitter, and never gives up (supervise.go). The library's own restart keeps the failed actor
// suspended with everything it holds during the delay, so it is not used.
//
// While a database is away, lacks PgQ or is a standby, its children are parked: stopped, with the wish to have them
// back. Errors that nobody but a human can cure (password, missing schema) are looked at again slowly, with state
// failed; siblings go on.
//
// # The ticker
//
// One look costs one cheap query that says whether anything was committed on the server. Only then the states of all
// queues are read, in one query without a write, and each due queue is ticked in its own transaction, a few at a time.
// A queue whose tick fails is left alone for a growing while. With events coming, looks are as frequent as the shortest
// max_lag of the queues with events wants it; without, they slow down to the period.
//
// A quiet queue keeps its idle ticks, by the contract. When it is proven that nothing can be waiting (settling in
// tickplan.go), and nobody asked for a shorter idle period than the default, they come every QuietPeriod only: a
// database in which nothing happens is left without a write.
package actors
