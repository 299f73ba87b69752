package operator

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/dht"
	"culvert/operator/care"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/key"
)

// spiedMesh answers spies.
type spiedMesh struct {
	*fakeMesh
	answer protocol.RecordList
}

func (m *spiedMesh) AskAs(_ context.Context, _ *key.Pair, _ []byte, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	return protocol.Local(&protocol.CertifiedNode{ID: to.ID}, to.ID, p.Command()+1, m.answer.AppendPayload(nil), time.Time{}), nil
}

// denyingMesh says that nothing is served where it asks.
type denyingMesh struct{ *fakeMesh }

func (m denyingMesh) AskAs(_ context.Context, _ *key.Pair, _ []byte, to protocol.Peer, _ protocol.Payload) (*protocol.Verified, error) {
	b, err := protocol.AppendPayload(nil, protocol.WrongRange{Epoch: 1})
	return protocol.Local(&protocol.CertifiedNode{ID: to.ID}, to.ID, protocol.CmdWrongRange, b, time.Time{}), err
}

// WrongRange is no answer of one who has served for long; of one that has been given the range just now it may be.
func TestDenialsAreNoAnswers(t *testing.T) {
	o, c, mesh := runningOperator(t)
	addr := netip.MustParseAddrPort("127.0.0.2:7700")
	mesh.setAlive(addr, true)
	s, _ := join(t, o, "acme", "s")
	if a := offer(t, o, s, addr.String()); a.Status != protocol.StatusOK {
		t.Fatal(a)
	}
	handAllOver(t, o, c, mesh)
	mem, _ := worldMap(t, o).Member(s.ID)
	n, keys := join(t, o, "acme", "owner")
	ask := func(step care.Step) care.Verdict {
		raw := announced(t, n, keys, c.now().Add(-4*time.Minute), c.now().Add(5*time.Minute))
		return o.auditor.question(t.Context(), denyingMesh{mesh}, worldMap(t, o), mem, &care.Task{Step: step, Subject: care.Subject{Record: raw}})
	}
	for _, step := range []care.Step{care.Hand, care.AskAgain} {
		if v := ask(step); v != care.Nothing {
			t.Errorf("just begun: %d", v)
		}
	}
	c.add(care.Settled)
	for _, step := range []care.Step{care.Hand, care.AskAgain} {
		if v := ask(step); v != care.Denied {
			t.Errorf("serves for long: %d", v)
		}
	}
}

func announced(t *testing.T, n *protocol.CertifiedNode, keys *key.Pair, issued, expires time.Time) []byte {
	t.Helper()
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: protocol.TableNodeInfo, Owner: n.ID, Signer: n.ID, Sequence: 1, Issued: issued, Expires: expires, Value: []byte{0x80},
	}, keys.Signing)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// An owner and one super-node may show a record that is about to run out, or has: another one that denies it afterwards, or
// whose clock is behind, has done nothing wrong.
func TestWhatRunsOutProvesNothing(t *testing.T) {
	o, c, mesh := runningOperator(t)
	n, keys := join(t, o, "acme", "owner")
	mem := partition.Member{Peer: protocol.Peer{ID: n.ID, Addr: netip.MustParseAddrPort("127.0.0.2:7700")}, Range: partition.Whole(), Fill: partition.None()}
	now := c.now()
	last := announced(t, n, keys, now.Add(-4*time.Minute), now.Add(-time.Second))
	for name, tc := range map[string]struct {
		step    care.Step
		expires time.Duration
		answer  protocol.RecordList
		want    care.Verdict
	}{
		"denied while it lasts":    {care.AskAgain, 5 * time.Minute, protocol.RecordList{}, care.Missing},
		"denied as it runs out":    {care.AskAgain, 10 * time.Second, protocol.RecordList{}, care.Nothing},
		"denied with a fast clock": {care.AskAgain, dht.MaxSkew, protocol.RecordList{}, care.Nothing},
		"answered by a slow one":   {care.AskAgain, 5 * time.Minute, protocol.RecordList{Records: [][]byte{last}}, care.Missing},
	} {
		m := &spiedMesh{mesh, tc.answer}
		task := &care.Task{Step: tc.step, Subject: care.Subject{Record: announced(t, n, keys, now.Add(-4*time.Minute), now.Add(tc.expires))}}
		if v := o.auditor.question(t.Context(), m, worldMap(t, o), mem, task); v != tc.want {
			t.Errorf("%s: verdict %d, want %d", name, v, tc.want)
		}
	}
}

// However many domains there are, and however small a part of one it serves, a super-node is asked for what it serves.
func TestSpiesReachEveryRange(t *testing.T) {
	o, c, _ := runningOperator(t)
	var last protocol.ID
	for i := range 300 {
		d := addDomain(t, o, fmt.Sprintf("d%03d", i))
		if i == 299 {
			n, _ := join(t, o, "d299", "n")
			last = protocol.NewID(d, n.ID.Hash())
		}
	}
	c.add(care.Settled + time.Second)
	at := last.Position()
	mem := partition.Member{Range: partition.Range{From: at - 1, To: at + 1}, Fill: partition.None()}
	for range 100 {
		r, ok, err := o.auditor.pickStatic(t.Context(), mem)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if r.Owner != last {
				t.Errorf("asks for %s", r.Owner)
			}
			return
		}
	}
	t.Error("never asked")
}
