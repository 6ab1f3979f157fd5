package walarchive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Archive is what push and fetch of one source work with. Safe for concurrent use.
type Archive struct {
	repo   *Repo
	config Config
	log    *slog.Logger

	mu        sync.Mutex
	cluster   Cluster // of the data directory and of the repository, when they agree
	checked   time.Time
	timelines map[uint32]History // whose writer was checked
	foreign   map[uint32][]Writer
	away      map[int]time.Time // storages that did not answer, and when

	mirrors []*mirror // further storages
}

// clusterAge is how long the check that data directory and repository belong together is believed.
const clusterAge = 10 * time.Second

// NewArchive works on an open repository. log takes events that are no errors of the caller.
func NewArchive(r *Repo, c Config, log *slog.Logger) *Archive {
	return &Archive{repo: r, config: c, log: log, timelines: map[uint32]History{}, foreign: map[uint32][]Writer{}}
}

// OpenArchive opens the repository in a storage and works on it.
func OpenArchive(ctx context.Context, s Storage, c Config, log *slog.Logger) (*Archive, error) {
	r, err := OpenRepo(ctx, s, c.Source, c.Options())
	if err != nil {
		return nil, err
	}
	return NewArchive(r, c, log), nil
}

// Repo is the repository.
func (a *Archive) Repo() *Repo { return a.repo }

// Config is the configuration of the source.
func (a *Archive) Config() Config { return a.config }

// ErrForeignCluster is returned when the data directory is not of the cluster that the source has in the repository.
var ErrForeignCluster = errors.New("the data directory is of another cluster than the archive")

// ErrForeignBranch is returned for a timeline that branches off before the end of what another server archived: a restored
// copy beside the original.
var ErrForeignBranch = errors.New("the timeline branches off before the end of what another server archived")

// clusterNow is the cluster of the data directory, which must be the current one of the source.
func (a *Archive) clusterNow(ctx context.Context) (Cluster, error) {
	a.mu.Lock()
	known, fresh := a.cluster, time.Since(a.checked) < clusterAge
	a.mu.Unlock()
	local, err := ReadCluster(a.config.PGData)
	if err != nil {
		return local, err
	}
	if fresh && local.System == known.System {
		return known, nil
	}
	all, err := a.repo.Clusters(ctx)
	if err != nil {
		return local, err
	}
	current, ok := all.Current()
	if !ok || current.System != local.System {
		return local, fmt.Errorf("%w: system %d in %s, %d in the archive (after an upgrade or initdb: skyd wal setup --source %s)",
			ErrForeignCluster, local.System, a.config.PGData, current.System, a.config.Source)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cluster, a.checked = current, time.Now()
	return current, nil
}

// timeline checks that this server may write a timeline, notes it as a writer, and gives the timeline's history (nil: not
// known, or timeline 1). text is the history file when that is what is pushed.
func (a *Archive) timeline(ctx context.Context, system uint64, tli uint32, from LSN, text []byte) (History, error) {
	a.mu.Lock()
	h, ok := a.timelines[tli]
	a.mu.Unlock()
	if ok {
		return h, nil
	}
	me, err := WriterOf(a.config.PGData)
	if err != nil {
		return nil, err
	}
	me.From = from
	if text != nil {
		h, err = ParseHistory(tli, text)
	} else if h, err = a.repo.History(ctx, system, tli); errors.Is(err, ErrNotFound) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if err := a.checkBranch(ctx, system, tli, h, me); err != nil {
		return nil, err
	}
	all, err := a.repo.addWriter(ctx, system, tli, me)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if h != nil || tli <= 1 {
		a.timelines[tli] = h
	}
	if len(all.Writers) > 1 && len(a.foreign[tli]) != len(all.Writers) {
		a.foreign[tli] = all.Writers
		a.log.Warn("several servers have written one timeline", "source", a.config.Source, "timeline", tli,
			"writers", fmt.Sprint(all.Writers))
	}
	return h, nil
}

// checkBranch refuses a timeline of a server that is no writer of its parent, when the parent went on behind the branch.
func (a *Archive) checkBranch(ctx context.Context, system uint64, tli uint32, h History, me Writer) error {
	if len(h) == 0 {
		return nil
	}
	isMine := func(t uint32) (bool, error) {
		w, err := a.repo.Writers(ctx, system, t)
		if err != nil {
			return false, err
		}
		for _, known := range w.Writers {
			if known.same(me) {
				return true, nil
			}
		}
		return false, nil
	}
	parent := h[len(h)-1]
	for _, t := range []uint32{tli, parent.Timeline} {
		mine, err := isMine(t)
		if mine || errors.Is(err, ErrNotFound) && t == parent.Timeline {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	for o, err := range a.repo.List(ctx, a.repo.TimelinePrefix(system, parent.Timeline), "") {
		if err != nil {
			return err
		}
		name, ok := SegmentOfKey(o.Key)
		if !ok {
			continue
		}
		header, err := a.repo.HeaderOf(ctx, o.Key)
		if err != nil {
			return err
		}
		return a.refuseBranch(ctx, system, tli, parent, name, uint32(header.Bytes))
	}
	return nil
}

// refuseBranch looks for a segment of the parent that begins behind the branch; some segment of it gives the size.
func (a *Archive) refuseBranch(ctx context.Context, system uint64, tli uint32, parent Branch, some string, size uint32) error {
	if _, err := SegmentStart(some, size); err != nil {
		return err
	}
	at := a.repo.SegmentKey(system, SegmentName(parent.Timeline, parent.Until, size))
	for o, err := range a.repo.List(ctx, a.repo.TimelinePrefix(system, parent.Timeline), at) {
		if err != nil {
			return err
		}
		if name, ok := SegmentOfKey(o.Key); ok {
			return fmt.Errorf("%w: timeline %d begins at %s of timeline %d, and %s is archived (a copy gets a source of its own; "+
				"if this server took over: skyd wal setup --source %s --adopt)", ErrForeignBranch, tli, parent.Until, parent.Timeline, name,
				a.config.Source)
		}
	}
	return nil
}

// Adopt lets this server write the timeline of its data directory, whatever was archived behind its branch.
func (a *Archive) Adopt(ctx context.Context, system uint64, tli uint32) error {
	me, err := WriterOf(a.config.PGData)
	if err != nil {
		return err
	}
	me.Adopted = true
	_, err = a.repo.addWriter(ctx, system, tli, me)
	return err
}

// Pause is why and until when archiving is paused.
type Pause struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until resumed
}

// pauseFile holds the Pause.
func (c Config) pauseFile() string { return filepath.Join(c.StateDir, "paused.json") }
