package walarchive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Records that are looked at: resource managers and their operations.
const (
	rmXLOG      = 0
	rmXact      = 1
	opSwitch    = 0x40
	opCommit    = 0x00
	opCommitTwo = 0x30 // of a prepared transaction
	maxRecord   = 1020 << 20
)

// recordScan reads WAL record by record, over the borders of pages and segments, and checks the checksum of each.
type recordScan struct {
	page  int
	at    LSN    // of the record that is being put together
	carry []byte // its bytes so far; nil: none
	total int    // its length
	skip  int    // bytes of a record that began before the first segment

	next LSN // where the next segment must begin
	// End is behind the last whole record.
	end LSN
	// commit is the time of the last commit; zero: none was seen.
	commit  time.Time
	records int64
}

// errRecord is what makes a record no record.
var errRecord = errors.New("is no WAL record")

// feed reads a segment. done: the WAL ends within it. An error tells of a record that is broken although more follows.
func (s *recordScan) feed(content []byte) (done bool, err error) {
	i, err := ReadSegmentInfo(content)
	if err != nil {
		return false, err
	}
	s.page = int(i.PageSize)
	if s.next != i.Start { // after a gap, or at the begin
		s.carry, s.skip = nil, 0
	}
	fresh := s.next != i.Start
	s.next = i.Start + LSN(i.Size)
	for at := 0; at < len(content); at += s.page {
		page := content[at:min(at+s.page, len(content))]
		if len(page) < shortPage || binary.LittleEndian.Uint16(page) != i.Magic {
			return true, nil // zeros: the end, or the rest of a segment that was closed early
		}
		end, err := s.feedPage(page, i.Start+LSN(at), fresh)
		fresh = false
		if end || err != nil {
			return end, err
		}
	}
	return false, nil
}

// feedPage reads one page. end: nothing follows in this segment.
func (s *recordScan) feedPage(page []byte, start LSN, fresh bool) (end bool, err error) {
	flags, head := binary.LittleEndian.Uint16(page[2:]), shortPage
	if flags&pageLong != 0 {
		head = longPage
	}
	rest := int(binary.LittleEndian.Uint32(page[16:]))
	at := head
	switch {
	case flags&pageOverwrites != 0: // what was to continue here was lost in a crash
		s.carry, s.skip = nil, 0
	case flags&pageContinues != 0 && s.carry == nil:
		if fresh {
			s.skip = rest
		}
		n := min(s.skip, len(page)-at)
		s.skip -= n
		at += n
	case flags&pageContinues != 0:
		if want := s.total - len(s.carry); want != rest {
			return false, fmt.Errorf("%w: the record at %s goes on for %d bytes at %s, not %d", ErrDamaged, s.at, rest, start, want)
		}
		n := min(rest, len(page)-at)
		s.carry = append(s.carry, page[at:at+n]...)
		at += n
		if len(s.carry) == s.total {
			if end, err = s.whole(start + LSN(at)); end || err != nil {
				return end, err
			}
		}
	case s.carry != nil:
		return false, fmt.Errorf("%w: the record at %s does not go on at %s", ErrDamaged, s.at, start)
	}
	return s.records8(page, start, at)
}

// records8 reads the records that begin on a page; each begins at a multiple of eight.
func (s *recordScan) records8(page []byte, start LSN, at int) (end bool, err error) {
	for at = (at + 7) &^ 7; at+4 <= len(page) && s.skip == 0 && s.carry == nil; at = (at + 7) &^ 7 {
		s.total, s.at = int(binary.LittleEndian.Uint32(page[at:])), start+LSN(at)
		if s.total == 0 {
			return true, nil
		}
		if s.total < recordHeader || s.total > maxRecord {
			return false, fmt.Errorf("%w: what stands at %s %w: a length of %d", ErrDamaged, s.at, errRecord, s.total)
		}
		n := min(s.total, len(page)-at)
		s.carry = append(make([]byte, 0, min(s.total, 1<<20)), page[at:at+n]...)
		at += n
		if len(s.carry) < s.total {
			return false, nil
		}
		if end, err = s.whole(start + LSN(at)); end || err != nil {
			return end, err
		}
	}
	return false, nil
}

// whole takes the record that is complete and ends at a position.
func (s *recordScan) whole(end LSN) (last bool, err error) {
	rec := s.carry
	s.carry = nil
	sum := crc32.Update(crc32.Checksum(rec[recordHeader:], castagnoli), castagnoli, rec[:20])
	if want := binary.LittleEndian.Uint32(rec[20:]); sum != want {
		return false, fmt.Errorf("%w: the record at %s has checksum %08X, its content %08X", ErrDamaged, s.at, want, sum)
	}
	s.records++
	s.end = (end + 7) &^ 7
	switch op := rec[16] & 0x70; {
	case rec[17] == rmXLOG && rec[16]&0xF0 == opSwitch:
		s.end = s.next
		return true, nil
	case rec[17] == rmXact && (op == opCommit || op == opCommitTwo):
		if at, ok := commitTime(rec); ok {
			s.commit = at
		}
	}
	return false, nil
}

// commitTime is the time in the record of a commit, the first thing in its data.
func commitTime(rec []byte) (time.Time, bool) {
	for at := recordHeader; at < len(rec); {
		switch rec[at] {
		case 253: // origin
			at += 3
		case 252: // top-level transaction
			at += 5
		case 255, 254: // data, with one byte of length or four
			at += 2 + 3*int(255-rec[at])
			if at+8 > len(rec) {
				return time.Time{}, false
			}
			return serverTime(int64(binary.LittleEndian.Uint64(rec[at:]))), true
		default: // a block: no commit has one
			return time.Time{}, false
		}
	}
	return time.Time{}, false
}

// serverTime is a timestamp of PostgreSQL: microseconds since the year 2000.
func serverTime(micros int64) time.Time {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(micros) * time.Microsecond)
}

// commitLook is how many segments are read at most to find the last commit.
const commitLook = 8

// LastCommit finds the time of the last commit before a position of a timeline that can be restored; the zero time: there
// is none in the last segments. It reads the WAL itself, so that it needs neither server nor receiver.
func (r *Repo) LastCommit(ctx context.Context, system uint64, timeline uint32, end LSN) (time.Time, error) {
	size, err := r.segmentSize(ctx, system)
	if err != nil || size == 0 {
		return time.Time{}, err
	}
	m, err := r.History(ctx, system, timeline)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return time.Time{}, err
	}
	for n := range LSN(commitLook) {
		if end <= n*LSN(size) {
			break
		}
		at := (end - 1 - n*LSN(size)) / LSN(size) * LSN(size)
		content, err := r.segmentOrOpen(ctx, system, SegmentName(m.At(timeline, at), at, size))
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return time.Time{}, err
		}
		var scan recordScan
		_, _ = scan.feed(content) // where it ends is where recovery ends
		if !scan.commit.IsZero() {
			return scan.commit, nil
		}
	}
	return time.Time{}, nil
}

// segmentOrOpen reads a segment, or what there is of it while it is open. ErrNotFound.
func (r *Repo) segmentOrOpen(ctx context.Context, system uint64, name string) ([]byte, error) {
	var content segmentBuffer
	_, err := r.Unseal(ctx, r.SegmentKey(system, name), &content)
	if errors.Is(err, ErrNotFound) {
		return r.ReadPartial(ctx, system, name)
	}
	return content, err
}
