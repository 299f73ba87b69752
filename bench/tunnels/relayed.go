package tunnels

import (
	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/report"
)

// What the super-node alone spends and holds.
const (
	RelayCPU  = "CPU time of the super-node alone, 1 stream"
	RelayIdle = "memory of the super-node alone per idle connection"
)

// RelayTables are what relaying costs the super-node.
func (b *Bench) RelayTables(size load.Size) []measure.Group {
	alone := b.way(Relayed)
	alone.Procs = alone.Procs[len(alone.Procs)-1:]
	return []measure.Group{
		{
			Title: RelayCPU, Steady: true, Cells: []measure.Cell{load.CPUCell(alone)},
			Notes: "less is better; user and system, for each gigabyte that passes; the beginning of each connection, before the kernel splices, is part of it",
		},
		relayIdle(2 * size.Idle),
	}
}

// RelayClaims are what these tables shall show.
func RelayClaims() []report.Claim {
	return []report.Claim{
		{Text: "the super-node's CPU seconds for a gigabyte relayed", In: RelayCPU, Row: Relayed, Want: 0.35, AtMost: true},
		{Text: "the super-node's KB for an idle connection relayed", In: RelayIdle, Row: Relayed, Want: 10, AtMost: true},
	}
}
