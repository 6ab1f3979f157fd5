package walarchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// BackupOptions say how a base backup is made.
type BackupOptions struct {
	// DSN is the server to copy from; its role needs the attribute replication.
	DSN string
	// Kind is BackupFull or BackupIncr. Without an older backup an incremental one becomes full.
	Kind string
	// From makes sure that the server is a primary or a standby; empty: either.
	From string
	// Label is what the server is told; default: the id.
	Label string
	// Spread lets the server take its time for the checkpoint; default: at once.
	Spread bool
	// RateKB limits the server to so many kilobytes per second; 0: no limit.
	RateKB int
	// Jobs is the number of parallel compressors; default 2.
	Jobs        int
	Annotations map[string]string
	// WALTimeout is how long to wait for the WAL of the backup in the archive; default 5 minutes.
	WALTimeout time.Duration
	// Owner names the holder of the lease.
	Owner string
	// Progress is told about every block; total is the server's estimate.
	Progress func(done, total int64)
	// Note is told in one line what happens.
	Note func(text string)
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// backupRun is one backup being made.
type backupRun struct {
	repo   *Repo
	o      BackupOptions
	r      *Replication
	lease  *lease
	b      *Backup
	base   *Backup
	copier copier
}

// TakeBackup makes a base backup and returns its record when it is complete: everything stored, and the WAL it needs
// confirmed in the archive. Whatever goes wrong before leaves nothing that is listed. ErrLeased, ErrNoWAL.
func (r *Repo) TakeBackup(ctx context.Context, o BackupOptions) (*Backup, error) {
	o = o.withDefaults()
	l, held, err := takeLease(ctx, r, r.LeaseKey("backup"), o.Owner, o.Now)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	run := &backupRun{repo: r, o: o, lease: l, b: &Backup{}}
	err = run.make(held)
	if cause := context.Cause(held); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err != nil && run.b.ID != "" {
		// What cannot be removed now is garbage that expire collects.
		err = errors.Join(fmt.Errorf("backup %s: %w", run.b.ID, err), r.deletePrefix(after, r.BackupPrefix(run.b.ID)))
	}
	if lerr := l.release(after); err == nil {
		err = lerr
	}
	if err != nil {
		return nil, err
	}
	run.follow(ctx)
	return run.b, nil
}

// withDefaults fills what was left open.
func (o BackupOptions) withDefaults() BackupOptions {
	if o.Kind == "" {
		o.Kind = BackupFull
	}
	if o.Jobs <= 0 {
		o.Jobs = 2
	}
	if o.WALTimeout <= 0 {
		o.WALTimeout = 5 * time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// deletePrefix removes all objects below a prefix.
func (r *Repo) deletePrefix(ctx context.Context, prefix string) error {
	var keys []string
	for o, err := range r.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		keys = append(keys, o.Key)
	}
	if len(keys) == 0 {
		return nil
	}
	return r.Delete(ctx, keys...)
}

// make does the steps of a backup.
func (run *backupRun) make(ctx context.Context) (err error) {
	o := run.o
	if run.r, err = DialReplication(ctx, o.DSN, "skyd backup"); err != nil {
		return err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, run.r.Close(after))
	}()
	if err := run.inspect(ctx); err != nil {
		return err
	}
	if err := run.choose(ctx); err != nil {
		return err
	}
	b := run.b
	if b.ID, err = run.repo.newBackupID(ctx, o.Now(), b.Kind, b.From); err != nil {
		return err
	}
	if err := run.lease.amend(ctx, func(rec *LeaseRecord) { rec.Backup, rec.Base = b.ID, b.Base }); err != nil {
		return err
	}
	if err := run.copy(ctx); err != nil {
		return err
	}
	if err := run.confirm(ctx); err != nil {
		return err
	}
	b.State = BackupComplete
	return run.repo.commitBackup(ctx, b)
}

// follow does what comes after a complete backup; that it fails takes nothing from the backup.
func (run *backupRun) follow(ctx context.Context) {
	r, b := run.repo, run.b
	if err := r.closeGaps(ctx, b); err != nil {
		run.o.Note("the gaps that the backup makes harmless are not noted yet: " + err.Error())
	}
	if err := r.runHook(ctx, "after_backup", r.hooks.AfterBackup, hookLimit, "SKYD_BACKUP="+b.ID); err != nil {
		run.o.Note(err.Error())
	}
}

// inspect asks the server what it is.
func (run *backupRun) inspect(ctx context.Context) error {
	r, b := run.r, run.b
	id, err := r.Identify(ctx)
	if err != nil {
		return err
	}
	if b.System, err = strconv.ParseUint(id.SystemID, 10, 64); err != nil {
		return fmt.Errorf("system identifier: %w", err)
	}
	size, err := r.SegmentSize(ctx)
	if err != nil {
		return err
	}
	b.ServerVersion, b.SegmentSize, b.Settings = r.Version, uint32(size), map[string]string{}
	facts := map[string]string{}
	for _, name := range append([]string{"block_size", "data_checksums", "in_hot_standby"}, standbySettings...) {
		if facts[name], err = r.Show(ctx, name); err != nil {
			return err
		}
	}
	if facts["block_size"] != strconv.Itoa(pageSize) {
		return fmt.Errorf("the server has pages of %s bytes, only %d is known", facts["block_size"], pageSize)
	}
	for _, name := range standbySettings {
		b.Settings[name] = facts[name]
	}
	b.Checksums = facts["data_checksums"] == "on"
	b.From = "primary"
	if facts["in_hot_standby"] == "on" {
		b.From = "standby"
	}
	if run.o.From != "" && run.o.From != b.From {
		return fmt.Errorf("%w: the server is a %s, not a %s", ErrRefused, b.From, run.o.From)
	}
	return run.supplied(ctx, id.Timeline)
}

// choose finds the backup whose packs an incremental one builds on.
func (run *backupRun) choose(ctx context.Context) error {
	b := run.b
	b.Kind, b.Annotations = BackupFull, run.o.Annotations
	if k := run.repo.keys; k != nil {
		b.Recipients = k.names
	}
	if run.o.Kind != BackupIncr {
		return nil
	}
	if k := run.repo.keys; k != nil && len(k.identities) == 0 {
		run.o.Note("without encryption.identity_file older backups cannot be read: this one becomes full")
		return nil
	}
	all, err := run.repo.Backups(ctx)
	if err != nil {
		return err
	}
	for _, other := range slices.Backward(all) {
		if other.System == b.System && len(other.BadPages) == 0 {
			if !slices.Equal(other.Recipients, b.Recipients) {
				run.o.Note("backup " + other.ID + " is encrypted for other keys: this one becomes full, so that the new keys are enough for it")
				return nil
			}
			b.Kind, b.Base, run.base = BackupIncr, other.ID, other
			return nil
		}
	}
	run.o.Note("there is no older backup of this cluster to build on: this one becomes full")
	return nil
}

// copy streams the backup into the storage.
func (run *backupRun) copy(ctx context.Context) (err error) {
	b, o := run.b, run.o
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &run.copier
	c.packs = &packSet{repo: run.repo, prefix: run.repo.BackupPrefix(b.ID) + "pack/", packs: map[uint32]Pack{}}
	c.checkPages, c.now, c.jobs = b.Checksums, o.Now(), o.Jobs
	if run.base != nil {
		if c.base, err = loadBase(ctx, run.repo, run.base); err != nil {
			return fmt.Errorf("backup %s, which this one builds on: %w", run.base.ID, err)
		}
		for number := range run.base.Packs {
			c.packs.first = max(c.packs.first, number+1)
		}
	}
	if c.files, err = newFilesWriter(ctx, run.repo, run.repo.filesKey(b.ID)); err != nil {
		return err
	}
	b.StartTime = o.Now().UTC()
	label := o.Label
	if label == "" {
		label = "skyd " + b.ID
	}
	bb, err := run.r.startBaseBackup(ctx, baseBackupOptions{label: label, spread: o.Spread, rateKB: o.RateKB})
	if err != nil {
		c.files.abort()
		return err
	}
	b.StartLSN, b.Timeline, b.Spaces, c.start = bb.start, bb.timeline, bb.spaces, bb.start
	c.progress = func(done int64) { o.Progress(done, max(done, bb.total)) }
	c.run(ctx, cancel)
	err = run.receive(ctx, bb)
	if err != nil {
		cancel(err)
	}
	c.finish()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		c.files.abort()
		return err
	}
	if b.FilesSHA256, err = c.files.close(); err != nil {
		return err
	}
	run.total()
	run.nameSpaces(ctx)
	return nil
}

// receive reads the whole base backup and checks it against the server's manifest.
func (run *backupRun) receive(ctx context.Context, bb *baseBackup) error {
	c := &run.copier
	for {
		head, err := bb.NextArchive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		prefix := ""
		if head.oid != "" {
			prefix = path.Join("pg_tblspc", head.oid)
		}
		if err := c.archive(ctx, bb, prefix); err != nil {
			return err
		}
	}
	text, err := bb.Manifest()
	if err != nil {
		return err
	}
	manifest, err := parsePGManifest(text)
	if err != nil {
		return err
	}
	c.mu.Lock()
	err = compareWithManifest(manifest, c.sent)
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("what arrived is not what the server's manifest lists: %w", err)
	}
	err = bb.Finish()
	if state := (*pgconn.PgError)(nil); errors.As(err, &state) && state.Code == "XX001" && bb.end != 0 {
		run.b.Warnings = append(run.b.Warnings, state.Message)
		err = nil
	}
	if err != nil {
		return err
	}
	if bb.endTLI != bb.timeline {
		return fmt.Errorf("the server changed from timeline %d to %d meanwhile", bb.timeline, bb.endTLI)
	}
	run.b.StopLSN, run.b.StopTime = bb.end, run.o.Now().UTC()
	run.b.Warnings = append(run.b.Warnings, bb.notices...)
	return run.seal(ctx, text)
}

// seal stores the manifest of the server.
func (run *backupRun) seal(ctx context.Context, manifest []byte) error {
	text, err := run.repo.lock(manifest)
	if err != nil {
		return err
	}
	key := run.repo.sealedKey(run.b.ID, "backup_manifest")
	return run.repo.Put(ctx, key, bytes.NewReader(text), PutOptions{Size: int64(len(text))})
}

// maxBadPages bounds the list in the record of a backup.
const maxBadPages = 1000

// total completes the record from what the copier counted.
func (run *backupRun) total() {
	b, c := run.b, &run.copier
	b.Files, b.Bytes, b.Stored = c.entries, c.size, c.stored.Load()
	b.Packs = maps.Clone(c.packs.packs)
	for number := range c.used {
		b.Packs[number] = run.base.Packs[number]
	}
	// The server reads a page again before it complains, which we cannot: a page is bad when both say so.
	complaints := strings.Join(b.Warnings, "\n")
	for _, p := range c.suspects {
		if strings.Contains(complaints, p.Path) && len(b.BadPages) < maxBadPages {
			b.BadPages = append(b.BadPages, p)
		}
	}
	slices.SortFunc(b.BadPages, func(x, y BadPage) int {
		if d := strings.Compare(x.Path, y.Path); d != 0 {
			return d
		}
		return int(x.Block) - int(y.Block)
	})
}

// confirm waits until the WAL from start to stop is in the archive; without it the backup is worth nothing.
func (run *backupRun) confirm(ctx context.Context) error {
	b := run.b
	if err := run.history(ctx); err != nil {
		return err
	}
	deadline := run.o.Now().Add(run.o.WALTimeout)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	told := false
	at := b.StartLSN / LSN(b.SegmentSize) * LSN(b.SegmentSize)
	for at < b.StopLSN {
		ok, err := run.repo.holdsWAL(ctx, b.System, b.Timeline, b.SegmentSize, at, b.StopLSN)
		if err != nil {
			return err
		}
		if ok {
			at += LSN(b.SegmentSize)
			continue
		}
		name := SegmentName(b.Timeline, at, b.SegmentSize)
		if !told {
			told = true
			run.o.Note("waiting for segment " + name + " in the archive" + run.hint())
		}
		if run.o.Now().After(deadline) {
			return fmt.Errorf("%w: segment %s did not come within %s", ErrNoWAL, name, run.o.WALTimeout)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// history stores the history file of the backup's timeline, so that restore knows the way.
func (run *backupRun) history(ctx context.Context) error {
	name, text, err := run.r.TimelineHistory(ctx, run.b.Timeline)
	if err != nil || name == "" {
		return err
	}
	return run.repo.putHistory(ctx, run.b.System, name, text)
}

// hint tells who closes the last segment: a primary did so at the end of the backup; a standby cannot, so nothing
// happens until its primary goes on, or a receiver ships the open segment.
func (run *backupRun) hint() string {
	if run.b.From == "standby" {
		return "; the primary closes it (pg_switch_wal), or a receiver ships it while it is open"
	}
	return ""
}

// supplied makes sure that somebody brings WAL into the archive, before anything is copied.
func (run *backupRun) supplied(ctx context.Context, timeline uint32) error {
	mode, err := run.r.Show(ctx, "archive_mode")
	if err != nil || mode == "always" || mode == "on" {
		return err
	}
	rec, _, err := readLease(ctx, run.repo, run.repo.LeaseKey(fmt.Sprintf("stream-%08X", timeline)))
	if err != nil || rec.held(run.o.Now()) {
		return err
	}
	return fmt.Errorf("%w: nobody brings WAL into the archive: archive_mode is off and no receiver runs (skyd wal setup, or skyd wal receive)", ErrRefused)
}

// nameSpaces finds the names of tablespaces, where the role may ask: with them a restore can be told where to put what.
func (run *backupRun) nameSpaces(ctx context.Context) {
	if len(run.b.Spaces) == 0 {
		return
	}
	conn, err := pgx.Connect(ctx, run.o.DSN)
	if err != nil {
		run.o.Note("the names of the tablespaces are not known: " + err.Error())
		return
	}
	defer func() { _ = conn.Close(ctx) }() // nothing was written
	rows, err := conn.Query(ctx, "select oid::text, spcname::text from pg_catalog.pg_tablespace")
	if err != nil {
		return
	}
	var oid, name string
	_, err = pgx.ForEachRow(rows, []any{&oid, &name}, func() error {
		for i := range run.b.Spaces {
			if run.b.Spaces[i].OID == oid {
				run.b.Spaces[i].Name = name
			}
		}
		return nil
	})
	if err != nil {
		run.o.Note("the names of the tablespaces are not known: " + err.Error())
	}
}
