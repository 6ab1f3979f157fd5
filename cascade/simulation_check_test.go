package cascade

import "slices"

// settled tells whether nothing is left to do.
func (w *world) settled() bool {
	if len(w.writers) > 0 {
		return false
	}
	var root *simNode
	for _, n := range w.nodes {
		if n.op != "" || len(n.loose) > 0 || n.paused {
			return false
		}
		if n.typ == Root {
			root = n
		}
	}
	if root == nil {
		return false
	}
	for _, n := range w.nodes {
		if n.top() != root.top() {
			return false
		}
	}
	return w.pos == root.top()
}

// checkAlways is what holds at every moment.
func (w *world) checkAlways() {
	open := 0
	for _, n := range w.nodes {
		if n.open {
			open++
		}
		for _, m := range w.nodes {
			if n.wm > m.done && m.typ != Root {
				w.fail("I8: %s has watermark %d, %s needs tick %d", n.name, n.wm, m.name, m.done)
			}
		}
	}
	if open > 1 {
		w.fail("I1: %d nodes take events", open)
	}
}

// checkEnd is what holds when everything has come to rest.
func (w *world) checkEnd() {
	if len(w.bad) > 0 {
		return
	}
	if !w.settled() {
		for _, n := range w.nodes {
			w.note("%s %s open=%v gate=%v paused=%v top=%d done=%d provider=%s op=%q subs=%v loose=%v journal=%v",
				n.name, n.typ, n.open, n.gate, n.paused, n.top(), n.done, n.provider, n.op, n.subs, n.loose, n.journal)
		}
		w.fail("I6/I9: it does not come to rest")
		return
	}
	readers := map[string]string{}
	for _, n := range w.nodes {
		if (n.typ == Root) != n.open || n.paused || n.gate == n.open && n.typ == Root {
			w.fail("I6: %s %s is left open=%v gate=%v paused=%v", n.typ, n.name, n.open, n.gate, n.paused)
		}
		for s := range n.subs {
			if p, ok := readers[s]; ok {
				w.fail("I6: %s is subscribed at %s and %s", s, p, n.name)
			}
			readers[s] = n.name
		}
		w.checkTicks(n)
	}
	for _, n := range w.nodes {
		if n.typ != Root && readers[n.name] != n.provider {
			w.fail("I6: %s reads from %s and is subscribed at %s", n.name, n.provider, readers[n.name])
		}
	}
	if len(w.seen) != len(w.acked) {
		w.fail("I7: the consumer saw %d events of %d", len(w.seen), len(w.acked))
	}
}

// checkTicks compares a node with the first one and with what was acknowledged.
func (w *world) checkTicks(n *simNode) {
	first := w.nodes[0]
	in := map[int]int{}
	last := int64(0)
	for i, t := range n.ticks {
		if t.id <= last {
			w.fail("I5: %s makes tick %d after %d", n.name, t.id, last)
		}
		last = t.id
		for _, e := range t.events {
			in[e]++
		}
		if i >= len(first.ticks) || t.id != first.ticks[i].id || !slices.Equal(slices.Sorted(slices.Values(t.events)),
			slices.Sorted(slices.Values(first.ticks[i].events))) {
			w.fail("I3/I4: tick %d of %s is not that of %s", t.id, n.name, first.name)
			return
		}
	}
	for _, e := range w.acked {
		if in[e] != 1 {
			w.fail("I2: event %d is %d times on %s", e, in[e], n.name)
		}
	}
	if len(in) != len(w.acked) {
		w.fail("I2: %d events on %s, %d acknowledged", len(in), n.name, len(w.acked))
	}
}
