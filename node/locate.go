package node

import (
	"context"
	"net/netip"
	"time"

	"culvert/discovery"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/tunnel"
)

// locator is this machine's place in its networks, as the tunnels need it.
type locator struct{ n *Node }

var _ tunnel.Locator = locator{}

// Locations implements tunnel.Locator.
func (l locator) Locations(d protocol.Domain) []protocol.Hash {
	m, ok := l.n.member(d)
	if !ok {
		return nil
	}
	locations, err := m.locations()
	if err != nil {
		return nil
	}
	return locations
}

// FindMAC implements tunnel.Locator.
func (l locator) FindMAC(ctx context.Context, mac [6]byte) (netip.Addr, error) {
	f, err := l.n.finder.Find(ctx, discovery.MAC(mac))
	return f.Addr, err
}

// Distrust implements tunnel.Locator.
func (l locator) Distrust(mac [6]byte, addr netip.Addr) {
	l.n.finder.Distrust(discovery.Found{MAC: discovery.MAC(mac), Addr: addr})
}

// OnLink implements tunnel.Locator.
func (l locator) OnLink(a netip.Addr) bool { return discovery.OnLink(a) }

// Neighbour implements tunnel.Locator.
func (l locator) Neighbour(a netip.Addr) ([6]byte, bool) {
	mac, ok := discovery.Neighbour(a)
	return mac, ok
}

// Own implements tunnel.Locator.
func (l locator) Own() []netip.Prefix { return l.n.ownPrefixes() }

// ownPrefixes are the addresses of the active interfaces; discovery leaves loopback out.
func (n *Node) ownPrefixes() []netip.Prefix {
	is, err := discovery.Interfaces()
	if err != nil {
		return nil
	}
	var l []netip.Prefix
	for _, i := range is {
		l = append(l, i.Prefixes...)
	}
	return l
}

// placed are this membership's locations with what they were made from; another domain's IDs for the same places differ.
func (m *membership) placed() ([]discovery.Location, error) {
	g := m.node.gateways.Load()
	if g == nil {
		return nil, nil
	}
	s, err := m.secrets(m.node.now())
	if err != nil {
		return nil, err
	}
	return discovery.Locate(*g, s.LocationSecret()), nil
}

func (m *membership) locations() ([]protocol.Hash, error) {
	l, err := m.placed()
	var ids []protocol.Hash
	for _, p := range l {
		ids = append(ids, protocol.Hash(p.ID))
	}
	return ids, err
}

// firstLook bounds how long a start waits for a gateway that does not answer.
const firstLook = 2 * time.Second

// awaitNetworks returns when this machine's place is known, so that neither the first announcement nor the first question of
// a script is answered without it.
func (n *Node) awaitNetworks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	select {
	case <-n.located:
	case <-ctx.Done():
	}
}

// watchLoop follows the networks of this machine and has everything that depends on them done anew.
func (n *Node) watchLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c, ok := <-n.watcher.Changes():
			if !ok {
				if ctx.Err() == nil {
					n.log.Error("networks are no longer watched", "error", n.watcher.Wait())
				}
				return
			}
			if n.gateways.Swap(&c.Gateways) == nil {
				close(n.located)
			} else {
				n.carrierEvent(carrier.EventNetwork)
			}
			n.families.Store(uint32(familiesOf(n.ownPrefixes(), n.bound().Addr())))
			n.finder.Reset()
			n.networksChanged()
			n.setOrigin()
			n.natChanged()
			n.tunnels.NetworkChanged()
			for _, m := range n.members() {
				m.pingNow() // so that super-nodes know where this node is now
				m.touch()
				m.moved()
			}
			n.log.Info("networks of this machine", "gateways", len(c.Gateways))
		}
	}
}
