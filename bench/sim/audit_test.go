package sim

import (
	"testing"
	"time"

	"culvert/protocol"
)

// TestAudit: who does not serve what it should is isolated within ten minutes and asked by spies alone; the honest never are.
func TestAudit(t *testing.T) {
	worst := make(map[string]time.Duration)
	for seed := range *meshes {
		s := NewMesh(seed, Mesh{Supers: 7, Agents: 12, Domains: 3, Devices: 9}, nil)
		s.net.loss = 0.05
		s.op.startAudit(3)
		s.RunTo(s.now + 5*time.Minute)
		kind := []string{"withholding", "selective", "older", "forgetful", "wrong", "silent"}[seed%6]
		if seed%3 == 0 {
			kind = "withholding"
		}
		liar := s.audited()
		liar.lie = liar.newLie(kind)
		began := s.now
		s.RunTo(began + 10*time.Minute)
		for _, c := range s.op.candidates {
			switch took := c.isolatedAt - began; {
			case c.isolated && c.host != liar.host:
				t.Errorf("seed %d: %s is honest and isolated: %s", seed, c.host, c.reason)
			case c.isolated:
				worst[kind] = max(worst[kind], took)
			case c.host == liar.host && kind != "older" && kind != "forgetful":
				t.Errorf("seed %d: %s is %s and goes on", seed, c.host, kind)
			}
		}
	}
	t.Logf("isolated after at most: %v", worst)
}

// TestAuditOfTheHonest: none of those who lose every fifth datagram is isolated.
func TestAuditOfTheHonest(t *testing.T) {
	asked := 0
	for seed := range *meshes {
		s := NewMesh(seed, Mesh{Supers: 7, Agents: 12, Domains: 3, Devices: 9}, nil)
		s.net.loss = 0.2
		s.op.startAudit(3)
		s.RunTo(s.now + 30*time.Minute)
		for _, c := range s.op.candidates {
			sc := s.op.audit.Score(s.time(), c.ID)
			asked += sc.Asked
			if c.isolated || !c.in {
				t.Errorf("seed %d: %s is honest: %s, %+v", seed, c.host, c.reason, sc)
			}
		}
	}
	t.Logf("%d questions by spies to honest super-nodes, none isolated", asked)
}

// TestAuditOfRefusals: who refuses everybody is isolated, whatever reason it gives; with load, which may be a true one, it takes longer.
func TestAuditOfRefusals(t *testing.T) {
	for kind, within := range map[string]time.Duration{"denying": 10 * time.Minute, "behind": 10 * time.Minute, "busy": 30 * time.Minute} {
		worst := time.Duration(0)
		for seed := range *meshes {
			s := NewMesh(seed, Mesh{Supers: 7, Agents: 12, Domains: 3, Devices: 9}, nil)
			s.net.loss = 0.05
			s.op.startAudit(3)
			s.RunTo(s.now + 5*time.Minute)
			liar := s.audited()
			liar.lie = liar.newLie(kind)
			began := s.now
			s.RunTo(began + within)
			found := false
			for _, c := range s.op.candidates {
				if c.isolated && c.host != liar.host {
					t.Errorf("seed %d: %s is honest and isolated: %s", seed, c.host, c.reason)
				}
				if c.isolated && c.host == liar.host {
					found, worst = true, max(worst, c.isolatedAt-began)
				}
			}
			if !found {
				t.Errorf("seed %d: %s is %s and goes on", seed, liar, kind)
			}
		}
		t.Logf("%s: isolated after %v at most", kind, worst)
	}
}

// TestAuditUnderLoad: super-nodes that refuse more than half of all questions for an hour, or one everything for some minutes, stay.
func TestAuditUnderLoad(t *testing.T) {
	for seed := range *meshes {
		s := NewMesh(seed, Mesh{Supers: 7, Agents: 12, Domains: 3, Devices: 9}, nil)
		s.net.loss = 0.05
		s.op.startAudit(3)
		for _, n := range s.supers[1:] {
			busy := n.newLie("busy")
			n.lie = func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
				if s.chance(0.6) {
					return busy(now, v, h)
				}
				return h(now, v)
			}
		}
		s.RunTo(s.now + 20*time.Minute)
		for _, n := range s.supers[1:] {
			n.lie = nil
		}
		one := s.audited()
		one.lie = one.newLie("busy")
		s.RunTo(s.now + 8*time.Minute)
		one.lie = nil
		s.RunTo(s.now + 15*time.Minute)
		for _, c := range s.op.candidates {
			if c.isolated {
				t.Errorf("seed %d: %s is honest and isolated: %s", seed, c.host, c.reason)
			}
		}
	}
}

// audited is a super-node by chance that serves what spies ask for: who is in reserve serves nothing to withhold.
func (s *Sim) audited() *super {
	var l []*super
	for _, m := range s.op.pmap.Members() {
		if n := s.super(m.Peer.ID); n != s.op.node && m.Range.Valid() && s.op.pickStatic(m) != nil {
			l = append(l, n)
		}
	}
	return l[s.rand.IntN(len(l))]
}
