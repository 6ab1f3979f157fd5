package pgtest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgserver"
)

// NewStandby starts a hot standby of a server on this machine, which follows it
// by streaming, and removes it when the test ends. Promote it with
// pg_promote(). Without server programs here the test is skipped, or fails if
// SKYD_TEST_REQUIRE=1.
func NewStandby(t testing.TB, primary string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	b, err := pgserver.Find()
	if err != nil {
		unavailable(t, fmt.Errorf("%w: %w", errNoServer, err))
	}
	c, err := pgserver.New(ctx, b, pgserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	standby := newCluster(t, c)
	if err := os.RemoveAll(c.DataDir()); err != nil {
		t.Fatal(err)
	}
	cmd, err := b.Command(ctx, "pg_basebackup", "-D", c.DataDir(), "-d", primary, "-R", "-X", "stream", "-c", "fast", "--no-sync")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	return standby
}
