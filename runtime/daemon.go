package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/messages"
)

// Status is the snapshot of everything the daemon knows about itself.
type Status = messages.Snapshot

// ConfigStatus is the state of the configuration in a Status.
type ConfigStatus = messages.ConfigStatus

// Operation is a long operation in a Status.
type Operation = messages.Operation

// States of an Operation.
const (
	OperationRuns   = messages.OperationRuns
	OperationDone   = messages.OperationDone
	OperationFailed = messages.OperationFailed
)

// Build names the program.
type Build struct {
	Version  string
	Revision string
}

// Options are what a daemon needs beside its configuration.
type Options struct {
	// Log takes the log. Defaults to nowhere.
	Log *slog.Logger
	// Build is shown in status and metrics.
	Build Build
	// ConfigFile is the file of the configuration, for the restore_command of restore drills. Defaults to the default one.
	ConfigFile string
	// Load reads the configuration again for Reload. Defaults to none: a reload is refused.
	Load func(context.Context) (configs.Loaded, error)
	// ApplyLog changes level and format of Log. Defaults to none: a change of them needs a restart.
	ApplyLog func(configs.Log)
	// Getenv looks up NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Defaults to nothing: no systemd is told.
	Getenv func(string) string
	// Consumers are run beside those of the configuration, with handlers in Go. Reloads do not touch them.
	Consumers []Consumer
	// Nodes are run beside those of the configuration, with appliers in Go. Reloads do not touch them.
	Nodes []Node
	// Tracing takes the spans. Defaults to what configuration and environment say, which is nowhere without an endpoint.
	Tracing trace.TracerProvider
}

// Daemon is the running skyd. Build it with New; Run runs it once.
type Daemon struct {
	mu      sync.Mutex
	config  configs.Config // in force; after the start only by inForce and a reload
	opts    Options
	log     *slog.Logger
	context context.Context // values of Run's context, for what has no context of its own
	life    context.Context // cancelled when the end begins

	telemetry *telemetry
	system    *actor.ActorSystem
	root      *actor.PID
	gone      chan struct{} // the tree has ended
	ready     chan struct{}
	letters   deadLetters
	ran       atomic.Bool
	asked     chan struct{} // somebody asked for the end
	askOnce   sync.Once

	reloading  chan struct{} // holds the turn of a reload
	operations *actors.Operations
	meter      *actors.Meter
	notify     *notifier

	http    net.Listener
	control *controlSocket
}

var (
	// ErrAlreadyRun is returned by the second Run of a Daemon.
	ErrAlreadyRun = errors.New("a daemon runs only once")
	// ErrTreeEnded is returned by Run when the root actor failed: a fault of skyd itself.
	ErrTreeEnded = errors.New("the root actor failed")
)

// New builds a daemon from a valid configuration. It does no I/O. The error is configs.Faults when the configuration is
// wrong.
func New(ctx context.Context, c configs.Config, opts Options) (*Daemon, error) {
	if err := c.Validate(ctx); err != nil {
		return nil, err
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Daemon{
		config: c, opts: opts, log: opts.Log,
		gone: make(chan struct{}), ready: make(chan struct{}), asked: make(chan struct{}),
		reloading: make(chan struct{}, 1), meter: &actors.Meter{},
	}, nil
}

// Ready is closed when the daemon listens and its tree is spawned.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Addr is the address of the HTTP server; nil without one. Valid after Ready.
func (d *Daemon) Addr() net.Addr {
	if d.http == nil {
		return nil
	}
	return d.http.Addr()
}

// Run runs the daemon until ctx is cancelled, which is a clean end (nil), or until it fails by itself. It cleans up
// everything it made.
func (d *Daemon) Run(ctx context.Context) (err error) {
	if d.ran.Swap(true) {
		return ErrAlreadyRun
	}
	base := context.WithoutCancel(ctx)
	d.context = base
	life, ending := context.WithCancel(base)
	defer ending()
	d.life = life
	if d.telemetry, err = d.startTelemetry(base); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.stage("flush telemetry", func() error { return d.telemetry.close(base) }))
	}()
	if d.opts.Getenv != nil {
		if d.notify, err = newNotifier(d.opts.Getenv, d.log); err != nil {
			return err
		}
		defer d.notify.close()
	}
	if err := d.listen(ctx); err != nil {
		return errors.Join(err, d.closeListeners())
	}
	if err := d.spawn(base); err != nil {
		return errors.Join(err, d.closeListeners())
	}
	failed, serving := d.serve(base)
	close(d.ready)
	d.log.Info("skyd is running", "version", d.opts.Build.Version, "instance", d.config.Instance,
		"databases", len(d.config.Databases), "http", listenText(d.http), "socket", d.control.path())
	d.notify.ready(d.statusLine())

	var cause error
	select {
	case <-ctx.Done():
	case <-d.asked:
	case <-d.gone:
		cause = ErrTreeEnded
	case cause = <-failed:
	}
	ending()
	d.notify.stopping()
	limit := d.inForce().ShutdownTimeout
	d.log.Info("skyd is stopping", "timeout", limit)
	stop := d.stage("stop the actors", func() error { return d.stopTree(base, limit) })
	shut := d.stage("close listeners", func() error {
		err := serving.shutdown(base)
		return errors.Join(err, d.closeListeners())
	})
	d.system.Shutdown()
	if err := errors.Join(cause, stop, shut); err != nil {
		return err
	}
	d.log.Info("skyd has stopped")
	return nil
}

// Stop asks a running daemon to end as if the context of Run were cancelled. It does not wait. Safe for concurrent use.
func (d *Daemon) Stop() { d.askOnce.Do(func() { close(d.asked) }) }

// inForce is the configuration in force.
func (d *Daemon) inForce() configs.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

// statusLine is what systemctl status shows.
func (d *Daemon) statusLine() string {
	return fmt.Sprintf("serving %d database(s), http %s", len(d.inForce().Databases), listenText(d.http))
}

// stage runs one stage of the end and logs how long it took.
func (d *Daemon) stage(name string, run func() error) error {
	begin := time.Now()
	err := run()
	if err != nil {
		d.log.Warn("stage of shutdown failed", "stage", name, "err", err, "dur", time.Since(begin))
		return fmt.Errorf("%s: %w", name, err)
	}
	d.log.Debug("stage of shutdown done", "stage", name, "dur", time.Since(begin))
	return nil
}

// listen opens the HTTP address and the control socket.
func (d *Daemon) listen(ctx context.Context) error {
	if s := d.config.Control.Socket; s != "" && s != configs.None {
		control, err := openControl(ctx, s)
		if err != nil {
			return err
		}
		d.control = control
	}
	if d.config.HTTP.Listen == configs.None {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.config.HTTP.Listen)
	if err != nil {
		return &ListenError{Address: d.config.HTTP.Listen, err: err}
	}
	d.http = l
	return nil
}

// ListenError says that the HTTP address could not be taken.
type ListenError struct {
	Address string
	err     error
}

// Error implements error.
func (e *ListenError) Error() string {
	return fmt.Sprintf("listen on %s: %v", e.Address, rootCause(e.err))
}

// Unwrap gives the cause.
func (e *ListenError) Unwrap() error { return e.err }

// rootCause is the innermost error: "address already in use" without what was tried.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func (d *Daemon) closeListeners() error {
	var errs []error
	if d.http != nil {
		if err := d.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, d.control.close())...)
}

// listenText is the address for the log.
func listenText(l net.Listener) string {
	if l == nil {
		return configs.None
	}
	return l.Addr().String()
}

// spawn starts the actor tree.
func (d *Daemon) spawn(ctx context.Context) error {
	d.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(quietly(d.log.Handler())) }),
		actor.WithDeadLetterThrottleInterval(time.Millisecond), actor.WithDeadLetterThrottleCount(1))
	d.letters.watch(d.system)
	d.operations = actors.NewOperations(d.system)
	env := actors.Env{
		Log: d.log, Meter: d.meter, Operations: d.operations, Tracer: d.tracer(scopeName),
		Context: cascade.ContextWithTracerProvider(ctx, d.telemetry.tracing),
	}
	p := actors.DaemonParams{
		Env: env, Version: d.opts.Build.Version, Instance: d.config.Instance, Stopped: d.gone,
		Beat: d.notify.beat, BeatPeriod: d.notify.period(),
	}
	p.Databases, p.Discoveries = d.wanted(ctx, d.config)
	p.Archives = d.archiveParams(d.config)
	pid, err := d.system.Root.SpawnNamed(actors.DaemonProps(p), actors.RootName)
	if err != nil {
		return fmt.Errorf("spawn the root actor: %w", err)
	}
	d.root = pid
	return nil
}

// tracer is the tracer of one package.
func (d *Daemon) tracer(scope string) trace.Tracer {
	return d.telemetry.tracing.Tracer(scope, trace.WithInstrumentationVersion(d.opts.Build.Version), trace.WithSchemaURL(schemaURL))
}

// wanted makes the parameters of everything that a configuration asks for.
func (d *Daemon) wanted(ctx context.Context, c configs.Config) (dbs []actors.DatabaseParams, servers []actors.DiscoveryParams) {
	for _, db := range c.Databases {
		if db.Discover {
			servers = append(servers, d.discoveryParams(ctx, c, db))
		} else {
			dbs = append(dbs, d.databaseParams(ctx, c, db, db.Name, ""))
		}
	}
	return dbs, servers
}

// databaseParams makes the actor parameters of one database; database, when not empty, is one that was found.
func (d *Daemon) databaseParams(ctx context.Context, c configs.Config, db configs.Database, name, database string) actors.DatabaseParams {
	instance := c.Instance
	p := actors.DatabaseParams{
		Name: name, Optional: database != "" || archived(c, name), CheckPeriod: db.CheckPeriod, CheckTimeout: checkTimeout,
		Open:       func() (actors.Handle, error) { return openPool(ctx, db, instance, name, database, tickConns(db)) },
		Connection: connectionKey(db, instance, database),
		Consumers:  d.consumerParams(ctx, c, db, name, database),
		Nodes:      d.nodeParams(ctx, c, db, name, database),
		Lease:      d.leaseParams(ctx, c, db, name, database),
	}
	if t := db.Ticker; t.Enabled {
		p.Ticker = actors.TickerParams{
			Period: t.Period, MinPeriod: t.MinPeriod, QuietPeriod: t.QuietPeriod, Parallel: t.Parallel,
			LookTimeout: t.LookTimeout, TickTimeout: t.TickTimeout,
		}
	}
	if m := db.Maintenance; m.Enabled {
		p.Maintainer = actors.MaintainerParams{
			Period: m.Period, RetryPeriod: m.RetryPeriod, OperationTimeout: m.OperationTimeout,
		}
	}
	return p
}

// discoveryParams makes the actor parameters of a server whose databases are found out.
func (d *Daemon) discoveryParams(ctx context.Context, c configs.Config, db configs.Database) actors.DiscoveryParams {
	instance := c.Instance
	found := db
	found.Include, found.Exclude = nil, nil // who is served changes nothing for those that are
	return actors.DiscoveryParams{
		Name: db.Name, Period: db.CheckPeriod, Timeout: checkTimeout, Connection: connectionKey(db, instance, ""),
		Open: func() (actors.Server, error) {
			p, err := openPool(ctx, db, instance, db.Name, "", tickConns(db))
			if err != nil {
				return nil, err
			}
			return &server{pool: p, include: db.Include, exclude: db.Exclude}, nil
		},
		Database: func(name string) actors.DatabaseParams {
			return d.databaseParams(ctx, c, found, db.Name+"."+name, name)
		},
	}
}

// stopTree stops the root actor and waits for it, at most shutdown_timeout.
func (d *Daemon) stopTree(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, max(limit, time.Millisecond))
	defer cancel()
	d.system.Root.Stop(d.root)
	select {
	case <-d.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("actors still at work after %s: %w", limit, ctx.Err())
	}
}

// Status asks for the snapshot. It fails when the daemon does not run, or does not answer in time.
func (d *Daemon) Status(ctx context.Context) (Status, error) {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return Status{}, ctx.Err()
	}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		reply := make(chan messages.Snapshot, 1)
		d.system.Root.Send(actors.StatusPID(d.root), messages.GetStatus{Reply: reply})
		select {
		case s := <-reply:
			return s, nil
		case <-again.C: // the status actor was not there yet, or was just replaced: the question is lost
		case <-d.gone:
			return Status{}, errors.New("the daemon has stopped")
		case <-ctx.Done():
			return Status{}, fmt.Errorf("ask for the status: %w", ctx.Err())
		}
	}
}

// askAgain is how long an answer of the status actor may take before the question is put again.
const askAgain = 100 * time.Millisecond

// ping asks the root actor for a sign of life.
func (d *Daemon) ping(ctx context.Context) error {
	reply := make(chan time.Time, 1)
	d.system.Root.Send(d.root, messages.GetHealth{Reply: reply})
	select {
	case <-reply:
		return nil
	case <-d.gone:
		return errors.New("the root actor has ended")
	case <-ctx.Done():
		return fmt.Errorf("the root actor does not answer: %w", ctx.Err())
	}
}

// servers are the running HTTP servers.
type servers struct {
	list []*http.Server
	wait sync.WaitGroup
}

// serve starts HTTP on all listeners; the channel tells the first failure.
func (d *Daemon) serve(ctx context.Context) (<-chan error, *servers) {
	failed, s := make(chan error, 2), &servers{}
	start := func(l net.Listener, h http.Handler, secure bool) {
		srv := &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		}
		s.list = append(s.list, srv)
		s.wait.Go(func() {
			var err error
			if secure {
				err = srv.ServeTLS(l, d.config.HTTP.TLSCert, d.config.HTTP.TLSKey)
			} else {
				err = srv.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
		})
	}
	if d.http != nil {
		start(d.http, d.httpHandler(), d.config.HTTP.TLSCert != "")
	}
	if d.control != nil {
		start(d.control.listener, d.controlHandler(), false)
	}
	return failed, s
}

// shutdown ends all servers; requests under way get a moment.
func (s *servers) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var errs []error
	for _, srv := range s.list {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, srv.Close())
		}
	}
	s.wait.Wait()
	return errors.Join(errs...)
}
