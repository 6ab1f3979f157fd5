package walarchive_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
)

// TestKeepBackups_Due: whether a backup is due is told by the records. The server is not there, so that one that is due
// fails.
func TestKeepBackups_Due(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		what  string
		ages  map[string]time.Duration // by id
		every time.Duration
		due   bool
	}{
		{"nothing yet", nil, time.Hour, true},
		{"no schedule", nil, 0, false},
		{"a young one", map[string]time.Duration{"20261122T114500ZFP": 15 * time.Minute}, time.Hour, false},
		{"an old one", map[string]time.Duration{"20261122T104500ZFP": 75 * time.Minute}, time.Hour, true},
		{"a young incremental one", map[string]time.Duration{"20261122T104500ZFP": 75 * time.Minute, "20261122T114500ZIP": 15 * time.Minute}, time.Hour, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			repo := makeRepo(t, walarchive.RepoOptions{})
			for id, age := range tt.ages {
				kind := map[byte]string{'F': walarchive.BackupFull, 'I': walarchive.BackupIncr}[id[16]]
				body, err := json.Marshal(walarchive.Backup{ID: id, State: walarchive.BackupComplete, Kind: kind, StartTime: now.Add(-age)})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := repo.PutIf(t.Context(), "main/backup/"+id+"/backup.json", body, ""); err != nil {
					t.Fatal(err)
				}
			}
			k, err := repo.KeepBackups(t.Context(), walarchive.KeepOptions{
				Every: tt.every, Now: func() time.Time { return now },
				Backup: walarchive.BackupOptions{DSN: "postgres://nobody@127.0.0.1:1/none"},
			})
			if due := err != nil; due != tt.due || k.Made != nil {
				t.Errorf("due %t (%v), want %t", due, err, tt.due)
			}
			if err == nil && len(tt.ages) > 0 && (k.Last == nil || k.First == nil) {
				t.Error("the newest and the oldest backup are not told")
			}
		})
	}
}
