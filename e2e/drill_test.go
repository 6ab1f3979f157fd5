package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skytools/skyd/e2e/audit"
	"github.com/skytools/skyd/internal/pgtest"
)

var (
	drillRounds = flag.Int("drill.rounds", 1, "rounds of TestDrill")
	drillSeed   = flag.Uint64("drill.seed", 0, "what happens in TestDrill; 0: something else each time")
)

// drillTree is the cascade of TestDrill at its start.
var drillTree = []struct{ name, typ, provider string }{
	{"r", "root", ""}, {"b1", "branch", "r"}, {"b2", "branch", "r"}, {"l1", "leaf", "b1"}, {"l2", "leaf", "b2"},
}

// drill is a cascade on five machines, each with server and daemon, to which things happen.
type drill struct {
	t       *testing.T
	v       *village
	nodes   map[string]*machine
	names   []string
	rng     *rand.Rand
	audit   *audit.Cascade
	gate    sync.RWMutex // held by an audit, shared by those who write
	lost    int          // events that resurrections have shown
	rebuilt int          // leafs that were ahead of all branches
	counts  map[string]int
}

// TestDrill_NothingLostOneRoot lets a seed choose switchovers, failovers and moves, with kill -9, frozen machines, cut networks
// and killed commands in the middle, while every node that has the queue is written to without a pause. After each round
// the auditor looks at all that was answered and at all that the five nodes hold.
func TestDrill_NothingLostOneRoot(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a minute")
	}
	seed := *drillSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("replay: go test ./e2e -run TestDrill -drill.rounds=%d -drill.seed=%d", *drillRounds, seed)
	d := newDrill(t, rand.New(rand.NewPCG(seed, 2)))
	stop := d.write()
	for i := range *drillRounds {
		began := time.Now()
		what := d.round(i)
		d.settle()
		d.check()
		t.Logf("round %d: %s: over after %v", i+1, what, time.Since(began).Round(100*time.Millisecond))
	}
	stop()
	accepted, rescued := d.audit.Count()
	t.Logf("%d events accepted; %d of them lost by failovers and shown by resurrections; %d leafs built anew; commands: %v",
		accepted, rescued, d.rebuilt, d.counts)
	if accepted == 0 {
		t.Error("no event was accepted")
	}
}

func newDrill(t *testing.T, rng *rand.Rand) *drill {
	t.Helper()
	v := newVillage(t)
	d := &drill{t: t, v: v, rng: rng, nodes: map[string]*machine{}, audit: audit.NewCascade(), counts: map[string]int{}}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(v.share, "*.daemon.log"))
		for _, file := range logs {
			text, _ := os.ReadFile(file)
			t.Logf("end of %s:\n%s", filepath.Base(file), text[max(len(text)-6000, 0):])
		}
	})
	leaf := filepath.Join(t.TempDir(), "leaf")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", leaf, "../examples/leaf").CombinedOutput(); err != nil {
		t.Fatalf("build the leaf: %v\n%s", err, out)
	}
	for name, file := range map[string]string{"skyd": binary, "leaf": leaf} {
		body, err := os.ReadFile(file)
		v.must(err)
		v.put(name, body, 0o755)
	}
	for _, n := range drillTree {
		command := []string{"/share/skyd", "run", "--config", "/share/" + n.name + ".yaml"}
		if n.typ == "leaf" {
			command = []string{"env", "SKYD_NODE=" + n.name, "'SKYD_DSN=host=/tmp dbname=postgres user=postgres'", "/share/leaf"}
		}
		m := v.add(n.name, command...)
		d.nodes[n.name] = m
		d.names = append(d.names, n.name)
		v.put(n.name+".yaml", fmt.Appendf(nil, `
instance: %[1]s
http: {listen: none}
ha: {lease_ttl: 2s}
ticker: {period: 100ms}
databases: [{name: main, dsn: "host=/tmp dbname=postgres user=postgres"}]
nodes: [{queue: orders, name: %[1]s, poll_period: 200ms, watermark_period: 2s, step_timeout: 5s}]
`, n.name), 0o644)
	}
	for _, m := range v.machines {
		m.startServer()
	}
	for _, n := range drillTree {
		m := d.nodes[n.name]
		args := []string{"create", n.typ, "--queue", "orders", "--node", n.name, "--location", m.dsn()}
		if n.provider != "" {
			args = append(args, "--provider", d.nodes[n.provider].dsn())
		}
		skyd(t, append(append([]string{"node"}, args...), "--db", m.dsn())...)
		m.startDaemon()
	}
	exec1(t, connect(t, d.nodes["r"].dsn()), `select pgq.set_queue_config('orders', 'ticker_max_lag', '50 ms')`)
	return d
}

// queueNodes have the queue, and one of them is the root.
var queueNodes = []string{"r", "b1", "b2"}

// round lets one thing happen and says which.
func (d *drill) round(number int) string {
	d.t.Helper()
	root := d.root()
	others := slices.DeleteFunc(slices.Clone(queueNodes), func(n string) bool { return n == root })
	target := others[d.rng.IntN(len(others))]
	f := d.fault(d.names[d.rng.IntN(len(d.names))])
	kind := d.rng.IntN(10)
	if number < 2 {
		kind = []int{0, 5}[number] // a few rounds have one of each
	}
	switch {
	case kind < 5:
		args := []string{"takeover", root, "--target", target, "--force"}
		if d.rng.IntN(2) == 0 {
			args = append(args, "--all")
		}
		code, out := d.amid(f, root, args...)
		d.changed(true, time.Time{})
		return fmt.Sprintf("switchover %s to %s, %s: exit code %d%s", root, target, f.name, code, proofOf(out))
	case kind < 8:
		return d.failover(root, target, others)
	case kind < 9:
		node := append([]string{"l1", "l2"}, others...)[d.rng.IntN(4)]
		to := slices.DeleteFunc(slices.Clone(queueNodes), func(n string) bool { return n == node })
		provider := to[d.rng.IntN(len(to))]
		code, _ := d.amid(f, root, "change-provider", "--node", node, "--provider", provider)
		return fmt.Sprintf("%s reads from %s, %s: exit code %d", node, provider, f.name, code)
	}
	f.strike()
	d.hold()
	f.heal()
	return f.name
}

func proofOf(out string) string {
	var r struct {
		Proof *struct {
			WritesHeld float64 `json:"writes_held_seconds"`
		} `json:"proof"`
	}
	if json.Unmarshal([]byte(out), &r) != nil || r.Proof == nil {
		return ""
	}
	return fmt.Sprintf(", writes were held for %.0fms", r.Proof.WritesHeld*1000)
}

// hold lets the time of a fault pass.
func (d *drill) hold() { <-time.After(time.Duration(d.rng.IntN(3000)) * time.Millisecond) }

// fault is something that breaks and is mended.
type fault struct {
	name         string
	strike, heal func()
	command      bool // it is the command that is killed
}

// fault chooses one for a machine.
func (d *drill) fault(victim string) fault {
	m := d.nodes[victim]
	nothing := func() {}
	all := []fault{
		{name: "undisturbed", strike: nothing, heal: nothing},
		{name: "kill -9 of the command", strike: nothing, heal: nothing, command: true},
		{name: "kill -9 of the daemon of " + victim, strike: func() { m.kill("daemon") }, heal: m.startDaemon},
		{name: "kill -9 of the server of " + victim, strike: func() { m.kill("server") }, heal: m.startServer},
		{name: "crash of " + victim, strike: m.crash, heal: func() { m.boot(); m.startServer(); m.startDaemon() }},
		{name: "freeze of " + victim, strike: func() { d.eventually("freeze", func() bool { return m.freeze() == nil }) }, heal: func() { d.v.must(m.thaw()) }},
		{name: victim + " off the network", strike: m.cut, heal: m.join},
	}
	return all[d.rng.IntN(len(all))]
}

func (d *drill) eventually(what string, cond func() bool) {
	d.t.Helper()
	pgtest.Eventually(d.t, 2*time.Minute, what, cond)
}

// amid runs a command of skyd node at some node and lets the fault happen somewhere in its middle.
func (d *drill) amid(f fault, at string, args ...string) (code int, out string) {
	d.t.Helper()
	c := d.begin(at, args...)
	<-time.After(time.Duration(d.rng.IntN(700)) * time.Millisecond) // the middle is anywhere
	if f.command {
		_ = c.cmd.Process.Kill()
	}
	f.strike()
	d.hold()
	f.heal()
	<-c.done
	code = c.cmd.ProcessState.ExitCode()
	d.counts[fmt.Sprintf("%s=%d", args[0], code)]++
	return code, jsonOf(&c.out)
}

// jsonOf is what a command printed without its notes.
func jsonOf(o *output) string {
	text := o.String()
	if i := strings.Index(text, "{\n"); i >= 0 {
		text = text[i:]
	}
	return text
}

func (d *drill) begin(at string, args ...string) *process {
	d.t.Helper()
	if !slices.Contains([]string{"change-provider", "create", "status"}, args[0]) { // which ask nobody
		args = append(args, "--yes")
	}
	args = append(append([]string{"node"}, args...), "--queue", "orders", "--db", d.nodes[at].dsn(), "--timeout", "30s",
		"-o", "json", "--connect-timeout", "2s")
	return background(d.t, nil, binary, args...)
}

// node runs a command of skyd node to its end.
func (d *drill) node(at string, args ...string) (code int, out string) {
	d.t.Helper()
	c := d.begin(at, args...)
	<-c.done
	code = c.cmd.ProcessState.ExitCode()
	d.counts[fmt.Sprintf("%s=%d", args[0], code)]++
	if code != 0 {
		return code, c.out.String()
	}
	return code, jsonOf(&c.out)
}

// failover lets the root die, goes on without it, and brings it back.
func (d *drill) failover(root, target string, others []string) string {
	d.t.Helper()
	m := d.nodes[root]
	type death struct {
		name        string
		die, revive func()
	}
	deaths := []death{
		{"crash", m.crash, func() { m.boot(); m.startServer(); m.startDaemon() }},
		{"cut", m.cut, m.join},
		{"freeze", func() { d.eventually("freeze", func() bool { return m.freeze() == nil }) }, func() { d.v.must(m.thaw()) }},
		{"server killed", func() { m.kill("server") }, m.startServer},
	}
	how := deaths[d.rng.IntN(len(deaths))]
	bystander := d.fault(append([]string{"l1", "l2"}, others...)[d.rng.IntN(4)])
	how.die()
	takeover := []string{"takeover", root, "--target", target, "--dead-root", "--all", "--allow-data-loss", "--force"}
	var plan plannedFailover
	d.eventually("a plan for a failover", func() bool {
		code, out := d.node(target, append(slices.Clone(takeover), "--dry-run")...)
		return code == 0 && json.Unmarshal([]byte(out), &plan) == nil && plan.Loss.LastTick > 0
	})
	code, out := d.amid(bystander, target, takeover...)
	for code != 0 {
		// Whatever happened: on with what is open, or from the start.
		code, out = d.node(target, "takeover", "--resume")
		if d.rootIs(target) {
			break
		}
		if code, out = d.node(target, takeover...); code == 0 || d.rootIs(target) {
			break
		}
	}
	_ = json.Unmarshal([]byte(out), &plan) // if this one was told, else the plan holds
	d.eventually(target+" is root", func() bool { return d.rootIs(target) })
	d.changed(false, plan.Loss.Time)
	how.revive()
	d.eventually(root+" is back", func() bool { return d.query(root, `select 1`) == "1" })
	d.resurrect(root)
	d.rebuild(plan, target)
	return fmt.Sprintf("failover %s (%s) to %s, %s: %d events shown", root, how.name, target, bystander.name, d.lost)
}

// plannedFailover is what the drill needs of the output of a failover.
type plannedFailover struct {
	Checks []struct {
		Level string `json:"level"`
		Text  string `json:"text"`
		Found string `json:"found"`
	} `json:"checks"`
	Loss struct {
		LastTick int64     `json:"last_tick"`
		Time     time.Time `json:"tick_time"`
	} `json:"loss_window"`
}

// resurrect brings an old root back and shows its lost events to the auditor.
func (d *drill) resurrect(root string) {
	d.t.Helper()
	dump := filepath.Join(d.t.TempDir(), "lost.jsonl")
	var last string
	d.eventually("resurrect "+root, func() bool {
		code, out := d.node(root, "resurrect", "--dump", dump)
		last = out
		return code == 0 || strings.Contains(out, "accept-loss")
	})
	text, err := os.ReadFile(dump)
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	d.lost = 0
	for line := range strings.Lines(string(text)) {
		var ev struct {
			Data string `json:"ev_data"`
			Type string `json:"ev_type"`
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			d.t.Fatalf("dump of %s: %v: %s", root, err, line)
		}
		if ev.Type == "t" {
			d.audit.Rescued(ev.Data)
			d.lost++
		}
	}
	d.eventually("accept the loss of "+root+": "+last, func() bool {
		code, out := d.node(root, "resurrect", "--accept-loss")
		return code == 0 || strings.Contains(out, "nothing to do")
	})
}

// rebuild makes the leafs anew of which the failover said that they are ahead of all branches.
func (d *drill) rebuild(plan plannedFailover, provider string) {
	d.t.Helper()
	for _, c := range plan.Checks {
		leaf, _, ahead := strings.Cut(c.Found, " has more than any branch")
		if !ahead {
			continue
		}
		d.rebuilt++
		m := d.nodes[leaf]
		m.kill("daemon")
		d.eventually("drop "+leaf, func() bool { code, _ := d.node(provider, "drop", "--node", leaf); return code == 0 })
		if d.query(leaf, `drop table if exists public.arrived`) == "error" {
			d.t.Fatalf("%s does not forget what arrived", leaf)
		}
		d.eventually("create "+leaf, func() bool {
			code, _ := d.node(leaf, "create", "leaf", "--node", leaf, "--location", m.dsn(), "--provider", d.nodes[provider].dsn())
			return code == 0
		})
		m.startDaemon()
	}
}
