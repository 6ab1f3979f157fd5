package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// skyd runs a command to its end and returns what it printed.
func skyd(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("skyd %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// process is a program that runs in the background.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  output
	done chan struct{} // closed when it has ended
	err  error         // valid then
}

// output collects what a process prints on both channels.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// daemon runs skyd in the background, with a control socket and ports of its
// own.
func daemon(t *testing.T, args ...string) *process {
	t.Helper()
	return background(t, []string{"RUNTIME_DIRECTORY=" + shortDir(t), "SKYD_HTTP__LISTEN=127.0.0.1:0"}, binary, args...)
}

// shortDir is a directory of the test whose name leaves room for the name of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skyd-e2e-run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// background starts a program that is killed when the test ends, if it has
// not ended by then. What it printed is shown if the test failed.
func background(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
		if t.Failed() {
			t.Logf("%s %s printed:\n%s", name, strings.Join(args, " "), &p.out)
		}
	})
	return p
}

// alive ends the test if the process has ended.
func (p *process) alive() {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("%s ended early: %v", p.name, p.err)
	default:
	}
}

// stop sends SIGTERM and returns how the process ended.
func (p *process) stop() error {
	p.t.Helper()
	p.alive()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(45 * time.Second):
		return fmt.Errorf("%s still runs 45 s after SIGTERM", p.name)
	}
}
