package nodetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/operator"
	"culvert/protocol"
)

// volunteers is a configuration under which a node on loopback counts as reachable from everywhere, as its operator is there too.
func volunteers(c *config.Config) {
	c.Tunnel = false
	c.Advertise, c.VolunteerAfter = []string{"127.0.0.1"}, config.Duration(100*time.Millisecond)
}

// takenIn waits until a volunteer serves. One that nobody reached in the seconds that a super-node gives a dial, as on a starved
// machine, tries again after minutes: it is started again, which tries at once.
func (a *agent) takenIn() {
	a.t.Helper()
	const tries = 8
	for left := tries - 1; left > 0; left-- {
		if a.servesWithin(patience / tries) {
			return
		}
		a.stop()
		a.start()
	}
	a.serving()
}

func (a *agent) servesWithin(limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(a.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if s, err := a.api.Status(ctx); err == nil && isSuper(s) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

func (m *mesh) listed(id protocol.ID) bool {
	m.t.Helper()
	l := must[[]operator.SuperNodeView](m.t)(m.op.SuperNodes(m.t.Context(), admin))
	for _, s := range l {
		if s.ID == id {
			return s.State == "assigned"
		}
	}
	return false
}

// A node that others can reach becomes a super-node by itself; one that nobody can, and one that was told not to, do not. A change
// of the operator's policy holds at once, and one that was told to serve is back as soon as it may.
func TestVolunteers(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	asked := m.super("asked", "acme")
	plain := m.agent("plain", "acme", func(c *config.Config) { c.VolunteerAfter = config.Duration(100 * time.Millisecond) })
	unwilling := m.agent("unwilling", "acme", func(c *config.Config) { volunteers(c); c.Volunteer = false })
	a := m.agent("volunteer", "acme", volunteers)
	a.takenIn()
	id := a.id("acme")
	for _, other := range []*agent{plain, unwilling} {
		if m.listed(other.id("acme")) {
			t.Errorf("%s is a super-node", other.name)
		}
	}

	eventually(t, "status says which super-nodes are used, and why", func() bool {
		for _, s := range plain.member("acme").SuperNodes {
			if s.ID == asked.id("acme").String() && s.State == "ok" && slices.Contains(s.Reasons, "home") && slices.Contains(s.Reasons, "serves_domain") && slices.Contains(s.Reasons, "own_domain") {
				return true
			}
		}
		return false
	})

	noError(t, m.op.SetPolicy(t.Context(), admin, operator.PolicyApproved))
	if m.listed(id) || m.listed(asked.id("acme")) {
		t.Error("the policy does not take super-nodes off the map at once")
	}
	eventually(t, "the volunteer serves no more", func() bool {
		_, serves := a.node.Stats()["records"]
		return !serves && !isSuper(must[client.Status](t)(a.api.Status(t.Context())))
	})
	noError(t, m.op.SetPolicy(t.Context(), admin, operator.PolicyOpen))
	eventually(t, "who was told to serve is back", func() bool { return m.listed(asked.id("acme")) })
}

// A volunteer that is started again serves at once, without being looked at anew; one that may not any more takes itself off.
func TestVolunteerStartsAgain(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	a := m.agent("volunteer", "acme", volunteers)
	a.takenIn()
	id := a.id("acme")
	a.stop()
	a.set.VolunteerAfter = config.Duration(time.Hour)
	a.start()
	a.serving()
	a.stop()
	if !m.listed(id) {
		t.Fatal("off the map after a short absence")
	}
	a.set.Volunteer = false
	a.start()
	eventually(t, "it has withdrawn", func() bool { return !m.listed(id) })
}
