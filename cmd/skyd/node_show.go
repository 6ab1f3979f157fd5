package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
)

// newNodeList builds skyd node list.
func newNodeList(a *app) *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the nodes of a database: one for each queue", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNodes(cmd, &n, func(ctx context.Context, db *pgq.DB) error {
				local, err := cascade.LocalNodes(ctx, db)
				if err != nil {
					return err
				}
				nodes := []nodeRow{}
				for _, l := range local {
					i, err := cascade.GetNodeInfo(ctx, db, l.Queue)
					if err != nil {
						return err
					}
					nodes = append(nodes, nodeRow{
						Queue: i.Queue, Node: i.Name, Type: i.Type, Provider: i.Provider, Worker: i.Worker, LastTick: i.LastTick,
						Paused: i.Paused, Uptodate: i.Uptodate, CombinedQueue: i.CombinedQueue,
					})
				}
				return a.show(struct {
					Nodes []nodeRow `json:"nodes"`
				}{nodes}, func(w io.Writer) error { return writeNodes(w, nodes) })
			})
		},
	}
	n.register(cmd)
	return cmd
}

// nodeRow is a node in the list.
type nodeRow struct {
	Queue         string           `json:"queue"`
	Node          string           `json:"node"`
	Type          cascade.NodeType `json:"type"`
	Provider      string           `json:"provider"`
	Worker        string           `json:"worker"`
	LastTick      int64            `json:"last_tick"`
	Paused        bool             `json:"paused"`
	Uptodate      bool             `json:"uptodate"`
	CombinedQueue string           `json:"combined_queue,omitempty"`
}

// writeNodes writes the list for people.
func writeNodes(w io.Writer, rows []nodeRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no nodes; make one with: skyd node create")
		return err
	}
	var cells [][]any
	for _, r := range rows {
		provider := r.Provider
		if r.Type == cascade.Root {
			provider = "-"
		}
		cells = append(cells, []any{r.Queue, r.Node, r.Type, provider, r.LastTick, noteText(r.Paused, "paused", !r.Uptodate, "not uptodate",
			r.CombinedQueue != "", "merges into "+r.CombinedQueue)})
	}
	return writeTable(w, []any{"QUEUE", "NODE", "TYPE", "PROVIDER", "TICK", "NOTE"}, cells)
}

// newNodeStatus builds skyd node status.
func newNodeStatus(a *app) *cobra.Command {
	var (
		n    nodeFlags
		form treeForm
		dot  bool
	)
	cmd := &cobra.Command{
		Use: "status", Short: "show the tree of a cascade with the lag on every edge, and what is wrong", Args: cobra.NoArgs,
		Long: `Shows every node of the cascade as it tells itself: position, lag behind the root, distance to its provider in ticks,
events and seconds, flags, errors, watermark and who holds it. All nodes are asked at the same time; one that is dead or
silent costs no more than --connect-timeout. Without --queue all cascades of the database are shown.`,
		Example: "  skyd node status --db DSN\n  skyd node status --queue orders --db DSN --dot | dot -Tsvg >cascade.svg",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNodes(cmd, &n, func(ctx context.Context, db *pgq.DB) error {
				all, err := n.topologies(ctx, db)
				if err != nil {
					return err
				}
				form.colours = a.colours()
				if dot {
					return writeDot(a.stdout, all)
				}
				return a.show(struct {
					Cascades []*cascade.Topology `json:"cascades"`
				}{all}, func(w io.Writer) error { return writeTrees(w, all, form) })
			})
		},
	}
	n.register(cmd)
	cmd.Flags().BoolVar(&form.compact, "compact", false, "one line for each node")
	cmd.Flags().BoolVar(&dot, "dot", false, "as a graph for Graphviz")
	return cmd
}

// topologies reads the cascade of the queue, or those of all queues of which the database has a node.
func (f *nodeFlags) topologies(ctx context.Context, db *pgq.DB) ([]*cascade.Topology, error) {
	queues := []string{f.queue}
	if f.queue == "" {
		local, err := cascade.LocalNodes(ctx, db)
		if err != nil {
			return nil, err
		}
		queues = nil
		for _, l := range local {
			queues = append(queues, l.Queue)
		}
		if len(queues) == 0 {
			return nil, f.find(ctx, db)
		}
	}
	var all []*cascade.Topology
	for _, queue := range queues {
		one := *f
		one.queue = queue
		admin := one.admin(db)
		t, err := admin.Topology(ctx)
		admin.Close()
		if err != nil {
			return nil, err
		}
		t.Advice = t.Advise()
		if len(t.Nodes) == 0 {
			return nil, withExit(exitMissing, "see them with: skyd node list", fmt.Errorf("this database has no node of queue %s", queue))
		}
		all = append(all, t)
	}
	return all, nil
}

// memberRow is a member in results.
type memberRow struct {
	Node     string            `json:"node"`
	State    cascade.NodeState `json:"state"`
	Type     cascade.NodeType  `json:"type,omitempty"`
	Location string            `json:"location"`
}

// newNodeMembers builds skyd node members.
func newNodeMembers(a *app) *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use: "members", Short: "list the members of a cascade with their locations, secrets masked", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNode(cmd, &n, func(_ context.Context, _ *cascade.Admin, t *cascade.Topology) error {
				rows := []memberRow{}
				for _, m := range t.Nodes {
					rows = append(rows, memberRow{m.Name, m.State, m.Type, m.Address})
				}
				return a.show(struct {
					Queue   string      `json:"queue"`
					Members []memberRow `json:"members"`
				}{t.Queue, rows}, func(w io.Writer) error {
					var cells [][]any
					for _, r := range rows {
						cells = append(cells, []any{r.Node, r.State, r.Type, r.Location})
					}
					return writeTable(w, []any{"NODE", "STATE", "TYPE", "LOCATION"}, cells)
				})
			})
		},
	}
	n.register(cmd)
	return cmd
}

// newNodeInfo builds skyd node info.
func newNodeInfo(a *app) *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use: "info [NODE]", Aliases: []string{"node-info", "node-status"}, Short: "show one node", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := n.take(args); err != nil {
				return err
			}
			return a.onNode(cmd, &n, func(_ context.Context, _ *cascade.Admin, t *cascade.Topology) error {
				node := t.Node(n.node)
				return a.show(struct {
					Queue string `json:"queue"`
					*cascade.Node
				}{t.Queue, node}, func(w io.Writer) error { return writeNodeInfo(w, t, node) })
			})
		},
	}
	n.register(cmd)
	return cmd
}

// writeNodeInfo writes one node for people.
func writeNodeInfo(w io.Writer, t *cascade.Topology, n *cascade.Node) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-20s%s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("Queue", "%s", t.Queue)
	line("Node", "%s", n.Name)
	line("Type", "%s", cmp.Or(string(n.Type), "unknown"))
	line("Status", "%s", nodeStatus(n))
	line("Location", "%s", n.Address)
	if p := t.Node(n.Provider); p != nil && p != n {
		line("Provider", "%s", p.Name)
		line("Provider location", "%s", p.Address)
	}
	if len(n.Children) > 0 {
		line("Subscribers", "%s", strings.Join(n.Children, ", "))
	}
	if n.CombinedQueue != "" {
		line("Combined queue", "%s (%s)", n.CombinedQueue, n.CombinedType)
	}
	if len(n.TargetFor) > 0 {
		line("Target for", "%s", strings.Join(n.TargetFor, ", "))
	}
	if n.State != cascade.Alive {
		return nil
	}
	line("Worker", "%s", n.Worker)
	for _, text := range dataLines(n, treeForm{}) {
		name, value, _ := strings.Cut(text, ": ")
		line(name, "%s", value)
	}
	return nil
}

// nodeStatus is one word about a node.
func nodeStatus(n *cascade.Node) string {
	switch {
	case n.State == cascade.Dead:
		return "DEAD"
	case n.State != cascade.Alive:
		return strings.ToUpper(string(n.State)) + ": " + n.Error
	case n.Paused:
		return "PAUSED"
	case !n.Uptodate:
		return "NON-UP-TO-DATE"
	}
	return "OK"
}

// newNodeConsumers builds skyd node show-consumers.
func newNodeConsumers(a *app) *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use: "show-consumers [NODE]", Short: "list the cascaded consumers of a node, its worker among them", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := n.take(args); err != nil {
				return err
			}
			return a.onNode(cmd, &n, func(_ context.Context, _ *cascade.Admin, t *cascade.Topology) error {
				node := t.Node(n.node)
				consumers := node.Consumers
				if consumers == nil {
					consumers = []cascade.NodeConsumer{}
				}
				return a.show(struct {
					Queue     string                 `json:"queue"`
					Node      string                 `json:"node"`
					Consumers []cascade.NodeConsumer `json:"consumers"`
				}{t.Queue, node.Name, consumers}, func(w io.Writer) error {
					var cells [][]any
					for _, c := range consumers {
						cells = append(cells, []any{c.Consumer, c.Provider, c.LastTick, lagText(c.Lag), noteText(
							c.Consumer == node.Worker, "worker", c.Paused, "paused", !c.Uptodate, "not uptodate", c.Error != "", firstOf(c.Error))})
					}
					return writeTable(w, []any{"CONSUMER", "PROVIDER", "TICK", "LAG", "NOTE"}, cells)
				})
			})
		},
	}
	n.register(cmd)
	return cmd
}
