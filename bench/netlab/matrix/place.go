//go:build linux

package matrix

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/mesh"
)

const (
	proxyPort   = 3128
	proxyUser   = "office"
	proxySecret = "over the fence"
)

// A place is one site with its agent, and a device where it is a device's.
type place struct {
	kind   Kind
	side   string
	site   *lab.Site
	agent  *mesh.Agent
	device *lab.Host

	echo  *device.Server
	proxy *lab.Proxy
	// seenAs are the addresses by which super-nodes hear of the agent.
	seenAs []netip.Addr
	// problem is why the agent is of no use; its runs fail with it.
	problem error
}

// prefix4 and prefix6 number public networks: 45.N.0.0/24 and 45.N.1.0/24,
// 2a0e:1:N::/64 outside and 2a0e:2:N::/64 inside.
func prefix4(n, third, last byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{45, n, third, last}), 24)
}

func prefix6(net, n, last byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x2a, 0x0e, 0, net, 0, n, 15: last}), 64)
}

// newPlace builds the site number n with its hosts, and starts nothing of
// culvert. All homes have the same private network, as homes do.
func newPlace(l *lab.Lab, program, dir, conf, side string, kind Kind, n byte) (*place, error) {
	p := &place{kind: kind, side: side}
	name := side + "-" + string(kind)
	c := lab.SiteConfig{
		Name: name, Kind: lab.Kind(kind),
		WAN: prefix4(n, 0, 2), LANs: []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24")},
	}
	t := kind.Traits()
	if kind == Open {
		c.LANs = []netip.Prefix{prefix4(n, 1, 1)}
	}
	if t.V6 {
		c.WAN6, c.LANs6 = prefix6(1, n, 2), []netip.Prefix{prefix6(2, n, 1)}
	}
	switch kind {
	case IPv6Only:
		c.WAN, c.LANs = netip.Prefix{}, nil
	case Carrier:
		provider, err := l.Site(lab.SiteConfig{Name: name + "-provider", Kind: lab.Carrier, WAN: c.WAN, LANs: []netip.Prefix{netip.MustParsePrefix("100.64.0.1/10")}})
		if err != nil {
			return nil, err
		}
		c.Kind, c.Behind, c.WAN = lab.PortRestricted, provider, netip.MustParsePrefix("100.64.3.7/10")
	}
	// at numbers the site's hosts: one address for each family.
	at := func(last byte) (addrs []netip.Addr) {
		if t.V4 {
			a := c.LANs[0].Addr().As4()
			a[3] = last
			addrs = append(addrs, netip.AddrFrom4(a))
		}
		if t.V6 {
			a := c.LANs6[0].Addr().As16()
			a[15] = last
			addrs = append(addrs, netip.AddrFrom16(a))
		}
		return addrs
	}
	if kind == ProxyOnly {
		c.Proxy = at(5)[0]
	}
	var err error
	if p.site, err = l.Site(c); err != nil {
		return nil, err
	}
	desk, err := p.site.Host(name+"-desk", at(10)...)
	if err != nil {
		return nil, err
	}
	if p.agent, err = mesh.NewAgent(program, desk, dir, conf); err != nil {
		return nil, err
	}
	if t.V4 && kind != Open {
		p.seenAs = append(p.seenAs, p.site.Public())
	} else {
		p.seenAs = append(p.seenAs, desk.Addr())
	}
	if t.V6 {
		p.seenAs = append(p.seenAs, desk.Addr6())
	}
	if kind == ProxyOnly {
		if err := p.startProxy(at(5)); err != nil {
			return nil, err
		}
	}
	if side != deviceSide {
		return p, nil
	}
	if p.device, err = p.site.Host(name+"-printer", at(20)...); err != nil {
		return nil, err
	}
	p.echo, err = device.ServeEcho(p.device, device.JetDirectPort)
	return p, err
}

func (p *place) startProxy(addrs []netip.Addr) error {
	h, err := p.site.Host(p.String()+"-proxy", addrs...)
	if err != nil {
		return err
	}
	if p.proxy, err = lab.StartProxy(h, proxyPort, proxyUser, proxySecret); err != nil {
		return err
	}
	p.agent.Setenv("HTTPS_PROXY="+p.proxy.URL(), "HTTP_PROXY="+p.proxy.URL())
	return nil
}

// String is also the name of the place's device.
func (p *place) String() string { return p.side + "-" + string(p.kind) }

// close ends what runs in this process for the place.
func (p *place) close() error {
	if p.echo != nil {
		if err := p.echo.Close(); err != nil {
			return err
		}
	}
	if p.proxy != nil {
		return p.proxy.Close()
	}
	return nil
}

// join enrols and starts the agent.
func (p *place) join(ctx context.Context, operator *mesh.Operator, domain string) error {
	token, err := operator.Token(ctx, domain)
	if err != nil {
		return err
	}
	err = p.agent.Join(ctx, token)
	if failed := (*mesh.CommandError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("join: %s", failed.Stderr) // without the token
	} else if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	var flags []string
	if p.side == userSide {
		flags = append(flags, "--no-tunnel")
	}
	return p.agent.Start(ctx, flags...)
}

// register makes the place's device known.
func (p *place) register(ctx context.Context, operator *mesh.Operator, domain string) error {
	at, err := p.agent.Location(ctx)
	if err != nil {
		return err
	}
	return operator.AddDevice(ctx, p.String(), domain, "--mac", p.device.MAC().String(), "--port", strconv.Itoa(device.JetDirectPort), "--location", at.ID)
}
