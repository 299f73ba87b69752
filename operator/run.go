package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/key"

	"golang.org/x/sync/errgroup"
)

// Mesh is what the operator needs of the node that it is a role of.
type Mesh interface {
	// Publish stores a record in the local store and at the super-nodes of its range. confirmed counts the members of the map
	// that have it now, this one included while it is a member.
	Publish(ctx context.Context, record []byte) (confirmed int, err error)
	// Probe finds out whether the peer answers at addr from outside: a Ping from a fresh UDP socket and a TCP connect, or,
	// where the address is for streams alone, a Ping on one.
	Probe(ctx context.Context, peer protocol.Peer, addr netip.AddrPort) error
	// NodeLocations are the location IDs that the node announces.
	NodeLocations(ctx context.Context, id protocol.ID) ([]protocol.Hash, error)
	// Ask asks as the operator.
	Ask(ctx context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error)
	// AskAs asks as the node with these keys and this certificate, from a socket that is not the operator's.
	AskAs(ctx context.Context, keys *key.Pair, record []byte, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error)
	// Notify tells the super-nodes of a new map.
	Notify(ctx context.Context, epoch uint64)
}

const (
	maintenance = time.Minute
)

// Run takes part in the mesh until ctx ends: it pushes the outbox, watches the super-nodes and renews what grows old.
func (o *Operator) Run(ctx context.Context, mesh Mesh) error {
	o.attach(mesh)
	defer o.attach(nil)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { o.pushLoop(ctx, mesh); return nil })
	g.Go(func() error {
		o.every(ctx, watchInterval, func(now time.Time) { o.watcher.round(ctx, mesh, now) })
		return nil
	})
	g.Go(func() error { o.handOver.run(ctx, mesh); return nil })
	g.Go(func() error { o.auditor.run(ctx, mesh); return nil })
	g.Go(func() error { o.every(ctx, maintenance, func(time.Time) { o.maintain(ctx) }); return nil })
	return g.Wait()
}

func (o *Operator) attach(mesh Mesh) {
	o.state.Lock()
	o.mesh = mesh
	o.state.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.locate = nil
	if mesh != nil {
		o.locate = mesh.NodeLocations
	}
}

// running reports whether Run does.
func (o *Operator) running() bool {
	o.state.Lock()
	defer o.state.Unlock()
	return o.mesh != nil
}

func (o *Operator) every(ctx context.Context, d time.Duration, fn func(time.Time)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			fn(o.now())
		}
	}
}

// Announce makes known that the operator answers messages at its advertised host on this port. It resolves the host; where
// that fails the addresses known before stay, and Run tries again.
func (o *Operator) Announce(ctx context.Context, port uint16) error {
	o.state.Lock()
	o.port = port
	o.state.Unlock()
	host, _, err := net.SplitHostPort(o.https)
	if err != nil {
		return fmt.Errorf("advertised address %q: %w", o.https, err)
	}
	ips := make([]netip.Addr, 0, 1)
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return fmt.Errorf("resolve the advertised host: %w", err)
	}
	var peers []netip.AddrPort
	for _, ip := range ips {
		peers = append(peers, netip.AddrPortFrom(ip.Unmap(), port))
	}
	slices.SortFunc(peers, netip.AddrPort.Compare) // resolvers shuffle
	peers = slices.Compact(peers)
	return o.setPeers(ctx, peers[:min(len(peers), protocol.MaxAddresses)])
}

func (o *Operator) setPeers(ctx context.Context, peers []netip.AddrPort) error {
	old := o.Peers()
	text, err := json.Marshal(peers)
	if err != nil {
		return fmt.Errorf("operator addresses: %w", err)
	}
	set := func(p []netip.AddrPort) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.peers = p
	}
	set(peers)
	err = o.update(ctx, func(tx *sqlite.Tx) error {
		if !slices.Equal(peers, old) {
			if err := tx.SetSetting(settingPeers, text); err != nil {
				return err
			}
			if err := o.renewChain(tx, true); err != nil {
				return err
			}
		}
		if err := o.rebuildMap(tx); err != nil {
			return err
		}
		return o.loadIdentity(tx)
	})
	if err != nil {
		set(old)
	}
	return err
}

// StaticRecords are all records that the operator has signed and that hold now: a node database that was lost is filled from
// them. The operator's own and the map come first.
func (o *Operator) StaticRecords(ctx context.Context) iter.Seq2[[]byte, error] {
	tables := []protocol.Table{protocol.TableOperatorNode, protocol.TableRevocation, protocol.TableSuperNode,
		protocol.TableMapHead, protocol.TableNode, protocol.TableEndDevice}
	const page = 500
	return func(yield func([]byte, error) bool) {
		for _, table := range tables {
			var after protocol.ID
			for more := true; more; {
				var raws [][]byte
				err := o.db.View(ctx, func(tx *sqlite.Tx) error {
					rows, err := tx.Records(table, after, o.now(), page)
					for _, r := range rows {
						raws, after = append(raws, r.Raw), r.Owner
					}
					return err
				})
				if err != nil {
					yield(nil, err)
					return
				}
				for _, raw := range raws {
					if !yield(raw, nil) {
						return
					}
				}
				more = len(raws) == page
			}
		}
	}
}
