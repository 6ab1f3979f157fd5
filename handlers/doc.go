// Package handlers holds what a consumer can do with its events without a program being written for it: run SQL, call a
// webhook, talk to a child process, move events to other queues, print them. It knows nothing of the daemon: New turns a
// Config into a pgq.Handler.
//
// What each kind promises:
//
//	sql       exactly once: in the queue's database the statements commit with the batch, in another one pgq_ext
//	          keeps the account there
//	mover     exactly once, the same way; also splitter
//	http      at least once: the receiver tells repeats by the webhook-id header
//	exec      at least once: a batch that the child has not confirmed is sent again, whole
//	stdout    at least once
//
// All keep the order of the events in a batch.
package handlers
