// Package walarchive keeps a PostgreSQL cluster's WAL and base backups in a Storage, and brings them back.
//
// # Vocabulary
//
// A source is one cluster by its name in the configuration; in the repository it is a directory. A cluster is told by
// its system identifier: after an upgrade or a new initdb the same source has a second one, and the WAL of the first
// stays restorable. A segment is a WAL file by its 24 hex digits; its size comes from its header, never from a
// constant. A timeline's history file tells where it branched off.
//
// # Promises
//
// Push returns nil only when the segment is durable in the repository, and only for a segment that is one: of this
// cluster, of this position, complete. A name never changes its content: the same bytes again are fine, other bytes are
// ErrConflict. Fetch leaves nothing at the destination unless it succeeds, and says ErrAbsent only after the storage
// said so by name: PostgreSQL takes the exit code that ErrAbsent becomes for the end of the archive and opens the
// database. See Decide for all outcomes.
//
// # The repository
//
// See layout.go. Listing gives the truth; no index is authoritative. Every WAL object begins with a zstd skippable frame
// that holds a JSON header, so that zstd (and age, where encrypted) reads it without skyd.
package walarchive
