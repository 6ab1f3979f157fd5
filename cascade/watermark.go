package cascade

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// SetGlobalWatermark moves the lowest tick that any node may still need. A root tells all nodes by an event; 0 is its
// own local watermark. A branch ignores a tick that it does not have; a leaf has none, code 100. Errors: ErrNotFound.
func SetGlobalWatermark(ctx context.Context, q pgq.Querier, queue string, tick int64) (Status, error) {
	const setGlobalWatermark = `select ret_code, ret_note from pgq_node.set_global_watermark($1, $2::bigint)`
	return call(ctx, q, "set_global_watermark", setGlobalWatermark, nil, queue, orNull(tick))
}

// SetSubscriberWatermark notes, at the provider, the lowest tick that a subscriber and the nodes below it need. Code
// 405: backwards; 404: no subscriber. A tick that is not here is an error of the server.
func SetSubscriberWatermark(ctx context.Context, q pgq.Querier, queue, node string, tick int64) (Status, error) {
	const setSubscriberWatermark = `select ret_code, ret_note from pgq_node.set_subscriber_watermark($1, $2, $3::bigint)`
	return call(ctx, q, "set_subscriber_watermark", setSubscriberWatermark, nil, queue, node, tick)
}

// SetPartitionWatermark moves the worker of the merge leaf of a part queue, because a branch of the combined queue has
// brought its events up to that tick. Code 201: there is no such leaf behind a branch here.
func SetPartitionWatermark(ctx context.Context, q pgq.Querier, combined, part string, tick int64) (Status, error) {
	const setPartitionWatermark = `select ret_code, ret_note from pgq_node.set_partition_watermark($1, $2, $3::bigint)`
	return call(ctx, q, "set_partition_watermark", setPartitionWatermark, nil, combined, part, tick)
}

// MaintWatermark publishes the global watermark of a root when it lags 5 minutes or more; maintenance calls it too.
func MaintWatermark(ctx context.Context, q pgq.Querier, queue string) error {
	if _, err := q.Exec(ctx, `select pgq_node.maint_watermark($1)`, queue); err != nil {
		return fmt.Errorf("pgq_node.maint_watermark: queue %s: %w", queue, pgq.Classify(err))
	}
	return nil
}

// chores are what the worker of a root does: now and then it publishes the global watermark, when that has moved.
func (w *Worker) chores(ctx context.Context, s WorkerState) error {
	if time.Since(w.marked) < w.o.MarkPeriod {
		return nil
	}
	w.marked = time.Now()
	switch {
	case s.LocalWatermark == s.GlobalWatermark:
		return nil
	case s.LocalWatermark < s.GlobalWatermark:
		w.log.Warn("global watermark is not moved backwards: a consumer stands before it",
			"global_watermark", s.GlobalWatermark, "local_watermark", s.LocalWatermark)
		return nil
	}
	return w.mark(ctx, nil)
}

// mark sets the global watermark of the node; nil: a root's own local watermark.
func (w *Worker) mark(ctx context.Context, tick *int64) error {
	const set = `select ret_code from pgq_node.set_global_watermark($1, $2)`
	err := w.row.inOne(ctx, func(b *pgx.Batch) { b.Queue(set, w.queue, tick) })
	if err != nil {
		return fmt.Errorf("set the global watermark of queue %s: %w", w.queue, err)
	}
	return nil
}

// publish tells the provider, now and then, the lowest tick that this node and those below it need, at most upTo. (commit
// e) That the provider does not take it costs disk there and nothing else, so it stops no batch.
func (w *Worker) publish(ctx context.Context, plan Plan, s WorkerState, prev, upTo int64) error {
	if plan.Report == NoReport || time.Since(w.reported) < w.o.MarkPeriod {
		return nil
	}
	w.reported = time.Now()
	low := s.LocalWatermark
	if plan.Report == ReportPrevious {
		low = prev
	}
	if low = min(low, upTo); low == w.report {
		return w.syncMark(ctx, plan, s)
	}
	low, err := w.link.tickAtMost(ctx, low) // it may have a hole there, as new branches do
	if err != nil || low == 0 {
		return err
	}
	st, err := SetSubscriberWatermark(ctx, w.link.db, w.queue, s.Node, low)
	switch {
	case pgq.ConnectionLost(err):
		return err
	case Code(err) == CodeBackwards:
		w.log.Debug("provider knows a higher watermark of us", "watermark", low, "err", err)
	case err != nil:
		w.log.Warn("provider does not take our watermark", "watermark", low, "provider", s.Provider, "err", err)
	default:
		w.log.Debug("watermark reported", "watermark", low, "note", st.Note)
		w.report = low
	}
	return w.syncMark(ctx, plan, s)
}

// syncMark computes the global watermark of a branch that waits for named nodes: it may stay behind the root's, but not
// pass any of those. Nothing moves while one of them is unknown or cannot be asked.
func (w *Worker) syncMark(ctx context.Context, plan Plan, s WorkerState) error {
	if plan.Mark != RememberMark || w.seenMark == 0 {
		return nil
	}
	members, err := Locations(ctx, w.db, w.queue)
	if err != nil {
		return err
	}
	low := min(s.LocalWatermark, w.seenMark)
	for _, name := range plan.SyncNodes {
		i := slices.IndexFunc(members, func(l Location) bool { return l.Node == name })
		switch {
		case name == s.Node:
			continue
		case i < 0:
			w.log.Warn("attribute sync_watermark names an unknown node, the global watermark stays", "node", name)
			return nil
		case members[i].Dead:
			continue
		}
		mark, err := w.markOf(ctx, members[i])
		if err != nil {
			w.log.Warn("a node of sync_watermark does not answer, the global watermark stays", "node", name, "err", err)
			return nil
		}
		low = min(low, mark)
	}
	if low <= s.GlobalWatermark {
		return nil
	}
	return w.mark(ctx, &low)
}

// markOf asks another node for its local watermark.
func (w *Worker) markOf(ctx context.Context, l Location) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout/2)
	defer cancel()
	db, err := w.o.Open(ctx, l.Location)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	info, err := GetNodeInfo(ctx, db, w.queue)
	return info.LocalWatermark, err
}
