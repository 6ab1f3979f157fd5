package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
)

// treeForm is how trees are written.
type treeForm struct {
	compact bool
	colours bool
}

// dataColumn is where the data of a node begins, as in the original's status.
const dataColumn = 30

// colours reports whether results may have colours.
func (a *app) colours() bool {
	f, ok := a.stdout.(*os.File)
	return ok && !a.noColor && os.Getenv("NO_COLOR") == "" && asks(f)
}

// treeNode is a node in the tree with the size of what hangs below it.
type treeNode struct {
	*cascade.Node
	below         []*treeNode
	depth, height int
}

// trees builds the trees of a cascade: one for each node that reads from no other, those of roots first.
func trees(t *cascade.Topology) []*treeNode {
	var build func(n *cascade.Node, seen []string) *treeNode
	build = func(n *cascade.Node, seen []string) *treeNode {
		tree := &treeNode{Node: n, height: 1}
		if slices.Contains(seen, n.Name) {
			return tree
		}
		for _, name := range n.Children {
			child := build(t.Node(name), append(slices.Clone(seen), n.Name))
			tree.below = append(tree.below, child)
			tree.depth, tree.height = max(tree.depth, child.depth+1), tree.height+child.height
		}
		slices.SortFunc(tree.below, func(a, b *treeNode) int {
			return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.height, b.height), strings.Compare(a.Name, b.Name))
		})
		return tree
	}
	var all []*treeNode
	for _, n := range t.Nodes {
		if p := t.Node(n.Provider); p == nil || p == n || n.Type == cascade.Root || t.Below(n.Name, n.Name) {
			all = append(all, build(n, nil))
		}
	}
	slices.SortStableFunc(all, func(a, b *treeNode) int {
		return cmp.Compare(boolInt(a.Type != cascade.Root), boolInt(b.Type != cascade.Root))
	})
	return all
}

// boolInt is 1 for true.
func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// writeTrees writes cascades for people.
func writeTrees(w io.Writer, all []*cascade.Topology, form treeForm) error {
	for i, t := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Queue: %s   Local node: %s\n\n", t.Queue, t.Local)
		for _, tree := range trees(t) {
			if form.compact {
				writeCompact(w, tree, "", form)
				continue
			}
			for _, line := range writeTree(w, tree, "", nil, form) {
				fmt.Fprintf(w, "%-*s%s\n", dataColumn, "", line)
			}
		}
		if h := t.Holder; h != nil && h.Ticks == 0 {
			fmt.Fprintf(w, "\nWatermark: tick %d, nobody is behind\n", h.Tick)
		} else if h != nil {
			fmt.Fprintf(w, "\nWatermark: tick %d, held by %s of %s for %s (%d ticks, %d events, %s in the tables of the root)\n",
				h.Tick, h.Consumer, h.Node, span(h.Seconds), h.Ticks, h.Events, size(h.Bytes))
		}
		if term := newestTerm(t); term != nil {
			fmt.Fprintf(w, "Term: %d, %s is root since %s\n", term.Term, term.Root, term.Since.Format(time.RFC3339))
		}
		for i, p := range t.Problems {
			if i == 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintln(w, "! "+p)
		}
		for _, a := range t.Advice {
			fmt.Fprintf(w, "\n%s\n  %s\n", a.Why, strings.Join(a.Run, " "))
		}
	}
	return nil
}

// newestTerm is the newest term that any node knows.
func newestTerm(t *cascade.Topology) (newest *cascade.Term) {
	for _, n := range t.Nodes {
		if n.Term != nil && (newest == nil || n.Term.Term > newest.Term) {
			newest = n.Term
		}
	}
	return newest
}

// writeTree writes a node and what is below it; data are the lines of the node before, which go beside the bars. It returns
// the lines of the last node.
func writeTree(w io.Writer, n *treeNode, prefix string, data []string, form treeForm) []string {
	for _, line := range data {
		fmt.Fprintf(w, "%-*s%s\n", dataColumn, bar(prefix, "|"), line)
	}
	data = dataLines(n.Node, form)
	fmt.Fprintf(w, "%s%s\n", bar(prefix, "+--: "), title(n.Node))
	for i, child := range n.below {
		next := prefix + "   "
		if i < len(n.below)-1 {
			next = prefix + "  |"
		}
		data = writeTree(w, child, next, data, form)
	}
	return data
}

// bar puts a mark in place of the last character of a prefix.
func bar(prefix, mark string) string {
	if prefix == "" {
		return ""
	}
	return prefix[:len(prefix)-1] + mark
}

// writeCompact writes a node on one line.
func writeCompact(w io.Writer, n *treeNode, prefix string, form treeForm) {
	fmt.Fprintf(w, "%s%-*s%s\n", prefix, 60-len(prefix), title(n.Node), strings.Join(dataLines(n.Node, form), "  "))
	for _, child := range n.below {
		writeCompact(w, child, prefix+"   ", form)
	}
}

// title is a node with its type.
func title(n *cascade.Node) string {
	kind := string(n.Type)
	if n.State != cascade.Alive {
		kind = string(n.State)
	}
	if n.Service != "" {
		kind += ", " + n.Service
	}
	return n.Name + " (" + kind + ")"
}

// dataLines are what the tree says beside a node.
func dataLines(n *cascade.Node, form treeForm) []string {
	if n.State != cascade.Alive {
		if n.Error == "" {
			return nil
		}
		return []string{"ERR: " + n.Error}
	}
	lag := "(n/a)"
	if n.LagSeconds != nil {
		lag = span(*n.LagSeconds)
		if form.colours && *n.LagSeconds > 60 {
			lag = "\x1b[31m" + lag + "\x1b[0m"
		}
	}
	first := fmt.Sprintf("Lag: %s, Tick: %d", lag, n.LastTick)
	if n.Paused {
		first += ", PAUSED"
	}
	if !n.Uptodate {
		first += ", NOT UPTODATE"
	}
	lines := []string{first}
	if n.Lag != nil && n.Lag.Ticks > 0 {
		lines = append(lines, "Behind "+n.Provider+": "+lagText(n.Lag))
	}
	if q := n.Queue; q != nil {
		closed := ""
		if n.Type == cascade.Root && q.Closed {
			closed = ", CLOSED"
		}
		lines = append(lines, fmt.Sprintf("Keeps: ticks %d to %d, %s, %s%s", q.FirstTick, q.TopTick, span(q.KeptSeconds), size(q.KeptBytes), closed))
	}
	if n.GlobalWatermark > 0 {
		lines = append(lines, fmt.Sprintf("Watermark: %d global, %d local", n.GlobalWatermark, n.LocalWatermark))
	}
	for _, key := range slices.Sorted(maps.Keys(n.Attrs)) {
		lines = append(lines, "Attr: "+key+"="+n.Attrs[key])
	}
	for _, c := range n.Consumers {
		if c.Error != "" {
			lines = append(lines, "ERR: "+c.Consumer+": "+firstOf(c.Error))
		}
	}
	return lines
}

// lagText writes a distance.
func lagText(l *cascade.Lag) string {
	if l == nil {
		return "(n/a)"
	}
	return fmt.Sprintf("%d ticks, %d events, %s", l.Ticks, l.Events, span(l.Seconds))
}

// span writes seconds as the original does: 1d2h3m4s.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	days := d / (24 * time.Hour)
	text := configs.DurationText(d % (24 * time.Hour))
	if days == 0 {
		return text
	}
	return fmt.Sprintf("%dd%s", days, text)
}

// size writes bytes.
func size(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d kB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d GB", n>>30)
}

// firstOf is the first line of a text.
func firstOf(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// writeDot writes cascades as graphs.
func writeDot(w io.Writer, all []*cascade.Topology) error {
	for _, t := range all {
		fmt.Fprintf(w, "digraph %q {\n\trankdir=TB; node [shape=box, fontname=\"sans-serif\"];\n", t.Queue)
		for _, n := range t.Nodes {
			lines := append([]string{title(n)}, dataLines(n, treeForm{})...)
			style := ""
			if n.State != cascade.Alive {
				style = ", style=dashed"
			}
			fmt.Fprintf(w, "\t%q [label=%q%s];\n", n.Name, strings.Join(lines, "\n"), style)
		}
		for _, n := range t.Nodes {
			for _, child := range n.Children {
				fmt.Fprintf(w, "\t%q -> %q [label=%q];\n", n.Name, child, lagText(t.Node(child).Lag))
			}
		}
		fmt.Fprintln(w, "}")
	}
	return nil
}

// noteText joins the notes whose condition holds, see notes.
func noteText(pairs ...any) string { return strings.Join(notes(pairs...), "; ") }
