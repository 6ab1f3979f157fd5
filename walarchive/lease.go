package walarchive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// leaseLife is how long a lease holds without being renewed.
const leaseLife = time.Minute

// ErrLeased is returned when somebody else does the same work already; the text names the holder.
var ErrLeased = errors.New("somebody else is at work")

// errLeaseLost is the cause of the context of a holder that could not renew.
var errLeaseLost = errors.New("the lease was lost")

// LeaseRecord is what a lease says in the repository.
type LeaseRecord struct {
	Owner string `json:"owner"`
	Host  string `json:"host"`
	// PID and Life tell processes of one host apart: a dead one holds nothing.
	PID     int       `json:"pid"`
	Life    string    `json:"life"`
	Started time.Time `json:"started"`
	Renewed time.Time `json:"renewed"`
	// Expires is the zero time when the holder gave the lease back.
	Expires time.Time `json:"expires"`
	// Backup is the backup that is being made; its packs are not garbage.
	Backup string `json:"backup,omitempty"`
	// Base is the backup whose packs the one being made relies on.
	Base string `json:"base,omitempty"`
	// Plan is what an expire is about to delete.
	Plan []string `json:"plan,omitempty"`
}

// held tells whether the lease stands in somebody's way: it has not run out, and its holder is not known to be dead.
func (r LeaseRecord) held(now time.Time) bool {
	if !now.Before(r.Expires) {
		return false
	}
	if host, err := os.Hostname(); err != nil || host != r.Host {
		return true
	}
	if r.PID == os.Getpid() {
		return r.Life == processLife()
	}
	return !errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH)
}

// processLife tells this process from an earlier one with the same number.
var processLife = sync.OnceValue(rand.Text)

// lease is a right to work that others see, kept alive in the background.
type lease struct {
	repo *Repo
	key  string
	now  func() time.Time
	stop context.CancelFunc
	idle sync.WaitGroup

	mu   sync.Mutex
	rec  LeaseRecord
	etag string
}

// readLease reads the lease under a key; the zero record: nobody ever took it.
func readLease(ctx context.Context, repo *Repo, key string) (LeaseRecord, string, error) {
	var rec LeaseRecord
	etag, err := repo.getJSON(ctx, key, &rec)
	if errors.Is(err, ErrNotFound) {
		return LeaseRecord{}, "", nil
	}
	return rec, etag, err
}

// takeLease takes the lease under key, or fails with ErrLeased. The context it returns ends when the lease is lost: a
// holder that cannot renew stops itself.
func takeLease(ctx context.Context, repo *Repo, key, owner string, now func() time.Time) (*lease, context.Context, error) {
	rec, etag, err := readLease(ctx, repo, key)
	if err != nil {
		return nil, nil, err
	}
	if rec.held(now()) {
		return nil, nil, fmt.Errorf("%w: %s on %s since %s, renewed %s (%s)", ErrLeased, rec.Owner, rec.Host,
			rec.Started.Format(time.RFC3339), rec.Renewed.Format(time.RFC3339), key)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	t := now().UTC()
	l := &lease{repo: repo, key: key, now: now, etag: etag, rec: LeaseRecord{Owner: owner, Host: host, PID: os.Getpid(), Life: processLife(), Started: t}}
	if err := l.write(ctx, t); err != nil {
		if errors.Is(err, ErrExists) || errors.Is(err, ErrChanged) {
			err = fmt.Errorf("%w: it took %s a moment ago", ErrLeased, key)
		}
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	l.stop = func() { cancel(nil) }
	l.idle.Go(func() { l.keep(held, cancel) })
	return l, held, nil
}

// write renews the record as of t.
func (l *lease) write(ctx context.Context, t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec := l.rec
	rec.Renewed, rec.Expires = t.UTC(), t.Add(leaseLife).UTC()
	return l.put(ctx, rec)
}

// put stores a record; the caller holds mu.
func (l *lease) put(ctx context.Context, rec LeaseRecord) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	etag, err := l.repo.PutIf(ctx, l.key, text, l.etag)
	if err != nil {
		return err
	}
	l.rec, l.etag = rec, etag
	return nil
}

// amend changes what the lease says beside who holds it.
func (l *lease) amend(ctx context.Context, change func(*LeaseRecord)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec := l.rec
	change(&rec)
	return l.put(ctx, rec)
}

// keep renews every third of the lease's life until ctx ends. A storage that is away is asked again until the lease
// has run out; a lease that somebody else holds is lost at once.
func (l *lease) keep(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(leaseLife / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := l.now()
		err := l.write(ctx, now)
		l.mu.Lock()
		over := !l.rec.held(now)
		l.mu.Unlock()
		if err != nil && (over || errors.Is(err, ErrChanged) || errors.Is(err, ErrExists)) {
			lost(fmt.Errorf("%w: %s: %w", errLeaseLost, l.key, err))
			return
		}
	}
}

// release gives the lease back; others can take it at once.
func (l *lease) release(ctx context.Context) error {
	l.stop()
	l.idle.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	rec := l.rec
	rec.Expires = time.Time{}
	err := l.put(ctx, rec)
	if errors.Is(err, ErrChanged) {
		return nil // lost meanwhile, which was told already
	}
	return err
}

// WithLease works while it holds a lease of the source, so that nobody else does the same. The context of the work ends
// when the lease is lost. ErrLeased.
func (r *Repo) WithLease(ctx context.Context, name, owner string, work func(context.Context) error) error {
	l, held, err := takeLease(ctx, r, r.LeaseKey(name), owner, time.Now)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err = work(held)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(err, l.release(after))
}
