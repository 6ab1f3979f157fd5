package walarchive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// garbageAge is how long what belongs to no backup stays: a backup that is being made may be slow.
const garbageAge = 24 * time.Hour

// ExpireOptions say what expire does.
type ExpireOptions struct {
	Rule Retention
	// Garbage also removes what killed backups left behind.
	Garbage bool
	Owner   string
	Now     func() time.Time
}

// ExpirePlan is what expire is going to remove.
type ExpirePlan struct {
	// Backups go as a whole; Kept are the others with the reasons.
	Backups []string            `json:"backups"`
	Kept    map[string][]string `json:"kept"`
	// Segments and Pieces of open segments are removed; they are older than everything that stays.
	Segments int   `json:"segments"`
	Objects  int   `json:"objects"`
	Bytes    int64 `json:"bytes"`
	// Garbage are ids of backups that were never finished.
	Garbage []string `json:"garbage,omitempty"`

	records []*Backup // of Backups
	wal     []string  // keys
	packs   []string
	rest    []string // keys of garbage
}

// PlanExpire finds what can go; nothing is changed.
func (r *Repo) PlanExpire(ctx context.Context, o ExpireOptions) (*ExpirePlan, error) {
	all, err := r.backupRecords(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	complete := slices.DeleteFunc(slices.Clone(all), func(b *Backup) bool { return b.State != BackupComplete })
	histories := map[uint64]map[uint32]History{}
	for _, b := range complete {
		if histories[b.System] == nil {
			if histories[b.System], err = r.Histories(ctx, b.System); err != nil {
				return nil, err
			}
		}
	}
	keep := PlanKeep(complete, histories, o.Rule, now())
	p := &ExpirePlan{Kept: keep.Kept}
	for _, b := range all {
		if b.State == BackupExpiring || slices.Contains(keep.Remove, b) { // an earlier expire did not come to its end
			p.Backups = append(p.Backups, b.ID)
			p.records = append(p.records, b)
		}
	}
	live := map[string]bool{}
	for _, b := range complete {
		if len(keep.Kept[b.ID]) > 0 {
			for _, pack := range b.Packs {
				live[pack.Key] = true
			}
		}
	}
	for _, b := range p.records {
		for _, pack := range b.Packs {
			if !live[pack.Key] && !slices.Contains(p.packs, pack.Key) {
				p.packs = append(p.packs, pack.Key)
				p.Bytes += pack.Size
			}
		}
	}
	sizes := map[uint64]uint32{}
	for _, b := range all {
		sizes[b.System] = b.SegmentSize
	}
	for system, k := range keep.WAL {
		if err := r.oldWAL(ctx, p, system, sizes[system], k); err != nil {
			return nil, err
		}
	}
	if o.Garbage {
		err = r.garbage(ctx, p, all, live, now())
	}
	p.Objects = len(p.wal) + len(p.packs) + len(p.rest)
	return p, err
}

// oldWAL lists the segments and pieces of a cluster that nothing needs.
func (r *Repo) oldWAL(ctx context.Context, p *ExpirePlan, system uint64, size uint32, keep WALKeep) error {
	for o, err := range r.List(ctx, r.WALPrefix(system), "") {
		if err != nil {
			return fmt.Errorf("list the WAL: %w", err)
		}
		name, whole := SegmentOfKey(o.Key)
		if !whole {
			var ok bool
			if name, ok = segmentOfPiece(o.Key); !ok {
				continue // whatever it is
			}
		}
		at, err := SegmentStart(name, size)
		if err != nil || keep.needs(at, at+LSN(size)) {
			continue
		}
		if whole {
			p.Segments++
		}
		p.Bytes += o.Size
		p.wal = append(p.wal, o.Key)
	}
	return nil
}

// segmentOfPiece is the name of the open segment of which a key holds a piece.
func segmentOfPiece(key string) (string, bool) {
	parts := strings.Split(key, "/")
	if len(parts) < 2 {
		return "", false
	}
	name, ok := strings.CutSuffix(parts[len(parts)-2], ".part")
	_, piece := parseIncrement(key)
	return name, ok && piece && KindOf(name) == WALSegment
}

// garbage finds what belongs to no backup and is old enough that none is being made of it.
func (r *Repo) garbage(ctx context.Context, p *ExpirePlan, all []*Backup, live map[string]bool, now time.Time) error {
	ids, err := r.backupIDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if slices.ContainsFunc(all, func(b *Backup) bool { return b.ID == id }) {
			continue
		}
		var keys []string
		young := false
		for o, err := range r.List(ctx, r.BackupPrefix(id), "") {
			if err != nil {
				return err
			}
			young = young || now.Sub(o.Modified) < garbageAge
			if !live[o.Key] {
				keys = append(keys, o.Key)
				p.Bytes += o.Size
			}
		}
		if !young && len(keys) > 0 {
			p.Garbage = append(p.Garbage, id)
			p.rest = append(p.rest, keys...)
		}
	}
	return nil
}

// Expire removes what the rules do not keep. It can be killed at any moment and be called again: first the records say
// that the backups go, then WAL, packs and lists, at last the records. While a backup is being made it does nothing:
// ErrLeased.
func (r *Repo) Expire(ctx context.Context, o ExpireOptions) (p *ExpirePlan, err error) {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	for _, name := range []string{"expire", "backup"} { // the new backup builds on packs that we are about to remove
		l, held, lerr := takeLease(ctx, r, r.LeaseKey(name), o.Owner, now)
		if lerr != nil {
			return nil, fmt.Errorf("expire: %w", lerr)
		}
		defer func() {
			after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if rerr := l.release(after); err == nil {
				err = rerr
			}
		}()
		ctx = held
	}
	if p, err = r.PlanExpire(ctx, o); err != nil {
		return nil, err
	}
	if p.Objects+len(p.Backups) > 0 {
		if err := r.runHook(ctx, "before_expire", r.hooks.BeforeExpire, hookLimit, "SKYD_BACKUPS="+strings.Join(p.Backups, " ")); err != nil {
			return nil, fmt.Errorf("%w: nothing was removed: %w", ErrRefused, err)
		}
	}
	return p, r.remove(ctx, p, o)
}

// remove executes a plan.
func (r *Repo) remove(ctx context.Context, p *ExpirePlan, o ExpireOptions) error {
	for _, b := range p.records {
		if b.State == BackupExpiring {
			continue
		}
		_, err := r.UpdateBackup(ctx, b.ID, func(now *Backup) error {
			if now.Held && !b.Held {
				return fmt.Errorf("%w: backup %s has been held a moment ago", ErrRefused, b.ID)
			}
			now.State = BackupExpiring
			return nil
		})
		if err != nil && !errors.Is(err, ErrNoBackup) {
			return err
		}
	}
	for _, keys := range [][]string{p.wal, p.packs, p.rest} {
		for chunk := range slices.Chunk(keys, 500) {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			if err := r.Delete(ctx, chunk...); err != nil {
				return err
			}
		}
	}
	for _, b := range p.records {
		small := []string{r.filesKey(b.ID), r.sealedKey(b.ID, "backup_manifest")}
		if err := r.Delete(ctx, small...); err != nil {
			return err
		}
		if err := r.Delete(ctx, r.backupKey(b.ID)); err != nil {
			return err
		}
	}
	return nil
}
