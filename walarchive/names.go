package walarchive

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the WAL.
type LSN uint64

// ParseLSN reads the form 16/B374D848.
func ParseLSN(text string) (LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	h, herr := strconv.ParseUint(high, 16, 32)
	l, lerr := strconv.ParseUint(low, 16, 32)
	if !ok || herr != nil || lerr != nil {
		return 0, fmt.Errorf("%q is not a WAL position like 16/B374D848", text)
	}
	return LSN(h<<32 | l), nil
}

// String is the form of PostgreSQL: 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// MarshalText implements encoding.TextMarshaler.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *LSN) UnmarshalText(text []byte) (err error) {
	*l, err = ParseLSN(string(text))
	return err
}

// FileKind is what a file that PostgreSQL archives is, by its name.
type FileKind int

// The kinds of files.
const (
	NotWAL      FileKind = iota // no name of the WAL
	WALSegment                  // 24 hex digits
	HistoryFile                 // TTTTTTTT.history
	BackupFile                  // segment.OOOOOOOO.backup
	PartialFile                 // segment.partial
)

// KindOf tells the kind of a file from its name.
func KindOf(name string) FileKind {
	base, suffix, _ := strings.Cut(name, ".")
	switch {
	case len(name) == 24 && isHex(name):
		return WALSegment
	case len(base) == 8 && isHex(base) && suffix == "history":
		return HistoryFile
	case len(base) == 24 && isHex(base) && suffix == "partial":
		return PartialFile
	case len(base) == 24 && isHex(base) && len(suffix) == 15 && isHex(suffix[:8]) && suffix[8:] == ".backup":
		return BackupFile
	}
	return NotWAL
}

// isHex reports whether text has only the digits PostgreSQL writes: 0-9 and A-F.
func isHex(text string) bool {
	return strings.Trim(text, "0123456789ABCDEF") == ""
}

// SegmentName names the segment of this size that holds a position.
func SegmentName(timeline uint32, at LSN, size uint32) string {
	number, per := uint64(at)/uint64(size), uint64(1<<32)/uint64(size)
	return fmt.Sprintf("%08X%08X%08X", timeline, number/per, number%per)
}

// SegmentTimeline is the timeline in a name that begins with one.
func SegmentTimeline(name string) uint32 {
	t, err := strconv.ParseUint(name[:min(8, len(name))], 16, 32)
	if err != nil {
		return 0
	}
	return uint32(t)
}

// SegmentStart is the position of the first byte of a segment; an error for a name that no segment of this size has.
func SegmentStart(name string, size uint32) (LSN, error) {
	if KindOf(name) != WALSegment {
		return 0, fmt.Errorf("%q is not the name of a WAL segment (24 hex digits)", name)
	}
	log, err := strconv.ParseUint(name[8:16], 16, 32)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(name[16:], 16, 32)
	if err != nil {
		return 0, err
	}
	if number*uint64(size) >= 1<<32 {
		return 0, fmt.Errorf("%s is not the name of a segment of %d bytes", name, size)
	}
	return LSN(log<<32 + number*uint64(size)), nil
}

// NextSegment names the segment after this one on the same timeline.
func NextSegment(name string, size uint32) (string, error) {
	start, err := SegmentStart(name, size)
	if err != nil {
		return "", err
	}
	return SegmentName(SegmentTimeline(name), start+LSN(size), size), nil
}
