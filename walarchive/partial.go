package walarchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// The open segment of a receiver is kept as immutable increments: <segment>.part/<offset>-<length>.zst. Together they
// hold the segment from its first byte on, as far as it has been received. They may overlap; where they do, they are
// the same.

// increment is one stored piece of an open segment.
type increment struct {
	key            string
	offset, length int64
}

// partialPrefix begins the keys of the increments of an open segment.
func (l Layout) partialPrefix(system uint64, name string) string {
	return l.TimelinePrefix(system, SegmentTimeline(name)) + name + ".part/"
}

// PutPartial stores a piece of an open segment: the content from offset on. What is stored already is no error.
func (r *Repo) PutPartial(ctx context.Context, system uint64, name string, offset int64, content []byte, start LSN, writer string) error {
	h, object, err := r.Seal(Header{
		Name: name, System: system, Timeline: SegmentTimeline(name), Start: start + LSN(offset),
		Writer: writer, Time: time.Now().UTC(),
	}, content)
	if err != nil {
		return err
	}
	key := fmt.Sprintf("%s%010d-%010d%s", r.partialPrefix(system, name), offset, len(content), r.Suffix())
	err = r.Put(ctx, key, bytes.NewReader(object), PutOptions{Size: int64(len(object)), Meta: h.Meta()})
	if errors.Is(err, ErrExists) {
		return r.compare(ctx, key, h)
	}
	return err
}

// increments lists the pieces of an open segment in the order in which they are read: without a hole from the first
// byte on, as few as possible. end is where they end. A piece that is missing in the middle is ErrDamaged.
func (r *Repo) increments(ctx context.Context, system uint64, name string) (list []increment, end int64, err error) {
	for range 3 { // pieces are joined and removed while we look
		var whole bool
		if list, end, whole, err = r.listIncrements(ctx, system, name); whole || err != nil {
			return list, end, err
		}
	}
	return nil, 0, fmt.Errorf("open segment %s: %w: the piece behind byte %d is missing", name, ErrDamaged, end)
}

// listIncrements is one look; whole tells that no piece is missing before the last one.
func (r *Repo) listIncrements(ctx context.Context, system uint64, name string) (list []increment, end int64, whole bool, err error) {
	var all []increment
	last := int64(0)
	for o, err := range r.List(ctx, r.partialPrefix(system, name), "") {
		if err != nil {
			return nil, 0, false, fmt.Errorf("list the open segment %s: %w", name, err)
		}
		if i, ok := parseIncrement(o.Key); ok {
			all = append(all, i)
			last = max(last, i.offset+i.length)
		}
	}
	for {
		best := increment{length: end}
		for _, inc := range all {
			if inc.offset <= end && inc.offset+inc.length > best.offset+best.length {
				best = inc
			}
		}
		if best.key == "" {
			return list, end, end == last, nil
		}
		end = best.offset + best.length
		list = append(list, best)
	}
}

// parseIncrement reads offset and length from a key.
func parseIncrement(key string) (increment, bool) {
	stem, _, _ := strings.Cut(path.Base(key), ".")
	from, length, ok := strings.Cut(stem, "-")
	o, err1 := strconv.ParseInt(from, 10, 64)
	n, err2 := strconv.ParseInt(length, 10, 64)
	return increment{key: key, offset: o, length: n}, ok && err1 == nil && err2 == nil && o >= 0 && n > 0
}

// PartialEnd tells how many bytes of an open segment are stored from its first byte on; 0: none.
func (r *Repo) PartialEnd(ctx context.Context, system uint64, name string) (int64, error) {
	_, end, err := r.increments(ctx, system, name)
	return end, err
}

// ReadPartial reads what is stored of an open segment, from its first byte on. ErrNotFound: nothing is; ErrDamaged.
func (r *Repo) ReadPartial(ctx context.Context, system uint64, name string) ([]byte, error) {
	for try := 0; ; try++ {
		list, end, err := r.increments(ctx, system, name)
		if err != nil {
			return nil, err
		}
		if end == 0 {
			return nil, fmt.Errorf("open segment %s: %w", name, ErrNotFound)
		}
		content, err := r.readIncrements(ctx, list, end)
		if !errors.Is(err, ErrNotFound) {
			return content, err
		}
		if try == 5 { // joined or removed while we read: never a sign that there is nothing
			return nil, fmt.Errorf("open segment %s: its pieces change all the time", name)
		}
	}
}

// readIncrements reads pieces one behind the other.
func (r *Repo) readIncrements(ctx context.Context, list []increment, end int64) ([]byte, error) {
	content := make([]byte, 0, end)
	for _, inc := range list {
		var piece bytes.Buffer
		if _, err := r.Unseal(ctx, inc.key, &piece); err != nil {
			return nil, err
		}
		if int64(piece.Len()) != inc.length {
			return nil, fmt.Errorf("%s: %w: it holds %d bytes", inc.key, ErrDamaged, piece.Len())
		}
		content = append(content, piece.Bytes()[int64(len(content))-inc.offset:]...)
	}
	return content, nil
}

// DropPartial removes the pieces of an open segment; only for one whose whole content is stored as a segment.
func (r *Repo) DropPartial(ctx context.Context, system uint64, name string) error {
	return r.deletePrefix(ctx, r.partialPrefix(system, name))
}

// dropIncrements removes the pieces that end at or before end, but those that keep names.
func (r *Repo) dropIncrements(ctx context.Context, system uint64, name string, keep int64) error {
	var keys []string
	for o, err := range r.List(ctx, r.partialPrefix(system, name), "") {
		if err != nil {
			return err
		}
		if i, ok := parseIncrement(o.Key); ok && i.offset+i.length <= keep && i.length < keep {
			keys = append(keys, o.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return r.Delete(ctx, keys...)
}

// holdsWAL tells whether the archive has the segment that begins at a position: whole, or as an open segment up to the
// position end.
func (r *Repo) holdsWAL(ctx context.Context, system uint64, timeline, size uint32, at, end LSN) (bool, error) {
	name := SegmentName(timeline, at, size)
	_, err := r.Head(ctx, r.SegmentKey(system, name))
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if end > at+LSN(size) {
		return false, nil
	}
	have, err := r.PartialEnd(ctx, system, name)
	return at+LSN(have) >= end, err
}
