package node

import (
	"context"

	"culvert/node/localapi"
	"culvert/protocol"
	"culvert/tunnel"
)

// receiptOf is a tunnel's receipt as the local API shows it.
func receiptOf(r tunnel.Receipt) localapi.Receipt {
	out := localapi.Receipt{
		Attempts: []localapi.Attempt{}, Races: r.Races, Milliseconds: milliseconds(r.Took), Connections: r.Conns,
		BytesIn: r.Received, BytesOut: r.Sent, Dropped: r.Dropped,
	}
	for _, a := range r.Attempts {
		one := localapi.Attempt{
			Route: string(a.Route), Node: a.Node.String(), After: milliseconds(a.After), Took: milliseconds(a.Took),
			Shared: a.Shared, Error: a.Error,
		}
		if !a.Relay.IsZero() {
			one.Relay = a.Relay.String()
		}
		out.Attempts = append(out.Attempts, one)
	}
	return out
}

// Served implements localapi.Backend.
func (b backend) Served(context.Context) ([]localapi.Served, error) {
	l := []localapi.Served{}
	for _, s := range b.n.tunnels.Served() {
		out := localapi.Served{
			End: "tunnel", UserNode: s.Peer.String(), DeviceID: s.Device.String(), Port: protocol.PortString(s.Port, s.Protocol),
			Route: string(s.Route), TunnelNode: s.Local.String(), State: "down", Opened: s.Since, Last: s.Last,
			Connections: s.Open, Total: s.Conns, Failed: s.Failed, Bytes: s.Bytes, Error: s.Error,
		}
		if s.Open > 0 {
			out.State = "up"
		}
		if !s.Relay.IsZero() {
			out.Relay = s.Relay.String()
		}
		if m, ok := b.n.member(s.Local.Domain()); ok {
			out.Domain, _ = m.names()
			if d, _, ok := m.devices.find(b.n.now(), s.Device.String()); ok {
				out.Device = d.Value.Name
			}
		}
		l = append(l, out)
	}
	return l, nil
}
