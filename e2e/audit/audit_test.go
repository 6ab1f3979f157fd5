package audit

import (
	"errors"
	"testing"
)

// make events 1 to n: keys a and b in turn, two of a transaction.
func events(ids ...int64) []Event {
	var list []Event
	for _, id := range ids {
		key := []string{"a", "b"}[id%2]
		list = append(list, Event{ID: id, Key: key, Seq: id, Tx: (id + 1) / 2, Hash: Hash(key)})
	}
	return list
}

func batchOf(worker string, ids ...int64) Delivery {
	return Delivery{Batch: ids[0], Worker: worker, Events: events(ids...)}
}

func cut(d Delivery) Delivery {
	d.Cut = true
	return d
}

func changed(d Delivery, f func(*Delivery)) Delivery {
	f(&d)
	return d
}

// all is what a consumer with one position in the queue's own database promises.
var all = Promises{InOrder: true, Once: true, Fenced: true, WholeTx: true}

func TestCheck_NamesTheFirstViolation(t *testing.T) {
	t.Parallel()
	both := func(c *Consumer, d Delivery) { c.Saw(d); c.Committed(d) }
	for _, tt := range []struct {
		name  string
		p     Promises
		do    func(c *Consumer)
		want  Rule // "" for none
		event int64
	}{
		{"all well", all, func(c *Consumer) {
			both(c, batchOf("w", 1, 2))
			both(c, batchOf("w", 3, 4, 5, 6))
		}, "", 0},
		{"redelivery and takeover of a whole batch", all, func(c *Consumer) {
			both(c, batchOf("w", 1, 2))
			c.Saw(cut(batchOf("w", 3, 4)))
			c.Saw(batchOf("w", 3, 4, 5, 6))
			c.Saw(cut(batchOf("x", 3)))
			both(c, changed(batchOf("x", 3, 4, 5, 6), func(d *Delivery) { d.Batch = 99 }))
		}, "", 0},
		{"an uncertain event may arrive", all, func(c *Consumer) { both(c, batchOf("w", 1, 2, 3, 4, 5, 6, 7, 8)) }, "", 0},
		{"never committed", all, func(c *Consumer) {
			both(c, batchOf("w", 1, 2))
			c.Saw(batchOf("w", 3, 4, 5, 6))
		}, Lost, 3},
		{"nothing at all", all, func(*Consumer) {}, Lost, 1},
		{"retried and never came back", all, func(c *Consumer) {
			c.Committed(changed(batchOf("w", 1, 2, 3, 4, 5, 6), func(d *Delivery) { d.Retried = []int64{5} }))
		}, Lost, 5},
		{"retried and came back, out of order and of its transaction", all, func(c *Consumer) {
			c.Committed(changed(batchOf("w", 1, 2, 3, 4), func(d *Delivery) { d.Retried = []int64{3} }))
			c.Committed(changed(batchOf("w", 3, 5, 6), func(d *Delivery) { d.Events[0].Retry = 1 }))
		}, "", 0},
		{"rolled back", all, func(c *Consumer) { both(c, batchOf("w", 1, 2, 9)) }, Invented, 9},
		{"other payload", all, func(c *Consumer) {
			both(c, changed(batchOf("w", 1, 2), func(d *Delivery) { d.Events[1].Hash = Hash("other") }))
		}, Altered, 2},
		{"other key", all, func(c *Consumer) {
			both(c, changed(batchOf("w", 1, 2), func(d *Delivery) { d.Events[0].Key = "z" }))
		}, Altered, 1},
		{"redelivery of a part", all, func(c *Consumer) {
			c.Saw(batchOf("w", 1, 2, 3, 4))
			both(c, batchOf("w", 1, 2))
		}, Torn, 3},
		{"redelivery of the rest", all, func(c *Consumer) {
			c.Saw(batchOf("w", 1, 2, 3, 4))
			c.Saw(batchOf("w", 3, 4))
		}, Torn, 3},
		{"redelivery with more", all, func(c *Consumer) {
			c.Saw(batchOf("w", 1, 2))
			c.Saw(batchOf("w", 1, 2, 3, 4))
		}, Torn, 3},
		{"redelivery with a hole", all, func(c *Consumer) {
			c.Saw(cut(batchOf("w", 1, 2, 3, 4)))
			c.Saw(batchOf("w", 1, 2, 4))
		}, Torn, 4},
		{"committed in part", all, func(c *Consumer) { c.Committed(cut(batchOf("w", 1, 2))) }, Torn, 0},
		{"a transaction in two batches", all, func(c *Consumer) {
			both(c, batchOf("w", 1))
			both(c, batchOf("w", 2, 3, 4))
		}, Split, 2},
		{"a batch out of order", all, func(c *Consumer) { both(c, batchOf("w", 2, 1)) }, Disordered, 1},
		{"an event twice in a batch", all, func(c *Consumer) { both(c, batchOf("w", 1, 1, 2)) }, Disordered, 1},
		{"an old batch again", Promises{InOrder: true}, func(c *Consumer) {
			both(c, batchOf("w", 1, 2))
			both(c, batchOf("w", 3, 4))
			both(c, batchOf("w", 1, 2))
		}, Disordered, 1},
		{"batches of a key swapped", all, func(c *Consumer) {
			both(c, batchOf("w", 3, 4))
			both(c, batchOf("w", 1, 2))
		}, KeyOrder, 1},
		{"a group has no order", Promises{Once: true}, func(c *Consumer) {
			both(c, batchOf("w", 3, 4, 5, 6))
			both(c, batchOf("w", 1, 2))
		}, "", 0},
		{"twice", all, func(c *Consumer) {
			both(c, batchOf("w", 1, 2))
			both(c, batchOf("w", 1, 2))
		}, Doubled, 1},
		{"twice is allowed at least once", Promises{InOrder: true}, func(c *Consumer) {
			both(c, batchOf("w", 1, 2, 3, 4, 5, 6))
			both(c, batchOf("w", 1, 2, 3, 4, 5, 6))
		}, "", 0},
		{"by a worker that lost it", all, func(c *Consumer) {
			c.Saw(batchOf("w", 1, 2))
			c.Saw(batchOf("x", 1, 2))
			c.Committed(batchOf("w", 1, 2))
		}, Stale, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := New()
			a.Acknowledged(events(1, 2, 3, 4, 5, 6)...)
			a.Uncertain(events(6, 7, 8)...) // 6 stays acknowledged
			tt.do(a.Consumer("c", tt.p))
			err := a.Check()
			var v *Violation
			switch {
			case tt.want == "" && err != nil:
				t.Fatalf("found %v, want nothing", err)
			case tt.want == "":
			case !errors.As(err, &v):
				t.Fatalf("found %v, want rule %q", err, tt.want)
			case v.Rule != tt.want || v.Event != tt.event:
				t.Fatalf("found %v, want rule %q at event %d", v, tt.want, tt.event)
			}
		})
	}
}

func TestCheck_EveryConsumerIsHeldToItsOwn(t *testing.T) {
	t.Parallel()
	a := New()
	a.Acknowledged(events(1, 2)...)
	a.Consumer("good", all).Committed(batchOf("w", 1, 2))
	a.Consumer("bad", all)
	var v *Violation
	if err := a.Check(); !errors.As(err, &v) || v.Consumer != "bad" || v.Rule != Lost {
		t.Fatalf("found %v, want that bad lost something", err)
	}
	if got := a.Produced(); got != 2 {
		t.Errorf("%d produced, want 2", got)
	}
}
