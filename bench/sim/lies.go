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
	case "older":
		return n.older
	case "foreign":
		return n.foreign
	case "selective":
		return n.selective
	case "denying":
		return n.refuse(func() protocol.Payload { return protocol.WrongRange{Epoch: n.server.Map().Epoch()} })
	case "behind":
		return n.refuse(func() protocol.Payload { return protocol.WrongRange{Epoch: 1} })
	case "busy":
		return n.refuse(func() protocol.Payload { return protocol.Busy{RetryAfter: 2000} })
	}
	all := []lie{n.newLie("silent"), withhold, n.stale(), n.wrong, forgetful}
	return func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
		return all[n.s.rand.IntN(len(all))](now, v, h)
	}
}

// refuse answers readers and stores with a refusal, and does everything else.
func (n *super) refuse(with func() protocol.Payload) lie {
	return func(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
		switch v.Command {
		case protocol.CmdGetNode, protocol.CmdGetNodeInfo, protocol.CmdGetTunnelNodes, protocol.CmdGetEndDevices, protocol.CmdPut:
			return protocol.Reply(with())
		}
		return h(now, v)
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

// records answers with others in place of the records of h's answer; nil leaves one out.
func records(now time.Time, v *protocol.Verified, h protocol.Handler, swap func(*protocol.Record) []byte) []protocol.Out {
	outs := h(now, v)
	if len(outs) == 0 {
		return outs
	}
	var l protocol.RecordList
	switch outs[0].Command {
	case protocol.CmdNode:
		n, err := protocol.ParseNode(outs[0].Payload)
		if err != nil || len(n.Record) == 0 {
			return outs
		}
		return protocol.Reply(protocol.Node{Record: swap(must(n.Record))})
	case protocol.CmdNodeInfo, protocol.CmdTunnelNodes, protocol.CmdEndDevices:
		var err error
		if l, err = protocol.ParseRecordList(outs[0].Payload); err != nil {
			return outs
		}
	default:
		return outs
	}
	old := l.Records
	l.Records = nil
	for _, raw := range old {
		if r := swap(must(raw)); r != nil {
			l.Records = append(l.Records, r)
		}
	}
	outs[0].Payload = l.AppendPayload(nil)
	return outs
}

// older answers with what the owner has signed before, the last but one or any.
func (n *super) older(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
	return records(now, v, h, func(r *protocol.Record) []byte {
		var before [][]byte
		for _, t := range n.s.oracle.of[mark{r.Table, r.Owner}].tickets {
			if r.Supersedes(t.rec) {
				before = append(before, t.rec.Raw())
			}
		}
		if len(before) == 0 {
			return r.Raw()
		}
		return before[len(before)-1-n.s.rand.IntN(min(2, len(before)))]
	})
}

// foreign answers with what somebody else has signed.
func (n *super) foreign(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
	return records(now, v, h, func(r *protocol.Record) []byte {
		for range 8 {
			a := n.s.agents[n.s.rand.IntN(len(n.s.agents))]
			if ts := n.s.oracle.of[mark{protocol.TableNodeInfo, a.ident.id}]; a.ident.id != r.Owner && ts != nil {
				return ts.tickets[len(ts.tickets)-1].rec.Raw()
			}
		}
		return nil
	})
}

// selective withholds every second owner from everybody.
func (n *super) selective(now time.Time, v *protocol.Verified, h protocol.Handler) []protocol.Out {
	return records(now, v, h, func(r *protocol.Record) []byte {
		if r.Owner[len(r.Owner)-1]&1 == 0 {
			return nil
		}
		return r.Raw()
	})
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
