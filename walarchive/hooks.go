package walarchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// How long hooks may take. on_gap may be called by a receiver, which must go on.
const (
	hookLimit = 10 * time.Minute
	gapLimit  = 10 * time.Second
)

// errHook is returned when a hook fails.
var errHook = errors.New("the hook failed")

// runHook runs the command of a hook; none is fine.
func (r *Repo) runHook(ctx context.Context, name, command string, limit time.Duration, env ...string) error {
	if command == "" {
		return nil
	}
	if err := runShell(ctx, command, limit, append(env, "SKYD_SOURCE="+r.Source)); err != nil {
		return fmt.Errorf("hooks.%s: %w: %w", name, errHook, err)
	}
	return nil
}

// runShell runs a shell command with more environment, at most so long; it and what it has started are killed then. The
// error has the end of what it wrote.
func runShell(ctx context.Context, command string, limit time.Duration, env []string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // whoever holds the pipe although the group is dead
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && context.Cause(ctx) == context.DeadlineExceeded {
		err = fmt.Errorf("it did not end within %s: %w", limit, context.DeadlineExceeded)
	}
	if text := strings.TrimSpace(out.String()); text != "" {
		err = fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(text[max(0, len(text)-500):]), " "))
	}
	return err
}
