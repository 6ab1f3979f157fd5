package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// crew is what runs beside each other; the first that fails stops all.
type crew struct {
	ctx    context.Context // of everybody, kept with its cancel
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup
}

// errStopped is why the crew's context ended when nothing failed.
var errStopped = errors.New("stopped")

// newCrew returns a crew and the context its members run with.
func newCrew(parent context.Context) (*crew, context.Context) {
	ctx, cancel := context.WithCancelCause(parent)
	return &crew{ctx: ctx, cancel: cancel}, ctx
}

// start runs a member. The returned function waits for its end, asking for it first if so told, and gives its error.
func (c *crew) start(name string, run func(ctx context.Context) error) (stop func(ask bool) error) {
	ctx, cancel := context.WithCancel(c.ctx)
	var err error
	done := make(chan struct{})
	c.wait.Go(func() {
		defer close(done)
		defer cancel()
		if err = run(ctx); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			c.cancel(err)
		}
	})
	return func(ask bool) error {
		if ask {
			cancel()
		}
		<-done
		return err
	}
}

// stop ends everybody and waits for them. It returns why the crew was stopped before, if it was.
func (c *crew) stop() error {
	c.cancel(errStopped)
	c.wait.Wait()
	if err := context.Cause(c.ctx); !errors.Is(err, errStopped) {
		return err
	}
	return nil
}
