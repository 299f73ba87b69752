package messages

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"culvert/protocol/carrier"
)

// echoSize is a datagram of the plain and of the sealed echo.
const echoSize = 200

// errBytes is an answer with other bytes than were sent.
var errBytes = errors.New("other bytes came back")

// pending is what is under way in an echo: numbers, each answered once.
type pending struct {
	next uint64
	open map[uint64]struct{}
}

func (p *pending) take() uint64 {
	if p.open == nil {
		p.open = make(map[uint64]struct{}, batch)
	}
	p.next++
	p.open[p.next] = struct{}{}
	return p.next
}

// done is 1 for the first answer to n, 0 for one that was given up.
func (p *pending) done(n uint64) int {
	if _, ok := p.open[n]; !ok {
		return 0
	}
	delete(p.open, n)
	return 1
}

func (p *pending) overdue(_ time.Time, silent time.Duration) int {
	if silent < giveUp {
		return 0
	}
	n := len(p.open)
	clear(p.open)
	return n
}

func (p *pending) abandon() { clear(p.open) }

// plainAsker sends a number and a pattern, and wants both back.
type plainAsker struct {
	outbox
	pending
	to netip.AddrPort
}

func (a *plainAsker) ask(time.Time) error {
	m, n := a.outbox.next(), a.take()
	binary.BigEndian.PutUint64(m.Buf, n)
	m.Buf[echoSize-1] = byte(n)
	m.Addr, m.N = a.to, echoSize
	return nil
}

func (a *plainAsker) answer(_ time.Time, m *carrier.Message) (int, error) {
	if m.N != echoSize {
		return 0, errBytes
	}
	n := binary.BigEndian.Uint64(m.Buf)
	if m.Buf[echoSize-1] != byte(n) {
		return 0, errBytes
	}
	return a.done(n), nil
}
