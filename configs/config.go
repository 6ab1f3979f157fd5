package configs

import (
	"time"
)

// Config is everything that can be configured.
type Config struct {
	// Name of this daemon in status, logs, metrics and the connections' application_name. Empty: the host name.
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
	// Settings of the tickers. Can be set per database.
	Ticker Ticker `koanf:"ticker"`
	// Settings of maintenance. Can be set per database.
	Maintenance Maintenance `koanf:"maintenance"`
	// The databases to serve.
	Databases []Database `koanf:"databases"`
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
	// Where traces are sent by OTLP, for example http://collector:4318. Empty: no tracing, at no cost.
	Endpoint string `koanf:"endpoint"`
	// Transport of OTLP: http/protobuf or grpc.
	Protocol string `koanf:"protocol"`
	// Share of traces that is kept, 0 to 1.
	SampleRatio float64 `koanf:"sample_ratio"`
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
		Ticker: Ticker{
			Enabled: true, Period: 300 * time.Millisecond, MinPeriod: 5 * time.Millisecond, QuietPeriod: 5 * time.Minute,
			Parallel: 4, LookTimeout: 10 * time.Second, TickTimeout: 30 * time.Second,
		},
		Maintenance: Maintenance{
			Enabled: true, Period: 2 * time.Minute, RetryPeriod: 30 * time.Second, OperationTimeout: 10 * time.Minute,
		},
	}
}
