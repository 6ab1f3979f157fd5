package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// server is the throw-away server.
type server struct {
	dir   string // all of it
	bin   string
	owner *syscall.Credential // nil: this user
	cmd   *exec.Cmd
	done  chan struct{}
	end   error // of the process, when done is closed
}

// port is only a part of the socket's name: nothing listens on the network.
const port = "5432"

// dataDir is the data directory.
func (s *server) dataDir() string { return filepath.Join(s.dir, "data") }

// packages are the places where packages put the programs of a version.
var packages = []string{
	"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin", "/usr/libexec/postgresql%d", "/opt/homebrew/opt/postgresql@%d/bin",
	"/usr/local/opt/postgresql@%d/bin", "/Applications/Postgres.app/Contents/Versions/%d/bin",
}

// versionForm finds the version in what postgres says of itself.
var versionForm = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// ErrNoPrograms is returned when the server's programs are not on this host.
var ErrNoPrograms = errors.New("the programs of the server are not on this host")

// programs finds the directory with the programs of a major version; dir, when it is given, is the only place.
func programs(ctx context.Context, dir string, major int) (string, error) {
	places := []string{dir}
	if dir == "" {
		places = nil
		for _, form := range packages {
			places = append(places, fmt.Sprintf(form, major))
		}
		if path, err := exec.LookPath("postgres"); err == nil {
			places = append(places, filepath.Dir(path))
		}
	}
	for _, place := range places {
		out, err := exec.CommandContext(ctx, filepath.Join(place, "postgres"), "--version").Output()
		if m := versionForm.FindSubmatch(out); err == nil && m != nil && string(m[1]) == strconv.Itoa(major) {
			return place, nil
		}
	}
	return "", fmt.Errorf("%w: PostgreSQL %d (set drill.bin_dir)", ErrNoPrograms, major)
}

// account is the user that the server is to run as: PostgreSQL refuses root. pgdata tells who runs the real one.
func account(pgdata string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(pgdata); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return &syscall.Credential{Uid: st.Uid, Gid: st.Gid}, nil
		}
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("the server cannot run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// prefix begins the names of the directories of drills.
const prefix = "skyd-drill-"

// place makes the directory of a drill below parent, and clears away what drills that were killed left there, with their
// servers.
func place(parent, source string, owner *syscall.Credential) (string, error) {
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(parent, prefix+source+"-*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if err := clear(dir); err != nil {
			return "", err
		}
	}
	dir, err := os.MkdirTemp(parent, prefix+source+"-")
	if err == nil && owner != nil {
		err = os.Chown(dir, int(owner.Uid), int(owner.Gid))
	}
	return dir, err
}

// clear ends the server in a directory of a drill, if one runs there, and removes the directory.
func clear(dir string) error {
	data := filepath.Join(dir, "data")
	for range 100 {
		text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		first, _, _ := bytes.Cut(text, []byte("\n"))
		pid, err := strconv.Atoi(string(bytes.TrimSpace(first)))
		if err != nil || pid <= 1 {
			break
		}
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != data {
			break // it is dead; the number may be another one's
		}
		if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		<-time.After(50 * time.Millisecond)
	}
	return os.RemoveAll(dir)
}

// command prepares a program of the server, as the user that it runs as and without the PG variables of this process.
func (s *server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dataDir()
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "PG") && !strings.HasPrefix(e, "LC_") && !strings.HasPrefix(e, "LANG") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.owner}
	return cmd
}

// files writes the configuration: nothing of the original's but what recovery needs.
func (s *server) files() error {
	for name, text := range map[string]string{"postgresql.conf": "", "pg_hba.conf": "local all all trust\n", "pg_ident.conf": ""} {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		if s.owner != nil {
			if err := os.Chown(path, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts the server; settings on the command line win over what the restored cluster has in postgresql.auto.conf. It
// listens on a socket only, archives nothing, and starts no subscription of the original.
func (s *server) start(ctx context.Context, settings map[string]string) error {
	if err := s.files(); err != nil {
		return err
	}
	all := map[string]string{
		"config_file": filepath.Join(s.dir, "postgresql.conf"), "hba_file": filepath.Join(s.dir, "pg_hba.conf"),
		"ident_file": filepath.Join(s.dir, "pg_ident.conf"), "listen_addresses": "", "port": port, "unix_socket_directories": s.dir,
		"unix_socket_group": "", "ssl": "off", "logging_collector": "off", "log_destination": "stderr", "archive_mode": "off",
		"fsync": "off", "shared_preload_libraries": "", "session_preload_libraries": "", "local_preload_libraries": "",
		"synchronous_standby_names": "", "primary_conninfo": "", "primary_slot_name": "", "max_logical_replication_workers": "0",
		"autovacuum": "off", "hot_standby": "on", "recovery_target_action": "promote", "external_pid_file": "", "huge_pages": "off",
		"shared_buffers": "64MB", "cluster_name": "skyd_drill",
	}
	for name, value := range settings {
		all[name] = value
	}
	args := []string{"-D", s.dataDir()}
	for name, value := range all {
		args = append(args, "-c", name+"="+value)
	}
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	s.cmd = s.command(context.WithoutCancel(ctx), "postgres", args...) // stop ends it
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		s.end = s.cmd.Wait()
		close(s.done)
	}()
	return nil
}

// stop ends the server: clean, or at once.
func (s *server) stop(ctx context.Context, clean bool) error {
	if s.cmd == nil || s.cmd.Process == nil {
		return nil
	}
	sig := syscall.SIGQUIT
	if clean {
		sig = syscall.SIGINT
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-s.done:
	case <-ctx.Done():
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
		return fmt.Errorf("the server did not stop: %w", context.Cause(ctx))
	}
	if clean {
		return s.end
	}
	return nil
}

// logTail is the end of what the server wrote.
func (s *server) logTail() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], " | ")
}

// connect opens a session.
func (s *server) connect(ctx context.Context, database, role string) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig("")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port, c.Database, c.User, c.Password, c.TLSConfig, c.Fallbacks = s.dir, 5432, database, role, "", nil, nil
	c.RuntimeParams = map[string]string{"application_name": "skyd drill", "statement_timeout": "0", "search_path": "pg_catalog"}
	return pgx.ConnectConfig(ctx, c)
}
