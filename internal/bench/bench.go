package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of the tables, in the order of a run.
const (
	tableInsert  = "insert"
	tableCapture = "capture"
	tableDrain   = "drain"
	tableLatency = "latency"
	tableIdle    = "idle"
	tablePinned  = "pinned"
	tableCascade = "cascade"
	tableWAL     = "wal"
)

// Options say what to measure. The zero value measures everything on a server of its own.
type Options struct {
	// DSN is a database of the server; its role must be able to create databases. Nothing is written to it. Defaults to
	// a throw-away server, made from the programs on this machine.
	DSN string
	// Tables are those to run; see TableNames. Defaults to all.
	Tables []string
	// Rounds is how often everything is measured. Defaults to 5.
	Rounds int
	// Quick makes everything so small that the figures say little; it shows that all of it works.
	Quick bool
	// PgQue and Pgmq are files of SQL that install these peers. Default to none: the peers are absent.
	PgQue string
	Pgmq  string
	// Python is an interpreter that may have the original's modules. Defaults to the first one found that has them.
	Python string
	// Programs is the directory of skyd and skyd-wal for the table wal. Defaults to the one of this program.
	Programs string
	// Version is what this program calls itself.
	Version string
	// Say gets a line for each step. Defaults to silence.
	Say func(text string)

	sizes *sizes // instead of those that Quick stands for; for tests
}

// sizes is how much is done in one round.
type sizes struct {
	single, durable, pipelined, bulk int // events of the insert table
	captureRows, captureSingle       int
	drain, drainSlow                 int // events; the second for those that are an order slower
	rates                            []int
	latency                          time.Duration // of one rate
	idleQueues                       []int
	settle, idle                     time.Duration
	batches                          int // under a pinned xmin
	branch                           int // events of 200 bytes that a branch copies
	hops                             []int
	segments                         int // of WAL
	tables, tableRows                int // of the database that is backed up
	commits                          int // of each client, that wait for a receiver
	noSlow                           bool
}

var (
	fullSizes = sizes{
		single: 3000, durable: 300, pipelined: 20_000, bulk: 100_000, captureRows: 10_000, captureSingle: 2000,
		drain: 100_000, drainSlow: 20_000, rates: []int{10, 1000, 5000}, latency: 2500 * time.Millisecond,
		idleQueues: []int{1, 100, 1000}, settle: 200 * time.Second, idle: time.Minute, batches: 3000,
		branch: 50_000, hops: []int{10, 100, 1000},
		segments: 16, tables: 4, tableRows: 200_000, commits: 150,
	}
	quickSizes = sizes{
		single: 300, durable: 50, pipelined: 2000, bulk: 20_000, captureRows: 2000, captureSingle: 200,
		drain: 10_000, drainSlow: 2000, rates: []int{10, 1000, 5000}, latency: time.Second,
		idleQueues: []int{1, 100}, settle: 4 * time.Second, idle: 2 * time.Second, batches: 200,
		branch: 5000, hops: []int{10, 100, 1000},
		segments: 6, tables: 2, tableRows: 50_000, commits: 20,
	}
)

// TableNames are the tables there are, in the order of a run.
func TableNames() []string {
	return []string{tableInsert, tableCapture, tableDrain, tableLatency, tableIdle, tablePinned, tableCascade, tableWAL}
}

// Validate tells whether the options name tables that exist.
func (o Options) Validate() error {
	for _, name := range o.Tables {
		if !slices.Contains(TableNames(), name) {
			return fmt.Errorf("no table %q; there are: %s", name, strings.Join(TableNames(), ", "))
		}
	}
	return nil
}

func (o Options) withDefaults() (Options, error) {
	if err := o.Validate(); err != nil {
		return o, err
	}
	if len(o.Tables) == 0 {
		o.Tables = TableNames()
	}
	if o.Rounds <= 0 {
		o.Rounds = 5
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.sizes == nil {
		o.sizes = &fullSizes
		if o.Quick {
			o.sizes = &quickSizes
		}
	}
	return o, nil
}

// run is one run of the benchmark.
type run struct {
	o     Options
	sizes sizes
	fleet *fleet
	meter *meter
	hosts map[string]*host // of the tables that share databases; nil when absent
	// closers end what a table has started, after its last section.
	closers []func(ctx context.Context) error
}

// Run measures. An error means that there are no figures: something broke, or events were lost. When ctx ends, the
// error is its cause. The databases are dropped in each case.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if o, err = o.withDefaults(); err != nil {
		return report, err
	}
	begin := time.Now()
	if o.DSN == "" {
		server, err := startServer(ctx)
		if err != nil {
			return report, cause(ctx, err)
		}
		defer func() { err = errors.Join(err, server.Remove()) }()
		o.DSN = server.SocketDSN("postgres")
		o.Say("throw-away server started, fsync on")
	}
	fleet, err := newFleet(ctx, o)
	if err != nil {
		return report, cause(ctx, err)
	}
	defer func() {
		err = cause(ctx, err)
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if cleanup := fleet.close(clean); cleanup != nil {
			err = errors.Join(err, cleanup)
		}
	}()
	conn, err := connect(ctx, o.DSN)
	if err != nil {
		return report, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	r := &run{o: o, sizes: *o.sizes, fleet: fleet, meter: newMeter(ctx, conn), hosts: map[string]*host{}}
	if report.Setup, err = r.setup(ctx, begin); err != nil {
		return report, err
	}
	for _, t := range r.tables() {
		if !slices.Contains(o.Tables, t.name) {
			continue
		}
		table, err := r.table(ctx, t)
		if err != nil {
			return report, fmt.Errorf("table %s: %w", t.name, err)
		}
		report.Tables = append(report.Tables, table)
	}
	report.Checks = report.judge(targets())
	report.Setup.Seconds = time.Since(begin).Seconds()
	return report, nil
}

// cause is why a run ended early: what broke after ctx had ended broke because of it.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// tableDef is how a table comes about.
type tableDef struct {
	name, title, note string
	columns           []Column
	sections          func(ctx context.Context) ([]section, error)
}

// tables are all tables in the order of a run.
func (r *run) tables() []tableDef {
	return []tableDef{
		r.insertTable(), r.captureTable(), r.drainTable(), r.latencyTable(), r.idleTable(), r.pinnedTable(),
		r.cascadeTable(), r.walTable(),
	}
}

// section is one workload with those who do it.
type section struct {
	name       string
	commit     string
	reference  string
	events     int
	once       bool // one round, without warming up: what is measured does not scatter
	warm       bool // the contenders warm up by themselves
	contenders []contender
}

// contender is one way to do the work of a section.
type contender struct {
	name   string
	absent string // why it cannot be measured
	// reset makes ready for a round, run does it and says what it measured.
	reset func(ctx context.Context) error
	run   func(ctx context.Context) (figures, error)
}

// figures are what one round measured, by column.
type figures map[string]float64

const (
	asynchronous = "asynchronous"
	synchronous  = "synchronous"
)

// Columns that several tables have.
const (
	figCPU  = "server_cpu_us"
	figWall = "wall_us"
	figWAL  = "wal_bytes"
)

// perEventColumns are the columns of what is measured per event.
var perEventColumns = []Column{
	{figCPU, "server CPU µs/event", 2, true},
	{figWall, "wall µs/event", 2, true},
	{figWAL, "WAL B/event", 0, false},
}

// table runs one table.
func (r *run) table(ctx context.Context, def tableDef) (t Table, err error) {
	t = Table{Name: def.name, Title: def.title, Note: def.note, Columns: def.columns}
	r.o.Say(def.name + ": preparing")
	defer func() {
		for _, end := range r.closers {
			err = errors.Join(err, end(context.WithoutCancel(ctx)))
		}
		r.closers = nil
	}()
	sections, err := def.sections(ctx)
	if err != nil {
		return t, err
	}
	for _, s := range sections {
		result, err := r.section(ctx, def, s)
		if err != nil {
			return t, fmt.Errorf("%s: %w", s.name, err)
		}
		t.Sections = append(t.Sections, result)
	}
	return t, nil
}

// section runs the rounds of one section, interleaved and in rotating order, the first one for warming up.
func (r *run) section(ctx context.Context, def tableDef, s section) (Section, error) {
	result := Section{Name: s.name, Commit: s.commit, Reference: s.reference, Events: s.events}
	var present []int
	for i, c := range s.contenders {
		result.Rows = append(result.Rows, Row{Name: c.name, Absent: c.absent, Rounds: map[string][]float64{}})
		if c.absent == "" {
			present = append(present, i)
		}
	}
	begin := time.Now()
	if _, err := r.fleet.conn.Exec(ctx, "checkpoint"); err != nil {
		r.o.Say("no right to checkpoint: full pages in the WAL may fall on anybody")
	}
	first, last := -1, r.o.Rounds
	if s.once {
		last = 1
	}
	if s.once || s.warm {
		first = 0
	}
	for round := first; round < last; round++ {
		for k := range present {
			i := present[(k+round+len(present))%len(present)]
			f, err := runRound(ctx, s.contenders[i])
			if err != nil {
				return result, fmt.Errorf("%s: %w", s.contenders[i].name, err)
			}
			if round < 0 {
				continue
			}
			for id, v := range f {
				result.Rows[i].Rounds[id] = append(result.Rows[i].Rounds[id], v)
			}
		}
	}
	result.settle(def.columns)
	r.o.Say(fmt.Sprintf("%s: %s: %d contenders, %d rounds, %.1f s", def.name, s.name, len(present), last,
		time.Since(begin).Seconds()))
	return result, nil
}

func runRound(ctx context.Context, c contender) (figures, error) {
	if c.reset != nil {
		if err := c.reset(ctx); err != nil {
			return nil, fmt.Errorf("make ready: %w", err)
		}
	}
	return c.run(ctx)
}

// host returns the shared database of a system, made on first use; nil with the reason when it is absent.
func (r *run) host(ctx context.Context, system string) (h *host, absent string, err error) {
	h, known := r.hosts[system]
	if !known {
		if h, err = r.fleet.make(ctx, system, "q"); err != nil {
			return nil, "", err
		}
		r.hosts[system] = h
	}
	return h, r.fleet.absent[system], nil
}

// release drops the shared databases, so that nothing happens in them while others are watched.
func (r *run) release(ctx context.Context) error {
	for system, h := range r.hosts {
		if err := r.fleet.drop(ctx, h); err != nil {
			return err
		}
		delete(r.hosts, system)
	}
	return nil
}

// counted fails when the number of events is not what it must be.
func counted(got, want int) error {
	if got != want {
		return fmt.Errorf("%d events instead of %d", got, want)
	}
	return nil
}

// pause waits for d; the error is the cause of the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// setup describes the run.
func (r *run) setup(ctx context.Context, begin time.Time) (Setup, error) {
	s := Setup{
		Started: begin.UTC().Truncate(time.Second), Skyd: r.o.Version, Rounds: r.o.Rounds, Quick: r.o.Quick, ServerCPU: r.meter.why,
		Settings: map[string]string{}, Payload: len(payload(0)),
		Machine: Machine{OS: goruntime.GOOS, Arch: goruntime.GOARCH, CPUs: goruntime.NumCPU()},
	}
	s.Machine.Model, s.Machine.Memory = machine()
	var err error
	if s.Server, err = get[string](ctx, r.fleet.conn, `select pg_catalog.version()`); err != nil {
		return s, err
	}
	rows, err := r.fleet.conn.Query(ctx, `
select name, pg_catalog.current_setting(name) from pg_catalog.pg_settings
 where name in ('shared_buffers', 'fsync', 'full_page_writes', 'wal_level', 'max_wal_size', 'checkpoint_timeout', 'jit',
       'wal_compression', 'autovacuum', 'wal_buffers', 'commit_delay', 'huge_pages', 'data_checksums')`)
	if err != nil {
		return s, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return s, err
		}
		s.Settings[name] = value
	}
	return s, rows.Err()
}

// machine tells the processor and the memory, where the kernel does.
func machine() (model string, memory int64) {
	text, _ := os.ReadFile("/proc/cpuinfo") // elsewhere there is none
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	text, _ = os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemTotal:" {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			memory = kilobytes * 1024
			break
		}
	}
	return model, memory
}

// findPython finds an interpreter that has the original's consumer; "" with the reason when there is none.
func (r *run) findPython(ctx context.Context) (python, absent string) {
	candidates := []string{r.o.Python}
	if r.o.Python == "" {
		candidates = []string{"python3", "/usr/bin/python3"}
	}
	for _, name := range candidates {
		if exec.CommandContext(ctx, name, "-c", "import pgq, psycopg2; pgq.Consumer").Run() == nil {
			return name, ""
		}
	}
	return "", "no python3 with modules pgq and psycopg2"
}
