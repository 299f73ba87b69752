package tunnels

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"culvert/bench/load"
	"culvert/bench/proc"
	"culvert/bench/world"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/rawtcp"
	"culvert/tunnel"
	"culvert/tunnel/link"
	"culvert/tunnel/relay"
)

const (
	partRelay = "tunnels-super-node"
	partAgent = "tunnels-tunnel-node"
	partUser  = "tunnels-user-node"
)

// Parts are the processes of the tunnels.
func Parts() map[string]proc.Part {
	return map[string]proc.Part{
		partRelay: superNode, partAgent: tunnelNode, partUser: userNode,
		partCrowdRelay: obeying(superNode, nil), partCrowdAgent: obeying(tunnelNode, nil),
		partCrowdUser: crowdUser, partCrowdLoad: crowdLoad, partCrowdDevice: crowdDevice,
	}
}

func listen(cfg carrier.TCPConfig) (*carrier.TCP, netip.AddrPort, error) {
	l, err := rawtcp.Listen(load.Local(0))
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	// All connections come from one address here, unlike in a mesh.
	cfg.PerSource = 1 << 16
	s, err := carrier.ServeTCP(l.TCPListener, cfg)
	if err != nil {
		return nil, netip.AddrPort{}, errors.Join(err, l.Close())
	}
	return s, s.LocalAddr(), nil
}

// complain shows what a node would count: in a benchmark nothing may go wrong.
func complain(what string, err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, tunnel.ErrClosed) && !errors.Is(err, link.ErrClosed) {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", what, err)
	}
}

// superNode relays.
func superNode(ctx context.Context, _ json.RawMessage, ready func(any) error) (err error) {
	m, err := newMesh(places{}, func(m *mesh) []*world.Member { return []*world.Member{m.relay} })
	if err != nil {
		return err
	}
	r, err := relay.New(relay.Config{
		Verify: func(raw []byte) (*protocol.Verified, protocol.RelayJoin, error) {
			v, err := m.e.VerifyDetached(time.Now(), raw, nil)
			if err != nil {
				return nil, protocol.RelayJoin{}, err
			}
			j, err := protocol.ParsePayload[protocol.RelayJoin](v.Payload)
			return v, j, err
		},
		TCP: bare,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	s, at, err := listen(carrier.TCPConfig{Raw: map[byte]func(*carrier.Peeked){
		relay.FirstByte: func(c *carrier.Peeked) { _ = r.Serve(c) },
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := ready(at); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// bare is the TCP connection itself, once the byte that was peeked at has been read: the kernel can splice it.
func bare(c relay.Conn) *net.TCPConn {
	if p, ok := c.(*carrier.Peeked); ok && len(p.Prefix) == 0 {
		return p.TCPConn
	}
	return nil
}

// tunnelNode serves the device.
func tunnelNode(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var at places
	if err := json.Unmarshal(arg, &at); err != nil {
		return err
	}
	m, err := newMesh(at, func(m *mesh) []*world.Member { return []*world.Member{m.agent} })
	if err != nil {
		return err
	}
	t, err := m.manager(m.agent, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	s, own, err := listen(carrier.TCPConfig{
		TLS: t.ServerTLS(),
		Protocols: map[string]func(*tls.Conn){
			link.ALPN: func(c *tls.Conn) { complain("take a link", t.AcceptLink(c)) },
		},
		Raw: map[byte]func(*carrier.Peeked){
			link.PrefaceByte: func(c *carrier.Peeked) { complain("take a flow's own connection", t.AcceptBulk(c)) },
			signalByte:       func(c *carrier.Peeked) { complain("answer a request", m.answerRequest(ctx, t, c)) },
		},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := ready(own); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// locals are the local addresses of the user-node's tunnels by name.
type locals map[string]netip.AddrPort

// userNode opens every kind of tunnel to the device.
func userNode(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var at places
	if err := json.Unmarshal(arg, &at); err != nil {
		return err
	}
	m, err := newMesh(at, func(m *mesh) []*world.Member { return m.users })
	if err != nil {
		return err
	}
	w := make(locals)
	for i, k := range []struct {
		promoteAfter    int64
		direct, relayed string
	}{{0, Direct, Relayed}, {-1, DirectLink, RelayedLink}} {
		t, err := m.manager(m.users[i], k.promoteAfter)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		for route, name := range map[tunnel.Route]string{tunnel.Direct: k.direct, tunnel.Relayed: k.relayed} {
			tn, err := t.Open(ctx, tunnel.OpenRequest{Device: deviceName, Port: at.Device, Routes: []tunnel.Route{route}})
			if err != nil {
				return fmt.Errorf("open %s: %w", name, err)
			}
			if got := tn.Info().Route; got != route {
				return fmt.Errorf("open %s: it goes %s", name, got)
			}
			w[name] = tn.Local()
		}
	}
	if err := ready(w); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
