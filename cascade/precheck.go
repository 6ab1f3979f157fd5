package cascade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Level is how a check came out.
type Level string

// The levels. Yellow may be forced, red may not.
const (
	Green  Level = "green"
	Yellow Level = "yellow"
	Red    Level = "red"
)

// Check is one condition of an operation and what was found.
type Check struct {
	ID     string `json:"id"`
	Text   string `json:"check"`
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Needed string `json:"needed,omitempty"`
}

const (
	// alivePatience is how long a worker has to show that it lives: the original's root worker looks every 10 s.
	alivePatience = 15 * time.Second
	// heldOutage is what closing and opening take when nothing is behind.
	heldOutage = 100 * time.Millisecond
	// copyRate is a careful guess of how many events a branch copies in a second.
	copyRate = 20000
)

// checker collects checks.
type checker struct{ checks []Check }

func (c *checker) add(id, text string, level Level, needed, found string, args ...any) {
	if level == Green {
		needed = ""
	}
	c.checks = append(c.checks, Check{ID: id, Text: text, Level: level, Found: fmt.Sprintf(found, args...), Needed: needed})
}

// fail notes a check that could not be made.
func (c *checker) fail(id, text string, err error) {
	c.add(id, text, Red, "an answer", "%s", oneLine(err.Error()))
}

// redIf is red when a condition holds.
func redIf(bad bool) Level {
	if bad {
		return Red
	}
	return Green
}

// yellowIf is yellow when a condition holds.
func yellowIf(bad bool) Level {
	if bad {
		return Yellow
	}
	return Green
}

// planSwitchover checks all that must hold before writes are stopped.
func (a *Admin) planSwitchover(ctx context.Context, t *Takeover) error {
	top := t.topology
	old, n := top.Node(t.Old), top.Node(t.New)
	c := &checker{}
	c.nodes(top, old, n)
	schemas := a.checkSchemas(ctx, c, old, n)
	if schemas {
		a.checkJournals(ctx, c, "", old, n)
		a.checkAlive(ctx, c, old, n)
		a.checkLocks(ctx, c, old)
		a.checkTables(ctx, c, old, n)
	}
	c.lag(t, n)
	c.others(t, old, n)
	slices.SortStableFunc(c.checks, func(x, y Check) int {
		if len(x.ID) != len(y.ID) {
			return len(x.ID) - len(y.ID)
		}
		return strings.Compare(x.ID, y.ID)
	})
	t.Checks = c.checks
	t.Steps = []string{
		t.Old + ": open the journal, the lock against a second operation", t.New + ": open the journal",
		t.Old + ": refuse writes, pause the worker", t.Old + ": close the event tables, make the final tick",
		t.New + ": wait for the final tick, for at most " + t.options.WriteOutage.String(),
		t.Old + ": allow " + t.New + " to open (from here on only " + t.New + " may let it go back)",
		t.New + ": become root, take writes, keep events for " + t.Old + " (no way back from here)",
		t.Old + ": become a branch of " + t.New, t.Old + ": let the worker go on", "compare both sides",
	}
	if n.Provider != old.Name {
		t.Steps = append(t.Steps, n.Provider+": end the subscription of "+n.Name)
	}
	for _, child := range old.Children {
		if t.options.All && child != n.Name {
			t.Steps = append(t.Steps, child+": let the worker read from "+n.Name)
		}
	}
	return nil
}

// nodes checks the roles.
func (c *checker) nodes(top *Topology, old, n *Node) {
	const text = "one root, and a branch below it"
	c.add("P1", text, redIf(len(top.Roots) != 1), "one", "roots: %s", strings.Join(top.Roots, ", "))
	c.add("P1", text, redIf(n.Type != Branch), "branch", "%s is a %s", n.Name, n.Type)
	c.add("P1", text, redIf(!top.Below(n.Name, old.Name)), old.Name+" or a node below it", "%s reads from %s", n.Name, n.Provider)
	c.add("P1", text, redIf(n.Paused), "not paused", "worker of %s: %s", n.Name, pausedText(n.Paused))
	c.add("P4", "no other operation", yellowIf(old.Paused), "not paused", "worker of %s: %s", old.Name, pausedText(old.Paused))
	if old.Queue != nil {
		c.add("P1", text, redIf(old.Queue.Closed), "open", "queue on %s: %s", old.Name, map[bool]string{true: "closed", false: "open"}[old.Queue.Closed])
	}
}

func pausedText(paused bool) string {
	if paused {
		return "paused"
	}
	return "not paused"
}

// lag checks how far the new root is behind, and estimates how long writes will be refused.
func (c *checker) lag(t *Takeover, n *Node) {
	const text = "the new root is close behind"
	if n.Lag == nil {
		c.add("P3", text, Red, "a subscription", "%s is no subscriber of %s", n.Name, n.Provider)
		return
	}
	behind := time.Duration(n.Lag.Seconds * float64(time.Second))
	if n.LagSeconds != nil && n.Lag.Ticks > 0 {
		behind = max(behind, time.Duration(*n.LagSeconds*float64(time.Second)))
	}
	t.Estimate = heldOutage + time.Duration(n.Lag.Events)*time.Second/copyRate
	c.add("P3", text, redIf(behind > t.options.MaxLag), "at most "+t.options.MaxLag.String(),
		"%d ticks, %d events, %s behind", n.Lag.Ticks, n.Lag.Events, behind.Round(time.Millisecond))
	c.add("P3", text, redIf(t.Estimate > t.options.WriteOutage), "at most "+t.options.WriteOutage.String(),
		"writes will be refused for about %s", t.Estimate.Round(time.Millisecond))
}

// others tells of bystanders, which never block.
func (c *checker) others(t *Takeover, old, n *Node) {
	for _, child := range old.Children {
		switch {
		case child == n.Name:
		case t.options.All:
			c.add("P8", "other nodes below the old root", Green, "", "%s moves below %s as soon as that has its tick", child, n.Name)
		default:
			c.add("P8", "other nodes below the old root", Green, "", "%s stays below %s", child, old.Name)
		}
	}
	c.add("P9", "merge targets are the same", redIf(!slices.Equal(old.TargetFor, n.TargetFor)), "the same",
		"%s takes %v, %s takes %v", old.Name, old.TargetFor, n.Name, n.TargetFor)
}

// checkSchemas checks that both nodes know the steps, and that we may do them.
func (a *Admin) checkSchemas(ctx context.Context, c *checker, nodes ...*Node) bool {
	const text = "schemas and rights"
	const rights = `
select pg_catalog.to_regclass('skyd_node.operation') is not null,
       exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_namespace'::regclass and d.deptype = 'e'
                  and d.objid = pg_catalog.to_regnamespace('pgq_node')),
       pg_catalog.has_function_privilege('pgq_node.demote_root(text,int4,text)', 'execute'),
       (select r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user),
       current_setting('server_version_num')::int`
	good := true
	for _, n := range nodes {
		var (
			schema, original, may, super bool
			version                      int
		)
		db, err := a.node(ctx, n)
		if err == nil {
			err = db.QueryRow(ctx, rights).Scan(&schema, &original, &may, &super, &version)
		}
		if err == nil && original && !super && version >= 150000 {
			err = db.QueryRow(ctx, `select pg_catalog.has_parameter_privilege('session_replication_role', 'set')`).Scan(&super)
		}
		switch {
		case err != nil:
			c.fail("P10", text, fmt.Errorf("%s: %w", n.Name, pgq.Classify(err)))
		case !schema:
			c.add("P10", text, Red, "schema skyd_node: run skyd schema install there", "%s has no schema skyd_node", n.Name)
		case !may:
			c.add("P7", text, Red, "a member of pgq_admin", "our role on %s may not change the role of nodes", n.Name)
		case original && !super:
			c.add("P10", text, Red, "superuser, or grant set on parameter session_replication_role", "%s has the original pgq_node, and our role there is no superuser", n.Name)
		default:
			c.add("P7", text, Green, "", "%s answers us, and we may change its role", n.Name)
			continue
		}
		good = false
	}
	return good
}

// checkJournals checks that no operation is open; a switchover whose old root is dead is given up by the failover.
func (a *Admin) checkJournals(ctx context.Context, c *checker, dead string, nodes ...*Node) {
	const text = "no other operation"
	for _, n := range nodes {
		db, err := a.node(ctx, n)
		var list []Journal
		if err == nil {
			list, err = OpenOperations(ctx, db, a.queue)
		}
		if err != nil {
			c.fail("P4", text, err)
			continue
		}
		list = slices.DeleteFunc(list, func(j Journal) bool {
			return dead != "" && j.Kind == KindSwitchover && j.Old == dead && j.Side == "new" && (j.State == OpPrepared || j.State == OpAborting)
		})
		found := "none open"
		if len(list) > 0 {
			found = fmt.Sprintf("%s %s of %s is %s, driven by %s", list[0].Kind, list[0].ID, list[0].Old, list[0].State, list[0].Driver)
		}
		c.add("P4", text, redIf(len(list) > 0), "none; --resume or --rollback ends it", "%s: %s", n.Name, found)
	}
}

// checkAlive asks both workers to show that they live.
func (a *Admin) checkAlive(ctx context.Context, c *checker, old, n *Node) {
	answers := make(chan Check, 2)
	for _, m := range []*Node{old, n} {
		go func() {
			found, err := a.alive(ctx, m)
			check := Check{ID: "P2", Text: "both workers are alive", Level: Green, Found: fmt.Sprintf("worker of %s answered after %s", m.Name, found.Round(time.Millisecond))}
			if err != nil {
				check.Found, check.Needed = fmt.Sprintf("worker of %s: %s", m.Name, oneLine(err.Error())), "an answer within "+alivePatience.String()
				check.Level = Red
				if m == old { // it has nothing to do until it is a branch
					check.Level = Yellow
				}
			}
			answers <- check
		}()
	}
	for range 2 {
		c.checks = append(c.checks, <-answers)
	}
}

// alive clears the flag by which a worker confirms that it has read its row, and waits for it.
func (a *Admin) alive(ctx context.Context, n *Node) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, alivePatience)
	defer cancel()
	begun := time.Now()
	db, err := a.node(ctx, n)
	if err != nil {
		return 0, err
	}
	if _, err := SetUptodate(ctx, db, a.queue, n.Worker, false); err != nil {
		return 0, err
	}
	for {
		s, err := GetConsumerState(ctx, db, a.queue, n.Worker)
		if err == nil && s.Uptodate {
			return time.Since(begun), nil
		}
		if again := rest(ctx, pollPeriod); again != nil {
			if s.Error != "" {
				return 0, fmt.Errorf("no answer; its last error: %s", oneLine(s.Error))
			}
			return 0, errors.New("no answer")
		}
	}
}

// checkLocks looks for transactions that the final tick would have to wait for.
func (a *Admin) checkLocks(ctx context.Context, c *checker, old *Node) {
	const text = "no long transaction holds the queue"
	const holders = `
select l.pid is null, coalesce(a.application_name, ''), coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8
  from pgq.queue q
  join pg_catalog.pg_locks l
    on l.locktype = 'relation' and l.granted
   and l.mode in ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
   and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
   and l.relation in (select i.inhrelid from pg_catalog.pg_inherits i
                       where i.inhparent = pg_catalog.to_regclass(pgq.quote_fqname(q.queue_data_pfx))
                       union all select pg_catalog.to_regclass(pgq.quote_fqname(q.queue_data_pfx)))
  left join pg_catalog.pg_stat_activity a on a.pid = l.pid
 where q.queue_name = $1 and (l.pid is null or a.xact_start < clock_timestamp() - $2::interval)
 order by 3 desc limit 1`
	db, err := a.node(ctx, old)
	if err != nil {
		c.fail("P5", text, err)
		return
	}
	var (
		prepared bool
		who      string
		seconds  float64
	)
	err = db.QueryRow(ctx, holders, a.queue, maxTxAge).Scan(&prepared, &who, &seconds)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		c.add("P5", text, Green, "", "none older than %s on %s", maxTxAge, old.Name)
	case err != nil:
		c.fail("P5", text, pgq.Classify(err))
	case prepared:
		c.add("P5", text, Red, "none", "a prepared transaction on %s has written to the queue", old.Name)
	default:
		c.add("P5", text, Red, "none older than "+maxTxAge.String(), "a transaction of %q on %s has written to the queue and is open for %.0f s", who, old.Name, seconds)
	}
}

// maxTxAge is the age of a writing transaction from which it is more likely to stay than to end.
const maxTxAge = 2 * time.Second

// checkTables checks that the new root holds all tables and sequences that are replicated from the old one.
func (a *Admin) checkTables(ctx context.Context, c *checker, old, n *Node) {
	const text = "the new root holds all tables and sequences"
	const tables = `
select table_name from londiste.table_info where queue_name = $1 and local and (coalesce(merge_state, 'ok') = 'ok' or $2)
 union all select seq_name from londiste.seq_info where queue_name = $1 and local`
	const installed = `select pg_catalog.to_regclass('londiste.table_info') is not null and pg_catalog.to_regclass('londiste.seq_info') is not null`
	have := map[*Node][]string{}
	for _, m := range []*Node{old, n} {
		db, err := a.node(ctx, m)
		var ok bool
		if err == nil {
			err = db.QueryRow(ctx, installed).Scan(&ok)
		}
		if err == nil && ok {
			var rows pgx.Rows
			if rows, err = db.Query(ctx, tables, a.queue, m == old); err == nil {
				have[m], err = pgx.CollectRows(rows, pgx.RowTo[string])
			}
		}
		if err != nil {
			c.fail("P6", text, fmt.Errorf("%s: %w", m.Name, pgq.Classify(err)))
			return
		}
	}
	var missing []string
	for _, table := range have[old] {
		if !slices.Contains(have[n], table) {
			missing = append(missing, table)
		}
	}
	if len(missing) > 0 {
		c.add("P6", text, Red, "all of them, in state ok", "%s lacks %s", n.Name, strings.Join(missing, ", "))
		return
	}
	c.add("P6", text, Green, "", "%d of %d", len(have[old]), len(have[old]))
}
