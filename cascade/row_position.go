package cascade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

const (
	// attendPeriod is the time between two looks at the flags of a node when no notification comes.
	attendPeriod = 250 * time.Millisecond
	// yieldAfter is how long a batch may go on after somebody asked for a pause.
	yieldAfter = 400 * time.Millisecond
)

// positionRow is the row of a consumer of this node in pgq_node.local_state: the truth about its position, and the place
// where it is told to pause or to change its provider.
type positionRow struct {
	db       *pgq.DB
	queue    string
	consumer string
	fence    func(b *pgx.Batch) bool
	timeout  time.Duration

	nudges *pgq.Wakeups
	stop   func()
}

// listen makes nudges arrive.
func (r *positionRow) listen(ctx context.Context) {
	if r.nudges == nil {
		r.nudges = pgq.NewWakeups(r.db, nudgeChannel(r.queue), nil)
		r.stop = background(ctx, r.nudges.Run)
	}
}

func (r *positionRow) close() {
	if r.nudges != nil {
		r.stop()
		r.nudges = nil
	}
}

// wait waits for a nudge, for a tick of the provider where wake is given, or for the time to look anyway. ticked: it was
// the tick.
func (r *positionRow) wait(ctx context.Context, wake *pgq.Wakeups, d time.Duration) (ticked bool) {
	var ticks <-chan struct{}
	if wake != nil {
		ticks = wake.C()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.nudges.C():
	case <-ticks:
		return true
	case <-t.C:
	}
	return false
}

// inOne runs statements as one transaction in one round trip, behind the fence.
func (r *positionRow) inOne(ctx context.Context, queue func(b *pgx.Batch)) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var b pgx.Batch
	if r.fence != nil {
		r.fence(&b)
	}
	queue(&b)
	return pgq.Classify(r.db.SendBatch(ctx, &b).Close())
}

// confirm says that the row was seen as it is; false: it has changed meanwhile.
func (r *positionRow) confirm(ctx context.Context, paused bool, provider string) (ok bool, err error) {
	const confirm = `
update pgq_node.local_state s
   set uptodate = true
 where s.queue_name = $1 and s.consumer_name = $2 and s.paused = $3 and s.provider_node = $4`
	err = r.inOne(ctx, func(b *pgx.Batch) {
		b.Queue(confirm, r.queue, r.consumer, paused, provider).Exec(func(tag commandTag) error {
			ok = tag.RowsAffected() == 1
			return nil
		})
	})
	if err != nil {
		return false, fmt.Errorf("confirm the state of %s on queue %s: %w", r.consumer, r.queue, err)
	}
	return ok, nil
}

// note writes the last error.
func (r *positionRow) note(ctx context.Context, text string) error {
	const setError = `select ret_code from pgq_node.set_consumer_error($1, $2, $3)`
	return r.inOne(ctx, func(b *pgx.Batch) { b.Queue(setError, r.queue, r.consumer, orNull(text)) })
}

// pauseWanted tells whether somebody waits for the consumer to pause.
func (r *positionRow) pauseWanted(ctx context.Context) bool {
	const wanted = `
select s.paused and not s.uptodate from pgq_node.local_state s where s.queue_name = $1 and s.consumer_name = $2`
	var yes bool
	err := r.db.QueryRow(ctx, wanted, r.queue, r.consumer).Scan(&yes)
	return err == nil && yes
}

// errYield ends a batch because somebody waits for the consumer to pause.
var errYield = errors.New("the batch is given up: somebody wants a pause")

// yielding is a context that ends, with errYield, when the work under it goes on for long after somebody asked for a
// pause. release ends the watching.
func (r *positionRow) yielding(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := background(ctx, func(watch context.Context) {
		for watch.Err() == nil {
			r.wait(watch, nil, attendPeriod)
			if watch.Err() != nil || !r.pauseWanted(watch) {
				continue
			}
			t := time.NewTimer(yieldAfter)
			select {
			case <-watch.Done():
			case <-t.C:
				cancel(errYield)
			}
			t.Stop()
			return
		}
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// errMoved says that the position is not where the batch begins any more, or that the node changed under it.
var errMoved = errors.New("the node was moved or changed while the batch was at work")
