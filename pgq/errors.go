package pgq

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Errors of the contract. They are matched with errors.Is; the server's own
// error stays reachable with errors.As(err, *pgconn.PgError).
var (
	// ErrNotInstalled: the database has no schema pgq, or not the function called.
	ErrNotInstalled = errors.New("pgq is not installed in this database")
	// ErrClosed: the DB was closed by its owner.
	ErrClosed = errors.New("database is closed")
	// ErrQueueNotFound: no queue of this name.
	ErrQueueNotFound = errors.New("queue not found")
	// ErrQueueDisabled: the queue is closed for writing (queue_disable_insert).
	ErrQueueDisabled = errors.New("queue is closed for writing")
	// ErrQueueInUse: the queue has consumers and cannot be dropped without force.
	ErrQueueInUse = errors.New("queue has consumers")
	// ErrTxLimit: the transaction already inserted queue_per_tx_limit events.
	ErrTxLimit = errors.New("limit of events per transaction reached")
	// ErrTickerPaused: the queue's ticker is paused.
	ErrTickerPaused = errors.New("ticker is paused for this queue")
	// ErrTickerExternal: ticks of this queue come from outside.
	ErrTickerExternal = errors.New("queue has an external ticker")
	// ErrTickerRefused: an external tick for a queue that is missing, paused,
	// or not set to external ticks.
	ErrTickerRefused = errors.New("queue takes no external ticks")
	// ErrTickNotFound: the tick a consumer was to be moved to does not exist.
	ErrTickNotFound = errors.New("tick not found")
	// ErrNotKept: events of that time are not kept any more.
	ErrNotKept = errors.New("events of that time are not kept any more")
	// ErrPositionLost: the tick a consumer stands at does not exist any more.
	ErrPositionLost = errors.New("position of the consumer is lost")
	// ErrOutOfStep: queue and target database of a RemoteConsumer do not fit.
	ErrOutOfStep = errors.New("queue and target are out of step")
	// ErrFutureTick: the newest tick lies in the future of this cluster's
	// transaction ids, as after a logical restore into a younger cluster.
	ErrFutureTick = errors.New("ticks are ahead of this server's transaction ids")
	// ErrNotSubscribed: the consumer is not registered on the queue, or the
	// queue does not exist.
	ErrNotSubscribed = errors.New("consumer is not registered on the queue")
	// ErrBatchGone: the batch is not open any more: finished by another
	// session, or its consumer was moved or unregistered.
	ErrBatchGone = errors.New("batch is not open any more")
	// ErrOrdered: a call that would break the order of an ordered group.
	ErrOrdered = errors.New("an ordered group sends no events to the retry queue")
	// ErrBatchOpen: the call needs a consumer without an open batch.
	ErrBatchOpen = errors.New("consumer has an open batch")
	// ErrEventNotFound: the event is not in the batch (the C extension says so
	// for a batch that is gone, too).
	ErrEventNotFound = errors.New("event not found in batch")
	// ErrNotDetached: the consumer was not detached, or has come back since.
	ErrNotDetached = errors.New("consumer is not detached")
	// ErrDeadLetterNotFound: the dead letter does not exist (any more).
	ErrDeadLetterNotFound = errors.New("dead letter not found")
	// ErrBadParameter: not a parameter of a queue, or a null where a name is needed.
	ErrBadParameter = errors.New("bad parameter")
	// ErrHandlerPanic: a handler panicked; the text holds the value and the stack.
	ErrHandlerPanic = errors.New("handler panicked")
	// ErrNotOwnTransaction: the call needs a transaction of its own and was
	// given one that has already written something.
	ErrNotOwnTransaction = errors.New("call needs a transaction of its own")
	// ErrIsolation: the call needs isolation level read committed.
	ErrIsolation = errors.New("call needs isolation level read committed")
)

// messages maps texts of raise exception (in lower case, % for any text) to
// sentinels. The C extension raises plain exceptions only (P0001, and XX000
// from C code), and SQLSTATEs are too coarse for ours, so the text decides.
// Names come last in the texts or between words, so a queue with a funny name
// is not taken for a message. The first match wins.
var messages = []struct {
	pattern string
	kind    error
}{
	{"queue not found or ticker disabled", ErrTickerRefused}, // extension: ticker with 4 arguments
	{"queue % makes its own ticks, external ticks are refused", ErrTickerRefused},
	{"queue not found", ErrQueueNotFound},
	{"no such queue", ErrQueueNotFound},
	{"no such event queue", ErrQueueNotFound},
	{"event queue not found", ErrQueueNotFound},
	{"event queue not created", ErrQueueNotFound},
	{"consumer % is not registered on queue", ErrNotSubscribed},
	{"consumer % was unregistered from queue", ErrNotSubscribed},
	{"not subscriber to queue", ErrNotSubscribed},
	{"consumer not registered", ErrNotSubscribed},
	{"lease lost", ErrLeaseLost},
	{"consumer % was not detached from queue", ErrNotDetached},
	{"consumer % is registered on queue % by now", ErrNotDetached},
	{"batch not found", ErrBatchGone},
	{"batch of group is gone", ErrBatchGone},
	{"group % is not registered on queue", ErrNotSubscribed},
	{"group % on queue % exists with key", ErrBadParameter},
	{"unknown key field", ErrBadParameter},
	{"number of slots must be", ErrBadParameter},
	{"batch_retry: batch % not found", ErrBatchGone},
	{"subconsumer % has an open batch", ErrBatchOpen},
	{"main consumer % has an open batch", ErrBatchOpen},
	{"subconsumer has active batch", ErrBatchOpen}, // original pgq_coop
	{"main consumer batch not null", ErrBatchOpen}, // original pgq_coop
	{"event not found", ErrEventNotFound},
	{"cannot drop queue", ErrQueueInUse},
	{"tick not found", ErrTickNotFound},
	{"events of queue % are not kept", ErrNotKept},
	{"cannot reposition, tick not found", ErrTickNotFound},
	{"position of % is gone", ErrPositionLost},
	{"pgq corruption: % does not see tick", ErrPositionLost},
	{"ticker of queue % is paused", ErrTickerPaused},
	{"ticker has been paused", ErrTickerPaused},
	{"queue % has an external ticker", ErrTickerExternal},
	{"this queue has external tick source", ErrTickerExternal},
	{"insert into queue disallowed", ErrQueueDisabled},
	{"writing to queue disabled", ErrQueueDisabled},
	{"transaction inserted % events into queue", ErrTxLimit},
	{"queue % allows max % events from one tx", ErrTxLimit},
	{"tick % lies in the future", ErrFutureTick},
	{"invalid pgq state", ErrFutureTick},
	{"unknown queue parameter", ErrBadParameter},
	{"cannot change parameter", ErrBadParameter},
	{"unknown action of a consumer limit", ErrBadParameter},
	{"limit of consumer % cannot be measured", ErrBadParameter},
	{"queue name%null", ErrBadParameter},
	{"invalid null value", ErrBadParameter},
}

// matches tells whether text starts as the pattern does, with any text for %.
func matches(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "%")
	text, ok := strings.CutPrefix(text, first)
	for ok && wild {
		first, rest, wild = strings.Cut(rest, "%")
		_, text, ok = strings.Cut(text, first)
	}
	return ok
}

// kindError gives a server error its sentinel without changing its text.
type kindError struct {
	kind  error
	cause error
}

func (e *kindError) Error() string   { return e.cause.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.cause} }

// Classify attaches the sentinel that belongs to a server error, for packages
// that have SQL calls of their own. Errors it does not know, and nil, come back
// as they are.
func Classify(err error) error { return classify(err) }

// classify attaches the sentinel that belongs to a server error. Errors it
// does not know, and nil, come back as they are.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return err
	}
	if kind := kindOf(pe); kind != nil && !errors.Is(err, kind) {
		return &kindError{kind: kind, cause: err}
	}
	return err
}

func kindOf(pe *pgconn.PgError) error {
	switch pe.Code {
	case "3F000": // invalid_schema_name
		return ErrNotInstalled
	case "42883", "42P01": // undefined_function, undefined_table
		if strings.Contains(pe.Message, "pgq.") || strings.Contains(pe.Message, "pgq_coop.") || strings.Contains(pe.Message, "pgq_ext.") || strings.Contains(pe.Message, "pgq_node.") {
			return ErrNotInstalled
		}
		return nil
	case "42501": // insufficient_privilege: the text names objects, not states
		return nil
	}
	switch class(pe.Code) {
	case "08", "40", "53", "57", "58":
		return nil
	}
	text := strings.ToLower(pe.Message)
	for _, m := range messages {
		if matches(m.pattern, text) {
			return m.kind
		}
	}
	return nil
}

func class(code string) string {
	if len(code) < 2 {
		return ""
	}
	return code[:2]
}

// SQLState returns the server's error code, or "" when the error did not come
// from the server.
func SQLState(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

// ConnectionLost tells whether the connection is of no more use and a new one
// should be made, with the host name resolved anew: it broke, could not be
// made, the server is going down or coming up, or it has become read-only
// under us (a role flip).
func ConnectionLost(err error) bool {
	if err == nil {
		return false
	}
	if code := SQLState(err); code != "" {
		switch code {
		case "57P01", "57P02", "57P03", "57P05", "25P03", "25006":
			// admin_shutdown, crash_shutdown, cannot_connect_now,
			// idle_session_timeout, idle_in_transaction_session_timeout,
			// read_only_sql_transaction
			return true
		}
		return class(code) == "08"
	}
	var (
		ce *pgconn.ConnectError
		ne net.Error
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &ce), errors.As(err, &ne):
		return true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return true
	}
	// pgx has no sentinel for a connection that was closed earlier.
	text := err.Error()
	return strings.Contains(text, "conn closed") || strings.Contains(text, "closed connection")
}

// ReadOnly tells whether the server refused a write because it is read-only: a
// standby, or a primary that was demoted; also when none of the hosts of a DSN
// takes writes and it asks for one that does.
func ReadOnly(err error) bool {
	if err == nil {
		return false
	}
	// pgx has no sentinel for what target_session_attrs refuses.
	return SQLState(err) == "25006" || strings.Contains(err.Error(), "ValidateConnect failed: read only connection")
}

// Outage tells whether the server, or the way to it, is at fault, and not what
// was asked of it: lost connections, role flips, timeouts, a full disk or too
// many connections. It ends without anybody changing the question, so it pays to
// ask again soon.
func Outage(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if ConnectionLost(err) || pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	switch class(SQLState(err)) {
	case "53", "58": // insufficient resources, system errors
		return true
	}
	return false
}

// Retryable tells whether the same call may succeed later without anybody
// changing anything: lost connections, serialization failures, deadlocks, lock
// and statement timeouts, and a server short of resources. A call that broke
// at commit may have taken effect; retry only what is idempotent or finishes a
// batch. It is false for cancelled contexts, and never true together with
// Permanent.
func Retryable(err error) bool {
	if err == nil || Permanent(err) {
		return false
	}
	if ConnectionLost(err) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) {
		return !errors.Is(err, context.Canceled)
	}
	code := SQLState(err)
	switch code {
	case "55P03", "57014", "55006": // lock_not_available, query_canceled, object_in_use
		return true
	}
	switch class(code) {
	case "40", "53", "58":
		return true
	}
	return false
}

// permanent lists the sentinels no retry cures.
var permanent = []error{
	ErrNotInstalled, ErrQueueNotFound, ErrNotSubscribed, ErrPositionLost, ErrFutureTick, ErrOutOfStep,
	ErrTickNotFound, ErrBadParameter, ErrNotOwnTransaction, ErrIsolation, ErrClosed,
}

// Permanent tells whether somebody has to change something before the call can
// succeed: a bad DSN, refused credentials, a missing database, schema, queue,
// registration or permission.
func Permanent(err error) bool {
	if err == nil {
		return false
	}
	for _, p := range permanent {
		if errors.Is(err, p) {
			return true
		}
	}
	var pc *pgconn.ParseConfigError
	var de *dsnError
	if errors.As(err, &pc) || errors.As(err, &de) {
		return true
	}
	switch code := SQLState(err); code {
	case "3D000", "42501", "42883", "42P01", "42703", "42601":
		return true
	default:
		return class(code) == "28"
	}
}
