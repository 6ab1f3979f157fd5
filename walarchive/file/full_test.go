//go:build linux

package file

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// TestStorage_FullAndReadOnly: on a disk that is full, or read-only after an error, nothing half is left and what was there
// stays; room is enough to go on.
func TestStorage_FullAndReadOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("skyd", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("only root may mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := handle(t, dir)
	first := storagetest.Body(1, 300_000)
	storagetest.Put(t, s, "wal/first", first)
	tag, err := s.PutIf(t.Context(), "small.json", []byte("old"), "")
	if err != nil {
		t.Fatal(err)
	}
	whole := func(what string) {
		t.Helper()
		if got := storagetest.Read(t, s, "wal/first"); !bytes.Equal(got, first) {
			t.Errorf("%s: the first object has %d bytes", what, len(got))
		}
		if _, err := s.Head(t.Context(), "wal/second"); !errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("%s: head of the second object: %v", what, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*", tempPrefix+"*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %q, %v", what, left, err)
		}
		if got := string(storagetest.Read(t, s, "small.json")); got != "old" {
			t.Errorf("%s: the small object is %q", what, got)
		}
	}
	second := storagetest.Body(2, 900_000)
	put := func() error {
		return s.Put(t.Context(), "wal/second", bytes.NewReader(second), walarchive.PutOptions{Size: int64(len(second))})
	}
	if err := put(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("put on a full disk: %v", err)
	}
	if _, err := s.PutIf(t.Context(), "small.json", bytes.Repeat([]byte("new"), 300_000), tag); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("replace on a full disk: %v", err)
	}
	whole("full")
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := put(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("put on a read-only disk: %v", err)
	}
	if _, err := s.PutIf(t.Context(), "small.json", []byte("new"), tag); !errors.Is(err, syscall.EROFS) {
		t.Errorf("replace on a read-only disk: %v", err)
	}
	if err := s.Delete(t.Context(), "wal/first"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("delete on a read-only disk: %v", err)
	}
	whole("read-only")
	if err := errors.Join(syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=2m"), put()); err != nil {
		t.Errorf("with room: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "wal", "second")); err != nil {
		t.Error(err)
	}
}
