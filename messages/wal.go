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
