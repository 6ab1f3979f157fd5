package actors

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skytools/skyd/messages"
)

// archives are the figures of the WAL archives, by source.
type archives map[string]*messages.ArchiveStatus

// of gives the figures of a source.
func (a archives) of(source string) *messages.ArchiveStatus {
	if a[source] == nil {
		a[source] = &messages.ArchiveStatus{Source: source}
	}
	return a[source]
}

// noteReceiver takes what a receiver tells.
func (a archives) noteReceiver(m messages.ReceiverSeen) { a.of(m.Source).Receiver = &m.Receiver }

// noteBackups takes what a keeper of backups tells.
func (a archives) noteBackups(m messages.BackupsSeen) { a.of(m.Source).Backups = &m }

// noteSurvey takes what a look at all of an archive found.
func (a archives) noteSurvey(m messages.ArchiveSurveyed) {
	s := a.of(m.Source)
	if s.Survey = &m; m.Drill != nil {
		s.Drill = m.Drill
	}
}

// noteDrill takes what a restore drill found.
func (a archives) noteDrill(m messages.DrillSeen) { a.of(m.Source).Drill = &m }

// gone forgets what an actor told that is not wanted any more: an archive, or a part of it.
func (a archives) gone(path string) {
	source, ok := strings.CutPrefix(path, kindWAL+"/")
	if !ok {
		return
	}
	source, part, _ := strings.Cut(source, "/")
	switch s := a[source]; {
	case s == nil:
	case part == kindReceiver:
		s.Receiver = nil
	case part == kindBackup:
		s.Backups = nil
	case part == kindSurvey:
		s.Survey = nil
	case part == kindDrill:
		s.Drill = nil
	case part == "":
		delete(a, source)
	}
}

// note adds what a shipper tells.
func (a archives) note(m messages.ArchiveSeen) {
	s := a.of(m.Source)
	s.Archived += m.Archived
	s.Bytes += m.Bytes
	s.Failed += m.Failed
	for reason, n := range m.Refused {
		if s.Refused == nil {
			s.Refused = map[string]int64{}
		}
		s.Refused[reason] += n
	}
	s.Ready, s.Oldest, s.LastError = m.Ready, m.Oldest, m.Err
	if m.Last != "" {
		s.Last, s.LastAt = m.Last, m.LastAt
	}
}

// list gives copies, by source.
func (a archives) list(now time.Time) []messages.ArchiveStatus {
	out := make([]messages.ArchiveStatus, 0, len(a))
	for _, s := range a {
		o := *s
		o.Refused = maps.Clone(s.Refused)
		if !o.Oldest.IsZero() {
			o.OldestSeconds = max(0, now.Sub(o.Oldest).Seconds())
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(x, y messages.ArchiveStatus) int { return cmp.Compare(x.Source, y.Source) })
	return out
}
