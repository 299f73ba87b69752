package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/node/config"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/endpoint"
)

// services are what others may open streams to this node for.
func (n *Node) services() carrier.Services {
	return carrier.Services{carrier.ServiceMessages: n.serveMessages, carrier.ServiceRelay: n.serveRelay}
}

// serveMessages moves the datagrams of a node that cannot send them by UDP. Only who serves has anything to answer.
func (n *Node) serveMessages(c carrier.ByteConn) {
	if n.serving.Load() == nil {
		n.drops.add("no messages by stream here")
		_ = c.Close()
		return
	}
	if err := n.mux.Serve(c); err != nil {
		n.log.Debug("stream of messages ended", "from", c.RemoteAddr().String(), "error", err)
	}
}

// serverTLS is for the node's own port: streams are told from links, which prove keys, by what the handshake offers.
func (n *Node) serverTLS() (*tls.Config, error) {
	streams, err := n.services().ServerTLS(false)
	if err != nil {
		return nil, err
	}
	links := n.tunnels.ServerTLS()
	offers := func(h *tls.ClientHelloInfo) bool {
		return slices.ContainsFunc(h.SupportedProtos, func(p string) bool { return slices.Contains(streams.NextProtos, p) })
	}
	both := links.Clone()
	both.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if s := n.serving.Load(); s != nil && slices.Contains(h.SupportedProtos, snapshotALPN) {
			return s.snapshotTLS, nil
		}
		if offers(h) {
			return streams, nil
		}
		return links.GetConfigForClient(h)
	}
	return both, nil
}

// openWeb takes ports 443 and 80, for networks that let nothing else out. That they cannot be had is no fault.
func (n *Node) openWeb(host string) error {
	s := n.cfg.Settings
	if !s.Super {
		return nil
	}
	web := carrier.NewWeb(n.services(), n.room)
	took := false
	take := func(setting, auto string, serve func(*net.TCPListener) error) bool {
		address := setting
		switch {
		case setting == config.NoListen:
			return false
		case setting == config.AutoListen:
			if a, err := netip.ParseAddr(host); host != "" && (err != nil || !a.IsUnspecified()) {
				return false
			}
			address = net.JoinHostPort(host, auto)
		}
		l, err := net.Listen("tcp", address)
		if err == nil {
			err = serve(l.(*net.TCPListener))
		}
		if err != nil {
			remedy := "another program may have it; set listen_https and listen_http"
			if errors.Is(err, fs.ErrPermission) {
				remedy = "sysctl net.ipv4.ip_unprivileged_port_start=80, or the capability CAP_NET_BIND_SERVICE"
			}
			n.log.Info("not there for networks that let only web ports out", "listen", address, "error", err, "remedy", remedy)
			return false
		}
		took = true
		n.choice.web = append(n.choice.web, l.Addr().String())
		return true
	}
	n.choice.https = take(s.ListenHTTPS, "443", web.ServeTLS)
	n.choice.http = take(s.ListenHTTP, "80", web.ServeHTTP)
	if !took {
		return web.Close()
	}
	n.web = web
	return nil
}

// withStreams adds to the addresses of a super-node those at which it offers streams alone. Its first two addresses for
// messages come before them, the others after.
func (n *Node) withStreams(l []netip.AddrPort) []netip.AddrPort {
	first := l[:min(len(l), 2)]
	out := slices.Clone(first)
	for _, port := range []struct {
		there  bool
		number uint16
	}{{n.choice.https, 443}, {n.choice.http, 80}} {
		for _, a := range first {
			if s := netip.AddrPortFrom(a.Addr(), port.number); port.there && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return atMost(append(out, l[len(first):]...))
}

// streamLoop is readLoop for datagrams that come on streams.
func (n *Node) streamLoop(context.Context) {
	ms := make([]carrier.Message, readBatch)
	var (
		ev  endpoint.Event
		out writer
	)
	ev.Verified.Scratch = new(protocol.Scratch)
	for {
		k, err := n.mux.ReadStreams(ms)
		if err != nil {
			return // closed
		}
		now := n.now()
		for i := range ms[:k] {
			m := &ms[i]
			if m.N == 0 || carrier.Classify(m.Buf[0]) != carrier.Culvert {
				n.drops.add("not ours")
				continue
			}
			n.ep.Receive(now, m.Addr, m.Buf[:m.N], &ev, &out.Outbox)
			if ev.Kind == endpoint.EventRequest || ev.Kind == endpoint.EventCallDone {
				n.mux.Confirm(time.Now(), m.Addr)
			}
			n.received(now, &ev, &out.Outbox)
		}
		clear(ms[:k])
		out.flush(n.mux)
		n.wakeForCalls()
	}
}

// Streams are what the operator's HTTPS listener hands on: messages, and relayed tunnels where the configuration allows it.
func (o *OperatorMesh) Streams() carrier.Services {
	s := o.n.services()
	if !o.n.cfg.Settings.Relay {
		delete(s, carrier.ServiceRelay)
	}
	return s
}

// probeStream asks a candidate at an address that is for streams alone.
func (o *OperatorMesh) probeStream(ctx context.Context, peer protocol.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	way := carrier.Way{Class: carrier.Class{Form: carrier.TLS}, Address: peer.Addr.String()}
	if peer.Addr.Port() == 80 {
		way.Form = carrier.WebSocket
	}
	d := carrier.Dialer{Dial: o.n.cfg.Network.Dial}
	c, err := d.Open(ctx, way, carrier.ServiceMessages)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := o.pingOn(ctx, c, peer); err != nil {
		return fmt.Errorf("%s: %w", way, err)
	}
	return nil
}

// pingOn asks by frames. A stream loses none, so nothing is sent twice.
func (o *OperatorMesh) pingOn(ctx context.Context, c carrier.ByteConn, peer protocol.Peer) error {
	ep, id, err := o.prober()
	if err != nil {
		return err
	}
	payload, err := protocol.AppendPayload(nil, protocol.Ping{})
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	var (
		ev  endpoint.Event
		out endpoint.Outbox
		r   = bufio.NewReader(c)
	)
	if _, err := ep.Call(o.n.now(), id, peer, protocol.CmdPing, payload, probeTimeout, &out); err != nil {
		return err
	}
	for {
		for _, p := range out.Packets() {
			b, err := carrier.AppendFrame(nil, p.Data)
			if err != nil {
				return err
			}
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
		out.Reset()
		b, err := carrier.ReadFrame(r)
		if err != nil {
			return err
		}
		now := o.n.now()
		ep.Receive(now, peer.Addr, b, &ev, &out)
		for ok := true; ok; ok = ep.More(now, &ev, &out) {
			if ev.Kind == endpoint.EventCallDone {
				return nil
			}
		}
	}
}
