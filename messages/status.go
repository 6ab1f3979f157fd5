package messages

import "time"

// State is the state of an actor.
type State string

// States of an actor.
const (
	Starting State = "starting" // spawned, its first work is not done yet
	Running  State = "running"
	Backoff  State = "backoff" // failed, tried again soon
	Failed   State = "failed"  // needs a human; looked at again slowly
	Parked   State = "parked"  // nothing to do, or its database is away; the parent brings it back
	Stopped  State = "stopped"
)

// ActorChanged is the state of one actor, sent by itself while it lives and by its parent while it does not.
type ActorChanged struct {
	Path     string // tree path without the root: database/main/ticker
	Kind     string
	Database string
	State    State
	Note     string // what it waits for or does, for people
	Err      string // last error; empty leaves the known one
	Retry    time.Time
	At       time.Time
	Optional bool // its state says nothing about readiness
}

// ActorRestarted says that an actor failed and will be spawned again.
type ActorRestarted struct {
	Path   string
	Reason string
	At     time.Time
}

// ActorGone removes an actor and everything below it from the status.
type ActorGone struct {
	Path     string
	Database string // its figures go too; empty: none
}

// ReportStatus asks an actor to send its state to status again, and to pass the request on to its children.
type ReportStatus struct{}

// GetStatus asks the status actor for the snapshot.
type GetStatus struct {
	Reply chan<- Snapshot
}

// GetHealth asks the daemon actor for a sign of life.
type GetHealth struct {
	Reply chan<- time.Time
}

// Snapshot is all that skyd knows about itself at one moment. It shares nothing with the actors.
type Snapshot struct {
	Version   string           `json:"version"`
	Instance  string           `json:"instance"`
	Started   time.Time        `json:"started"`
	Now       time.Time        `json:"now"`
	Actors    []ActorStatus    `json:"actors"`
	Databases []DatabaseStatus `json:"databases"`
	Queues    []QueueStatus    `json:"queues"`
}

// ActorStatus is one actor in the snapshot, in tree order.
type ActorStatus struct {
	Path      string    `json:"path"`
	Kind      string    `json:"kind"`
	Database  string    `json:"database,omitempty"`
	State     State     `json:"state"`
	Note      string    `json:"note,omitempty"`
	Since     time.Time `json:"since"`
	DownSince time.Time `json:"down_since,omitzero"` // when it was running last, or was seen first; zero while running
	WasUp     bool      `json:"was_up"`
	Restarts  int64     `json:"restarts"`
	LastError string    `json:"last_error,omitempty"`
	ErrorAt   time.Time `json:"last_error_at,omitzero"`
	NextRetry time.Time `json:"next_retry,omitzero"`
	Optional  bool      `json:"optional,omitempty"`
}

// DatabaseStatus is one database in the snapshot.
type DatabaseStatus struct {
	Name        string           `json:"name"`
	Up          bool             `json:"up"`
	InRecovery  bool             `json:"in_recovery"`
	Version     string           `json:"pgq_version,omitempty"`
	Reason      string           `json:"reason,omitempty"`
	Since       time.Time        `json:"since"`
	Reconnects  map[string]int64 `json:"reconnects,omitempty"` // by reason of the loss
	Operations  int64            `json:"maintenance_operations"`
	OpsFailed   int64            `json:"maintenance_failures"`
	Retried     int64            `json:"events_retried"`
	Maintenance time.Time        `json:"last_maintenance,omitzero"`
}

// QueueStatus is one queue in the snapshot.
type QueueStatus struct {
	Database        string    `json:"database"`
	Queue           string    `json:"queue"`
	LastTick        int64     `json:"last_tick"`
	LagSeconds      float64   `json:"ticker_lag_seconds"`
	EventSeq        int64     `json:"event_seq"`
	Unticked        int64     `json:"events_unticked"`
	Ticks           int64     `json:"ticks"`
	TickErrors      int64     `json:"tick_errors"`
	LastError       string    `json:"last_error,omitempty"`
	Paused          bool      `json:"paused,omitempty"`
	External        bool      `json:"external_ticker,omitempty"`
	RotationAge     float64   `json:"rotation_age_seconds"`
	RotationBlocker string    `json:"rotation_blocked_by,omitempty"`
	TickDuration    Histogram `json:"-"`
}

// TickBounds are the upper bounds, in seconds, of the buckets of a Histogram of tick durations.
var TickBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// Histogram counts durations by TickBounds; the last count is of those above the highest bound.
type Histogram struct {
	Counts [len(TickBounds) + 1]uint64
	Sum    float64
	Count  uint64
}
