package messages

import "time"

// NodeSeen tells status what the worker of a cascade node saw and did since its last NodeSeen.
type NodeSeen struct {
	Database string
	Queue    string
	Node     string
	At       time.Time

	// What the node is, by its own database; empty until the first look.
	Type     string
	Provider string
	Worker   string
	Paused   bool
	Uptodate bool
	// Completed is the position of the worker, Top the newest tick of the node's queue (of a leaf: the position).
	Completed       int64
	Top             int64
	GlobalWatermark int64
	LocalWatermark  int64
	// Did is what the last step did: idle, batch, paused, ...
	Did string
	// Behind is the time of the tick at the position while there is more to read; zero: caught up, or a root.
	Behind time.Time
	Fails  int    // failures in a row
	Error  string // the last failure, empty after a success

	Batches  int64 // taken since the last message
	Events   int64
	Skipped  int64 // special events that could not be acted upon
	Failed   int64 // steps that failed
	Duration Histogram
}

// SwitchoversSeen tells status what the journal of a node's database says of switchovers and failovers that made this node
// the root, or were to: all of them, not those since the last message.
type SwitchoversSeen struct {
	Database string
	Queue    string
	Switchovers
}

// Switchovers are figures of switchovers and failovers.
type Switchovers struct {
	Done    int64 `json:"done"`
	Aborted int64 `json:"aborted"`
	// State is the state of the one that is open on this node, as old or new root; empty for none.
	State    string    `json:"state,omitempty"`
	Duration Histogram `json:"-"` // of those that are done, in seconds, by SwitchoverBounds
}

// NodeGone removes a node from the figures.
type NodeGone struct {
	Database string
	Queue    string
}

// NodeStatus is one cascade node of this daemon in the snapshot.
type NodeStatus struct {
	Database        string  `json:"database"`
	Queue           string  `json:"queue"`
	Node            string  `json:"node"`
	Type            string  `json:"type,omitempty"`
	Provider        string  `json:"provider,omitempty"`
	Worker          string  `json:"worker,omitempty"`
	Paused          bool    `json:"paused"`
	Uptodate        bool    `json:"uptodate"`
	Completed       int64   `json:"completed_tick"`
	Top             int64   `json:"top_tick"`
	GlobalWatermark int64   `json:"global_watermark"`
	LocalWatermark  int64   `json:"local_watermark"`
	Did             string  `json:"did,omitempty"`
	LagSeconds      float64 `json:"lag_seconds"`
	Fails           int     `json:"failures_in_a_row"`
	LastError       string  `json:"last_error,omitempty"`
	Batches         int64   `json:"batches"`
	Events          int64   `json:"events"`
	Skipped         int64   `json:"events_skipped"`
	Failed          int64   `json:"steps_failed"`
	// Switchovers made this node the root, or were to.
	Switchovers Switchovers `json:"switchovers"`
	Seen        time.Time   `json:"seen"`
	Behind      time.Time   `json:"-"`
	Duration    Histogram   `json:"-"`
}
