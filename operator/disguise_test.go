package operator

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"
)

// keepingMesh is super-nodes that keep what spies store and answer with it, and with every static record.
type keepingMesh struct {
	*fakeMesh
	o *Operator

	mu    sync.Mutex
	asked map[protocol.Command]int
	infos []*protocol.Record
}

func (m *keepingMesh) AskAs(ctx context.Context, _ *key.Pair, _ []byte, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[p.Command()]++
	var answer protocol.Payload
	var list protocol.RecordList
	switch q := p.(type) {
	case protocol.Put:
		r, err := protocol.ParseRecord(q.Record)
		if err != nil {
			return nil, err
		}
		m.infos = append(m.infos, r)
		answer = protocol.Stored{Epoch: r.Epoch, Sequence: r.Sequence}
	case protocol.GetNode:
		answer = protocol.Node{Record: m.static(ctx, protocol.TableNode, q.ID)}
	case protocol.GetEndDevices:
		for raw := range m.o.StaticRecords(ctx) {
			r, err := protocol.ParseRecord(raw)
			if err != nil {
				return nil, err
			}
			if r.Table == protocol.TableEndDevice && (r.Owner == q.Key || q.Key.Hash().IsZero() && r.Owner.Compare(q.After) > 0 || len(r.Lookups) > 0 && r.Lookups[0] == q.Key.Hash()) {
				list.Records = append(list.Records, raw)
			}
		}
		answer = protocol.EndDevices{RecordList: list}
	case protocol.GetNodeInfo:
		answer = protocol.NodeInfo{RecordList: m.newest()}
	case protocol.GetTunnelNodes:
		answer = protocol.TunnelNodes{RecordList: m.newest()}
	case protocol.GetSuperNodes:
		answer = protocol.SuperNodes{}
	case protocol.GetRevocations:
		answer = protocol.Revocations{}
	default:
		answer = protocol.Pong{}
	}
	b, err := protocol.AppendPayload(nil, answer)
	return protocol.Local(&protocol.CertifiedNode{ID: to.ID}, to.ID, answer.Command(), b, time.Time{}), err
}

func (m *keepingMesh) newest() (l protocol.RecordList) {
	if n := len(m.infos); n > 0 {
		l.Records = append(l.Records, m.infos[n-1].Raw())
	}
	return l
}

func (m *keepingMesh) static(ctx context.Context, t protocol.Table, owner protocol.ID) []byte {
	for raw := range m.o.StaticRecords(ctx) {
		if r, err := protocol.ParseRecord(raw); err == nil && r.Table == t && r.Owner == owner {
			return raw
		}
	}
	return nil
}

// A spy announces itself, asks in all the ways in which agents ask, and honest answers to all of them are sound.
func TestSpiesPassForAgents(t *testing.T) {
	o, c, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	s, _ := join(t, o, "acme", "s")
	if a := offer(t, o, s, addr.String()); a.Status != protocol.StatusOK {
		t.Fatal(a)
	}
	handAllOver(t, o, c, mesh)
	for i := range 3 {
		d := printer(fmt.Sprintf("printer%d", i))
		d.MAC = fmt.Sprintf("02:00:00:00:00:%02x", i)
		if _, err := o.AddDevice(t.Context(), admin, d); err != nil {
			t.Fatal(err)
		}
	}
	c.add(care.Settled + time.Second)
	m := &keepingMesh{fakeMesh: mesh, o: o, asked: make(map[protocol.Command]int)}
	pmap := worldMap(t, o)
	mem, _ := pmap.Member(s.ID)
	if v := o.auditor.question(t.Context(), m, pmap, mem, &care.Task{}); v != care.Sound {
		t.Fatalf("verdict %d", v)
	}
	c.add(firstAnnounce)
	due := o.auditor.spies.announceDue(c.now())
	if len(due) != 1 {
		t.Fatalf("%d spies announce themselves", len(due))
	}
	if err := o.auditor.announce(t.Context(), m, pmap, due[0]); err != nil {
		t.Fatal(err)
	}
	if again := o.auditor.spies.announceDue(c.now()); len(again) != 0 {
		t.Error("it announces itself again at once")
	}
	if len(m.infos) == 0 {
		t.Fatal("nothing was stored")
	}
	own := m.infos[0]
	p, err := o.auditor.spies.get(t.Context(), due[0])
	if err != nil {
		t.Fatal(err)
	}
	_, _, trust := o.Identity()
	n, err := trust.CheckNode(p.record, o.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.CheckOwned(own, n, o.now()); err != nil || own.Table != protocol.TableNodeInfo || len(own.Lookups) != 1 {
		t.Errorf("announced %+v: %v", own, err)
	}
	if err := o.db.View(t.Context(), func(tx *sqlite.Tx) error {
		d, err := tx.Domain(due[0])
		if err != nil {
			return err
		}
		given, err := o.secrets(tx, d)
		if err != nil {
			return err
		}
		secrets, err := given.At(o.now())
		if err == nil {
			_, err = secrets.OpenValue(own.Table, own.Owner, own.Value)
		}
		return err
	}); err != nil {
		t.Errorf("its own domain cannot read it: %v", err)
	}
	c.add(care.Settled)
	for range 400 {
		if v := o.auditor.question(t.Context(), m, pmap, mem, &care.Task{}); v != care.Sound {
			t.Fatalf("verdict %d of an honest answer; asked %v", v, m.asked)
		}
	}
	for _, cmd := range []protocol.Command{
		protocol.CmdGetNode, protocol.CmdGetNodeInfo, protocol.CmdGetTunnelNodes, protocol.CmdGetEndDevices, protocol.CmdPut,
		protocol.CmdGetSuperNodes, protocol.CmdGetRevocations, protocol.CmdPing,
	} {
		if m.asked[cmd] == 0 {
			t.Errorf("never asks %s", cmd)
		}
	}
	m.infos = nil // it forgets what it has confirmed
	withheld := false
	for range 100 {
		task := &care.Task{}
		if v := o.auditor.question(t.Context(), m, pmap, mem, task); v == care.Missing {
			withheld = true
			if !task.Subject.Signed {
				t.Error("what it has confirmed to the spy itself is taken for another's word")
			}
		}
	}
	if !withheld {
		t.Error("its own announcement is never asked for")
	}
}
