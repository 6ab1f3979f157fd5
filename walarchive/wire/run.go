package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// verdictEnv is set for a process that is to give a verdict on file descriptor 3.
const verdictEnv = "SKYD_WAL_VERDICT"

// Judged reports whether the caller of this process waits for its verdict.
func Judged(environ []string) bool {
	for _, pair := range environ {
		if pair == verdictEnv+"=3" {
			return true
		}
	}
	return false
}

// Verdict says that this process means the exit code with which it is about to end. It is its last act.
func Verdict(exit int) {
	if !Judged(os.Environ()) {
		return
	}
	f := os.NewFile(3, "verdict")
	_, _ = fmt.Fprintln(f, "exit", exit) // a reader that is gone needs none
	_ = f.Close()
}

// Run does an operation in a process of its own, and gives the exit code that may be told to PostgreSQL.
func Run(op, program string, args []string) (exit int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return ExitFor(op), err
	}
	defer func() { _ = r.Close() }()
	env := append(os.Environ(), verdictEnv+"=3")
	p, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, w}, Env: env, Sys: dieWithParent(),
	})
	_ = w.Close()
	if err != nil {
		return ExitFor(op), fmt.Errorf("start %s: %w", program, err)
	}
	text, rerr := io.ReadAll(io.LimitReader(r, 100))
	state, err := p.Wait()
	if err = errors.Join(rerr, err); err != nil {
		return ExitFor(op), err
	}
	return believed(op, state.ExitCode(), string(text)), nil
}

// believed is the exit code to tell PostgreSQL for a process that ended with exit (-1: by a signal) and left a verdict.
func believed(op string, exit int, verdict string) int {
	fields := strings.Fields(verdict)
	if len(fields) == 2 && fields[0] == "exit" {
		if n, err := strconv.Atoi(fields[1]); err == nil && n == exit && allowed(op, n) {
			return n
		}
	}
	if op == Push && exit > 0 && exit <= 125 {
		return exit // nothing is lost by any of them
	}
	if op == Push {
		return 1
	}
	return ExitFor(op)
}

// allowed reports whether an operation may end with this exit code.
func allowed(op string, exit int) bool {
	if op == Push {
		return exit >= 0 && exit <= 125
	}
	return exit == 0 || exit == 1 || exit >= 200 && exit <= 203
}
