package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
	"culvert/tunnel/link"
)

const (
	// snapshotALPN names streams on which a super-node takes over records: mutual TLS by the keys of the map.
	snapshotALPN = "culvert/snapshot/1"
	// snapshotsAtOnce bounds how many are served.
	snapshotsAtOnce = 4
	// snapshotIdle ends a stream on which nothing moves, snapshotDial an attempt to open one.
	snapshotIdle = 30 * time.Second
	snapshotDial = 5 * time.Second
)

var errSnapshotPeer = errors.New("no super-node of the map has this key")

// snapshotTLS shows a key and wants one shown; whose it is the map tells.
func snapshotTLS(k *key.Signing) (*tls.Config, error) {
	leaf, err := link.Certificate(k)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{snapshotALPN},
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		InsecureSkipVerify: true, // the key alone counts: VerifyConnection
		VerifyConnection:   func(s tls.ConnectionState) error { _, err := link.PeerKey(s); return err },
	}, nil
}

// serveSnapshots gives a fellow member what he takes over.
func (n *Node) serveSnapshots(c *tls.Conn) {
	defer c.Close()
	s := n.serving.Load()
	if s == nil {
		n.drops.add("no snapshots here")
		return
	}
	k, err := link.PeerKey(c.ConnectionState())
	if err == nil {
		err = errSnapshotPeer
		if m := s.server.Map(); m != nil {
			for _, mem := range m.Members() {
				if mem.Peer.Signing == k {
					err = n.serveSnapshotsTo(s, mem.Peer.ID, c)
					break
				}
			}
		}
	}
	n.streamEnded("snapshot", err)
}

func (n *Node) serveSnapshotsTo(s *serving, member protocol.ID, c *tls.Conn) error {
	select {
	case s.snapshots <- struct{}{}:
		defer func() { <-s.snapshots }()
	default:
		n.drops.add("busy")
		return nil
	}
	return s.server.ServeSnapshots(&movingConn{c}, member, n.meshNow)
}

// dialSnapshots opens a stream to a member.
func (s *serving) dialSnapshots(n *Node) func(context.Context, protocol.Peer) (io.ReadWriteCloser, error) {
	dial := n.cfg.Network.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, to protocol.Peer) (io.ReadWriteCloser, error) {
		dctx, done := context.WithTimeout(ctx, snapshotDial)
		defer done()
		conn, err := dial(dctx, "tcp", to.Addr.String())
		if err != nil {
			return nil, err
		}
		cfg := s.snapshotTLS.Clone()
		cfg.VerifyConnection = func(st tls.ConnectionState) error {
			k, err := link.PeerKey(st)
			if err == nil && k != to.Signing {
				err = link.ErrPeerKey
			}
			return err
		}
		c := tls.Client(conn, cfg)
		if err := c.HandshakeContext(dctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		m := &movingConn{c}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		return &snapshotConn{m, stop}, nil
	}
}

type snapshotConn struct {
	*movingConn
	stop func() bool
}

// Close implements io.Closer.
func (c *snapshotConn) Close() error {
	c.stop()
	return c.movingConn.Close()
}

// movingConn ends when nothing moves.
type movingConn struct{ *tls.Conn }

// Read implements io.Reader.
func (c *movingConn) Read(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(snapshotIdle)) // a connection that cannot is broken, as Read says
	return c.Conn.Read(b)
}

// Write implements io.Writer.
func (c *movingConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(snapshotIdle))
	return c.Conn.Write(b)
}
