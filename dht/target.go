package dht

import (
	"fmt"

	"culvert/protocol"
)

// TargetKind says what a Lookup is after.
type TargetKind byte

const (
	FindNode        TargetKind = iota // the certificate of node Key
	FindNodeInfo                      // where node Key is
	FindTunnelNodes                   // NodeInfo records at lookup key Key
	FindDevices                       // devices at Key: an ID, a name's lookup key, or with a zero hash the whole domain
	FindRevocations                   // of Key's domain, numbered above Since
	FindOperators                     // the operator chain
	FindMap                           // the partition map, if it is newer than Since
)

// Target is what a Lookup is after.
type Target struct {
	Kind  TargetKind
	Key   protocol.ID
	Since uint64
	Most  int // of a list: so many records, in order of owner, are enough; 0 for all
}

func (t Target) table() protocol.Table {
	return [...]protocol.Table{
		protocol.TableNode, protocol.TableNodeInfo, protocol.TableNodeInfo, protocol.TableEndDevice, protocol.TableRevocation,
		protocol.TableOperatorNode, protocol.TableSuperNode,
	}[t.Kind]
}

// single targets have at most one record.
func (t Target) single() bool { return t.Kind == FindNode || t.Kind == FindNodeInfo }

// mayBeEmpty targets are complete with K answers, whatever is in them: they are asked for again and again.
func (t Target) mayBeEmpty() bool {
	return t.Kind == FindRevocations || t.Kind == FindOperators || t.Kind == FindMap
}

// everywhere targets are served by every member.
func (t Target) everywhere() bool { return t.mayBeEmpty() }

// place is the key by which to find who serves it; zero for everybody.
func (t Target) place() protocol.ID {
	if t.everywhere() {
		return protocol.ID{}
	}
	return t.Key
}

func (t Target) ask(after protocol.ID) protocol.Payload {
	switch t.Kind {
	case FindNode:
		return protocol.GetNode{ID: t.Key}
	case FindNodeInfo:
		return protocol.GetNodeInfo{ID: t.Key}
	case FindTunnelNodes:
		return protocol.GetTunnelNodes{Location: t.Key, After: after}
	case FindDevices:
		return protocol.GetEndDevices{Key: t.Key, After: after}
	case FindRevocations:
		return protocol.GetRevocations{Since: t.Since}
	case FindOperators:
		return protocol.GetOperatorNodes{After: after}
	}
	return protocol.GetSuperNodes{Epoch: t.Since, After: after}
}

// parse reads one page of an answer; the records alias payload.
func (t Target) parse(c protocol.Command, payload []byte) (l protocol.RecordList, err error) {
	if c != t.ask(protocol.ID{}).Command()+1 { // every answer's number follows its question's
		return l, fmt.Errorf("%w: answered with %s", protocol.ErrPayload, c)
	}
	if t.Kind != FindNode {
		return protocol.ParseRecordList(payload)
	}
	n, err := protocol.ParseNode(payload)
	if err == nil && len(n.Record) > 0 {
		l.Records = [][]byte{n.Record}
	}
	return l, err
}

// belongs reports whether r is of what was asked for.
func (t Target) belongs(r *protocol.Record) bool {
	if t.Kind == FindMap {
		return r.Table == protocol.TableSuperNode || r.Table == protocol.TableMapHead
	}
	if r.Table != t.table() {
		return false
	}
	switch t.Kind {
	case FindNode, FindNodeInfo:
		return r.Owner == t.Key
	case FindTunnelNodes:
		return r.HasKey(t.Key)
	case FindDevices:
		return r.HasKey(t.Key) || t.Key.Hash().IsZero() && r.Owner.Domain() == t.Key.Domain()
	case FindRevocations:
		return r.Owner.Domain() == t.Key.Domain() && revocationNumber(r.Raw()) > t.Since
	}
	return true
}
