package cascade_test

import (
	"errors"
	"maps"
	"reflect"
	"testing"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
)

// want fails the test unless a call answers with the code.
func want(t testing.TB, code int) func(s cascade.Status, err error) {
	return func(s cascade.Status, err error) {
		t.Helper()
		switch {
		case code >= cascade.CodeError && cascade.Code(err) != code:
			t.Errorf("got %+v, %v; want refusal %d", s, err, code)
		case code < cascade.CodeError && (err != nil || s.Code != code):
			t.Errorf("got %+v, %v; want code %d", s, err, code)
		}
	}
}

// TestCallsOfRoot covers what is done on a root and its subscribers.
func TestCallsOfRoot(t *testing.T) {
	onAll(t, func(t *testing.T, h host) {
		ctx, db := t.Context(), open(t, h(t))
		v, found, err := cascade.Installed(ctx, db)
		if err != nil || !found || v == "" {
			t.Fatalf("Installed = %q %v %v", v, found, err)
		}
		if _, err := cascade.GetNodeInfo(ctx, db, "q"); !errors.Is(err, cascade.ErrNotFound) {
			t.Errorf("info without a node: %v", err)
		}
		want(t, 200)(cascade.RegisterLocation(ctx, db, "q", cascade.Location{Node: "r", Location: "dbname=r"}))
		want(t, 200)(cascade.RegisterLocation(ctx, db, "q", cascade.Location{Node: "b", Location: "dbname=b"}))
		want(t, 200)(cascade.CreateNode(ctx, db, cascade.NewNode{Queue: "q", Type: cascade.Root, Name: "r", Worker: "rw"}))
		want(t, 401)(cascade.CreateNode(ctx, db, cascade.NewNode{Queue: "q", Type: cascade.Root, Name: "r", Worker: "rw"}))
		want(t, 200)(cascade.SetNodeAttrs(ctx, db, "q", cascade.FormatAttrs(map[string]string{"sync_watermark": "b,c"})))

		wm, s, err := cascade.RegisterSubscriber(ctx, db, "q", "b", "bw", 0)
		if err != nil || s.Code != 200 || wm != 1 {
			t.Errorf("RegisterSubscriber = %d %+v %v", wm, s, err)
		}
		want(t, 100)(cascade.SetSubscriberWatermark(ctx, db, "q", "b", 1))
		want(t, 404)(cascade.SetSubscriberWatermark(ctx, db, "q", "x", 1))
		subs := ok[[]cascade.Subscriber](t)(cascade.Subscribers(ctx, db, "q"))
		if len(subs) != 1 || subs[0] != (cascade.Subscriber{Node: "b", Worker: "bw", Watermark: 1}) {
			t.Errorf("subscribers %+v", subs)
		}
		want(t, 200)(cascade.SetGlobalWatermark(ctx, db, "q", 0))
		if err := cascade.MaintWatermark(ctx, db, "q"); err != nil {
			t.Error(err)
		}
		info := ok[cascade.NodeInfo](t)(cascade.GetNodeInfo(ctx, db, "q"))
		wantInfo := cascade.NodeInfo{
			Queue: "q", Type: cascade.Root, Name: "r", GlobalWatermark: 1, LocalWatermark: 1, Provider: "r",
			ProviderLocation: "dbname=r", Worker: "rw", LastTick: 1, Attrs: info.Attrs,
		}
		if !reflect.DeepEqual(info, wantInfo) {
			t.Errorf("info %+v\nwant %+v", info, wantInfo)
		}
		if nodes := cascade.SyncNodes(info.Attrs); !reflect.DeepEqual(nodes, []string{"b", "c"}) {
			t.Errorf("sync nodes %q of %q", nodes, info.Attrs)
		}
		if !ok[bool](t)(cascade.IsRoot(ctx, db, "q")) || ok[bool](t)(cascade.IsLeaf(ctx, db, "q")) {
			t.Error("a root is a root and no leaf")
		}
		if _, err := cascade.IsRoot(ctx, db, "none"); err == nil {
			t.Error("IsRoot of no node is no error")
		}
		list := ok[[]cascade.LocalNode](t)(cascade.LocalNodes(ctx, db))
		if len(list) != 1 || list[0] != (cascade.LocalNode{Queue: "q", Node: "r", Type: cascade.Root, Worker: "rw"}) {
			t.Errorf("local nodes %+v", list)
		}
		want(t, 200)(cascade.UnregisterSubscriber(ctx, db, "q", "b"))
		want(t, 304)(cascade.UnregisterSubscriber(ctx, db, "q", "b"))
		locs := ok[[]cascade.Location](t)(cascade.Locations(ctx, db, "q"))
		if len(locs) != 2 || locs[0] != (cascade.Location{Node: "b", Location: "dbname=b"}) {
			t.Errorf("locations %+v", locs)
		}
		want(t, 200)(cascade.UnregisterLocation(ctx, db, "q", "b"))
		want(t, 301)(cascade.UnregisterLocation(ctx, db, "q", "b"))
		want(t, 403)(cascade.UnregisterLocation(ctx, db, "q", "r"))
		want(t, 301)(cascade.PromoteBranch(ctx, db, "q"))
		if n, err := cascade.UpgradeSchema(ctx, db); err != nil || n < 0 {
			t.Errorf("UpgradeSchema = %d %v", n, err)
		}
	})
}

// TestCallsOfConsumers covers positions and flags, and the change of roles.
func TestCallsOfConsumers(t *testing.T) {
	onAll(t, func(t *testing.T, h host) {
		ctx, db := t.Context(), open(t, h(t))
		for _, n := range []string{"a", "b", "c"} {
			want(t, 200)(cascade.RegisterLocation(ctx, db, "q", cascade.Location{Node: n, Location: "dbname=" + n}))
		}
		want(t, 200)(cascade.CreateNode(ctx, db, cascade.NewNode{
			Queue: "q", Type: cascade.Branch, Name: "b", Worker: "bw", Provider: "a", Watermark: 7,
		}))
		st := ok[cascade.WorkerState](t)(cascade.GetWorkerState(ctx, db, "q"))
		wantState := cascade.WorkerState{
			Type: cascade.Branch, Node: "b", Completed: 7, Provider: "a", ProviderLocation: "dbname=a", Worker: "bw",
			GlobalWatermark: 7, LocalWatermark: 7, Top: 7,
		}
		if st != wantState {
			t.Errorf("state %+v\nwant  %+v", st, wantState)
		}
		if _, err := cascade.GetWorkerState(ctx, db, "x"); !errors.Is(err, cascade.ErrNotFound) {
			t.Errorf("state of no node: %v", err)
		}
		want(t, 200)(cascade.RegisterConsumer(ctx, db, "q", "c1", "a", 7))
		want(t, 201)(cascade.RegisterConsumer(ctx, db, "q", "c1", "a", 7))
		want(t, 200)(cascade.SetPaused(ctx, db, "q", "c1", true))
		want(t, 201)(cascade.SetPaused(ctx, db, "q", "c1", true))
		want(t, 200)(cascade.SetUptodate(ctx, db, "q", "c1", true))
		want(t, 100)(cascade.SetCompleted(ctx, db, "q", "c1", 9))
		want(t, 100)(cascade.SetError(ctx, db, "q", "c1", "broken"))
		want(t, 101)(cascade.SetError(ctx, db, "q", "none", "broken"))
		cs := ok[cascade.ConsumerState](t)(cascade.GetConsumerState(ctx, db, "q", "c1"))
		if cs != (cascade.ConsumerState{
			Type: cascade.Branch, Node: "b", Completed: 9, Provider: "a", ProviderLocation: "dbname=a",
			Paused: true, Uptodate: true, Error: "broken",
		}) {
			t.Errorf("consumer state %+v", cs)
		}
		want(t, 200)(cascade.ChangeProvider(ctx, db, "q", "c1", "c"))
		want(t, 100)(cascade.SetError(ctx, db, "q", "c1", ""))
		list := ok[[]cascade.ConsumerInfo](t)(cascade.Consumers(ctx, db, "q"))
		if len(list) != 2 || list[1] != (cascade.ConsumerInfo{Consumer: "c1", Provider: "c", LastTick: 9, Paused: true}) {
			t.Errorf("consumers %+v", list)
		}
		want(t, 200)(cascade.UnregisterConsumer(ctx, db, "q", "c1"))
		if _, err := cascade.GetConsumerState(ctx, db, "q", "c1"); !errors.Is(err, cascade.ErrNotFound) {
			t.Errorf("state of no consumer: %v", err)
		}
		want(t, 201)(cascade.SetPartitionWatermark(ctx, db, "q", "part", 1))
		want(t, 200)(cascade.PromoteBranch(ctx, db, "q"))
		changeRoot(t, db)
		want(t, 405)(cascade.DropNode(ctx, db, "q", "c"))
		want(t, 200)(cascade.DropNode(ctx, db, "q", "b"))
		want(t, 404)(cascade.SetCompleted(ctx, db, "q", "bw", 1))
	})
}

// changeRoot takes the root's role away from b again.
func changeRoot(t *testing.T, db *pgq.DB) {
	t.Helper()
	ctx := t.Context()
	for step := 1; step <= 3; step++ {
		tick, s, err := cascade.DemoteRoot(ctx, db, "q", step, "c")
		if err != nil || s.Code != 200 || (step > 1 && tick != 8) {
			t.Errorf("step %d: tick %d, %+v, %v", step, tick, s, err)
		}
	}
	if _, s, err := cascade.DemoteRoot(ctx, db, "q", 1, ""); err != nil || s.Code != 301 || !s.Warning() {
		t.Errorf("demote a branch: %+v %v", s, err)
	}
	if _, err := pgq.Insert(ctx, db, "q", pgq.NewEvent{}); !errors.Is(err, pgq.ErrQueueDisabled) {
		t.Errorf("insert into a branch: %v", err)
	}
}

func TestAttrs(t *testing.T) {
	t.Parallel()
	attrs := map[string]string{"a b": "x&y=z", "sync_watermark": "n1,n2", "e": ""}
	if got := cascade.ParseAttrs(cascade.FormatAttrs(attrs)); !maps.Equal(got, attrs) {
		t.Errorf("got %q", got)
	}
	if got := cascade.ParseAttrs("a=100%&b&c=x+y"); !maps.Equal(got, map[string]string{"a": "100%", "b": "", "c": "x y"}) {
		t.Errorf("got %q", got)
	}
	for _, stored := range []string{"", "other=1"} {
		if got := cascade.SyncNodes(stored); got != nil {
			t.Errorf("SyncNodes(%q) = %q", stored, got)
		}
	}
	if got := cascade.SyncNodes("sync_watermark=a%2C+b,"); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}
