package cascade_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// family is a cascade of queue q in databases of its own.
type family struct {
	t   *testing.T
	dbs map[string]*pgq.DB
	dsn map[string]string
}

func newFamily(t *testing.T, names ...string) *family {
	t.Helper()
	f := &family{t: t, dbs: map[string]*pgq.DB{}, dsn: map[string]string{}}
	for _, name := range names {
		f.dsn[name] = pgtest.DB(t).DSN
		f.dbs[name] = open(t, f.dsn[name])
	}
	return f
}

// admin administers from a node.
func (f *family) admin(name string) *cascade.Admin {
	a := cascade.NewAdmin(f.dbs[name], "q", cascade.AdminOptions{Patience: time.Minute})
	f.t.Cleanup(a.Close)
	return a
}

func (f *family) topology(name string) *cascade.Topology {
	f.t.Helper()
	a := f.admin(name)
	defer a.Close() // tests ask often
	return ok[*cascade.Topology](f.t)(a.Topology(f.t.Context()))
}

// create makes a node and fails the test when it cannot.
func (f *family) create(c cascade.Creation) *cascade.Change {
	f.t.Helper()
	plan, err := f.tryCreate(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return plan
}

func (f *family) tryCreate(c cascade.Creation) (*cascade.Change, error) {
	c.Location = f.dsn[c.Name]
	c.Provider = f.dsn[c.Provider]
	plan, err := f.admin(c.Name).PlanCreate(f.t.Context(), c)
	if err != nil {
		return nil, err
	}
	return plan, plan.Run(f.t.Context(), nil)
}

// carry runs a plan.
func (f *family) carry(plan *cascade.Change, err error) {
	f.t.Helper()
	if err == nil {
		err = plan.Run(f.t.Context(), nil)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *family) exec(name, sql string, args ...any) {
	f.t.Helper()
	if _, err := f.dbs[name].Exec(f.t.Context(), sql, args...); err != nil {
		f.t.Fatalf("%s: %s: %v", name, sql, err)
	}
}

// tick makes the root put what was written into a batch.
func (f *family) tick(name string) {
	f.t.Helper()
	f.exec(name, `select pgq.force_tick('q'), pgq.ticker('q')`)
}

// work runs the workers of nodes until the test ends.
func (f *family) work(names ...string) {
	ctx, stop := context.WithCancel(f.t.Context())
	var all sync.WaitGroup
	f.t.Cleanup(func() { stop(); all.Wait() })
	for _, name := range names {
		all.Go(func() {
			w := cascade.NewWorker(f.dbs[name], "q", cascade.WorkerOptions{PollPeriod: 20 * time.Millisecond})
			defer w.Close()
			for ctx.Err() == nil {
				if _, err := w.Step(ctx); err != nil {
					_, _, _ = w.Attend(ctx)
				}
			}
		})
	}
}

// settle waits until a node has all that the root has.
func (f *family) settle(root, name string) {
	f.t.Helper()
	f.tick(root)
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	if _, err := f.admin(name).Wait(ctx, f.topology(name), name, cascade.UpstreamRoot); err != nil {
		f.t.Fatal(err)
	}
}

// events lists what a queue holds.
func (f *family) events(name string) []string {
	f.t.Helper()
	rows, _ := f.dbs[name].Query(f.t.Context(), `select ev_id || ' ' || ev_data from pgq.event_1 order by ev_id`)
	return ok[[]string](f.t)(pgx.CollectRows(rows, pgx.RowTo[string]))
}

func three(t *testing.T) *family {
	t.Helper()
	f := newFamily(t, "n1", "n2", "n3")
	f.dbs["middle"], f.dsn["middle"] = f.dbs["n2"], f.dsn["n2"] // as which a test renames it
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.work("n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n2"})
	return f
}

func TestCreate_TreeWithItsTopology(t *testing.T) {
	t.Parallel()
	f := three(t)
	f.exec("n1", `select pgq.insert_event('q', 'a', 'one')`)
	f.settle("n1", "n3")
	top := f.topology("n3")
	if top.Local != "n3" || !slices.Equal(top.Roots, []string{"n1"}) || len(top.Problems) > 0 {
		t.Fatalf("local %s, roots %v, problems %q", top.Local, top.Roots, top.Problems)
	}
	for _, name := range []string{"n2", "n3"} {
		if n := top.Node(name); n.State != cascade.Alive || n.Lag == nil || n.Lag.Ticks != 0 || n.LagSeconds == nil {
			t.Errorf("%s: state %s, lag %+v, %v", name, n.State, n.Lag, n.LagSeconds)
		}
	}
	if n := top.Node("n1"); !slices.Equal(n.Children, []string{"n2"}) {
		t.Errorf("n1 has children %v", n.Children)
	}
	if a, b := f.events("n1"), f.events("n3"); !slices.Equal(a[len(a)-len(b):], b) || len(b) == 0 {
		t.Errorf("root has %q, second branch %q", a, b)
	}
	again := f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n2"})
	if len(again.Steps) != 0 {
		t.Errorf("made again: %+v, want nothing to do", again.Steps)
	}
}

// The ticks of a new branch are the provider's in all fields, from the first on, and its numbers go on behind the
// provider's: it may become root at once.
func TestCreate_BranchBeginsAtTheProvidersTick(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.exec("n1", `select pgq.insert_event('q', 'a', 'one') from generate_series(1, 50)`)
	f.tick("n1")
	f.exec("n1", `select pgq_node.set_global_watermark('q', 2)`)
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	const ticks = `select tick_id || ' ' || tick_time || ' ' || tick_event_seq from pgq.tick where tick_id >= 2 or $1 order by tick_id`
	read := func(name string, all bool) []string {
		rows, _ := f.dbs[name].Query(t.Context(), ticks, all)
		return ok[[]string](t)(pgx.CollectRows(rows, pgx.RowTo[string]))
	}
	if a, b := read("n1", false), read("n2", true); len(a) < 1 || len(b) != 1 || a[0] != b[0] {
		t.Errorf("ticks of the root %q, of the new branch %q", a, b)
	}
	f.exec("n2", `select pgq_node.promote_branch('q')`)
	var id int64
	if err := f.dbs["n2"].QueryRow(t.Context(), `select pgq.insert_event('q', 'b', '')`).Scan(&id); err != nil || id <= 50 {
		t.Errorf("the first event of the promoted branch has number %d, %v; want above 50", id, err)
	}
}

// Whatever step of a creation was the last one done: nobody keeps events for a node that does not exist, and the same
// creation goes on to a whole node.
func TestCreate_GoesOnAfterEachStep(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	c := cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n1"}
	for stop := 1; ; stop++ {
		in := c
		in.Location, in.Provider = f.dsn["n3"], f.dsn["n1"]
		plan := ok[*cascade.Change](t)(f.admin("n3").PlanCreate(t.Context(), in))
		if len(plan.Steps) == 0 {
			if stop < 3 {
				t.Fatalf("whole after %d steps", stop)
			}
			break
		}
		plan.Steps = plan.Steps[:1]
		if err := plan.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for _, p := range f.topology("n1").Problems {
			if strings.Contains(p, "keeps events") {
				t.Errorf("after step %d (%s): %s", stop, plan.Steps[0].Text, p)
			}
		}
	}
	f.work("n1", "n2", "n3")
	f.settle("n1", "n3")
	if problems := f.topology("n3").Problems; len(problems) > 0 {
		t.Errorf("at the end: %q", problems)
	}
}

// What a creation by the original's tools leaves when it dies before the node is made.
func TestCreate_TakesOverTheGhostOfAnother(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	f.exec("n1", `select pgq_node.register_location('q', 'n3', $1, false)`, ok[string](t)(cascade.Portable(f.dsn["n3"])))
	f.exec("n1", `select pgq_node.register_subscriber('q', 'n3', 'n3_worker', null)`)
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n2"})
	f.work("n1", "n2", "n3")
	f.settle("n1", "n3")
	if problems := f.topology("n3").Problems; len(problems) > 0 {
		t.Errorf("problems: %q", problems)
	}
}

func TestCreate_Refusals(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2", "n3", "spare")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.create(cascade.Creation{Type: cascade.Leaf, Name: "n2", Provider: "n1"})
	f.exec("n1", `select pgq.register_consumer('q', 'busy')`)
	f.exec("spare", `select pgq.create_queue('q')`)
	for want, c := range map[string]cascade.Creation{
		"is a leaf":                       {Type: cascade.Branch, Name: "n3", Provider: "n2"},
		"needs a provider":                {Type: cascade.Branch, Name: "n3"},
		"a root has no provider":          {Type: cascade.Root, Name: "n3", Provider: "n1"},
		"only a leaf can merge":           {Type: cascade.Branch, Name: "n3", Provider: "n1", Combined: "c"},
		"has no root or branch":           {Type: cascade.Leaf, Name: "n3", Provider: "n1", Combined: "c"},
		"is node n2 (leaf) of queue q":    {Type: cascade.Root, Name: "n2"},
		"has a consumer busy that is not": {Type: cascade.Branch, Name: "n3", Provider: "n1", Worker: "busy"},
		"belongs to no cascade":           {Type: cascade.Branch, Name: "spare", Provider: "n1"},
		"must not begin with a dot":       {Type: cascade.Root, Name: ".n"},
	} {
		if c.Name == ".n" {
			f.dsn[".n"], f.dbs[".n"] = f.dsn["n3"], f.dbs["n3"]
		}
		if _, err := f.tryCreate(c); !errors.Is(err, cascade.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want refused: %s", c, err, want)
		}
	}
	plan, err := f.admin("n3").PlanCreate(t.Context(), cascade.Creation{Type: cascade.Branch, Name: "n3", Location: f.dsn["n2"], Provider: f.dsn["n1"]})
	if err == nil || !strings.Contains(err.Error(), "leads to another database") {
		t.Errorf("foreign location: %+v, %v", plan, err)
	}
	f.dsn["n1b"], f.dbs["n1b"] = f.dsn["n3"], f.dbs["n3"]
	in := cascade.Creation{Type: cascade.Branch, Name: "n2", Location: f.dsn["n3"], Provider: f.dsn["n1"]}
	if _, err := f.admin("n3").PlanCreate(t.Context(), in); err == nil || !strings.Contains(err.Error(), "has a node n2 already") {
		t.Errorf("name of another: %v", err)
	}
}

func TestPause_HandshakeAndTimeout(t *testing.T) {
	t.Parallel()
	f := three(t)
	a := f.admin("n1")
	f.carry(a.PlanPause(f.topology("n1"), "n3", "", true, true))
	if n := f.topology("n1").Node("n3"); !n.Paused || !n.Uptodate {
		t.Errorf("after pause: paused %t, uptodate %t", n.Paused, n.Uptodate)
	}
	if plan, err := a.PlanPause(f.topology("n1"), "n3", "", true, true); err != nil || len(plan.Steps) > 0 {
		t.Errorf("pause again: %+v, %v; want nothing to do", plan, err)
	}
	f.carry(a.PlanPause(f.topology("n1"), "n3", "", false, true))
	f.settle("n1", "n3")

	lone := newFamily(t, "n1")
	lone.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	plan := ok[*cascade.Change](t)(lone.admin("n1").PlanPause(lone.topology("n1"), "n1", "", true, true))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := plan.Run(ctx, nil); !errors.Is(err, cascade.ErrNotConfirmed) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pause without a worker: %v", err)
	}
}

func TestChangeProvider_UnderLoadLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	f := three(t)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	writers.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = f.dbs["n1"].Exec(ctx, `select pgq.insert_event('q', 'load', $1::int::text)`, i)
			if i%5 == 0 {
				_, _ = f.dbs["n1"].Exec(ctx, `select pgq.force_tick('q'), pgq.ticker('q')`)
			}
		}
	})
	a := f.admin("n2")
	for i := range 6 {
		to := []string{"n1", "n2"}[i%2]
		f.carry(a.PlanChangeProvider(f.topology("n2"), "n3", "", to))
		if n := f.topology("n2").Node("n3"); n.Provider != to || n.Paused {
			t.Fatalf("n3 reads from %s, paused %t; want %s", n.Provider, n.Paused, to)
		}
	}
	stop()
	writers.Wait()
	f.settle("n1", "n3")
	f.settle("n1", "n2")
	want := f.events("n1")
	for _, name := range []string{"n2", "n3"} {
		if got := f.events(name); !slices.Equal(got, want[len(want)-len(got):]) || len(got) < 20 {
			t.Errorf("%s has %d events, the root %d, and they differ", name, len(got), len(want))
		}
	}
	if problems := f.topology("n1").Problems; len(problems) > 0 {
		t.Errorf("problems: %q", problems)
	}
}

// A new provider that is behind gets no consumer, and nobody is left paused, moved or subscribed twice.
func TestChangeProvider_ToANodeBehindLeavesAllAsItWas(t *testing.T) {
	t.Parallel()
	f := newFamily(t, "n1", "n2", "n3")
	f.create(cascade.Creation{Type: cascade.Root, Name: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n2", Provider: "n1"})
	f.create(cascade.Creation{Type: cascade.Branch, Name: "n3", Provider: "n1"})
	f.work("n1", "n3") // n2 gets nothing
	f.exec("n1", `select pgq.insert_event('q', 'a', 'one')`)
	f.settle("n1", "n3")
	plan := ok[*cascade.Change](t)(f.admin("n1").PlanChangeProvider(f.topology("n1"), "n3", "", "n2"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := plan.Run(ctx, nil); !errors.Is(err, cascade.ErrRefused) {
		t.Fatalf("moved to a node behind: %v", err)
	}
	top := f.topology("n1")
	if n := top.Node("n3"); n.Provider != "n1" || n.Paused || len(top.Node("n2").Children) > 0 || len(top.Problems) > 0 {
		t.Errorf("n3 reads from %s, paused %t; problems %q", n.Provider, n.Paused, top.Problems)
	}
	for want, to := range map[string]string{"circle": "n3", "cannot read from itself": "n1"} {
		node := map[string]string{"circle": "n2", "cannot read from itself": "n1"}[want]
		if want == "circle" {
			f.work("n2")
			f.settle("n1", "n2")
			f.carry(f.admin("n1").PlanChangeProvider(f.topology("n1"), "n3", "", "n2"))
		}
		if _, err := f.admin("n1").PlanChangeProvider(f.topology("n1"), node, "", to); !errors.Is(err, cascade.ErrRefused) {
			t.Errorf("%s to %s: %v, want refused: %s", node, to, err, want)
		}
	}
}

func TestMembers_TagRelocateAndDrop(t *testing.T) {
	t.Parallel()
	f := three(t)
	a := f.admin("n1")
	f.carry(a.PlanTag(f.topology("n1"), "n3", true))
	if n := f.topology("n2").Node("n3"); n.State != cascade.Dead {
		t.Errorf("n3 is %s at n2, want dead", n.State)
	}
	alive := cascade.NewAdmin(f.dbs["n1"], "q", cascade.AdminOptions{Patience: time.Minute, Alive: []string{"n3"}})
	t.Cleanup(alive.Close)
	f.carry(alive.PlanTag(ok[*cascade.Topology](t)(alive.Topology(t.Context())), "n3", false))
	for _, from := range []string{"n2", "n3"} {
		list := ok[[]cascade.Location](t)(cascade.Locations(t.Context(), f.dbs[from], "q"))
		if slices.ContainsFunc(list, func(l cascade.Location) bool { return l.Dead }) {
			t.Errorf("%s knows a dead member: %+v", from, list)
		}
	}
	if _, err := a.PlanDrop(f.topology("n1"), "n2"); !errors.Is(err, cascade.ErrRefused) {
		t.Errorf("drop of a provider: %v", err)
	}
	if _, err := a.PlanDrop(f.topology("n1"), "n1"); !errors.Is(err, cascade.ErrRefused) {
		t.Errorf("drop of the root: %v", err)
	}
	moved := ok[string](t)(cascade.Portable(f.dsn["n2"])) + " application_name=moved"
	plan, err := a.PlanRelocate(t.Context(), f.topology("n1"), "n2", moved, true)
	f.carry(plan, err)
	for _, name := range []string{"n1", "n2", "n3"} {
		list := ok[[]cascade.Location](t)(cascade.Locations(t.Context(), f.dbs[name], "q"))
		if !slices.Contains(list, cascade.Location{Node: "n2", Location: moved}) {
			t.Errorf("%s knows %+v", name, list)
		}
	}
	for _, name := range []string{"n3", "n2", "n1"} {
		f.carry(f.admin(name).PlanDrop(f.topology(name), name))
	}
	for _, name := range []string{"n1", "n2", "n3"} {
		var left int
		err := f.dbs[name].QueryRow(t.Context(), `
select (select count(*) from pgq.queue) + (select count(*) from pgq_node.node_info) + (select count(*) from pgq_node.node_location)`).Scan(&left)
		if err != nil || left > 0 {
			t.Errorf("%s holds %d rows after the drop, %v", name, left, err)
		}
	}
}

// A member that does not answer is told as that, with an error, and costs no more than the patience.
func TestTopology_WithDeadAndSilentMembers(t *testing.T) {
	t.Parallel()
	f := three(t)
	silent := pgtest.NewProxy(t, f.dsn["n3"])
	f.exec("n1", `select pgq_node.register_location('q', 'n3', $1, false)`, silent.DSN(f.dsn["n3"]))
	silent.Freeze()
	a := cascade.NewAdmin(f.dbs["n1"], "q", cascade.AdminOptions{Patience: 300 * time.Millisecond})
	t.Cleanup(a.Close)
	top := ok[*cascade.Topology](t)(a.Topology(t.Context()))
	if n := top.Node("n3"); n.State != cascade.Unreachable || n.Error == "" || n.Provider != "n2" {
		t.Errorf("n3: state %s, error %q, provider %q", n.State, n.Error, n.Provider)
	}
}

// A renamed node goes on under its new name, from every step at which an earlier try stopped.
func TestRename_GoesOnAfterEachStep(t *testing.T) {
	t.Parallel()
	f := three(t)
	f.exec("n1", `select pgq_node.set_node_attrs('q', 'sync_watermark=n2%2Cn3')`)
	for names := []string{"n2", "middle"}; ; {
		plan := ok[*cascade.Change](t)(f.admin("n1").PlanRename(f.topology("n1"), names[0], names[1]))
		if len(plan.Steps) == 0 {
			break
		}
		last := len(plan.Steps) == 1
		plan.Steps = plan.Steps[:1]
		if err := plan.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if last {
			break
		}
	}
	f.exec("n1", `select pgq.insert_event('q', 'a', 'one')`)
	f.settle("n1", "n3")
	f.settle("n1", "middle")
	top := f.topology("n3")
	if !slices.Equal(top.Names(), []string{"middle", "n1", "n3"}) || len(top.Problems) > 0 || top.Node("n3").Provider != "middle" {
		t.Errorf("members %v, problems %q", top.Names(), top.Problems)
	}
	if got := top.Node("n1").Attrs["sync_watermark"]; got != "middle,n3" {
		t.Errorf("sync_watermark = %q", got)
	}
	if _, err := f.admin("n1").PlanRename(top, "n3", "n1"); !errors.Is(err, cascade.ErrRefused) {
		t.Errorf("renamed to the name of another: %v", err)
	}
}
