package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/discovery/nat"
	"culvert/node/localapi"
	"culvert/protocol"
)

const (
	// netcheckTime bounds a measurement that somebody waits for.
	netcheckTime = 5 * time.Second
	// netcheckDial bounds the tries whether TCP gets out.
	netcheckDial = 2 * time.Second
	httpPort     = 80
	httpsPort    = 443
)

// States of a port mapping, as localapi.PortMapping has them.
const (
	portMapped     = "mapped"
	portUnverified = "unverified"
	portFailed     = "failed"
)

// Netcheck implements localapi.Backend: it measures anew.
func (b backend) Netcheck(ctx context.Context) (localapi.Netcheck, error) {
	n := b.n
	if len(n.members()) == 0 {
		return localapi.Netcheck{}, notEnrolled()
	}
	ctx, cancel := context.WithTimeout(ctx, netcheckTime)
	defer cancel()
	var (
		r    nat.Report
		x    nat.Extra
		err  error
		work sync.WaitGroup
	)
	work.Go(func() { r, err = n.freshReport(ctx) })
	work.Go(func() { x.TCP, x.HTTPS = n.tcpGetsOut(ctx) })
	work.Go(func() { x.Listening = n.listening(ctx) })
	work.Wait()
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return localapi.Netcheck{}, err
	}
	n.fillExtra(&x)
	return n.netcheck(r, x), nil
}

// fillExtra adds what this node knows without measuring.
func (n *Node) fillExtra(x *nat.Extra) {
	x.Port = n.bound().Port()
	x.Carrier, x.Proxy = n.carrier()
	x.Super = slices.Contains(n.roles(), "super")
	for _, p := range n.portMappings() {
		switch p.State {
		case portMapped:
			x.Mapped = append(x.Mapped, p.Protocol)
		case portUnverified:
			x.Offered = append(x.Offered, p.Protocol)
		}
	}
}

// carrier is what messages travel by; empty where nobody answers.
func (n *Node) carrier() (name string, proxy bool) {
	if s := n.carrierState(); s.Carrier != "udp" {
		return s.Carrier, s.Proxy != ""
	}
	for _, m := range n.members() {
		for _, h := range m.homes.snapshot() {
			if h.rtt > 0 && h.misses == 0 {
				return "udp", false
			}
		}
	}
	return "", false
}

// listening has a super-node dial the TCP port where it would have to be open: at a mapped address, or this node's own number
// at the outside address.
func (n *Node) listening(ctx context.Context) bool {
	var at []netip.AddrPort
	for _, p := range n.portMappings() {
		if a, err := netip.ParseAddrPort(p.External); err == nil && p.Transport == protocol.TCP.String() {
			at = append(at, a)
		}
	}
	r := n.natReport()
	for _, a := range n.natSeen(&r) {
		if a.IsValid() {
			at = append(at, netip.AddrPortFrom(a.Addr(), n.bound().Port()))
		}
	}
	var work sync.WaitGroup
	reached := make([]bool, len(at))
	for i, a := range at {
		work.Go(func() { reached[i] = n.dialledBack(ctx, a) == nil })
	}
	work.Wait()
	return slices.Contains(reached, true)
}

// tcpGetsOut tries other TCP ports than 443: those of super-nodes, and 80 of their hosts; and beside them the operators' HTTPS.
func (n *Node) tcpGetsOut(ctx context.Context) (other, https nat.Tri) {
	m, servers, _ := n.natServers()
	if m == nil {
		return nat.Unknown, nat.Unknown
	}
	var to []string
	for _, s := range servers {
		for _, a := range []netip.AddrPort{s.V4, s.V6} {
			if a.IsValid() && a.Port() != httpsPort {
				to = append(to, a.String(), netip.AddrPortFrom(a.Addr(), httpPort).String())
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, netcheckDial)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { other = anyDialled(ctx, to) })
	m.mu.Lock()
	last := m.file.HTTPS
	m.mu.Unlock()
	work.Go(func() { https = anyDialled(ctx, m.operatorAddresses(last)) })
	work.Wait()
	return other, https
}

// wsaRefused is ECONNREFUSED on Windows.
const wsaRefused = syscall.Errno(10061)

// anyDialled tries all at once until one gets through. Also a refusal says that the way is open.
func anyDialled(ctx context.Context, to []string) nat.Tri {
	if len(to) == 0 {
		return nat.Unknown
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	out := make([]bool, len(to))
	for i, a := range to {
		work.Go(func() {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", a)
			if err == nil {
				_ = c.Close() // nothing was said on it
			}
			if out[i] = err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaRefused); out[i] {
				cancel()
			}
		})
	}
	work.Wait()
	if slices.Contains(out, true) {
		return nat.Yes
	}
	return nat.No
}

// netcheck puts what was found out into words.
func (n *Node) netcheck(r nat.Report, x nat.Extra) localapi.Netcheck {
	site := nat.SiteOf(r, x)
	keep, found := n.keepaliveFound()
	out := localapi.Netcheck{
		Kind: site.Kind, Traits: append([]string{}, site.Traits...), Summary: site.String(), Measured: r.At, UDP: r.UDP.String(),
		Carrier: x.Carrier, Proxy: x.Proxy, CarrierNAT: r.Carrier.String(),
		KeepaliveSeconds: keep.Seconds(), KeepaliveMeasured: found,
		IPv4: n.netcheckFamily(r.V4, false), IPv6: n.netcheckFamily(r.V6, true),
		Servers: []localapi.NetcheckProbe{}, PortMappings: append([]localapi.PortMapping{}, n.portMappings()...),
		Routes: []localapi.NetcheckRoute{}, Advice: append([]string{}, nat.Advice(r, x)...),
	}
	for _, s := range r.Servers {
		p := localapi.NetcheckProbe{ID: s.Server.String(), Address: s.Addr.String(), Milliseconds: milliseconds(s.RTT)}
		if s.Mapped.IsValid() {
			p.Mapped = s.Mapped.String()
		}
		out.Servers = append(out.Servers, p)
	}
	for _, e := range nat.Routes(r, x) {
		if slices.Contains(n.cfg.Settings.Routes, e.Route) {
			out.Routes = append(out.Routes, localapi.NetcheckRoute(e))
		}
	}
	return out
}

func (n *Node) netcheckFamily(f nat.Family, v6 bool) localapi.NetcheckFamily {
	out := localapi.NetcheckFamily{
		Works: f.Works, Addresses: []string{}, NAT: f.NAT.String(), Mapping: nat.MappingName(f.Mapping), Step: int(int16(f.Step)),
		Filtering: f.Filtering.String(), Hairpin: f.Hairpin.String(),
	}
	if f.Mapped.IsValid() {
		out.Mapped = f.Mapped.String()
	}
	for _, a := range n.ownAddresses() {
		if a.Is6() == v6 && !a.IsLinkLocalUnicast() {
			out.Addresses = append(out.Addresses, a.String())
		}
	}
	return out
}
