package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"

	"culvert/bench/plot"
)

// Series is how figures grow with something: the same cells at rising sizes.
type Series struct {
	Title string `json:"title"`
	Notes string `json:"notes,omitempty"`
	X     string `json:"x"` // what grows: “records”, “peers”, “tunnels”
	Lines []Line `json:"lines"`
}

// Line is one cell over the sizes.
type Line struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	// Within is by how much the figure may be worse at the largest size than at the smallest, 0 where nothing is promised; Less says
	// that less is better.
	Within float64 `json:"within,omitempty"`
	Less   bool    `json:"less_is_better,omitempty"`
	Points []Point `json:"points"`
}

// Point is a cell's results at one size.
type Point struct {
	Size int       `json:"size"`
	Runs []float64 `json:"runs"` // one a round
}

// MarshalJSON adds the median.
func (p Point) MarshalJSON() ([]byte, error) {
	type plain Point
	return json.Marshal(struct {
		plain
		Median float64 `json:"median"`
	}{plain(p), orZero(Median(p.Runs))})
}

// Growth is by how much the figure is worse at the largest size than at the smallest: 1 where it is the same, 2 where it is
// twice as long or half as many. NaN where one of the two is missing.
func (l Line) Growth() float64 {
	if len(l.Points) < 2 {
		return math.NaN()
	}
	first, last := l.Points[0].Runs, l.Points[len(l.Points)-1].Runs
	if l.Less {
		return Ratio(last, first)
	}
	return Ratio(first, last)
}

// Print writes the series as a table: a row a size, a column a line.
func (s Series) Print(w io.Writer) error {
	head := []string{s.Title + ", by " + s.X}
	for _, l := range s.Lines {
		head = append(head, l.Name+", "+l.Unit)
	}
	rows := [][]string{head}
	for i, size := range s.sizes() {
		row := []string{Number(float64(size))}
		for _, l := range s.Lines {
			v := math.NaN()
			if i < len(l.Points) {
				v = Median(l.Points[i].Runs)
			}
			row = append(row, Number(v))
		}
		rows = append(rows, row)
	}
	worse := []string{"worse at the end by"}
	for _, l := range s.Lines {
		c := times(l.Growth())
		if l.Within > 0 {
			c += fmt.Sprintf(" (may be × %g)", l.Within)
		}
		worse = append(worse, c)
	}
	var b strings.Builder
	b.WriteByte('\n')
	layOut(&b, append(rows, worse), true)
	if s.Notes != "" {
		b.WriteString(s.Notes + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func times(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("× %.2f", v)
}

func (s Series) sizes() (l []int) {
	for _, line := range s.Lines {
		for i, p := range line.Points {
			if i >= len(l) {
				l = append(l, p.Size)
			}
		}
	}
	return l
}

// Plots draws a picture for each unit.
func (s Series) Plots(notes ...string) (l []plot.Plot) {
	at := make(map[string]int)
	for _, line := range s.Lines {
		i, ok := at[line.Unit]
		if !ok {
			i = len(l)
			at[line.Unit] = i
			l = append(l, plot.Plot{
				Title: s.Title, Notes: notes, X: plot.Axis{Label: s.X, Log: true}, Y: plot.Axis{Label: line.Unit},
			})
		}
		p := plot.Line{Name: line.Name, Colour: len(l[i].Lines)}
		for _, v := range line.Points {
			p.X, p.Y = append(p.X, float64(v.Size)), append(p.Y, Median(v.Runs))
		}
		l[i].Lines = append(l[i].Lines, p)
	}
	return l
}
