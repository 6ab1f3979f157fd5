package runtime

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/skytools/skyd/messages"
)

// Kinds of the actors of a cascade node.
const (
	kindNode   = "node"
	kindWorker = "worker"
)

// liveNodes are the nodes that this daemon works on: not those whose lease another daemon has, or whose database is away.
func liveNodes(s Status) []messages.NodeStatus {
	running := map[string]bool{}
	for _, a := range s.Actors {
		running[a.Path] = a.Kind == kindNode && a.State == messages.Running
	}
	var live []messages.NodeStatus
	for _, n := range s.Nodes {
		if running["database/"+n.Database+"/"+kindNode+"/"+url.PathEscape(n.Queue)] {
			live = append(live, n)
		}
	}
	return live
}

// serveRole answers 200 while this daemon works on a node of the queue in one of the roles, for load balancers; ?lag=
// limits its lag.
func (d *Daemon) serveRole(roles ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, ok := d.statusFor(w, r)
		if !ok {
			return
		}
		limit := time.Duration(-1)
		if text := r.URL.Query().Get("lag"); text != "" {
			var err error
			if limit, err = time.ParseDuration(text); err != nil {
				http.Error(w, "lag must be a duration like 10s", http.StatusBadRequest)
				return
			}
		}
		code, text := judgeRole(s, r.PathValue("queue"), roles, limit)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		fmt.Fprintln(w, text)
	}
}

// judgeRole finds a node of the queue in one of the roles.
func judgeRole(s Status, queue string, roles []string, limit time.Duration) (code int, text string) {
	code, text = http.StatusServiceUnavailable, "no node of queue "+queue+" is at work here"
	for _, n := range liveNodes(s) {
		if n.Queue != queue {
			continue
		}
		text = fmt.Sprintf("node %s is a %s", n.Node, n.Type)
		for _, role := range roles {
			lag := time.Duration(n.LagSeconds * float64(time.Second))
			switch {
			case n.Type != role:
			case n.Fails > 0:
				text = fmt.Sprintf("node %s fails: %s", n.Node, n.LastError)
			case limit >= 0 && lag > limit:
				text = fmt.Sprintf("node %s is %s behind, more than %s", n.Node, lag.Round(time.Millisecond), limit)
			default:
				return http.StatusOK, text
			}
		}
	}
	return code, text
}
