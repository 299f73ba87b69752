package report

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"culvert/bench/plot"
)

// Bars is the table as a picture. What has a reference is of another colour than what has none.
func (g Group) Bars(notes ...string) plot.Bars {
	p := plot.Bars{Title: g.Title, Notes: append(lines(g.Notes), notes...)}
	for _, r := range g.Rows {
		p.Unit = r.Unit
		b := plot.Bar{Name: r.Name, Value: Median(r.Runs), Least: r.least(), Most: r.most(), Colour: 7}
		if strings.HasPrefix(r.Name, "culvert") {
			b.Colour = 0
		}
		if v := g.Ratio(r); !math.IsNaN(v) {
			b.Note = fmt.Sprintf("(%.2f)", v)
		}
		p.Bars = append(p.Bars, b)
	}
	return p
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// Draw writes a picture of every table and series into a folder.
func (r *Report) Draw(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("draw the results: %w", err)
	}
	m := r.Machine
	note := fmt.Sprintf("culvert %s, %s; %s, %d cores, %s, %s; medians of %d rounds of %g s; in brackets the ratio to the reference",
		r.Culvert, r.Date.UTC().Format("2006-01-02 15:04 UTC"), m.CPU, m.Cores, m.Kernel, m.Go, r.Rounds, r.Seconds)
	for _, g := range r.Groups {
		if err := picture(dir, g.Title, g.Bars(note).SVG()); err != nil {
			return err
		}
	}
	for _, s := range r.Series {
		for _, p := range s.Plots(append(lines(s.Notes), note)...) {
			if err := picture(dir, s.Title+" "+p.Y.Label, p.SVG()); err != nil {
				return err
			}
		}
	}
	return nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func picture(dir, title string, svg []byte) error {
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(strings.ReplaceAll(title, "µ", "u")), "-"), "-") + ".svg"
	if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
		return fmt.Errorf("draw the results: %w", err)
	}
	return nil
}
