package walarchive_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/file"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// dirStorage is a file storage in a directory.
func dirStorage(t testing.TB, dir string) walarchive.Storage {
	t.Helper()
	s, err := file.Open(t.Context(), &url.URL{Scheme: "file", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// encryption makes keys in a directory of the test.
func encryption(t testing.TB) walarchive.Encryption {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	e := walarchive.Encryption{
		Recipients: []string{id.Recipient().String()}, IdentityFile: filepath.Join(dir, "id"),
		TagKeyFile: filepath.Join(dir, "tag"),
	}
	if err := os.WriteFile(e.IdentityFile, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := walarchive.MakeTagKey(e); err != nil {
		t.Fatal(err)
	}
	return e
}

// newRepo makes a repository in a directory.
func newRepo(t testing.TB, s walarchive.Storage, o walarchive.RepoOptions) *walarchive.Repo {
	t.Helper()
	if _, err := walarchive.InitRepo(t.Context(), s, o); err != nil {
		t.Fatal(err)
	}
	r, err := walarchive.OpenRepo(t.Context(), s, "main", o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestObject_RoundTripAndEveryRot(t *testing.T) {
	t.Parallel()
	for _, c := range []walarchive.Compression{walarchive.Zstd, walarchive.None} {
		for _, crypt := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s encrypted %t", c, crypt), func(t *testing.T) {
				t.Parallel()
				o := walarchive.RepoOptions{Compression: c}
				if crypt {
					o.Encryption = encryption(t)
				}
				r := newRepo(t, dirStorage(t, t.TempDir()), o)
				for _, n := range []int{0, 1, 1000, 300_000} {
					content := bytes.Repeat(storagetest.Body(n, 10), n/10+1)[:n]
					h, object, err := r.Seal(walarchive.Header{Name: "x", System: 7}, content)
					if err != nil {
						t.Fatal(err)
					}
					key := fmt.Sprintf("o/%d", n)
					storagetest.Put(t, r, key, object)
					var got bytes.Buffer
					back, err := r.Unseal(t.Context(), key, &got)
					if err != nil || !bytes.Equal(got.Bytes(), content) || back.Bytes != int64(n) || back.System != 7 || back.CRC32C != h.CRC32C {
						t.Fatalf("%d bytes came back as %d, %+v, %v", n, got.Len(), back, err)
					}
					if n == 1000 {
						testRot(t, r, object, content)
					}
				}
			})
		}
	}
}

// testRot changes and cuts the object at every byte.
func testRot(t *testing.T, r *walarchive.Repo, object, content []byte) {
	t.Helper()
	faulty := &oneObject{Storage: r.Storage}
	clone := r.With(faulty)
	silent := 0
	for i := range object {
		for _, cut := range []bool{false, true} {
			faulty.body = bytes.Clone(object)
			if cut {
				faulty.body = faulty.body[:i]
			} else {
				faulty.body[i] ^= 0x10
			}
			var got bytes.Buffer
			_, err := clone.Unseal(t.Context(), "x", &got)
			switch {
			case err == nil && !bytes.Equal(got.Bytes(), content):
				t.Fatalf("byte %d (cut %t): wrong content was taken for right", i, cut)
			case err == nil:
				silent++ // in a field of the header that says nothing about the content
			case !errors.Is(err, walarchive.ErrDamaged) && !errors.Is(err, walarchive.ErrNoKey):
				t.Fatalf("byte %d (cut %t): %v, want ErrDamaged", i, cut, err)
			}
		}
	}
	if silent > len(object)/2 {
		t.Errorf("%d of %d faults had no effect", silent, 2*len(object))
	}
}

// TestObject_CommonToolsReadIt opens objects without skyd.
func TestObject_CommonToolsReadIt(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("zstd")
	if err != nil {
		pgtest.Missing(t, "zstd is not on this machine")
	}
	content := bytes.Repeat(storagetest.Body(1, 1000), 500)
	for _, c := range []walarchive.Compression{walarchive.Zstd, walarchive.None} {
		r := newRepo(t, dirStorage(t, t.TempDir()), walarchive.RepoOptions{Compression: c})
		_, object, err := r.Seal(walarchive.Header{Name: "x"}, content)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), tool, "-d", "-c")
		cmd.Stdin = bytes.NewReader(object)
		if got, err := cmd.Output(); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: zstd -d gave %d bytes, %v", c, len(got), err)
		}
	}
}

func TestObject_WriteOnlyHost(t *testing.T) {
	t.Parallel()
	e := encryption(t)
	s := dirStorage(t, t.TempDir())
	reader := newRepo(t, s, walarchive.RepoOptions{Encryption: e})
	e.IdentityFile = ""
	writer := newRepo(t, s, walarchive.RepoOptions{Encryption: e})
	_, object, err := writer.Seal(walarchive.Header{Name: "x"}, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Put(t, s, "x", object)
	var got bytes.Buffer
	if _, err := writer.Unseal(t.Context(), "x", &got); !errors.Is(err, walarchive.ErrNoKey) {
		t.Errorf("the writer read it: %v", err)
	}
	if _, err := reader.Unseal(t.Context(), "x", &got); err != nil || got.String() != "secret" {
		t.Errorf("the reader got %q, %v", got.String(), err)
	}
}

func TestRepo_Refuses(t *testing.T) {
	t.Parallel()
	empty := dirStorage(t, t.TempDir())
	if _, err := walarchive.OpenRepo(t.Context(), empty, "main", walarchive.RepoOptions{}); !errors.Is(err, walarchive.ErrNoRepository) {
		t.Errorf("open an empty storage: %v, want ErrNoRepository", err)
	}
	foreign := dirStorage(t, t.TempDir())
	storagetest.Put(t, foreign, "photos/1.jpg", []byte("x"))
	if _, err := walarchive.InitRepo(t.Context(), foreign, walarchive.RepoOptions{}); !errors.Is(err, walarchive.ErrForeign) {
		t.Errorf("init over photos: %v, want ErrForeign", err)
	}
	newRepo(t, empty, walarchive.RepoOptions{})
	_, err := walarchive.OpenRepo(t.Context(), empty, "main", walarchive.RepoOptions{Encryption: encryption(t)})
	if err == nil || !strings.Contains(err.Error(), "encrypted: false") {
		t.Errorf("open a clear repository with keys: %v", err)
	}
	if made, err := walarchive.InitRepo(t.Context(), empty, walarchive.RepoOptions{}); made || err != nil {
		t.Errorf("second init: %t, %v", made, err)
	}
}
