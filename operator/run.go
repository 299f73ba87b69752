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
	// Publish stores a record in the local store and at the super-nodes of its keys. confirmed counts the members of the map
	// that have it now, this one included while it is a member: of a record with several keys those of the key that fewest have.
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
	// Gather brings into this node's own store what peers and the members of the map hold of what operators signed: the chain,
	// revocations and the map, with all also nodes and devices. heard: a super-node has answered for every range that
	// super-nodes serve.
	Gather(ctx context.Context, peers []protocol.Peer, all bool) (heard bool, err error)
	// Held are the records of a table in this node's own store.
	Held(ctx context.Context, t protocol.Table) iter.Seq2[[]byte, error]
}

const (
	maintenance = time.Minute
)

// Run takes part in the mesh until ctx ends: it pushes the outbox, watches the super-nodes and renews what grows old. It ends
// with ErrReopen when the operator gets another key.
func (o *Operator) Run(ctx context.Context, mesh Mesh) error {
	o.attach(mesh)
	defer o.attach(nil)
	if err := o.hear(ctx, mesh); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return o.awaitHandover(ctx) })
	g.Go(func() error { o.pushLoop(ctx, mesh); return nil })
	g.Go(func() error {
		o.whileLeading(ctx, watchInterval, func(now time.Time) { o.watcher.round(ctx, mesh, now) })
		return nil
	})
	g.Go(func() error { o.handOver.run(ctx, mesh); return nil })
	g.Go(func() error { o.auditor.run(ctx, mesh); return nil })
	g.Go(func() error {
		if err := o.resignAll(ctx); err != nil && ctx.Err() == nil {
			o.log.Error("sign anew what another key has signed", "error", err) // and again in maintain
		}
		o.every(ctx, maintenance, func(time.Time) { o.maintain(ctx) })
		return nil
	})
	g.Go(func() error { o.every(ctx, maintenance, func(time.Time) { o.keepHearing(ctx, mesh) }); return nil })
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

// whileLeading is every, but for a standby, which leaves that to the one that leads.
func (o *Operator) whileLeading(ctx context.Context, d time.Duration, fn func(time.Time)) {
	o.every(ctx, d, func(now time.Time) {
		if o.leads() {
			fn(now)
		}
	})
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
	ips, err := lookupHost(ctx, o.https)
	if err != nil {
		return err
	}
	return o.setPeers(ctx, atPort(ips, port))
}

func lookupHost(ctx context.Context, https string) ([]netip.Addr, error) {
	host, _, err := net.SplitHostPort(https)
	if err != nil {
		return nil, fmt.Errorf("advertised address %q: %w", https, err)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve the advertised host: %w", err)
	}
	return ips, nil
}

func atPort(ips []netip.Addr, port uint16) []netip.AddrPort {
	var peers []netip.AddrPort
	for _, ip := range ips {
		peers = append(peers, netip.AddrPortFrom(ip.Unmap(), port))
	}
	slices.SortFunc(peers, netip.AddrPort.Compare) // resolvers shuffle
	peers = slices.Compact(peers)
	return peers[:min(len(peers), protocol.MaxAddresses)]
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
	if !o.leads() {
		return o.db.Update(ctx, func(tx *sqlite.Tx) error { return tx.SetSetting(settingPeers, text) })
	}
	err = o.update(ctx, func(tx *sqlite.Tx) error {
		if !slices.Equal(peers, old) {
			if err := tx.SetSetting(settingPeers, text); err != nil {
				return err
			}
			if err := o.renewChain(tx, true); err != nil {
				return err
			}
		}
		return o.rebuildMap(tx)
	})
	if err != nil {
		set(old)
		return err
	}
	return o.db.View(ctx, o.loadIdentity)
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
