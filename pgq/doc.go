// Package pgq is the Go client of PgQ, the queue that lives inside PostgreSQL.
//
// It speaks the SQL contract of schema pgq and therefore works on the SQL that
// package pgqsql installs and on the original C extension alike. It knows
// nothing of the daemon: a program that only produces or consumes needs this
// package, pgx and a DSN. Ticks must come from somewhere, though (skyd run,
// pgqd, or calls of Tick); without ticks no consumer ever sees an event.
//
// # Words
//
// An event is one row in a queue. A tick marks a point in the stream of
// committed transactions. A batch is what lies between two ticks of a queue,
// handed to one consumer; it may be empty, and it is finished as a whole or not
// at all. A consumer is a name registered on a queue with a position of its
// own. An event put into retry comes back in a later batch of the same
// consumer only.
//
//	producer --insert--> queue --tick--> batch --finish--> next batch
//	                       ^               |
//	                       +---- retry <---+
//
// # Who owns the transaction
//
// Most functions take a Querier: a pool, a connection or a transaction. Given
// a transaction they take part in it and take effect with its commit; given a
// pool or a connection each call is its own transaction. Three things must not
// share one transaction, because a tick sees only what was committed before
// it: inserting events, ticking, and consuming. Tick and RunMaintOp check that.
//
// # Promises
//
// Delivery is at least once: a batch that was not finished comes back whole,
// in order, to the same consumer. The effect is exactly once when the handler
// writes to the queue's own database in the transaction that finishes the
// batch (BatchTxHandler). An event is durable as of the producer's commit, no
// earlier. Batch ids are bearer tokens: FinishBatch of a batch that was taken
// away answers ErrBatchGone, and what was done for it will be done again.
//
// # Failures
//
// Every error that leaves this package can be asked: Retryable (the same call
// may succeed later), Permanent (it will not, until someone changes something),
// ConnectionLost, ReadOnly. Errors of the contract are sentinels, ErrQueueNotFound
// and its siblings in errors.go, whichever SQL install raised them. No error
// text contains a password.
//
// # Not here
//
// Deciding when to tick (only TickState.Due, a pure function), supervision,
// cascading, installing the schema.
package pgq
