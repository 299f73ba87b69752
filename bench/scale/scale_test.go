package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"culvert/partition"
	"culvert/protocol"
)

// little is a study small enough for every run of the tests, made once.
func little(t *testing.T) *study {
	t.Helper()
	st, err := conduct(quick(), usual(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestSeedReplays: the same seed gives the same numbers and pictures to the last byte, another seed others.
func TestSeedReplays(t *testing.T) {
	sc := quick()
	if testing.Short() {
		sc.Sizes, sc.At = []int{1_000, 2_000}, 2_000
	}
	bytesOf := func(sc scope) (numbers []byte) {
		st, err := conduct(sc, usual(), func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range st.pictures() {
			b = append(b, p.SVG()...)
		}
		return b
	}
	one := bytesOf(sc)
	if !bytes.Equal(one, bytesOf(sc)) {
		t.Error("the same seed gave other numbers")
	}
	if sc.Seed++; bytes.Equal(one, bytesOf(sc)) {
		t.Error("another seed gave the same numbers")
	}
}

func TestStudyIsWhole(t *testing.T) {
	st := little(t)
	for _, p := range st.Points {
		supers := p.Nodes / st.Assumptions.NodesPerVolunteer
		if p.Churn.Supers < supers*2/3 || p.Churn.Supers > supers*3/2 {
			t.Errorf("%d nodes: %d super-nodes, expected about %d", p.Nodes, p.Churn.Supers, supers)
		}
		if p.Geometry.Members < codeReplicas || p.Geometry.Members > 2*codeReplicas {
			t.Errorf("%d nodes: a key has %.2f members", p.Nodes, p.Geometry.Members)
		}
		for _, l := range p.Loads {
			for who, f := range map[string]flows{"user": l.User, "super-node": l.Super, "operator": l.Operator} {
				for _, x := range append(f, f.total()) {
					if math.IsNaN(x.Bytes) || x.Bytes < 0 || x.Messages < 0 || x.Bytes > 0 && x.Messages == 0 {
						t.Errorf("%d nodes, %s, %s: %+v", p.Nodes, l.Name, who, x)
					}
				}
			}
			if l.Ratio < 1 || l.Ratio > 2 {
				t.Errorf("%d nodes, %s: lookups make the operator's messages %.2f times as many", p.Nodes, l.Name, l.Ratio)
			}
		}
		if p.Readings.Asks < codeReadQuorum-1 || p.Readings.Unreachable > 0.001 {
			t.Errorf("%d nodes: %+v", p.Nodes, p.Readings)
		}
	}
	if st.MapLimit < 1 || st.MapLimit > st.Scope.MostMap {
		t.Errorf("a reader takes in maps of %d super-nodes", st.MapLimit)
	}
}

// TestWrittenWhole: every plot has all that one needs to read it, and the numbers come back out of the file.
func TestWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if err := command(t.Context(), []string{"-quick", "-dir", dir}, &out); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "scale-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var st study
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for _, p := range st.pictures() {
		svg, err := os.ReadFile(filepath.Join(strings.TrimSuffix(files[0], ".json"), p.file+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(svg, p.SVG()) {
			t.Errorf("%s is not what the file's numbers draw", p.file)
		}
		if p.Title == "" || p.X.Label == "" || p.Y.Label == "" || len(p.Lines) < 2 || names[p.file] {
			t.Errorf("%s: title, axes or lines missing, or drawn twice", p.file)
		}
		names[p.file] = true
		for _, l := range p.Lines {
			if l.Name == "" || len(l.X) != len(l.Y) || len(l.X) == 0 {
				t.Errorf("%s, %q: %d over %d", p.file, l.Name, len(l.Y), len(l.X))
			}
		}
	}
	if command(t.Context(), []string{"more"}, io.Discard) == nil {
		t.Error("what nobody understands was taken for a run")
	}
}

// TestKeptResults: what is kept goes to a million nodes, with lookups the operator's messages are within twice those without, and
// every plot lies beside it.
func TestKeptResults(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "results", "scale-*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	newest := slices.Max(files)
	b, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	var st study
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	last := st.Points[len(st.Points)-1]
	if last.Nodes != 1_000_000 || st.Assumptions.Lookups != 1000 {
		t.Errorf("up to %d nodes with %g lookups a day", last.Nodes, st.Assumptions.Lookups)
	}
	for _, l := range last.Loads {
		if l.Ratio < 1 || l.Ratio > 2 {
			t.Errorf("%s: %.3f times as many with lookups", l.Name, l.Ratio)
		}
	}
	for _, p := range st.pictures() {
		if _, err := os.Stat(filepath.Join(strings.TrimSuffix(newest, ".json"), p.file+".svg")); err != nil {
			t.Error(err)
		}
	}
}

// TestQuestionsFallWhereTheModelSays holds the shares that survey computes beside where the real lookup's questions went.
func TestQuestionsFallWhereTheModelSays(t *testing.T) {
	a := usual()
	a.Loss, a.LookupAbsent, a.NodeCrash = 0, 0, 0
	r := quick().source("questions", 1)
	p := newPopulation(a, 1_000, r)
	v := newView(settled(p, r))
	l, err := newLab(a, v, r)
	if err != nil {
		t.Fatal(err)
	}
	l.asked = make(map[protocol.ID]int)
	got, err := l.sample(p, 2_000, 5)
	if err != nil {
		t.Fatal(err)
	}
	// An announcement that is late by its own way is stale for a moment.
	if got.Operator > 0.001 || got.Asks < codeReadQuorum-0.01 || got.Asks > codeReadQuorum+0.01 {
		t.Fatalf("nothing was lost and nobody lied: %+v", got)
	}
	expected := make(map[protocol.ID]float64)
	lookups := float64(got.Lookups) * codeReadQuorum
	for _, c := range p.customers {
		from, to := uint64(c.domain)<<32, uint64(c.domain)<<32|math.MaxUint32
		for i := v.at(from); i <= v.at(to); i++ {
			s := &v.segments[i]
			n := c.nodes * width(max(s.from, from), min(s.to, to)) / (1 << 32)
			share(s.members, c.domain, n/float64(p.nodes)*lookups, expected)
		}
	}
	for _, m := range v.members {
		e, g := expected[m.Peer.ID], float64(l.asked[m.Peer.ID])
		if math.Abs(g-e) > 6*math.Sqrt(e)+0.1*e {
			t.Errorf("%s was asked %.0f times, the model says %.0f", m.Peer.ID.Short(), g, e)
		}
	}
}

// settled is a map after everybody has come.
func settled(p *population, r *rand.Rand) []partition.Placement {
	l := newPlan(p, r)
	var on []volunteer
	for _, v := range p.volunteers {
		if r.Float64() < p.a.superOn() {
			on = append(on, v)
		}
	}
	l.begin(on)
	return l.state.Present
}

// TestOperatorIsAskedLast: the more is lost, the more falls back on the operator; of an absent record only while somebody is silent.
func TestOperatorIsAskedLast(t *testing.T) {
	a := usual()
	r := quick().source("last", 1)
	p := newPopulation(a, 5_000, r)
	v := newView(settled(p, r))
	share := func(loss, dead, absent float64) float64 {
		a.Loss, a.LookupAbsent, a.NodeCrash = loss, absent, 0
		l, err := newLab(a, v, r)
		if err != nil {
			t.Fatal(err)
		}
		l.spread(dead, silent)
		got, err := l.sample(p, 100, 20)
		if err != nil {
			t.Fatal(err)
		}
		return got.Operator
	}
	if n := share(0, 0, 0.5); n != 0 {
		t.Errorf("nothing lost, half absent: %.4f a lookup", n)
	}
	// A record that comes of age while a dead member is waited for counts as stale.
	if n := share(0, 0.02, 0); n > 0.002 {
		t.Errorf("some dead, all present: %.4f a lookup", n)
	}
	some, more := share(0.05, 0, 0.3), share(0.3, 0, 0.3)
	if !(0 < some && some < more && more < 1) {
		t.Errorf("5 %% lost: %.4f a lookup, 30 %%: %.4f", some, more)
	}
	if n := share(0, 0.2, 0.3); n < 0.3*0.2 || n > 0.3 {
		t.Errorf("a fifth dead, 0.3 absent: %.4f a lookup; each absent one with somebody dead in its range should come", n)
	}
}

// TestRefusalIsErlangs: with one relay the model is Erlang's, whose formula is known.
func TestRefusalIsErlangs(t *testing.T) {
	a := usual()
	a.NoUDP = 0
	for _, load := range []float64{0.8, 1, 1.3} {
		curve, _ := fill(a, 1, quick().source("erlang", 1), []float64{load})
		tunnels := a.Connections / 2
		offered := load * float64(a.Connections) / 2
		b := 1.0
		for n := 1; n <= tunnels; n++ {
			b = offered * b / (float64(n) + offered*b)
		}
		// One relay sees a few hundred tunnels only, so the runs are repeated.
		var got []float64
		for i := range 300 {
			c, _ := fill(a, 1, quick().source("erlang", i), []float64{load})
			got = append(got, c[0].Refused)
		}
		if m := distribute(got).Mean; math.Abs(m-b) > 0.01+0.1*b {
			t.Errorf("load %g: %.4f refused, Erlang says %.4f (one run: %.4f)", load, m, b, curve[0].Refused)
		}
	}
}

// TestOneCustomerIsFoundOut: what one customer volunteers counts as his, whatever the network it is in.
func TestOneCustomerIsFoundOut(t *testing.T) {
	r := quick().source("one", 1)
	p := newPopulation(usual(), 10_000, r)
	before := len(p.volunteers)
	d := p.infiltrate(0.5, r)
	if n := len(p.volunteers) - before; n != 200 {
		t.Errorf("%d machines to be half of 400", n)
	}
	v := newView(settled(p, r))
	for id := range v.of(d) {
		if id.Domain() != d {
			t.Errorf("%s is not his", id.Short())
		}
	}
	if !slices.ContainsFunc(v.members, func(m partition.Member) bool { return m.Domain == d }) {
		t.Error("none of his machines is on the map")
	}
}
