package bench

import (
	"slices"
	"testing"
)

// fixed is a report with one section whose rows have these rounds.
func fixed(rows map[string][]float64, absent ...string) Report {
	s := Section{Name: "s", Reference: "ref"}
	for name, rounds := range rows {
		s.Rows = append(s.Rows, Row{Name: name, Rounds: map[string][]float64{"f": rounds}})
	}
	for _, name := range absent {
		s.Rows = append(s.Rows, Row{Name: name, Absent: "not here"})
	}
	s.settle([]Column{{ID: "f", Ratio: true}})
	return Report{Tables: []Table{{Name: "t", Sections: []Section{s}}}}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	// The machine was slow in the second round: the ratio of medians would be 15/20.
	uneven := fixed(map[string][]float64{"own": {10, 15, 30}, "peer": {10, 30, 20}}, "gone")
	for name, c := range map[string]struct {
		report  Report
		target  target
		verdict string
		value   float64
		fails   bool
	}{
		"ratio of each round":       {uneven, target{row: "own", against: "peer", must: 1}, Reached, 1, false},
		"must missed":               {uneven, target{row: "own", against: "peer", must: 0.99}, Missed, 1, true},
		"at least":                  {fixed(map[string][]float64{"own": {2}, "peer": {3}}), target{row: "own", against: "peer", atLeast: true, must: 1.5}, Reached, 1.5, false},
		"at least missed":           {fixed(map[string][]float64{"own": {2}, "peer": {2.9}}), target{row: "own", against: "peer", atLeast: true, must: 1.5}, Missed, 1.45, true},
		"peer absent":               {uneven, target{row: "own", against: "gone", must: 1}, NotJudged, 0, false},
		"own row absent":            {uneven, target{row: "gone", against: "own", must: 1}, NotJudged, 0, false},
		"no such row":               {uneven, target{row: "nobody", must: 1}, NotJudged, 0, false},
		"nothing measured":          {fixed(map[string][]float64{"own": nil}), target{row: "own", must: 1}, NotJudged, 0, false},
		"divided by zero":           {fixed(map[string][]float64{"own": {1}, "peer": {0}}), target{row: "own", against: "peer", must: 1}, NotJudged, 0, false},
		"bare figure":               {fixed(map[string][]float64{"own": {3, 1, 2}}), target{row: "own", must: 2}, Reached, 2, false},
		"never, not even once":      {fixed(map[string][]float64{"own": {0, 0, 8}}), target{row: "own", must: 0}, Missed, 8, true},
		"machine bound never fails": {fixed(map[string][]float64{"own": {9}}), target{row: "own", must: 5, absolute: true}, Missed, 9, false},
	} {
		c.target.name, c.target.table, c.target.section, c.target.figure = "promise", "t", "s", "f"
		checks := c.report.judge([]target{c.target})
		if len(checks) != 1 {
			t.Errorf("%s: %d checks", name, len(checks))
			continue
		}
		got := checks[0]
		if got.Verdict != c.verdict || got.Fails != c.fails || (got.Value == nil) != (c.verdict == NotJudged) ||
			got.Value != nil && *got.Value != c.value || (got.Why == "") == (c.verdict == NotJudged) {
			t.Errorf("%s: got %+v", name, got)
		}
		if failed := (Report{Checks: checks}).Failed(); (len(failed) == 1) != c.fails {
			t.Errorf("%s: failed %q", name, failed)
		}
	}
}

func TestJudge_Moonshots(t *testing.T) {
	t.Parallel()
	r := fixed(map[string][]float64{"own": {1.2}, "peer": {1}})
	goal := target{name: "promise", table: "t", section: "s", row: "own", figure: "f", against: "peer", must: 1.5, moonshot: 1}
	dream := goal
	dream.noMust = true
	other := goal
	other.table = "not run"
	var got []string
	for _, c := range r.judge([]target{goal, dream, other}) {
		got = append(got, c.Level+" "+c.Bound+" "+c.Verdict)
		if c.Fails {
			t.Errorf("%+v fails", c)
		}
	}
	want := []string{"must <= 1.5x peer reached", "moonshot <= 1x peer missed", "moonshot <= 1x peer missed"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	r := fixed(map[string][]float64{"own": {4, 1, 3, 2}, "ref": {2, 1, 1, 1}}, "gone")
	own, gone := r.find("t", "s", "own"), r.find("t", "s", "gone")
	if own.Values["f"] != (Stat{2.5, 1, 4}) || own.Ratios["f"] != (Stat{2, 1, 3}) || gone.Values != nil || gone.Ratios != nil {
		t.Errorf("got %+v and %+v", own, gone)
	}
	if r.find("t", "x", "own") != nil || r.find("x", "s", "own") != nil {
		t.Error("found what is not there")
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0}, {[]float64{7}, 0.99, 7}, {[]float64{1, 2, 3}, 0.5, 2}, {[]float64{1, 2}, 0.5, 1.5}, {[]float64{1, 2, 3}, 1, 3},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %g) = %g, want %g", c.values, c.q, got, c.want)
		}
	}
}
