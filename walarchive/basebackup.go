package walarchive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// baseBackupOptions are the options of BASE_BACKUP.
type baseBackupOptions struct {
	label string
	// spread lets the server take its time for the checkpoint.
	spread bool
	// rateKB limits the server to so many kilobytes per second; 0: no limit.
	rateKB int
}

// command builds BASE_BACKUP in the grammar of the server's version.
func (o baseBackupOptions) command(version int) string {
	label := quoteText(o.label)
	if version < 150000 {
		text := "BASE_BACKUP LABEL " + label + " PROGRESS NOWAIT MANIFEST 'yes'"
		if !o.spread {
			text += " FAST"
		}
		if o.rateKB > 0 {
			text += fmt.Sprintf(" MAX_RATE %d", o.rateKB)
		}
		return text
	}
	checkpoint := "fast"
	if o.spread {
		checkpoint = "spread"
	}
	text := fmt.Sprintf("BASE_BACKUP (LABEL %s, CHECKPOINT '%s', MANIFEST 'yes', PROGRESS true, WAIT false", label, checkpoint)
	if o.rateKB > 0 {
		text += fmt.Sprintf(", MAX_RATE %d", o.rateKB)
	}
	return text + ")"
}

// Tablespace is a tablespace of a cluster other than the two that live inside of its data directory.
type Tablespace struct {
	OID string `json:"oid"`
	// Name is the name in the database; empty where it could not be asked.
	Name string `json:"name,omitempty"`
	// Location is the directory on the server that was backed up.
	Location string `json:"location"`
}

// baseBackup is a BASE_BACKUP under way. The archives come one after the other; each is read like a file.
type baseBackup struct {
	r    *Replication
	ctx  context.Context // of the whole backup, owned here together with stop
	stop func() bool

	start, end       LSN
	timeline, endTLI uint32
	spaces           []Tablespace
	order            []string // PostgreSQL 14: the archives in the order they come, "" is the data directory
	total            int64    // estimate in bytes

	notices []string
	pending []byte // data of the current archive that nobody read yet
	next    archiveHead
	queued  bool // next is valid: the current archive has ended
	inCopy  bool
	done    bool // after the end of all data
	inText  bool // the manifest has begun
}

// archiveHead says what the next archive is: a tablespace, or "" for the data directory.
type archiveHead struct{ oid string }

// startBaseBackup sends BASE_BACKUP and reads up to the first data.
func (r *Replication) startBaseBackup(ctx context.Context, o baseBackupOptions) (*baseBackup, error) {
	b := &baseBackup{r: r, ctx: ctx, stop: r.interruptible(ctx)}
	if err := r.send(&pgproto3.Query{String: o.command(r.Version)}); err != nil {
		return nil, err
	}
	first, err := b.rows()
	if err != nil {
		return nil, err
	}
	if b.start, b.timeline, err = positionRow(first); err != nil {
		return nil, fmt.Errorf("base backup: start: %w", err)
	}
	spaces, err := b.rows()
	if err != nil {
		return nil, err
	}
	if err := b.tablespaces(spaces); err != nil {
		return nil, err
	}
	m, err := b.receive()
	if err != nil {
		return nil, err
	}
	if _, ok := m.(*pgproto3.CopyOutResponse); !ok {
		return nil, fmt.Errorf("base backup: unexpected %T before the data", m)
	}
	b.inCopy = true
	if r.Version < 150000 {
		b.queue14()
	}
	return b, nil
}

// receive reads a message and keeps the warnings.
func (b *baseBackup) receive() (pgproto3.BackendMessage, error) {
	return b.r.receive(b.ctx, func(n *pgproto3.NoticeResponse) {
		if n.Severity == "WARNING" || n.SeverityUnlocalized == "WARNING" {
			b.notices = append(b.notices, n.Message)
		}
	})
}

// rows reads one set of rows up to its CommandComplete.
func (b *baseBackup) rows() ([][][]byte, error) {
	var rows [][][]byte
	for {
		m, err := b.receive()
		if err != nil {
			return nil, fmt.Errorf("base backup: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
		case *pgproto3.DataRow:
			row := make([][]byte, len(m.Values))
			for i, v := range m.Values {
				if v != nil {
					row[i] = append([]byte{}, v...)
				}
			}
			rows = append(rows, row)
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, fmt.Errorf("base backup: unexpected %T instead of rows", m)
		}
	}
}

// positionRow reads a row of position and timeline.
func positionRow(rows [][][]byte) (LSN, uint32, error) {
	if len(rows) != 1 || len(rows[0]) < 2 {
		return 0, 0, errors.New("the row of the position is missing")
	}
	lsn, err := ParseLSN(string(rows[0][0]))
	if err != nil {
		return 0, 0, err
	}
	tli, err := strconv.ParseUint(string(rows[0][1]), 10, 32)
	return lsn, uint32(tli), err
}

// tablespaces reads the row set of tablespaces: oid, location, size in kB; the data directory has no oid.
func (b *baseBackup) tablespaces(rows [][][]byte) error {
	for _, row := range rows {
		if len(row) < 3 {
			return errors.New("base backup: the row of a tablespace is too short")
		}
		b.order = append(b.order, string(row[0]))
		if row[0] != nil {
			b.spaces = append(b.spaces, Tablespace{OID: string(row[0]), Location: string(row[1])})
		}
		if row[2] != nil {
			kb, err := strconv.ParseInt(string(row[2]), 10, 64)
			if err != nil {
				return fmt.Errorf("base backup: size of a tablespace: %w", err)
			}
			b.total += kb << 10
		}
	}
	return nil
}

// queue14 takes the next archive of PostgreSQL 14, where each is a COPY of its own in the order of the tablespaces and
// the manifest is the last.
func (b *baseBackup) queue14() {
	if len(b.order) == 0 {
		b.inText = true
		return
	}
	b.next, b.queued = archiveHead{oid: b.order[0]}, true
	b.order = b.order[1:]
}

// NextArchive goes to the next archive; io.EOF: there is none, the manifest follows. The rest of the current archive is
// skipped.
func (b *baseBackup) NextArchive() (archiveHead, error) {
	for !b.queued && !b.inText && !b.done {
		b.pending = nil
		if err := b.advance(); err != nil {
			return archiveHead{}, err
		}
	}
	if b.queued {
		b.queued = false
		return b.next, nil
	}
	return archiveHead{}, io.EOF
}

// Read implements io.Reader over the current archive.
func (b *baseBackup) Read(p []byte) (int, error) {
	for len(b.pending) == 0 {
		if b.queued || b.inText || b.done {
			return 0, io.EOF
		}
		if err := b.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}

// Manifest reads PostgreSQL's own manifest, after the last archive.
func (b *baseBackup) Manifest() ([]byte, error) {
	var text []byte
	for {
		text = append(text, b.pending...)
		b.pending = nil
		if b.done {
			return text, nil
		}
		if err := b.advance(); err != nil {
			return nil, err
		}
	}
}

// advance takes one message of the data phase.
func (b *baseBackup) advance() error {
	m, err := b.receive()
	if err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		if b.r.Version < 150000 {
			b.pending = m.Data
			return nil
		}
		return b.framed(m.Data)
	case *pgproto3.CopyDone:
		b.inCopy = false
		if b.r.Version >= 150000 || b.inText {
			b.done = true
		}
		return nil
	case *pgproto3.CopyOutResponse:
		b.inCopy = true
		b.queue14()
		return nil
	default:
		return fmt.Errorf("base backup: unexpected %T in the data", m)
	}
}

// framed decodes the framing of PostgreSQL 15 and newer.
func (b *baseBackup) framed(data []byte) error {
	if len(data) == 0 {
		return errors.New("base backup: empty message")
	}
	switch data[0] {
	case 'd':
		b.pending = data[1:]
	case 'n':
		name, _, ok := strings.Cut(string(data[1:]), "\x00")
		if !ok {
			return errors.New("base backup: the name of an archive does not end")
		}
		oid := strings.TrimSuffix(name, ".tar")
		if oid == "base" {
			oid = ""
		}
		b.next, b.queued = archiveHead{oid: oid}, true
	case 'm':
		b.inText = true
	case 'p':
		if len(data) >= 9 {
			_ = binary.BigEndian.Uint64(data[1:]) // we count ourselves
		}
	default:
		return fmt.Errorf("base backup: message %q is not understood", data[0])
	}
	return nil
}

// Finish reads the end of the backup: the position up to which WAL is needed. A server that found bad pages says so
// here, as an error with SQLSTATE XX001; the end is known then all the same.
func (b *baseBackup) Finish() error {
	defer b.stop()
	rows, err := b.rows()
	if err != nil {
		return err
	}
	if b.end, b.endTLI, err = positionRow(rows); err != nil {
		return fmt.Errorf("base backup: end: %w", err)
	}
	for {
		m, err := b.receive()
		if err != nil {
			return fmt.Errorf("base backup: %w", err)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			return nil
		}
	}
}
