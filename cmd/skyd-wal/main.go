// Command skyd-wal is the archive_command and restore_command of PostgreSQL: it asks the daemon, and without one it has
// skyd do the work. It is small because PostgreSQL starts it for every WAL file.
//
//	skyd-wal push --source NAME [--socket PATH] [--config FILE] [--skyd PROGRAM] FILE
//	skyd-wal fetch --source NAME [--socket PATH] [--config FILE] [--storage URL] [--skyd PROGRAM] NAME DEST
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/skytools/skyd/walarchive/wire"
)

func main() {
	goruntime.LockOSThread() // see wire.Run
	os.Exit(guarded(os.Args[1:]))
}

// guarded turns a panic into an exit code that loses nothing.
func guarded(args []string) (exit int) {
	op := "fetch" // the careful one
	if len(args) > 0 && args[0] == wire.Push {
		op = wire.Push
	}
	defer func() {
		if r := recover(); r != nil {
			exit = tell(op, fmt.Errorf("panic: %v", r))
		}
	}()
	c, err := parse(args)
	if err != nil {
		return tell(op, err)
	}
	exit, err = c.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "skyd-wal:", err)
	}
	return exit
}

// tell prints an error and gives the exit code of what is wrong with the call or the program.
func tell(op string, err error) int {
	fmt.Fprintln(os.Stderr, "skyd-wal:", err)
	return wire.ExitFor(op)
}

// call is a parsed command line.
type call struct {
	op      string
	source  string
	socket  string
	program string
	pass    []string // flags for skyd
	args    []string
}

// parse reads the command line.
func parse(args []string) (c call, err error) {
	if len(args) == 0 || args[0] != wire.Push && args[0] != wire.Fetch {
		return c, errors.New("usage: skyd-wal push|fetch --source NAME [--socket PATH] [--config FILE] ...")
	}
	c.op = args[0]
	for i := 1; i < len(args); i++ {
		if args[i] == "--" {
			c.args = append(c.args, args[i+1:]...)
			break
		}
		if !strings.HasPrefix(args[i], "-") {
			c.args = append(c.args, args[i])
			continue
		}
		name, value, ok := strings.Cut(args[i], "=")
		if !ok {
			if i++; i == len(args) {
				return c, fmt.Errorf("%s needs a value", name)
			}
			value = args[i]
		}
		switch name {
		case "--source":
			c.source = value
			c.pass = append(c.pass, name+"="+value)
		case "--config", "--storage":
			c.pass = append(c.pass, name+"="+value)
		case "--socket":
			c.socket = value
		case "--skyd":
			c.program = value
		default:
			return c, fmt.Errorf("unknown flag %s", name)
		}
	}
	want := 1
	if c.op == wire.Fetch {
		want = 2
	}
	switch {
	case c.source == "":
		return c, errors.New("--source is missing")
	case len(c.args) != want:
		return c, fmt.Errorf("%s takes %d argument(s), got %d", c.op, want, len(c.args))
	}
	return c, nil
}

// run asks the daemon, or has skyd do it.
func (c call) run() (int, error) {
	if c.socket != "" {
		exit, err := c.ask()
		if !errors.Is(err, wire.ErrNoAnswer) {
			return exit, err
		}
	}
	if c.program == "" {
		self, err := os.Executable()
		if err != nil {
			return wire.ExitFor(c.op), err
		}
		c.program = filepath.Join(filepath.Dir(self), "skyd")
	}
	args := append([]string{"wal", c.op, "--direct"}, c.pass...)
	return wire.Run(c.op, c.program, append(append(args, "--"), c.args...))
}

// ask asks the daemon.
func (c call) ask() (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return wire.ExitFor(c.op), err
	}
	abs := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	q := wire.Request{Op: c.op, Source: c.source, Dir: dir}
	if c.op == wire.Push {
		q.Path = abs(c.args[0])
		a, err := wire.Ask(c.socket, q)
		return a.Exit, failure(a, err)
	}
	q.Name = c.args[0]
	dest := abs(c.args[1])
	q.Dest = dest + ".skyd-" + strconv.Itoa(os.Getpid())
	a, err := wire.Ask(c.socket, q)
	if err == nil && a.Exit == 0 {
		if err = os.Rename(q.Dest, dest); err != nil {
			a.Exit = wire.ExitFor(c.op)
		}
	}
	if a.Exit != 0 || err != nil {
		_ = os.Remove(q.Dest) // most often it is not there
	}
	return a.Exit, failure(a, err)
}

// failure is the error of an answer.
func failure(a wire.Answer, err error) error {
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return err
}
