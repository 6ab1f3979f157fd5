package walarchive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// prefetchDir is where prefetched segments wait, below pg_wal: delivery is a rename.
	prefetchDir = ".skyd"
	// prefetchBytes bounds what waits there.
	prefetchBytes = 512 << 20
	// prefetchIdle is how long it waits for a server that asks no more.
	prefetchIdle = time.Minute
)

// Prefetcher delivers the files of an archive and fetches the segments ahead that a server in recovery will ask for next.
// It stops at the first one that is absent and remembers no absence. What was fetched for another order of requests, or
// another server, is dropped. Safe for concurrent use.
type Prefetcher struct {
	archive *Archive
	ahead   int
	workers int
	kick    chan struct{}

	mu     sync.Mutex
	dir    string // of the prefetched files
	system uint64
	size   uint32
	next   string // to be fetched next; "": nothing for now
	jobs   map[string]*prefetch
	asked  time.Time
	serial int // tells fetches of one name apart
	hits   int64
}

// prefetch is one segment that is fetched ahead.
type prefetch struct {
	path    string
	done    chan struct{} // closed when err is set
	err     error
	dropped bool // nobody wants it any more
}

// NewPrefetcher works on an archive, as its configuration says. Run does the fetching ahead.
func NewPrefetcher(a *Archive) *Prefetcher {
	w := max(a.config.Workers, 1)
	return &Prefetcher{archive: a, ahead: a.config.Fetch.Prefetch, workers: w, kick: make(chan struct{}, w), jobs: map[string]*prefetch{}}
}

// Hits is how many files were delivered that had been fetched ahead.
func (p *Prefetcher) Hits() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits
}

// Fetch is Archive.Fetch with what was fetched ahead.
func (p *Prefetcher) Fetch(ctx context.Context, q FetchRequest) (exit int, err error) {
	return FetchWith(ctx, q, p.archive.config.Fetch.Patience, func(ctx context.Context, temp string) error {
		return p.deliver(ctx, q, temp)
	}, p.archive.event)
}

// deliver brings a file, most often by renaming it.
func (p *Prefetcher) deliver(ctx context.Context, q FetchRequest, temp string) error {
	wal := filepath.Join(q.Dir, "pg_wal")
	if p.ahead == 0 || KindOf(q.Name) != WALSegment || CallerIn(q.Dir) == OtherCaller || !sameDir(filepath.Dir(temp), wal) {
		return p.archive.Deliver(ctx, q, temp)
	}
	dir := filepath.Join(wal, prefetchDir)
	if j := p.take(dir, q.Name); j != nil {
		select {
		case <-j.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if j.err == nil && os.Rename(j.path, temp) == nil {
			p.delivered(q.Name, true)
			return nil
		}
	}
	if err := p.archive.Deliver(ctx, q, temp); err != nil {
		return err
	}
	p.begin(ctx, q, dir, temp)
	return nil
}

// take hands out what is fetched ahead under a name. When nothing is, or it is for another server, all is dropped: the
// server took another way.
func (p *Prefetcher) take(dir, name string) *prefetch {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = time.Now()
	j := p.jobs[name]
	if j == nil || dir != p.dir {
		p.drop()
		return nil
	}
	delete(p.jobs, name)
	return j
}

// drop forgets everything and removes the files that are complete; a fetch under way removes its own. With mu held.
func (p *Prefetcher) drop() {
	p.next = ""
	for name, j := range p.jobs {
		delete(p.jobs, name)
		j.dropped = true
		select {
		case <-j.done:
			_ = os.Remove(j.path) // it may have failed
		default:
		}
	}
}

// begin starts to fetch ahead behind a file that was delivered without.
func (p *Prefetcher) begin(ctx context.Context, q FetchRequest, dir, temp string) {
	info, err := os.Stat(temp)
	if err != nil {
		return
	}
	cluster, err := p.archive.clusterOf(ctx, q.Dir)
	if err != nil {
		return
	}
	p.mu.Lock()
	if dir != p.dir {
		if p.dir != "" {
			_ = os.RemoveAll(p.dir) // empty: all was dropped
		}
		_ = os.RemoveAll(dir) // of a daemon that died
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.mu.Unlock()
		return // it works without
	}
	p.dir, p.system, p.size = dir, cluster.System, uint32(info.Size())
	p.mu.Unlock()
	p.delivered(q.Name, false)
}

// delivered moves the window behind a file.
func (p *Prefetcher) delivered(name string, hit bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if hit {
		p.hits++
	}
	if p.next == "" || p.next <= name {
		next, err := NextSegment(name, p.size)
		for ; err == nil && p.jobs[next] != nil; next, err = NextSegment(next, p.size) {
		}
		if err != nil {
			return
		}
		p.next = next
	}
	for range p.workers {
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
}

// Run fetches ahead until ctx is cancelled; then it removes what waits.
func (p *Prefetcher) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	for range p.workers {
		wait.Go(func() { p.work(ctx) })
	}
	idle := time.NewTicker(prefetchIdle / 4)
	defer idle.Stop()
	for {
		select {
		case <-idle.C:
			p.mu.Lock()
			if time.Since(p.asked) > prefetchIdle && p.dir != "" {
				p.forget()
			}
			p.mu.Unlock()
		case <-ctx.Done():
			wait.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.forget()
			return nil
		}
	}
}

// forget drops everything with its directory. With mu held.
func (p *Prefetcher) forget() {
	p.drop()
	if p.dir != "" {
		_ = os.RemoveAll(p.dir) // the server does not mind it
		p.dir = ""
	}
}

// work fetches one segment after the other while there is room in the window.
func (p *Prefetcher) work(ctx context.Context) {
	for {
		name, j, system := p.pick()
		if j == nil {
			select {
			case <-p.kick:
				continue
			case <-ctx.Done():
				return
			}
		}
		fetching, cancel := context.WithTimeout(ctx, attemptLimit)
		err := p.archive.repo.FetchSegment(fetching, system, name, j.path)
		cancel()
		p.finished(name, j, err)
	}
}

// pick takes the next segment of the window; nil: none for now.
func (p *Prefetcher) pick() (name string, j *prefetch, system uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := max(1, min(p.ahead, prefetchBytes/max(int(p.size), 1)))
	if p.next == "" || p.dir == "" || len(p.jobs) >= room {
		return "", nil, 0
	}
	name = p.next
	p.serial++
	j = &prefetch{path: filepath.Join(p.dir, fmt.Sprintf("%s.%d", name, p.serial)), done: make(chan struct{})}
	p.jobs[name] = j
	next, err := NextSegment(name, p.size)
	if err != nil {
		next = ""
	}
	p.next = next
	return name, j, p.system
}

// finished notes the end of a fetch. A segment that is absent, or any failure, ends the window: the request for it finds out
// the truth.
func (p *Prefetcher) finished(name string, j *prefetch, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j.err = err
	close(j.done)
	switch {
	case j.dropped && err == nil:
		_ = os.Remove(j.path)
	case err != nil && !j.dropped:
		if p.jobs[name] == j {
			delete(p.jobs, name)
		}
		p.next = ""
		if !errors.Is(err, ErrNotFound) {
			p.archive.log.Debug("fetching ahead failed", "name", name, "err", err)
		}
	}
}
