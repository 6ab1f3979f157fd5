package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

var (
	matrixCells = flag.Int("matrix.cells", 4, "how many cells TestMatrix takes, in the order of the seed; 0: all")
	matrixHarm  = flag.String("matrix.harm", "", "only cells with this harm")
)

// matrixGate lets a test stop a worker at a step of a batch: the server makes it wait there.
var matrixGate = []string{
	`create table public.armed (step text, consumer text, who text)`,
	`create function public.gate(i_step text, i_consumer text) returns integer language plpgsql volatile as $$
	begin
		if exists (select from public.armed a where a.step = i_step and a.consumer = i_consumer
			and pg_catalog.current_setting('application_name') like a.who) then
			perform pg_catalog.pg_advisory_lock_shared(4711);
			perform pg_catalog.pg_advisory_unlock_shared(4711);
		end if;
		return 1;
	end $$`,
	// Between the handler's work and the end of its commit.
	`create function public.gate_commit() returns trigger language plpgsql as $$
	begin
		perform public.gate('commit', new.consumer);
		return null;
	end $$`,
	`create constraint trigger gate after insert on public.done deferrable initially deferred for each row execute function public.gate_commit()`,
	// When a batch is opened or finished, before anybody is told.
	`create function public.gate_batch() returns trigger language plpgsql as $$
	begin
		if new.sub_batch is distinct from old.sub_batch then
			perform public.gate(case when old.sub_batch is null then 'open' else 'finish' end,
			                    (select split_part(c.co_name, '.', 1) from pgq.consumer c where c.co_id = new.sub_consumer));
		end if;
		return null;
	end $$`,
	`create trigger gate after update on pgq.subscription for each row execute function public.gate_batch()`,
}

// matrixStatement stops in the middle of a batch.
const matrixStatement = "insert into public.done (consumer, ev_id, key, data, batch)" +
	" select :consumer, :ev_id, :ev_type, :ev_data, :batch_id from public.gate('middle', :consumer)"

// cell is one fault at one step of a batch of one consumer.
type cell struct{ consumer, step, harm string }

// who is the process that is harmed, or meets the harm, by the names of its connections.
func (c cell) who() string {
	if strings.HasSuffix(c.harm, " member") {
		return "skyd/m0/%"
	}
	return "skyd/d%"
}

// matrixOf lists all cells.
func matrixOf() (cells []cell) {
	harms := []string{"kill daemon", "freeze daemon", "kill server", "freeze server", "cut connections", "lose the answer"}
	for _, consumer := range []string{"same", "other", "crew", "child"} {
		for _, step := range []string{"open", "middle", "finish", "commit"} {
			if consumer == "child" && (step == "middle" || step == "commit") {
				continue // its work is done outside of the database
			}
			for _, harm := range harms {
				cells = append(cells, cell{consumer, step, harm})
			}
		}
	}
	for _, step := range []string{"open", "middle", "finish", "commit"} {
		cells = append(cells, cell{"crew", step, "kill member"}, cell{"crew", step, "freeze member"})
	}
	return append(cells, cell{"child", "middle", "kill child"})
}

// TestMatrix harms daemon, server, connections and child processes at every step of a batch of every kind of consumer,
// with a server in a container; the seed chooses cells and their order.
func TestMatrix(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a container and half a minute")
	}
	seed := chosenSeed(t)
	cells := slices.DeleteFunc(matrixOf(), func(c cell) bool { return *matrixHarm != "" && c.harm != *matrixHarm })
	rng := rand.New(rand.NewPCG(seed, 3))
	rng.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	if *matrixCells > 0 {
		cells = cells[:min(*matrixCells, len(cells))]
	}
	server := startPostgres(t, majors[0])
	proxy := pgtest.NewProxy(t, server.DSN("postgres"))
	m := &matrix{kill: newKill(t, server, matrixStatement, proxy.DSN, matrixGate...), proxy: proxy}
	m.startMember()
	m.progress("the start")
	for _, c := range cells {
		start := time.Now()
		m.strike(c)
		m.progress(c.harm + " at " + c.step + " of " + c.consumer)
		t.Logf("%-15s at %-6s of %-5s: over after %v", c.harm, c.step, c.consumer, time.Since(start).Round(10*time.Millisecond))
	}
	m.judged(seed)
}

// matrix is the scene of TestMatrix.
type matrix struct {
	*kill
	proxy  *pgtest.Proxy
	member *process // subconsumers of the crew and nothing else, in a process of their own
}

// memberConfig is a process that adds two subconsumers to the crew.
const memberConfig = `
ha: {lease_ttl: 2s}
ticker: {enabled: false}
maintenance: {enabled: false}
databases:
  - {name: shop, dsn: "%[1]s"}
consumers:
  - {name: crew, queue: orders, database: shop, workers: 2, dead_interval: 2s, poll_period: 200ms, batch_timeout: 3s, handler: {kind: sql, statement: "%[2]s"}}
`

func (m *matrix) startMember() {
	m.t.Helper()
	dir := shortDir(m.t)
	file := filepath.Join(dir, "member.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, memberConfig, m.proxy.DSN(m.server.DSN("shop")), matrixStatement), 0o600); err != nil {
		m.t.Fatal(err)
	}
	env := []string{"RUNTIME_DIRECTORY=" + dir, "SKYD_HTTP__LISTEN=127.0.0.1:0", "SKYD_INSTANCE=m0"}
	m.member = background(m.t, env, binary, "run", "--config", file)
}

// strike waits until a worker stands at the step, and harms.
func (m *matrix) strike(c cell) {
	m.t.Helper()
	if c.harm == "kill child" {
		m.killChild()
		return
	}
	home := "shop"
	if c.consumer == "other" && (c.step == "middle" || c.step == "commit") {
		home = "target"
	}
	ctrl := connect(m.t, m.server.DSN(home))
	exec1(m.t, ctrl, "select pg_advisory_lock(4711)")
	exec1(m.t, ctrl, "insert into public.armed values ($1, $2, $3)", c.step, c.consumer, c.who())
	open := func(ctrl *pgx.Conn) {
		exec1(m.t, ctrl, "delete from public.armed")
		exec1(m.t, ctrl, "select pg_advisory_unlock_all()")
	}
	start := time.Now()
	i := m.caught(ctrl, c)
	caught := time.Since(start)
	defer func() { m.t.Logf("caught after %v, harmed after %v", caught, time.Since(start)) }()
	switch c.harm {
	case "kill daemon":
		_ = m.daemons[i].cmd.Process.Kill()
		<-m.daemons[i].done
		open(ctrl)
		m.leased("while a daemon is dead")
		m.startDaemon(i)
	case "kill member":
		_ = m.member.cmd.Process.Kill()
		<-m.member.done
		open(ctrl)
		m.reached("while a subconsumer's process is dead", "crew")
		m.startMember()
	case "freeze member":
		if err := m.member.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			m.t.Fatal(err)
		}
		open(ctrl)
		<-time.After(2500 * time.Millisecond) // the fault is that time passes: longer than a silent member keeps its batch
		m.taken()
		if err := m.member.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			m.t.Fatal(err)
		}
	case "freeze daemon":
		if err := m.daemons[i].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			m.t.Fatal(err)
		}
		open(ctrl)
		<-time.After(2500 * time.Millisecond) // the fault is that time passes: longer than a lease lives
		m.leased("while a daemon is frozen")
		if err := m.daemons[i].cmd.Process.Signal(syscall.SIGCONT); err != nil {
			m.t.Fatal(err)
		}
	case "kill server":
		m.killServer()
		open(connect(m.t, m.server.DSN(home)))
	case "freeze server":
		m.server.Freeze()
		<-time.After(1500 * time.Millisecond) // the fault is that time passes
		m.server.Thaw()
		open(ctrl)
	case "cut connections":
		m.proxy.Reset()
		open(ctrl)
	case "lose the answer":
		m.proxy.CutAfter(0)
		open(ctrl)
	default:
		m.t.Fatalf("no harm %q", c.harm)
	}
}

// caught waits until a daemon's worker waits at the gate, and tells which daemon.
func (m *matrix) caught(ctrl *pgx.Conn, c cell) int {
	m.t.Helper()
	const waiting = `select coalesce(min(a.application_name), '') from pg_locks l join pg_stat_activity a using (pid)
		where l.locktype = 'advisory' and l.objid = 4711 and not l.granted and a.datname = current_database()
		and a.application_name like $1`
	name := ""
	pgtest.Eventually(m.t, patience, fmt.Sprintf("a worker of %s stands at %s", c.consumer, c.step), func() bool {
		ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
		defer cancel()
		return ctrl.QueryRow(ctx, waiting, c.who()).Scan(&name) == nil && name != ""
	})
	if strings.HasPrefix(name, "skyd/d1/") {
		return 1
	}
	return 0
}

// taken waits until the others of the crew have what the process that is frozen had before it: all that was acknowledged.
func (m *matrix) taken() {
	m.t.Helper()
	mark := m.newest.Load()
	pgtest.Eventually(m.t, patience, "the crew has all events while a subconsumer's process is frozen", func() bool {
		return m.count("crew", `select (count(*) = 0)::int from pgq.event_1 e where $1 = 'crew' and e.ev_id <= $2
			and not exists (select from public.done d where d.consumer = 'crew' and d.ev_id = e.ev_id)`, mark) == 1
	})
}
