package walarchive_test

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// newServer runs a server of its own whose WAL can be streamed.
func newServer(t *testing.T, settings map[string]string) *pgserver.Cluster {
	t.Helper()
	c := newCluster(t, settings)
	startServer(t, c)
	return c
}

// newCluster makes such a server without starting it.
func newCluster(t *testing.T, settings map[string]string) *pgserver.Cluster {
	t.Helper()
	b, err := pgserver.Find()
	if err != nil {
		pgtest.Missing(t, err.Error())
	}
	all := map[string]string{"wal_level": "replica", "full_page_writes": "on", "max_wal_senders": "10", "autovacuum": "off"}
	for k, v := range settings {
		all[k] = v
	}
	c, err := pgserver.New(t.Context(), b, pgserver.Options{Settings: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Errorf("remove server: %v", err)
		}
	})
	return c
}

// startServer starts a server.
func startServer(t *testing.T, c *pgserver.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// makeRepo makes an empty repository in a directory of its own.
func makeRepo(t *testing.T, o walarchive.RepoOptions) *walarchive.Repo {
	t.Helper()
	return newRepo(t, dirStorage(t, filepath.Join(t.TempDir(), "repo")), o)
}

// connect opens a session.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// sql runs statements, one after the other.
func sql(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	c := connect(t, dsn)
	for _, s := range statements {
		if _, err := c.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// scalar reads one text value.
func scalar(t *testing.T, dsn, query string) string {
	t.Helper()
	c := connect(t, dsn)
	var text string
	if err := c.QueryRow(t.Context(), query).Scan(&text); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return text
}

// receiving is a receiver in the background.
type receiving struct {
	*walarchive.Receiver
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

// receive starts a receiver that reconnects by itself, as its actor does.
func receive(t *testing.T, r *walarchive.Repo, o walarchive.ReceiverOptions) *receiving {
	t.Helper()
	if o.StateDir == "" {
		o.StateDir = t.TempDir()
	}
	if o.PartialInterval == 0 {
		o.PartialInterval = 50 * time.Millisecond
	}
	o.Note = func(text string) { t.Log("receiver:", text) }
	ctx, cancel := context.WithCancel(t.Context())
	rc := &receiving{Receiver: walarchive.NewReceiver(r, o), t: t, stop: cancel, done: make(chan error, 1)}
	go func() {
		for {
			err := rc.Run(ctx)
			if ctx.Err() != nil || err == nil {
				rc.done <- err
				return
			}
			t.Log("receiver:", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { rc.end() })
	return rc
}

// end stops the receiver and waits for it.
func (rc *receiving) end() {
	rc.stop()
	err := <-rc.done
	rc.done <- err
}

// until waits until the repository holds everything before a position.
func (rc *receiving) until(at walarchive.LSN) {
	rc.t.Helper()
	pgtest.Eventually(rc.t, patience, fmt.Sprintf("WAL up to %s stored (%+v)", at, rc.Status()), func() bool { return rc.Status().Stored >= at })
}

// streaming waits until the receiver is connected.
func (rc *receiving) streaming() {
	rc.t.Helper()
	pgtest.Eventually(rc.t, patience, "receiver connected", func() bool { return rc.Status().Connected })
}

// position is the end of a server's WAL.
func position(t *testing.T, dsn string) walarchive.LSN {
	t.Helper()
	at, err := walarchive.ParseLSN(scalar(t, dsn, "select pg_catalog.pg_current_wal_insert_lsn()::text"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// serverTool runs a program of PostgreSQL as the user of the server.
func serverTool(t *testing.T, c *pgserver.Cluster, name string, args ...string) (string, error) {
	t.Helper()
	cmd, err := c.Binaries.Command(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// fileURL is the address of a directory as a storage.
func fileURL(dir string) *url.URL { return &url.URL{Scheme: "file", Path: dir} }
