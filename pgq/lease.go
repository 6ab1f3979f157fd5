package pgq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrLeaseLost says: the unit has changed hands; whoever meets this stops working on it at once.
var ErrLeaseLost = errors.New("lease lost")

// LeaseKind tells what a lease ends with.
type LeaseKind int

const (
	// SessionLease ends with the database session that took it: a holder that dies is replaced as soon as the server
	// notices, and holding costs no write. It needs direct connections, or a pooler in session mode.
	SessionLease LeaseKind = iota
	// TimedLease ends by the server's clock unless renewed: it also works behind a transaction pooler. A holder that
	// dies is replaced after the time to live.
	TimedLease
)

// minLeaseTTL keeps a third of the time to live longer than a busy server's answer.
const minLeaseTTL = 300 * time.Millisecond

// Leases decides which of several equal daemons works on what in one database. Each unit, a name such as
// "ticker/main", has at most one holder; every change of hands raises the unit's epoch, and a transaction that begins
// with Fence commits only under the current one. Together this gives what a lock alone cannot: a holder that was
// frozen and comes back writes nothing.
//
// The owner calls Renew at least every third of the time to live, and treats its errors as the loss of everything
// held. Without the schema of skyd (pgq_plus) session leases work by their locks alone, with epoch 0, which Fence lets
// pass. Safe for concurrent use.
type Leases struct {
	db     *DB
	holder string
	ttl    time.Duration
	kind   LeaseKind

	mu   sync.Mutex
	conn *pgxpool.Conn // the session of session leases, nil until needed and after a loss
	held map[string]int64
	// dropped are timed leases whose fate a lost connection left open.
	dropped map[string]int64
}

// NewLeases makes an owner of leases. The holder is a name for people who look at pgq.lease. A time to live under
// 300 ms is raised to it. It makes no connection; session leases take one out of db for themselves and keep it.
func NewLeases(db *DB, holder string, ttl time.Duration, kind LeaseKind) *Leases {
	return &Leases{db: db, holder: holder, ttl: max(ttl, minLeaseTTL), kind: kind, held: map[string]int64{}, dropped: map[string]int64{}}
}

// connectLimit bounds making the session, with the first lease in it: under load that takes longer than a short time to
// live, and giving up each time would be for ever.
const connectLimit = 5 * time.Second

// Take tries to become the holder of a unit; it never waits for another one. A unit that is held already answers with
// the same epoch. After an error nothing that was held in a session is held any more.
func (l *Leases) Take(ctx context.Context, unit string) (epoch int64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch, ok := l.held[unit]; ok {
		return epoch, true, nil
	}
	limit := l.ttl / 3
	if l.kind == SessionLease && l.conn == nil {
		limit = max(limit, connectLimit) // nothing is held yet that could run out meanwhile
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if l.kind == SessionLease {
		epoch, ok, err = l.takeInSession(ctx, unit)
	} else {
		epoch, ok, err = l.takeTimed(ctx, unit)
	}
	if err != nil {
		l.drop()
		return 0, false, fmt.Errorf("take lease %s: %w", unit, err)
	}
	if ok {
		l.held[unit] = epoch
	}
	return epoch, ok, nil
}

// takeInSession locks first and counts then.
func (l *Leases) takeInSession(ctx context.Context, unit string) (int64, bool, error) {
	if err := l.connect(ctx); err != nil {
		return 0, false, err
	}
	// The key is that of pgq.lease_key, which may not be there.
	const lock = `select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('skyd:' || $1::text, 0))`
	var locked bool
	if err := l.conn.QueryRow(ctx, lock, unit).Scan(&locked); err != nil || !locked {
		return 0, false, classify(err)
	}
	epoch, ok, err := l.take(ctx, l.conn, unit, nil)
	if errors.Is(err, ErrNotInstalled) {
		return 0, true, nil
	}
	if err == nil && !ok {
		// The last holder is in the middle of a transaction, or its lease is a timed one.
		err = l.unlock(ctx, unit)
	}
	return epoch, ok, err
}

// takeTimed takes up again what a lost connection made us drop: while the epoch is the same, nobody else had it. Without
// that we would wait for the end of our own lease.
func (l *Leases) takeTimed(ctx context.Context, unit string) (int64, bool, error) {
	if epoch, ok := l.dropped[unit]; ok {
		kept, err := l.renew(ctx, unit, epoch)
		if err != nil {
			return 0, false, err
		}
		delete(l.dropped, unit)
		if kept {
			return epoch, true, nil
		}
	}
	return l.take(ctx, l.db, unit, &l.ttl)
}

// renew prolongs a timed lease; false: it is somebody else's by now, or nobody's.
func (l *Leases) renew(ctx context.Context, unit string, epoch int64) (bool, error) {
	var kept int
	err := l.db.QueryRow(ctx, `select pgq.lease_renew($1, $2, $3::text::interval)`, unit, epoch, intervalText(&l.ttl)).Scan(&kept)
	return kept != 0, classify(err)
}

// take asks for the next epoch.
func (l *Leases) take(ctx context.Context, q Querier, unit string, ttl *time.Duration) (int64, bool, error) {
	var epoch *int64
	err := q.QueryRow(ctx, `select pgq.lease_take($1, $2, $3::text::interval)`, unit, l.holder, intervalText(ttl)).Scan(&epoch)
	if err != nil || epoch == nil {
		return 0, false, classify(err)
	}
	return *epoch, true, nil
}

// intervalText is a duration as the text of an interval; nil stays nil.
func intervalText(d *time.Duration) *string {
	if d == nil {
		return nil
	}
	s := strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " seconds"
	return &s
}

// connect makes the session of session leases. The server ends it when nothing is heard of us for the time to live, so
// that a frozen or unreachable holder loses its locks.
func (l *Leases) connect(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	conn, err := l.db.Acquire(ctx)
	if err != nil {
		return classify(err)
	}
	limit := strconv.FormatInt(l.ttl.Milliseconds(), 10)
	_, err = conn.Exec(ctx, `select pg_catalog.set_config('idle_session_timeout', $1, false),
		pg_catalog.set_config('idle_in_transaction_session_timeout', $1, false)`, limit)
	l.conn = conn
	return classify(err)
}

// unlock gives the lock of one unit back.
func (l *Leases) unlock(ctx context.Context, unit string) error {
	const unlock = `select pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('skyd:' || $1::text, 0))`
	_, err := l.conn.Exec(ctx, unlock, unit)
	return classify(err)
}

// Renew keeps what is held. It returns the units that were lost to others; an error means that everything may be lost,
// and nothing is held any more.
func (l *Leases) Renew(ctx context.Context) (lost []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	if l.kind == SessionLease {
		if l.conn == nil {
			return nil, nil
		}
		if _, err := l.conn.Exec(ctx, "select"); err != nil {
			l.drop()
			return nil, fmt.Errorf("keep the session of the leases: %w: %w", ErrLeaseLost, classify(err))
		}
		return nil, nil
	}
	for unit, epoch := range l.held {
		kept, err := l.renew(ctx, unit, epoch)
		if err != nil {
			l.drop()
			return nil, fmt.Errorf("renew lease %s: %w: %w", unit, ErrLeaseLost, err)
		}
		if !kept {
			delete(l.held, unit)
			lost = append(lost, unit)
		}
	}
	return lost, nil
}

// Release gives a unit back, so that another holder need not wait. One that is not held is no error.
func (l *Leases) Release(ctx context.Context, unit string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	epoch, ok := l.held[unit]
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.ttl/3)
	defer cancel()
	delete(l.held, unit)
	_, err := l.db.Exec(ctx, `select pgq.lease_release($1, $2)`, unit, epoch)
	if err = classify(err); errors.Is(err, ErrNotInstalled) {
		err = nil
	}
	if err == nil && l.kind == SessionLease {
		err = l.unlock(ctx, unit)
	}
	if err != nil {
		if l.kind == TimedLease {
			l.dropped[unit] = epoch
		}
		l.drop()
		return fmt.Errorf("release lease %s: %w", unit, err)
	}
	return nil
}

// Inherit takes over from former Leases of the same holder what a lost connection made them drop, so that Take need not
// wait for its end. They must be closed.
func (l *Leases) Inherit(former *Leases) {
	former.mu.Lock()
	defer former.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.dropped, former.dropped)
}

// Held lists the units that are held, as far as is known here.
func (l *Leases) Held() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.held))
}

// Close lets go of everything held in a session; timed leases run out unless they were released.
func (l *Leases) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

// drop forgets all leases. The connection is closed, not given back: its locks and settings must not reach others.
func (l *Leases) drop() {
	if l.kind == TimedLease {
		maps.Copy(l.dropped, l.held)
	}
	clear(l.held)
	if l.conn == nil {
		return
	}
	conn := l.conn.Hijack()
	l.conn = nil
	ctx, cancel := context.WithTimeout(context.Background(), cancelGrace) //nolint:forbidigo // outlives the failed call
	defer cancel()
	_ = conn.Close(ctx) // it may be broken already
}

// Fence is the first statement of a transaction that works under a lease: it fails with ErrLeaseLost when the unit has
// changed hands since the epoch was given, and keeps the unit where it is until the transaction ends. The server ends
// the transaction when it hears nothing in it for the time idle, so that a holder that froze inside gives way; 0: never.
func Fence(ctx context.Context, tx Querier, unit string, epoch int64, idle time.Duration) error {
	if epoch == 0 {
		return nil // a database without epochs
	}
	_, err := tx.Exec(ctx, fenceSQL, unit, epoch, strconv.FormatInt(idle.Milliseconds(), 10))
	if err != nil {
		return fmt.Errorf("work under lease %s: %w", unit, classify(err))
	}
	return nil
}

const fenceSQL = `select pgq.lease_fence($1, $2),
	pg_catalog.set_config('idle_in_transaction_session_timeout', $3, true)`

// QueueFence is Fence as the first statement of a pipeline that is, or begins, a
// transaction. It tells whether it queued one: the caller reads its result,
// whose error Classify turns into ErrLeaseLost.
func QueueFence(b *pgx.Batch, unit string, epoch int64, idle time.Duration) bool {
	if epoch == 0 {
		return false
	}
	b.Queue(fenceSQL, unit, epoch, strconv.FormatInt(idle.Milliseconds(), 10))
	return true
}
