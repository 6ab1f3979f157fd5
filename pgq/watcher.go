package pgq

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// watchIdle is the shortest period of looks after watchWarm without news:
	// a look costs the server about 30 microseconds.
	watchIdle = 5 * time.Millisecond
	watchWarm = 2 * time.Second
	// watchFailed is the pause after a look that failed.
	watchFailed = 500 * time.Millisecond
	// stragglerPause bounds the pauses between calls for a transaction that
	// took an event id and has not ended.
	stragglerPause = time.Second
)

// watcher looks for all waiting consumers of a DB at once whether there may be
// new events, with one statement that costs neither a transaction id nor WAL.
// The zero value is ready.
type watcher struct {
	mu     sync.Mutex
	queues map[string]*watched
	users  int
	kick   chan struct{} // one token when somebody began to wait
	stop   context.CancelFunc
	done   chan struct{}
}

// watched is one queue with the consumers that wait for it.
type watched struct {
	waiting []*watch
	unseen  bool          // look, also without a commit
	known   bool          // there was a look
	counter int64         // of events
	mark    string        // snapshot of the last call for it
	pause   time.Duration // between calls while the counter stands
	again   time.Time     // not before
}

// watch is one consumer's view of its queue.
type watch struct {
	w      *watcher
	queue  string
	period time.Duration
	c      chan struct{} // one token when there may be something new
}

// join starts watching for one consumer; leave ends it.
func (w *watcher) join(ctx context.Context, db *DB, queue string, period time.Duration) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.users++; w.users == 1 {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		w.queues, w.kick, w.stop, w.done = map[string]*watched{}, make(chan struct{}, 1), cancel, make(chan struct{})
		go w.run(ctx, db, w.kick, w.done)
	}
	return &watch{w: w, queue: queue, period: period, c: make(chan struct{}, 1)}
}

// leave ends the watch, and with the last one the watcher.
func (s *watch) leave() {
	w := s.w
	w.mu.Lock()
	w.users--
	last := w.users == 0
	stop, done := w.stop, w.done
	w.mu.Unlock()
	if last {
		stop()
		<-done
	}
}

// begin says that the consumer waits from now on; end that it does not.
func (s *watch) begin() {
	w := s.w
	w.mu.Lock()
	q := w.queues[s.queue]
	if q == nil {
		q = &watched{}
		w.queues[s.queue] = q
	}
	q.waiting, q.unseen = append(q.waiting, s), true
	kick := w.kick
	w.mu.Unlock()
	select {
	case kick <- struct{}{}:
	default:
	}
}

func (s *watch) end() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if q := s.w.queues[s.queue]; q != nil {
		q.waiting = slices.DeleteFunc(q.waiting, func(o *watch) bool { return o == s })
	}
	select {
	case <-s.c: // it asks anyway
	default:
	}
}

// wanted is what has to be looked at and how soon; unseen says that an
// unchanged snapshot is no answer for all of it.
func (w *watcher) wanted() (queues []string, period time.Duration, unseen bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, q := range w.queues {
		if len(q.waiting) == 0 {
			continue
		}
		queues = append(queues, name)
		unseen = unseen || q.unseen
		for _, s := range q.waiting {
			if period == 0 || s.period < period {
				period = s.period
			}
		}
	}
	return queues, period, unseen
}

// run looks until the context ends.
func (w *watcher) run(ctx context.Context, db *DB, kick <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	var (
		mark string
		news = time.Now()
	)
	for ctx.Err() == nil {
		queues, period, _ := w.wanted()
		if len(queues) == 0 {
			select {
			case <-ctx.Done():
			case <-kick:
			}
			continue
		}
		if time.Since(news) > watchWarm {
			period = max(period, watchIdle)
		}
		sleep(ctx, period)
		queues, _, unseen := w.wanted()
		now, err := w.look(ctx, db, queues, mark, unseen)
		if err != nil {
			mark = ""
			sleep(ctx, watchFailed) // the consumers poll and say what is wrong
			continue
		}
		if now != mark {
			mark, news = now, time.Now()
		}
	}
}

// look asks the server once, or twice when something was committed, and wakes
// whom it concerns. The mark is read first: what is committed in between
// changes the next one.
func (w *watcher) look(ctx context.Context, db *DB, queues []string, mark string, unseen bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	now, err := SnapshotMark(ctx, db)
	if err != nil || len(queues) == 0 || (now == mark && !unseen) {
		return now, err
	}
	const countersSQL = `
select q.queue_name, coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(q.queue_event_seq)), 0)
  from pgq.queue q
 where q.queue_name = any ($1)`
	rows, err := db.Query(ctx, countersSQL, queues)
	if err != nil {
		return now, err
	}
	var (
		name    string
		counter int64
		at      = time.Now()
	)
	_, err = pgx.ForEachRow(rows, []any{&name, &counter}, func() error {
		w.saw(name, counter, now, at)
		return nil
	})
	return now, err
}

// saw takes over what a look found, and wakes.
//
// The counter moves when an event takes its id, not when it is committed, and
// no snapshot tells which transactions are under way beyond its end. So after
// the counter has moved any commit may be the one that matters. Calls for it
// come at growing distances: an event is late by no more than its transaction
// took, or by stragglerPause.
func (w *watcher) saw(name string, counter int64, mark string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[name]
	if q == nil {
		return
	}
	q.unseen = false
	switch {
	case !q.known || counter != q.counter:
		q.known, q.counter, q.pause = true, counter, 0
	case mark == q.mark:
		return
	case now.Before(q.again):
		q.unseen = true
		return
	default:
		q.pause = min(2*q.pause+time.Millisecond, stragglerPause)
	}
	q.mark, q.again = mark, now.Add(q.pause)
	for _, s := range q.waiting {
		select {
		case s.c <- struct{}{}:
		default:
		}
	}
}
