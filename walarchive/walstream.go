package walarchive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// WALStream is WAL on its way from a server, one timeline long.
type WALStream struct {
	r    *Replication
	stop func() bool
}

// StreamMessage is one thing a server said on a WALStream.
type StreamMessage struct {
	// Data is WAL that begins at Start; it is valid until the next Receive. Empty for a keepalive.
	Data  []byte
	Start LSN
	// End is the end of the server's WAL when it sent this.
	End LSN
	// Sent is the server's clock.
	Sent time.Time
	// Reply: the server wants to hear from us at once.
	Reply bool
	// EndOfTimeline: the timeline ended, Next says where to go on. Nothing else is set.
	EndOfTimeline bool
	Next          TimelineSwitch
}

// TimelineSwitch is where a server left a timeline; the zero value: it only closed the stream.
type TimelineSwitch struct {
	Timeline uint32
	// Start is the position at which the new timeline begins.
	Start LSN
}

// errNoMessage says that nothing arrived in time; the stream is whole.
var errNoMessage = errors.New("no message in time")

// microsecondsTo2000 is the distance between the epochs of Unix and PostgreSQL.
const microsecondsTo2000 = 946684800 * 1e6

// Stream asks for WAL of one timeline from start on. The slot may be empty. Until the stream has ended, the connection
// serves nothing else; when ctx ends, the stream breaks.
func (r *Replication) Stream(ctx context.Context, slot string, start LSN, tli uint32) (*WALStream, error) {
	command := "START_REPLICATION"
	if slot != "" {
		command += " SLOT " + quoteName(slot)
	}
	command += fmt.Sprintf(" PHYSICAL %s TIMELINE %d", start, tli)
	s := &WALStream{r: r, stop: r.interruptible(ctx)}
	if err := r.send(&pgproto3.Query{String: command}); err != nil {
		return nil, err
	}
	m, err := r.receive(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("stream timeline %d from %s: %w", tli, start, err)
	}
	if _, ok := m.(*pgproto3.CopyBothResponse); !ok {
		return nil, fmt.Errorf("stream timeline %d from %s: unexpected %T", tli, start, m)
	}
	return s, nil
}

// Receive waits for the next message, at most as long as wait (0: it must be there already). errNoMessage: nothing came.
func (s *WALStream) Receive(ctx context.Context, wait time.Duration) (StreamMessage, error) {
	conn := s.r.conn.Conn()
	if err := conn.SetReadDeadline(time.Now().Add(max(wait, time.Microsecond))); err != nil {
		return StreamMessage{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return StreamMessage{}, err
	}
	m, err := s.r.receive(ctx, nil)
	if netErr := net.Error(nil); errors.As(err, &netErr) && netErr.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		if cause := context.Cause(ctx); cause != nil {
			return StreamMessage{}, cause
		}
		return StreamMessage{}, errNoMessage
	}
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) {
		return StreamMessage{}, errors.Join(err, s.drain(ctx))
	}
	if err != nil {
		return StreamMessage{}, err
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return parseStreamMessage(m.Data)
	case *pgproto3.CopyDone:
		next, err := s.finish(ctx)
		return StreamMessage{EndOfTimeline: true, Next: next}, err
	case *pgproto3.CommandComplete:
		// A server that shuts down closes the stream without CopyDone.
		return StreamMessage{}, errors.New("the server ended the stream: it shuts down")
	default:
		return StreamMessage{}, fmt.Errorf("unexpected %T in the WAL stream", m)
	}
}

// drain makes the connection usable again after an error of the server.
func (s *WALStream) drain(ctx context.Context) error {
	defer s.stop()
	if err := s.r.conn.Conn().SetReadDeadline(time.Now().Add(silenceLimit)); err != nil {
		return err
	}
	for {
		m, err := s.r.receive(ctx, nil)
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return s.r.conn.Conn().SetReadDeadline(time.Time{})
		}
	}
}

// parseStreamMessage decodes the content of one CopyData of a WAL stream.
func parseStreamMessage(data []byte) (StreamMessage, error) {
	switch {
	case len(data) >= 25 && data[0] == 'w':
		return StreamMessage{
			Start: LSN(binary.BigEndian.Uint64(data[1:])), End: LSN(binary.BigEndian.Uint64(data[9:])),
			Sent: fromServerTime(int64(binary.BigEndian.Uint64(data[17:]))), Data: data[25:],
		}, nil
	case len(data) >= 18 && data[0] == 'k':
		return StreamMessage{
			End: LSN(binary.BigEndian.Uint64(data[1:])), Sent: fromServerTime(int64(binary.BigEndian.Uint64(data[9:]))),
			Reply: data[17] != 0,
		}, nil
	case len(data) == 0:
		return StreamMessage{}, errors.New("empty message in the WAL stream")
	default:
		return StreamMessage{}, fmt.Errorf("message %q of %d bytes in the WAL stream is not understood", data[0], len(data))
	}
}

// fromServerTime converts PostgreSQL's microseconds since 2000.
func fromServerTime(us int64) time.Time { return time.UnixMicro(us + microsecondsTo2000).UTC() }

// Feedback tells the server how far we are: written to a file, flushed to disk, applied. ask makes it answer with a
// keepalive.
func (s *WALStream) Feedback(now time.Time, written, flushed, applied LSN, ask bool) error {
	var b [34]byte
	b[0] = 'r'
	binary.BigEndian.PutUint64(b[1:], uint64(written))
	binary.BigEndian.PutUint64(b[9:], uint64(flushed))
	binary.BigEndian.PutUint64(b[17:], uint64(applied))
	binary.BigEndian.PutUint64(b[25:], uint64(now.UnixMicro()-microsecondsTo2000))
	if ask {
		b[33] = 1
	}
	return s.r.send(&pgproto3.CopyData{Data: b[:]})
}

// finish answers the server's end of the stream and reads where the next timeline begins. The connection can be used
// again afterwards.
func (s *WALStream) finish(ctx context.Context) (TimelineSwitch, error) {
	defer s.stop()
	var next TimelineSwitch
	if err := s.r.conn.Conn().SetReadDeadline(time.Time{}); err != nil {
		return next, err
	}
	if err := s.r.send(&pgproto3.CopyDone{}); err != nil {
		return next, err
	}
	for {
		m, err := s.r.receive(ctx, nil)
		if err != nil {
			return next, err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if len(m.Values) < 2 {
				return next, errors.New("end of timeline: the row of the next one is too short")
			}
			tli, err := strconv.ParseUint(string(m.Values[0]), 10, 32)
			if err != nil {
				return next, fmt.Errorf("end of timeline: next timeline: %w", err)
			}
			next.Timeline = uint32(tli)
			if next.Start, err = ParseLSN(string(m.Values[1])); err != nil {
				return next, fmt.Errorf("end of timeline: %w", err)
			}
		case *pgproto3.RowDescription, *pgproto3.CommandComplete, *pgproto3.CopyData, *pgproto3.CopyDone:
		case *pgproto3.ReadyForQuery:
			return next, nil
		default:
			return next, fmt.Errorf("unexpected %T at the end of a timeline", m)
		}
	}
}

// End stops the stream from our side; the connection can be used again.
func (s *WALStream) End(ctx context.Context) error {
	_, err := s.finish(ctx)
	return err
}
