package link

import (
	"fmt"
	"io"

	"culvert/protocol"
)

const (
	// MaxDatagram is the longest datagram that a flow carries: one frame.
	MaxDatagram = maxData
	// A flow holds this many unread datagrams, and bytes of them, before it drops what comes. The size of an empty one counts
	// too, so that they are not free.
	mostDatagrams  = 256
	mostQueued     = 256 << 10
	datagramWeight = 64
)

func (f *Flow) udp() bool { return f.open.Protocol == protocol.UDP }

// SendDatagram sends b whole on a flow of protocol UDP, or drops it where the link has no room or b is longer than
// MaxDatagram. It never waits. An error means that the flow is over.
func (f *Flow) SendDatagram(b []byte) error {
	f.sending.Lock()
	defer f.sending.Unlock()
	f.mu.Lock()
	if f.err != nil || f.endOut || !f.udp() {
		defer f.mu.Unlock()
		if f.err != nil {
			return f.err
		}
		return io.ErrClosedPipe
	}
	h := Header{Type: FrameDatagram, Flow: f.id, Offset: f.number}
	f.number++
	f.mu.Unlock()
	f.link.spoke()
	if len(b) > MaxDatagram || !f.link.out.offer(h, b) {
		f.link.dropped.Add(1)
		return nil
	}
	f.count(len(b))
	return nil
}

// ReceiveDatagram waits for one whole datagram. What of it does not fit into b is lost. After the peer's orderly end it
// returns io.EOF. One goroutine may receive.
func (f *Flow) ReceiveDatagram(b []byte) (int, error) {
	f.mu.Lock()
	for {
		switch {
		case f.err != nil:
			defer f.mu.Unlock()
			return 0, f.over()
		case len(f.datagrams) > 0:
			d := f.datagrams[0]
			f.datagrams[0] = nil
			f.datagrams = f.datagrams[1:]
			f.queued -= len(d) + datagramWeight
			f.mu.Unlock()
			f.link.buffered.Add(-int64(len(d) + datagramWeight))
			return copy(b, d), nil
		case f.finIn:
			f.mu.Unlock()
			return 0, f.datagramsEnd()
		}
		f.readable.Wait()
	}
}

func (f *Flow) datagramsEnd() error {
	_ = f.readEnd(io.EOF)
	return io.EOF
}

// handleDatagram takes a datagram from the read loop. A reader that is too slow loses datagrams and stops nobody.
func (f *Flow) handleDatagram(data []byte) error {
	f.mu.Lock()
	if !f.udp() || f.finIn {
		f.mu.Unlock()
		return fmt.Errorf("%w: datagram out of place", ErrFrame)
	}
	weight := len(data) + datagramWeight
	if f.err != nil || len(f.datagrams) >= mostDatagrams || f.queued+weight > mostQueued ||
		f.link.buffered.Load()+int64(weight) > int64(f.link.cfg.Limits.Buffered) {
		f.mu.Unlock()
		f.link.dropped.Add(1)
		return nil
	}
	f.datagrams = append(f.datagrams, append([]byte(nil), data...))
	f.queued += weight
	f.link.buffered.Add(int64(weight))
	f.readable.Broadcast()
	f.mu.Unlock()
	f.count(len(data))
	return nil
}
