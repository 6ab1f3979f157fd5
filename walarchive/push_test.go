package walarchive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

const mega = 1 << 20

// dataDir makes a directory that looks like that of a cluster.
func dataDir(t testing.TB, system uint64) string {
	t.Helper()
	dir := t.TempDir()
	control := make([]byte, 8192)
	binary.LittleEndian.PutUint64(control, system)
	for name, body := range map[string][]byte{"global/pg_control": control, "PG_VERSION": []byte("15\n"), "pg_wal/x": nil} {
		writeFile(t, filepath.Join(dir, name), body)
	}
	return dir
}

func writeFile(t testing.TB, name string, body []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// bench is an archive with a data directory and a storage that fails on demand.
type bench struct {
	*walarchive.Archive
	storage *storagetest.Faulty
	config  walarchive.Config
	log     *bytes.Buffer
}

// newBench makes an archive; inner may be shared with another one, nil is a new directory.
func newBench(t testing.TB, inner walarchive.Storage, o walarchive.RepoOptions) *bench {
	t.Helper()
	if inner == nil {
		inner = dirStorage(t, t.TempDir())
	}
	b := &bench{storage: storagetest.NewFaulty(inner, storagetest.Before, 0), log: &bytes.Buffer{}}
	b.config = walarchive.DefaultConfig()
	b.config.Source, b.config.PGData, b.config.StateDir = "main", dataDir(t, testSystem), t.TempDir()
	b.config.Fetch.Patience = 50 * time.Millisecond
	repo := newRepo(t, b.storage, o)
	if _, err := repo.Enroll(t.Context(), walarchive.Cluster{System: testSystem, Major: 15, Size: mega}); err != nil {
		t.Fatal(err)
	}
	b.open(t, repo)
	return b
}

// open replaces the archive by one that knows nothing yet, as after a restart.
func (b *bench) open(t testing.TB, repo *walarchive.Repo) {
	t.Helper()
	b.Archive = walarchive.NewArchive(repo, b.config, slog.New(slog.NewTextHandler(b.log, nil)))
}

// wal writes a file into pg_wal.
func (b *bench) wal(t testing.TB, name string, content []byte) string {
	t.Helper()
	return writeFile(t, filepath.Join(b.config.PGData, "pg_wal", name), content)
}

func segmentName(n int) string { return fmt.Sprintf("0000000100000000%08X", n) }

// push pushes segments of timeline 1 by number.
func (b *bench) push(t testing.TB, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		path := b.wal(t, segmentName(n), segment(segmentName(n), mega, mega))
		if _, err := b.Push(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPush_NeverOverwrites(t *testing.T) {
	t.Parallel()
	for _, crypt := range []bool{false, true} {
		o := walarchive.RepoOptions{}
		if crypt {
			o.Encryption = encryption(t)
		}
		b := newBench(t, nil, o)
		content := segment(segmentName(3), mega, mega)
		path := b.wal(t, segmentName(3), content)
		for i, stored := range []bool{true, false, false} {
			if p, err := b.Push(t.Context(), path); err != nil || p.Stored != stored || p.Bytes != mega {
				t.Fatalf("push %d: %+v, %v", i, p, err)
			}
		}
		content[mega-1]++
		b.wal(t, segmentName(3), content)
		_, err := b.Push(t.Context(), path)
		if !errors.Is(err, walarchive.ErrConflict) || walarchive.PushExit(err) != walarchive.PushRefused {
			t.Errorf("other content: %v, want ErrConflict", err)
		}
	}
}

// TestPush_RaceOfTwoServers pushes different bytes under one name from two archives at once: one wins, the other is told.
func TestPush_RaceOfTwoServers(t *testing.T) {
	t.Parallel()
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	inner := dirStorage(t, t.TempDir())
	a, b := newBench(t, inner, walarchive.RepoOptions{}), newBench(t, inner, walarchive.RepoOptions{})
	for n := 1; n <= rounds; n++ {
		name := segmentName(n)
		mine, other := segment(name, mega, mega), segment(name, mega, mega)
		other[mega-1]++
		paths := []string{a.wal(t, name, mine), b.wal(t, name, other)}
		errs := make([]error, 2)
		var wait sync.WaitGroup
		for i, x := range []*bench{a, b} {
			wait.Go(func() { _, errs[i] = x.Push(t.Context(), paths[i]) })
		}
		wait.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		var got bytes.Buffer
		_, err := a.Repo().Unseal(t.Context(), a.Repo().SegmentKey(testSystem, name), &got)
		if errs[winner] != nil || !errors.Is(errs[1-winner], walarchive.ErrConflict) || err != nil ||
			!bytes.Equal(got.Bytes(), [][]byte{mine, other}[winner]) {
			t.Fatalf("round %d: %v, %v; the archive: %v", n, errs[0], errs[1], err)
		}
	}
	w, err := a.Repo().Writers(t.Context(), testSystem, 1)
	if err != nil || len(w.Writers) != 2 {
		t.Errorf("writers = %+v, %v; want both", w, err)
	}
	if !strings.Contains(a.log.String()+b.log.String(), "several servers") {
		t.Error("nobody was told that two servers write one timeline")
	}
}

func TestPush_Refuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	good := segment(segmentName(3), mega, mega)
	for what, c := range map[string]struct {
		name    string
		content []byte
		want    error
		exit    int
	}{
		"half":     {segmentName(3), good[:mega/2], walarchive.ErrInvalid, 5},
		"position": {segmentName(4), good, walarchive.ErrInvalid, 5},
		"no WAL":   {"RECOVERYXLOG", good, walarchive.ErrNotWAL, 2},
		"history":  {"00000002.history", []byte("garbage"), walarchive.ErrInvalid, 5},
		"missing":  {segmentName(5), nil, os.ErrNotExist, 1},
	} {
		path := filepath.Join(b.config.PGData, "pg_wal", c.name)
		if c.content != nil {
			b.wal(t, c.name, c.content)
		}
		_, err := b.Push(t.Context(), path)
		if !errors.Is(err, c.want) || walarchive.PushExit(err) != c.exit {
			t.Errorf("%s: %v, exit %d; want %v, exit %d", what, err, walarchive.PushExit(err), c.want, c.exit)
		}
	}
	b.config.PGData = dataDir(t, testSystem+1)
	b.open(t, b.Repo())
	_, err := b.Push(t.Context(), b.wal(t, segmentName(3), good))
	if !errors.Is(err, walarchive.ErrForeignCluster) || walarchive.PushExit(err) != 5 {
		t.Errorf("another cluster: %v", err)
	}
	if keys := storagetest.Keys(t, b.storage, "main/wal/", ""); len(keys) > 0 {
		t.Errorf("stored: %q", keys)
	}
}

func TestPush_Paused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	now := time.Now()
	if err := b.config.SetPause(walarchive.Pause{Reason: "moving house", Since: now, Until: now.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	path := b.wal(t, segmentName(3), segment(segmentName(3), mega, mega))
	_, err := b.Push(t.Context(), path)
	if !errors.Is(err, walarchive.ErrPaused) || !strings.Contains(err.Error(), "moving house") || walarchive.PushExit(err) != 5 {
		t.Errorf("while paused: %v", err)
	}
	if p, err := b.config.Paused(now.Add(2 * time.Hour)); p != nil || err != nil {
		t.Errorf("the pause does not end by itself: %+v, %v", p, err)
	}
	if ended, err := b.config.EndPause(); !ended || err != nil {
		t.Errorf("end of the pause: %t, %v", ended, err)
	}
	if _, err := b.Push(t.Context(), path); err != nil {
		t.Error(err)
	}
}

// TestPush_EveryCallFails fails the n-th call to the storage, for all n, in each way: a push that says yes has stored the
// segment, and after one that says no the next one succeeds.
func TestPush_EveryCallFails(t *testing.T) {
	t.Parallel()
	content := segment(segmentName(3), mega, mega/2)
	for kind := storagetest.Before; kind <= storagetest.Down; kind++ {
		for n := 1; ; n++ {
			b := newBench(t, nil, walarchive.RepoOptions{})
			path := b.wal(t, segmentName(3), content)
			calls := b.storage.Calls()
			faulty := storagetest.NewFaulty(b.storage, kind, n)
			b.open(t, b.Repo().With(faulty))
			_, err := b.Push(t.Context(), path)
			over := faulty.Calls() < n
			if over && (err != nil || n < 4) {
				t.Fatalf("no fault, after %d calls: %v", b.storage.Calls()-calls, err)
			}
			if err != nil && walarchive.PushExit(err) != walarchive.PushFailed && kind != storagetest.Rot && kind != storagetest.Cut {
				t.Errorf("fault %d at call %d: exit %d (%v), want 1", kind, n, walarchive.PushExit(err), err)
			}
			faulty.Mend()
			if err != nil {
				if _, err := b.Push(t.Context(), path); err != nil {
					t.Errorf("fault %d at call %d: the next push: %v", kind, n, err)
				}
			}
			var got bytes.Buffer
			_, err = b.Repo().Unseal(t.Context(), b.Repo().SegmentKey(testSystem, segmentName(3)), &got)
			if err != nil || !bytes.Equal(got.Bytes(), content) {
				t.Errorf("fault %d at call %d: the archive has %d bytes, %v", kind, n, got.Len(), err)
			}
			if over {
				break
			}
		}
	}
}

func TestPush_StorageIsNotMounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBench(t, dirStorage(t, dir), walarchive.RepoOptions{})
	b.push(t, 1)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil { // the mount point
		t.Fatal(err)
	}
	path := b.wal(t, segmentName(2), segment(segmentName(2), mega, mega))
	if _, err := b.Push(t.Context(), path); !errors.Is(err, walarchive.ErrNoRepository) {
		t.Errorf("push: %v, want ErrNoRepository", err)
	}
	exit, err := b.Fetch(t.Context(), walarchive.FetchRequest{Name: segmentName(9), Dest: filepath.Join(t.TempDir(), "x")})
	if exit != walarchive.FetchAway {
		t.Errorf("fetch: exit %d (%v), want %d: an empty mount point is no empty archive", exit, err, walarchive.FetchAway)
	}
}

func TestPush_HistoryBackupAndPartial(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	b.push(t, 1, 2)
	history := []byte("1\t0/2F0000\tno recovery target specified\n")
	label := segmentName(1) + ".00000028.backup"
	partial := segment(segmentName(2), mega, mega/2)
	tail := bytes.Clone(partial)
	copy(tail[mega-10:], "rubbish...")
	for _, c := range []struct {
		name    string
		content []byte
		want    error
		stored  bool
	}{
		{"00000002.history", history, nil, true},
		{"00000002.history", history, nil, false},
		{"00000002.history", []byte("1\t0/2F0001\tx\n"), walarchive.ErrConflict, false},
		{label, []byte("one"), nil, true},
		{label, []byte("one"), nil, false},
		{label, []byte("two"), nil, true},
		{label, []byte("two"), nil, false},
		{segmentName(2) + ".partial", partial, nil, true},
		{segmentName(2) + ".partial", tail, nil, true},
		{segmentName(2) + ".partial", partial, nil, false},
		{segmentName(3) + ".partial", partial, walarchive.ErrInvalid, false},
	} {
		p, err := b.Push(t.Context(), b.wal(t, c.name, c.content))
		if !errors.Is(err, c.want) || p.Stored != c.stored {
			t.Errorf("%s: %+v, %v; want %v, stored %t", c.name, p, err, c.want, c.stored)
		}
	}
	if keys := storagetest.Keys(t, b.storage, "main/wal/7300000000000000001/extra/", ""); len(keys) != 4 {
		t.Errorf("kept beside the WAL: %q, want two labels and two tails", keys)
	}
}

// TestPush_RestoredCopy pushes the new timeline of a copy that was started beside its original.
func TestPush_RestoredCopy(t *testing.T) {
	t.Parallel()
	inner := dirStorage(t, t.TempDir())
	original := newBench(t, inner, walarchive.RepoOptions{})
	original.push(t, 1, 2, 3, 4)
	clone := newBench(t, inner, walarchive.RepoOptions{})
	path := clone.wal(t, "00000002.history", []byte("1\t0/2F0000\tno recovery target specified\n"))
	_, err := clone.Push(t.Context(), path)
	if !errors.Is(err, walarchive.ErrForeignBranch) || walarchive.PushExit(err) != 5 || !strings.Contains(err.Error(), "--adopt") {
		t.Errorf("history of a copy: %v, want ErrForeignBranch with the way out", err)
	}
	if err := clone.Adopt(t.Context(), testSystem, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := clone.Push(t.Context(), path); err != nil {
		t.Errorf("after adoption: %v", err)
	}
	// A standby that took over branches off where the original ended.
	standby := newBench(t, inner, walarchive.RepoOptions{})
	if _, err := standby.Push(t.Context(), standby.wal(t, "00000003.history", []byte("1\t0/4F0000\tpromoted\n"))); err != nil {
		t.Errorf("history of a successor: %v", err)
	}
	// The first segment of its timeline begins with the pages of the parent.
	name := "000000030000000000000004"
	content := segment(name, mega, mega)
	for at := 0; at < mega-8192; at += 8192 {
		content[at+4] = 1
	}
	if _, err := standby.Push(t.Context(), standby.wal(t, name, content)); err != nil {
		t.Errorf("first segment of the successor: %v", err)
	}
	name = "000000030000000000000005"
	content = segment(name, mega, mega)
	content[4] = 2
	if _, err := standby.Push(t.Context(), standby.wal(t, name, content)); !errors.Is(err, walarchive.ErrInvalid) {
		t.Errorf("a segment of a timeline that is no ancestor: %v", err)
	}
}
