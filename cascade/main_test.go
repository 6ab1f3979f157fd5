package cascade_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

// patience is how long a test waits for a fact before it fails.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// host makes a new database with pgq and pgq_node and returns its DSN.
type host func(t testing.TB) string

// skydHost has skyd's own SQL.
func skydHost(t testing.TB) string {
	t.Helper()
	return pgtest.DB(t).DSN
}

// originalHost has the original extensions, nothing else.
func originalHost(t testing.TB) string {
	t.Helper()
	return pgtest.Extension(t, "pgq_node").DSN
}

// besideHost has the original extensions and skyd's additions.
func besideHost(t testing.TB) string {
	t.Helper()
	return pgtest.Beside(t, "pgq_node").DSN
}

// onAll runs a test on every kind of host.
func onAll(t *testing.T, test func(t *testing.T, h host)) {
	t.Parallel()
	for name, h := range map[string]host{"skyd": skydHost, "original": originalHost, "beside": besideHost} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

func open(t testing.TB, dsn string, opts ...pgq.Option) *pgq.DB {
	t.Helper()
	db, err := pgq.Open(t.Context(), dsn, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// ok fails the test on an error of a call with a result.
func ok[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
