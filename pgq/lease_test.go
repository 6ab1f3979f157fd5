package pgq_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// leaseKinds runs a test for both kinds of leases.
func leaseKinds(t *testing.T, test func(t *testing.T, db *pgq.DB, kind pgq.LeaseKind)) {
	for name, kind := range map[string]pgq.LeaseKind{"session": pgq.SessionLease, "timed": pgq.TimedLease} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t, newSkyd(t)), kind)
		})
	}
}

func newLeases(t *testing.T, db *pgq.DB, holder string, ttl time.Duration, kind pgq.LeaseKind) *pgq.Leases {
	t.Helper()
	l := pgq.NewLeases(db, holder, ttl, kind)
	t.Cleanup(l.Close)
	return l
}

// taken insists on getting a unit.
func taken(t *testing.T, l *pgq.Leases, unit string) int64 {
	t.Helper()
	epoch, ok, err := l.Take(t.Context(), unit)
	if err != nil || !ok {
		t.Fatalf("take %s: got %v, %v, want it", unit, ok, err)
	}
	return epoch
}

// refused insists on not getting it.
func refused(t *testing.T, l *pgq.Leases, unit string) {
	t.Helper()
	if _, ok, err := l.Take(t.Context(), unit); err != nil || ok {
		t.Fatalf("take %s: got %v, %v, want it refused", unit, ok, err)
	}
}

// takenInTheEnd waits until the unit is free.
func takenInTheEnd(t *testing.T, l *pgq.Leases, unit string) (epoch int64) {
	t.Helper()
	pgtest.Eventually(t, 30*time.Second, "the unit changes hands", func() bool {
		e, ok, err := l.Take(t.Context(), unit)
		epoch = e
		return err == nil && ok
	})
	return epoch
}

func TestLease_OneHolderAndGrowingEpochs(t *testing.T) {
	leaseKinds(t, func(t *testing.T, db *pgq.DB, kind pgq.LeaseKind) {
		a, b := newLeases(t, db, "a", time.Minute, kind), newLeases(t, db, "b", time.Minute, kind)
		first := taken(t, a, "u")
		if again := taken(t, a, "u"); again != first {
			t.Errorf("the holder takes again: epoch %d, want %d", again, first)
		}
		refused(t, b, "u")
		other := taken(t, b, "other")
		if lost, err := a.Renew(t.Context()); err != nil || len(lost) > 0 {
			t.Errorf("renew: got %v, %v", lost, err)
		}
		if err := a.Release(t.Context(), "u"); err != nil {
			t.Fatal(err)
		}
		if second := taken(t, b, "u"); second <= first {
			t.Errorf("epoch %d after %d, want a larger one", second, first)
		}
		refused(t, a, "u")
		if err := pgq.Fence(t.Context(), db, "u", first, 0); !errors.Is(err, pgq.ErrLeaseLost) {
			t.Errorf("fence of the old epoch: got %v, want ErrLeaseLost", err)
		}
		if err := pgq.Fence(t.Context(), db, "other", other, 0); err != nil {
			t.Errorf("fence of the current epoch: %v", err)
		}
	})
}

// A holder whose session ends loses its units at once, however long its time to live is.
func TestLease_SessionEnds(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	a, b := newLeases(t, db, "a", time.Minute, pgq.SessionLease), newLeases(t, db, "b", time.Minute, pgq.SessionLease)
	first := taken(t, a, "u")
	refused(t, b, "u")
	must(t)(db.Exec(t.Context(), `select pg_terminate_backend(l.pid) from pg_locks l
		where l.locktype = 'advisory' and l.granted and l.mode = 'ExclusiveLock'
		  and l.database = (select oid from pg_database where datname = current_database())
		  and l.classid::int8 << 32 | l.objid::int8 = pgq.lease_key('u')`))
	takenInTheEnd(t, b, "u")
	if _, err := a.Renew(t.Context()); !errors.Is(err, pgq.ErrLeaseLost) {
		t.Errorf("renew after the session ended: got %v, want ErrLeaseLost", err)
	}
	if err := pgq.Fence(t.Context(), db, "u", first, 0); !errors.Is(err, pgq.ErrLeaseLost) {
		t.Errorf("fence: got %v, want ErrLeaseLost", err)
	}
	refused(t, a, "u")
}

// The network to the holder dies without a word: the server lets go of its locks by itself.
func TestLease_BlackHoledHolder(t *testing.T) {
	leaseKinds(t, func(t *testing.T, db *pgq.DB, kind pgq.LeaseKind) {
		dsn := db.Config().ConnString()
		proxy := pgtest.NewProxy(t, dsn)
		a := newLeases(t, open(t, proxy.DSN(dsn)), "a", time.Second, kind)
		b := newLeases(t, db, "b", time.Second, kind)
		first := taken(t, a, "u")
		proxy.Freeze()
		second := takenInTheEnd(t, b, "u")
		if _, err := a.Renew(t.Context()); !errors.Is(err, pgq.ErrLeaseLost) {
			t.Errorf("renew through a dead network: got %v, want ErrLeaseLost", err)
		}
		proxy.Thaw()
		if err := pgq.Fence(t.Context(), db, "u", first, 0); !errors.Is(err, pgq.ErrLeaseLost) || second <= first {
			t.Errorf("fence of epoch %d after %d: got %v, want ErrLeaseLost", first, second, err)
		}
	})
}

// While a fenced transaction of the old holder is open nobody gets the unit, and renewals go on.
func TestLease_OpenTransactionKeepsTheUnit(t *testing.T) {
	leaseKinds(t, func(t *testing.T, db *pgq.DB, kind pgq.LeaseKind) {
		a, b := newLeases(t, db, "a", time.Second, kind), newLeases(t, db, "b", time.Second, kind)
		epoch := taken(t, a, "u")
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		must(t)(nil, pgq.Fence(t.Context(), tx, "u", epoch, 0))
		if lost, err := a.Renew(t.Context()); err != nil || len(lost) > 0 {
			t.Errorf("renew beside an open transaction: got %v, %v", lost, err)
		}
		a.Close() // the session ends; the time runs out
		pgtest.Eventually(t, 30*time.Second, "the lease is over", func() bool {
			var over bool
			must(t)(nil, db.QueryRow(t.Context(), `select coalesce(l.lease_expires < clock_timestamp(), true) and not exists (
				select from pg_locks p where p.locktype = 'advisory' and p.objid::int8 = pgq.lease_key('u') & 4294967295)
				from pgq.lease l where l.lease_unit = 'u'`).Scan(&over))
			return over
		})
		refused(t, b, "u")
		must(t)(nil, tx.Commit(t.Context()))
		takenInTheEnd(t, b, "u")
	})
}

// A transaction whose snapshot is older than the change of hands is refused as well.
func TestLease_OldSnapshotIsFencedOff(t *testing.T) {
	leaseKinds(t, func(t *testing.T, db *pgq.DB, kind pgq.LeaseKind) {
		a, b := newLeases(t, db, "a", time.Minute, kind), newLeases(t, db, "b", time.Minute, kind)
		epoch := taken(t, a, "u")
		tx, err := db.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.Background()) }()
		must(t)(tx.Exec(t.Context(), "select from pgq.lease"))
		must(t)(nil, a.Release(t.Context(), "u"))
		taken(t, b, "u")
		if err := pgq.Fence(t.Context(), tx, "u", epoch, 0); err == nil {
			t.Error("the fence let an old epoch pass under an old snapshot")
		}
	})
}

// Daemons that are configured differently still respect each other.
func TestLease_KindsRespectEachOther(t *testing.T) {
	t.Parallel()
	db := open(t, newSkyd(t))
	session := newLeases(t, db, "session", time.Minute, pgq.SessionLease)
	timed := newLeases(t, db, "timed", time.Minute, pgq.TimedLease)
	taken(t, session, "s")
	refused(t, timed, "s")
	taken(t, timed, "t")
	refused(t, session, "t")
	must(t)(nil, session.Release(t.Context(), "s"))
	taken(t, timed, "s")
	must(t)(nil, timed.Release(t.Context(), "t"))
	taken(t, session, "t")
}

// Several holders fight for one unit, pause beyond their time to live, and write under it: no write is made under an
// epoch that is over, and the epochs of the writes never go back.
func TestLease_NoStaleWrite(t *testing.T) {
	leaseKinds(t, func(t *testing.T, db *pgq.DB, kind pgq.LeaseKind) {
		must(t)(db.Exec(t.Context(), `create table public.work (id int8 generated always as identity, epoch int8)`))
		var writes, fenced atomic.Int64
		done := make(chan struct{})
		defer close(done)
		for _, holder := range []string{"a", "b", "c"} {
			l := newLeases(t, db, holder, 300*time.Millisecond, kind)
			go func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					epoch, ok, err := l.Take(t.Context(), "u")
					if err != nil || !ok {
						continue
					}
					// Never renewed: the lease runs out between two writes of one holder again and again. A new
					// owner of leases forgets what it held, as a restarted daemon does.
					if err := workUnder(t.Context(), db, epoch); err == nil {
						writes.Add(1)
					} else if errors.Is(err, pgq.ErrLeaseLost) {
						fenced.Add(1)
						l.Close()
					}
				}
			}()
		}
		pgtest.Eventually(t, time.Minute, "enough writes and fenced ones", func() bool {
			return writes.Load() > 100 && (fenced.Load() > 3 || kind == pgq.SessionLease)
		})
		rows, _ := db.Query(t.Context(), `select epoch from public.work order by id`)
		epochs, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil || !slices.IsSorted(epochs) {
			t.Errorf("epochs of the writes in their order: %v, %v; want them to grow", epochs, err)
		}
	})
}

// workUnder writes one row under an epoch.
func workUnder(ctx context.Context, db *pgq.DB, epoch int64) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := pgq.Fence(ctx, tx, "u", epoch, 0); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into public.work (epoch) values ($1)`, epoch)
		return err
	})
}

// Beside a PgQ without our additions the locks alone decide.
func TestLease_WithoutOurSchema(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.Empty(t).DSN)
	a, b := newLeases(t, db, "a", time.Minute, pgq.SessionLease), newLeases(t, db, "b", time.Minute, pgq.SessionLease)
	if epoch := taken(t, a, "u"); epoch != 0 {
		t.Errorf("epoch %d, want 0: nobody counts here", epoch)
	}
	refused(t, b, "u")
	must(t)(nil, pgq.Fence(t.Context(), db, "u", 0, 0))
	must(t)(nil, a.Release(t.Context(), "u"))
	taken(t, b, "u")
}

// A timed lease that was dropped with its connection is taken up again at once, by the same epoch, unless somebody had it.
func TestLease_TakenUpAgainAfterALostConnection(t *testing.T) {
	direct := open(t, newSkyd(t))
	proxy := pgtest.NewProxy(t, direct.Config().ConnString())
	through := open(t, proxy.DSN(direct.Config().ConnString()))
	old := pgq.NewLeases(through, "a", time.Hour, pgq.TimedLease)
	epoch := taken(t, old, "kept")
	taken(t, old, "stolen")
	proxy.Refuse()
	proxy.Reset()
	if _, err := old.Renew(t.Context()); !errors.Is(err, pgq.ErrLeaseLost) {
		t.Fatalf("got %v", err)
	}
	old.Close()
	proxy.Heal()
	must(t)(direct.Exec(t.Context(), `update pgq.lease set lease_epoch = lease_epoch + 1, lease_holder = 'b' where lease_unit = 'stolen'`))
	l := newLeases(t, through, "a", time.Hour, pgq.TimedLease)
	refused(t, l, "kept") // nothing is known of it yet
	l.Inherit(old)
	if again := taken(t, l, "kept"); again != epoch {
		t.Errorf("got epoch %d, want %d", again, epoch)
	}
	refused(t, l, "stolen")
}

func TestOutage(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{context.Canceled, false},
		{context.DeadlineExceeded, true},
		{io.ErrUnexpectedEOF, true},
		{&pgconn.PgError{Code: "25006"}, true},
		{&pgconn.PgError{Code: "53100"}, true},
		{&pgconn.PgError{Code: "57P03"}, true},
		{&pgconn.PgError{Code: "22012"}, false},
		{&pgconn.PgError{Code: "40001"}, false},
		{&pgconn.PgError{Code: "42501"}, false},
	} {
		if got := pgq.Outage(c.err); got != c.want {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
}
