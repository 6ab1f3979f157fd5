package cascade

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// chunkSize is about how many bytes of a batch are copied at once. Two chunks are in memory, whatever the size of the
// batch; a single event may be bigger and is a chunk of its own then.
const chunkSize = 1 << 20

// chunk is a part of a batch.
type chunk struct {
	rows  int    // events
	maxID int64  // highest event id
	retry int    // events that somebody sent to the worker's retry queue, left out
	copy  []byte // rows for the target's COPY, without header and trailer
	// kept are the rows that have to be looked at, in order; they point into data.
	kept []row
	data []byte
}

func (c *chunk) reset() {
	c.rows, c.maxID, c.retry, c.copy, c.kept, c.data = 0, 0, 0, c.copy[:0], c.kept[:0], c.data[:0]
}

// shape says what becomes of the rows of a batch.
type shape struct {
	copy CopyMode
	// keepAll: every event is looked at, not only those of the cascade.
	keepAll bool
	// mark replaces the data of the events that publish the global watermark, unless it is nil.
	mark []byte
}

// systemPrefix begins the types of the cascade's own events.
var systemPrefix = []byte("pgq.")

// add takes one row into the chunk.
func (s shape) add(c *chunk, r *row) {
	if r.fields[fieldRetry] != nil {
		// An event of the worker's own retry queue: everybody below has it already.
		c.retry++
		return
	}
	c.rows++
	c.maxID = max(c.maxID, r.id())
	system := bytes.HasPrefix(r.fields[fieldType], systemPrefix)
	if system || s.keepAll {
		c.keep(r)
	}
	switch s.copy {
	case SameIDs:
		if s.mark != nil && string(r.fields[fieldType]) == typeGlobalMark {
			marked := *r
			marked.fields[fieldData] = s.mark
			r = &marked
		}
		c.copy = r.appendRow(c.copy, fieldID)
	case NewIDs:
		if !system {
			c.copy = r.appendRow(c.copy, fieldTime)
		}
	}
}

// keep copies a row into the chunk's own memory.
func (c *chunk) keep(r *row) {
	var own row
	for i, field := range r.fields {
		if field == nil {
			continue
		}
		begin := len(c.data)
		c.data = append(c.data, field...)
		own.fields[i] = c.data[begin:len(c.data):len(c.data)]
	}
	c.kept = append(c.kept, own)
}

// stream reads a batch from the provider, chunk by chunk, in a goroutine of its own.
type stream struct {
	chunks chan *chunk
	free   chan *chunk
	stop   context.CancelFunc
	err    error // valid when chunks is closed
}

// openStream begins to read a batch; sql is the query that pgq.batch_event_sql made for it.
func openStream(ctx context.Context, db *pgq.DB, sql string, s shape) *stream {
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{chunks: make(chan *chunk), free: make(chan *chunk, 2), stop: cancel}
	st.free <- &chunk{}
	st.free <- &chunk{}
	go func() {
		defer close(st.chunks)
		st.err = st.read(ctx, db, sql, s)
	}()
	return st
}

// read copies the batch out of the provider.
func (st *stream) read(ctx context.Context, db *pgq.DB, sql string, s shape) error {
	conn, err := db.Acquire(ctx)
	if err != nil {
		return pgq.Classify(err)
	}
	defer conn.Release()
	const fields = `select ev_retry, ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`
	w := &splitter{ctx: ctx, st: st, shape: s}
	_, err = conn.Conn().PgConn().CopyTo(ctx, w, `copy (`+fields+` from (`+sql+`) e order by ev_id) to stdout (format binary)`)
	if err == nil {
		err = w.end()
	}
	return pgq.Classify(err)
}

// next is the next chunk; nil at the end of the batch. The one before goes back into use.
func (st *stream) next(ctx context.Context, done *chunk) (*chunk, error) {
	if done != nil {
		done.reset()
		st.free <- done // never blocks: there are two
	}
	select {
	case c, ok := <-st.chunks:
		if !ok {
			return nil, st.err
		}
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// close stops the reading and waits for its end.
func (st *stream) close() {
	st.stop()
	for range st.chunks {
	}
}

// splitter cuts the bytes of a COPY into rows and collects these in chunks.
type splitter struct {
	ctx     context.Context
	st      *stream
	shape   shape
	rest    []byte // of a row that is not whole yet
	started bool
	ended   bool
	fill    *chunk
	row     row
}

// Write implements io.Writer.
func (w *splitter) Write(p []byte) (int, error) {
	data := p
	if len(w.rest) > 0 {
		w.rest = append(w.rest, p...)
		data = w.rest
	}
	n, err := w.rows(data)
	if err != nil {
		return 0, err
	}
	w.rest = append(w.rest[:0], data[n:]...)
	return len(p), nil
}

// rows takes what is whole and returns how many bytes that was.
func (w *splitter) rows(data []byte) (int, error) {
	at := 0
	if !w.started {
		if len(data) < len(copySignature) {
			return 0, nil
		}
		if !bytes.Equal(data[:len(copySignature)], copySignature) {
			return 0, fmt.Errorf("%w: signature", errBadCopy)
		}
		w.started, at = true, len(copySignature)
	}
	for !w.ended {
		n, last, err := parseRow(data[at:], &w.row)
		if err != nil || n == 0 {
			return at, err
		}
		at += n
		if w.ended = last; last {
			break
		}
		if err := w.take(); err != nil {
			return at, err
		}
	}
	return len(data), nil
}

// take puts the row into a chunk and passes that on when it is full.
func (w *splitter) take() error {
	if w.fill == nil {
		select {
		case w.fill = <-w.st.free:
		case <-w.ctx.Done():
			return w.ctx.Err()
		}
	}
	w.shape.add(w.fill, &w.row)
	if len(w.fill.copy) < chunkSize && len(w.fill.data) < chunkSize {
		return nil
	}
	return w.pass()
}

// pass hands the chunk over.
func (w *splitter) pass() error {
	select {
	case w.st.chunks <- w.fill:
		w.fill = nil
		return nil
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// end hands the last chunk over.
func (w *splitter) end() error {
	if !w.ended {
		return fmt.Errorf("%w: it ends in the middle", errBadCopy)
	}
	if w.fill == nil {
		return nil
	}
	return w.pass()
}

// columns of the target's COPY, by mode.
var columns = map[CopyMode]string{
	SameIDs: "(ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)",
	NewIDs:  "(ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)",
}

// copyIn writes the rows of a chunk into an event table. The table fills in the transaction id, and the event id where
// it is not kept.
func copyIn(ctx context.Context, tx pgx.Tx, table string, mode CopyMode, c *chunk) error {
	if len(c.copy) == 0 {
		return nil
	}
	body := io.MultiReader(bytes.NewReader(copySignature), bytes.NewReader(c.copy), bytes.NewReader(copyTrailer))
	_, err := tx.Conn().PgConn().CopyFrom(ctx, body, "copy "+table+" "+columns[mode]+" from stdin (format binary)")
	if err != nil {
		return fmt.Errorf("copy %d events into %s: %w", c.rows, table, pgq.Classify(err))
	}
	return nil
}
