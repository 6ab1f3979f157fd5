//go:build river

package bench

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/skytools/skyd/pgq"
)

// riverAbsent says why River cannot be measured: it can.
const riverAbsent = ""

// riverJob is an event as River has it.
type riverJob struct {
	Data string `json:"data"`
}

// Kind implements river.JobArgs.
func (riverJob) Kind() string { return "bench" }

// riverWorker hands jobs over.
type riverWorker struct {
	river.WorkerDefaults[riverJob]
	got func(data string)
}

// Work implements river.Worker.
func (w *riverWorker) Work(_ context.Context, job *river.Job[riverJob]) error {
	w.got(job.Args.Data)
	return nil
}

func installRiver(ctx context.Context, h *host) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(h.db.Pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// riverClient returns the client that only inserts, made on first use.
func riverClient(h *host, db *pgq.DB) (*river.Client[pgx.Tx], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c, ok := h.clients[db].(*river.Client[pgx.Tx]); ok {
		return c, nil
	}
	c, err := river.NewClient(riverpgxv5.New(db.Pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	if h.clients == nil {
		h.clients = map[*pgq.DB]any{}
	}
	h.clients[db] = c
	return c, nil
}

func riverInsert(ctx context.Context, h *host, db *pgq.DB, data []string) error {
	c, err := riverClient(h, db)
	if err != nil {
		return err
	}
	for _, d := range data {
		if _, err := c.Insert(ctx, riverJob{d}, nil); err != nil {
			return err
		}
	}
	return nil
}

func riverInsertMany(ctx context.Context, h *host, db *pgq.DB, data []string) error {
	c, err := riverClient(h, db)
	if err != nil {
		return err
	}
	params := make([]river.InsertManyParams, len(data))
	for i, d := range data {
		params[i].Args = riverJob{d}
	}
	_, err = c.InsertManyFast(ctx, params)
	return err
}

func fillRiver(ctx context.Context, h *host, n, _ int) error {
	if err := do(ctx, h.db, "truncate river_job"); err != nil {
		return err
	}
	if err := riverInsertMany(ctx, h, h.db, payloads(0, n)); err != nil {
		return err
	}
	return do(ctx, h.db, "vacuum analyze river_job")
}

// workRiver works jobs that do nothing, as many at once as River gets fastest with, and returns when the last one is
// marked completed. Stopping the client takes River seconds; it is not measured.
func workRiver(ctx context.Context, h *host, n, _ int) (done int, err error) {
	var count atomic.Int64
	all, stop, stopped := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		stopped <- riverWork(ctx, h.db, river.Config{FetchCooldown: time.Millisecond}, 1000, func(string) {
			if count.Add(1) == int64(n) {
				close(all)
			}
		}, stop)
	}()
	h.after = func() error {
		close(stop)
		return <-stopped
	}
	select {
	case <-all:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	for done < n && err == nil {
		if done, err = get[int](ctx, h.db, `select count(*) from river_job where state = 'completed'`); err == nil && done < n {
			err = pause(ctx, 10*time.Millisecond)
		}
	}
	return done, err
}

// riverWork runs workers until stop is closed or the context ends, and has their jobs completed.
func riverWork(ctx context.Context, db *pgq.DB, c river.Config, parallel int, got func(data string), stop <-chan struct{}) error {
	c.Workers = river.NewWorkers()
	if err := river.AddWorkerSafely(c.Workers, &riverWorker{got: got}); err != nil {
		return err
	}
	c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: parallel}}
	c.Logger = slog.New(slog.DiscardHandler)
	client, err := river.NewClient(riverpgxv5.New(db.Pool), &c)
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	select {
	case <-stop:
	case <-ctx.Done():
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := client.Stop(settle); err != nil {
		return fmt.Errorf("stop River: %w", err)
	}
	return nil
}

// riverConsume works up to 100 jobs at a time; cooldown is the shortest time between two fetches, 0 River's own.
func riverConsume(cooldown time.Duration) func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error {
	return func(ctx context.Context, _ *host, db *pgq.DB, got func(data string)) error {
		taken := make(chan string, 1000)
		done := make(chan struct{})
		go func() { // deliveries are taken by one goroutine
			defer close(done)
			for data := range taken {
				got(data)
			}
		}()
		err := riverWork(ctx, db, river.Config{FetchCooldown: cooldown}, 100, func(data string) { taken <- data }, nil)
		close(taken)
		<-done
		return err
	}
}
