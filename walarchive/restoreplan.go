package walarchive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Errors of restore.
var (
	// ErrWindow is returned for a target that cannot be reached with what is in the repository.
	ErrWindow = errors.New("the target cannot be restored")
	// ErrDest is returned for a destination that must not be written to.
	ErrDest = errors.New("the destination cannot be used")
)

// Target is where recovery ends. The zero value: at the end of the WAL.
type Target struct {
	Time      time.Time
	LSN       LSN
	XID       string
	Name      string
	Immediate bool // as soon as the backup is consistent
	// Exclusive ends before the target, not behind it.
	Exclusive bool
}

// count tells how many targets are given.
func (t Target) count() int {
	n := 0
	for _, given := range []bool{!t.Time.IsZero(), t.LSN > 0, t.XID != "", t.Name != "", t.Immediate} {
		if given {
			n++
		}
	}
	return n
}

// String says the target for people.
func (t Target) String() string {
	side := "to behind "
	if t.Exclusive {
		side = "to before "
	}
	switch {
	case !t.Time.IsZero():
		return side + "time " + t.Time.Format("2006-01-02 15:04:05.999999Z07:00")
	case t.LSN > 0:
		return side + "LSN " + t.LSN.String()
	case t.XID != "":
		return side + "transaction " + t.XID
	case t.Name != "":
		return "to restore point " + t.Name
	case t.Immediate:
		return "to the first consistent moment"
	}
	return "to the end of the WAL"
}

// What to do with a destination that is not empty.
const (
	DestEmpty   = ""        // refuse
	DestDelta   = "delta"   // keep what is the same, write what differs, remove what is too much
	DestAside   = "aside"   // rename it first
	DestReplace = "replace" // remove its content first
)

// RestoreOptions say what is restored, and how.
type RestoreOptions struct {
	// Dest is the data directory that is made.
	Dest string
	// Backup is the id to start from; empty: the newest that fits.
	Backup string
	Target Target
	// Timeline is "latest" (also empty), "current" for that of the backup, or a number.
	Timeline string
	// Action at the target: promote (default), pause or shutdown.
	Action string
	// Standby restores a standby; Conninfo and Slot say where it streams from.
	Standby  bool
	Conninfo string
	Slot     string
	// Existing says what happens to a destination that is not empty.
	Existing string
	// Spaces puts tablespaces (by name, oid or old directory) elsewhere; SpacesDir puts all others below a directory.
	Spaces    map[string]string
	SpacesDir string
	// KeepArchiving lets the restored cluster archive as the original did; otherwise archive_mode is off in it.
	KeepArchiving bool
	// Command is the restore_command.
	Command string
	// ConfigFrom is a postgresql.conf that replaces the restored one; empty: none.
	ConfigFrom string
	// Jobs is the number of parallel readers; default 4.
	Jobs int
	// Progress is told about every block.
	Progress func(done, total int64)
	// Note is told in one line what happens.
	Note func(text string)
}

// RestorePlan is what a restore is going to do; everything that can be checked has been.
type RestorePlan struct {
	Backup   *Backup           `json:"backup"`
	Timeline uint32            `json:"timeline"`
	Target   string            `json:"target"`
	Cover    WALCover          `json:"wal"`
	Segments int64             `json:"wal_segments"`
	Bytes    int64             `json:"bytes"`
	Spaces   map[string]string `json:"tablespaces,omitempty"` // oid to directory
	Aside    string            `json:"aside,omitempty"`       // where the old destination goes
	Settings []string          `json:"settings"`              // added to postgresql.auto.conf
	Signal   string            `json:"signal"`

	o RestoreOptions
}

// PlanRestore chooses the backup and makes all checks; nothing is changed. ErrNoBackup, ErrWindow, ErrDest.
func (r *Repo) PlanRestore(ctx context.Context, o RestoreOptions) (*RestorePlan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Jobs <= 0 {
		o.Jobs = 4
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	p := &RestorePlan{o: o, Target: o.Target.String()}
	if err := r.chooseBackup(ctx, p); err != nil {
		return nil, err
	}
	if err := r.checkKeys(ctx, p.Backup); err != nil {
		return nil, err
	}
	p.Bytes = p.Backup.Bytes
	p.Segments = int64((p.Cover.End - p.Backup.StartLSN) / LSN(p.Backup.SegmentSize))
	if err := p.place(); err != nil {
		return nil, err
	}
	if err := p.checkDest(); err != nil {
		return nil, err
	}
	p.Settings = p.settings()
	p.Signal = "recovery.signal"
	if o.Standby {
		p.Signal = "standby.signal"
	}
	return p, nil
}

// ErrOptions is returned for options that do not fit together.
var ErrOptions = errors.New("options do not fit together")

// check finds options that do not fit together.
func (o RestoreOptions) check() error {
	switch {
	case o.Target.count() > 1:
		return fmt.Errorf("%w: more than one target", ErrOptions)
	case o.Standby && o.Target.count() > 0:
		return fmt.Errorf("%w: a standby has no target", ErrOptions)
	case o.Target.Exclusive && (o.Target.count() == 0 || o.Target.Immediate || o.Target.Name != ""):
		return fmt.Errorf("%w: only a time, an LSN or a transaction can be exclusive", ErrOptions)
	case !slices.Contains([]string{"", "promote", "pause", "shutdown"}, o.Action):
		return fmt.Errorf("%w: action must be promote, pause or shutdown (got %q)", ErrOptions, o.Action)
	case o.Command == "":
		return fmt.Errorf("%w: the restore_command is missing", ErrOptions)
	}
	if o.Target.XID != "" {
		if _, err := strconv.ParseUint(o.Target.XID, 10, 64); err != nil {
			return fmt.Errorf("%w: transaction id %q is no number", ErrOptions, o.Target.XID)
		}
	}
	return nil
}

// chooseBackup finds the newest backup that ends before the target and lies on the way to its timeline.
func (r *Repo) chooseBackup(ctx context.Context, p *RestorePlan) error {
	all, err := r.Backups(ctx)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: source %s has none", ErrNoBackup, r.Source)
	}
	system := all[len(all)-1].System
	if clusters, err := r.Clusters(ctx); err != nil {
		return err
	} else if now, ok := clusters.Current(); ok {
		system = now.System
	}
	if p.o.Backup != "" {
		i := slices.IndexFunc(all, func(b *Backup) bool { return b.ID == p.o.Backup })
		if i < 0 {
			return fmt.Errorf("%w: %s", ErrNoBackup, p.o.Backup)
		}
		all, system = all[i:i+1], all[i].System
	}
	all = slices.DeleteFunc(all, func(b *Backup) bool { return b.System != system })
	if len(all) == 0 {
		return fmt.Errorf("%w: there is none of the current cluster (system %d); older ones are restored by their id", ErrNoBackup, system)
	}
	m, err := r.walMap(ctx, system, all[0].SegmentSize)
	if err != nil {
		return err
	}
	if p.Timeline, err = p.o.timeline(m, all); err != nil {
		return err
	}
	return p.pick(ctx, m, all)
}

// timeline finds the timeline that recovery is to follow.
func (o RestoreOptions) timeline(m *walMap, all []*Backup) (uint32, error) {
	switch o.Timeline {
	case "", "latest":
		if o.Target.Immediate && o.Backup != "" {
			return all[0].Timeline, nil
		}
		leaves := slices.DeleteFunc(m.leaves(), func(t uint32) bool {
			return !slices.ContainsFunc(all, func(b *Backup) bool { return m.onPath(b.Timeline, b.StopLSN, t) })
		})
		switch len(leaves) {
		case 0:
			return all[len(all)-1].Timeline, nil
		case 1:
			return leaves[0], nil
		}
		return 0, fmt.Errorf("%w: the cluster went on in several timelines, %v: say which one (--timeline)", ErrOptions, leaves)
	case "current":
		return all[len(all)-1].Timeline, nil
	}
	tli, err := strconv.ParseUint(o.Timeline, 10, 32)
	if err != nil || tli == 0 {
		return 0, fmt.Errorf("%w: timeline must be latest, current or a number (got %q)", ErrOptions, o.Timeline)
	}
	if !slices.Contains(m.timelines(), uint32(tli)) {
		return 0, fmt.Errorf("%w: there is no timeline %d in the archive: %v", ErrWindow, tli, m.timelines())
	}
	return uint32(tli), nil
}

// fits tells whether the target lies behind the end of a backup; for transactions and names only recovery can tell.
func (t Target) fits(b *Backup) bool {
	switch {
	case !t.Time.IsZero():
		return !b.StopTime.After(t.Time)
	case t.LSN > 0:
		return b.StopLSN <= t.LSN
	}
	return true
}

// pick chooses among the backups of a cluster, the newest first; one with bad pages only when it was asked for.
func (p *RestorePlan) pick(ctx context.Context, m *walMap, all []*Backup) error {
	var why error
	for _, b := range slices.Backward(all) {
		switch {
		case !m.onPath(b.Timeline, b.StopLSN, p.Timeline):
			why = errors.Join(why, fmt.Errorf("backup %s is not on the way to timeline %d", b.ID, p.Timeline))
			continue
		case !p.o.Target.fits(b):
			why = errors.Join(why, fmt.Errorf("backup %s ends at %s, %s", b.ID, b.StopLSN, b.StopTime.Format(time.RFC3339)))
			continue
		case len(b.BadPages) > 0 && p.o.Backup == "":
			p.o.Note(fmt.Sprintf("backup %s is passed over: it has %d bad pages", b.ID, len(b.BadPages)))
			why = errors.Join(why, fmt.Errorf("backup %s has bad pages", b.ID))
			continue
		}
		c, err := m.cover(ctx, b.StartLSN, p.Timeline)
		if err != nil {
			return err
		}
		if err := p.reaches(b, c); err != nil {
			why = errors.Join(why, err)
			continue
		}
		p.Backup, p.Cover = b, c
		return nil
	}
	return fmt.Errorf("%w: %s: %w", ErrWindow, p.Target, why)
}

// reaches makes sure that the WAL goes from the start of a backup to the target without a hole.
func (p *RestorePlan) reaches(b *Backup, c WALCover) error {
	switch t := p.o.Target; {
	case c.End < b.StopLSN:
		return fmt.Errorf("backup %s needs the WAL up to %s, the archive has it up to %s", b.ID, b.StopLSN, c.End)
	case t.Immediate, p.o.Standby:
		return nil
	case t.LSN > c.Last:
		return fmt.Errorf("the WAL ends at %s (from backup %s on)", c.Last, b.ID)
	case t.LSN > c.End, len(c.Holes) > 0 && t.count() == 0:
		return fmt.Errorf("WAL is missing behind backup %s: %s; --target-lsn %s is the last position that can be restored from it",
			b.ID, holeText(c.Holes), c.End)
	}
	return nil
}
