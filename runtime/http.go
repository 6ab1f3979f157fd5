package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/skytools/skyd/configs"
)

// askTime limits the questions that HTTP puts to the actors.
const askTime = 2 * time.Second

// httpHandler serves health, metrics and status.
func (d *Daemon) httpHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", d.serveLive)
	mux.HandleFunc("GET /healthz", d.serveLive)
	mux.HandleFunc("GET /readyz", d.serveReady)
	mux.HandleFunc("GET /readyz/{area}/{name...}", d.serveReadyOne)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /primary/{queue}", d.serveRole("root"))
	mux.HandleFunc("GET /replica/{queue}", d.serveRole("branch", "leaf"))
	mux.HandleFunc("GET /api/v1/status", d.serveStatus)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "skyd %s\n/livez\n/readyz?verbose\n/metrics\n/api/v1/status\n", d.opts.Build.Version)
	})
	if d.config.HTTP.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// controlHandler serves the control socket.
func (d *Daemon) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", d.serveStatus)
	mux.HandleFunc("POST /api/v1/reload", d.serveReload)
	mux.HandleFunc("POST /api/v1/stop", d.serveStop)
	return mux
}

// serveReload reloads the configuration: 200 with what was done, 422 with the faults of a configuration that is refused.
func (d *Daemon) serveReload(w http.ResponseWriter, r *http.Request) {
	done, err := d.Reload(r.Context())
	faults := configs.Faults(nil)
	switch {
	case errors.As(err, &faults):
		writeAnswer(w, http.StatusUnprocessableEntity, faultsAnswer{Faults: faults})
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		writeAnswer(w, http.StatusOK, done)
	}
}

// faultsAnswer is the answer to a reload that is refused.
type faultsAnswer struct {
	Faults configs.Faults `json:"faults"`
}

// serveStop asks the daemon to end; the answer does not wait for it.
func (d *Daemon) serveStop(w http.ResponseWriter, _ *http.Request) {
	d.log.Info("asked to stop on the control socket")
	d.Stop()
	writeAnswer(w, http.StatusAccepted, struct{}{})
}

// writeAnswer writes a JSON document.
func writeAnswer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(value) // a client that went away needs no answer
}

// serveLive answers while the root actor does.
func (d *Daemon) serveLive(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	if err := d.ping(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// serveReady answers 200 when all checks pass; ?exclude= leaves some out, ?verbose lists them.
func (d *Daemon) serveReady(w http.ResponseWriter, r *http.Request) {
	s, ok := d.statusFor(w, r)
	if !ok {
		return
	}
	exclude := r.URL.Query()["exclude"]
	checks := slices.DeleteFunc(Health(s), func(c Check) bool { return slices.Contains(exclude, c.Name) })
	writeChecks(w, checks, r.URL.Query().Has("verbose"))
}

// serveReadyOne answers for one actor, or for all whose name begins or ends so; ?lag= limits the lag of a ticker or
// consumer.
func (d *Daemon) serveReadyOne(w http.ResponseWriter, r *http.Request) {
	s, ok := d.statusFor(w, r)
	if !ok {
		return
	}
	name := strings.TrimPrefix(r.URL.EscapedPath(), "/readyz/")
	checks := slices.DeleteFunc(Health(s), func(c Check) bool { return !selects(name, c.Name) })
	if len(checks) == 0 {
		http.Error(w, "no such check: "+name+"; /readyz?verbose lists them", http.StatusNotFound)
		return
	}
	if text := r.URL.Query().Get("lag"); text != "" {
		limit, err := time.ParseDuration(text)
		if err != nil {
			http.Error(w, "lag must be a duration like 30s", http.StatusBadRequest)
			return
		}
		for i := range checks {
			checks[i] = withLag(checks[i], s, limit)
		}
	}
	writeChecks(w, checks, true)
}

// writeChecks writes the answer of a readiness request.
func writeChecks(w http.ResponseWriter, checks []Check, verbose bool) {
	ok := Healthy(checks)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	var b strings.Builder
	for _, c := range checks {
		switch {
		case !c.OK:
			fmt.Fprintf(&b, "[-] %s %s\n", c.Name, c.Text)
		case verbose:
			fmt.Fprintf(&b, "[+] %s %s\n", c.Name, c.Text)
		}
	}
	if ok {
		b.WriteString("ok\n")
	} else {
		b.WriteString("not ready\n")
	}
	_, _ = w.Write([]byte(b.String())) // a client that went away needs no answer
}

// serveStatus answers with the snapshot as JSON.
func (d *Daemon) serveStatus(w http.ResponseWriter, r *http.Request) {
	s, ok := d.statusFor(w, r)
	if !ok {
		return
	}
	writeAnswer(w, http.StatusOK, s)
}

// statusFor asks for the snapshot on behalf of a request, and answers the request when there is none.
func (d *Daemon) statusFor(w http.ResponseWriter, r *http.Request) (Status, bool) {
	ctx, cancel := context.WithTimeout(r.Context(), askTime)
	defer cancel()
	s, err := d.Status(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return s, false
	}
	return s, true
}
