package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

// majors are the versions of PostgreSQL that end-to-end tests run on: those
// for which image/build.sh knows a Debian release.
var majors = []int{15, 17, 18}

// startPostgres runs a server of that major version in Docker.
func startPostgres(t *testing.T, major int) *pgtest.Cluster {
	t.Helper()
	return pgtest.NewContainer(t, imageFor(t, major), nil)
}

// imageFor is the image built from the distribution's packages where that can
// be done, and the public one elsewhere.
func imageFor(t *testing.T, major int) string {
	t.Helper()
	own := fmt.Sprintf("skyd-postgres:%d", major)
	for _, tool := range []string{"docker", "apt-get", "mmdebstrap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("postgres:%d", major)
		}
	}
	if exec.CommandContext(t.Context(), "docker", "info").Run() != nil {
		return own // which says that there is no Docker
	}
	out, err := exec.CommandContext(t.Context(), "image/build.sh", fmt.Sprint(major)).CombinedOutput()
	if err == nil {
		return own
	}
	if os.Getenv("SKYD_TEST_REQUIRE") == "1" {
		t.Fatalf("%s", out)
	}
	t.Logf("%s\nfalling back to the public image", out)
	return fmt.Sprintf("postgres:%d", major)
}

// connect opens a connection that is closed when the test ends.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func exec1(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func scan[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// event is what these tests look at of an event.
type event struct {
	ID    int64
	Type  string
	Data  string
	Retry *int
}

// batch takes the next batch and returns its number and events; 0 when there
// is no batch yet. An empty batch is finished, and counts as none.
func batch(t *testing.T, conn *pgx.Conn, queue, consumer string) (int64, []event) {
	t.Helper()
	id := scan[*int64](t, conn, "select pgq.next_batch($1, $2)", queue, consumer)
	if id == nil {
		return 0, nil
	}
	rows, err := conn.Query(t.Context(), "select ev_id, ev_type, ev_data, ev_retry from pgq.get_batch_events($1)", *id)
	if err != nil {
		t.Fatal(err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByPos[event])
	if err != nil {
		t.Fatal(err)
	}
	if len(events) == 0 {
		finish(t, conn, *id)
		return 0, nil
	}
	return *id, events
}

func finish(t *testing.T, conn *pgx.Conn, batch int64) {
	t.Helper()
	if n := scan[int](t, conn, "select pgq.finish_batch($1)", batch); n != 1 {
		t.Errorf("finish_batch(%d) = %d", batch, n)
	}
}

// waitBatch waits for a batch with events while the processes live.
func waitBatch(t *testing.T, conn *pgx.Conn, queue, consumer string, while ...*process) (id int64, events []event) {
	t.Helper()
	pgtest.Eventually(t, time.Minute, "a batch with events arrives at consumer "+consumer, func() bool {
		for _, p := range while {
			p.alive()
		}
		id, events = batch(t, conn, queue, consumer)
		return id != 0
	})
	return id, events
}
