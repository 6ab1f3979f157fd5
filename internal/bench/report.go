package bench

import (
	"slices"
	"time"
)

// Report is the result of a run.
type Report struct {
	Setup  Setup   `json:"setup"`
	Tables []Table `json:"tables"`
	Checks []Check `json:"checks"`
}

// Setup says under which conditions the figures came about.
type Setup struct {
	Started   time.Time         `json:"started"`
	Seconds   float64           `json:"run_seconds"`
	Skyd      string            `json:"skyd"`
	Server    string            `json:"server"`
	Settings  map[string]string `json:"settings"`
	Machine   Machine           `json:"machine"`
	Payload   int               `json:"payload_bytes"`
	Rounds    int               `json:"rounds"`
	Quick     bool              `json:"quick"`
	ServerCPU string            `json:"server_cpu"` // how it was measured, or why not
}

// Machine is where this process runs.
type Machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	CPUs   int    `json:"cpus"`
	Model  string `json:"model,omitempty"`
	Memory int64  `json:"memory_bytes,omitempty"`
}

// Table is one of the tables of the guide: insert, capture, drain, latency, idle or pinned.
type Table struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Note     string    `json:"note"`
	Columns  []Column  `json:"columns"`
	Sections []Section `json:"sections"`
}

// Column is one figure of the rows of a table.
type Column struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	// Digits is how many digits after the point are worth printing.
	Digits int `json:"digits"`
	// Ratio tells whether the figure is divided by the one of the reference row.
	Ratio bool `json:"ratio"`
}

// Section is one workload, done by each of its rows.
type Section struct {
	Name      string `json:"name"`
	Commit    string `json:"commit"`    // asynchronous or synchronous
	Reference string `json:"reference"` // name of the row that ratios divide by
	Events    int    `json:"events"`    // of one round; 0 where events are not what is measured
	Rows      []Row  `json:"rows"`
}

// Row is one contender. A row that is absent says why and has no figures.
type Row struct {
	Name   string               `json:"name"`
	Absent string               `json:"absent,omitempty"`
	Values map[string]Stat      `json:"values,omitempty"`
	Ratios map[string]Stat      `json:"ratios,omitempty"`
	Rounds map[string][]float64 `json:"rounds,omitempty"` // every figure, round by round
}

// Stat sums up the rounds.
type Stat struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// sum makes a Stat; the zero Stat of nothing.
func sum(figures []float64) Stat {
	if len(figures) == 0 {
		return Stat{}
	}
	s := slices.Sorted(slices.Values(figures))
	return Stat{Median: quantile(s, 0.5), Min: s[0], Max: s[len(s)-1]}
}

// quantile is the value below which the share q of the sorted values lies; in between it is interpolated.
func quantile[T ~int64 | ~float64](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + T((at-float64(i))*float64(sorted[i+1]-sorted[i]))
}

// ratios divides two rows round by round. Rounds that one of them lacks, and divisions by zero, are left out.
func ratios(of, by []float64) (all []float64) {
	for i := range min(len(of), len(by)) {
		if by[i] != 0 {
			all = append(all, of[i]/by[i])
		}
	}
	return all
}

// settle computes the sums and ratios of a section from its rounds.
func (s *Section) settle(columns []Column) {
	reference := s.row(s.Reference)
	for i := range s.Rows {
		row := &s.Rows[i]
		if row.Absent != "" {
			continue
		}
		row.Values, row.Ratios = map[string]Stat{}, map[string]Stat{}
		for _, c := range columns {
			figures := row.Rounds[c.ID]
			if len(figures) == 0 {
				continue
			}
			row.Values[c.ID] = sum(figures)
			if reference == nil || !c.Ratio {
				continue
			}
			if r := ratios(figures, reference.Rounds[c.ID]); len(r) > 0 {
				row.Ratios[c.ID] = sum(r)
			}
		}
	}
}

func (s *Section) row(name string) *Row {
	for i := range s.Rows {
		if s.Rows[i].Name == name {
			return &s.Rows[i]
		}
	}
	return nil
}

// find returns one row; nil when the run did not have it.
func (r Report) find(table, section, row string) *Row {
	t := slices.IndexFunc(r.Tables, func(t Table) bool { return t.Name == table })
	if t < 0 {
		return nil
	}
	sections := r.Tables[t].Sections
	s := slices.IndexFunc(sections, func(s Section) bool { return s.Name == section })
	if s < 0 {
		return nil
	}
	return sections[s].row(row)
}
