package memnet

import (
	"net/netip"
	"time"
)

// Behavior is how much of the other end a NAT looks at, in the words of RFC 4787.
type Behavior uint8

const (
	EndpointIndependent     Behavior = iota // nothing of it
	AddressDependent                        // its address
	AddressAndPortDependent                 // both
)

// of is the part of remote that matters.
func (b Behavior) of(remote netip.AddrPort) netip.AddrPort {
	switch b {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// Ports is how a NAT picks the outside port of a new mapping.
type Ports uint8

const (
	PreservePorts   Ports = iota // the inside port, where it is free, else a random one
	RandomPorts                  // any free one
	SequentialPorts              // the next free one
)

// NATConfig says how a NAT behaves. For IPv6, which is not translated, only Filtering, the
// time-out and the link matter.
type NATConfig struct {
	Mapping        Behavior
	Filtering      Behavior
	Ports          Ports
	Timeout        time.Duration // of mappings and permissions; 2 min where zero
	InboundRefresh bool          // also what comes in keeps a mapping alive
	Hairpin        bool          // the inside reaches itself by outside addresses
	Link           Link          // to the realm above
}

// FullCone is EIM/EIF: whoever learns the mapping reaches the host.
func FullCone() NATConfig { return NATConfig{} }

// Restricted is EIM/ADF.
func Restricted() NATConfig { return NATConfig{Filtering: AddressDependent} }

// PortRestricted is EIM/APDF: most homes, and most carriers.
func PortRestricted() NATConfig { return NATConfig{Filtering: AddressAndPortDependent} }

// SymmetricRandom is APDM/APDF with ports that nobody can foresee.
func SymmetricRandom() NATConfig {
	return NATConfig{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Ports: RandomPorts}
}

// SymmetricSequential is APDM/APDF with ports that follow each other.
func SymmetricSequential() NATConfig {
	return NATConfig{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Ports: SequentialPorts}
}

const (
	lowestPort   = 1024  // that is given to a mapping whose own port is taken
	firstPort    = 40000 // of SequentialPorts
	mostPorts    = 60000 // in use at once, so that the search for a free one ends soon
	sweepAtLeast = 256   // mappings that are kept before dead ones are looked for
)

// NAT is a router that translates IPv4 and guards IPv6.
type NAT struct {
	net      *Net
	cfg      NATConfig
	outer    *realm
	inner    *realm
	external netip.Addr
	line     line
	off      bool
	where    int

	byInner map[flow]*mapping
	byOuter map[netip.AddrPort]*mapping
	port    uint16 // next of SequentialPorts
	sweepAt int
}

// flow is what one mapping serves.
type flow struct {
	inner  netip.AddrPort
	remote netip.AddrPort // as far as Mapping looks
}

type mapping struct {
	flow    flow
	outer   netip.AddrPort
	used    time.Duration
	permits map[netip.AddrPort]time.Duration // remotes, as far as Filtering looks, and when last sent to
}

// NAT adds a router with one outside IPv4 address, behind another one or on the open internet.
func (n *Net) NAT(cfg NATConfig, behind *NAT, external netip.Addr) *NAT {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	nat := &NAT{net: n, cfg: cfg, outer: n.realmBehind(behind), external: external, line: line{Link: cfg.Link}}
	nat.inner = newRealm(nat)
	nat.outer.claim(external, place{nat: nat})
	nat.Reboot()
	return nat
}

// Reboot forgets all mappings.
func (nat *NAT) Reboot() {
	nat.byInner = make(map[flow]*mapping)
	nat.byOuter = make(map[netip.AddrPort]*mapping)
	nat.port = firstPort
	nat.sweepAt = sweepAtLeast
}

// Readdress gives the router another outside address, with which no mapping survives.
func (nat *NAT) Readdress(external netip.Addr) {
	nat.outer.claim(external, place{nat: nat})
	delete(nat.outer.at, nat.external)
	nat.external = external
	nat.Reboot()
}

// External is the outside address.
func (nat *NAT) External() netip.Addr { return nat.external }

// SetUp switches the router on or off. Off, nothing passes.
func (nat *NAT) SetUp(up bool) { nat.off = !up }

// SetLink gives the line to the realm above other qualities.
func (nat *NAT) SetLink(l Link) { nat.line.Link = l }

func (nat *NAT) setSide(side int) { nat.where = side }

func (nat *NAT) side() int {
	if nat.where != 0 || nat.outer.above == nil {
		return nat.where
	}
	return nat.outer.above.side()
}

func (nat *NAT) fresh(since time.Duration) bool { return nat.net.now-since <= nat.cfg.Timeout }

// outbound translates p on its way out; false where no port is left.
func (nat *NAT) outbound(p *packet) bool {
	key := flow{inner: p.src}
	if p.src.Addr().Is4() {
		key.remote = nat.cfg.Mapping.of(p.dst)
	}
	m := nat.byInner[key]
	if m == nil || !nat.fresh(m.used) {
		if m != nil {
			nat.forget(m)
		}
		if m = nat.allocate(key); m == nil {
			return false
		}
	}
	m.used = nat.net.now
	if nat.cfg.Filtering != EndpointIndependent {
		m.permits[nat.cfg.Filtering.of(p.dst)] = nat.net.now
	}
	p.src = m.outer
	return true
}

// inbound translates p on its way in, or says why it may not pass.
func (nat *NAT) inbound(p *packet) outcome {
	m := nat.byOuter[p.dst]
	if m == nil || !nat.fresh(m.used) {
		return noMapping
	}
	if nat.cfg.Filtering != EndpointIndependent {
		remote := nat.cfg.Filtering.of(p.src)
		since, known := m.permits[remote]
		if !known || !nat.fresh(since) {
			return filtered
		}
		if nat.cfg.InboundRefresh {
			m.permits[remote] = nat.net.now
		}
	}
	if nat.cfg.InboundRefresh {
		m.used = nat.net.now
	}
	p.dst = m.flow.inner
	return delivered
}

func (nat *NAT) allocate(key flow) *mapping {
	nat.sweep()
	outer := key.inner
	if outer.Addr().Is4() {
		port, ok := nat.pickPort(key.inner.Port())
		if !ok {
			return nil
		}
		outer = netip.AddrPortFrom(nat.external, port)
	}
	m := &mapping{flow: key, outer: outer}
	if nat.cfg.Filtering != EndpointIndependent {
		m.permits = make(map[netip.AddrPort]time.Duration, 1)
	}
	nat.byInner[key], nat.byOuter[outer] = m, m
	return m
}

func (nat *NAT) pickPort(wanted uint16) (uint16, bool) {
	if nat.cfg.Ports == PreservePorts && nat.portFree(wanted) {
		return wanted, true
	}
	if len(nat.byOuter) >= mostPorts {
		return 0, false
	}
	for {
		port := nat.port
		if nat.cfg.Ports == SequentialPorts {
			nat.port = max(nat.port+1, lowestPort)
		} else {
			port = lowestPort + uint16(nat.net.rand.Int32N(1<<16-lowestPort))
		}
		if nat.portFree(port) {
			return port, true
		}
	}
}

// portFree drops a dead mapping of the port, so that what a sweep has reached or not makes no difference.
func (nat *NAT) portFree(port uint16) bool {
	m := nat.byOuter[netip.AddrPortFrom(nat.external, port)]
	if m != nil && !nat.fresh(m.used) {
		nat.forget(m)
		m = nil
	}
	return m == nil
}

func (nat *NAT) forget(m *mapping) {
	delete(nat.byInner, m.flow)
	delete(nat.byOuter, m.outer)
}

// sweep drops dead mappings once there are twice as many as the last one left.
func (nat *NAT) sweep() {
	if len(nat.byInner) < nat.sweepAt {
		return
	}
	for _, m := range nat.byInner {
		if !nat.fresh(m.used) {
			nat.forget(m)
		}
	}
	nat.sweepAt = min(max(2*len(nat.byInner), sweepAtLeast), mostPorts)
}
