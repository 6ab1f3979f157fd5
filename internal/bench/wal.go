package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/internal/pgserver"
)

// Columns of the wal table.
const (
	figWallMS = "wall_ms"
	figCPUMS  = "cpu_ms"
	figStored = "stored_mb"
)

// Rows of the wal table.
const (
	rowCopy        = "cp"
	rowBackRest    = "pgBackRest"
	rowBackRestTwo = "pgBackRest, asynchronous"
	rowSkydWAL     = "skyd-wal and the daemon"
	rowReceiveWAL  = "pg_receivewal"
	rowReceive     = "skyd wal receive"
	rowBaseBackup  = "pg_basebackup"
	rowBackup      = "skyd wal backup"
	rowBackupIncr  = "skyd wal backup --type incr"
	rowCopyAll     = "cp -a, not synced"
	rowRestore     = "skyd wal restore"
	rowTrue        = "true"
	rowNobody      = "no standby"
)

// Sections of the wal table.
const (
	walPush    = "push, per segment"
	walFetch   = "fetch and replay, per segment"
	walAbsent  = "fetch of an absent segment"
	walStart   = "start of the client"
	walReceive = "receive, per segment"
	walCommit  = "commit that waits for the receiver, 8 clients, per commit"
	walBackup  = "full backup"
	walIncr    = "backup after 1 % of the blocks changed"
	walRestore = "restore"
)

// walTable is the table of the WAL archive.
func (r *run) walTable() tableDef {
	return tableDef{
		name: tableWAL, title: "WAL archive", sections: r.walSections,
		columns: []Column{
			{figWallMS, "wall ms", 2, true},
			{figCPUMS, "CPU ms", 2, true},
			{figStored, "stored MB", 1, true},
		},
		note: "A throw-away server of its own, fsync on, whose archiver and recovery run the commands. cp syncs file and directory. " +
			"pgBackRest compresses with lz4 in two processes, skyd with zstd in two workers. CPU is that of the commands and of skyd's " +
			"daemon, in fetch also of the server; pgBackRest's asynchronous processes are not seen.",
	}
}

// archivists is what the wal table works with: a server, and the programs around it.
type archivists struct {
	cluster *pgserver.Cluster
	conn    *pgx.Conn
	dir     string // of everything
	bin     string // of skyd and skyd-wal
	config  string // of skyd
	sizes   sizes
	names   []string // segments that are pushed and fetched
	target  string   // position in the last of them, up to which recovery goes
	until   string   // position at which the last of them ends
	daemon  *exec.Cmd
	command map[string]string // archive_command by row
	filled  map[string]bool   // archives that hold the segments
	absent  map[string]string // rows that cannot be, and why
	rounds  int               // counts throw-away directories
}

// walSections makes the server and everybody's archive.
func (r *run) walSections(ctx context.Context) (list []section, err error) {
	w := &archivists{sizes: r.sizes, command: map[string]string{}, filled: map[string]bool{}, absent: map[string]string{}}
	r.closers = append(r.closers, w.close)
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	if err := w.findPeers(ctx, r.o.Programs); err != nil {
		return nil, err
	}
	if err := w.makeWAL(ctx); err != nil {
		return nil, err
	}
	segments := len(w.names)
	list = []section{
		{name: walPush, reference: rowCopy, contenders: w.each(w.pusher, rowCopy, rowBackRest, rowBackRestTwo, rowSkydWAL)},
		{name: walFetch, reference: rowCopy, contenders: w.each(w.fetcher, rowCopy, rowBackRest, rowBackRestTwo, rowSkydWAL)},
		{name: walAbsent, reference: rowCopy, contenders: w.each(w.misser, rowCopy, rowBackRest, rowSkydWAL)},
		{name: walStart, reference: rowTrue, contenders: w.each(w.starter, rowTrue, rowBackRest, rowSkydWAL)},
		{name: walReceive, reference: rowReceiveWAL, contenders: w.each(w.receiver, rowReceiveWAL, rowReceive)},
		{name: walCommit, reference: rowReceiveWAL, contenders: w.each(w.committer, rowNobody, rowReceiveWAL, rowReceive)},
		{name: walBackup, reference: rowBaseBackup, contenders: w.each(w.backuper, rowBaseBackup, rowBackRest, rowBackup)},
		{name: walIncr, reference: rowBackup, once: true, contenders: w.each(w.backuper, rowBackup, rowBackupIncr)},
		{name: walRestore, reference: rowCopyAll, contenders: w.each(w.restorer, rowCopyAll, rowBackRest, rowRestore)},
	}
	for i := range list {
		list[i].commit = synchronous
		list[i].once = list[i].once || w.sizes.noSlow
		if i < 2 || list[i].name == walReceive {
			list[i].events = segments
		}
	}
	return list, nil
}

// each makes the contenders of a section.
func (w *archivists) each(make func(row string) contender, rows ...string) (list []contender) {
	for _, row := range rows {
		c := make(row)
		c.name, c.absent = row, w.absent[row]
		list = append(list, c)
	}
	return list
}

// begin starts the server.
func (w *archivists) begin(ctx context.Context) error {
	binaries, err := pgserver.Find()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	w.cluster, err = pgserver.New(ctx, binaries, pgserver.Options{Fsync: !w.sizes.noSlow, NoCache: true, Settings: map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "16GB", "checkpoint_timeout": "1d", "wal_keep_size": "8GB", "wal_level": "replica",
		"archive_mode": "on", "archive_command": "", "autovacuum": "off", "max_wal_senders": "10",
	}})
	if err != nil {
		return err
	}
	w.dir = w.cluster.Dir
	if err := w.cluster.Start(ctx); err != nil {
		return err
	}
	w.conn, err = connect(ctx, w.cluster.SocketDSN("postgres"))
	return err
}

// close ends everything.
func (w *archivists) close(ctx context.Context) error {
	w.stopDaemon()
	var err error
	if w.conn != nil {
		err = w.conn.Close(ctx)
	}
	if w.cluster != nil {
		err = errors.Join(err, w.cluster.Remove())
	}
	return err
}

// stopDaemon ends the daemon.
func (w *archivists) stopDaemon() {
	if w.daemon != nil {
		_ = w.daemon.Process.Signal(os.Interrupt) // when it has ended, Wait says so
		_ = w.daemon.Wait()
		w.daemon = nil
	}
}

// findPeers prepares skyd, pgBackRest and the tools of the server, as far as they are there.
func (w *archivists) findPeers(ctx context.Context, programs string) error {
	for row, tool := range map[string]string{rowReceiveWAL: "pg_receivewal", rowBaseBackup: "pg_basebackup"} {
		if _, err := os.Stat(filepath.Join(w.cluster.Binaries.Dir, tool)); err != nil {
			w.absent[row] = "no " + tool + " beside the server"
		}
	}
	if w.absent[rowBaseBackup] != "" { // nothing to copy, and nothing to recover
		w.absent[rowCopyAll] = w.absent[rowBaseBackup]
	}
	w.command[rowCopy] = fmt.Sprintf("cp %%p %[1]s/%%f && sync %[1]s/%%f %[1]s", w.path("cp"))
	if err := w.mkdir("cp"); err != nil {
		return err
	}
	if err := w.prepareBackRest(ctx); err != nil {
		return err
	}
	return w.prepareSkyd(ctx, programs)
}

// path is a path below the directory of everything.
func (w *archivists) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// mkdir makes a directory for the server's user.
func (w *archivists) mkdir(parts ...string) error {
	dir := w.path(parts...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return w.cluster.Own(dir)
}

// file writes a file for the server's user.
func (w *archivists) file(text string, parts ...string) error {
	name := w.path(parts...)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return err
	}
	return w.cluster.Own(name)
}

// prepareBackRest makes a repository of pgBackRest.
func (w *archivists) prepareBackRest(ctx context.Context) error {
	program, err := exec.LookPath("pgbackrest")
	if err != nil {
		w.absent[rowBackRest], w.absent[rowBackRestTwo] = "no pgbackrest", "no pgbackrest"
		return nil
	}
	for _, dir := range []string{"repo", "lock", "log", "spool"} {
		if err := w.mkdir("backrest", dir); err != nil {
			return err
		}
	}
	if err := w.cluster.Own(w.path("backrest")); err != nil {
		return err
	}
	text := func(async string) string {
		return fmt.Sprintf(`[global]
repo1-path=%[1]s/backrest/repo
repo1-retention-full=50
lock-path=%[1]s/backrest/lock
log-path=%[1]s/backrest/log
spool-path=%[1]s/backrest/spool
log-level-console=error
log-level-file=off
compress-type=lz4
process-max=2
start-fast=y
archive-async=%[2]s
[bench]
pg1-path=%[3]s
pg1-port=%[4]d
pg1-socket-path=%[1]s
pg1-user=postgres
`, w.dir, async, w.cluster.DataDir(), w.cluster.Port)
	}
	for name, async := range map[string]string{"sync.conf": "n", "async.conf": "y"} {
		if err := w.file(text(async), "backrest", name); err != nil {
			return err
		}
	}
	if _, err := w.do(ctx, program, w.backRest("sync.conf", "stanza-create")...); err != nil {
		w.absent[rowBackRest] = firstLine(err.Error())
		w.absent[rowBackRestTwo] = w.absent[rowBackRest]
		return nil
	}
	w.command[rowBackRest] = shell(program, w.backRest("sync.conf", "archive-push")...) + " %p"
	w.command[rowBackRestTwo] = shell(program, w.backRest("async.conf", "archive-push")...) + " %p"
	return nil
}

// backRest are the arguments of a command of pgBackRest.
func (w *archivists) backRest(config string, args ...string) []string {
	return append([]string{"--config=" + w.path("backrest", config), "--stanza=bench"}, args...)
}

// shell is a command line for a shell; nothing in it needs quotes but blanks.
func shell(program string, args ...string) string {
	words := append([]string{program}, args...)
	for i, word := range words {
		if strings.ContainsAny(word, " '\"$") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// prepareSkyd makes skyd's repository and starts its daemon.
func (w *archivists) prepareSkyd(ctx context.Context, programs string) error {
	if err := w.skydPrograms(programs); err != nil {
		for _, row := range []string{rowSkydWAL, rowReceive, rowBackup, rowBackupIncr, rowRestore} {
			w.absent[row] = err.Error()
		}
		return nil
	}
	if err := w.mkdir("state"); err != nil {
		return err
	}
	w.config = w.path("skyd.yaml")
	text := fmt.Sprintf(`instance: bench
http: { listen: none }
control: { socket: %[1]s/control.sock }
databases:
  - { name: bench, dsn: "%[2]s" }
wal:
  - { source: bench, pgdata: %[3]s, database: bench, storage: "file://%[1]s/skyd", state_dir: %[1]s/state/bench, socket: %[1]s/bench.sock }
  - { source: received, pgdata: %[3]s, database: bench, storage: "file://%[1]s/skyd", state_dir: %[1]s/state/received, socket: %[1]s/received.sock }
`, w.dir, w.cluster.SocketDSN("postgres"), w.cluster.DataDir())
	if err := w.file(text, "skyd.yaml"); err != nil {
		return err
	}
	for _, source := range []string{"received", "bench"} {
		if _, err := w.do(ctx, w.skyd(), "wal", "setup", "--config", w.config, "--source", source, "--no-restart"); err != nil {
			return err
		}
	}
	if err := w.conn.QueryRow(ctx, "select pg_catalog.pg_read_file('postgresql.auto.conf')").Scan(&text); err != nil {
		return err
	}
	if err := w.archiveWith(ctx, ""); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "archive_command = "); ok {
			w.command[rowSkydWAL] = strings.ReplaceAll(strings.Trim(strings.TrimSpace(value), "'"), "''", "'")
		}
	}
	log, err := os.Create(w.path("daemon.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the daemon has its own handle
	w.daemon = w.cluster.Command(w.skyd(), "run", "--config", w.config)
	w.daemon.Stdout, w.daemon.Stderr = log, log
	if err := w.daemon.Start(); err != nil {
		w.daemon = nil
		return err
	}
	for {
		if _, err := os.Stat(w.path("bench.sock")); err == nil {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// skydPrograms brings skyd and skyd-wal to where the server's user can run them.
func (w *archivists) skydPrograms(programs string) error {
	if programs == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		programs = filepath.Dir(self)
	}
	w.bin = w.path("bin")
	if err := w.mkdir("bin"); err != nil {
		return err
	}
	for _, name := range []string{"skyd", "skyd-wal"} {
		text, err := os.ReadFile(filepath.Join(programs, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(w.bin, name), text, 0o700)
		}
		if err == nil {
			err = w.cluster.Own(filepath.Join(w.bin, name))
		}
		if err != nil {
			return fmt.Errorf("no %s in %s (./task build makes both programs)", name, programs)
		}
	}
	return nil
}

func (w *archivists) skyd() string { return filepath.Join(w.bin, "skyd") }

// makeWAL takes the backup that recovery begins with, and then fills segments: half of their bytes can be compressed, and
// no page is changed by them. After that the database gets its data.
func (w *archivists) makeWAL(ctx context.Context) error {
	const keep = "select pg_catalog.pg_create_physical_replication_slot('bench_keep', true)"
	if _, err := w.conn.Exec(ctx, keep); err != nil {
		return err
	}
	if w.absent[rowBaseBackup] == "" {
		tool := filepath.Join(w.cluster.Binaries.Dir, "pg_basebackup")
		if _, err := w.do(ctx, tool, "-h", w.dir, "-p", fmt.Sprint(w.cluster.Port), "-U", "postgres", "-D", w.path("base"), "-X", "fetch", "-c", "fast"); err != nil {
			return err
		}
	} else {
		for _, row := range []string{rowCopy, rowBackRest, rowBackRestTwo, rowSkydWAL} {
			w.absent[row] = w.absent[rowBaseBackup]
		}
	}
	const (
		fill = `
select count(pg_catalog.pg_logical_emit_message(false, 'bench', pg_catalog.decode(
         (select pg_catalog.string_agg(pg_catalog.md5(random()::text), '') from pg_catalog.generate_series(1, 125) g where g + i > 0), 'hex')
         || pg_catalog.decode(repeat('00ff11ee', 500), 'hex')))
  from pg_catalog.generate_series(1, 4160) i`
	)
	for range w.sizes.segments {
		if _, err := w.conn.Exec(ctx, fill); err != nil {
			return err
		}
	}
	if err := w.conn.QueryRow(ctx, "select pg_catalog.pg_current_wal_insert_lsn()::text").Scan(&w.target); err != nil {
		return err
	}
	if err := w.conn.QueryRow(ctx, "select pg_catalog.pg_logical_emit_message(true, 'bench', 'end')::text").Scan(&w.until); err != nil {
		return err
	}
	if err := w.conn.QueryRow(ctx, "select pg_catalog.pg_switch_wal()::text").Scan(&w.until); err != nil {
		return err
	}
	if err := w.ready(ctx); err != nil {
		return err
	}
	if err := w.archiveWith(ctx, "true"); err != nil { // what comes now is not wanted
		return err
	}
	return w.makeData(ctx)
}

// ready learns which segments wait for the archiver.
func (w *archivists) ready(ctx context.Context) error {
	for {
		entries, err := os.ReadDir(w.status())
		if err != nil {
			return err
		}
		w.names = nil
		for _, e := range entries {
			name, suffix, _ := strings.Cut(e.Name(), ".")
			if suffix == "ready" || suffix == "done" {
				w.names = append(w.names, name)
			}
		}
		slices.Sort(w.names)
		if len(w.names) >= w.sizes.segments {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// makeData fills the database that is backed up.
func (w *archivists) makeData(ctx context.Context) error {
	for i := range w.sizes.tables {
		const table = `
create table bench_%d as
select i, repeat(pg_catalog.md5((random() + i * 0)::text), 4) || pg_catalog.md5((random() + i)::text) as half from pg_catalog.generate_series(1, $1::int) i`
		if _, err := w.conn.Exec(ctx, strings.Replace(fmt.Sprintf(table, i), "$1", fmt.Sprint(w.sizes.tableRows), 1)); err != nil {
			return err
		}
	}
	for _, statement := range []string{"vacuum (freeze)", "checkpoint"} { // or reading a table would change it
		if _, err := w.conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// status is the directory in which the archiver and the server talk.
func (w *archivists) status() string {
	return filepath.Join(w.cluster.DataDir(), "pg_wal", "archive_status")
}

// archiveWith sets archive_command; "" lets everything wait.
func (w *archivists) archiveWith(ctx context.Context, command string) error {
	_, err := w.conn.Exec(ctx, "alter system set archive_command = '"+strings.ReplaceAll(command, "'", "''")+"'")
	if err == nil {
		_, err = w.conn.Exec(ctx, "select pg_catalog.pg_reload_conf()")
	}
	return err
}

// settled waits until nothing waits for the archiver any more.
func (w *archivists) settled(ctx context.Context) error {
	for {
		entries, err := os.ReadDir(w.status())
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".ready") }) {
			return nil
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// do runs a program as the server's user and gives the CPU time it took; the error says what it printed.
func (w *archivists) do(ctx context.Context, program string, args ...string) (time.Duration, error) {
	return w.doIn(ctx, w.dir, program, args...)
}

func (w *archivists) doIn(ctx context.Context, dir, program string, args ...string) (time.Duration, error) {
	cmd := w.cluster.Command(program, args...)
	cmd.Dir = dir
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), firstWord(args), err, strings.TrimSpace(out.String()))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

func firstWord(args []string) string {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			return a
		}
	}
	return ""
}

// daemonCPU is what skyd's daemon has used so far.
func (w *archivists) daemonCPU() time.Duration {
	if w.daemon == nil {
		return 0
	}
	return cpuOf(w.daemon.Process.Pid).own
}

// cpuOf is the CPU time of a process and of its children that have ended; nothing where the kernel does not tell.
func cpuOf(pid int) procStat {
	c := cpuClock{root: "/proc"}
	s, _ := c.stat(pid)
	return s
}

// treeMB is the size of the files below a directory in megabytes.
func treeMB(dir string) float64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what is not there has no size
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return float64(total) / 1e6
}

// milliseconds of a duration, per unit.
func milliseconds(d time.Duration, units int) float64 {
	return float64(d.Nanoseconds()) / 1e6 / float64(max(units, 1))
}
