package tunnel

import (
	"slices"
	"testing"

	"culvert/protocol"
)

// A tunnel-node that is gone without a word stays on the list for a while. Who steps in for it is found while the race still
// waits for the first.
func TestOthersStepInDuringARace(t *testing.T) {
	w, user, gone := two(t)
	gone.deaf = true
	next := w.agent(testDomain, 2, prefixes("192.168.7.11/24", "203.0.113.9/24"))
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, gone, next)
	w.mu.Lock()
	w.targets[d.ID] = []protocol.ID{gone.node.ID}
	w.mu.Unlock()
	done := make(chan *Tunnel, 1)
	go func() {
		tn, err := user.Open(t.Context(), OpenRequest{Device: "echo", Port: 9100})
		if err != nil {
			t.Error(err)
		}
		done <- tn
	}()
	until(t, "the one that is gone is asked", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(user.requests) > 0
	})
	w.mu.Lock()
	w.targets[d.ID] = append(w.targets[d.ID], next.node.ID)
	w.mu.Unlock()
	tn := <-done
	if tn == nil {
		return
	}
	if info := tn.Info(); info.TunnelNode != next.node.ID {
		t.Errorf("the tunnel goes to %s", info.TunnelNode.Short())
	}
}

func TestOthers(t *testing.T) {
	target := func(id byte, homes ...protocol.ID) Target {
		return Target{Node: &protocol.CertifiedNode{ID: protocol.NewID(7, protocol.Hash{id})}, Info: protocol.NodeInfoValue{Homes: homes}}
	}
	home := protocol.NewID(9, protocol.Hash{1})
	old := []Target{target(1, home), target(2, home)}
	for _, x := range []struct {
		name  string
		fresh []Target
		want  bool
	}{
		{"the same", old, false},
		{"fewer", old[:1], false},
		{"none", nil, false},
		{"one more", append(slices.Clone(old), target(3)), true},
		{"another home", []Target{target(1), target(2, home)}, true},
	} {
		if got := others(x.fresh, old); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
}
