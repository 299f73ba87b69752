package report

import (
	"encoding/json"
	"io"
	"math"
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
