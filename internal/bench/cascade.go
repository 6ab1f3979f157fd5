package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

// Sections and rows of the cascade table that targets name.
const (
	cascadeCopy  = "branch copy, 200 B"
	cascadeCopy2 = "branch copy, 2 kB"
	rowPipe      = "COPY BINARY piped into a table with the same index"
	rowBranch    = "skyd branch, with commit and tick"

	cascadeSwitch = "switchover under load"
	rowSwitch     = "skyd switchover, 4 writers"

	rowAtRoot  = "consumer at the root"
	rowTwoHops = "leaf's handler, two hops"

	figHeld   = "writes_held_ms"
	figGap    = "longest_gap_ms"
	figWhole  = "switchover_ms"
	figEvents = "events_per_second"
)

func cascadeHops(rate int) string { return fmt.Sprintf("two hops, %d/s", rate) }

// cascadeQueue is the queue of all three nodes; the same as that of the latency table, whose delivery is used.
const cascadeQueue = latencyQueue

// line is a cascade of three databases: root, branch, leaf.
type line struct {
	hosts map[string]*host
	root  string // node that is the root now
	round int
	tag   string // type of the events of this round: those of an earlier one may still be under way
}

// makeLine makes the databases and the nodes.
func (r *run) makeLine(ctx context.Context) (*line, error) {
	l := &line{hosts: map[string]*host{}, root: "r"}
	for _, n := range []struct {
		name     string
		typ      cascade.NodeType
		provider string
	}{{"r", cascade.Root, ""}, {"b", cascade.Branch, "r"}, {"l", cascade.Leaf, "b"}} {
		h, err := r.fleet.make(ctx, hostSkyd, n.name)
		if err != nil {
			return nil, err
		}
		l.hosts[n.name] = h
		admin := cascade.NewAdmin(h.db, cascadeQueue, cascade.AdminOptions{})
		c := cascade.Creation{Type: n.typ, Name: n.name, Location: h.libpq()}
		if n.provider != "" {
			c.Provider = l.hosts[n.provider].libpq()
		}
		plan, err := admin.PlanCreate(ctx, c)
		if err == nil {
			err = plan.Run(ctx, func(cascade.Step) {})
		}
		admin.Close()
		if err != nil {
			return nil, err
		}
	}
	root := l.hosts["r"].db
	for _, kv := range [][2]string{{"ticker_max_lag", "0"}, {"ticker_max_count", "1"}} {
		if err := pgq.SetQueueConfig(ctx, root, cascadeQueue, kv[0], kv[1]); err != nil {
			return nil, err
		}
	}
	_, err := pgq.RegisterConsumer(ctx, root, cascadeQueue, latencyConsumer)
	return l, err
}

// daemon runs skyd run for all three nodes; the leaf hands its events over.
func (l *line) daemon(ctx context.Context, got func(data string)) error {
	c := configs.DefaultConfig()
	c.Instance = "bench"
	c.ShutdownTimeout = 5 * time.Second
	c.HTTP.Listen, c.Control.Socket = configs.None, configs.None
	c.Ticker.MinPeriod = 2 * time.Millisecond
	var nodes []runtime.Node
	for name, h := range l.hosts {
		c.Databases = append(c.Databases, configs.Database{
			Name: name, DSN: h.dsn, CheckPeriod: c.CheckPeriod, Ticker: c.Ticker, Maintenance: c.Maintenance,
		})
		n := runtime.Node{Config: configs.DefaultNode()}
		n.Config.Queue, n.Config.Name, n.Config.Database = cascadeQueue, name, name
		if name == "l" {
			n.Applier = handed{l.tag, got}
		}
		nodes = append(nodes, n)
	}
	d, err := runtime.New(ctx, c, runtime.Options{Log: slog.New(slog.DiscardHandler), Nodes: nodes})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// handed is a handler at a leaf.
type handed struct {
	tag string
	got func(data string)
}

// Apply implements cascade.Applier.
func (f handed) Apply(_ context.Context, _ pgx.Tx, _ cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
	for ev, err := range events {
		if err != nil {
			return err
		}
		if ev.Type.String == f.tag {
			f.got(ev.Data.String)
		}
	}
	return nil
}

// cascadeTable is the table of the cascade.
func (r *run) cascadeTable() tableDef {
	return tableDef{
		name: tableCascade, title: "Cascade: copy of a branch, lag over two hops, pause of a switchover", sections: r.cascadeSections,
		columns: []Column{
			{figWall, "wall µs/event", 2, true},
			{figCPU, "server CPU µs/event", 2, true},
			{figP50, "p50 ms", 1, true},
			{figP99, "p99 ms", 1, true},
			{figHeld, "writes held ms", 0, false},
			{figGap, "longest gap of a writer ms", 0, false},
			{figWhole, "whole ms", 0, false},
			{figEvents, "events/s", 0, false},
		},
		note: "Three databases of one server: root, branch, leaf. The copy is of one batch in one transaction. The lag is " +
			"from the reply to the commit at the root to the handler at the leaf, with ticks as soon as there is an event. " +
			"Writes are held from the transaction that closes the old root to the one that opens the new one; a writer's gap " +
			"is between two commits that were answered, whoever took them.",
	}
}

func (r *run) cascadeSections(ctx context.Context) ([]section, error) {
	l, err := r.makeLine(ctx)
	if err != nil {
		return nil, err
	}
	var sections []section
	for _, size := range []int{200, 2000} {
		s := section{
			name: map[int]string{200: cascadeCopy, 2000: cascadeCopy2}[size], commit: synchronous, reference: rowPipe,
			events: r.sizes.branch * 200 / size,
		}
		b := &branchCopy{run: r, l: l, n: s.events, size: size}
		s.contenders = []contender{{name: rowPipe, reset: b.fill, run: b.pipe}, {name: rowBranch, reset: b.fill, run: b.bring}}
		sections = append(sections, s)
	}
	for _, rate := range r.sizes.hops {
		s := section{
			name: cascadeHops(rate), commit: synchronous, reference: rowAtRoot,
			events: max(int(float64(rate)*r.sizes.latency.Seconds()), 1),
		}
		for name, consume := range map[string]func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error{
			rowAtRoot:  l.atRoot,
			rowTwoHops: func(ctx context.Context, _ *host, _ *pgq.DB, got func(data string)) error { return l.daemon(ctx, got) },
		} {
			s.contenders = append(s.contenders, contender{name: name, run: func(ctx context.Context) (figures, error) {
				l.round++
				l.tag = fmt.Sprintf("bench%d", l.round)
				w := courier{
					system: hostSkyd, name: name, send: `select pgq.insert_event('latency', '` + l.tag + `', $1)`, consume: consume,
				}
				h := l.hosts["r"]
				f, err := deliver(ctx, h, h.durable, w, rate, s.events)
				if err == nil && f[figLost] != 0 {
					err = fmt.Errorf("%g of %d events lost", f[figLost], s.events)
				}
				return f, err
			}})
		}
		slices.SortFunc(s.contenders, func(a, b contender) int { return strings.Compare(a.name, b.name) })
		sections = append(sections, s)
	}
	return append(sections, section{
		name: cascadeSwitch, commit: synchronous, reference: rowSwitch, warm: true,
		contenders: []contender{{name: rowSwitch, run: func(ctx context.Context) (figures, error) { return l.switchover(ctx, r.sizes.latency) }}},
	}), nil
}

// atRoot is the consumer of the Go client at the root, ticked by the same daemon.
func (l *line) atRoot(ctx context.Context, _ *host, db *pgq.DB, got func(data string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.daemon(ctx, func(string) {}) }()
	handler := pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			if ev.Type.String == l.tag {
				got(ev.Data.String)
			}
		}
		return nil
	})
	err := pgq.NewConsumer(db, cascadeQueue, latencyConsumer, handler, pgq.ConsumerOptions{}).Run(ctx)
	cancel()
	return errors.Join(err, <-ended)
}

// branchCopy brings batches to the branch in two ways.
type branchCopy struct {
	*run
	l       *line
	n, size int
	txid    int64
	worker  *cascade.Worker
}

// fill makes a batch of the wanted size; the branch has all that was before it.
func (b *branchCopy) fill(ctx context.Context) error {
	root, branch := b.l.hosts["r"].durable, b.l.hosts["b"].durable
	if b.worker == nil {
		b.worker = cascade.NewWorker(branch, cascadeQueue, cascade.WorkerOptions{PollPeriod: time.Millisecond, MarkPeriod: time.Hour})
		if err := do(ctx, branch, `drop table if exists public.bench_pipe`, `create table public.bench_pipe (like pgq.event_template including all)`,
			`create index on public.bench_pipe (ev_txid)`); err != nil {
			return err
		}
	}
	if err := b.tickAndFollow(ctx); err != nil {
		return err
	}
	const events = `
with i as materialized (select pgq.insert_event($3, 'copy', repeat('x', $2)) from generate_series(1, $1))
select pg_catalog.txid_current() from (select count(*) from i) c`
	err := root.QueryRow(ctx, events, b.n, b.size, cascadeQueue).Scan(&b.txid)
	if err == nil {
		err = do(ctx, branch, `truncate public.bench_pipe`)
	}
	return err
}

// tickAndFollow makes a tick and lets the branch come up to it.
func (b *branchCopy) tickAndFollow(ctx context.Context) error {
	root := b.l.hosts["r"].durable
	if _, err := root.Exec(ctx, `select pgq.ticker($1)`, cascadeQueue); err != nil {
		return err
	}
	info, err := pgq.GetQueueInfo(ctx, root, cascadeQueue)
	if err != nil {
		return err
	}
	for {
		p, err := b.worker.Step(ctx)
		if err != nil || p.Top >= info.LastTick {
			return err
		}
	}
}

// bring lets the worker of the branch bring the batch.
func (b *branchCopy) bring(ctx context.Context) (figures, error) {
	f, err := b.meter.perEvent(ctx, b.n, b.tickAndFollow)
	b.worker.Close() // a daemon may come after
	b.worker = nil
	return f, err
}

// pipe is the physical copy: one COPY into another.
func (b *branchCopy) pipe(ctx context.Context) (figures, error) {
	return b.meter.perEvent(ctx, b.n, func(ctx context.Context) error {
		from, err := b.l.hosts["r"].durable.Acquire(ctx)
		if err != nil {
			return err
		}
		defer from.Release()
		to, err := b.l.hosts["b"].durable.Acquire(ctx)
		if err != nil {
			return err
		}
		defer to.Release()
		const fields = `ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`
		table, err := get[string](ctx, b.l.hosts["r"].durable, `select queue_data_pfx from pgq.queue where queue_name = $1`, cascadeQueue)
		if err != nil {
			return err
		}
		r, w := io.Pipe()
		go func() {
			_, err := from.Conn().PgConn().CopyTo(ctx, w, `copy (select `+fields+` from `+table+` where ev_txid = `+
				strconv.FormatInt(b.txid, 10)+` order by ev_id) to stdout (format binary)`)
			w.CloseWithError(err)
		}()
		tag, err := to.Conn().PgConn().CopyFrom(ctx, r, `copy public.bench_pipe (`+fields+`) from stdin (format binary)`)
		return errors.Join(err, counted(int(tag.RowsAffected()), b.n))
	})
}

// switchover moves the root to the other node under load, and back in the next round.
func (l *line) switchover(ctx context.Context, load time.Duration) (figures, error) {
	target := map[string]string{"r": "b", "b": "r"}[l.root]
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	ended := make(chan error, 1)
	wg.Go(func() { ended <- l.daemon(ctx, func(string) {}) })
	writers := make([]loader, 4)
	for i := range writers {
		wg.Go(func() { writers[i].run(ctx, l) })
	}
	if err := pause(ctx, load/2); err != nil {
		return nil, err
	}
	admin := cascade.NewAdmin(l.hosts[l.root].durable, cascadeQueue, cascade.AdminOptions{})
	defer admin.Close()
	var result *cascade.Result
	plan, err := admin.PlanTakeover(ctx, l.root, target, cascade.TakeoverOptions{Force: true, All: true})
	if err == nil {
		result, err = admin.Run(ctx, plan)
	}
	if err != nil {
		return nil, err
	}
	if result.Proof == nil || !result.Proof.Equal() {
		return nil, fmt.Errorf("no proof that %s and %s have the same", l.root, target)
	}
	l.root = target
	if err := pause(ctx, load/2); err != nil {
		return nil, err
	}
	cancel()
	wg.Wait()
	f := figures{figHeld: ms(result.Proof.WritesHeld), figWhole: ms(result.Proof.Took)}
	n := 0
	for i := range writers {
		n += writers[i].n
		f[figGap] = max(f[figGap], ms(writers[i].gap))
	}
	f[figEvents] = float64(n) / load.Seconds()
	return f, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// loader writes to whoever takes events.
type loader struct {
	n   int
	gap time.Duration // the longest between two answers
}

func (w *loader) run(ctx context.Context, l *line) {
	at, other := l.hosts["r"].durable, l.hosts["b"].durable
	var last time.Time
	for ctx.Err() == nil {
		if _, err := at.Exec(ctx, `select pgq.insert_event($1, 'load', 'x')`, cascadeQueue); err != nil {
			at, other = other, at
			_ = pause(ctx, time.Millisecond)
			continue
		}
		now := time.Now()
		if !last.IsZero() {
			w.gap = max(w.gap, now.Sub(last))
		}
		last = now
		w.n++
		_ = pause(ctx, 2*time.Millisecond)
	}
}

func cascadeTargets() []target {
	branch := target{
		name: "branch copy", table: tableCascade, section: cascadeCopy, row: rowBranch, against: rowPipe, figure: figWall,
		noMust: true, moonshot: 1.2,
	}
	big := branch
	big.name, big.section = "branch copy, 2 kB", cascadeCopy2
	held := target{
		name: "switchover: writes held ms", table: tableCascade, section: cascadeSwitch, row: rowSwitch, figure: figHeld,
		must: 500, moonshot: 100,
	}
	return []target{branch, big, held}
}
