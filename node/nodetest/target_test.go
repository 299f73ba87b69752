package nodetest

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/operator"
	"culvert/protocol"
)

// Even where an operator has signed that a device is at an address of this machine, or at one that is no single other
// machine's, and the agent's own list consents, the agent does not dial it.
func TestHostileTargets(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	d := newDevice(t, "here")
	targets := map[string]string{
		"loopback": "127.0.0.1", "loopback-2": "127.8.9.10", "loopback-6": "::1", "mapped": "::ffff:127.0.0.1",
		"unspecified": "0.0.0.0", "unspecified-6": "::", "this-network": "0.0.0.1", "compatible": "::127.0.0.1",
		"link-local": "169.254.10.1", "metadata": "169.254.169.254", "link-local-6": "fe80::1", "mapped-link-local": "::ffff:169.254.169.254",
		"multicast": "224.0.0.1", "multicast-6": "ff02::1", "broadcast": "255.255.255.255",
		"nat64": "64:ff9b::7f00:1", "6to4": "2002:7f00:1::1", "own": ownAddress(t),
	}
	at := m.agent("workshop", "acme", func(c *config.Config) {
		for name := range targets {
			c.Consent = append(c.Consent, config.Consent{Device: name, Ports: []config.Port{{Number: d.port}}})
		}
	})
	user := m.agent("desk", "acme", nil)
	m.announced(super, at)
	secrets := m.placed(super, at, protocol.Hash{7})

	keys, _, _ := m.op.Identity()
	domain := at.id("").Domain()
	for name, addr := range targets {
		_, err := m.op.AddDevice(t.Context(), admin, operator.DeviceSpec{Name: name, Domain: "acme", Address: addr,
			Ports: []string{d.portText()}, Locations: []string{strings.Repeat("07", 32)}})
		if !errors.Is(err, operator.ErrInvalid) && name != "own" && name != "compatible" {
			t.Errorf("the operator registers %s: %v", addr, err)
		}
		var h protocol.Hash
		rand.Read(h[:])
		id := protocol.NewID(domain, h)
		value := protocol.EndDeviceValue{Name: name, Address: netip.MustParseAddr(addr), Locations: []protocol.Hash{{7}},
			Ports: []protocol.Port{{Number: d.port, Protocol: protocol.TCP}}}
		r := &protocol.Record{Table: protocol.TableEndDevice, Owner: id, Signer: m.operatorPeer().ID, Epoch: 1, Sequence: 1,
			Issued: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour), Lookups: []protocol.Hash{secrets.NameKey(name)}}
		r.Value = must[[]byte](t)(secrets.SealValue(rand.Reader, r.Table, id, must[[]byte](t)(protocol.Marshal(value))))
		must[int](t)(m.hands.Load().Publish(context.Background(), must[[]byte](t)(protocol.SignRecord(r, keys.Signing))))

		t.Run(name, func(t *testing.T) {
			_, err := user.answered(client.OpenRequest{Device: id.String(), Port: d.portText()})
			var e *client.Error
			if !errors.As(err, &e) || !errors.Is(err, client.ErrNotAllowed) || !strings.Contains(e.Message, "address") || e.Hint == "" {
				t.Errorf("%s: %#v", addr, err)
			}
		})
	}
	if d.met.Load() != 0 {
		t.Errorf("%d connections to what is on the agent's own machine", d.met.Load())
	}
	dropped(t, at.node, uint64(len(targets)), "tunnels: flows refused")
}

// ownAddress is one of this machine, loopback where it has no other.
func ownAddress(t *testing.T) string {
	l := must[[]net.Addr](t)(net.InterfaceAddrs())
	for _, a := range l {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr().String()
		}
	}
	return "127.0.0.1"
}

// placed announces the agent at a location, which this machine need not have: the record is the agent's own, but another node
// brings it, so that the agent does not seem to have moved.
func (m *mesh) placed(super, a *agent, place protocol.Hash) *protocol.DomainSecrets {
	t := m.t
	t.Helper()
	p := m.probe(a.member("").Domain, false)
	owner := m.probeAs(a, a.member("").DomainID)
	owner.close()
	to := super.peer()
	l := p.listed(to, protocol.GetNodeInfo{ID: owner.id})
	r := must[*protocol.Record](t)(protocol.ParseRecord(l[0]))
	v, err := p.nodeInfo(l[0])
	noError(t, err)
	v.Locations = []protocol.Hash{place}
	raw := must[[]byte](t)(owner.info(r.Sequence+1000, v))
	st, err := p.put(t.Context(), to, owner.id, raw, patience)
	if err != nil || st.Status != protocol.StatusOK {
		t.Fatal(st, err)
	}
	return p.secrets
}
