package cascade

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Location is one member of a cascade as a node knows it.
type Location struct {
	Node string
	// Location is the connect string under which other nodes reach it; print it with pgq.MaskDSN only.
	Location string
	// Dead members are left out by administration and by watermarks that wait for named nodes.
	Dead bool
}

// Locations lists the members of the cascade of a queue as this database knows them, by name. A queue without a node
// has none.
func Locations(ctx context.Context, q pgq.Querier, queue string) ([]Location, error) {
	const getLocations = `select node_name, node_location, dead from pgq_node.get_queue_locations($1) order by node_name`
	rows, err := q.Query(ctx, getLocations, queue)
	if err == nil {
		var list []Location
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Location])
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("pgq_node.get_queue_locations: queue %s: %w", queue, pgq.Classify(err))
}

// RegisterLocation notes how a member is reached; an empty location keeps the one that is known. A root tells all
// nodes by an event.
func RegisterLocation(ctx context.Context, q pgq.Querier, queue string, l Location) (Status, error) {
	const registerLocation = `select ret_code, ret_note from pgq_node.register_location($1, $2, $3, $4::boolean)`
	return call(ctx, q, "register_location", registerLocation, nil, queue, l.Node, orNull(l.Location), l.Dead)
}

// UnregisterLocation forgets a member, its subscription with it. A root tells all nodes by an event. Code 301: not
// there; 403: the node itself, or the provider of its worker.
func UnregisterLocation(ctx context.Context, q pgq.Querier, queue, node string) (Status, error) {
	const unregisterLocation = `select ret_code, ret_note from pgq_node.unregister_location($1, $2)`
	return call(ctx, q, "unregister_location", unregisterLocation, nil, queue, node)
}

// Subscriber is a node that reads from this one.
type Subscriber struct {
	Node   string
	Worker string
	// Watermark is the lowest tick that it and the nodes below it need, as it told last.
	Watermark int64
}

// Subscribers lists the nodes that read from the node of a queue here, by name.
func Subscribers(ctx context.Context, q pgq.Querier, queue string) ([]Subscriber, error) {
	const getSubscribers = `
select node_name, worker_name, coalesce(node_watermark, 0) from pgq_node.get_subscriber_info($1) order by node_name`
	rows, err := q.Query(ctx, getSubscribers, queue)
	if err == nil {
		var list []Subscriber
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Subscriber])
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("pgq_node.get_subscriber_info: queue %s: %w", queue, pgq.Classify(err))
}

// RegisterSubscriber makes a node a reader of the node here: its worker stands at the given tick, 0 for the global
// watermark, which is returned; its watermark stands at the global watermark. Code 401: a leaf has no readers. A tick
// that is not here, a node that subscribes already and one without a location are errors of the server.
func RegisterSubscriber(ctx context.Context, q pgq.Querier, queue, node, worker string, tick int64) (globalWatermark int64, s Status, err error) {
	const registerSubscriber = `
select ret_code, ret_note, coalesce(global_watermark, 0) from pgq_node.register_subscriber($1, $2, $3, $4::bigint)`
	s, err = call(ctx, q, "register_subscriber", registerSubscriber, []any{&globalWatermark}, queue, node, worker, orNull(tick))
	return globalWatermark, s, err
}

// UnregisterSubscriber ends the subscription of a node with both its consumers. Code 304: it was none.
func UnregisterSubscriber(ctx context.Context, q pgq.Querier, queue, node string) (Status, error) {
	const unregisterSubscriber = `select ret_code, ret_note from pgq_node.unregister_subscriber($1, $2)`
	return call(ctx, q, "unregister_subscriber", unregisterSubscriber, nil, queue, node)
}

// Attributes of nodes that the contract gives a meaning.
const (
	// AttrSyncWatermark names the nodes, separated by commas, that a branch waits for: see NodeAttrs.
	AttrSyncWatermark = "sync_watermark"
)

// ParseAttrs reads the stored form of attributes: url-encoded pairs. What is no valid escape stays as it is.
func ParseAttrs(stored string) map[string]string {
	attrs := map[string]string{}
	for pair := range strings.SplitSeq(stored, "&") {
		if pair == "" {
			continue
		}
		key, val, _ := strings.Cut(pair, "=")
		attrs[unescape(key)] = unescape(val)
	}
	return attrs
}

func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// FormatAttrs is the stored form of attributes, sorted; empty for none.
func FormatAttrs(attrs map[string]string) string {
	pairs := make([]string, 0, len(attrs))
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(attrs[key]))
	}
	return strings.Join(pairs, "&")
}

// SyncNodes are the nodes named by attribute sync_watermark; nil without it.
func SyncNodes(stored string) []string {
	names, ok := ParseAttrs(stored)[AttrSyncWatermark]
	if !ok {
		return nil
	}
	nodes := []string{}
	for name := range strings.SplitSeq(names, ",") {
		if name = strings.TrimSpace(name); name != "" {
			nodes = append(nodes, name)
		}
	}
	return nodes
}
