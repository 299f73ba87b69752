package load

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"

	"culvert/bench/proc"
)

// Way is a way to the device that the load goes by.
type Way struct {
	Name string
	To   netip.AddrPort
	// Procs are what carries it; none where the load connects to the device itself.
	Procs []Proc
	// Fresh starts the same way once more, in processes that have done nothing yet, for what depends on a process's past.
	// Nil where there are no processes.
	Fresh func(context.Context) (Way, func() error, error)
}

// Proc is a process of a way.
type Proc struct {
	Name string
	PID  int
}

// PartDevice is the device as a process of its own; Parts has it.
const PartDevice = "load-device"

// Parts are the processes of this package.
func Parts() map[string]proc.Part { return map[string]proc.Part{PartDevice: serve} }

func serve(ctx context.Context, _ json.RawMessage, ready func(any) error) error {
	d, err := NewDevice()
	if err != nil {
		return err
	}
	if err := ready(d.Port()); err != nil {
		return errors.Join(err, d.Close())
	}
	<-ctx.Done()
	return d.Close()
}

// StartDevice starts the device in a process of its own.
func StartDevice(ctx context.Context) (*proc.Child, netip.AddrPort, error) {
	var port uint16
	c, err := proc.Start(ctx, PartDevice, nil, &port)
	return c, Local(port), err
}

// Local is a port of this machine.
func Local(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}
