package node

import (
	"log/slog"
	"testing"

	"culvert/node/config"
)

// The place of this machine is known before anything is announced or asked.
func TestNetworksAreReadFirst(t *testing.T) {
	c := config.Default()
	c.Listen, c.ListenSet = "127.0.0.1:0", true
	n, err := New(t.Context(), Config{Dir: t.TempDir(), Settings: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.startLoops()
	<-n.located // what awaitNetworks waits for, within bounds that a busy machine may pass
	if n.gateways.Load() == nil {
		t.Error("the networks are not known yet")
	}
}
