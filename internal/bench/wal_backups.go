package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// eachStatus calls each with the flushed position of every line that skyd wal receive --output json prints.
func eachStatus(r io.Reader, each func(flushed string) error) error {
	lines := json.NewDecoder(r)
	for {
		var st struct {
			Flushed string `json:"flushed_lsn"`
		}
		if err := lines.Decode(&st); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := each(st.Flushed); err != nil {
			return err
		}
	}
}

// backuper makes a base backup the way of a row.
func (w *archivists) backuper(row string) contender {
	return contender{
		reset: func(ctx context.Context) error {
			if row == rowBackupIncr { // behind a full one
				const touch = `update bench_0 set half = half where i % $1 = 0`
				if _, err := w.conn.Exec(ctx, touch, 100*70); err != nil { // about 70 rows a block
					return err
				}
			}
			command := "true"
			switch row {
			case rowBackRest:
				command = w.command[rowBackRest]
			case rowBackup, rowBackupIncr:
				command = w.command[rowSkydWAL]
			}
			if err := w.archiveWith(ctx, command); err != nil {
				return err
			}
			if err := w.settled(ctx); err != nil {
				return err
			}
			if _, err := w.conn.Exec(ctx, "checkpoint"); err != nil {
				return err
			}
			return w.flush()
		},
		run: func(ctx context.Context) (figures, error) { return w.backup(ctx, row) },
	}
}

// backup makes one backup.
func (w *archivists) backup(ctx context.Context, row string) (figures, error) {
	plain := w.path("plain")
	program, args, repo := w.skyd(), []string{"wal", "backup", "--config", w.config, "--source", "bench", "--quiet"}, w.path("skyd", "bench", "backup")
	switch row {
	case rowBaseBackup:
		if err := os.RemoveAll(plain); err != nil {
			return nil, err
		}
		program, repo = filepath.Join(w.cluster.Binaries.Dir, "pg_basebackup"), plain
		args = []string{"-h", w.dir, "-p", strconv.Itoa(w.cluster.Port), "-U", "postgres", "-D", plain, "-X", "none", "-c", "fast"}
	case rowBackRest:
		program, args, repo = "pgbackrest", w.backRest("sync.conf", "--type=full", "backup"), w.path("backrest", "repo", "backup")
	case rowBackupIncr:
		args = append(args, "--type", "incr")
	}
	before, server, daemon := treeMB(repo), w.serverCPU(), w.daemonCPU()
	if row == rowBaseBackup {
		before = 0
	}
	begin := time.Now()
	cpu, err := w.do(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	took := time.Since(begin)
	cpu += w.serverCPU() - server + w.daemonCPU() - daemon
	return figures{figWallMS: milliseconds(took, 1), figCPUMS: milliseconds(cpu, 1), figStored: treeMB(repo) - before}, nil
}

// serverCPU is what the server has used so far.
func (w *archivists) serverCPU() time.Duration {
	text, err := os.ReadFile(filepath.Join(w.cluster.DataDir(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(firstLine(string(text)))
	if err != nil {
		return 0
	}
	c := cpuClock{root: "/proc", master: pid, source: "stat"}
	total, _ := c.read() // nothing where the kernel does not tell
	return total
}

// restorer brings the newest backup of a row back.
func (w *archivists) restorer(row string) contender {
	var dir string
	return contender{
		reset: func(ctx context.Context) error {
			made, backup := map[string]string{rowCopyAll: w.path("plain"), rowBackRest: w.path("backrest", "repo", "backup"), rowRestore: w.path("skyd", "bench", "backup")},
				map[string]string{rowCopyAll: rowBaseBackup, rowBackRest: rowBackRest, rowRestore: rowBackup}
			if _, err := os.Stat(made[row]); err != nil {
				c := w.backuper(backup[row])
				if _, err := runRound(ctx, c); err != nil {
					return err
				}
			}
			if dir != "" {
				if err := os.RemoveAll(dir); err != nil {
					return err
				}
			}
			dir = w.fresh("restored")
			return w.flush()
		},
		run: func(ctx context.Context) (figures, error) {
			program, args := w.skyd(), []string{"wal", "restore", dir, "--config", w.config, "--source", "bench", "--archive", "off", "--quiet"}
			switch row {
			case rowCopyAll:
				program, args = "cp", []string{"-a", w.path("plain"), dir}
			case rowBackRest:
				if err := w.mkdir(filepath.Base(dir)); err != nil {
					return nil, err
				}
				program, args = "pgbackrest", w.backRest("sync.conf", "--pg1-path="+dir, "restore")
			}
			begin := time.Now()
			cpu, err := w.do(ctx, program, args...)
			if err != nil {
				return nil, err
			}
			took := time.Since(begin)
			if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err != nil {
				return nil, fmt.Errorf("nothing was restored: %w", err)
			}
			return figures{figWallMS: milliseconds(took, 1), figCPUMS: milliseconds(cpu, 1)}, nil
		},
	}
}

// walTargets are the bounds of the archive.
func walTargets() []target {
	t := target{table: tableWAL, figure: figWallMS}
	to := func(name, section, row, against string, must float64) target {
		x := t
		x.name, x.section, x.row, x.against, x.must = name, section, row, against, must
		return x
	}
	size := to("push: stored bytes against pgBackRest", walPush, rowSkydWAL, rowBackRest, 1)
	size.figure = figStored
	cpu := to("push: CPU ms per segment", walPush, rowSkydWAL, "", 45)
	cpu.figure, cpu.absolute = figCPUMS, true
	absent := to("absent fetch: ms", walAbsent, rowSkydWAL, "", 10)
	absent.absolute = true
	receive := to("receive: speed against pg_receivewal", walReceive, rowReceive, rowReceiveWAL, 1.3)
	commit := to("synchronous commits against pg_receivewal", walCommit, rowReceive, rowReceiveWAL, 1)
	receive.atLeast, commit.atLeast = true, true
	incr := to("incremental: stored bytes against full", walIncr, rowBackupIncr, rowBackup, 0.05)
	incr.figure = figStored
	return []target{
		to("push against cp and sync", walPush, rowSkydWAL, rowCopy, 0.9),
		to("push against pgBackRest asynchronous", walPush, rowSkydWAL, rowBackRestTwo, 0.6),
		size, cpu,
		to("fetch against cp", walFetch, rowSkydWAL, rowCopy, 1.1),
		to("fetch against pgBackRest", walFetch, rowSkydWAL, rowBackRest, 0.6),
		absent, receive, commit,
		to("full backup against pg_basebackup", walBackup, rowBackup, rowBaseBackup, 1),
		to("full backup against pgBackRest", walBackup, rowBackup, rowBackRest, 0.5),
		incr,
		to("restore against cp -a", walRestore, rowRestore, rowCopyAll, 2),
		to("restore against pgBackRest", walRestore, rowRestore, rowBackRest, 0.6),
	}
}
