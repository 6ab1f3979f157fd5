package walarchive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Errors of backups.
var (
	// ErrNoBackup is returned when there is no complete backup (of this id, or any that fits).
	ErrNoBackup = errors.New("no such backup")
	// ErrNoWAL is returned when the WAL that a backup needs does not come into the archive.
	ErrNoWAL = errors.New("the WAL of the backup is not in the archive")
)

// States of a backup's record. A backup that is being made has none.
const (
	BackupComplete = "complete"
	BackupExpiring = "expiring"
)

// Kinds of backups. Both are whole: an incremental one finds unchanged blocks in the packs of older ones.
const (
	BackupFull = "full"
	BackupIncr = "incr"
)

// Backup is the commit record of a base backup, backup.json: without it, the backup does not exist.
type Backup struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Kind  string `json:"kind"`
	// From is primary or standby.
	From          string    `json:"from"`
	System        uint64    `json:"system_id,string"`
	ServerVersion int       `json:"server_version"`
	SegmentSize   uint32    `json:"segment_size"`
	Timeline      uint32    `json:"timeline"`
	StartLSN      LSN       `json:"start_lsn"`
	StopLSN       LSN       `json:"stop_lsn"`
	StartTime     time.Time `json:"start_time"`
	StopTime      time.Time `json:"stop_time"`
	// Checksums: the cluster has page checksums, and they were checked.
	Checksums bool         `json:"checksums"`
	Spaces    []Tablespace `json:"tablespaces,omitempty"`
	// Settings a standby must not go below.
	Settings map[string]string `json:"settings"`
	Files    int               `json:"files"`
	Bytes    int64             `json:"bytes"`
	// Stored is what this backup added to the repository.
	Stored      int64  `json:"stored_bytes"`
	FilesSHA256 string `json:"files_sha256"`
	Base        string `json:"base,omitempty"`
	// Recipients are the age keys that open the backup, with the packs of older ones that it refers to.
	Recipients  []string          `json:"recipients,omitempty"`
	Packs       map[uint32]Pack   `json:"packs"`
	BadPages    []BadPage         `json:"bad_pages,omitempty"`
	Warnings    []string          `json:"warnings,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Held        bool              `json:"held,omitempty"`
	HeldReason  string            `json:"held_reason,omitempty"`
}

// standbySettings are settings that must not be lower on a standby than on its primary.
var standbySettings = []string{
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
}

// backupKey is the key of the commit record.
func (r *Repo) backupKey(id string) string { return r.BackupPrefix(id) + "backup.json" }

// filesKey is the key of a backup's list of files.
func (r *Repo) filesKey(id string) string { return r.BackupPrefix(id) + "files.json" + r.Suffix() }

// sealedKey is the key of a small file that is stored as it is, or encrypted.
func (r *Repo) sealedKey(id, name string) string {
	if r.Encrypted {
		name += ageSuffix
	}
	return r.BackupPrefix(id) + name
}

// Manifest reads PostgreSQL's own manifest of a backup.
func (r *Repo) Manifest(ctx context.Context, b *Backup) ([]byte, error) {
	key := r.sealedKey(b.ID, "backup_manifest")
	body, err := r.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return r.unlock(text, b.Recipients)
}

// GetBackup reads one commit record. ErrNoBackup.
func (r *Repo) GetBackup(ctx context.Context, id string) (*Backup, error) {
	b, _, err := r.backupRecord(ctx, id)
	return b, err
}

// backupRecord reads a commit record and its ETag.
func (r *Repo) backupRecord(ctx context.Context, id string) (*Backup, string, error) {
	var b Backup
	if !backupID(id) {
		return nil, "", fmt.Errorf("%w: %q", ErrNoBackup, id)
	}
	etag, err := r.getJSON(ctx, r.backupKey(id), &b)
	if errors.Is(err, ErrNotFound) {
		return nil, "", fmt.Errorf("%w: %s", ErrNoBackup, id)
	}
	if err != nil {
		return nil, "", fmt.Errorf("backup %s: %w", id, err)
	}
	return &b, etag, nil
}

// Backups lists the complete backups, oldest first: by system and position in its WAL, never by name.
func (r *Repo) Backups(ctx context.Context) ([]*Backup, error) {
	all, err := r.backupRecords(ctx)
	return slices.DeleteFunc(all, func(b *Backup) bool { return b.State != BackupComplete }), err
}

// backupRecords lists all commit records, also those of backups that are being removed.
func (r *Repo) backupRecords(ctx context.Context) ([]*Backup, error) {
	ids, err := r.backupIDs(ctx)
	if err != nil {
		return nil, err
	}
	var list []*Backup
	for _, id := range ids {
		b, err := r.GetBackup(ctx, id)
		if errors.Is(err, ErrNoBackup) {
			continue // not finished, or removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	slices.SortFunc(list, olderBackup)
	return list, nil
}

// backupIDs lists the ids under which something is stored, finished or not.
func (r *Repo) backupIDs(ctx context.Context) ([]string, error) {
	var ids []string
	prefix := r.BackupPrefix("")
	after := ""
	for {
		found := ""
		for o, err := range r.List(ctx, prefix, after) {
			if err != nil {
				return nil, fmt.Errorf("list the backups: %w", err)
			}
			found = o.Key
			break
		}
		if found == "" {
			return ids, nil
		}
		id := firstPart(found[len(prefix):])
		ids = append(ids, id)
		after = prefix + id + "0" // behind every key of this backup: '0' follows '/'
	}
}

// firstPart is the part of a key before the first slash.
func firstPart(key string) string {
	for i := range len(key) {
		if key[i] == '/' {
			return key[:i]
		}
	}
	return key
}

// olderBackup orders backups: inside a system by position, systems by time.
func olderBackup(a, b *Backup) int {
	if a.System == b.System && a.StopLSN != b.StopLSN {
		if a.StopLSN < b.StopLSN {
			return -1
		}
		return 1
	}
	return a.StopTime.Compare(b.StopTime)
}

// backupID reports whether text has the form of an id.
func backupID(text string) bool {
	if len(text) < 18 || text[8] != 'T' || text[15] != 'Z' {
		return false
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return true
}

// newBackupID makes an id that nothing is stored under.
func (r *Repo) newBackupID(ctx context.Context, start time.Time, kind, from string) (string, error) {
	stem := start.UTC().Format("20060102T150405Z") + map[string]string{BackupFull: "F", BackupIncr: "I"}[kind] +
		map[string]string{"primary": "P", "standby": "S"}[from]
	for n := 1; ; n++ {
		id := stem
		if n > 1 {
			id = fmt.Sprintf("%s-%d", stem, n)
		}
		used := false
		for _, err := range r.List(ctx, r.BackupPrefix(id), "") {
			if err != nil {
				return "", err
			}
			used = true
			break
		}
		if !used {
			return id, nil
		}
	}
}

// UpdateBackup changes what a commit record says of a complete backup: annotations and holds. The change may be tried
// more than once.
func (r *Repo) UpdateBackup(ctx context.Context, id string, change func(*Backup) error) (*Backup, error) {
	for range 10 {
		b, etag, err := r.backupRecord(ctx, id)
		if err != nil {
			return nil, err
		}
		if b.State != BackupComplete {
			return nil, fmt.Errorf("%w: %s is being removed", ErrNoBackup, id)
		}
		if err := change(b); err != nil {
			return nil, err
		}
		err = r.putJSON(ctx, r.backupKey(id), b, etag)
		if !errors.Is(err, ErrChanged) {
			return b, err
		}
	}
	return nil, fmt.Errorf("backup %s: its record %w all the time", id, ErrChanged)
}

// HoldBackup protects a backup and its WAL from every expire.
func (r *Repo) HoldBackup(ctx context.Context, id, reason string) (*Backup, error) {
	return r.UpdateBackup(ctx, id, func(b *Backup) error {
		b.Held, b.HeldReason = true, reason
		return nil
	})
}

// ReleaseBackup takes the protection away.
func (r *Repo) ReleaseBackup(ctx context.Context, id string) (*Backup, error) {
	return r.UpdateBackup(ctx, id, func(b *Backup) error {
		b.Held, b.HeldReason = false, ""
		return nil
	})
}

// AnnotateBackup sets annotations; an empty value removes one.
func (r *Repo) AnnotateBackup(ctx context.Context, id string, notes map[string]string) (*Backup, error) {
	return r.UpdateBackup(ctx, id, func(b *Backup) error {
		all := maps.Clone(b.Annotations)
		if all == nil {
			all = map[string]string{}
		}
		for k, v := range notes {
			if v == "" {
				delete(all, k)
				continue
			}
			all[k] = v
		}
		b.Annotations = all
		return nil
	})
}

// commitBackup writes the commit record of a new backup.
func (r *Repo) commitBackup(ctx context.Context, b *Backup) error {
	body, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if len(body) >= MaxSmall {
		return fmt.Errorf("the record of backup %s has %d bytes, at most %d fit", b.ID, len(body), MaxSmall)
	}
	_, err = r.PutIf(ctx, r.backupKey(b.ID), append(body, '\n'), "")
	return err
}
