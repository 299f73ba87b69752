package sim

import (
	"errors"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// kinds are how super-nodes lie to those who read.
var kinds = []string{"silent", "withholding", "older", "wrong", "foreign", "fickle"}

// TestLiars: with one honest member left the answer is found, is at most one announce interval old and not older than what the
// reader has seen; "not found" is what all say.
func TestLiars(t *testing.T) {
	for _, c := range []struct {
		name  string
		mesh  Mesh
		spare int // of a range's members who stay honest
		waves int
	}{
		{"9 of 10 in an unsplit range", Mesh{Supers: 10, Agents: 6, Domains: 2, Devices: 4, Whole: true}, 1, 3},
		{"2 of 3 in split ranges", Mesh{Supers: 9, Agents: 6, Domains: 3, Devices: 6}, 1, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			times := few(*trials, 1)
			for _, kind := range kinds[:few(len(kinds), 2)] {
				s := NewMesh(7, c.mesh, nil)
				worst, sum, slowest := 0, 0, time.Duration(0)
				for range times {
					o := s.lieTo(kind, c.spare)
					now := s.time() // an announcement follows an interval after the one before was stored, which takes late at most
					if o.Err != nil || o.Record == nil || now.Sub(o.Record.Issued) > announceEvery+late+o.Took || o.Waves > c.waves {
						t.Fatalf("%s: after %d time-outs and %v, age %v: %+v", kind, o.Waves, o.Took, now.Sub(o.issued()), o)
					}
					worst, sum, slowest = max(worst, o.Waves), sum+o.Waves, max(slowest, o.Took)
				}
				for _, v := range s.Violations() {
					t.Errorf("%s: %s", kind, v)
				}
				t.Logf("%s: %d of %d found, %.2f time-outs on average, %d at most, %v at most", kind, times, times,
					float64(sum)/float64(times), worst, slowest)
			}
		})
	}
}

func (o Outcome) issued() (t time.Time) {
	if o.Record != nil {
		t = o.Record.Issued
	}
	return t
}

// lieTo has a reader look for somebody all but spare of whose super-nodes lie; once before, everybody is honest at times.
func (s *Sim) lieTo(kind string, spare int) Outcome {
	a, b := s.agents[s.rand.IntN(len(s.agents))], (*agent)(nil)
	for b == nil || b.domain != a.domain {
		b = s.agents[s.rand.IntN(len(s.agents))]
	}
	t := dht.Target{Kind: dht.FindNodeInfo, Key: b.ident.id}
	if s.chance(0.3) {
		s.ask(a, t) // what it sees now it will not go back behind
		s.RunTo(s.now + s.between(0, announceEvery))
	}
	if s.chance(0.3) {
		a.restart() // nothing is known of who lies
	}
	s.RunTo(s.now + s.between(time.Second, 20*time.Second)) // what is on its way arrives
	l := s.oracle.serving(t.Key)
	s.rand.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	for _, n := range l[spare:] {
		lie := n.newLie(kind)
		n.lie = func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
			if v.Command == protocol.CmdPut { // the lies are about what is stored
				return h(now, v)
			}
			return lie(now, v, h)
		}
	}
	nobody := protocol.NewID(a.domain, hashOf("nobody"))
	var absent *Outcome
	a.find(dht.Target{Kind: dht.FindNodeInfo, Key: nobody}, func(l *dht.Lookup, x *run) {
		absent = outcome(l, x, 0)
		all := 0
		for _, n := range s.oracle.serving(nobody) {
			if x.sound[n.host] {
				all++
			}
		}
		if errors.Is(absent.Err, dht.ErrNotFound) && all < len(s.oracle.serving(nobody)) {
			s.oracle.violated("%s took %d of %d for all", a, all, len(s.oracle.serving(nobody)))
		}
	})
	o := s.ask(a, t)
	for absent == nil {
		s.RunTo(s.now + 100*time.Millisecond)
	}
	for _, n := range l {
		if n.lie != nil {
			n.lie, n.lied = nil, s.now
		}
	}
	return o
}
