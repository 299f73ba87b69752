package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Bar is one of a picture of bars.
type Bar struct {
	Name               string
	Value, Least, Most float64
	Note               string // behind the value
	Colour             int
}

// Bars is a picture of figures side by side, from zero or, where they are too far apart, by their logarithm.
type Bars struct {
	Title string
	Unit  string
	Notes []string
	Bars  []Bar
}

const (
	barLeft, barHeight, barTop = 370, 24, 48
	barInside                  = 400
	// Above this many times between the bars they have a logarithmic scale: nothing could be told of the short ones else.
	barLog = 50
)

// SVG is the picture: a bar for the value, a thin line from the least to the most.
func (p Bars) SVG() []byte {
	var b strings.Builder
	notes := wrap(p.Notes, noteChars)
	h := barTop + barHeight*len(p.Bars) + 16 + noteHeight*len(notes) + 8
	length, scale := p.scale()
	px := func(v float64) float64 { return barLeft + barInside*length(v) }
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">`+"\n", width, h, width, h)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, h)
	fmt.Fprintf(&b, `<text x="16" y="28" font-size="17" font-weight="bold" %s>%s</text>`+"\n", text, html.EscapeString(p.Title+", "+p.Unit+scale))
	for i, v := range p.Bars {
		y := barTop + barHeight*i
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="12" text-anchor="end" %s>%s</text>`+"\n", barLeft-8, y+15, text, html.EscapeString(v.Name))
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s" fill-opacity="0.75"/>`+"\n",
			barLeft, y+3, px(v.Value)-barLeft, barHeight-7, colours[v.Colour%len(colours)])
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#222"/>`+"\n", px(v.Least), y+barHeight/2, px(v.Most), y+barHeight/2)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" font-size="12" %s>%s</text>`+"\n", max(px(v.Value), px(v.Most))+8, y+15, text, html.EscapeString(Number(v.Value)+"  "+v.Note))
	}
	for i, n := range notes {
		fmt.Fprintf(&b, `<text x="16" y="%d" font-size="12" %s>%s</text>`+"\n", barTop+barHeight*len(p.Bars)+24+noteHeight*i, text, html.EscapeString(n))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// scale makes of a value a length from 0 to 1, and says what scale that is if it is no ordinary one.
func (p Bars) scale() (length func(v float64) float64, name string) {
	least, most := math.Inf(1), 0.0
	for _, v := range p.Bars {
		for _, f := range []float64{v.Value, v.Least, v.Most} {
			if f > 0 && !math.IsInf(f, 0) {
				least, most = min(least, f), max(most, f)
			}
		}
	}
	switch {
	case most == 0:
		return func(float64) float64 { return 0 }, ""
	case most/least > barLog:
		from := math.Floor(math.Log10(least))
		if math.Log10(least)-from < 0.1 { // the shortest is to be seen
			from--
		}
		return func(v float64) float64 {
			if !(v > 0) {
				return 0
			}
			return max(0, math.Log10(v)-from) / (math.Log10(most) - from)
		}, ", logarithmic scale"
	}
	return func(v float64) float64 {
		if !(v > 0) {
			return 0
		}
		return v / most
	}, ""
}
