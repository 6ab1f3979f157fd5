package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

// answering serves a recorded snapshot on a control socket, as the daemon did that made it.
func answering(t *testing.T, file string) (socket string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "skyd-socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = srv.Close() })
	return socket
}

// What the readers of the daemon print of one snapshot, in all forms.
func TestReaders_OfTheDaemon(t *testing.T) {
	t.Parallel()
	socket := answering(t, "testdata/status.json")
	for name, lines := range map[string]string{
		"op": `op list
op list -o json
op list -o yaml
op show 1
op show 2
op show 3 -o json
op show 2 -o yaml
op show 9
op show 9 -o json
op show two
op wait 2
op wait 1 -o json
op wait 3 --timeout 1s`,
		"check": `check
check --format text consumer/none
check --format nagios
check --format prometheus
check --format json
check --format xml`,
		"status_forms": `status -o json
status -o yaml`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &session{t: t, socket: socket}
			for line := range strings.SplitSeq(lines, "\n") {
				s.do(line)
			}
			golden(t, name+".txt", strings.ReplaceAll(s.log.String(), socket, "SOCKET"))
		})
	}
}

// What the other readers print as JSON and YAML. That JSON is one document, or one a line, is checked of all of them.
func TestReaders_Forms(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	s := &session{t: t, dsn: db.DSN}
	for _, line := range []string{"queue create orders", "consumer register orders billing", "subconsumer register orders crew one"} {
		s.do(line)
	}
	s.log.Reset()
	for _, line := range strings.Split(`subconsumer list orders crew
subconsumer list orders crew -o json
subconsumer list orders crew -o yaml
consumer list -o json
consumer list -o yaml
consumer show orders billing -o json
event list orders -o json
event dead list orders billing -o json
event dead list orders billing -o yaml
explain lag orders billing -o json
explain lag orders billing -o yaml`, "\n") {
		from := s.log.Len()
		s.do(line)
		text := s.log.String()[from:]
		if _, body, _ := strings.Cut(text, "\n"); strings.HasSuffix(line, "json") && !json.Valid([]byte(body)) {
			t.Errorf("%s: not one document of JSON: %s", line, body)
		}
	}
	golden(t, "forms.txt", s.text())
	for _, line := range []string{"doctor", "schema status", "queue list", "config show", "version"} {
		words := append(strings.Fields(line), "-o", "json", "--db", db.DSN)
		if line == "version" {
			words = words[:3]
		}
		if r := skyd(t, words...); !json.Valid([]byte(r.stdout)) {
			t.Errorf("%s: not one document of JSON: %+v", line, r)
		}
		words[len(strings.Fields(line))+1] = "yaml"
		if r := skyd(t, words...); json.Valid([]byte(r.stdout)) || !strings.Contains(r.stdout, ": ") {
			t.Errorf("%s: not YAML: %+v", line, r)
		}
	}
}
