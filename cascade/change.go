package cascade

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Change is a change of the cascade that was planned on what the nodes said, and is carried out by Run. Its steps are
// idempotent: after a failure the same change is planned again, and the new plan has what is left to do.
type Change struct {
	// Steps in their order; none when all is as wanted.
	Steps []Step
	// Notes are what somebody ought to know before.
	Notes []string
	// Loses are what is gone for good afterwards; a change that loses something is to be confirmed.
	Loses []string
	// AllSteps: the steps do not depend on each other, and a failure of one does not stop the others.
	AllSteps bool

	planned []Step // all of them, should Steps be cut
	hold    func(ctx context.Context) (context.Context, func(), error)
	again   func(ctx context.Context) (*Change, *Topology, error)
}

// Step is one step of a Change: one transaction in the database of one node, or a wait for it.
type Step struct {
	Node string
	Text string

	do func(ctx context.Context) error
}

// UnfinishedError says that a change stopped between its steps.
type UnfinishedError struct {
	// Done is the number of steps that took effect.
	Done int
	Step Step
	Err  error
}

// Error implements error.
func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%d step(s) were done, not all: %s", e.Done, e.Err)
}

// Unwrap gives errors.Is the cause.
func (e *UnfinishedError) Unwrap() error { return e.Err }

// add appends a step.
func (c *Change) add(node, text string, do func(ctx context.Context) error) {
	c.Steps = append(c.Steps, Step{Node: node, Text: text, do: do})
}

// note appends a note.
func (c *Change) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// loses appends a loss.
func (c *Change) loses(format string, args ...any) {
	c.Loses = append(c.Loses, fmt.Sprintf(format, args...))
}

// under makes Run take a lock first, and plan again while it has it.
func (c *Change) under(hold func(ctx context.Context) (context.Context, func(), error), again func(ctx context.Context) (*Change, *Topology, error)) {
	c.planned, c.hold, c.again = c.Steps, hold, again
}

// left are the steps to do, as planned again: those that were shown, without what has been done meanwhile.
func (c *Change) left(ctx context.Context) ([]Step, error) {
	now, t, err := c.again(ctx)
	if err != nil {
		return nil, err
	}
	in := func(list []Step, s Step) bool {
		return slices.ContainsFunc(list, func(t Step) bool { return t.Node == s.Node && t.Text == s.Text })
	}
	for _, s := range c.Steps { // what is not planned any more was done by somebody, or cannot be done now
		if n := t.Node(s.Node); n != nil && !in(now.Steps, s) {
			if err := n.reachable(); err != nil {
				return nil, err
			}
		}
	}
	var steps []Step
	for _, s := range now.Steps {
		if !in(c.planned, s) {
			return nil, refuse("the cascade has changed since this was planned, and more is to do now (%s: %s); run it again", s.Node, s.Text)
		}
		if in(c.Steps, s) {
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// Run carries the change out, while no other command changes the cascade; told, which may be nil, hears of each step that took effect. When nothing was changed, the
// error comes as it is; else it is an *UnfinishedError.
func (c *Change) Run(ctx context.Context, told func(Step)) error {
	var (
		failed error
		at     Step
		done   int
	)
	steps := c.Steps
	if c.hold != nil && len(steps) > 0 {
		held, end, err := c.hold(ctx)
		if err != nil {
			return err
		}
		defer end()
		if steps, err = c.left(held); err != nil {
			return err
		}
		ctx = held
	}
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			failed, at = errors.Join(failed, fmt.Errorf("%s: %s: %w", s.Node, s.Text, err)), s
			if c.AllSteps {
				continue
			}
			break
		}
		done++
		if told != nil {
			told(s)
		}
	}
	if failed != nil && done > 0 {
		return &UnfinishedError{Done: done, Step: at, Err: failed}
	}
	return failed
}
