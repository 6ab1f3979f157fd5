package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/pgq"
)

// newEventCommand builds skyd event.
func newEventCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "event", Short: "insert, look at and redrive events"}
	cmd.AddCommand(newEventInsert(a), newEventList(a), newEventTail(a), newDeadCommand(a))
	return cmd
}

// newEventInsert builds skyd event insert.
func newEventInsert(a *app) *cobra.Command {
	var (
		f      changeFlags
		extras [4]string
		stdin  string
	)
	cmd := &cobra.Command{
		Use:   "insert QUEUE TYPE DATA",
		Short: "insert an event, or many from standard input",
		Long: `Inserts one event. With --stdin jsonl every line of the standard input is one event: an object with the keys type, data and
extra1 to extra4, each a text or null; data may be any JSON value and is stored as its text. TYPE and the flags are then
the defaults of the lines. All lines are one transaction: one that is wrong is named, and nothing is inserted.`,
		Example: "  skyd event insert orders new '{\"id\": 1}' --extra1 shop --db DSN\n" +
			"  skyd event insert orders --stdin jsonl --db DSN < events.jsonl",
		Args: cobra.RangeArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			var base pgq.NewEvent
			for i, to := range []*pgq.Text{&base.Extra1, &base.Extra2, &base.Extra3, &base.Extra4} {
				if cmd.Flags().Changed(fmt.Sprintf("extra%d", i+1)) {
					*to = pgq.Str(extras[i])
				}
			}
			if len(args) > 1 {
				base.Type = pgq.Str(args[1])
			}
			if len(args) > 2 {
				base.Data = pgq.Str(args[2])
			}
			switch {
			case stdin != "" && stdin != "jsonl":
				return usageError("--stdin must be jsonl (got %q)", stdin)
			case stdin == "" && len(args) != 3:
				return usageError("want QUEUE TYPE DATA, or --stdin jsonl")
			case stdin != "" && len(args) == 3:
				return usageError("DATA and --stdin exclude each other")
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := knownQueue(ctx, db, args[0]); err != nil {
					return err
				}
				return a.insert(ctx, db, f, args[0], base, stdin != "")
			})
		},
	}
	f.register(cmd, false)
	for i := range extras {
		cmd.Flags().StringVar(&extras[i], fmt.Sprintf("extra%d", i+1), "", "the event's `TEXT` in ev_"+fmt.Sprintf("extra%d", i+1))
	}
	cmd.Flags().StringVar(&stdin, "stdin", "", "read events from standard input, in this `FORMAT`: jsonl")
	return cmd
}

// insert inserts one event, or those of the standard input.
func (a *app) insert(ctx context.Context, db *pgq.DB, f changeFlags, queue string, base pgq.NewEvent, many bool) error {
	c := &change{Action: "insert", Queue: queue}
	if !many {
		return a.apply(ctx, db, f, c, "event inserted into queue "+queue, "", func(q pgq.Querier) (err error) {
			c.Changed, c.Count = true, 1
			c.ID, err = pgq.Insert(ctx, q, queue, base)
			return err
		})
	}
	return a.apply(ctx, db, f, c, "events inserted into queue "+queue, "no event came", func(q pgq.Querier) error {
		const chunk = 1000
		var events []pgq.NewEvent
		flush := func() error {
			if len(events) == 0 {
				return nil
			}
			ids, err := pgq.InsertBatch(ctx, q, queue, events)
			c.Count += len(ids)
			c.Changed, events = true, events[:0]
			return err
		}
		lines := bufio.NewReader(a.stdin)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if len(bytes.TrimSpace(line)) > 0 {
				ev, perr := parseEvent(line, base)
				if perr != nil {
					return usageError("line %d: %w", n, perr)
				}
				events = append(events, ev)
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read events: %w", err)
			}
			if err != nil || len(events) == chunk {
				if ferr := flush(); ferr != nil {
					return ferr
				}
			}
			if err != nil {
				c.Details = []string{fmt.Sprintf("events: %d", c.Count)}
				return nil
			}
		}
	})
}

// parseEvent reads one line of jsonl over the defaults.
func parseEvent(line []byte, base pgq.NewEvent) (pgq.NewEvent, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return base, fmt.Errorf("is no JSON object: %w", err)
	}
	known := map[string]*pgq.Text{
		"type": &base.Type, "data": &base.Data, "extra1": &base.Extra1, "extra2": &base.Extra2,
		"extra3": &base.Extra3, "extra4": &base.Extra4,
	}
	for key, raw := range fields {
		to := known[strings.TrimPrefix(key, "ev_")]
		if to == nil {
			return base, fmt.Errorf("unknown key %q", key)
		}
		var text *string
		switch err := json.Unmarshal(raw, &text); {
		case err == nil && text == nil:
			*to = pgq.Text{}
		case err == nil:
			*to = pgq.Str(*text)
		case to == &base.Data:
			*to = pgq.Str(string(bytes.TrimSpace(raw)))
		default:
			return base, fmt.Errorf("%s must be a text or null", key)
		}
	}
	return base, nil
}

// eventRow is an event in results.
type eventRow struct {
	ID     int64     `json:"id"`
	Time   time.Time `json:"time"`
	Txid   int64     `json:"txid"`
	Retry  int       `json:"retry"`
	Type   *string   `json:"type"`
	Data   *string   `json:"data"`
	Extra1 *string   `json:"extra1"`
	Extra2 *string   `json:"extra2"`
	Extra3 *string   `json:"extra3"`
	Extra4 *string   `json:"extra4"`
}

// newEventRow makes a row of an event.
func newEventRow(ev pgq.Event) eventRow {
	text := func(t pgq.Text) *string {
		if !t.Valid {
			return nil
		}
		return &t.String
	}
	return eventRow{
		ev.ID, ev.Time, ev.Txid, ev.Retry, text(ev.Type), text(ev.Data), text(ev.Extra1), text(ev.Extra2), text(ev.Extra3), text(ev.Extra4),
	}
}

// line writes an event in one line.
func (r eventRow) line() string {
	parts := []string{fmt.Sprint(r.ID), r.Time.Format(time.RFC3339), printable(r.Type), printable(r.Data)}
	for i, x := range []*string{r.Extra1, r.Extra2, r.Extra3, r.Extra4} {
		if x != nil {
			parts = append(parts, fmt.Sprintf("extra%d=%s", i+1, printable(x)))
		}
	}
	if r.Retry > 0 {
		parts = append(parts, fmt.Sprintf("retry=%d", r.Retry))
	}
	return strings.Join(parts, "  ")
}

// printable is a text that cannot disturb a terminal: control characters are escaped.
func printable(text *string) string {
	if text == nil {
		return "-"
	}
	if quoted := fmt.Sprintf("%q", *text); strings.ContainsFunc(*text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return quoted
	}
	return strings.ToValidUTF8(*text, "\uFFFD")
}

// newEventList builds skyd event list.
func newEventList(a *app) *cobra.Command {
	var (
		o     objects
		limit int
	)
	cmd := &cobra.Command{
		Use:   "list [QUEUE]",
		Short: "list the newest events of a queue; no consumer is moved",
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usageError("--limit must be positive (got %d)", limit)
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				events, _, err := pgq.NewestEvents(ctx, db, o.queue, limit)
				if err != nil {
					return err
				}
				rows := make([]eventRow, len(events))
				for i, ev := range events {
					rows[i] = newEventRow(ev)
				}
				return a.show(struct {
					Events []eventRow `json:"events"`
				}{rows}, func(w io.Writer) error {
					for _, r := range rows {
						fmt.Fprintln(w, r.line())
					}
					return nil
				})
			})
		},
	}
	o.register(cmd, 1)
	cmd.Flags().IntVar(&limit, "limit", 20, "at most so many `EVENTS`")
	return cmd
}

// newEventTail builds skyd event tail.
func newEventTail(a *app) *cobra.Command {
	var (
		o     objects
		limit int
		every time.Duration
		count int
	)
	cmd := &cobra.Command{
		Use:   "tail [QUEUE]",
		Short: "show events as they are committed, until interrupted; no consumer is moved",
		Long: `Shows the newest events and then every event as soon as it is committed, without a consumer and without waiting for ticks.
With --output json every event is one line. --timeout ends it with exit code 0.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("timeout") {
				a.timeout = 0
			}
			if every <= 0 {
				return usageError("--every must be positive (got %s)", every)
			}
			return a.onQueues(cmd, func(ctx context.Context, db *pgq.DB) error {
				if err := o.find(ctx, db, args); err != nil {
					return err
				}
				err := a.tail(ctx, db, o.queue, limit, count, every)
				if ctx.Err() != nil && cmd.Context().Err() == nil {
					return nil // --timeout is the wished end
				}
				return err
			})
		},
	}
	o.register(cmd, 1)
	cmd.Flags().IntVar(&limit, "limit", 10, "begin with so many `EVENTS` that are there already")
	cmd.Flags().IntVar(&count, "count", 0, "end after so many `EVENTS` (0: never)")
	cmd.Flags().DurationVar(&every, "every", 500*time.Millisecond, "how often to look")
	return cmd
}

// tail follows a queue.
func (a *app) tail(ctx context.Context, db *pgq.DB, queue string, limit, count int, every time.Duration) error {
	events, mark, err := pgq.NewestEvents(ctx, db, queue, max(limit, 0))
	shown := 0
	again := time.NewTicker(every)
	defer again.Stop()
	for {
		if err != nil {
			return err
		}
		for _, ev := range events {
			if err := a.showEvent(newEventRow(ev)); err != nil {
				return err
			}
			if shown++; shown == count {
				return nil
			}
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		events, mark, err = pgq.EventsSince(ctx, db, queue, mark)
	}
}

// showEvent writes one event of a stream: a line, or a JSON document in one line.
func (a *app) showEvent(r eventRow) error {
	switch a.output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	case "yaml":
		if _, err := io.WriteString(a.stdout, "---\n"); err != nil {
			return err
		}
		return writeYAML(a.stdout, r)
	}
	_, err := fmt.Fprintln(a.stdout, r.line())
	return err
}
