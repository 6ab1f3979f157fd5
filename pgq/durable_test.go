package pgq

import (
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// Whoever keeps numbers of batches in another database gets them by commits that a crash does not undo.
func TestReceive_DurablyWhereNumbersAreKeptElsewhere(t *testing.T) {
	t.Parallel()
	database := pgtest.DB(t)
	conn := database.Conn(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("set synchronous_commit = off")
	exec("select pgq.create_queue('q')")
	exec("select pgq.register_consumer('q', 'c')")
	db, err := Open(t.Context(), database.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if r := NewRemoteConsumer(db, "q", "c", db, nil, RemoteOptions{}); !r.c.kind.elsewhere {
		t.Error("a RemoteConsumer receives as if it kept no numbers elsewhere")
	}
	for sql, want := range map[string]string{receiveSQL: "off", receiveDurably: "local"} {
		exec("begin")
		exec(sql, "q", "c", nil, nil, nil, false)
		var got string
		if err := conn.QueryRow(t.Context(), "select pg_catalog.current_setting('synchronous_commit')").Scan(&got); err != nil || got != want {
			t.Errorf("after %s\ngot synchronous_commit %s, %v, want %s", sql, got, err, want)
		}
		exec("rollback")
	}
}
