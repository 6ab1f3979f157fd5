package pgq_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/skytools/skyd/pgq"
)

// storable tells whether the server takes a text: its encoding is UTF-8, and texts have no zero bytes.
func storable(texts ...string) bool {
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return false
		}
	}
	return true
}

// Whatever a producer gives comes out as it went in, by each of the three ways, or is an error that leaves nothing behind.
func FuzzProducers(f *testing.F) {
	for _, s := range []string{"", "x", "\\N", "\\.\n", "a\tb", "NULL", "{\"a\",NULL}", "'; drop table t --", "\x00", "\xff", "ü\U0001F600\ufffd", "\u202e%=&+"} {
		f.Add(s, s+s, s, byte(0))
		f.Add("t", s, "", byte(5))
	}
	db := open(f, newSkyd(f))
	newQueue(f, db, "q")
	f.Fuzz(func(t *testing.T, typ, data, extra string, nulls byte) {
		text := func(bit int, s string) pgq.Text {
			if nulls>>bit&1 == 1 {
				return pgq.Text{}
			}
			return pgq.Str(s)
		}
		ev := pgq.NewEvent{Type: text(0, typ), Data: text(1, data), Extra1: text(2, extra), Extra2: text(3, typ), Extra3: text(4, data), Extra4: text(5, extra)}
		want := []pgq.Text{ev.Type, ev.Data, ev.Extra1, ev.Extra2, ev.Extra3, ev.Extra4}
		fits := true
		for _, w := range want {
			fits = fits && (!w.Valid || storable(w.String))
		}
		ctx := t.Context()
		for way, put := range map[string]func(q pgq.CopyQuerier) error{
			"insert": func(q pgq.CopyQuerier) error { _, err := pgq.Insert(ctx, q, "q", ev); return err },
			"batch": func(q pgq.CopyQuerier) error {
				_, err := pgq.InsertBatch(ctx, q, "q", []pgq.NewEvent{{}, ev})
				return err
			},
			"copy": func(q pgq.CopyQuerier) error {
				_, err := pgq.InsertCopy(ctx, q, "q", sequence([]pgq.NewEvent{{}, ev}))
				return err
			},
		} {
			tx, err := db.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			err = put(tx)
			if (err == nil) != fits {
				t.Errorf("%s of %+v: got %v, storable is %v", way, ev, err, fits)
			}
			if err == nil {
				got := make([]pgq.Text, len(want))
				err := tx.QueryRow(ctx, `select ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 from pgq.event_1 order by ev_id desc limit 1`).
					Scan(&got[0], &got[1], &got[2], &got[3], &got[4], &got[5])
				if err != nil {
					t.Fatal(err)
				}
				for i := range want {
					if got[i] != want[i] {
						t.Errorf("%s, field %d: got %+v, want %+v", way, i, got[i], want[i])
					}
				}
			}
			if err := tx.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Names and keys mean the same in Go and in SQL.
func FuzzNamesAsInSQL(f *testing.F) {
	for _, s := range []string{"", "orders", strings.Repeat("x", 59), strings.Repeat("x", 60), strings.Repeat("ü", 30), "we\"ird 'q'.a", "\U0001F600"} {
		f.Add(s, uint16(16))
	}
	db := open(f, newSkyd(f))
	f.Fuzz(func(t *testing.T, name string, slots uint16) {
		if !storable(name) {
			return
		}
		n := 1 + int(slots)%4096
		var channel string
		var slot int
		if err := db.QueryRow(t.Context(), `select pgq.wakeup_channel($1), pgq.key_slot($1, $2::int)`, name, n).Scan(&channel, &slot); err != nil {
			t.Fatal(err)
		}
		if got := pgq.WakeupChannel(name); got != channel || len(got) > 63 {
			t.Errorf("channel of %q: got %q, in SQL %q", name, got, channel)
		}
		if got := pgq.KeySlot(name, n); got != slot {
			t.Errorf("slot of %q of %d: got %d, in SQL %d", name, n, got, slot)
		}
	})
}
