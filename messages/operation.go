package messages

import "time"

// OperationState is where a long operation stands.
type OperationState string

// States of an operation.
const (
	OperationRuns   OperationState = "running"
	OperationDone   OperationState = "done"
	OperationFailed OperationState = "failed"
)

// Operation is something that the daemon does and that takes its time: skyd op shows it. It is sent anew for every step;
// who starts one sends it once more when it has ended.
type Operation struct {
	ID       int64          `json:"id"` // counts from the start of the daemon
	Kind     string         `json:"kind"`
	Database string         `json:"database,omitempty"`
	Subject  string         `json:"subject,omitempty"` // what it is done to
	State    OperationState `json:"state"`
	Step     string         `json:"step,omitempty"` // what it does, or did last
	Error    string         `json:"error,omitempty"`
	Started  time.Time      `json:"started"`
	Ended    time.Time      `json:"ended,omitzero"`
	// Routine: nobody asked for it. One that goes well at once is forgotten.
	Routine bool `json:"routine,omitempty"`
}
