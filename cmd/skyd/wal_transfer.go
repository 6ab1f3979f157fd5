package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/wire"
)

// pushLimit is when a push gives up: the archiver tries again.
const pushLimit = 10 * time.Minute

// guardTransfer runs skyd wal push and fetch in a process of their own, so that PostgreSQL never sees the exit code of a
// crash, of a usage error or of help. false: this is another command, or the process that was started for it.
func guardTransfer(args, environ []string) (code int, guarded bool) {
	i := slices.Index(args, "wal")
	if i < 0 || i+1 >= len(args) || args[i+1] != wire.Push && args[i+1] != wire.Fetch || wire.Judged(environ) {
		return 0, false
	}
	op := args[i+1]
	if asksForHelp(args[i+2:]) {
		return 0, false
	}
	goruntime.LockOSThread() // see wire.Run
	program, err := os.Executable()
	if err == nil {
		code, err = wire.Run(op, program, args)
	} else {
		code = wire.ExitFor(op)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "skyd:", err)
	}
	return code, true
}

// asksForHelp reports whether somebody wants to read the help. A server does not: in a data directory it is a mistake.
func asksForHelp(args []string) bool {
	if _, err := os.Lstat("PG_VERSION"); err == nil {
		return false
	}
	return slices.Contains(args, "--help") || slices.Contains(args, "-h")
}

// transferFlags are the flags of push and fetch.
type transferFlags struct {
	walFlags
	socket string
	direct bool
}

func (f *transferFlags) register(cmd *cobra.Command) {
	f.walFlags.register(cmd)
	cmd.Flags().StringVar(&f.socket, "socket", "", "`PATH` of the daemon's socket for this source (default: as configured)")
	cmd.Flags().BoolVar(&f.direct, "direct", false, "do not ask the daemon")
}

// newWALPushCommand builds skyd wal push.
func newWALPushCommand(a *app) *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "push FILE",
		Short: "archive a WAL file: the archive_command",
		Long: `Stores a WAL file in the repository, through the daemon if it runs, else by itself. skyd wal setup writes it into
archive_command, as the small program skyd-wal, which is quicker to start.

Exit code 0: the file is durable in the repository, stored now or before with the same content. 1: the storage failed, again
later. 2: usage or configuration. 5: refused, because other content is archived under the name, the file is no complete WAL
file of this cluster, or archiving is paused. Never above 125.`,
		Example: `  archive_command = 'skyd wal push --config /etc/skyd/skyd.yaml --source main %p'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.transfer(wire.Push, func() (int, error) { return a.push(cmd.Context(), f, args[0]) })
		},
	}
	f.register(cmd)
	return cmd
}

// newWALFetchCommand builds skyd wal fetch.
func newWALFetchCommand(a *app) *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "fetch NAME DEST",
		Short: "bring a WAL file back: the restore_command",
		Long: `Writes a WAL file of the archive to DEST, verified, through the daemon if it runs, else by itself.

PostgreSQL takes the exit codes 1 to 125 for the end of the archive: in recovery it then opens the database. So 1 is only
said when the storage has answered that the file is not there and nothing later is. Everything else stops recovery, which can be
started again: 200 the storage could not be reached for fetch.patience, 201 the archive has a hole, 202 the stored file is
damaged, 203 configuration, usage or a fault of skyd. A standby (standby.signal in the working directory) goes on with
streaming after 1, and gets 1 for all of these. Nothing is left at DEST unless the exit code is 0.`,
		Example: `  restore_command = 'skyd wal fetch --config /etc/skyd/skyd.yaml --source main %f %p'
  skyd wal fetch --source main --storage file:///var/lib/skyd/wal 000000010000000000000001 /tmp/segment`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.transfer(wire.Fetch, func() (int, error) { return a.fetch(cmd.Context(), f, args[0], args[1]) })
		},
	}
	f.register(cmd)
	f.registerStorage(cmd)
	return cmd
}

// transfer runs a push or a fetch and gives the verdict that guardTransfer or skyd-wal waits for.
func (a *app) transfer(op string, work func() (int, error)) error {
	exit, err := work()
	if err != nil && exit == 0 {
		exit = wire.ExitFor(op)
	}
	if err != nil {
		a.fail(err, wantsJSON(a.output, nil))
	}
	a.exit = exit
	wire.Verdict(exit)
	return nil
}

// ask asks the daemon of a source; false: it is not there.
func (f transferFlags) ask(socket string, q wire.Request) (int, error, bool) {
	if f.direct || socket == "" || f.storage != "" {
		return 0, nil, false
	}
	answer, err := wire.Ask(socket, q)
	if err != nil {
		return 0, nil, false
	}
	if answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer.Exit, err, true
}

// places completes what the configuration says by the flags.
func (f transferFlags) places(c walarchive.Config) string {
	if f.socket != "" {
		return f.socket
	}
	return c.Socket
}

// push archives a file.
func (a *app) push(ctx context.Context, f transferFlags, path string) (int, error) {
	c, _, err := a.walSource(ctx, f.walFlags)
	if err != nil {
		return 0, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return walarchive.PushFailed, err
	}
	if exit, err, ok := f.ask(f.places(c), wire.Request{Op: wire.Push, Source: c.Source, Path: path}); ok {
		return exit, err
	}
	ctx, cancel := context.WithTimeout(ctx, pushLimit)
	defer cancel()
	archive, closing, err := a.openArchive(ctx, c)
	if err != nil {
		if dropped, derr := c.Drop(filepath.Base(path), err); dropped || derr != nil {
			a.walLog().Error("a segment is given up: more than queue_max waits", "event", "wal.dropped", "dropped", dropped, "err", errors.Join(err, derr))
			if dropped {
				return walarchive.PushDone, nil
			}
		}
		return max(walarchive.PushExit(errors.Unwrap(err)), walarchive.PushFailed), err
	}
	defer closing()
	p, err := archive.Push(ctx, path)
	if err == nil && a.verbose {
		a.note("%s: stored %t, %d bytes as %d, %s", p.Name, p.Stored, p.Bytes, p.Packed, p.Took.Round(time.Millisecond))
	}
	return walarchive.PushExit(err), err
}

// fetch brings a file back.
func (a *app) fetch(ctx context.Context, f transferFlags, name, dest string) (int, error) {
	c, _, err := a.walSource(ctx, f.walFlags)
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err == nil {
		dest, err = filepath.Abs(dest)
	}
	if err != nil {
		return wire.ExitFor(wire.Fetch), err
	}
	q := wire.Request{Op: wire.Fetch, Source: c.Source, Name: name, Dir: dir, Dest: dest + ".skyd-" + strconv.Itoa(os.Getpid())}
	if exit, err, ok := f.ask(f.places(c), q); ok {
		if exit == 0 {
			err = os.Rename(q.Dest, dest)
		}
		if err != nil {
			_ = os.Remove(q.Dest) // most often it is not there
		}
		if exit == 0 && err != nil {
			exit = wire.ExitFor(wire.Fetch)
		}
		return exit, err
	}
	var archive *walarchive.Archive
	defer func() {
		if archive != nil {
			_ = errors.Join(archive.Close(), archive.Repo().Close()) // nothing is left to be written
		}
	}()
	request := walarchive.FetchRequest{Name: name, Dest: dest, Dir: dir}
	exit, err := walarchive.FetchWith(ctx, request, c.Fetch.Patience, func(ctx context.Context, temp string) error {
		if archive == nil { // a storage that is away now may come back
			if archive, err = walarchive.OpenAny(ctx, runtime.OpenStorage, c, a.walLog()); err != nil {
				return err
			}
		}
		return archive.Deliver(ctx, request, temp)
	}, func(_ walarchive.FetchRequest, exit int, err error) {
		a.walLog().Error("a WAL file could not be fetched", "event", walarchive.EventOf(err), "name", name, "exit", exit)
	})
	return exit, err
}
