package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options change what New makes. The zero value is a server for tests.
type Options struct {
	// Dir is where the cluster lives; it must not exist or be empty.
	// Default: a new directory in the temporary directory.
	Dir string
	// Settings are added to postgresql.conf and win over our own. The port
	// and the place of the socket are not among them.
	Settings map[string]string
	// Fsync makes the server survive a crash of the machine. Default: it
	// only survives the death of its processes, and is much faster.
	Fsync bool
	// NoCache makes nothing outside of Dir: a kept result of initdb is used if
	// there is one, but not made. Default: the next cluster starts faster.
	NoCache bool
}

// Cluster is one PostgreSQL server with its own data directory.
type Cluster struct {
	// Dir holds everything of this cluster: data, socket, log.
	Dir string
	// Port is the TCP port on 127.0.0.1, the same over restarts.
	Port int
	// Binaries are the programs the cluster runs.
	Binaries Binaries

	acc    *account
	unlock func()

	mu      sync.Mutex
	proc    *process // nil while not running
	started bool     // has run before: its port is known to others
	frozen  bool
	removed bool
}

// process is one life of the postmaster.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended
	err  error         // why; valid when done is closed
}

// DataDir is the data directory (PGDATA) of the cluster.
func (c *Cluster) DataDir() string { return filepath.Join(c.Dir, "data") }

// LogPath is the file the server logs to.
func (c *Cluster) LogPath() string { return filepath.Join(c.Dir, "server.log") }

// New makes a cluster on disk; Start runs it. The superuser is postgres, all
// local connections are trusted, encoding is UTF8, locale C, time zone UTC.
func New(ctx context.Context, b Binaries, o Options) (*Cluster, error) {
	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	base, err := tempBase(acc)
	if err != nil {
		return nil, err
	}
	sweep(base)
	tmpl := keptTemplate(b, base)
	if tmpl == "" && !o.NoCache {
		if tmpl, err = template(ctx, b, acc, base); err != nil {
			return nil, err
		}
	}
	c := &Cluster{Dir: o.Dir, Binaries: b, acc: acc}
	if err := c.prepare(base); err != nil {
		return nil, err
	}
	if err := c.fill(ctx, tmpl, o); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// prepare makes the cluster's directory and marks it as in use.
func (c *Cluster) prepare(base string) error {
	if c.Dir == "" {
		dir, err := os.MkdirTemp(base, "skyd-pg-")
		if err != nil {
			return err
		}
		c.Dir = dir
	} else {
		dir, err := filepath.Abs(c.Dir)
		if err != nil {
			return err
		}
		c.Dir = dir
		if err := os.MkdirAll(c.Dir, 0o700); err != nil {
			return err
		}
		entries, err := os.ReadDir(c.Dir)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			return fmt.Errorf("directory %s is not empty", c.Dir)
		}
		if err := c.acc.reach(filepath.Dir(c.Dir)); err != nil {
			return err
		}
	}
	unlock, err := tryLock(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return err
	}
	c.unlock = unlock
	return c.acc.own(c.Dir)
}

// fill makes the data directory, from a template if there is one, and
// configures it.
func (c *Cluster) fill(ctx context.Context, tmpl string, o Options) error {
	if err := os.Mkdir(c.DataDir(), 0o700); err != nil {
		return err
	}
	if err := c.acc.own(c.DataDir()); err != nil {
		return err
	}
	if tmpl == "" {
		if err := c.Binaries.initdb(ctx, c.DataDir()); err != nil {
			return err
		}
	} else if err := unpack(tmpl, c.DataDir(), c.acc); err != nil {
		return err
	}
	port, err := FreePort()
	if err != nil {
		return err
	}
	c.Port = port
	conf, err := os.OpenFile(filepath.Join(c.DataDir(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(configText(o))
	if cerr := conf.Close(); err == nil {
		err = cerr
	}
	return err
}

// configText is what goes to the end of postgresql.conf.
func configText(o Options) string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"max_connections":         "200",
		"shared_buffers":          "64MB",
		"unix_socket_permissions": "0700",
		"logging_collector":       "off",
		"log_line_prefix":         "%m [%p] %a ",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"jit":                     "off",
		"autovacuum_naptime":      "10s",
		// Segments of a killed server then go away with its directory.
		"dynamic_shared_memory_type": "mmap",
	}
	if !o.Fsync {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	maps.Copy(settings, o.Settings)
	var text strings.Builder
	text.WriteString("\n# throw-away server\n")
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s = '%s'\n", key, strings.ReplaceAll(settings[key], "'", "''"))
	}
	return text.String()
}

// DSN is the address of a database of this cluster over TCP, as superuser.
func (c *Cluster) DSN(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: fmt.Sprintf("127.0.0.1:%d", c.Port), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// SocketDSN is the address of a database over the unix socket, as superuser.
func (c *Cluster) SocketDSN(database string) string {
	q := url.Values{"host": {c.Dir}, "port": {strconv.Itoa(c.Port)}}
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// Start runs the server and returns when it accepts connections. It is an
// error if it runs already. When it does not come up, the error holds the end
// of the server's log.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.removed:
		return fmt.Errorf("cluster %s has been removed", c.Dir)
	case c.running():
		return fmt.Errorf("cluster %s is running already", c.Dir)
	}
	for attempt := 0; ; attempt++ {
		err := c.launch(ctx)
		if err == nil {
			c.started = true
			return nil
		}
		// Between the choice of the port and now somebody else may have
		// taken it. As long as nobody knows ours, take another.
		if c.started || attempt == 5 || !strings.Contains(err.Error(), "could not bind") {
			return err
		}
		if c.Port, err = FreePort(); err != nil {
			return err
		}
	}
}

// launch starts the postmaster and waits until it answers.
func (c *Cluster) launch(ctx context.Context) error {
	logFile, err := os.OpenFile(c.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }() // the server has its own handle
	logStart, err := logFile.Seek(0, 2)
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(c.Binaries.Dir, "postgres"), "-D", c.DataDir(), "-p", strconv.Itoa(c.Port),
		"-c", "unix_socket_directories="+c.socketDir())
	cmd.Dir, cmd.Env = c.DataDir(), serverEnv()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	setAccount(cmd, c.acc)
	if c.proc, err = run(cmd); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := c.ready(ctx); err != nil {
		_ = c.end(killTree)
		return fmt.Errorf("start PostgreSQL in %s: %w\n%s", c.Dir, err, c.logTail(logStart))
	}
	return nil
}

// socketDir is the cluster's directory, or nothing where its name is too long
// for the address of a socket.
func (c *Cluster) socketDir() string {
	if len(c.Dir) > 85 {
		return ""
	}
	return c.Dir
}

// run starts cmd from a thread that lives until cmd has ended: the kernel
// sends the parent death signal when the starting thread ends, not the
// process.
func run(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// ready waits until the server answers.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.proc.done:
			return fmt.Errorf("the server ended: %w", c.proc.err)
		case <-ctx.Done():
			return err
		case <-again.C:
		}
	}
}

// logTail returns up to 4 kB of the end of what was logged after offset from.
func (c *Cluster) logTail(from int64) string {
	text, err := os.ReadFile(c.LogPath())
	if err != nil {
		return err.Error()
	}
	text = text[min(from, int64(len(text))):]
	return string(bytes.TrimSpace(text[max(0, len(text)-4096):]))
}

// running tells whether the postmaster lives; the caller holds mu.
func (c *Cluster) running() bool {
	if c.proc == nil {
		return false
	}
	select {
	case <-c.proc.done:
		c.proc = nil
		return false
	default:
		return true
	}
}

// Running tells whether the server's main process lives.
func (c *Cluster) Running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running()
}

// Stop shuts the server down in fast mode: sessions are cut, data is written.
// When ctx ends first, the server is killed and an error returned. Stopping a
// server that does not run is no error.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stop(ctx, sigFast)
}

func (c *Cluster) stop(ctx context.Context, sig os.Signal) error {
	if !c.running() {
		return nil
	}
	p := c.proc
	if c.frozen {
		if err := thawTree(p.pid); err != nil {
			return err
		}
		c.frozen = false
	}
	proc, err := os.FindProcess(p.pid)
	if err != nil {
		return err
	}
	if err := proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal PostgreSQL: %w", err)
	}
	select {
	case <-p.done:
		c.proc = nil
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("stop PostgreSQL in %s: %w; killed it", c.Dir, ctx.Err()), c.end(killTree))
	}
}

// Kill ends all processes of the server at once with SIGKILL, as a crash
// does. Killing a server that does not run is no error.
func (c *Cluster) Kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return nil
	}
	return c.end(killTree)
}

// end applies kill to the postmaster and waits for its end.
func (c *Cluster) end(kill func(pid int) error) error {
	if !c.running() {
		return nil
	}
	if err := kill(c.proc.pid); err != nil {
		return err
	}
	<-c.proc.done
	c.proc, c.frozen = nil, false
	return nil
}

// Freeze suspends all processes of the server: connections stay open and
// nothing answers. A frozen server may be thawed, stopped or killed.
func (c *Cluster) Freeze() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return fmt.Errorf("cluster %s is not running", c.Dir)
	}
	c.frozen = true
	return freezeTree(c.proc.pid)
}

// Thaw lets a frozen server go on.
func (c *Cluster) Thaw() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return fmt.Errorf("cluster %s is not running", c.Dir)
	}
	c.frozen = false
	return thawTree(c.proc.pid)
}

// Remove ends the server without ceremony and deletes the cluster's
// directory. Removing twice is no error.
func (c *Cluster) Remove() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	c.removed = true
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := c.stop(ctx, sigImmediate)
	return errors.Join(err, discard(c.Dir, c.unlock))
}

// Account is the operating system user the server runs as when this process is
// root; else "": the user of this process.
func (c *Cluster) Account() string {
	if c.acc == nil {
		return ""
	}
	return c.acc.name
}
