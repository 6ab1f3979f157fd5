package walarchive

import (
	"context"
	"errors"
	"time"
)

// Drill is a restore drill: the cluster was restored into a throw-away server, started, and looked through.
type Drill struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"duration_seconds"`
	Backup  string    `json:"backup,omitempty"`
	System  uint64    `json:"system_id,string,omitempty"`
	// Timeline and End are where recovery ended, Commit the last transaction that it replayed.
	Timeline uint32    `json:"timeline,omitempty"`
	End      LSN       `json:"end_lsn,omitempty"`
	Commit   time.Time `json:"last_commit,omitzero"`
	Bytes    int64     `json:"bytes"`
	// Checks say what was looked at, in order.
	Checks []CheckResult `json:"checks"`
	// Error is why it failed; empty: all is well.
	Error string `json:"error,omitempty"`
	// LastSuccess is when a drill last ended well, this one or one before.
	LastSuccess time.Time `json:"last_success,omitzero"`
}

// OK tells whether the drill went well.
func (d *Drill) OK() bool { return d.Error == "" }

// drillKey is the key of the record of the last drill.
func (l Layout) drillKey() string { return l.Source + "/drill.json" }

// LastDrill reads the record of the last drill; nil: there was none.
func (r *Repo) LastDrill(ctx context.Context) (*Drill, error) {
	var d Drill
	_, err := r.getJSON(ctx, r.drillKey(), &d)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return &d, err
}

// RecordDrill keeps the record of a drill in place of the one before.
func (r *Repo) RecordDrill(ctx context.Context, d *Drill) error {
	for range 5 {
		var old Drill
		tag, err := r.getJSON(ctx, r.drillKey(), &old)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if d.LastSuccess = old.LastSuccess; d.OK() {
			d.LastSuccess = d.Began.Add(time.Duration(d.Seconds * float64(time.Second))).UTC()
		}
		err = r.putJSON(ctx, r.drillKey(), d, tag)
		if !errors.Is(err, ErrChanged) && !errors.Is(err, ErrExists) {
			return err
		}
	}
	return ErrChanged
}
