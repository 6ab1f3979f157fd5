package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"time"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
	"github.com/skytools/skyd/runtime"
)

// Options say how to run and where to show it. The zero value runs in silence.
type Options struct {
	// Duration is how long the workload runs. Defaults to 30 s.
	Duration time.Duration
	// Connections is how many transfers run at the same time. Defaults to 4.
	Connections int
	// Rate is about how many transfers a second are tried, all connections together; a slow machine makes fewer.
	// Defaults to 50 for each CPU, at most 300.
	Rate int
	// Keep leaves the data of the server on disk, see Report.Kept.
	Keep bool
	// Build is what the daemon calls itself.
	Build runtime.Build
	// Say gets a sentence for each step. Defaults to silence.
	Say func(text string)
	// Show gets the state of things every ShowEvery while the workload runs. Defaults to nobody. Say and Show may be
	// called at the same time.
	Show func(Sample)
	// ShowEvery defaults to 1 s.
	ShowEvery time.Duration
	// Log takes the log of daemon and consumer. Defaults to nowhere.
	Log *slog.Logger

	// audit is called in place of the proof; tests break things there.
	audit func(ctx context.Context, db *pgq.DB, acknowledged []int64) (Proof, error)
}

func (o Options) withDefaults() Options {
	if o.Duration <= 0 {
		o.Duration = 30 * time.Second
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	if o.Rate <= 0 {
		o.Rate = min(50*goruntime.NumCPU(), 300)
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Show == nil {
		o.Show = func(Sample) {}
	}
	if o.ShowEvery <= 0 {
		o.ShowEvery = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.audit == nil {
		o.audit = func(ctx context.Context, db *pgq.DB, acknowledged []int64) (Proof, error) {
			return prove(ctx, db, acknowledged)
		}
	}
	return o
}

// Report is the result of a run.
type Report struct {
	Server   string        `json:"server"` // version
	Workload time.Duration `json:"-"`      // how long it ran
	Proof    Proof         `json:"proof"`
	Crash    Crash         `json:"crash"`
	Latency  Latency       `json:"latency"`
	Activity Activity      `json:"activity"`
	// Kept tells where the data is; only with Options.Keep.
	Kept *Kept `json:"kept,omitempty"`
}

const (
	queueName    = "bank"
	consumerName = "bookkeeper"
	// drainTimeout limits how long the consumer may need for what is left when the workload has stopped.
	drainTimeout = 30 * time.Second
)

// Run runs the demo. A proof that fails is no error, see Proof.Faults. When ctx ends, the error is its cause, joined
// with what went wrong in cleaning up, if anything did. ErrNoServer means that the machine has no PostgreSQL.
func Run(ctx context.Context, o Options) (report Report, err error) {
	o = o.withDefaults()
	srv, err := startServer(ctx, o)
	if srv == nil {
		return report, cause(ctx, err)
	}
	defer func() {
		err = cause(ctx, err)
		kept, cleanup := srv.end(o.Keep && ctx.Err() == nil)
		report.Kept = kept
		if cleanup != nil {
			err = errors.Join(err, cleanup)
		}
	}()
	if err != nil {
		return report, err
	}
	report.Server = srv.version
	db, err := pgq.Open(ctx, srv.dsn(), pgq.WithApplicationName("skyd/demo/watch"), pgq.WithMaxConns(3))
	if err != nil {
		return report, err
	}
	defer db.Close()
	if err := prepare(ctx, db); err != nil {
		return report, err
	}
	o.Say(fmt.Sprintf("PgQ installed; bank of %d accounts, triggers write each change to queue %q", accounts, queueName))
	s := &show{o: o, srv: srv, db: db}
	err = s.play(ctx, &report)
	return report, err
}

// cause is why a run ended early: what broke after ctx had ended broke because of it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// prepare fills the empty database.
func prepare(ctx context.Context, db *pgq.DB) error {
	if _, err := pgqsql.Install(ctx, db, pgqsql.Options{}); err != nil {
		return err
	}
	if err := makeBank(ctx, db); err != nil {
		return err
	}
	if _, err := pgq.CreateQueue(ctx, db, queueName); err != nil {
		return err
	}
	// Defaults suit a daemon that should not be noticed; this one should.
	for _, kv := range [][2]string{
		{"ticker_max_lag", "30 milliseconds"}, {"ticker_idle_period", "1 second"}, {"rotation_period", "5 seconds"},
	} {
		if err := pgq.SetQueueConfig(ctx, db, queueName, kv[0], kv[1]); err != nil {
			return err
		}
	}
	if _, err := pgq.RegisterConsumer(ctx, db, queueName, consumerName); err != nil {
		return err
	}
	return makeTriggers(ctx, db)
}

// show is the part with the workload.
type show struct {
	o   Options
	srv *server
	db  *pgq.DB

	work  *workload
	books *bookkeeper
}

// play runs everything on the prepared database, up to the proof.
func (s *show) play(ctx context.Context, report *Report) (err error) {
	crew, ctx := newCrew(ctx)
	defer func() {
		// Who failed first stopped the crew; what broke after that broke because of it.
		if first := crew.stop(); first != nil {
			err = first
		}
	}()
	stopServices, err := s.startServices(ctx, crew)
	if err != nil {
		return err
	}
	if s.work, err = openWorkload(ctx, s.srv.dsn(), s.o); err != nil {
		return err
	}
	defer s.work.close()
	watch := &watcher{o: s.o, db: s.db, work: s.work, books: s.books}
	watch.begin(ctx)

	s.o.Say(fmt.Sprintf("workload: %d connections, up to %d transfers a second, 4 row changes each", s.o.Connections, s.o.Rate))
	begin := time.Now()
	stopWork, finishWork := crew.start("workload", s.work.run), s.work.finish
	stopWatch := crew.start("watch", watch.run)
	if err := sleep(ctx, s.o.Duration/2); err != nil {
		return err
	}
	if report.Crash, err = s.crash(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, s.o.Duration-time.Since(begin)); err != nil {
		return err
	}
	finishWork()
	if err := stopWork(false); err != nil {
		return err
	}
	report.Workload = time.Since(begin)
	s.o.Say("workload stopped; the consumer works off the rest")
	if err := drain(ctx, s.db); err != nil {
		return err
	}
	if err := errors.Join(stopWatch(true), stopServices()); err != nil {
		return err
	}
	return s.conclude(ctx, report, watch)
}

// startServices starts daemon and consumer, and returns when the daemon ticks. The returned function stops both.
func (s *show) startServices(ctx context.Context, crew *crew) (stop func() error, err error) {
	before, err := pgq.GetQueueInfo(ctx, s.db, queueName)
	if err != nil {
		return nil, err
	}
	daemon, err := runtime.New(ctx, daemonConfig(s.srv.dsn()), runtime.Options{Log: s.o.Log, Build: s.o.Build})
	if err != nil {
		return nil, err
	}
	s.books = &bookkeeper{}
	consumerDB, err := pgq.Open(ctx, s.srv.dsn(), pgq.WithApplicationName("skyd/demo/consumer"), pgq.WithPreparedStatements(),
		pgq.WithMaxConns(3))
	if err != nil {
		return nil, err
	}
	consumer := pgq.NewConsumer(consumerDB, queueName, consumerName, pgq.BatchTxHandler(s.books.book),
		pgq.ConsumerOptions{Logger: s.o.Log, BackoffMin: 50 * time.Millisecond, BackoffMax: time.Second})
	stopDaemon := crew.start("daemon", daemon.Run)
	stopConsumer := crew.start("consumer", func(ctx context.Context) error {
		defer consumerDB.Close()
		return consumer.Run(ctx)
	})
	err = until(ctx, func() bool {
		now, err := pgq.GetQueueInfo(ctx, s.db, queueName)
		return err == nil && now.LastTick > before.LastTick
	})
	if err == nil {
		s.o.Say("skyd daemon ticks and rotates the queue, a transactional consumer follows")
	}
	return func() error { return errors.Join(stopConsumer(true), stopDaemon(true)) }, err
}

// daemonConfig is the configuration of the daemon: the built-in defaults, but eager and without listeners.
func daemonConfig(dsn string) configs.Config {
	c := configs.DefaultConfig()
	c.Instance = "demo"
	c.ShutdownTimeout = 5 * time.Second
	c.HTTP.Listen, c.Control.Socket = configs.None, configs.None
	c.Maintenance.Period = time.Second
	c.Databases = []configs.Database{{
		Name: "demo", DSN: dsn, CheckPeriod: time.Second, Ticker: c.Ticker, Maintenance: c.Maintenance,
	}}
	return c
}

// conclude computes the report when everything has stopped.
func (s *show) conclude(ctx context.Context, report *Report, watch *watcher) (err error) {
	if report.Proof, err = s.o.audit(ctx, s.db, s.work.acknowledged()); err != nil {
		return fmt.Errorf("compare tables and events: %w", err)
	}
	s.work.count(&report.Proof)
	if report.Latency, err = measureLatency(ctx, s.db, report.Crash); err != nil {
		return err
	}
	report.Activity, err = watch.activity(ctx)
	return err
}

// until polls a fact.
func until(ctx context.Context, fact func() bool) error {
	for !fact() {
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// sleep waits for d; the error is the cause of the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
