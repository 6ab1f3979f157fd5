package handlers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/skytools/skyd/pgq"
)

// child is a program that handles batches. Each event goes to its standard input as a line of JSON, and after the
// events of a batch the line
//
//	{"end_of_batch":12,"events":3}
//
// On its standard output it answers, one JSON object in a line:
//
//	{"retry":ev_id,"after_seconds":30}     deliver this event again later; any number of these
//	{"done":12}                            the batch is handled
//	{"failed":12,"reason":"..."}           deliver the whole batch again
//
// What it writes to standard error is logged. A child that exits, breaks the protocol or takes longer than the timeout
// fails the batch; it is killed with everything it started, and the next batch starts a new one.
type child struct {
	c   Config
	env Env

	cmd     *exec.Cmd
	in      io.WriteCloser
	answers chan answer   // one line of its output each; closed when that ends
	gone    chan struct{} // closed when cmd.Wait has returned
}

// answer is one line of a child, or why there are no more.
type answer struct {
	Retry  *int64  `json:"retry"`
	After  float64 `json:"after_seconds"`
	Done   *int64  `json:"done"`
	Failed *int64  `json:"failed"`
	Reason string  `json:"reason"`
	err    error
}

// endOfBatch follows the events of a batch.
type endOfBatch struct {
	Batch  int64 `json:"end_of_batch"`
	Events int   `json:"events"`
}

// maxAnswer bounds a line of a child.
const maxAnswer = 1 << 20

// newExec makes the handler of kind exec. The child starts with the first batch.
func newExec(c Config, env Env) *Handler {
	ch := &child{c: c, env: env}
	return &Handler{Handler: pgq.BatchHandler(ch.batch), close: ch.kill}
}

// batch hands one batch to the child.
func (ch *child) batch(ctx context.Context, b *pgq.Batch) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ch.c.Timeout,
		fmt.Errorf("%s took longer than %v for batch %d", ch.c.Command[0], ch.c.Timeout, b.ID))
	defer cancel()
	if err := ch.start(); err != nil {
		return err
	}
	// Writing may block for as long as the child does not read; killing it ends that.
	group := -ch.cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() { killGroup(group) })
	defer stop()
	defer func() {
		if err == nil {
			return
		}
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			return // the child is well
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		_ = ch.kill() // it was going to die anyway
	}()
	if err := ch.feed(ctx, b); err != nil {
		return err
	}
	return ch.listen(ctx, b)
}

// feed writes the events of a batch.
func (ch *child) feed(ctx context.Context, b *pgq.Batch) error {
	w := bufio.NewWriter(ch.in)
	out := json.NewEncoder(w)
	end := endOfBatch{Batch: b.ID}
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		if err := out.Encode(toJSON(b, ev)); err != nil {
			return fmt.Errorf("write event %d to %s: %w", ev.ID, ch.c.Command[0], err)
		}
		end.Events++
	}
	err := out.Encode(end)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return fmt.Errorf("write batch %d to %s: %w", b.ID, ch.c.Command[0], err)
	}
	return nil
}

// refusal is a batch that the child could not handle.
type refusal struct{ reason string }

func (e *refusal) Error() string { return "the program failed the batch: " + e.reason }

// listen reads answers until the batch is settled.
func (ch *child) listen(ctx context.Context, b *pgq.Batch) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case a, ok := <-ch.answers:
			switch {
			case !ok:
				return fmt.Errorf("%s ended in the middle of batch %d", ch.c.Command[0], b.ID)
			case a.err != nil:
				return fmt.Errorf("answer of %s: %w", ch.c.Command[0], a.err)
			case a.Retry != nil:
				if err := b.RetryEvent(ctx, *a.Retry, time.Duration(a.After*float64(time.Second))); err != nil {
					return err
				}
			case a.Done != nil && *a.Done == b.ID:
				return nil
			case a.Failed != nil && *a.Failed == b.ID:
				return &refusal{a.Reason}
			default:
				return fmt.Errorf("answer of %s is neither retry, nor done or failed for batch %d", ch.c.Command[0], b.ID)
			}
		}
	}
}

// start starts the child unless it runs.
func (ch *child) start() error {
	if ch.cmd != nil {
		select {
		case <-ch.gone:
			ch.cmd = nil // it ended between two batches
		default:
			return nil
		}
	}
	cmd := exec.Command(ch.c.Command[0], ch.c.Command[1:]...) //nolint:gosec // the administrator's configuration
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", ch.c.Command[0], err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", ch.c.Command[0], err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", ch.c.Command[0], err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", ch.c.Command[0], err)
	}
	ch.cmd, ch.in = cmd, in
	ch.answers, ch.gone = make(chan answer), make(chan struct{})
	var pipes sync.WaitGroup
	answers, gone := ch.answers, ch.gone
	pipes.Go(func() { readAnswers(out, answers, gone) })
	pipes.Go(func() { logLines(said, ch.env.Log.With("command", ch.c.Command[0], "pid", cmd.Process.Pid)) })
	go func() {
		_, _ = cmd.Process.Wait() // how it ended shows in the batch
		close(gone)
		pipes.Wait()
		_ = in.Close()
	}()
	return nil
}

// readAnswers passes lines on until the output ends, or the process has and nobody listens.
func readAnswers(out io.Reader, answers chan<- answer, gone <-chan struct{}) {
	defer close(answers)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxAnswer)
	send := func(a answer) bool {
		select {
		case answers <- a:
			return true
		case <-gone:
			// A last word may be on its way to a listener.
			select {
			case answers <- a:
				return true
			case <-time.After(time.Second):
				return false
			}
		}
	}
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			a.err = fmt.Errorf("not JSON: %.100q", lines.Text())
		}
		if !send(a) {
			return
		}
	}
	if err := lines.Err(); err != nil {
		send(answer{err: err})
	}
}

// logLines logs what the child says.
func logLines(said io.Reader, log *slog.Logger) {
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		log.Info("child process says", "line", lines.Text())
	}
	_, _ = io.Copy(io.Discard, said) // a line beyond the scanner's limit must not block the child
}

// killGroup kills a child and everything it started.
func killGroup(group int) {
	_ = syscall.Kill(group, syscall.SIGKILL) // it may be gone already
}

// kill ends the child, if there is one, and waits for it.
func (ch *child) kill() error {
	if ch.cmd == nil {
		return nil
	}
	killGroup(-ch.cmd.Process.Pid)
	<-ch.gone
	ch.cmd = nil
	return nil
}
