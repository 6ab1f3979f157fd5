package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/handlers"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// Consumer is a consumer whose handler is Go code of the program that embeds the daemon; see Options.Consumers.
type Consumer struct {
	// Config says which consumer it is and how it runs; its Handler section is not used.
	Config configs.Consumer
	// Handler makes the handler of one worker: 0 for a consumer with one worker, else 1 and on.
	Handler func(worker int) pgq.Handler
}

// consumerParams makes the parameters of the consumers of one database.
func (d *Daemon) consumerParams(ctx context.Context, c configs.Config, db configs.Database, name, database string) []actors.ConsumerParams {
	var params []actors.ConsumerParams
	add := func(u configs.Consumer, silence time.Duration, make func(worker int) (*handlers.Handler, error)) {
		if u.Database != name && (u.Database != "" || len(c.Databases) != 1 || database != "") {
			return
		}
		w := workplace{config: c, consumer: u, db: db, name: name, database: database, handler: make, silence: silence, daemon: d}
		params = append(params, actors.ConsumerParams{
			Key: w.key(), Queue: u.Queue, Name: u.Name, Workers: u.Workers, PollPeriod: u.PollPeriod, BatchTimeout: u.BatchTimeout,
			Open: func(member int, unit string, epoch int64) (actors.ConsumerSource, error) {
				return w.open(ctx, member, unit, epoch)
			},
		})
	}
	for _, u := range c.Consumers {
		add(u, txSilence(u, c.HA.LeaseTTL), func(int) (*handlers.Handler, error) {
			return handlers.New(u.Handler, handlers.Env{
				Queue: u.Queue, Consumer: u.Name, Log: d.log.With("db", name, "queue", u.Queue, "consumer", u.Name),
				Producer: pgq.NewProducer(pgq.ProducerOptions{TracerProvider: d.telemetry.tracing, MeterProvider: d.telemetry.metering}),
			})
		})
	}
	for _, u := range d.opts.Consumers {
		add(u.Config, u.Config.BatchTimeout, func(worker int) (*handlers.Handler, error) { return &handlers.Handler{Handler: u.Handler(worker)}, nil })
	}
	return params
}

// workplace is everything that a worker of a consumer is made of.
type workplace struct {
	daemon   *Daemon
	config   configs.Config
	consumer configs.Consumer
	db       configs.Database
	name     string // of the database
	database string // when it was found on a server
	handler  func(worker int) (*handlers.Handler, error)
	silence  time.Duration // of the worker in a transaction, after which the server ends it; 0: never
}

// txSilence is how long a consumer of the configuration may be silent in a transaction, before the server ends it and
// another daemon can take over. Its handlers work in the database or outside of any transaction: they never pause inside
// one, so one that does is frozen or cut off, and the time of a lease is long enough.
func txSilence(u configs.Consumer, ttl time.Duration) time.Duration {
	limits := []time.Duration{u.BatchTimeout}
	if ttl > 0 {
		limits = append(limits, max(ttl, time.Second))
	}
	if u.Workers > 1 { // then others have the batch
		limits = append(limits, u.DeadInterval)
	}
	limits = slices.DeleteFunc(limits, func(d time.Duration) bool { return d == 0 })
	if len(limits) == 0 {
		return 0
	}
	return slices.Min(limits)
}

// key stands for everything that the consumer depends on.
func (w workplace) key() string {
	target, _, _ := w.target()
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %+v %v", connectionKey(w.db, w.config.Instance, w.database),
		connectionKey(target, w.config.Instance, ""), w.consumer, w.silence))
	return hex.EncodeToString(sum[:])
}

// target is the database that the handler works in, when it is another one than the queue's.
func (w workplace) target() (db configs.Database, name string, other bool) {
	name = w.consumer.Handler.Database
	if name == "" || name == w.name {
		return configs.Database{}, "", false
	}
	for _, db := range w.config.Databases {
		if db.Name == name {
			return db, name, true
		}
	}
	return configs.Database{}, name, true
}

// open makes one worker. It makes no connection.
func (w workplace) open(ctx context.Context, member int, unit string, epoch int64) (_ actors.ConsumerSource, err error) {
	path := "database/" + w.name + "/" + kindConsumer + "/" + url.PathEscape(w.consumer.Queue) + "/" + url.PathEscape(w.consumer.Name)
	kind := kindConsumer
	if member > 0 {
		kind, path = kindSubconsumer, path+"/sub/"+strconv.Itoa(member)
	}
	u, s := w.consumer, &stepper{log: w.daemon.log.With("kind", kind, "actor", path, "db", w.name)}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	if s.db, err = w.pool(ctx, w.db, w.database); err != nil {
		return nil, err
	}
	if s.handler, err = w.handler(member); err != nil {
		return nil, err
	}
	o := pgq.ConsumerOptions{
		Register: u.Register, MaxMerge: u.Merge, EventRetry: u.EventRetry, Logger: s.log, NoListen: true,
		TracerProvider: w.daemon.telemetry.tracing, MeterProvider: w.daemon.telemetry.metering,
		TxSilence: w.silence,
	}
	if epoch > 0 {
		o.Fence = func(ctx context.Context, tx pgq.Querier) error {
			return pgq.Fence(ctx, tx, unit, epoch, w.silence)
		}
	}
	target, _, other := w.target()
	switch {
	case other:
		if s.target, err = w.pool(ctx, target, ""); err != nil {
			return nil, err
		}
		remote := pgq.NewRemoteConsumer(s.db, u.Queue, u.Name, s.target, s.handler.Handler, pgq.RemoteOptions{
			ConsumerOptions: o, TargetName: u.Queue + "." + u.Name,
		})
		s.steps, err = remote.Steps()
	case member > 0:
		coop := pgq.NewCoopConsumer(s.db, u.Queue, u.Name, w.memberName(member), s.handler.Handler, pgq.CoopOptions{
			ConsumerOptions: o, DeadInterval: u.DeadInterval,
		})
		s.steps, err = coop.Steps()
	default:
		s.steps, err = pgq.NewConsumer(s.db, u.Queue, u.Name, s.handler.Handler, o).Steps()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// memberName tells the members of a group apart, also those of several daemons.
func (w workplace) memberName(member int) string {
	return w.config.Instance + "-" + strconv.Itoa(member)
}

// pool makes the connections of one worker: one to work with, one for signs of life.
func (w workplace) pool(ctx context.Context, db configs.Database, database string) (*pgq.DB, error) {
	p, err := openPool(ctx, db, w.config.Instance, w.consumer.Queue+"/"+w.consumer.Name, database, 2)
	if err != nil {
		return nil, err
	}
	return p.db, nil
}

// stepper is one worker of a consumer as its actor sees it.
type stepper struct {
	db, target *pgq.DB
	handler    *handlers.Handler
	steps      *pgq.Steps
	log        *slog.Logger
}

var _ actors.ConsumerSource = (*stepper)(nil)

// Next implements actors.ConsumerSource.
func (s *stepper) Next(ctx context.Context) (actors.OpenBatch, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	b, err := s.steps.Next(ctx)
	if err != nil || b == nil {
		s.doubt(err)
		return nil, err
	}
	return &openBatch{s: s, b: b}, nil
}

// stepTimeout limits opening a batch.
const stepTimeout = 30 * time.Second

// Classify implements actors.ConsumerSource. What a handler did says nothing about the queue's database, but one that works
// in a transaction of ours and meets an outage there is not poisoned.
func (s *stepper) Classify(err error) actors.Trouble {
	if pgq.HandlerFailed(err) {
		return actors.Trouble{Reason: "other", Outage: s.ours(err) && pgq.Outage(err)}
	}
	return classify(err)
}

// ours tells whether an error is about our connections: not that of a handler which has others, nor that its time is over.
func (s *stepper) ours(err error) bool {
	if !pgq.HandlerFailed(err) {
		return true
	}
	switch s.handler.Handler.(type) {
	case pgq.BatchTxHandler, pgq.EventTxHandler:
		return !errors.Is(err, context.DeadlineExceeded)
	}
	return false
}

// doubt drops the idle connections when one of them was lost: a server that became read-only, or that was left behind by
// its name, keeps its sockets open. The next calls make new ones and resolve names anew.
func (s *stepper) doubt(err error) {
	if !pgq.ConnectionLost(err) || !s.ours(err) {
		return
	}
	s.db.Reset()
	if s.target != nil {
		s.target.Reset()
	}
}

// Close implements actors.ConsumerSource.
func (s *stepper) Close(ctx context.Context) {
	s.steps.Leave(ctx)
	s.release()
}

func (s *stepper) release() {
	var errs []error
	if s.handler != nil {
		errs = append(errs, s.handler.Close())
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("handler did not close cleanly", "err", err)
	}
	for _, db := range []*pgq.DB{s.db, s.target} {
		if db != nil {
			db.Close()
		}
	}
}

// openBatch is one batch as its actor sees it.
type openBatch struct {
	s *stepper
	b *pgq.Batch
}

// Info implements actors.OpenBatch.
func (o *openBatch) Info() messages.Batch {
	return messages.Batch{ID: o.b.ID, PrevTick: o.b.PrevTickID, Tick: o.b.TickID, TickTime: o.b.TickTime}
}

// Process implements actors.OpenBatch.
func (o *openBatch) Process(ctx context.Context) (actors.Processed, error) {
	next, lost, err := o.s.steps.Process(ctx, o.b)
	o.s.doubt(err)
	p := actors.Processed{Events: o.b.EventsRead(), Retried: o.b.EventsRetried(), Dead: o.b.EventsDead(), Lost: lost, Trace: messages.Trace{Span: o.b.Trace()}}
	if err == nil && !lost {
		o.b.EachAge(time.Now(), func(age time.Duration, events int) { addAges(&p.Latency, age, events) })
	}
	if next != nil {
		p.Next = &openBatch{s: o.s, b: next}
	}
	return p, err
}

// addAges counts events of one age.
func addAges(h *messages.Histogram, age time.Duration, events int) {
	i, _ := slices.BinarySearch(messages.LatencyBounds[:], age.Seconds())
	h.Counts[i] += uint64(events)
	h.Sum += age.Seconds() * float64(events)
	h.Count += uint64(events)
}
