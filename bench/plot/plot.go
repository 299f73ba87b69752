// Package plot draws lines as SVG: axes with units, a grid, a legend, and nothing else. The same numbers give the same bytes.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Line is one curve.
type Line struct {
	Name   string    `json:"name"`
	X      []float64 `json:"x"`
	Y      []float64 `json:"y"`
	Dashed bool      `json:"-"`
	Colour int       `json:"-"` // of colours; lines that belong together share one
}

// Axis is one direction.
type Axis struct {
	Label string // with its unit
	Log   bool
	// Least and Most are the ends; where both are zero they are what the lines need.
	Least, Most float64
}

// Plot is one picture.
type Plot struct {
	Title string
	Notes []string // below the picture
	X, Y  Axis
	Lines []Line
}

const (
	width, height          = 960, 560
	left, right, top       = 96, 300, 48
	bottom                 = 64
	inside, tall           = width - left - right, height - top - bottom
	lineHeight, noteHeight = 20, 17
	noteChars              = 125
	text                   = `font-family="sans-serif" fill="#222"`
)

var colours = []string{"#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d98200", "#16a2a2", "#7f5539", "#555555", "#e377c2"}

// SVG is the picture.
func (p Plot) SVG() []byte {
	var b strings.Builder
	x, y := p.X.over(p.Lines, func(l Line) []float64 { return l.X }), p.Y.over(p.Lines, func(l Line) []float64 { return l.Y })
	notes := wrap(p.Notes, noteChars)
	h := height + noteHeight*len(notes)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n", width, h, width, h)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, h)
	fmt.Fprintf(&b, `<text x="%d" y="28" font-size="17" font-weight="bold" %s>%s</text>`+"\n", left, text, html.EscapeString(p.Title))
	px := func(v float64) float64 { return left + inside*x.place(v) }
	py := func(v float64) float64 { return top + tall*(1-y.place(v)) }
	for _, t := range x.ticks() {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`+"\n", px(t), top, px(t), top+tall)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" font-size="12" text-anchor="middle" %s>%s</text>`+"\n", px(t), top+tall+18, text, Number(t))
	}
	for _, t := range y.ticks() {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>`+"\n", left, py(t), left+inside, py(t))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" font-size="12" text-anchor="end" %s>%s</text>`+"\n", left-8, py(t)+4, text, Number(t))
	}
	fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#444"/>`+"\n", left, top, inside, tall)
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="14" text-anchor="middle" %s>%s</text>`+"\n", left+inside/2, height-18, text, html.EscapeString(p.X.Label))
	fmt.Fprintf(&b, `<text x="22" y="%d" font-size="14" text-anchor="middle" transform="rotate(-90 22 %d)" %s>%s</text>`+"\n",
		top+tall/2, top+tall/2, text, html.EscapeString(p.Y.Label))
	for i, l := range p.Lines {
		colour := colours[l.Colour%len(colours)]
		dash := ""
		if l.Dashed {
			dash = ` stroke-dasharray="6 4"`
		}
		var points []string
		for j := range l.X {
			if x.shows(l.X[j]) && y.shows(l.Y[j]) {
				points = append(points, fmt.Sprintf("%.1f,%.1f", px(l.X[j]), py(l.Y[j])))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(points, " "), colour, dash)
		for _, at := range points {
			cx, cy, _ := strings.Cut(at, ",")
			fmt.Fprintf(&b, `<circle cx="%s" cy="%s" r="2.6" fill="%s"/>`+"\n", cx, cy, colour)
		}
		ly := top + 10 + lineHeight*i
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"%s/>`+"\n", left+inside+14, ly, left+inside+42, ly, colour, dash)
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="12" %s>%s</text>`+"\n", left+inside+48, ly+4, text, html.EscapeString(l.Name))
	}
	for i, n := range notes {
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="12" %s>%s</text>`+"\n", left, height+noteHeight*i, text, html.EscapeString(n))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// wrap breaks lines between words.
func wrap(lines []string, most int) (out []string) {
	for _, l := range lines {
		line := ""
		for _, w := range strings.Fields(l) {
			if line != "" && len(line)+1+len(w) > most {
				out = append(out, line)
				line = ""
			}
			line = strings.TrimPrefix(line+" "+w, " ")
		}
		out = append(out, line)
	}
	return out
}

// shows reports whether a value has a place on the axis: a logarithm has none for zero.
func (a Axis) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && v >= a.Least && v <= a.Most
}

// over gives the axis ends where it has none.
func (a Axis) over(lines []Line, of func(Line) []float64) Axis {
	if a.Least != 0 || a.Most != 0 {
		return a
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, v := range of(l) {
			if math.IsNaN(v) || math.IsInf(v, 0) || a.Log && v <= 0 {
				continue
			}
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	switch {
	case lo > hi:
		lo, hi = 1, 10
	case a.Log:
		lo, hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
	default:
		lo, hi = min(0, lo), hi*1.05
	}
	if hi <= lo {
		hi = lo + 1
		if a.Log {
			hi = 10 * lo
		}
	}
	a.Least, a.Most = lo, hi
	return a
}

// place is where on the axis a value lies, from 0 to 1.
func (a Axis) place(v float64) float64 {
	if a.Log {
		return (math.Log10(v) - math.Log10(a.Least)) / (math.Log10(a.Most) - math.Log10(a.Least))
	}
	return (v - a.Least) / (a.Most - a.Least)
}

// ticks are round values.
func (a Axis) ticks() (l []float64) {
	if a.Log {
		first, last := math.Ceil(math.Log10(a.Least)-1e-9), math.Floor(math.Log10(a.Most)+1e-9)
		step := max(1, math.Ceil((last-first)/10))
		for e := first; e <= last; e += step {
			l = append(l, math.Pow(10, e))
		}
		return l
	}
	raw := (a.Most - a.Least) / 6
	step := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5, 10} {
		if f*step >= raw {
			step *= f
			break
		}
	}
	for i := math.Ceil(a.Least / step); i*step <= a.Most; i++ {
		l = append(l, i*step)
	}
	return l
}

// Number writes a value on an axis: 20, 0.05, 5k, 1M.
func Number(v float64) string {
	for _, u := range []struct {
		unit float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.unit*0.9999999 {
			return fmt.Sprintf("%.4g", v/u.unit) + u.name
		}
	}
	return fmt.Sprintf("%.4g", v)
}
