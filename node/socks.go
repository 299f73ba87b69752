package node

import (
	"context"
	"errors"
	"fmt"
	"net"

	"culvert/dht"
	"culvert/node/localapi"
	"culvert/node/socks"
	"culvert/protocol"
	"culvert/tunnel"
)

// startSOCKS serves SOCKS5 where the configuration asks for it.
func (n *Node) startSOCKS() error {
	set := n.cfg.Settings
	if set.SOCKS == "" {
		return nil
	}
	l, err := socks.Listen(set.SOCKS)
	if err != nil {
		return err
	}
	s, err := socks.Serve(l, socks.Config{
		Opener: socksOpener{n, localapi.Caller{User: "socks " + l.Addr().String()}}, User: set.SOCKSUser, Password: set.SOCKSPassword,
		Reply: socksReply, Count: n.drops.add, Log: n.log, Open: set.Timeouts.Open.D(),
		Room: func(c net.Conn) bool { return n.room.Tunnel(c) },
	})
	if err != nil {
		return err
	}
	n.socks.Store(s)
	n.log.Info("SOCKS5 is served", "at", s.Addr().String())
	return nil
}

// socksAddr is where the SOCKS server listens, empty where there is none.
func (n *Node) socksAddr() string {
	if s := n.socks.Load(); s != nil {
		return s.Addr().String()
	}
	return ""
}

// localOf is the address to connect to; the SOCKS server's tunnels have none.
func localOf(i tunnel.Info) string {
	if i.Local.IsValid() {
		return i.Local.String()
	}
	return ""
}

// socksOpener opens tunnels without local ports for the SOCKS server. It implements socks.Opener.
type socksOpener struct {
	n      *Node
	caller localapi.Caller
}

var _ socks.Opener = socksOpener{}

// Open implements socks.Opener.
func (o socksOpener) Open(ctx context.Context, t socks.Target) (socks.Tunnel, error) {
	b := backend{o.n}
	domain := t.Domain
	for _, m := range o.n.members() { // the client's names are folded
		if name, _ := m.names(); protocol.FoldName(name) == t.Domain {
			domain = name
		}
	}
	m, err := b.holder(ctx, domain, t.Device)
	if err != nil {
		return nil, err
	}
	if err := m.barred(); err != nil {
		return nil, err
	}
	opened, err := o.n.tunnels.OpenBare(ctx, tunnel.OpenRequest{
		Domain: m.domain, Device: t.Device, Port: t.Port, Protocol: protocol.TCP, Caller: callerText(o.caller),
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t, err)
	}
	m.refresh() // from now on revocations matter at once
	s := socksTunnel{opened, o.n}
	s.publish(localapi.TunnelUp, "")
	return s, nil
}

// socksTunnel tells of its end. It implements socks.Tunnel.
type socksTunnel struct {
	*tunnel.Tunnel
	n *Node
}

var _ socks.Tunnel = socksTunnel{}

// Close implements socks.Tunnel.
func (s socksTunnel) Close() {
	if s.Closed() {
		return // by an app, which told of it
	}
	s.publish(localapi.TunnelDown, "not used any more")
	s.Tunnel.Close()
}

func (s socksTunnel) publish(what localapi.EventType, why string) {
	out := backend{s.n}.tunnelOf(s.Info())
	if what == localapi.TunnelDown {
		out.State = "down"
	}
	s.n.events.Publish(localapi.Event{
		Type: what, Time: s.n.now(), Domain: out.Domain, Device: out.Device, DeviceID: out.DeviceID, Tunnel: &out, Reason: why,
	})
}

// socksReply is what an error is to a SOCKS client, which learns no more than this.
func socksReply(err error) socks.Reply {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var told *localapi.Error
	switch {
	case is(tunnel.ErrDeviceRefused):
		return socks.Refused
	case is(tunnel.ErrNotAllowed, tunnel.ErrRevoked, tunnel.ErrDevicePin):
		return socks.NotAllowed
	case is(tunnel.ErrDeviceTimeout, tunnel.ErrDeviceUnreachable, tunnel.ErrDeviceNotFound, tunnel.ErrNoRoute,
		tunnel.ErrUnknownDevice, tunnel.ErrNoMembership, dht.ErrNotFound, ErrNotEnrolled):
		return socks.HostUnreachable
	case is(dht.ErrUnreachable, dht.ErrNoMap):
		return socks.NetworkUnreachable
	case errors.As(err, &told) && (told.Code == localapi.NotFound || told.Code == localapi.NotEnrolled || told.Code == localapi.RouteFailed):
		return socks.HostUnreachable
	}
	return socks.Failed
}
