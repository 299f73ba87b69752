package node

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"testing"
	"time"

	"culvert/dht/storetest"
	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// A spy that runs on for longer than its certificate shows the renewed one.
func TestSpyShowsItsRenewedCertificate(t *testing.T) {
	w := storetest.NewWorld(t)
	spy, super := w.Node(7, "spy"), w.Node(8, "super")
	renewed := w.Static(protocol.Record{Table: protocol.TableNode, Owner: spy.ID, Sequence: 2},
		protocol.NodeValue{Signing: spy.Keys.Signing.Public(), Sealing: spy.Keys.Sealing.Public()})
	ep, err := endpoint.New(endpoint.Config{Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	s := &spies{ep: ep, known: make(map[protocol.ID]string)}
	for _, record := range [][]byte{spy.Record, renewed} {
		if err := s.admit(endpoint.Identity{ID: spy.ID, Keys: spy.Keys, Record: record, Trust: w.Trust}); err != nil {
			t.Fatal(err)
		}
	}
	// Asked for the certificate, a node answers with it in the open.
	other, err := endpoint.New(endpoint.Config{Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.AddIdentity(endpoint.Identity{ID: super.ID, Keys: super.Keys, Record: super.Record, Trust: w.Trust}); err != nil {
		t.Fatal(err)
	}
	var out, back, last endpoint.Outbox
	var ev endpoint.Event
	a, b := netip.MustParseAddrPort("192.0.2.1:7700"), netip.MustParseAddrPort("192.0.2.2:7700")
	peer := protocol.Peer{ID: super.ID, Signing: super.Keys.Signing.Public(), Sealing: super.Keys.Sealing.Public(), Addr: b}
	if _, err := ep.Call(storetest.Start, spy.ID, peer, protocol.CmdPing, nil, time.Second, &out); err != nil {
		t.Fatal(err)
	}
	for _, p := range out.Packets() {
		other.Receive(storetest.Start, a, p.Data, &ev, &back)
	}
	for _, p := range back.Packets() {
		ep.Receive(storetest.Start, b, p.Data, &ev, &last)
	}
	for _, p := range last.Packets() {
		if bytes.Contains(p.Data, renewed) {
			return
		}
	}
	t.Errorf("the renewed certificate is in none of %d answers to %d questions", len(last.Packets()), len(back.Packets()))
}

// Spies ask from the addresses that were named for it, one after the other; a family without any is reached all the same.
func TestSpySources(t *testing.T) {
	named := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}
	for i, c := range []struct {
		named []string
		n     int
		v4    bool
		bound string
		want  string
	}{
		{named, 0, true, "::", "192.0.2.1"},
		{named, 1, true, "::", "192.0.2.2"},
		{named, 2, true, "::", "192.0.2.1"},
		{named, 1, false, "::", "2001:db8::1"},
		{named[:2], 1, false, "::", "::"},
		{nil, 3, true, "::", "::"},
		{nil, 3, true, "127.0.0.1", "127.0.0.1"},
	} {
		if got := spySource(c.named, c.n, c.v4, netip.MustParseAddr(c.bound)); got.String() != c.want {
			t.Errorf("%d: %v, want %s", i, got, c.want)
		}
	}
}
