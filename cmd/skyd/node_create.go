package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/pgqsql"
)

// createFlags are the flags of skyd node create.
type createFlags struct {
	location, provider, worker, merge string
	sync                              string
	noCheck                           bool
}

// bareSync is what --sync-watermark without names is.
const bareSync = ","

// newNodeCreate builds skyd node create.
func newNodeCreate(a *app) *cobra.Command {
	var (
		f changeFlags
		n nodeFlags
		c createFlags
	)
	cmd := &cobra.Command{
		Use:   "create root|branch|leaf --queue QUEUE --node NODE --location DSN [--provider DSN]",
		Short: "make the database a node of a cascade",
		Long: `Makes the database a root, branch or leaf. Schemas that are missing are installed. A branch has the queue with all its
events and may become root; a leaf has none. A branch or leaf reads from the node at --provider and begins at the oldest tick
that the cascade keeps. Creating what is there changes nothing, and a creation that was interrupted is gone on with.

A leaf with --merge writes the events into another queue of this database, of which it has a root or branch.
A branch with --sync-watermark does not hold back the rotation of the nodes above it; the names are nodes below it that must
be able to take over, and are waited for.`,
		Example: `  skyd node create root --queue orders --node n1 --location 'host=db1 dbname=app' --db 'host=db1 dbname=app'
  skyd node create branch --queue orders --node n2 --location 'host=db2 dbname=app' --provider 'host=db1 dbname=app' --db 'host=db2 dbname=app'`,
		Args:      cobra.RangeArgs(1, 2),
		ValidArgs: nodeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			creation, err := c.creation(n, args)
			if err != nil {
				return err
			}
			return a.onNodes(cmd, &n, func(ctx context.Context, db *pgq.DB) error { return a.create(ctx, db, f, &n, creation) })
		},
	}
	n.register(cmd)
	f.register(cmd, false)
	fl := cmd.Flags()
	fl.StringVar(&c.location, "location", "", "how other nodes reach this database: a `DSN`")
	fl.StringVar(&c.provider, "provider", "", "`DSN` of the node to read from")
	fl.StringVar(&c.worker, "worker", "", "`NAME` of the node's worker; defaults to NODE_worker")
	fl.StringVar(&c.merge, "merge", "", "leaf: `QUEUE` of this database that takes the events")
	fl.StringVar(&c.sync, "sync-watermark", "", "branch: do not hold back the nodes above; wait for these `NODES`")
	fl.Lookup("sync-watermark").NoOptDefVal = bareSync
	fl.BoolVar(&c.noCheck, "no-check", false, "do not make sure that --location leads to this database")
	return cmd
}

// creation puts the node together.
func (c *createFlags) creation(n nodeFlags, args []string) (cascade.Creation, error) {
	kind, err := checkType(args[0])
	if err != nil {
		return cascade.Creation{}, err
	}
	switch {
	case len(args) == 2 && c.sync == bareSync: // the names stand behind a blank
		c.sync = args[1]
	case len(args) == 2:
		return cascade.Creation{}, usageError("what is %q? the node's name goes into --node", args[1])
	}
	for _, needed := range [][2]string{{n.queue, "--queue QUEUE"}, {n.node, "--node NODE"}, {c.location, "--location DSN"}} {
		if needed[0] == "" {
			return cascade.Creation{}, usageError("node create needs %s", needed[1])
		}
	}
	if kind != cascade.Root && c.provider == "" {
		return cascade.Creation{}, usageError("a %s needs --provider DSN", kind)
	}
	creation := cascade.Creation{
		Type: kind, Name: n.node, Worker: c.worker, Location: c.location, Provider: c.provider, Combined: c.merge, NoCheck: c.noCheck,
	}
	if c.sync != "" {
		creation.Attrs = map[string]string{cascade.AttrSyncWatermark: strings.Trim(c.sync, ",")}
	}
	return creation, nil
}

// create installs what is missing and makes the node.
func (a *app) create(ctx context.Context, db *pgq.DB, f changeFlags, n *nodeFlags, c cascade.Creation) error {
	result := &nodeChange{Action: "create", Queue: n.queue, Node: n.node}
	what := string(c.Type) + " " + n.node + " of queue " + n.queue
	admin := n.admin(db)
	defer admin.Close()
	missing, err := missingSchemas(ctx, db)
	if err != nil {
		return err
	}
	text := "install " + strings.Join(missing, ", ")
	switch {
	case len(missing) == 0:
	case f.dryRun:
		plan := &cascade.Change{
			Steps: []cascade.Step{{Node: n.node, Text: text + " and what they need"}},
			Notes: []string{"the rest is planned when the schemas are there"},
		}
		return a.carry(ctx, f, result, plan, what+" made", "")
	default:
		if _, err := pgqsql.Install(ctx, db, pgqsql.Options{Schemas: missing}); err != nil {
			return err
		}
		a.note("%s: %s", n.node, text)
	}
	plan, err := admin.PlanCreate(ctx, c)
	if err != nil {
		return err
	}
	return a.carry(ctx, f, result, plan, what+" made", what+" is there")
}

// missingSchemas are the schemas of cascades that the database has not.
func missingSchemas(ctx context.Context, db *pgq.DB) ([]string, error) {
	report, err := pgqsql.Inspect(ctx, db)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, s := range report.Schemas {
		if (s.Name == "pgq_node" || s.Name == "skyd_node") && s.Owner == pgqsql.Missing {
			missing = append(missing, s.Name)
		}
	}
	return missing, nil
}
