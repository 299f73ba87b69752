package dht_test

import (
	"testing"

	"culvert/dht"
	"culvert/protocol"
)

// A super-node that has just started, or lost its database, is asked how far it is before it knows any map.
func TestTransferBeforeAnyMap(t *testing.T) {
	f := newFabric(t)
	m := f.serve(f.world.Node(100, "super"), dht.Config{})
	m.server.SetProgress(dht.Progress{})
	c, b := f.say(f.world.OperatorNode(), m, protocol.TransferPartition{Epoch: 3})
	r, err := protocol.ParsePayload[protocol.PartitionTransferred](b)
	if c != protocol.CmdPartitionTransferred || err != nil || r.Epoch != 0 || r.Filled {
		t.Errorf("%s %+v: %v", c, r, err)
	}
}
