package pgq

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// datas joins the data of events.
func datas(events []Event) string {
	var all []string
	for _, ev := range events {
		all = append(all, ev.Data.String)
	}
	return strings.Join(all, " ")
}

func TestBrowse_EveryEventOnceInOrderOfTransactions(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t)
	db, err := Open(t.Context(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const queue = `odd "queue".name`
	if _, err := CreateQueue(t.Context(), db, queue); err != nil {
		t.Fatal(err)
	}
	put := func(q Querier, data string) {
		t.Helper()
		if _, err := Insert(t.Context(), q, queue, NewEvent{Type: Str("t"), Data: Str(data)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		put(db, fmt.Sprint(i))
	}
	late, err := db.Begin(t.Context()) // takes its ids before the look and commits after it
	if err != nil {
		t.Fatal(err)
	}
	put(late, "late")
	events, mark, err := NewestEvents(t.Context(), db, queue, 3)
	if err != nil || datas(events) != "2 3 4" {
		t.Fatalf("got %s, %v", datas(events), err)
	}
	put(db, "5")
	events, mark, err = EventsSince(t.Context(), db, queue, mark)
	if err != nil || datas(events) != "5" {
		t.Fatalf("got %s, %v", datas(events), err)
	}
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(db, "6")
	events, mark, err = EventsSince(t.Context(), db, queue, mark)
	if err != nil || datas(events) != "late 6" {
		t.Fatalf("got %s, %v", datas(events), err)
	}
	if events, _, err = EventsSince(t.Context(), db, queue, mark); err != nil || len(events) != 0 {
		t.Errorf("got %s, %v", datas(events), err)
	}
	if _, _, err := NewestEvents(t.Context(), db, "none", 1); !errors.Is(err, ErrQueueNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestRehearse_MeetsRefusalsAndChangesNothing(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), pgtest.DB(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	create := func(q Querier) error { _, err := CreateQueue(t.Context(), q, "q"); return err }
	if err := Rehearse(t.Context(), db, create); err != nil {
		t.Fatal(err)
	}
	if _, err := GetQueueInfo(t.Context(), db, "q"); !errors.Is(err, ErrQueueNotFound) {
		t.Errorf("got %v", err)
	}
	drop := func(q Querier) error { return DropQueue(t.Context(), q, "q", false) }
	if err := Rehearse(t.Context(), db, drop); !errors.Is(err, ErrQueueNotFound) {
		t.Errorf("got %v", err)
	}
	if err := Transact(t.Context(), db, create); err != nil {
		t.Fatal(err)
	}
	if _, err := GetQueueInfo(t.Context(), db, "q"); err != nil {
		t.Error(err)
	}
}

func TestTicks_RangeAndMoment(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), pgtest.DB(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := CreateQueue(t.Context(), db, "q"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := ForceTick(t.Context(), db, "q"); err != nil {
			t.Fatal(err)
		}
		if _, made, err := Tick(t.Context(), db, "q"); err != nil || !made {
			t.Fatal(made, err)
		}
	}
	r, err := Ticks(t.Context(), db, "q")
	if err != nil || r.First != 1 || r.Last != 4 || !r.LastTime.After(r.FirstTime) {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := Ticks(t.Context(), db, "none"); !errors.Is(err, ErrQueueNotFound) {
		t.Errorf("got %v", err)
	}
	for _, member := range []string{"a", "b.c"} {
		if _, err := RegisterSubconsumer(t.Context(), db, "q", "gr_%", member); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := RegisterConsumer(t.Context(), db, "q", "gr_%x.a"); err != nil {
		t.Fatal(err)
	}
	infos, err := SubconsumerInfos(t.Context(), db, "q", "gr_%")
	if err != nil || len(infos) != 2 || infos[0].Name != "a" || infos[1].Name != "b.c" || infos[1].Consumer != "gr_%" {
		t.Errorf("got %+v, %v", infos, err)
	}
}
