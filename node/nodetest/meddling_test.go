package nodetest

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/protocol"
	"culvert/protocol/carrier"
)

// slow is a socket whose datagrams leave late while it is told to, so that others are tried before it is heard.
type slow struct {
	carrier.Conn
	by *atomic.Int64
}

func (s *slow) WriteBatch(ms []carrier.Message) (int, error) {
	d := time.Duration(s.by.Load())
	if d == 0 {
		return s.Conn.WriteBatch(ms)
	}
	copies := make([]carrier.Message, len(ms))
	for i, m := range ms {
		copies[i] = carrier.Message{Addr: m.Addr, Buf: slices.Clone(m.Buf[:m.N]), N: m.N}
	}
	time.AfterFunc(d, func() { _, _ = s.Conn.WriteBatch(copies) }) // what the socket does not take any more is lost
	return len(ms), nil
}

// A super-node lies about where others are, and hands requests on late, twice and again later, to others, by each other's way
// back, not at all, or answers itself. Nothing is sent to whom it names, nobody opens anything that was not asked of him, and
// with one honest super-node beside it every tunnel comes up, punched and relayed. First with the operator, then without it,
// when nobody's word counts more than the rogue's.
func TestRogueSuperNode(t *testing.T) {
	t.Parallel()
	x := newTrap(t)
	m := newMesh(t, "acme", "other")
	honest := m.enrolled("honest", "acme")
	var late atomic.Int64
	honest.set.Super, honest.set.Tunnel = true, false
	honest.net.UDP = func(c carrier.Conn) carrier.Conn { return &slow{c, &late} }
	honest.start()
	honest.serving()
	bad := m.super("bad", "acme")
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	m.device(at, d)
	by, foreign := m.agent("bystander", "acme", nil), m.agent("foreign", "other", nil)
	user := func(c *config.Config) { c.Tunnel = false }
	desks := []*agent{m.agent("desk", "acme", user), m.agent("desk2", "acme", user)}
	r := m.rogueFor(bad, "acme", x.addr, by.id(""), foreign.id(""))
	all := append([]*agent{at, by, foreign}, desks...)
	p, workshop := m.probe("acme", false), at.id("")
	restart := func() {
		t.Helper()
		began := time.Now()
		for _, a := range all {
			a.stop()
		}
		for _, a := range all {
			a.start()
		}
		eventually(t, "the tunnel-node is announced", func() bool {
			l, err := p.list(honest.peer(), protocol.GetNodeInfo{ID: workshop})
			if err != nil || len(l) != 1 {
				return false
			}
			v, err := p.nodeInfo(l[0])
			return err == nil && slices.Contains(v.Homes, r.id) && len(v.Homes) == 2
		})
		eventually(t, "the bystander is in contact with the rogue", func() bool {
			_, at, ok := r.ep.Observed(r.id, by.id(""))
			return ok && at.After(began)
		})
		for _, a := range desks {
			a.sees(d.name)
		}
	}
	meet := func(t *testing.T, mode int32) (asked bool) {
		name := rogueNames[mode]
		handed := r.handed.Load()
		r.mode.Store(mode)
		asking := desks[:1]
		if mode == rogueSwaps {
			asking = desks
		}
		began := time.Now()
		late.Store(int64(600 * time.Millisecond))
		var wg sync.WaitGroup
		for _, a := range asking {
			for _, route := range []string{"punched", "relayed"} {
				wg.Go(func() {
					tun, err := a.answered(client.OpenRequest{Device: d.name, Port: d.portText(), Route: route})
					if err != nil {
						t.Errorf("%s: %s gets no %s tunnel: %v", name, a.name, route, err)
					} else if tun.Route != route {
						t.Errorf("%s: %s got route %s instead of %s", name, a.name, tun.Route, route)
					}
				})
			}
		}
		wg.Wait()
		late.Store(0)
		t.Logf("%s: %s until there were a punched and a relayed tunnel", name, time.Since(began))
		asked = r.handed.Load() != handed
		if mode == rogueForges && asked {
			eventually(t, "a forged answer is refused", func() bool { return count(desks[0].node, "dispatch: unasked answer") > 0 })
		}
		for _, a := range asking { // what they have learned and opened, they would use again
			a.stop()
			a.start()
			a.sees(d.name)
		}
		if n := x.came.Load(); n != 0 {
			t.Errorf("%s: %d packets or connections came to somebody who has nothing to do with it", name, n)
		}
		return asked
	}
	run := func(t *testing.T, modes ...int32) {
		restart()
		for _, mode := range modes {
			eventually(t, rogueNames[mode]+": the rogue is asked", func() bool { // not where time runs so that only the other is
				return meet(t, mode) || t.Failed()
			})
		}
		for _, a := range []*agent{by, foreign} {
			if n := count(a.node, "tunnels: links taken", "tunnels: requests", "punch: met", "punch: sent"); n != 0 {
				t.Errorf("%s was made an end of something: %v", a.name, a.node.Stats())
			}
		}
		if r.lied.Load() == 0 || r.returned.Load() == 0 {
			t.Error("the rogue had nothing to say")
		}
	}
	t.Run("with the operator", func(t *testing.T) {
		run(t, rogueHonest, rogueLate, rogueElsewhere, rogueSwaps, rogueReplays, rogueForges, rogueWithholds)
		if count(by.node, "dispatch: forwarded request") == 0 {
			t.Errorf("nothing was handed to a bystander: %v", by.node.Stats()["dispatch"])
		}
	})
	m.stop()
	t.Run("without the operator", func(t *testing.T) { run(t, rogueHonest, rogueWithholds) })
}
