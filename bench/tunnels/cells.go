package tunnels

import (
	"context"
	"errors"
	"net/netip"

	"culvert/bench/load"
	"culvert/bench/proc"
)

// Bench is the nodes between the load and the device.
type Bench struct {
	device   netip.AddrPort
	children []*proc.Child
	to       locals
}

// Start starts the nodes and opens the tunnels to a device.
func Start(ctx context.Context, device netip.AddrPort) (*Bench, error) {
	b := &Bench{device: device}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bench) start(ctx context.Context) (err error) {
	at := places{Device: b.device.Port()}
	for _, p := range []struct {
		part string
		into any
	}{{partRelay, &at.Relay}, {partAgent, &at.Agent}, {partUser, &b.to}} {
		c, err := proc.Start(ctx, p.part, at, p.into)
		if err != nil {
			return err
		}
		b.children = append(b.children, c)
	}
	return nil
}

// Names of the ways.
const (
	Direct      = "culvert, direct"
	DirectLink  = "culvert, direct, on the link"
	Relayed     = "culvert, relayed"
	RelayedLink = "culvert, relayed, on the link"
)

// Ways are the ways through culvert's tunnels.
func (b *Bench) Ways() (l []load.Way) {
	for _, name := range []string{Direct, DirectLink, Relayed, RelayedLink} {
		l = append(l, b.way(name))
	}
	return l
}

func (b *Bench) way(name string) load.Way {
	super, agent, user := b.children[0].PID(), b.children[1].PID(), b.children[2].PID()
	w := load.Way{Name: name, To: b.to[name], Procs: []load.Proc{{Name: "user-node", PID: user}, {Name: "tunnel-node", PID: agent}}}
	if name == Relayed || name == RelayedLink {
		w.Procs = append(w.Procs, load.Proc{Name: "super-node", PID: super})
	}
	w.Fresh = func(ctx context.Context) (load.Way, func() error, error) {
		f, err := Start(ctx, b.device)
		if err != nil {
			return load.Way{}, nil, err
		}
		return f.way(name), f.Close, nil
	}
	return w
}

// Close ends the processes: who asks before who answers.
func (b *Bench) Close() error {
	var errs []error
	for i := len(b.children) - 1; i >= 0; i-- {
		errs = append(errs, b.children[i].Close())
	}
	return errors.Join(errs...)
}
