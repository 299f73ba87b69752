package dht

import (
	"sync"
	"time"

	"culvert/protocol"
)

// reads is what v's handler reads from the store, and how many records of it, as far as that is all it waits for.
func reads(v *protocol.Verified) (q Query, n int, ok bool) {
	var err error
	n = perSelect
	switch v.Command {
	case protocol.CmdGetNode:
		var m protocol.GetNode
		m, err = protocol.ParseGetNode(v.Payload)
		q, n = Query{Table: protocol.TableNode, By: ByOwner, Key: m.ID}, 1
	case protocol.CmdGetNodeInfo:
		var m protocol.GetNodeInfo
		m, err = protocol.ParseGetNodeInfo(v.Payload)
		q, n = Query{Table: protocol.TableNodeInfo, By: ByOwner, Key: m.ID}, 1
	case protocol.CmdGetTunnelNodes:
		var m protocol.GetTunnelNodes
		m, err = protocol.ParseGetTunnelNodes(v.Payload)
		q = Query{Table: protocol.TableNodeInfo, By: ByKey, Key: m.Location, After: m.After}
	case protocol.CmdGetEndDevices:
		var m protocol.GetEndDevices
		m, err = protocol.ParseGetEndDevices(v.Payload)
		q = devicesQuery(m, time.Time{})
	case protocol.CmdGetRevocations:
		var m protocol.GetRevocations
		m, err = protocol.ParseGetRevocations(v.Payload)
		q = revocationsQuery(v, m, time.Time{})
	case protocol.CmdGetSuperNodes, protocol.CmdGetOperatorNodes:
		n = 0 // the map and the chain are in memory
	default:
		return q, 0, false
	}
	if err != nil {
		n = 0 // the handler drops it
	}
	return q, n, true
}

// Cached reports whether v's handler answers from memory, so that it may run in the socket loop. What is false belongs on a
// worker: queries that need the disk, and all that is not a query.
func (s *Server) Cached(v *protocol.Verified) bool {
	if s.cfg.Store.Whole() {
		return IsQuery(v.Command)
	}
	q, n, ok := reads(v)
	return ok && s.cfg.Store.Cached(q, n)
}

// IsQuery reports whether messages of a command only read: many may be given to Load before their handlers run.
func IsQuery(c protocol.Command) bool {
	switch c {
	case protocol.CmdGetNode, protocol.CmdGetNodeInfo, protocol.CmdGetTunnelNodes, protocol.CmdGetEndDevices, protocol.CmdGetRevocations,
		protocol.CmdGetSuperNodes, protocol.CmdGetOperatorNodes:
		return true
	}
	return false
}

// Load brings what the handlers of these will read into memory, with few reads of the disk for all of them. Each handler still
// finds for itself what is not there after all.
func (s *Server) Load(vs []*protocol.Verified) {
	room := loads.Get().(*[]Query)
	qs := (*room)[:0]
	for _, v := range vs {
		// Whoever may not read it costs no disk either: his handler refuses him.
		if q, n, ok := reads(v); ok && n > 0 && !s.Revoked(v.Sender) && (s.readable(v, q.Key) || s.replicates(v.Sender)) {
			qs = append(qs, q)
		}
	}
	if len(qs) > 0 {
		s.cfg.Store.Load(qs, perSelect)
	}
	*room = qs
	loads.Put(room)
}

var loads = sync.Pool{New: func() any { return new([]Query) }}
