//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// What can happen to hosts and sites while programs run on them.

// ForgetUDP has the router forget what it translates for a UDP flow after so
// long a silence.
func (s *Site) ForgetUDP(after time.Duration) error {
	seconds := strconv.Itoa(int(after / time.Second))
	return errors.Join(
		s.Router.sysctl("net/netfilter/nf_conntrack_udp_timeout", seconds),
		s.Router.sysctl("net/netfilter/nf_conntrack_udp_timeout_stream", seconds),
	)
}

// FlushNAT has the router, and those that it is behind, forget every flow and
// every mapping that flows made. Mappings that were asked for stay.
func (s *Site) FlushNAT() error {
	if up := s.config.Behind; up != nil {
		if err := up.FlushNAT(); err != nil {
			return err
		}
	}
	if sets := dynamic[s.Kind]; len(sets) > 0 {
		if err := s.Router.nft("flush " + strings.Join(sets, "\nflush ") + "\n"); err != nil {
			return err
		}
	}
	if err := s.Router.link.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return fmt.Errorf("forget the flows of %s: %w", s.Name, err)
	}
	return nil
}

// Reboot has the router come back having forgotten everything: flows, mappings
// by flows, mappings that were asked for. The zero Prefix keeps its WAN
// address; another one replaces it, as providers do it overnight. The way out
// of its IPv6 networks stays.
func (s *Site) Reboot(wan netip.Prefix) error {
	if err := s.reboot(wan); err != nil {
		return fmt.Errorf("reboot of site %s: %w", s.Name, err)
	}
	return nil
}

func (s *Site) reboot(wan netip.Prefix) error {
	s.stopMapper()
	if err := s.Router.nft("flush ruleset\n"); err != nil {
		return err
	}
	if wan.IsValid() && wan != s.wan {
		if err := s.renumber(wan); err != nil {
			return err
		}
		s.wan, s.WAN = wan, wan.Addr()
	}
	if err := s.loadRules(); err != nil {
		return err
	}
	if err := s.FlushNAT(); err != nil {
		return err
	}
	return errors.Join(s.startMapper(), s.Router.applyLoss())
}

// renumber changes the WAN address and the way to it.
func (s *Site) renumber(wan netip.Prefix) error {
	if err := s.Router.removeAddress("wan", s.wan); err != nil {
		return err
	}
	up := s.config.Behind
	if up != nil {
		return errors.Join(s.Router.address("wan", wan), s.Router.route(netip.Prefix{}, up.config.LANs[0].Addr()))
	}
	old, fresh := gatewayOf(s.wan), gatewayOf(wan)
	if old == fresh {
		if err := errors.Join(s.Router.address("wan", wan), s.Router.route(netip.Prefix{}, fresh.Addr())); err != nil {
			return err
		}
	} else {
		if err := s.lab.core.removeAddress(s.port, old); err != nil {
			return err
		}
		if err := s.lab.numberCable(s.Router, "wan", s.port, wan); err != nil {
			return err
		}
	}
	if s.Kind != Open {
		return nil
	}
	for _, lan := range s.config.LANs {
		if err := s.lab.core.replaceRoute(lan.Masked(), wan.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// LinkDown takes the whole site off the internet; LinkUp brings it back as it
// was.
func (s *Site) LinkDown() error { return s.Router.LinkDown("wan") }

// LinkUp ends LinkDown.
func (s *Site) LinkUp() error { return s.Router.LinkUp("wan") }

// Loss has so many packets in a hundred vanish on their way into the site and
// out of it; 0 ends it.
func (s *Site) Loss(percent int) error { return s.Router.Loss("wan", percent) }

// Move takes a host to this site: the old cable is gone, the new one has the
// same name and hardware address.
func (s *Site) Move(h *Host, addrs ...netip.Addr) error {
	if _, _, err := s.place(addrs); err != nil {
		return err
	}
	link, err := h.link.LinkByName("eth0")
	if err == nil {
		err = h.link.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", h.name, s.Name, err)
	}
	return s.attach(h, addrs)
}

// Unplug takes the host off its network without a word to anybody.
func (h *Host) Unplug() error { return h.LinkDown("eth0") }

// Plug ends Unplug.
func (h *Host) Plug() error { return h.LinkUp("eth0") }

// Loss has so many of the packets that pass an interface vanish, in each
// direction; 0 ends it.
func (h *Host) Loss(iface string, percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("loss of %d%% at %s on %s", percent, iface, h.name)
	}
	h.mu.Lock()
	if h.loss == nil {
		h.loss = make(map[string]int)
	}
	h.loss[iface] = percent
	h.mu.Unlock()
	return h.applyLoss()
}

// applyLoss loads the loss that was asked for in place of what there was.
func (h *Host) applyLoss() error {
	h.mu.Lock()
	var b strings.Builder
	for iface, percent := range h.loss {
		table := "netdev loss_" + iface
		fmt.Fprintf(&b, "table %s {}\ndelete table %s\n", table, table)
		if percent == 0 {
			continue
		}
		fmt.Fprintf(&b, "table %s {\n", table)
		for _, hook := range []string{"ingress", "egress"} {
			fmt.Fprintf(&b, "chain %s {\ntype filter hook %s device %q priority filter; policy accept;\nnumgen random mod 100 < %d drop\n}\n",
				hook, hook, iface, percent)
		}
		b.WriteString("}\n")
	}
	h.mu.Unlock()
	if b.Len() == 0 {
		return nil
	}
	return h.nft(b.String())
}
