package runtime

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgqsql"
)

// connect opens a connection to a server of its own.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// install puts skyd's SQL into a database.
func install(t testing.TB, c *pgx.Conn) {
	t.Helper()
	if _, err := pgqsql.Install(t.Context(), c, pgqsql.Options{Schemas: []string{"pgq"}}); err != nil {
		t.Fatal(err)
	}
}

func TestDaemon_DatabaseThatIsDownIsServedWhenItComesUp(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	cluster := pgtest.NewCluster(t, nil)
	other := connect(t, cluster.DSN("postgres"))
	install(t, other)
	newQueue(t, other, "late")
	_ = other.Close(t.Context())
	cluster.Stop()

	r := run(t, nil, database("up", db.DSN), database("down", cluster.DSN("postgres")))
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "the database is noticed as away", func() bool {
		a := r.actor("database/down")
		return a.State == messages.Backoff && a.LastError != "" && !a.NextRetry.IsZero()
	})
	if code, _ := r.get("/livez"); code != http.StatusOK {
		t.Errorf("livez: got %d", code)
	}
	ticksOn(t, c, "q") // the siblings are not touched
	cluster.Start()
	ticksOn(t, connect(t, cluster.DSN("postgres")), "late")
	if a := r.actor("database/up"); a.Restarts != 0 || a.State != messages.Running {
		t.Errorf("the other database: got %+v", a)
	}
}

func TestDaemon_SurvivesRestartAndKillOfTheServer(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	c := connect(t, cluster.DSN("postgres"))
	install(t, c)
	newQueue(t, c, "q")
	r := run(t, nil, database("main", cluster.DSN("postgres")))
	ticksOn(t, c, "q")
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"restart", cluster.Restart},
		{"kill", func() { cluster.Kill(); cluster.Start() }},
	} {
		before := reconnects(r)
		fault.do()
		ticksOn(t, connect(t, cluster.DSN("postgres")), "q")
		pgtest.Eventually(t, slow, "the reconnect after "+fault.name+" is counted", func() bool { return reconnects(r) > before })
	}
	for _, path := range []string{"database/main", "database/main/ticker", "database/main/maintainer"} {
		if a := r.actor(path); a.Restarts != 0 {
			t.Errorf("%s failed %d times; a lost connection is no failure: %s", path, a.Restarts, a.LastError)
		}
	}
}

// reconnects adds up the reconnects of all databases.
func reconnects(r *running) (n int64) {
	for _, d := range r.status().Databases {
		for _, k := range d.Reconnects {
			n += k
		}
	}
	return n
}

func TestDaemon_BrokenQueueStopsNobodyElse(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "broken")
	newQueue(t, c, "fine")
	r := run(t, nil, database("main", db.DSN))
	ticksOn(t, c, "broken")
	exec(t, c, `drop sequence `+value[string](t, c, `select queue_event_seq from pgq.queue where queue_name = 'broken'`)+` cascade`)
	exec(t, c, `select pgq.set_queue_config('broken', 'ticker_idle_period', '1 ms')`)
	pgtest.Eventually(t, slow, "the broken queue is reported", func() bool {
		q := r.queue("main", "broken")
		return q.TickErrors > 0 && q.LastError != ""
	})
	for range 3 {
		ticksOn(t, c, "fine")
	}
	if a := r.actor("database/main/ticker"); a.State != messages.Running || a.Restarts != 0 {
		t.Errorf("the ticker: got %+v", a)
	}
}

func TestDaemon_HangingTickStopsNobodyElse(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c, holder := db.Conn(t), db.Conn(t)
	newQueue(t, c, "held")
	newQueue(t, c, "fine")
	cfg := database("main", db.DSN)
	cfg.Ticker.TickTimeout = 2 * time.Second
	r := run(t, nil, cfg)
	ticksOn(t, c, "held")
	// The ticks of one queue hang: inserting the tick waits for the lock of this trigger.
	exec(t, c, `create function public.hang() returns trigger language plpgsql as $$
		begin
			if new.tick_queue = (select queue_id from pgq.queue where queue_name = 'held') then
				perform pg_advisory_xact_lock(42);
			end if;
			return new;
		end $$`)
	exec(t, c, `create trigger hang before insert on pgq.tick for each row execute function public.hang()`)
	exec(t, holder, `select pg_advisory_lock(42)`)
	exec(t, c, `select pgq.insert_event('held', 't', 'd')`)
	pgtest.Eventually(t, slow, "a tick hangs", func() bool {
		return value[int64](t, c, `select count(*) from pg_locks where locktype = 'advisory' and objid = 42 and not granted`) > 0
	})
	for range 3 {
		ticksOn(t, c, "fine")
	}
	pgtest.Eventually(t, slow, "the hanging tick is given up", func() bool { return r.queue("main", "held").TickErrors > 0 })
	exec(t, holder, `select pg_advisory_unlock(42)`)
	ticksOn(t, c, "held")
}

func TestDaemon_FailingMaintenanceStopsNoOther(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "a")
	newQueue(t, c, "b")
	exec(t, c, `create table public.done (queue text)`)
	exec(t, c, `create function public.fails(text) returns int language plpgsql as $$ begin raise exception 'no'; end $$`)
	exec(t, c, `create function public.works(text) returns int language sql as $$ insert into public.done values ($1); select 0 $$`)
	exec(t, c, `create function public.thrice(text) returns int language plpgsql as $$
		begin
			insert into public.done values ('thrice');
			return (select count(*) % 3 from public.done where queue = 'thrice');
		end $$`)
	exec(t, c, `update pgq.queue set queue_extra_maint = array['public.fails', 'public.missing', 'public.works', 'public.thrice']
		where queue_name = 'a'`)
	exec(t, c, `update pgq.queue set queue_extra_maint = array['public.works'] where queue_name = 'b'`)
	exec(t, c, `update pgq.queue set queue_rotation_period = '1 ms'`)
	cur := value[int64](t, c, `select sum(queue_cur_table) from pgq.queue`)
	r := run(t, nil, database("main", db.DSN))
	pgtest.Eventually(t, slow, "later operations run", func() bool {
		return value[int64](t, c, `select count(distinct queue) from public.done`) == 3
	})
	pgtest.Eventually(t, slow, "an operation that wants it is called again at once", func() bool {
		return value[int64](t, c, `select count(*) from public.done where queue = 'thrice'`)%3 == 0
	})
	pgtest.Eventually(t, slow, "queues rotate", func() bool {
		return value[int64](t, c, `select sum(queue_cur_table) from pgq.queue`) != cur
	})
	pgtest.Eventually(t, slow, "failures are counted and shown", func() bool {
		s := r.status()
		a := r.actor("database/main/maintainer")
		return len(s.Databases) == 1 && s.Databases[0].OpsFailed >= 2 && s.Databases[0].Operations > s.Databases[0].OpsFailed &&
			a.State == messages.Running && strings.Contains(a.LastError, "public.fails")
	})
}

func TestDaemon_VacuumIsRunAsAStatement(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `create table public.last (n int)`)
	exec(t, c, `create function public.after_vacuum() returns int language sql as $$ insert into public.last values (1); select 0 $$`)
	exec(t, c, `create or replace function pgq.maint_operations(out func_name text, out func_arg text) returns setof record language sql as
		$$ values ('vacuum', 'pgq.queue'), ('vacuum analyze', 'pgq.tick'), ('public.after_vacuum', null) $$`)
	r := run(t, nil, database("main", db.DSN))
	pgtest.Eventually(t, slow, "what follows a vacuum runs", func() bool {
		return value[int64](t, c, `select count(*) from public.last`) > 0
	})
	pgtest.Eventually(t, slow, "figures", func() bool { s := r.status(); return len(s.Databases) == 1 && s.Databases[0].Operations >= 3 })
	if s := r.status(); s.Databases[0].OpsFailed != 0 {
		t.Errorf("%d operations failed: %s", s.Databases[0].OpsFailed, r.actor("database/main/maintainer").LastError)
	}
}

func TestDaemon_RotationUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `select pgq.set_queue_config('q', 'rotation_period', '1 ms')`)
	exec(t, c, `select pgq.register_consumer('q', 'c')`)
	cfg := database("main", db.DSN)
	cfg.Maintenance.Period = 20 * time.Millisecond
	run(t, nil, cfg)

	const producers = 3
	stop, sent := make(chan struct{}), make(chan int, producers)
	for range producers {
		p := db.Conn(t)
		go func() {
			n := 0
			for {
				select {
				case <-stop:
					sent <- n
					return
				default:
				}
				if _, err := p.Exec(t.Context(), `select pgq.insert_event('q', 't', 'd') from generate_series(1, 5)`); err != nil {
					t.Error(err)
					sent <- n
					return
				}
				n += 5
			}
		}()
	}
	seen, rotations, table := map[int64]int{}, 0, value[int32](t, c, `select queue_cur_table from pgq.queue`)
	consume := func() {
		batch := value[*int64](t, c, `select pgq.next_batch('q', 'c')`)
		if batch == nil {
			return
		}
		rows, err := c.Query(t.Context(), `select ev_id from pgq.get_batch_events($1)`, *batch)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			seen[id]++
		}
		exec(t, c, `select pgq.finish_batch($1)`, *batch)
	}
	pgtest.Eventually(t, slow, "seven rotations", func() bool {
		consume()
		if now := value[int32](t, c, `select queue_cur_table from pgq.queue`); now != table {
			table = now
			rotations++
		}
		return rotations >= 7
	})
	close(stop)
	total := 0
	for range producers {
		total += <-sent
	}
	pgtest.Eventually(t, slow, "all events", func() bool { consume(); return len(seen) >= total })
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %d came %d times", id, n)
		}
	}
	if len(seen) != total {
		t.Errorf("got %d events, want %d", len(seen), total)
	}
	t.Logf("%d events over %d rotations", total, rotations)
}

func TestDaemon_DiscoversDatabasesThatHavePgQ(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	main := connect(t, cluster.DSN("postgres"))
	exec(t, main, `create database plain`)
	exec(t, main, `create database "with pgq"`)
	exec(t, main, `create database skipped`)
	withPgq := connect(t, cluster.DSN("with pgq"))
	install(t, withPgq)
	newQueue(t, withPgq, "q")

	server := database("srv", cluster.DSN("postgres"))
	server.Discover, server.Exclude = true, []string{"skip*"}
	r := run(t, nil, server)
	ticksOn(t, withPgq, "q")
	pgtest.Eventually(t, slow, "a database without PgQ is parked", func() bool {
		return r.actor("database/srv.plain").State == messages.Parked
	})
	if code, body := r.get("/readyz"); code != http.StatusOK {
		t.Errorf("not ready because of a database without PgQ: %s", body)
	}
	if a := r.actor("database/srv.skipped"); a.Path != "" {
		t.Errorf("an excluded database is served: %+v", a)
	}
	plain := connect(t, cluster.DSN("plain"))
	install(t, plain)
	newQueue(t, plain, "later")
	ticksOn(t, plain, "later")
	_ = plain.Close(t.Context())
	exec(t, main, `drop database plain with (force)`)
	pgtest.Eventually(t, slow, "a dropped database is gone from the status", func() bool {
		for _, d := range r.status().Databases {
			if d.Name == "srv.plain" {
				return false
			}
		}
		return r.actor("database/srv.plain").Path == "" && r.actor("database/srv.plain/ticker").Path == ""
	})
}

func TestDaemon_WaitsForTheSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.Empty(t)
	c := db.Conn(t)
	r := run(t, nil, database("main", db.DSN))
	pgtest.Eventually(t, slow, "a configured database without PgQ is a fault", func() bool {
		return r.actor("database/main").State == messages.Failed
	})
	if code, body := r.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "skyd schema install") {
		t.Errorf("readyz: %d %s", code, body)
	}
	install(t, c)
	newQueue(t, c, "q")
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "ready", func() bool { code, _ := r.get("/readyz"); return code == http.StatusOK })
}

// A quiet server is left without a write: no transaction id and no WAL, and still the first event ticks at once.
func TestDaemon_QuietServerIsLeftAlone(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, map[string]string{
		"autovacuum": "off", "checkpoint_timeout": "1h", "bgwriter_delay": "10s", "wal_writer_delay": "10s",
	})
	c := connect(t, cluster.DSN("postgres"))
	install(t, c)
	for _, q := range []string{"a", "b", "c"} {
		newQueue(t, c, q)
		exec(t, c, `select pgq.insert_event($1, 't', 'd')`, q)
	}
	cfg := database("main", cluster.DSN("postgres"))
	cfg.Ticker.Period = 10 * time.Millisecond
	run(t, nil, cfg)
	for _, q := range []string{"a", "b", "c"} {
		ticksOn(t, c, q)
	}
	const mark = `select pg_current_snapshot()::text || ' ' || pg_current_wal_insert_lsn()::text`
	last, since := "", time.Now()
	pgtest.Eventually(t, 3*time.Minute, "three quiet seconds", func() bool {
		if now := value[string](t, c, mark); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	ticksOn(t, c, "b")
}

func TestDaemon_SecondDaemonOnTheSocketIsRefused(t *testing.T) {
	t.Parallel()
	c := configs.DefaultConfig()
	c.HTTP.Listen, c.Control.Socket = configs.None, filepath.Join(t.TempDir(), "s")
	c.Databases = []configs.Database{database("x", "host=127.0.0.1 port=1 dbname=x")}
	first := runConfig(t, c, nil)
	second, err := New(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, ErrSocketTaken) {
		t.Errorf("got %v", err)
	}
	s, err := FetchStatus(t.Context(), c.Control.Socket)
	if err != nil || s.Version != "v0" || len(s.Actors) < 3 {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := FetchStatus(t.Context(), c.Control.Socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	// A socket left behind by a daemon that was killed is replaced.
	stale, err := net.Listen("unix", c.Control.Socket)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = stale.Close()
	third := runConfig(t, c, nil)
	if _, err := FetchStatus(t.Context(), c.Control.Socket); err != nil {
		t.Error(err)
	}
	if err := third.Run(t.Context()); !errors.Is(err, ErrAlreadyRun) {
		t.Errorf("got %v", err)
	}
}

func TestDaemon_BusyPortIsOneClearError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := configs.DefaultConfig()
	c.HTTP.Listen, c.Control.Socket = l.Addr().String(), configs.None
	c.Databases = []configs.Database{database("x", "dbname=x")}
	d, err := New(t.Context(), c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Run(t.Context())
	if listen := (*ListenError)(nil); !errors.As(err, &listen) || err.Error() != "listen on "+c.HTTP.Listen+": address already in use" {
		t.Errorf("got %v", err)
	}
}
