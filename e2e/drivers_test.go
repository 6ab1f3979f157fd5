package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// TestDrivers_FrozenAndRevived freezes the process that drives a switchover while the root refuses writes, lets another one
// end it (a second command, or a daemon of one of two), and revives the first: it ends without having changed anything, and
// the cascade has one root, nobody paused and all events.
func TestDrivers_FrozenAndRevived(t *testing.T) {
	t.Parallel()
	for _, heir := range []string{"command", "daemon"} {
		t.Run(heir, func(t *testing.T) {
			t.Parallel()
			newDrivers(t).freeze(heir)
		})
	}
}

// drivers is a cascade of two nodes with two daemons that work for both.
type drivers struct {
	t     *testing.T
	dbs   map[string]*pgtest.Database
	conns map[string]*pgx.Conn
}

func newDrivers(t *testing.T) *drivers {
	t.Helper()
	d := &drivers{t: t, dbs: map[string]*pgtest.Database{}, conns: map[string]*pgx.Conn{}}
	var text strings.Builder
	text.WriteString("ha: { lease_ttl: 3s }\nticker: { period: 50ms }\ndatabases:\n")
	for _, n := range []string{"n1", "n2"} {
		d.dbs[n] = pgtest.DB(t)
		d.conns[n] = d.dbs[n].Conn(t)
		fmt.Fprintf(&text, "  - { name: %s, dsn: %q }\n", n, d.dbs[n].DSN)
	}
	text.WriteString("nodes:\n")
	for _, n := range []string{"n1", "n2"} {
		fmt.Fprintf(&text, "  - { queue: q, name: %[1]s, database: %[1]s, poll_period: 100ms }\n", n)
	}
	skyd(t, "node", "create", "root", "--queue", "q", "--node", "n1", "--location", d.dbs["n1"].DSN, "--db", d.dbs["n1"].DSN)
	skyd(t, "node", "create", "branch", "--queue", "q", "--node", "n2", "--location", d.dbs["n2"].DSN, "--provider", d.dbs["n1"].DSN, "--db", d.dbs["n2"].DSN)
	config := writeFile(t, "skyd.yaml", text.String())
	for range 2 {
		daemon(t, "run", "--config", config)
	}
	for i := range 20 {
		exec1(t, d.conns["n1"], `select pgq.insert_event('q', 'e', $1::int::text)`, i)
	}
	skyd(t, "node", "wait-root", "--db", d.dbs["n2"].DSN, "--timeout", "2m")
	return d
}

func (d *drivers) journal() string {
	d.t.Helper()
	return scan[string](d.t, d.conns["n1"], `select coalesce((select max(state) from skyd_node.operation where finished is null), 'none')`)
}

func (d *drivers) freeze(heir string) {
	t := d.t
	writer, err := d.dbs["n1"].Conn(t).Begin(t.Context()) // the final tick waits for it
	if err == nil {
		_, err = writer.Exec(t.Context(), `select pgq.insert_event('q', 'e', 'late')`)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"node", "takeover", "n1", "--yes", "--force", "--max-lag", "10m", "--write-outage-max", "2m", "--timeout", "4m", "--db", d.dbs["n2"].DSN}
	first := background(t, nil, binary, args...)
	pgtest.Eventually(t, 2*time.Minute, "the root refuses writes", func() bool { first.alive(); return d.journal() == "closed" })
	if err := first.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if heir == "command" {
		var second *process
		pgtest.Eventually(t, 2*time.Minute, "a second command may end it", func() bool {
			second = background(t, nil, binary, "node", "takeover", "--resume", "--timeout", "2m", "--db", d.dbs["n2"].DSN)
			<-second.done
			return second.err == nil
		})
	}
	pgtest.Eventually(t, 2*time.Minute, "somebody ends the operation", func() bool { return d.journal() == "none" })
	if err := first.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	<-first.done
	if first.err == nil || first.cmd.ProcessState.ExitCode() < 1 || strings.Count(strings.TrimSpace(first.out.String()), "\n") > 0 {
		t.Errorf("the revived driver: %v, and said %q; want one line and a refusal", first.err, first.out.String())
	}
	t.Logf("%s ended it; the revived driver said: %s", heir, first.out.String())
	root, other := "n1", "n2"
	if scan[string](t, d.conns["n2"], `select node_type from pgq_node.node_info`) == "root" {
		root, other = other, root
	}
	exec1(t, d.conns[root], `select pgq.insert_event('q', 'e', 'after')`)
	skyd(t, "node", "wait-root", "--node", other, "--db", d.dbs[root].DSN, "--timeout", "2m")
	for _, n := range []string{root, other} {
		if got := scan[int](t, d.conns[n], `select count(distinct ev_data) from pgq.event_template where ev_type = 'e'`); got != 22 {
			t.Errorf("%s has %d events, want 22", n, got)
		}
		pgtest.Eventually(t, time.Minute, n+" is neither paused nor in an operation", func() bool {
			return scan[bool](t, d.conns[n], `
select not exists (select from pgq_node.local_state where paused or not uptodate) and not exists (select from skyd_node.operation where finished is null)`)
		})
	}
	if _, err := d.conns[other].Exec(t.Context(), `select pgq.insert_event('q', 'e', 'nowhere')`); err == nil {
		t.Errorf("both take events")
	}
}
