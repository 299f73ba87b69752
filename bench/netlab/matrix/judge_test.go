package matrix

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"culvert/tunnel"
)

func good(route tunnel.Route) Run {
	return Run{Up: true, First: tunnel.Relayed, Route: route, FirstByteMS: 300, BestMS: 900}
}

// perfect has one pair of each sort that is judged apart.
func perfect() *Results {
	r := &Results{Date: time.Unix(1e9, 0), Rounds: 1, Netcheck: []Check{{Kind: Open, Side: "user", Expected: "open", Got: "open"}}}
	for _, p := range []Pair{{Open, Open}, {PCP, FullCone}, {FullCone, Carrier}, {FullCone, Symmetric}, {Sequential, FullCone}, {Symmetric, Symmetric}} {
		r.Add(p, good(p.Expect()))
	}
	return r
}

// Each fault fails the demands that it is against, and no others.
func TestJudge(t *testing.T) {
	at := func(p Pair, change func(*Run)) func(*Results) {
		return func(r *Results) {
			for _, m := range r.Pairs {
				if m.Pair == p {
					change(&m.Runs[0])
				}
			}
		}
	}
	for name, c := range map[string]struct {
		fault func(*Results)
		fails []string
	}{
		"nothing":       {func(*Results) {}, nil},
		"down":          {at(Pair{Symmetric, Symmetric}, func(r *Run) { *r = Run{Error: "no route"} }), []string{"every tunnel", "first byte"}},
		"slow":          {at(Pair{Open, Open}, func(r *Run) { r.FirstByteMS = 1001 }), []string{"first byte"}},
		"punched late":  {at(Pair{FullCone, Carrier}, func(r *Run) { r.BestMS = 2500 }), []string{"endpoint-independent"}},
		"upgraded late": {at(Pair{Open, Open}, func(r *Run) { r.BestMS = 3001 }), []string{"best route"}},
		"not mapped":    {at(Pair{PCP, FullCone}, func(r *Run) { r.Route = tunnel.Punched; r.BestMS = 0 }), []string{"mapped by pcp"}},
		"relayed":       {at(Pair{PCP, FullCone}, func(r *Run) { r.Route = tunnel.Relayed; r.BestMS = 0 }), []string{"mapped by pcp", "not relayed"}},
		"no birthday":   {at(Pair{FullCone, Symmetric}, func(r *Run) { r.Route = tunnel.Relayed; r.BestMS = 0 }), []string{"by chance"}},
		"not foreseen":  {at(Pair{Sequential, FullCone}, func(r *Run) { r.Route = tunnel.Relayed; r.BestMS = 0 }), []string{"in sequence"}},
		"better":        {at(Pair{Symmetric, Symmetric}, func(r *Run) { r.Route = tunnel.Punched }), nil},
		"misnamed":      {func(r *Results) { r.Netcheck[0].Got = "carrier_nat" }, []string{"netcheck"}},
		"no netcheck":   {func(r *Results) { r.Netcheck[0].Error = "the binary has no such command" }, []string{"netcheck"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := perfect()
			c.fault(r)
			r.Demands = r.Judge()
			failed := r.Failed()
			if len(failed) != len(c.fails) {
				t.Fatalf("failed: %+v, want %q", failed, c.fails)
			}
			for i, d := range failed {
				if !strings.Contains(d.Name, c.fails[i]) {
					t.Errorf("%q failed, want %q", d.Name, c.fails[i])
				}
			}
		})
	}
}

func TestTableAndFile(t *testing.T) {
	r := perfect()
	r.Add(Pair{PCP, FullCone}, Run{Round: 1, Up: true, Route: tunnel.Relayed, FirstByteMS: 100, Receipt: "[]"})
	r.Add(Pair{PCP, FullCone}, Run{Round: 2, Error: "no route to the device"})
	r.Demands = r.Judge()
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"M1/3 0.3 0.9", "P1 0.3 0.9", "pcp to full-cone, round 1, 2: no route, down instead of mapped: no route to the device", "FAIL  every tunnel comes up: 7 of 8"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	path, err := r.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back Results
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, "netlab-2001-09-09T014640Z.json") || len(back.Pairs) != len(r.Pairs) || back.Pairs[1].User != PCP || len(back.Pairs[1].Runs) != 3 {
		t.Errorf("%s holds %s", path, text)
	}
}
