package walarchive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// stream receives one timeline. The zero TimelineSwitch: Until was reached.
func (s *session) stream(ctx context.Context, at TimelineSwitch) (next TimelineSwitch, err error) {
	rc := s.rc
	if s.ws, err = s.r.Stream(ctx, rc.o.Slot, at.Start, at.Timeline); err != nil {
		return next, err
	}
	s.tli, s.written, s.flushed, s.heard = at.Timeline, at.Start, at.Start, rc.o.Now()
	rc.update(func(st *ReceiverStatus) {
		st.Timeline, st.Written, st.Flushed, st.Connected = s.tli, s.written, s.flushed, true
	})
	defer func() {
		err = errors.Join(err, s.leave())
	}()
	// Without a first report the server counts us as asynchronous, whatever its settings say.
	if err := s.report(false); err != nil {
		return next, err
	}
	for {
		m, err := s.ws.Receive(ctx, s.patience())
		if errors.Is(err, errNoMessage) {
			err = s.quiet()
		} else if err == nil {
			if m.EndOfTimeline {
				return s.ended(m)
			}
			err = s.take(ctx, m)
		}
		if err != nil {
			return next, err
		}
		if s.reached() {
			return next, s.ws.End(ctx)
		}
	}
}

// ended handles the end of the timeline.
func (s *session) ended(m StreamMessage) (TimelineSwitch, error) {
	if m.Next.Timeline == 0 {
		return m.Next, errors.New("the server ended the stream")
	}
	return m.Next, s.sync()
}

// patience is how long to wait for the next message: briefly while something is not synced.
func (s *session) patience() time.Duration {
	if s.unsynced > 0 {
		return syncEvery / 2
	}
	return min(statusInterval, time.Second)
}

// take handles one message of the server.
func (s *session) take(ctx context.Context, m StreamMessage) error {
	now := s.rc.o.Now()
	s.heard, s.asked = now, false
	if len(m.Data) > 0 {
		if m.Start != s.written {
			return fmt.Errorf("the server sent WAL from %s, expected %s", m.Start, s.written)
		}
		if err := s.recordGap(ctx); err != nil {
			return err
		}
		if err := s.write(ctx, m.Data); err != nil {
			return err
		}
	}
	s.rc.mu.Lock()
	s.rc.status.Server, s.rc.status.Heard = max(s.rc.status.Server, m.End), now
	s.rc.mu.Unlock()
	caughtUp := s.written >= m.End
	s.behind = m.End - min(s.written, m.End)
	// What came meanwhile is synced together: commits of many sessions for the price of one.
	whole := caughtUp && !s.r.more()
	if s.unsynced > 0 && (whole || s.unsynced >= syncBytes || now.Sub(s.synced) >= syncEvery) {
		if err := s.sync(); err != nil {
			return err
		}
		if caughtUp {
			s.rc.note(mark{at: s.flushed, sent: m.Sent})
		}
		return s.report(false)
	}
	if caughtUp && s.unsynced == 0 {
		s.rc.note(mark{at: s.flushed, sent: m.Sent})
	}
	if m.Reply || now.Sub(s.told) >= statusInterval {
		return s.report(false)
	}
	return nil
}

// write puts data into the open segment, and closes each segment that becomes full.
func (s *session) write(ctx context.Context, data []byte) error {
	size := LSN(s.dir.size)
	for len(data) > 0 {
		if s.file == nil {
			if err := s.openSegment(ctx); err != nil {
				return err
			}
		}
		room := s.begin + size - s.written
		n := min(LSN(len(data)), room)
		if _, err := s.file.WriteAt(data[:n], int64(s.written-s.begin)); err != nil {
			return err
		}
		s.written += n
		s.unsynced += int64(n)
		data = data[n:]
		if s.written == s.begin+size {
			if err := s.closeSegment(); err != nil {
				return err
			}
		}
	}
	return nil
}

// openSegment opens the file of the segment at the current position. Before that it waits until the repository has
// taken enough of what was received.
func (s *session) openSegment(ctx context.Context) (err error) {
	if err := s.roomFor(ctx); err != nil {
		return err
	}
	size := LSN(s.dir.size)
	s.begin = s.roundDown(s.written)
	s.name = SegmentName(s.tli, s.begin, uint32(s.dir.size))
	catchingUp := s.behind >= size
	if s.file, err = s.dir.open(s.name, catchingUp); err != nil {
		return err
	}
	s.rc.mu.Lock()
	s.rc.current = s.name
	delete(s.rc.idle, s.name)
	s.rc.mu.Unlock()
	if !catchingUp {
		s.dir.prepare()
	}
	return nil
}

// roomFor waits while too much waits for the repository; the server hears from us all the while, and keeps its WAL.
func (s *session) roomFor(ctx context.Context) error {
	told := false
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		closed, _, err := s.dir.segments()
		if err != nil {
			return err
		}
		pending := int64(len(closed)) * s.dir.size
		s.rc.update(func(st *ReceiverStatus) { st.Pending = pending })
		if pending <= s.rc.o.MaxPending {
			return nil
		}
		if !told {
			told = true
			s.rc.o.Note(fmt.Sprintf("%d bytes wait for the repository: receiving pauses", pending))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.rc.done:
		case <-tick.C:
			if err := s.report(false); err != nil {
				return err
			}
		}
	}
}

// closeSegment makes a full segment durable under its plain name, and only then counts it as flushed.
func (s *session) closeSegment() error {
	err := datasync(s.file)
	if err = errors.Join(err, s.file.Close()); err != nil {
		return err
	}
	s.file = nil
	if err := s.dir.closeSegment(s.name); err != nil {
		return err
	}
	s.rc.mu.Lock()
	s.rc.current = ""
	s.rc.mu.Unlock()
	s.wrote()
	s.rc.nudge()
	return nil
}

// sync makes what was written durable.
func (s *session) sync() error {
	if s.file != nil && s.unsynced > 0 {
		if err := datasync(s.file); err != nil {
			return err
		}
	}
	s.wrote()
	return nil
}

// wrote notes that everything written is durable.
func (s *session) wrote() {
	s.flushed, s.unsynced, s.synced = s.written, 0, s.rc.o.Now()
	s.rc.update(func(st *ReceiverStatus) { st.Written, st.Flushed = s.written, s.flushed })
}

// report tells the server how far we are.
func (s *session) report(ask bool) error {
	flushed := s.flushed
	if s.rc.o.Feedback == FeedbackRepo {
		flushed = min(flushed, s.rc.Status().Stored)
	}
	s.told = s.rc.o.Now()
	return s.ws.Feedback(s.told, s.written, flushed, 0, ask)
}

// quiet is what happens when nothing came for a while.
func (s *session) quiet() error {
	if s.unsynced > 0 {
		if err := s.sync(); err != nil {
			return err
		}
		return s.report(false)
	}
	now := s.rc.o.Now()
	switch silent := now.Sub(s.heard); {
	case silent >= silenceLimit:
		return fmt.Errorf("the server has not answered for %s", silent.Round(time.Second))
	case silent >= silenceAsk && !s.asked:
		s.asked = true
		return s.report(true)
	case now.Sub(s.told) >= statusInterval || s.rc.o.Feedback == FeedbackRepo:
		return s.report(false)
	}
	return nil
}

// reached reports whether the run is over: everything before Until is in the repository.
func (s *session) reached() bool {
	return s.rc.o.Until > 0 && s.rc.Status().Stored >= s.rc.o.Until
}

// leave ends the open segment of a timeline: it stays as it is, for shipping.
func (s *session) leave() error {
	s.rc.mu.Lock()
	s.rc.current = ""
	s.rc.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := datasync(s.file)
	f := io.Closer(s.file)
	s.file = nil
	s.rc.nudge()
	return errors.Join(err, f.Close())
}

// note remembers when the server's WAL ended where.
func (rc *Receiver) note(m mark) {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if m.at <= rc.status.Stored { // an idle server: what is stored is all there is
		rc.status.StoredTime = m.sent
		return
	}
	if n := len(rc.marks); n > 0 && rc.marks[n-1].at == m.at {
		rc.marks[n-1] = m
		return
	}
	if len(rc.marks) >= 1024 { // a storage that is away: the exact time of an old position is not worth more memory
		rc.marks = rc.marks[512:]
	}
	rc.marks = append(rc.marks, m)
}

// nudge tells the shipper that there is something to do.
func (rc *Receiver) nudge() {
	select {
	case rc.wake <- struct{}{}:
	default:
	}
}
