package world

import (
	"math/rand/v2"
	"testing"
	"time"

	"culvert/protocol"
)

func TestProcessesMakeTheSameMembers(t *testing.T) {
	now := time.Now()
	a, err := New(now)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(now.Add(3 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ma, err := a.Member("peer", 7)
	if err != nil {
		t.Fatal(err)
	}
	mb, err := b.Member("peer", 7)
	if err != nil {
		t.Fatal(err)
	}
	if ma.Peer() != mb.Peer() || a.Trust.Root() != b.Trust.Root() {
		t.Error("two processes make different members")
	}
	if other, err := a.Member("peer", 8); err != nil || other.Cert.ID == ma.Cert.ID {
		t.Errorf("members are not told apart: %v", err)
	}
	if _, err := b.Trust.CheckNode(ma.Cert.Record, now.Add(time.Minute)); err != nil {
		t.Errorf("one process does not trust the other's members: %v", err)
	}
	raw, err := a.Info(ma, 3, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := protocol.CheckOwned(r, ma.Cert, now); err != nil || !r.HasKey(protocol.NewID(Domain, Location(3))) {
		t.Errorf("NodeInfo: %v", err)
	}
}
