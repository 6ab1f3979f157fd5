package walarchive_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
)

// TestPrefetcher_DeliversTheSameAsWithout: in order, out of order, at the end, and for another server. What was fetched
// ahead goes when it ends.
func TestPrefetcher_DeliversTheSameAsWithout(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, walarchive.RepoOptions{})
	b.config.Fetch.Prefetch, b.config.Workers = 3, 2
	b.open(t, b.Repo())
	b.push(t, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	p := walarchive.NewPrefetcher(b.Archive)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	dirs := []string{dataDir(t, testSystem), dataDir(t, testSystem)}
	for _, dir := range dirs {
		writeFile(t, filepath.Join(dir, "recovery.signal"), nil)
	}
	get := func(dir string, n, want int) {
		t.Helper()
		dest := filepath.Join(dir, "pg_wal", "RECOVERYXLOG")
		exit, err := p.Fetch(t.Context(), walarchive.FetchRequest{Name: segmentName(n), Dest: dest, Dir: dir})
		if exit != want {
			t.Fatalf("segment %d: exit %d (%v), want %d", n, exit, err, want)
		}
		content, rerr := os.ReadFile(dest)
		if want != 0 {
			if rerr == nil {
				t.Errorf("segment %d: exit %d left a file", n, exit)
			}
			return
		}
		if rerr != nil || !bytes.Equal(content, segment(segmentName(n), mega, mega)) {
			t.Fatalf("segment %d: %d bytes, %v", n, len(content), rerr)
		}
		if err := os.Remove(dest); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n <= 5; n++ {
		get(dirs[0], n, 0)
	}
	if p.Hits() == 0 {
		t.Error("nothing was delivered from what had been fetched ahead")
	}
	get(dirs[0], 2, 0)
	get(dirs[1], 8, 0)
	get(dirs[1], 9, 0)
	get(dirs[1], 10, 1)
	b.push(t, 10)
	get(dirs[1], 10, 0) // absence is not remembered
	get(dirs[0], 1, 0)
	pgtest.Eventually(t, time.Minute, "segments are fetched ahead", func() bool {
		files, err := os.ReadDir(filepath.Join(dirs[0], "pg_wal", ".skyd"))
		return err == nil && len(files) > 0
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "pg_wal", ".skyd")); !os.IsNotExist(err) {
			t.Errorf("something is left in %s: %v", dir, err)
		}
	}
}
