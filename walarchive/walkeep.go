package walarchive

import (
	"context"
	"time"
)

// KeepOptions say when base backups are made and which ones stay.
type KeepOptions struct {
	// Every is the time between two backups; 0: none are made.
	Every time.Duration
	// FullEvery is the time between two full ones; 0: the first one only.
	FullEvery time.Duration
	Backup    BackupOptions
	Rule      Retention
	Owner     string
	Now       func() time.Time
}

// Kept is what KeepBackups found and did.
type Kept struct {
	// Made is the new backup; nil: none was due.
	Made *Backup
	// Removed is how many backups expired.
	Removed int
	// Last is the newest backup, First the oldest one; nil: there is none.
	Last, First *Backup
	// Newest are the newest backup of each kind.
	Newest map[string]*Backup
	// Gaps are the gaps on record that no backup has made harmless.
	Gaps []Gap
}

// KeepBackups makes a base backup when one is due, and after it removes what the rules do not keep. Whether one is due is
// told by the records in the repository, so that it does not matter who made the last one.
func (r *Repo) KeepBackups(ctx context.Context, o KeepOptions) (Kept, error) {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	all, err := r.Backups(ctx)
	if err != nil {
		return Kept{}, err
	}
	var k Kept
	if k.Gaps, err = r.harmfulGaps(ctx, all); err != nil {
		return k, err
	}
	if kind := dueBackup(all, k.Gaps, o, now()); kind != "" {
		b := o.Backup
		b.Kind, b.Owner, b.Now = kind, o.Owner, o.Now
		if k.Made, err = r.TakeBackup(ctx, b); err != nil {
			return k, err
		}
		if o.Rule.Keep > 0 || o.Rule.Window > 0 {
			p, err := r.Expire(ctx, ExpireOptions{Rule: o.Rule, Garbage: true, Owner: o.Owner, Now: o.Now})
			if err != nil {
				return k, err
			}
			k.Removed = len(p.Backups)
		}
		if all, err = r.Backups(ctx); err != nil {
			return k, err
		}
		if k.Gaps, err = r.harmfulGaps(ctx, all); err != nil {
			return k, err
		}
	}
	k.Newest = map[string]*Backup{}
	for _, b := range all {
		k.Newest[b.Kind] = b
	}
	if len(all) > 0 {
		k.First, k.Last = all[0], all[len(all)-1]
	}
	return k, nil
}

// harmfulGaps lists the gaps that the newest backup does not make harmless; it closes the others.
func (r *Repo) harmfulGaps(ctx context.Context, all []*Backup) ([]Gap, error) {
	if len(all) == 0 {
		return nil, nil
	}
	last := all[len(all)-1]
	if err := r.closeGaps(ctx, last); err != nil {
		return nil, err
	}
	return r.OpenGaps(ctx, last.System)
}

// dueBackup tells which kind of backup is due; empty: none. Behind a gap one is due at once: without it nothing that came
// after the gap can be restored.
func dueBackup(all []*Backup, gaps []Gap, o KeepOptions, now time.Time) string {
	if o.Every <= 0 {
		return ""
	}
	var last, full time.Time
	for _, b := range all {
		if b.StartTime.After(last) {
			last = b.StartTime
		}
		if b.Kind == BackupFull && b.StartTime.After(full) {
			full = b.StartTime
		}
	}
	switch {
	case now.Sub(last) < o.Every && len(gaps) == 0:
		return ""
	case full.IsZero(), o.FullEvery > 0 && now.Sub(full) >= o.FullEvery:
		return BackupFull
	}
	return BackupIncr
}
