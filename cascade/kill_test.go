package cascade_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

var (
	serverKills    = flag.Int("server.kills", 3, "kills of servers in the middle of switchovers, of 24 kinds; 0: all, and all takeovers of the original that can be left half-finished")
	serverKillSeed = flag.Uint64("server.seed", 0, "seed of their order; 0: a random one")
)

// serverHost makes a database of its own server.
func serverHost(c *pgtest.Cluster) host {
	return func(t testing.TB) string {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
		if err == nil {
			_, err = conn.Exec(t.Context(), `create database node`)
		}
		if err == nil {
			err = conn.Close(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		dsn := c.DSN("node")
		db, err := pgq.Open(t.Context(), dsn)
		if err == nil {
			defer db.Close()
			_, err = pgqsql.Install(t.Context(), db, pgqsql.Options{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return dsn
	}
}

// serverKill is one kind of kill: which server, after which step, and what the driver does then.
type serverKill struct {
	step   cascade.ActionKind
	side   int  // 0: the old root's, 1: the new one's
	driver bool // the driver dies with it
}

// A server is killed by signal 9 after a step of a switchover, on either side, with and without the driver, and comes back:
// the operation ends done or rolled back, and nothing that was acknowledged is lost.
func TestSwitchover_ServerKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	seed := *serverKillSeed
	if seed == 0 {
		seed = rand.Uint64N(1e6) + 1
	}
	t.Logf("replay: go test ./cascade -run ServerKilled -server.seed=%d", seed)
	var kinds []serverKill
	for _, step := range []cascade.ActionKind{
		cascade.ActPrepareNew, cascade.ActClose, cascade.ActFinal, cascade.ActGrant, cascade.ActPromote, cascade.ActDemote,
	} {
		for side := range 2 {
			kinds = append(kinds, serverKill{step, side, false}, serverKill{step, side, true})
		}
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	if n := *serverKills; n > 0 && n < len(kinds) {
		kinds = kinds[:n]
	}
	k := newKilled(t)
	for _, kind := range kinds {
		k.round(kind)
	}
	k.w.unsure()
	k.verify(k.w)
}

// killed is a grove on two servers.
type killed struct {
	*grove
	servers   map[string]*pgtest.Cluster
	w         *writers
	old, node string
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	k := &killed{servers: map[string]*pgtest.Cluster{}, old: "o", node: "n"}
	for _, name := range []string{"o", "n"} {
		k.servers[name] = pgtest.NewCluster(t, nil)
	}
	k.grove = newGrove(t, serverHost(k.servers["o"]), "o")
	k.add(serverHost(k.servers["n"]), "n", cascade.Branch, "o")
	k.startWorker(k.ctx, "n")
	db := k.db("n")
	k.all.Go(func() {
		for pause(k.ctx, 50*time.Millisecond) {
			_, _, _ = pgq.Tick(k.ctx, db, k.queue)
		}
	})
	k.exec("n", `select pgq.set_queue_config($1, 'ticker_max_lag', '50 ms'), pgq.set_queue_config($1, 'ticker_idle_period', '1 day')`, k.queue)
	k.w = k.write()
	return k
}

// round is one switchover with a kill in it.
func (k *killed) round(kind serverKill) {
	k.t.Helper()
	k.w.more(5)
	var starting sync.WaitGroup
	victim := []string{k.old, k.node}[kind.side]
	hit := false
	err := func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("%w: the driver is dead: %v", cascade.ErrUnfinished, v)
			}
		}()
		_, err = k.takeover(k.old, k.node, cascade.TakeoverOptions{Driver: "mortal", Force: true, MaxLag: time.Hour, WriteOutage: time.Minute, Told: func(s cascade.OpStep) {
			if s.Step != kind.step || hit {
				return
			}
			hit = true
			k.servers[victim].Kill()
			starting.Go(k.servers[victim].Start)
			if kind.driver {
				panic("killed")
			}
		}})
		return err
	}()
	starting.Wait()
	if !hit {
		k.t.Fatalf("%+v: the step never came: %v", kind, err)
	}
	for err != nil && !errors.Is(err, cascade.ErrRolledBack) {
		ctx, cancel := context.WithTimeout(k.t.Context(), patience)
		_, err = k.admin(k.node).Resume(ctx, "", "", false, cascade.TakeoverOptions{Driver: "mortal"})
		cancel()
		if err != nil && strings.Contains(err.Error(), "not found") {
			break // it was over
		}
		if err != nil && ctx.Err() != nil && !errors.Is(ctx.Err(), context.Canceled) {
			k.t.Fatalf("%+v: %v\n%s", kind, err, k.state())
		}
	}
	root := ""
	k.await("one root takes events", func() bool { root = k.root(); return root != "" })
	k.t.Logf("%+v: root is %s, %v", kind, root, err)
	if root != k.old {
		k.old, k.node = k.node, k.old
	}
}
