package configs

import (
	"time"

	"github.com/skytools/skyd/handlers"
	"github.com/skytools/skyd/walarchive"
)

// Config is everything that can be configured.
type Config struct {
	// Name of this daemon in status, logs, metrics and the connections' application_name, and of its members in groups: it
	// must differ between daemons that serve the same databases. Empty: the host name.
	Instance string `koanf:"instance"`
	// How long a stopping daemon may take to finish what it is doing.
	ShutdownTimeout time.Duration `koanf:"shutdown_timeout"`
	// The log, on standard error.
	Log Log `koanf:"log"`
	// Health, metrics and status over HTTP.
	HTTP HTTP `koanf:"http"`
	// The socket that skyd status talks to.
	Control Control `koanf:"control"`
	// OpenTelemetry. The standard OTEL_ environment variables win over this section.
	Telemetry Telemetry `koanf:"telemetry"`
	// Time between two looks at a database that is up, or that does not have PgQ (yet). A configured database without
	// PgQ is looked at every 5 s at least. Can be set per database.
	CheckPeriod time.Duration `koanf:"check_period"`
	// Several daemons for the same databases.
	HA HA `koanf:"ha"`
	// Settings of the tickers. Can be set per database.
	Ticker Ticker `koanf:"ticker"`
	// Settings of maintenance. Can be set per database.
	Maintenance Maintenance `koanf:"maintenance"`
	// The databases to serve.
	Databases []Database `koanf:"databases"`
	// The consumers that this daemon runs: what it does with the events of queues.
	Consumers []Consumer `koanf:"consumers"`
	// The nodes of cascaded queues that this daemon runs the workers of. skyd node create makes them.
	Nodes []Node `koanf:"nodes"`
	// The WAL archives of clusters on this host.
	WAL []walarchive.Config `koanf:"wal"`
}

// Log configures the log.
type Log struct {
	// Least important level that is written: debug, info, warn or error.
	Level string `koanf:"level"`
	// Form of the lines: text or json.
	Format string `koanf:"format"`
}

// HTTP configures the HTTP server.
type HTTP struct {
	// Address host:port of /livez, /readyz, /metrics and /api/v1; port 0 takes a free one; none: no HTTP server. An
	// address that other machines reach needs tls_cert and tls_key, or insecure.
	Listen string `koanf:"listen"`
	// Allows plain HTTP on an address that other machines reach.
	Insecure bool `koanf:"insecure"`
	// File of the certificate (PEM), with the intermediate ones behind it.
	TLSCert string `koanf:"tls_cert"`
	// File of the certificate's key (PEM).
	TLSKey string `koanf:"tls_key"`
	// Serves /debug/pprof.
	Pprof bool `koanf:"pprof"`
}

// Control configures the control socket.
type Control struct {
	// Path of the unix socket; none: no socket. Empty: skyd.sock in $RUNTIME_DIRECTORY, else in $XDG_RUNTIME_DIR/skyd,
	// else for root in /run/skyd, else in a directory of the user below the one for temporary files.
	Socket string `koanf:"socket"`
}

// Telemetry configures tracing.
type Telemetry struct {
	// Where traces and the messaging metrics are sent by OTLP, for example http://collector:4318. Empty: nowhere, at no cost.
	Endpoint string `koanf:"endpoint"`
	// Transport of OTLP: http/protobuf or grpc.
	Protocol string `koanf:"protocol"`
	// Share of traces that is kept, 0 to 1. Those of switchover, failover, copy, backup and restore always are.
	SampleRatio float64 `koanf:"sample_ratio"`
}

// HA configures how several daemons with the same configuration share the work: each unit (ticker and maintenance of a
// database, a consumer with one worker) is done by one of them, which holds its lease.
type HA struct {
	// Time after which a daemon that shows no sign of life is replaced. A daemon that dies is replaced at once. 0: no
	// leases, this daemon does everything that it is told.
	LeaseTTL time.Duration `koanf:"lease_ttl"`
}

// Ticker configures the ticker of a database.
type Ticker struct {
	// Whether queues are ticked at all.
	Enabled bool `koanf:"enabled"`
	// Longest time between two looks for new events. The ticker looks more often while events come that are wanted
	// sooner (max_lag of the queue).
	Period time.Duration `koanf:"period"`
	// Shortest time between two looks.
	MinPeriod time.Duration `koanf:"min_period"`
	// Distance of the ticks of a quiet queue while nothing at all is written on the server. A queue whose idle period
	// is under a minute is not affected. Up to 1m it changes nothing.
	QuietPeriod time.Duration `koanf:"quiet_period"`
	// How many queues of the database are ticked at the same time, each on its own connection.
	Parallel int `koanf:"parallel"`
	// Limit of one look.
	LookTimeout time.Duration `koanf:"look_timeout"`
	// Limit of one tick.
	TickTimeout time.Duration `koanf:"tick_timeout"`
}

// Maintenance configures the maintenance of a database.
type Maintenance struct {
	// Whether maintenance runs at all: rotation of event tables, retry of events, extra operations.
	Enabled bool `koanf:"enabled"`
	// Time between two rounds.
	Period time.Duration `koanf:"period"`
	// Time between two looks at the events waiting for retry.
	RetryPeriod time.Duration `koanf:"retry_period"`
	// Limit of one operation; vacuum has none.
	OperationTimeout time.Duration `koanf:"operation_timeout"`
}

// Database is one database, or one server whose databases are found out.
type Database struct {
	// Name in status, logs and metrics: letters, digits, _ . and -. Databases found on a server are called NAME.DATABASE.
	Name string `koanf:"name"`
	// Where it is: a URL or key=value text. What it omits comes from the libpq environment variables. Put the password
	// elsewhere: ~/.pgpass, a service file, a client certificate, password_file.
	DSN string `koanf:"dsn"`
	// The password.
	Password string `koanf:"password"`
	// File with the password in its first line; read again for every connection.
	PasswordFile string `koanf:"password_file"`
	// What stands between skyd and the server: none, or transaction for a pooler that gives every transaction another
	// connection, such as PgBouncer. Leases then live by time and are written every third of ha.lease_ttl.
	Pooler string `koanf:"pooler"`
	// Way around the pooler, for the one connection that holds the leases.
	LeaseDSN string `koanf:"lease_dsn"`
	// Serve every database of the server that has PgQ; the dsn names the database to ask. Databases without PgQ are
	// looked at again every check_period.
	Discover bool `koanf:"discover"`
	// With discover: only databases that match one of these patterns (* and ?). Empty: all.
	Include []string `koanf:"include"`
	// With discover: not the databases that match one of these patterns.
	Exclude []string `koanf:"exclude"`
	// Overrides check_period for this database.
	CheckPeriod time.Duration `koanf:"check_period"`
	// Overrides keys of ticker for this database.
	Ticker Ticker `koanf:"ticker"`
	// Overrides keys of maintenance for this database.
	Maintenance Maintenance `koanf:"maintenance"`
}

// Consumer is one consumer of one queue, run by the daemon.
type Consumer struct {
	// Name of the consumer on its queue.
	Name string `koanf:"name"`
	// Queue whose events it gets.
	Queue string `koanf:"queue"`
	// Name of the queue's database under databases. May be left out when there is one only.
	Database string `koanf:"database"`
	// How many batches are handled at the same time. More than 1: the workers are members of a cooperative group
	// (pgq_coop), and there is no order between batches.
	Workers int `koanf:"workers"`
	// Whether the consumer is registered, at the newest tick, when it is not yet.
	Register bool `koanf:"register"`
	// Time between two looks for a batch that no tick of this daemon announced.
	PollPeriod time.Duration `koanf:"poll_period"`
	// Limit of one batch; its handler is cancelled then, and the batch comes again after a pause.
	BatchTimeout time.Duration `koanf:"batch_timeout"`
	// For more than one worker: a worker that shows no sign of life for so long loses its batch to another one of the
	// group, wherever that runs. Workers of all daemons say that they live four times as often.
	DeadInterval time.Duration `koanf:"dead_interval"`
	// A consumer that lags takes all waiting ticks as one batch of about so many events at most; 0: one tick, one batch.
	Merge int `koanf:"merge"`
	// For handlers that take events one by one (http without batch): an event that fails goes to the retry queue for so
	// long, and the rest of its batch goes on; 0: the batch fails and comes again.
	EventRetry time.Duration `koanf:"event_retry"`
	// What is done with the events.
	Handler handlers.Config `koanf:"handler"`
}

// DefaultConsumer returns what holds for a consumer that does not say otherwise.
func DefaultConsumer() Consumer {
	return Consumer{
		Workers: 1, Register: true, PollPeriod: time.Second, BatchTimeout: 5 * time.Minute,
		DeadInterval: time.Minute, Handler: handlers.DefaultConfig(),
	}
}

// Node is one node of a cascaded queue, whose worker the daemon runs.
type Node struct {
	// Queue that is cascaded.
	Queue string `koanf:"queue"`
	// Name of the node; a database that holds another node of the queue is refused.
	Name string `koanf:"name"`
	// Name of the node's database under databases. May be left out when there is one only.
	Database string `koanf:"database"`
	// What the node does with events beside copying them: cascade for nothing.
	Kind string `koanf:"kind"`
	// Time between two looks for a batch that the provider did not announce.
	PollPeriod time.Duration `koanf:"poll_period"`
	// How often the node tells its provider, and a root everybody, up to where events are not needed any more.
	WatermarkPeriod time.Duration `koanf:"watermark_period"`
	// Limit of one statement of the worker, and of its silence inside a transaction: a daemon that freezes there gives
	// way to another one after so long.
	StepTimeout time.Duration `koanf:"step_timeout"`
	// How long events are kept for a subscriber of this node that is tagged dead, from its last sign of life on; after
	// that its subscription goes, and it has to be built anew. 0: as long as it takes.
	DeadRetention time.Duration `koanf:"dead_retention"`
}

// KindCascade is the kind of a node that copies and follows, and applies nothing.
const KindCascade = "cascade"

// DefaultNode returns what holds for a node that does not say otherwise.
func DefaultNode() Node {
	return Node{Kind: KindCascade, PollPeriod: time.Second, WatermarkPeriod: 5 * time.Minute, StepTimeout: time.Minute}
}

// None switches a listener off.
const None = "none"

// DefaultListen is the address of the HTTP server when nothing is configured.
const DefaultListen = "127.0.0.1:8787"

// DefaultConfig returns the built-in defaults, the only place where they are.
func DefaultConfig() Config {
	return Config{
		ShutdownTimeout: 30 * time.Second,
		Log:             Log{Level: "info", Format: "text"},
		HTTP:            HTTP{Listen: DefaultListen},
		Telemetry:       Telemetry{Protocol: "http/protobuf", SampleRatio: 0.05},
		CheckPeriod:     time.Minute,
		HA:              HA{LeaseTTL: 10 * time.Second},
		Ticker: Ticker{
			Enabled: true, Period: 300 * time.Millisecond, MinPeriod: 5 * time.Millisecond, QuietPeriod: 5 * time.Minute,
			Parallel: 4, LookTimeout: 10 * time.Second, TickTimeout: 30 * time.Second,
		},
		Maintenance: Maintenance{
			Enabled: true, Period: 2 * time.Minute, RetryPeriod: 30 * time.Second, OperationTimeout: 10 * time.Minute,
		},
	}
}
