package cascade

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// NodeType is the role of a node.
type NodeType string

// The roles.
const (
	Root   NodeType = "root"
	Branch NodeType = "branch"
	Leaf   NodeType = "leaf"
)

// NodeInfo is all about the node of a queue in one database. What does not exist is zero.
type NodeInfo struct {
	// Queue is the queue that was asked for.
	Queue string
	Type  NodeType
	Name  string
	// GlobalWatermark is the lowest tick that any node may still need; 0 on a leaf, which keeps no events.
	GlobalWatermark int64
	// LocalWatermark is the lowest tick that anybody at or below this node needs.
	LocalWatermark int64
	// Provider is the node this one reads from, as its own database has it; a root names itself.
	Provider         string
	ProviderLocation string
	// CombinedQueue takes the events of a merge leaf; CombinedType is what the node of that queue is here.
	CombinedQueue string
	CombinedType  NodeType
	// Worker is the name of the node's worker, its consumer name at the provider.
	Worker   string
	Paused   bool
	Uptodate bool
	// LastTick is the position of the worker; of a root its newest tick.
	LastTick int64
	// Attrs are the attributes in their stored form; see ParseAttrs.
	Attrs string
	// TargetFor are the queues whose merge leafs write into this queue, sorted.
	TargetFor []string
}

// call runs a function of pgq_node whose record begins with ret_code and ret_note, and scans the rest into dest. The
// rest is filled as far as it goes also when the function refuses.
func call(ctx context.Context, q pgq.Querier, fn, sql string, dest []any, args ...any) (Status, error) {
	var (
		code int
		note *string
	)
	err := q.QueryRow(ctx, sql, args...).Scan(append([]any{&code, &note}, dest...)...)
	if err != nil {
		return Status{}, fmt.Errorf("pgq_node.%s: %w", fn, pgq.Classify(err))
	}
	s := Status{Code: code, Note: value(note)}
	if code >= CodeError {
		return s, &StatusError{Func: fn, Code: code, Note: s.Note}
	}
	return s, nil
}

// value is what p points to, or zero.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// orNull is nil for the zero value.
func orNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// GetNodeInfo reads the node of a queue in this database. Errors: ErrNotFound.
func GetNodeInfo(ctx context.Context, q pgq.Querier, queue string) (NodeInfo, error) {
	const getNodeInfo = `
select ret_code, ret_note, coalesce(node_type, ''), coalesce(node_name, ''), coalesce(global_watermark, 0),
       coalesce(local_watermark, 0), coalesce(provider_node, ''), coalesce(provider_location, ''),
       coalesce(combined_queue, ''), coalesce(combined_type, ''), coalesce(worker_name, ''),
       coalesce(worker_paused, false), coalesce(worker_uptodate, false), coalesce(worker_last_tick, 0),
       coalesce(node_attrs, ''), target_for
  from pgq_node.get_node_info($1)`
	i := NodeInfo{Queue: queue}
	_, err := call(ctx, q, "get_node_info", getNodeInfo, []any{
		&i.Type, &i.Name, &i.GlobalWatermark, &i.LocalWatermark, &i.Provider, &i.ProviderLocation,
		&i.CombinedQueue, &i.CombinedType, &i.Worker, &i.Paused, &i.Uptodate, &i.LastTick, &i.Attrs, &i.TargetFor,
	}, queue)
	return i, err
}

// NewNode describes a node to be made.
type NewNode struct {
	Queue string
	Type  NodeType
	Name  string
	// Worker is the name of the node's worker.
	Worker string
	// Provider and Watermark, the global watermark as the provider told it, are of branches and leafs; zero of a root.
	Provider  string
	Watermark int64
	// Combined is the queue that a merge leaf writes into; it has a node here already. Empty: none.
	Combined string
}

// CreateNode makes this database a node of a cascade. The locations of the node and of its provider are registered
// before. Code 401: the node exists, or the fields do not fit the type.
func CreateNode(ctx context.Context, q pgq.Querier, n NewNode) (Status, error) {
	const createNode = `select ret_code, ret_note from pgq_node.create_node($1, $2, $3, $4, $5, $6::bigint, $7)`
	return call(ctx, q, "create_node", createNode, nil, n.Queue, string(n.Type), n.Name, n.Worker,
		orNull(n.Provider), orNull(n.Watermark), orNull(n.Combined))
}

// DropNode removes a node; it is run on every member. On the node itself it drops the queue with all its consumers.
// Code 405: the node is its own provider and has others around it.
func DropNode(ctx context.Context, q pgq.Querier, queue, node string) (Status, error) {
	const dropNode = `select ret_code, ret_note from pgq_node.drop_node($1, $2)`
	return call(ctx, q, "drop_node", dropNode, nil, queue, node)
}

// SetNodeAttrs replaces the attributes of the node in this database; see FormatAttrs. Errors: ErrNotFound.
func SetNodeAttrs(ctx context.Context, q pgq.Querier, queue, attrs string) (Status, error) {
	const setNodeAttrs = `select ret_code, ret_note from pgq_node.set_node_attrs($1, $2)`
	return call(ctx, q, "set_node_attrs", setNodeAttrs, nil, queue, orNull(attrs))
}

// IsRoot tells whether the node of a queue here is its root. A queue without a node is an error.
func IsRoot(ctx context.Context, q pgq.Querier, queue string) (bool, error) {
	return callBool(ctx, q, "is_root_node", `select pgq_node.is_root_node($1)`, queue)
}

// IsLeaf tells whether the node of a queue here is a leaf. A queue without a node is an error.
func IsLeaf(ctx context.Context, q pgq.Querier, queue string) (bool, error) {
	return callBool(ctx, q, "is_leaf_node", `select pgq_node.is_leaf_node($1)`, queue)
}

func callBool(ctx context.Context, q pgq.Querier, fn, sql, queue string) (bool, error) {
	var is bool
	if err := q.QueryRow(ctx, sql, queue).Scan(&is); err != nil {
		return false, fmt.Errorf("pgq_node.%s: queue %s: %w", fn, queue, pgq.Classify(err))
	}
	return is, nil
}

// LocalNode is one line of LocalNodes.
type LocalNode struct {
	Queue  string
	Node   string
	Type   NodeType
	Worker string
}

// LocalNodes lists the nodes of all queues in this database, by queue.
func LocalNodes(ctx context.Context, q pgq.Querier) ([]LocalNode, error) {
	const list = `select queue_name, node_name, node_type, coalesce(worker_name, '') from pgq_node.node_info order by queue_name`
	rows, err := q.Query(ctx, list)
	if err == nil {
		var nodes []LocalNode
		nodes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[LocalNode])
		if err == nil {
			return nodes, nil
		}
	}
	return nil, fmt.Errorf("list the nodes of this database: %w", pgq.Classify(err))
}

// DemoteRoot runs one step of taking the role of root away, each in a transaction of its own: 1 closes the queue, 2
// makes the final tick, 3 makes the node a branch of newProvider, which steps 1 and 2 ignore. Steps 2 and 3 return the
// final tick. Step 2 is not to be repeated: each call makes a tick more. The status of a node that is no root is a
// warning, code 301.
func DemoteRoot(ctx context.Context, q pgq.Querier, queue string, step int, newProvider string) (lastTick int64, s Status, err error) {
	const demoteRoot = `select ret_code, ret_note, coalesce(last_tick, 0) from pgq_node.demote_root($1, $2::int, $3)`
	s, err = call(ctx, q, "demote_root", demoteRoot, []any{&lastTick}, queue, step, orNull(newProvider))
	return lastTick, s, err
}

// PromoteBranch makes the branch a root and opens its queue. It checks nothing but the type: a node that is no branch
// gives a warning, code 301.
func PromoteBranch(ctx context.Context, q pgq.Querier, queue string) (Status, error) {
	const promoteBranch = `select ret_code, ret_note from pgq_node.promote_branch($1)`
	return call(ctx, q, "promote_branch", promoteBranch, nil, queue)
}

// Installed tells whether the database has schema pgq_node, and its version.
func Installed(ctx context.Context, q pgq.Querier) (version string, ok bool, err error) {
	const lookup = `select pg_catalog.to_regprocedure('pgq_node.version()') is not null`
	if err := q.QueryRow(ctx, lookup).Scan(&ok); err != nil {
		return "", false, fmt.Errorf("look for schema pgq_node: %w", pgq.Classify(err))
	}
	if !ok {
		return "", false, nil
	}
	if version, err = Version(ctx, q); err != nil {
		return "", false, err
	}
	return version, true, nil
}

// Version asks schema pgq_node for its version.
func Version(ctx context.Context, q pgq.Querier) (string, error) {
	var v string
	if err := q.QueryRow(ctx, `select coalesce(pgq_node.version()::text, '')`).Scan(&v); err != nil {
		return "", fmt.Errorf("pgq_node.version: %w", pgq.Classify(err))
	}
	return v, nil
}

// UpgradeSchema runs the contract's own helper, which does nothing in an up-to-date schema; it returns how many changes
// it made.
func UpgradeSchema(ctx context.Context, q pgq.Querier) (int, error) {
	var n int
	if err := q.QueryRow(ctx, `select pgq_node.upgrade_schema()`).Scan(&n); err != nil {
		return 0, fmt.Errorf("pgq_node.upgrade_schema: %w", pgq.Classify(err))
	}
	return n, nil
}
