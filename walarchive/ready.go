package walarchive

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ReadyFile is a WAL file that the server wants archived.
type ReadyFile struct {
	Name  string
	Since time.Time
}

// ReadyFiles lists what waits for the archiver, in the order in which it will ask: histories first, then by name.
func ReadyFiles(pgdata string) ([]ReadyFile, error) {
	dir := filepath.Join(pgdata, "pg_wal", "archive_status")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ready []ReadyFile
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".ready")
		if !ok || KindOf(name) == NotWAL {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // archived in this moment
		}
		ready = append(ready, ReadyFile{Name: name, Since: info.ModTime()})
	}
	slices.SortFunc(ready, func(a, b ReadyFile) int {
		ah, bh := KindOf(a.Name) == HistoryFile, KindOf(b.Name) == HistoryFile
		switch {
		case ah && !bh:
			return -1
		case bh && !ah:
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return ready, nil
}

// SourceStatus is what there is to know about the archive of a source.
type SourceStatus struct {
	Source     string    `json:"source"`
	Repository string    `json:"repository"`
	System     uint64    `json:"system_id,string"`
	Major      int       `json:"pg_major"`
	Ranges     []Range   `json:"ranges"`
	Last       string    `json:"last_segment,omitempty"`
	Until      LSN       `json:"archived_until"`
	Missing    int64     `json:"missing_segments"`
	Windows    []Window  `json:"windows"`
	Gaps       []Gap     `json:"gaps"`
	Writers    []Writers `json:"writers"`
	Paused     *Pause    `json:"paused,omitempty"`
	// Backups are the newest complete backup of each kind.
	Backups map[string]*Backup `json:"newest_backups,omitempty"`
	// Drill is the last restore drill.
	Drill *Drill `json:"restore_drill,omitempty"`
	// Ready are the files that wait for the archiver, ReadyBytes what they hold, PGWALFree the room on the file system of
	// pg_wal, RepoFree that of a repository in a directory; -1: not known.
	Ready      int     `json:"ready_segments"`
	ReadyAge   float64 `json:"ready_oldest_seconds"`
	ReadyBytes int64   `json:"ready_bytes"`
	PGWALFree  int64   `json:"pg_wal_free_bytes"`
	RepoFree   int64   `json:"repository_free_bytes"`
	// Spool are the bytes that a receiver of this host has and the repository has not.
	Spool int64 `json:"spool_bytes"`
	// Dropped are segments that queue_max gave up and that are not on record yet.
	Dropped  []string       `json:"dropped_segments,omitempty"`
	Workers  int            `json:"workers"`
	LagBytes int64          `json:"archive_lag_bytes"`
	Archiver *ArchiverState `json:"archiver,omitempty"`
	// Slot is that of the receiver, Senders are all receivers and standbys that are connected.
	Slot     *SlotStatus `json:"slot,omitempty"`
	Senders  []Sender    `json:"senders,omitempty"`
	Problems []string    `json:"problems"` // what keeps the archive from being well
}
