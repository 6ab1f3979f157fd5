package actors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/walarchive"
)

// Delays between two attempts of the receiver, and the period in which it tells how far it is.
const (
	receiverBase  = 100 * time.Millisecond
	receiverLimit = 10 * time.Second
	receiverTell  = time.Second
)

// WALReceiver brings WAL into the archive while it is written. What counts is on disk: an incarnation goes on where the
// one before ended, and the server keeps what nobody received.
type WALReceiver struct {
	env    Env
	p      ArchiveParams
	handle ArchiveHandle
	state  reporter
	work   worker
	clock  timers
	fails  int
	last   *atomic.Pointer[walarchive.ReceiverStatus]
	told   walarchive.ReceiverStatus
	ends   int64 // of connections
}

// received is the end of a connection.
type received struct{}

// receiverProps builds the receiver of an archive.
func receiverProps(env Env, p ArchiveParams, handle ArchiveHandle) *actor.Props {
	return newProps(env, kindReceiver, func() actor.Actor {
		return &WALReceiver{
			env: env, p: p, handle: handle, state: reporter{env: env, kind: kindReceiver},
			last: &atomic.Pointer[walarchive.ReceiverStatus]{},
		}
	})
}

// Receive implements actor.Actor.
func (w *WALReceiver) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		w.connect(c)
		w.clock.arm(c, "tell", receiverTell)
	case *actor.Stopping, *actor.Restarting:
		w.clock.stop()
		w.work.halt(haltGrace)
	case messages.ReportStatus:
		w.state.repeat(c)
	case done[received]:
		w.ended(c, m)
	case wake:
		if !w.clock.fired(m) {
			return
		}
		if m.name == "connect" {
			w.connect(c)
			return
		}
		w.tell(c)
		w.clock.arm(c, "tell", receiverTell)
	}
}

// connect starts one connection.
func (w *WALReceiver) connect(c actor.Context) {
	w.state.set(c, messages.Starting, "connecting", nil, time.Time{})
	p, handle, last := w.p, w.handle, w.last
	err := start(&w.work, c, w.env.Context, func(ctx context.Context) (received, error) {
		return received{}, p.Receive(ctx, handle, func(st walarchive.ReceiverStatus) { last.Store(&st) })
	})
	if err != nil {
		panic(err) // one connection at a time
	}
}

// ended comes back after a while; quick while the server was there a moment ago.
func (w *WALReceiver) ended(c actor.Context, d done[received]) {
	if !finish(&w.work, d) {
		return
	}
	w.ends++
	w.told = walarchive.ReceiverStatus{}
	w.tell(c)
	delay := fullJitter(receiverBase, receiverLimit, w.fails)
	w.fails++
	w.state.set(c, messages.Backoff, "the server keeps its WAL in the slot", d.err, time.Now().Add(delay))
	w.clock.arm(c, "connect", delay)
}

// tell passes on how far the receiver is.
func (w *WALReceiver) tell(c actor.Context) {
	st := w.last.Load()
	if st == nil || *st == w.told {
		return
	}
	if st.Connected {
		w.fails = 0
		w.state.set(c, messages.Running, "", nil, time.Time{})
	}
	w.told = *st
	w.env.report(c, messages.ReceiverSeen{Source: w.p.Source, Receiver: messages.ReceiverStatus{
		Connected: st.Connected, Timeline: st.Timeline, Server: uint64(st.Server), Written: uint64(st.Written), Flushed: uint64(st.Flushed),
		Stored: uint64(st.Stored), StoredTime: st.StoredTime, Pending: st.Pending, Gaps: st.Gaps, Trouble: st.Trouble, Restarts: w.ends,
	}})
}
