package node

import (
	"slices"
	"testing"

	"culvert/node/localapi"
	"culvert/protocol"
	"culvert/tunnel"
)

func TestDeviceChanges(t *testing.T) {
	dev := func(fill byte, locations ...protocol.Hash) tunnel.Device {
		return tunnel.Device{ID: testID(7, fill), Value: protocol.EndDeviceValue{Locations: locations}}
	}
	office, home := protocol.Hash{1}, protocol.Hash{2}
	changes := deviceChanges(
		[]tunnel.Device{dev(1, office), dev(2, office), dev(3, office)},
		[]tunnel.Device{dev(1, office), dev(2, home), dev(4)},
	)
	var got []string
	for _, c := range changes {
		got = append(got, string(c.kind)+" "+c.device.ID.Short())
	}
	want := []string{
		string(localapi.DeviceMoved) + " " + testID(7, 2).Short(),
		string(localapi.DeviceFound) + " " + testID(7, 4).Short(),
		string(localapi.DeviceLost) + " " + testID(7, 3).Short(),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
