package walarchive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// mirror is a further storage of an archive. It is opened when it is needed: it may be away when the archive is opened.
type mirror struct {
	url  string
	open func(ctx context.Context, url string) (Storage, error)

	mu      sync.Mutex
	archive *Archive
}

// Mirror gives the archive its further storages, Config.Storages: what is pushed goes to all of them, and what cannot be
// fetched from one is fetched from another. open opens a storage by its URL.
func (a *Archive) Mirror(open func(ctx context.Context, url string) (Storage, error)) {
	for _, url := range a.config.Storages {
		a.mirrors = append(a.mirrors, &mirror{url: url, open: open})
	}
}

// OpenAny opens the archive in the first of its storages that answers, with the others as further ones. The caller closes
// the archive and its Repo.
func OpenAny(ctx context.Context, open func(ctx context.Context, url string) (Storage, error), c Config, log *slog.Logger) (*Archive, error) {
	urls := append([]string{c.Storage}, c.Storages...)
	var errs []error
	for i, url := range urls {
		lead := c
		lead.Storage, lead.Storages = url, slices.Delete(slices.Clone(urls), i, i+1)
		s, err := open(ctx, url)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: %w", errUsage, err))
			continue
		}
		a, err := OpenArchive(ctx, s, lead, log)
		if err == nil {
			a.Mirror(open)
			return a, nil
		}
		errs = append(errs, err, s.Close())
	}
	return nil, errors.Join(errs...)
}

// Close gives back the further storages.
func (a *Archive) Close() error {
	var errs []error
	for _, m := range a.mirrors {
		m.mu.Lock()
		if m.archive != nil {
			errs = append(errs, m.archive.repo.Close())
			m.archive = nil
		}
		m.mu.Unlock()
	}
	return errors.Join(errs...)
}

// get opens the archive in a further storage, or gives the open one.
func (a *Archive) get(ctx context.Context, m *mirror) (*Archive, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.archive != nil {
		return m.archive, nil
	}
	s, err := m.open(ctx, m.url)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	c := a.config
	c.Storage, c.Storages = m.url, nil
	opened, err := OpenArchive(ctx, s, c, a.log)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	m.archive = opened
	return opened, nil
}

// pushAll archives a file in all storages at the same time. It says nil only when all have it.
func (a *Archive) pushAll(ctx context.Context, path string) (Pushed, error) {
	if len(a.mirrors) == 0 {
		return a.push(ctx, path)
	}
	errs := make([]error, len(a.mirrors))
	var wait sync.WaitGroup
	for i, m := range a.mirrors {
		wait.Go(func() {
			other, err := a.get(ctx, m)
			if err == nil {
				_, err = other.push(ctx, path)
			}
			if err != nil {
				errs[i] = fmt.Errorf("storage %s: %w", m.url, err)
			}
		})
	}
	p, err := a.push(ctx, path)
	wait.Wait()
	return p, errors.Join(append([]error{err}, errs...)...)
}

// awayFor is how long a storage that did not answer is asked last.
const awayFor = 30 * time.Second

// deliverAny writes a file to temp from the first storage that has it whole, or, when all say that none has, the part that a
// receiver stored. That it is absent is said only when all storages have said so: one that is away may hold it.
func (a *Archive) deliverAny(ctx context.Context, q FetchRequest, temp string) error {
	q.whole = true
	err := a.deliverFirst(ctx, q, temp)
	if !errors.Is(err, ErrAbsent) || CallerIn(q.Dir) != RecoverCaller {
		return err
	}
	q.whole = false
	return a.deliverFirst(ctx, q, temp)
}

// deliverFirst writes a file to temp from the first storage that has it.
func (a *Archive) deliverFirst(ctx context.Context, q FetchRequest, temp string) error {
	limit := attemptLimit
	if CallerIn(q.Dir) == StandbyCaller {
		limit = standbyPatience
	}
	limit /= time.Duration(len(a.mirrors) + 1)
	sources := []func(context.Context) (*Archive, error){func(context.Context) (*Archive, error) { return a, nil }}
	for _, m := range a.mirrors {
		sources = append(sources, func(ctx context.Context) (*Archive, error) { return a.get(ctx, m) })
	}
	var worst error
	for _, i := range a.order(len(sources)) {
		attempt, stop := whileGrowing(ctx, temp, limit)
		from, err := sources[i](attempt)
		if err == nil {
			err = from.deliverHere(attempt, q, temp)
		}
		if err != nil && ctx.Err() == nil && context.Cause(attempt) != nil {
			err = fmt.Errorf("%w: %w", errStalled, err)
		}
		stop()
		a.noteAway(i, err != nil && FindingOf(err) == Away)
		if err == nil {
			if worst != nil && FindingOf(worst) != Absent {
				a.log.Warn("a WAL file came from another storage", "source", a.config.Source, "name", q.Name, "storage", from.config.Storage, "err", worst)
			}
			return nil
		}
		if worst == nil || gravity(err) > gravity(worst) {
			worst = err
		}
	}
	return worst
}

// gravity orders what storages say of a file that none of them delivers: what waiting may cure comes first, and absent is
// believed only when nothing else was said.
func gravity(err error) int {
	return slices.Index([]Finding{Absent, Hole, Damaged, Internal, Away}, FindingOf(err))
}

// order is the order in which n storages are asked: as configured, those that were away a moment ago last.
func (a *Archive) order(n int) (order []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var last []int
	for i := range n {
		if time.Since(a.away[i]) < awayFor {
			last = append(last, i)
		} else {
			order = append(order, i)
		}
	}
	return append(order, last...)
}

// noteAway remembers whether a storage answered.
func (a *Archive) noteAway(i int, away bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !away {
		delete(a.away, i)
		return
	}
	if a.away == nil {
		a.away = map[int]time.Time{}
	}
	a.away[i] = time.Now()
}
