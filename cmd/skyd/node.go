package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// newNodeCommand builds skyd node: cascaded queues.
func newNodeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "cascaded queues: make, show, move and drop nodes, change the root",
		Long: `A cascade is a tree of databases that carry one queue with the same events in the same batches. --db is the database
of one of its nodes; the others are found from there. --queue may be left out where the database has a node of one queue
only; --node is the node of the database unless said otherwise.`,
	}
	cmd.AddCommand(newNodeCreate(a), newNodeList(a), newNodeStatus(a), newNodeMembers(a), newNodeInfo(a), newNodeConsumers(a),
		newNodePause(a, "pause", true), newNodePause(a, "resume", false), newNodeChangeProvider(a), newNodeRename(a), newNodeDrop(a),
		newNodeTag(a, "tag-dead", true), newNodeTag(a, "tag-alive", false), newNodeSetLocation(a),
		newNodeWait(a, cascade.UpstreamRoot), newNodeWait(a, cascade.UpstreamProvider), newNodeTakeover(a), newNodeResurrect(a))
	return cmd
}

// nodeFlags say which node of which cascade a command is about.
type nodeFlags struct {
	queue    string
	node     string
	dead     []string
	patience time.Duration
	alive    []string          // nodes to ask although they are tagged dead
	moved    map[string]string // locations to ask in place of the registered ones
}

// register declares the flags.
func (f *nodeFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.queue, "queue", "", "`QUEUE` of the cascade; needless when the database has a node of one queue only")
	fl.StringVar(&f.node, "node", "", "`NODE`; defaults to the node of the database")
	fl.StringSliceVar(&f.dead, "dead", nil, "`NODES` that are taken for dead without asking them")
	fl.DurationVar(&f.patience, "connect-timeout", 5*time.Second, "how long one node may take to answer before it counts as unreachable")
}

// onNode opens the cascade of a command.
func (a *app) onNode(cmd *cobra.Command, f *nodeFlags, work func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error) error {
	return a.onNodes(cmd, f, func(ctx context.Context, db *pgq.DB) error {
		if err := f.find(ctx, db); err != nil {
			return err
		}
		admin := f.admin(db)
		defer admin.Close()
		t, err := admin.Topology(ctx)
		if err != nil {
			return err
		}
		if len(t.Nodes) == 0 {
			return withExit(exitMissing, "see them with: skyd node list", fmt.Errorf("this database has no node of queue %s", f.queue))
		}
		if f.node == "" {
			f.node = t.Local
		}
		if t.Node(f.node) == nil {
			return withExit(exitMissing, "see skyd node members",
				fmt.Errorf("the cascade of queue %s has no node %s%s", f.queue, f.node, configs.DidYouMean(f.node, t.Names())))
		}
		return work(ctx, admin, t)
	})
}

// onNodes is onQueues for commands about nodes.
func (a *app) onNodes(cmd *cobra.Command, f *nodeFlags, work func(ctx context.Context, db *pgq.DB) error) error {
	if f.patience <= 0 {
		return usageError("--connect-timeout must be positive (got %s)", f.patience)
	}
	return a.onDatabase(cmd.Context(), func(ctx context.Context, db *pgq.DB) error {
		return queueError(ctx, db, nodeError(ctx, db, work(ctx, db)))
	})
}

// admin makes the administrator of the cascade.
func (f *nodeFlags) admin(db *pgq.DB) *cascade.Admin {
	return cascade.NewAdmin(db, f.queue, cascade.AdminOptions{Patience: f.patience, Dead: f.dead, Alive: f.alive, Locations: f.moved})
}

// find finds the queue that is not named: the only one of which the database has a node.
func (f *nodeFlags) find(ctx context.Context, db *pgq.DB) error {
	if f.queue != "" {
		return nil
	}
	nodes, err := cascade.LocalNodes(ctx, db)
	if err != nil {
		return err
	}
	switch len(nodes) {
	case 0:
		return withExit(exitMissing, "make one with: skyd node create", errors.New("this database is no node of any queue"))
	case 1:
		f.queue = nodes[0].Queue
		return nil
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Queue)
	}
	return usageError("which queue? give --queue; this database has nodes of: %s", strings.Join(names, ", "))
}

// nodeError gives the errors of cascades their exit codes and the way out.
func nodeError(ctx context.Context, db *pgq.DB, err error) error {
	var (
		classified *commandError
		unfinished *cascade.UnfinishedError
	)
	switch {
	case err == nil || errors.As(err, &classified):
		return err
	case errors.As(err, &unfinished) && !errors.Is(err, cascade.ErrNotConfirmed):
		return withExit(exitPartial, "the same command again does what is left", err)
	case errors.Is(err, cascade.ErrNotConfirmed):
		return withExit(exitTimeout, "see skyd node status; --no-wait sets the flag only", err)
	case errors.Is(err, cascade.ErrRefused):
		return withExit(exitRefused, "", err)
	case errors.Is(err, cascade.ErrUnreachable), errors.Is(err, cascade.ErrNoRoot):
		return withExit(exitConnect, "see skyd node status", err)
	case errors.Is(err, cascade.ErrNotFound):
		return withExit(exitMissing, "see skyd node status", err)
	case sqlState(err) == "3F000", sqlState(err) == "42P01", sqlState(err) == "42883":
		if _, ok, look := cascade.Installed(ctx, db); look == nil && !ok {
			return withExit(exitRefused, "install it with: skyd schema install --db DSN", errors.New("schema pgq_node is not installed in this database"))
		}
	}
	return err
}

// nodeStep is one step of a change in results.
type nodeStep struct {
	Node string `json:"node"`
	Step string `json:"step"`
}

// nodeChange is the result of a command that changes a cascade.
type nodeChange struct {
	Action  string     `json:"action"`
	Changed bool       `json:"changed"`
	DryRun  bool       `json:"dry_run"`
	Queue   string     `json:"queue"`
	Node    string     `json:"node"`
	Steps   []nodeStep `json:"steps"`
	Loses   []string   `json:"loses,omitempty"`
	Notes   []string   `json:"notes,omitempty"`
}

// carry carries a planned change out, or shows what it would do.
func (a *app) carry(ctx context.Context, f changeFlags, c *nodeChange, plan *cascade.Change, done, same string) error {
	c.DryRun, c.Notes, c.Loses, c.Steps = f.dryRun, plan.Notes, plan.Loses, []nodeStep{}
	for _, s := range plan.Steps {
		c.Steps = append(c.Steps, nodeStep{s.Node, s.Text})
	}
	c.Changed = len(plan.Steps) > 0
	if len(plan.Loses) > 0 {
		if err := a.confirm(f, c.Node, plan.Loses...); err != nil {
			return err
		}
	}
	if !f.dryRun {
		err := plan.Run(ctx, func(s cascade.Step) {
			if a.verbose {
				a.note("%s: %s", s.Node, s.Text)
			}
		})
		if err != nil {
			return err
		}
	}
	return a.show(c, func(w io.Writer) error { return writeNodeChange(w, c, done, same) })
}

// writeNodeChange writes a change for people.
func writeNodeChange(w io.Writer, c *nodeChange, done, same string) error {
	switch {
	case !c.Changed:
		fmt.Fprintln(w, "nothing to do: "+same)
	case c.DryRun:
		fmt.Fprintln(w, "would be done: "+done)
	default:
		fmt.Fprintln(w, done)
	}
	for _, s := range c.Steps {
		fmt.Fprintf(w, "  %s: %s\n", s.Node, s.Step)
	}
	for _, lost := range c.Loses {
		fmt.Fprintln(w, "  lost: "+lost)
	}
	for _, n := range c.Notes {
		fmt.Fprintln(w, "note: "+n)
	}
	return nil
}

// newNodePause builds skyd node pause and resume.
func newNodePause(a *app, verb string, paused bool) *cobra.Command {
	var (
		f        changeFlags
		n        nodeFlags
		consumer string
		noWait   bool
	)
	short, state := "let a paused node go on", " goes on"
	if paused {
		short, state = "pause the worker of a node, or one of its consumers", " is paused"
	}
	cmd := &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		Long: strings.ToUpper(short[:1]) + short[1:] + `, and wait until it has confirmed: from then on no batch is in flight. A worker
that does not run cannot confirm; the flag stays set then, and the exit code is 6.`,
		Example: "  skyd node " + verb + " --node branch2 --db DSN",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				plan, err := admin.PlanPause(t, n.node, consumer, paused, !noWait)
				if err != nil {
					return err
				}
				what := "node " + n.node
				if consumer != "" {
					what = "consumer " + consumer + " of node " + n.node
				}
				c := &nodeChange{Action: verb, Queue: n.queue, Node: n.node}
				return a.carry(ctx, f, c, plan, what+state, what+state)
			})
		},
	}
	n.register(cmd)
	f.register(cmd, false)
	cmd.Flags().StringVar(&consumer, "consumer", "", "`CONSUMER` of the node, in place of its worker")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "set the flag, do not wait for the confirmation")
	return cmd
}

// newNodeChangeProvider builds skyd node change-provider.
func newNodeChangeProvider(a *app) *cobra.Command {
	var (
		f                  changeFlags
		n                  nodeFlags
		consumer, provider string
	)
	cmd := &cobra.Command{
		Use: "change-provider --provider NODE", Short: "let a node, or one of its consumers, read from another node", Args: cobra.NoArgs,
		Long: `Lets a node read from another node. Nothing is paused: the new provider keeps events for the node first, then the node
turns over between two batches. Refused when that would make a circle, when the new provider does not have the tick at which
the node stands and does not come to it within --timeout, or when one of the two does not answer. A failure leaves the node
with its old provider.`,
		Example: "  skyd node change-provider --node leaf1 --provider branch2 --db DSN --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if provider == "" {
				return usageError("which node is to be the provider? give --provider NODE")
			}
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				plan, err := admin.PlanChangeProvider(t, n.node, consumer, provider)
				if err != nil {
					return err
				}
				what := "node " + n.node
				if consumer != "" {
					what = "consumer " + consumer + " of node " + n.node
				}
				c := &nodeChange{Action: "change-provider", Queue: n.queue, Node: n.node}
				return a.carry(ctx, f, c, plan, what+" reads from "+provider, what+" reads from "+provider)
			})
		},
	}
	n.register(cmd)
	f.register(cmd, false)
	cmd.Flags().StringVar(&provider, "provider", "", "`NODE` to read from")
	cmd.Flags().StringVar(&consumer, "consumer", "", "`CONSUMER` of the node, in place of its worker")
	return cmd
}

// newNodeDrop builds skyd node drop.
func newNodeDrop(a *app) *cobra.Command {
	var (
		f changeFlags
		n nodeFlags
	)
	cmd := &cobra.Command{
		Use: "drop [NODE]", Aliases: []string{"drop-node"}, Short: "remove a node from the cascade, with its queue", Args: cobra.MaximumNArgs(1),
		Long: `Removes a node: all members forget it, nobody keeps events for it any more, and its own database loses the queue. A node
from which others read is refused, and so is the root while there are other members. A node that is gone for good is tagged
dead before: skyd node tag-dead. Asks for the name of the node; --yes does not.`,
		Example: "  skyd node drop --node branch2 --db DSN --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := n.take(args); err != nil {
				return err
			}
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				plan, err := admin.PlanDrop(t, n.node)
				if err != nil {
					return err
				}
				c := &nodeChange{Action: "drop", Queue: n.queue, Node: n.node}
				return a.carry(ctx, f, c, plan, "node "+n.node+" dropped", "node "+n.node+" is gone")
			})
		},
	}
	n.register(cmd)
	f.register(cmd, true)
	return cmd
}

// take takes the node from an argument, as the original's commands have it.
func (f *nodeFlags) take(args []string) error {
	if len(args) > 0 && f.node != "" && f.node != args[0] {
		return usageError("the node is named twice: %s and --node %s", args[0], f.node)
	}
	if len(args) > 0 {
		f.node = args[0]
	}
	return nil
}

// newNodeTag builds skyd node tag-dead and tag-alive.
func newNodeTag(a *app, verb string, dead bool) *cobra.Command {
	var (
		f changeFlags
		n nodeFlags
	)
	short, state := "take back tag-dead", " is alive for all nodes"
	if dead {
		short, state = "tell all nodes that a node is gone: commands and watermarks leave it out", " is tagged dead"
	}
	cmd := &cobra.Command{
		Use: verb + " [NODE]", Short: short, Args: cobra.MaximumNArgs(1),
		Example: "  skyd node " + verb + " branch2 --db DSN",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := n.take(args); err != nil {
				return err
			}
			if n.node == "" {
				return usageError("which node? give --node NODE")
			}
			if !dead {
				n.alive = []string{n.node}
			}
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				plan, err := admin.PlanTag(t, n.node, dead)
				if err != nil {
					return err
				}
				c := &nodeChange{Action: verb, Queue: n.queue, Node: n.node}
				return a.carry(ctx, f, c, plan, "node "+n.node+state, "node "+n.node+state)
			})
		},
	}
	n.register(cmd)
	f.register(cmd, false)
	return cmd
}

// newNodeWait builds skyd node wait-root and wait-provider.
func newNodeWait(a *app, up cascade.Upstream) *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use: "wait-" + string(up), Short: "wait until a node has all that its " + string(up) + " has now", Args: cobra.NoArgs,
		Long:    "Waits until a node has all events that are committed at its " + string(up) + " now. Exit code 6 after --timeout. Returns at once on the root.",
		Example: "  skyd node wait-" + string(up) + " --node branch2 --db DSN --timeout 5m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				began := time.Now()
				tick, err := admin.Wait(ctx, t, n.node, up)
				if err != nil {
					return err
				}
				r := struct {
					Queue   string  `json:"queue"`
					Node    string  `json:"node"`
					Tick    int64   `json:"tick"`
					Seconds float64 `json:"waited_seconds"`
				}{n.queue, n.node, tick, time.Since(began).Seconds()}
				return a.show(r, func(w io.Writer) error {
					if t.Node(n.node).Type == cascade.Root {
						_, err := fmt.Fprintf(w, "node %s is the root\n", n.node)
						return err
					}
					_, err := fmt.Fprintf(w, "node %s has all up to tick %d\n", n.node, tick)
					return err
				})
			})
		},
	}
	n.register(cmd)
	return cmd
}

// newNodeSetLocation builds skyd node set-location.
func newNodeSetLocation(a *app) *cobra.Command {
	var (
		f        changeFlags
		n        nodeFlags
		location string
		noCheck  bool
	)
	cmd := &cobra.Command{
		Use: "set-location --location DSN", Short: "tell all nodes a new location of a node", Args: cobra.NoArgs,
		Long: `Tells every node that answers the new location of a node, directly and not only as an event: nodes that cannot reach it
at the old one any more find it again. Makes sure before that the node is there.`,
		Example: "  skyd node set-location --node branch2 --location 'host=db2.new dbname=app' --db DSN",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if location == "" {
				return usageError("what is the new location? give --location DSN")
			}
			if n.node != "" {
				n.moved = map[string]string{n.node: location}
			}
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				plan, err := admin.PlanRelocate(ctx, t, n.node, location, !noCheck)
				if err != nil {
					return err
				}
				c := &nodeChange{Action: "set-location", Queue: n.queue, Node: n.node}
				return a.carry(ctx, f, c, plan, "location of node "+n.node+" set", "all nodes know that location of node "+n.node)
			})
		},
	}
	n.register(cmd)
	f.register(cmd, false)
	cmd.Flags().StringVar(&location, "location", "", "how other nodes reach it: a `DSN`")
	cmd.Flags().BoolVar(&noCheck, "no-check", false, "do not make sure that the node is there")
	return cmd
}

// nodeTypes are the kinds of nodes that can be made.
var nodeTypes = []string{"root", "branch", "leaf"}

// checkType checks the kind of node.
func checkType(name string) (cascade.NodeType, error) {
	if !slices.Contains(nodeTypes, name) {
		return "", usageError("a node is one of root, branch, leaf, not %q%s", name, configs.DidYouMean(name, nodeTypes))
	}
	return cascade.NodeType(name), nil
}
