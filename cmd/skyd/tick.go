package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
)

// tickRow is the tick of one queue.
type tickRow struct {
	Queue   string `json:"queue"`
	Changed bool   `json:"changed"`
	Tick    int64  `json:"tick"`
	Note    string `json:"note,omitempty"`
}

// newTickCommand builds skyd tick.
func newTickCommand(a *app) *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "tick [QUEUE]",
		Short: "force a tick now: what was committed becomes a batch",
		Long: `Forces a tick of one queue, or of every queue that is neither paused nor ticked from outside. A named queue that is paused
is refused (exit code 5).`,
		Example: "  skyd tick orders --db DSN",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				queues := args
				var err error
				if len(args) == 0 {
					queues, err = queueNames(ctx, db)
				} else {
					err = knownQueue(ctx, db, args[0])
				}
				if err != nil {
					return err
				}
				rows, err := forceTicks(ctx, db, queues, len(args) == 1, f.dryRun)
				if err != nil {
					return err
				}
				return a.show(struct {
					DryRun bool      `json:"dry_run"`
					Ticks  []tickRow `json:"ticks"`
				}{f.dryRun, rows}, func(w io.Writer) error {
					var cells [][]any
					for _, r := range rows {
						cells = append(cells, []any{r.Queue, r.Tick, r.Note})
					}
					return writeTable(w, []any{"QUEUE", "TICK", "NOTE"}, cells)
				})
			})
		},
	}
	f.register(cmd, false)
	return cmd
}

// forceTicks ticks the queues. A queue that may not be ticked is an error when it was named, else a note.
func forceTicks(ctx context.Context, db *pgq.DB, queues []string, named, dryRun bool) ([]tickRow, error) {
	rows := []tickRow{}
	for _, queue := range queues {
		info, err := pgq.GetQueueInfo(ctx, db, queue)
		if err != nil {
			return nil, err
		}
		r := tickRow{Queue: queue, Tick: info.LastTick}
		switch {
		case info.TickerPaused:
			r.Note, err = "is paused", pgq.ErrTickerPaused
		case info.ExternalTicker:
			r.Note, err = "is ticked from outside", pgq.ErrTickerExternal
		case dryRun:
			r.Note = "would be ticked"
		default:
			if r.Tick, err = forceTick(ctx, db, queue); err != nil {
				return nil, err
			}
			r.Changed = true
		}
		if err != nil && named {
			return nil, fmt.Errorf("tick queue %s: %w", queue, err)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// forceTick makes a tick, or sees that another ticker made the one that was asked for.
func forceTick(ctx context.Context, db *pgq.DB, queue string) (int64, error) {
	before, err := pgq.ForceTick(ctx, db, queue)
	if err != nil {
		return 0, err
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		tick, made, err := pgq.Tick(ctx, db, queue)
		if err != nil || made && tick > before {
			return tick, err
		}
		info, err := pgq.GetQueueInfo(ctx, db, queue)
		if err != nil || info.LastTick > before {
			return info.LastTick, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("tick queue %s: another session holds its ticker", queue), ctx.Err())
		}
	}
}
