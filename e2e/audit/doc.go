// Package audit proves from the outside what a queue promises, or names the first violation. A test feeds it with what
// producers were told (Acknowledged, Uncertain) and with what each consumer was given (Saw) and has done for good
// (Committed), in the order in which it happened; Check, called when everything is drained, goes through all of it:
//
//	lost         an acknowledged event was never committed by a consumer
//	invented     an event that nobody produced, or one that was rolled back
//	altered      its key or payload is not what was produced
//	torn         a redelivery that is not the whole batch: other events, or another order
//	split        the events of one transaction did not come in one batch
//	disordered   the events of a batch are not in the order of their ids, or a batch was committed after a later one
//	key order    an event was committed after a later one of its key
//	doubled      an event was committed twice
//	stale        a batch was committed by a worker after it had been given to another one
//
// A Cascade proves the same of a queue with several nodes, fed with what writers were told and with what each node holds:
//
//	two roots    two nodes took events in one term, or the old one did after the new one had
//	lost         a planned change lost an event, or the root has not what it took itself
//	unwarned     a failover lost an event from before the time of which it had warned
//	lost unseen  a failover lost an event, and the return of the old root did not show it
//	different    a tick, an event, or the tick by which an event came is not the same on all nodes
//	unrecorded   a node holds nothing, so nothing is proved
//
// Which of them hold for a consumer is what its Promises say. The auditor knows no database and nothing of skyd: it
// believes only what it is told, so a test must take "committed" from the place where the effect is, not from the
// program that caused it.
package audit
