package runtime

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

func TestWithDatabase_ReplacesTheDatabaseAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://u:p%40ss@h:5433/old?sslmode=disable", "postgres://u:p%40ss@h:5433?sslmode=disable&dbname=old",
		"host=h port=5433 user=u password='p@ss' dbname=old sslmode=disable", "host=h port=5433 user=u password=p@ss sslmode=disable",
	} {
		for _, name := range []string{"new", "with space", `qu'o"te\`, "ünï/code?&=%"} {
			changed, err := withDatabase(dsn, name)
			if err != nil {
				t.Fatal(err)
			}
			c, err := pgx.ParseConfig(changed)
			if err != nil {
				t.Errorf("%s for %q: %v", dsn, name, err)
				continue
			}
			if c.Database != name || c.Host != "h" || c.Port != 5433 || c.User != "u" || c.Password != "p@ss" {
				t.Errorf("%s: got %q %s:%d %s %s", changed, c.Database, c.Host, c.Port, c.User, c.Password)
			}
		}
	}
	if _, err := withDatabase("postgres://u:secret@h:port/x", "y"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestPool_PasswordFileIsReadForEveryConnection(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	p, err := openPool(t.Context(), configs.Database{
		DSN: "host=127.0.0.1 port=1 dbname=x", PasswordFile: file,
		Ticker: configs.DefaultConfig().Ticker,
	}, "i", "x", "", 5)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	before := p.db.Config().BeforeConnect
	for _, password := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(password+"\nrest\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var cc pgx.ConnConfig
		if err := before(t.Context(), &cc); err != nil || cc.Password != password {
			t.Errorf("got %q, %v", cc.Password, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := before(t.Context(), &pgx.ConnConfig{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if name := p.db.Config().ConnConfig.RuntimeParams["application_name"]; name != "skyd/i/x" {
		t.Errorf("got application_name %s", name)
	}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want actors.Trouble
	}{
		{&pgconn.PgError{Code: "25006"}, actors.Trouble{Reason: "read_only", Lost: true, Outage: true}},
		{&pgconn.PgError{Code: "57P01"}, actors.Trouble{Reason: "closed", Lost: true, Outage: true}},
		{&pgconn.PgError{Code: "28P01"}, actors.Trouble{Reason: "auth", Permanent: true}},
		{&pgconn.PgError{Code: "3D000"}, actors.Trouble{Reason: "auth", Permanent: true}},
		{&pgconn.PgError{Code: "40001"}, actors.Trouble{Reason: "other"}},
		{context.DeadlineExceeded, actors.Trouble{Reason: "timeout", Outage: true}},
		{context.Canceled, actors.Trouble{Reason: "other"}},
		{&pgconn.PgError{Code: "53100"}, actors.Trouble{Reason: "other", Outage: true}},
		{io.ErrUnexpectedEOF, actors.Trouble{Reason: "closed", Lost: true, Outage: true}},
		{pgq.ErrNotInstalled, actors.Trouble{Reason: "other", Permanent: true}},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.err, got, c.want)
		}
	}
}

func TestHealth_RedOnlyWhenSomeoneShouldLook(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name string
		a    messages.ActorStatus
		want bool
	}{
		{"running", messages.ActorStatus{State: messages.Running}, true},
		{"just started", messages.ActorStatus{State: messages.Starting, DownSince: now}, true},
		{"starting for long", messages.ActorStatus{State: messages.Starting, DownSince: now.Add(-grace)}, false},
		{"away for a moment", messages.ActorStatus{State: messages.Backoff, DownSince: now.Add(-grace / 2)}, true},
		{"crash loop", messages.ActorStatus{State: messages.Starting, DownSince: now.Add(-time.Minute), Restarts: 9}, false},
		{"crash loop, runs for a moment", messages.ActorStatus{State: messages.Running, RecentFailures: flapping}, false},
		{"failed once", messages.ActorStatus{State: messages.Running, RecentFailures: 1, Restarts: 7}, true},
		{"needs a human", messages.ActorStatus{State: messages.Failed, DownSince: now}, false},
		{"parked by its parent", messages.ActorStatus{State: messages.Parked, DownSince: now.Add(-time.Hour)}, true},
		{"found, may not connect", messages.ActorStatus{State: messages.Failed, Optional: true, DownSince: now}, true},
		{"found, never reached", messages.ActorStatus{State: messages.Backoff, Optional: true, DownSince: now.Add(-time.Hour)}, true},
		{"found, was served, is away", messages.ActorStatus{State: messages.Backoff, Optional: true, WasUp: true, DownSince: now.Add(-time.Hour)}, false},
	} {
		if got := Healthy(Health(Status{Now: now, Actors: []messages.ActorStatus{c.a}})); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestHTTP_ReadinessSelectsAndLimits(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	r := run(t, nil, database("main", db.DSN), database("empty", pgtest.Empty(t).DSN))
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "one database is red", func() bool { code, _ := r.get("/readyz"); return code == 503 })
	if code, body := r.get("/readyz?exclude=database/empty"); code != 200 || body != "ok\n" {
		t.Errorf("got %d %s", code, body)
	}
	pgtest.Eventually(t, slow, "figures", func() bool { return r.queue("main", "q").LastTick > 0 })
	if code, body := r.get("/readyz/ticker/main?lag=1ns"); code != 503 || !strings.Contains(body, "the newest tick of queue q is ") {
		t.Errorf("got %d %s", code, body)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+r.Addr().String()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil || response.StatusCode != 200 {
		t.Errorf("HEAD: %v %v", response, err)
	}
	if err == nil {
		_ = response.Body.Close()
	}
}

func TestTracing_IsSentWhereTheConfigurationSays(t *testing.T) {
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	var posts atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" && strings.Contains(string(body), "tick q") {
			posts.Add(1)
		}
	}))
	defer collector.Close()
	cfg := configs.DefaultConfig()
	cfg.HTTP.Listen, cfg.Control.Socket = configs.None, configs.None
	cfg.Telemetry.Endpoint, cfg.Telemetry.SampleRatio = collector.URL, 1
	cfg.Databases = []configs.Database{database("main", db.DSN)}
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
	r := runConfig(t, cfg, nil)
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "figures", func() bool { return r.queue("main", "q").Ticks > 0 })
	if err := r.stop(); err != nil { // flushes
		t.Fatal(err)
	}
	if posts.Load() == 0 {
		t.Error("no span arrived")
	}
}

func TestLogger_AddsTheTrace(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log := NewLogger(slog.NewTextHandler(&b, nil)).With("db", "main")
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log.InfoContext(trace.ContextWithSpanContext(t.Context(), span), "x")
	if got := b.String(); !strings.Contains(got, "db=main trace_id=01000000000000000000000000000000 span_id=0200000000000000\n") {
		t.Errorf("got %s", got)
	}
}

func TestDaemon_FrozenNetworkIsNoticedAndHealed(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	proxy := pgtest.NewProxy(t, db.DSN)
	cfg := database("main", proxy.DSN(db.DSN))
	cfg.Ticker.LookTimeout = 500 * time.Millisecond
	r := run(t, nil, cfg)
	ticksOn(t, c, "q")
	proxy.Freeze()
	pgtest.Eventually(t, slow, "the ticker waits", func() bool { return r.actor("database/main/ticker").State != messages.Running })
	if code, _ := r.get("/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	proxy.Thaw()
	ticksOn(t, c, "q")
	proxy.Reset()
	ticksOn(t, c, "q")
	for _, path := range []string{"database/main", "database/main/ticker", "database/main/maintainer"} {
		if a := r.actor(path); a.Restarts != 0 {
			t.Errorf("%s failed: %+v", path, a)
		}
	}
}

func TestControl_RefusesADirectoryOfSomebodyElse(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to make a directory of somebody else")
	}
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if s, err := openControl(t.Context(), filepath.Join(dir, "s")); err == nil {
		_ = s.close()
		t.Error("taken")
	}
	var none *controlSocket
	if err := none.close(); err != nil || none.path() != "none" {
		t.Errorf("got %v", err)
	}
}

func TestDaemon_FreesItsAddressAndSocket(t *testing.T) {
	t.Parallel()
	r := run(t, nil, database("x", "host=127.0.0.1 port=1 dbname=x"))
	addr, socket := r.Addr().String(), r.config.Control.Socket
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for network, address := range map[string]string{"tcp": addr, "unix": socket} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Errorf("%s: %v", network, err)
			continue
		}
		_ = l.Close()
	}
}

// The daemon replaces pgqd on the original C extension: ticks, rotation and retry.
func TestDaemon_ServesTheCExtension(t *testing.T) {
	t.Parallel()
	db := pgtest.Extension(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `select pgq.set_queue_config('q', 'rotation_period', '1 ms')`)
	table := value[int32](t, c, `select queue_cur_table from pgq.queue`)
	r := run(t, nil, database("main", db.DSN))
	for range 3 {
		ticksOn(t, c, "q")
	}
	pgtest.Eventually(t, slow, "a rotation", func() bool {
		return value[int32](t, c, `select queue_cur_table from pgq.queue`) != table
	})
	exec(t, c, `select pgq.register_consumer('q', 'c')`)
	ticksOn(t, c, "q")
	retry := func() bool {
		batch := value[*int64](t, c, `select pgq.next_batch('q', 'c')`)
		if batch == nil {
			return false
		}
		n := value[int64](t, c, `select count(pgq.event_retry($1, ev_id, 0)) from pgq.get_batch_events($1)`, *batch)
		exec(t, c, `select pgq.finish_batch($1)`, *batch)
		return n > 0
	}
	pgtest.Eventually(t, slow, "events for retry", retry)
	pgtest.Eventually(t, slow, "retried events are counted", func() bool {
		s := r.status()
		return len(s.Databases) == 1 && s.Databases[0].Retried > 0 && s.Databases[0].OpsFailed == 0
	})
	pgtest.Eventually(t, slow, "retried events come again", func() bool {
		return value[int64](t, c, `select count(*) from pgq.retry_queue`) == 0 && retry()
	})
}

func TestMetrics_AnyBytesInANameAreNoPanic(t *testing.T) {
	t.Parallel()
	if got := valid([]string{"a\xff", "ö"}); got[0] != "a\uFFFD" || got[1] != "ö" {
		t.Errorf("got %q", got)
	}
}

func TestHTTP_TLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c, dir := configs.DefaultConfig(), t.TempDir()
	c.HTTP = configs.HTTP{Listen: "127.0.0.1:0", TLSCert: filepath.Join(dir, "cert"), TLSKey: filepath.Join(dir, "key")}
	c.Control.Socket = configs.None
	c.Databases = []configs.Database{database("x", "host=127.0.0.1 port=1 dbname=x")}
	for file, block := range map[string]*pem.Block{
		c.HTTP.TLSCert: {Type: "CERTIFICATE", Bytes: cert}, c.HTTP.TLSKey: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := runConfig(t, c, nil)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+r.Addr().String()+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("got %s", response.Status)
	}
}
