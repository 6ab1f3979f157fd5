package cascade

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// WorkerState is what the worker of a node reads before each batch. What does not exist is zero.
type WorkerState struct {
	Type NodeType
	Node string
	// Completed is the last tick whose batch is in this database: the truth about the position.
	Completed        int64
	Provider         string
	ProviderLocation string
	// Paused: do nothing. Uptodate: the worker has seen this row; whoever changes the row clears it.
	Paused   bool
	Uptodate bool
	// Error is the last error, empty for none.
	Error  string
	Worker string
	// GlobalWatermark and Top, the newest tick of the local queue, are 0 on a leaf.
	GlobalWatermark int64
	LocalWatermark  int64
	Top             int64
	CombinedQueue   string
	CombinedType    NodeType
	// Attrs are the attributes of the node in their stored form; see ParseAttrs.
	Attrs string
}

// GetWorkerState reads the state of the node's worker. When it is ErrNotFound (no node, no worker row, no location of
// the provider, no node of the combined queue), what was found up to there is filled.
func GetWorkerState(ctx context.Context, q pgq.Querier, queue string) (WorkerState, error) {
	const getWorkerState = `
select ret_code, ret_note, coalesce(node_type, ''), coalesce(node_name, ''), coalesce(completed_tick, 0),
       coalesce(provider_node, ''), coalesce(provider_location, ''), coalesce(paused, false), coalesce(uptodate, false),
       coalesce(cur_error, ''), coalesce(worker_name, ''), coalesce(global_watermark, 0), coalesce(local_watermark, 0),
       coalesce(local_queue_top, 0), coalesce(combined_queue, ''), coalesce(combined_type, ''),
       coalesce((select n.node_attrs from pgq_node.node_info n where n.queue_name = $1), '')
  from pgq_node.get_worker_state($1)`
	var s WorkerState
	_, err := call(ctx, q, "get_worker_state", getWorkerState, []any{
		&s.Type, &s.Node, &s.Completed, &s.Provider, &s.ProviderLocation, &s.Paused, &s.Uptodate, &s.Error,
		&s.Worker, &s.GlobalWatermark, &s.LocalWatermark, &s.Top, &s.CombinedQueue, &s.CombinedType, &s.Attrs,
	}, queue)
	return s, err
}

// ConsumerState is what a cascaded consumer reads before each batch.
type ConsumerState struct {
	Type             NodeType
	Node             string
	Completed        int64
	Provider         string
	ProviderLocation string
	Paused           bool
	Uptodate         bool
	Error            string
}

// GetConsumerState reads the state of a cascaded consumer of this node. When it is ErrNotFound, what was found up to
// there is filled: nothing without a node, type and name without the consumer.
func GetConsumerState(ctx context.Context, q pgq.Querier, queue, consumer string) (ConsumerState, error) {
	const getConsumerState = `
select ret_code, ret_note, coalesce(node_type, ''), coalesce(node_name, ''), coalesce(completed_tick, 0),
       coalesce(provider_node, ''), coalesce(provider_location, ''), coalesce(paused, false), coalesce(uptodate, false),
       coalesce(cur_error, '')
  from pgq_node.get_consumer_state($1, $2)`
	var s ConsumerState
	_, err := call(ctx, q, "get_consumer_state", getConsumerState, []any{
		&s.Type, &s.Node, &s.Completed, &s.Provider, &s.ProviderLocation, &s.Paused, &s.Uptodate, &s.Error,
	}, queue, consumer)
	return s, err
}

// ConsumerInfo is one cascaded consumer of this node, the worker among them.
type ConsumerInfo struct {
	Consumer string
	Provider string
	LastTick int64
	Paused   bool
	Uptodate bool
	Error    string
}

// Consumers lists the cascaded consumers of the node of a queue here, by name.
func Consumers(ctx context.Context, q pgq.Querier, queue string) ([]ConsumerInfo, error) {
	const getConsumers = `
select consumer_name, provider_node, last_tick_id, paused, uptodate, coalesce(cur_error, '')
  from pgq_node.get_consumer_info($1)`
	rows, err := q.Query(ctx, getConsumers, queue)
	if err == nil {
		var list []ConsumerInfo
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ConsumerInfo])
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("pgq_node.get_consumer_info: queue %s: %w", queue, pgq.Classify(err))
}

// RegisterConsumer notes a cascaded consumer of this node at a tick that its provider has. One that exists, code 201,
// gets provider and tick anew and keeps its flags. Errors: ErrNotFound without a node.
func RegisterConsumer(ctx context.Context, q pgq.Querier, queue, consumer, provider string, tick int64) (Status, error) {
	const registerConsumer = `select ret_code, ret_note from pgq_node.register_consumer($1, $2, $3, $4::bigint)`
	return call(ctx, q, "register_consumer", registerConsumer, nil, queue, consumer, provider, tick)
}

// UnregisterConsumer forgets a cascaded consumer of this node; that it was not there is no error.
func UnregisterConsumer(ctx context.Context, q pgq.Querier, queue, consumer string) (Status, error) {
	const unregisterConsumer = `select ret_code, ret_note from pgq_node.unregister_consumer($1, $2)`
	return call(ctx, q, "unregister_consumer", unregisterConsumer, nil, queue, consumer)
}

// ChangeProvider points a consumer of this node, or its worker, to another node; it has not seen that yet (uptodate is
// cleared). Errors: ErrNotFound.
func ChangeProvider(ctx context.Context, q pgq.Querier, queue, consumer, provider string) (Status, error) {
	const changeProvider = `select ret_code, ret_note from pgq_node.change_consumer_provider($1, $2, $3)`
	return call(ctx, q, "change_consumer_provider", changeProvider, nil, queue, consumer, provider)
}

// SetPaused pauses or resumes a consumer of this node; uptodate is cleared by a change and left alone without one, code
// 201. Errors: ErrNotFound.
func SetPaused(ctx context.Context, q pgq.Querier, queue, consumer string, paused bool) (Status, error) {
	const setPaused = `select ret_code, ret_note from pgq_node.set_consumer_paused($1, $2, $3::boolean)`
	return call(ctx, q, "set_consumer_paused", setPaused, nil, queue, consumer, paused)
}

// SetUptodate is how a consumer says that it has seen its row. Errors: ErrNotFound.
func SetUptodate(ctx context.Context, q pgq.Querier, queue, consumer string, uptodate bool) (Status, error) {
	const setUptodate = `select ret_code, ret_note from pgq_node.set_consumer_uptodate($1, $2, $3::boolean)`
	return call(ctx, q, "set_consumer_uptodate", setUptodate, nil, queue, consumer, uptodate)
}

// SetCompleted moves a consumer's position in this database, and clears its error. It belongs into the transaction
// with the batch's effects. Errors: ErrNotFound.
func SetCompleted(ctx context.Context, q pgq.Querier, queue, consumer string, tick int64) (Status, error) {
	const setCompleted = `select ret_code, ret_note from pgq_node.set_consumer_completed($1, $2, $3::bigint)`
	return call(ctx, q, "set_consumer_completed", setCompleted, nil, queue, consumer, tick)
}

// SetError notes the last error of a consumer for people who look; the empty text clears it.
func SetError(ctx context.Context, q pgq.Querier, queue, consumer, text string) (Status, error) {
	const setError = `select ret_code, ret_note from pgq_node.set_consumer_error($1, $2, $3)`
	return call(ctx, q, "set_consumer_error", setError, nil, queue, consumer, orNull(text))
}
