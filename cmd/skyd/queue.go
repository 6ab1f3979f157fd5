package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// queueKeys are the parameters of pgq.set_queue_config.
var queueKeys = []string{"external_ticker", "rotation_period", "ticker_idle_period", "ticker_max_count", "ticker_max_lag", "ticker_paused"}

// newQueueCommand builds skyd queue.
func newQueueCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "create, drop, show and set up queues"}
	cmd.AddCommand(newQueueCreate(a), newQueueDrop(a), newQueueList(a), newQueueShow(a), newQueueSet(a),
		newQueuePause(a, "pause", true), newQueuePause(a, "resume", false))
	return cmd
}

// setting is one key=value.
type setting struct{ key, value string }

// parseSettings reads key=value arguments.
func parseSettings(args []string) ([]setting, error) {
	var list []setting
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usageError("%q is not of the form key=value", arg)
		}
		key = strings.TrimPrefix(key, "queue_") // also under its full name
		if !slices.Contains(queueKeys, key) {
			return nil, usageError("a queue has no parameter %q%s", key, configs.DidYouMean(key, queueKeys))
		}
		list = append(list, setting{key, value})
	}
	return list, nil
}

// set applies settings and notes those that changed something.
func set(ctx context.Context, q pgq.Querier, queue string, settings []setting, c *change) error {
	before, err := pgq.GetQueueInfo(ctx, q, queue)
	if err != nil {
		return err
	}
	for _, s := range settings {
		if err := pgq.SetQueueConfig(ctx, q, queue, s.key, s.value); err != nil {
			return err
		}
	}
	after, err := pgq.GetQueueInfo(ctx, q, queue)
	old, now := settingsOf(before), settingsOf(after)
	for _, key := range queueKeys {
		if old[key] != now[key] {
			c.Changed = true
			c.Details = append(c.Details, fmt.Sprintf("%s: %s (was %s)", key, now[key], old[key]))
		}
	}
	return err
}

// settingsOf are the settings of a queue as texts.
func settingsOf(i pgq.QueueInfo) map[string]string {
	return map[string]string{
		"external_ticker": strconv.FormatBool(i.ExternalTicker), "rotation_period": configs.DurationText(i.RotationPeriod),
		"ticker_idle_period": configs.DurationText(i.TickerIdlePeriod), "ticker_max_count": strconv.Itoa(i.TickerMaxCount),
		"ticker_max_lag": configs.DurationText(i.TickerMaxLag), "ticker_paused": strconv.FormatBool(i.TickerPaused),
	}
}

// newQueueCreate builds skyd queue create.
func newQueueCreate(a *app) *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:     "create NAME [key=value...]",
		Short:   "create a queue, or set up one that is there",
		Example: "  skyd queue create orders ticker_max_lag='1 s' --db DSN",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parseSettings(args[1:])
			if err != nil {
				return err
			}
			name := args[0]
			c := &change{Action: "create", Queue: name}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				return a.apply(ctx, db, f, c, "queue "+name+" created", "queue "+name+" exists", func(q pgq.Querier) error {
					created, err := pgq.CreateQueue(ctx, q, name)
					c.Changed = created
					if err != nil || len(settings) == 0 {
						return err
					}
					return set(ctx, q, name, settings, c)
				})
			})
		},
	}
	f.register(cmd, false)
	return cmd
}

// newQueueDrop builds skyd queue drop.
func newQueueDrop(a *app) *cobra.Command {
	var (
		f               changeFlags
		force, ifExists bool
	)
	cmd := &cobra.Command{
		Use:   "drop NAME",
		Short: "drop a queue with its events",
		Long: `Drops a queue with all events it holds. A queue that has consumers is refused (exit code 5) without --force, which
unregisters them. Asks for the name of the queue; --yes does not.`,
		Example: "  skyd queue drop orders --db DSN --dry-run",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			c := &change{Action: "drop", Queue: name}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				err := knownQueue(ctx, db, name)
				if ifExists && errors.Is(err, pgq.ErrQueueNotFound) {
					return a.apply(ctx, db, f, c, "", "there is no queue "+name, func(pgq.Querier) error { return nil })
				}
				if err != nil {
					return err
				}
				lines, err := dropConsequences(ctx, db, name, force)
				if err != nil {
					return err
				}
				if err := a.confirm(f, name, lines...); err != nil {
					return err
				}
				c.Details = lines
				return a.apply(ctx, db, f, c, "queue "+name+" dropped", "", func(q pgq.Querier) error {
					c.Changed = true
					return pgq.DropQueue(ctx, q, name, force)
				})
			})
		},
	}
	f.register(cmd, true)
	cmd.Flags().BoolVar(&force, "force", false, "also when it has consumers: unregister them")
	cmd.Flags().BoolVar(&ifExists, "if-exists", false, "a queue that is not there is no error")
	return cmd
}

// dropConsequences says what goes with a queue.
func dropConsequences(ctx context.Context, q pgq.Querier, name string, force bool) ([]string, error) {
	consumers, err := pgq.QueueConsumerInfos(ctx, q, name)
	if err != nil {
		return nil, err
	}
	if len(consumers) > 0 && !force {
		return nil, fmt.Errorf("drop queue %s: %w: %d", name, pgq.ErrQueueInUse, len(consumers))
	}
	lines := []string{"queue " + name + " is dropped with all its events"}
	for _, c := range consumers {
		if force {
			lines = append(lines, fmt.Sprintf("consumer %s is unregistered, with %d event(s) left to consume", c.Consumer, c.PendingEvents))
		}
	}
	return lines, nil
}

// queueRow is a queue in results.
type queueRow struct {
	Name            string    `json:"name"`
	LastTick        int64     `json:"last_tick"`
	TickerLag       float64   `json:"ticker_lag_seconds"`
	EventsPerSecond float64   `json:"events_per_second"`
	NewEvents       int64     `json:"new_events"`
	Consumers       int       `json:"consumers"`
	Paused          bool      `json:"ticker_paused"`
	External        bool      `json:"external_ticker"`
	MaxCount        int       `json:"ticker_max_count"`
	MaxLag          float64   `json:"ticker_max_lag_seconds"`
	IdlePeriod      float64   `json:"ticker_idle_period_seconds"`
	RotationPeriod  float64   `json:"rotation_period_seconds"`
	Rotated         time.Time `json:"rotated"`
	RotationBlocker string    `json:"rotation_blocked_by,omitempty"`
	Tables          int       `json:"tables"`
	CurrentTable    int       `json:"current_table"`
}

// queueRows makes the rows of all queues, or of one.
func queueRows(ctx context.Context, q pgq.Querier, only string) ([]queueRow, []pgq.ConsumerInfo, error) {
	infos, err := pgq.QueueInfos(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	consumers, err := pgq.ConsumerInfos(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	rows, now := []queueRow{}, time.Now()
	for _, i := range infos {
		if only != "" && i.Name != only {
			continue
		}
		r := queueRow{
			Name: i.Name, LastTick: i.LastTick, TickerLag: i.TickerLag.Seconds(), EventsPerSecond: i.EventsPerSecond,
			NewEvents: i.NewEvents, Paused: i.TickerPaused, External: i.ExternalTicker, MaxCount: i.TickerMaxCount,
			MaxLag: i.TickerMaxLag.Seconds(), IdlePeriod: i.TickerIdlePeriod.Seconds(), RotationPeriod: i.RotationPeriod.Seconds(),
			Rotated: i.SwitchTime, RotationBlocker: i.RotationBlocker(now, consumers), Tables: i.Tables, CurrentTable: i.CurrentTable,
		}
		for _, c := range consumers {
			if c.Queue == i.Name {
				r.Consumers++
			}
		}
		rows = append(rows, r)
	}
	return rows, consumers, nil
}

// newQueueList builds skyd queue list.
func newQueueList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the queues of a database",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				rows, _, err := queueRows(ctx, db, "")
				if err != nil {
					return err
				}
				return a.show(struct {
					Queues []queueRow `json:"queues"`
				}{rows}, func(w io.Writer) error { return writeQueues(w, rows) })
			})
		},
	}
}

// writeQueues writes the table of queues.
func writeQueues(w io.Writer, rows []queueRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no queues; make one with: skyd queue create NAME")
		return err
	}
	var cells [][]any
	for _, r := range rows {
		note := strings.Join(notes(r.Paused, "paused", r.External, "external ticker", r.RotationBlocker != "",
			"rotation blocked by "+r.RotationBlocker), "; ")
		cells = append(cells, []any{r.Name, r.LastTick, short(r.TickerLag), r.NewEvents, fmt.Sprintf("%.1f", r.EventsPerSecond), r.Consumers, note})
	}
	return writeTable(w, []any{"QUEUE", "TICK", "LAG", "NEW", "EVENTS/S", "CONSUMERS", "NOTE"}, cells)
}

// short writes seconds as a short duration.
func short(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Second:
		return d.Round(time.Millisecond).String()
	case d < 48*time.Hour:
		return configs.DurationText(d.Round(time.Second))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// newQueueShow builds skyd queue show.
func newQueueShow(a *app) *cobra.Command {
	var o objects
	cmd := &cobra.Command{
		Use:   "show [NAME]",
		Short: "show one queue with its settings and consumers",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				rows, consumers, err := queueRows(ctx, db, o.queue)
				if err != nil {
					return err
				}
				if len(rows) == 0 {
					return fmt.Errorf("show queue %s: %w", o.queue, pgq.ErrQueueNotFound)
				}
				r := struct {
					queueRow
					List []consumerRow `json:"consumer_list"`
				}{rows[0], consumerRows(consumers, o.queue, "")}
				return a.show(r, func(w io.Writer) error { return writeQueue(w, r.queueRow, r.List) })
			})
		},
	}
	o.register(cmd, 1)
	return cmd
}

// writeQueue writes one queue for people.
func writeQueue(w io.Writer, r queueRow, consumers []consumerRow) error {
	if err := writeQueues(w, []queueRow{r}); err != nil {
		return err
	}
	fmt.Fprintln(w)
	err := writeTable(w, []any{"SETTING", "VALUE"}, [][]any{
		{"ticker_max_count", r.MaxCount},
		{"ticker_max_lag", short(r.MaxLag)},
		{"ticker_idle_period", short(r.IdlePeriod)},
		{"ticker_paused", r.Paused},
		{"external_ticker", r.External},
		{"rotation_period", short(r.RotationPeriod)},
	})
	if err != nil || len(consumers) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return writeConsumers(w, consumers)
}

// newQueueSet builds skyd queue set.
func newQueueSet(a *app) *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:     "set NAME key=value...",
		Short:   "set parameters of a queue",
		Long:    "Sets parameters of a queue: " + strings.Join(queueKeys, ", ") + ". Values are written as PostgreSQL takes them.",
		Example: "  skyd queue set orders ticker_max_lag='500 ms' rotation_period='1 hour' --db DSN",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := parseSettings(args[1:])
			if err != nil {
				return err
			}
			return a.setQueue(cmd, f, "set", args[0], settings, "queue "+args[0]+" set", "queue "+args[0]+" is set like that")
		},
	}
	f.register(cmd, false)
	return cmd
}

// setQueue applies settings to a queue and shows the change.
func (a *app) setQueue(cmd *cobra.Command, f changeFlags, action, name string, settings []setting, done, same string) error {
	c := &change{Action: action, Queue: name}
	return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
		if err := knownQueue(ctx, db, name); err != nil {
			return err
		}
		return a.apply(ctx, db, f, c, done, same, func(q pgq.Querier) error { return set(ctx, q, name, settings, c) })
	})
}

// newQueuePause builds skyd queue pause and resume.
func newQueuePause(a *app, verb string, paused bool) *cobra.Command {
	var f changeFlags
	short, same := "stop the ticks of a queue: consumers get nothing new", "is paused"
	if !paused {
		short, same = "let a paused queue tick again", "is not paused"
	}
	cmd := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			return a.setQueue(cmd, f, verb, name, []setting{{"ticker_paused", strconv.FormatBool(paused)}}, "queue "+name+" "+verb+"d", "queue "+name+" "+same)
		},
	}
	f.register(cmd, false)
	return cmd
}
