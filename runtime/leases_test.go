package runtime

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// two starts two daemons with one configuration; the first one reaches the database through a proxy.
func two(t *testing.T, ttl time.Duration, db *pgtest.Database, pooler string, handler func(daemon string) pgq.Handler) (a, b *running, proxy *pgtest.Proxy) {
	t.Helper()
	proxy = pgtest.NewProxy(t, db.DSN)
	start := func(name, dsn string) *running {
		d := database("main", dsn)
		d.Pooler = pooler
		c := consumersConfig(t, []configs.Database{d})
		c.Instance, c.HA.LeaseTTL = name, ttl
		return runOptions(t, c, Options{Consumers: []Consumer{{
			Config:  consumer("c", func(u *configs.Consumer) { u.BatchTimeout = 2 * time.Second }),
			Handler: func(int) pgq.Handler { return handler(name) },
		}}})
	}
	a = start("a", proxy.DSN(db.DSN))
	holds(t, a)
	b = start("b", db.DSN)
	pgtest.Eventually(t, slow, "the second daemon stands by", func() bool {
		tick := b.actor("database/main/ticker")
		return tick.State == messages.Parked && tick.Note == "another daemon has the lease"
	})
	return a, b, proxy
}

// holds waits until a daemon has both leases.
func holds(t *testing.T, r *running) {
	t.Helper()
	pgtest.Eventually(t, slow, "the daemon holds the leases", func() bool {
		return r.actor("database/main/lease").Note == "holds 2 of 2" && r.actor("database/main/ticker").State == messages.Running &&
			r.actor("database/main/consumer/q/c").State == messages.Running
	})
}

// bookkeeper writes each event once, under the name of its daemon.
func bookkeeper(daemon string) pgq.Handler {
	return pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `insert into public.seen values ($1, $2)`, ev.ID, daemon); err != nil {
				return err
			}
		}
		return nil
	})
}

// seenQueue makes a queue and the table of a bookkeeper.
func seenQueue(t *testing.T) (*pgtest.Database, *pgx.Conn) {
	t.Helper()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `create table public.seen (id int8 primary key, daemon text)`)
	exec(t, c, `select pgq.register_consumer('q', 'c')`)
	return db, c
}

func TestLeases_StandbyTakesOver(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(a *running, proxy *pgtest.Proxy) error{
		"stop":   func(a *running, _ *pgtest.Proxy) error { return a.stop() },
		"cut":    func(_ *running, proxy *pgtest.Proxy) error { proxy.Refuse(); proxy.Reset(); return nil },
		"frozen": func(_ *running, proxy *pgtest.Proxy) error { proxy.Freeze(); return nil },
	} {
		for _, pooler := range []string{configs.None, "transaction"} {
			t.Run(name+"/"+pooler, func(t *testing.T) {
				t.Parallel()
				db, c := seenQueue(t)
				a, b, proxy := two(t, time.Second, db, pooler, bookkeeper)
				exec(t, c, `select pgq.insert_event('q', 't', '1')`)
				count(t, c, `select count(*) from public.seen where daemon = 'a'`, 1)
				began := time.Now()
				if err := way(a, proxy); err != nil {
					t.Fatal(err)
				}
				exec(t, c, `select pgq.insert_event('q', 't', '2')`)
				count(t, c, `select count(*) from public.seen where daemon = 'b'`, 1)
				t.Logf("the second daemon has handled an event %v after, at a lease_ttl of 1s", time.Since(began).Round(time.Millisecond))
				holds(t, b)
				proxy.Thaw()
				proxy.Heal()
				if name == "stop" {
					return
				}
				pgtest.Eventually(t, slow, "the first daemon stands by now", func() bool {
					return a.actor("database/main/ticker").State == messages.Parked
				})
				exec(t, c, `select pgq.insert_event('q', 't', '3')`)
				count(t, c, `select count(*) from public.seen where daemon = 'b'`, 2)
				if n := value[int](t, c, `select count(*) from public.seen`); n != 3 {
					t.Errorf("%d rows, want 3", n)
				}
			})
		}
	}
}

// The first daemon is cut off in the middle of a handler's work and comes back when the second one has taken over: what
// it wrote under its old epoch is refused, although the batch is still open.
func TestLeases_StaleWorkIsFencedOff(t *testing.T) {
	t.Parallel()
	db, c := seenQueue(t)
	inside, goOn, blocked := make(chan struct{}), make(chan struct{}), make(chan struct{})
	handler := func(daemon string) pgq.Handler {
		book := bookkeeper(daemon).(pgq.BatchTxHandler)
		return pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
			if daemon == "a" {
				close(inside)
				<-goOn
				defer close(blocked)
			}
			return book(ctx, tx, b)
		})
	}
	_, b, proxy := two(t, time.Second, db, configs.None, handler)
	exec(t, c, `select pgq.insert_event('q', 't', '1')`)
	<-inside
	proxy.Freeze()
	// The open transaction of the first daemon keeps the lease until the server ends it: nobody overlaps.
	holds(t, b)
	count(t, c, `select count(*) from public.seen where daemon = 'b'`, 1)
	proxy.Thaw()
	close(goOn)
	<-blocked
	ticksOn(t, c, "q")
	if n := value[int](t, c, `select count(*) from public.seen where daemon = 'a'`); n != 0 {
		t.Errorf("%d rows of the first daemon, want none: its epoch was over", n)
	}
}

// Members of a group work on every daemon: they need no lease.
func TestLeases_GroupsRunEverywhere(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `create table public.seen (id int8 primary key)`)
	for _, name := range []string{"a", "b"} {
		cfg := consumersConfig(t, []configs.Database{database("main", db.DSN)}, consumer("g", func(u *configs.Consumer) {
			u.Workers, u.Handler.Kind, u.Handler.Statement = 2, "sql", `insert into public.seen values (:ev_id)`
		}))
		cfg.Instance = name
		runConfig(t, cfg, nil)
	}
	pgtest.Eventually(t, slow, "four members", func() bool {
		return value[int](t, c, `select count(*) from pgq.get_consumer_info('q') where consumer_name like 'g.%'`) == 4
	})
	for i := range 40 {
		exec(t, c, `select pgq.insert_event('q', 't', $1)`, fmt.Sprint(i))
		exec(t, c, `select pgq.ticker('q')`)
	}
	count(t, c, `select count(*) from public.seen`, 40)
}

// Two daemons behind PgBouncer in transaction mode: ticker, a consumer under a lease by time, and a group, taken over from a
// daemon that stopped and from one that nobody hears any more.
func TestLeases_TwoDaemonsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	db, c := seenQueue(t)
	through := *db
	through.DSN = pgtest.NewPooler(t, db.DSN).DSN()
	a, b, proxy := two(t, time.Second, &through, "transaction", bookkeeper)
	total := 0
	seen := func(daemon string) {
		t.Helper()
		before := value[int](t, c, `select count(*) from public.seen where daemon = $1`, daemon)
		for range 5 {
			exec(t, c, `select pgq.insert_event('q', 't', '')`)
			total++
		}
		count(t, c, `select count(*) from public.seen where daemon = '`+daemon+`'`, before+5)
	}
	seen("a")
	proxy.Freeze()
	holds(t, b)
	seen("b")
	proxy.Thaw()
	pgtest.Eventually(t, slow, "the first daemon stands by now", func() bool {
		return a.actor("database/main/ticker").State == messages.Parked
	})
	seen("b")
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	holds(t, a)
	seen("a")
	if n := value[int](t, c, `select count(*) from public.seen`); n != total {
		t.Errorf("%d rows of %d events", n, total)
	}
	if n := value[int](t, c, `select count(*) from pgq.lease where lease_epoch < 3`); n != 0 {
		t.Errorf("%d leases have an epoch below 3, though they had three holders", n)
	}
}
