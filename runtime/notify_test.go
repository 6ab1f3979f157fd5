package runtime

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// manager is a service manager that listens on a notify socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	name string
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	if name == "" {
		name = filepath.Join(t.TempDir(), "notify")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: strings.Replace(name, "@", "\x00", 1), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t: t, conn: conn, name: name}
}

// env is the environment that the manager gives its service.
func (m *manager) env(more ...string) func(string) string {
	vars := map[string]string{"NOTIFY_SOCKET": m.name}
	for i := 0; i+1 < len(more); i += 2 {
		vars[more[i]] = more[i+1]
	}
	return func(name string) string { return vars[name] }
}

// next is the next datagram; beats of the watchdog are left out unless they are asked for.
func (m *manager) next(beats bool) string {
	m.t.Helper()
	buf := make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(slow)); err != nil {
		m.t.Fatal(err)
	}
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			m.t.Fatalf("the manager hears nothing: %v", err)
		}
		if text := string(buf[:n]); beats || text != "WATCHDOG=1" {
			return text
		}
	}
}

func TestNotify_TellsTheWholeLife(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "@skyd-test-" + strconv.Itoa(os.Getpid())} {
		m := newManager(t, name)
		src := &source{}
		r := runSource(t, src, m.env("WATCHDOG_USEC", "300000", "WATCHDOG_PID", strconv.Itoa(os.Getpid())), database("main", pgtest.DB(t).DSN))
		if got := m.next(false); !regexp.MustCompile(`^READY=1\nSTATUS=serving 1 database\(s\), http 127\.0\.0\.1:\d+$`).MatchString(got) {
			t.Errorf("at the start: %q", got)
		}
		for range 3 {
			if got := m.next(true); got != "WATCHDOG=1" {
				t.Errorf("while it runs: %q", got)
			}
		}
		before := monotonicMicros()
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := m.next(false)
		usec, err := strconv.ParseInt(strings.TrimPrefix(got, "RELOADING=1\nMONOTONIC_USEC="), 10, 64)
		if err != nil || usec < before || usec > monotonicMicros() {
			t.Errorf("at a reload: %q, clock %d", got, before)
		}
		if got := m.next(false); !strings.HasPrefix(got, "READY=1\nSTATUS=") {
			t.Errorf("after it: %q", got)
		}
		src.err = os.ErrInvalid
		if _, err := r.Reload(t.Context()); err == nil {
			t.Fatal("a bad reload is taken")
		}
		if first, second := m.next(false), m.next(false); !strings.HasPrefix(first, "RELOADING=1\n") || !strings.HasPrefix(second, "READY=1\n") {
			t.Errorf("a bad reload: %q, %q", first, second) // systemd waits for READY, also then
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if got := m.next(false); got != "STOPPING=1\nSTATUS=stopping" {
			t.Errorf("at the end: %q", got)
		}
	}
}

func TestNotify_WatchdogOfSomebodyElseIsNotFed(t *testing.T) {
	t.Parallel()
	m := newManager(t, "")
	for _, c := range []struct {
		env  []string
		want time.Duration
	}{
		{nil, 0},
		{[]string{"WATCHDOG_USEC", "3000000"}, time.Second},
		{[]string{"WATCHDOG_USEC", "3000000", "WATCHDOG_PID", "1"}, 0},
		{[]string{"WATCHDOG_USEC", "x"}, 0},
	} {
		n, err := newNotifier(m.env(c.env...), nil)
		if err != nil {
			t.Fatal(err)
		}
		if n.period() != c.want {
			t.Errorf("%q: got %s", c.env, n.period())
		}
		n.close()
	}
}

func TestNotify_WithoutSystemdNothingIsTold(t *testing.T) {
	t.Parallel()
	n, err := newNotifier(func(string) string { return "" }, nil)
	if err != nil || n != nil {
		t.Fatalf("got %v, %v", n, err)
	}
	n.reloading()
	n.ready("x")
	n.stopping()
	n.close()
	if n.period() != 0 {
		t.Error("a watchdog without systemd")
	}
	if _, err := newNotifier(func(string) string { return "/nowhere/at/all" }, nil); err == nil {
		t.Error("a socket that is not there is no error")
	}
}
