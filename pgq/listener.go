package pgq

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// pingEvery is how long a listening connection may be silent before it is
// asked whether it is still there.
const pingEvery = 30 * time.Second

// listener waits for the notifications of one channel on a connection of its
// own and passes them on as a hint. Whatever it misses, polling finds.
type listener struct {
	// c holds one token when there may be something new.
	c chan struct{}
	// listening is true while notifications can arrive.
	listening atomic.Bool

	cfg     *pgx.ConnConfig
	channel string
	log     *slog.Logger
	backoff func(n int) time.Duration
}

func newListener(db *DB, channel string, log *slog.Logger, backoff func(int) time.Duration) *listener {
	cfg := db.Config().ConnConfig
	// Cancelling means to stop waiting: there is no statement to cancel on the
	// server, and nobody uses the connection afterwards.
	cfg.BuildContextWatcherHandler = func(pc *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: pc.Conn()}
	}
	return &listener{c: make(chan struct{}, 1), cfg: cfg, channel: channel, log: log, backoff: backoff}
}

// run listens until the context ends, over any number of connections.
func (l *listener) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		err := l.listen(ctx, func() { failures = 0 })
		l.listening.Store(false)
		l.wake() // what came while it broke would wait for the next poll
		if ctx.Err() != nil {
			return
		}
		failures++
		if failures == 1 {
			l.log.Warn("no notifications, polling until they are back", "err", err)
		}
		sleep(ctx, l.backoff(failures))
	}
}

// listen connects and waits until something breaks. up is called once it
// listens.
func (l *listener) listen(ctx context.Context, up func()) error {
	conn, err := pgx.ConnectConfig(ctx, l.cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := settleContext(ctx)
		defer cancel()
		_ = conn.Close(ctx) // nothing to lose
	}()
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{l.channel}.Sanitize(), pgx.QueryExecModeExec); err != nil {
		return err
	}
	up()
	l.listening.Store(true)
	l.wake() // a tick may have come before we listened
	for {
		if err := l.waitOne(ctx, conn); err != nil {
			return err
		}
	}
}

// waitOne waits for one notification, or for the time to check that the
// connection lives.
func (l *listener) waitOne(ctx context.Context, conn *pgx.Conn) error {
	wctx, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	_, err := conn.WaitForNotification(wctx)
	if err == nil {
		l.wake()
		return nil
	}
	if ctx.Err() != nil || !pgconn.Timeout(err) {
		return err
	}
	pctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return conn.Ping(pctx)
}

func (l *listener) wake() {
	select {
	case l.c <- struct{}{}:
	default:
	}
}

// Wakeups passes on the notifications of one channel, for loops outside of this
// package. They are hints: some are missed while the connection is away, and
// polling is to find what they announced.
type Wakeups struct{ l *listener }

// NewWakeups makes a listener on a channel, such as WakeupChannel(queue). It
// does no I/O; Run takes a connection of its own, not one of the pool.
func NewWakeups(db *DB, channel string, log *slog.Logger) *Wakeups {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Wakeups{l: newListener(db, channel, log.With("channel", channel), func(n int) time.Duration {
		d := min(100*time.Millisecond<<min(max(n-1, 0), 10), 10*time.Second)
		return d/2 + rand.N(d/2+1)
	})}
}

// C holds one token when there may be something new.
func (w *Wakeups) C() <-chan struct{} { return w.l.c }

// Run listens until the context ends.
func (w *Wakeups) Run(ctx context.Context) { w.l.run(ctx) }
