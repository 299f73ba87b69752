package node

import (
	"context"
	"slices"
	"time"

	"culvert/node/localapi"
	"culvert/protocol"
	"culvert/tunnel"
)

const (
	eventTick   = time.Second
	devicesTick = time.Minute
)

// eventLoop tells apps that listen of what happens by itself: a tunnel's way is lost or found again, a device is registered,
// removed or moved. While nobody listens it asks nothing.
func (n *Node) eventLoop(ctx context.Context) {
	up := make(map[string]bool)
	var listed time.Time
	t := time.NewTimer(eventTick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for n.events.Listeners() == 0 {
			clear(up)
			select {
			case <-ctx.Done():
				return
			case <-n.events.Joined():
			}
		}
		t.Reset(eventTick)
		n.tunnelEvents(up)
		if now := n.now(); now.Sub(listed) >= devicesTick {
			listed = now
			for _, m := range n.members() {
				if _, err := m.list(ctx, true); err != nil && ctx.Err() == nil {
					n.log.Debug("devices not listed", "domain", m.domain.String(), "error", err)
				}
			}
		}
	}
}

// tunnelEvents publishes what changed since the last look; what is seen for the first time was told when it was opened.
func (n *Node) tunnelEvents(up map[string]bool) {
	seen := make(map[string]bool)
	for _, t := range n.tunnels.Tunnels() {
		i := t.Info()
		now := i.Route != ""
		seen[i.ID] = true
		if before, known := up[i.ID]; known && before != now {
			out := backend{n}.tunnelOf(i)
			ev := localapi.Event{Type: localapi.TunnelUp, Time: n.now(), Domain: out.Domain, Device: out.Device, DeviceID: out.DeviceID, Tunnel: &out}
			if !now {
				ev.Type, ev.Reason = localapi.TunnelDown, i.Error
			}
			n.events.Publish(ev)
		}
		up[i.ID] = now
	}
	for id := range up {
		if !seen[id] {
			delete(up, id)
		}
	}
}

// deviceChange is one difference between two listings of a domain's devices.
type deviceChange struct {
	kind   localapi.EventType
	device tunnel.Device
}

// deviceChanges compares two listings.
func deviceChanges(before, after []tunnel.Device) []deviceChange {
	old := make(map[protocol.ID]tunnel.Device, len(before))
	for _, d := range before {
		old[d.ID] = d
	}
	var out []deviceChange
	for _, d := range after {
		was, ok := old[d.ID]
		delete(old, d.ID)
		switch {
		case !ok:
			out = append(out, deviceChange{localapi.DeviceFound, d})
		case !slices.Equal(was.Value.Locations, d.Value.Locations) || was.Value.Address != d.Value.Address || was.Value.Node != d.Value.Node:
			out = append(out, deviceChange{localapi.DeviceMoved, d})
		}
	}
	for _, d := range before {
		if _, gone := old[d.ID]; gone {
			out = append(out, deviceChange{localapi.DeviceLost, d})
		}
	}
	return out
}

// publishDevices tells of the differences between two listings.
func (m *membership) publishDevices(before, after []tunnel.Device) {
	domain, _ := m.names()
	for _, c := range deviceChanges(before, after) {
		out := deviceOf(c.device, domain, nil, m.id())
		m.node.events.Publish(localapi.Event{
			Type: c.kind, Time: m.node.now(), Domain: domain, Device: out.Name, DeviceID: out.ID, Locations: out.Locations,
		})
	}
}
