package sim

import (
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
)

// TestHalfKilled: half of all super-nodes die at once. What operators sign is found all the while; where nodes are as far as
// somebody of their range has survived, and everything six minutes later.
func TestHalfKilled(t *testing.T) {
	type count struct{ asked, found int }
	var first, last [2]count // static, where nodes are
	for seed := range *meshes {
		s := NewMesh(seed, Mesh{Supers: 12, Agents: 20, Domains: 5, Devices: 20}, nil)
		minute := func(c *[2]count) {
			for range 600 {
				s.after(s.between(0, time.Minute), func() {
					i := s.rand.IntN(len(s.agents))
					a, n := s.agents[i], s.rand.IntN(4)*5+i%5 // of the same domain
					k, t := 0, dht.Target{Kind: dht.FindNodeInfo, Key: s.agents[n].ident.id}
					switch s.rand.IntN(4) {
					case 0:
						t.Kind = dht.FindNode
					case 1:
						t = dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(a.domain, hashOf("name of device %d", n))}
					default:
						k = 1
					}
					c[k].asked++
					a.find(t, func(l *dht.Lookup, _ *run) {
						if recs, _ := l.Result(); len(recs) > 0 {
							c[k].found++
						} else if n := s.alive(t.Key); n > 0 {
							s.oracle.violated("%s found no %s; %d who serve it are alive", a, s.targetName(t), n)
						}
					})
				})
			}
			s.RunTo(s.now + time.Minute + 10*time.Second)
		}
		alive := s.supers[1:]
		for _, i := range s.rand.Perm(len(alive))[:len(alive)/2] {
			alive[i].crash()
			alive[i].gone = true
		}
		killed := s.now
		minute(&first)
		s.RunTo(killed + 6*time.Minute)
		minute(&last)
		for _, v := range s.Violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
	}
	share := func(c count) float64 { return 100 * float64(c.found) / float64(max(c.asked, 1)) }
	t.Logf("%d meshes, during the first minute: static %.3f%% of %d, nodes %.2f%% of %d; after six: %.3f%%, %.3f%%",
		*meshes, share(first[0]), first[0].asked, share(first[1]), first[1].asked, share(last[0]), share(last[1]))
	few := *meshes < 20 // of which some may be unlucky: a range of three dies out once in ten times
	if share(first[0]) < 99.9 || share(first[1]) < 85 && !few || last[0].found < last[0].asked || last[1].found < last[1].asked {
		t.Errorf("%+v %+v", first, last)
	}
}

// alive is how many of those who serve k are left.
func (s *Sim) alive(k protocol.ID) (n int) {
	for _, m := range s.oracle.serving(k) {
		if m.up {
			n++
		}
	}
	return n
}

// TestOperatorOff: without the operator lookups go on, while every super-node and every node restarts.
func TestOperatorOff(t *testing.T) {
	s := NewMesh(3, Mesh{Supers: 7, Agents: 9, Domains: 3, Devices: 6}, nil)
	s.op.node.crash()
	off := time.Duration(*hours) * time.Hour
	end := s.now + off
	for i, n := range s.supers[1:] {
		s.at(s.now+off*time.Duration(i+1)/10, func() {
			n.crash()
			s.after(20*time.Second, n.start)
		})
	}
	for i, a := range s.agents {
		s.at(s.now+off*time.Duration(i+1)/14, a.restart)
	}
	failed := 0
	f := &faults{s: s, until: end}
	f.every(15*time.Second, func() {
		a, l := s.agents[s.rand.IntN(len(s.agents))], load{s: s, domains: 3}
		t := l.target(a)
		if t.Kind == dht.FindTunnelNodes || t.Kind == dht.FindDevices { // where there may be nothing
			t = dht.Target{Kind: dht.FindNode, Key: a.ident.id}
		}
		a.find(t, func(l *dht.Lookup, _ *run) {
			if _, err := l.Result(); err != nil {
				failed++
			}
		})
	})
	s.RunTo(end)
	t.Logf("%v without the operator: %d lookups, %d failed, %d restarts of super-nodes", off, s.Stats.Lookups, failed, s.Stats.Crashes-1)
	if failed > 0 || s.Stats.Lookups < 100 {
		t.Errorf("%d of %d lookups failed", failed, s.Stats.Lookups)
	}
	for _, v := range s.Violations() {
		t.Error(v)
	}
}
