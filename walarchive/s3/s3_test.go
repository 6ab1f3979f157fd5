package s3

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// store is a store in this process behind a proxy that breaks.
type store struct {
	*httptest.Server
	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request, next http.Handler) bool // true: it answered
}

func newStore(t *testing.T) *store {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	next := gofakes3.New(backend).Server()
	s := &store{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		if fault == nil || !fault(w, r, next) {
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *store) breaks(f func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *store) open(t *testing.T) *Storage {
	t.Helper()
	u, err := url.Parse("s3://bucket/pre/fix?region=us-east-1&insecure=true&path=true&endpoint=" + strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := open(u, credentials.NewStaticV4("key", "secret", ""))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStorage_Conformance(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) func() walarchive.Storage {
		s := newStore(t)
		return func() walarchive.Storage { return s.open(t) }
	})
}

// TestStorage_Faults: errors of the store are errors, never an absent object, and a cut body is never taken for a whole one.
func TestStorage_Faults(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	st := s.open(t)
	body := storagetest.Body(1, 300_000)
	storagetest.Put(t, st, "a", body)
	for _, code := range []int{http.StatusInternalServerError, http.StatusForbidden, http.StatusServiceUnavailable} {
		s.breaks(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(code)
			return true
		})
		ctx := t.Context()
		if _, err := st.Head(ctx, "a"); err == nil || errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("%d: head says %v", code, err)
		}
		if r, err := st.Get(ctx, "a", 0, -1); err == nil || errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("%d: get says %v, %v", code, r, err)
		}
		err := st.Put(ctx, "b", bytes.NewReader(body), walarchive.PutOptions{Size: int64(len(body))})
		if err == nil || errors.Is(err, walarchive.ErrExists) {
			t.Errorf("%d: put says %v", code, err)
		}
		for _, err := range st.List(ctx, "", "") {
			if err == nil {
				t.Errorf("%d: listed", code)
			}
		}
	}
	s.breaks(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method != http.MethodGet {
			return false
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		panic(http.ErrAbortHandler)
	})
	r, err := st.Get(t.Context(), "a", 0, -1)
	if err == nil {
		var got bytes.Buffer
		_, err = got.ReadFrom(r)
	}
	if err == nil {
		t.Error("half a body was taken for a whole one")
	}
	s.breaks(nil)
	if got := storagetest.Read(t, st, "a"); !bytes.Equal(got, body) {
		t.Error("the object is not what it was")
	}
}

// TestStorage_LateSuccess: the store takes an object and its answer is lost; the next attempt finds it there.
func TestStorage_LateSuccess(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	st := s.open(t)
	s.breaks(func(_ http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method == http.MethodPut {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	first := st.Put(t.Context(), "a", strings.NewReader("x"), walarchive.PutOptions{Size: 1})
	s.breaks(nil)
	second := st.Put(t.Context(), "a", strings.NewReader("x"), walarchive.PutOptions{Size: 1})
	if first == nil || !errors.Is(second, walarchive.ErrExists) {
		t.Errorf("first %v, second %v; want an error and ErrExists", first, second)
	}
}

func TestOpen_Refuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?endpiont=y"} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), u); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("open %s: %v", text, err)
		}
	}
}
