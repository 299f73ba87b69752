package sim

import (
	"fmt"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

func (s *Sim) super(id protocol.ID) *super {
	for _, n := range s.supers {
		if n.ident.id == id {
			return n
		}
	}
	return nil
}

// nameOf is the trace's word for the owner of a record.
func (s *Sim) nameOf(id protocol.ID) string {
	if h := s.find(id); h != nil {
		return h.name
	}
	return id.Short()
}

func (s *Sim) targetName(t dht.Target) string {
	kind := [...]string{"the certificate of", "where is", "who is at", "devices", "revocations", "operators", "the map"}[t.Kind]
	return kind + " " + s.nameOf(t.Key)
}

// words is a range for the trace.
func words(r partition.Range) string {
	if !r.Valid() {
		return "nothing"
	}
	return r.String()
}

// describe is a message in the readable trace.
func describe(m message) string {
	word := m.command.String()
	if m.reply {
		word += " (answer)"
	}
	switch m.command {
	case protocol.CmdPut:
		if p, err := protocol.ParsePut(m.payload); err == nil {
			if r, err := protocol.ParseRecord(p.Record); err == nil {
				return fmt.Sprintf("%s %s of %s, %d, forwarded %v", word, r.Table, m.from.s.nameOf(r.Owner), r.Sequence, p.Forwarded)
			}
		}
	case protocol.CmdStored:
		if st, err := protocol.ParseStored(m.payload); err == nil {
			return fmt.Sprintf("%s %s, holds %d", word, st.Status, st.Sequence)
		}
	case protocol.CmdNodeInfo, protocol.CmdTunnelNodes, protocol.CmdEndDevices, protocol.CmdRepaired:
		if l, err := protocol.ParseRecordList(m.payload); err == nil {
			word += ":"
			for _, raw := range l.Records {
				if r, err := protocol.ParseRecord(raw); err == nil {
					word += fmt.Sprintf(" %s, %d;", m.from.s.nameOf(r.Owner), r.Sequence)
				}
			}
		}
	case protocol.CmdGetNodeInfo:
		if g, err := protocol.ParseGetNodeInfo(m.payload); err == nil {
			return word + " " + m.from.s.nameOf(g.ID)
		}
	}
	return word
}
