package portmap

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/netip"
	"time"

	"culvert/protocol"
)

// pcpClient speaks PCP. Its nonces are those of its secret, router and port.
type pcpClient struct {
	datagrams
	inside uint16
	secret []byte
}

var _ client = (*pcpClient)(nil)

// probe asks by ANNOUNCE. A server may not know that opcode; that it says so is enough.
func (c *pcpClient) probe(ctx context.Context) (string, netip.Addr, error) {
	p, err := c.announce(ctx)
	return ByPCP, p.external, err
}

func (c *pcpClient) announce(ctx context.Context) (p pulse, err error) {
	err = c.ask(ctx, appendPCPHeader(nil, pcpAnnounce, 0, c.gw.Local), func(b []byte, at time.Time) error {
		seconds, _, err := parsePCP(b, pcpAnnounce)
		p.epoch = epoch{!errors.Is(err, errForeign), seconds, at}
		return err
	})
	var no *refusedError
	if errors.As(err, &no) && no.code != 1 { // 1: the version is not spoken
		err = nil
	}
	return p, err
}

// check renews: ANNOUNCE would show neither a flushed table nor another address.
func (c *pcpClient) check(ctx context.Context, have grant) (p pulse, err error) {
	for proto, outside := range map[protocol.Transport]uint16{protocol.TCP: have.tcp, protocol.UDP: have.udp} {
		if outside == 0 {
			continue
		}
		m, e, err := c.mapping(ctx, proto, outside, have.external, leaseTime)
		if err != nil {
			return p, err
		}
		p.external, p.epoch = m.external, e
		p.lost = p.lost || m.outside != outside || have.epoch.restarted(e)
	}
	return p, nil
}

func (c *pcpClient) open(ctx context.Context, have grant) (g grant, err error) {
	g = grant{by: ByPCP, lease: leaseTime}
	var last error
	one := func(proto protocol.Transport, want uint16) (outside uint16) {
		m, e, err := c.mapping(ctx, proto, want, have.external, leaseTime)
		if err != nil || m.outside == 0 || m.life == 0 {
			last = err
			return 0
		}
		g.epoch, g.lease = e, min(g.lease, clampLease(m.life))
		if !g.external.IsValid() || g.external == m.external {
			g.external = m.external
			return m.outside
		}
		last = errUnusable // two external addresses: the first one's port is kept
		return 0
	}
	g.tcp = one(protocol.TCP, firstOf(have.tcp, c.inside))
	g.udp = one(protocol.UDP, firstOf(have.udp, g.tcp, c.inside))
	if err := opened(g, last); err != nil {
		return g, err
	}
	if !usable(g.external) {
		return g, errUnusable
	}
	return g, nil
}

func (c *pcpClient) release(ctx context.Context, have grant) error {
	_, _, err1 := c.mapping(ctx, protocol.TCP, have.tcp, have.external, 0)
	_, _, err2 := c.mapping(ctx, protocol.UDP, have.udp, have.external, 0)
	return errors.Join(err1, err2)
}

func (c *pcpClient) mapping(ctx context.Context, proto protocol.Transport, outside uint16, external netip.Addr, life time.Duration) (m pcpMapping, e epoch, err error) {
	asked := pcpMapping{nonce: c.nonce(proto), proto: byte(proto), inside: c.inside, outside: outside, external: external, life: uint32(life / time.Second)}
	err = c.ask(ctx, appendPCPMap(nil, c.gw.Local, asked), func(b []byte, at time.Time) (err error) {
		var seconds uint32
		m, seconds, err = parsePCPMap(b, asked)
		e = epoch{true, seconds, at}
		return err
	})
	return m, e, err
}

// nonce tells our mappings from those of others behind the same address.
func (c *pcpClient) nonce(proto protocol.Transport) [12]byte {
	h := hmac.New(sha256.New, c.secret)
	h.Write(c.gw.Addr.AsSlice())
	h.Write(c.gw.Local.AsSlice())
	h.Write([]byte{byte(proto), byte(c.inside >> 8), byte(c.inside)})
	return [12]byte(h.Sum(nil)[:12])
}
