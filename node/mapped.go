package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"culvert/discovery"
	"culvert/node/localapi"
	"culvert/protocol"
	"culvert/tunnel"
	"culvert/tunnel/portmap"
)

// unmapTime is for deleting mappings at the routers, before a graceful stop.
const unmapTime = 3 * time.Second

// mappedSecret names what the node's PCP nonces are made of: one that was killed finds its mappings again.
const mappedSecret = "node.portmap_secret"

// openMapper starts what keeps the node's port open at routers. Without a network it does nothing yet. A node that listens on
// a single address, or whose configuration says no, has none.
func (n *Node) openMapper(ctx context.Context) error {
	if _, only := n.onlyAddress(); only || !n.cfg.Settings.PortMap {
		return nil
	}
	secret, err := n.store.Setting(mappedSecret)
	if err != nil || len(secret) == 0 {
		secret = make([]byte, 32)
		if _, err := rand.Read(secret); err != nil {
			return fmt.Errorf("read randomness: %w", err)
		}
		if err := n.store.SetSetting(ctx, mappedSecret, secret); err != nil {
			return err
		}
	}
	n.mapper, err = portmap.New(portmap.Config{
		Port: n.bound().Port(), Gateways: n.mappableGateways, Verify: n.verifyMapping, Secret: secret, Log: n.log,
		Changed: func([]portmap.Mapping) { n.touchAll(); n.reachChanged() },
	})
	return err
}

// PortStatus says what came of asking this machine's routers to open the node's port; nothing where they are not asked.
func (n *Node) PortStatus() []portmap.Status {
	if n.mapper == nil {
		return nil
	}
	return n.mapper.Status()
}

// closeMapper has the routers forget the node, in bounded time. It may be called twice.
func (n *Node) closeMapper() error {
	if n.mapper == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.tasks.ctx), unmapTime)
	defer cancel()
	if err := n.mapper.Close(ctx); err != nil {
		n.log.Info("mappings not deleted at the router; they end with their leases", "error", err)
	}
	return nil
}

// networksChanged has the routers of now asked, and what they have opened looked after: where the networks have changed, where a
// router seems to have, and where this node begins or ceases to be one that others are to reach.
func (n *Node) networksChanged() {
	if n.mapper != nil {
		n.mapper.NetworkChanged()
	}
	n.reachChanged()
}

// mappableGateways are those on whose other side the internet is, seen from a private address (IPv4), or from a public one
// that a firewall may keep from being reached (IPv6). There are none for a node that leaves bindings to others at its place:
// a router has few to give.
func (n *Node) mappableGateways() (l []portmap.Gateway) {
	gs := n.gateways.Load()
	if gs == nil || !slices.ContainsFunc(n.members(), (*membership).keeps) {
		return nil
	}
	is, err := discovery.Interfaces()
	if err != nil {
		return nil
	}
	return mappable(*gs, is, n.bound().Addr().Is4())
}

func mappable(gs []discovery.Gateway, is []discovery.Interface, only4 bool) (l []portmap.Gateway) {
	for _, g := range gs {
		if !g.Default || g.Layer3 {
			continue
		}
		local := g.Local
		if g.Addr.Is6() {
			local = public6(is, g.Index)
		}
		switch {
		case !local.IsValid() || g.Addr.Is6() && only4:
		case local.Is4() && local.IsPrivate() && g.Addr.IsPrivate(), local.Is6():
			l = append(l, portmap.Gateway{Addr: g.Addr, Local: local, Interface: g.Interface})
		}
	}
	return l
}

// public6 is the first public IPv6 address of an interface.
func public6(is []discovery.Interface, index int) netip.Addr {
	for _, i := range is {
		if i.Index != index {
			continue
		}
		for _, p := range i.Prefixes {
			if p.Addr().Is6() && tunnel.Public(p.Addr()) {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

// verifyMapping has super-nodes dial the mapping.
func (n *Node) verifyMapping(ctx context.Context, m portmap.Mapping) error {
	if m.Protocol != protocol.TCP {
		return errors.New("UDP alone is not verified")
	}
	return n.dialledBack(ctx, m.External)
}

// plainReason is an error without the addresses and system calls that it came from.
func plainReason(err error) string {
	var (
		op    *net.OpError
		errno syscall.Errno
	)
	if errors.As(err, &op) && errors.As(op.Err, &errno) {
		return strings.ReplaceAll(err.Error(), op.Error(), errno.Error())
	}
	return err.Error()
}

// portMappings is what came of each protocol at each router, for people.
func (n *Node) portMappings() (l []localapi.PortMapping) {
	for _, s := range n.PortStatus() {
		p := localapi.PortMapping{Protocol: strings.ReplaceAll(s.Protocol, "-", "_"), Transport: protocol.TCP.String(), State: portFailed}
		if s.Err != nil {
			p.Reason = plainReason(s.Err)
		}
		if s.External.IsValid() && !s.External.IsUnspecified() {
			p.External = netip.AddrPortFrom(s.External, n.bound().Port()).String()
		}
		switch s.State {
		case portmap.Serving:
			p.State = portMapped
			for _, m := range n.mapper.Mappings() {
				if m.Protocol == protocol.TCP && m.External.Addr() == s.External {
					p.External = m.External.String()
				}
			}
		case portmap.Available, portmap.Open, portmap.Unreached:
			p.State = portUnverified
		}
		l = append(l, p)
	}
	return l
}

// externalAddresses are the router's by its own word, where it was asked to open ports.
func (n *Node) externalAddresses() (l []netip.Addr) {
	for _, p := range n.portMappings() {
		if a, err := netip.ParseAddrPort(p.External); err == nil {
			l = append(l, a.Addr())
		}
	}
	return l
}
