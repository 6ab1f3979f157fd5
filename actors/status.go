package actors

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
)

// Status keeps the last known state of every actor and the figures of every queue. It answers dashboard, control socket
// and metrics, so that none of them runs SQL.
type Status struct {
	info      buildInfo
	actors    map[string]*messages.ActorStatus
	databases map[string]*messages.DatabaseStatus
	queues    map[string]map[string]*queueEntry // database, queue
}

// buildInfo is what does not change while the process lives.
type buildInfo struct {
	version  string
	instance string
	started  time.Time
}

// queueEntry is a queue with the moment its lag was true: lag grows by itself until the ticker says better.
type queueEntry struct {
	messages.QueueStatus
	at time.Time
}

// statusStarted tells the daemon that an empty status actor began, and that everybody must tell it again.
type statusStarted struct{}

// statusProps builds the status actor.
func statusProps(env Env, info buildInfo) *actor.Props {
	return newProps(env, func() actor.Actor {
		return &Status{
			info: info, actors: map[string]*messages.ActorStatus{},
			databases: map[string]*messages.DatabaseStatus{}, queues: map[string]map[string]*queueEntry{},
		}
	})
}

// Receive implements actor.Actor.
func (s *Status) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		now := time.Now()
		s.actorChanged(messages.ActorChanged{Path: kindStatus, Kind: kindStatus, State: messages.Running, At: now})
		if c.Parent() != nil {
			c.Send(c.Parent(), statusStarted{})
		}
	case messages.ReportStatus:
		s.actorChanged(messages.ActorChanged{Path: kindStatus, Kind: kindStatus, State: messages.Running, At: time.Now()})
	case messages.ActorChanged:
		s.actorChanged(m)
	case messages.ActorRestarted:
		a := s.actor(m.Path)
		a.Restarts++
		a.LastError, a.ErrorAt = m.Reason, m.At
	case messages.ActorGone:
		s.actorGone(m)
	case messages.DatabaseChanged:
		s.databaseChanged(m)
	case messages.QueuesSeen:
		s.queuesSeen(m)
	case messages.MaintenanceDone:
		s.maintenanceDone(m)
	case messages.GetStatus:
		m.Reply <- s.snapshot(time.Now())
	}
}

// actor finds or makes the entry of an actor.
func (s *Status) actor(path string) *messages.ActorStatus {
	a := s.actors[path]
	if a == nil {
		a = &messages.ActorStatus{Path: path}
		s.actors[path] = a
	}
	return a
}

func (s *Status) actorChanged(m messages.ActorChanged) {
	a := s.actor(m.Path)
	if a.State != m.State {
		a.Since = m.At
	}
	a.Kind, a.Database, a.State, a.Note, a.NextRetry, a.Optional = m.Kind, m.Database, m.State, m.Note, m.Retry, m.Optional
	switch {
	case m.State == messages.Running:
		a.WasUp, a.DownSince = true, time.Time{}
	case a.DownSince.IsZero():
		a.DownSince = m.At
	}
	if m.Err != "" {
		a.LastError, a.ErrorAt = m.Err, m.At
	}
}

func (s *Status) actorGone(m messages.ActorGone) {
	for path := range s.actors {
		if path == m.Path || strings.HasPrefix(path, m.Path+"/") {
			delete(s.actors, path)
		}
	}
	if m.Database != "" {
		delete(s.databases, m.Database)
		delete(s.queues, m.Database)
	}
}

// database finds or makes the entry of a database.
func (s *Status) database(name string) *messages.DatabaseStatus {
	d := s.databases[name]
	if d == nil {
		d = &messages.DatabaseStatus{Name: name, Reconnects: map[string]int64{}}
		s.databases[name] = d
	}
	return d
}

func (s *Status) databaseChanged(m messages.DatabaseChanged) {
	d := s.database(m.Database)
	if m.Up && !d.Up && d.Reason != "" {
		d.Reconnects[d.Reason]++
	}
	if m.Up != d.Up || d.Since.IsZero() {
		d.Since = m.At
	}
	d.Up, d.InRecovery, d.Reason = m.Up, m.InRecovery, m.Reason
	if m.Version != "" {
		d.Version = m.Version
	}
}

func (s *Status) queuesSeen(m messages.QueuesSeen) {
	old := s.queues[m.Database]
	seen := make(map[string]*queueEntry, len(m.Queues))
	for _, q := range m.Queues {
		e := old[q.Queue]
		if e == nil {
			e = &queueEntry{QueueStatus: messages.QueueStatus{Database: m.Database, Queue: q.Queue}}
		}
		e.at = m.At
		e.LastTick, e.LagSeconds, e.EventSeq, e.Unticked = q.LastTick, q.Lag.Seconds(), q.EventSeq, q.Unticked
		e.Paused, e.External, e.LastError = q.Paused, q.External, q.LastError
		e.Ticks += q.Made
		e.TickErrors += q.Failed
		addHistogram(&e.TickDuration, q.Duration)
		seen[q.Queue] = e
	}
	s.queues[m.Database] = seen
}

func (s *Status) maintenanceDone(m messages.MaintenanceDone) {
	d := s.database(m.Database)
	d.Operations += m.Operations
	d.OpsFailed += m.Failed
	d.Retried += m.Retried
	if m.Full {
		d.Maintenance = m.At
	}
	for _, r := range m.Rotations {
		if e := s.queues[m.Database][r.Queue]; e != nil {
			e.RotationAge, e.RotationBlocker = r.Age.Seconds(), r.Blocker
		}
	}
}

// snapshot copies everything; nothing of it is shared with the actor.
func (s *Status) snapshot(now time.Time) messages.Snapshot {
	snap := messages.Snapshot{Version: s.info.version, Instance: s.info.instance, Started: s.info.started, Now: now}
	for _, a := range s.actors {
		snap.Actors = append(snap.Actors, *a)
	}
	slices.SortFunc(snap.Actors, func(a, b messages.ActorStatus) int { return comparePaths(a.Path, b.Path) })
	for _, d := range s.databases {
		copied := *d
		copied.Reconnects = maps.Clone(d.Reconnects)
		snap.Databases = append(snap.Databases, copied)
	}
	slices.SortFunc(snap.Databases, func(a, b messages.DatabaseStatus) int { return cmp.Compare(a.Name, b.Name) })
	for _, queues := range s.queues {
		for _, e := range queues {
			q := e.QueueStatus
			q.LagSeconds += max(now.Sub(e.at).Seconds(), 0)
			snap.Queues = append(snap.Queues, q)
		}
	}
	slices.SortFunc(snap.Queues, func(a, b messages.QueueStatus) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Queue, b.Queue))
	})
	return snap
}

// comparePaths orders tree paths: the root first, then every actor directly above its children.
func comparePaths(a, b string) int {
	if (a == rootName) != (b == rootName) {
		if a == rootName {
			return -1
		}
		return 1
	}
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// addDuration counts one duration.
func addDuration(h *messages.Histogram, d time.Duration) {
	i, _ := slices.BinarySearch(messages.TickBounds[:], d.Seconds())
	h.Counts[i]++
	h.Sum += d.Seconds()
	h.Count++
}

// addHistogram adds the counts of b to a.
func addHistogram(a *messages.Histogram, b messages.Histogram) {
	for i, n := range b.Counts {
		a.Counts[i] += n
	}
	a.Sum += b.Sum
	a.Count += b.Count
}
