package actors

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/walarchive"
)

// fakeArchive stores names.
type fakeArchive struct {
	mu     sync.Mutex
	pushed []string
	fail   error
	hold   chan struct{} // pushes wait for it; nil: not
}

// Push implements ArchiveHandle.
func (a *fakeArchive) Push(ctx context.Context, path string) (walarchive.Pushed, error) {
	a.mu.Lock()
	hold := a.hold
	a.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return walarchive.Pushed{}, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pushed = append(a.pushed, filepath.Base(path))
	return walarchive.Pushed{Bytes: 10}, a.fail
}

// Fetch implements ArchiveHandle.
func (a *fakeArchive) Fetch(context.Context, walarchive.FetchRequest) (int, error) { return 0, nil }

// FetchAhead implements ArchiveHandle.
func (a *fakeArchive) FetchAhead(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close implements ArchiveHandle.
func (a *fakeArchive) Close() error { return nil }

func (a *fakeArchive) names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.pushed)
}

// wals are segments that are ready in a data directory.
var wals = []string{"000000010000000000000001", "000000010000000000000002", "000000010000000000000003", "000000010000000000000004"}

func playShipper(t *testing.T, a *fakeArchive) *stage {
	t.Helper()
	pgdata := t.TempDir()
	for _, name := range wals {
		file := filepath.Join(pgdata, "pg_wal/archive_status", name+".ready")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	p := ArchiveParams{Source: "main", PGData: pgdata, Workers: 2, LookPeriod: 10 * time.Second, PushTimeout: time.Minute}
	return play(t, "shipper", func(env Env) *actor.Props { return shipperProps(env, p, a) })
}

// push asks the shipper as the gate does.
func (s *stage) push(name string) <-chan error {
	reply := make(chan error, 1)
	s.system.Root.Send(s.child, pushFile{name: name, reply: reply})
	return reply
}

func TestShipper_LooksAheadAndSaysYesOnlyForWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeArchive{hold: make(chan struct{})}
		s := playShipper(t, a)
		synctest.Wait()
		if n := len(a.names()); n != 0 {
			t.Errorf("%d files pushed before the archiver asked", n)
		}
		first := s.push(wals[0])
		synctest.Wait()
		second := s.push(wals[1])
		synctest.Wait()
		select {
		case err := <-first:
			t.Errorf("answered %v before the file was stored", err)
		default:
		}
		close(a.hold)
		synctest.Wait()
		if err := errors.Join(<-first, <-second); err != nil {
			t.Error(err)
		}
		if got := a.names(); len(got) != 4 {
			t.Errorf("pushed %q, want what the archiver will ask for next too", got)
		}
		if err := <-s.push(wals[2]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := a.names(); len(got) != 4 {
			t.Errorf("pushed %q: a stored file was pushed again", got)
		}
		st := s.snapshot().Archives
		if len(st) != 1 || st[0].Archived != 4 || st[0].Bytes != 40 || st[0].Ready != 4 || st[0].Last == "" {
			t.Errorf("status: %+v", st)
		}
	})
}

func TestShipper_FailureIsTheAnswerAndIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeArchive{fail: walarchive.ErrConflict}
		s := playShipper(t, a)
		if err := <-s.push(wals[0]); !errors.Is(err, walarchive.ErrConflict) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if st := s.actor("/shipper"); st.State != messages.Backoff || st.LastError == "" {
			t.Errorf("state: %+v", st)
		}
		if st := s.snapshot().Archives[0]; st.Failed != 1 || st.Refused["conflict"] != 1 || st.LastError == "" {
			t.Errorf("status: %+v", st)
		}
		a.mu.Lock()
		a.fail = nil
		a.mu.Unlock()
		if err := <-s.push(wals[0]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if st := s.actor("/shipper"); st.State != messages.Running {
			t.Errorf("state: %+v", st)
		}
	})
}

func TestShipper_StopDuringPushIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeArchive{hold: make(chan struct{})}
		s := playShipper(t, a)
		reply := s.push(wals[0])
		synctest.Wait()
		s.system.Root.Stop(s.child)
		synctest.Wait()
		select {
		case err := <-reply:
			t.Errorf("a push that was cut off was answered with %v", err)
		default: // the gate asks the next incarnation
		}
		if got := a.names(); len(got) > 0 {
			t.Errorf("pushed %q", got)
		}
	})
}
