package demo

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// eventsPerTransfer is one for each row that a transfer changes.
const eventsPerTransfer = 4

// workload makes transfers until it is told to finish.
type workload struct {
	db          *pgq.DB
	connections int
	pause       time.Duration // of one connection between transfers, on average
	quit        chan struct{}
	finish      func()

	ids        atomic.Int64
	committed  atomic.Int64 // known to be
	found      atomic.Int64 // of them: the answer to the commit was lost
	rolledBack atomic.Int64 // on purpose
	repeated   atomic.Int64 // attempts that failed

	mu    sync.Mutex
	acked []int64
}

// openWorkload makes the workload; it does not connect yet.
func openWorkload(ctx context.Context, dsn string, o Options) (*workload, error) {
	db, err := pgq.Open(ctx, dsn, pgq.WithApplicationName("skyd/demo/workload"), pgq.WithMaxConns(int32(o.Connections)),
		pgq.WithPreparedStatements())
	if err != nil {
		return nil, err
	}
	w := &workload{
		db: db, connections: o.Connections, quit: make(chan struct{}),
		pause: time.Second * time.Duration(o.Connections) / time.Duration(o.Rate),
	}
	w.finish = sync.OnceFunc(func() { close(w.quit) })
	return w, nil
}

func (w *workload) close() { w.db.Close() }

// run returns when all transfers under way are decided after finish, or when ctx ends.
func (w *workload) run(ctx context.Context) error {
	errs := make([]error, w.connections)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() { errs[i] = w.work(ctx) })
	}
	wait.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errs...)
}

// work makes one transfer after the other, at its pace: what a transfer took longer than its share is not made up for.
func (w *workload) work(ctx context.Context) error {
	var acked []int64
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.acked = append(w.acked, acked...)
	}()
	for {
		due := time.Now().Add(time.Duration(rand.Int64N(int64(2*w.pause) + 1)))
		t := w.draw()
		committed, err := w.transfer(ctx, t)
		if err != nil {
			return err
		}
		if committed {
			acked = append(acked, t.id)
		}
		wait := time.NewTimer(time.Until(due))
		select {
		case <-wait.C:
		case <-w.quit:
			wait.Stop()
			return nil
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		}
	}
}

// transfer is one transaction: money comes to an account over a teller of its branch.
type transfer struct {
	id            int64
	aid, tid, bid int
	delta         int64
	abandon       bool // roll back at the end
}

func (w *workload) draw() transfer {
	bid := 1 + rand.IntN(branches)
	return transfer{
		id: w.ids.Add(1), bid: bid, tid: (bid-1)*10 + 1 + rand.IntN(10), aid: (bid-1)*1000 + 1 + rand.IntN(1000),
		delta: rand.Int64N(10001) - 5000, abandon: rand.IntN(20) == 0,
	}
}

// errAbandoned rolls a transfer back.
var errAbandoned = errors.New("rolled back on purpose")

// uniqueViolation is the SQLSTATE of a key that is there already.
const uniqueViolation = "23505"

// transfer makes a transfer happen, whatever becomes of connections and server. Its number is the key of its row in
// the history, so an attempt whose answer was lost cannot be repeated by mistake: the key is taken if it succeeded.
func (w *workload) transfer(ctx context.Context, t transfer) (committed bool, err error) {
	for attempt := 0; ; attempt++ {
		err := w.attempt(ctx, t)
		switch {
		case err == nil:
			w.committed.Add(1)
			return true, nil
		case errors.Is(err, errAbandoned):
			w.rolledBack.Add(1)
			return false, nil
		case attempt > 0 && pgq.SQLState(err) == uniqueViolation:
			w.committed.Add(1)
			w.found.Add(1)
			return true, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case !pgq.Retryable(err):
			return false, err
		}
		w.repeated.Add(1)
		if err := sleep(ctx, 20*time.Millisecond+rand.N(80*time.Millisecond)); err != nil {
			return false, err
		}
	}
}

const (
	insertHistory  = `insert into bank.history (txn, tid, bid, aid, delta) values ($1, $2, $3, $4, $5)`
	updateAccounts = `update bank.accounts set balance = balance + $2, changes = changes + 1, last_txn = $3 where aid = $1`
	updateTellers  = `update bank.tellers set balance = balance + $2, changes = changes + 1, last_txn = $3 where tid = $1`
	updateBranches = `update bank.branches set balance = balance + $2, changes = changes + 1, last_txn = $3 where bid = $1`
)

// attempt tries a transfer once.
func (w *workload) attempt(ctx context.Context, t transfer) error {
	return pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) error {
		var b pgx.Batch
		b.Queue(insertHistory, t.id, t.tid, t.bid, t.aid, t.delta)
		b.Queue(updateAccounts, t.aid, t.delta, t.id)
		b.Queue(updateTellers, t.tid, t.delta, t.id)
		b.Queue(updateBranches, t.bid, t.delta, t.id)
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
		if t.abandon {
			return errAbandoned
		}
		return nil
	})
}

// acknowledged returns the numbers of all transfers known to be committed; valid after run.
func (w *workload) acknowledged() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// count adds what only the workload knows.
func (w *workload) count(p *Proof) {
	p.AnswerLost, p.RolledBack, p.Repeated = w.found.Load(), w.rolledBack.Load(), w.repeated.Load()
}
