package runtime

import (
	"fmt"
	"time"

	"github.com/skytools/skyd/messages"
)

// Severity is the verdict of a monitoring probe; the values are the exit codes that probes agree on.
type Severity int

// Verdicts, from good to bad; Unknown: could not be found out.
const (
	OK Severity = iota
	Warning
	Critical
	Unknown
)

// String is the word that probes print.
func (s Severity) String() string {
	return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[min(max(s, OK), Unknown)]
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Judgement is one verdict about the daemon, with a figure when there is one.
type Judgement struct {
	// Name is that of the check, as in /readyz; of a queue: queue/<database>/<queue>.
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	// Lag is the ticker's lag; only of queues that we tick.
	Lag *float64 `json:"lag_seconds,omitempty"`
}

// Limits are what a queue's lag may be.
type Limits struct{ Warning, Critical time.Duration }

// DefaultLimits are those of probes that name no others: a quiet queue is ticked every five minutes.
func DefaultLimits() Limits { return Limits{Warning: 6 * time.Minute, Critical: 15 * time.Minute} }

// Judge turns a status into verdicts: the checks of readiness, and what is worth a look beyond them.
func Judge(s Status, limits Limits) []Judgement {
	var list []Judgement
	for _, c := range Health(s) {
		j := Judgement{Name: c.Name, Text: c.Text}
		if !c.OK {
			j.Severity = Critical
		}
		list = append(list, j)
	}
	if s.Config.LastError != "" {
		list = append(list, Judgement{Name: "config", Severity: Warning, Text: "the last reload was refused: " + s.Config.LastError})
	}
	for _, w := range s.Workers {
		if w.Leaked > 0 {
			list = append(list, Judgement{
				Name: "handlers/" + w.Database + "/" + w.Queue + "/" + w.Consumer, Severity: Warning,
				Text: fmt.Sprintf("%d handlers were given up after batch_timeout and have not returned", w.Leaked),
			})
		}
	}
	for _, q := range s.Queues {
		list = append(list, judgeQueue(q, limits))
	}
	return list
}

// judgeQueue judges one queue.
func judgeQueue(q messages.QueueStatus, limits Limits) Judgement {
	j := Judgement{Name: "queue/" + q.Database + "/" + q.Queue, Text: "ticks"}
	lag := time.Duration(q.LagSeconds * float64(time.Second))
	switch {
	case q.Paused:
		j.Text = "paused"
		return j
	case q.External:
		j.Text = "ticked from outside"
	default:
		j.Lag = &q.LagSeconds
		late := fmt.Sprintf("the newest tick is %s old", lag.Round(time.Millisecond))
		switch {
		case limits.Critical > 0 && lag > limits.Critical:
			j.Severity, j.Text = Critical, late
		case limits.Warning > 0 && lag > limits.Warning:
			j.Severity, j.Text = Warning, late
		}
	}
	switch {
	case j.Severity != OK:
	case q.LastError != "":
		j.Severity, j.Text = Warning, "the last tick failed: "+q.LastError
	case q.RotationBlocker != "":
		j.Severity, j.Text = Warning, q.RotationBlocker+" keeps it from rotating"
	}
	return j
}

// Worst is the worst of the verdicts.
func Worst(list []Judgement) Severity {
	worst := OK
	for _, j := range list {
		worst = max(worst, j.Severity)
	}
	return worst
}
