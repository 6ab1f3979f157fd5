package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Columns of the idle table.
const (
	figIdleWAL = "wal_bytes_per_minute"
	figXids    = "xids_per_minute"
	figCommits = "transactions_per_s"
	figShare   = "server_cpu_percent"
	figSettled = "settled_s"
)

const rowSkydRun = "skyd run"

// idler is a ticker that has nothing to do.
type idler struct {
	system string
	name   string
	beside func(ctx context.Context, h *host, db *pgq.DB) error
	// quiets tells whether it is worth waiting for silence.
	quiets bool
}

func idlers() []idler {
	return []idler{
		{system: hostSkyd, name: rowSkydRun, beside: daemon(nil), quiets: true},
		{system: hostPgQ, name: "PgQ C, ticker every 1 s", beside: tickEvery(time.Second)},
		{system: hostPgQue, name: "PgQue, ticker every 100 ms", beside: tickEvery(100 * time.Millisecond)},
		{system: hostPgQue, name: "PgQue, ticker every 10 ms", beside: tickEvery(10 * time.Millisecond)},
	}
}

// idleTable is the table of what nothing costs.
func (r *run) idleTable() tableDef {
	return tableDef{
		name: tableIdle, title: "Idle: what a ticker costs when nobody produces", sections: r.idleSections,
		columns: []Column{
			{figIdleWAL, "WAL B/min", 0, false},
			{figXids, "xids/min", 0, false},
			{figCommits, "transactions/s", 1, false},
			{figShare, "server CPU %", 2, false},
			{figSettled, "settled after s", 0, false},
		},
		note: "One look of " + r.sizes.idle.String() + " at skyd run, the first in which nothing was written, or, when there was none " +
			"before, the one after " + r.sizes.settle.String() + ": it leaves idle ticks out once it has proved that nothing can be waiting. " +
			"Who never gets quiet has one of " + (r.sizes.idle / 3).String() + ". The figures are scaled to a minute.",
	}
}

// idleSection names a section.
func idleSection(queues int) string {
	if queues == 1 {
		return "1 queue"
	}
	return fmt.Sprintf("%d queues", queues)
}

func (r *run) idleSections(ctx context.Context) ([]section, error) {
	if err := r.release(ctx); err != nil {
		return nil, err
	}
	own := map[string]*host{}
	var sections []section
	for _, queues := range r.sizes.idleQueues {
		s := section{name: idleSection(queues), commit: asynchronous, once: true}
		for _, w := range idlers() {
			h, known := own[w.system]
			if !known {
				var err error
				if h, err = r.fleet.make(ctx, w.system, "idle"); err != nil {
					return nil, err
				}
				own[w.system] = h
			}
			c := contender{name: w.name, absent: r.fleet.absent[w.system]}
			c.reset = func(ctx context.Context) error { return h.queues(ctx, queues) }
			c.run = func(ctx context.Context) (figures, error) { return r.watch(ctx, h, w) }
			s.contenders = append(s.contenders, c)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// queues makes queues until there are so many, each with a consumer.
func (h *host) queues(ctx context.Context, n int) error {
	schema := h.schema()
	have, err := get[int](ctx, h.db, "select count(*) from "+schema+".queue")
	if err != nil {
		return err
	}
	for i := have + 1; i <= n && err == nil; i++ {
		// One transaction for each: a queue takes locks on all that it makes.
		name := fmt.Sprintf("idle%d", i)
		if _, err = h.db.Exec(ctx, "select "+schema+".create_queue($1)", name); err == nil {
			_, err = h.db.Exec(ctx, "select "+schema+".register_consumer($1, 'bench')", name)
		}
	}
	if err != nil {
		return err
	}
	return do(ctx, h.db, "vacuum analyze")
}

// sample is what the server has used up at a moment.
type sample struct {
	reading
	commits int64
}

// watch runs a ticker until it has settled, and looks at what it costs.
func (r *run) watch(ctx context.Context, h *host, w idler) (figures, error) {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := w.beside(inner, h, h.db); err != nil && inner.Err() == nil {
			failed <- err
		}
	})
	settled, begin, end, err := r.look(ctx, h, w.quiets)
	cancel()
	wg.Wait()
	if err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	took := end.wall.Sub(begin.wall)
	f := figures{
		figIdleWAL: float64(end.wal-begin.wal) / took.Minutes(), figXids: float64(end.xid-begin.xid) / took.Minutes(),
		figCommits: float64(end.commits-begin.commits) / took.Seconds(), figSettled: settled.Seconds(),
	}
	if r.meter.cpu != nil {
		f[figShare] = 100 * float64(end.cpu-begin.cpu) / float64(took)
	}
	return f, nil
}

// look gives both ends of the first whole look in which nothing was written, and how long that took to begin; when there
// is none within the time to settle, of the look after that. Who never gets quiet has a third of a look, after a
// twelfth to start.
func (r *run) look(ctx context.Context, h *host, quiets bool) (settled time.Duration, begin, end sample, err error) {
	length, limit := r.sizes.idle, r.sizes.settle
	if !quiets {
		length, limit = length/3, length/12
	}
	start := time.Now()
	var seen []sample
	for {
		s, err := r.sample(ctx, h)
		if err != nil {
			return 0, begin, end, err
		}
		seen = append(seen, s)
		for len(seen) > 1 && s.wall.Sub(seen[1].wall) >= length {
			seen = seen[1:]
		}
		begin, end = seen[0], s
		whole := end.wall.Sub(begin.wall) >= length
		silent := quiets && end.wal == begin.wal && end.xid == begin.xid
		if whole && (silent || begin.wall.Sub(start) >= limit) {
			return begin.wall.Sub(start), begin, end, nil
		}
		if err := pause(ctx, length/60); err != nil {
			return 0, begin, end, err
		}
	}
}

// sample reads the meter and what was committed in the database of a host.
func (r *run) sample(ctx context.Context, h *host) (s sample, err error) {
	if s.reading, err = r.meter.read(ctx); err != nil {
		return s, err
	}
	s.commits, err = get[int64](ctx, r.meter.conn,
		"select xact_commit from pg_catalog.pg_stat_database where datname = $1", h.name)
	return s, err
}
