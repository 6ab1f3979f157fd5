package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
	"github.com/skytools/skyd/runtime"
)

// Options say how to run and where to show it. All but Program may be zero, which runs in silence.
type Options struct {
	// Program is the command that runs Part, as a process of its own.
	Program []string
	// Fetch is the command that fetches from a WAL archive: it takes --source, --storage, a name and a destination.
	// Without it there is no last act.
	Fetch []string
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
	// Log takes the log of daemons and members, in LogFormat. Defaults to nowhere.
	Log       io.Writer
	LogFormat string

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
	if o.Log != nil {
		o.Log = &lockedWriter{w: o.Log}
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
	Takeover Takeover      `json:"takeover"`
	Failover Failover      `json:"failover"`
	Latency  Latency       `json:"latency"`
	Activity Activity      `json:"activity"`
	Cascade  Cascade       `json:"cascade"`
	// Disaster is nil when there was no last act.
	Disaster *Disaster `json:"disaster,omitempty"`
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
	// One act after the other; each ends what it has started.
	for _, act := range []func(ctx context.Context, report *Report) error{s.play, s.playCascade} {
		if err := act(ctx, &report); err != nil {
			return report, err
		}
	}
	if len(o.Fetch) == 0 {
		return report, nil
	}
	last, err := s.disaster(ctx, report.Proof)
	report.Disaster = &last
	return report, err
}

// Faults says what the run did not prove. None: everything.
func (r Report) Faults() []string {
	faults := append(r.Proof.Faults(), r.Cascade.Faults()...)
	if r.Disaster != nil {
		faults = append(faults, r.Disaster.Faults()...)
	}
	return faults
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
	if err := makeGroup(ctx, db); err != nil {
		return err
	}
	return makeTriggers(ctx, db)
}

// show is the part with the workload.
type show struct {
	o   Options
	srv *server
	db  *pgq.DB

	work    *workload
	seen    latencies
	daemons map[string]*part
	members []*part
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
	watch := &watcher{o: s.o, db: s.db, work: s.work, seen: &s.seen}
	watch.begin(ctx)

	s.o.Say(fmt.Sprintf("workload: %d connections, up to %d transfers a second, 4 row changes each", s.o.Connections, s.o.Rate))
	begin := time.Now()
	stopWork, finishWork := crew.start("workload", s.work.run), s.work.finish
	stopWatch := crew.start("watch", watch.run)
	if err := s.breakThings(ctx, begin, report); err != nil {
		return err
	}
	finishWork()
	if err := stopWork(false); err != nil {
		return err
	}
	report.Workload = time.Since(begin)
	s.o.Say("workload stopped; the consumers work off the rest")
	if err := drain(ctx, s.db); err != nil {
		return err
	}
	if err := errors.Join(stopWatch(true), stopServices()); err != nil {
		return err
	}
	return s.conclude(ctx, report, watch)
}

// breakThings kills one thing after the other, and returns when the time of the workload is over.
func (s *show) breakThings(ctx context.Context, begin time.Time, report *Report) error {
	for i, act := range []func() error{
		func() (err error) { report.Takeover, err = s.killMember(ctx); return err },
		func() (err error) { report.Crash, err = s.crash(ctx); return err },
		func() (err error) { report.Failover, err = s.killDaemon(ctx); return err },
		func() error { return nil },
	} {
		if err := sleep(ctx, time.Duration(i+1)*s.o.Duration/4-time.Since(begin)); err != nil {
			return err
		}
		if err := act(); err != nil {
			return err
		}
	}
	return nil
}

// startServices starts the daemons and the members of the group, and returns when a daemon ticks. The returned function
// stops those that live.
func (s *show) startServices(ctx context.Context, crew *crew) (stop func() error, err error) {
	before, err := pgq.GetQueueInfo(ctx, s.db, queueName)
	if err != nil {
		return nil, err
	}
	s.daemons = make(map[string]*part)
	for _, name := range daemonNames {
		if s.daemons[name], err = s.startPart(crew, order{Name: name}); err != nil {
			return nil, err
		}
	}
	for _, name := range memberNames {
		p, err := s.startPart(crew, order{Name: name, Member: true})
		if err != nil {
			return nil, err
		}
		s.members = append(s.members, p)
	}
	err = until(ctx, func() bool {
		now, err := pgq.GetQueueInfo(ctx, s.db, queueName)
		return err == nil && now.LastTick > before.LastTick
	})
	if err == nil {
		s.o.Say(fmt.Sprintf("%d daemons run, one of them has the lease, ticks and rotates; %d members of a group share the batches",
			len(s.daemons), len(s.members)))
	}
	return s.stopServices, err
}

// stopServices ends the members before the daemons.
func (s *show) stopServices() (err error) {
	for _, p := range append(slices.Clone(s.members), slices.Collect(maps.Values(s.daemons))...) {
		err = errors.Join(err, p.end(true))
	}
	return err
}

// conclude computes the report when everything has stopped.
func (s *show) conclude(ctx context.Context, report *Report, watch *watcher) (err error) {
	if report.Proof, err = s.o.audit(ctx, s.db, s.work.acknowledged()); err != nil {
		return fmt.Errorf("compare tables and events: %w", err)
	}
	s.work.count(&report.Proof)
	if report.Latency, err = measureLatency(ctx, s.db, report); err != nil {
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
