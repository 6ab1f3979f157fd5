package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

// The names of the daemons and of the members of the consumer's group.
var (
	daemonNames = []string{"daemon-a", "daemon-b"}
	memberNames = []string{"clerk-1", "clerk-2", "clerk-3"}
)

const (
	// leaseTTL is after how long without a sign of life another daemon takes over; one whose session ends is followed
	// at once.
	leaseTTL = 2 * time.Second
	// deadInterval is the same for the batch of a member.
	deadInterval = 2 * time.Second
)

// order is what the demo writes to a part: first with what it is to be, later with what it shall do.
type order struct {
	Member    bool          `json:"member,omitempty"` // of the group; else a daemon
	Name      string        `json:"name,omitempty"`
	DSN       string        `json:"dsn,omitempty"`
	Log       bool          `json:"log,omitempty"`
	LogFormat string        `json:"log_format,omitempty"`
	Build     runtime.Build `json:"build,omitzero"`
	// Nodes are those of the cascade that a daemon runs, in place of the database.
	Nodes []cascadeNode `json:"nodes,omitempty"`

	// Hold makes a member stop in the middle of its next batch.
	Hold bool `json:"hold,omitempty"`
}

// note is what a part writes to the demo.
type note struct {
	Holding   *held           `json:"holding,omitempty"`
	Latencies []time.Duration `json:"latencies,omitempty"` // of the events of a batch
	Error     string          `json:"error,omitempty"`     // why the part ends
}

// held is a batch in whose middle a member stands.
type held struct {
	Tick   int64 `json:"tick"` // its end
	Events int   `json:"events"`
}

// Part is one process of the demo: a daemon or a member of the consumer's group, as in says. It ends when in does, so
// that no part outlives the demo, however that ends.
func Part(ctx context.Context, in io.Reader, out, log io.Writer) error {
	orders := json.NewDecoder(in)
	var first order
	if err := orders.Decode(&first); err != nil {
		return fmt.Errorf("read what to be: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	teller := &teller{out: json.NewEncoder(out)}
	books := &bookkeeper{member: first.Name, tell: teller.tell}
	go func() { // ends with the process at the latest: nothing can interrupt reading
		defer cancel()
		var next order
		for orders.Decode(&next) == nil {
			books.hold.Store(next.Hold)
		}
	}()
	logger := slog.New(slog.DiscardHandler)
	if first.Log {
		logger = runtime.NewLogger(runtime.NewLogSwitch(log, configs.Log{Level: "info", Format: first.LogFormat}).Handler())
	}
	logger = logger.With("part", first.Name)
	run := runDaemon
	if first.Member {
		run = books.run
	}
	err := run(ctx, first, logger)
	if err != nil {
		teller.tell(note{Error: err.Error()})
	}
	return err
}

// teller writes notes; safe for concurrent use.
type teller struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (t *teller) tell(n note) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.out.Encode(n) // whoever does not read any more has ended, and in ends too
}

// runDaemon is the daemon of skyd run.
func runDaemon(ctx context.Context, o order, log *slog.Logger) error {
	c := daemonConfig(o.DSN, o.Name)
	if len(o.Nodes) > 0 {
		cascadeDatabases(&c, o.Nodes)
	}
	daemon, err := runtime.New(ctx, c, runtime.Options{Log: log, Build: o.Build})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

// daemonConfig is the configuration of a daemon: the built-in defaults, but eager and without listeners.
func daemonConfig(dsn, name string) configs.Config {
	c := configs.DefaultConfig()
	c.Instance = name
	c.ShutdownTimeout = 5 * time.Second
	c.HA.LeaseTTL = leaseTTL
	c.HTTP.Listen, c.Control.Socket = configs.None, configs.None
	c.Maintenance.Period = time.Second
	c.Databases = []configs.Database{{
		Name: "demo", DSN: dsn, CheckPeriod: time.Second, Ticker: c.Ticker, Maintenance: c.Maintenance,
	}}
	return c
}

// run is a member of the consumer's group.
func (k *bookkeeper) run(ctx context.Context, o order, log *slog.Logger) error {
	db, err := pgq.Open(ctx, o.DSN, pgq.WithApplicationName("skyd/demo/"+o.Name), pgq.WithPreparedStatements(), pgq.WithMaxConns(3))
	if err != nil {
		return err
	}
	defer db.Close()
	return pgq.NewCoopConsumer(db, queueName, consumerName, o.Name, pgq.BatchTxHandler(k.book), pgq.CoopOptions{
		ConsumerOptions: pgq.ConsumerOptions{Logger: log, BackoffMin: 50 * time.Millisecond, BackoffMax: time.Second},
		DeadInterval:    deadInterval,
	}).Run(ctx)
}

// errHeld ends the batch of a member that was told to hold and not killed.
var errHeld = errors.New("held in the middle of a batch until the end")
