package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// fakeConsumer is a source of batches; what happens to each is a function.
type fakeConsumer struct {
	diary
	mu      sync.Mutex
	id      int64
	waiting int                                                    // batches that wait
	next    func() error                                           // before a batch is opened
	process func(ctx context.Context, id int64) (Processed, error) // of a batch
	closed  int
	opened  []int64 // epochs
}

func (f *fakeConsumer) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeConsumer) Next(context.Context) (OpenBatch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != nil {
		if err := f.next(); err != nil {
			return nil, err
		}
	}
	if f.waiting <= 0 {
		return nil, nil
	}
	return &fakeBatch{f: f, id: f.id + 1}, nil
}

func (f *fakeConsumer) Classify(err error) Trouble {
	switch {
	case errors.Is(err, errLost):
		return Trouble{Reason: "closed", Lost: true, Outage: true}
	case errors.Is(err, errAuth):
		return Trouble{Reason: "auth", Permanent: true}
	}
	return Trouble{Reason: "other"}
}

func (f *fakeConsumer) Close(context.Context) { f.with(func() { f.closed++ }) }

// fakeBatch is open until it was processed without an error.
type fakeBatch struct {
	f  *fakeConsumer
	id int64
}

func (b *fakeBatch) Info() messages.Batch { return messages.Batch{ID: b.id, TickTime: time.Now()} }

func (b *fakeBatch) Process(ctx context.Context) (Processed, error) {
	b.f.add(fmt.Sprint("batch ", b.id))
	p, err := Processed{Events: 1}, error(nil)
	if b.f.process != nil {
		p, err = b.f.process(ctx, b.id)
	}
	if err == nil {
		b.f.with(func() { b.f.id, b.f.waiting = b.id, b.f.waiting-1 })
	}
	return p, err
}

// playConsumer plays a consumer with these parameters.
func playConsumer(t *testing.T, f *fakeConsumer, workers int) *stage {
	t.Helper()
	p := ConsumerParams{
		Queue: "q", Name: "c", Workers: workers, PollPeriod: time.Second, BatchTimeout: 10 * time.Second,
		Open: func(_ int, _ string, epoch int64) (ConsumerSource, error) {
			f.with(func() { f.opened = append(f.opened, epoch) })
			return f, nil
		},
	}
	return play(t, "consumer", func(env Env) *actor.Props { return consumerProps(env, "main", p) })
}

// worker is the first worker in the status.
func (s *stage) worker() messages.WorkerStatus {
	s.t.Helper()
	workers := s.snapshot().Workers
	if len(workers) == 0 {
		return messages.WorkerStatus{}
	}
	return workers[0]
}

func TestConsumer_WorksOffAndIsWokenByTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeConsumer{waiting: 3}
		s := playConsumer(t, f, 1)
		synctest.Wait()
		if got := strings.Join(f.all(), ", "); got != "batch 1, batch 2, batch 3" {
			t.Errorf("got %s", got)
		}
		start := time.Now()
		f.with(func() { f.waiting++ })
		s.system.Root.Send(s.child, messages.TickMade{Queue: "q", Tick: 9})
		synctest.Wait()
		if len(f.all()) != 4 || !time.Now().Equal(start) {
			t.Errorf("a tick did not wake it: %v", f.all())
		}
		f.with(func() { f.waiting++ })
		time.Sleep(1100 * time.Millisecond)
		if len(f.all()) != 5 {
			t.Errorf("it does not look by itself: %v", f.all())
		}
		if w := s.worker(); w.Finished != 5 || w.Events != 5 || w.Failed != 0 {
			t.Errorf("got %+v", w)
		}
	})
}

// A poisoned batch comes again in growing distance, up to a minute; an outage in shorter ones.
func TestConsumer_PauseGrowsAfterFailures(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		limit time.Duration
		least int // attempts in an hour
		state messages.State
	}{
		"poisoned": {errors.New("poison"), pauseLimit, 60, messages.Backoff},
		"outage":   {errLost, reconnectLimit, 900, messages.Backoff},
		"human":    {errAuth, permanentPause, 100, messages.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				f := &fakeConsumer{waiting: 1, process: func(context.Context, int64) (Processed, error) {
					at = append(at, time.Now())
					return Processed{}, c.err
				}}
				s := playConsumer(t, f, 1)
				time.Sleep(time.Hour)
				synctest.Wait()
				longest := time.Duration(0)
				for i := 1; i < len(at); i++ {
					longest = max(longest, at[i].Sub(at[i-1]))
				}
				if len(at) < c.least || longest > c.limit+time.Second {
					t.Errorf("%d attempts, %v apart at most", len(at), longest)
				}
				if name == "poisoned" && len(at) > 500 {
					t.Errorf("%d attempts in an hour: the distance does not grow", len(at))
				}
				a, w := s.actor("/consumer"), s.worker()
				if a.State != c.state || a.LastError != c.err.Error() || a.NextRetry.IsZero() || a.Restarts != 0 || w.Fails != len(at) {
					t.Errorf("got %+v, %+v", a, w)
				}
				if troubled := strings.Contains(strings.Join(s.heard.all(), " "), "DatabaseTroubled"); troubled != (name == "outage") {
					t.Errorf("the parent was told: %v", troubled)
				}
				f.with(func() { f.process = nil })
				time.Sleep(c.limit + time.Second)
				if w := s.worker(); w.Fails != 0 || w.Finished != 1 {
					t.Errorf("after the cure: %+v", w)
				}
			})
		})
	}
}

// A panic in the code around the handler ends the batch's actor only; it is visible and comes again after a pause.
func TestConsumer_PanicEndsTheBatchOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := 3
		f := &fakeConsumer{waiting: 1}
		f.process = func(context.Context, int64) (Processed, error) {
			if panics--; panics >= 0 {
				panic("no")
			}
			return Processed{Events: 1}, nil
		}
		s := playConsumer(t, f, 1)
		time.Sleep(time.Minute)
		a, w := s.actor("/consumer"), s.worker()
		if a.State != messages.Running || a.Restarts != 3 || !strings.Contains(a.LastError, "no") || w.Failed != 3 || w.Finished != 1 {
			t.Errorf("got %+v, %+v", a, w)
		}
	})
}

// A handler that ends with its context costs one attempt; those that do not are given up, and when too many have not
// returned, no more are started until one does.
func TestConsumer_HandlersThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		running := 0
		f := &fakeConsumer{waiting: 1}
		f.process = func(context.Context, int64) (Processed, error) {
			f.with(func() { running++ })
			<-release // whatever the context says
			f.with(func() { running-- })
			return Processed{}, errors.New("too late")
		}
		s := playConsumer(t, f, 1)
		time.Sleep(time.Hour)
		a, w := s.actor("/consumer"), s.worker()
		if w.Leaked != maxLeaked || len(f.all()) != maxLeaked {
			t.Errorf("%d handlers hang, %d were started, want %d: %+v", w.Leaked, len(f.all()), maxLeaked, w)
		}
		if a.State != messages.Failed || !strings.Contains(a.Note, "3 handlers do not return") {
			t.Errorf("got %+v", a)
		}
		f.with(func() { f.process = nil })
		close(release)
		time.Sleep(time.Minute)
		if w := s.worker(); w.Leaked != 0 || w.Finished != 1 || running != 0 {
			t.Errorf("after they returned: %+v, %d run", w, running)
		}
	})
}

func TestConsumer_HandlerThatObeysItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeConsumer{waiting: 1}
		var cause error
		f.process = func(ctx context.Context, _ int64) (Processed, error) {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return Processed{}, cause
		}
		s := playConsumer(t, f, 1)
		time.Sleep(11 * time.Second)
		if w := s.worker(); !errors.Is(cause, errBatchTimeout) || w.Leaked != 0 || w.Failed != 1 {
			t.Errorf("got %v, %+v", cause, w)
		}
	})
}

// Stopping cancels the handler and leaves the group, and waits no longer than its grace for one that does not care.
func TestConsumer_StopsInTheMiddle(t *testing.T) {
	for name, obeys := range map[string]bool{"handler obeys": true, "handler does not care": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				f := &fakeConsumer{waiting: 1}
				f.process = func(ctx context.Context, _ int64) (Processed, error) {
					if obeys {
						<-ctx.Done()
					} else {
						<-release
					}
					return Processed{}, ctx.Err()
				}
				s := playConsumer(t, f, 1)
				start := time.Now()
				s.system.Root.Stop(s.child)
				time.Sleep(3 * haltGrace)
				synctest.Wait()
				f.with(func() {
					if f.closed != 1 {
						t.Errorf("closed %d times", f.closed)
					}
				})
				if time.Since(start) > 3*haltGrace {
					t.Error("stopping hung")
				}
				close(release)
			})
		})
	}
}

func TestConsumer_LostBatchIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeConsumer{waiting: 2, process: func(_ context.Context, id int64) (Processed, error) {
			return Processed{Events: 1, Lost: id == 1}, nil
		}}
		s := playConsumer(t, f, 1)
		if w := s.worker(); w.Lost != 1 || w.Finished != 1 || w.Fails != 0 || w.Failed != 0 {
			t.Errorf("got %+v", w)
		}
	})
}

// One member that hangs does not hold up the others, and a group has one actor per member.
func TestConsumer_GroupGoesOnBesideAHangingMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fakeConsumer{waiting: 50}
		var first sync.Once
		f.process = func(context.Context, int64) (Processed, error) {
			hang := false
			first.Do(func() { hang = true })
			if hang {
				<-release
			}
			return Processed{Events: 1}, nil
		}
		s := playConsumer(t, f, 3)
		time.Sleep(5 * time.Second)
		var done int64
		for _, w := range s.snapshot().Workers {
			done += w.Finished
		}
		if done < 49 {
			t.Errorf("%d batches are done", done)
		}
		for i := 1; i <= 3; i++ {
			if a := s.actor(fmt.Sprint("/sub/", i)); a.Kind != kindSubconsumer || a.State != messages.Running {
				t.Errorf("member %d: %+v", i, a)
			}
		}
		close(release)
		synctest.Wait()
	})
}
