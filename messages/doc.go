// Package messages holds what skyd's actors say to each other and the status snapshot they build together: plain
// structs, never changed after they were sent, without behaviour and without I/O.
//
// # Conversation map
//
//	from          to          message                  meaning
//	runtime       daemon      GetHealth                are you there? (/livez)
//	runtime       status      GetStatus                the snapshot, answered on the Reply channel
//	runtime       daemon      ConfigLoaded             how the last reading of the configuration went; passed on to status
//	runtime       daemon      actors.Reconfigure       what to serve from now on, answered on the Reply channel
//	daemon        everybody   ReportStatus             tell status again what you are (status was replaced)
//	every actor   status      ActorChanged             my state, since when, last error, next retry
//	parent        status      ActorRestarted           a child failed and is brought back later
//	parent        status      ActorGone                a child is not wanted any more
//	database      status      DatabaseChanged          reachable or not, standby or not, version of the PgQ schema
//	ticker        status      QueuesSeen               figures of every queue, ticks made since the last time
//	maintainer    status      MaintenanceDone          one round: operations, failures, events moved, health
//	ticker        database    TickMade                 a queue has a new tick; passed on to its consumers
//	consumer      status      ConsumerSeen             batches done since the last time, the open one, failures
//	worker        status      NodeSeen                 what a cascade node is, batches brought since the last time
//	keeper        status      SwitchoversSeen          switchovers and failovers to the node, by its journal
//	database      status      NodeGone                 a node is not wanted any more
//	database      status      ConsumerGone             a consumer is not wanted any more
//	leaf          database    DatabaseTroubled         my work met an error that may be the connection's fault
//	shipper       status      ArchiveSeen              WAL files archived, failed and refused since the last time; what waits
//	discovery     daemon      DatabasesDiscovered      databases of one server
//
// Commands are imperative, facts past tense, questions start with Get. A question carries a buffered Reply channel
// (capacity 1): plain Go code asks, selects on the reply and on its context, and the actor always answers.
//
// Numbers that only grow (ticks made, failures) travel as increments, so that neither a restarted leaf nor a restarted
// status actor makes a counter jump back.
package messages
