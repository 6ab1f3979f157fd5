package walarchive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// copyJobs is how many objects are copied at the same time.
const copyJobs = 4

// CopyOptions say what is copied to another storage.
type CopyOptions struct {
	// Backup is one id; empty: all complete backups.
	Backup string
	// WAL copies all WAL from the start of the oldest copied backup on, not only what the backups need to be consistent.
	WAL bool
	// DryRun counts and changes nothing.
	DryRun bool
	// Progress is told after every object.
	Progress func(done, total int64)
}

// CopyReport is what a copy did, or would do.
type CopyReport struct {
	Backups []string `json:"backups"`
	// Objects and Bytes were copied; Present were there already, with the same content.
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Present int   `json:"present"`
}

// copyItem is one object on its way.
type copyItem struct {
	key  string
	size int64
	wal  bool // it begins with a header
}

// CopyTo copies backups, and WAL, to another storage as they are: the same keys and bytes, so that it is a repository by
// itself. What is there is left alone, so that a copy that was ended goes on where it was; other content under a name is
// ErrConflict. A backup can be seen there when all of it is.
func (r *Repo) CopyTo(ctx context.Context, to Storage, o CopyOptions) (*CopyReport, error) {
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	all, err := r.Backups(ctx)
	if err != nil {
		return nil, err
	}
	if o.Backup != "" {
		if all = slices.DeleteFunc(all, func(b *Backup) bool { return b.ID != o.Backup }); len(all) == 0 {
			return nil, fmt.Errorf("%w: %s", ErrNoBackup, o.Backup)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: source %s has none", ErrNoBackup, r.Source)
	}
	target := r.With(to)
	if err := r.prepareCopy(ctx, target, o.DryRun); err != nil {
		return nil, err
	}
	items, commits, err := r.copyList(ctx, all, o.WAL)
	if err != nil {
		return nil, err
	}
	c := &copying{from: r, to: target, o: o, rep: &CopyReport{Backups: []string{}}}
	for _, i := range append(slices.Clone(items), commits...) {
		c.total += i.size
	}
	for _, part := range [][]copyItem{items, commits} { // a backup's record comes when all else is there
		if err := c.run(ctx, part); err != nil {
			return c.rep, err
		}
	}
	for _, b := range all {
		c.rep.Backups = append(c.rep.Backups, b.ID)
	}
	return c.rep, nil
}

// prepareCopy makes the storage a repository of the same kind, or finds that it is one, and makes the clusters known.
func (r *Repo) prepareCopy(ctx context.Context, to *Repo, dry bool) error {
	var info RepoInfo
	_, err := to.getJSON(ctx, RepoKey, &info)
	switch {
	case err == nil && (info.Version != r.Info.Version || info.Encrypted != r.Info.Encrypted || info.TagKeyID != r.Info.TagKeyID):
		return fmt.Errorf("storage %s: %w: its repository is encrypted in another way, objects cannot be copied as they are", to.Storage, ErrForeign)
	case err != nil && !errors.Is(err, ErrNotFound) && to.Capabilities().LocalDir == "":
		return err
	}
	if dry {
		return nil
	}
	if err != nil {
		for o, err := range to.List(ctx, "", "") {
			if err == nil {
				return fmt.Errorf("storage %s: %w: %s", to.Storage, ErrForeign, o.Key)
			}
			break // a directory that is not there yet
		}
		if err := probe(ctx, to.Storage); err != nil {
			return fmt.Errorf("storage %s: %w", to.Storage, err)
		}
		body, err := json.MarshalIndent(r.Info, "", "  ")
		if err != nil {
			return err
		}
		if _, err := to.PutIf(ctx, RepoKey, append(body, '\n'), ""); err != nil && !errors.Is(err, ErrExists) {
			return err
		}
	}
	all, err := r.Clusters(ctx)
	if err != nil {
		return err
	}
	var there Clusters
	tag, err := to.getJSON(ctx, to.ClusterKey(), &there)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	for _, c := range there.Clusters {
		if !slices.ContainsFunc(all.Clusters, func(k Cluster) bool { return k.System == c.System }) {
			return fmt.Errorf("storage %s: %w: source %s has a system %d there that is not here", to.Storage, ErrForeign, r.Source, c.System)
		}
	}
	if len(there.Clusters) == len(all.Clusters) {
		return nil
	}
	return to.putJSON(ctx, to.ClusterKey(), all, tag)
}

// copyList lists what is to be copied; commits are the records of the backups.
func (r *Repo) copyList(ctx context.Context, all []*Backup, everything bool) (items, commits []copyItem, err error) {
	seen := map[string]bool{}
	add := func(i copyItem) {
		if !seen[i.key] {
			seen[i.key] = true
			items = append(items, i)
		}
	}
	for _, b := range all {
		for _, p := range b.Packs {
			add(copyItem{key: p.Key, size: p.Size})
		}
		for o, err := range r.List(ctx, r.BackupPrefix(b.ID), "") {
			switch {
			case err != nil:
				return nil, nil, err
			case o.Key == r.backupKey(b.ID):
				commits = append(commits, copyItem{key: o.Key, size: o.Size})
			case !strings.HasPrefix(o.Key, r.BackupPrefix(b.ID)+"pack/"):
				add(copyItem{key: o.Key, size: o.Size})
			}
		}
	}
	for _, system := range systemsOf(all) {
		mine := slices.DeleteFunc(slices.Clone(all), func(b *Backup) bool { return b.System != system })
		for o, err := range r.List(ctx, r.WALPrefix(system), "") {
			if err != nil {
				return nil, nil, err
			}
			if i, ok := r.copyWAL(o, system, mine, everything); ok {
				add(i)
			}
		}
	}
	return items, commits, nil
}

// copyWAL tells whether an object below the WAL of a cluster belongs to the copy.
func (r *Repo) copyWAL(o Object, system uint64, mine []*Backup, everything bool) (copyItem, bool) {
	i := copyItem{key: o.Key, size: o.Size}
	if strings.HasPrefix(o.Key, r.WALPrefix(system)+"history/") {
		return i, true
	}
	name, whole := SegmentOfKey(o.Key)
	if !whole {
		var piece bool
		if name, piece = segmentOfPiece(o.Key); !piece {
			return i, false // writers write their own records there
		}
	}
	i.wal = true
	size := mine[0].SegmentSize
	at, err := SegmentStart(name, size)
	if err != nil {
		return i, false
	}
	return i, slices.ContainsFunc(mine, func(b *Backup) bool {
		return at+LSN(size) > b.StartLSN && (everything || at < b.StopLSN && SegmentTimeline(name) == b.Timeline)
	})
}

// copying is one copy under way.
type copying struct {
	from, to *Repo
	o        CopyOptions
	total    int64

	mu   sync.Mutex
	rep  *CopyReport
	done int64
}

// run copies objects, several at a time; the first failure ends it.
func (c *copying) run(ctx context.Context, items []copyItem) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan copyItem)
	var workers sync.WaitGroup
	for range copyJobs {
		workers.Go(func() {
			for i := range queue {
				if err := c.one(ctx, i); err != nil {
					cancel(fmt.Errorf("copy %s: %w", i.key, err))
				}
			}
		})
	}
	for _, i := range items {
		if ctx.Err() != nil {
			break
		}
		queue <- i
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

// one copies one object, unless it is there.
func (c *copying) one(ctx context.Context, i copyItem) error {
	if ctx.Err() != nil {
		return nil
	}
	there, err := c.to.Head(ctx, i.key)
	copied := false
	switch {
	case err == nil:
		err = c.same(ctx, i, there)
	case errors.Is(err, ErrNotFound) || c.o.DryRun:
		copied, err = true, nil
		if !c.o.DryRun {
			err = c.put(ctx, i)
		}
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if copied {
		c.rep.Objects++
		c.rep.Bytes += i.size
	} else {
		c.rep.Present++
	}
	c.done += i.size
	c.o.Progress(c.done, c.total)
	return nil
}

// same makes sure that what is there under a key is what is here.
func (c *copying) same(ctx context.Context, i copyItem, there Object) error {
	if i.wal {
		h, err := c.from.HeaderOf(ctx, i.key)
		if err != nil {
			return err
		}
		return c.to.compare(ctx, i.key, h)
	}
	if there.Size == i.size || strings.HasSuffix(i.key, "/backup.json") { // holds and notes are kept in each place
		return nil
	}
	return fmt.Errorf("%w: %d bytes are there, %d are here", ErrConflict, there.Size, i.size)
}

// put copies the bytes of an object.
func (c *copying) put(ctx context.Context, i copyItem) error {
	var meta map[string]string
	if i.wal {
		h, err := c.from.HeaderOf(ctx, i.key)
		if err != nil {
			return err
		}
		meta = h.Meta()
	}
	body, err := c.from.Get(ctx, i.key, 0, -1)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	var src io.Reader = body
	if i.size <= MaxSmall { // the record of a backup may change while we look
		text, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		src, i.size = bytes.NewReader(text), int64(len(text))
	}
	err = c.to.Put(ctx, i.key, src, PutOptions{Size: i.size, Meta: meta})
	if errors.Is(err, ErrExists) {
		return nil // another copy is at work
	}
	return err
}
