package cascade

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Types of the cascade's own events.
const (
	typeLocation   = "pgq.location-info"
	typeUnregister = "pgq.unregister-location"
	typeGlobalMark = "pgq.global-watermark"
	typeTickID     = "pgq.tick-id"
)

// order is what a special event asks of a node.
type order struct {
	kind string
	node string
	loc  Location
	tick int64
	part string // queue whose leaf moves
}

// readOrder reads a special event of a queue. The reason, when not empty, is why it is left alone: what cannot be
// understood is copied and stops nobody.
func readOrder(queue string, ev *pgq.Event) (o order, reason string) {
	o.kind = ev.Type.String
	if o.kind != typeTickID && ev.Extra1.String != queue {
		return o, fmt.Sprintf("it is for queue %q", ev.Extra1.String)
	}
	switch o.kind {
	case typeLocation, typeUnregister:
		if !ev.Data.Valid || ev.Data.String == "" {
			return o, "it names no node"
		}
		o.node = ev.Data.String
		if o.kind == typeUnregister {
			return o, ""
		}
		dead, err := strconv.ParseBool(ev.Extra3.String)
		if err != nil && ev.Extra3.Valid {
			return o, fmt.Sprintf("dead is %q, not a boolean", ev.Extra3.String)
		}
		o.loc = Location{Node: o.node, Location: ev.Extra2.String, Dead: dead}
		return o, ""
	case typeGlobalMark, typeTickID:
		tick, err := strconv.ParseInt(ev.Data.String, 10, 64)
		if err != nil || tick <= 0 {
			return o, fmt.Sprintf("%q is no tick", ev.Data.String)
		}
		o.tick, o.part = tick, ev.Extra1.String
		if o.kind == typeTickID && (o.part == queue || o.part == "") {
			return o, fmt.Sprintf("it is about queue %q itself", o.part)
		}
		return o, ""
	}
	return o, "its type is unknown"
}

// act does what a special event asks for, in the transaction of the batch. The reason, when not empty, is why nothing
// was done. An error of the data alone costs the event its effect and nothing else.
func (w *Worker) act(ctx context.Context, tx pgx.Tx, p Plan, ev *pgq.Event) (reason string, err error) {
	o, reason := readOrder(w.queue, ev)
	if reason != "" {
		return reason, nil
	}
	var call func(q pgq.Querier) (Status, error)
	switch {
	case o.kind == typeLocation:
		call = func(q pgq.Querier) (Status, error) {
			s, err := RegisterLocation(ctx, q, w.queue, o.loc)
			if err == nil {
				err = LearnTerm(ctx, q, w.queue, ev.Extra4.String)
			}
			return s, err
		}
	case o.kind == typeUnregister:
		call = func(q pgq.Querier) (Status, error) { return UnregisterLocation(ctx, q, w.queue, o.node) }
	case o.kind == typeGlobalMark && p.Mark == RememberMark:
		w.seenMark = o.tick
		return "", nil
	case o.kind == typeGlobalMark && p.Mark == MoveMark:
		call = func(q pgq.Querier) (Status, error) { return SetGlobalWatermark(ctx, q, w.queue, o.tick) }
	case o.kind == typeTickID && p.TakeTickID:
		call = func(q pgq.Querier) (Status, error) { return SetPartitionWatermark(ctx, q, w.queue, o.part, o.tick) }
	default:
		return "", nil
	}
	var s Status
	err = pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) (err error) { // a savepoint
		s, err = call(sp)
		return err
	})
	switch {
	case err == nil && s.Warning(), Code(err) != 0, dataError(err):
		if err != nil {
			return err.Error(), nil
		}
		return s.Note, nil
	case err != nil:
		return "", fmt.Errorf("event %d of type %s: %w", ev.ID, o.kind, err)
	}
	return "", nil
}

// dataError tells an error that the same event will always meet, from one of the moment.
func dataError(err error) bool {
	switch state := pgq.SQLState(err); {
	case state == "P0001":
		return true
	case len(state) == 5:
		return state[:2] == "22" || state[:2] == "23" // data exceptions, constraints
	}
	return false
}
