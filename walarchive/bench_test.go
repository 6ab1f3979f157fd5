package walarchive_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// halfRandom is a segment of which every second page does not compress.
func halfRandom(name string, size uint32) []byte {
	out := segment(name, size, size)
	noise := storagetest.Body(int(out[100]), 8192)
	for at := 8192; at < len(out); at += 2 * 8192 {
		copy(out[at+64:at+8192], noise[:8128])
		noise[at/8192%8000]++
	}
	return out
}

// BenchmarkPush stores segments of 16 MB with two workers, against cp and a sync of file and directory, and against cp alone:
// the ratio is what counts.
func BenchmarkPush(b *testing.B) {
	const size, n = 16 << 20, 12
	x := newBench(b, nil, walarchive.RepoOptions{})
	var names []string
	for i := range n {
		name := segmentName(i + 1)
		x.wal(b, name, halfRandom(name, size))
		names = append(names, name)
	}
	var ours, theirs time.Duration
	for range b.N {
		dir := b.TempDir()
		begin := time.Now()
		for _, name := range names {
			copySynced(b, filepath.Join(x.config.PGData, "pg_wal", name), filepath.Join(dir, name))
		}
		theirs += time.Since(begin)
		y := newBench(b, nil, walarchive.RepoOptions{})
		y.config.PGData = x.config.PGData
		y.open(b, y.Repo())
		begin = time.Now()
		var wait sync.WaitGroup
		next := make(chan string)
		for range 2 {
			wait.Go(func() {
				for name := range next {
					if _, err := y.Push(b.Context(), filepath.Join(x.config.PGData, "pg_wal", name)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for _, name := range names {
			next <- name
		}
		close(next)
		wait.Wait()
		ours += time.Since(begin)
	}
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x_cp_fsync")
	b.ReportMetric(ours.Seconds()*1000/float64(n*b.N), "ms/segment")
	b.ReportMetric(theirs.Seconds()*1000/float64(n*b.N), "cp_ms/segment")
}

func copySynced(b *testing.B, from, to string) {
	b.Helper()
	if out, err := exec.Command("cp", from, to).CombinedOutput(); err != nil {
		b.Fatalf("cp: %v %s", err, out)
	}
	for _, name := range []string{to, filepath.Dir(to)} {
		f, err := os.Open(name)
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}

// BenchmarkFetch brings segments back, against cp.
func BenchmarkFetch(b *testing.B) {
	const size, n = 16 << 20, 8
	x := newBench(b, nil, walarchive.RepoOptions{})
	var paths []string
	for i := range n {
		name := segmentName(i + 1)
		paths = append(paths, x.wal(b, name, halfRandom(name, size)))
		if _, err := x.Push(b.Context(), paths[i]); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	var ours, theirs time.Duration
	for range b.N {
		for i, path := range paths {
			begin := time.Now()
			if out, err := exec.Command("cp", path, filepath.Join(dir, "cp")).CombinedOutput(); err != nil {
				b.Fatalf("cp: %v %s", err, out)
			}
			theirs += time.Since(begin)
			begin = time.Now()
			q := walarchive.FetchRequest{Name: segmentName(i + 1), Dest: filepath.Join(dir, "x"), Dir: dir}
			if exit, err := x.Fetch(b.Context(), q); exit != 0 {
				b.Fatal(err)
			}
			ours += time.Since(begin)
		}
	}
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x_cp")
	b.ReportMetric(ours.Seconds()*1000/float64(n*b.N), "ms/segment")
}
