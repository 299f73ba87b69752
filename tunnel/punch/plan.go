package punch

import (
	"time"

	"culvert/protocol"
)

// role is what a side does besides plain packets.
type role byte

const (
	equal    role = iota // nothing: both keep one port
	hard                 // its NAT gives every destination another port: it opens sockets
	easy                 // the other one's does: it looks for the port
	mutual               // both foresee each other's ports
	hopeless             // only what bypasses the NATs can work
)

// plan is what follows from the two mappings.
type plan struct {
	role     role
	foreseen bool          // the hard side's ports follow each other
	after    time.Duration // head start of plain packets
}

func planFor(mine, peer protocol.Mapping) plan {
	mine, peer = known(mine), known(peer)
	isHard := func(m protocol.Mapping) bool { return m == protocol.MappingSequential || m == protocol.MappingRandom }
	turn := func(r role, hardSide protocol.Mapping) plan {
		if hardSide == protocol.MappingSequential {
			return plan{r, true, foreseenHead}
		}
		return plan{r, false, hardHead}
	}
	switch {
	case mine == protocol.MappingSequential && peer == protocol.MappingSequential:
		return plan{role: mutual, foreseen: true}
	case isHard(mine) && isHard(peer):
		return plan{role: hopeless}
	case isHard(mine):
		return turn(hard, mine)
	case isHard(peer):
		return turn(easy, peer)
	case mine == protocol.MappingUnknown && peer == protocol.MappingIndependent:
		return plan{role: hard, after: unknownHead}
	case mine == protocol.MappingIndependent && peer == protocol.MappingUnknown:
		return plan{role: easy, after: unknownHead}
	}
	return plan{role: equal}
}

// known takes what a later version may say for what nothing is known of.
func known(m protocol.Mapping) protocol.Mapping {
	if m > protocol.MappingRandom {
		return protocol.MappingUnknown
	}
	return m
}

// lasts is how long after both sides' parts are known it is over.
func (p plan) lasts() time.Duration {
	switch p.role {
	case hopeless:
		return hopelessTime
	case mutual:
		return mutualTime
	case hard, easy:
		d := p.after + mostProbes*probeEvery + lastEcho
		if p.foreseen {
			d += aheadRounds*aheadRound - aheadRounds*aheadPorts*probeEvery // the pauses between the rounds
		}
		return max(d, plainTime)
	}
	return plainTime
}
