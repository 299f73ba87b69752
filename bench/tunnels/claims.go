package tunnels

import (
	"fmt"

	"culvert/bench/load"
	"culvert/bench/report"
)

// Claims are what the tables shall show beside ssh and beside the best of the encrypted peers, by their names; echo is the table
// that the claim on the echo is about.
func Claims(size load.Size, echo, ssh string, peers []string) []report.Claim {
	many, conns := fmt.Sprintf(load.Streams, size.Streams), fmt.Sprintf(load.NewConns, size.AtOnce)
	return []report.Claim{
		{Text: "direct, 1 stream, to ssh", In: load.OneStream, Row: Direct, To: []string{ssh}, Want: 1.15},
		{Text: fmt.Sprintf("direct, %d streams, to the best peer", size.Streams), In: many, Row: Direct, To: peers, Want: 1.15},
		{Text: "direct, new connections, to ssh", In: conns, Row: Direct, To: []string{ssh}, Want: 1.15},
		{Text: "direct, " + echo + ", to the best peer", In: echo, Row: Direct, To: peers, Want: 1, AtMost: true},
		{Text: "direct, KB an idle connection", In: fmt.Sprintf(load.IdleMemory, size.Idle), Row: Direct, Want: 27, AtMost: true},
		{Text: "relayed, 1 stream, to direct", In: load.OneStream, Row: Relayed, To: []string{Direct}, Want: 0.75},
		{Text: fmt.Sprintf("relayed, %d streams, to direct", size.Streams), In: many, Row: Relayed, To: []string{Direct}, Want: 0.75},
	}
}
