package portmap

import (
	"context"
	"net/netip"
	"time"
)

// pmpClient speaks NAT-PMP.
type pmpClient struct {
	datagrams
	inside uint16
}

var _ client = (*pmpClient)(nil)

func (c *pmpClient) probe(ctx context.Context) (string, netip.Addr, error) {
	p, err := c.address(ctx)
	return ByNATPMP, p.external, err
}

func (c *pmpClient) address(ctx context.Context) (p pulse, err error) {
	err = c.ask(ctx, []byte{0, pmpAddress}, func(b []byte, at time.Time) error {
		a, err := parsePMP(b, pmpAddress, 0)
		p = pulse{external: a.external, epoch: epoch{true, a.epoch, at}}
		return err
	})
	return p, err
}

func (c *pmpClient) check(ctx context.Context, have grant) (pulse, error) {
	p, err := c.address(ctx)
	p.lost = have.epoch.restarted(p.epoch)
	return p, err
}

func (c *pmpClient) open(ctx context.Context, have grant) (g grant, err error) {
	p, err := c.address(ctx)
	if err != nil {
		return g, err
	}
	g = grant{by: ByNATPMP, external: p.external, lease: leaseTime, epoch: p.epoch}
	if !usable(p.external) {
		return g, errUnusable
	}
	var last error
	one := func(op byte, want uint16) (outside uint16) {
		err := c.ask(ctx, appendPMPMap(nil, op, c.inside, want, uint32(leaseTime/time.Second)), func(b []byte, at time.Time) error {
			a, err := parsePMP(b, op, c.inside)
			if err == nil && a.outside != 0 && a.life > 0 {
				outside, g.lease = a.outside, min(g.lease, clampLease(a.life))
			}
			return err
		})
		if err != nil {
			last = err
		}
		return outside
	}
	g.tcp = one(pmpTCP, firstOf(have.tcp, c.inside))
	g.udp = one(pmpUDP, firstOf(have.udp, g.tcp, c.inside))
	return g, opened(g, last)
}

func (c *pmpClient) release(ctx context.Context, have grant) error {
	var last error
	for _, op := range []byte{pmpTCP, pmpUDP} {
		err := c.ask(ctx, appendPMPMap(nil, op, c.inside, 0, 0), func(b []byte, _ time.Time) error {
			_, err := parsePMP(b, op, c.inside)
			return err
		})
		if err != nil {
			last = err
		}
	}
	return last
}

// firstOf is the first port that is one.
func firstOf(ports ...uint16) uint16 {
	for _, p := range ports {
		if p != 0 {
			return p
		}
	}
	return 0
}

// opened is what came of opening: nothing is an error, one port of two is none.
func opened(g grant, last error) error {
	if g.tcp != 0 || g.udp != 0 {
		return nil
	}
	if last == nil {
		last = &refusedError{0, "and gives no port"}
	}
	return last
}
