package walarchive_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skytools/skyd/walarchive"
)

// rotate is the encryption after a new key took the place of the old one, which stays in the identity file beside it.
func rotate(t *testing.T, old walarchive.Encryption) (both, onlyNew walarchive.Encryption) {
	t.Helper()
	onlyNew = encryption(t)
	onlyNew.TagKeyFile = old.TagKeyFile
	both = onlyNew
	both.IdentityFile = filepath.Join(t.TempDir(), "both")
	var text []byte
	for _, name := range []string{old.IdentityFile, onlyNew.IdentityFile} {
		one, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, one...)
	}
	if err := os.WriteFile(both.IdentityFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return both, onlyNew
}

// reopen opens the repository of another one with other keys.
func reopen(t *testing.T, r *walarchive.Repo, e walarchive.Encryption) *walarchive.Repo {
	t.Helper()
	again, err := walarchive.OpenRepo(t.Context(), r.Storage, "main", walarchive.RepoOptions{Encryption: e})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestRotation_OldAndNewStayReadable rotates the age key under a server that archives and is backed up: with both keys
// everything can be read, the new key alone is enough for what came after it, the old one alone for what came before, and what
// cannot be read names the key that is missing.
func TestRotation_OldAndNewStayReadable(t *testing.T) {
	t.Parallel()
	srv, first := newServer(t, nil), encryption(t)
	both, onlyNew := rotate(t, first)
	dsn := srv.DSN("postgres")
	before := makeRepo(t, walarchive.RepoOptions{Encryption: first})
	rc := receive(t, before, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	sql(t, dsn, "create table t (i int primary key)", "insert into t values (1)")
	old := takeBackup(t, before, dsn, walarchive.BackupFull)
	rc.until(position(t, dsn))
	rc.end()

	after := reopen(t, before, both)
	rc = receive(t, after, walarchive.ReceiverOptions{DSN: dsn, Slot: "skyd"})
	rc.streaming()
	sql(t, dsn, "insert into t values (2)", "select pg_catalog.pg_switch_wal()")
	fresh := takeBackup(t, after, dsn, walarchive.BackupIncr)
	if fresh.Kind != walarchive.BackupFull || fresh.Base != "" {
		t.Errorf("the first backup by the new key is %s on %q: it needs the old key", fresh.Kind, fresh.Base)
	}
	sql(t, dsn, "insert into t values (3)")
	rc.until(position(t, dsn))

	restored := func(name string, keys walarchive.Encryption, b *walarchive.Backup, start bool) {
		repo := reopen(t, before, keys)
		c := newClone(t, repo)
		text, err := os.ReadFile(keys.IdentityFile)
		if err == nil {
			err = os.WriteFile(c.repo+identitySuffix, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.restore(repo, walarchive.RestoreOptions{Backup: b.ID})
		if !start {
			return
		}
		if got := scalar(t, c.start(true), "select coalesce(string_agg(i::text, ',' order by i), '') from t"); got != "1,2,3" {
			t.Errorf("%s: rows %q, want all three", name, got)
		}
	}
	restored("old backup, both keys", both, old, *walLong)
	restored("new backup, new key without the tag key", walarchive.Encryption{IdentityFile: onlyNew.IdentityFile}, fresh, true)

	for _, c := range []struct {
		name string
		keys walarchive.Encryption
		b    *walarchive.Backup
		want string
	}{{"old backup, new key", onlyNew, old, first.Recipients[0]}, {"new backup, old key", first, fresh, onlyNew.Recipients[0]}} {
		repo, dest := reopen(t, before, c.keys), filepath.Join(t.TempDir(), "x")
		_, err := repo.PlanRestore(t.Context(), walarchive.RestoreOptions{Backup: c.b.ID, Dest: dest, Command: "false"})
		if !errors.Is(err, walarchive.ErrNoKey) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want ErrNoKey and the recipient %s", c.name, err, c.want)
		}
		if _, err := os.Lstat(dest); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the destination was touched: %v", c.name, err)
		}
	}
	segment := walarchive.SegmentName(old.Timeline, old.StartLSN, old.SegmentSize)
	temp := filepath.Join(t.TempDir(), segment)
	err := reopen(t, before, onlyNew).FetchSegment(t.Context(), old.System, segment, temp)
	if walarchive.FindingOf(err) != walarchive.Internal || !strings.Contains(err.Error(), first.Recipients[0]) {
		t.Errorf("old segment, new key: %v; want the recipient %s", err, first.Recipients[0])
	}
	if err := reopen(t, before, first).FetchSegment(t.Context(), old.System, segment, temp); err != nil {
		t.Errorf("old segment, old key: %v", err)
	}
}

// TestReader_WithoutRecipients: an identity alone reads, and writes nothing; damage is found without the tag key, too.
func TestReader_WithoutRecipients(t *testing.T) {
	t.Parallel()
	e := encryption(t)
	repo := makeRepo(t, walarchive.RepoOptions{Encryption: e})
	h, object, err := repo.Seal(walarchive.Header{Name: "x"}, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := repo.Seal(walarchive.Header{Name: "x"}, []byte("another"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, body []byte) {
		t.Helper()
		if err := repo.Put(t.Context(), key, bytes.NewReader(body), walarchive.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	frame := len(object) - bytes.Index(object, []byte("age-encryption.org"))
	put("x", object)
	put("swapped", append(bytes.Clone(object[:len(object)-frame]), other[bytes.Index(other, []byte("age-encryption.org")):]...))
	reader := reopen(t, repo, walarchive.Encryption{IdentityFile: e.IdentityFile})
	var got bytes.Buffer
	if _, err := reader.Unseal(t.Context(), "x", &got); err != nil || got.String() != "content" {
		t.Errorf("read %q, %v", got.String(), err)
	}
	if _, err := reader.Unseal(t.Context(), "swapped", &got); !errors.Is(err, walarchive.ErrDamaged) {
		t.Errorf("another object under the header of %s: %v, want ErrDamaged", h.Name, err)
	}
	if _, _, err := reader.Seal(walarchive.Header{Name: "y"}, []byte("y")); err == nil || !strings.Contains(err.Error(), "recipients") {
		t.Errorf("a reader writes: %v", err)
	}
}
