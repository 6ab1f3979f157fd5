package walarchive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// newMirrored makes an archive with a second storage.
func newMirrored(t *testing.T) (b *bench, second *storagetest.Faulty, other *walarchive.Repo) {
	t.Helper()
	b = newBench(t, nil, walarchive.RepoOptions{})
	second = storagetest.NewFaulty(dirStorage(t, t.TempDir()), storagetest.Before, 0)
	other = newRepo(t, second, walarchive.RepoOptions{})
	if _, err := other.Enroll(t.Context(), walarchive.Cluster{System: testSystem, Major: 15, Size: mega}); err != nil {
		t.Fatal(err)
	}
	b.config.Storages = []string{"file:///second"}
	b.open(t, b.Repo())
	b.Mirror(func(context.Context, string) (walarchive.Storage, error) { return second, nil })
	return b, second, other
}

// TestMirror_PushGoesToAll: push says yes when all storages have the file; what one could not take is stored there by the
// next attempt, and refusals of one are refusals.
func TestMirror_PushGoesToAll(t *testing.T) {
	t.Parallel()
	b, second, other := newMirrored(t)
	b.push(t, 1)
	for _, r := range []*walarchive.Repo{b.Repo(), other} {
		if _, err := r.HeaderOf(t.Context(), r.SegmentKey(testSystem, segmentName(1))); err != nil {
			t.Error(err)
		}
	}
	path := b.wal(t, segmentName(2), segment(segmentName(2), mega, mega))
	for name, s := range map[string]*storagetest.Faulty{"first": b.storage, "second": second} {
		s.Break()
		if _, err := b.Push(t.Context(), path); walarchive.PushExit(err) != walarchive.PushFailed {
			t.Errorf("%s away: push says %v", name, err)
		}
		s.Mend()
	}
	b.push(t, 2)
	conflict := segment(segmentName(3), mega, mega)
	h, object, err := other.Seal(walarchive.Header{Name: segmentName(3), System: testSystem, Timeline: 1}, append(bytes.Clone(conflict[:mega-1]), 1))
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Put(t, second, other.SegmentKey(testSystem, h.Name), object)
	if _, err := b.Push(t.Context(), b.wal(t, segmentName(3), conflict)); walarchive.PushExit(err) != walarchive.PushRefused || !strings.Contains(err.Error(), "second") {
		t.Errorf("other content in the second: %v, want a refusal that names it", err)
	}
}

// TestMirror_FetchDecisions: what is damaged, missing or away in one storage comes from the other; the end of the archive is
// believed only when both say so.
func TestMirror_FetchDecisions(t *testing.T) {
	t.Parallel()
	b, second, other := newMirrored(t)
	b.push(t, 1, 2, 3, 4, 5)
	drop := func(s walarchive.Storage, r *walarchive.Repo, n int) {
		t.Helper()
		if err := s.Delete(t.Context(), r.SegmentKey(testSystem, segmentName(n))); err != nil {
			t.Fatal(err)
		}
	}
	drop(b.storage, b.Repo(), 2) // a hole in the first only
	key := b.Repo().SegmentKey(testSystem, segmentName(3))
	body := storagetest.Read(t, b.storage, key)
	body[len(body)/2] ^= 1
	drop(b.storage, b.Repo(), 3)
	storagetest.Put(t, b.storage, key, body) // rotten in the first only
	drop(b.storage, b.Repo(), 5)             // only the second has the end; the first has a part of it
	start, err := walarchive.SegmentStart(segmentName(5), mega)
	if err == nil {
		err = b.Repo().PutPartial(t.Context(), testSystem, segmentName(5), 0, segment(segmentName(5), mega, mega)[:8192], start, "test")
	}
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, n int, want [3]int) {
		t.Helper()
		for i, signal := range callers {
			exit, content, err := b.fetch(t, segmentName(n), signal)
			if exit != want[i] || exit == 0 && !bytes.Equal(content, segment(segmentName(n), mega, mega)) {
				t.Errorf("%s, segment %d, %q: exit %d (%v), want %d", what, n, signal, exit, err, want[i])
			}
		}
	}
	for n := 1; n <= 5; n++ {
		check("both there", n, [3]int{})
	}
	check("behind the end", 6, [3]int{1, 1, 1})
	if !strings.Contains(b.log.String(), "came from another storage") {
		t.Error("nobody was told that the first storage is not whole")
	}
	second.Break()
	check("second away", 1, [3]int{})
	check("second away", 3, [3]int{1, 200, 200})
	check("second away", 5, [3]int{1, 200, 200}) // the part would end recovery early
	check("second away", 6, [3]int{1, 200, 200})
	second.Mend()
	b.storage.Break()
	for n := 1; n <= 5; n++ {
		check("first away", n, [3]int{})
	}
	check("first away", 6, [3]int{1, 200, 200})
	b.storage.Mend()
	drop(second, other, 3)
	check("damaged here, missing there", 3, [3]int{1, 202, 202})
}

// TestOpenAny_FirstAway: where the first storage is away, what is fetched comes from the second.
func TestOpenAny_FirstAway(t *testing.T) {
	t.Parallel()
	b, second, _ := newMirrored(t)
	b.push(t, 1)
	b.config.Storage, b.config.Storages = "first", []string{"second"}
	var opened []string
	open := func(_ context.Context, url string) (walarchive.Storage, error) {
		opened = append(opened, url)
		return map[string]walarchive.Storage{"first": b.storage, "second": second}[url], nil
	}
	b.storage.Break()
	a, err := walarchive.OpenAny(t.Context(), open, b.config, slog.New(slog.DiscardHandler))
	if err != nil || !slices.Equal(opened, []string{"first", "second"}) {
		t.Fatalf("opened %q: %v", opened, err)
	}
	b.Archive = a
	if exit, _, err := b.fetch(t, segmentName(1), "recovery.signal"); exit != 0 {
		t.Errorf("exit %d: %v", exit, err)
	}
	if exit, _, err := b.fetch(t, segmentName(2), "recovery.signal"); exit != 200 {
		t.Errorf("not in the one that answers: exit %d (%v), want 200", exit, err)
	}
	second.Break()
	if _, err := walarchive.OpenAny(t.Context(), open, b.config, slog.New(slog.DiscardHandler)); !errors.Is(err, storagetest.ErrFault) {
		t.Errorf("both away: %v", err)
	}
}

func TestSteady_Conformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) func() walarchive.Storage {
		dir := t.TempDir()
		return func() walarchive.Storage { return walarchive.Steady(dirStorage(t, dir), time.Minute) }
	})
}

// TestSteady_OneFaultIsBorne: one failure of any call, with or without its effect, is not seen.
func TestSteady_OneFaultIsBorne(t *testing.T) {
	t.Parallel()
	for _, kind := range []storagetest.Fault{storagetest.Before, storagetest.After} {
		faulty := storagetest.NewFaulty(dirStorage(t, t.TempDir()), kind, 0)
		s := walarchive.Steady(faulty, time.Minute)
		ctx, body, tag := t.Context(), storagetest.Body(1, 100_000), ""
		for i, call := range []func(key string) error{
			func(key string) error {
				err := s.Put(ctx, key, bytes.NewReader(body), walarchive.PutOptions{Size: int64(len(body))})
				if kind == storagetest.After && errors.Is(err, walarchive.ErrExists) {
					err = nil // who asks compares then
				}
				return err
			},
			func(string) (err error) { tag, err = s.PutIf(ctx, "json", []byte("1"), ""); return err },
			func(string) (err error) { tag, err = s.PutIf(ctx, "json", []byte("2"), tag); return err },
			func(string) error { _, err := s.Head(ctx, "json"); return err },
			func(string) error {
				r, err := s.Get(ctx, "x0", 0, -1)
				if err == nil {
					err = r.Close()
				}
				return err
			},
			func(string) error {
				for _, err := range s.List(ctx, "", "") {
					if err != nil {
						return err
					}
				}
				return nil
			},
			func(string) error { return s.Delete(ctx, "x0") },
		} {
			faulty.FailNext()
			if err := call(fmt.Sprintf("x%d", i)); err != nil {
				t.Errorf("fault %d, call %d: %v", kind, i, err)
			}
		}
		if got := string(storagetest.Read(t, s, "json")); got != "2" || tag == "" {
			t.Errorf("in the end: %q with tag %q", got, tag)
		}
		if _, err := s.PutIf(ctx, "json", []byte("3"), "of nobody"); !errors.Is(err, walarchive.ErrChanged) {
			t.Errorf("another one's change: %v", err)
		}
	}
}

// stuck is a storage whose first calls do not answer.
type stuck struct {
	walarchive.Storage
	calls int
}

// Head implements walarchive.Storage.
func (s *stuck) Head(ctx context.Context, key string) (walarchive.Object, error) {
	if s.calls--; s.calls >= 0 {
		<-ctx.Done()
		return walarchive.Object{}, ctx.Err()
	}
	return s.Storage.Head(ctx, key)
}

// TestSteady_StandstillEnds: a call that does not answer is given up and made again; when none answers, that is the error.
func TestSteady_StandstillEnds(t *testing.T) {
	t.Parallel()
	inner := dirStorage(t, t.TempDir())
	storagetest.Put(t, inner, "a", []byte("x"))
	if _, err := walarchive.Steady(&stuck{inner, 2}, 10*time.Millisecond).Head(t.Context(), "a"); err != nil {
		t.Errorf("the third attempt answers: %v", err)
	}
	_, err := walarchive.Steady(&stuck{inner, 99}, 10*time.Millisecond).Head(t.Context(), "a")
	if err == nil || errors.Is(err, walarchive.ErrNotFound) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("no attempt answers: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := walarchive.Steady(&stuck{inner, 99}, time.Hour).Head(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// staleList is a storage whose lists show nothing that was stored lately.
type staleList struct{ walarchive.Storage }

// List implements walarchive.Storage.
func (staleList) List(context.Context, string, string) iter.Seq2[walarchive.Object, error] {
	return func(func(walarchive.Object, error) bool) {}
}

// TestFetch_StaleList: what a list does not show is asked for by name: a hole is a hole, and what is there is there.
func TestFetch_StaleList(t *testing.T) {
	t.Parallel()
	inner := dirStorage(t, t.TempDir())
	newBench(t, inner, walarchive.RepoOptions{}).push(t, 1, 2, 4)
	b := newBench(t, inner, walarchive.RepoOptions{})
	b.open(t, b.Repo().With(staleList{inner}))
	b.push(t, 2, 5)
	for n, want := range map[int]int{2: 0, 3: 201, 4: 0, 5: 0, 6: 1} {
		if exit, _, err := b.fetch(t, segmentName(n), "recovery.signal"); exit != want {
			t.Errorf("segment %d: exit %d (%v), want %d", n, exit, err, want)
		}
	}
}
