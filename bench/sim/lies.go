package sim

import (
	"bytes"
	"time"

	"culvert/protocol"
)

// lie is how a super-node answers in place of its handler h. It goes on being alive: it answers Pings.
type lie func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out

// lieNames are the kinds of liars.
var lieNames = []string{"silent", "withholding", "stale", "wrong", "forgetful", "fickle"}

// newLie makes a liar of a kind.
func (n *super) newLie(kind string) lie {
	switch kind {
	case "silent":
		return func(time.Time, *protocol.Verified, protocol.Handler) []protocol.Out { return nil }
	case "withholding":
		return withhold
	case "stale":
		return n.stale()
	case "wrong":
		return n.wrong
	case "forgetful":
		return forgetful
	}
	all := []lie{n.newLie("silent"), withhold, n.stale(), n.wrong, forgetful}
	return func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
		return all[n.s.rand.IntN(len(all))](now, v, h)
	}
}

// withhold says that there is nothing, and keeps what it is given.
func withhold(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
	switch v.Command {
	case protocol.CmdGetNode:
		return protocol.Reply(protocol.Node{})
	case protocol.CmdGetNodeInfo:
		return protocol.Reply(protocol.NodeInfo{})
	case protocol.CmdGetTunnelNodes:
		return protocol.Reply(protocol.TunnelNodes{})
	case protocol.CmdGetEndDevices:
		return protocol.Reply(protocol.EndDevices{})
	}
	return h(now, v)
}

// forgetful acknowledges and keeps nothing, and passes nothing on.
func forgetful(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
	if v.Command != protocol.CmdPut {
		return h(now, v)
	}
	m, err := protocol.ParsePut(v.Payload)
	if err != nil {
		return nil
	}
	r, err := protocol.ParseRecord(m.Record)
	if err != nil {
		return nil
	}
	return protocol.Reply(protocol.Stored{Epoch: r.Epoch, Sequence: r.Sequence})
}

// stale answers every question as it did the first time, and keeps nothing new.
func (n *super) stale() lie {
	old := make(map[string][]protocol.Out)
	return func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
		switch v.Command {
		case protocol.CmdPut:
			return forgetful(now, v, h)
		case protocol.CmdTransferPartition, protocol.CmdDigest, protocol.CmdRepair:
			return h(now, v)
		}
		k := string(append([]byte{byte(v.Command)}, v.Payload...))
		if o, ok := old[k]; ok {
			return o
		}
		o := h(now, v)
		old[k] = o
		return o
	}
}

// wrong answers nonsense: flipped bits, parts of an answer, another answer.
func (n *super) wrong(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
	outs := h(now, v)
	if len(outs) == 0 || v.Command == protocol.CmdPut {
		return outs
	}
	o := outs[0]
	o.Payload = bytes.Clone(o.Payload)
	r := n.s.rand
	switch r.IntN(4) {
	case 0:
		for range 1 + r.IntN(4) {
			o.Payload[r.IntN(len(o.Payload))] ^= byte(1 + r.IntN(255))
		}
	case 1:
		o.Payload = o.Payload[:r.IntN(len(o.Payload))]
	case 2:
		o.Command = protocol.Command(1 + r.IntN(int(protocol.CmdEnd)-1))
	case 3:
		for i := range o.Payload {
			o.Payload[i] = byte(r.Uint32())
		}
	}
	return []protocol.Out{o}
}
