package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func example() Plot {
	return Plot{
		Title: "load <of> a & b", Notes: []string{"seed 1"}, X: Axis{Label: "nodes", Log: true}, Y: Axis{Label: "messages/s"},
		Lines: []Line{
			{Name: "as it is", X: []float64{1e3, 1e4, 1e5, 1e6}, Y: []float64{1, 20, 300, 4000}},
			{Name: "without", X: []float64{1e3, 1e6}, Y: []float64{math.NaN(), math.Inf(1)}, Dashed: true, Colour: 1},
		},
	}
}

func TestSVGIsWellFormedAndSaysAll(t *testing.T) {
	svg := example().SVG()
	if !bytes.Equal(svg, example().SVG()) {
		t.Error("the same numbers gave two pictures")
	}
	d := xml.NewDecoder(bytes.NewReader(svg))
	var texts []string
	points := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := tok.(type) {
		case xml.CharData:
			texts = append(texts, string(e))
		case xml.StartElement:
			if e.Name.Local == "circle" {
				points++
			}
		}
	}
	all := strings.Join(texts, "|")
	for _, want := range []string{"load <of> a & b", "nodes", "messages/s", "as it is", "without", "seed 1", "1k", "1M", "4k"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in the picture: %s", want, all)
		}
	}
	if points != 4 {
		t.Errorf("%d points, want 4: what is no number has no place", points)
	}
}

func TestNotesAreWrapped(t *testing.T) {
	long := strings.TrimSpace(strings.Repeat("some words ", 40))
	lines := wrap([]string{long, "short"}, 100)
	if len(lines) < 5 || strings.Join(lines[:len(lines)-1], " ") != long || lines[len(lines)-1] != "short" {
		t.Errorf("%q", lines)
	}
	for _, l := range lines {
		if len(l) > 100 {
			t.Errorf("%d characters: %q", len(l), l)
		}
	}
}

func TestAxis(t *testing.T) {
	log := Axis{Log: true}.over([]Line{{Y: []float64{0, 0.02, 900}}}, func(l Line) []float64 { return l.Y })
	if log.Least != 0.01 || log.Most != 1000 || len(log.ticks()) != 6 || log.shows(0) || !log.shows(900) {
		t.Errorf("%+v, ticks %v", log, log.ticks())
	}
	if p := log.place(1); math.Abs(p-0.4) > 1e-9 {
		t.Errorf("1 lies at %v", p)
	}
	flat := Axis{}.over([]Line{{Y: []float64{5, 5}}}, func(l Line) []float64 { return l.Y })
	if flat.Least != 0 || flat.Most < 5 || len(flat.ticks()) < 4 {
		t.Errorf("%+v, ticks %v", flat, flat.ticks())
	}
	none := Axis{Log: true}.over(nil, func(l Line) []float64 { return l.Y })
	if none.Least >= none.Most {
		t.Errorf("nothing has no axis: %+v", none)
	}
	for v, want := range map[float64]string{0: "0", 0.05: "0.05", 1000: "1k", 2.5e6: "2.5M", 1e9: "1G", 12: "12"} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestBarsAreWellFormed(t *testing.T) {
	svg := Bars{Title: "speed <of> a & b", Unit: "MB/s", Notes: []string{"seed 1"}, Bars: []Bar{
		{Name: "one", Value: 100, Least: 90, Most: 110, Note: "(1.00)"}, {Name: "never run", Value: math.NaN(), Least: math.NaN(), Most: math.NaN()},
	}}.SVG()
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"speed &lt;of&gt; a &amp; b, MB/s", "one", "100  (1.00)", "seed 1"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestBarsFarApartHaveALogarithmicScale(t *testing.T) {
	bars := func(v ...float64) (p Bars) {
		for _, f := range v {
			p.Bars = append(p.Bars, Bar{Value: f, Least: f, Most: f})
		}
		return p
	}
	length, name := bars(1, 10, 20, math.NaN()).scale()
	if name != "" || length(10) != 0.5 || length(20) != 1 || length(math.NaN()) != 0 {
		t.Errorf("%q %v %v", name, length(10), length(20))
	}
	length, name = bars(10, 100, 10_000, math.NaN()).scale()
	if name == "" || length(10) <= 0 || length(100)-length(10) <= 0.1 || length(10_000) != 1 || length(math.NaN()) != 0 {
		t.Errorf("%q %v %v %v", name, length(10), length(100), length(10_000))
	}
	if length, _ := bars(math.NaN()).scale(); length(1) != 0 {
		t.Error("nothing has a length")
	}
}
