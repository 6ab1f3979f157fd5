package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/e2e/audit"
	"github.com/skytools/skyd/internal/pgtest"
)

// patience is for machines that have much else to do.
const patience = 4 * time.Minute

var killSeed = flag.Uint64("kill.seed", 0, "order of the faults of TestKill; 0: another one each time")

// killConfig is two databases and a consumer of each kind that promises something.
const killConfig = `
ha: {lease_ttl: 2s}
ticker: {period: 100ms}
maintenance: {period: 500ms, retry_period: 1s}
databases:
  - {name: shop, dsn: "%[1]s"}
  - {name: target, dsn: "%[2]s"}
consumers:
  - {name: same, queue: orders, database: shop, poll_period: 200ms, batch_timeout: 3s, handler: {kind: sql, statement: "%[3]s"}}
  - {name: other, queue: orders, database: shop, poll_period: 200ms, batch_timeout: 3s, handler: {kind: sql, database: target, statement: "%[3]s"}}
  - {name: crew, queue: orders, database: shop, workers: 3, dead_interval: 2s, poll_period: 200ms, batch_timeout: 3s, handler: {kind: sql, statement: "%[3]s"}}
  - {name: child, queue: orders, database: shop, poll_period: 200ms, batch_timeout: 3s, handler: {kind: exec, command: [sh, "%[4]s", "%[5]s"]}}
`

// killStatement is slow now and then, so that more than half of the time a fault hits the middle of a batch.
const killStatement = "insert into public.done (consumer, ev_id, key, data, batch)" +
	" select :consumer, :ev_id, :ev_type, :ev_data, :batch_id from pg_sleep(case when :ev_id % 10 = 0 then 0.03 else 0 end)"

// TestKill_EveryPromiseIsKept kills and freezes everything in turn, in the order of a seed, while events are produced.
func TestKill_EveryPromiseIsKept(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	seed := chosenSeed(t)
	k := newKill(t, pgtest.NewCluster(t, nil), killStatement, func(dsn string) string { return dsn })
	rng := rand.New(rand.NewPCG(seed, 1))
	faults := []struct {
		name string
		do   func()
	}{
		{"kill -9 of daemon 0", func() { k.killDaemon(0) }},
		{"kill -9 of daemon 1", func() { k.killDaemon(1) }},
		{"kill -9 of the handler's child", k.killChild},
		{"kill -9 of the server", k.killServer},
		{"freeze of the server", k.freezeServer},
		{"freeze of daemon 0", func() { k.freezeDaemon(0) }},
		{"freeze of daemon 1", func() { k.freezeDaemon(1) }},
	}
	rng.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	k.progress("the start")
	for _, fault := range faults {
		start := time.Now()
		fault.do()
		k.progress(fault.name)
		t.Logf("%s: over after %v", fault.name, time.Since(start).Round(10*time.Millisecond))
	}
	k.judged(seed)
}

// chosenSeed is the one of the flag, or a new one.
func chosenSeed(t *testing.T) uint64 {
	t.Helper()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	t.Logf("replay the order: go test ./e2e -run %s -kill.seed=%d", t.Name(), seed)
	return seed
}

// judged lets everything arrive, ends the daemons, and has the auditor look.
func (k *kill) judged(seed uint64) {
	k.t.Helper()
	k.stopProducers()
	k.drained()
	for _, d := range k.daemons {
		if err := d.stop(); err != nil {
			k.t.Errorf("daemon after SIGTERM: %v", err)
		}
	}
	k.account()
	if err := k.auditor.Check(); err != nil {
		k.t.Errorf("seed %d: %v", seed, err)
	}
	k.t.Logf("%d events acknowledged", k.auditor.Produced())
}

// kill is the scene: a server with queue and target, two daemons, producers.
type kill struct {
	t       *testing.T
	server  *pgtest.Cluster
	config  string
	journal string // of the child
	daemons [2]*process
	auditor *audit.Auditor
	newest  atomic.Int64 // event acknowledged
	halt    context.CancelFunc
	running sync.WaitGroup
}

// newKill sets the scene. The statement writes down what its consumer sees; way is how the daemons reach the server.
func newKill(t *testing.T, server *pgtest.Cluster, statement string, way func(dsn string) string, prepare ...string) *kill {
	t.Helper()
	dir := t.TempDir()
	k := &kill{
		t: t, server: server, auditor: audit.New(),
		config: filepath.Join(dir, "skyd.yaml"), journal: filepath.Join(dir, "journal"),
	}
	admin := connect(t, k.server.DSN("postgres"))
	for _, name := range []string{"shop", "target"} {
		exec1(t, admin, "create database "+name)
		skyd(t, "schema", "install", "--db", k.server.DSN(name))
		c := connect(t, k.server.DSN(name))
		exec1(t, c, "create table public.done (n bigserial, consumer text, ev_id bigint, key text, data text, batch bigint)")
		for _, sql := range prepare {
			exec1(t, c, sql)
		}
	}
	shop := connect(t, k.server.DSN("shop"))
	exec1(t, shop, `select pgq.create_queue('orders'), pgq.set_queue_config('orders', 'ticker_max_lag', '100 ms'),
		pgq.set_queue_config('orders', 'rotation_period', '2 seconds')`)
	for _, consumer := range []string{"same", "other", "crew", "child"} {
		exec1(t, shop, "select pgq.register_consumer('orders', $1)", consumer)
	}
	script, err := filepath.Abs("testdata/child.sh")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(killConfig, way(k.server.DSN("shop")), way(k.server.DSN("target")), statement, script, k.journal)
	if err := os.WriteFile(k.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, halt := context.WithCancel(t.Context())
	k.halt = halt
	t.Cleanup(k.stopProducers)
	for i := range k.daemons {
		k.startDaemon(i)
	}
	for i := range 3 {
		k.running.Go(func() { k.produce(ctx, i) })
	}
	return k
}

func (k *kill) startDaemon(i int) {
	k.t.Helper()
	dir, err := os.MkdirTemp("", "skyd-e2e-run-")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	env := []string{"RUNTIME_DIRECTORY=" + dir, "SKYD_HTTP__LISTEN=127.0.0.1:0", fmt.Sprint("SKYD_INSTANCE=d", i)}
	k.daemons[i] = background(k.t, env, binary, "run", "--config", k.config)
}

// produce writes transactions for one key until the context ends, whatever the server does.
func (k *kill) produce(ctx context.Context, number int) {
	rng := rand.New(rand.NewPCG(uint64(number), 2))
	key := fmt.Sprint("key", number)
	var seq int64
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	pause := time.NewTicker(40 * time.Millisecond)
	defer pause.Stop()
	for ctx.Err() == nil {
		<-pause.C
		if conn == nil || conn.IsClosed() {
			c, err := pgx.Connect(ctx, k.server.DSN("shop"))
			if err != nil {
				continue
			}
			conn = c
		}
		events, err := insert(ctx, conn, key, &seq, 1+rng.IntN(4), rng.IntN(10) == 0)
		switch err {
		case nil:
			k.auditor.Acknowledged(events...)
			for _, ev := range events {
				k.newest.Store(max(k.newest.Load(), ev.ID))
			}
		default:
			k.auditor.Uncertain(events...)
			_ = conn.Close(context.Background())
		}
	}
}

// insert is one transaction. With an error it returns the events that may be there nevertheless.
func insert(ctx context.Context, conn *pgx.Conn, key string, seq *int64, n int, rollback bool) ([]audit.Event, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	var (
		events []audit.Event
		xid    int64
	)
	if err := tx.QueryRow(ctx, "select txid_current()").Scan(&xid); err != nil {
		return nil, err
	}
	for range n {
		*seq++
		data := fmt.Sprintf("%s number %d", key, *seq)
		ev := audit.Event{Key: key, Seq: *seq, Tx: xid, Hash: audit.Hash(data)}
		if err := tx.QueryRow(ctx, "select pgq.insert_event('orders', $1, $2)", key, data).Scan(&ev.ID); err != nil {
			return nil, err
		}
		events = append(events, ev)
	}
	if rollback {
		return nil, tx.Rollback(ctx)
	}
	return events, tx.Commit(ctx)
}

func (k *kill) stopProducers() {
	k.halt()
	k.running.Wait()
}

// unharmed ends the test if the process has ended by itself.
func (p *process) unharmed() {
	select {
	case <-p.done:
		if !p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			p.t.Fatalf("%s ended: %v", p.name, p.err)
		}
	default:
	}
}

// killDaemon leaves the work to the other one, and starts it again.
func (k *kill) killDaemon(i int) {
	d := k.daemons[i]
	_ = d.cmd.Process.Kill()
	<-d.done
	k.leased("while a daemon is dead")
	k.startDaemon(i)
}

// freezeDaemon stops a daemon for longer than its leases live.
func (k *kill) freezeDaemon(i int) {
	d := k.daemons[i]
	if err := d.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		k.t.Fatal(err)
	}
	<-time.After(2500 * time.Millisecond) // the fault is that time passes
	k.leased("while a daemon is frozen")
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kill) killChild() {
	lines := k.lines()
	pid, _, _ := strings.Cut(lines[len(lines)-1], " ")
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		k.t.Fatalf("journal ends with %q", lines[len(lines)-1])
	}
	_ = syscall.Kill(n, syscall.SIGKILL) // it may have ended with its daemon
}

func (k *kill) killServer() {
	k.server.Kill()
	k.server.Start()
}

func (k *kill) freezeServer() {
	k.server.Freeze()
	<-time.After(1500 * time.Millisecond) // the fault is that time passes
	k.server.Thaw()
}

// leased waits until the consumers with one worker go on.
func (k *kill) leased(when string) {
	k.t.Helper()
	k.reached(when, "same", "other", "child")
}

// progress waits until all consumers have what was acknowledged by now.
func (k *kill) progress(after string) {
	k.t.Helper()
	k.reached("after "+after, "same", "other", "crew", "child")
}

// reached waits until consumers have an event that is newer than now.
func (k *kill) reached(when string, consumers ...string) {
	k.t.Helper()
	mark := k.newest.Load()
	for _, consumer := range consumers {
		pgtest.Eventually(k.t, patience, fmt.Sprintf("consumer %s goes on %s", consumer, when), func() bool {
			for _, d := range k.daemons {
				d.unharmed()
			}
			if consumer == "child" {
				lines := k.lines()
				for i := len(lines) - 1; i >= 0; i-- {
					if ev, _ := parse(lines[i]); ev.ID > mark {
						return true
					}
				}
				return false
			}
			return k.count(consumer, "select count(*) from public.done where consumer = $1 and ev_id > $2", mark) > 0
		})
	}
}

// count asks the database where a consumer writes; 0 while it cannot answer.
func (k *kill) count(consumer, sql string, args ...any) (n int) {
	ctx, cancel := context.WithTimeout(k.t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, k.server.DSN(k.home(consumer)))
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close(ctx) }()
	if conn.QueryRow(ctx, sql, append([]any{consumer}, args...)...).Scan(&n) != nil {
		return 0
	}
	return n
}

func (k *kill) home(consumer string) string {
	if consumer == "other" {
		return "target"
	}
	return "shop"
}

// drained waits until all that was acknowledged has arrived everywhere, or does not any more.
func (k *kill) drained() {
	k.t.Helper()
	want := k.auditor.Produced()
	for _, consumer := range []string{"same", "other", "crew"} {
		pgtest.Eventually(k.t, patience, fmt.Sprintf("%d events arrive at %s", want, consumer), func() bool {
			return k.count(consumer, "select count(distinct ev_id) from public.done where consumer = $1") >= want
		})
	}
	pgtest.Eventually(k.t, patience, "all batches are finished", func() bool {
		return k.count("", `select (count(*) = 0)::int from pgq.subscription s
			where $1 = '' and s.sub_batch is not null and s.sub_active < now() - interval '2 seconds'`) == 1
	})
	pgtest.Eventually(k.t, patience, fmt.Sprintf("%d events arrive at child", want), func() bool {
		done := map[int64]bool{}
		for _, d := range k.journalled() {
			for _, ev := range d.Events {
				done[ev.ID] = done[ev.ID] || !d.Cut
			}
		}
		n := 0
		for _, whole := range done {
			if whole {
				n++
			}
		}
		return n >= want
	})
}

// journalled is what the children got, in the order in which they ended a batch, and then what they were cut in.
func (k *kill) journalled() (all []audit.Delivery) {
	k.t.Helper()
	open := map[string]*audit.Delivery{}
	for _, line := range k.lines() {
		pid, _, _ := strings.Cut(line, " ")
		ev, l := parse(line)
		d := open[pid]
		switch {
		case ev.ID != 0 && (d == nil || d.Batch != l.Batch):
			if d != nil {
				d.Cut = true
				all = append(all, *d)
			}
			open[pid] = &audit.Delivery{Batch: l.Batch, Worker: pid, Events: []audit.Event{ev}}
		case ev.ID != 0:
			d.Events = append(d.Events, ev)
		case d != nil:
			all = append(all, *d)
			delete(open, pid)
		}
	}
	for _, d := range open {
		d.Cut = true
		all = append(all, *d)
	}
	return all
}

// account tells the auditor what is in the tables and in the child's journal.
func (k *kill) account() {
	k.t.Helper()
	for _, consumer := range []string{"same", "other", "crew"} {
		a := k.auditor.Consumer(consumer, audit.Promises{Once: true, WholeTx: true, InOrder: consumer != "crew"})
		conn := connect(k.t, k.server.DSN(k.home(consumer)))
		rows, err := conn.Query(k.t.Context(), `select batch, array_agg(ev_id order by n), array_agg(key order by n), array_agg(data order by n)
			from public.done where consumer = $1 group by batch order by min(n)`, consumer)
		if err != nil {
			k.t.Fatal(err)
		}
		for rows.Next() {
			var (
				d         audit.Delivery
				ids       []int64
				key, data []string
			)
			if err := rows.Scan(&d.Batch, &ids, &key, &data); err != nil {
				k.t.Fatal(err)
			}
			for i := range ids {
				d.Events = append(d.Events, audit.Event{ID: ids[i], Key: key[i], Hash: audit.Hash(data[i])})
			}
			a.Committed(d)
		}
		if err := rows.Err(); err != nil {
			k.t.Fatal(err)
		}
	}
	// A frozen daemon's child may confirm late, so there is no order between batches to be kept here.
	child := k.auditor.Consumer("child", audit.Promises{WholeTx: true})
	for _, d := range k.journalled() {
		child.Saw(d)
		if !d.Cut {
			child.Committed(d)
		}
	}
}

// lines is the child's journal: a process id, a blank and what it was sent.
func (k *kill) lines() []string {
	k.t.Helper()
	text, err := os.ReadFile(k.journal)
	if err != nil && !os.IsNotExist(err) {
		k.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// line is what a child gets.
type line struct {
	Batch int64  `json:"batch_id"`
	ID    int64  `json:"ev_id"`
	Type  string `json:"ev_type"`
	Data  string `json:"ev_data"`
}

// parse reads a line of the journal; no event for the end of a batch.
func parse(text string) (ev audit.Event, l line) {
	_, text, _ = strings.Cut(text, " ")
	if json.Unmarshal([]byte(text), &l) != nil || l.ID == 0 {
		return audit.Event{}, l
	}
	return audit.Event{ID: l.ID, Key: l.Type, Hash: audit.Hash(l.Data)}, l
}
