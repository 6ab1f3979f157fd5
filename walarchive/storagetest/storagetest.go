package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/skytools/skyd/walarchive"
)

// Run proves that a driver keeps the contract of walarchive.Storage. open gives a storage that is empty at first; a
// second call within the same test gives another handle of the same storage.
func Run(t *testing.T, open func(t *testing.T) func() walarchive.Storage) {
	for name, test := range map[string]func(*testing.T, walarchive.Storage, func() walarchive.Storage){
		"round trip": testRoundTrip, "put never overwrites": testNoOverwrite, "one winner": testOneWinner,
		"replace": testReplace, "list": testList, "delete": testDelete, "body fails": testBodyFails,
		"cancelled": testCancelled, "ranges": testRanges,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			again := open(t)
			s := again()
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test(t, s, again)
		})
	}
}

// Body is n bytes that differ from seed to seed and do not compress.
func Body(seed, n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	for i := 0; len(out) < n; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d", seed, i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

// Put stores a body or ends the test.
func Put(t testing.TB, s walarchive.Storage, key string, body []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, bytes.NewReader(body), walarchive.PutOptions{Size: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
}

// Read reads a whole object or ends the test.
func Read(t testing.TB, s walarchive.Storage, key string) []byte {
	t.Helper()
	body, err := readAll(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func readAll(ctx context.Context, s walarchive.Storage, key string) ([]byte, error) {
	r, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r)
	return body, errors.Join(err, r.Close())
}

// Keys lists the keys with a prefix or ends the test.
func Keys(t testing.TB, s walarchive.Storage, prefix, after string) []string {
	t.Helper()
	var keys []string
	for o, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func testRoundTrip(t *testing.T, s walarchive.Storage, again func() walarchive.Storage) {
	for i, n := range []int{0, 1, 4096, 1 << 20, 5<<20 + 3} {
		body, key := Body(i, n), fmt.Sprintf("main/wal/7/%08X/x y+%%ü_%d.zst", i, i)
		opts := walarchive.PutOptions{Size: int64(n), Meta: map[string]string{"sha256": "abc"}}
		if err := s.Put(t.Context(), key, bytes.NewReader(body), opts); err != nil {
			t.Fatalf("put %d bytes: %v", n, err)
		}
		other := again()
		if got := Read(t, other, key); !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
		o, err := other.Head(t.Context(), key)
		if err != nil || o.Size != int64(n) || o.Key != key || o.Modified.IsZero() {
			t.Errorf("head of %d bytes: %+v, %v", n, o, err)
		}
		if s.Capabilities().Meta && o.Meta["sha256"] != "abc" {
			t.Errorf("meta = %v, want that of put", o.Meta)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Put(t.Context(), "unknown/size", io.MultiReader(strings.NewReader("a"), strings.NewReader("b")),
		walarchive.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := string(Read(t, s, "unknown/size")); got != "ab" {
		t.Errorf("a body of unknown size came back as %q", got)
	}
	for _, key := range []string{"no/such", "unknown", "unknown/size/x"} {
		if _, err := s.Get(t.Context(), key, 0, -1); !errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("get %s: %v, want ErrNotFound", key, err)
		}
		if _, err := s.Head(t.Context(), key); !errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("head %s: %v, want ErrNotFound", key, err)
		}
	}
	for _, key := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", "a/.hidden"} {
		if err := s.Put(t.Context(), key, strings.NewReader("x"), walarchive.PutOptions{}); err == nil {
			t.Errorf("put took the key %q", key)
		}
	}
}

func testNoOverwrite(t *testing.T, s walarchive.Storage, _ func() walarchive.Storage) {
	Put(t, s, "a/b", []byte("first"))
	for _, second := range []string{"second", "first"} {
		err := s.Put(t.Context(), "a/b", strings.NewReader(second), walarchive.PutOptions{})
		if !errors.Is(err, walarchive.ErrExists) {
			t.Errorf("second put: %v, want ErrExists", err)
		}
	}
	if got := string(Read(t, s, "a/b")); got != "first" {
		t.Errorf("content = %q, want the first", got)
	}
}

func testOneWinner(t *testing.T, s walarchive.Storage, again func() walarchive.Storage) {
	if !s.Capabilities().AtomicPut {
		t.Skip("the storage has no conditional put")
	}
	for round := range 20 {
		key := fmt.Sprintf("race/%d", round)
		errs := make([]error, 4)
		var wait sync.WaitGroup
		for i := range errs {
			wait.Go(func() {
				errs[i] = again().Put(t.Context(), key, strings.NewReader(fmt.Sprint(i)), walarchive.PutOptions{})
			})
		}
		wait.Wait()
		winner, wins := -1, 0
		for i, err := range errs {
			switch {
			case err == nil:
				winner = i
				wins++
			case !errors.Is(err, walarchive.ErrExists):
				t.Errorf("a loser got %v, want ErrExists", err)
			}
		}
		if got := string(Read(t, s, key)); wins != 1 || got != fmt.Sprint(winner) {
			t.Errorf("round %d: %d winners, the last is %d, and the content is of %s", round, wins, winner, got)
		}
	}
}

func testReplace(t *testing.T, s walarchive.Storage, again func() walarchive.Storage) {
	ctx := t.Context()
	first, err := s.PutIf(ctx, "small.json", []byte("1"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutIf(ctx, "small.json", []byte("2"), ""); !errors.Is(err, walarchive.ErrExists) {
		t.Errorf("making it again: %v, want ErrExists", err)
	}
	if o, err := s.Head(ctx, "small.json"); err != nil || o.ETag != first {
		t.Errorf("head: %+v, %v; want ETag %s", o, err, first)
	}
	second, err := s.PutIf(ctx, "small.json", []byte("2"), first)
	if err != nil || second == first {
		t.Fatalf("replace: %q, %v", second, err)
	}
	if _, err := s.PutIf(ctx, "small.json", []byte("3"), first); !errors.Is(err, walarchive.ErrChanged) {
		t.Errorf("replace with the old tag: %v, want ErrChanged", err)
	}
	if _, err := s.PutIf(ctx, "none.json", []byte("3"), first); !errors.Is(err, walarchive.ErrChanged) {
		t.Errorf("replace what is not there: %v, want ErrChanged", err)
	}
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wait.Go(func() { _, errs[i] = again().PutIf(ctx, "small.json", fmt.Appendf(nil, "racer %d", i), second) })
	}
	wait.Wait()
	wins := 0
	for _, err := range errs {
		if err == nil {
			wins++
		} else if !errors.Is(err, walarchive.ErrChanged) {
			t.Errorf("a loser got %v, want ErrChanged", err)
		}
	}
	if wins != 1 {
		t.Errorf("%d of 4 replaced the same content, want 1", wins)
	}
}

func testList(t *testing.T, s walarchive.Storage, _ func() walarchive.Storage) {
	all := []string{"a.x", "a/1", "a/1.x/9", "a/2", "a/20/1", "b/1", "b0"}
	for i := len(all) - 1; i >= 0; i-- {
		Put(t, s, all[i], []byte{1})
	}
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"", "", all},
		{"a/", "", all[1:5]},
		{"a", "", all[:5]},
		{"a/2", "", all[3:5]},
		{"a/", "a/1", all[2:5]},
		{"a/", "a/1.x/9", all[3:5]},
		{"a/", "a/15", all[3:5]},
		{"", "a/20", all[4:]},
		{"c", "", nil},
		{"a/", "b", nil},
		{"a/", "a/1.x", all[2:5]},
	} {
		if got := Keys(t, s, c.prefix, c.after); strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("list %q after %q = %q, want %q", c.prefix, c.after, got, c.want)
		}
	}
	for o, err := range s.List(t.Context(), "", "") {
		if err != nil || o.Size != 1 || o.Key != all[0] {
			t.Errorf("first object: %+v, %v", o, err)
		}
		break // leaving early is fine
	}
}

func testDelete(t *testing.T, s walarchive.Storage, _ func() walarchive.Storage) {
	for _, key := range []string{"a/1", "a/2", "b"} {
		Put(t, s, key, []byte(key))
	}
	if err := s.Delete(t.Context(), "a/1", "b", "never/was", "b/x"); err != nil {
		t.Fatal(err)
	}
	if got := Keys(t, s, "", ""); strings.Join(got, " ") != "a/2" {
		t.Errorf("left: %q, want a/2", got)
	}
	Put(t, s, "b", []byte("again"))
	if err := s.Delete(t.Context()); err != nil {
		t.Errorf("delete nothing: %v", err)
	}
}

func testBodyFails(t *testing.T, s walarchive.Storage, _ func() walarchive.Storage) {
	broken := errors.New("the disk under the body is gone")
	for name, body := range map[string]io.Reader{
		"error": io.MultiReader(bytes.NewReader(Body(1, 1<<20)), errReader{broken}),
		"short": bytes.NewReader(Body(1, 1000)),
	} {
		err := s.Put(t.Context(), "x/"+name, body, walarchive.PutOptions{Size: 2 << 20})
		if err == nil || name == "error" && !errors.Is(err, broken) {
			t.Errorf("%s: put said %v", name, err)
		}
		if _, err := s.Head(t.Context(), "x/"+name); !errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("%s: head says %v, want ErrNotFound", name, err)
		}
	}
	if got := Keys(t, s, "", ""); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

// errReader fails.
type errReader struct{ err error }

// Read implements io.Reader.
func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func testCancelled(t *testing.T, s walarchive.Storage, _ func() walarchive.Storage) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, "x", strings.NewReader("x"), walarchive.PutOptions{Size: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v, want context.Canceled", err)
	}
	if _, err := s.Head(t.Context(), "x"); !errors.Is(err, walarchive.ErrNotFound) {
		t.Errorf("head: %v, want ErrNotFound", err)
	}
}

func testRanges(t *testing.T, s walarchive.Storage, _ func() walarchive.Storage) {
	body := Body(3, 10000)
	Put(t, s, "r", body)
	for _, c := range [][2]int64{{0, 10}, {9990, 10}, {5000, 1}, {1, -1}, {9999, -1}, {0, 10000}, {9000, 5000}} {
		want := body[c[0]:]
		if c[1] >= 0 && c[1] < int64(len(want)) {
			want = want[:c[1]]
		}
		r, err := s.Get(t.Context(), "r", c[0], c[1])
		if err != nil {
			t.Errorf("get %v: %v", c, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("get %v: %d bytes, %v; want %d", c, len(got), err, len(want))
		}
	}
}
