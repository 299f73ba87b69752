package portmap

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

// Where routers say that they have started, or have another address (RFC 6886, section 3.2.1; RFC 6887, section 14.1; SSDP's
// NOTIFY). What they say is not believed: they are asked.
var announceGroups = [...]netip.AddrPort{
	netip.MustParseAddrPort("224.0.0.1:5350"),
	netip.MustParseAddrPort("239.255.255.250:1900"),
}

// announceEvery bounds how often anybody on the LAN can have a router asked.
const announceEvery = 200 * time.Millisecond

// listeners hear the announcements of IPv4 gateways. They are the loop's own.
type listeners map[Gateway][]*net.UDPConn

// follow listens on the interfaces of these gateways, and on no others. Where that is not possible, as where another program
// holds the port, a change is noticed by the next check.
func (l listeners) follow(m *Mapper, gws []Gateway) {
	for g, conns := range l {
		if !slices.Contains(gws, g) {
			closeAll(conns)
			delete(l, g)
		}
	}
	for _, g := range gws[:min(len(gws), maxSites)] {
		if _, ok := l[g]; ok || !g.Addr.Is4() {
			continue
		}
		on, err := net.InterfaceByName(g.Interface)
		if err != nil {
			continue
		}
		l[g] = nil
		for _, group := range announceGroups {
			conn, err := net.ListenMulticastUDP("udp4", on, net.UDPAddrFromAddrPort(group))
			if err != nil {
				m.cfg.Log.Debug("announcements of the router are not heard", "interface", g.Interface, "group", group.String(), "error", err)
				continue
			}
			l[g] = append(l[g], conn)
			m.work.Go(func() { m.hear(conn, g.Addr) })
		}
	}
}

func (l listeners) close() {
	for _, conns := range l {
		closeAll(conns)
	}
	clear(l)
}

func closeAll(conns []*net.UDPConn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// hear tells the machine when the gateway announces something, until the socket is closed.
func (m *Mapper) hear(conn *net.UDPConn, gw netip.Addr) {
	var last time.Time
	b := make([]byte, 2048) // so that Windows does not call it an error
	for {
		_, from, err := conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if now := time.Now(); from.Addr().Unmap() == gw && now.Sub(last) >= announceEvery {
			last = now
			m.tell(evAnnounced{gw})
		}
	}
}
