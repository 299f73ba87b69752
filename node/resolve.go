package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"culvert/dht"
	"culvert/protocol"
	"culvert/tunnel"

	"golang.org/x/sync/errgroup"
)

const (
	// deviceLife is for how long a device's record is believed without asking again: changes reach super-nodes at once, and
	// whoever cannot wait asks for a refresh.
	deviceLife = time.Minute
	// staleLife is for how long a record that cannot be asked for again goes on being used: the super-nodes may all be gone for
	// a while.
	staleLife    = 24 * time.Hour
	maxCached    = 16384
	lookupBudget = 8 * time.Second
)

// deviceCache remembers one domain's devices.
type deviceCache struct {
	mu     sync.Mutex
	byID   map[protocol.ID]cachedDevice
	byName map[string]protocol.ID
	listed time.Time
}

type cachedDevice struct {
	device tunnel.Device
	at     time.Time
}

func newDeviceCache() *deviceCache {
	return &deviceCache{byID: make(map[protocol.ID]cachedDevice), byName: make(map[string]protocol.ID)}
}

func (c *deviceCache) put(now time.Time, d tunnel.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(now, d)
}

func (c *deviceCache) putLocked(now time.Time, d tunnel.Device) {
	if len(c.byID) >= maxCached {
		clear(c.byID)
		clear(c.byName)
	}
	if old, ok := c.byID[d.ID]; ok {
		delete(c.byName, protocol.FoldName(old.device.Value.Name))
	}
	c.byID[d.ID] = cachedDevice{d, now}
	c.byName[protocol.FoldName(d.Value.Name)] = d.ID
}

// replace takes in a whole listing: what it does not name is no longer registered.
func (c *deviceCache) replace(now time.Time, l []tunnel.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.byID)
	clear(c.byName)
	for _, d := range l {
		c.putLocked(now, d)
	}
	c.listed = now
}

func (c *deviceCache) remove(id protocol.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.byID[id]; ok {
		delete(c.byName, protocol.FoldName(old.device.Value.Name))
		delete(c.byID, id)
	}
}

// find looks for a name or an ID; the age says whether it may be believed.
func (c *deviceCache) find(now time.Time, ref string) (tunnel.Device, time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, err := protocol.ParseID(ref)
	if err != nil {
		var ok bool
		if id, ok = c.byName[protocol.FoldName(ref)]; !ok {
			return tunnel.Device{}, 0, false
		}
	}
	e, ok := c.byID[id]
	return e.device, now.Sub(e.at), ok
}

func (c *deviceCache) all() ([]tunnel.Device, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var l []tunnel.Device
	for _, e := range c.byID {
		l = append(l, e.device)
	}
	slices.SortFunc(l, func(a, b tunnel.Device) int { return a.ID.Compare(b.ID) })
	return l, c.listed
}

// resolver finds what the mesh knows. It implements tunnel.Resolver.
type resolver struct{ n *Node }

var _ tunnel.Resolver = resolver{}

// Device implements tunnel.Resolver.
func (r resolver) Device(ctx context.Context, d protocol.Domain, ref string) (tunnel.Device, error) {
	m, ok := r.n.member(d)
	if !ok {
		return tunnel.Device{}, tunnel.ErrNoMembership
	}
	return m.device(ctx, ref)
}

// device answers from the cache while it is fresh, else from the mesh, and from a stale cache where the mesh cannot be asked.
func (m *membership) device(ctx context.Context, ref string) (tunnel.Device, error) {
	now := m.node.now()
	cached, age, ok := m.devices.find(now, ref)
	if ok && age < deviceLife {
		return cached, nil
	}
	secrets, err := m.secrets(m.node.meshNow())
	if err != nil {
		return tunnel.Device{}, err
	}
	key, err := protocol.ParseID(ref)
	if err != nil {
		key = protocol.NewID(m.domain, secrets.NameKey(ref))
	} else if key.Domain() != m.domain {
		return tunnel.Device{}, tunnel.ErrUnknownDevice
	}
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	records, err := m.client.Lookup(ctx, dht.Target{Kind: dht.FindDevices, Key: key})
	if errors.Is(err, dht.ErrNotFound) || err == nil && len(records) == 0 {
		if ok {
			m.devices.remove(cached.ID)
		}
		return tunnel.Device{}, fmt.Errorf("%w: %q", tunnel.ErrUnknownDevice, ref)
	}
	if err != nil {
		if ok && age < staleLife {
			return cached, nil
		}
		return tunnel.Device{}, err
	}
	dev, err := openDevice(secrets, newest(records))
	m.missesKey(err)
	if err != nil {
		return tunnel.Device{}, err
	}
	m.devices.put(now, dev)
	return dev, nil
}

func newest(l []*protocol.Record) *protocol.Record {
	best := l[0]
	for _, r := range l[1:] {
		if r.Supersedes(best) {
			best = r
		}
	}
	return best
}

// openDevice opens a verified EndDevice record.
func openDevice(s *protocol.DomainSecrets, r *protocol.Record) (tunnel.Device, error) {
	if r.Tombstone {
		return tunnel.Device{}, tunnel.ErrUnknownDevice
	}
	plain, err := s.OpenValue(r.Table, r.Owner, r.Value)
	if err != nil {
		return tunnel.Device{}, err
	}
	d := tunnel.Device{ID: r.Owner}
	return d, protocol.Unmarshal(plain, &d.Value)
}

// missesKey has the domain keys fetched where an operator has sealed with one that this node lacks, which after a long absence
// it may not know otherwise.
func (m *membership) missesKey(err error) {
	if errors.Is(err, protocol.ErrDomainKey) && m.node.meshNow().Sub(m.certificate().Issued) > time.Hour && !m.renewWanted.Load() {
		m.wantRenewal()
	}
}

// list is every device of the domain, from the mesh if the last listing is too old or refresh asks for it.
func (m *membership) list(ctx context.Context, refresh bool) ([]tunnel.Device, error) {
	now := m.node.now()
	cached, at := m.devices.all()
	if !refresh && now.Sub(at) < deviceLife {
		return cached, nil
	}
	secrets, err := m.secrets(m.node.meshNow())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*lookupBudget)
	defer cancel()
	records, err := m.client.Lookup(ctx, dht.Target{Kind: dht.FindDevices, Key: protocol.NewID(m.domain, protocol.Hash{})})
	if err != nil && !errors.Is(err, dht.ErrNotFound) {
		if !refresh && !at.IsZero() && now.Sub(at) < staleLife {
			return cached, nil
		}
		return nil, err
	}
	var l []tunnel.Device
	for _, r := range records {
		d, err := openDevice(secrets, r)
		m.missesKey(err)
		if err != nil {
			m.node.log.Debug("device record not opened", "device", r.Owner.Short(), "error", err)
			continue
		}
		l = append(l, d)
	}
	m.devices.replace(now, l)
	l, _ = m.devices.all()
	if !at.IsZero() {
		m.publishDevices(cached, l)
	}
	return l, nil
}

// mostAnnounced is how many tunnel-nodes of a location are looked at: more than keepers and standby, so that also those are
// found that announce themselves because they alone may serve a device.
const mostAnnounced = 48

// TunnelNodes implements tunnel.Resolver: the node on which the device runs, or the tunnel-nodes at its locations.
func (r resolver) TunnelNodes(ctx context.Context, d tunnel.Device) ([]tunnel.Target, error) {
	m, ok := r.n.member(d.ID.Domain())
	if !ok {
		return nil, tunnel.ErrNoMembership
	}
	ctx, cancel := context.WithTimeout(ctx, lookupBudget)
	defer cancel()
	secrets, err := m.secrets(m.node.meshNow())
	if err != nil {
		return nil, err
	}
	var asks []dht.Target
	if !d.Value.Node.IsZero() {
		asks = append(asks, dht.Target{Kind: dht.FindNodeInfo, Key: d.Value.Node})
	}
	for _, l := range d.Value.Locations {
		asks = append(asks, dht.Target{Kind: dht.FindTunnelNodes, Key: protocol.NewID(m.domain, secrets.LocationKey(l)), Most: mostAnnounced})
	}
	type result struct {
		targets []announcedNode
		err     error
	}
	results := make(chan result, len(asks))
	for _, a := range asks {
		if !m.node.tasks.start(func(context.Context) {
			t, err := m.targets(ctx, secrets, a, d)
			results <- result{t, err}
		}) {
			return nil, errClosed
		}
	}
	var all []announcedNode
	var failed error
	for range asks {
		res := <-results
		if res.err != nil && !errors.Is(res.err, dht.ErrNotFound) {
			failed = res.err
		}
		for _, t := range res.targets {
			if !slices.ContainsFunc(all, func(o announcedNode) bool { return o.Node.ID == t.Node.ID }) {
				all = append(all, t)
			}
		}
	}
	if len(all) == 0 && failed != nil {
		return nil, failed
	}
	// Who holds bindings can be asked from everywhere, the others only from their own LAN; and of two keepers the one that has
	// spoken last is the more likely to be there.
	slices.SortStableFunc(all, func(a, b announcedNode) int {
		return cmp.Or(cmp.Compare(min(len(b.Info.Homes), 1), min(len(a.Info.Homes), 1)), b.issued.Compare(a.issued))
	})
	targets := make([]tunnel.Target, len(all))
	for i, f := range all {
		targets[i] = f.Target
	}
	return targets, nil
}

// mostListing is how many places are looked up at once for a listing.
const mostListing = 16

// tunnelNodesOf counts the tunnel-nodes of each device. Devices that share their places share the look-up, and places are
// looked up side by side, so that a listing takes about as long as one device.
func (m *membership) tunnelNodesOf(ctx context.Context, devices []tunnel.Device) []int {
	byPlace := make(map[string][]int)
	for i, d := range devices {
		k := fmt.Sprintf("%x %x", d.Value.Node, d.Value.Locations)
		byPlace[k] = append(byPlace[k], i)
	}
	counts := make([]int, len(devices))
	var g errgroup.Group
	g.SetLimit(mostListing)
	for _, same := range byPlace {
		g.Go(func() error {
			// One that cannot be looked up now counts as none.
			targets, err := resolver{m.node}.TunnelNodes(ctx, devices[same[0]])
			for _, i := range same {
				if err == nil {
					counts[i] = len(targets)
				}
			}
			return nil
		})
	}
	_ = g.Wait()
	return counts
}

// announcedNode is a tunnel-node with the time of its announcement.
type announcedNode struct {
	tunnel.Target
	issued time.Time
}

// targets reads NodeInfo records and keeps the tunnel-nodes that are where the device is.
func (m *membership) targets(ctx context.Context, s *protocol.DomainSecrets, a dht.Target, d tunnel.Device) ([]announcedNode, error) {
	records, err := m.client.Lookup(ctx, a)
	var out []announcedNode
	for _, r := range records {
		if r.Tombstone || r.Owner == m.id() {
			continue
		}
		info, err := openNodeInfo(s, r.Raw())
		if err != nil || !info.Tunnel {
			continue
		}
		here := r.Owner == d.Value.Node || slices.ContainsFunc(info.Locations, func(l protocol.Hash) bool {
			return slices.Contains(d.Value.Locations, l)
		})
		if !here {
			continue // it has moved, and is announced here for that to be seen
		}
		cert, err := m.certified(ctx, r.Owner)
		if err != nil {
			continue
		}
		out = append(out, announcedNode{tunnel.Target{Node: cert, Info: info}, r.Issued})
	}
	return out, err
}

// Certified implements tunnel.Resolver.
func (r resolver) Certified(ctx context.Context, id protocol.ID) (*protocol.CertifiedNode, error) {
	m, ok := r.n.member(id.Domain())
	if !ok {
		return nil, tunnel.ErrNoMembership
	}
	return m.certified(ctx, id)
}
