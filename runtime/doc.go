// Package runtime puts the daemon together and runs it: pools, telemetry, the actor tree, HTTP and the control socket,
// and the orderly end of all that.
//
// A Daemon is built by New without I/O and lives in Run(ctx) until the context is cancelled or its root actor fails. The
// end has stages, each logged with its duration: the tree stops (work under way is cancelled and rolls back, positions
// live in the databases), connections close, HTTP and the control socket close, traces are flushed. What does not end
// within shutdown_timeout is named in the error.
//
// Health is computed in one place (health.go) from the status snapshot; /readyz and skyd status use it. Neither it nor
// /metrics runs SQL: everything comes from what the actors said last.
package runtime
