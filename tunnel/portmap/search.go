package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// searchTime is for how long answers are awaited: MX 1, and something for a slow router.
	searchTime   = 1800 * time.Millisecond
	locationsMax = 4 // that are looked at in one search
)

// searchAgain is when the search is said again: multicast gets lost.
var searchAgain = []time.Duration{200 * time.Millisecond, 600 * time.Millisecond}

// searcher looks for UPnP routers. port is 1900 but in tests.
type searcher struct {
	gw   Gateway
	port uint16
	wait time.Duration
	may  func(netip.Addr) bool
}

// search hands locations to look one after the other until it finds what it wants, and looks no further.
func (s searcher) search(ctx context.Context, look func(context.Context, *url.URL) error) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.gw.Local, 0)))
	if err != nil {
		return err
	}
	defer conn.Close()
	heard, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	stop := context.AfterFunc(heard, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	asked := make(chan error, 1)
	go func() { asked <- s.ask(heard, conn) }()
	defer func() { cancel(); <-asked }()

	var failure error
	var seen []string
	b := make([]byte, ssdpReplyMax+1)
	for len(seen) < locationsMax {
		n, from, err := conn.ReadFromUDPAddrPort(b)
		if heard.Err() != nil {
			break
		}
		if err != nil {
			continue // what an earlier datagram met; the deadline ends this
		}
		location, err := parseSearchReply(b[:n])
		if err != nil || !s.may(from.Addr().Unmap().WithZone("")) || slices.Contains(seen, location) {
			continue
		}
		seen = append(seen, location)
		u, err := parseLocation(location, s.may)
		if err == nil {
			if err = look(ctx, u); err == nil {
				return nil
			}
		}
		failure = err
	}
	switch {
	case failure != nil:
		return failure
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errSilent, ctx.Err())
	}
	return errSilent
}

// ask says the search, to the router itself and to the group, and again after a while. It ends with ctx.
func (s searcher) ask(ctx context.Context, conn *net.UDPConn) error {
	addr := s.gw.Addr
	group := netip.MustParseAddr("239.255.255.250")
	if addr.Is6() {
		group = netip.MustParseAddr("ff02::c").WithZone(s.gw.Interface)
		if addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(s.gw.Interface)
		}
	}
	// This machine is no router of its own: what it says to the group need not wake it.
	_ = ipv4.NewPacketConn(conn).SetMulticastLoopback(false)
	_ = ipv6.NewPacketConn(conn).SetMulticastLoopback(false)
	if on, err := net.InterfaceByName(s.gw.Interface); err == nil {
		err1 := ipv4.NewPacketConn(conn).SetMulticastInterface(on)
		err2 := ipv6.NewPacketConn(conn).SetMulticastInterface(on)
		if err1 != nil && err2 != nil {
			return errors.Join(err1, err2)
		}
	}
	for round := 0; ; round++ {
		for _, to := range []netip.Addr{addr, group} {
			host := netip.AddrPortFrom(to.WithZone(""), s.port)
			for _, target := range searchTargets {
				// What is not sent now is sent in the next round, or the network is not there.
				_, _ = conn.WriteToUDPAddrPort(appendSearch(nil, host.String(), target), netip.AddrPortFrom(to, s.port))
			}
		}
		if round == len(searchAgain) {
			return nil
		}
		pause := time.NewTimer(searchAgain[round])
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
	}
}

// onLink are the addresses that a router of gw's link may have: for IPv4 the gateway's alone, for IPv6, where routers answer
// from any of theirs, those of the link's prefixes; never one of our own.
func onLink(gw Gateway) func(netip.Addr) bool {
	if gw.Addr.Is4() {
		return func(a netip.Addr) bool { return a == gw.Addr }
	}
	own, link := prefixesOf(gw.Interface)
	return func(a netip.Addr) bool {
		if !a.Is6() || slices.Contains(own, a) {
			return false
		}
		return a == gw.Addr || a.IsLinkLocalUnicast() ||
			a.IsGlobalUnicast() && slices.ContainsFunc(link, func(p netip.Prefix) bool { return p.Bits() >= 48 && p.Contains(a) })
	}
}

func prefixesOf(name string) (own []netip.Addr, link []netip.Prefix) {
	on, err := net.InterfaceByName(name)
	if err != nil {
		return nil, nil
	}
	addrs, err := on.Addrs()
	if err != nil {
		return nil, nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own, link = append(own, p.Addr()), append(link, p.Masked())
		}
	}
	return own, link
}
