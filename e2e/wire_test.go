package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// wire is a network of its own for one process, with a router on the way to this machine that can drop every packet
// without a word: nothing is reset, refused or unreachable, it is only silent.
type wire struct {
	t      *testing.T
	space  string // where the process lives
	router string
	host   string // this machine, as seen from there
	peer   string // the process, as seen from here
}

// newWire makes the network. Where that is not possible (no iproute2, no rights) the test is skipped, or fails if
// SKYD_TEST_REQUIRE=1.
func newWire(t *testing.T) *wire {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		pgtest.Missing(t, "there is no ip (iproute2)")
	}
	if os.Geteuid() != 0 {
		pgtest.Missing(t, "only root makes network namespaces")
	}
	id := fmt.Sprintf("%04x", rand.IntN(1<<16))
	net := fmt.Sprintf("10.213.%d.", rand.IntN(256))
	w := &wire{t: t, space: "skyd-d-" + id, router: "skyd-r-" + id, host: net + "1", peer: net + "6"}
	t.Cleanup(func() {
		for _, name := range []string{w.space, w.router} {
			_, _ = ip("netns", "del", name) // it may not have been made
		}
	})
	here, there, in, out := "skh"+id, "skr"+id, "skd"+id, "sks"+id
	for _, line := range []string{
		"netns add " + w.space, "netns add " + w.router,
		"link add " + here + " type veth peer name " + there, "link set " + there + " netns " + w.router,
		"link add " + in + " type veth peer name " + out, "link set " + in + " netns " + w.space, "link set " + out + " netns " + w.router,
		"addr add " + w.host + "/30 dev " + here, "link set " + here + " up",
		"-n " + w.router + " addr add " + net + "2/30 dev " + there, "-n " + w.router + " link set " + there + " up",
		"-n " + w.router + " addr add " + net + "5/30 dev " + out, "-n " + w.router + " link set " + out + " up",
		"-n " + w.space + " addr add " + w.peer + "/30 dev " + in, "-n " + w.space + " link set " + in + " up",
		"-n " + w.space + " link set lo up", "-n " + w.space + " route add default via " + net + "5",
		"route add " + net + "4/30 via " + net + "2",
	} {
		if out, err := ip(strings.Fields(line)...); err != nil {
			pgtest.Missing(t, fmt.Sprintf("network namespaces cannot be made: ip %s: %v %s", line, err, out))
		}
	}
	if out, err := ip("netns", "exec", w.router, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"); err != nil {
		pgtest.Missing(t, fmt.Sprintf("packets cannot be forwarded: %v %s", err, out))
	}
	return w
}

func ip(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// drop loses every packet between the process and this machine from now on, in both directions.
func (w *wire) drop() { w.routes("add") }

// heal lets packets pass again.
func (w *wire) heal() { w.routes("del") }

func (w *wire) routes(verb string) {
	w.t.Helper()
	for _, to := range []string{w.host, w.peer} {
		if out, err := ip("-n", w.router, "route", verb, "blackhole", to+"/32"); err != nil {
			w.t.Fatal(out, err)
		}
	}
}

// command runs a program behind the wire.
func (w *wire) command(name string, args ...string) (string, []string) {
	return "ip", append([]string{"netns", "exec", w.space, name}, args...)
}

// dsn is the address of a server on this machine as seen from there.
func (w *wire) dsn(dsn string) string {
	w.t.Helper()
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("postgres://%s@%s:%d/%s?sslmode=disable", c.User, w.host, c.Port, c.Database)
}

// openToWires lets the server be reached through wires; it must have been started with listen_addresses '*'.
func openToWires(t *testing.T, dsn string) {
	t.Helper()
	c := connect(t, dsn)
	file := scan[string](t, c, "show hba_file")
	exec1(t, c, "copy (select 'host all all 10.213.0.0/16 trust') to program 'cat >>"+file+"'")
	exec1(t, c, "select pg_reload_conf()")
}

// socketDSN is the address of a server by its unix socket, which is no network.
func socketDSN(t *testing.T, dsn string) string {
	t.Helper()
	c := connect(t, dsn)
	dir := scan[string](t, c, "show unix_socket_directories")
	if _, err := os.Stat(dir); dir == "" || err != nil {
		pgtest.Missing(t, "the server has no unix socket on this machine")
	}
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", dir, c.Config().Port, c.Config().Database)
}
