package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// part is a process of the demo, seen from the demo.
type part struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.Reader
	saw    func(latencies []time.Duration)
	held   chan held
	killed atomic.Bool
	end    func(ask bool) error // see crew.start
	words  string               // last ones, valid when out has ended
}

// partGrace is how long a part may take to end when it is asked to.
const partGrace = 10 * time.Second

// startPart starts a process. It is a member of the crew: that it ends by itself is a failure of the demo.
func (s *show) startPart(crew *crew, o order) (*part, error) {
	o.DSN, o.Build, o.Log, o.LogFormat = s.srv.dsn(), s.o.Build, s.o.Log != nil, s.o.LogFormat
	p := &part{name: o.Name, held: make(chan held, 1), saw: s.seen.add}
	p.cmd = exec.Command(s.o.Program[0], s.o.Program[1:]...) //nolint:noctx // ended by run, which knows how
	if s.o.Log != nil {
		p.cmd.Stderr = s.o.Log
	}
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	p.end = crew.start(p.name, func(ctx context.Context) error { return p.run(ctx, crew.ctx) })
	return p, p.order(o)
}

// order tells a part something.
func (p *part) order(o order) error {
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		return fmt.Errorf("tell %s what to do: %w", p.name, err)
	}
	return nil
}

// run waits for the end of the process. When ctx ends it asks for that end; when everything ends it does not ask.
func (p *part) run(ctx, everything context.Context) error {
	ended := make(chan error, 1)
	go func() {
		p.listen()
		ended <- p.cmd.Wait()
	}()
	select {
	case err := <-ended:
		if p.killed.Load() {
			return nil
		}
		return fmt.Errorf("ended by itself (%w): %s: %w", err, p.words, errStuck)
	case <-ctx.Done():
	}
	grace := partGrace
	if everything.Err() != nil {
		grace = 0
	}
	_ = p.in.Close() // the order to end
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
	}
	_ = p.cmd.Process.Kill() // it fails when the process has ended, which is fine
	if err := <-ended; err != nil && grace > 0 {
		return fmt.Errorf("did not end within %s: %w", grace, errStuck)
	}
	return nil
}

// listen reads the notes of the part until it ends.
func (p *part) listen() {
	notes := json.NewDecoder(p.out)
	for {
		var n note
		if err := notes.Decode(&n); err != nil {
			_, _ = io.Copy(io.Discard, p.out)
			return
		}
		if n.Error != "" {
			p.words = n.Error
		}
		if n.Holding != nil {
			p.held <- *n.Holding
		}
		p.saw(n.Latencies)
	}
}

// kill kills the process with SIGKILL and returns when it is gone.
func (p *part) kill() error {
	p.killed.Store(true)
	return errors.Join(p.cmd.Process.Kill(), p.end(false))
}

// latencies collects what the members measured; for show.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration // since taken last
}

func (l *latencies) add(more []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, more...)
}

// take returns median and 99th percentile of the latencies since the last call.
func (l *latencies) take() (p50, p99 time.Duration) {
	l.mu.Lock()
	taken := l.all
	l.all = nil
	l.mu.Unlock()
	if len(taken) == 0 {
		return 0, 0
	}
	slices.Sort(taken)
	return taken[len(taken)/2], taken[len(taken)*99/100]
}

// lockedWriter lets several processes write to one place.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
