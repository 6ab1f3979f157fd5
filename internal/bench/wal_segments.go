package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// archive is the directory that holds what a row has archived.
func (w *archivists) archive(row string) string {
	switch row {
	case rowCopy:
		return w.path("cp")
	case rowSkydWAL:
		return w.path("skyd", "bench", "wal")
	}
	return w.path("backrest", "repo", "archive", "bench")
}

// clear removes the segments from the archive of a row, and leaves what says whose it is.
func (w *archivists) clear(row string) error {
	var dirs []string
	for _, pattern := range []string{"0*", "*/0*"} {
		found, err := filepath.Glob(filepath.Join(w.archive(row), pattern))
		if err != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	if row == rowBackRestTwo {
		dirs = append(dirs, w.path("backrest", "spool", "archive"))
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// pusher has the archiver drain the segments with the command of a row.
func (w *archivists) pusher(row string) contender {
	return contender{
		reset: func(ctx context.Context) error { return w.refill(ctx, row) },
		run:   func(ctx context.Context) (figures, error) { return w.drain(ctx, row) },
	}
}

// refill makes all segments wait for the archiver again, with the archive of a row empty.
func (w *archivists) refill(ctx context.Context, row string) error {
	if err := w.archiveWith(ctx, ""); err != nil {
		return err
	}
	if err := errors.Join(w.clear(row), w.flush()); err != nil {
		return err
	}
	for _, name := range w.names {
		path := filepath.Join(w.status(), name)
		if err := os.Rename(path+".done", path+".ready"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	w.filled = map[string]bool{rowBackRest: w.filled[rowBackRest] && row != rowBackRestTwo, rowBackRestTwo: w.filled[rowBackRestTwo] && row != rowBackRest,
		rowCopy: w.filled[rowCopy], rowSkydWAL: w.filled[rowSkydWAL]}
	return nil
}

// flush writes everything to disk, so that nobody pays for what others have written.
func (w *archivists) flush() error {
	if w.sizes.noSlow {
		return nil
	}
	return exec.Command("sync").Run()
}

// drain lets the archiver archive everything.
func (w *archivists) drain(ctx context.Context, row string) (figures, error) {
	archiver, err := get[int](ctx, w.conn, "select pid from pg_catalog.pg_stat_activity where backend_type = 'archiver'")
	if err != nil {
		return nil, err
	}
	before, daemon, begin := cpuOf(archiver), w.daemonCPU(), time.Now()
	if err := w.archiveWith(ctx, w.command[row]); err != nil {
		return nil, err
	}
	if err := w.settled(ctx); err != nil {
		return nil, err
	}
	took, cpu := time.Since(begin), cpuOf(archiver).children-before.children
	f := figures{figWallMS: milliseconds(took, len(w.names)), figStored: treeMB(w.archive(row))}
	if row == rowSkydWAL {
		cpu += w.daemonCPU() - daemon
	}
	if row != rowBackRestTwo {
		f[figCPUMS] = milliseconds(cpu, len(w.names))
	}
	w.filled[row] = true
	if row == rowBackRest || row == rowBackRestTwo { // one archive, two ways to it
		w.filled[rowBackRest], w.filled[rowBackRestTwo] = true, true
	}
	return f, w.archiveWith(ctx, "true")
}

// restoreCommand is the restore_command of a row for the server in a directory.
func (w *archivists) restoreCommand(row, dir string) string {
	switch row {
	case rowCopy:
		return "cp " + w.path("cp") + "/%f %p"
	case rowSkydWAL:
		push, _, _ := strings.Cut(w.command[row], "%p")
		return strings.Replace(push, " push ", " fetch ", 1) + "%f %p"
	}
	config := "sync.conf"
	if row == rowBackRestTwo {
		config = "async.conf"
	}
	return shell("pgbackrest", w.backRest(config, "--pg1-path="+dir, "archive-get")...) + " %f %p"
}

// fetcher has a server recover all segments.
func (w *archivists) fetcher(row string) contender {
	var dir string
	return contender{
		reset: func(ctx context.Context) (err error) {
			if !w.filled[row] {
				if err := w.refill(ctx, row); err != nil {
					return err
				}
				if _, err := w.drain(ctx, row); err != nil {
					return err
				}
			}
			dir, err = w.recovering(ctx, row)
			return err
		},
		run: func(ctx context.Context) (figures, error) { return w.recover(ctx, dir) },
	}
}

// recovering makes a data directory that is to recover up to the end of the segments, and to shut down there.
func (w *archivists) recovering(ctx context.Context, row string) (string, error) {
	dir := w.fresh("recovery")
	if _, err := w.do(ctx, "cp", "-a", w.path("base"), dir); err != nil {
		return "", err
	}
	text := fmt.Sprintf("archive_mode = off\nlisten_addresses = ''\nunix_socket_directories = '.'\nrestore_command = '%s'\n"+
		"recovery_target_lsn = '%s'\nrecovery_target_action = shutdown\n", strings.ReplaceAll(w.restoreCommand(row, dir), "'", "''"), w.target)
	conf := filepath.Join(dir, "postgresql.auto.conf")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return "", err
	}
	signal := filepath.Join(dir, "recovery.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		return "", err
	}
	return dir, errors.Join(w.cluster.Own(conf), w.cluster.Own(signal), w.flush())
}

// fresh names a directory that nobody has used.
func (w *archivists) fresh(stem string) string {
	w.rounds++
	return w.path(stem + "-" + strconv.Itoa(w.rounds))
}

// recover runs the server until it has shut down at the target.
func (w *archivists) recover(ctx context.Context, dir string) (figures, error) {
	cmd := w.cluster.Command(filepath.Join(w.cluster.Binaries.Dir, "postgres"), "-D", dir, "-p", strconv.Itoa(w.cluster.Port+1))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	daemon, begin := w.daemonCPU(), time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	err := cmd.Wait()
	took := time.Since(begin)
	if err != nil && !strings.Contains(out.String(), "shutdown at recovery target") || !strings.Contains(out.String(), "recovery stopping") {
		text := out.String()
		return nil, fmt.Errorf("the recovery did not reach its target: %w: %s", orEnded(err), text[max(0, len(text)-2000):])
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + w.daemonCPU() - daemon
	return figures{figWallMS: milliseconds(took, len(w.names)), figCPUMS: milliseconds(cpu, len(w.names))}, os.RemoveAll(dir)
}

// orEnded is an error also where there is none.
func orEnded(err error) error {
	if err == nil {
		return errors.New("it ended")
	}
	return err
}

// small is how often what takes milliseconds is done in one round.
func (w *archivists) small() int {
	if w.sizes.noSlow {
		return 2
	}
	return 20
}

// misser asks for a segment that does not exist.
func (w *archivists) misser(row string) contender {
	return contender{run: func(ctx context.Context) (figures, error) {
		name, dir := "0000000100000FFF000000AA", w.cluster.DataDir()
		command := strings.NewReplacer("%f", name, "%p", "pg_wal/RECOVERYXLOG").Replace(w.restoreCommand(row, dir))
		return w.times(w.small(), func() *exec.Cmd {
			cmd := w.cluster.Command("sh", "-c", command)
			cmd.Dir = dir
			return cmd
		}, 1)
	}}
}

// starter starts the program of a row with nothing to do.
func (w *archivists) starter(row string) contender {
	program, exit := []string{"true"}, 0
	switch row {
	case rowBackRest:
		program = []string{"pgbackrest", "version"}
	case rowSkydWAL:
		program, exit = []string{filepath.Join(w.bin, "skyd-wal"), "push"}, 2
	}
	return contender{run: func(context.Context) (figures, error) {
		return w.times(w.small(), func() *exec.Cmd { return w.cluster.Command(program[0], program[1:]...) }, exit)
	}}
}

// times runs a command so often and expects the exit code.
func (w *archivists) times(n int, command func() *exec.Cmd, exit int) (figures, error) {
	var cpu time.Duration
	daemon, begin := w.daemonCPU(), time.Now()
	for range n {
		cmd := command()
		err := cmd.Run()
		if cmd.ProcessState == nil {
			return nil, err
		}
		if got := cmd.ProcessState.ExitCode(); got != exit {
			return nil, fmt.Errorf("exit code %d instead of %d", got, exit)
		}
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	took := time.Since(begin)
	cpu += w.daemonCPU() - daemon
	return figures{figWallMS: milliseconds(took, n), figCPUMS: milliseconds(cpu, n)}, nil
}

// stream is a receiver that runs.
type stream struct {
	cmd *exec.Cmd
	out io.ReadCloser
	err strings.Builder
}

// receiving starts the receiver of a row on a slot that begins at the first segment; fresh forgets what it received before.
func (w *archivists) receiving(row, until string) (*stream, error) {
	var args []string
	program := filepath.Join(w.cluster.Binaries.Dir, "pg_receivewal")
	switch row {
	case rowReceiveWAL:
		dir := w.fresh("receivewal")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		if err := w.cluster.Own(dir); err != nil {
			return nil, err
		}
		args = []string{"-h", w.dir, "-p", strconv.Itoa(w.cluster.Port), "-U", "postgres", "-D", dir, "-S", "bench_run", "--no-loop"}
		if until != "" {
			args = append(args, "--endpos", until)
		} else {
			args = append(args, "--synchronous")
		}
	default:
		for _, dir := range []string{w.path("skyd", "received", "wal"), w.path("state", "received", "receive")} {
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
		}
		program = w.skyd()
		args = []string{"wal", "receive", "--config", w.config, "--source", "received", "--slot", "bench_run", "--application-name", "pg_receivewal",
			"--output", "json"}
		if until != "" {
			args = append(args, "--until", until)
		}
	}
	s := &stream{cmd: w.cluster.Command(program, args...)}
	s.cmd.Stderr = &s.err
	var err error
	if s.out, err = s.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return s, s.cmd.Start()
}

// slot makes the slot of one run: from the begin of the segments, or from now.
func (w *archivists) slot(ctx context.Context, old bool) error {
	const (
		busy = `select count(*)::int from pg_catalog.pg_replication_slots where slot_name = 'bench_run' and active`
		drop = `select pg_catalog.pg_drop_replication_slot(slot_name) from pg_catalog.pg_replication_slots where slot_name = 'bench_run'`
	)
	for { // the server may not have noticed yet that the receiver has ended
		n, err := get[int](ctx, w.conn, busy)
		if err == nil && n == 0 {
			break
		}
		if err == nil {
			err = pause(ctx, 20*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
	if _, err := w.conn.Exec(ctx, drop); err != nil {
		return err
	}
	make := `select pg_catalog.pg_create_physical_replication_slot('bench_run', true)`
	if old {
		make = `select pg_catalog.pg_copy_physical_replication_slot('bench_keep', 'bench_run')`
	}
	_, err := w.conn.Exec(ctx, make)
	return err
}

// receiver receives all segments.
func (w *archivists) receiver(row string) contender {
	return contender{
		reset: func(ctx context.Context) error { return errors.Join(w.slot(ctx, true), w.flush()) },
		run: func(ctx context.Context) (figures, error) {
			begin := time.Now()
			s, err := w.receiving(row, w.until)
			if err != nil {
				return nil, err
			}
			defer context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })()
			took, err := s.flushed(w.until)
			if took.IsZero() && err == nil {
				took = time.Now()
			}
			if werr := s.cmd.Wait(); err == nil {
				err = werr
			}
			if row == rowReceiveWAL {
				took = time.Now()
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %s", err, s.err.String())
			}
			cpu := s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()
			return figures{figWallMS: milliseconds(took.Sub(begin), len(w.names)), figCPUMS: milliseconds(cpu, len(w.names))}, nil
		},
	}
}

// flushed reads what skyd says and gives the moment at which it had synced everything up to a position. It reads on until
// the receiver ends.
func (s *stream) flushed(until string) (at time.Time, err error) {
	want, err := position(until)
	if err != nil {
		return at, err
	}
	err = eachStatus(s.out, func(flushed string) error {
		got, err := position(flushed)
		if err == nil && got >= want && at.IsZero() {
			at = time.Now()
		}
		return err
	})
	return at, err
}

// position parses an LSN.
func position(text string) (uint64, error) {
	high, low, ok := strings.Cut(text, "/")
	h, herr := strconv.ParseUint(high, 16, 32)
	l, lerr := strconv.ParseUint(low, 16, 32)
	if !ok || herr != nil || lerr != nil {
		return 0, fmt.Errorf("position %q is not understood", text)
	}
	return h<<32 | l, nil
}

// committer makes transactions that wait for the receiver of a row.
func (w *archivists) committer(row string) contender {
	return contender{
		reset: func(ctx context.Context) error { return w.slot(ctx, false) },
		run: func(ctx context.Context) (f figures, err error) {
			if row == rowNobody {
				return w.commits(ctx)
			}
			s, err := w.receiving(row, "")
			if err != nil {
				return nil, err
			}
			drained := make(chan struct{})
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, s.out) // ends with the receiver
			}()
			defer func() {
				err = errors.Join(err, w.setSync(context.WithoutCancel(ctx), ""))
				_ = s.cmd.Process.Signal(os.Interrupt) // when it has ended, Wait says so
				<-drained
				_ = s.cmd.Wait()
			}()
			if err := w.setSync(ctx, "pg_receivewal"); err != nil {
				return nil, err
			}
			if err := w.synchronous(ctx, s); err != nil {
				return nil, err
			}
			return w.commits(ctx)
		},
	}
}

func (w *archivists) setSync(ctx context.Context, names string) error {
	_, err := w.conn.Exec(ctx, "alter system set synchronous_standby_names = '"+names+"'")
	if err == nil {
		_, err = w.conn.Exec(ctx, "select pg_catalog.pg_reload_conf()")
	}
	return err
}

// synchronous waits until the receiver counts as synchronous standby.
func (w *archivists) synchronous(ctx context.Context, s *stream) error {
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		n, err := get[int](limit, w.conn, "select count(*)::int from pg_catalog.pg_stat_replication where sync_state = 'sync' and state = 'streaming'")
		if err == nil && n == 1 {
			return nil
		}
		if err == nil {
			err = pause(limit, 5*time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("the receiver is no synchronous standby: %w: %s", err, s.err.String())
		}
	}
}

// commits makes the transactions of one round.
func (w *archivists) commits(ctx context.Context) (figures, error) {
	const clients = 8
	if _, err := w.conn.Exec(ctx, "drop table if exists bench_commits"); err != nil {
		return nil, err
	}
	if _, err := w.conn.Exec(ctx, "create table bench_commits (client int, n int)"); err != nil {
		return nil, err
	}
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		c, err := connect(ctx, w.cluster.SocketDSN("postgres"))
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
		conns[i] = c
	}
	begin, failed := time.Now(), make(chan error, clients)
	for i, c := range conns {
		go func() { // ends after its transactions
			var err error
			for n := 0; n < w.sizes.commits && err == nil; n++ {
				_, err = c.Exec(ctx, "insert into bench_commits values ($1, $2)", i, n)
			}
			failed <- err
		}()
	}
	var err error
	for range clients {
		err = errors.Join(err, <-failed)
	}
	return figures{figWallMS: milliseconds(time.Since(begin), clients*w.sizes.commits)}, err
}
