package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// runbooks breaks what each runbook of docs/cascade.md mends, in their order. The commands of a runbook must all succeed;
// then status finds no fault, and the check holds.
type runbooks struct {
	t       *testing.T
	dbs     map[string]*pgtest.Database
	proxies map[string]*pgtest.Proxy
	config  string
	daemon  *process
}

var runbookNodes = []string{"n1", "n2", "n3"}

func newRunbooks(t *testing.T) *runbooks {
	b := &runbooks{t: t, dbs: map[string]*pgtest.Database{}, proxies: map[string]*pgtest.Proxy{}}
	databases, nodes := "ticker: {period: 50ms}\ndatabases:\n", "nodes:\n"
	for i, n := range runbookNodes {
		b.dbs[n] = pgtest.Empty(t)
		b.proxies[n] = pgtest.NewProxy(t, b.dbs[n].DSN)
		args := []string{"node", "create", "branch", "--queue", "orders", "--node", n, "--location", b.location(n), "--db", b.location(n)}
		if i == 0 {
			args[2] = "root"
		} else {
			args = append(args, "--provider", b.location(runbookNodes[i-1]))
		}
		skyd(t, args...)
		databases += fmt.Sprintf("  - {name: %s, dsn: %q}\n", n, b.location(n))
		nodes += fmt.Sprintf("  - {queue: orders, name: %[1]s, database: %[1]s, poll_period: 200ms, watermark_period: 1s, step_timeout: 5s}\n", n)
	}
	b.config = writeFile(t, "skyd.yaml", databases+nodes)
	b.start()
	b.insert("n1", "first")
	return b
}

func (b *runbooks) start() { b.daemon = daemon(b.t, "run", "--config", b.config) }

// location is how everybody reaches a node; it can be cut.
func (b *runbooks) location(node string) string {
	return libpq(b.t, b.proxies[node].DSN(b.dbs[node].DSN)) + " dbname=" + b.dbs[node].Name
}

// sql runs a statement in a node's database, past everything that is cut.
func (b *runbooks) sql(node, sql string, args ...any) {
	b.t.Helper()
	conn := connect(b.t, b.dbs[node].DSN)
	exec1(b.t, conn, sql, args...)
	_ = conn.Close(b.t.Context())
}

func (b *runbooks) insert(node, data string) {
	b.t.Helper()
	b.sql(node, `select pgq.insert_event('orders', 't', $1)`, data)
}

// has waits until a query gives true in a node's database.
func (b *runbooks) has(node, what, sql string) {
	b.t.Helper()
	conn := connect(b.t, b.dbs[node].DSN)
	defer func() { _ = conn.Close(b.t.Context()) }()
	pgtest.Eventually(b.t, 2*time.Minute, what, func() bool { return scan[bool](b.t, conn, sql) })
}

func (b *runbooks) die(node string) {
	b.proxies[node].Refuse()
	b.proxies[node].Reset()
}

// runbook is how to break something, and what must hold when it is mended.
type runbook struct {
	breaks func(b *runbooks)
	holds  func(b *runbooks)
	// open: status has a fault until the next runbook.
	open bool
}

const dataThere = `select exists (select from pgq.event_template where ev_data = '%s')`

var runbookScenes = map[string]runbook{
	"A node stays paused": {
		breaks: func(b *runbooks) { skyd(b.t, "node", "pause", "--node", "n3", "--db", b.location("n1")) },
		holds: func(b *runbooks) {
			b.insert("n1", "resumed")
			b.has("n3", "n3 goes on", fmt.Sprintf(dataThere, "resumed"))
		},
	},
	"The root is dead": {
		breaks: func(b *runbooks) {
			b.die("n1")
			b.insert("n1", "never left") // somebody still reaches it
		},
		holds: func(b *runbooks) {
			b.insert("n2", "new root")
			b.has("n3", "n3 follows", fmt.Sprintf(dataThere, "new root"))
		},
		open: true, // the dead root
	},
	"The old root is back": {
		breaks: func(b *runbooks) {
			b.proxies["n1"].Heal()
			b.has("n1", "the old root is fenced", `select queue_disable_insert from pgq.queue where queue_name = 'orders'`)
		},
		holds: func(b *runbooks) {
			b.has("n1", "n1 follows", fmt.Sprintf(dataThere, "new root"))
			b.has("n1", "the lost event is kept", `select exists (select from skyd_node.lost_event where ev_data = 'never left' and handled_at is not null)`)
		},
	},
	"A switchover stopped half way": {
		breaks: (*runbooks).stopSwitchover,
		holds:  func(b *runbooks) { b.insert("n1", "after the switchover") },
	},
	"A branch is dead": {
		breaks: func(b *runbooks) { b.die("n2") },
		holds: func(b *runbooks) {
			b.has("n1", "nobody keeps events for it", `select not exists (select from pgq_node.subscriber_info where subscriber_node = 'n2')`)
			b.has("n3", "its reader follows", fmt.Sprintf(dataThere, "after the switchover"))
		},
	},
	"The dead branch is wanted again": {
		breaks: func(b *runbooks) { b.proxies["n2"].Heal() },
		holds: func(b *runbooks) {
			b.insert("n1", "again")
			b.has("n2", "n2 follows", fmt.Sprintf(dataThere, "again"))
		},
	},
	"A node was tagged dead by mistake": {
		breaks: func(b *runbooks) { skyd(b.t, "node", "tag-dead", "n3", "--db", b.location("n2")) },
		holds: func(b *runbooks) {
			b.has("n1", "n3 is alive", `select not dead from pgq_node.node_location where node_name = 'n3'`)
		},
	},
	"The address of a node has changed": {
		breaks: func(b *runbooks) {
			for _, n := range runbookNodes {
				b.sql(n, `update pgq_node.node_location set node_location = 'host=127.0.0.1 port=1' where node_name = 'n3'`)
			}
		},
		holds: func(b *runbooks) {
			b.has("n1", "n1 knows it", `select node_location not like '%port=1' from pgq_node.node_location where node_name = 'n3'`)
		},
	},
	"A move was interrupted": {
		breaks: func(b *runbooks) {
			b.sql("n2", `select pgq_node.register_subscriber('orders', 'n3', 'n3_worker', null)`)
		},
		holds: func(b *runbooks) {
			b.has("n2", "n2 keeps nothing for n3", `select not exists (select from pgq_node.subscriber_info where subscriber_node = 'n3')`)
		},
	},
	"A subscription is missing": {
		breaks: func(b *runbooks) { b.sql("n1", `select pgq_node.unregister_subscriber('orders', 'n3')`) },
		holds: func(b *runbooks) {
			b.insert("n1", "moved")
			b.has("n3", "n3 follows", fmt.Sprintf(dataThere, "moved"))
		},
	},
	"Rotation stands still": {
		breaks: func(b *runbooks) { b.sql("n2", `select pgq.register_consumer('orders', 'forgotten')`) },
		holds: func(b *runbooks) {
			b.has("n2", "the consumer is gone", `select not exists (select from pgq.get_consumer_info('orders') where consumer_name = 'forgotten')`)
		},
	},
}

// stopSwitchover kills a switchover from n2 to n1 and the daemon while writes are held: a writer that does not end keeps
// the final tick waiting.
func (b *runbooks) stopSwitchover() {
	b.t.Helper()
	conn := connect(b.t, b.dbs["n2"].DSN)
	tx, err := conn.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := tx.Exec(b.t.Context(), `select pgq.insert_event('orders', 't', 'in the middle')`); err != nil {
		b.t.Fatal(err)
	}
	takeover := background(b.t, nil, binary, "node", "takeover", "n2", "--target", "n1", "--all", "--yes", "--force",
		"--write-outage-max", "1m", "--db", b.location("n1"))
	b.has("n2", "the queue is closed", `select queue_disable_insert from pgq.queue where queue_name = 'orders'`)
	_ = takeover.cmd.Process.Kill()
	_ = b.daemon.cmd.Process.Kill()
	<-takeover.done
	<-b.daemon.done
	if err := tx.Commit(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	_ = conn.Close(b.t.Context())
	for _, n := range []string{"n1", "n2"} { // in place of the seconds for which it has to be silent
		b.sql(n, `update skyd_node.operation set driver_seen = driver_seen - interval '1 hour' where finished is null`)
	}
	b.start()
}

// TestRunbooks_MendWhatIsBroken runs the runbooks of docs/cascade.md as they are written.
func TestRunbooks_MendWhatIsBroken(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	text, err := os.ReadFile("../docs/cascade.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n## Runbooks\n")
	books := strings.Split(part, "\n### ")[1:]
	if len(books) != len(runbookScenes) {
		t.Errorf("%d runbooks and %d scenes", len(books), len(runbookScenes))
	}
	b := newRunbooks(t)
	for _, book := range books {
		title, body, _ := strings.Cut(book, "\n")
		scene, ok := runbookScenes[title]
		if !ok {
			t.Fatalf("no scene for runbook %q", title)
		}
		began := time.Now()
		scene.breaks(b)
		b.run(title, body)
		scene.holds(b)
		if !scene.open {
			b.noFault(title)
		}
		t.Logf("%s: %v", title, time.Since(began).Round(time.Millisecond))
	}
}

var runbookCommand = regexp.MustCompile(`(?m)^\$ skyd (.*)$`)

// run runs the commands of a runbook. What it is to end may be busy with ending by itself.
func (b *runbooks) run(title, body string) {
	b.t.Helper()
	commands := runbookCommand.FindAllStringSubmatch(body, -1)
	if len(commands) == 0 {
		b.t.Fatalf("runbook %q has no commands", title)
	}
	dir := b.t.TempDir()
	for _, c := range commands {
		var args []string
		for _, arg := range strings.Fields(strings.ReplaceAll(c[1], `"`, "")) {
			if number, ok := strings.CutPrefix(arg, "dbname=db"); ok {
				arg = b.location("n" + number)
			}
			args = append(args, arg)
		}
		cmd := exec.CommandContext(b.t.Context(), binary, append(args, "--timeout", "1m")...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "is driven by skyd/") {
			b.t.Fatalf("runbook %q: skyd %s: %v\n%s", title, c[1], err, out)
		} else {
			b.t.Logf("$ skyd %s\n%s", c[1], out)
		}
	}
}

// noFault waits until status has nothing to say.
func (b *runbooks) noFault(after string) {
	b.t.Helper()
	last := ""
	defer func() {
		if b.t.Failed() {
			b.t.Logf("last status:\n%s", last)
		}
	}()
	pgtest.Eventually(b.t, time.Minute, "status without faults after: "+after, func() bool {
		out, err := exec.CommandContext(b.t.Context(), binary, "node", "status", "--db", b.location("n1")).CombinedOutput()
		last = string(out)
		return err == nil && !strings.Contains(last, "\n!") && !strings.Contains(last, "PAUSED")
	})
}
