package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// askTime limits the questions that HTTP puts to the actors.
const askTime = 2 * time.Second

// httpHandler serves health, metrics and status.
func (d *Daemon) httpHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", d.serveLive)
	mux.HandleFunc("GET /healthz", d.serveLive)
	mux.HandleFunc("GET /readyz", d.serveReady)
	mux.HandleFunc("GET /readyz/{area}/{name}", d.serveReadyOne)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry(), promhttp.HandlerOpts{}))
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
	return mux
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

// serveReadyOne answers for one actor; ?lag= limits the lag of a ticker.
func (d *Daemon) serveReadyOne(w http.ResponseWriter, r *http.Request) {
	s, ok := d.statusFor(w, r)
	if !ok {
		return
	}
	name := r.PathValue("area") + "/" + r.PathValue("name")
	checks := Health(s)
	i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		http.Error(w, "no such check: "+name, http.StatusNotFound)
		return
	}
	c := checks[i]
	if text := r.URL.Query().Get("lag"); text != "" {
		limit, err := time.ParseDuration(text)
		if err != nil {
			http.Error(w, "lag must be a duration like 30s", http.StatusBadRequest)
			return
		}
		c = withLag(c, s, limit)
	}
	writeChecks(w, []Check{c}, true)
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
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(s) // a client that went away needs no answer
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
