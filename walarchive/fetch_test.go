package walarchive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	const wait = 10 * time.Minute
	for _, tt := range []struct {
		found             walarchive.Finding
		standby, recovery int
		patience          time.Duration // of recovery
	}{
		{walarchive.Present, 0, 0, 0},
		{walarchive.Absent, 1, 1, 0},
		{walarchive.Hole, 1, 201, 2 * time.Second},
		{walarchive.Damaged, 1, 202, 0},
		{walarchive.Away, 1, 200, wait},
		{walarchive.Internal, 1, 203, 0},
		{99, 1, 203, 0},
	} {
		if v := walarchive.Decide(walarchive.StandbyCaller, tt.found, wait); v.Exit != tt.standby || v.Patience > 2*time.Second {
			t.Errorf("standby, finding %d: %+v, want exit %d within 2s", tt.found, v, tt.standby)
		}
		for _, who := range []walarchive.Caller{walarchive.RecoverCaller, walarchive.OtherCaller} {
			if v := walarchive.Decide(who, tt.found, wait); v.Exit != tt.recovery || v.Patience != tt.patience {
				t.Errorf("caller %d, finding %d: %+v, want exit %d and patience %s", who, tt.found, v, tt.recovery, tt.patience)
			}
		}
	}
	if f := walarchive.FindingOf(errors.New("whatever")); f != walarchive.Away {
		t.Errorf("an unknown error counts as %d: it must never be the end of the archive", f)
	}
}

// fetch fetches into a new directory and proves that nothing is left there unless the exit code is 0.
func (b *bench) fetch(t testing.TB, name, signal string) (exit int, content []byte, err error) {
	t.Helper()
	dir := t.TempDir()
	if signal != "" {
		writeFile(t, filepath.Join(dir, signal), nil)
	}
	dest := filepath.Join(dir, "RECOVERYXLOG")
	exit, err = b.Fetch(t.Context(), walarchive.FetchRequest{Name: name, Dest: dest, Dir: dir})
	entries, rerr := os.ReadDir(dir)
	if rerr != nil {
		t.Fatal(rerr)
	}
	for _, e := range entries {
		if e.Name() != signal && (e.Name() != "RECOVERYXLOG" || exit != 0) {
			t.Errorf("exit %d left %s", exit, e.Name())
		}
	}
	if exit == 0 {
		if content, rerr = os.ReadFile(dest); rerr != nil {
			t.Fatal(rerr)
		}
	}
	return exit, content, err
}

// callers are the signal files of the callers.
var callers = []string{"standby.signal", "recovery.signal", ""}

func TestFetch_DecisionTable(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	b.push(t, 1, 2, 3, 5, 6)
	key := func(n int) string { return b.Repo().SegmentKey(testSystem, segmentName(n)) }
	// 2 rots.
	body := storagetest.Read(t, b.storage, key(2))
	body[len(body)/2] ^= 1
	if err := b.storage.Delete(t.Context(), key(2)); err != nil {
		t.Fatal(err)
	}
	storagetest.Put(t, b.storage, key(2), body)
	// 7 was received in part.
	part := segment(segmentName(7), mega, mega)[:mega/2]
	start, err := walarchive.SegmentStart(segmentName(7), mega)
	if err != nil {
		t.Fatal(err)
	}
	for i, piece := range [][]byte{part[:1000], part[1000:]} {
		if err := b.Repo().PutPartial(t.Context(), testSystem, segmentName(7), int64(i)*1000, piece, start, "test"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		what, name string
		exits      [3]int // standby, recovery, other
	}{
		{"present", segmentName(1), [3]int{0, 0, 0}},
		{"damaged", segmentName(2), [3]int{1, 202, 202}},
		{"hole", segmentName(4), [3]int{1, 201, 201}},
		{"history absent", "00000002.history", [3]int{1, 1, 1}},
		{"end with partial", segmentName(7), [3]int{1, 0, 1}},
		{"end", segmentName(8), [3]int{1, 1, 1}},
		{"other timeline", "000000020000000000000001", [3]int{1, 1, 1}},
		{"no WAL", "pg_control", [3]int{1, 203, 203}},
	} {
		for i, signal := range callers {
			exit, content, err := b.fetch(t, tt.name, signal)
			if exit != tt.exits[i] {
				t.Errorf("%s, %q: exit %d (%v), want %d", tt.what, signal, exit, err, tt.exits[i])
			}
			if exit == 0 && len(content) != mega {
				t.Errorf("%s, %q: got %d bytes", tt.what, signal, len(content))
			}
		}
	}
	_, content, _ := b.fetch(t, segmentName(7), "recovery.signal")
	if !bytes.Equal(content[:mega/2], part) || bytes.ContainsFunc(content[mega/2:], func(r rune) bool { return r != 0 }) {
		t.Error("the partial segment was not delivered as it is, with zeros behind")
	}
	for _, event := range []string{"wal.gap", "wal.fetch"} {
		if !strings.Contains(b.log.String(), event) {
			t.Errorf("event %s was not told", event)
		}
	}
	b.storage.Break()
	for i, signal := range callers {
		for _, name := range []string{segmentName(1), segmentName(9), "00000002.history"} {
			want := [3]int{1, 200, 200}[i]
			if exit, _, err := b.fetch(t, name, signal); exit != want {
				t.Errorf("storage away, %s, %q: exit %d (%v), want %d", name, signal, exit, err, want)
			}
		}
	}
}

// TestFetch_HolesAcrossTimelines: a timeline that has nothing before its branch has no hole there, and a branch proves
// that its parent reached it.
func TestFetch_HolesAcrossTimelines(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	b.push(t, 1, 2) // 3 is missing, 4 holds the branch
	key := b.Repo().HistoryKey(testSystem, "00000002.history")
	storagetest.Put(t, b.storage, key, []byte("1\t0/4F0000\tx\n"))
	storagetest.Put(t, b.storage, b.Repo().SegmentKey(testSystem, "000000020000000000000005"), []byte("whatever"))
	for name, want := range map[string]int{
		"000000020000000000000003": 1,   // before the branch: the server asks the parent next
		"000000020000000000000004": 201, // the first of the timeline
		segmentName(3):             201, // the parent reached the branch
		segmentName(4):             1,   // it may have ended in this one
		segmentName(5):             1,
	} {
		if exit, _, err := b.fetch(t, name, "recovery.signal"); exit != want {
			t.Errorf("%s: exit %d (%v), want %d", name, exit, err, want)
		}
	}
}

// TestFetch_EveryCallFails fails the n-th call to the storage, in each way. Whatever happens, recovery never hears that
// the archive ends where it does not, and never gets wrong bytes.
func TestFetch_EveryCallFails(t *testing.T) {
	t.Parallel()
	for _, encrypted := range []bool{false, true} {
		o := walarchive.RepoOptions{}
		if encrypted {
			o.Encryption = encryption(t)
		}
		b := newBench(t, nil, o)
		b.push(t, 1, 2, 4)
		want := segment(segmentName(1), mega, mega)
		for kind := storagetest.Before; kind <= storagetest.Down; kind++ {
			for n := 1; n < 12; n++ {
				for i, truth := range []int{0, 0, 201, 0, 1} {
					faulty := storagetest.NewFaulty(b.storage, kind, n)
					c := *b
					c.config.Fetch.Patience = 0
					c.open(t, b.Repo().With(faulty))
					exit, content, err := c.fetch(t, segmentName(i+1), "recovery.signal")
					switch {
					case exit == truth && (i > 0 || bytes.Equal(content, want)):
					case exit >= 200 && faulty.Calls() >= n:
					default:
						t.Errorf("fault %d at call %d, segment %d: exit %d (%v), the truth is %d", kind, n, i+1, exit, err, truth)
					}
				}
			}
		}
	}
}

func TestFetch_StorageComesBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	b.push(t, 1)
	b.config.Fetch.Patience = time.Minute
	b.open(t, b.Repo())
	b.storage.Break()
	calls := b.storage.Calls()
	mended := make(chan struct{})
	go func() {
		defer close(mended)
		for b.storage.Calls() < calls+3 {
			time.Sleep(time.Millisecond)
		}
		b.storage.Mend()
	}()
	if exit, _, err := b.fetch(t, segmentName(1), "recovery.signal"); exit != 0 {
		t.Errorf("exit %d (%v), want 0 after the storage came back", exit, err)
	}
	<-mended
}

func TestFetch_EncryptedWithoutKey(t *testing.T) {
	t.Parallel()
	e := encryption(t)
	inner := dirStorage(t, t.TempDir())
	newBench(t, inner, walarchive.RepoOptions{Encryption: e}).push(t, 1)
	e.IdentityFile = ""
	b := newBench(t, inner, walarchive.RepoOptions{Encryption: e})
	b.push(t, 1, 2)
	for i, want := range []int{1, 203, 203} {
		if exit, _, err := b.fetch(t, segmentName(1), callers[i]); exit != want || !errors.Is(err, walarchive.ErrNoKey) {
			t.Errorf("%q: exit %d (%v), want %d", callers[i], exit, err, want)
		}
	}
}

func TestFetch_DestinationFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	b.push(t, 1)
	exit, err := b.Fetch(t.Context(), walarchive.FetchRequest{Name: segmentName(1), Dest: "/nowhere/at/all"})
	if exit != walarchive.FetchInternal {
		t.Errorf("exit %d (%v), want %d", exit, err, walarchive.FetchInternal)
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	g := walarchive.Gap{Timeline: 1, From: 0x300000, Reason: "unsetup", Time: time.Now().UTC()}
	for range 2 {
		if err := b.Repo().RecordGap(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Repo().CloseGap(t.Context(), g, "backup x"); err != nil {
		t.Fatal(err)
	}
	gaps, err := b.Repo().Gaps(t.Context())
	if err != nil || len(gaps) != 1 || gaps[0].ClosedBy != "backup x" || gaps[0].From != g.From {
		t.Errorf("gaps = %+v, %v", gaps, err)
	}
}
