package tunnels

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"culvert/bench/load"
	"culvert/bench/report"
	"culvert/bench/world"
	"culvert/tunnel"
)

const (
	orderOpen  = "open"  // so many tunnels
	orderClose = "close" // the last so many
	// opensAtOnce is how many tunnels a user-node opens at once.
	opensAtOnce = 16
	// The user-nodes' local ports lie below those that the system gives out by itself, which connections need; each has so many.
	firstPort = 10000
	portsEach = 7500
)

// opened is what came of orderOpen.
type opened struct {
	At     []netip.AddrPort
	Median float64 // milliseconds for one
}

// opener is a user-node that opens tunnels on order.
type opener struct {
	m  *tunnel.Manager
	at places

	mu   sync.Mutex
	open []*tunnel.Tunnel
	port int // the last local port that was taken
}

// crowdUser is a user-node that opens relayed tunnels, each with a local port of its own.
func crowdUser(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
	var o opener
	if err := json.Unmarshal(arg, &o.at); err != nil {
		return err
	}
	m, err := newMesh(o.at, func(m *mesh) []*world.Member { return m.users[o.at.User : o.at.User+1] })
	if err != nil {
		return err
	}
	if o.m, err = m.manager(m.users[o.at.User], 0); err != nil {
		return err
	}
	work := func(ctx context.Context, _ json.RawMessage, ready func(any) error) error {
		if err := ready(nil); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	err = obeying(work, doing{orderOpen: o.more, orderClose: o.fewer})(ctx, nil, ready)
	return errors.Join(err, o.m.Close())
}

func (o *opener) more(ctx context.Context, arg json.RawMessage) (any, error) {
	var n int
	if err := json.Unmarshal(arg, &n); err != nil {
		return nil, err
	}
	ports := append([]uint16{o.at.Device}, o.at.More...)
	l, took := make([]*tunnel.Tunnel, n), make([]float64, n)
	err := load.Each(min(n, opensAtOnce), func(w int) error {
		for i := w; i < n; i += opensAtOnce {
			began := time.Now()
			t, err := o.openOne(ctx, ports[i%len(ports)])
			if err != nil {
				return fmt.Errorf("tunnel %d: %w", i, err)
			}
			l[i], took[i] = t, time.Since(began).Seconds()*1e3
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	res := opened{Median: report.Median(took)}
	for _, t := range l {
		res.At = append(res.At, t.Local())
	}
	o.mu.Lock()
	o.open = append(o.open, l...)
	o.mu.Unlock()
	return res, nil
}

// openOne opens a tunnel at the next local port that is free.
func (o *opener) openOne(ctx context.Context, device uint16) (t *tunnel.Tunnel, err error) {
	for range portsEach {
		o.mu.Lock()
		o.port = (o.port + 1) % portsEach
		local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(firstPort+portsEach*o.at.User+o.port))
		o.mu.Unlock()
		t, err = o.m.Open(ctx, tunnel.OpenRequest{Device: deviceName, Port: device, Routes: []tunnel.Route{tunnel.Relayed}, Listen: local})
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return t, err
}

func (o *opener) fewer(_ context.Context, arg json.RawMessage) (any, error) {
	var n int
	if err := json.Unmarshal(arg, &n); err != nil {
		return nil, err
	}
	o.mu.Lock()
	n = min(n, len(o.open))
	l := slices.Clone(o.open[len(o.open)-n:])
	o.open = slices.Delete(o.open, len(o.open)-n, len(o.open)) // which lets go of them
	o.mu.Unlock()
	for _, t := range l {
		t.Close()
	}
	return nil, nil
}
