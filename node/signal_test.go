package node

import (
	"log/slog"
	"testing"

	"culvert/node/config"
	"culvert/protocol"
)

// A super-node that did not answer lately is asked to forward, and to relay, after the others.
func TestSuspectsComeLast(t *testing.T) {
	c := config.Default()
	c.Listen, c.ListenSet = "127.0.0.1:0", true
	n, err := New(t.Context(), Config{Dir: t.TempDir(), Settings: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	m := &membership{node: n, mesh: newMesh(protocol.Hash{1}, n.log)}
	l := []protocol.Peer{{ID: testID(9, 1)}, {ID: testID(9, 2)}, {ID: testID(9, 3)}}
	m.mesh.scores.Bad(l[0].ID, n.meshNow())
	m.suspectsLast(l)
	for i, want := range []byte{2, 3, 1} {
		if l[i].ID != testID(9, want) {
			t.Errorf("place %d: %s", i, l[i].ID.Short())
		}
	}
}
