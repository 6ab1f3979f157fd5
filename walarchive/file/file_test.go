package file

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

func handle(t *testing.T, dir string) *Storage {
	t.Helper()
	s, err := open(&url.URL{Scheme: "file", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStorage_Conformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) func() walarchive.Storage {
		dir := t.TempDir()
		return func() walarchive.Storage { return handle(t, dir) }
	})
}

// TestStorage_DeathAtEveryCall dies at each call that changes the directory: nothing after it happens, as after kill
// -9. The object is absent or complete then, and a second attempt ends well, whatever is left.
func TestStorage_DeathAtEveryCall(t *testing.T) {
	t.Parallel()
	died := errors.New("died")
	body := storagetest.Body(1, 100_000)
	for _, replace := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := t.TempDir()
			s := handle(t, dir)
			tag := ""
			if replace {
				var err error
				if tag, err = s.PutIf(t.Context(), "a/b/c", []byte("old"), ""); err != nil {
					t.Fatal(err)
				}
			}
			calls := 0
			s.step = func(string) error {
				if calls++; calls >= n {
					return died
				}
				return nil
			}
			var err error
			if replace {
				_, err = s.PutIf(t.Context(), "a/b/c", body, tag)
			} else {
				err = s.Put(t.Context(), "a/b/c", bytes.NewReader(body), walarchive.PutOptions{})
			}
			if calls < n {
				if err != nil || n < 8 {
					t.Fatalf("without a death: %v, after %d calls", err, calls)
				}
				break
			}
			if err == nil {
				t.Fatalf("put said yes, but died at call %d", n)
			}
			checkAfterDeath(t, handle(t, dir), body, replace)
		}
	}
}

func checkAfterDeath(t *testing.T, s *Storage, body []byte, replace bool) {
	t.Helper()
	for _, key := range storagetest.Keys(t, s, "", "") {
		got := storagetest.Read(t, s, key)
		if key != "a/b/c" || !bytes.Equal(got, body) && !(replace && string(got) == "old") {
			t.Errorf("found %q with %d bytes", key, len(got))
		}
	}
	if replace {
		return
	}
	err := s.Put(t.Context(), "a/b/c", bytes.NewReader(body), walarchive.PutOptions{})
	if err != nil && !errors.Is(err, walarchive.ErrExists) {
		t.Errorf("again: %v", err)
	}
	if got := storagetest.Read(t, s, "a/b/c"); !bytes.Equal(got, body) {
		t.Errorf("in the end there are %d bytes", len(got))
	}
	before, err := filepath.Glob(filepath.Join(s.dir, "a/b", tempPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, name := range before {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	s = handle(t, s.dir)
	storagetest.Put(t, s, "a/b/d", body)
	if left, err := filepath.Glob(filepath.Join(s.dir, "a/b", tempPrefix+"*")); err != nil || len(left) > 0 {
		t.Errorf("leftovers: %q, %v", left, err)
	}
}

func TestStorage_GoneIsNotEmpty(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "mount")
	s := handle(t, dir)
	storagetest.Put(t, s, "a", []byte("x"))
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context(), "a"); err == nil || errors.Is(err, walarchive.ErrNotFound) {
		t.Errorf("head of a storage that is away: %v; want an error that is not ErrNotFound", err)
	}
	for _, err := range s.List(t.Context(), "", "") {
		if err == nil {
			t.Error("a storage that is away was listed")
		}
	}
}

func TestOpen_Refuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"file:relative", "file://host/dir", "s3://x/y", "file:///a?b=c"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), u); err == nil || !strings.Contains(err.Error(), "must") {
			t.Errorf("open %s: %v", text, err)
		}
	}
}

// TestStorage_RootStoresForTheOwner: what root stores belongs to the owner of the directory.
func TestStorage_RootStoresForTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("not root: nothing to give away")
		return
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	storagetest.Put(t, handle(t, dir), "a/b/c", []byte("content"))
	for _, name := range []string{"a", "a/b", "a/b/c"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 12345 || owner.Gid != 12345 {
			t.Errorf("%s belongs to %d:%d, want the owner of the directory", name, owner.Uid, owner.Gid)
		}
	}
}
