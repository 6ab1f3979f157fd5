package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Sample is the state of things while the workload runs.
type Sample struct {
	// Elapsed is the time since the workload began.
	Elapsed time.Duration
	// Written and Processed are events per second since the last sample: of committed transfers, and of the consumer.
	Written, Processed float64
	// Behind is how many events are committed and not processed yet.
	Behind int64
	// Lag is the age of the newest tick the consumer has finished.
	Lag time.Duration
	// P50 and P99 are percentiles of the time from the start of a transfer to the end of the consumer's work on its
	// events; 0 when there were none.
	P50, P99 time.Duration
	// Down means that the server does not answer; then there are no other figures.
	Down bool
}

// Activity is what daemon and consumer did.
type Activity struct {
	Ticks     int64 `json:"ticks"`
	Batches   int64 `json:"batches"`
	Rotations int64 `json:"rotations"` // of the queue's tables, as far as they were seen
}

// watcher looks at everything from time to time.
type watcher struct {
	o    Options
	db   *pgq.DB
	work *workload
	seen *latencies

	begun     time.Time
	firstTick int64
	switched  time.Time
	rotations int64

	at                 time.Time // of the last sample
	written, processed int64     // at the last sample
}

// begin notes where the counters start.
func (w *watcher) begin(ctx context.Context) {
	w.begun = time.Now()
	w.at = w.begun
	if q, err := pgq.GetQueueInfo(ctx, w.db, queueName); err == nil {
		w.firstTick, w.switched = q.LastTick, q.SwitchTime
	}
}

// run shows samples until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	for {
		if sleep(ctx, w.o.ShowEvery) != nil {
			return nil
		}
		if s, ok := w.sample(ctx); ok {
			w.o.Show(s)
		}
	}
}

const readTotals = `select batches, events from book.totals`

// sample takes a sample; not ok when the watch is over.
func (w *watcher) sample(ctx context.Context) (s Sample, ok bool) {
	qctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var batches, processed int64
	consumer, err := pgq.GetConsumerInfo(qctx, w.db, queueName, consumerName)
	if err == nil {
		err = w.db.QueryRow(qctx, readTotals).Scan(&batches, &processed)
	}
	written := w.work.committed.Load() * eventsPerTransfer
	now := time.Now()
	s.Elapsed = now.Sub(w.begun)
	if ctx.Err() != nil {
		return s, false
	}
	if err != nil {
		s.Down = true
		return s, true
	}
	seconds := now.Sub(w.at).Seconds()
	s.Written, s.Processed = float64(written-w.written)/seconds, float64(processed-w.processed)/seconds
	s.Behind, s.Lag = max(0, written-processed), consumer.Lag
	s.P50, s.P99 = w.seen.take()
	w.at, w.written, w.processed = now, written, processed
	w.noteRotation(qctx)
	return s, true
}

// noteRotation counts the rotations it sees.
func (w *watcher) noteRotation(ctx context.Context) {
	q, err := pgq.GetQueueInfo(ctx, w.db, queueName)
	if err != nil {
		return // the next look sees it
	}
	if q.SwitchTime.After(w.switched) {
		w.switched = q.SwitchTime
		w.rotations++
	}
}

// activity is valid after run.
func (w *watcher) activity(ctx context.Context) (a Activity, err error) {
	q, err := pgq.GetQueueInfo(ctx, w.db, queueName)
	if err != nil {
		return a, err
	}
	var events int64
	err = w.db.QueryRow(ctx, readTotals).Scan(&a.Batches, &events)
	a.Ticks, a.Rotations = q.LastTick-w.firstTick, w.rotations
	return a, err
}

// Crash is how long it took to come back after PostgreSQL was killed, each from the kill on.
type Crash struct {
	Server   time.Duration `json:"-"` // accepts connections
	Workload time.Duration `json:"-"` // a transfer is committed
	Daemon   time.Duration `json:"-"` // a tick is made
	Consumer time.Duration `json:"-"` // a batch is finished

	begin time.Time
}

// recoveryTimeout limits the wait for everybody to come back.
const recoveryTimeout = time.Minute

// crash kills the server, starts it again and waits until all are at work again.
func (s *show) crash(ctx context.Context) (c Crash, err error) {
	begin := time.Now()
	c.begin = begin
	s.o.Say("kill -9: all processes of PostgreSQL, in the middle of the work")
	if err := s.srv.Kill(); err != nil {
		return c, err
	}
	if err := s.srv.Start(ctx); err != nil {
		return c, err
	}
	c.Server = time.Since(begin)
	committed := s.work.committed.Load()
	s.o.Say(fmt.Sprintf("PostgreSQL started again, recovered in %s; nobody else is touched", Short(c.Server)))
	ctx, cancel := stuckAfter(ctx, "daemon, workload or consumer not at work again")
	defer cancel()
	var tick, batch int64 = -1, -1
	err = until(ctx, func() bool {
		note := func(d *time.Duration, happened bool) {
			if *d == 0 && happened {
				*d = time.Since(begin)
			}
		}
		note(&c.Workload, s.work.committed.Load() > committed)
		q, qerr := pgq.GetQueueInfo(ctx, s.db, queueName)
		var batches, events int64
		terr := s.db.QueryRow(ctx, readTotals).Scan(&batches, &events)
		if qerr != nil || terr != nil {
			return false
		}
		if tick < 0 {
			tick, batch = q.LastTick, batches
		}
		note(&c.Daemon, q.LastTick > tick)
		note(&c.Consumer, batches > batch)
		return c.Workload > 0 && c.Daemon > 0 && c.Consumer > 0
	})
	if err == nil {
		s.o.Say(fmt.Sprintf("back by themselves, after the kill: workload %s, daemon %s, consumer %s",
			Short(c.Workload), Short(c.Daemon), Short(c.Consumer)))
	}
	return c, err
}

// errStuck means that something that should go on by itself did not.
var errStuck = errors.New("stuck")

// drain waits until the consumer has finished everything that is committed now. It gives up quietly: what is missing
// then is for the proof to say.
func drain(ctx context.Context, db *pgq.DB) error {
	limit, cancel := context.WithTimeoutCause(ctx, drainTimeout, errStuck)
	defer cancel()
	begin := time.Now()
	err := until(limit, func() bool {
		// A finished tick that is younger than the beginning of the wait. The time waited is taken before the age of
		// the tick: the answer may be slow.
		waited := time.Since(begin)
		infos, err := pgq.QueueConsumerInfos(limit, db, queueName)
		done := err == nil
		for _, c := range infos {
			// The position of the group is what was given out; its members are done when they hold no batch.
			if c.Consumer == consumerName {
				done = done && c.Lag < waited
			} else {
				done = done && c.CurrentBatch == 0
			}
		}
		return done
	})
	if errors.Is(err, errStuck) {
		return nil
	}
	return err
}

// Short renders a duration for people.
func Short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}
