package bench

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// consumerScript is a consumer written with the original's modules: it says ready, waits for a line, consumes until
// nothing is left, and says how many events there were.
//
//go:embed consumer.py
var consumerScript string

// drainPython measures the Python consumer, without its start.
func (r *run) drainPython(ctx context.Context, h *host, python string, n, batch int) (f figures, err error) {
	dir, err := os.MkdirTemp("", "skyd-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ini := filepath.Join(dir, "consumer.ini")
	text := fmt.Sprintf("[bench]\njob_name = bench\ndb = %s\nqueue_name = %s\nconsumer_name = %s\npidfile =\nloop_delay = 0.01\n",
		strings.ReplaceAll(h.libpq(), "%", "%%"), drainQueue(batch), drainConsumer)
	if err := os.WriteFile(ini, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, python, "-c", consumerScript, "-q", ini)
	var problems strings.Builder
	cmd.Stderr = &problems
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	got := 0
	_, err = lines.ReadString('\n')
	if err == nil {
		f, err = r.meter.perEvent(ctx, n, func(context.Context) error {
			if _, err := io.WriteString(in, "go\n"); err != nil {
				return err
			}
			_, err := fmt.Fscanln(lines, &got)
			return err
		})
	}
	_ = in.Close() // that is how it learns that it may end
	if werr := cmd.Wait(); err != nil || werr != nil {
		return nil, fmt.Errorf("python consumer: %w, %w: %s", err, werr, strings.TrimSpace(problems.String()))
	}
	return f, counted(got, n)
}
