package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Limits of a steady storage.
const (
	steadyAttempts = 3
	steadyPause    = 200 * time.Millisecond
	// StallLimit is how long a call may stand still.
	StallLimit = 30 * time.Second
)

// Steady makes a storage behind a network bear with it: a call that stands still for stall is given up, and a call that
// failed for the moment is made again, with a pause that grows and is jittered. What was asked for twice is told from what
// somebody else did: a store whose answer was lost is looked up.
func Steady(s Storage, stall time.Duration) Storage { return &steady{Storage: s, stall: stall} }

// steady is a Storage with deadlines and attempts.
type steady struct {
	Storage
	stall time.Duration
}

// Settle makes an object durable, where the storage has a need for that.
func (s *steady) Settle(ctx context.Context, key string) error {
	inner, ok := s.Storage.(settler)
	if !ok {
		return nil
	}
	return s.again(ctx, steadyAttempts, func(ctx context.Context, _ *moving) error { return inner.Settle(ctx, key) })
}

// final tells the errors that another attempt does not cure.
func final(err error) bool {
	for _, e := range []error{ErrNotFound, ErrExists, ErrChanged, errUsage, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	var body *bodyError
	return errors.As(err, &body)
}

// bodyError is a failure of the body that is to be stored.
type bodyError struct{ err error }

// Error implements error.
func (e *bodyError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *bodyError) Unwrap() error { return e.err }

// again makes a call until it succeeds or there is no hope.
func (s *steady) again(ctx context.Context, attempts int, call func(ctx context.Context, m *moving) error) error {
	for attempt := 1; ; attempt++ {
		within, m := s.watch(ctx)
		err := call(within, m)
		stalled := err != nil && ctx.Err() == nil && context.Cause(within) != nil
		m.stop()
		if err == nil || ctx.Err() != nil || final(err) && !stalled {
			return err
		}
		if stalled {
			err = fmt.Errorf("%w for %s: %w", errStalled, s.stall, err)
		}
		if attempt == attempts {
			return err
		}
		most := steadyPause << (attempt - 1)
		if !pause(ctx, most/2+rand.N(most/2)) {
			return err
		}
	}
}

// moving is a deadline that every sign of life puts off.
type moving struct {
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
	once   sync.Once
}

// watch begins a deadline.
func (s *steady) watch(ctx context.Context) (context.Context, *moving) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &moving{stall: s.stall, cancel: cancel, timer: time.AfterFunc(s.stall, func() { cancel(errStalled) })}
}

// moved puts the deadline off.
func (m *moving) moved() { m.timer.Reset(m.stall) }

// hold stops the clock while somebody else is at work.
func (m *moving) hold() { m.timer.Stop() }

// stop ends the deadline.
func (m *moving) stop() {
	m.once.Do(func() {
		m.timer.Stop()
		m.cancel(nil)
	})
}

// movingBody is a body that is being stored: the time that its source takes does not count.
type movingBody struct {
	r io.Reader
	m *moving
}

// Read implements io.Reader.
func (b *movingBody) Read(p []byte) (int, error) {
	b.m.hold()
	n, err := b.r.Read(p)
	b.m.moved()
	if err != nil && !errors.Is(err, io.EOF) {
		err = &bodyError{err}
	}
	return n, err
}

// Put implements Storage. It is tried again when the body can be read again.
func (s *steady) Put(ctx context.Context, key string, body io.Reader, o PutOptions) error {
	seeker, _ := body.(io.Seeker)
	attempts := steadyAttempts
	if seeker == nil {
		attempts = 1
	}
	first := true
	return s.again(ctx, attempts, func(ctx context.Context, m *moving) error {
		if !first {
			if _, err := seeker.Seek(0, io.SeekStart); err != nil {
				return &bodyError{err}
			}
		}
		first = false
		return s.Storage.Put(ctx, key, &movingBody{body, m}, o)
	})
}

// PutIf implements Storage. A replacement that is refused in a later attempt may be our own of an earlier one.
func (s *steady) PutIf(ctx context.Context, key string, body []byte, etag string) (tag string, err error) {
	attempt := 0
	err = s.again(ctx, steadyAttempts, func(ctx context.Context, _ *moving) (err error) {
		attempt++
		tag, err = s.Storage.PutIf(ctx, key, body, etag)
		if attempt > 1 && (errors.Is(err, ErrChanged) || errors.Is(err, ErrExists)) {
			if mine, ok := s.holds(ctx, key, body); ok {
				tag, err = mine, nil
			}
		}
		return err
	})
	return tag, err
}

// holds tells whether an object has this content, and its ETag.
func (s *steady) holds(ctx context.Context, key string, body []byte) (etag string, ok bool) {
	o, err := s.Storage.Head(ctx, key)
	if err != nil || o.Size != int64(len(body)) {
		return "", false
	}
	r, err := s.Storage.Get(ctx, key, 0, -1)
	if err != nil {
		return "", false
	}
	there, err := io.ReadAll(r)
	if errors.Join(err, r.Close()) != nil || string(there) != string(body) {
		return "", false
	}
	return o.ETag, true
}

// Head implements Storage.
func (s *steady) Head(ctx context.Context, key string) (o Object, err error) {
	err = s.again(ctx, steadyAttempts, func(ctx context.Context, _ *moving) (err error) {
		o, err = s.Storage.Head(ctx, key)
		return err
	})
	return o, err
}

// Delete implements Storage.
func (s *steady) Delete(ctx context.Context, keys ...string) error {
	return s.again(ctx, steadyAttempts, func(ctx context.Context, m *moving) error {
		for part := range slices.Chunk(keys, 50) {
			if err := s.Storage.Delete(ctx, part...); err != nil {
				return err
			}
			m.moved()
		}
		return nil
	})
}

// Get implements Storage. A body that breaks off is gone on with where it broke.
func (s *steady) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	r := &steadyBody{s: s, ctx: ctx, key: key, offset: offset, left: length}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// steadyBody reads an object with attempts and deadlines.
type steadyBody struct {
	s            *steady
	ctx          context.Context // of the Get
	key          string
	offset, left int64 // of what is not read yet; left < 0: to the end
	body         io.ReadCloser
	within       context.Context // of the body
	m            *moving
	fails        int
}

// open asks for what is not read yet.
func (r *steadyBody) open() error {
	return r.s.again(r.ctx, steadyAttempts, func(context.Context, *moving) error {
		ctx, m := r.s.watch(r.ctx)
		body, err := r.s.Storage.Get(ctx, r.key, r.offset, r.left)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil && r.ctx.Err() == nil {
				err = fmt.Errorf("%w: %w", cause, err)
			}
			m.stop()
			return err
		}
		m.hold()
		r.body, r.within, r.m = body, ctx, m
		return nil
	})
}

// Read implements io.Reader.
func (r *steadyBody) Read(p []byte) (int, error) {
	for {
		r.m.moved()
		n, err := r.body.Read(p)
		r.m.hold()
		r.offset += int64(n)
		if r.left >= 0 {
			r.left -= int64(n)
		}
		if n > 0 {
			r.fails = 0
		}
		stalled := r.ctx.Err() == nil && context.Cause(r.within) != nil
		if err == nil || errors.Is(err, io.EOF) || r.ctx.Err() != nil || final(err) && !stalled {
			return n, err
		}
		if stalled {
			err = fmt.Errorf("%w for %s: %w", errStalled, r.s.stall, err)
		}
		if n > 0 {
			return n, nil // the error comes again with the next read
		}
		if r.fails++; r.fails >= steadyAttempts {
			return 0, err
		}
		_ = r.body.Close() // it has failed
		r.m.stop()
		if !pause(r.ctx, steadyPause/2+rand.N(steadyPause/2)) {
			return 0, err
		}
		if err := r.open(); err != nil {
			return 0, err
		}
	}
}

// Close implements io.Closer.
func (r *steadyBody) Close() error {
	defer r.m.stop()
	return r.body.Close()
}

// List implements Storage. A list that breaks off is gone on with behind the last object.
func (s *steady) List(ctx context.Context, prefix, after string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		enough := false
		err := s.again(ctx, steadyAttempts, func(ctx context.Context, m *moving) error {
			for o, err := range s.Storage.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				m.hold()
				if enough = !yield(o, nil); enough {
					return nil
				}
				after = o.Key
				m.moved()
			}
			return nil
		})
		if err != nil && !enough {
			yield(Object{}, err)
		}
	}
}
