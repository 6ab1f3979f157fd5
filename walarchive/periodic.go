package walarchive

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// PeriodicRun is the last run of the periodic command, kept in state_dir.
type PeriodicRun struct {
	// Ran tells whether it was run by this call.
	Ran     bool      `json:"ran"`
	At      time.Time `json:"at,omitzero"`
	Seconds float64   `json:"duration_seconds"`
	LastWAL string    `json:"last_wal,omitempty"`
	Error   string    `json:"error,omitempty"`
	// Next is when it is due.
	Next time.Time `json:"next,omitzero"`
}

// periodicFile holds the PeriodicRun.
func (c Config) periodicFile() string { return filepath.Join(c.StateDir, "periodic.json") }

// RunPeriodic runs the periodic command if it is due, or in any case (now). That it failed is in the result, not an error:
// it is tried again at the next interval.
func (c Config) RunPeriodic(ctx context.Context, now bool) (PeriodicRun, error) {
	var last PeriodicRun
	text, err := os.ReadFile(c.periodicFile())
	if err == nil {
		_ = json.Unmarshal(text, &last) // what cannot be read is due
	} else if !errors.Is(err, fs.ErrNotExist) {
		return last, err
	}
	last.Ran, last.Next = false, last.At.Add(c.Periodic.Interval)
	at := time.Now().UTC()
	if !now && at.Before(last.Next) && !at.Before(last.At) {
		return last, nil
	}
	run := PeriodicRun{At: at, LastWAL: newestArchived(c.PGData), Next: at.Add(c.Periodic.Interval)}
	err = runShell(ctx, c.Periodic.Cmd, c.Periodic.Timeout, []string{"SKYD_SOURCE=" + c.Source, "SKYD_LAST_WAL=" + run.LastWAL})
	run.Seconds = time.Since(at).Seconds()
	if err != nil {
		run.Error = err.Error()
	}
	body, err := json.Marshal(run)
	if err != nil {
		return run, err
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return run, err
	}
	if err := writeSynced(c.periodicFile()+".tmp", body); err != nil {
		return run, err
	}
	run.Ran = true
	return run, os.Rename(c.periodicFile()+".tmp", c.periodicFile())
}

// newestArchived is the newest segment that the server knows as archived; "": none.
func newestArchived(pgdata string) string {
	entries, err := os.ReadDir(filepath.Join(pgdata, "pg_wal", "archive_status"))
	if err != nil {
		return ""
	}
	for _, e := range slices.Backward(entries) {
		if name, ok := strings.CutSuffix(e.Name(), ".done"); ok && KindOf(name) == WALSegment {
			return name
		}
	}
	return ""
}
