package punch

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// probes are the ports of the hard side that the easy one tries, in their order.
type probes struct {
	at       netip.AddrPort // the hard side's outside address, with the port last seen
	step     int
	foreseen bool // the first ones follow the port last seen
	only     bool // and nothing comes after those
	first    int  // how many ports ahead the first one is
	rand     *rand.Rand

	sent  int
	next  time.Time // when the next one is due
	round time.Time // when this round began
	tried [1 << 16 / 64]uint64
}

// spent reports whether the budget is used up.
func (p *probes) spent() bool {
	return p.sent >= mostProbes || p.only && p.sent >= aheadRounds*aheadPorts
}

// take is the next target and moves the schedule on.
func (p *probes) take() netip.AddrPort {
	n := p.sent
	p.sent++
	var port uint16
	if p.foreseen && n < aheadRounds*aheadPorts {
		if n%aheadPorts == 0 {
			p.round = p.next
		}
		port = ahead(p.at.Port(), p.step, p.first+n%aheadPorts)
		p.next = p.next.Add(probeEvery)
		if n%aheadPorts == aheadPorts-1 {
			p.next = p.round.Add(aheadRound)
		}
	} else {
		port = p.draw(p.foreseen && n%2 == 0)
		p.next = p.next.Add(probeEvery)
	}
	p.tried[port>>6] |= 1 << (port & 63)
	return netip.AddrPortFrom(p.at.Addr(), port)
}

// draw is a random port that was not tried; near: first among those that a sequential NAT gives out soon.
func (p *probes) draw(near bool) uint16 {
	fresh := func(port uint16) bool { return p.tried[port>>6]&(1<<(port&63)) == 0 }
	for range 8 {
		port := ahead(p.at.Port(), p.step, p.first+p.rand.IntN(nearPorts))
		if near && fresh(port) {
			return port
		}
	}
	for {
		// At most mostProbes of 64,512 were tried: this ends soon.
		if port := uint16(lowestPort + p.rand.IntN(1<<16-lowestPort)); fresh(port) {
			return port
		}
	}
}

// ahead is the port that a sequential NAT gives out k flows after port.
func ahead(port uint16, step, k int) uint16 {
	const span = 1<<16 - lowestPort
	n := (int(max(port, lowestPort)) - lowestPort + step*k) % span
	if n < 0 {
		n += span
	}
	return uint16(lowestPort + n)
}

// stride reads the step of a hint: modulo 2^16, so that a NAT that counts down says 65535; 0 is taken for 1.
func stride(step uint16) int {
	if step == 0 {
		return 1
	}
	return int(int16(step))
}
