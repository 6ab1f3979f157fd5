package walarchive

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// The repository, with keys relative to the storage:
//
//	skyd-repo.json                                         RepoInfo
//	<source>/cluster.json                                  Clusters: every system id seen
//	<source>/wal/<system>/<TLI>/<LOG8>/<segment>.zst[.age] segments
//	<source>/wal/<system>/<TLI>/<segment>.part/…           its increments (object storage)
//	<source>/wal/<system>/history/<TLI>.history            timeline histories, as PostgreSQL wrote them
//	<source>/wal/<system>/extra/…                          .backup files, .partial files of promotions
//	<source>/wal/<system>/writers/<TLI>.json               who writes a timeline
//	<source>/gaps/<from>-<to>.json                         known gaps
//	<source>/backup/<id>/…                                 base backups
//	<source>/leases/<name>.json                            who works here

// RepoKey is the object that makes a storage a repository.
const RepoKey = "skyd-repo.json"

// Suffixes of objects.
const (
	zstdSuffix = ".zst"
	ageSuffix  = ".age"
)

// Layout makes the keys of one source.
type Layout struct {
	Source string
	// Encrypted objects have another suffix.
	Encrypted bool
}

// ClusterKey is the key of cluster.json.
func (l Layout) ClusterKey() string { return l.Source + "/cluster.json" }

// WALPrefix begins the keys of all WAL of a cluster.
func (l Layout) WALPrefix(system uint64) string {
	return l.Source + "/wal/" + strconv.FormatUint(system, 10) + "/"
}

// TimelinePrefix begins the keys of the segments of a timeline.
func (l Layout) TimelinePrefix(system uint64, timeline uint32) string {
	return fmt.Sprintf("%s%08X/", l.WALPrefix(system), timeline)
}

// Suffix is the end of the keys of WAL objects.
func (l Layout) Suffix() string {
	if l.Encrypted {
		return zstdSuffix + ageSuffix
	}
	return zstdSuffix
}

// SegmentKey is the key of a segment.
func (l Layout) SegmentKey(system uint64, name string) string {
	return l.TimelinePrefix(system, SegmentTimeline(name)) + name[8:16] + "/" + name + l.Suffix()
}

// HistoryKey is the key of a history file by its name.
func (l Layout) HistoryKey(system uint64, name string) string {
	return l.WALPrefix(system) + "history/" + name
}

// ExtraKey is the key of a file that recovery does not ask for.
func (l Layout) ExtraKey(system uint64, name string) string {
	return l.WALPrefix(system) + "extra/" + name
}

// WriterKey is the key of the writer record of a timeline.
func (l Layout) WriterKey(system uint64, timeline uint32) string {
	return fmt.Sprintf("%swriters/%08X.json", l.WALPrefix(system), timeline)
}

// GapsPrefix begins the keys of gap records.
func (l Layout) GapsPrefix() string { return l.Source + "/gaps/" }

// BackupPrefix begins the keys of a base backup; with the id "" those of all.
func (l Layout) BackupPrefix(id string) string {
	if id == "" {
		return l.Source + "/backup/"
	}
	return l.Source + "/backup/" + id + "/"
}

// LeaseKey is the key of a lease.
func (l Layout) LeaseKey(name string) string { return l.Source + "/leases/" + name + ".json" }

// SegmentOfKey is the name of the segment stored under a key; false: it is no segment.
func SegmentOfKey(key string) (string, bool) {
	name := strings.TrimSuffix(strings.TrimSuffix(path.Base(key), ageSuffix), zstdSuffix)
	return name, KindOf(name) == WALSegment && path.Base(key) != name && path.Base(path.Dir(key)) == name[8:16]
}
