package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/skytools/skyd/walarchive"
)

// ErrFault is the failure that Faulty makes.
var ErrFault = errors.New("fault made by the test")

// Fault is one way to fail.
type Fault int

// The ways to fail.
const (
	Before Fault = iota // the call has no effect and fails
	After               // the call has its effect and fails: an answer that was lost
	Cut                 // a body that is read ends in the middle, without an error where that is possible
	Rot                 // one byte of a body that is read is another one
	Down                // this call and all later ones fail without effect
)

// Faulty is a storage that fails at a call of its life.
type Faulty struct {
	walarchive.Storage
	mu    sync.Mutex
	calls int
	at    int
	kind  Fault
}

// NewFaulty fails the n-th call to inner, counted from 1; 0: none, until Break.
func NewFaulty(inner walarchive.Storage, kind Fault, n int) *Faulty {
	return &Faulty{Storage: inner, kind: kind, at: n}
}

// Calls is how many calls there were.
func (f *Faulty) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Break takes the storage down from now on.
func (f *Faulty) Break() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kind, f.at = Down, f.calls+1
}

// FailNext makes the next call fail in the way of NewFaulty.
func (f *Faulty) FailNext() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.calls + 1
}

// Mend ends all faults.
func (f *Faulty) Mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = 0
}

// fault counts a call and tells whether it fails.
func (f *Faulty) fault() (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return f.kind, f.at > 0 && (f.calls == f.at || f.kind == Down && f.calls > f.at)
}

// do runs a call that has an effect.
func (f *Faulty) do(what string, call func() error) error {
	kind, fails := f.fault()
	if fails && kind == After {
		if err := call(); err != nil {
			return err
		}
	}
	if fails {
		return fmt.Errorf("%s: %w", what, ErrFault)
	}
	return call()
}

// Put implements walarchive.Storage.
func (f *Faulty) Put(ctx context.Context, key string, body io.Reader, opts walarchive.PutOptions) error {
	return f.do("put "+key, func() error { return f.Storage.Put(ctx, key, body, opts) })
}

// PutIf implements walarchive.Storage.
func (f *Faulty) PutIf(ctx context.Context, key string, body []byte, etag string) (tag string, err error) {
	err = f.do("put "+key, func() (err error) {
		tag, err = f.Storage.PutIf(ctx, key, body, etag)
		return err
	})
	return tag, err
}

// Head implements walarchive.Storage.
func (f *Faulty) Head(ctx context.Context, key string) (o walarchive.Object, err error) {
	err = f.do("head "+key, func() (err error) {
		o, err = f.Storage.Head(ctx, key)
		return err
	})
	return o, err
}

// Delete implements walarchive.Storage.
func (f *Faulty) Delete(ctx context.Context, keys ...string) error {
	return f.do("delete", func() error { return f.Storage.Delete(ctx, keys...) })
}

// Get implements walarchive.Storage.
func (f *Faulty) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	kind, fails := f.fault()
	if fails && kind != Cut && kind != Rot {
		return nil, fmt.Errorf("get %s: %w", key, ErrFault)
	}
	r, err := f.Storage.Get(ctx, key, offset, length)
	if err != nil || !fails {
		return r, err
	}
	o, err := f.Storage.Head(ctx, key)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &spoilt{ReadCloser: r, left: o.Size / 2, rot: kind == Rot}, nil
}

// spoilt cuts a body, or changes a byte of it.
type spoilt struct {
	io.ReadCloser
	left int64
	rot  bool
}

// Read implements io.Reader.
func (s *spoilt) Read(p []byte) (int, error) {
	if !s.rot && s.left <= 0 {
		return 0, io.EOF
	}
	if !s.rot && int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.ReadCloser.Read(p)
	if s.rot && s.left >= 0 && s.left < int64(n) {
		p[s.left] ^= 0x40
	}
	s.left -= int64(n)
	if s.rot && s.left < 0 {
		s.left = -1
	}
	return n, err
}

// List implements walarchive.Storage.
func (f *Faulty) List(ctx context.Context, prefix, after string) iter.Seq2[walarchive.Object, error] {
	if _, fails := f.fault(); fails {
		return func(yield func(walarchive.Object, error) bool) {
			yield(walarchive.Object{}, fmt.Errorf("list %s: %w", prefix, ErrFault))
		}
	}
	return f.Storage.List(ctx, prefix, after)
}
