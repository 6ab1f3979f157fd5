package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestQuickstart is what a newcomer does, on every supported server we can
// run: install the SQL, start the daemon, make a queue, see an event arrive.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	for _, major := range majors {
		t.Run(fmt.Sprintf("PostgreSQL%d", major), func(t *testing.T) {
			t.Parallel()
			server := startPostgres(t, major)
			admin := connect(t, server.DSN("postgres"))
			if got := scan[string](t, admin, "show server_version"); !strings.HasPrefix(got, fmt.Sprint(major)) {
				t.Fatalf("the image of PostgreSQL %d runs %s", major, got)
			}
			exec1(t, admin, "create database shop")
			dsn := server.DSN("shop")

			skyd(t, "schema", "install", "--db", dsn)
			d := daemon(t, "run", "--db", dsn)
			conn := connect(t, dsn)
			exec1(t, conn, "select pgq.create_queue('orders')")
			exec1(t, conn, "select pgq.register_consumer('orders', 'mailer')")
			id := scan[int64](t, conn, `select pgq.insert_event('orders', 'created', '{"id": 1}')`)

			number, events := waitBatch(t, conn, "orders", "mailer", d)
			if len(events) != 1 || events[0].ID != id || events[0].Type != "created" || events[0].Data != `{"id": 1}` || events[0].Retry != nil {
				t.Errorf("events = %+v, want event %d as it was inserted", events, id)
			}
			finish(t, conn, number)
			if err := d.stop(); err != nil {
				t.Errorf("skyd run after SIGTERM: %v, want exit code 0", err)
			}
		})
	}
}

// TestInstall_SecondRunChangesNothing: the first command may be repeated.
func TestInstall_SecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	dsn := emptyDSN(t)
	if out := skyd(t, "schema", "install", "--db", dsn, "--output", "json"); !strings.Contains(out, `"changed": true`) {
		t.Errorf("first install: %s", out)
	}
	if out := skyd(t, "schema", "install", "--db", dsn, "--output", "json"); !strings.Contains(out, `"changed": false`) {
		t.Errorf("second install: %s", out)
	}
}
