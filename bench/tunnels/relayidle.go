package tunnels

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/world"
	"culvert/protocol"
	"culvert/tunnel/relay"
)

const (
	warmPairs = 16
	joinLimit = time.Minute
)

var errOther = errors.New("other bytes arrived than were sent")

// relayIdle is what the relay holds for two connections that it has joined and on which nothing moves: a link, or a flow's own
// connection. Flows that ride a link cost the relay nothing at all.
func relayIdle(pairs int) measure.Group {
	return measure.Group{
		Title: RelayIdle, Steady: true,
		Notes: fmt.Sprintf("less is better; growth of the resident memory by %d joined pairs of connections in a fresh process", pairs),
		Cells: []measure.Cell{{Name: Relayed, Unit: "KB", Run: func(ctx context.Context, _ time.Duration) (s measure.Sample, err error) {
			fresh, err := startCrew[netip.AddrPort](ctx, partCrowdRelay, places{})
			if err != nil {
				return s, err
			}
			defer func() { err = errors.Join(err, fresh.Close()) }()
			m, err := newMesh(places{Relay: fresh.at.At}, func(m *mesh) []*world.Member { return []*world.Member{m.users[0], m.agent} })
			if err != nil {
				return s, err
			}
			warm, err := m.pairs(ctx, 0, warmPairs) // what the first ones bring into memory once and for all is no cost of a connection
			defer hangUp(warm)
			if err != nil {
				return s, err
			}
			before, err := fresh.rest(ctx)
			if err != nil {
				return s, err
			}
			l, err := m.pairs(ctx, warmPairs, pairs)
			defer hangUp(l)
			if err != nil {
				return s, err
			}
			after, err := fresh.rest(ctx)
			s.Value = max(float64(after.RSS-before.RSS), 1) / 1e3 / float64(pairs) // as next to nothing, where it is nothing
			return s, err
		}}},
	}
}

// pairs joins n pairs at the relay and has a byte go each way through each.
func (m *mesh) pairs(ctx context.Context, from, n int) ([]net.Conn, error) {
	conns := make([]net.Conn, 2*n)
	err := load.Each(16, func(w int) error {
		for i := w; i < n; i += 16 {
			if err := m.pair(ctx, uint64(from+i), conns[2*i:2*i+2]); err != nil {
				return err
			}
		}
		return nil
	})
	var open []net.Conn
	for _, c := range conns {
		if c != nil {
			open = append(open, c)
		}
	}
	return open, err
}

func (m *mesh) pair(ctx context.Context, number uint64, conns []net.Conn) error {
	at := m.relay.Peer()
	at.Addr = m.at.Relay
	token := protocol.Hash(sha256.Sum256(binary.BigEndian.AppendUint64([]byte("pair"), number)))
	ends := [2]*world.Member{m.users[0], m.agent}
	err := load.Each(2, func(i int) error {
		raw, err := m.SealRelayJoin(ends[i].Cert.ID, at, protocol.RelayJoin{Token: token, Peer: ends[1-i].Cert.ID, Node: ends[i].Cert.Record})
		if err != nil {
			return err
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", m.at.Relay.String())
		if err != nil {
			return err
		}
		if err := c.SetDeadline(time.Now().Add(joinLimit)); err != nil {
			return errors.Join(err, c.Close())
		}
		conns[i] = c
		return relay.Join(ctx, c, raw)
	})
	if err != nil {
		return err
	}
	for i, c := range conns {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			return err
		}
		var got [1]byte
		if _, err := conns[1-i].Read(got[:]); err != nil || got[0] != byte(i) {
			return errors.Join(errOther, err)
		}
	}
	return nil
}

func hangUp(l []net.Conn) {
	for _, c := range l {
		_ = c.Close()
	}
}
