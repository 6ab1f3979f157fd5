package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/cascade"
)

// takeoverPatience is how long a takeover may take when --timeout does not say.
const takeoverPatience = 10 * time.Minute

// takeoverFlags are the flags of skyd node takeover.
type takeoverFlags struct {
	target                 string
	all, force, allowLoss  bool
	deadRoot, deadBranch   bool
	resume, rollback       bool
	maxLag, writeOutageMax time.Duration
}

// newNodeTakeover builds skyd node takeover.
func newNodeTakeover(a *app) *cobra.Command {
	var (
		f changeFlags
		n nodeFlags
		o takeoverFlags
	)
	cmd := &cobra.Command{
		Use: "takeover OLDNODE", Short: "let a node take the place of another one: switchover and failover", Args: cobra.MaximumNArgs(1),
		Long: `Lets the node of the database, or --target, take the place of OLDNODE.

OLDNODE is the root and answers: a switchover. Writes are refused for a moment, the new root gets everything, then takes
writes; the proof that both have the same is printed. Past --write-outage-max before that point the old root opens again.
OLDNODE is a branch and answers: the target reads where it read, and it reads from the target.
--dead-root, --dead-branch: OLDNODE is gone, the cascade goes on without it. What never left a dead root is lost to the
cascade until skyd node resurrect saves it; the window is shown, and --allow-data-loss accepts it.

The steps are in a journal in both databases. A takeover that was killed is ended by --resume, or undone by --rollback as long
as the new root takes no writes. Asks for the name of the old node; --yes does not. Exit codes: 0 done, 1 failed and rolled
back, 5 refused before anything was changed, 7 unfinished.`,
		Example: `  skyd node takeover n1 --target n2 --db DSN --dry-run
  skyd node takeover n1 --target n2 --dead-root --allow-data-loss --db DSN
  skyd node takeover --resume --db DSN`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("timeout") {
				a.timeout = takeoverPatience
			}
			if err := o.check(args); err != nil {
				return err
			}
			return a.onNode(cmd, &n, func(ctx context.Context, admin *cascade.Admin, t *cascade.Topology) error {
				if o.target != "" {
					n.node = o.target
				}
				if len(args) > 0 && taken(t, args[0], n.node) {
					r := &takeoverResult{Action: "takeover", Queue: n.queue, DryRun: f.dryRun, Old: args[0], New: n.node}
					return a.show(r, func(w io.Writer) error {
						_, err := fmt.Fprintf(w, "nothing to do: %s is root, and %s reads from it\n", r.New, r.Old)
						return err
					})
				}
				return takeoverError(a.takeover(ctx, admin, f, n, o, args))
			})
		},
	}
	n.register(cmd)
	f.register(cmd, true)
	fl := cmd.Flags()
	fl.StringVar(&o.target, "target", "", "`NODE` that takes the place; defaults to the node of the database")
	fl.BoolVar(&o.all, "all", false, "let the other nodes that read from OLDNODE read from the target, too")
	fl.BoolVar(&o.deadRoot, "dead-root", false, "OLDNODE is the root and gone")
	fl.BoolVar(&o.deadBranch, "dead-branch", false, "OLDNODE is a branch and gone")
	fl.BoolVar(&o.allowLoss, "allow-data-loss", false, "accept that events which never left the dead root are lost to the cascade")
	fl.BoolVar(&o.force, "force", false, "go on in spite of yellow checks")
	fl.BoolVar(&o.resume, "resume", false, "end the takeover that was left unfinished")
	fl.BoolVar(&o.rollback, "rollback", false, "undo the takeover that was left unfinished, as far as that is possible")
	fl.DurationVar(&o.maxLag, "max-lag", time.Minute, "how far the target may be behind")
	fl.DurationVar(&o.writeOutageMax, "write-outage-max", 10*time.Second, "how long writes may be refused before all is undone")
	cmd.MarkFlagsMutuallyExclusive("dead-root", "dead-branch", "resume", "rollback")
	return cmd
}

// taken reports whether a node has the place of the old root already, with nothing left to do.
func taken(t *cascade.Topology, old, name string) bool {
	was, n := t.Node(old), t.Node(name)
	return was != nil && n != nil && n.Type == cascade.Root && n.State == cascade.Alive && was.State == cascade.Alive &&
		was.Type == cascade.Branch && was.Provider == name && t.Operation == nil
}

// check checks the flags.
func (o *takeoverFlags) check(args []string) error {
	if len(args) == 0 && !o.resume && !o.rollback {
		return usageError("whose place is to be taken? give OLDNODE")
	}
	if o.maxLag <= 0 || o.writeOutageMax <= 0 {
		return usageError("--max-lag and --write-outage-max must be positive")
	}
	return nil
}

// takeoverStep is a step of a takeover in results.
type takeoverStep struct {
	Node    string  `json:"node"`
	Step    string  `json:"step"`
	Why     string  `json:"why"`
	Seconds float64 `json:"took_seconds"`
}

// takeoverResult is the result of a takeover.
type takeoverResult struct {
	Action   string              `json:"action"`
	Changed  bool                `json:"changed"`
	DryRun   bool                `json:"dry_run"`
	Queue    string              `json:"queue"`
	Kind     string              `json:"kind,omitempty"`
	Old      string              `json:"old_node,omitempty"`
	New      string              `json:"new_node,omitempty"`
	Checks   []cascade.Check     `json:"checks,omitempty"`
	Plan     []string            `json:"plan,omitempty"`
	Steps    []takeoverStep      `json:"steps,omitempty"`
	Estimate float64             `json:"estimated_write_outage_seconds,omitempty"`
	Loss     *cascade.LossWindow `json:"loss_window,omitempty"`
	Proof    *takeoverProof      `json:"proof,omitempty"`
	Moved    []string            `json:"moved,omitempty"`
	Left     map[string]string   `json:"left,omitempty"`
}

// takeoverProof is the proof of a switchover in results.
type takeoverProof struct {
	Equal      bool    `json:"equal"`
	Term       int64   `json:"term"`
	FromTick   int64   `json:"from_tick"`
	FinalTick  int64   `json:"final_tick"`
	OldEvents  int64   `json:"old_events"`
	NewEvents  int64   `json:"new_events"`
	OldHash    string  `json:"old_hash"`
	NewHash    string  `json:"new_hash"`
	WritesHeld float64 `json:"writes_held_seconds"`
	Took       float64 `json:"took_seconds"`
}

// takeover plans, asks and runs.
func (a *app) takeover(ctx context.Context, admin *cascade.Admin, f changeFlags, n nodeFlags, o takeoverFlags, args []string) error {
	r := &takeoverResult{Action: "takeover", Queue: n.queue, DryRun: f.dryRun}
	options := cascade.TakeoverOptions{
		MaxLag: o.maxLag, WriteOutage: o.writeOutageMax, All: o.all, Force: o.force, Dead: o.deadRoot || o.deadBranch,
		AllowDataLoss: o.allowLoss,
		Told: func(s cascade.OpStep) {
			r.Steps = append(r.Steps, takeoverStep{s.Node, string(s.Step), s.Why, s.Took.Seconds()})
			if a.verbose {
				a.note("%s: %s (%s)", s.Node, s.Step, s.Why)
			}
		},
	}
	if o.resume || o.rollback {
		return a.endTakeover(ctx, admin, f, n, o, options, r, args)
	}
	plan, err := admin.PlanTakeover(ctx, args[0], n.node, options)
	if err != nil {
		return err
	}
	r.Kind, r.Old, r.New, r.Checks, r.Plan = plan.Kind, plan.Old, plan.New, plan.Checks, plan.Steps
	r.Estimate, r.Loss = plan.Estimate.Seconds(), plan.Loss
	if o.deadRoot && plan.Kind != cascade.KindFailover || o.deadBranch && plan.Kind == cascade.KindFailover {
		return withExit(exitRefused, "--dead-root is for roots, --dead-branch for branches", fmt.Errorf("%s is not what the flag says", plan.Old))
	}
	refused := plan.Refused()
	if f.dryRun || refused != nil {
		err := a.show(r, func(w io.Writer) error { return writeTakeover(w, r) })
		return errors.Join(err, refused)
	}
	if err := a.confirm(f, plan.Old, takeoverConsequences(plan)...); err != nil {
		return err
	}
	result, err := admin.Run(ctx, plan)
	r.Changed = true
	r.take(result)
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error { return writeTakeover(w, r) })
}

// endTakeover ends what was left unfinished.
func (a *app) endTakeover(ctx context.Context, admin *cascade.Admin, f changeFlags, n nodeFlags, o takeoverFlags,
	options cascade.TakeoverOptions, r *takeoverResult, args []string,
) error {
	j, err := admin.OpenOperation(ctx)
	if err != nil {
		return err
	}
	old, node := "", ""
	if j != nil {
		r.Kind, r.Old, r.New = j.Kind, j.Old, j.New
	}
	if len(args) > 0 {
		old, node = args[0], n.node
		if j != nil && (j.Old != old || o.target != "" && j.New != node) {
			return withExit(exitRefused, "leave the names out to end that one", fmt.Errorf("the open operation is the %s of %s by %s", j.Kind, j.Old, j.New))
		}
	}
	if j == nil {
		r.Old, r.New = old, node
	}
	verb := map[bool]string{true: "undone", false: "ended"}[o.rollback]
	if j == nil && old == "" {
		r.Action = "nothing"
		return a.show(r, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, "nothing to do: no takeover of queue "+n.queue+" is unfinished")
			return err
		})
	}
	if f.dryRun {
		return a.show(r, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "would be %s: takeover of %s by %s\n", verb, r.Old, r.New)
			return err
		})
	}
	result, err := admin.Resume(ctx, old, node, o.rollback, options)
	r.Changed = true
	r.take(result)
	if o.rollback && errors.Is(err, cascade.ErrRolledBack) {
		err = nil // as asked
	}
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error {
		fmt.Fprintf(w, "takeover of %s by %s %s\n", r.Old, r.New, verb)
		return writeOutcome(w, r)
	})
}

// take takes over what the operation told.
func (r *takeoverResult) take(result *cascade.Result) {
	if result == nil {
		return
	}
	r.Moved, r.Left = result.Moved, result.Left
	if p := result.Proof; p != nil {
		r.Proof = &takeoverProof{
			Equal: p.Equal(), Term: p.Term, FromTick: p.FromTick, FinalTick: p.FinalTick, OldEvents: p.OldEvents, NewEvents: p.NewEvents,
			OldHash: p.OldHash, NewHash: p.NewHash, WritesHeld: p.WritesHeld.Seconds(), Took: p.Took.Seconds(),
		}
	}
}

// takeoverConsequences says what the takeover does.
func takeoverConsequences(t *cascade.Takeover) []string {
	lines := []string{fmt.Sprintf("%s of queue %s: %s takes the place of %s", t.Kind, t.Queue, t.New, t.Old)}
	if t.Kind == cascade.KindSwitchover {
		lines = append(lines, fmt.Sprintf("writes are refused for about %s", t.Estimate.Round(10*time.Millisecond)))
	}
	if t.Loss != nil {
		lines = append(lines, t.Loss.String())
	}
	return lines
}

// writeTakeover writes plan and outcome for people.
func writeTakeover(w io.Writer, r *takeoverResult) error {
	if r.Changed {
		fmt.Fprintf(w, "%s: %s has taken the place of %s\n", r.Kind, r.New, r.Old)
		return writeOutcome(w, r)
	}
	fmt.Fprintf(w, "%s of queue %s: %s would take the place of %s\n\n", r.Kind, r.Queue, r.New, r.Old)
	var cells [][]any
	for _, c := range r.Checks {
		needed := ""
		if c.Level != cascade.Green {
			needed = c.Needed
		}
		cells = append(cells, []any{c.ID, c.Level, c.Text, c.Found, needed})
	}
	if len(cells) > 0 {
		if err := writeTable(w, []any{"CHECK", "STATE", "WHAT", "FOUND", "NEEDED"}, cells); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for i, s := range r.Plan {
		fmt.Fprintf(w, "%2d. %s\n", i+1, s)
	}
	if r.Estimate > 0 {
		fmt.Fprintf(w, "\nwrites are refused for about %s\n", seconds(r.Estimate))
	}
	if r.Loss != nil {
		fmt.Fprintln(w, "\n"+r.Loss.String())
	}
	return nil
}

// seconds writes a short time.
func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}

// writeOutcome writes what a takeover did.
func writeOutcome(w io.Writer, r *takeoverResult) error {
	for _, s := range r.Steps {
		fmt.Fprintf(w, "  %s: %s, %s (%s)\n", s.Node, s.Step, s.Why, seconds(s.Seconds))
	}
	if p := r.Proof; p != nil {
		fmt.Fprintf(w, "proof: ticks %d to %d, %s: %d events, hash %s; %s: %d events, hash %s\n", p.FromTick, p.FinalTick,
			r.Old, p.OldEvents, p.OldHash, r.New, p.NewEvents, p.NewHash)
		fmt.Fprintf(w, "writes were held for %s; the whole took %s; term %d\n", seconds(p.WritesHeld), seconds(p.Took), p.Term)
	}
	for _, m := range r.Moved {
		fmt.Fprintf(w, "moved: %s reads from %s\n", m, r.New)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Left)) {
		fmt.Fprintf(w, "left: %s: %s\n", name, r.Left[name])
	}
	return nil
}

// takeoverError gives the ends of operations their exit codes.
func takeoverError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cascade.ErrRolledBack):
		return withExit(exitFailed, "the old root takes events as before", err)
	case errors.Is(err, cascade.ErrUnfinished):
		return withExit(exitPartial, "skyd node takeover --resume ends it, --rollback undoes it", err)
	case errors.Is(err, cascade.ErrNeedsPerson):
		return withExit(exitPartial, "see skyd node status and docs/cascade.md", err)
	case errors.Is(err, cascade.ErrBusy), errors.Is(err, cascade.ErrDriverLost), errors.Is(err, cascade.ErrOvertaken):
		return withExit(exitRefused, "see skyd node status", err)
	}
	return err
}
