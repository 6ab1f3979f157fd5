package messages

import (
	"time"

	"github.com/skytools/skyd/pgq"
)

// QueuesSeen tells status what a ticker saw and did since its last QueuesSeen. A queue that is missing from Queues does
// not exist any more.
type QueuesSeen struct {
	Database string
	At       time.Time
	Queues   []QueueSeen
}

// QueueSeen is one queue in a QueuesSeen.
type QueueSeen struct {
	Queue    string
	LastTick int64
	// Lag is the age of the newest tick at the time of the look; 0 when nothing can be waiting, because nothing was
	// committed in the database since that tick.
	Lag       time.Duration
	EventSeq  int64
	Unticked  int64
	Paused    bool
	External  bool
	LastError string // of the last failed tick; empty when the last tick was made

	Made     int64     // ticks made since the last message
	Failed   int64     // ticks that failed since the last message
	Duration Histogram // of the ticks made since the last message
}

// MaintenanceDone tells status about one round of maintenance or of retry.
type MaintenanceDone struct {
	Database   string
	At         time.Time
	Operations int64 // operations run
	Failed     int64 // operations that failed
	Retried    int64 // events moved from the retry queue back into their queues
	Health     pgq.Health
	Full       bool // Health holds every queue and consumer of the database
}

// DatabaseTroubled asks the database actor to look whether its database is still there: a child met an error that may
// not be its own fault.
type DatabaseTroubled struct {
	Actor string
	Err   error
}

// DatabaseChanged is the state of one database as its actor sees it.
type DatabaseChanged struct {
	Database   string
	At         time.Time
	Up         bool
	InRecovery bool
	Version    string // of the PgQ schema
	Reason     string // why it is down: closed, read_only, timeout, auth, missing, other; empty when up
}

// DatabasesDiscovered lists the databases one discovery found on its server.
type DatabasesDiscovered struct {
	Source string // the configured name of the server
	Names  []string
}
