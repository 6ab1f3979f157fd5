package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Env is what a handler is given besides its Config.
type Env struct {
	// Queue and Consumer are whose events they are.
	Queue    string
	Consumer string
	// Stdout is where kind stdout prints. Defaults to os.Stdout.
	Stdout io.Writer
	// Log gets what a child process writes to its standard error. Defaults to none.
	Log *slog.Logger
	// Producer inserts what a mover or splitter moves. Defaults to one with the global providers.
	Producer *pgq.Producer
}

// Handler does the work of one consumer: a pgq.BatchTxHandler for the kinds that write to a database, to be run by a
// pgq.Consumer, or by a pgq.RemoteConsumer when Config.Database is another one than the queue's. A Handler is used by
// one consumer at a time.
type Handler struct {
	pgq.Handler
	close func() error
}

// Close ends what the handler keeps running; the consumer must have stopped.
func (h *Handler) Close() error {
	if h.close == nil {
		return nil
	}
	return h.close()
}

// New makes the handler of a valid Config. It does no I/O, except that a secret file is read.
func New(c Config, env Env) (*Handler, error) {
	if faults := c.Validate(); len(faults) > 0 {
		return nil, fmt.Errorf("handler of consumer %s on queue %s: %s %s", env.Consumer, env.Queue, faults[0].Key, faults[0].Problem)
	}
	if env.Stdout == nil {
		env.Stdout = os.Stdout
	}
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if env.Producer == nil {
		env.Producer = pgq.NewProducer(pgq.ProducerOptions{})
	}
	switch c.Kind {
	case "sql":
		return newSQL(c)
	case "http":
		return newHTTP(c, env)
	case "exec":
		return newExec(c, env), nil
	case "mover":
		return newRouter(env.Producer, func(*pgq.Event) (string, error) { return c.TargetQueue, nil }), nil
	case "splitter":
		return newRouter(env.Producer, c.route), nil
	default:
		return newPrinter(env), nil
	}
}

// eventJSON is an event as webhooks, child processes and the printer see it.
type eventJSON struct {
	Queue    string    `json:"queue"`
	Consumer string    `json:"consumer"`
	BatchID  int64     `json:"batch_id"`
	ID       int64     `json:"ev_id"`
	Time     time.Time `json:"ev_time"`
	Txid     int64     `json:"ev_txid"`
	Retry    int       `json:"ev_retry"`
	Type     *string   `json:"ev_type"`
	Data     *string   `json:"ev_data"`
	Extra1   *string   `json:"ev_extra1"`
	Extra2   *string   `json:"ev_extra2"`
	Extra3   *string   `json:"ev_extra3"`
	Extra4   *string   `json:"ev_extra4"`
}

// toJSON is the one form of an event outside of the database.
func toJSON(b *pgq.Batch, ev *pgq.Event) eventJSON {
	return eventJSON{
		Queue: b.Queue, Consumer: b.Consumer, BatchID: b.ID,
		ID: ev.ID, Time: ev.Time, Txid: ev.Txid, Retry: ev.Retry,
		Type: text(ev.Type), Data: text(ev.Data),
		Extra1: text(ev.Extra1), Extra2: text(ev.Extra2), Extra3: text(ev.Extra3), Extra4: text(ev.Extra4),
	}
}

// text is nil for null.
func text(t pgq.Text) *string {
	if !t.Valid {
		return nil
	}
	return &t.String
}

// newPrinter prints each event as one line of JSON.
func newPrinter(env Env) *Handler {
	return &Handler{Handler: pgq.BatchHandler(func(ctx context.Context, b *pgq.Batch) error {
		out := json.NewEncoder(env.Stdout)
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			if err := out.Encode(toJSON(b, ev)); err != nil {
				return fmt.Errorf("print event %d: %w", ev.ID, err)
			}
		}
		return nil
	})}
}
