package actors

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// Status keeps the last known state of every actor and the figures of every queue. It answers dashboard, control socket
// and metrics, so that none of them runs SQL.
type Status struct {
	info      buildInfo
	actors    map[string]*messages.ActorStatus
	databases map[string]*messages.DatabaseStatus
	queues    map[string]map[string]*queueEntry // database, queue
	consumers map[string][]messages.ConsumerStatus
	workers   map[consumerKey]*messages.WorkerStatus
	tables    map[string][]messages.TableStatus
	ops       operations
	failed    failures
	config    messages.ConfigLoaded
	nodes     nodes
	archives  archives
}

// consumerKey is one worker of a consumer.
type consumerKey struct {
	database, queue, consumer string
	member                    int
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
	return newProps(env, kindStatus, func() actor.Actor {
		return &Status{
			info: info, actors: map[string]*messages.ActorStatus{}, failed: failures{},
			databases: map[string]*messages.DatabaseStatus{}, queues: map[string]map[string]*queueEntry{},
			consumers: map[string][]messages.ConsumerStatus{},
			workers:   map[consumerKey]*messages.WorkerStatus{},
			tables:    map[string][]messages.TableStatus{},
			nodes:     nodes{},
			archives:  archives{},
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
		s.failed.add(m.Path, m.At)
	case messages.ActorGone:
		s.actorGone(m)
	case messages.DatabaseChanged:
		s.databaseChanged(m)
	case messages.QueuesSeen:
		s.queuesSeen(m)
	case messages.ConsumerSeen:
		s.consumerSeen(m)
	case messages.ConsumerGone:
		maps.DeleteFunc(s.workers, func(k consumerKey, _ *messages.WorkerStatus) bool {
			return k.database == m.Database && k.queue == m.Queue && k.consumer == m.Consumer
		})
	case messages.ArchiveSeen:
		s.archives.note(m)
	case messages.ReceiverSeen:
		s.archives.noteReceiver(m)
	case messages.ArchiveSurveyed:
		s.archives.noteSurvey(m)
	case messages.DrillSeen:
		s.archives.noteDrill(m)
	case messages.BackupsSeen:
		s.archives.noteBackups(m)
	case messages.NodeSeen:
		s.nodes.note(m)
	case messages.SwitchoversSeen:
		s.nodes.noteSwitchovers(m)
	case messages.NodeGone:
		s.nodes.forget(m.Database, m.Queue)
	case messages.MaintenanceDone:
		s.maintenanceDone(m)
	case messages.ConfigLoaded:
		s.config = m
	case messages.Operation:
		s.ops.note(m)
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
	s.archives.gone(m.Path)
	for path := range s.actors {
		if path == m.Path || strings.HasPrefix(path, m.Path+"/") {
			delete(s.actors, path)
			delete(s.failed, path)
		}
	}
	if m.Database != "" {
		delete(s.databases, m.Database)
		delete(s.queues, m.Database)
		delete(s.consumers, m.Database)
		delete(s.tables, m.Database)
		s.nodes.forget(m.Database, "")
		maps.DeleteFunc(s.workers, func(k consumerKey, _ *messages.WorkerStatus) bool { return k.database == m.Database })
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

// consumerSeen adds up what a worker did.
func (s *Status) consumerSeen(m messages.ConsumerSeen) {
	key := consumerKey{m.Database, m.Queue, m.Consumer, m.Member}
	e := s.workers[key]
	if e == nil {
		e = &messages.WorkerStatus{Database: m.Database, Queue: m.Queue, Consumer: m.Consumer, Member: m.Member}
		s.workers[key] = e
	}
	e.BatchID, e.OpenSince = 0, time.Time{}
	if m.Open != nil {
		e.BatchID, e.OpenSince = m.Open.ID, m.OpenedAt
	}
	e.Fails, e.Leaked, e.LastTickAge = m.Fails, m.Leaked, m.LastTickAge
	e.Finished += m.Finished
	e.Empty += m.Empty
	e.Failed += m.Failed
	e.Lost += m.Lost
	e.Events += m.Events
	e.Retried += m.Retried
	e.Dead += m.Dead
	addHistogram(&e.Duration, m.Duration)
	addHistogram(&e.Sizes, m.Sizes)
	addHistogram(&e.Latency, m.Latency)
}

func (s *Status) maintenanceDone(m messages.MaintenanceDone) {
	d := s.database(m.Database)
	d.Operations += m.Operations
	d.OpsFailed += m.Failed
	d.Retried += m.Retried
	if m.Full {
		d.Maintenance = m.At
	}
	if m.Full {
		s.healthSeen(m)
	}
}

// healthSeen takes over what a round of maintenance saw.
func (s *Status) healthSeen(m messages.MaintenanceDone) {
	for _, h := range m.Health.Queues {
		e := s.queues[m.Database][h.Queue]
		if e == nil {
			continue
		}
		e.RotationAge, e.RotationBlocked, e.RotationBlocker = h.RotationAge.Seconds(), h.RotationBlocked, h.HolderText()
		e.HolderConsumer = ""
		if h.Holder == pgq.HolderConsumer {
			e.HolderConsumer = h.HolderName
		}
		e.EventBytes, e.RetryEvents, e.RetryOldest, e.DeadEvents = h.EventBytes, h.RetryEvents, h.RetryOldest.Seconds(), h.DeadEvents
	}
	consumers := make([]messages.ConsumerStatus, 0, len(m.Health.Consumers))
	for _, h := range m.Health.Consumers {
		c := messages.ConsumerStatus{
			Database: m.Database, Queue: h.Queue, Consumer: h.Consumer, Registered: h.Registered, LagSeconds: h.Lag.Seconds(),
			LastSeen: h.LastSeen.Seconds(), PendingEvents: h.PendingEvents, OpenBatches: h.OpenBatches,
			BatchOpen: h.BatchOpen.Seconds(), HoldsRotation: h.HoldsRotation, RetryEvents: h.RetryEvents, DeadEvents: h.DeadEvents,
			State: string(h.State), StateSince: h.StateSince, Note: h.Note,
		}
		if h.MembersActive+h.MembersIdle > 0 {
			c.Members = map[string]int{"active": h.MembersActive, "idle": h.MembersIdle, "stale": h.MembersStale}
		}
		consumers = append(consumers, c)
	}
	s.consumers[m.Database] = consumers
	tables := make([]messages.TableStatus, 0, len(m.Health.Tables))
	for _, t := range m.Health.Tables {
		tables = append(tables, messages.TableStatus{
			Database: m.Database, Queue: t.Queue, Kind: t.Kind, Bytes: max(t.Bytes, 0), DeadTuples: t.DeadTuples,
		})
	}
	s.tables[m.Database] = tables
}

// snapshot copies everything; nothing of it is shared with the actor.
func (s *Status) snapshot(now time.Time) messages.Snapshot {
	snap := messages.Snapshot{Version: s.info.version, Instance: s.info.instance, Started: s.info.started, Now: now}
	snap.Config = messages.ConfigStatus{
		Loaded: s.config.Good, LastReload: s.config.At, OK: s.config.Err == "", LastError: s.config.Err,
		RestartNeeded: slices.Clone(s.config.RestartNeeded),
	}
	for _, a := range s.actors {
		copied := *a
		copied.RecentFailures = s.failed.recent(a.Path, now)
		snap.Actors = append(snap.Actors, copied)
	}
	slices.SortFunc(snap.Actors, func(a, b messages.ActorStatus) int { return comparePaths(a.Path, b.Path) })
	for _, d := range s.databases {
		copied := *d
		copied.Reconnects = maps.Clone(d.Reconnects)
		snap.Databases = append(snap.Databases, copied)
	}
	slices.SortFunc(snap.Databases, func(a, b messages.DatabaseStatus) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range s.workers {
		snap.Workers = append(snap.Workers, *e)
	}
	slices.SortFunc(snap.Workers, func(a, b messages.WorkerStatus) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Consumer, b.Consumer),
			cmp.Compare(a.Member, b.Member))
	})
	for _, queues := range s.queues {
		for _, e := range queues {
			q := e.QueueStatus
			q.LagSeconds += max(now.Sub(e.at).Seconds(), 0)
			snap.Queues = append(snap.Queues, q)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.tables)) {
		snap.Tables = append(snap.Tables, s.tables[name]...)
	}
	snap.Operations = s.ops.list()
	snap.Nodes = s.nodes.list(now)
	snap.Archives = s.archives.list(now)
	for _, consumers := range s.consumers {
		snap.Consumers = append(snap.Consumers, consumers...) // nobody changes their maps
	}
	slices.SortFunc(snap.Consumers, func(a, b messages.ConsumerStatus) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Consumer, b.Consumer))
	})
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
	addValue(h, messages.TickBounds[:], d.Seconds())
}

// addValue counts one value by bounds.
func addValue(h *messages.Histogram, bounds []float64, v float64) {
	i, _ := slices.BinarySearch(bounds, v)
	h.Counts[i]++
	h.Sum += v
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
