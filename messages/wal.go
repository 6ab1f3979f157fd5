package messages

import "time"

// ArchiveSeen tells status what an archive did since its last ArchiveSeen, and what waits.
type ArchiveSeen struct {
	Source   string
	At       time.Time
	Archived int64            // files stored, or found stored with the same content
	Bytes    int64            // of them, as the server wrote them
	Failed   int64            // pushes that failed and come again
	Refused  map[string]int64 // pushes that were refused, by reason
	Ready    int              // files that wait for the archiver
	Oldest   time.Time        // since when the oldest of them waits; zero without one
	Last     string           // the newest archived segment; empty: as before
	LastAt   time.Time
	Err      string // the last push failed so; empty: it went well
}

// ArchiveStatus is one archive in the snapshot.
type ArchiveStatus struct {
	Source        string           `json:"source"`
	Archived      int64            `json:"archived"`
	Bytes         int64            `json:"archived_bytes"`
	Failed        int64            `json:"failures"`
	Refused       map[string]int64 `json:"refused,omitempty"`
	Ready         int              `json:"ready_segments"`
	OldestSeconds float64          `json:"ready_oldest_seconds"`
	Last          string           `json:"last_archived,omitempty"`
	LastAt        time.Time        `json:"last_archived_at,omitzero"`
	LastError     string           `json:"last_error,omitempty"`
	Receiver      *ReceiverStatus  `json:"receiver,omitempty"`
	Backups       *BackupsSeen     `json:"backups,omitempty"`
	Survey        *ArchiveSurveyed `json:"survey,omitempty"`
	Drill         *DrillSeen       `json:"restore_drill,omitempty"`
	Oldest        time.Time        `json:"-"`
}

// ReceiverSeen tells status how far the receiver of an archive is.
type ReceiverSeen struct {
	Source   string
	Receiver ReceiverStatus
}

// ReceiverStatus is how far a receiver is; positions are bytes of WAL.
type ReceiverStatus struct {
	Connected bool   `json:"connected"`
	Timeline  uint32 `json:"timeline"`
	Server    uint64 `json:"server_position"`
	Written   uint64 `json:"written_position"`
	Flushed   uint64 `json:"flushed_position"`
	// Stored is the last position that can be restored, StoredTime the server's clock when its WAL ended there.
	Stored     uint64    `json:"stored_position"`
	StoredTime time.Time `json:"stored_time,omitzero"`
	Pending    int64     `json:"pending_bytes"`
	Gaps       int       `json:"gaps"`
	Restarts   int64     `json:"restarts"` // connections that ended
	Trouble    string    `json:"trouble,omitempty"`
}

// BackupsSeen tells status about the base backups of an archive.
type BackupsSeen struct {
	Source string `json:"-"`
	// Last is when the newest one was complete, Window the first moment that can be restored; zero: there is none.
	Last   time.Time `json:"last,omitzero"`
	Window time.Time `json:"window,omitzero"`
	Bytes  int64     `json:"bytes"`
}

// ArchiveSurveyed tells status what a look at all of an archive found.
type ArchiveSurveyed struct {
	Source string    `json:"-"`
	At     time.Time `json:"at"`
	// ServerAnswers tells whether the server could be asked.
	ServerAnswers bool  `json:"server_answers"`
	LagBytes      int64 `json:"archive_lag_bytes"`
	// Missing segments are holes in what can be restored, Gaps those on record that nothing has closed.
	Missing int64 `json:"missing_segments"`
	Gaps    int   `json:"gaps"`
	// Writers is how many servers have written one timeline; more than one is a conflict.
	Writers int `json:"writers"`
	// Dropped segments were given up by queue_max and are not on record yet.
	Dropped    int   `json:"dropped_segments"`
	ReadyBytes int64 `json:"ready_bytes"`
	PGWALFree  int64 `json:"pg_wal_free_bytes"`
	// FullIn is in how many seconds pg_wal is full if it goes on like this; nil: it does not grow.
	FullIn     *float64 `json:"pg_wal_full_in_seconds,omitempty"`
	SlotStatus string   `json:"slot_wal_status,omitempty"`
	SlotSafe   int64    `json:"slot_safe_bytes,omitempty"`
	// WindowStart and WindowEnd are the first moment and the last commit that can be restored, Restorable the last position.
	WindowStart time.Time    `json:"window_start,omitzero"`
	WindowEnd   time.Time    `json:"window_end,omitzero"`
	Restorable  uint64       `json:"restorable_position"`
	Backups     []BackupSeen `json:"newest_backups,omitempty"`
	Drill       *DrillSeen   `json:"-"`
	Problems    []string     `json:"problems,omitempty"`
}

// BackupSeen is the newest base backup of a kind.
type BackupSeen struct {
	Kind     string    `json:"kind"`
	Last     time.Time `json:"complete"`
	Seconds  float64   `json:"duration_seconds"`
	Bytes    int64     `json:"bytes"`
	Stored   int64     `json:"stored_bytes"`
	BadPages int       `json:"bad_pages"`
}

// DrillSeen tells status about the last restore drill.
type DrillSeen struct {
	Source      string    `json:"-"`
	Began       time.Time `json:"began"`
	Seconds     float64   `json:"duration_seconds"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	Error       string    `json:"error,omitempty"`
}
