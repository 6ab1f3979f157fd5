package sftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

func TestStorage_Conformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) func() walarchive.Storage {
		s := newServer(t, "")
		return func() walarchive.Storage {
			st := s.open(s.addr)
			t.Cleanup(func() { _ = st.Close() })
			return st
		}
	})
}

// TestStorage_SyncsBeforeItNames: the content is synced before the object has its name, and the directory before put says
// yes.
func TestStorage_SyncsBeforeItNames(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	st := s.open(s.addr)
	defer func() { _ = st.Close() }()
	storagetest.Put(t, st, "a/first", []byte("x"))
	s.dies(0)
	storagetest.Put(t, st, "a/b", storagetest.Body(1, 100_000))
	asked, _ := s.order()
	if want := "open fsync@openssh.com hardlink@openssh.com remove open fsync@openssh.com"; strings.Join(asked, " ") != want {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	s.mu.Lock()
	s.noSync = true
	s.mu.Unlock()
	err := st.Put(t.Context(), "a/c", strings.NewReader("y"), walarchive.PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "sync") {
		t.Errorf("put on a disk that does not sync: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "a", "*c*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestStorage_DeathAtEveryRequest cuts the connection at each request: the object is absent or complete then, and a second
// attempt ends well.
func TestStorage_DeathAtEveryRequest(t *testing.T) {
	t.Parallel()
	body := storagetest.Body(1, 70_000)
	s := newServer(t, "")
	for _, replace := range []bool{false, true} {
		for n := 1; ; n++ {
			key := "a/" + strings.Repeat("b", n) + map[bool]string{true: "r"}[replace]
			st, tag := s.open(s.addr), ""
			if replace {
				var err error
				if tag, err = st.PutIf(t.Context(), key, []byte("old"), ""); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := st.Head(t.Context(), "none"); !errors.Is(err, walarchive.ErrNotFound) {
				t.Fatal(err) // and there is a connection
			}
			s.dies(n)
			var err error
			if replace {
				_, err = st.PutIf(t.Context(), key, body, tag)
			} else {
				err = st.Put(t.Context(), key, bytes.NewReader(body), walarchive.PutOptions{})
			}
			_, requests := s.order()
			s.dies(0)
			if requests < n {
				if err != nil || n < 10 {
					t.Fatalf("without a death: %v, after %d requests", err, requests)
				}
				_ = st.Close()
				break
			}
			if err == nil && n < 5 {
				t.Fatalf("put said yes, but died at request %d", n)
			}
			checkAfterDeath(t, st, key, body, replace, err == nil)
			_ = st.Close()
		}
	}
}

func checkAfterDeath(t *testing.T, st *Storage, key string, body []byte, replace, done bool) {
	t.Helper()
	if o, err := st.Head(t.Context(), key); err == nil {
		got := storagetest.Read(t, st, key)
		old := replace && string(got) == "old"
		if !bytes.Equal(got, body) && !old || done && old {
			t.Errorf("%s has %d bytes", key, o.Size)
		}
	} else if !errors.Is(err, walarchive.ErrNotFound) || replace || done {
		t.Errorf("head of %s: %v", key, err)
	}
	if replace {
		return
	}
	err := st.Put(t.Context(), key, bytes.NewReader(body), walarchive.PutOptions{})
	if err != nil && !errors.Is(err, walarchive.ErrExists) {
		t.Errorf("again: %v", err)
	}
	if got := storagetest.Read(t, st, key); !bytes.Equal(got, body) {
		t.Errorf("in the end there are %d bytes", len(got))
	}
}

// TestStorage_LockOfTheDead: a lock that a dead writer left is broken after a while, and the dead one, should he only have
// been slow, replaces nothing any more.
func TestStorage_LockOfTheDead(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	st := s.open(s.addr)
	defer func() { _ = st.Close() }()
	tag, err := st.PutIf(t.Context(), "x.json", []byte("old"), "")
	if err != nil {
		t.Fatal(err)
	}
	lock, temp := filepath.Join(s.dir, lockPrefix+tag+"-x.json"), filepath.Join(s.dir, tempPrefix+"slow")
	if err := errors.Join(os.WriteFile(lock, []byte(tempPrefix+"slow"), 0o600), os.WriteFile(temp, []byte("late"), 0o600),
		os.Chtimes(lock, time.Time{}, time.Now().Add(-2*staleLock))); err != nil {
		t.Fatal(err)
	}
	if _, err := st.PutIf(t.Context(), "x.json", []byte("new"), tag); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(s.dir, "x.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the slow one replaces: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// readAll gives also what came before an error.
func readAll(t *testing.T, st *Storage, key string) ([]byte, error) {
	t.Helper()
	r, err := st.Get(t.Context(), key, 0, -1)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r)
	return body, errors.Join(err, r.Close())
}

// TestStorage_BrokenLine: a line that is cut, frozen or slow is an error, never an absent object and never half of one; and
// when it is mended the same handle works.
func TestStorage_BrokenLine(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	proxy := pgtest.NewProxy(t, s.addr)
	host, err := os.ReadFile(s.known)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(proxy.Addr(), ":")
	_, old, _ := strings.Cut(s.addr, ":")
	if err := os.WriteFile(s.known, bytes.ReplaceAll(host, []byte("]:"+old), []byte("]:"+port)), 0o600); err != nil {
		t.Fatal(err)
	}
	st := s.open(proxy.Addr())
	defer func() { _ = st.Close() }()
	body := storagetest.Body(1, 3<<20)
	storagetest.Put(t, st, "a", body)

	for _, cut := range []int64{0, 100, 100_000, 2 << 20} {
		proxy.CutAfter(cut)
		got, err := readAll(t, st, "a")
		if err == nil || errors.Is(err, walarchive.ErrNotFound) || !bytes.HasPrefix(body, got) {
			t.Errorf("cut after %d bytes: %v, %d bytes", cut, err, len(got))
		}
		proxy.Heal()
		if got := storagetest.Read(t, st, "a"); !bytes.Equal(got, body) {
			t.Errorf("mended after %d bytes: %d bytes", cut, len(got))
		}
	}

	proxy.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := st.Head(ctx, "a"); err == nil || errors.Is(err, walarchive.ErrNotFound) {
		t.Errorf("head of a frozen storage: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := st.Put(ctx, "b", bytes.NewReader(body), walarchive.PutOptions{Size: int64(len(body))}); err == nil {
		t.Error("put into a frozen storage said yes")
	}
	proxy.Heal()
	if _, err := st.Head(t.Context(), "b"); !errors.Is(err, walarchive.ErrNotFound) {
		t.Errorf("after a put that failed: %v", err)
	}
	proxy.Delay(2 * time.Millisecond)
	storagetest.Put(t, st, "c", body)
	if got := storagetest.Read(t, st, "c"); !bytes.Equal(got, body) {
		t.Error("a slow line changed the object")
	}
}

func TestStorage_GoneIsNotEmpty(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	st := s.open(s.addr)
	defer func() { _ = st.Close() }()
	storagetest.Put(t, st, "a", []byte("x"))
	if err := os.Rename(s.dir, s.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Head(t.Context(), "a"); err == nil || errors.Is(err, walarchive.ErrNotFound) {
		t.Errorf("head of a storage that is away: %v; want an error that is not ErrNotFound", err)
	}
	for _, err := range st.List(t.Context(), "", "") {
		if err == nil {
			t.Error("a storage that is away was listed")
		}
	}
	if err := st.Put(t.Context(), "b", strings.NewReader("x"), walarchive.PutOptions{}); err == nil {
		t.Error("stored into a directory that is not there")
	}
}

// TestStorage_Strict: without the right key of the host, the right key of the user, and what makes objects durable, nothing
// is done; the error says what to do.
func TestStorage_Strict(t *testing.T) {
	t.Parallel()
	head := func(s *server) error {
		st := s.open(s.addr)
		defer func() { _ = st.Close() }()
		_, err := st.Head(t.Context(), "a")
		return err
	}
	for _, c := range []struct {
		name, without, want string
		spoil               func(s *server) error
	}{
		{name: "unknown host", want: "ssh-keyscan", spoil: func(s *server) error { return os.WriteFile(s.known, nil, 0o600) }},
		{name: "other host key", want: "somebody may stand in between", spoil: func(s *server) error {
			err := os.WriteFile(s.known, nil, 0o600)
			s.knows(s.addr, newKey(t, filepath.Join(t.TempDir(), "other")).PublicKey())
			return err
		}},
		{name: "other user key", want: "does not let the user archive in", spoil: func(s *server) error { newKey(t, s.key); return nil }},
		{name: "no fsync", without: "fsync@openssh.com", want: "durable"},
		{name: "no link", without: "hardlink@openssh.com", want: "overwrite"},
	} {
		s := newServer(t, c.without)
		if c.spoil != nil {
			if err := c.spoil(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := head(s); err == nil || errors.Is(err, walarchive.ErrNotFound) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

func TestOpen_Refuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newKey(t, filepath.Join(dir, "key"))
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "known"), nil, 0o600), os.WriteFile(filepath.Join(dir, "bad"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	good := "?key=" + dir + "/key&known_hosts=" + dir + "/known"
	for text, want := range map[string]string{
		"sftp:///x" + good: "must look like", "sftp://h" + good: "must look like", "sftp://u:secret@h/x" + good: "password",
		"sftp://u@h/x?kye=1": "no parameter", "sftp://u@h/x?key=" + dir + "/none": "private key", "sftp://u@h/x?key=" + dir + "/bad": "private key",
		"sftp://u@h/x?key=" + dir + "/key&known_hosts=" + dir + "/none": "keys of hosts", "sftp://u@h/x" + good: "",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), u)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("open %s: %v; want %q", text, err, want)
		}
	}
}
