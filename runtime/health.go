package runtime

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/messages"
)

// flapping is how many failures within messages.FlapWindow make an actor unhealthy, also while it runs for a moment.
const flapping = 3

// grace is how long an actor may be away before the daemon is not ready any more.
const grace = 10 * time.Second

// Check is one finding about the health of the daemon.
type Check struct {
	// Name is <kind>/<database>, as in /readyz/ticker/main, for a cascade node and its worker <kind>/<database>/<queue>, and
	// for a consumer <kind>/<database>/<queue>/<consumer>, for a member of its group with /<number>; kind only where there is
	// one of the kind.
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Text says what is wrong, or what the actor does.
	Text string `json:"text"`
}

// Health computes the checks from a status, in tree order. Everything that tells whether skyd is well calls it.
func Health(s Status) []Check {
	checks, workers := make([]Check, 0, len(s.Actors)), workersByCheck(s)
	for _, a := range s.Actors {
		c := Check{Name: checkName(a), OK: true, Text: string(a.State)}
		if a.Note != "" {
			c.Text += ": " + a.Note
		}
		switch a.State {
		case messages.Running, messages.Parked, messages.Stopped:
			// What is parked waits for its parent, which has a check of its own.
		case messages.Failed:
			c.OK = a.Optional && !a.WasUp
		default:
			c.OK = s.Now.Sub(a.DownSince) < grace || (a.Optional && !a.WasUp)
		}
		if a.RecentFailures >= flapping {
			c.OK = false
			c.Text += fmt.Sprintf(", failed %d times in the last %s", a.RecentFailures, configs.DurationText(messages.FlapWindow))
		}
		if w, ok := workers[c.Name]; ok {
			c = withWorker(c, w)
		}
		switch {
		case c.OK || a.LastError == "":
		case a.Note != "" && strings.HasPrefix(a.LastError, a.Note):
			c.Text = string(a.State) + ": " + a.LastError
		default:
			c.Text += ": " + a.LastError
		}
		checks = append(checks, c)
	}
	return checks
}

// Healthy reports whether all checks pass.
func Healthy(checks []Check) bool {
	for _, c := range checks {
		if !c.OK {
			return false
		}
	}
	return true
}

// checkName names the check of an actor.
func checkName(a messages.ActorStatus) string {
	if queue, ok := strings.CutPrefix(a.Path, "database/"+a.Database+"/"+kindNode+"/"); ok {
		return a.Kind + "/" + a.Database + "/" + strings.TrimSuffix(queue, "/"+kindWorker)
	}
	switch below := strings.TrimPrefix(a.Path, "database/"+a.Database+"/"+kindConsumer+"/"); {
	case a.Database == "":
		return a.Path
	case below != a.Path: // queue and consumer, each escaped, and the member
		return a.Kind + "/" + a.Database + "/" + strings.Replace(below, "/sub/", "/", 1)
	default:
		return a.Kind + "/" + a.Database
	}
}

// Kinds of actors that work as consumers.
const (
	kindConsumer    = "consumer"
	kindSubconsumer = "subconsumer"
)

// workersByCheck finds the workers by the names of their checks.
func workersByCheck(s Status) map[string]messages.WorkerStatus {
	workers := make(map[string]messages.WorkerStatus, len(s.Workers))
	for _, w := range s.Workers {
		name := w.Database + "/" + url.PathEscape(w.Queue) + "/" + url.PathEscape(w.Consumer)
		if w.Member > 0 {
			workers[fmt.Sprintf("%s/%s/%d", kindSubconsumer, name, w.Member)] = w
		} else {
			workers[kindConsumer+"/"+name] = w
		}
	}
	return workers
}

// withWorker adds what the worker's batches tell: its actor runs also while every batch fails.
func withWorker(c Check, w messages.WorkerStatus) Check {
	if w.Fails >= flapping {
		c.OK = false
		c.Text += fmt.Sprintf(", failed %d times in a row", w.Fails)
	}
	return c
}

// selects tells whether a name, or the beginning or the end of one, means a check: consumer/billing,
// consumer/main/orders and consumer/main/orders/billing all mean the last one.
func selects(wanted, name string) bool {
	if wanted == name || strings.HasPrefix(name, wanted+"/") {
		return true
	}
	kind, rest, _ := strings.Cut(wanted, "/")
	return strings.HasPrefix(name, kind+"/") && strings.HasSuffix(name, "/"+rest)
}

// withLag adds a limit of lag to the check of a ticker, a consumer or a node.
func withLag(c Check, s Status, limit time.Duration) Check {
	late := func(what string, lag time.Duration) {
		c.OK = false
		c.Text = fmt.Sprintf("%s is %s old, more than %s", what, lag.Round(time.Millisecond), limit)
	}
	for _, q := range s.Queues {
		lag := time.Duration(q.LagSeconds * float64(time.Second))
		if c.OK && c.Name == "ticker/"+q.Database && !q.Paused && !q.External && lag > limit {
			late("the newest tick of queue "+q.Queue, lag)
		}
	}
	for _, n := range s.Nodes {
		lag, name := time.Duration(n.LagSeconds*float64(time.Second)), n.Database+"/"+url.PathEscape(n.Queue)
		if c.OK && (c.Name == kindNode+"/"+name || c.Name == kindWorker+"/"+name) && lag > limit {
			late("the tick of node "+n.Node, lag)
		}
	}
	for _, u := range s.Consumers {
		lag := time.Duration(u.LagSeconds * float64(time.Second))
		name := kindConsumer + "/" + u.Database + "/" + url.PathEscape(u.Queue) + "/" + url.PathEscape(u.Consumer)
		if c.OK && c.Name == name && u.Registered && lag > limit {
			late("the last finished tick", lag)
		}
	}
	return c
}
