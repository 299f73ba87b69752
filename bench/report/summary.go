package report

import (
	"io"
	"math"
	"slices"
	"strings"
)

// Column is a table as one column of a summary.
type Column struct{ Label, Table string }

// PrintSummary writes several tables that have rows in common as one: the medians, a row a name.
func (r *Report) PrintSummary(w io.Writer, title string, columns []Column) error {
	head := []string{title}
	var names []string
	var groups []*Group
	for _, c := range columns {
		g := r.Group(c.Table)
		if g == nil {
			continue
		}
		groups = append(groups, g)
		head = append(head, c.Label)
		for _, row := range g.Rows {
			if !slices.Contains(names, row.Name) {
				names = append(names, row.Name)
			}
		}
	}
	if len(groups) < 2 {
		return nil
	}
	rows := [][]string{head}
	for _, n := range names {
		line := []string{n}
		for _, g := range groups {
			v := math.NaN()
			if row := g.Row(n); row != nil {
				v = Median(row.Runs)
			}
			line = append(line, Number(v))
		}
		rows = append(rows, line)
	}
	var b strings.Builder
	b.WriteByte('\n')
	layOut(&b, rows, true)
	_, err := io.WriteString(w, b.String())
	return err
}

// PrintGrid writes the rows of one table that are named “ROW, COLUMN” as a grid of the medians.
func (r *Report) PrintGrid(w io.Writer, title, table string, rows, columns []string) error {
	g := r.Group(table)
	if g == nil {
		return nil
	}
	grid := [][]string{append([]string{title}, columns...)}
	for _, name := range rows {
		line := []string{name}
		any := false
		for _, c := range columns {
			v := math.NaN()
			if row := g.Row(name + ", " + c); row != nil {
				v, any = Median(row.Runs), true
			}
			line = append(line, Number(v))
		}
		if any {
			grid = append(grid, line)
		}
	}
	if len(grid) < 2 {
		return nil
	}
	var b strings.Builder
	b.WriteByte('\n')
	layOut(&b, grid, true)
	_, err := io.WriteString(w, b.String())
	return err
}
