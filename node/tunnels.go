package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/tunnel"
	"culvert/tunnel/link"
	"culvert/tunnel/relay"
)

// openTunnels makes the manager and the relay. They are idle until there are identities and connections.
func (n *Node) openTunnels() (err error) {
	s := n.cfg.Settings
	var routes []tunnel.Route
	for _, r := range s.Routes {
		routes = append(routes, tunnel.Route(r))
	}
	n.tunnels, err = tunnel.New(tunnel.Config{
		Resolver: resolver{n}, Locator: locator{n}, Signaler: signaler{n}, Puncher: puncher{n},
		Now: n.meshNow, Revoked: n.isRevoked, Routes: routes, Candidates: n.candidates, Public: n.isPublic,
		Limits: tunnel.Limits{
			Tunnels: s.Limits.Tunnels, PeerFlows: s.Limits.TunnelsPerNode, DomainFlows: s.Limits.TunnelsPerDomain,
		},
		IdleFlow: s.Timeouts.IdleConnection.D(), IdleLink: s.Timeouts.IdleLink.D(),
		OpenTimeout: s.Timeouts.Open.D(), Lost: n.linkLost, Stirred: n.linkMade, DialRelay: n.dialRelay, Descriptors: n.room,
	})
	if err != nil {
		return err
	}
	n.relay, err = relay.New(relay.Config{
		Verify: n.verifyJoin, Now: n.meshNow, TCP: spliced,
		Wait: s.Timeouts.Handshake.D(), Connections: n.connections(), Descriptors: n.room, Splices: n.part(splicesOf, splicesMax), Rate: int64(s.Limits.RelayRate),
		Node:   relay.Allowance{Bytes: int64(s.Limits.RelayBytesPerNode) / 24, Rate: int64(s.Limits.RelayRatePerNode)},
		Domain: relay.Allowance{Bytes: int64(s.Limits.RelayBytesPerDomain) / 24, Rate: int64(s.Limits.RelayRatePerDomain)},
	})
	return err
}

// linkLost has the homes pinged at once: where this node's NAT was the reason nobody reaches it until it says something.
func (n *Node) linkLost(d protocol.Domain) {
	if m, ok := n.member(d); ok {
		m.pingNow()
	}
}

// linkMade has those who look after live tunnels begin.
func (n *Node) linkMade(d protocol.Domain) {
	poke(n.busyNow)
	if m, ok := n.member(d); ok {
		poke(m.homesDue)
	}
}

// spliced is the bare connection beneath one whose first byte was peeked at, once that byte has been read.
func spliced(c relay.Conn) *net.TCPConn {
	if p, ok := c.(*carrier.Peeked); ok && len(p.Prefix) == 0 {
		return p.TCPConn
	}
	if t, ok := c.(*net.TCPConn); ok {
		return t
	}
	return nil
}

// tcpConfig says who gets which connection on the TCP port.
func (n *Node) tcpConfig() (carrier.TCPConfig, error) {
	cfg, err := n.serverTLS()
	return carrier.TCPConfig{
		TLS: cfg, Descriptors: n.room, HalfOpen: n.part(halfOpenOf, halfOpenMax),
		Protocols: map[string]func(*tls.Conn){
			link.ALPN:               func(c *tls.Conn) { n.streamEnded("link", n.tunnels.AcceptLink(c)) },
			snapshotALPN:            n.serveSnapshots,
			carrier.ServiceMessages: func(c *tls.Conn) { n.serveMessages(carrier.OverTLS(c)) },
			carrier.ServiceRelay:    func(c *tls.Conn) { n.serveRelay(carrier.OverTLS(c)) },
		},
		Raw: map[byte]func(*carrier.Peeked){
			relay.FirstByte:  func(c *carrier.Peeked) { n.serveRelay(c) },
			link.PrefaceByte: func(c *carrier.Peeked) { n.streamEnded("bulk", n.tunnels.AcceptBulk(c)) },
		},
	}, err
}

func (n *Node) serveRelay(c carrier.ByteConn) {
	if s := n.serving.Load(); s == nil || s.id.Domain() == protocol.OperatorDomain && !n.cfg.Settings.Relay {
		n.drops.add("no relay here")
		c.Close()
		return
	}
	n.streamEnded("relay", n.relay.Serve(c))
}

func (n *Node) streamEnded(kind string, err error) {
	if err != nil {
		n.drops.add(kind + " refused")
		n.log.Debug("connection ended", "kind", kind, "error", err)
	}
}

// tunnelIdentity makes a membership's current certificate known to the tunnels. alone: it is the only one.
func (n *Node) tunnelIdentity(m *membership, alone bool) error {
	return n.tunnels.AddIdentity(tunnel.Identity{
		Key: m.keys.Signing, Node: m.certificate(), Trust: m.mesh.trust,
		Consent: n.consents(m, alone), Serve: n.cfg.Settings.Tunnel,
	})
}

// consents are the entries of the consent list that speak of this membership: by ID, by NAME@DOMAIN, or by name alone where
// the node is in no other domain. Another domain's operator could register a device of the same name.
func (n *Node) consents(m *membership, alone bool) []tunnel.Consent {
	own, _ := m.names()
	var out []tunnel.Consent
	for _, c := range n.cfg.Settings.Consent {
		name, domain, qualified := strings.Cut(c.Device, "@")
		if qualified && domain != own && domain != m.domain.String() {
			continue
		}
		if _, err := protocol.ParseID(name); err != nil && !qualified && !alone {
			n.log.Warn("consent is not given: this agent is in several domains, so write NAME@DOMAIN", "device", c.Device)
			continue
		}
		t := tunnel.Consent{Device: name, Groups: c.Groups}
		for _, p := range c.Ports {
			proto := protocol.TCP
			if p.UDP {
				proto = protocol.UDP
			}
			t.Ports = append(t.Ports, protocol.Port{Number: p.Number, Protocol: proto})
		}
		out = append(out, t)
	}
	if len(out) == 0 && len(n.cfg.Settings.Consent) > 0 {
		return []tunnel.Consent{{}} // the list names nothing of this domain, which is not the same as no list
	}
	return out
}

// isPublic reports whether an address may be dialled from everywhere, as far as this node is concerned: one that listens on
// loopback alone talks to its like on the same machine.
func (n *Node) isPublic(a netip.Addr) bool {
	return tunnel.Public(a) || a.Unmap().IsLoopback() && n.bound().Addr().IsLoopback()
}

func (n *Node) isRevoked(id protocol.ID) bool {
	m, ok := n.member(id.Domain())
	return ok && m.mesh.isRevoked(id)
}

// busyDomains are those in which this node is an end of a live tunnel.
func (n *Node) busyDomains() map[protocol.Domain]bool {
	busy := make(map[protocol.Domain]bool)
	for _, t := range n.tunnels.Tunnels() {
		busy[t.Info().Domain] = true
	}
	for _, s := range n.tunnels.Served() {
		if s.Open > 0 {
			busy[s.Local.Domain()] = true
		}
	}
	return busy
}

// savedForward is one line of forwards.json.
type savedForward struct {
	ID     string         `json:"id"`
	Domain string         `json:"domain"`
	Device string         `json:"device"`
	Port   uint16         `json:"port"`
	UDP    bool           `json:"udp,omitempty"`
	Routes []tunnel.Route `json:"routes,omitempty"`
	Local  netip.AddrPort `json:"local"`
	Caller string         `json:"caller,omitempty"`
}

func (n *Node) forwardsFile() string { return filepath.Join(n.cfg.Dir, "forwards.json") }

// saveForwards writes the tunnels that are to last.
func (n *Node) saveForwards() error {
	n.forwardsMu.Lock()
	defer n.forwardsMu.Unlock()
	l := []savedForward{}
	for _, f := range n.tunnels.Forwards() {
		l = append(l, savedForward{
			ID: f.ID, Domain: f.Domain.String(), Device: f.Device, Port: f.Port, UDP: f.Protocol == protocol.UDP,
			Routes: f.Routes, Local: f.Listen, Caller: f.Caller,
		})
	}
	l = append(l, n.waiting...)
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(n.forwardsFile(), append(b, '\n'))
}

// restoreForwards listens again for the tunnels that are to last.
func (n *Node) restoreForwards() {
	b, err := os.ReadFile(n.forwardsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var saved []savedForward
	if err == nil {
		err = json.Unmarshal(b, &saved)
	}
	if err != nil {
		aside := fmt.Sprintf("%s.damaged-%d", n.forwardsFile(), n.now().Unix())
		n.log.Error("lasting tunnels not restored; the file is set aside", "kept", aside, "error", errors.Join(err, os.Rename(n.forwardsFile(), aside)))
		return
	}
	var l []tunnel.Forward
	for _, s := range saved {
		d, err := protocol.ParseDomain(s.Domain)
		if err != nil {
			continue
		}
		proto := protocol.TCP
		if s.UDP {
			proto = protocol.UDP
		}
		l = append(l, tunnel.Forward{ID: s.ID, OpenRequest: tunnel.OpenRequest{
			Domain: d, Device: s.Device, Port: s.Port, Protocol: proto, Routes: s.Routes, Listen: s.Local, Persist: true, Caller: s.Caller,
		}})
	}
	failed := n.tunnels.Restore(l)
	n.forwardsMu.Lock()
	defer n.forwardsMu.Unlock()
	for _, s := range saved {
		if err := failed[s.ID]; err != nil {
			n.log.Error("lasting tunnel not restored; it stays for the next start", "tunnel", s.ID, "local", s.Local.String(), "error", err)
			n.waiting = append(n.waiting, s)
		}
	}
}

// waits reports whether a lasting tunnel of that ID could not be restored.
func (n *Node) waits(id string) bool {
	n.forwardsMu.Lock()
	defer n.forwardsMu.Unlock()
	return slices.ContainsFunc(n.waiting, func(s savedForward) bool { return s.ID == id })
}

// dropForwards forgets lasting tunnels that could not be restored, and saves what lasts now.
func (n *Node) dropForwards(which func(savedForward) bool) error {
	n.forwardsMu.Lock()
	n.waiting = slices.DeleteFunc(n.waiting, which)
	n.forwardsMu.Unlock()
	if _, err := os.Stat(n.forwardsFile()); errors.Is(err, fs.ErrNotExist) {
		return nil // there never was one
	}
	return n.saveForwards()
}

// openTunnel opens a tunnel for an app.
func (n *Node) openTunnel(ctx context.Context, q tunnel.OpenRequest) (*tunnel.Tunnel, error) {
	if m, ok := n.member(q.Domain); ok {
		if err := m.barred(); err != nil {
			return nil, err
		}
	}
	t, err := n.tunnels.Open(ctx, q)
	if err != nil {
		return nil, err
	}
	if m, ok := n.member(q.Domain); ok {
		m.refresh() // from now on revocations matter at once
	}
	if q.Persist {
		if err := n.saveForwards(); err != nil {
			t.Close()
			return nil, fmt.Errorf("the tunnel cannot be kept: %w", err)
		}
	}
	return t, nil
}
