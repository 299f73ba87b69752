package tunnels

import (
	"context"
	"encoding/json"
	"errors"

	"culvert/bench/load"
)

const (
	partCrowdRelay  = "crowd-super-node"
	partCrowdAgent  = "crowd-tunnel-node"
	partCrowdUser   = "crowd-user-node"
	partCrowdLoad   = "crowd-load"
	partCrowdDevice = "crowd-device"
)

// devicePorts is on how many ports the device listens: to one there are no more connections from one address than ports that
// the system gives out by itself, and the tunnels' own take more than half of these.
const devicePorts = 8

// crowdDevice is a device of many ports.
func crowdDevice(ctx context.Context, _ json.RawMessage, ready func(any) error) (err error) {
	ports := make([]uint16, devicePorts)
	for i := range ports {
		d, err := load.NewDevice()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		ports[i] = d.Port()
	}
	if err := ready(ports); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
