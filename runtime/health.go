package runtime

import (
	"fmt"
	"strings"
	"time"

	"github.com/skytools/skyd/messages"
)

// grace is how long an actor may be away before the daemon is not ready any more.
const grace = 10 * time.Second

// Check is one finding about the health of the daemon.
type Check struct {
	// Name is <kind>/<database>, as in /readyz/ticker/main; kind only where there is one of the kind.
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Text says what is wrong, or what the actor does.
	Text string `json:"text"`
}

// Health computes the checks from a status, in tree order. Everything that tells whether skyd is well calls it.
func Health(s Status) []Check {
	checks := make([]Check, 0, len(s.Actors))
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
	if a.Database == "" {
		return a.Path
	}
	return a.Kind + "/" + a.Database
}

// withLag adds the limit of the ticker's lag to the check of a ticker.
func withLag(c Check, s Status, limit time.Duration) Check {
	for _, q := range s.Queues {
		lag := time.Duration(q.LagSeconds * float64(time.Second))
		if c.OK && c.Name == "ticker/"+q.Database && !q.Paused && !q.External && lag > limit {
			c.OK = false
			c.Text = fmt.Sprintf("the newest tick of queue %s is %s old, more than %s", q.Queue, lag.Round(time.Millisecond), limit)
		}
	}
	return c
}
