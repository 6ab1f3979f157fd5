package walarchive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Status looks at the archive, at the files of the cluster and, if it is not nil, at the server. What cannot be seen is a
// problem in the status, not an error.
func (a *Archive) Status(ctx context.Context, s Server, now time.Time) (SourceStatus, error) {
	st := SourceStatus{
		Source: a.config.Source, Repository: a.repo.String(), Ranges: []Range{}, Gaps: []Gap{}, Writers: []Writers{},
		Windows: []Window{}, Problems: []string{}, Workers: a.config.Workers, PGWALFree: -1, RepoFree: -1,
	}
	if err := a.repo.present(ctx); err != nil {
		return st, err
	}
	all, err := a.repo.Clusters(ctx)
	if err != nil {
		return st, err
	}
	current, ok := all.Current()
	if !ok {
		return st, fmt.Errorf("source %s: %w: it is not set up", st.Source, ErrNotFound)
	}
	st.System, st.Major = current.System, current.Major
	if err := a.statusOfRepo(ctx, &st); err != nil {
		return st, err
	}
	a.statusOfFiles(&st, now)
	if s != nil {
		a.statusOfServer(ctx, s, &st)
	}
	return st, nil
}

// statusOfServer adds what the server says.
func (a *Archive) statusOfServer(ctx context.Context, s Server, st *SourceStatus) {
	state, err := ReadArchiver(ctx, s)
	if err != nil {
		st.Problems = append(st.Problems, "the server does not answer: "+err.Error())
		return
	}
	st.Archiver = &state
	if state.Position > st.Until && st.Last != "" {
		st.LagBytes = int64(state.Position - st.Until)
	}
	if state.FailedTime.After(state.LastTime) {
		st.Problems = append(st.Problems, fmt.Sprintf("the archiver failed with %s at %s", state.FailedName,
			state.FailedTime.Format(time.RFC3339)))
	}
	if sync, err := ReadSync(ctx, s); err == nil { // a standby has no senders to speak of
		st.Senders = sync.Senders
	}
	if a.config.Receive.Slot == "" {
		return
	}
	slot, err := ReadSlotStatus(ctx, s, a.config.Receive.Slot)
	switch {
	case errors.Is(err, ErrNotFound):
		if a.config.Receive.Enabled {
			st.Problems = append(st.Problems, err.Error())
		}
		return
	case err != nil:
		st.Problems = append(st.Problems, err.Error())
		return
	}
	st.Slot = &slot
	switch {
	case slot.WALStatus == "lost":
		st.Problems = append(st.Problems, fmt.Sprintf("replication slot %s is lost: the server removed WAL that was not received", slot.Name))
	case slot.WALStatus == "unreserved":
		st.Problems = append(st.Problems, fmt.Sprintf("replication slot %s is about to be lost: max_slot_wal_keep_size is used up", slot.Name))
	case !slot.Active && a.config.Receive.Enabled:
		st.Problems = append(st.Problems, fmt.Sprintf("nobody receives: replication slot %s holds %d bytes of WAL", slot.Name, slot.KeptBytes))
	}
}

// statusOfRepo adds what the repository says.
func (a *Archive) statusOfRepo(ctx context.Context, st *SourceStatus) error {
	ranges, err := a.repo.Ranges(ctx, st.System)
	if err != nil {
		return err
	}
	for i, r := range ranges {
		if i > 0 && ranges[i-1].Timeline == r.Timeline && r.Segments > 0 {
			st.Missing += int64(r.From-ranges[i-1].To) / (int64(r.To-r.From) / int64(r.Segments))
		}
		st.Ranges = append(st.Ranges, r)
		st.Last, st.Until = r.Last, r.To
		if i > 0 && ranges[i-1].Timeline == r.Timeline {
			st.Problems = append(st.Problems, fmt.Sprintf("hole on timeline %d: nothing between %s and %s", r.Timeline, ranges[i-1].Last, r.First))
		}
		if i > 0 && ranges[i-1].Timeline == r.Timeline {
			continue
		}
		w, err := a.repo.Writers(ctx, st.System, r.Timeline)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		st.Writers = append(st.Writers, w)
		if len(w.Writers) > 1 {
			st.Problems = append(st.Problems, fmt.Sprintf("timeline %d was written by several servers: %v", r.Timeline, w.Writers))
		}
	}
	gaps, err := a.repo.Gaps(ctx)
	if err != nil {
		return err
	}
	for _, g := range gaps {
		st.Gaps = append(st.Gaps, g)
		if g.ClosedBy == "" {
			st.Problems = append(st.Problems, fmt.Sprintf("gap on timeline %d from %s: %s", g.Timeline, g.From, g.Reason))
		}
	}
	return a.statusOfBackups(ctx, st)
}

// statusOfBackups adds what can be restored, and whether that was tried.
func (a *Archive) statusOfBackups(ctx context.Context, st *SourceStatus) error {
	windows, err := a.repo.WindowsWithCommits(ctx)
	if err != nil {
		return err
	}
	st.Windows = append(st.Windows, windows...)
	if len(windows) > 0 { // holes before the oldest backup matter to nobody
		st.Missing = 0
	}
	for _, w := range windows {
		for _, h := range w.Holes {
			start, err := SegmentStart(h.First, a.sizeOf(ctx, w.System))
			if err != nil {
				return err
			}
			st.Missing += int64(h.To-start) / int64(a.sizeOf(ctx, w.System))
		}
	}
	all, err := a.repo.Backups(ctx)
	if err != nil {
		return err
	}
	st.Backups = map[string]*Backup{}
	for _, b := range all {
		st.Backups[b.Kind] = b
	}
	if st.Drill, err = a.repo.LastDrill(ctx); err != nil {
		return err
	}
	if st.Drill != nil && st.Drill.Error != "" {
		st.Problems = append(st.Problems, fmt.Sprintf("the restore drill of %s failed: %s", st.Drill.Began.Format(time.RFC3339), st.Drill.Error))
	}
	return nil
}

// sizeOf is the size of a cluster's segments, which is known when it has any.
func (a *Archive) sizeOf(ctx context.Context, system uint64) uint32 {
	size, err := a.repo.segmentSize(ctx, system)
	if err != nil || size == 0 {
		return 1 << 24
	}
	return size
}

// statusOfFiles adds what the host says.
func (a *Archive) statusOfFiles(st *SourceStatus, now time.Time) {
	pause, err := a.config.Paused(now)
	if err != nil {
		st.Problems = append(st.Problems, err.Error())
	}
	if st.Paused = pause; pause != nil {
		st.Problems = append(st.Problems, "archiving is paused: "+pause.Reason)
	}
	ready, err := ReadyFiles(a.config.PGData)
	if err != nil {
		st.Problems = append(st.Problems, err.Error())
		return
	}
	st.Ready = len(ready)
	if st.ReadyBytes, err = WaitingBytes(a.config.PGData); err != nil {
		st.Problems = append(st.Problems, err.Error())
	}
	st.PGWALFree = freeBytes(filepath.Join(a.config.PGData, "pg_wal"))
	if dir := a.repo.Capabilities().LocalDir; dir != "" {
		st.RepoFree = freeBytes(dir)
	}
	st.Spool = spoolBytes(a.config.StateDir)
	if st.Dropped, err = a.config.Dropped(); err != nil {
		st.Problems = append(st.Problems, err.Error())
	}
	if len(st.Dropped) > 0 {
		st.Problems = append(st.Problems, fmt.Sprintf("%d segment(s) were given up (queue_max): a gap, not on record yet", len(st.Dropped)))
	}
	for _, r := range ready {
		st.ReadyAge = max(st.ReadyAge, now.Sub(r.Since).Seconds())
	}
}

// spoolBytes is the size of what receivers of this host have not brought into the repository.
func spoolBytes(stateDir string) (sum int64) {
	files, err := filepath.Glob(filepath.Join(stateDir, "receive", "*", "*"))
	for _, path := range files {
		if info, serr := os.Stat(path); serr == nil && filepath.Base(path) != spareName {
			sum += info.Size()
		}
	}
	if err != nil {
		return 0
	}
	return sum
}

// freeBytes is the room on the file system of a directory for those who are not root; -1: not known.
func freeBytes(dir string) int64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return -1
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// CheckResult is one finding of Check.
type CheckResult struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Warn bool   `json:"warning,omitempty"` // not well, but the archive works
	Text string `json:"text"`
}

// maxSkew is how far the clocks of host and server may differ.
const maxSkew = 5 * time.Second

// Check proves that the archive works end to end: settings, writers, and, on a primary, a segment that goes there and
// comes back. command is the archive_command that setup sets.
func (a *Archive) Check(ctx context.Context, s Server, command string) (results []CheckResult) {
	add := func(name string, err error, text string) bool {
		if err != nil {
			text = err.Error()
		}
		results = append(results, CheckResult{Name: name, OK: err == nil, Text: text})
		return err == nil
	}
	facts, err := ReadFacts(ctx, s)
	if !add("server", err, fmt.Sprintf("version %d, system %d", facts.Version/10000, facts.System)) {
		return results
	}
	local, err := ReadCluster(a.config.PGData)
	if !add("pgdata", err, a.config.PGData) {
		return results
	}
	plan, err := PlanSetup(facts, local, command, a.config.Receive.Enabled)
	if err == nil && len(plan) > 0 {
		err = fmt.Errorf("%w: %s is %q, not %q (skyd wal setup)", ErrUnfit, plan[0].Name, plan[0].From, plan[0].To)
	}
	fit := add("settings", err, "archiving is set up")
	_, err = a.clusterNow(ctx)
	fit = add("repository", err, a.repo.String()) && fit
	if pause, err := a.config.Paused(time.Now()); err != nil || pause != nil {
		if err == nil {
			err = fmt.Errorf("%w: %s", ErrPaused, pause.Reason)
		}
		fit = add("pause", err, "") && fit
	}
	state, err := ReadArchiver(ctx, s)
	if add("archiver", err, fmt.Sprintf("%d archived, %d failed", state.Archived, state.Failed)) {
		skew := time.Since(state.Now)
		results = append(results, CheckResult{
			Name: "clock", OK: skew.Abs() < maxSkew, Warn: true,
			Text: fmt.Sprintf("%s between host and server", skew.Round(time.Millisecond).Abs()),
		})
		results = append(results, a.checkWriters(ctx, facts.System, state.Timeline))
	}
	results = append(results, a.checkSpace(facts)...)
	if a.config.Receive.Enabled && a.config.Receive.Slot != "" {
		slot, err := ReadSlotStatus(ctx, s, a.config.Receive.Slot)
		if err == nil && slot.WALStatus == "lost" {
			err = fmt.Errorf("%w: replication slot %s is lost", ErrUnfit, slot.Name)
		}
		if add("slot", err, fmt.Sprintf("%s: %s, holds %d bytes of WAL", slot.Name, slot.WALStatus, slot.KeptBytes)) && !slot.Active {
			results[len(results)-1] = CheckResult{Name: "slot", Warn: true, Text: slot.Name + ": nobody receives"}
		}
	}
	if a.repo.keys != nil && len(a.repo.keys.identities) == 0 {
		results = append(results, CheckResult{Name: "keys", Warn: true, Text: "no identity_file: this host can archive, but not fetch"})
	}
	if fit && !facts.InRecovery {
		name, err := a.checkRoundTrip(ctx, s, facts.System)
		add("round trip", err, name+" was archived and came back")
	}
	return results
}

// lowSpace is how many segments there must be room for.
const lowSpace = 16

// checkSpace looks for room where WAL is written.
func (a *Archive) checkSpace(f Facts) (results []CheckResult) {
	for _, at := range [][2]string{{"space", filepath.Join(a.config.PGData, "pg_wal")}, {"repo space", a.repo.Capabilities().LocalDir}} {
		if at[1] == "" {
			continue
		}
		free := freeBytes(at[1])
		results = append(results, CheckResult{
			Name: at[0], Warn: true, OK: free < 0 || free > lowSpace*int64(f.Size),
			Text: fmt.Sprintf("%d MiB free for %s", free>>20, at[1]),
		})
	}
	return results
}

// checkWriters looks whether somebody else writes the timeline.
func (a *Archive) checkWriters(ctx context.Context, system uint64, timeline uint32) CheckResult {
	w, err := a.repo.Writers(ctx, system, timeline)
	c := CheckResult{Name: "writers", OK: true, Warn: true, Text: fmt.Sprintf("timeline %d: %v", timeline, w.Writers)}
	switch {
	case errors.Is(err, ErrNotFound):
		c.Text = fmt.Sprintf("timeline %d: none yet", timeline)
	case err != nil:
		c.OK, c.Text = false, err.Error()
	case len(w.Writers) > 1:
		c.OK = false
	}
	return c
}

// checkRoundTrip closes a segment, waits until it is archived, and fetches it.
func (a *Archive) checkRoundTrip(ctx context.Context, s Server, system uint64) (string, error) {
	name, err := SwitchSegment(ctx, s)
	if err != nil {
		return "", err
	}
	if err := a.AwaitSegment(ctx, system, name); err != nil {
		return name, err
	}
	if a.repo.keys != nil && len(a.repo.keys.identities) == 0 {
		return name, nil
	}
	dir, err := os.MkdirTemp("", "skyd-check-")
	if err != nil {
		return name, err
	}
	err = a.repo.FetchSegment(ctx, system, name, filepath.Join(dir, name))
	return name, errors.Join(err, os.RemoveAll(dir))
}

// AwaitSegment waits until a segment is in the repository.
func (a *Archive) AwaitSegment(ctx context.Context, system uint64, name string) error {
	for {
		_, err := a.repo.Head(ctx, a.repo.SegmentKey(system, name))
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s was not archived in time: %w (see the server's log)", name, context.Cause(ctx))
		}
	}
}
