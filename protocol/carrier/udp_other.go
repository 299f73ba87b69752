//go:build !linux

package carrier

import "net"

func newBatcher(sock *net.UDPConn, drops *udpDrops) batcher {
	return &single{sock: sock, drops: drops}
}

// enlargeBuffers asks for room for bursts; a refusal leaves the system's default, which works too.
func enlargeBuffers(sock *net.UDPConn) {
	_ = sock.SetReadBuffer(socketBuffer)
	_ = sock.SetWriteBuffer(socketBuffer)
}
