package tunnel

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// byRelay makes a link through a relay: the request goes out while this end already waits there.
func (m *Manager) byRelay(ctx context.Context, w want, t Target, at protocol.Peer, key linkKey) (*link.Link, error) {
	token, err := m.token()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type joined struct {
		conn net.Conn
		err  error
	}
	done := make(chan joined, 1)
	go func() {
		conn, err := m.joinRelay(ctx, w.me, at, t.Node.ID, token)
		if err != nil {
			cancel() // whoever is asked meanwhile would wait for nothing
		}
		done <- joined{conn, err}
	}()
	_, hash, err := m.request(ctx, w, t, protocol.TunnelRequest{Token: token, Relay: at.ID, RelayAddr: protocol.AddrOf(at.Addr)})
	if err != nil {
		cancel()
		j := <-done
		if j.conn != nil {
			_ = j.conn.Close()
		} else if errors.Is(err, context.Canceled) && !errors.Is(j.err, context.Canceled) {
			err = j.err
		}
		return nil, err
	}
	j := <-done
	if j.err != nil {
		return nil, j.err
	}
	cfg := m.linkConfig(w.me)
	cfg.Role, cfg.Request = link.RoleUser, hash
	m.bulkBy(&cfg, w.me, t.Node.ID, &at, netip.AddrPort{})
	l, err := m.call(ctx, w.me, j.conn, t.Node, cfg)
	if err != nil {
		return nil, err
	}
	return l, m.register(l, key)
}
