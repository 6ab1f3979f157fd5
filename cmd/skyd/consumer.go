package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
)

// newConsumerCommand builds skyd consumer.
func newConsumerCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "consumer", Short: "register, show and move consumers"}
	cmd.AddCommand(newConsumerRegister(a), newConsumerUnregister(a), newConsumerList(a), newConsumerShow(a), newConsumerSeek(a))
	return cmd
}

// positionFlags say where a consumer is to stand.
type positionFlags struct {
	tick int64
	at   string
	to   string
}

// register declares the flags.
func (p *positionFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Int64Var(&p.tick, "tick", 0, "stand at this tick: what comes after it is consumed")
	f.StringVar(&p.at, "time", "", "stand at the newest tick before this `TIME` (2006-01-02T15:04:05Z, or a duration like 10m ago)")
	f.StringVar(&p.to, "to", "", "stand at the first or last tick that is kept")
	cmd.MarkFlagsMutuallyExclusive("tick", "time", "to")
}

// given reports whether a position was asked for.
func (p *positionFlags) given() bool { return p.tick != 0 || p.at != "" || p.to != "" }

// move moves a registered consumer there and returns the tick it stands at.
func (p *positionFlags) move(ctx context.Context, q pgq.Querier, queue, consumer string) (int64, error) {
	tick := p.tick
	switch {
	case tick != 0:
	case p.at != "":
		moment, err := time.Parse(time.RFC3339, p.at)
		if err != nil {
			d, derr := time.ParseDuration(p.at)
			if derr != nil || d < 0 {
				return 0, usageError("--time must be like 2006-01-02T15:04:05Z, or a duration like 10m (got %q)", p.at)
			}
			moment = time.Now().Add(-d)
		}
		return pgq.Seek(ctx, q, queue, consumer, moment)
	case p.to != "first" && p.to != "last":
		return 0, usageError("--to must be first or last (got %q)", p.to)
	default:
		r, err := pgq.Ticks(ctx, q, queue)
		if err != nil {
			return 0, err
		}
		if tick = r.Last; p.to == "first" {
			tick = r.First
		}
	}
	return tick, pgq.SeekTick(ctx, q, queue, consumer, tick)
}

// newConsumerRegister builds skyd consumer register.
func newConsumerRegister(a *app) *cobra.Command {
	var (
		o objects
		f changeFlags
		p positionFlags
	)
	cmd := &cobra.Command{
		Use:   "register [QUEUE] CONSUMER",
		Short: "register a consumer on a queue",
		Long: `Registers a consumer at the newest tick, or at the one that --tick, --time or --to says. A consumer that is registered
stays where it is; skyd consumer seek moves it.`,
		Example: "  skyd consumer register orders billing --db DSN",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				c := &change{Action: "register", Queue: o.queue, Consumer: o.consumer}
				name := "consumer " + o.consumer + " on queue " + o.queue
				return a.apply(ctx, db, f, c, name+" registered", name+" is registered", func(q pgq.Querier) (err error) {
					if c.Changed, err = pgq.RegisterConsumer(ctx, q, o.queue, o.consumer); err != nil || !c.Changed || !p.given() {
						return err
					}
					c.Tick, err = p.move(ctx, q, o.queue, o.consumer)
					return err
				})
			})
		},
	}
	o.register(cmd, 2)
	f.register(cmd, false)
	p.register(cmd)
	return cmd
}

// newConsumerUnregister builds skyd consumer unregister.
func newConsumerUnregister(a *app) *cobra.Command {
	var (
		o objects
		f changeFlags
	)
	cmd := &cobra.Command{
		Use:   "unregister [QUEUE] CONSUMER",
		Short: "remove a consumer from a queue, with its position and its events waiting for retry",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				infos, err := pgq.QueueConsumerInfos(ctx, db, o.queue)
				if err != nil {
					return err
				}
				for _, i := range infos {
					if i.Consumer != o.consumer {
						continue
					}
					err := a.confirm(f, o.consumer, fmt.Sprintf("consumer %s loses its position on queue %s, with %d event(s) left to consume",
						o.consumer, o.queue, i.PendingEvents))
					if err != nil {
						return err
					}
				}
				c := &change{Action: "unregister", Queue: o.queue, Consumer: o.consumer}
				name := "consumer " + o.consumer + " on queue " + o.queue
				return a.apply(ctx, db, f, c, name+" unregistered", name+" is not registered", func(q pgq.Querier) (err error) {
					c.Count, err = pgq.UnregisterConsumer(ctx, q, o.queue, o.consumer)
					c.Changed = c.Count > 0
					return err
				})
			})
		},
	}
	o.register(cmd, 2)
	f.register(cmd, true)
	return cmd
}

// consumerRow is a consumer in results.
type consumerRow struct {
	Queue    string  `json:"queue"`
	Consumer string  `json:"consumer"`
	Lag      float64 `json:"lag_seconds"`
	LastSeen float64 `json:"last_seen_seconds"`
	LastTick int64   `json:"last_tick"`
	Batch    int64   `json:"current_batch"`
	NextTick int64   `json:"next_tick"`
	Pending  int64   `json:"pending_events"`
}

// consumerRows makes rows of consumers; an empty queue or consumer stands for all.
func consumerRows(infos []pgq.ConsumerInfo, queue, consumer string) []consumerRow {
	rows := []consumerRow{}
	for _, i := range infos {
		if (queue == "" || i.Queue == queue) && (consumer == "" || i.Consumer == consumer) {
			rows = append(rows, consumerRow{
				i.Queue, i.Consumer, i.Lag.Seconds(), i.LastSeen.Seconds(), i.LastTick, i.CurrentBatch, i.NextTick, i.PendingEvents,
			})
		}
	}
	return rows
}

// writeConsumers writes the table of consumers.
func writeConsumers(w io.Writer, rows []consumerRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no consumers; register one with: skyd consumer register QUEUE CONSUMER")
		return err
	}
	var cells [][]any
	for _, r := range rows {
		batch := any("")
		if r.Batch != 0 {
			batch = r.Batch
		}
		cells = append(cells, []any{r.Queue, r.Consumer, r.LastTick, short(r.Lag), short(r.LastSeen), batch, r.Pending})
	}
	return writeTable(w, []any{"QUEUE", "CONSUMER", "TICK", "LAG", "SEEN", "BATCH", "PENDING"}, cells)
}

// newConsumerList builds skyd consumer list.
func newConsumerList(a *app) *cobra.Command {
	var queue string
	cmd := &cobra.Command{
		Use:   "list [QUEUE]",
		Short: "list the consumers of a queue, or of all queues",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				name, err := optionalQueue(ctx, db, queue, args)
				if err != nil {
					return err
				}
				infos, err := pgq.ConsumerInfos(ctx, db)
				if err != nil {
					return err
				}
				rows := consumerRows(infos, name, "")
				return a.show(struct {
					Consumers []consumerRow `json:"consumers"`
				}{rows}, func(w io.Writer) error { return writeConsumers(w, rows) })
			})
		},
	}
	cmd.Flags().StringVar(&queue, "queue", "", "only those of this `QUEUE`")
	return cmd
}

// optionalQueue is the queue of the flag or of the argument, which must be there; empty: all queues.
func optionalQueue(ctx context.Context, q pgq.Querier, flag string, args []string) (string, error) {
	name := flag
	if len(args) > 0 {
		if flag != "" {
			return "", usageError("the queue is given twice: %s and --queue %s", args[0], flag)
		}
		name = args[0]
	}
	if name == "" {
		return "", nil
	}
	return name, knownQueue(ctx, q, name)
}

// newConsumerShow builds skyd consumer show.
func newConsumerShow(a *app) *cobra.Command {
	var o objects
	cmd := &cobra.Command{
		Use:   "show [QUEUE] CONSUMER",
		Short: "show one consumer and the ticks it can be moved to",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				info, err := pgq.GetConsumerInfo(ctx, db, o.queue, o.consumer)
				if err != nil {
					return err
				}
				ticks, err := pgq.Ticks(ctx, db, o.queue)
				if err != nil {
					return err
				}
				r := struct {
					consumerRow
					First     int64     `json:"first_tick"`
					FirstTime time.Time `json:"first_tick_time"`
					Newest    int64     `json:"newest_tick"`
					Time      time.Time `json:"newest_tick_time"`
				}{consumerRows([]pgq.ConsumerInfo{info}, "", "")[0], ticks.First, ticks.FirstTime, ticks.Last, ticks.LastTime}
				return a.show(r, func(w io.Writer) error {
					if err := writeConsumers(w, []consumerRow{r.consumerRow}); err != nil {
						return err
					}
					_, err := fmt.Fprintf(w, "\nticks kept: %d (%s) to %d (%s)\n", r.First, r.FirstTime.Format(time.RFC3339), r.Newest, r.Time.Format(time.RFC3339))
					return err
				})
			})
		},
	}
	o.register(cmd, 2)
	return cmd
}

// newConsumerSeek builds skyd consumer seek.
func newConsumerSeek(a *app) *cobra.Command {
	var (
		o objects
		f changeFlags
		p positionFlags
	)
	cmd := &cobra.Command{
		Use:   "seek [QUEUE] CONSUMER --tick N | --time TIME | --to first|last",
		Short: "move a registered consumer to another tick: back to see events again, forward to skip them",
		Long: `Moves a consumer to a tick that the queue still has, and gives up its open batch. Moving back delivers events again that
were consumed, as far as the queue keeps them; moving forward skips events for good. Asks for the name of the consumer.`,
		Example: "  skyd consumer seek orders billing --time 2h --db DSN --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !p.given() {
				return usageError("where to? give --tick N, --time TIME or --to first|last")
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				return a.seek(ctx, db, o, f, p)
			})
		},
	}
	o.register(cmd, 2)
	f.register(cmd, true)
	p.register(cmd)
	return cmd
}

// seek moves a consumer.
func (a *app) seek(ctx context.Context, db *pgq.DB, o objects, f changeFlags, p positionFlags) error {
	info, err := pgq.GetConsumerInfo(ctx, db, o.queue, o.consumer)
	if err != nil {
		return err
	}
	var tick int64
	err = pgq.Rehearse(ctx, db, func(q pgq.Querier) (err error) {
		tick, err = p.move(ctx, q, o.queue, o.consumer)
		return err
	})
	if err != nil {
		return err
	}
	c := &change{Action: "seek", Queue: o.queue, Consumer: o.consumer, Tick: tick}
	if tick != info.LastTick || info.CurrentBatch != 0 {
		c.Changed = true
		what := "sees events again that it has consumed"
		if tick > info.LastTick {
			what = "never sees the events in between"
		}
		c.Details = []string{fmt.Sprintf("consumer %s moves from tick %d to %d and %s", o.consumer, info.LastTick, tick, what)}
		if info.CurrentBatch != 0 {
			c.Details = append(c.Details, fmt.Sprintf("its open batch %d is given up", info.CurrentBatch))
		}
		if err := a.confirm(f, o.consumer, c.Details...); err != nil {
			return err
		}
	}
	name := "consumer " + o.consumer + " on queue " + o.queue
	return a.apply(ctx, db, f, c, name+" moved", name+fmt.Sprintf(" stands at tick %d", tick), func(q pgq.Querier) error {
		if !c.Changed {
			return nil
		}
		return pgq.SeekTick(ctx, q, o.queue, o.consumer, tick)
	})
}

// newSubconsumerCommand builds skyd subconsumer.
func newSubconsumerCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "subconsumer", Short: "register and show the members of cooperative consumers"}
	cmd.AddCommand(newSubconsumerRegister(a), newSubconsumerUnregister(a), newSubconsumerList(a))
	return cmd
}

// newSubconsumerRegister builds skyd subconsumer register.
func newSubconsumerRegister(a *app) *cobra.Command {
	var (
		o objects
		f changeFlags
	)
	cmd := &cobra.Command{
		Use:     "register [QUEUE] CONSUMER SUBCONSUMER",
		Short:   "add a member to the cooperative group of a consumer",
		Example: "  skyd subconsumer register orders billing worker1 --db DSN",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				c := &change{Action: "register", Queue: o.queue, Consumer: o.consumer, Subconsumer: o.sub}
				name := fmt.Sprintf("subconsumer %s of consumer %s on queue %s", o.sub, o.consumer, o.queue)
				return a.apply(ctx, db, f, c, name+" registered", name+" is registered", func(q pgq.Querier) (err error) {
					c.Changed, err = pgq.RegisterSubconsumer(ctx, q, o.queue, o.consumer, o.sub)
					return err
				})
			})
		},
	}
	o.register(cmd, 3)
	f.register(cmd, false)
	return cmd
}

// newSubconsumerUnregister builds skyd subconsumer unregister.
func newSubconsumerUnregister(a *app) *cobra.Command {
	var (
		o    objects
		f    changeFlags
		drop bool
	)
	cmd := &cobra.Command{
		Use:   "unregister [QUEUE] CONSUMER SUBCONSUMER",
		Short: "remove a member from the cooperative group of a consumer",
		Long: `Removes a member from its group. One with an open batch is refused (exit code 5) without --drop-batch, which gives up the
events of that batch for the whole group. Asks for the name of the subconsumer.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				lines := []string{fmt.Sprintf("subconsumer %s leaves the group of consumer %s on queue %s", o.sub, o.consumer, o.queue)}
				if drop {
					lines = append(lines, "if it has an open batch, the group never sees the events of that batch again")
				}
				members, err := pgq.SubconsumerInfos(ctx, db, o.queue, o.consumer)
				if err != nil {
					return err
				}
				for _, m := range members {
					if m.Name == o.sub {
						if err := a.confirm(f, o.sub, lines...); err != nil {
							return err
						}
					}
				}
				c := &change{Action: "unregister", Queue: o.queue, Consumer: o.consumer, Subconsumer: o.sub}
				name := fmt.Sprintf("subconsumer %s of consumer %s on queue %s", o.sub, o.consumer, o.queue)
				return a.apply(ctx, db, f, c, name+" unregistered", name+" is not registered", func(q pgq.Querier) (err error) {
					c.Changed, err = pgq.UnregisterSubconsumer(ctx, q, o.queue, o.consumer, o.sub, drop)
					return err
				})
			})
		},
	}
	o.register(cmd, 3)
	f.register(cmd, true)
	cmd.Flags().BoolVar(&drop, "drop-batch", false, "also with an open batch: its events are skipped")
	return cmd
}

// subconsumerRow is a member in results.
type subconsumerRow struct {
	Queue       string  `json:"queue"`
	Consumer    string  `json:"consumer"`
	Subconsumer string  `json:"subconsumer"`
	Batch       int64   `json:"current_batch"`
	NextTick    int64   `json:"next_tick"`
	LastSeen    float64 `json:"last_seen_seconds"`
}

// newSubconsumerList builds skyd subconsumer list.
func newSubconsumerList(a *app) *cobra.Command {
	var queue, consumer string
	cmd := &cobra.Command{
		Use:   "list [QUEUE [CONSUMER]]",
		Short: "list the members of cooperative consumers",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				name, err := optionalQueue(ctx, db, queue, args[:min(len(args), 1)])
				if err != nil {
					return err
				}
				if len(args) > 1 {
					consumer = args[1]
				}
				members, err := pgq.SubconsumerInfos(ctx, db, name, consumer)
				if err != nil {
					return err
				}
				rows := []subconsumerRow{}
				var cells [][]any
				for _, m := range members {
					rows = append(rows, subconsumerRow{m.Queue, m.Consumer, m.Name, m.Batch, m.NextTick, m.LastSeen.Seconds()})
					batch := any("")
					if m.Batch != 0 {
						batch = m.Batch
					}
					cells = append(cells, []any{m.Queue, m.Consumer, m.Name, batch, short(m.LastSeen.Seconds())})
				}
				return a.show(struct {
					Subconsumers []subconsumerRow `json:"subconsumers"`
				}{rows}, func(w io.Writer) error {
					if len(rows) == 0 {
						_, err := fmt.Fprintln(w, "no subconsumers")
						return err
					}
					return writeTable(w, []any{"QUEUE", "CONSUMER", "SUBCONSUMER", "BATCH", "SEEN"}, cells)
				})
			})
		},
	}
	cmd.Flags().StringVar(&queue, "queue", "", "only those of this `QUEUE`")
	cmd.Flags().StringVar(&consumer, "consumer", "", "only those of this `CONSUMER`")
	return cmd
}
