package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// mixed is a cascade of queue q, parts of which are run by skyd and parts by the original's Python programs.
type mixed struct {
	t     *testing.T
	dbs   map[string]*pgtest.Database
	conns map[string]*pgx.Conn
	inis  map[string]string
	rows  int // inserted so far; a node that skyd runs has no part in Londiste's tables
}

// originalPython makes sure that Londiste in Python is there, or ends the test.
func originalPython(t *testing.T) string {
	t.Helper()
	program := original(t, "londiste")
	if out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", "import londiste, pgq.cascade.worker, psycopg2").CombinedOutput(); err != nil {
		if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
			t.Fatalf("python3-londiste: %s", out)
		}
		t.Skipf("python3-londiste: %s", out)
	}
	return program
}

// newMixed makes a database with the original extensions for each node.
func newMixed(t *testing.T, nodes ...string) *mixed {
	m := &mixed{t: t, dbs: map[string]*pgtest.Database{}, conns: map[string]*pgx.Conn{}, inis: map[string]string{}}
	for _, n := range nodes {
		m.dbs[n] = pgtest.Beside(t, "pgq_node", "londiste")
		m.conns[n] = m.dbs[n].Conn(t)
		m.inis[n] = writeFile(t, n+".ini", `
[londiste]
job_name = `+n+`_worker
db = `+m.location(n)+`
queue_name = q
pidfile = `+filepath.Join(t.TempDir(), n+".pid")+`
loop_delay = 0.05
`)
	}
	return m
}

// location is how nodes and programs reach a node.
func (m *mixed) location(node string) string {
	return libpq(m.t, m.dbs[node].DSN) + " dbname=" + m.dbs[node].Name
}

// python runs an administrative command of the original for a node.
func (m *mixed) python(node string, args ...string) {
	m.t.Helper()
	if err := m.tryPython(node, args...); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mixed) tryPython(node string, args ...string) error {
	out, err := exec.CommandContext(m.t.Context(), "londiste", append([]string{m.inis[node]}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("londiste %s %s: %w\n%s", node, strings.Join(args, " "), err, out)
	}
	return nil
}

// work runs the original's worker of a node.
func (m *mixed) work(node string) *process {
	return background(m.t, nil, "londiste", m.inis[node], "worker")
}

// skyd runs skyd node for a node.
func (m *mixed) skyd(node string, args ...string) string {
	m.t.Helper()
	return skyd(m.t, append(append([]string{"node"}, args...), "--db", m.dbs[node].DSN, "--queue", "q", "--timeout", "2m")...)
}

// daemon ticks in all databases and works for some nodes.
func (m *mixed) daemon(nodes ...string) *process {
	var text strings.Builder
	text.WriteString("ticker: { period: 50ms }\ndatabases:\n")
	for name, db := range m.dbs {
		fmt.Fprintf(&text, "  - { name: %s, dsn: %q }\n", name, db.DSN)
	}
	text.WriteString("nodes:\n")
	for _, n := range nodes {
		fmt.Fprintf(&text, "  - { queue: q, name: %s, database: %s, poll_period: 100ms }\n", n, n)
	}
	return daemon(m.t, "run", "--config", writeFile(m.t, "skyd.yaml", text.String()))
}

// insert writes rows into the replicated table on the root.
func (m *mixed) insert(root string, n int) {
	m.t.Helper()
	exec1(m.t, m.conns[root], `insert into public.account select i, 'row' from generate_series($1::int, $2::int) i`, m.rows+1, m.rows+n)
	m.rows += n
}

// settled waits until the table of a node has all rows.
func (m *mixed) settled(node string) {
	m.t.Helper()
	pgtest.Eventually(m.t, 2*time.Minute, fmt.Sprintf("%s has %d rows", node, m.rows), func() bool {
		return scan[int](m.t, m.conns[node], "select count(*) from public.account") == m.rows
	})
}

// same compares the queues of two nodes in the ticks both have.
func (m *mixed) same(a, b string) {
	m.t.Helper()
	const events = `
select string_agg(e.ev_id || ' ' || e.ev_type || ' ' || coalesce(e.ev_data, ''), ',' order by e.ev_id)
  from pgq.event_template e where e.ev_id >= $1`
	const first = `select coalesce(min(ev_id), 0) from pgq.event_template`
	from := max(scan[int64](m.t, m.conns[a], first), scan[int64](m.t, m.conns[b], first))
	x, y := scan[string](m.t, m.conns[a], events, from), scan[string](m.t, m.conns[b], events, from)
	if x != y || !strings.Contains(x, "id=") {
		m.t.Errorf("events of %s and %s differ from number %d on:\n%s\n%s", a, b, from, x, y)
	}
}

// TestMixed_LondisteUnderSkyd replicates a table from a root that skyd runs through a branch that the original's Londiste
// runs to a branch that skyd runs; then each side's tools move the nodes and the role of root of the other side.
func TestMixed_LondisteUnderSkyd(t *testing.T) {
	t.Parallel()
	originalPython(t)
	m := newMixed(t, "n1", "n2", "n3")
	for _, n := range []string{"n1", "n2"} {
		exec1(t, m.conns[n], `create table public.account (id int primary key, name text)`)
	}
	m.skyd("n1", "create", "root", "--node", "n1", "--location", m.location("n1"))
	d := m.daemon("n1", "n3")
	m.python("n2", "create-branch", "n2", m.location("n2"), "--provider="+m.location("n1"))
	worker := m.work("n2")
	m.skyd("n3", "create", "branch", "--node", "n3", "--location", m.location("n3"), "--provider", m.location("n2"))
	m.python("n1", "add-table", "public.account", "--expect-sync")
	m.python("n2", "wait-root")
	m.python("n2", "add-table", "public.account", "--expect-sync")
	m.insert("n1", 10)
	m.settled("n2")
	m.skyd("n3", "wait-root")
	m.same("n2", "n3")
	d.alive()
	worker.alive()

	// Each side's tools on the other side's nodes.
	m.skyd("n1", "pause", "--node", "n2")
	m.skyd("n1", "resume", "--node", "n2")
	m.python("n3", "pause")
	m.python("n3", "resume")
	m.skyd("n1", "change-provider", "--node", "n3", "--provider", "n1")
	// Python moves nobody to a node that is behind; then it fails, leaves n3 paused, and works at a later try.
	pgtest.Eventually(t, 2*time.Minute, "Python moves n3", func() bool { return m.tryPython("n3", "change-provider", "--provider=n2") == nil })
	m.insert("n1", 10)
	m.settled("n2")

	m.python("n2", "takeover", "n1")
	if got := scan[string](t, m.conns["n1"], `select node_type from pgq_node.get_node_info('q')`); got != "branch" {
		t.Fatalf("n1 is %s after the takeover by Python", got)
	}
	m.insert("n2", 10)
	m.skyd("n3", "wait-root")
	m.skyd("n1", "wait-root")
	m.same("n2", "n1")
	m.same("n2", "n3")

	m.skyd("n1", "takeover", "n2", "--yes", "--max-lag", "10m", "--write-outage-max", "1m", "--force")
	m.insert("n1", 10)
	m.settled("n2")
	m.skyd("n3", "wait-root")
	m.same("n1", "n3")
	worker.alive()
	d.alive()
	status := m.skyd("n3", "status")
	if !strings.Contains(status, "n1 (root)") || strings.Contains(status, "NOT UPTODATE") {
		t.Errorf("status at the end:\n%s", status)
	}
	if slices.Contains(strings.Fields(status), "!") {
		t.Errorf("problems at the end:\n%s", status)
	}
}

// TestMixed_PythonRootAndLeaf has a root that Python's tool makes and skyd runs, a branch of skyd, and a leaf that Python
// makes and runs; the role of root goes to the branch by skyd and back by Python, and the leaf follows each time.
func TestMixed_PythonRootAndLeaf(t *testing.T) {
	t.Parallel()
	originalPython(t)
	m := newMixed(t, "n1", "n2", "n3")
	for _, n := range []string{"n1", "n2", "n3"} {
		exec1(t, m.conns[n], `create table public.account (id int primary key, name text)`)
	}
	m.python("n1", "create-root", "n1", m.location("n1"))
	d := m.daemon("n1", "n2")
	m.skyd("n2", "create", "branch", "--node", "n2", "--location", m.location("n2"), "--provider", m.location("n1"))
	m.python("n3", "create-leaf", "n3", m.location("n3"), "--provider="+m.location("n1"))
	leaf := m.work("n3")
	m.python("n1", "add-table", "public.account", "--expect-sync")
	for _, n := range []string{"n2", "n3"} {
		m.skyd(n, "wait-root")
		m.python(n, "add-table", "public.account", "--expect-sync")
	}
	m.insert("n1", 10)
	m.settled("n3")
	m.skyd("n2", "wait-root")
	m.same("n1", "n2")

	m.skyd("n1", "pause", "--node", "n3") // a Python leaf confirms
	m.skyd("n1", "resume", "--node", "n3")
	m.skyd("n2", "takeover", "n1", "--all", "--yes", "--max-lag", "10m", "--write-outage-max", "1m", "--force")
	m.reads("n3", "n2")
	m.insert("n2", 10)
	m.settled("n3")
	m.skyd("n1", "wait-root")
	m.same("n2", "n1")

	// Python refuses while n3 is ahead of n1, by a tick that n1 gets at once, and leaves it paused; the next try goes on.
	pgtest.Eventually(t, 2*time.Minute, "Python takes over", func() bool { return m.tryPython("n1", "takeover", "n2", "--all") == nil })
	m.reads("n3", "n1")
	m.insert("n1", 10)
	m.settled("n3")
	m.skyd("n2", "wait-root")
	m.same("n1", "n2")
	leaf.alive()
	d.alive()
	if status := m.skyd("n2", "status"); !strings.Contains(status, "n1 (root)") || strings.Contains(status, "PAUSED") {
		t.Errorf("status at the end:\n%s", status)
	}

	// Two steps of a Python takeover, as kill -9 leaves it; skyd goes on, or back.
	for _, end := range []string{"--rollback", "--resume"} {
		exec1(t, m.conns["n1"], `select pgq_node.set_consumer_paused('q', 'n1_worker', true), pgq_node.demote_root('q', 1, 'n2')`)
		m.skyd("n2", "takeover", "n1", "--target", "n2", end, "--yes", "--write-outage-max", "1m")
	}
	m.insert("n2", 10)
	m.skyd("n3", "change-provider", "--node", "n3", "--provider", "n2")
	m.settled("n3")
}

// reads checks where the worker of a node reads.
func (m *mixed) reads(node, provider string) {
	m.t.Helper()
	if got := scan[string](m.t, m.conns[node], `select provider_node from pgq_node.local_state where queue_name = 'q'`); got != provider {
		m.t.Errorf("%s reads from %s, want %s", node, got, provider)
	}
}

// TestMixed_MergeLeafs has a queue p that flows into queue c: on c1 by a merge leaf that Python runs, on c2 by one that
// skyd runs. The root of c goes from c1 to c2 by skyd and back by Python under load; no event is lost or doubled.
func TestMixed_MergeLeafs(t *testing.T) {
	t.Parallel()
	originalPython(t)
	m := newMixed(t, "p", "c1", "c2")
	m.inis["p_c1"] = writeFile(t, "p_c1.ini", `
[londiste]
job_name = p_c1_worker
db = `+m.location("c1")+`
queue_name = p
pidfile = `+filepath.Join(t.TempDir(), "p_c1.pid")+`
loop_delay = 0.05
`)
	m.inis["c"] = writeFile(t, "c.ini", `
[londiste]
job_name = c1_worker
db = `+m.location("c1")+`
queue_name = c
pidfile = `+filepath.Join(t.TempDir(), "c.pid")+`
loop_delay = 0.05
`)
	node := func(db string, args ...string) string {
		t.Helper()
		return skyd(t, append(append([]string{"node"}, args...), "--db", m.dbs[db].DSN, "--timeout", "2m")...)
	}
	var text strings.Builder
	text.WriteString("ticker: { period: 50ms }\ndatabases:\n")
	for name, db := range m.dbs {
		fmt.Fprintf(&text, "  - { name: %s, dsn: %q }\n", name, db.DSN)
	}
	text.WriteString("nodes:\n")
	for _, n := range [][3]string{{"p", "p", "p"}, {"c", "c1", "c1"}, {"c", "c2", "c2"}, {"p", "p_c2", "c2"}} {
		fmt.Fprintf(&text, "  - { queue: %s, name: %s, database: %s, poll_period: 100ms }\n", n[0], n[1], n[2])
	}
	node("p", "create", "root", "--queue", "p", "--node", "p", "--location", m.location("p"))
	node("c1", "create", "root", "--queue", "c", "--node", "c1", "--location", m.location("c1"))
	node("c2", "create", "branch", "--queue", "c", "--node", "c2", "--location", m.location("c2"), "--provider", m.location("c1"))
	d := daemon(t, "run", "--config", writeFile(t, "skyd.yaml", text.String()))
	m.python("p_c1", "create-leaf", "p_c1", m.location("c1"), "--provider="+m.location("p"), "--merge=c")
	leaf := m.work("p_c1")
	node("c2", "create", "leaf", "--queue", "p", "--node", "p_c2", "--location", m.location("c2"), "--provider", m.location("p"), "--merge", "c")

	sent := 0
	const merged = `select count(*) || ' ' || count(distinct ev_data) from pgq.event_template where ev_type = 'I:id'`
	flow := func() {
		t.Helper()
		for range 20 {
			sent++
			exec1(t, m.conns["p"], `select pgq.insert_event('p', 'I:id', 'id=' || $1::int, 'public.account', null, null, null)`, sent)
		}
		for _, n := range []string{"c1", "c2"} {
			pgtest.Eventually(t, 2*time.Minute, fmt.Sprintf("%s has %d events once", n, sent), func() bool {
				return scan[string](t, m.conns[n], merged) == fmt.Sprintf("%d %d", sent, sent)
			})
		}
	}
	flow()
	node("c2", "takeover", "c1", "--queue", "c", "--yes", "--max-lag", "10m", "--write-outage-max", "1m", "--force")
	flow()
	m.python("c", "takeover", "c2")
	flow()
	for _, n := range []string{"c1", "c2"} {
		if paused := scan[int](t, m.conns[n], `select count(*) from pgq_node.local_state where paused`); paused > 0 {
			t.Errorf("%s has %d paused workers", n, paused)
		}
	}
	leaf.alive()
	d.alive()
}
