package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

func TestMain(m *testing.M) {
	moving.install()
	code := pgtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// slow is how long a test waits for a fact; this machine may be busy.
const slow = 60 * time.Second

// logBuffer collects the log of a daemon.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a daemon under test.
type running struct {
	*Daemon
	t    testing.TB
	log  *logBuffer
	stop func() error
}

// database is the configuration of one database with periods that suit a test.
func database(name, dsn string) configs.Database {
	d := configs.DefaultConfig()
	db := configs.Database{Name: name, DSN: dsn, CheckPeriod: 200 * time.Millisecond, Ticker: d.Ticker, Maintenance: d.Maintenance}
	db.Ticker.Period = 50 * time.Millisecond
	db.Maintenance.Period = 200 * time.Millisecond
	db.Maintenance.RetryPeriod = 200 * time.Millisecond
	return db
}

// run starts a daemon and stops it at the end of the test, which fails when the end is not clean.
func run(t testing.TB, tracing trace.TracerProvider, dbs ...configs.Database) *running {
	t.Helper()
	c := configs.DefaultConfig()
	c.Instance = "test"
	c.HTTP.Listen = "127.0.0.1:0"
	c.Control.Socket = filepath.Join(t.TempDir(), "s")
	c.Databases = dbs
	return runConfig(t, c, tracing)
}

func runConfig(t testing.TB, c configs.Config, tracing trace.TracerProvider) *running {
	t.Helper()
	return runOptions(t, c, Options{Tracing: tracing})
}

func runOptions(t testing.TB, c configs.Config, opts Options) *running {
	t.Helper()
	log := &logBuffer{}
	opts.Log = NewLogger(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	opts.Build = Build{Version: "v0"}
	d, err := New(t.Context(), c, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	r := &running{Daemon: d, t: t, log: log}
	r.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(slow):
			return errors.New("the daemon does not end")
		}
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the end was not clean: %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	select {
	case <-d.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("the daemon did not start: %v", err)
	}
	return r
}

// status asks for the snapshot.
func (r *running) status() Status {
	ctx, cancel := context.WithTimeout(r.t.Context(), slow)
	defer cancel()
	s, err := r.Status(ctx)
	if err != nil {
		r.t.Error(err)
	}
	return s
}

// actor finds an actor in the status.
func (r *running) actor(path string) messages.ActorStatus {
	for _, a := range r.status().Actors {
		if a.Path == path {
			return a
		}
	}
	return messages.ActorStatus{}
}

// queue finds a queue in the status.
func (r *running) queue(db, queue string) messages.QueueStatus {
	for _, q := range r.status().Queues {
		if q.Database == db && q.Queue == queue {
			return q
		}
	}
	return messages.QueueStatus{}
}

// get asks over HTTP.
func (r *running) get(path string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.Addr().String()+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// exec runs a statement.
func exec(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value reads one value.
func value[T any](t testing.TB, c *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := c.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// newQueue makes a queue that ticks at once.
func newQueue(t testing.TB, c *pgx.Conn, name string) {
	t.Helper()
	exec(t, c, `select pgq.create_queue($1)`, name)
	exec(t, c, `select pgq.set_queue_config($1, 'ticker_max_lag', '0')`, name)
}

// ticksOn waits until the queue ticks: an event inserted now is covered by a tick.
func ticksOn(t testing.TB, c *pgx.Conn, queue string) {
	t.Helper()
	id := value[int64](t, c, `select pgq.insert_event($1, 't', 'd')`, queue)
	pgtest.Eventually(t, slow, "tick of "+queue, func() bool {
		return value[bool](t, c, `select exists (select from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue
			where q.queue_name = $1 and t.tick_event_seq >= $2)`, queue, id)
	})
}

func TestDaemon_TicksAndIsReady(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	r := run(t, provider, database("main", db.DSN))
	for range 5 {
		ticksOn(t, c, "q")
	}
	pgtest.Eventually(t, slow, "figures of the queue", func() bool { return r.queue("main", "q").Ticks >= 5 })
	pgtest.Eventually(t, slow, "maintenance", func() bool { return r.actor("database/main/maintainer").State == messages.Running })

	code, body := r.get("/readyz?verbose")
	if code != http.StatusOK || !strings.Contains(body, "[+] ticker/main running") || !strings.HasSuffix(body, "\nok\n") {
		t.Errorf("readyz: %d %s", code, body)
	}
	for path, want := range map[string]int{
		"/livez": 200, "/healthz": 200, "/readyz": 200, "/readyz/ticker/main": 200, "/readyz/ticker/main?lag=1h": 200,
		"/readyz/ticker/none": 404, "/readyz/ticker/main?lag=x": 400, "/api/v1/status": 200, "/": 200, "/debug/pprof/": 404, "/x": 404,
	} {
		if code, body := r.get(path); code != want {
			t.Errorf("%s: got %d, want %d: %s", path, code, want, body)
		}
	}
	_, body = r.get("/metrics")
	for _, want := range []string{
		`skyd_build_info{goversion="go`, `skyd_db_up{db="main"} 1`, `skyd_db_in_recovery{db="main"} 0`,
		`skyd_actor_up{db="main",kind="ticker",name="database/main/ticker"} 1`,
		`skyd_actor_restarts_total{db="main",kind="ticker",name="database/main/ticker"} 0`, `skyd_tick_errors_total{db="main",queue="q"} 0`,
		`skyd_tick_duration_seconds_count{db="main",queue="q"} `, `skyd_ticker_lag_seconds{db="main",queue="q"} `,
		`skyd_queue_events_total{db="main",queue="q"} 5`, `skyd_queue_events_unticked{db="main",queue="q"} 0`,
		`skyd_queue_rotation_age_seconds{db="main",queue="q"} `, `skyd_maintenance_errors_total{db="main"} 0`, "go_goroutines",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	checkTickSpans(t, exporter.GetSpans(), value[int64](t, c, `select max(tick_id) from pgq.tick`))
}

// checkTickSpans checks the spans of ticks: there is one for the newest tick, and each is a root with the agreed keys.
func checkTickSpans(t *testing.T, spans tracetest.SpanStubs, newest int64) {
	t.Helper()
	found := false
	for _, s := range spans {
		attrs := attribute.NewSet(s.Attributes...)
		get := func(k attribute.Key) attribute.Value {
			v, _ := attrs.Value(k)
			return v
		}
		if s.Name != "tick q" || s.SpanKind != trace.SpanKindInternal || s.Parent.IsValid() || !s.EndTime.After(s.StartTime) {
			t.Errorf("got span %s, kind %s, parent %v, %s to %s", s.Name, s.SpanKind, s.Parent.IsValid(), s.StartTime, s.EndTime)
		}
		if get(pgq.KeyMessagingSystem).AsString() != "pgq" || get(pgq.KeyMessagingDestination).AsString() != "q" ||
			get(pgq.KeyActorName).AsString() != "database/main/ticker" || get(pgq.KeyActorKind).AsString() != "ticker" {
			t.Errorf("got attributes %v", s.Attributes)
		}
		if _, ok := attrs.Value(pgq.KeyMessagingOperationName); ok {
			t.Error("a tick is no messaging operation")
		}
		found = found || get(pgq.KeyPgqTickID).AsInt64() == newest
	}
	if !found {
		t.Errorf("no span of tick %d among %d", newest, len(spans))
	}
}
