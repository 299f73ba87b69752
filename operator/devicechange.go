package operator

import (
	"context"
	"fmt"
	"slices"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
)

// UpdateDevice changes what the patch names. The ID stays; the former name keeps leading to the device until the next change of name.
func (a *Authority) UpdateDevice(ctx context.Context, by Actor, ref string, p DevicePatch) (DeviceView, error) {
	var dev registry.Device
	var d registry.Domain
	err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		dev, d, err = a.findDevice(tx, by, ref)
		return err
	})
	if err != nil {
		return DeviceView{}, err
	}
	var at []protocol.Hash // asked of the mesh before the writer's lock is taken
	if p.At != nil && *p.At != "" {
		if at, err = a.newPlaces().at(ctx, by, DeviceSpec{Domain: d.Name, At: *p.At}); err != nil {
			return DeviceView{}, err
		}
	}
	var out DeviceView
	err = a.update(ctx, func(tx *sqlite.Tx) error {
		dev, d, err := a.findDevice(tx, by, dev.ID.String())
		if err != nil {
			return err
		}
		spec := p.apply(specOf(dev.Value))
		v, err := spec.value()
		if err != nil {
			return err
		}
		if at != nil {
			v.Locations = at
		}
		if err := a.fillNode(tx, by, d.Number, spec.Node, &v); err != nil {
			return err
		}
		if err := unique(tx, d, v, dev.ID); err != nil {
			return err
		}
		if protocol.FoldName(v.Name) != protocol.FoldName(dev.Value.Name) {
			dev.Former = dev.Value.Name
		}
		dev.Value = v
		if err := a.publishDevice(tx, d, &dev); err != nil {
			return err
		}
		out = viewDevice(dev, d.Name)
		return a.audit(tx, by, "device.update", dev.ID.String(), d.Number, v.Name)
	})
	return out, err
}

// RemoveDevice ends a registration by a tombstone.
func (a *Authority) RemoveDevice(ctx context.Context, by Actor, ref string) error {
	return a.update(ctx, func(tx *sqlite.Tx) error {
		dev, d, err := a.findDevice(tx, by, ref)
		if err != nil {
			return err
		}
		dev.Removed = true
		if err := a.publishDevice(tx, d, &dev); err != nil {
			return err
		}
		return a.audit(tx, by, "device.remove", dev.ID.String(), d.Number, dev.Value.Name)
	})
}

// places asks the mesh where nodes are, each node once a call.
type places struct {
	a     *Authority
	known map[protocol.ID][]protocol.Hash
}

func (a *Authority) newPlaces() *places {
	return &places{a: a, known: make(map[protocol.ID][]protocol.Hash)}
}

func (p *places) at(ctx context.Context, by Actor, s DeviceSpec) ([]protocol.Hash, error) {
	p.a.mu.Lock()
	locate := p.a.locate
	p.a.mu.Unlock()
	if locate == nil {
		return nil, fmt.Errorf("%w: where node %.80s is only the running operator can find out; start `culvert operator run`, or give the location itself", ErrUnavailable, s.At)
	}
	var n registry.Node
	err := p.a.db.View(ctx, func(tx *sqlite.Tx) error {
		d, err := p.a.domain(tx, by, s.Domain)
		if err != nil {
			return err
		}
		n, err = p.a.findNode(tx, by, d.Number, s.At)
		return err
	})
	if err != nil {
		return nil, err
	}
	if l, ok := p.known[n.ID]; ok {
		return l, nil
	}
	l, err := locate(ctx, n.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: find the locations of node %s: %w", ErrUnavailable, n.Name, err)
	}
	if len(l) == 0 {
		return nil, invalid("node %s has announced no location: it must run and see its gateway", n.Name)
	}
	l = slices.Clone(l[:min(len(l), protocol.MaxLocations)])
	p.known[n.ID] = l
	return l, nil
}
