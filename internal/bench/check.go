package bench

import (
	"fmt"
	"slices"
)

// Verdicts of a Check.
const (
	Reached   = "reached"
	Missed    = "missed"
	NotJudged = "not judged"
)

// Check is one promise held against the figures of a run.
type Check struct {
	// Name says what is promised, Bound how much.
	Name  string `json:"name"`
	Bound string `json:"bound"`
	// Level is must or moonshot.
	Level string `json:"level"`
	// Verdict is reached, missed or not judged; Why explains the last.
	Verdict string `json:"verdict"`
	Why     string `json:"why,omitempty"`
	// Value is what was measured: a ratio, unless the bound is absolute.
	Value *float64 `json:"value,omitempty"`
	// Fails tells whether --check fails because of it.
	Fails bool `json:"fails"`
}

// target is one row of the project's list of targets. Its value is the figure of row divided by the one of against,
// round by round; the other way round where more is better; the bare figure without against.
type target struct {
	name     string
	table    string
	section  string
	row      string
	figure   string
	instead  string // when that was not measured
	against  string
	atLeast  bool
	must     float64
	moonshot float64 // 0: none
	// noMust is for what is only a moonshot.
	noMust bool
	// absolute bounds depend on the machine: they are shown, and never fail.
	absolute bool
}

// Failed names the musts that this run missed.
func (r Report) Failed() (names []string) {
	for _, c := range r.Checks {
		if c.Fails {
			names = append(names, c.Name+" ("+c.Bound+")")
		}
	}
	return names
}

// judge holds all targets of the tables that were run against their figures.
func (r Report) judge(targets []target) (checks []Check) {
	for _, t := range targets {
		if !slices.ContainsFunc(r.Tables, func(have Table) bool { return have.Name == t.table }) {
			continue
		}
		value, why := r.measure(t)
		if !t.noMust {
			checks = append(checks, t.check("must", t.must, value, why))
		}
		if t.moonshot != 0 || t.noMust {
			checks = append(checks, t.check("moonshot", t.moonshot, value, why))
		}
	}
	return checks
}

// measure computes the value of a target; nil with the reason when it cannot.
func (r Report) measure(t target) (value *float64, why string) {
	row := r.find(t.table, t.section, t.row)
	if row != nil && t.instead != "" && len(row.Rounds[t.figure]) == 0 {
		t.figure = t.instead
	}
	switch {
	case row == nil:
		return nil, "no row " + t.row
	case row.Absent != "":
		return nil, t.row + " is absent: " + row.Absent
	case len(row.Rounds[t.figure]) == 0:
		return nil, "not measured"
	}
	figures := row.Rounds[t.figure]
	if t.against != "" {
		peer := r.find(t.table, t.section, t.against)
		switch {
		case peer == nil:
			return nil, "no row " + t.against
		case peer.Absent != "":
			return nil, t.against + " is absent: " + peer.Absent
		case t.atLeast:
			figures = ratios(peer.Rounds[t.figure], figures)
		default:
			figures = ratios(figures, peer.Rounds[t.figure])
		}
		if len(figures) == 0 {
			return nil, "nothing to divide by"
		}
	}
	median := sum(figures).Median
	if t.against == "" && t.must == 0 && !t.absolute {
		median = sum(figures).Max // what must never be is not there in the middle round only
	}
	return &median, ""
}

// check gives the verdict on one bound.
func (t target) check(level string, bound float64, value *float64, why string) Check {
	sign, unit := "<=", ""
	if t.atLeast {
		sign = ">="
	}
	if t.against != "" {
		unit = "x " + t.against
	}
	c := Check{Name: t.name, Bound: fmt.Sprintf("%s %g%s", sign, bound, unit), Level: level, Verdict: NotJudged, Why: why, Value: value}
	if value == nil {
		return c
	}
	c.Verdict = Reached
	if (t.atLeast && *value < bound) || (!t.atLeast && *value > bound) {
		c.Verdict = Missed
		c.Fails = level == "must" && !t.absolute
	}
	return c
}
