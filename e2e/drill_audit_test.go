package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/e2e/audit"
)

// write keeps writing to every node that has the queue, in all isolation levels, until stop.
func (d *drill) write() (stop func()) {
	ctx, cancel := context.WithCancel(d.t.Context())
	var running sync.WaitGroup
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	for _, node := range queueNodes {
		for i, level := range levels {
			running.Go(func() { d.writer(ctx, node, i, level) })
		}
	}
	d.t.Cleanup(func() { cancel(); running.Wait() })
	return func() { cancel(); running.Wait() }
}

var writerKeys atomic.Int64

// writer writes one event after the other to one node, whether it takes them or not. The snapshot of its transaction is
// older than the event by a moment.
func (d *drill) writer(ctx context.Context, node string, number int, level pgx.TxIsoLevel) {
	var conn *pgx.Conn
	closed := func() {
		if conn != nil {
			quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = conn.Close(quick)
			cancel()
			conn = nil
		}
	}
	defer closed()
	for ctx.Err() == nil {
		d.gate.RLock()
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			if conn == nil {
				var err error
				if conn, err = pgx.Connect(ctx, d.nodes[node].dsn()); err != nil {
					return err
				}
			}
			return d.writeOne(ctx, conn, fmt.Sprintf("%s/%d/%d", node, number, writerKeys.Add(1)), node, level)
		}()
		d.gate.RUnlock()
		var refused *pgconn.PgError
		if err != nil && (!errors.As(err, &refused) || conn != nil && conn.IsClosed()) {
			closed()
		}
		wait := 20 * time.Millisecond
		if err != nil {
			wait = 60 * time.Millisecond
		}
		pause(ctx, wait)
	}
}

// writeOne writes one event and tells the auditor.
func (d *drill) writeOne(ctx context.Context, conn *pgx.Conn, key, node string, level pgx.TxIsoLevel) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	e := audit.Accept{Key: key, Node: node}
	if err := tx.QueryRow(ctx, `select term from skyd_node.get_term('orders')`).Scan(&e.Term); err != nil {
		return err
	}
	if level != pgx.ReadCommitted { // long enough to be older than the closing of the queue, and to write behind the final tick
		pause(ctx, rand.N(250*time.Millisecond))
	}
	if _, err := tx.Exec(ctx, `select pgq.insert_event('orders', 't', $1)`, key); err != nil {
		return err
	}
	if level == pgx.ReadCommitted { // its statement may have waited through a change of roots
		if err := tx.QueryRow(ctx, `select term from skyd_node.get_term('orders')`).Scan(&e.Term); err != nil {
			return err
		}
	}
	d.audit.Tried(key)
	e.Sent = time.Now()
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	e.Answered = time.Now()
	d.audit.Accepted(e)
	return nil
}

// query gives the first column of the first row as text; "error" when the node cannot be asked.
func (d *drill) query(node, sql string) string {
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.nodes[node].dsn())
	if err != nil {
		return "error"
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "error"
	}
	defer rows.Close()
	var text string
	if rows.Next() && len(rows.RawValues()) > 0 {
		text = string(rows.RawValues()[0])
	}
	rows.Close()
	if rows.Err() != nil {
		return "error"
	}
	return text
}

func (d *drill) rootIs(node string) bool {
	return d.query(node, `select node_type from pgq_node.node_info where queue_name = 'orders'`) == "root"
}

// root is the one node that says so, when all three answer.
func (d *drill) root() (root string) {
	d.t.Helper()
	var said []string
	d.eventually("there is one root", func() bool {
		said = nil
		root = ""
		for _, n := range queueNodes {
			typ := d.query(n, `select node_type from pgq_node.node_info where queue_name = 'orders'`)
			said = append(said, n+": "+typ)
			switch {
			case typ == "error", typ == "root" && root != "":
				return false
			case typ == "root":
				root = n
			}
		}
		return root != ""
	})
	return root
}

// changed tells the auditor of the newest term that any node of the queue knows, if it is new.
func (d *drill) changed(planned bool, warned time.Time) {
	d.t.Helper()
	var best int64
	for _, n := range queueNodes {
		text := d.query(n, `select term || ' ' || root_node from skyd_node.term where queue_name = 'orders'`)
		number, root, _ := strings.Cut(text, " ")
		if term, err := strconv.ParseInt(number, 10, 64); err == nil && term > best {
			best = term
			d.audit.Changed(audit.Change{Term: term, Node: root, Planned: planned, WarnedFrom: warned})
		}
	}
}

// settle waits until nothing is open, nobody is paused and every node follows; what is open is ended by a command, or by
// the daemons.
func (d *drill) settle() {
	d.t.Helper()
	var open string
	tried := time.Now()
	if d.rng.IntN(3) == 0 {
		tried = tried.Add(20 * time.Second) // the daemons first
	}
	d.eventually("all operations end: "+open, func() bool {
		open = ""
		for _, n := range queueNodes {
			if got := d.query(n, `select count(*) from skyd_node.operation where finished is null`); got != "0" {
				open += n + " has " + got + " open; "
			}
		}
		if open != "" && time.Since(tried) > time.Second {
			verb := []string{"--resume", "--rollback"}[d.rng.IntN(2)]
			d.node(queueNodes[d.rng.IntN(3)], "takeover", verb)
			tried = time.Now()
		}
		return open == ""
	})
	root, complained := d.root(), time.Now()
	d.changed(true, time.Time{})
	for _, n := range d.names {
		d.eventually(n+" is not paused", func() bool {
			return d.query(n, `select count(*) from pgq_node.local_state where paused`) == "0"
		})
	}
	d.eventually("skyd node status finds no fault", func() bool {
		code, out := d.node(root, "status")
		var status struct {
			Problems []string `json:"problems"`
		}
		if code != 0 || json.Unmarshal([]byte(out), &status) != nil {
			return false
		}
		if len(status.Problems) > 0 && time.Since(complained) > 10*time.Second {
			complained = time.Now()
			d.t.Logf("status: %q", status.Problems)
		}
		return len(status.Problems) == 0
	})
	if got := d.query(root, `select queue_disable_insert::text || queue_external_ticker from pgq.queue`); got != "falsefalse" {
		d.t.Fatalf("root %s is closed: %s", root, got)
	}
}

// check lets the auditor look: nobody writes meanwhile, and all have what the root has.
func (d *drill) check() {
	d.t.Helper()
	d.gate.Lock()
	defer d.gate.Unlock()
	root := d.root()
	conn := connect(d.t, d.nodes[root].dsn())
	top := scan[int64](d.t, conn, `select max(tick_id) from pgq.tick`)
	exec1(d.t, conn, `select pgq.force_tick('orders')`)
	d.eventually("a tick behind all events", func() bool {
		return scan[int64](d.t, conn, `select max(tick_id) from pgq.tick`) > top+1
	})
	roots := d.copyOf(root)
	mark := roots.Ticks[len(roots.Ticks)-1].ID
	var copies []audit.Copy
	for _, n := range d.names {
		if n == root {
			continue
		}
		const position = `
select least(s.last_tick_id, (select max(t.tick_id) from pgq.tick t)) from pgq_node.local_state s where s.queue_name = 'orders'`
		last := ""
		d.eventually(fmt.Sprintf("%s comes to tick %d of root %s", n, mark, root), func() bool {
			text := d.query(n, position)
			at, err := strconv.ParseInt(text, 10, 64)
			if err == nil && text != last {
				last = text
			}
			return err == nil && at >= mark
		})
		copies = append(copies, d.copyOf(n))
	}
	if err := d.audit.Check(roots, copies...); err != nil {
		d.t.Fatal(err)
	}
}

// copyOf reads what a node holds.
func (d *drill) copyOf(node string) audit.Copy {
	d.t.Helper()
	c := audit.Copy{Node: node}
	conn := connect(d.t, d.nodes[node].dsn())
	defer func() { _ = conn.Close(d.t.Context()) }()
	if node[0] == 'l' {
		rows, err := conn.Query(d.t.Context(), `select tick, id, type, coalesce(data, '') from public.arrived order by tick, id`)
		d.v.must(err)
		c.Events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[audit.CopiedEvent])
		d.v.must(err)
		return c
	}
	tx, err := conn.BeginTx(d.t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	d.v.must(err)
	rows, err := tx.Query(d.t.Context(), `
select tick_id, concat_ws(' ', extract(epoch from tick_time), tick_event_seq), tick_snapshot::text from pgq.tick order by tick_id`)
	d.v.must(err)
	var snapshots []snapshot
	for rows.Next() {
		var t audit.TickRow
		var text string
		d.v.must(rows.Scan(&t.ID, &t.Text, &text))
		c.Ticks = append(c.Ticks, t)
		snapshots = append(snapshots, parseSnapshot(text))
	}
	d.v.must(rows.Err())
	rows, err = tx.Query(d.t.Context(), `select ev_txid, ev_id, ev_type, coalesce(ev_data, '') from pgq.event_1 order by ev_id`)
	d.v.must(err)
	for rows.Next() {
		var txid int64
		var ev audit.CopiedEvent
		d.v.must(rows.Scan(&txid, &ev.ID, &ev.Type, &ev.Data))
		i, _ := slices.BinarySearchFunc(snapshots, txid, func(s snapshot, id int64) int {
			if s.sees(id) {
				return 0
			}
			return -1
		})
		if i < len(c.Ticks) {
			ev.Tick = c.Ticks[i].ID
			c.Events = append(c.Events, ev)
		}
	}
	d.v.must(rows.Err())
	return c
}

// snapshot is that of a tick.
type snapshot struct {
	xmin, xmax int64
	running    []int64
}

func parseSnapshot(text string) (s snapshot) {
	parts := strings.SplitN(text, ":", 3)
	s.xmin, _ = strconv.ParseInt(parts[0], 10, 64)
	s.xmax, _ = strconv.ParseInt(parts[1], 10, 64)
	for id := range strings.SplitSeq(parts[2], ",") {
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			s.running = append(s.running, n)
		}
	}
	return s
}

// sees tells whether a transaction had committed when the snapshot was taken.
func (s snapshot) sees(id int64) bool {
	return id < s.xmin || id < s.xmax && !slices.Contains(s.running, id)
}
