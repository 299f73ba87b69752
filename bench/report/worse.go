package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Change is a row that is worse than in another run.
type Change struct {
	Table  string    `json:"table"`
	Row    string    `json:"row"`
	Unit   string    `json:"unit"` // “×” where ratios to the reference are compared
	Before []float64 `json:"before"`
	Now    []float64 `json:"now"`
}

// WorseThan are the rows of r that are worse than in before by more than the noise: every round is worse than every round was. Where
// a row has a reference in both, its ratios to that are compared, since machines and their other work differ; else the figures.
// compared is how many rows there are in both.
func (r *Report) WorseThan(before *Report) (l []Change, compared int) {
	for _, g := range r.Groups {
		old := before.Group(g.Title)
		if old == nil {
			continue
		}
		for _, row := range g.Rows {
			o := old.Row(row.Name)
			if o == nil || len(o.Runs) == 0 || len(row.Runs) == 0 || o.Unit != row.Unit {
				continue
			}
			compared++
			c := Change{Table: g.Title, Row: row.Name, Unit: row.Unit, Before: o.Runs, Now: row.Runs}
			if o.Reference == row.Reference {
				if a, b := old.ratios(*o), g.ratios(row); len(a) > 0 && len(b) > 0 {
					c.Unit, c.Before, c.Now = "×", a, b
				}
			}
			if c.worse(row.Less) {
				l = append(l, c)
			}
		}
	}
	for _, s := range r.Series {
		for _, line := range s.Lines {
			for _, p := range line.Points {
				runs := before.point(s.Title, line, p.Size)
				if len(runs) == 0 || len(p.Runs) == 0 {
					continue
				}
				compared++
				c := Change{Table: s.Title, Row: fmt.Sprintf("%s, %s %s", line.Name, Number(float64(p.Size)), s.X), Unit: line.Unit, Before: runs, Now: p.Runs}
				if c.worse(line.Less) {
					l = append(l, c)
				}
			}
		}
	}
	return l, compared
}

// worse reports whether every round is worse than every round was.
func (c Change) worse(less bool) bool {
	if less {
		return slices.Min(c.Now) > slices.Max(c.Before)
	}
	return slices.Max(c.Now) < slices.Min(c.Before)
}

// point are the runs of a line at one size.
func (r *Report) point(series string, line Line, size int) []float64 {
	for _, s := range r.Series {
		for _, l := range s.Lines {
			if s.Title != series || l.Name != line.Name || l.Unit != line.Unit {
				continue
			}
			for _, p := range l.Points {
				if p.Size == size {
					return p.Runs
				}
			}
		}
	}
	return nil
}

// PrintWorse writes what got worse.
func PrintWorse(w io.Writer, l []Change, compared int, before string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d of %d figures are worse than in %s by more than the noise (every round than every round then)\n", len(l), compared, before)
	if len(l) > 0 {
		rows := [][]string{{"table", "then", "now", "", "row"}}
		for _, c := range l {
			rows = append(rows, []string{c.Table, Number(Median(c.Before)), Number(Median(c.Now)), c.Unit, c.Row})
		}
		layOut(&b, rows, false)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
