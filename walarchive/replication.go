package walarchive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Replication is one connection that speaks PostgreSQL's physical replication protocol. It belongs to one goroutine.
type Replication struct {
	conn *pgconn.PgConn
	read *bufio.Reader // what came from the server and is not decoded yet
	// Version is the server's version number, 150018 for 15.18.
	Version int
}

// readBuffer takes many messages with one call: the driver alone reads 8 KiB at a time.
const readBuffer = 256 << 10

// more reports whether something came from the server that was not received yet.
func (r *Replication) more() bool { return r.read.Buffered()+r.conn.Frontend().ReadBufferLen() > 0 }

// SystemIdentity is the answer of IDENTIFY_SYSTEM.
type SystemIdentity struct {
	SystemID string
	Timeline uint32
	// Position is the end of the server's flushed WAL.
	Position LSN
}

// Slot is what the server knows of a physical replication slot.
type Slot struct {
	Name string
	// Exists is false when there is no slot of that name.
	Exists bool
	// RestartLSN is the oldest WAL the slot keeps; 0 when it has never been used.
	RestartLSN LSN
}

// poolKeys are settings that pgx pools take in a DSN and a server does not know.
var poolKeys = []string{
	"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter",
	"pool_max_conn_idle_time", "pool_health_check_period", "default_query_exec_mode", "statement_cache_capacity",
	"description_cache_capacity",
}

// DialReplication opens a physical replication connection; the role needs the attribute replication. The application
// name is what the server lists, and what synchronous_standby_names refers to.
func DialReplication(ctx context.Context, dsn, application string) (*Replication, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	for _, key := range poolKeys {
		delete(cfg.RuntimeParams, key)
	}
	cfg.RuntimeParams["replication"] = "true"
	if application != "" {
		cfg.RuntimeParams["application_name"] = application
	}
	r := &Replication{}
	cfg.BuildFrontend = func(from io.Reader, to io.Writer) *pgproto3.Frontend { // of the host that answers, in the end
		r.read = bufio.NewReaderSize(from, readBuffer)
		return pgproto3.NewFrontend(r.read, to)
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.conn = conn
	if r.Version, err = serverVersion(conn.ParameterStatus("server_version")); err == nil && r.Version < 140000 {
		err = fmt.Errorf("PostgreSQL 14 or newer is needed (the server is %s)", conn.ParameterStatus("server_version"))
	}
	if err != nil {
		return nil, errors.Join(err, r.Close(ctx))
	}
	return r, nil
}

// serverVersion turns "15.18 (Debian …)" or "17beta1" into a number.
func serverVersion(text string) (int, error) {
	major, rest := text, ""
	if i := strings.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		major, rest = text[:i], text[i:]
	}
	m, err := strconv.Atoi(major)
	if err != nil {
		return 0, fmt.Errorf("server version %q is not understood", text)
	}
	minor := 0
	if strings.HasPrefix(rest, ".") {
		digits := strings.FieldsFunc(rest[1:], func(c rune) bool { return c < '0' || c > '9' })
		if len(digits) > 0 {
			minor, _ = strconv.Atoi(digits[0]) // digits only
		}
	}
	return m*10000 + minor, nil
}

// Close ends the connection.
func (r *Replication) Close(ctx context.Context) error { return r.conn.Close(ctx) }

// query runs one replication command and returns its rows.
func (r *Replication) query(ctx context.Context, command string) ([][][]byte, error) {
	results, err := r.conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 {
		return nil, nil
	}
	return results[0].Rows, nil
}

// row runs a command whose answer is one row with at least n columns.
func (r *Replication) row(ctx context.Context, command string, n int) ([][]byte, error) {
	rows, err := r.query(ctx, command)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) < n {
		return nil, fmt.Errorf("unexpected answer to %s: %d rows", command, len(rows))
	}
	return rows[0], nil
}

// Identify asks the server who it is and how far its WAL goes.
func (r *Replication) Identify(ctx context.Context) (SystemIdentity, error) {
	row, err := r.row(ctx, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return SystemIdentity{}, fmt.Errorf("identify system: %w", err)
	}
	tli, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return SystemIdentity{}, fmt.Errorf("identify system: timeline: %w", err)
	}
	lsn, err := ParseLSN(string(row[2]))
	return SystemIdentity{SystemID: string(row[0]), Timeline: uint32(tli), Position: lsn}, err
}

// Show returns a setting of the server.
func (r *Replication) Show(ctx context.Context, name string) (string, error) {
	row, err := r.row(ctx, "SHOW "+name, 1)
	if err != nil {
		return "", fmt.Errorf("show %s: %w", name, err)
	}
	return string(row[0]), nil
}

// SegmentSize is the server's WAL segment size in bytes.
func (r *Replication) SegmentSize(ctx context.Context) (int64, error) {
	text, err := r.Show(ctx, "wal_segment_size")
	if err != nil {
		return 0, err
	}
	for unit, factor := range map[string]int64{"MB": 1 << 20, "GB": 1 << 30} {
		if digits, ok := strings.CutSuffix(text, unit); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			return n * factor, err
		}
	}
	return 0, fmt.Errorf("wal_segment_size %q is not understood", text)
}

// TimelineHistory fetches the history file of a timeline. Timeline 1 has none: the name is then empty.
func (r *Replication) TimelineHistory(ctx context.Context, tli uint32) (name string, content []byte, err error) {
	if tli <= 1 {
		return "", nil, nil
	}
	row, err := r.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
	if err != nil {
		return "", nil, fmt.Errorf("timeline history %d: %w", tli, err)
	}
	return string(row[0]), row[1], nil
}

// CreateSlot makes a physical slot that keeps WAL from now on. That it exists already is no error.
func (r *Replication) CreateSlot(ctx context.Context, name string) error {
	_, err := r.query(ctx, "CREATE_REPLICATION_SLOT "+quoteName(name)+" PHYSICAL RESERVE_WAL")
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "42710" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create slot %s: %w", name, err)
	}
	return nil
}

// DropSlot removes a slot. That it does not exist is no error.
func (r *Replication) DropSlot(ctx context.Context, name string) error {
	_, err := r.query(ctx, "DROP_REPLICATION_SLOT "+quoteName(name))
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && pgErr.Code == "42704" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop slot %s: %w", name, err)
	}
	return nil
}

// ReadSlot looks a physical slot up. Servers before 15 cannot answer on this connection: the slot then counts as there,
// without a position.
func (r *Replication) ReadSlot(ctx context.Context, name string) (Slot, error) {
	s := Slot{Name: name}
	if r.Version < 150000 {
		s.Exists = true
		return s, nil
	}
	row, err := r.row(ctx, "READ_REPLICATION_SLOT "+quoteName(name), 3)
	if err != nil {
		return s, fmt.Errorf("read slot %s: %w", name, err)
	}
	if len(row[0]) == 0 {
		return s, nil
	}
	s.Exists = true
	if len(row[1]) > 0 {
		s.RestartLSN, err = ParseLSN(string(row[1]))
	}
	return s, err
}

// quoteName quotes an identifier for the replication grammar.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteText quotes a string for the replication grammar.
func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// send writes one message and flushes it.
func (r *Replication) send(m pgproto3.FrontendMessage) error {
	r.conn.Frontend().Send(m)
	return r.conn.Frontend().Flush()
}

// interruptible makes a blocked read or write of the connection fail when ctx ends; the function it returns undoes that
// and must be called.
func (r *Replication) interruptible(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { _ = r.conn.Conn().SetDeadline(time.Unix(1, 0)) }) // a closed connection fails by itself
}

// receive reads one message; an error of the server comes back as error. Notices and parameters are passed to note, if
// given.
func (r *Replication) receive(ctx context.Context, note func(*pgproto3.NoticeResponse)) (pgproto3.BackendMessage, error) {
	for {
		m, err := r.conn.Frontend().Receive()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return nil, cause
			}
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse:
			if note != nil {
				note(m)
			}
		case *pgproto3.ParameterStatus:
		default:
			return m, nil
		}
	}
}
