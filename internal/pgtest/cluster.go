package pgtest

import (
	"context"
	"testing"
	"time"
)

// Cluster is a whole server that belongs to one test, running when
// [NewCluster] returns it. Its methods end the test when they fail, so they
// must be called from the test's own goroutine.
type Cluster struct {
	t testing.TB
	b backend
}

// NewCluster starts a private server with the given settings (names and
// values of postgresql.conf) and removes it when the test ends. SKYD_TEST_DSN
// does not help here: somebody else's server is not ours to kill.
func NewCluster(t testing.TB, settings map[string]string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	b, err := newBackend(ctx, settings, false)
	if err != nil {
		unavailable(t, err)
	}
	return newCluster(t, b)
}

// NewContainer starts a private server in Docker from the given image and
// removes it when the test ends. Without Docker the test is skipped, or fails
// if SKYD_TEST_REQUIRE=1.
func NewContainer(t testing.TB, image string, settings map[string]string) *Cluster {
	t.Helper()
	return NewSmallContainer(t, image, settings, nil)
}

// NewSmallContainer is NewContainer with file systems in memory: the keys of
// tmpfs are directories, the values mount options such as size=32m,mode=777.
func NewSmallContainer(t testing.TB, image string, settings, tmpfs map[string]string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	b, err := runImage(ctx, image, settings, tmpfs, false)
	if err != nil {
		unavailable(t, err)
	}
	return newCluster(t, b)
}

func newCluster(t testing.TB, b backend) *Cluster {
	t.Cleanup(func() {
		if err := b.Remove(); err != nil {
			t.Errorf("remove test cluster: %v", err)
		}
	})
	return &Cluster{t: t, b: b}
}

// DSN connects to a database of the cluster as superuser. It stays the same
// over restarts.
func (c *Cluster) DSN(database string) string { return c.b.DSN(database) }

// Start runs the server again and returns when it accepts connections.
func (c *Cluster) Start() {
	c.t.Helper()
	c.within(time.Minute, "start", c.b.Start)
}

// Stop shuts the server down in fast mode: sessions are cut, data is written.
func (c *Cluster) Stop() {
	c.t.Helper()
	c.within(time.Minute, "stop", c.b.Stop)
}

// Restart stops and starts.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.Stop()
	c.Start()
}

// Kill ends all processes of the server with SIGKILL, as a crash does.
func (c *Cluster) Kill() {
	c.t.Helper()
	c.within(time.Minute, "kill", func(context.Context) error { return c.b.Kill() })
}

// Freeze suspends the server: connections stay open and nothing answers.
func (c *Cluster) Freeze() {
	c.t.Helper()
	c.within(time.Minute, "freeze", func(context.Context) error { return c.b.Freeze() })
}

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw() {
	c.t.Helper()
	c.within(time.Minute, "thaw", func(context.Context) error { return c.b.Thaw() })
}

func (c *Cluster) within(limit time.Duration, what string, f func(context.Context) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	defer cancel()
	if err := f(ctx); err != nil {
		c.t.Fatalf("%s test cluster: %v", what, err)
	}
}
