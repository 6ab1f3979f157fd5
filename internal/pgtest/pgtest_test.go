package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/skytools/skyd/pgqsql"
)

func TestMain(m *testing.M) {
	code := Main(m)
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func scan[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestEmpty_OneEachAndSearchPathIsEmpty(t *testing.T) {
	t.Parallel()
	a, b := Empty(t), Empty(t)
	if a.Name == b.Name {
		t.Fatalf("two databases are called %s", a.Name)
	}
	for _, d := range []*Database{a, b} {
		conn := d.Conn(t)
		if got := scan[string](t, conn, "select current_database()"); got != d.Name {
			t.Errorf("database %q, want %q", got, d.Name)
		}
		if got := scan[string](t, conn, "show search_path"); strings.Trim(got, `"`) != "" {
			t.Errorf("search_path = %s, want none", got)
		}
		if _, err := conn.Exec(t.Context(), "create table public.t (a int)"); err != nil {
			t.Error(err)
		}
	}
}

func TestEmpty_DroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	var name, role string
	t.Run("user", func(t *testing.T) {
		d := Empty(t)
		name, role = d.Name, d.Role(t, "pg_monitor")
		if _, err := d.Conn(t).Exec(t.Context(), "create schema own authorization "+role); err != nil {
			t.Error(err)
		}
		d.Pool(t)
		if got := scan[string](t, d.ConnAs(t, role), "select session_user"); got != role {
			t.Errorf("session_user %s, want %s", got, role)
		}
		if got := scan[string](t, connect(t, d.DSNAs(role)), "select session_user"); got != role {
			t.Errorf("session_user over DSN %s, want %s", got, role)
		}
	})
	conn := Empty(t).Conn(t)
	if n := scan[int](t, conn, "select count(*) from pg_database where datname = '"+name+"'"); n != 0 {
		t.Errorf("database %s is still there", name)
	}
	if n := scan[int](t, conn, "select count(*) from pg_roles where rolname = '"+role+"'"); n != 0 {
		t.Errorf("role %s is still there", role)
	}
}

func TestExtension_HasTheOriginal(t *testing.T) {
	t.Parallel()
	if v := scan[string](t, Extension(t).Conn(t), "select pgq.version()"); v == "" {
		t.Error("pgq.version() is empty")
	}
}

func TestNewCluster_KillRestartFreeze(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, map[string]string{"max_connections": "17"})
	dsn := c.DSN("postgres")
	if got := scan[string](t, connect(t, dsn), "show max_connections"); got != "17" {
		t.Errorf("max_connections = %s", got)
	}
	c.Kill()
	if _, err := pgx.Connect(t.Context(), dsn); err == nil {
		t.Error("a killed server answers")
	}
	c.Start()
	c.Restart()
	c.Freeze()
	c.Thaw()
	scan[int](t, connect(t, dsn), "select 1")
}

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 100)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// say sends text and reads at most as much back within d.
func say(t *testing.T, c net.Conn, text string, d time.Duration) (string, error) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for buf := make([]byte, 100); len(got) < len(text); {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return string(got), err
		}
	}
	return string(got), nil
}

func TestProxy_FreezeThaw(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t))
	c := dial(t, p)
	if got, err := say(t, c, "one", time.Minute); got != "one" || err != nil {
		t.Fatalf("say = %q, %v", got, err)
	}
	p.Freeze()
	if got, err := say(t, c, "two", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("frozen: say = %q, %v", got, err)
	}
	if got, err := say(t, dial(t, p), "new", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("frozen, new connection: say = %q, %v", got, err)
	}
	p.Thaw()
	if got, err := say(t, c, "six", time.Minute); !strings.HasPrefix(got, "two") || err != nil {
		t.Errorf("thawed: got %q, %v, want what was held back", got, err)
	}
}

func TestProxy_Delay(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t))
	c := dial(t, p)
	p.Delay(60 * time.Millisecond)
	start := time.Now()
	if got, err := say(t, c, "slow", time.Minute); got != "slow" || err != nil {
		t.Fatalf("say = %q, %v", got, err)
	}
	if d := time.Since(start); d < 120*time.Millisecond {
		t.Errorf("both ways took %v, want at least 120ms", d)
	}
	p.Heal()
	if got, err := say(t, c, "fast", time.Minute); got != "fast" || err != nil {
		t.Errorf("healed: say = %q, %v", got, err)
	}
}

func TestProxy_CutAfterPassesNBytesOnce(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 2} {
		p := NewProxy(t, echo(t))
		c := dial(t, p)
		p.CutAfter(n)
		got, err := say(t, c, "hello", time.Minute)
		if got != "hello"[:n] || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("CutAfter(%d): say = %q, %v", n, got, err)
		}
		if got, err := say(t, dial(t, p), "again", time.Minute); got != "again" || err != nil {
			t.Errorf("after the cut: say = %q, %v", got, err)
		}
	}
}

func TestProxy_Reset(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t))
	c := dial(t, p)
	if _, err := say(t, c, "x", time.Minute); err != nil {
		t.Fatal(err)
	}
	p.Reset()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read = %v, want connection reset", err)
	}
	if got, err := say(t, dial(t, p), "new", time.Minute); got != "new" || err != nil {
		t.Errorf("new connection: say = %q, %v", got, err)
	}
}

func TestProxy_RefuseHeal(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, echo(t))
	c := dial(t, p)
	if _, err := say(t, c, "x", time.Minute); err != nil {
		t.Fatal(err)
	}
	p.Refuse()
	if conn, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial = %v, %v, want connection refused", conn, err)
	}
	if got, err := say(t, c, "old", time.Minute); got != "old" || err != nil {
		t.Errorf("open connection: say = %q, %v", got, err)
	}
	p.Heal()
	if got, err := say(t, dial(t, p), "new", time.Minute); got != "new" || err != nil {
		t.Errorf("healed: say = %q, %v", got, err)
	}
}

func TestProxy_CarriesPostgreSQL(t *testing.T) {
	t.Parallel()
	d := Empty(t)
	p := NewProxy(t, d.DSN)
	conn := connect(t, p.DSN(d.DSN))
	if got := scan[string](t, conn, "select current_database()"); got != d.Name {
		t.Errorf("database %q over the proxy, want %q", got, d.Name)
	}
	if _, err := conn.Exec(t.Context(), "create table public.t (a int)"); err != nil {
		t.Fatal(err)
	}
	p.CutAfter(0)
	if _, err := conn.Exec(t.Context(), "insert into public.t values (1)"); err == nil {
		t.Error("the answer was cut and nobody noticed")
	}
	Eventually(t, 10*time.Second, "the insert without an answer is done", func() bool {
		return scan[int](t, d.Conn(t), "select count(*) from public.t") == 1
	})
}

func TestWithParts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dsn, host, database, user string }{
		{"postgres://u:p@h:1/d?sslmode=disable", "127.0.0.1", "x y", "v'w"},
		{"postgres:///d?host=/tmp&port=7", "127.0.0.1", "x", "v"},
		{"host=/tmp port=7 dbname=d user=u", "127.0.0.1", `x'\y`, "v"},
	} {
		dsn := withParts(tt.dsn, map[string]string{"host": tt.host, "port": "99", "dbname": tt.database, "user": tt.user})
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Errorf("%s -> %s: %v", tt.dsn, dsn, err)
			continue
		}
		if cfg.Host != tt.host || cfg.Port != 99 || cfg.Database != tt.database || cfg.User != tt.user {
			t.Errorf("%s -> %s: host %s, port %d, database %s, user %s", tt.dsn, dsn, cfg.Host, cfg.Port, cfg.Database, cfg.User)
		}
	}
}

func TestCutTag(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{"postgres:17": "postgres 17", "h:5000/pg": "h:5000/pg ", "h:5000/pg:9": "h:5000/pg 9"} {
		repository, tag, _ := cutTag(image)
		if got := repository + " " + tag; got != want {
			t.Errorf("cutTag(%s) = %q, want %q", image, got, want)
		}
	}
}

func TestDB_HasSkydsSQL(t *testing.T) {
	t.Parallel()
	report, err := pgqsql.Inspect(t.Context(), DB(t).Conn(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Schemas {
		if s.Owner != "skyd" {
			t.Errorf("schema %s belongs to %s, want skyd", s.Name, s.Owner)
		}
	}
}
