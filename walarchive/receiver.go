package walarchive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Feedback modes of a receiver: what it tells the server as flushed.
const (
	FeedbackLocal = "local" // what is durable in the state directory of this host
	FeedbackRepo  = "repo"  // what is durable in the repository: for receivers on the host of the database
)

// ReceiverOptions say how WAL is received.
type ReceiverOptions struct {
	// DSN is the server to receive from; several hosts may be named. Its role needs the attribute replication.
	DSN string
	// Slot is made if it is missing; empty: no slot, the server may remove WAL that we have not got.
	Slot string
	// Application is the name that synchronous_standby_names refers to.
	Application string
	// StateDir holds what is not in the repository yet.
	StateDir string
	// PartialInterval is how often the open segment is stored; default 1s.
	PartialInterval time.Duration
	// Feedback is FeedbackLocal (default) or FeedbackRepo.
	Feedback string
	// MaxPending bounds the received segments that wait for the repository, in bytes; default 1 GiB. Beyond it nothing
	// more is received: the server keeps its WAL.
	MaxPending int64
	// Until ends the run when everything before this position is in the repository; 0: never.
	Until LSN
	// Owner names the holder of the lease.
	Owner string
	// Changed is told when the status has changed, from several goroutines; it must be quick.
	Changed func(ReceiverStatus)
	// Note is told in one line what happens, from several goroutines.
	Note func(text string)
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// ReceiverStatus tells how far a receiver is.
type ReceiverStatus struct {
	System    uint64 `json:"system_id,string"`
	Timeline  uint32 `json:"timeline"`
	Connected bool   `json:"connected"`
	// Server is the end of the server's WAL when it last spoke.
	Server  LSN `json:"server_lsn"`
	Written LSN `json:"written_lsn"`
	Flushed LSN `json:"flushed_lsn"`
	// Stored is the end of what is in the repository: a restore can go this far.
	Stored LSN `json:"stored_lsn"`
	// StoredTime is the server's clock when Stored was the end of its WAL: every commit before is restorable.
	StoredTime time.Time `json:"stored_time,omitzero"`
	Heard      time.Time `json:"heard,omitzero"`
	// Pending are the received segments that wait for the repository.
	Pending int64 `json:"pending_bytes"`
	// Gaps are the gaps that were found since the receiver was made.
	Gaps int `json:"gaps"`
	// Trouble is what keeps the repository from taking WAL; empty: nothing.
	Trouble string `json:"trouble,omitempty"`
}

// Receiver brings WAL into the repository while it is written. One run at a time.
type Receiver struct {
	repo *Repo
	o    ReceiverOptions
	wake chan struct{} // something to ship
	done chan struct{} // something was shipped

	mu      sync.Mutex
	status  ReceiverStatus
	shipped map[string]int64 // how much of an open segment is stored
	idle    map[string]bool  // open segments that nobody writes, and that are stored as far as they go
	current string           // the segment being received
	marks   []mark
}

// mark is a position and the server's clock when its WAL ended there.
type mark struct {
	at   LSN
	sent time.Time
}

// Timeouts of a receiver.
const (
	statusInterval = 5 * time.Second  // between reports to an idle server
	silenceAsk     = 15 * time.Second // of the server, until it is asked for a sign of life
	silenceLimit   = 30 * time.Second // until the connection counts as dead
	syncEvery      = 100 * time.Millisecond
	syncBytes      = 8 << 20
)

// NewReceiver makes a receiver; Run runs it.
func NewReceiver(r *Repo, o ReceiverOptions) *Receiver {
	if o.PartialInterval <= 0 {
		o.PartialInterval = time.Second
	}
	if o.Feedback == "" {
		o.Feedback = FeedbackLocal
	}
	if o.MaxPending <= 0 {
		o.MaxPending = 1 << 30
	}
	if o.Changed == nil {
		o.Changed = func(ReceiverStatus) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Receiver{
		repo: r, o: o, wake: make(chan struct{}, 1), done: make(chan struct{}, 1), shipped: map[string]int64{},
		idle: map[string]bool{},
	}
}

// Status tells how far the receiver is.
func (rc *Receiver) Status() ReceiverStatus {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return rc.status
}

// update changes the status and tells.
func (rc *Receiver) update(change func(*ReceiverStatus)) {
	rc.mu.Lock()
	change(&rc.status)
	s := rc.status
	rc.mu.Unlock()
	rc.o.Changed(s)
}

// session is one connection of a receiver.
type session struct {
	rc   *Receiver
	r    *Replication
	id   SystemIdentity
	sys  uint64
	dir  *walDir
	path History // of the server's timeline

	ws       *WALStream
	tli      uint32
	file     *os.File
	name     string
	begin    LSN // of the open segment
	written  LSN
	flushed  LSN
	unsynced int64
	synced   time.Time
	heard    time.Time
	told     time.Time
	asked    bool
	behind   LSN // bytes that the server had and we had not, when it last spoke
	gapFrom  LSN // WAL that the server does not have any more
	gapTo    LSN
}

// Run first brings what an earlier run left behind into the repository, then connects and receives until ctx ends, Until
// is reached (nil), or something fails; the caller tries again later. Everything that was told the server as flushed has
// been synced to disk, and stays there until it is in the repository.
func (rc *Receiver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := rc.salvage(ctx); err != nil {
		rc.o.Note("what was received before cannot be stored now: " + err.Error())
	}
	s := &session{rc: rc, heard: rc.o.Now()}
	err := s.connect(ctx)
	if err == nil {
		err = s.receiveAll(ctx, cancel)
	}
	rc.update(func(st *ReceiverStatus) { st.Connected = false })
	if s.r != nil {
		after, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer stop()
		_ = s.r.Close(after) // what counts is on disk
	}
	return err
}

// connect dials the server and makes sure that it is the cluster of the source.
func (s *session) connect(ctx context.Context) (err error) {
	rc := s.rc
	if s.r, err = DialReplication(ctx, rc.o.DSN, rc.o.Application); err != nil {
		return err
	}
	if s.id, err = s.r.Identify(ctx); err != nil {
		return err
	}
	if s.sys, err = strconv.ParseUint(s.id.SystemID, 10, 64); err != nil {
		return fmt.Errorf("system identifier: %w", err)
	}
	size, err := s.r.SegmentSize(ctx)
	if err != nil {
		return err
	}
	if err := s.enroll(ctx, uint32(size)); err != nil {
		return err
	}
	if s.dir, err = openWALDir(filepath.Join(rc.o.StateDir, "receive", s.id.SystemID), size); err != nil {
		return err
	}
	if rc.o.Slot != "" {
		if err := s.r.CreateSlot(ctx, rc.o.Slot); err != nil {
			return err
		}
	}
	name, text, err := s.r.TimelineHistory(ctx, s.id.Timeline)
	if err != nil || name == "" {
		return err
	}
	if s.path, err = ParseHistory(s.id.Timeline, text); err != nil {
		return err
	}
	return rc.repo.putHistory(ctx, s.sys, name, text)
}

// enroll makes the server the cluster of the source when that has none yet, and refuses another one.
func (s *session) enroll(ctx context.Context, size uint32) error {
	all, err := s.rc.repo.Clusters(ctx)
	if err != nil {
		return err
	}
	if now, ok := all.Current(); ok {
		if now.System != s.sys {
			return fmt.Errorf("%w: the server is system %d, the archive of %s holds %d", ErrForeignCluster, s.sys, s.rc.repo.Source, now.System)
		}
		return nil
	}
	_, err = s.rc.repo.Enroll(ctx, Cluster{System: s.sys, Major: s.r.Version / 10000, Size: size, First: s.rc.o.Now().UTC()})
	return err
}

// receiveAll receives timeline after timeline, while a second goroutine brings what was received into the repository.
func (s *session) receiveAll(ctx context.Context, cancel context.CancelCauseFunc) error {
	rc := s.rc
	at, err := s.position(ctx)
	if err != nil {
		return err
	}
	rc.update(func(st *ReceiverStatus) {
		st.System, st.Timeline, st.Heard = s.sys, at.Timeline, rc.o.Now()
	})
	var shipping sync.WaitGroup
	shipping.Go(func() { rc.shipUntil(ctx, s.dir, s.sys) })
	defer func() {
		cancel(nil)
		shipping.Wait()
		s.dir.busy.Wait()
	}()
	s.dir.prepare()
	for {
		next, err := s.leased(ctx, at)
		switch {
		case err == nil && next.Timeline == 0:
			return nil // Until
		case removedWAL(err):
			if at, err = s.skip(ctx, at, err); err != nil {
				return err
			}
			continue
		case invalidSlot(err) && s.rc.o.Slot != "":
			// What it held is gone; a new one holds what is there. The caller comes back.
			return errors.Join(err, s.r.DropSlot(ctx, s.rc.o.Slot), s.r.CreateSlot(ctx, s.rc.o.Slot))
		case errors.Is(err, context.Canceled) && ctx.Err() != nil && context.Cause(ctx) == context.Canceled:
			return nil
		case err != nil:
			return err
		}
		rc.o.Note(fmt.Sprintf("timeline %d ended at %s, going on with %d", at.Timeline, next.Start, next.Timeline))
		name, text, err := s.r.TimelineHistory(ctx, next.Timeline)
		if err == nil && name != "" {
			err = rc.repo.putHistory(ctx, s.sys, name, text)
		}
		if err != nil {
			return err
		}
		at = TimelineSwitch{Timeline: next.Timeline, Start: s.roundDown(next.Start)}
	}
}

// leased streams one timeline while holding its lease.
func (s *session) leased(ctx context.Context, at TimelineSwitch) (next TimelineSwitch, err error) {
	rc := s.rc
	l, held, err := takeLease(ctx, rc.repo, rc.repo.LeaseKey(fmt.Sprintf("stream-%08X", at.Timeline)), rc.o.Owner, rc.o.Now)
	if err != nil {
		return next, fmt.Errorf("receive timeline %d: %w", at.Timeline, err)
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if rerr := l.release(after); err == nil {
			err = rerr
		}
	}()
	return s.stream(held, at)
}

// removedWAL reports whether the server said that it has not got the WAL any more. One of the two places in the server
// that say so gives no SQLSTATE of its own.
func removedWAL(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	return errors.As(err, &pgErr) && (pgErr.Code == "58P01" || pgErr.Routine == "CheckXLogRemoved" || pgErr.Routine == "WalSndSegmentOpen")
}

// invalidSlot reports whether the server has given our slot up: from PostgreSQL 18 on it says so instead of streaming.
func invalidSlot(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	return errors.As(err, &pgErr) && pgErr.Code == "55000" && pgErr.Routine == "ReplicationSlotAcquire"
}

// roundDown is the begin of the segment of a position.
func (s *session) roundDown(at LSN) LSN { return at / LSN(s.dir.size) * LSN(s.dir.size) }

// position finds where to go on: behind the last byte without a hole that is held here or in the repository, else where
// the slot stands, else at the end of the server's WAL; always at the begin of a segment.
func (s *session) position(ctx context.Context) (TimelineSwitch, error) {
	closed, open, err := s.dir.segments()
	if err != nil {
		return TimelineSwitch{}, err
	}
	size := uint32(s.dir.size)
	at := TimelineSwitch{}
	last := ""
	if len(closed) > 0 {
		last = closed[len(closed)-1]
		start, err := SegmentStart(last, size)
		if err != nil {
			return at, err
		}
		at = TimelineSwitch{Timeline: SegmentTimeline(last), Start: start + LSN(size)}
	}
	if len(open) > 0 && open[len(open)-1] > last {
		last = open[len(open)-1]
		start, err := SegmentStart(last, size)
		if err != nil {
			return at, err
		}
		at = TimelineSwitch{Timeline: SegmentTimeline(last), Start: start}
	}
	if at.Timeline == 0 {
		if at, err = s.stored(ctx, size); err != nil {
			return at, err
		}
	}
	if at.Timeline == 0 {
		at = TimelineSwitch{Timeline: s.id.Timeline, Start: s.id.Position}
		if s.rc.o.Slot != "" {
			slot, err := s.r.ReadSlot(ctx, s.rc.o.Slot)
			if err != nil {
				return at, err
			}
			if slot.RestartLSN > 0 {
				at.Start = slot.RestartLSN
			}
		}
		at.Timeline = s.path.At(s.id.Timeline, at.Start)
		at.Start = s.roundDown(at.Start)
	}
	return s.onPath(at)
}

// stored finds the end of the WAL without a hole in the repository, on the newest timeline of the server's path of which
// something is there.
func (s *session) stored(ctx context.Context, size uint32) (TimelineSwitch, error) {
	tlis := []uint32{s.id.Timeline}
	for _, b := range slices.Backward(s.path) {
		tlis = append(tlis, b.Timeline)
	}
	for _, tli := range tlis {
		runs, err := s.rc.repo.walRuns(ctx, s.sys, tli, size)
		if err != nil {
			return TimelineSwitch{}, err
		}
		if len(runs) > 0 {
			return TimelineSwitch{Timeline: tli, Start: runs[len(runs)-1].to}, nil
		}
	}
	return TimelineSwitch{}, nil
}

// onPath moves a position that lies behind the end of its timeline to the timeline that follows.
func (s *session) onPath(at TimelineSwitch) (TimelineSwitch, error) {
	for at.Timeline != s.id.Timeline {
		i := slices.IndexFunc(s.path, func(b Branch) bool { return b.Timeline == at.Timeline })
		if i < 0 {
			return at, fmt.Errorf("%w: the server's timeline %d does not come from timeline %d, which was received last", ErrForeignBranch,
				s.id.Timeline, at.Timeline)
		}
		if at.Start < s.path[i].Until {
			return at, nil
		}
		next := s.id.Timeline
		if i+1 < len(s.path) {
			next = s.path[i+1].Timeline
		}
		at = TimelineSwitch{Timeline: next, Start: s.roundDown(s.path[i].Until)}
	}
	return at, nil
}

// skip is what happens when the server has removed WAL that we want: what push stored is as good; what is missing in the
// repository too is passed over, segment by segment, until the server has something.
func (s *session) skip(ctx context.Context, at TimelineSwitch, cause error) (TimelineSwitch, error) {
	from, size := at.Start, LSN(s.dir.size)
	for {
		ok, err := s.rc.repo.holdsWAL(ctx, s.sys, at.Timeline, uint32(size), at.Start, at.Start+size)
		if err != nil {
			return at, err
		}
		if !ok {
			break
		}
		at.Start += size
	}
	if at.Start > from {
		return at, nil
	}
	id, err := s.r.Identify(ctx)
	if err != nil {
		return at, err
	}
	if at.Start >= s.roundDown(id.Position) {
		return at, cause
	}
	if s.gapTo != at.Start {
		s.gapFrom = at.Start
	}
	at.Start += size
	s.gapTo = at.Start
	return at, nil
}

// recordGap makes known what was passed over, once the server has sent what follows.
func (s *session) recordGap(ctx context.Context) error {
	if s.gapTo == 0 {
		return nil
	}
	g := Gap{System: s.sys, Timeline: s.tli, From: s.gapFrom, To: s.gapTo, Reason: "the server removed this WAL before it was received", Time: s.rc.o.Now().UTC()}
	s.gapFrom, s.gapTo = 0, 0
	s.rc.o.Note(fmt.Sprintf("gap in the WAL from %s to %s: a new backup is needed", g.From, g.To))
	s.rc.update(func(st *ReceiverStatus) { st.Gaps++ })
	return s.rc.repo.RecordGap(ctx, g)
}
