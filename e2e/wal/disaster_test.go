package wal_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgtest"
)

var (
	seeds = flag.Int("wal.seeds", 1, "number of disasters")
	seed  = flag.Uint64("wal.seed", 1, "seed of the first disaster")
)

// acknowledged are the rows that the server has acknowledged, by client, in order.
type acknowledged struct {
	mu   sync.Mutex
	rows [4]int
	idle sync.WaitGroup
}

// write has clients insert rows until the server is gone.
func (a *acknowledged) write(s *server) {
	for client := range a.rows {
		conn, err := pgx.Connect(s.h.ctx(), s.DSN("postgres"))
		s.h.must(err)
		a.idle.Go(func() {
			defer func() { _ = conn.Close(context.WithoutCancel(s.h.ctx())) }()
			for n := 0; ; n++ {
				if _, err := conn.Exec(s.h.ctx(), "insert into ledger values ($1, $2, repeat('x', 500))", client, n); err != nil {
					return
				}
				a.mu.Lock()
				a.rows[client] = n + 1
				a.mu.Unlock()
			}
		})
	}
}

// count is how many rows were acknowledged so far.
func (a *acknowledged) count() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.rows {
		n += r
	}
	return n
}

// killed runs skyd and kills it after a while; it may be done before.
func (h *house) killed(after time.Duration, args ...string) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "skyd"), append(args, "--config", h.path("skyd.yaml"))...)
	cmd.Dir = h.dir
	if h.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.owner}
	}
	h.must(cmd.Start())
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	timer.Stop()
}

// TestDisaster_NothingAcknowledgedIsLost: clients write while the daemon, backups and expires are killed with SIGKILL at
// random; then the primary is killed and its directory removed, restores are killed until one is let through. With a
// synchronous receiver every acknowledged row is there; otherwise only the last ones of each client may be missing. Run
// many with -wal.seeds (task disasters); a failure names the seed.
func TestDisaster_NothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	for n := range uint64(*seeds) {
		number := *seed + n
		t.Run(fmt.Sprintf("seed %d", number), func(t *testing.T) { disaster(t, number) })
	}
}

// disaster is one of them; every second seed has no synchronous receiver.
func disaster(t *testing.T, number uint64) {
	random := rand.New(rand.NewPCG(number, 42))
	synchronous := number%2 == 1
	h, s := archiving(t, "    receive: { enabled: true, partial_interval: 100ms }\n    fetch: { patience: 5s }\n")
	s.sql("create table ledger (client int, n int, pad text, primary key (client, n))")
	h.skyd("wal", "setup")
	kill := h.run()
	receives := func() {
		pgtest.Eventually(t, 2*time.Minute, "the receiver streams", func() bool {
			return s.sql("select count(*) from pg_stat_replication where state = 'streaming' and application_name = 'skyd_wal'") == "1"
		})
	}
	receives()
	h.skyd("wal", "backup")
	if synchronous {
		h.skyd("wal", "synch-standby", "skyd_wal", "--wait", "1m")
	}
	var a acknowledged
	a.write(s)
	more := func(n int) {
		want := a.count() + n
		pgtest.Eventually(t, 2*time.Minute, "rows are written", func() bool { return a.count() >= want })
	}
	for range 3 {
		more(50 + random.IntN(300))
		h.killed(time.Duration(random.IntN(900))*time.Millisecond, "wal", "backup", "--type", "incr")
		h.killed(time.Duration(random.IntN(100))*time.Millisecond, "wal", "expire", "--keep", "1", "--yes")
		kill()
		kill = h.run()
		receives()
	}
	more(50 + random.IntN(1000))
	h.must(s.Kill())
	h.must(os.RemoveAll(s.DataDir()))
	a.idle.Wait()
	kill()
	dest := h.path("restored")
	for range 2 {
		h.killed(time.Duration(random.IntN(400))*time.Millisecond, "wal", "restore", dest, "--delta", "--yes")
	}
	h.skyd("wal", "verify", "--deep")
	h.skyd("wal", "restore", dest, "--delta", "--yes")
	c := h.copyOf(dest, map[string]string{"synchronous_standby_names": ""}, "")
	c.start()
	pgtest.Eventually(t, 2*time.Minute, "recovery over", func() bool { return c.sql("select pg_is_in_recovery()") == "f" })
	lost := 0
	for client, rows := range a.rows {
		have := c.sql(fmt.Sprintf("select count(*) from ledger where client = %d and n < %d", client, rows))
		upTo := c.sql(fmt.Sprintf("select coalesce(max(n) + 1, 0) from ledger where client = %d and n < %d", client, rows))
		if have != upTo {
			t.Errorf("seed %d: client %d has %s rows up to number %s: a hole", number, client, have, upTo)
		}
		var got int
		_, err := fmt.Sscan(have, &got)
		h.must(err)
		lost += rows - got
	}
	t.Logf("seed %d, synchronous %t: %d rows acknowledged, %d lost", number, synchronous, a.count(), lost)
	if synchronous && lost > 0 {
		t.Errorf("seed %d: %d of %d acknowledged rows are lost", number, lost, a.count())
	}
	c.stop()
}
