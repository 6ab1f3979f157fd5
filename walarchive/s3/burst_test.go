package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/storagetest"
)

// TestSteady_BurstsAreBorne: a store that throttles, fails for a while, or breaks bodies off is borne, as the product uses it.
func TestSteady_BurstsAreBorne(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	st := walarchive.Steady(s.open(t), time.Minute)
	body := storagetest.Body(1, 400_000)
	storagetest.Put(t, st, "a", body)
	for _, code := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusInternalServerError} {
		var left atomic.Int64
		s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if strings.Contains(r.URL.RawQuery, "location") || left.Add(-1) < 0 {
				return false
			}
			w.WriteHeader(code)
			return true
		})
		key := http.StatusText(code)
		left.Store(2)
		if err := st.Put(t.Context(), key, bytes.NewReader(body), walarchive.PutOptions{Size: int64(len(body))}); err != nil {
			t.Errorf("%d: put: %v", code, err)
		}
		left.Store(2)
		if got := storagetest.Read(t, st, key); !bytes.Equal(got, body) {
			t.Errorf("%d: %d bytes came back", code, len(got))
		}
		left.Store(2)
		if got := storagetest.Keys(t, st, "a", ""); len(got) != 1 {
			t.Errorf("%d: listed %q", code, got)
		}
		left.Store(2)
		if _, err := st.Head(t.Context(), "none"); !errors.Is(err, walarchive.ErrNotFound) {
			t.Errorf("%d: head of nothing: %v", code, err)
		}
	}
	var cuts atomic.Int64
	s.breaks(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if r.Method != http.MethodGet || cuts.Add(1) > 2 {
			return false
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		for name, values := range rec.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		panic(http.ErrAbortHandler)
	})
	r, err := st.Get(t.Context(), "a", 1000, -1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, body[1000:]) || cuts.Load() != 3 {
		t.Errorf("cut twice: %d of %d bytes in %d requests, %v", len(got), len(body)-1000, cuts.Load(), err)
	}
}
