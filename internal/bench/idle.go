package bench

import (
	"context"
	"errors"
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
		note: "One look of " + r.sizes.idle.String() + " each, the figures scaled to a minute. skyd run leaves idle ticks out once " +
			"it has proved that nothing can be waiting; the look begins then, at the latest after " + r.sizes.settle.String() + ".",
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
	release, err := h.holdInserters(ctx)
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
	if err = errors.Join(err, release()); err == nil {
		err = do(ctx, h.db, "vacuum analyze")
	}
	return err
}

// holdInserters keeps skyd from writing its insert code anew for each of a thousand queues: it leaves that to later
// while another transaction is at it. The function returned lets it be written, once.
func (h *host) holdInserters(ctx context.Context) (release func() error, err error) {
	if h.system != hostSkyd {
		return func() error { return nil }, nil
	}
	tx, err := h.db.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "select pg_catalog.pg_advisory_xact_lock(1885827445, 0)"); err != nil {
		return nil, errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return func() error {
		if err := tx.Rollback(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		return do(ctx, h.db, "select pgq._make_inserters()")
	}, nil
}

// watch runs a ticker until it has settled, and then looks at what it costs.
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
	settled, err := r.untilQuiet(ctx, w.quiets)
	if err != nil {
		return nil, err
	}
	begin, err := r.meter.read(ctx)
	if err != nil {
		return nil, err
	}
	const commits = `select xact_commit from pg_catalog.pg_stat_database where datname = $1`
	done, err := get[int64](ctx, r.meter.conn, commits, h.name)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, r.sizes.idle); err != nil {
		return nil, err
	}
	end, err := r.meter.read(ctx)
	if err != nil {
		return nil, err
	}
	after, err := get[int64](ctx, r.meter.conn, commits, h.name)
	if err != nil {
		return nil, err
	}
	cancel()
	wg.Wait()
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	took := end.wall.Sub(begin.wall)
	f := figures{
		figIdleWAL: float64(end.wal-begin.wal) / took.Minutes(), figXids: float64(end.xid-begin.xid) / took.Minutes(),
		figCommits: float64(after-done) / took.Seconds(), figSettled: settled.Seconds(),
	}
	if r.meter.cpu != nil {
		f[figShare] = 100 * float64(end.cpu-begin.cpu) / float64(took)
	}
	return f, nil
}

// untilQuiet waits until nothing has been written for a quarter of the longest wait, but no longer than that; for those
// who never get quiet, a quarter of it.
func (r *run) untilQuiet(ctx context.Context, wait bool) (time.Duration, error) {
	begin := time.Now()
	quarter := r.sizes.settle / 4
	if !wait {
		return quarter, pause(ctx, quarter)
	}
	last, err := r.meter.read(ctx)
	if err != nil {
		return 0, err
	}
	for changed := time.Now(); time.Since(begin) < r.sizes.settle && time.Since(changed) < quarter; {
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return 0, err
		}
		now, err := r.meter.read(ctx)
		if err != nil {
			return 0, err
		}
		if now.wal != last.wal || now.xid != last.xid {
			last, changed = now, time.Now()
		}
	}
	return time.Since(begin), nil
}
