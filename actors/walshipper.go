package actors

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/attribute"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/walarchive"
)

// pushFile asks the shipper for a file by name; it answers when the file is durable or could not be archived. The reply
// is buffered.
type pushFile struct {
	name  string
	reply chan<- error
}

// shipped is the result of a push by one of the shipper's workers.
type shipped struct {
	name   string
	pushed walarchive.Pushed
	err    error
}

// lane is one worker of the shipper with what it pushes.
type lane struct {
	worker
	name string // "" while idle
}

// Shipper archives the files that the archiver asks for, and ahead of it those that it will ask for next. It says yes
// only for what is stored. All that it knows can be lost: the archiver asks again.
type Shipper struct {
	env     Env
	p       ArchiveParams
	state   reporter
	handle  ArchiveHandle
	lanes   []*lane
	look    worker
	clock   timers
	again   bool                      // look once more when the look under way has ended
	asked   []string                  // wanted by the archiver, in order
	waiting map[string][]chan<- error // who waits for a file
	ahead   []string                  // ready files that nobody asked for yet, in order
	stored  map[string]bool           // pushed ahead, not asked for yet
	told    map[string]bool           // answered, and still ready: the archiver is about to note it
	askedAt time.Time                 // when the archiver asked last
	seen    messages.ArchiveSeen
}

// shipperProps builds the shipper of an archive.
func shipperProps(env Env, p ArchiveParams, handle ArchiveHandle) *actor.Props {
	return newProps(env, kindShipper, func() actor.Actor {
		s := &Shipper{
			env: env, p: p, handle: handle, waiting: map[string][]chan<- error{}, stored: map[string]bool{}, told: map[string]bool{},
			state: reporter{env: env, kind: kindShipper}, seen: messages.ArchiveSeen{Source: p.Source},
		}
		for range p.Workers {
			s.lanes = append(s.lanes, &lane{})
		}
		return s
	})
}

// Receive implements actor.Actor.
func (s *Shipper) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		s.state.set(c, messages.Running, "", nil, time.Time{})
		s.lookAhead(c)
	case *actor.Stopping, *actor.Restarting:
		s.clock.stop()
		workers := []*worker{&s.look}
		for _, l := range s.lanes {
			workers = append(workers, &l.worker)
		}
		haltAll(haltGrace, workers...)
	case messages.ReportStatus:
		s.state.repeat(c)
		s.tell(c)
	case pushFile:
		s.ask(c, m)
	case done[shipped]:
		s.arrived(c, m)
	case done[[]walarchive.ReadyFile]:
		s.looked(c, m)
	case wake:
		if s.clock.fired(m) {
			s.lookAhead(c)
		}
	}
}

// ask takes a wish of the archiver.
func (s *Shipper) ask(c actor.Context, m pushFile) {
	s.askedAt = time.Now()
	if s.stored[m.name] {
		delete(s.stored, m.name)
		s.told[m.name] = true
		m.reply <- nil
		s.lookAhead(c)
		return
	}
	if !slices.Contains(s.waiting[m.name], m.reply) {
		s.waiting[m.name] = append(s.waiting[m.name], m.reply)
	}
	if !s.underWay(m.name) && !slices.Contains(s.asked, m.name) {
		s.asked = append(s.asked, m.name)
	}
	s.dispatch(c)
	s.lookAhead(c)
}

// underWay reports whether a worker pushes the file.
func (s *Shipper) underWay(name string) bool {
	return slices.ContainsFunc(s.lanes, func(l *lane) bool { return l.name == name })
}

// dispatch gives idle workers what is asked for, then what will be.
func (s *Shipper) dispatch(c actor.Context) {
	for _, l := range s.lanes {
		if l.name != "" {
			continue
		}
		name := ""
		switch {
		case len(s.asked) > 0:
			name, s.asked = s.asked[0], s.asked[1:]
		case len(s.ahead) > 0 && len(s.stored) < 2*len(s.lanes):
			name, s.ahead = s.ahead[0], s.ahead[1:]
		default:
			return
		}
		if s.underWay(name) || s.stored[name] {
			continue
		}
		s.push(c, l, name)
	}
}

// push has a worker push a file.
func (s *Shipper) push(c actor.Context, l *lane, name string) {
	l.name = name
	path, handle, limit, tracer := filepath.Join(s.p.PGData, "pg_wal", name), s.handle, s.p.PushTimeout, s.env.Tracer
	err := start(&l.worker, c, s.env.Context, func(ctx context.Context) (shipped, error) {
		ctx, span := tracer.Start(ctx, "wal push")
		defer span.End()
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		pushed, err := handle.Push(ctx, path)
		span.SetAttributes(attribute.String("skyd.wal.name", name), attribute.Int64("skyd.wal.bytes", pushed.Bytes),
			attribute.Int64("skyd.wal.stored_bytes", pushed.Packed))
		if err != nil {
			pgq.RecordError(span, err)
		}
		return shipped{name: name, pushed: pushed, err: err}, nil
	})
	if err != nil {
		panic(err) // only idle workers are given work
	}
}

// arrived answers those who wait for a file.
func (s *Shipper) arrived(c actor.Context, d done[shipped]) {
	i := slices.IndexFunc(s.lanes, func(l *lane) bool { return &l.worker == d.owner })
	if i < 0 || !finish(&s.lanes[i].worker, d) {
		return
	}
	s.lanes[i].name = ""
	r, waiting := d.val, s.waiting[d.val.name]
	delete(s.waiting, r.name)
	for _, reply := range waiting {
		select {
		case reply <- r.err:
		default: // it was asked twice and has its answer
		}
	}
	now := time.Now()
	switch {
	case r.err == nil:
		s.seen.Archived++
		s.seen.Bytes += r.pushed.Bytes
		s.seen.Last, s.seen.LastAt, s.seen.Err = r.name, now, ""
		if len(waiting) == 0 {
			s.stored[r.name] = true
		} else {
			s.told[r.name] = true
		}
		s.state.set(c, messages.Running, "", nil, time.Time{})
	case len(waiting) > 0: // a failure ahead of the archiver is told when it asks
		s.failed(c, r)
	}
	s.tell(c)
	s.dispatch(c)
}

// failed tells that the archiver gets no for an answer.
func (s *Shipper) failed(c actor.Context, r shipped) {
	s.seen.Failed++
	s.seen.Err = r.err.Error()
	if reason := refusal(r.err); reason != "" {
		if s.seen.Refused == nil {
			s.seen.Refused = map[string]int64{}
		}
		s.seen.Refused[reason]++
	}
	s.env.Log.Warn("a WAL file was not archived", "source", s.p.Source, "name", r.name, "err", r.err)
	s.state.set(c, messages.Backoff, "archiving fails", r.err, time.Time{})
}

// refusal is the reason of a push that was refused; "" when it only failed.
func refusal(err error) string {
	switch {
	case errors.Is(err, walarchive.ErrConflict):
		return "conflict"
	case errors.Is(err, walarchive.ErrInvalid):
		return "invalid"
	case errors.Is(err, walarchive.ErrPaused):
		return "paused"
	case errors.Is(err, walarchive.ErrForeignCluster), errors.Is(err, walarchive.ErrForeignBranch):
		return "foreign"
	}
	return ""
}

// lookAhead reads what is ready.
func (s *Shipper) lookAhead(c actor.Context) {
	if s.look.busy() {
		s.again = true
		return
	}
	pgdata := s.p.PGData
	err := start(&s.look, c, s.env.Context, func(context.Context) ([]walarchive.ReadyFile, error) { return walarchive.ReadyFiles(pgdata) })
	if err != nil {
		panic(err) // it is not busy
	}
}

// looked has the list of ready files: what is not among them was archived and is forgotten.
func (s *Shipper) looked(c actor.Context, d done[[]walarchive.ReadyFile]) {
	if !finish(&s.look, d) {
		return
	}
	s.clock.arm(c, "look", s.p.LookPeriod)
	if d.err != nil {
		s.state.set(c, messages.Backoff, "pg_wal cannot be read", d.err, time.Time{})
		return
	}
	ready := map[string]bool{}
	s.ahead, s.seen.Ready, s.seen.Oldest = nil, len(d.val), time.Time{}
	for _, f := range d.val {
		ready[f.Name] = true
		if s.seen.Oldest.IsZero() || f.Since.Before(s.seen.Oldest) {
			s.seen.Oldest = f.Since
		}
		if !s.stored[f.Name] && !s.told[f.Name] && !s.underWay(f.Name) && s.waiting[f.Name] == nil {
			s.ahead = append(s.ahead, f.Name)
		}
	}
	gone := func(name string, _ bool) bool { return !ready[name] }
	maps.DeleteFunc(s.stored, gone)
	maps.DeleteFunc(s.told, gone)
	// While the archiver does not ask, or gets no for an answer, nothing is done ahead of it.
	if s.seen.Err != "" || time.Since(s.askedAt) > s.p.LookPeriod {
		s.ahead = nil
	}
	s.tell(c)
	s.dispatch(c)
	if s.again {
		s.again = false
		s.lookAhead(c)
	}
}

// tell reports the figures since the last time.
func (s *Shipper) tell(c actor.Context) {
	s.seen.At = time.Now()
	s.env.report(c, s.seen)
	s.seen.Archived, s.seen.Bytes, s.seen.Failed, s.seen.Refused = 0, 0, 0, nil
}
