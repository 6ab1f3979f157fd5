package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// A one-shot command that is an operation has a trace of its own when the environment names a collector.
func TestTrace_OperationsOfCommandsAreSent(t *testing.T) {
	var (
		mu   sync.Mutex
		sent bytes.Buffer
	)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := io.Copy(&sent, r.Body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	if code := run(t.Context(), []string{"wal", "backup", "--source", "nowhere"}, nil, io.Discard, io.Discard); code == exitOK {
		t.Error("a backup of nothing went well")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"backup nowhere", "github.com/skytools/skyd/cmd/skyd", "error.type", "service.version"} {
		if !bytes.Contains(sent.Bytes(), []byte(want)) {
			t.Errorf("the collector did not get %q", want)
		}
	}
}
