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

// FlapWindow is how long a failure of an actor counts as recent.
const FlapWindow = 5 * time.Minute

// ConfigLoaded says that the configuration was read, at the start or again.
type ConfigLoaded struct {
	At            time.Time // when it was tried
	Good          time.Time // when it was last right: the one in force
	Err           string    // why it was refused; empty: it is in force
	RestartNeeded []string  // keys that changed in the source and are not in force before a restart
}

// ConfigStatus is the state of the configuration in the snapshot.
type ConfigStatus struct {
	OK            bool      `json:"ok"` // the last attempt to read it went well
	Loaded        time.Time `json:"loaded,omitzero"`
	LastReload    time.Time `json:"last_reload,omitzero"`
	LastError     string    `json:"last_error,omitempty"`
	RestartNeeded []string  `json:"restart_needed,omitempty"`
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
	Config    ConfigStatus     `json:"config"`
	Actors    []ActorStatus    `json:"actors"`
	Databases []DatabaseStatus `json:"databases"`
	Queues    []QueueStatus    `json:"queues"`
	Consumers []ConsumerStatus `json:"consumers"`
	Workers   []WorkerStatus   `json:"workers"`
	// Tables are those behind the queues, as of the last maintenance.
	Tables []TableStatus `json:"tables"`
	// Operations are the long operations: those that run, and the last ones that ended.
	Operations []Operation     `json:"operations"`
	Nodes      []NodeStatus    `json:"nodes"`
	Archives   []ArchiveStatus `json:"archives"`
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
	// RecentFailures counts the restarts within FlapWindow: an actor that crashes again and again is not well, also
	// while it runs for a moment.
	RecentFailures int       `json:"recent_failures"`
	LastError      string    `json:"last_error,omitempty"`
	ErrorAt        time.Time `json:"last_error_at,omitzero"`
	NextRetry      time.Time `json:"next_retry,omitzero"`
	Optional       bool      `json:"optional,omitempty"`
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
	RotationBlocked bool      `json:"rotation_blocked"`
	RotationBlocker string    `json:"rotation_blocked_by,omitempty"` // in words
	HolderConsumer  string    `json:"rotation_blocked_by_consumer,omitempty"`
	EventBytes      int64     `json:"event_bytes"`
	RetryEvents     int64     `json:"retry_events"`
	RetryOldest     float64   `json:"retry_oldest_seconds"`
	DeadEvents      int64     `json:"dead_events"`
	TickDuration    Histogram `json:"-"`
}

// ConsumerStatus is one consumer on one queue in the snapshot, as of the last maintenance.
type ConsumerStatus struct {
	Database      string         `json:"database"`
	Queue         string         `json:"queue"`
	Consumer      string         `json:"consumer"`
	Registered    bool           `json:"registered"`
	LagSeconds    float64        `json:"lag_seconds"`
	LastSeen      float64        `json:"last_seen_seconds"`
	PendingEvents int64          `json:"pending_events"`
	OpenBatches   int            `json:"open_batches"`
	BatchOpen     float64        `json:"batch_open_seconds"`
	HoldsRotation bool           `json:"holds_rotation"`
	RetryEvents   int64          `json:"retry_events"`
	DeadEvents    int64          `json:"dead_events"`
	Members       map[string]int `json:"members,omitempty"` // of a cooperative group: active, idle, stale
	State         string         `json:"state,omitempty"`   // warned, paused, resumed or detached by its limit
	StateSince    time.Time      `json:"state_since,omitzero"`
	Note          string         `json:"note,omitempty"`
}

// WorkerStatus is one worker of a consumer of this daemon.
type WorkerStatus struct {
	Database    string    `json:"database"`
	Queue       string    `json:"queue"`
	Consumer    string    `json:"consumer"`
	Member      int       `json:"member,omitempty"` // of its group: 1, 2, ...
	BatchID     int64     `json:"batch_id,omitempty"`
	OpenSince   time.Time `json:"batch_open_since,omitzero"`
	Fails       int       `json:"failures_in_a_row"`
	Finished    int64     `json:"batches"`
	Empty       int64     `json:"batches_empty"`
	Failed      int64     `json:"batches_failed"`
	Lost        int64     `json:"batches_lost"`
	Events      int64     `json:"events"`
	Retried     int64     `json:"events_retried"`
	Dead        int64     `json:"events_dead"`
	Leaked      int       `json:"handlers_leaked,omitempty"`
	LastTickAge float64   `json:"last_tick_age_seconds"`
	Duration    Histogram `json:"-"`
	Sizes       Histogram `json:"-"`
	Latency     Histogram `json:"-"`
}

// TableStatus is the tables of one kind in the snapshot; Queue is empty for those that all queues share.
type TableStatus struct {
	Database   string `json:"database"`
	Queue      string `json:"queue,omitempty"`
	Kind       string `json:"kind"` // event, tick, subscription or retry
	Bytes      int64  `json:"bytes,omitempty"`
	DeadTuples int64  `json:"dead_tuples"`
}

// TickBounds are the upper bounds, in seconds, of the buckets of a Histogram of the durations of ticks and batches.
var TickBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// SizeBounds are the upper bounds, in events, of the buckets of a Histogram of batch sizes.
var SizeBounds = [len(TickBounds)]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 20_000, 100_000, 1_000_000}

// LatencyBounds are the upper bounds, in seconds, of the buckets of a Histogram of the latencies of events.
var LatencyBounds = [len(TickBounds)]float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

// SwitchoverBounds are the upper bounds, in seconds, of the buckets of a Histogram of the durations of switchovers.
var SwitchoverBounds = [len(TickBounds)]float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}

// Histogram counts values by the bounds that its field names; the last count is of those above the highest bound.
type Histogram struct {
	Counts [len(TickBounds) + 1]uint64
	Sum    float64
	Count  uint64
}
