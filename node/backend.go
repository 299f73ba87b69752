package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/node/localapi"
	"culvert/node/localapi/ipc"
	"culvert/protocol"
	"culvert/tunnel"
)

// backend is what the local API shows and does. It implements localapi.Backend.
type backend struct{ n *Node }

var _ localapi.Backend = backend{}

// startAPI serves the local API on DIR/agent.sock, or the named pipe.
func (n *Node) startAPI() error {
	l, err := ipc.Listen(ipc.Address(n.cfg.Dir))
	if err != nil {
		return fmt.Errorf("local API: %w", err)
	}
	n.api = localapi.New(localapi.Options{
		Backend: backend{n}, Version: n.cfg.Version, Events: n.events, Log: n.log,
		Mounts: map[string]http.Handler{"GET /v1/counters": http.HandlerFunc(n.serveCounters)},
		Grace:  n.cfg.Settings.Timeouts.Shutdown.D(),
	})
	n.tasks.start(func(ctx context.Context) { n.served(ctx, n.api.Serve(l)) })
	if n.cfg.Settings.API == "" {
		return nil
	}
	token, err := localapi.LoadToken(n.cfg.Dir+"/api.token", rand.Reader)
	if err != nil {
		return err
	}
	tcp, err := localapi.ListenLoopback(n.cfg.Settings.API)
	if err != nil {
		return err
	}
	n.tasks.start(func(ctx context.Context) { n.served(ctx, n.api.ServeLoopback(tcp, token)) })
	return nil
}

func (n *Node) served(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		n.tasks.fail(fmt.Errorf("local API: %w", err))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Locations implements localapi.Backend.
func (b backend) Locations(context.Context) ([]localapi.Location, error) {
	ms := b.n.members()
	if len(ms) == 0 {
		return nil, notEnrolled()
	}
	slices.SortFunc(ms, func(a, b *membership) int { return int(int64(a.domain) - int64(b.domain)) })
	l := []localapi.Location{}
	for _, m := range ms {
		placed, err := m.placed()
		if err != nil {
			return nil, err
		}
		domain, _ := m.names()
		for _, p := range placed {
			l = append(l, localapi.Location{
				ID: p.ID.String(), Domain: domain, Interface: p.Interface, Prefix: p.Prefix.String(), Gateway: p.Gateway.String(),
			})
		}
	}
	return l, nil
}

// Devices implements localapi.Backend.
func (b backend) Devices(ctx context.Context, q localapi.DeviceQuery) ([]localapi.Device, error) {
	ms, err := b.chosen(q.Domain)
	if err != nil {
		return nil, err
	}
	l := []localapi.Device{}
	for _, m := range ms {
		if err := m.barred(); err != nil {
			if q.Domain == "" && len(ms) > 1 {
				continue // the other domains' devices are there as before; status shows this one
			}
			return nil, explain(err)
		}
		devices, err := m.list(ctx, q.Refresh)
		if err != nil {
			return nil, explain(err)
		}
		domain, _ := m.names()
		here, err := m.locations()
		if err != nil {
			return nil, err
		}
		reach := m.tunnelNodesOf(ctx, devices)
		for i, d := range devices {
			out := deviceOf(d, domain, here, m.id())
			out.TunnelNodes = reach[i]
			l = append(l, out)
		}
	}
	slices.SortFunc(l, func(a, b localapi.Device) int {
		return strings.Compare(a.Domain+"/"+a.Name, b.Domain+"/"+b.Name)
	})
	return l, nil
}

func deviceOf(d tunnel.Device, domain string, here []protocol.Hash, self protocol.ID) localapi.Device {
	v := d.Value
	out := localapi.Device{
		ID: d.ID.String(), Name: v.Name, Domain: domain, Ports: []string{}, Locations: []string{}, Groups: append([]string{}, v.Allow...),
	}
	if len(v.MAC) == 6 {
		out.MAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", v.MAC[0], v.MAC[1], v.MAC[2], v.MAC[3], v.MAC[4], v.MAC[5])
	}
	if v.Address.IsValid() {
		out.Address = v.Address.String()
	}
	if !v.Node.IsZero() {
		out.Node, out.Here = v.Node.String(), v.Node == self
	}
	if len(v.TLSPin) > 0 {
		out.TLSKey = fmt.Sprintf("%x", v.TLSPin)
	}
	for _, p := range v.Ports {
		out.Ports = append(out.Ports, p.String())
	}
	for _, l := range v.Locations {
		out.Locations = append(out.Locations, fmt.Sprintf("%x", l[:]))
		out.Here = out.Here || slices.Contains(here, l)
	}
	return out
}

// chosen are the memberships that a domain's name or number means, all where it is empty.
func (b backend) chosen(domain string) ([]*membership, error) {
	ms := b.n.members()
	if len(ms) == 0 {
		return nil, notEnrolled()
	}
	if domain == "" {
		return ms, nil
	}
	for _, m := range ms {
		if name, _ := m.names(); name == domain || m.domain.String() == domain {
			return []*membership{m}, nil
		}
	}
	return nil, localapi.Errorf(localapi.NotEnrolled, "see `culvert status` for the domains it is in", "this agent is not in domain %q", domain)
}

func notEnrolled() error {
	return localapi.Errorf(localapi.NotEnrolled, "get a join token from your operator and run: culvert join TOKEN", "this agent is in no domain yet")
}

// Tunnels implements localapi.Backend.
func (b backend) Tunnels(context.Context) ([]localapi.Tunnel, error) {
	l := []localapi.Tunnel{}
	for _, t := range b.n.tunnels.Tunnels() {
		l = append(l, b.tunnelOf(t.Info()))
	}
	return l, nil
}

func (b backend) tunnelOf(i tunnel.Info) localapi.Tunnel {
	out := localapi.Tunnel{
		ID: i.ID, Device: i.Name, DeviceID: i.Device.String(), Port: protocol.PortString(i.Port, i.Protocol), Local: localOf(i),
		Route: string(i.Route), Persist: i.Persist, State: "up", Opened: i.Since, Connections: i.Open,
		Milliseconds: milliseconds(i.Receipt.Took), BytesIn: i.Receipt.Received, BytesOut: i.Receipt.Sent,
		Caller: callerOf(i.Caller), End: "user", Error: i.Error, Receipt: receiptOf(i.Receipt),
	}
	if i.Route == "" {
		out.State = "down"
	}
	if !i.TunnelNode.IsZero() {
		out.TunnelNode = i.TunnelNode.String()
	}
	if !i.Relay.IsZero() {
		out.Relay = i.Relay.String()
	}
	if m, ok := b.n.member(i.Domain); ok {
		out.Domain, _ = m.names()
	}
	return out
}

// Open implements localapi.Backend.
func (b backend) Open(ctx context.Context, r localapi.OpenRequest) (localapi.Tunnel, error) {
	m, err := b.holder(ctx, r.Domain, r.Device)
	if err != nil {
		return localapi.Tunnel{}, err
	}
	q := tunnel.OpenRequest{Domain: m.domain, Device: r.Device, Persist: r.Persist}
	if q.Port, q.Protocol, err = parsePort(r.Port); err != nil {
		return localapi.Tunnel{}, localapi.Errorf(localapi.BadRequest, "use 631 or 161/udp", "%v", err)
	}
	if r.Route != "" {
		q.Routes = []tunnel.Route{tunnel.Route(r.Route)}
	}
	if r.Local != "" {
		if q.Listen, err = netip.ParseAddrPort(r.Local); err != nil {
			return localapi.Tunnel{}, localapi.Errorf(localapi.BadRequest, "use 127.0.0.1:PORT", "local address: %v", err)
		}
	}
	if c, ok := localapi.CallerFrom(ctx); ok {
		q.Caller = callerText(c)
	}
	t, err := b.n.openTunnel(ctx, q)
	if err != nil {
		return localapi.Tunnel{}, explainOpen(err, r.Route)
	}
	out := b.tunnelOf(t.Info())
	b.n.events.Publish(localapi.Event{Type: localapi.TunnelUp, Time: b.n.now(), Domain: out.Domain, Device: out.Device, DeviceID: out.DeviceID, Tunnel: &out})
	return out, nil
}

// holder is the one membership in which a device of that name is registered.
func (b backend) holder(ctx context.Context, domain, device string) (*membership, error) {
	ms, err := b.chosen(domain)
	if err != nil {
		return nil, err
	}
	if id, err := protocol.ParseID(device); err == nil {
		if m, ok := b.n.member(id.Domain()); ok {
			return m, nil
		}
	}
	if len(ms) == 1 {
		return ms[0], nil
	}
	var holders []*membership
	var failed error
	for _, f := range b.eachDevice(ctx, ms, device) {
		switch {
		case f.err == nil:
			holders = append(holders, f.m)
		case !errors.Is(f.err, tunnel.ErrUnknownDevice):
			failed = f.err
		}
	}
	switch {
	case len(holders) == 1:
		return holders[0], nil
	case len(holders) > 1:
		var names []string
		for _, m := range holders {
			name, _ := m.names()
			names = append(names, device+"@"+name)
		}
		slices.Sort(names)
		return nil, localapi.Errorf(localapi.Ambiguous, "name one: "+strings.Join(names[:min(len(names), 8)], ", "), "device %q is in %d domains", device, len(names))
	case failed != nil:
		return nil, explain(failed)
	}
	return nil, explain(fmt.Errorf("%w: %q", tunnel.ErrUnknownDevice, device))
}

type found struct {
	m   *membership
	err error
}

// eachDevice looks for a device in several domains at once.
func (b backend) eachDevice(ctx context.Context, ms []*membership, device string) []found {
	results := make(chan found, len(ms))
	for _, m := range ms {
		if !b.n.tasks.start(func(context.Context) {
			_, err := m.device(ctx, device)
			results <- found{m, err}
		}) {
			results <- found{m, errClosed}
		}
	}
	var out []found
	for range ms {
		out = append(out, <-results)
	}
	return out
}

// CloseTunnel implements localapi.Backend.
func (b backend) CloseTunnel(_ context.Context, id string) error {
	t, err := b.n.tunnels.Tunnel(id)
	if err != nil {
		if b.n.waits(id) {
			return b.n.dropForwards(func(s savedForward) bool { return s.ID == id })
		}
		return localapi.Errorf(localapi.NotFound, "see `culvert tunnels`", "no tunnel %q is open", id)
	}
	i := t.Info()
	t.Close()
	out := b.tunnelOf(i)
	out.State = "down"
	b.n.events.Publish(localapi.Event{Type: localapi.TunnelDown, Time: b.n.now(), Domain: out.Domain, Device: out.Device, DeviceID: out.DeviceID, Tunnel: &out, Reason: "closed by an app"})
	if i.Persist {
		return b.n.saveForwards()
	}
	return nil
}

// Join implements localapi.Backend.
func (b backend) Join(ctx context.Context, r localapi.JoinRequest) (localapi.Membership, error) {
	m, err := b.n.join(ctx, r.Token, r.Name)
	if err != nil {
		return localapi.Membership{}, explain(err)
	}
	return b.membership(m), nil
}

// Leave implements localapi.Backend.
func (b backend) Leave(ctx context.Context, r localapi.LeaveRequest) error {
	ms, err := b.chosen(r.Domain)
	if err != nil {
		return err
	}
	if len(ms) != 1 {
		return localapi.Errorf(localapi.Ambiguous, "name one with --domain", "this agent is in %d domains", len(ms))
	}
	return b.n.leave(ctx, ms[0])
}

func parsePort(s string) (uint16, protocol.Transport, error) {
	num, udp := strings.CutSuffix(s, "/udp")
	p, err := strconv.ParseUint(num, 10, 16)
	if err != nil || p == 0 {
		return 0, 0, fmt.Errorf("port %q is no port", s)
	}
	if udp {
		return uint16(p), protocol.UDP, nil
	}
	return uint16(p), protocol.TCP, nil
}

// callerText keeps who opened a tunnel, also across restarts.
func callerText(c localapi.Caller) string {
	return strings.Join([]string{c.UID, c.User, strconv.Itoa(c.PID), c.Program}, "\t")
}

func callerOf(s string) (c localapi.Caller) {
	f := strings.SplitN(s, "\t", 4)
	if len(f) != 4 {
		return c
	}
	pid, err := strconv.Atoi(f[2])
	if err != nil {
		return c
	}
	return localapi.Caller{UID: f[0], User: f[1], PID: pid, Program: f[3]}
}
