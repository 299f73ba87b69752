package portmap

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"time"

	igd "github.com/huin/goupnp/dcps/internetgateway2"

	"culvert/protocol"
)

const pinholeNoSuch = 704 // WANIPv6FirewallControl:1, section 2.6

// pinholeClient opens a router's IPv6 firewall. Routers let a machine open it for the address alone that it asks from.
type pinholeClient struct {
	searcher
	inside uint16

	wall *igd.WANIPv6FirewallControl1 // of the last probe
}

var _ client = (*pinholeClient)(nil)

func (c *pinholeClient) probe(ctx context.Context) (string, netip.Addr, error) {
	web := newHTTPClient(c.gw, c.may)
	c.wall = nil
	err := c.search(ctx, func(ctx context.Context, u *url.URL) error {
		text, err := fetch(ctx, &web, u)
		if err != nil {
			return err
		}
		services, err := parseDescription(text, u, pinholeURNs, c.may)
		if err != nil {
			return err
		}
		wall := &igd.WANIPv6FirewallControl1{ServiceClient: serviceClient(services[0], web)}
		if _, allowed, err := wall.GetFirewallStatusCtx(ctx); err != nil {
			return upnpError(err)
		} else if !allowed {
			return errFirewall
		}
		c.wall = wall
		return nil
	})
	return ByIGD2, c.gw.Local, err
}

func (c *pinholeClient) open(ctx context.Context, have grant) (g grant, err error) {
	if c.wall == nil {
		return g, errSilent
	}
	g = grant{by: ByIGD2, external: c.gw.Local, lease: leaseTime}
	lease := uint32(leaseTime / time.Second)
	var last error
	for i, proto := range []protocol.Transport{protocol.TCP, protocol.UDP} {
		if pin := have.pins[i]; pin.open {
			if upnpError(c.wall.UpdatePinholeCtx(ctx, pin.id, lease)) == nil {
				g.pins[i] = pin
				continue
			}
		}
		id, err := c.wall.AddPinholeCtx(ctx, "", 0, c.gw.Local.String(), c.inside, uint16(proto), lease)
		if err != nil {
			last = upnpError(err)
			continue
		}
		g.pins[i] = pinhole{id, true}
	}
	if g.pins[0].open {
		g.tcp = c.inside
	}
	if g.pins[1].open {
		g.udp = c.inside
	}
	return g, opened(g, last)
}

func (c *pinholeClient) check(ctx context.Context, have grant) (p pulse, err error) {
	if c.wall == nil {
		return p, errSilent
	}
	p.external = c.gw.Local
	for _, pin := range have.pins {
		if !pin.open {
			continue
		}
		switch err := upnpError(c.wall.UpdatePinholeCtx(ctx, pin.id, uint32(leaseTime/time.Second))); {
		case upnpCode(err) == pinholeNoSuch:
			p.lost = true
		case err != nil:
			return p, err
		}
	}
	return p, nil
}

func (c *pinholeClient) release(ctx context.Context, have grant) error {
	if c.wall == nil {
		return errSilent
	}
	var errs []error
	for _, pin := range have.pins {
		if pin.open {
			errs = append(errs, upnpError(c.wall.DeletePinholeCtx(ctx, pin.id)))
		}
	}
	return errors.Join(errs...)
}
