//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cablePatience is how long the kernel may take to notice a cable; it looks
// once a second where much happens.
const cablePatience = time.Minute

// veth lays a cable between an interface of h and one of peer.
func (h *Host) veth(name string, mac net.HardwareAddr, peer *Host, peerName string, peerMAC net.HardwareAddr) error {
	cable := netlink.NewVeth(netlink.LinkAttrs{Name: name, HardwareAddr: mac})
	cable.PeerName = peerName
	cable.PeerHardwareAddr = peerMAC
	cable.PeerNamespace = netlink.NsFd(peer.ns)
	if err := h.link.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable from %s %s to %s %s: %w", h.name, name, peer.name, peerName, err)
	}
	if err := errors.Join(h.linkUp(name), peer.linkUp(peerName)); err != nil {
		return err
	}
	return errors.Join(h.awaitOper(name), peer.awaitOper(peerName))
}

// bridge makes a switch. Its MAC is fixed: otherwise each new port may change
// it, and the neighbours' ARP entries are wrong for seconds.
func (h *Host) bridge(name string, mac net.HardwareAddr) error {
	if err := h.link.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac}}); err != nil {
		return fmt.Errorf("bridge %s on %s: %w", name, h.name, err)
	}
	return h.linkUp(name)
}

// plug makes an interface a port of a bridge.
func (h *Host) plug(name, bridge string) error {
	port, err := h.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
	}
	master, err := h.link.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %s on %s: %w", bridge, h.name, err)
	}
	if err := h.link.LinkSetMaster(port, master); err != nil {
		return fmt.Errorf("plug %s into %s on %s: %w", name, bridge, h.name, err)
	}
	return h.awaitOper(name)
}

// awaitOper waits until the kernel has noticed that a cable has two ends:
// before, a switch does not pass on what comes from there.
func (h *Host) awaitOper(name string) error {
	deadline := time.Now().Add(cablePatience)
	for {
		link, err := h.link.LinkByName(name)
		if err != nil {
			return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s on %s is %s after %s", name, h.name, link.Attrs().OperState, cablePatience)
		}
		time.Sleep(time.Millisecond)
	}
}

func (h *Host) linkUp(name string) error {
	link, err := h.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
	}
	if err := h.link.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s on %s up: %w", name, h.name, err)
	}
	return nil
}

func (h *Host) address(name string, addr netip.Prefix) error {
	link, err := h.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
	}
	if err := h.link.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("address %s on %s %s: %w", addr, h.name, name, err)
	}
	if addr.Addr().Is6() {
		return h.linkLocal(link)
	}
	return nil
}

// linkLocal gives an interface at once the address that the kernel will give
// it when it has seen the cable. Without one nobody is asked for a neighbour's
// hardware address, and packets are lost.
func (h *Host) linkLocal(link netlink.Link) error {
	mac := link.Attrs().HardwareAddr
	ip := net.IP{0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
	if err := h.link.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("link-local address on %s %s: %w", h.name, link.Attrs().Name, err)
	}
	return nil
}

// route sends dst through the gateway; the zero Prefix is the default route.
func (h *Host) route(dst netip.Prefix, gateway netip.Addr) error {
	r := &netlink.Route{Gw: gateway.AsSlice()}
	if dst.IsValid() {
		r.Dst = ipNet(dst)
	}
	if err := h.link.RouteAdd(r); err != nil {
		return fmt.Errorf("route %s via %s on %s: %w", dst, gateway, h.name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (h *Host) removeAddress(name string, addr netip.Prefix) error {
	link, err := h.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
	}
	if err := h.link.AddrDel(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("remove address %s from %s %s: %w", addr, h.name, name, err)
	}
	return nil
}

func (h *Host) replaceRoute(dst netip.Prefix, gateway netip.Addr) error {
	if err := h.link.RouteReplace(&netlink.Route{Dst: ipNet(dst), Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route %s via %s on %s: %w", dst, gateway, h.name, err)
	}
	return nil
}

// LinkDown takes an interface down; the kernel forgets what is routed there.
func (h *Host) LinkDown(name string) error {
	link, err := h.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
	}
	var before downed
	if before.addrs, err = h.link.AddrList(link, netlink.FAMILY_ALL); err != nil {
		return fmt.Errorf("addresses of %s on %s: %w", name, h.name, err)
	}
	if before.routes, err = h.link.RouteList(link, netlink.FAMILY_ALL); err != nil {
		return fmt.Errorf("routes of %s on %s: %w", name, h.name, err)
	}
	if err := h.link.LinkSetDown(link); err != nil {
		return fmt.Errorf("set %s on %s down: %w", name, h.name, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, twice := h.down[name]; twice {
		return nil
	}
	if h.down == nil {
		h.down = make(map[string]downed)
	}
	h.down[name] = before
	return nil
}

// downed is what an interface had before it went down.
type downed struct {
	addrs  []netlink.Addr
	routes []netlink.Route
}

// LinkUp brings an interface back as LinkDown found it.
func (h *Host) LinkUp(name string) error {
	h.mu.Lock()
	before, ok := h.down[name]
	delete(h.down, name)
	h.mu.Unlock()
	if !ok {
		return fmt.Errorf("%s on %s is not down", name, h.name)
	}
	if err := h.linkUp(name); err != nil {
		return err
	}
	link, err := h.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", name, h.name, err)
	}
	for _, a := range before.addrs {
		if err := h.link.AddrReplace(link, &netlink.Addr{IPNet: a.IPNet, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("address %s on %s: %w", a.IPNet, h.name, err)
		}
	}
	for _, r := range before.routes {
		if r.Gw == nil {
			continue // comes with the address
		}
		if err := h.link.RouteReplace(&netlink.Route{Dst: r.Dst, Gw: r.Gw, LinkIndex: link.Attrs().Index}); err != nil {
			return fmt.Errorf("route %s on %s: %w", r, h.name, err)
		}
	}
	return nil
}
