package runtime

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgqsql"
)

// patient is a daemon with two databases, each with a queue and consumers that write down what they see. One of them gets
// the fault; the other one must not notice.
type patient struct {
	*running
	t    *testing.T
	well *pgx.Conn
	sent map[string]int // events by database
}

// healing starts the daemon: dsn is how it reaches the sick database, sick a connection for the test.
func healing(t *testing.T, dsn string, sick *pgx.Conn, change func(*configs.Database)) *patient {
	t.Helper()
	db := pgtest.DB(t)
	p := &patient{t: t, well: db.Conn(t), sent: map[string]int{}}
	for _, c := range []*pgx.Conn{p.well, sick} {
		newQueue(t, c, "q")
		exec(t, c, `create table public.seen (consumer text, id int8)`)
		exec(t, c, `select pgq.register_consumer('q', name) from unnest(array['own', 'remote']) name`)
	}
	other := database("sick", dsn)
	if change != nil {
		change(&other)
	}
	cfg := consumersConfig(t, []configs.Database{database("well", db.DSN), other})
	insert := func(name, home, target string) {
		cfg.Consumers = append(cfg.Consumers, consumer(name, func(u *configs.Consumer) {
			u.Database, u.Handler.Database, u.Handler.Kind = home, target, "sql"
			u.Handler.Statement = `insert into public.seen values ('` + home + `.` + name + `', :ev_id)`
		}))
	}
	insert("own", "well", "")
	insert("own", "sick", "")
	insert("remote", "sick", "well") // exactly once over both
	insert("remote", "well", "sick")
	p.running = runConfig(t, cfg, nil)
	p.works("well", p.well)
	p.works("sick", sick)
	p.crossed(sick)
	return p
}

// installAll puts everything into a database.
func installAll(t *testing.T, c *pgx.Conn) {
	t.Helper()
	if _, err := pgqsql.Install(t.Context(), c, pgqsql.Options{}); err != nil {
		t.Fatal(err)
	}
}

// send inserts events.
func (p *patient) send(name string, c *pgx.Conn, n int) {
	p.t.Helper()
	for range n {
		exec(p.t, c, `select pgq.insert_event('q', 't', '')`)
		p.sent[name]++
	}
}

// works waits until all events of a database have come to its own consumer.
func (p *patient) works(name string, c *pgx.Conn) {
	p.t.Helper()
	p.send(name, c, 5)
	count(p.t, c, `select count(distinct id) from public.seen where consumer = '`+name+`.own'`, p.sent[name])
}

// crossed waits until all events of both have come to the other one.
func (p *patient) crossed(sick *pgx.Conn) {
	p.t.Helper()
	count(p.t, p.well, `select count(distinct id) from public.seen where consumer = 'sick.remote'`, p.sent["sick"])
	count(p.t, sick, `select count(distinct id) from public.seen where consumer = 'well.remote'`, p.sent["well"])
}

// untouched lets the well database work while the fault lasts.
func (p *patient) untouched() {
	p.t.Helper()
	for range 5 {
		p.works("well", p.well)
	}
	for _, path := range []string{"database/well", "database/well/ticker", "database/well/consumer/q/own"} {
		if a := p.actor(path); !a.DownSince.IsZero() {
			p.t.Errorf("%s noticed the fault: %+v", path, a)
		}
	}
}

// away waits until the daemon has noticed the fault.
func (p *patient) away(reason string) {
	p.t.Helper()
	pgtest.Eventually(p.t, slow, "the fault is noticed", func() bool {
		i := slices.IndexFunc(p.status().Databases, func(d messages.DatabaseStatus) bool { return d.Name == "sick" })
		d := p.status().Databases[i]
		return !d.Up && (reason == "" || d.Reason == reason)
	})
}

// cured waits until everything works again, and checks that nothing was lost, doubled or failed.
func (p *patient) cured(sick *pgx.Conn) {
	p.t.Helper()
	p.works("sick", sick)
	p.works("well", p.well)
	p.crossed(sick)
	for _, c := range []*pgx.Conn{p.well, sick} {
		if n := value[int](p.t, c, `select count(*) - count(distinct (consumer, id)) from public.seen`); n != 0 {
			p.t.Errorf("%d events were doubled", n)
		}
	}
	for _, a := range p.status().Actors {
		if a.Restarts != 0 {
			p.t.Errorf("%s failed %d times; an outage is no failure: %s", a.Path, a.Restarts, a.LastError)
		}
	}
}

// hosts is a DSN with several hosts for the same database.
func hosts(database string, dsns ...string) string {
	var names, ports []string
	for _, dsn := range dsns {
		c, _ := pgx.ParseConfig(dsn)
		names, ports = append(names, c.Host), append(ports, fmt.Sprint(c.Port))
	}
	return fmt.Sprintf("host=%s port=%s dbname=%s user=postgres sslmode=disable", strings.Join(names, ","), strings.Join(ports, ","), database)
}

// The primary stops taking writes with all sockets open, and its standby is promoted: every connection that matters,
// also of consumers and targets, has to be given up by ourselves and made anew to the other host.
func TestHealing_FailoverWithOpenSockets(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, map[string]string{"synchronous_standby_names": "*", "synchronous_commit": "local"})
	c := connect(t, primary.DSN("postgres"))
	installAll(t, c)
	standby := pgtest.NewStandby(t, primary.DSN("postgres"))
	p := healing(t, hosts("postgres", primary.DSN("postgres"), standby.DSN("postgres")), c, nil)
	p.send("sick", c, 20)
	exec(t, c, `alter system set default_transaction_read_only = on`)
	exec(t, c, `select pg_reload_conf()`)
	p.away("read_only")
	p.untouched()
	// Everything of the old primary has arrived before the standby is promoted.
	lsn := value[string](t, c, `select pg_current_wal_insert_lsn()::text`)
	s := connect(t, standby.DSN("postgres"))
	pgtest.Eventually(t, slow, "the standby has everything", func() bool {
		return value[bool](t, s, `select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`, lsn)
	})
	exec(t, s, `select pg_promote()`)
	exec(t, s, `alter system reset default_transaction_read_only`)
	exec(t, s, `select pg_reload_conf()`)
	p.cured(s)
	if n := value[int](t, c, `select count(*) from pg_stat_activity where application_name like 'skyd/%' and state <> 'active'`); n != 0 {
		pgtest.Eventually(t, slow, "no connection to the old primary is left", func() bool {
			return value[int](t, c, `select count(*) from pg_stat_activity where application_name like 'skyd/%'`) == 0
		})
	}
}

// A server that only stops taking writes is waited for, and goes on by itself.
func TestHealing_ReadOnlyForAWhile(t *testing.T) {
	t.Parallel()
	cluster := pgtest.NewCluster(t, nil)
	c := connect(t, cluster.DSN("postgres"))
	installAll(t, c)
	p := healing(t, cluster.DSN("postgres"), c, nil)
	exec(t, c, `alter system set default_transaction_read_only = on`)
	exec(t, c, `select pg_reload_conf()`)
	p.away("read_only")
	p.untouched()
	exec(t, c, `alter system reset default_transaction_read_only`)
	exec(t, c, `select pg_reload_conf()`)
	p.cured(connect(t, cluster.DSN("postgres")))
}

func TestHealing_Network(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ harm, heal func(*pgtest.Proxy) }{
		"cut":                {func(p *pgtest.Proxy) { p.Refuse(); p.Reset() }, (*pgtest.Proxy).Heal},
		"frozen":             {(*pgtest.Proxy).Freeze, (*pgtest.Proxy).Thaw},
		"frozen, then reset": {(*pgtest.Proxy).Freeze, func(p *pgtest.Proxy) { p.Reset(); p.Thaw() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			c := db.Conn(t)
			proxy := pgtest.NewProxy(t, db.DSN)
			p := healing(t, proxy.DSN(db.DSN), c, func(d *configs.Database) { d.Ticker.LookTimeout = time.Second })
			p.send("sick", c, 5)
			fault.harm(proxy)
			p.away("")
			p.untouched()
			p.send("sick", c, 5)
			fault.heal(proxy)
			p.cured(c)
		})
	}
}

func TestHealing_PoolerRestarted(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	pooler := pgtest.NewPooler(t, db.DSN)
	p := healing(t, pooler.DSN(), c, func(d *configs.Database) { d.Pooler = "transaction" })
	for range 2 {
		p.send("sick", c, 5)
		pooler.Kill()
		p.away("")
		p.untouched()
		pooler.Start()
		p.cured(c)
	}
	// Nobody else had the leases, so there is nothing to wait for, and their epochs are still the first.
	if n := value[int](t, c, `select max(lease_epoch) from pgq.lease`); n != 1 {
		t.Errorf("a lease has epoch %d: the daemon waited for the end of its own", n)
	}
}

// The name of the server leads elsewhere while the old server is still up but cut off: a name is asked for every connection.
func TestHealing_NameMoved(t *testing.T) {
	t.Parallel()
	primary := pgtest.NewCluster(t, nil)
	c := connect(t, primary.DSN("postgres"))
	installAll(t, c)
	standby := pgtest.NewStandby(t, primary.DSN("postgres"))
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	before := pgtest.NewProxyAt(t, fmt.Sprintf("127.0.0.2:%d", port), primary.DSN("postgres"))
	pgtest.NewProxyAt(t, fmt.Sprintf("127.0.0.3:%d", port), standby.DSN("postgres"))
	moving.to(2)
	p := healing(t, fmt.Sprintf("host=db.moving.test port=%d dbname=postgres user=postgres sslmode=disable", port), c, nil)
	p.send("sick", c, 5)
	before.Refuse()
	before.Reset()
	p.away("")
	lsn := value[string](t, c, `select pg_current_wal_insert_lsn()::text`)
	s := connect(t, standby.DSN("postgres"))
	pgtest.Eventually(t, slow, "the standby has everything", func() bool {
		return value[bool](t, s, `select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)`, lsn)
	})
	exec(t, s, `select pg_promote()`)
	p.untouched()
	moving.to(3)
	p.cured(s)
}

// moving is the name server of *.moving.test; all other names are as the system knows them.
var moving movingName

// movingName answers with 127.0.0.N.
type movingName struct{ last atomic.Int32 }

func (m *movingName) to(n int32) { m.last.Store(n) }

// install makes this process ask it for names that are in no file.
func (m *movingName) install() {
	net.DefaultResolver.PreferGo = true
	net.DefaultResolver.Dial = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go m.serve(server)
		return client, nil
	}
}

// serve answers one question in the form of TCP, with the length before it.
func (m *movingName) serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	if err != nil || n < 14 {
		return
	}
	if n == 2 {
		more, err := c.Read(buf[2:])
		if err != nil {
			return
		}
		n += more
	}
	question := buf[2:n]
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5 // the root, type and class
	isA := question[end-3] == 1
	answer := append([]byte{}, question[:end]...)
	answer[2], answer[3] = 0x81, 0x80 // an answer without error
	copy(answer[4:], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if isA {
		answer[7] = 1
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, byte(m.last.Load()))
	}
	_, _ = c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
}
