package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/cascade"
)

// newNodeResurrect builds skyd node resurrect.
func newNodeResurrect(a *app) *cobra.Command {
	var (
		f          changeFlags
		n          nodeFlags
		dump       string
		acceptLoss bool
	)
	cmd := &cobra.Command{
		Use: "resurrect", Short: "bring a dead root back as a branch, and save the events that never left it", Args: cobra.NoArgs,
		Long: `Run on the database of a root that came back after the cascade went on without it. Its queue is closed, the events that
only it has are moved to table skyd_node.lost_event, and it becomes a branch of the new root. --dump writes those events as
JSON lines. Tables that events were made from are not touched: what to do with the lost events is for a person to decide.
Until that is said with --accept-loss, the worker of the node stays paused. May be repeated after any failure. Asks for the
name of the node; --yes does not.`,
		Example: "  skyd node resurrect --db DSN --dry-run\n  skyd node resurrect --db DSN --dump lost.jsonl\n  skyd node resurrect --db DSN --accept-loss",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				if n.node != t.Local {
					return usageError("resurrect works on the node of --db, which is %s, not %s", t.Local, n.node)
				}
				return takeoverError(a.resurrect(ctx, admin, f, dump, acceptLoss))
			})
		},
	}
	n.register(cmd)
	f.register(cmd, true)
	cmd.Flags().StringVar(&dump, "dump", "", "write the lost events to this `FILE`, as JSON lines")
	cmd.Flags().BoolVar(&acceptLoss, "accept-loss", false, "the lost events were dealt with: let the node go on")
	return cmd
}

// returnResult is the result of a resurrection.
type returnResult struct {
	Action   string   `json:"action"`
	Changed  bool     `json:"changed"`
	DryRun   bool     `json:"dry_run"`
	Queue    string   `json:"queue"`
	Node     string   `json:"node"`
	Root     string   `json:"root,omitempty"`
	Tick     int64    `json:"tick,omitempty"`
	Term     int64    `json:"term,omitempty"`
	Lost     int64    `json:"lost_events"`
	Ticks    int64    `json:"lost_ticks"`
	Accepted int64    `json:"accepted_events"`
	Paused   bool     `json:"paused"`
	Dump     string   `json:"dump,omitempty"`
	Steps    []string `json:"steps,omitempty"`
}

// resurrect brings the node back, writes the lost events, and accepts their loss, as far as asked.
func (a *app) resurrect(ctx context.Context, admin *cascade.Admin, f changeFlags, dump string, acceptLoss bool) error {
	plan, err := admin.PlanResurrect(ctx)
	if err != nil {
		return err
	}
	r := &returnResult{
		Action: "resurrect", DryRun: f.dryRun, Queue: plan.Queue, Node: plan.Node, Root: plan.Root, Tick: plan.Tick, Term: plan.Term,
		Lost: plan.Lost, Ticks: plan.Ticks, Paused: plan.Paused, Steps: plan.Steps, Changed: !plan.Done || acceptLoss && plan.Lost > 0,
	}
	if !f.dryRun && !plan.Done {
		consequence := fmt.Sprintf("%s becomes a branch of %s; about %d events after tick %d leave its queue for skyd_node.lost_event",
			plan.Node, plan.Root, plan.Lost, plan.Tick)
		if err := a.confirm(f, plan.Node, consequence); err != nil {
			return err
		}
		if err := admin.Resurrect(ctx, plan); err != nil {
			return err
		}
		r.Lost, r.Ticks, r.Paused = plan.Lost, plan.Ticks, plan.Paused
	}
	if !f.dryRun && dump != "" {
		if r.Dump, err = dump, dumpLost(ctx, admin, dump); err != nil {
			return err
		}
	}
	if !f.dryRun && acceptLoss {
		if r.Accepted, err = admin.AcceptLoss(ctx); err != nil {
			return err
		}
		r.Paused = false
	}
	return a.show(r, func(w io.Writer) error { return writeReturn(w, r) })
}

// dumpLost writes the lost events into a file, whole or not at all.
func dumpLost(ctx context.Context, admin *cascade.Admin, name string) error {
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone after the rename
	out := bufio.NewWriter(file)
	_, err = admin.WriteLostEvents(ctx, out)
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("dump the lost events: %w; they are in table skyd_node.lost_event", err)
	}
	return nil
}

// writeReturn writes a resurrection for people.
func writeReturn(w io.Writer, r *returnResult) error {
	switch {
	case r.DryRun && len(r.Steps) > 0:
		fmt.Fprintf(w, "would be done: %s comes back as a branch of %s; about %d events are only here\n", r.Node, r.Root, r.Lost)
	case len(r.Steps) > 0:
		fmt.Fprintf(w, "%s is back as a branch of %s, at tick %d\n", r.Node, r.Root, r.Tick)
	default:
		fmt.Fprintf(w, "%s is a branch\n", r.Node)
	}
	for _, s := range r.Steps {
		fmt.Fprintln(w, "  "+s)
	}
	if r.Dump != "" {
		fmt.Fprintf(w, "lost events written to %s\n", r.Dump)
	}
	switch {
	case r.DryRun:
	case r.Accepted > 0:
		fmt.Fprintf(w, "loss of %d events accepted, the node goes on\n", r.Accepted)
	case r.Lost > 0 && r.Paused:
		fmt.Fprintf(w, "%d lost events in skyd_node.lost_event; the node is paused until: skyd node resurrect --accept-loss\n", r.Lost)
	}
	return nil
}
