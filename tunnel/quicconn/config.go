package quicconn

import (
	"time"

	"github.com/quic-go/quic-go"
)

const (
	packetSize      = 1350
	firstStream     = 128 << 10
	firstConnection = 256 << 10
	mostStream      = 4 << 20
	mostConnection  = 8 << 20
	// mostStreams is how many a dialler may have open: the link's, and more than the 64 flows that a link lets have their own.
	mostStreams = 80
	// handshakeFor bounds a handshake; the library gives up when half of it passes without a packet, or all of it.
	handshakeFor = 5 * time.Second
	idleFor      = 75 * time.Second
	// lingerFor is how long what was written before Close may take to arrive.
	lingerFor = 500 * time.Millisecond
)

// times are the time limits that a test may want longer than its machine is slow.
type times struct{ handshake, linger time.Duration }

// transportConfig is one side's. Streams from the peer are for the accepting side alone.
func (t times) transportConfig(streams int64) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           t.handshake / 2,
		MaxIdleTimeout:                 idleFor,
		InitialStreamReceiveWindow:     firstStream,
		MaxStreamReceiveWindow:         mostStream,
		InitialConnectionReceiveWindow: firstConnection,
		MaxConnectionReceiveWindow:     mostConnection,
		MaxIncomingStreams:             streams,
		MaxIncomingUniStreams:          -1,
		InitialPacketSize:              packetSize,
		DisablePathMTUDiscovery:        true,
	}
}
