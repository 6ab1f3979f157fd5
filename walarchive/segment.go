package walarchive

import (
	"encoding/binary"
	"fmt"
)

// Page header flags (xlp_info).
const (
	pageContinues  = 0x0001 // the first record began on an earlier page
	pageLong       = 0x0002
	pageOverwrites = 0x0008 // the record that was to continue here was lost in a crash
)

// Sizes of page headers, as PostgreSQL aligns them.
const (
	shortPage = 24
	longPage  = 40
)

// recordHeader is the size of the header of a WAL record.
const recordHeader = 24

// majors are the page magics of the known versions.
var majors = map[uint16]int{0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}

// SegmentInfo is what the first page of a segment says.
type SegmentInfo struct {
	System   uint64
	Timeline uint32 // of the first page: an ancestor's in the first segment of a timeline
	Start    LSN
	Size     uint32
	PageSize uint32
	Magic    uint16
	Major    int
}

// ReadSegmentInfo reads the long header at the begin of a segment.
func ReadSegmentInfo(page []byte) (SegmentInfo, error) {
	if len(page) < longPage {
		return SegmentInfo{}, fmt.Errorf("%w: it has only %d bytes", ErrInvalid, len(page))
	}
	le := binary.LittleEndian
	i := SegmentInfo{
		Magic: le.Uint16(page), Timeline: le.Uint32(page[4:]), Start: LSN(le.Uint64(page[8:])), System: le.Uint64(page[24:]),
		Size: le.Uint32(page[32:]), PageSize: le.Uint32(page[36:]),
	}
	i.Major = majors[i.Magic]
	switch {
	case i.Major == 0:
		return i, fmt.Errorf("%w: its magic number %04X is not that of WAL of PostgreSQL 14 to 18", ErrInvalid, i.Magic)
	case le.Uint16(page[2:])&pageLong == 0:
		return i, fmt.Errorf("%w: its first page has no long header", ErrInvalid)
	case i.Size < 1<<20 || i.Size > 1<<30 || i.Size&(i.Size-1) != 0:
		return i, fmt.Errorf("%w: its header says a segment size of %d", ErrInvalid, i.Size)
	case i.PageSize < 1024 || i.PageSize > 65536 || i.PageSize&(i.PageSize-1) != 0:
		return i, fmt.Errorf("%w: its header says a page size of %d", ErrInvalid, i.PageSize)
	case uint64(i.Start)%uint64(i.Size) != 0:
		return i, fmt.Errorf("%w: its first page says position %s, where no segment begins", ErrInvalid, i.Start)
	}
	return i, nil
}

// CheckSegment proves that content is the whole segment of this name of the cluster with this system identifier. It
// looks at every page: a copy that was cut or torn and a file that was recycled are found. ErrInvalid.
func CheckSegment(name string, system uint64, content []byte) (SegmentInfo, error) {
	i, err := ReadSegmentInfo(content)
	if err != nil {
		return i, err
	}
	start, err := SegmentStart(name, i.Size)
	switch {
	case err != nil:
		return i, fmt.Errorf("%w: %w", ErrInvalid, err)
	case i.System != system:
		return i, fmt.Errorf("%w: it is of system %d, this cluster is %d", ErrInvalid, i.System, system)
	case int64(len(content)) != int64(i.Size):
		return i, fmt.Errorf("%w: it has %d bytes, a segment has %d", ErrInvalid, len(content), i.Size)
	case i.Start != start:
		return i, fmt.Errorf("%w: its first page says position %s, its name %s", ErrInvalid, i.Start, start)
	case i.Timeline == 0 || i.Timeline > SegmentTimeline(name):
		return i, fmt.Errorf("%w: its first page is of timeline %d, its name of %d", ErrInvalid, i.Timeline, SegmentTimeline(name))
	}
	return i, checkPages(i, SegmentTimeline(name), content)
}

// checkPages checks the headers of all pages after the first one. Zero pages may follow the record of a segment switch
// only: the server clears the rest of a segment that it closes early.
func checkPages(i SegmentInfo, timeline uint32, content []byte) error {
	le, last := binary.LittleEndian, i.Timeline
	for at := int(i.PageSize); at < len(content); at += int(i.PageSize) {
		page := content[at : at+int(i.PageSize)]
		if le.Uint16(page) == 0 {
			if n := firstNonZero(content[at:]); n >= 0 {
				return fmt.Errorf("%w: page %d is empty, but data follow it", ErrInvalid, at/int(i.PageSize))
			}
			return checkSwitch(i, content, at)
		}
		tli := le.Uint32(page[4:])
		switch {
		case le.Uint16(page) != i.Magic:
			return fmt.Errorf("%w: page %d has the magic number %04X", ErrInvalid, at/int(i.PageSize), le.Uint16(page))
		case LSN(le.Uint64(page[8:])) != i.Start+LSN(at):
			return fmt.Errorf("%w: page %d says position %s, it stands at %s (torn, or left over from a recycled file)", ErrInvalid,
				at/int(i.PageSize), LSN(le.Uint64(page[8:])), i.Start+LSN(at))
		case tli < last || tli > timeline:
			return fmt.Errorf("%w: page %d is of timeline %d after %d", ErrInvalid, at/int(i.PageSize), tli, last)
		}
		last = tli
	}
	return nil
}

// firstNonZero is the index of the first byte that is not zero, or -1.
func firstNonZero(p []byte) int {
	i := 0
	for ; len(p)-i >= 8 && binary.LittleEndian.Uint64(p[i:]) == 0; i += 8 {
	}
	for ; i < len(p); i++ {
		if p[i] != 0 {
			return i
		}
	}
	return -1
}

// checkSwitch proves that the record before the empty pages from offset end on is the switch to the next segment.
func checkSwitch(i SegmentInfo, content []byte, end int) error {
	w := recordWalk{page: int(i.PageSize), data: content[:end]}
	w.skipHeader()
	for {
		at := w.at
		header, length, ok := w.next()
		if !ok {
			return fmt.Errorf("%w: it is empty from byte %d on, but no switch of segments stands before that", ErrInvalid, end)
		}
		if header[17] == 0 && header[16]&0xF0 == 0x40 && length == recordHeader {
			if firstNonZero(content[w.at:]) >= 0 {
				return fmt.Errorf("%w: data follow the switch of segments at byte %d", ErrInvalid, at)
			}
			return nil
		}
	}
}

// recordWalk goes from record to record within one segment.
type recordWalk struct {
	data []byte // up to the first empty page
	page int
	at   int
}

// skipHeader moves from the begin of the segment to its first record: over the page header and the rest of a record that
// began in an earlier segment.
func (w *recordWalk) skipHeader() {
	rest := 0
	if w.flags()&pageContinues != 0 {
		rest = int(binary.LittleEndian.Uint32(w.data[16:]))
	}
	w.at = longPage
	w.skip(rest)
	w.align()
}

// flags are those of the page at which w stands.
func (w *recordWalk) flags() uint16 {
	return binary.LittleEndian.Uint16(w.data[w.at-w.at%w.page+2:])
}

// enter steps over the header of a page when w stands at its begin.
func (w *recordWalk) enter() bool {
	if w.at%w.page == 0 && w.at < len(w.data) {
		w.at += shortPage
		if w.flags()&pageLong != 0 {
			w.at += longPage - shortPage
		}
	}
	return w.at < len(w.data)
}

// skip moves n bytes on, over page headers. A page that overwrites a lost record ends the move at its first record.
func (w *recordWalk) skip(n int) {
	for n > 0 {
		newPage := w.at%w.page == 0
		if !w.enter() {
			return
		}
		if newPage && w.flags()&pageOverwrites != 0 {
			return
		}
		step := min(n, w.page-w.at%w.page)
		w.at += step
		n -= step
	}
}

// align moves to the next place where a record may begin.
func (w *recordWalk) align() {
	w.at = (w.at + 7) &^ 7
}

// next reads the header of the record at which w stands and moves behind it; false: there is none.
func (w *recordWalk) next() (header [recordHeader]byte, length int, ok bool) {
	if !w.enter() || w.at+4 > len(w.data) {
		return header, 0, false
	}
	length = int(binary.LittleEndian.Uint32(w.data[w.at:]))
	if length < recordHeader {
		return header, 0, false
	}
	begin, probe := w.at, *w
	for n := range header {
		if probe.at%probe.page == 0 && !probe.enter() || probe.at >= len(probe.data) {
			return header, 0, false
		}
		header[n] = probe.data[probe.at]
		probe.at++
	}
	w.at = begin
	w.skip(length)
	w.align()
	return header, length, true
}
