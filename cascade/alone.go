package cascade

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// errHoldLost: this process stood still for so long that the servers have let its locks go.
var errHoldLost = fmt.Errorf("%w: this process stood still, and other commands may have changed the cascade meanwhile; run it again", ErrOvertaken)

const (
	// holdClass is the first half of the advisory lock of administration, "skyd" in ASCII; the other is a hash of the queue.
	holdClass = 0x736b7964
	// lockPatience is how long a command waits for another one to end.
	lockPatience = 10 * time.Second
	// holdBeat is the time between two signs of life, holdTTL how long a server waits for one.
	holdBeat = 3 * time.Second
	holdTTL  = 15 * time.Second
)

// hold is the right to change a cascade: an advisory lock in the database of every member that answers, each in a
// transaction that does nothing else, so that it ends with the process, and works through poolers too.
type hold struct {
	conns []*pgx.Conn // of their own: a pool may have one connection only
}

// alone lets a planned change run while no other command changes the cascade: at its Run, all members are locked and the
// change is planned once more on what they say then. What is done by then is left out; a plan that has got other steps than
// the one that was shown is refused.
func (a *Admin) alone(t *Topology, plan func(t *Topology) (*Change, error)) (*Change, error) {
	shown, err := plan(t)
	if err != nil {
		return nil, err
	}
	shown.under(func(ctx context.Context) (context.Context, func(), error) { return a.hold(ctx, t.live()) },
		func(ctx context.Context) (*Change, *Topology, error) {
			now, err := a.Topology(ctx)
			if err != nil {
				return nil, nil, err
			}
			now.own = t.own
			again, err := plan(now)
			return again, now, err
		})
	return shown, nil
}

// hold locks members. The context it returns ends when the locks are lost; the function lets them go.
func (a *Admin) hold(ctx context.Context, members []*Node) (context.Context, func(), error) {
	var dbs []*pgq.DB
	for _, n := range members {
		db, err := a.node(ctx, n)
		if err != nil && !away(err) {
			return nil, nil, err
		}
		if err == nil {
			dbs = append(dbs, db)
		}
	}
	return a.holdAll(ctx, dbs)
}

// holdAll locks databases, all or none.
func (a *Admin) holdAll(ctx context.Context, dbs []*pgq.DB) (context.Context, func(), error) {
	patient, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for holder := ""; ; {
		h := &hold{}
		other, err := h.take(patient, dbs, a.queue)
		if err == nil && other == "" {
			return h.keep(ctx)
		}
		h.release(ctx)
		if other != "" {
			holder = other
			err = rest(patient, pollPeriod)
		}
		if err != nil && holder == "" {
			return nil, nil, err
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: another command changes the cascade of queue %s: %s: %w", ErrRefused, a.queue, holder, err)
		}
	}
}

// take tries to lock; holder describes who has a lock already. A server that does not answer now is left out.
func (h *hold) take(ctx context.Context, dbs []*pgq.DB, queue string) (holder string, err error) {
	const lock = `select pg_catalog.pg_try_advisory_xact_lock($1, pg_catalog.hashtext($2))`
	const who = `
select coalesce((
    select pg_catalog.format('%s, process %s of database %s, since %s', a.application_name, a.pid, a.datname, a.xact_start)
      from pg_catalog.pg_locks l
      join pg_catalog.pg_stat_activity a on a.pid = l.pid
     where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid = $1::bigint::oid
       and l.objid = (pg_catalog.hashtext($2)::bigint & 4294967295)::oid and a.datname = pg_catalog.current_database()
     limit 1), 'it has ended just now')`
	host, _ := os.Hostname()
	begin := "begin; set local idle_in_transaction_session_timeout = " + fmt.Sprint(holdTTL.Milliseconds())
	for _, db := range dbs {
		conn, err := connectBeside(ctx, db)
		if err != nil && away(pgq.Classify(err)) && !expired(ctx) {
			continue
		}
		if err == nil {
			h.conns = append(h.conns, conn)
			_, err = conn.Exec(ctx, begin, pgx.QueryExecModeSimpleProtocol)
		}
		if err == nil {
			_, err = conn.Exec(ctx, `select pg_catalog.set_config('application_name', $1, true)`, fmt.Sprintf("skyd node (%.40s/%d)", host, os.Getpid()))
		}
		var got bool
		if err == nil {
			err = conn.QueryRow(ctx, lock, holdClass, queue).Scan(&got)
		}
		if err == nil && !got {
			if err = conn.QueryRow(ctx, who, holdClass, queue).Scan(&holder); err == nil {
				return holder, nil
			}
		}
		if err != nil {
			return "", fmt.Errorf("lock the cascade of queue %s: %w", queue, pgq.Classify(err))
		}
	}
	return "", nil
}

// away tells whether a server cannot be locked because it is not there. One that only has no room is there: what is not
// locked must not be changed.
func away(err error) bool {
	code := pgq.SQLState(err)
	return silent(err) && (len(code) != 5 || code[:2] != "53")
}

// expired tells whether the time of a context is over. A network call that ends by the deadline may be faster than the
// context: the server would count as away that we had no more time to ask.
func expired(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// connectBeside makes a connection as the pool has them, outside of it.
func connectBeside(ctx context.Context, db *pgq.DB) (*pgx.Conn, error) {
	c := db.Config()
	if c.BeforeConnect != nil {
		if err := c.BeforeConnect(ctx, c.ConnConfig); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, c.ConnConfig)
}

// keep says to the servers that this process lives. A server that is lost meanwhile has lost its part only; a process
// that stood still has lost all.
func (h *hold) keep(ctx context.Context) (context.Context, func(), error) {
	held, lost := context.WithCancelCause(ctx)
	beating, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		for last := time.Now(); rest(beating, holdBeat) == nil; last = time.Now() {
			if time.Since(last) > holdTTL-holdBeat {
				lost(errHoldLost)
				return
			}
			for _, conn := range h.conns {
				quick, cancel := context.WithTimeout(beating, holdBeat)
				_, _ = conn.Exec(quick, `select 1`) // the others hold on
				cancel()
			}
		}
	})
	return held, func() {
		stop()
		all.Wait()
		lost(nil)
		h.release(ctx)
	}, nil
}

// release lets the locks go.
func (h *hold) release(ctx context.Context) {
	ctx, cancel := settle(ctx)
	defer cancel()
	for _, conn := range h.conns {
		_, _ = conn.Exec(ctx, "rollback", pgx.QueryExecModeSimpleProtocol) // a pooler keeps the server's connection
		_ = conn.Close(ctx)
	}
}

// begins runs what begins an operation on who is root, alone; from then on its journal keeps other commands away.
func (a *Admin) begins(ctx context.Context, t *Topology, begin func(ctx context.Context) error) error {
	held, end, err := a.hold(ctx, t.live())
	if err != nil {
		return err
	}
	defer end()
	now, err := a.Topology(held)
	if err != nil {
		return err
	}
	for _, n := range t.live() {
		if m := now.Node(n.Name); m == nil || m.State == Alive && (m.Type != n.Type || m.Provider != n.Provider) {
			return refuse("%s is no longer what it was when this was planned; plan it again", n.Name)
		}
	}
	return begin(held)
}
