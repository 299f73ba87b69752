package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Claim is what shall be so: a figure, or a ratio to one of several rows of the same table, whichever of them is best.
type Claim struct {
	Text string   `json:"text"`
	In   string   `json:"table"` // or series, where Growth is set: by how much the row, a line there, is worse at the end
	Row  string   `json:"row"`
	To   []string `json:"to,omitempty"` // none: the figure itself
	// Want is the least that is wanted, or the most where AtMost is set.
	Want   float64 `json:"want"`
	AtMost bool    `json:"at_most,omitempty"`
	Growth bool    `json:"growth,omitempty"`

	Got  float64 `json:"-"`
	Best string  `json:"best,omitempty"` // of To
}

// MarshalJSON adds what was got, if anything.
func (c Claim) MarshalJSON() ([]byte, error) {
	type plain Claim
	var got *float64
	if !math.IsNaN(c.Got) {
		got = &c.Got
	}
	return json.Marshal(struct {
		plain
		Got   *float64 `json:"got"`
		Holds bool     `json:"holds"`
	}{plain(c), got, c.Holds()})
}

// Judge fills in what was got: NaN where a row or all it is compared with are missing.
func (c Claim) Judge(r *Report) Claim {
	c.Got, c.Best = math.NaN(), ""
	if c.Growth {
		c.Got = r.growth(c.In, c.Row)
		return c
	}
	g := r.Group(c.In)
	if g == nil {
		return c
	}
	row := g.Row(c.Row)
	if row == nil {
		return c
	}
	if len(c.To) == 0 {
		c.Got = Median(row.Runs)
		return c
	}
	// The best of them is the one that it is hardest to be compared with.
	for _, name := range c.To {
		o := g.Row(name)
		if o == nil {
			continue
		}
		v := Ratio(row.Runs, o.Runs)
		if math.IsNaN(c.Got) || row.Less == (v > c.Got) {
			c.Got, c.Best = v, name
		}
	}
	return c
}

// growth is by how much a line of a series is worse at its end.
func (r *Report) growth(series, line string) float64 {
	for _, s := range r.Series {
		for _, l := range s.Lines {
			if s.Title == series && l.Name == line {
				return l.Growth()
			}
		}
	}
	return math.NaN()
}

// Claims are what the series promises.
func (s Series) Claims() (l []Claim) {
	for _, line := range s.Lines {
		if line.Within > 0 {
			l = append(l, Claim{
				Text: line.Name + ", worse with most " + s.X + " by", In: s.Title, Row: line.Name, Want: line.Within, AtMost: true, Growth: true,
			})
		}
	}
	return l
}

// Holds reports whether what was got is what was wanted; false where nothing was got.
func (c Claim) Holds() bool {
	if c.AtMost {
		return c.Got <= c.Want
	}
	return c.Got >= c.Want
}

// PrintClaims writes what was wanted and what was got.
func PrintClaims(w io.Writer, claims []Claim) error {
	if len(claims) == 0 {
		return nil
	}
	rows := [][]string{{"wanted", "want", "got", "", "of"}}
	for _, c := range claims {
		sign, verdict := "≥ ", "holds"
		if c.AtMost {
			sign = "≤ "
		}
		switch {
		case math.IsNaN(c.Got):
			verdict = "not measured"
		case !c.Holds():
			verdict = "falls short"
		}
		rows = append(rows, []string{c.Text, sign + Number(c.Want), Number(c.Got), verdict, c.Best})
	}
	var b strings.Builder
	b.WriteByte('\n')
	layOut(&b, rows, false)
	_, err := io.WriteString(w, b.String())
	return err
}

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
			if row.Less && slices.Min(c.Now) > slices.Max(c.Before) || !row.Less && slices.Max(c.Now) < slices.Min(c.Before) {
				l = append(l, c)
			}
		}
	}
	return l, compared
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
