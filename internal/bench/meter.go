package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// meter reads the clocks that figures are made of: wall, WAL and server CPU.
type meter struct {
	conn *pgx.Conn
	cpu  *cpuClock // nil: not to be had
	why  string    // how CPU is measured, or why not
}

// reading is all clocks at one moment.
type reading struct {
	wall time.Time
	wal  int64
	xid  int64
	cpu  time.Duration
}

// newMeter takes over a connection that nobody else uses.
func newMeter(ctx context.Context, conn *pgx.Conn) *meter {
	m := &meter{conn: conn}
	cpu, err := findCPU(ctx, conn)
	if err != nil {
		m.why = "not measured: " + err.Error()
		return m
	}
	m.cpu, m.why = cpu, "all processes of the server together, by the kernel's "+cpu.source
	return m
}

// read reads all clocks.
func (m *meter) read(ctx context.Context) (r reading, err error) {
	const positions = `
select (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn)::bigint,
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint`
	if err := m.conn.QueryRow(ctx, positions).Scan(&r.wal, &r.xid); err != nil {
		return r, fmt.Errorf("read the position of the WAL: %w", err)
	}
	if m.cpu != nil {
		if r.cpu, err = m.cpu.read(); err != nil {
			return r, err
		}
	}
	r.wall = time.Now()
	return r, nil
}

// session is the CPU time of one session so far; 0 where it cannot be had to the nanosecond.
func (m *meter) session(pid int) time.Duration {
	if m.cpu == nil || m.cpu.source != "schedstat" {
		return 0
	}
	used, err := m.cpu.schedstat(pid)
	if err != nil {
		return 0
	}
	return used
}

// perEvent measures work on so many events.
func (m *meter) perEvent(ctx context.Context, events int, work func(ctx context.Context) error) (figures, error) {
	before, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now() // reading takes time itself
	if err := work(ctx); err != nil {
		return nil, err
	}
	wall := time.Since(begin)
	after, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	n := float64(events)
	f := figures{
		figWall: float64(wall.Nanoseconds()) / 1000 / n,
		figWAL:  float64(after.wal-before.wal) / n,
	}
	if m.cpu != nil {
		f[figCPU] = float64((after.cpu - before.cpu).Nanoseconds()) / 1000 / n
	}
	return f, nil
}

// cpuClock sums up the CPU time of all processes of a server on this machine.
type cpuClock struct {
	root   string // /proc
	master int    // the postmaster
	own    int    // the backend of the meter, not counted
	source string
}

// userHZ is the unit of times in /proc/<pid>/stat on all platforms of Linux.
const userHZ = 100

// errNotLocal says that the processes of the server are not ours to see.
var errNotLocal = errors.New("the server's processes are not visible here")

// findCPU finds the server that conn talks to among the processes of this machine. That it is the same one is told by
// the title of its backend, which names the database.
func findCPU(ctx context.Context, conn *pgx.Conn) (*cpuClock, error) {
	var (
		pid      int
		database string
	)
	const who = `select pg_catalog.pg_backend_pid(), pg_catalog.current_database()::text`
	if err := conn.QueryRow(ctx, who).Scan(&pid, &database); err != nil {
		return nil, err
	}
	c := &cpuClock{root: "/proc", own: pid, source: "schedstat"}
	title, err := os.ReadFile(filepath.Join(c.root, strconv.Itoa(pid), "cmdline"))
	if err != nil || !strings.HasPrefix(string(title), "postgres") || !strings.Contains(string(title), database) {
		return nil, errNotLocal
	}
	backend, err := c.stat(pid)
	if err != nil {
		return nil, errNotLocal
	}
	c.master = backend.parent
	if _, err := c.schedstat(pid); err != nil {
		c.source = "stat"
	}
	_, err = c.read()
	return c, err
}

// procStat is what is used of /proc/<pid>/stat.
type procStat struct {
	parent   int
	own      time.Duration
	children time.Duration // that have ended
}

func (c *cpuClock) stat(pid int) (s procStat, err error) {
	text, err := os.ReadFile(filepath.Join(c.root, strconv.Itoa(pid), "stat"))
	if err != nil {
		return s, err
	}
	return parseStat(string(text))
}

// parseStat reads the fields behind the name, which may hold blanks and brackets.
func parseStat(text string) (s procStat, err error) {
	_, rest, ok := cutLast(text, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 15 {
		return s, fmt.Errorf("unknown form of process status %q", text)
	}
	var n [5]int64
	for i, at := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		if n[i], err = strconv.ParseInt(fields[at], 10, 64); err != nil {
			return s, fmt.Errorf("unknown form of process status %q: %w", text, err)
		}
	}
	const unit = time.Second / userHZ
	return procStat{parent: int(n[0]), own: time.Duration(n[1]+n[2]) * unit, children: time.Duration(n[3]+n[4]) * unit}, nil
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// schedstat is the time on CPU in nanoseconds.
func (c *cpuClock) schedstat(pid int) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(c.root, strconv.Itoa(pid), "schedstat"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(n), err
}

// read sums up the living children of the postmaster and those it has buried, so that a backend that ends in between
// is counted all the same, if only to a hundredth of a second.
func (c *cpuClock) read() (total time.Duration, err error) {
	entries, err := os.ReadDir(c.root)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == c.own {
			continue
		}
		s, err := c.stat(pid)
		if err != nil || (s.parent != c.master && pid != c.master) {
			continue // ended meanwhile, or somebody else's
		}
		if pid == c.master {
			total += s.children
		}
		own := s.own
		if c.source == "schedstat" {
			if precise, err := c.schedstat(pid); err == nil {
				own = precise
			}
		}
		total += own
	}
	return total, nil
}
