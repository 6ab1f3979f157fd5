package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/cascade"
)

// newNodeRename builds skyd node rename.
func newNodeRename(a *app) *cobra.Command {
	var (
		f  changeFlags
		n  nodeFlags
		to string
	)
	cmd := &cobra.Command{
		Use: "rename [OLDNAME] NEWNAME", Aliases: []string{"rename-node"}, Short: "give a node another name", Args: cobra.RangeArgs(0, 2),
		Long: `Gives a node another name at all members. All members must answer, or be tagged dead. Nothing is paused: the node's worker
keeps its name and its position. A configuration that names the node is changed by hand. An interrupted rename is gone on
with by the same command.`,
		Example: "  skyd node rename --node branch2 --to berlin --db DSN --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				if err := n.take(args[:1]); err != nil {
					return err
				}
				args = args[1:]
			}
			if len(args) == 1 && to != "" && to != args[0] {
				return usageError("the new name is given twice: %s and --to %s", args[0], to)
			}
			if len(args) == 1 {
				to = args[0]
			}
			if to == "" {
				return usageError("what is the new name? give --to NAME")
			}
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				plan, err := admin.PlanRename(t, n.node, to)
				if err != nil {
					return err
				}
				c := &nodeChange{Action: "rename", Queue: n.queue, Node: n.node}
				return a.carry(ctx, f, c, plan, "node "+n.node+" is called "+to, "node "+n.node+" is called "+to)
			})
		},
	}
	n.register(cmd)
	f.register(cmd, false)
	cmd.Flags().StringVar(&to, "to", "", "new `NAME` of the node")
	return cmd
}
