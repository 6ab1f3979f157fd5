// Package cascade works with cascaded queues: a tree of databases that carry one queue, with the same events in the
// same batches under the same tick ids on every node, so that a consumer may move to any node and go on at its tick.
//
// It speaks the SQL contract of schema pgq_node and works on the SQL that package pgqsql installs and on the original
// extension alike. It knows no timer and no actor: a caller decides when.
//
// # Roles
//
//	root ──────────┬──────────> branch ─────────> leaf
//	open, own      │            closed, ticks     no queue,
//	ticks          │            of its provider   applies only
//	               └──────────> leaf ...
//
//	part queue p1: root ──> merge leaf ─┐  new events, and pgq.tick-id
//	part queue p2: root ──> merge leaf ─┴─> queue c: combined root ──> combined branch
//
// A root takes events and makes ticks; its worker reads nothing and publishes the global watermark only. A branch
// reads batches from its provider, copies their events with all ids into its own queue, and writes the tick with the
// provider's id, time and event counter. A leaf has no queue and hands batches to whoever applies them. A merge leaf
// also copies the events, under new ids, into a combined queue in its database; when that queue's node is a branch,
// its events arrive through the cascade of the combined queue, and the leaf waits behind it. What a worker does with a
// batch is a function of role and state: WorkerPlan.
//
// # Where truth lives
//
// A node's provider, position and flags are in its own database, in pgq_node.local_state: that row is the authority.
// What the provider has noted about its subscriber may be stale. Locations are the only thing that is the same
// everywhere; they spread from the root as events.
//
// # Answers
//
// Most functions of pgq_node answer with a code: 1xx tells, 2xx did it, 3xx warns, 4xx and 5xx refuse. Refusals come
// back as *StatusError, everything else as Status. ErrNotFound is code 404.
package cascade
