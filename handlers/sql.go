package handlers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// pipelined is how many statements are sent before their answers are read.
const pipelined = 200

// transactional is a handler whose transaction settles the batch: in the queue's database, or in the target of a
// pgq.RemoteConsumer.
func transactional(f func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error) *Handler {
	return &Handler{Handler: pgq.BatchTxHandler(f)}
}

// newSQL runs a statement for each event, in the transaction that settles the batch.
func newSQL(c Config) (*Handler, error) {
	text, names, err := parseNamed(c.Statement)
	if err != nil {
		return nil, err
	}
	return transactional(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
		var (
			queued pgx.Batch
			ids    []int64
		)
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			args := make([]any, len(names))
			for i, name := range names {
				args[i] = argument(name, b, ev)
			}
			queued.Queue(text, args...)
			if ids = append(ids, ev.ID); len(ids) == pipelined {
				if err := run(ctx, tx, &queued, ids); err != nil {
					return err
				}
				queued, ids = pgx.Batch{}, ids[:0]
			}
		}
		return run(ctx, tx, &queued, ids)
	}), nil
}

// run sends the queued statements; an error names the event whose statement failed.
func run(ctx context.Context, tx pgx.Tx, queued *pgx.Batch, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	results := tx.SendBatch(ctx, queued)
	for _, id := range ids {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return fmt.Errorf("statement for event %d: %w", id, err)
		}
	}
	return results.Close()
}

// route is the queue for an event of a splitter.
func (c Config) route(ev *pgq.Event) (string, error) {
	value := field(c.RouteBy, ev)
	if queue, ok := c.Routes[value.String]; ok && value.Valid {
		return queue, nil
	}
	if len(c.Routes) == 0 && value.Valid && value.String != "" {
		return value.String, nil
	}
	if c.DefaultQueue != "" {
		return c.DefaultQueue, nil
	}
	return "", fmt.Errorf("event %d has no route: %s is %q; add a route for it or a default_queue", ev.ID, c.RouteBy, value.String)
}

// newRouter copies each event into the queue that route says: type, data and extra fields as they are.
func newRouter(producer *pgq.Producer, route func(*pgq.Event) (string, error)) *Handler {
	return transactional(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
		pending, size := map[string][]pgq.NewEvent{}, 0
		flush := func() error {
			for queue, events := range pending {
				if _, err := producer.InsertBatch(ctx, tx, queue, events); err != nil {
					return err
				}
			}
			pending, size = map[string][]pgq.NewEvent{}, 0
			return nil
		}
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			queue, err := route(ev)
			if err != nil {
				return err
			}
			pending[queue] = append(pending[queue], pgq.NewEvent{
				Type: ev.Type, Data: ev.Data, Extra1: ev.Extra1, Extra2: ev.Extra2, Extra3: ev.Extra3, Extra4: ev.Extra4,
			})
			if size++; size == batchSize {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return flush()
	})
}
