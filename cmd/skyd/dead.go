package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
)

// newDeadCommand builds skyd event dead.
func newDeadCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "dead", Short: "look at, redrive and purge dead letters: events that a consumer gave up"}
	cmd.AddCommand(newDeadList(a), newDeadShow(a), newDeadRedrive(a), newDeadPurge(a))
	return cmd
}

// deadRow is a dead letter in results.
type deadRow struct {
	ID       int64     `json:"id"`
	Queue    string    `json:"queue"`
	Consumer string    `json:"consumer"`
	Time     time.Time `json:"time"`
	Reason   string    `json:"reason"`
	Event    eventRow  `json:"event"`
}

// newDeadRow makes a row of a dead letter.
func newDeadRow(l pgq.DeadLetter) deadRow {
	return deadRow{l.ID, l.Queue, l.Consumer, l.Time.UTC(), l.Reason, newEventRow(l.Event)}
}

// newDeadList builds skyd event dead list.
func newDeadList(a *app) *cobra.Command {
	var filter pgq.DeadLetterFilter
	cmd := &cobra.Command{
		Use:   "list [QUEUE [CONSUMER]]",
		Short: "list dead letters, the oldest first",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) (err error) {
				if filter.Queue, err = optionalQueue(ctx, db, filter.Queue, args[:min(len(args), 1)]); err != nil {
					return err
				}
				if len(args) > 1 {
					filter.Consumer = args[1]
				}
				letters, err := pgq.DeadLetters(ctx, db, filter)
				if err != nil {
					return err
				}
				rows := make([]deadRow, len(letters))
				var cells [][]any
				for i, l := range letters {
					rows[i] = newDeadRow(l)
					cells = append(cells, []any{
						l.ID, l.Queue, l.Consumer, rows[i].Time.Format(time.RFC3339), rows[i].Event.ID, printable(rows[i].Event.Type), printable(&l.Reason),
					})
				}
				return a.show(struct {
					Dead []deadRow `json:"dead_letters"`
				}{rows}, func(w io.Writer) error {
					if len(rows) == 0 {
						_, err := fmt.Fprintln(w, "no dead letters")
						return err
					}
					return writeTable(w, []any{"ID", "QUEUE", "CONSUMER", "TIME", "EVENT", "TYPE", "REASON"}, cells)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&filter.Queue, "queue", "", "only those of this `QUEUE`")
	f.StringVar(&filter.Consumer, "consumer", "", "only those of this `CONSUMER`")
	f.IntVar(&filter.Limit, "limit", 100, "at most so many (0: all)")
	f.Int64Var(&filter.After, "after", 0, "only those after this `ID`")
	return cmd
}

// deadID reads the number of a dead letter.
func deadID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, usageError("%q is not the id of a dead letter", text)
	}
	return id, nil
}

// newDeadShow builds skyd event dead show.
func newDeadShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "show one dead letter with its event",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := deadID(args[0])
			if err != nil {
				return err
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				l, err := pgq.GetDeadLetter(ctx, db, id)
				if err != nil {
					return err
				}
				r := newDeadRow(l)
				return a.show(r, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "dead letter %d of consumer %s on queue %s\ngiven up at %s: %s\nevent %s\n",
						r.ID, r.Consumer, r.Queue, r.Time.Format(time.RFC3339), printable(&r.Reason), r.Event.line())
					return err
				})
			})
		},
	}
}

// deadFlags choose the dead letters to redrive or purge.
type deadFlags struct {
	queue, consumer string
	all             bool
}

// register declares the flags.
func (d *deadFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.queue, "queue", "", "with --all: of this `QUEUE`")
	cmd.Flags().StringVar(&d.consumer, "consumer", "", "with --all: of this `CONSUMER` only")
	cmd.Flags().BoolVar(&d.all, "all", false, "all of a queue or of one of its consumers")
	cmd.Args = cobra.MaximumNArgs(1)
}

// check reads the id, which excludes --all.
func (d *deadFlags) check(args []string) (id int64, err error) {
	switch {
	case d.all && len(args) > 0:
		return 0, usageError("an ID and --all exclude each other")
	case d.all && d.queue == "":
		return 0, usageError("--all needs --queue QUEUE")
	case d.all:
		return 0, nil
	case len(args) == 0:
		return 0, usageError("which one? give an ID, or --all --queue QUEUE")
	}
	return deadID(args[0])
}

// newDeadRedrive builds skyd event dead redrive.
func newDeadRedrive(a *app) *cobra.Command {
	var (
		f changeFlags
		d deadFlags
	)
	cmd := &cobra.Command{
		Use:   "redrive ID | --all --queue QUEUE [--consumer CONSUMER]",
		Short: "send dead letters back to the consumer that gave them up",
		Long: `Sends dead letters back to the consumer that gave them up, and to no other, with their redeliveries counted anew. One
that is not there any more is nothing to do ("changed": false).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := d.check(args)
			if err != nil {
				return err
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				c := &change{Action: "redrive", Queue: d.queue, Consumer: d.consumer, ID: id}
				return a.apply(ctx, db, f, c, "dead letters sent back to their consumers", "no such dead letter", func(q pgq.Querier) (err error) {
					if d.all {
						c.Count, err = pgq.RedriveDeadLetters(ctx, q, pgq.RedriveFilter{Queue: d.queue, Consumer: d.consumer})
					} else if c.Changed, err = pgq.RedriveDeadLetter(ctx, q, id); c.Changed {
						c.Count = 1
					}
					c.counted()
					return err
				})
			})
		},
	}
	f.register(cmd, false)
	d.register(cmd)
	return cmd
}

// counted tells how many it were.
func (c *change) counted() {
	c.Changed = c.Count > 0
	c.Details = []string{fmt.Sprintf("dead letters: %d", c.Count)}
}

// newDeadPurge builds skyd event dead purge.
func newDeadPurge(a *app) *cobra.Command {
	var (
		f     changeFlags
		d     deadFlags
		older time.Duration
	)
	cmd := &cobra.Command{
		Use:   "purge ID | --all --queue QUEUE [--consumer CONSUMER] [--older-than DURATION]",
		Short: "delete dead letters for good",
		Long:  "Deletes dead letters for good. Asks for the id, or with --all for the name of the queue.",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := d.check(args)
			if err != nil {
				return err
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				name, what := strconv.FormatInt(id, 10), fmt.Sprintf("dead letter %d is deleted for good", id)
				if d.all {
					name, what = d.queue, "the dead letters of queue "+d.queue+" are deleted for good"
				}
				if err := a.confirm(f, name, what); err != nil {
					return err
				}
				c := &change{Action: "purge", Queue: d.queue, Consumer: d.consumer, ID: id}
				return a.apply(ctx, db, f, c, "dead letters deleted", "no such dead letter", func(q pgq.Querier) (err error) {
					if d.all {
						c.Count, err = pgq.PurgeDeadLetters(ctx, q, d.queue, d.consumer, older)
					} else if c.Changed, err = pgq.PurgeDeadLetter(ctx, q, id); c.Changed {
						c.Count = 1
					}
					c.counted()
					return err
				})
			})
		},
	}
	f.register(cmd, true)
	d.register(cmd)
	cmd.Flags().DurationVar(&older, "older-than", 0, "with --all: only those that were given up at least so long ago")
	return cmd
}
