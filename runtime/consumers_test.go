package runtime

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// consumer is the configuration of one consumer of queue q.
func consumer(name string, change func(*configs.Consumer)) configs.Consumer {
	u := configs.DefaultConsumer()
	u.Name, u.Queue, u.PollPeriod = name, "q", 100*time.Millisecond
	change(&u)
	return u
}

// consumersConfig is a configuration with these consumers.
func consumersConfig(t *testing.T, dbs []configs.Database, consumers ...configs.Consumer) configs.Config {
	c := configs.DefaultConfig()
	c.Instance, c.HTTP.Listen, c.Control.Socket = "test", "127.0.0.1:0", configs.None
	c.Databases, c.Consumers = dbs, consumers
	return c
}

// registered waits until a consumer is known, so that it gets what is inserted from now on.
func registered(t *testing.T, c *pgx.Conn, name string) {
	t.Helper()
	pgtest.Eventually(t, slow, "consumer "+name+" is registered", func() bool {
		return value[bool](t, c, `select exists (select from pgq.get_consumer_info('q', $1))`, name)
	})
}

// count waits until a table has that many rows.
func count(t *testing.T, c *pgx.Conn, sql string, want int) {
	t.Helper()
	pgtest.Eventually(t, slow, fmt.Sprint(sql, " gives ", want), func() bool { return value[int](t, c, sql) == want })
}

// workerOf finds the first worker of a consumer in the status.
func (r *running) workerOf(name string) (messages.WorkerStatus, bool) {
	for _, u := range r.status().Workers {
		if u.Consumer == name {
			return u, true
		}
	}
	return messages.WorkerStatus{}, false
}

func TestConsumers_SQLInTheSameAndInAnotherDatabase(t *testing.T) {
	t.Parallel()
	one, two := pgtest.DB(t), pgtest.DB(t)
	c, other := one.Conn(t), two.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `create table public.seen (id int8 primary key, data text)`)
	exec(t, other, `create table public.seen (id int8 primary key, data text)`)
	exec(t, other, `select pgq.create_queue('copy')`)
	insert := func(u *configs.Consumer) {
		u.Database, u.Handler.Kind, u.Handler.Statement = "one", "sql", `insert into public.seen values (:ev_id, :ev_data)`
	}
	r := runConfig(t, consumersConfig(t, []configs.Database{database("one", one.DSN), database("two", two.DSN)},
		consumer("here", insert),
		consumer("there", func(u *configs.Consumer) { insert(u); u.Handler.Database = "two" }),
		consumer("mover", func(u *configs.Consumer) {
			u.Database, u.Handler.Kind, u.Handler.TargetQueue, u.Handler.Database = "one", "mover", "copy", "two"
		})), nil)
	for _, name := range []string{"here", "there", "mover"} {
		registered(t, c, name)
	}
	for i := range 500 {
		exec(t, c, `select pgq.insert_event('q', 't', $1)`, fmt.Sprint(i))
	}
	count(t, c, `select count(*) from public.seen`, 500)
	count(t, other, `select count(*) from public.seen`, 500)
	count(t, other, `select count(*) from pgq.event_1`, 500)
	pgtest.Eventually(t, slow, "the figures of the consumers", func() bool {
		u, ok := r.workerOf("here")
		return ok && u.Events == 500 && u.Finished > 0 && u.Failed == 0
	})
	_, body := r.get("/metrics")
	for _, want := range []string{
		`skyd_batches_total{consumer="here",db="one",queue="q",result="ok"}`,
		`skyd_batch_duration_seconds_count{consumer="here",db="one",queue="q"}`,
		`skyd_actor_up{db="one",kind="consumer",name="database/one/consumer/q/here"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// A group shares the batches of one consumer.
func TestConsumers_Group(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `create table public.seen (id int8 primary key, data text)`)
	r := runConfig(t, consumersConfig(t, []configs.Database{database("main", db.DSN)}, consumer("group", func(u *configs.Consumer) {
		u.Workers, u.Handler.Kind, u.Handler.Statement = 3, "sql", `insert into public.seen values (:ev_id, :ev_data)`
	})), nil)
	pgtest.Eventually(t, slow, "three members", func() bool {
		return value[int](t, c, `select count(*) from pgq.get_consumer_info('q') where consumer_name like 'group.test-%'`) == 3
	})
	for i := range 50 {
		exec(t, c, `select pgq.insert_event('q', 't', $1)`, fmt.Sprint(i))
		exec(t, c, `select pgq.ticker('q')`)
	}
	count(t, c, `select count(*) from public.seen`, 50)
	// A member with an open batch stays, for others to take it over: without ticks there is none in the end.
	exec(t, c, `update pgq.queue set queue_ticker_paused = true`)
	count(t, c, `select count(*) from pgq.subscription where sub_batch is not null`, 0)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := value[int](t, c, `select count(*) from pgq.get_consumer_info('q')`); n != 1 {
		t.Errorf("%d subscriptions are left, want only the group's own: members leave when they stop", n)
	}
}

// A handler in Go that fails, panics and hangs is contained, visible, and the events arrive in the end.
func TestConsumers_HandlerInGo(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	var calls atomic.Int64
	arrived := make(chan string, 10)
	release := make(chan struct{})
	handler := pgq.EventHandler(func(ctx context.Context, ev *pgq.Event) error {
		switch calls.Add(1) {
		case 1:
			return errors.New("first try")
		case 2:
			panic("second try")
		case 3:
			<-ctx.Done() // takes longer than it may
			return ctx.Err()
		case 4:
			<-release // does not care
			return nil
		}
		arrived <- ev.Data.String
		return nil
	})
	r := runOptions(t, consumersConfig(t, []configs.Database{database("main", db.DSN)}), Options{Consumers: []Consumer{{
		Config:  consumer("go", func(u *configs.Consumer) { u.BatchTimeout = 200 * time.Millisecond }),
		Handler: func(int) pgq.Handler { return handler },
	}}})
	registered(t, c, "go")
	exec(t, c, `select pgq.insert_event('q', 't', 'x')`)
	select {
	case data := <-arrived:
		if data != "x" {
			t.Errorf("got %q", data)
		}
	case <-time.After(slow):
		t.Fatal("the event did not arrive")
	}
	pgtest.Eventually(t, slow, "failures and the leaked handler are visible", func() bool {
		u, ok := r.workerOf("go")
		return ok && u.Failed >= 4 && u.Leaked == 1 && u.Finished == 1
	})
	close(release)
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "the leaked handler has returned", func() bool {
		exec(t, c, `select pgq.insert_event('q', 't', 'y')`)
		u, _ := r.workerOf("go")
		return u.Leaked == 0
	})
	if a := r.actor("database/main"); a.Restarts != 0 {
		t.Errorf("the database actor failed %d times", a.Restarts)
	}
}

// A poisoned consumer slows nobody else down, a reload touches only what changed.
func TestConsumers_Reload(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `create table public.seen (name text, id int8, primary key (name, id))`)
	into := func(name string) func(*configs.Consumer) {
		return func(u *configs.Consumer) {
			u.Handler.Kind, u.Handler.Statement = "sql", `insert into public.seen values ('`+name+`', :ev_id)`
		}
	}
	poisoned := consumer("poisoned", func(u *configs.Consumer) {
		u.Handler.Kind, u.Handler.Statement = "sql", `select 1 / 0`
	})
	var source atomic.Value
	source.Store(consumersConfig(t, []configs.Database{database("main", db.DSN)}, consumer("stays", into("stays")), poisoned))
	r := runOptions(t, source.Load().(configs.Config), Options{Load: func(context.Context) (configs.Loaded, error) {
		return configs.Loaded{Config: source.Load().(configs.Config)}, nil
	}})
	registered(t, c, "stays")
	registered(t, c, "poisoned")
	exec(t, c, `select pgq.insert_event('q', 't', '1')`)
	count(t, c, `select count(*) from public.seen`, 1)
	pgtest.Eventually(t, slow, "the poisoned consumer is visible", func() bool {
		a := r.actor("database/main/consumer/q/poisoned")
		return a.State == messages.Backoff && strings.Contains(a.LastError, "division by zero")
	})
	pgtest.Eventually(t, slow, "a consumer that fails again and again makes readiness fail", func() bool {
		code, body := r.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "[-] consumer/main/q/poisoned ") &&
			strings.Contains(body, "times in a row") && !strings.Contains(body, "[-] consumer/main/q/stays")
	})
	for path, want := range map[string]int{
		"consumer/poisoned": http.StatusServiceUnavailable, "consumer/main": http.StatusServiceUnavailable, "consumer/stays": http.StatusOK,
		"consumer/main/q/stays": http.StatusOK, "consumer/nobody": http.StatusNotFound,
	} {
		if code, body := r.get("/readyz/" + path); code != want {
			t.Errorf("/readyz/%s: got %d %s", path, code, body)
		}
	}
	source.Store(consumersConfig(t, []configs.Database{database("main", db.DSN)}, consumer("stays", into("stays")),
		consumer("poisoned", into("cured")), consumer("new", into("new"))))
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	registered(t, c, "new")
	exec(t, c, `select pgq.insert_event('q', 't', '2')`)
	count(t, c, `select count(*) from public.seen where name = 'cured'`, 2)
	pgtest.Eventually(t, slow, "the cured one is ready", func() bool { code, _ := r.get("/readyz"); return code == http.StatusOK })
	count(t, c, `select count(*) from public.seen where name = 'new'`, 1)
	count(t, c, `select count(*) from public.seen where name = 'stays'`, 2)
	source.Store(consumersConfig(t, []configs.Database{database("main", db.DSN)}, consumer("stays", into("stays"))))
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, slow, "the removed consumers are gone from the status", func() bool { return len(r.status().Workers) == 1 })
}

// The server goes away in the middle of the work: nothing is lost or doubled, and the process stays.
func TestConsumers_ServerKilled(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	c := connect(t, cluster.DSN("postgres"))
	install(t, c)
	newQueue(t, c, "q")
	exec(t, c, `create table public.seen (id int8 primary key)`)
	r := runConfig(t, consumersConfig(t, []configs.Database{database("main", cluster.DSN("postgres"))},
		consumer("c", func(u *configs.Consumer) {
			u.Handler.Kind, u.Handler.Statement = "sql", `insert into public.seen values (:ev_id)`
		})), nil)
	registered(t, c, "c")
	total := 0
	for range 3 {
		for range 50 {
			exec(t, c, `select pgq.insert_event('q', 't', '')`)
			total++
		}
		cluster.Kill()
		cluster.Start()
		c = connect(t, cluster.DSN("postgres"))
	}
	count(t, c, `select count(*) from public.seen`, total)
	if a := r.actor("database/main"); a.Restarts != 0 {
		t.Errorf("the database actor failed %d times", a.Restarts)
	}
}
