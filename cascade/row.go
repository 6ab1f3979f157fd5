package cascade

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/skytools/skyd/pgq"
)

// Batches travel from provider to target in the binary format of COPY and are cut into rows here, but not decoded:
// what goes in at one end comes out byte for byte at the other. Fields of a row as the provider sends it:
const (
	fieldRetry = iota
	fieldID
	fieldTime
	fieldType
	fieldData
	fieldExtra1
	fieldExtra2
	fieldExtra3
	fieldExtra4
	fieldCount
)

// copySignature begins a binary COPY, with no flags and no extension of the header.
var copySignature = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// copyTrailer ends it.
var copyTrailer = []byte{0xff, 0xff}

// errBadCopy: the provider sent what is no COPY of events.
var errBadCopy = errors.New("malformed COPY data")

// row is one event as the provider sent it: fields[i] is nil for null, else the bytes of the field. They belong to
// somebody else's buffer.
type row struct {
	fields [fieldCount][]byte
}

// parseRow cuts a row off the start of data. n is how many bytes it had; 0: data is not whole yet. last is the trailer.
func parseRow(data []byte, r *row) (n int, last bool, err error) {
	if len(data) < 2 {
		return 0, false, nil
	}
	switch count := int16(binary.BigEndian.Uint16(data)); count {
	case -1:
		return 2, true, nil
	case fieldCount:
	default:
		return 0, false, fmt.Errorf("%w: row of %d fields", errBadCopy, count)
	}
	n = 2
	for i := range r.fields {
		if len(data) < n+4 {
			return 0, false, nil
		}
		size := int32(binary.BigEndian.Uint32(data[n:]))
		n += 4
		if size < 0 {
			r.fields[i] = nil
			continue
		}
		end := n + int(size)
		if len(data) < end {
			return 0, false, nil
		}
		r.fields[i] = data[n:end:end]
		n = end
	}
	return n, false, nil
}

// appendField appends one field of a row.
func appendField(b, field []byte) []byte {
	if field == nil {
		return append(b, 0xff, 0xff, 0xff, 0xff)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
	return append(b, field...)
}

// appendRow appends the fields from the first one on, as a row of its own: fieldID for all that is kept, fieldTime to
// leave the id to the table.
func (r *row) appendRow(b []byte, first int) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(fieldCount-first))
	for _, field := range r.fields[first:] {
		b = appendField(b, field)
	}
	return b
}

// text is a field that may be null.
func (r *row) text(field int) pgq.Text {
	if r.fields[field] == nil {
		return pgq.Text{}
	}
	return pgq.Str(string(r.fields[field]))
}

// id is the event id.
func (r *row) id() int64 {
	if len(r.fields[fieldID]) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(r.fields[fieldID]))
}

// epoch is where PostgreSQL begins to count microseconds.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// time is the time of the event, to the microsecond, or one of the two infinities.
func (r *row) time() (t pgtype.Timestamptz) {
	raw := r.fields[fieldTime]
	if len(raw) != 8 {
		return t
	}
	t.Valid = true
	switch micros := int64(binary.BigEndian.Uint64(raw)); micros {
	case math.MaxInt64:
		t.InfinityModifier = pgtype.Infinity
	case math.MinInt64:
		t.InfinityModifier = pgtype.NegativeInfinity
	default:
		t.Time = time.UnixMicro(epoch.UnixMicro() + micros).UTC()
	}
	return t
}

// event decodes a row.
func (r *row) event() *pgq.Event {
	ev := &pgq.Event{
		ID: r.id(), Type: r.text(fieldType), Data: r.text(fieldData),
		Extra1: r.text(fieldExtra1), Extra2: r.text(fieldExtra2), Extra3: r.text(fieldExtra3), Extra4: r.text(fieldExtra4),
	}
	if t := r.fields[fieldTime]; len(t) == 8 {
		ev.Time = epoch.Add(time.Duration(int64(binary.BigEndian.Uint64(t))) * time.Microsecond)
	}
	if retry := r.fields[fieldRetry]; len(retry) == 4 {
		ev.Retry = int(int32(binary.BigEndian.Uint32(retry)))
	}
	return ev
}
