package report

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	if err := r.PrintHead(w); err != nil {
		return err
	}
	for _, g := range r.Groups {
		if err := g.Print(w); err != nil {
			return err
		}
	}
	return nil
}

// PrintHead says what was measured on which machine.
func (r *Report) PrintHead(w io.Writer) error {
	m := r.Machine
	if _, err := fmt.Fprintf(w, "culvert %s, %s\n%s, %d cores, %s, %s %s/%s, load %s\nmedians of %d rounds of %gs a cell [least … most]; "+
		"ratio: median of the rounds' ratios to the reference\n",
		r.Culvert, r.Date.Format("2006-01-02 15:04 MST"), m.CPU, m.Cores, m.Kernel, m.Go, m.OS, m.Arch, m.Load, r.Rounds, r.Seconds); err != nil {
		return err
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Peers)) {
		fmt.Fprintf(&b, ", %s %s", name, r.Peers[name])
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	for _, m := range r.Missing {
		b.WriteString(m + "\n")
	}
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), ", "))
	return err
}

// Print writes one table.
func (g Group) Print(w io.Writer) error {
	rows := [][]string{{g.Title, "median", "least … most", "ratio", "to"}}
	for _, r := range g.Rows {
		ratio := ""
		if v := g.Ratio(r); !math.IsNaN(v) {
			ratio = fmt.Sprintf("%.2f", v)
		}
		name := r.Name
		if r.Lost > 0 {
			name += fmt.Sprintf(" (%d lost)", r.Lost)
		}
		rows = append(rows, []string{
			name, Number(Median(r.Runs)) + " " + r.Unit, Number(r.least()) + " … " + Number(r.most()), ratio, r.Reference,
		})
	}
	var b strings.Builder
	b.WriteByte('\n')
	layOut(&b, rows, false)
	if g.Notes != "" {
		b.WriteString(g.Notes + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// layOut writes columns: names to the left, figures to the right. The last column is one of names unless figures is set.
func layOut(b *strings.Builder, rows [][]string, figures bool) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			switch {
			case i == 0, i == len(row)-1 && !figures:
				line.WriteString(c + pad)
			default:
				line.WriteString(pad + c)
			}
			line.WriteString("  ")
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// Number writes a figure with as many digits as it deserves: 1,234,567 or 12.3.
func Number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.Abs(v) < 100:
		return fmt.Sprintf("%.3g", v)
	}
	s := fmt.Sprintf("%.0f", math.Abs(v))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v < 0 {
		s = "-" + s
	}
	return s
}
