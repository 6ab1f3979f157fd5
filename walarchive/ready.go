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
	Source     string         `json:"source"`
	Repository string         `json:"repository"`
	System     uint64         `json:"system_id,string"`
	Major      int            `json:"pg_major"`
	Ranges     []Range        `json:"ranges"`
	Last       string         `json:"last_segment,omitempty"`
	Until      LSN            `json:"archived_until"`
	Gaps       []Gap          `json:"gaps"`
	Writers    []Writers      `json:"writers"`
	Paused     *Pause         `json:"paused,omitempty"`
	Ready      int            `json:"ready_segments"`
	ReadyAge   float64        `json:"ready_oldest_seconds"`
	LagBytes   int64          `json:"archive_lag_bytes"`
	Archiver   *ArchiverState `json:"archiver,omitempty"`
	Problems   []string       `json:"problems"` // what keeps the archive from being well
}
