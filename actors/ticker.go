package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// TickSource is what the ticker needs of a database.
type TickSource interface {
	classifier
	// SnapshotMark is the same as long as nothing was committed.
	SnapshotMark(ctx context.Context) (string, error)
	// LoadTickStates reads the state of all queues without a write.
	LoadTickStates(ctx context.Context) ([]pgq.TickState, error)
	// TickPeriods reads option tick_period of the queues that have it.
	TickPeriods(ctx context.Context) (map[string]time.Duration, error)
	// Tick ticks one queue in a transaction of its own.
	Tick(ctx context.Context, queue string) (tick int64, made bool, err error)
}

// TickerParams are the settings of a ticker.
type TickerParams struct {
	// Period is the longest time between two looks; 0: no ticker.
	Period time.Duration
	// MinPeriod is the shortest time between two looks.
	MinPeriod time.Duration
	// QuietPeriod is the distance of idle ticks while nothing at all is written on the server.
	QuietPeriod time.Duration
	// Parallel limits how many queues are ticked at once.
	Parallel int
	// LookTimeout and TickTimeout limit one look and one tick.
	LookTimeout time.Duration
	TickTimeout time.Duration
}

const (
	// fullLook is the longest time for which an unchanged snapshot spares the look at the queues.
	fullLook = 10 * time.Second
	// straggle is how long a round of ticks holds up the next look; a tick that takes longer goes on beside it.
	straggle = time.Second
	// figuresPeriod is the shortest time between two messages to status.
	figuresPeriod = time.Second
	// hotTime is how long after events a queue is looked at as often as its max_lag wants it.
	hotTime = 2 * time.Second
	// lookShare keeps the looks at many queues from being the load: they take at most a fifth of the time.
	lookShare = 4
)

// Ticker ticks the queues of one database. It looks at a cheap mark that changes with every commit, reads the queues
// when it has changed, and ticks those that are due, each in its own transaction: a broken queue stops nobody else.
type Ticker struct {
	env   Env
	state reporter
	p     TickerParams
	src   TickSource
	tags  []trace.SpanStartOption

	look    worker
	ticks   map[string]*tickRun
	clock   timers
	queues  map[string]*queueView
	periods map[string]time.Duration // option tick_period
	settled settling
	beside  int // ticks that were under way during the look

	mark   string
	fullAt time.Time     // of the last full look
	cost   time.Duration // of a full look, smoothed: one that was held up must not slow down the next ones
	pause  time.Duration // between the last two looks
	fails  int
	saidAt time.Time // of the last figures
	news   bool      // there is something to say
}

// queueView is what the ticker knows about one queue.
type queueView struct {
	state   pgq.TickState
	before  pgq.TickState // of the look before
	seen    time.Time     // when state was read
	fresh   bool          // no tick was tried since
	epoch   uint64        // of the last tick, see settling
	hot     time.Time     // when events were seen last
	fails   int
	refused int // ticks the server did not make, in a row
	blocked time.Time
	figures messages.QueueSeen // Made, Failed, Duration, LastError since the last message
}

// tickRun is one tick under way.
type tickRun struct {
	worker
	epoch   uint64
	started time.Time
}

// looked is the result of a look; without states nothing was committed since the last one.
type looked struct {
	mark    string
	full    bool
	states  []pgq.TickState
	cost    time.Duration
	periods map[string]time.Duration // nil: not read
}

// ticked is the result of one tick.
type ticked struct {
	queue string
	tick  int64
	made  bool
	took  time.Duration
	err   error
}

// tickerProps builds the ticker of one database.
func tickerProps(env Env, db string, p TickerParams, src TickSource) *actor.Props {
	return newProps(env, kindTicker, func() actor.Actor {
		return &Ticker{
			env: env, p: p, src: src,
			state:  reporter{env: env, kind: kindTicker, database: db},
			ticks:  map[string]*tickRun{},
			queues: map[string]*queueView{},
			tags: []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(
				pgq.KeyMessagingSystem.String(pgq.MessagingSystem), pgq.KeyDBSystem.String(pgq.DBSystem))},
		}
	})
}

// Receive implements actor.Actor.
func (t *Ticker) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		t.pause = t.p.MinPeriod
		t.begin(c)
	case *actor.Stopping, *actor.Restarting:
		t.clock.stop()
		workers := []*worker{&t.look}
		for _, r := range t.ticks {
			workers = append(workers, &r.worker)
		}
		if !haltAll(haltGrace, workers...) {
			t.env.Log.Warn("work did not stop in time")
		}
	case messages.ReportStatus:
		t.state.repeat(c)
	case wake:
		if t.clock.fired(m) {
			t.begin(c)
		}
	case done[looked]:
		if finish(&t.look, m) {
			t.sawQueues(c, m.val, m.err)
		}
	case done[ticked]:
		if r := t.ticks[m.val.queue]; r != nil && finish(&r.worker, m) {
			delete(t.ticks, m.val.queue)
			t.tickDone(c, r, m.val)
		}
	}
}

// begin starts a look. A look under way is enough.
func (t *Ticker) begin(c actor.Context) {
	src, timeout, mark := t.src, t.p.LookTimeout, t.mark
	force := time.Since(t.fullAt) >= fullLook
	err := start(&t.look, c, t.env.Context, func(ctx context.Context) (looked, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return lookAt(ctx, src, mark, force)
	})
	if err == nil {
		t.beside = len(t.ticks)
	}
}

// lookAt reads the mark and, when it has changed or force says so, the queues. The mark is read first: what is
// committed in between changes the next one. Options change seldom: they are read only when forced.
func lookAt(ctx context.Context, src TickSource, mark string, force bool) (looked, error) {
	now, err := src.SnapshotMark(ctx)
	if err != nil || (now == mark && !force) {
		return looked{mark: now}, err
	}
	begin := time.Now()
	states, err := src.LoadTickStates(ctx)
	l := looked{mark: now, full: true, states: states, cost: time.Since(begin)}
	if force && err == nil {
		l.periods, err = src.TickPeriods(ctx)
	}
	return l, err
}

// sawQueues handles the outcome of a look.
func (t *Ticker) sawQueues(c actor.Context, l looked, err error) {
	now := time.Now()
	if err != nil {
		delay := fullJitter(reconnectBase, reconnectLimit, t.fails)
		t.fails++
		t.mark = ""
		if loud(t.fails) {
			t.env.Log.Warn("look at the queues", "db", t.state.database, "err", err, "fails", t.fails)
		}
		t.state.set(c, messages.Backoff, "", err, now.Add(delay))
		c.Send(c.Parent(), messages.DatabaseTroubled{Actor: treePath(c.Self()), Err: err})
		t.clock.arm(c, "look", delay)
		return
	}
	t.fails = 0
	t.state.set(c, messages.Running, "", nil, time.Time{})
	t.settled.look(l.mark, t.beside)
	t.mark = l.mark
	if l.full {
		t.cost, t.news = (3*t.cost+l.cost)/4, true
		if l.periods != nil {
			t.fullAt, t.periods = now, l.periods
		}
		t.update(c, l.states, now)
	}
	t.dispatch(c, now)
	t.say(c, now)
	t.schedule(c, now)
}

// update takes over what a full look saw.
func (t *Ticker) update(c actor.Context, states []pgq.TickState, now time.Time) {
	seen := make(map[string]*queueView, len(states))
	for _, s := range states {
		q := t.queues[s.Queue]
		if q == nil {
			q = &queueView{state: s, before: s}
		}
		if s.LastTick > q.state.LastTick {
			c.Send(c.Parent(), messages.TickMade{Queue: s.Queue, Tick: s.LastTick})
		}
		if s.EventSeq > q.state.EventSeq {
			q.hot = now
		}
		q.before, q.state, q.seen, q.fresh = q.state, s, now, true
		seen[s.Queue] = q
	}
	t.queues = seen
}

// due is how long from now the queue becomes due; a queue that has to be looked at first is not.
func (t *Ticker) due(name string, q *queueView, now time.Time) time.Duration {
	if t.ticks[name] != nil || !q.fresh {
		return never
	}
	in := dueIn(q.state, t.settled.covers(q.epoch), t.p.QuietPeriod)
	if in != never && q.state.Ticks > 0 {
		in = max(in, t.periods[name]-q.state.Lag())
	}
	if in != never {
		in = max(in-now.Sub(q.seen), 0)
	}
	return max(in, q.blocked.Sub(now))
}

// dispatch starts the ticks of what is due, as many at a time as allowed.
func (t *Ticker) dispatch(c actor.Context, now time.Time) {
	for name, q := range t.queues {
		if len(t.ticks) >= t.p.Parallel {
			return
		}
		if t.due(name, q, now) > 0 {
			continue
		}
		r := &tickRun{epoch: t.settled.current(), started: now}
		t.ticks[name] = r
		t.beside++
		src, timeout, tracer, tags := t.src, t.p.TickTimeout, t.env.Tracer, t.tags
		_ = start(&r.worker, c, t.env.Context, func(ctx context.Context) (ticked, error) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			return tickOne(ctx, src, tracer, tags, name), nil
		})
	}
}

// tickOne ticks one queue. The span is made afterwards, because only a tick that was made has one.
func tickOne(ctx context.Context, src TickSource, tracer trace.Tracer, tags []trace.SpanStartOption, queue string) ticked {
	begin := time.Now()
	tick, made, err := src.Tick(ctx, queue)
	r := ticked{queue: queue, tick: tick, made: made, took: time.Since(begin), err: err}
	if err != nil || !made {
		return r
	}
	_, span := tracer.Start(ctx, pgq.SpanName(pgq.OpTick, queue), append([]trace.SpanStartOption{trace.WithTimestamp(begin)}, tags...)...)
	if span.IsRecording() {
		span.SetAttributes(pgq.KeyMessagingDestination.String(queue), pgq.KeyPgqTickID.Int64(tick))
	}
	span.End()
	return r
}

// tickDone handles the outcome of one tick.
func (t *Ticker) tickDone(c actor.Context, r *tickRun, m ticked) {
	now := time.Now()
	if q := t.queues[m.queue]; q != nil {
		q.fresh, t.news = false, true
		switch {
		case m.err != nil:
			t.tickFailed(c, q, m, now)
		case m.made:
			t.settled.ticked()
			q.figures.Made++
			addDuration(&q.figures.Duration, m.took)
			if q.fails > 0 {
				t.env.Log.Info("queue ticks again", "db", t.state.database, "queue", m.queue, "fails", q.fails)
			}
			q.fails, q.refused, q.blocked, q.figures.LastError = 0, 0, time.Time{}, ""
			q.epoch = r.epoch
			c.Send(c.Parent(), messages.TickMade{Queue: m.queue, Tick: m.tick})
		default:
			// The server saw it differently: another ticker was faster, or our clock stands at the very edge.
			q.blocked = now.Add(min(t.p.MinPeriod<<min(q.refused, 10), max(t.p.Period, t.p.MinPeriod)))
			q.refused++
		}
	}
	t.mark = "" // our own tick is a change; the next look has to read the queues
	t.dispatch(c, now)
	t.schedule(c, now)
}

// tickFailed counts a failed tick and keeps the queue away from the others for a while.
func (t *Ticker) tickFailed(c actor.Context, q *queueView, m ticked, now time.Time) {
	trouble, limit := t.src.Classify(m.err), respawnLimit
	if trouble.Outage {
		limit = reconnectLimit
	}
	delay := fullJitter(respawnBase, limit, q.fails)
	q.fails++
	q.blocked = now.Add(delay)
	q.figures.Failed++
	q.figures.LastError = m.err.Error()
	if loud(q.fails) {
		t.env.Log.Warn("tick failed", "db", t.state.database, "queue", m.queue, "err", m.err, "fails", q.fails,
			"delay", delay.Round(time.Millisecond))
	}
	if trouble.Outage {
		c.Send(c.Parent(), messages.DatabaseTroubled{Actor: treePath(c.Self()), Err: m.err})
	}
}

// schedule arms the next look. Ticks under way come first: their look would see half of what they do. A tick that takes
// too long is left to itself.
func (t *Ticker) schedule(c actor.Context, now time.Time) {
	if t.look.busy() {
		return
	}
	var wait time.Duration
	for _, r := range t.ticks {
		wait = max(wait, r.started.Add(straggle).Sub(now))
	}
	if wait > 0 {
		t.clock.arm(c, "look", wait)
		return
	}
	due, wish, limit := never, never, t.p.Period
	for name, q := range t.queues {
		in := t.due(name, q, now)
		if !q.fresh && t.ticks[name] == nil {
			in = max(0, q.blocked.Sub(now)) // just ticked: look what there is now
		}
		due = min(due, in)
		limit = min(limit, quietLook(q.state, t.periods[name]))
		if !q.hot.IsZero() && now.Sub(q.hot) < hotTime {
			wish = min(wish, max(q.state.MaxLag/2, t.periods[name]))
			if q.fresh {
				wish = min(wish, max(fullIn(q.before, q.state)-now.Sub(q.seen), 0))
			}
		}
	}
	if len(t.ticks) >= t.p.Parallel {
		due = never
	}
	t.pause = nextLook(due, wish, t.pause, max(t.p.MinPeriod, lookShare*t.cost), max(limit, t.p.MinPeriod))
	t.clock.arm(c, "look", t.pause)
}

// say sends the figures to status, not too often, and now and then even without news: their age tells how long ago the
// ticker knew what it says.
func (t *Ticker) say(c actor.Context, now time.Time) {
	since := now.Sub(t.saidAt)
	if since < figuresPeriod || (!t.news && since < fullLook/2) {
		return
	}
	t.saidAt, t.news = now, false
	m := messages.QueuesSeen{Database: t.state.database, At: now, Queues: make([]messages.QueueSeen, 0, len(t.queues))}
	for name, q := range t.queues {
		s, f := q.state, q.figures
		f.Queue, f.LastTick, f.EventSeq, f.Unticked = name, s.LastTick, s.EventSeq, max(s.NewEvents(), 0)
		f.Paused, f.External = s.Paused, s.External
		if s.Ticks > 0 && !t.settled.covers(q.epoch) {
			f.Lag = max(s.Lag()+now.Sub(q.seen), 0)
		}
		m.Queues = append(m.Queues, f)
		q.figures = messages.QueueSeen{LastError: f.LastError}
	}
	t.env.report(c, m)
}
